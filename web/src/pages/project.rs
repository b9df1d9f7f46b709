//! One project: its databases.

use maud::{Markup, html};

use super::{
    Named,
    projects::{DatabaseRow, LastVerified, Trouble, databases, troubles},
};
use crate::{
    components::{
        icons, note,
        table::scrolling,
        tag::{self, Environment, Thoroughness},
    },
    format,
    layout::{Frame, Section, Shell},
    urls,
};

/// A removed database.
#[derive(Clone, Debug)]
pub struct RemovedRow {
    /// Its id and name.
    pub database: Named,
    /// What it was for.
    pub environment: Environment,
    /// When it was removed.
    pub removed_ms: i64,
    /// When the newest snapshot of it was taken.
    pub newest_ms: i64,
    /// How many are kept.
    pub snapshots: u64,
    /// What they added to the repository.
    pub added_bytes: u64,
}

/// A project.
#[derive(Clone, Debug)]
pub struct Project {
    /// The frame.
    pub shell: Shell,
    /// Its id and name.
    pub project: Named,
    /// Its databases.
    pub databases: Vec<DatabaseRow>,
    /// Databases that were removed and of which snapshots are kept.
    pub removed: Vec<RemovedRow>,
    /// Bytes of everything in its repository.
    pub stored_bytes: u64,
    /// Whether a recovery key was made: without one, losing this server's key loses the snapshots.
    pub has_recovery_key: bool,
    /// The last verification.
    pub verified: Option<LastVerified>,
    /// What else went wrong in its storage.
    pub trouble: Trouble,
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
            stored_bytes: 546_400_000,
            removed: vec![RemovedRow {
                database: Named::new("d9", "shop-before-the-move"),
                environment: Environment::Prod,
                removed_ms: crate::samples::NOW_MS - 864_000_000,
                newest_ms: crate::samples::NOW_MS - 900_000_000,
                snapshots: 12,
                added_bytes: 96_300_000,
            }],
            has_recovery_key: false,
            verified: Some(LastVerified {
                at_ms: crate::samples::NOW_MS - 259_200_000,
                job: Some("j7".to_owned()),
                damaged: false,
                expired: false,
                thoroughness: Some(Thoroughness::Sample),
            }),
            trouble: Trouble::default(),
            verifying: None,
        }
    }

    /// After damage was found, and while it is looked at again.
    pub fn sample_damaged() -> Self {
        let verified = LastVerified {
            at_ms: crate::samples::NOW_MS - 60_000,
            job: Some("j7".to_owned()),
            damaged: true,
            expired: false,
            thoroughness: Some(Thoroughness::Full),
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
    let body = html! {
        div.head {
            div {
                h1 { (view.project.name) }
                p.muted { (format::count_of(view.databases.len() as u64, "database")) " · " (format::bytes(view.stored_bytes)) " stored" }
            }
            div.actions {
                a.button href=(urls::usage(&view.project.id)) { "Usage" }
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
            div.card {
                (troubles(&view.trouble))
                (databases(&view.databases, &view.project.name, Some(view.stored_bytes), view.shell.now_ms))
            }
        }
        @if !view.removed.is_empty() { div.card { (removed(view)) } }
        @if !view.databases.is_empty() || !view.removed.is_empty() { (verification(view)) }
    };
    let crumbs = [("Projects", urls::PROJECTS.to_owned())];
    Frame::new(&view.shell, &view.project.name, Section::Projects, &crumbs).wide().render(&body)
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
                    @if let Some(thoroughness) = verified.thoroughness { " in " (thoroughness.words()) }
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

fn removed(view: &Project) -> Markup {
    let now_ms = view.shell.now_ms;
    scrolling(
        "Removed databases",
        &html! {
            table {
                caption { "Removed databases whose snapshots are kept" }
                thead { tr {
                    th scope="col" { "Database" }
                    th scope="col" { "Newest snapshot" }
                    th scope="col" { "Removed" }
                    th.num scope="col" { "Snapshots" }
                    th.num scope="col" title="What its snapshots added to the storage when they were taken" { "Added" }
                } }
                tbody {
                    @for row in &view.removed {
                        tr {
                            th scope="row" {
                                a href=(urls::database(&row.database.id)) { (row.database.name) }
                                " " (tag::environment(row.environment))
                            }
                            td { (format::time(row.newest_ms, now_ms)) }
                            td { (format::ago(row.removed_ms, now_ms)) }
                            td.num { (format::count(row.snapshots)) }
                            td.num { (format::bytes(row.added_bytes)) }
                        }
                    }
                }
            }
        },
    )
}
