//! The dashboard: can every database be recovered, and from when?

use maud::{Markup, html};

use super::{
    Named,
    schedule::{CatchUp, DueTime, Missed},
};
use crate::{
    components::{
        Problem, alert,
        damage::Damage,
        form::Field,
        icons,
        table::scrolling,
        tag::{self, Environment, Thoroughness},
    },
    format,
    layout::{Frame, Section, Shell},
    urls,
};

/// A database in an overview.
#[derive(Clone, Debug)]
pub struct DatabaseRow {
    /// Its id and name.
    pub database: Named,
    /// What it is for.
    pub environment: Environment,
    /// `PostgreSQL`.
    pub engine: String,
    /// Whether its URL is known, so that it can be backed up.
    pub has_credentials: bool,
    /// The newest complete snapshot that exists and is not known to be damaged: its id and time.
    pub newest: Option<(String, i64)>,
    /// How many of its snapshots a verification found damaged, and what it found of the newest of them.
    pub damaged: Option<(u64, Damage)>,
    /// Newer ones that are not complete: the newest of them.
    pub newer_incomplete: Option<(String, i64)>,
    /// When it is backed up by itself, in words, and the next time.
    pub schedule: Option<(String, DueTime)>,
    /// Runs of its schedule that were missed lately.
    pub missed: Option<Missed>,
    /// What the last verification of one of its snapshots found.
    pub verified: Option<LastVerified>,
    /// How many snapshots exist.
    pub snapshots: u64,
    /// What they added to the repository.
    pub added_bytes: u64,
    /// The backup that waits or runs.
    pub open: Option<OpenBackup>,
    /// Why the last backup left no snapshot, if it did: its job and the message.
    pub failed: Option<(String, String)>,
}

/// A backup that has not ended.
#[derive(Clone, Debug)]
pub struct OpenBackup {
    /// Its job.
    pub job: String,
    /// Whether it waits for a worker.
    pub waits: bool,
    /// Since when it waits or runs.
    pub since_ms: i64,
}

/// What a verification found.
#[derive(Clone, Debug)]
pub struct LastVerified {
    /// When.
    pub at_ms: i64,
    /// Its job, if that is known.
    pub job: Option<String>,
    /// Whether something was damaged.
    pub damaged: bool,
    /// Whether none of the snapshots that are there now was looked at then.
    pub expired: bool,
    /// How much was read, if that is known.
    pub thoroughness: Option<Thoroughness>,
}

/// What went wrong in a project's storage and shows in no row of a database.
#[derive(Clone, Debug, Default)]
pub struct Trouble {
    /// How much the last verification found wrong that hurts no snapshot which is listed, and its job.
    pub unlisted_damage: Option<(u64, String)>,
    /// The last clean-up, if it failed: its job and the message.
    pub failed_prune: Option<(String, String)>,
}

/// A project in the dashboard.
#[derive(Clone, Debug)]
pub struct ProjectCard {
    /// Its id and name.
    pub project: Named,
    /// Its databases.
    pub databases: Vec<DatabaseRow>,
    /// Bytes of everything in its repository; none where that could not be told.
    pub stored_bytes: Option<u64>,
    /// What went wrong in its storage.
    pub trouble: Trouble,
    /// Whether its history came with the program.
    pub is_example: bool,
    /// Why nothing can be told of its databases.
    pub problem: Option<Problem>,
}

/// The dashboard.
#[derive(Clone, Debug)]
pub struct Projects {
    /// The frame.
    pub shell: Shell,
    /// All projects of the account.
    pub projects: Vec<ProjectCard>,
    /// Repositories in the storage that no project here is of.
    pub unclaimed: usize,
    /// Whether a project is opened by none of this server's keys any more.
    pub has_locked: bool,
    /// Whether the account has ever compared two snapshots.
    pub has_compared: bool,
    /// What was typed as a new project's name.
    pub name: String,
    /// Why it was not accepted.
    pub problem: Option<Problem>,
}

