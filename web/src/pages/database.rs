//! A database's history.

use maud::{Markup, html};

use super::Named;
use super::{diff::compare_live, snapshot::COMPARE_LIVE};
use crate::{
    components::{
        Problem, alert,
        damage::{self, Damage},
        form::Field,
        icons,
        job::{self, Job, State},
        note,
        table::{pager, scrolling},
        tag::{self, Environment, Trigger},
        warning,
    },
    format,
    layout::{Frame, Section, Shell},
    urls,
};

/// A snapshot in the history.
#[derive(Clone, Debug)]
pub struct SnapshotRow {
    /// Its id.
    pub id: String,
    /// When it was taken.
    pub at_ms: i64,
    /// How it came about.
    pub trigger: Trigger,
    /// Whether it holds everything.
    pub complete: bool,
    /// Whether all of it is of one moment.
    pub point_in_time: bool,
    /// Records in it.
    pub records: u64,
    /// What the database's content amounts to.
    pub logical_bytes: u64,
    /// What this snapshot added to the repository.
    pub new_bytes: u64,
    /// What somebody wrote beside it.
    pub note: Option<String>,
    /// Whether nothing deletes it.
    pub pinned: bool,
    /// When a verification last found nothing wrong with it.
    pub verified_ms: Option<i64>,
    /// What a verification found, if it is damaged.
    pub damaged: Option<Damage>,
}

/// Whether a database can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// Its URL is known.
    Known,
    /// It came out of the storage, which holds no credentials, and nobody has given its URL since.
    Unknown,
    /// It was removed and its snapshots stayed.
    Removed,
}

/// A database and its snapshots.
#[derive(Clone, Debug)]
pub struct Database {
    /// The frame.
    pub shell: Shell,
    /// Where it belongs.
    pub project: Named,
    /// Its id and name.
    pub database: Named,
    /// What it is for.
    pub environment: Environment,
    /// `PostgreSQL 17.2`.
    pub server: String,
    /// Whether it can be backed up.
    pub connection: Connection,
    /// Host, port and database, without credentials; none where they are not known.
    pub address: Option<String>,
    /// How many of its snapshots are damaged, on this page or not, and what was found of the newest of them.
    pub damaged: Option<(u64, Damage)>,
    /// Newest first.
    pub snapshots: Vec<SnapshotRow>,
    /// Whether this is not the first page of the history.
    pub paged: bool,
    /// The next page of the history.
    pub next_cursor: Option<String>,
    /// The backup under way.
    pub running: Option<Job>,
    /// The last backup, if it left no snapshot.
    pub failed: Option<Job>,
    /// Why what was submitted was not accepted.
    pub problem: Option<Problem>,
}

impl Database {
    /// With a few snapshots.
    pub fn sample() -> Self {
        let now = crate::samples::NOW_MS;
        let row = |n: u8, hours: i64, trigger, new_bytes, note: Option<&str>| SnapshotRow {
            id: format!("{n:02x}{}", &crate::samples::SNAPSHOT_ID[2..]),
            at_ms: now - hours * 3_600_000,
            trigger,
            complete: n != 3,
            point_in_time: true,
            records: 214_338 - u64::from(n) * 211,
            logical_bytes: 184_200_000 - u64::from(n) * 91_000,
            new_bytes,
            note: note.map(str::to_owned),
            pinned: n == 5,
            verified_ms: (n > 2).then_some(now - 86_400_000),
            damaged: None,
        };
        Self {
            shell: Shell::sample(),
            project: Named::new("p1", "Web shop"),
            database: Named::new("d1", "shop"),
            environment: Environment::Prod,
            server: "PostgreSQL 17.2".to_owned(),
            connection: Connection::Known,
            address: Some("db.internal:5432/shop".to_owned()),
            damaged: None,
            snapshots: vec![
                row(1, 2, Trigger::Manual, 412_000, Some("after the price import")),
                row(2, 13, Trigger::Schedule, 1_830_000, None),
                row(3, 37, Trigger::Schedule, 1_214_000, None),
                row(4, 40, Trigger::Safety, 3_000, Some("before restoring public.orders")),
                row(5, 61, Trigger::Manual, 64_300_000, Some("first snapshot")),
            ],
            paged: false,
            next_cursor: Some("c5".to_owned()),
            running: None,
            failed: None,
            problem: None,
        }
    }

