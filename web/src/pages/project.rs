//! One project: its databases.

use maud::{Markup, html};

use super::{
    Named,
    projects::{DatabaseRow, databases},
};
use crate::{
    components::note,
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
}

impl Project {
    /// With three databases and no recovery key.
    pub fn sample() -> Self {
        Self {
            shell: Shell::sample(),
            project: Named::new("p1", "Web shop"),
            databases: DatabaseRow::samples(),
            has_recovery_key: false,
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
        }
    };
    let crumbs = [("Projects", urls::PROJECTS.to_owned())];
    Frame::new(&view.shell, &view.project.name, Section::Projects, &crumbs).render(&body)
}