impl DatabaseRow {
    /// Four databases: protected, failing, never backed up, and one that came out of the storage.
    pub fn samples() -> Vec<Self> {
        let now = crate::samples::NOW_MS;
        let protected = Self {
            database: Named::new("d1", "shop"),
            environment: Environment::Prod,
            engine: "PostgreSQL".to_owned(),
            has_credentials: true,
            newest: Some((crate::samples::SNAPSHOT_ID.to_owned(), now - 7_200_000)),
            damaged: None,
            newer_incomplete: None,
            schedule: Some((
                "every day at 02:00 Europe/Berlin".to_owned(),
                DueTime { at_ms: now + 36_000_000, local: "Wed 2026-02-04 02:00 UTC+01:00".to_owned() },
            )),
            missed: None,
            verified: Some(LastVerified {
                at_ms: now - 259_200_000,
                job: Some("j7".to_owned()),
                damaged: false,
                expired: false,
                thoroughness: Some(Thoroughness::Sample),
            }),
            snapshots: 31,
            added_bytes: 412_000_000,
            open: None,
            failed: None,
        };
        vec![
            protected.clone(),
            Self {
                database: Named::new("d2", "shop-staging"),
                environment: Environment::Staging,
                newest: Some((crate::samples::SNAPSHOT_ID.to_owned(), now - 190_000_000)),
                damaged: Some((2, Damage { job: "j8".to_owned(), ..Damage::sample() })),
                newer_incomplete: Some((crate::samples::SNAPSHOT_ID.to_owned(), now - 100_000_000)),
                missed: Some(Missed {
                    last_ms: now - 90_000_000,
                    runs: 2,
                    because: "The scheduled backup before it was still running, since 2026-02-01 01:00 UTC: no other is queued behind it.".to_owned(),
                    catch_up: CatchUp::NotYet,
                }),
                verified: Some(LastVerified {
                    at_ms: now - 259_200_000,
                    job: Some("j8".to_owned()),
                    damaged: true,
                    expired: false,
                    thoroughness: None,
                }),
                snapshots: 4,
                added_bytes: 38_100_000,
                failed: Some((
                    "j9".to_owned(),
                    "password authentication failed for user \"dbsnap_ro\"".to_owned(),
                )),
                ..protected.clone()
            },
            Self {
                database: Named::new("d3", "sandbox"),
                environment: Environment::Dev,
                newest: None,
                schedule: None,
                verified: None,
                snapshots: 0,
                added_bytes: 0,
                open: Some(OpenBackup { job: "j42".to_owned(), waits: true, since_ms: now - 7_400_000 }),
                ..protected.clone()
            },
            Self {
                database: Named::new("d4", "archive"),
                has_credentials: false,
                schedule: None,
                verified: None,
                ..protected
            },
        ]
    }
}

impl Projects {
    /// One project with databases.
    pub fn sample() -> Self {
        Self {
            shell: Shell::sample(),
            projects: vec![ProjectCard {
                project: Named::new("p1", "Web shop"),
                databases: DatabaseRow::samples(),
                stored_bytes: Some(546_400_000),
                trouble: Trouble {
                    unlisted_damage: Some((1, "j7".to_owned())),
                    failed_prune: Some((
                        "j6".to_owned(),
                        "A snapshot is missing, so nothing is deleted.".to_owned(),
                    )),
                },
                is_example: false,
                problem: None,
            }],
            unclaimed: 0,
            has_locked: false,
            has_compared: true,
            name: String::new(),
            problem: None,
        }
    }

    /// A new account.
    pub fn sample_first_run() -> Self {
        Self {
            projects: Vec::new(),
            unclaimed: 1,
            has_locked: false,
            has_compared: false,
            name: "My project".to_owned(),
            ..Self::sample()
        }
    }

