//! One project: its databases.

use maud::{Markup, html};

use super::{
    Named,
    projects::{DatabaseRow, LastVerified, databases},
};
use crate::{
    components::{icons, note, tag::Thoroughness},
    format,
    layout::{Frame, Section, Shell},
    urls,
};

/// A project.
#[derive(Clone, Debug)]
pub struct Project {
    /// The frame.
    pub shell: Shell,
    /// Its id and name.
    pub project: Named,
    /// Its databases.
    pub databases: Vec<DatabaseRow>,
    /// Whether a recovery key was made: without one, losing this server's key loses the snapshots.
    pub has_recovery_key: bool,
    /// The last verification.
    pub verified: Option<LastVerified>,
    /// The verification that is queued or running: its job.
    pub verifying: Option<String>,
}

impl Project {
    /// With three databases and no recovery key.
    pub fn sample() -> Self {
        Self {
            shell: Shell::sample(),
            project: Named::new("p1", "Web shop"),
            databases: DatabaseRow::samples(),
            has_recovery_key: false,
            verified: Some(LastVerified {
                at_ms: crate::samples::NOW_MS - 259_200_000,
                job: Some("j7".to_owned()),
                damaged: false,
            }),
            verifying: None,
        }
    }

    /// After damage was found, and while it is looked at again.
    pub fn sample_damaged() -> Self {
        let verified = LastVerified {
            at_ms: crate::samples::NOW_MS - 60_000,
            job: Some("j7".to_owned()),
            damaged: true,
        };
        Self {
            has_recovery_key: true,
            verified: Some(verified),
            verifying: Some("j8".to_owned()),
            ..Self::sample()
        }
    }
}

/// The whole page.
pub fn page(view: &Project) -> Markup {
    let stored: u64 = view.databases.iter().map(|row| row.stored_bytes).sum();
    let body = html! {
        div.head {
            div {
                h1 { (view.project.name) }
                p.muted { (format::count_of(view.databases.len() as u64, "database")) " · " (format::bytes(stored)) " stored" }
            }
            div.actions {
                a.button href=(urls::settings(&view.project.id)) { "Settings" }
                a.button.primary href=(urls::connect(&view.project.id)) { "Connect a database" }
            }
        }
        @if !view.has_recovery_key && !view.databases.is_empty() {
            (note(&html! {
                p {
                    "Snapshots are encrypted with a key that only this server has. "
                    a href=(urls::settings(&view.project.id)) { "Save a recovery key" }
                    ", so that you can open them if the server is lost."
                }
            }))
        }
        @if view.databases.is_empty() {
            div.card { p.empty { "No database yet. Connect one with a role that can only read." } }
        } @else {
            div.card { (databases(&view.databases, &view.project.name, view.shell.now_ms)) }
            (verification(view))
        }
    };
    let crumbs = [("Projects", urls::PROJECTS.to_owned())];
    Frame::new(&view.shell, &view.project.name, Section::Projects, &crumbs).render(&body)
}

fn verification(view: &Project) -> Markup {
    html! {
        section.card.padded aria-labelledby="verification" {
            h2 #verification { "Verification" }
            p {
                "Reads what is stored and makes sure that it is what was written. With schedules, a sample is verified "
                "once a week by itself."
            }
            @if let Some(verified) = &view.verified {
                p {
                    @if verified.damaged {
                        span.state.bad { (icons::failed()) "Damage was found" }
                    } @else {
                        span.state.good { (icons::ok()) "Nothing was wrong" }
                    }
                    " · " (format::time(verified.at_ms, view.shell.now_ms))
                    @if let Some(job) = &verified.job { " · " a href=(urls::job(job)) { "What was found" } }
                }
            }
            @match &view.verifying {
                Some(job) => { p { a href=(urls::job(job)) { span.state.calm { (icons::running()) "Verifying now" } } } }
                None => {
                    form.stack method="post" action=(urls::verify(&view.project.id)) {
                        fieldset.choices {
                            legend { "Read" }
                            @for thoroughness in Thoroughness::ALL {
                                label {
                                    input type="radio" name="mode" value=(thoroughness.as_str()) required
                                        checked[thoroughness == Thoroughness::Sample];
                                    (thoroughness.words())
                                }
                            }
                        }
                        button type="submit" { "Verify" }
                    }
                }
            }
        }
    }
}