    /// While a backup runs after one that failed.
    pub fn sample_running() -> Self {
        let mut view = Self::sample();
        view.snapshots.truncate(1);
        view.next_cursor = None;
        view.running = Some(Job::sample());
        view.failed = Some(Job { id: "j41".to_owned(), ..Job::sample_failed() });
        view
    }

    /// After the server's end cut off a backup.
    pub fn sample_interrupted() -> Self {
        Self { failed: Some(Job::sample_interrupted()), ..Self::sample() }
    }

    /// Of a server that has no moment to read at.
    pub fn sample_standalone() -> Self {
        let mut view = Self::sample();
        view.server = "MongoDB 7.0.14".to_owned();
        view.address = Some("mongo.internal:27017/shop".to_owned());
        view.snapshots.iter_mut().for_each(|row| row.point_in_time = false);
        view
    }

    /// After damage was found.
    pub fn sample_damaged() -> Self {
        let mut view = Self::sample();
        for row in &mut view.snapshots[3..] {
            (row.verified_ms, row.damaged) = (None, Some(Damage::sample()));
        }
        view.damaged = Some((2, Damage::sample()));
        view
    }

    /// Removed.
    pub fn sample_removed() -> Self {
        Self { connection: Connection::Removed, ..Self::sample() }
    }

    /// Found in the storage by a server that does not know where it is.
    pub fn sample_unknown() -> Self {
        Self { connection: Connection::Unknown, address: None, ..Self::sample() }
    }

    /// Just connected.
    pub fn sample_empty() -> Self {
        Self { snapshots: Vec::new(), next_cursor: None, ..Self::sample() }
    }

    fn is_connected(&self) -> bool {
        self.connection == Connection::Known
    }
}

/// The whole page.
pub fn page(view: &Database) -> Markup {
    let body = html! {
        div.head {
            div {
                h1 { (view.database.name) " " (tag::environment(view.environment)) }
                p.muted { (view.server) @if let Some(address) = &view.address { " · " code { (address) } } }
            }
            @if view.connection != Connection::Removed {
                div.actions { a.button href=(urls::database_settings(&view.database.id)) { "Settings" } }
            }
        }
        @if let Some(problem) = &view.problem { (alert(problem)) }
        @if let Some((snapshots, found)) = &view.damaged {
            @let what = if *snapshots == 1 { "A snapshot of it is damaged.".to_owned() } else { format!("{} of it are damaged.", format::count_of(*snapshots, "snapshot")) };
            (damage::notice(&what, found, view.is_connected(), view.shell.now_ms))
        }
        @match view.connection {
            Connection::Unknown if view.running.is_none() => {
                (connection_unknown(view))
                @if let Some(failed) = &view.failed { (last_failed(view, failed)) }
            }
            Connection::Known | Connection::Unknown => { (back_up(view)) }
            Connection::Removed => {
                (note(&html! { p { "This database was removed. Its snapshots can be looked at, compared and restored." } }))
            }
        }
        @if view.snapshots.is_empty() { (no_snapshot(view)) } @else { (history(view)) }
        @if view.is_connected() && !view.paged {
            @if let Some(newest) = view.snapshots.first() { (live(newest, view)) }
        }
        @if view.connection == Connection::Removed && !view.snapshots.is_empty() { (delete_all(view)) }
    };
    let crumbs = [
        ("Projects", urls::PROJECTS.to_owned()),
        (view.project.name.as_str(), urls::project(&view.project.id)),
    ];
    Frame::new(&view.shell, &view.database.name, Section::Projects, &crumbs)
        .refreshing(view.running.is_some())
        .render(&body)
}

fn connection_unknown(view: &Database) -> Markup {
    warning(&html! {
        p { strong { "Its connection is not known here, so it is not backed up." } }
        p {
            "It came out of the storage, which holds no credentials. "
            a href=(urls::database_settings(&view.database.id)) { "Give its URL again" }
            ", and its history goes on. Its snapshots can be looked at, compared and restored without."
        }
    })
}