    /// A new account that has looked at the example.
    pub fn sample_example() -> Self {
        let example = ProjectCard {
            project: Named::new("p9", "Example shop"),
            databases: Vec::new(),
            stored_bytes: Some(61_000),
            trouble: Trouble::default(),
            is_example: true,
            problem: None,
        };
        Self { projects: vec![example], unclaimed: 0, ..Self::sample_first_run() }
    }

    /// The projects that hold the account's own databases.
    fn own(&self) -> impl Iterator<Item = &ProjectCard> {
        self.projects.iter().filter(|card| !card.is_example)
    }

    fn databases(&self) -> impl Iterator<Item = &DatabaseRow> {
        self.projects.iter().flat_map(|card| &card.databases)
    }
}

/// The whole page.
pub fn page(view: &Projects) -> Markup {
    let body = html! {
        div.head { h1 { "Projects" } }
        @if view.unclaimed > 0 {
            p.card.padded {
                "The storage holds snapshots that this server does not know. "
                a href=(urls::STORAGE) { "Open existing storage" }
            }
        }
        @if view.has_locked {
            p.card.padded {
                "This server's keys do not open a project any more. "
                a href=(urls::STORAGE) { "Open it with its recovery key" }
            }
        }
        @if !view.has_compared { (first_steps(view)) }
        @for card in &view.projects { (project_card(card, view.shell.now_ms)) }
        @if view.own().next().is_some() { (new_project(view)) }
    };
    Frame::new(&view.shell, "Projects", Section::Projects, &[]).wide().render(&body)
}

fn first_steps(view: &Projects) -> Markup {
    let first_project = view.own().find(|card| card.problem.is_none()).map(|card| &card.project);
    let first_database = view.databases().next().map(|row| &row.database);
    let snapshots: u64 = view.databases().map(|row| row.snapshots).sum();
    html! {
        section.steps aria-labelledby="steps" {
            h2 #steps { "Three steps to your first diff" }
            ol {
                (step(first_database.is_some(), "Connect a database", &html! {
                    p { "Paste one URL. DBSnap tests it and makes sure that it can only read." }
                    @match first_project {
                        None => { (project_form(view, "Create project and connect", "Project name")) }
                        Some(project) if first_database.is_none() => {
                            a.button.primary href=(urls::connect(&project.id)) { "Connect a database" }
                        }
                        Some(_) => {}
                    }
                }))
                (step(snapshots > 0, "Take a snapshot", &html! {
                    p { "A consistent copy of every table, encrypted, stored once however often you repeat it." }
                    @if let (Some(database), 0) = (first_database, snapshots) {
                        a.button.primary href=(urls::database(&database.id)) { "Open " (database.name) }
                    }
                }))
                (step(false, "Compare two snapshots", &html! {
                    p { "Change something, take another snapshot, and see which rows and which values differ." }
                    @if let (Some(database), true) = (first_database, snapshots > 0) {
                        a.button.primary href=(urls::database(&database.id)) { "Open the history of " (database.name) }
                    }
                }))
            }
            form.row.example method="post" action=(urls::EXAMPLE) {
                p { "No database at hand? See what a comparison looks like, on a small made-up shop." }
                button type="submit" { "Show an example diff" }
            }
        }
    }
}

fn step(done: bool, title: &str, body: &Markup) -> Markup {
    html! {
        li.done[done] {
            h3 { (title) @if done { span.state.good { (icons::ok()) "Done" } } }
            @if !done { (body) }
        }
    }
}

fn project_card(card: &ProjectCard, now_ms: i64) -> Markup {
    html! {
        section.card aria-label=(card.project.name) {
            div.card-head {
                h2 {
                    a href=(urls::project(&card.project.id)) { (card.project.name) }
                    @if let Some(bytes) = card.stored_bytes { " " span.stored.muted { (format::bytes(bytes)) " stored" } }
                }
                div.actions {
                    a href=(urls::settings(&card.project.id)) { "Settings" }
                    // Nothing could be backed up into a project that does not open.
                    @if !card.is_example && card.problem.is_none() {
                        a.button.small href=(urls::connect(&card.project.id)) { "Connect a database" }
                    }
                }
            }
            @if let Some(problem) = &card.problem {
                (alert(problem))
            } @else if card.is_example {
                p.empty {
                    "A made-up shop on two days, to look around in. There is no database behind it; its settings delete it. "
                    a href=(urls::project(&card.project.id)) { "Open the example" }
                }
            } @else if card.databases.is_empty() {
                p.empty { "No database yet." }
            } @else {
                (troubles(&card.trouble))
                (databases(&card.databases, &card.project.name, card.stored_bytes, now_ms))
            }
        }
    }
}

