//! What was there before a restore in place, and the way back: a part of the pages of restores.

use maud::{Markup, html};

use crate::{
    components::{
        Problem, alert_in_form,
        form::Field,
        icons,
        job::{self, Job},
        system::System,
        warning,
    },
    format, urls,
};

/// What was there before a restore in place, and the way back.
#[derive(Clone, Debug)]
pub struct Before {
    /// The restore's id.
    pub id: String,
    /// Of which system it is.
    pub system: System,
    /// Host, port and database of the target.
    pub target: String,
    /// The snapshot of it; none if nothing differed.
    pub safety_snapshot: Option<String>,
    /// How going back stands.
    pub undo: Undo,
}

/// How taking a restore back stands.
#[derive(Clone, Debug)]
pub enum Undo {
    /// It can be taken back.
    Offered {
        /// What to type.
        confirm_phrase: String,
        /// The write URL as typed, without its password.
        url_without_password: String,
        /// Whether a password was taken out of it.
        password_removed: bool,
        /// Why the confirmation was not accepted, or why the last attempt failed.
        problem: Option<Problem>,
    },
    /// It is being taken back.
    Job(Box<Job>),
    /// It was taken back.
    Done {
        /// Records that were written for it.
        records: u64,
        /// Records that had changed since, and stay.
        conflicts: u64,
        /// Some of those.
        examples: Vec<String>,
    },
    /// There is nothing to take back.
    Nothing,
}

impl Before {
    /// Whether the way back is being gone.
    pub fn is_open(&self) -> bool {
        matches!(&self.undo, Undo::Job(job) if job.state.is_open())
    }

    /// To be undone.
    pub fn sample() -> Self {
        let undo = Undo::Offered {
            confirm_phrase: "shop".to_owned(),
            url_without_password: String::new(),
            password_removed: false,
            problem: None,
        };
        Self {
            id: "r1".to_owned(),
            system: System::PostgreSql,
            target: "localhost:5432/shop".to_owned(),
            safety_snapshot: Some(crate::samples::SNAPSHOT_ID.to_owned()),
            undo,
        }
    }

    /// Of a restore of documents that did not come to its end.
    pub fn sample_documents() -> Self {
        Self { system: System::MongoDb, target: "localhost:27017/shop".to_owned(), ..Self::sample() }
    }
}

/// The part of a page.
pub fn section(before: &Before, now_ms: i64) -> Markup {
    let taken = match before.system {
        System::PostgreSql => "taken under the locks that the restore wrote with",
        System::MongoDb => "taken before anything was written",
    };
    html! {
        section.card.padded aria-labelledby="before" {
            h2 #before { "What was there before" }
            @if let Some(safety) = &before.safety_snapshot {
                p { "It is kept in the " a href=(urls::snapshot(safety)) { "safety snapshot" } ", " (taken) "." }
            }
            @match &before.undo {
                Undo::Nothing => p {
                    "The " (before.system.collection()) "s held already what the snapshot holds: nothing was written, and there is nothing to undo."
                },
                Undo::Job(work) => (job::live(work, now_ms, &urls::restore(&before.id))),
                Undo::Done { records, conflicts, examples } => (undone(*records, *conflicts, examples)),
                Undo::Offered { confirm_phrase, url_without_password, password_removed, problem } => {
                    (undo_form(before, confirm_phrase, url_without_password, *password_removed, problem.as_ref()))
                }
            }
        }
    }
}

fn undone(records: u64, conflicts: u64, examples: &[String]) -> Markup {
    html! {
        @if conflicts == 0 {
            div.notice.good role="status" {
                p { (icons::ok()) strong { "Undone" } ". Put back as before the restore: " (format::count_of(records, "record")) "." }
            }
        } @else {
            (warning(&html! {
                p {
                    strong { "Undone, but for " (format::count_of(conflicts, "record")) " that had changed since" }
                    ". They stay as they are. Put back as before the restore: " (format::count_of(records, "record")) "."
                }
                ul { @for example in examples { li { (example) } } }
            }))
        }
    }
}

fn undo_form(
    before: &Before,
    phrase: &str,
    url: &str,
    password_removed: bool,
    problem: Option<&Problem>,
) -> Markup {
    let removed = "The password is not shown again: paste the whole URL once more.";
    html! {
        details open[problem.is_some()] {
            summary { "Undo this restore" }
            form.stack method="post" action=(urls::restore_undo(&before.id)) {
                p { "Records that the restore wrote become what they were. Those that have changed since stay, and are listed." }
                @if let Some(problem) = problem { (alert_in_form(problem)) }
                (Field::code("url", "URL with the right to write", url)
                    .hint("The same server and database. Used once, never stored.")
                    .error(password_removed.then_some(removed))
                    .render())
                (Field::code("confirm", &format!("Type \u{201c}{phrase}\u{201d} to confirm"), "").render())
                div.actions { button.primary type="submit" { "Undo the restore into " (before.target) } }
            }
        }
    }
}