fn back_up(view: &Database) -> Markup {
    html! {
        section.card.padded aria-labelledby="back-up" {
            @match &view.running {
                Some(running) => {
                    h2 #back-up { a href=(urls::job(&running.id)) {
                        @if running.state == State::Queued { "Waiting for a worker" } @else { "Backing up" }
                    } }
                    (job::live(running, view.shell.now_ms, &urls::database(&view.database.id)))
                }
                None => {
                    h2 #back-up .visually-hidden { "Back up" }
                    @if let Some(failed) = &view.failed { (last_failed(view, failed)) }
                    form.row method="post" action=(urls::backups(&view.database.id)) {
                        div.field {
                            label for="note" { "Note" span.optional { " (optional)" } }
                            input #note name="note" type="text" maxlength="200" autocomplete="off"
                                placeholder="What is about to happen, or has just happened";
                        }
                        button.primary type="submit" { "Back up now" }
                    }
                }
            }
        }
    }
}

fn last_failed(view: &Database, failed: &Job) -> Markup {
    let words = match failed.state {
        State::Interrupted => "The last backup was interrupted",
        State::Cancelled => "The last backup was stopped before its end",
        _ => "The last backup left no snapshot",
    };
    let headline = html! {
        strong { (words) }
        @if let Some(at_ms) = failed.finished_ms { " · " (format::time(at_ms, view.shell.now_ms)) }
    };
    let reason = html! {
        @if let Some(problem) = &failed.problem {
            p { (problem.message) @if let Some(fix) = &problem.fix { ". " (fix) } }
        }
    };
    let details = html! { a href=(urls::job(&failed.id)) { "Details" } };
    // Whoever stops a backup finds no fault with the connection.
    if failed.state != State::Failed {
        return warning(&html! { p { (headline) } (reason) p { (details) } });
    }
    html! {
        div.notice.bad {
            p { (icons::failed()) (headline) }
            (reason)
            p { (details) " · " a href=(urls::database_settings(&view.database.id)) { "Change the connection" } }
        }
    }
}

fn delete_all(view: &Database) -> Markup {
    html! {
        form.stack.card.padded method="post" action=(urls::database_remove(&view.database.id)) {
            h2 { "Delete its snapshots" }
            p {
                "All of them, for good; pinned ones are in the way. What only they needed is freed by the prune that "
                "follows."
            }
            input type="hidden" name="delete_snapshots" value="yes";
            (Field::code("confirm", "Type the database's name", "").hint(&view.database.name).render())
            div.actions { button.danger-quiet type="submit" { "Delete all its snapshots" } }
        }
    }
}

fn live(newest: &SnapshotRow, view: &Database) -> Markup {
    html! {
        section.card.padded aria-labelledby="live" {
            h2 #live { "Changed since then" }
            p {
                "What " (view.database.name) " holds now is read and compared with the newest snapshot. That makes no "
                "snapshot. To compare with an older one, open that."
            }
            (compare_live(&newest.id, &view.database.id, COMPARE_LIVE))
        }
    }
}

fn no_snapshot(view: &Database) -> Markup {
    html! {
        section.card.padded {
            h2 { "History" }
            @if view.is_connected() { p {
                "There is no snapshot of " (view.database.name) " yet. "
                "After two of them you can compare: any record, any value, any two moments."
            } } @else {
                p { "No snapshot of it is left." }
            }
        }
    }
}

fn history(view: &Database) -> Markup {
    let comparable = view.snapshots.len() > 1;
    let first = view.paged.then(|| urls::database(&view.database.id));
    let next = view.next_cursor.as_ref().map(|cursor| urls::database_page(&view.database.id, cursor));
    html! {
        section.card aria-labelledby="history" {
            form method="post" action=(urls::DIFFS) {
                div.card-head {
                    h2 #history { "History" }
                    @if comparable {
                        div.actions {
                            span.muted { "Choose A and B" }
                            button.primary type="submit" { "Compare A with B" }
                        }
                    }
                }
                (timeline(view, comparable))
            }
            (pager(first.as_deref(), next.as_deref()))
        }
        @if !comparable && view.is_connected() {
            (note(&html! { p { "Back up again after something changed, and the two snapshots can be compared." } }))
        }
    }
}