/// What went wrong in a project's storage, for the dashboard and the project's page.
pub(super) fn troubles(trouble: &Trouble) -> Markup {
    html! {
        @if let Some((count, job)) = &trouble.unlisted_damage {
            p.trouble {
                span.state.bad { (icons::failed()) a href=(urls::job(job)) { "Damage found" } }
                ": " (format::count_of(*count, "thing")) " that no snapshot shows, as when the file of one is lost."
            }
        }
        @if let Some((job, message)) = &trouble.failed_prune {
            p.trouble {
                span.state.bad { (icons::failed()) a href=(urls::job(job)) { "Last clean-up failed" } } ": " (message)
            }
        }
    }
}

/// The table of databases, for the dashboard and the project's page.
pub(super) fn databases(
    rows: &[DatabaseRow],
    project: &str,
    stored_bytes: Option<u64>,
    now_ms: i64,
) -> Markup {
    let label = format!("Databases of {project}");
    scrolling(
        &label,
        &html! {
            table.databases.stacked {
                caption.visually-hidden { (label) }
                thead { tr {
                    th scope="col" { "Database" }
                    th scope="col" { "Environment" }
                    th scope="col" { "Can be recovered from" }
                    th scope="col" { "Next backup" }
                    th scope="col" { "Last verified" }
                    th.num scope="col" { "Snapshots" }
                    th.num scope="col" { "Added when taken" }
                } }
                tbody { @for row in rows { (database_row(row, now_ms)) } }
                @if let Some(bytes) = stored_bytes {
                    tfoot { tr {
                        th scope="row" colspan="6" {
                            "Storage used by the project"
                            div.sub {
                                "All that is stored. What several snapshots need is there once; it was added when the first "
                                "of them was taken, which may have expired since."
                            }
                        }
                        td.num { (format::bytes(bytes)) }
                    } }
                }
            }
        },
    )
}

fn database_row(row: &DatabaseRow, now_ms: i64) -> Markup {
    html! {
        tr {
            th scope="row" {
                a href=(urls::database(&row.database.id)) { (row.database.name) }
                div.sub { (row.engine) }
            }
            td data-label="Environment" { (tag::environment(row.environment)) }
            td data-label="Can be recovered from" {
                @match &row.newest {
                    Some((id, at_ms)) => {
                        a href=(urls::snapshot(id)) { (format::time_stacked(*at_ms, now_ms)) }
                    }
                    None => {
                        span.state.warn {
                            (icons::warning())
                            (if row.damaged.is_some() { "No complete undamaged snapshot" } else { "No complete snapshot" })
                            ": not protected"
                        }
                    }
                }
                @if let Some((snapshots, damage)) = &row.damaged {
                    div.sub {
                        span.state.bad {
                            (icons::failed())
                            a href=(urls::job(&damage.job)) { (format::count_of(*snapshots, "snapshot")) " damaged" }
                        }
                        @if row.has_credentials { ": " a href=(urls::database(&row.database.id)) { "back up now" } ", then verify again" }
                    }
                }
                @if let Some((id, at_ms)) = &row.newer_incomplete {
                    div.sub { a href=(urls::snapshot(id)) { (format::time_stacked(*at_ms, now_ms)) } " " (tag::completeness(false)) }
                }
                @if let Some(open) = &row.open {
                    div.sub {
                        a href=(urls::job(&open.job)) {
                            span.state.calm {
                                @if open.waits { (icons::waiting()) "Waiting for a worker" }
                                @else { (icons::running()) "Backing up" }
                            }
                        }
                        " since " (format::time_stacked(open.since_ms, now_ms))
                    }
                }
                @if let Some((job, message)) = &row.failed {
                    div.sub { span.state.bad { (icons::failed()) a href=(urls::job(job)) { "Last backup failed" } } ": " (message) }
                }
            }
            td data-label="Next backup" { (next_backup(row)) }
            td data-label="Last verified" { (verified(row, now_ms)) }
            td.num data-label="Snapshots" { (format::count(row.snapshots)) }
            td.num data-label="Added" { (format::bytes(row.added_bytes)) }
        }
    }
}

