//! Starting a restore: what, and where to.

use maud::{Markup, html};

use super::Named;
use crate::{
    components::{
        Problem, alert,
        form::Field,
        tag::{self, Environment},
        warning,
    },
    format,
    layout::{Frame, Section, Shell},
    urls,
};

/// The form.
#[derive(Clone, Debug)]
pub struct RestoreNew {
    /// The frame.
    pub shell: Shell,
    /// Where it belongs.
    pub project: Named,
    /// The snapshot's database.
    pub database: Named,
    /// What that is for.
    pub environment: Environment,
    /// The snapshot.
    pub snapshot: String,
    /// When it was taken.
    pub at_ms: i64,
    /// Records in it.
    pub records: u64,
    /// Tables in it.
    pub collections: u64,
    /// How many objects it could not read.
    pub missing: u64,
    /// The target as typed, without its password.
    pub url_without_password: String,
    /// Whether a password was taken out of it.
    pub password_removed: bool,
    /// Why it was not accepted.
    pub problem: Option<Problem>,
}

impl RestoreNew {
    /// The form after a target that could not be reached.
    pub fn sample() -> Self {
        Self {
            shell: Shell::sample(),
            project: Named::new("p1", "Web shop"),
            database: Named::new("d1", "shop"),
            environment: Environment::Prod,
            snapshot: crate::samples::SNAPSHOT_ID.to_owned(),
            at_ms: crate::samples::NOW_MS - 7_200_000,
            records: 214_127,
            collections: 14,
            missing: 1,
            url_without_password: "postgresql://admin@localhost:5432/shop_restored".to_owned(),
            password_removed: true,
            problem: Some(
                Problem::new("The database \"shop_restored\" already holds 3 tables")
                    .with_fix("Name a database that does not exist yet, or an empty one."),
            ),
        }
    }
}

/// The whole page.
pub fn page(view: &RestoreNew) -> Markup {
    let removed = "The password is not shown again: paste the whole URL once more.";
    let body = html! {
        h1 { "Restore " (view.database.name) " " (tag::environment(view.environment)) }
        (progress_steps(1))
        @if let Some(problem) = &view.problem { (alert(problem)) }
        @if view.missing > 0 {
            (warning(&html! { p {
                "This snapshot is incomplete: " (format::count_of(view.missing, "object"))
                " could not be read when it was taken, and will not be in the restored database."
            } }))
        }
        form.stack.card.padded method="post" action=(urls::restore_new(&view.snapshot)) {
            h2 { "What" }
            p {
                "Everything in the snapshot of " (format::time(view.at_ms, view.shell.now_ms)) ": "
                (format::count_of(view.collections, "table")) ", " (format::count_of(view.records, "record")) "."
            }
            h2 { "Where to" }
            p { "A new database, beside the one that was backed up. It is created if it does not exist, and refused if it holds anything." }
            (Field::code("url", "URL of the new database", &view.url_without_password)
                .hint("postgresql://user:password@host:5432/name_of_the_new_database")
                .error(view.password_removed.then_some(removed))
                .render())
            div.actions {
                button.primary type="submit" { "Plan the restore" }
                a.button href=(urls::snapshot(&view.snapshot)) { "Cancel" }
            }
            p.muted { "Nothing is written yet: the next page shows exactly what would be." }
        }
    };
    let mut crumbs = super::snapshot::crumbs(&view.project, &view.database).to_vec();
    crumbs.push(("Snapshot", urls::snapshot(&view.snapshot)));
    Frame::new(&view.shell, &format!("Restore {}", view.database.name), Section::Restores, &crumbs)
        .render(&body)
}

/// The wizard's steps, with the one the page shows marked.
pub(super) fn progress_steps(current: usize) -> Markup {
    html! {
        ol.wizard aria-label="Steps of a restore" {
            @for (i, words) in ["Target", "Plan and confirm", "Restore", "Proof"].iter().enumerate() {
                li .past[i + 1 < current] aria-current=[(i + 1 == current).then_some("step")] { (words) }
            }
        }
    }
}
