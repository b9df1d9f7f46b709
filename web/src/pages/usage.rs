//! What a project has stored, by database and snapshot.

use maud::{Markup, html};

use super::Named;
use crate::{
    components::{
        fact, note,
        table::scrolling,
        tag::{self, Environment},
    },
    format,
    layout::{Frame, Section, Shell},
    urls,
};

/// A snapshot and its part.
#[derive(Clone, Debug)]
pub struct SnapshotUsage {
    /// Its id.
    pub id: String,
    /// When it was taken.
    pub at_ms: i64,
    /// Whether nothing deletes it.
    pub pinned: bool,
    /// What the database's content amounted to.
    pub logical_bytes: u64,
    /// What it added to the repository.
    pub new_bytes: u64,
}

/// A database and its part.
#[derive(Clone, Debug)]
pub struct DatabaseUsage {
    /// Its id and name.
    pub database: Named,
    /// What it is for.
    pub environment: Environment,
    /// Whether it was removed and its snapshots stayed.
    pub removed: bool,
    /// The size of the newest snapshot.
    pub logical_bytes: u64,
    /// What its snapshots added to the repository.
    pub new_bytes: u64,
    /// Newest first.
    pub snapshots: Vec<SnapshotUsage>,
}

/// What a project has stored.
#[derive(Clone, Debug)]
pub struct Usage {
    /// The frame.
    pub shell: Shell,
    /// Its id and name.
    pub project: Named,
    /// Bytes of everything in its repository.
    pub stored_bytes: u64,
    /// Its databases, oldest first.
    pub databases: Vec<DatabaseUsage>,
}

impl Usage {
    /// Of two databases, one of them removed.
    pub fn sample() -> Self {
        let snapshot = |days: i64, new_bytes, pinned| SnapshotUsage {
            id: crate::samples::SNAPSHOT_ID[..32].to_owned(),
            at_ms: crate::samples::NOW_MS - days * 86_400_000,
            pinned,
            logical_bytes: 184_200_000 - days as u64 * 91_000,
            new_bytes,
        };
        let shop = DatabaseUsage {
            database: Named::new("d1", "shop"),
            environment: Environment::Prod,
            removed: false,
            logical_bytes: 184_200_000,
            new_bytes: 67_900_000,
            snapshots: vec![
                snapshot(0, 412_000, false),
                snapshot(1, 3_188_000, false),
                snapshot(9, 64_300_000, true),
            ],
        };
        let old = DatabaseUsage {
            database: Named::new("d9", "shop-before-the-move"),
            removed: true,
            snapshots: vec![snapshot(40, 67_900_000, false)],
            ..shop.clone()
        };
        Self {
            shell: Shell::sample(),
            project: Named::new("p1", "Web shop"),
            stored_bytes: 131_400_000,
            databases: vec![shop, old],
        }
    }
}

/// The whole page.
pub fn page(view: &Usage) -> Markup {
    let title = format!("Usage of {}", view.project.name);
    let snapshots: usize = view.databases.iter().map(|usage| usage.snapshots.len()).sum();
    let body = html! {
        h1 { (title) }
        dl.facts.card.padded {
            (fact("Stored now", &html! { (format::bytes(view.stored_bytes)) }))
            (fact("Databases", &html! { (format::count(view.databases.len() as u64)) }))
            (fact("Snapshots", &html! { (format::count(snapshots as u64)) }))
        }
        (note(&html! {
            p {
                "Snapshots share what is equal in them. New bytes are what a snapshot added when it was taken; what comes "
                "free when one is deleted is counted on its page. A clean-up gives it back to the storage."
            }
        }))
        @for usage in &view.databases { section.card { (database(usage, view.shell.now_ms)) } }
    };
    let crumbs = [
        ("Projects", urls::PROJECTS.to_owned()),
        (view.project.name.as_str(), urls::project(&view.project.id)),
    ];
    Frame::new(&view.shell, &title, Section::Projects, &crumbs).render(&body)
}

fn database(usage: &DatabaseUsage, now_ms: i64) -> Markup {
    let name = &usage.database.name;
    html! {
        div.card-head {
            h2 {
                a href=(urls::database(&usage.database.id)) { (name) } " " (tag::environment(usage.environment))
                @if usage.removed { " " span.tag { "removed" } }
            }
            span.muted {
                (format::count_of(usage.snapshots.len() as u64, "snapshot")) " · " (format::bytes(usage.logical_bytes))
                " · +" (format::bytes(usage.new_bytes))
            }
        }
        @if usage.snapshots.is_empty() {
            p.empty { "No snapshot yet." }
        } @else {
            (scrolling(&format!("Snapshots of {name}"), &html! {
                table {
                    caption.visually-hidden { "Snapshots of " (name) }
                    thead { tr {
                        th scope="col" { "Snapshot" }
                        th.num scope="col" { "Size" }
                        th.num scope="col" { "New bytes stored" }
                    } }
                    tbody {
                        @for snapshot in &usage.snapshots {
                            tr {
                                th scope="row" {
                                    a href=(urls::snapshot(&snapshot.id)) { (format::time(snapshot.at_ms, now_ms)) }
                                    " " (tag::pinned(snapshot.pinned))
                                }
                                td.num { (format::bytes(snapshot.logical_bytes)) }
                                td.num { "+" (format::bytes(snapshot.new_bytes)) }
                            }
                        }
                    }
                }
            }))
        }
    }
}
