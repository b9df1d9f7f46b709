//! Starting a restore: what, and where to.

use maud::{Markup, html};

use super::Named;
use crate::{
    components::{
        Problem, alert,
        form::Field,
        system::System,
        tag::{self, Environment},
        warning,
    },
    format,
    layout::{Frame, Section, Shell},
    urls,
};

/// A collection to choose.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Its display name.
    pub name: String,
    /// `collection`, `view`, ...
    pub kind: String,
    /// Records in it.
    pub records: u64,
    /// Whether it is chosen.
    pub chosen: bool,
}

/// Single records of a table.
#[derive(Clone, Debug)]
pub struct Records {
    /// The table's display name.
    pub of: String,
    /// Their ids.
    pub ids: Vec<String>,
}

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
    /// Of which system it is.
    pub system: System,
    /// The snapshot.
    pub snapshot: String,
    /// When it was taken.
    pub at_ms: i64,
    /// Records in it.
    pub record_count: u64,
    /// Tables in it.
    pub collections: u64,
    /// How many objects it could not read.
    pub missing: u64,
    /// Its collections, where parts of it can be restored; else empty.
    pub choices: Vec<Choice>,
    /// Whether only those chosen are restored.
    pub only_chosen: bool,
    /// Single records that are restored, and nothing else.
    pub records: Option<Records>,
    /// Whether collections that hold records are restored in place.
    pub in_place: bool,
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
            system: System::PostgreSql,
            snapshot: crate::samples::SNAPSHOT_ID.to_owned(),
            at_ms: crate::samples::NOW_MS - 7_200_000,
            record_count: 214_127,
            collections: 14,
            missing: 1,
            choices: Vec::new(),
            only_chosen: false,
            records: None,
            in_place: false,
            url_without_password: "postgresql://admin@localhost:5432/shop_restored".to_owned(),
            password_removed: true,
            problem: Some(
                Problem::new("The database \"shop_restored\" already holds 3 tables")
                    .with_fix("Name a database that does not exist yet, or an empty one."),
            ),
        }
    }

    /// One table, in place.
    pub fn sample_in_place() -> Self {
        let choice = |name: &str, records, chosen| Choice {
            name: name.to_owned(),
            kind: "table".to_owned(),
            records,
            chosen,
        };
        Self {
            missing: 0,
            choices: vec![choice("public.customers", 2_311, false), choice("public.orders", 48_201, true)],
            only_chosen: true,
            in_place: true,
            url_without_password: String::new(),
            password_removed: false,
            problem: None,
            ..Self::sample()
        }
    }

    /// One record.
    pub fn sample_record() -> Self {
        let records = Records { of: "public.orders".to_owned(), ids: vec!["AgQD".to_owned()] };
        Self { records: Some(records), choices: Vec::new(), ..Self::sample_in_place() }
    }

    /// Of a MongoDB snapshot, with two of its collections chosen.
    pub fn sample_documents() -> Self {
        let choice = |name: &str, kind: &str, records, chosen| Choice {
            name: name.to_owned(),
            kind: kind.to_owned(),
            records,
            chosen,
        };
        Self {
            system: System::MongoDb,
            records: None,
            record_count: 10_771,
            collections: 4,
            missing: 0,
            choices: vec![
                choice("shop.customers", "collection", 2_311, true),
                choice("shop.log", "capped collection", 304, false),
                choice("shop.open_orders", "view", 12, false),
                choice("shop.orders", "collection", 8_144, true),
            ],
            only_chosen: true,
            url_without_password: String::new(),
            password_removed: false,
            problem: None,
            ..Self::sample()
        }
    }
}