fn verified(row: &DatabaseRow, now_ms: i64) -> Markup {
    html! {
        @match &row.verified {
            None if row.snapshots == 0 => { span.muted { "Nothing yet" } }
            None => { span.muted { "Never" } }
            Some(LastVerified { at_ms, job, damaged: false, expired, thoroughness }) => {
                @match job {
                    Some(job) => { a href=(urls::job(job)) { (format::time_stacked(*at_ms, now_ms)) } }
                    None => { (format::time_stacked(*at_ms, now_ms)) }
                }
                @if let Some(thoroughness) = thoroughness { div.sub { (thoroughness.words()) } }
                @if *expired { div.sub { "snapshots that are gone now" } }
            }
            Some(LastVerified { at_ms, job, damaged: true, .. }) => {
                span.state.bad {
                    (icons::failed())
                    @match job {
                        Some(job) => { a href=(urls::job(job)) { "Damage found" } }
                        None => { "Damage found" }
                    }
                }
                div.sub { (format::time_stacked(*at_ms, now_ms)) }
            }
        }
    }
}

fn next_backup(row: &DatabaseRow) -> Markup {
    html! {
        @match &row.schedule {
            // It would fail, whether or not it is due.
            _ if !row.has_credentials => {
                span.state.warn { (icons::warning()) "Connection not known here" } ": "
                a href=(urls::database_settings(&row.database.id)) { "give its URL again" }
            }
            Some((words, due)) => {
                (due.render())
                div.sub { a href=(urls::schedule(&row.database.id)) { (words) } }
            }
            None => { a href=(urls::schedule(&row.database.id)) { "Set a schedule" } }
        }
        @if let Some(missed) = &row.missed {
            @let runs = format::count_of(u64::from(missed.runs), "run");
            div.sub {
                span.state.warn { (icons::warning()) (runs) " missed" } " until " (format::time_absolute(missed.last_ms))
                @if missed.catch_up == CatchUp::Done { ", caught up by one backup" } @else { ". " (missed.because) }
            }
        }
    }
}

fn new_project(view: &Projects) -> Markup {
    html! {
        details.new open[view.problem.is_some()] {
            summary { "New project" }
            (project_form(view, "Create project", "Name"))
        }
    }
}

fn project_form(view: &Projects, button: &str, label: &str) -> Markup {
    html! {
        @if let Some(problem) = &view.problem { (alert(problem)) }
        form.row method="post" action=(urls::PROJECTS) {
            (Field::text("name", label, &view.name).render())
            button.primary type="submit" { (button) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missed_runs_are_a_warning_also_once_they_are_caught_up() {
        let row = DatabaseRow::samples().remove(1);
        let told = |catch_up| {
            let missed = row.missed.clone().map(|missed| Missed { catch_up, ..missed });
            next_backup(&DatabaseRow { missed, ..row.clone() }).into_string()
        };
        for (catch_up, words) in [(CatchUp::Done, "caught up"), (CatchUp::NotYet, "still running")] {
            let html = told(catch_up);
            assert!(
                html.contains(r#"<span class="state warn">"#) && html.contains("2 runs missed</span>"),
                "{html}"
            );
            assert!(html.contains(words), "{html}");
        }
    }
}