fn timeline(view: &Database, comparable: bool) -> Markup {
    let label = format!("Snapshots of {}, newest first", view.database.name);
    scrolling(
        &label,
        &html! {
            table.timeline.stacked {
                caption.visually-hidden { (label) }
                thead { tr {
                    @if comparable {
                        th.pick scope="col" { abbr title="The older side of the comparison" { "A" } }
                        th.pick scope="col" { abbr title="The newer side of the comparison" { "B" } }
                    }
                    th scope="col" { "Taken" }
                    th scope="col" { "State" }
                    th.num scope="col" { "Records" }
                    th.num scope="col" { "Size" }
                    th.num scope="col" { "New bytes stored" }
                    th scope="col" { "Trigger" }
                } }
                tbody {
                    @for (i, row) in view.snapshots.iter().enumerate() {
                        (timeline_row(i, row, comparable, view.shell.now_ms))
                    }
                }
            }
        },
    )
}

fn timeline_row(i: usize, row: &SnapshotRow, comparable: bool, now_ms: i64) -> Markup {
    let taken = format::rfc3339(row.at_ms);
    html! {
        tr {
            @if comparable {
                td.pick data-label="A" { (pick("from", "A", &taken, &row.id, i == 1)) }
                td.pick data-label="B" { (pick("to", "B", &taken, &row.id, i == 0)) }
            }
            th.moment scope="row" {
                a href=(urls::snapshot(&row.id)) { (format::time(row.at_ms, now_ms)) }
                @if let Some(note) = &row.note { div.sub { (note) } }
            }
            td.states data-label="State" {
                (tag::completeness(row.complete)) " " (tag::pinned(row.pinned)) " " (tag::moments(row.point_in_time))
                @if row.damaged.is_some() { " " (damage::label()) }
                @if let Some(at_ms) = row.verified_ms { div.sub { "verified " (format::ago(at_ms, now_ms)) } }
            }
            td.num data-label="Records" { (format::count(row.records)) }
            td.num data-label="Size" { (format::bytes(row.logical_bytes)) }
            td.num data-label="New bytes" { "+" (format::bytes(row.new_bytes)) }
            td data-label="Trigger" { (row.trigger.name()) }
        }
    }
}

fn pick(name: &str, letter: &str, taken: &str, id: &str, checked: bool) -> Markup {
    html! {
        label {
            span.visually-hidden { (letter) ": " (taken) }
            input type="radio" name=(name) value=(id) checked[checked];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_connected_can_be_compared_with_its_newest_snapshot() {
        let view = Database::sample();
        let html = page(&view).into_string();
        assert!(html.contains(COMPARE_LIVE), "{html}");
        let newest = format!(r#"type="hidden" name="from" value="{}""#, view.snapshots[0].id);
        assert!(html.contains(&newest) && html.contains(r#"name="live" value="d1""#), "{html}");
        for view in [Database::sample_removed(), Database::sample_unknown(), Database::sample_empty()] {
            assert!(!page(&view).into_string().contains(COMPARE_LIVE));
        }
    }

    #[test]
    fn a_connection_is_blamed_for_what_failed_alone() {
        let told = |job: Job| page(&Database { failed: Some(job), ..Database::sample() }).into_string();
        assert!(told(Job::sample_failed()).contains("Change the connection"));
        let interrupted = told(Job::sample_interrupted());
        assert!(interrupted.contains("The last backup was interrupted"), "{interrupted}");
        assert!(interrupted.contains("Another backup can be started"), "{interrupted}");
        let stopped = told(Job { state: State::Cancelled, problem: None, ..Job::sample_failed() });
        assert!(stopped.contains("was stopped before its end"), "{stopped}");
        for html in [interrupted, stopped] {
            assert!(!html.contains("Change the connection") && html.contains("Back up now"), "{html}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_offered_to_be_backed_up() {
        let html = page(&Database::sample_unknown()).into_string();
        assert!(html.contains("not known here") && !html.contains("Back up now"), "{html}");
        assert!(html.contains(r#"<a href="/databases/d1/settings">Give its URL again</a>"#), "{html}");
        assert!(html.contains("Compare A with B") && !html.contains("Delete all its snapshots"), "{html}");
        let told = |view: Database| {
            let snapshots = view.snapshots[..1].to_vec();
            page(&Database { snapshots, ..view }).into_string().contains("Back up again")
        };
        assert!(told(Database::sample()));
        assert!(!told(Database::sample_removed()) && !told(Database::sample_unknown()));
    }
}