/// The whole page.
pub fn page(view: &RestoreNew) -> Markup {
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
            @if let Some(records) = &view.records {
                (single(view, records))
            } @else if view.choices.is_empty() {
                p { (everything(view)) }
            } @else {
                (scope(view))
            }
            h2 { "Where to" }
            (target(view))
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

fn everything(view: &RestoreNew) -> Markup {
    html! {
        "Everything in the snapshot of " (format::time(view.at_ms, view.shell.now_ms)) ": "
        (format::count_of(view.collections, view.system.collection())) ", "
        (format::count_of(view.record_count, "record")) "."
    }
}

/// Single records: which they are was chosen before.
fn single(view: &RestoreNew, records: &Records) -> Markup {
    html! {
        input type="hidden" name="of" value=(urls::form_value(&records.of));
        @for id in &records.ids { input type="hidden" name="record" value=(id); }
        p {
            (format::count_of(records.ids.len() as u64, "record")) " of " code { (records.of) } ", as the snapshot of "
            (format::time(view.at_ms, view.shell.now_ms)) " has it."
        }
    }
}

/// All of it or some of it. The list is there for both, and a style hides it while all is chosen.
fn scope(view: &RestoreNew) -> Markup {
    html! {
        fieldset.scope {
            legend.visually-hidden { "What to restore" }
            label {
                input type="radio" name="scope" value="all" required checked[!view.only_chosen];
                span { (everything(view)) }
            }
            label {
                input type="radio" name="scope" value="chosen" required checked[view.only_chosen];
                span { "Only these " (view.system.collection()) "s:" }
            }
            ul.choose {
                @for choice in &view.choices {
                    li {
                        label {
                            input type="checkbox" name="collection" value=(urls::form_value(&choice.name)) checked[choice.chosen];
                            code { (choice.name) }
                            @if choice.kind != view.system.collection() { " " span.tag { (choice.kind) } }
                            span.muted { (format::count_of(choice.records, "record")) }
                        }
                    }
                }
            }
        }
    }
}

/// A new database, or the collections themselves.
fn mode(view: &RestoreNew) -> Markup {
    let (new, in_place) = match view.system {
        System::PostgreSql if view.records.is_some() => (
            "A new database, with the table, what it needs, and nothing else in it: no other rows, and no foreign keys. It is \
             created if it does not exist, and refused if it holds anything.",
            "In place: the row becomes what it is in the snapshot, and goes where that has none. Every other one stays as it \
             is. What was there is kept in a safety snapshot first, and the restore can be undone.",
        ),
        System::MongoDb if view.records.is_some() => (
            "A database that does not exist yet, or is empty: the collection is created there with that document alone.",
            "In place: the document becomes what it is in the snapshot, and goes where that has none. Every other one stays as \
             it is. What was there is kept in a safety snapshot first, and the restore can be undone.",
        ),
        System::PostgreSql => (
            "A new database, beside the one that was backed up. It is created if it does not exist, and refused if it holds \
             anything. Everything in the snapshot goes into it.",
            "In place: tables that are there become what the snapshot holds. Only rows that differ are written, all of them \
             or none. What was there is kept in a safety snapshot first, and the restore can be undone.",
        ),
        System::MongoDb => (
            "Databases that do not exist yet, or are empty: they are created, and refused if they hold any collection.",
            "In place: collections that are there become what the snapshot holds. Only documents that differ are written, \
             and none that somebody else changes meanwhile. What was there is kept in a safety snapshot first, and the \
             restore can be undone.",
        ),
    };
    html! {
        fieldset.scope {
            legend.visually-hidden { "Where to restore" }
            @for (value, text, checked) in [("new", new, !view.in_place), ("in_place", in_place, view.in_place)] {
                label {
                    input type="radio" name="mode" value=(value) required checked[checked];
                    span { (text) }
                }
            }
        }
    }
}

fn target(view: &RestoreNew) -> Markup {
    let removed = "The password is not shown again: paste the whole URL once more.";
    let (label, hint) = match view.system {
        System::PostgreSql => (
            "URL of the target database",
            "postgresql://user:password@host:5432/database. To plan, a user who may read is enough.",
        ),
        System::MongoDb => (
            "URL of the target",
            "mongodb://user:password@host:27017/database: every collection goes into that database.\n\
             mongodb://user:password@host:27017/: each collection keeps the database it was in.",
        ),
    };
    html! {
        (mode(view))
        (Field::code("url", label, &view.url_without_password)
            .hint(hint)
            .error(view.password_removed.then_some(removed))
            .render())
    }
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
