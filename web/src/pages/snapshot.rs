//! One snapshot: what it holds.

use maud::{Markup, html};

use super::Named;
use super::diff::compare_live;
use crate::{
    components::{
        Problem, alert,
        damage::{self, Damage},
        fact,
        form::{Field, post_button},
        icons, short_id,
        system::System,
        table::scrolling,
        tag::{self, Environment, Thoroughness, Trigger},
        warning,
    },
    format,
    layout::{Frame, Section, Shell},
    urls,
};

/// The words of the button that compares with what the database holds now.
pub(super) const COMPARE_LIVE: &str = "Compare with the live database";

/// A collection of a snapshot.
#[derive(Clone, Debug)]
pub struct CollectionRow {
    /// Its display name.
    pub name: String,
    /// `table`, `view`, `time series`, ...
    pub kind: String,
    /// Records in it.
    pub records: u64,
    /// Their size.
    pub logical_bytes: u64,
    /// The root of its tree.
    pub root: String,
}

/// What is known of what a snapshot costs.
#[derive(Clone, Debug)]
pub enum Costs {
    /// Nothing: it is counted when somebody asks.
    Unknown,
    /// It is being counted: the job.
    Counting(String),
    /// It was counted.
    Counted(Counted),
}

/// What a snapshot costs.
#[derive(Clone, Debug)]
pub struct Counted {
    /// When it was counted.
    pub at_ms: i64,
    /// Bytes that no older snapshot needs.
    pub new_bytes: u64,
    /// Of these, the ones that no other snapshot needs.
    pub freed_bytes: u64,
    /// The same two of what describes the collections.
    pub descriptions: (u64, u64),
    /// The same two of each collection, by name.
    pub collections: Vec<(String, u64, u64)>,
}

/// A snapshot.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The frame.
    pub shell: Shell,
    /// Where it belongs.
    pub project: Named,
    /// Of which database.
    pub database: Named,
    /// What that is for.
    pub environment: Environment,
    /// Its id, which is also the root of its hash tree.
    pub id: String,
    /// When it was begun: the moment it shows.
    pub at_ms: i64,
    /// How long taking it took.
    pub took_ms: i64,
    /// How it came about.
    pub trigger: Trigger,
    /// Of which system it is.
    pub system: System,
    /// `PostgreSQL 17.2`.
    pub server: String,
    /// Whether all of it is of one moment.
    pub point_in_time: bool,
    /// How that is known, in the engine's words.
    pub method: String,
    /// The note beside it.
    pub note: Option<String>,
    /// Whether nothing deletes it.
    pub pinned: bool,
    /// When a verification last found nothing wrong with it, and what it read.
    pub verified: Option<(i64, Thoroughness)>,
    /// When every byte of it was last verified.
    pub fully_verified_ms: Option<i64>,
    /// What a verification found, if it is damaged.
    pub damaged: Option<Damage>,
    /// Records in it.
    pub records: u64,
    /// Their size.
    pub logical_bytes: u64,
    /// What it added to the repository.
    pub new_bytes: u64,
    /// Its collections.
    pub collections: Vec<CollectionRow>,
    /// What could not be read: name, and why with what would allow it.
    pub missing: Vec<(String, String)>,
    /// What is left out although nothing failed, in words.
    pub notes: Vec<String>,
    /// What it costs.
    pub costs: Costs,
    /// The snapshot before it.
    pub parent: Option<String>,
    /// Whether the database is connected, so that it can be compared with what that holds now.
    pub connected: bool,
    /// Why the last request was not carried out.
    pub problem: Option<Problem>,
}

impl Snapshot {
    /// One with a table that could not be read.
    pub fn sample() -> Self {
        let row = |name: &str, records, logical_bytes, root: &str| CollectionRow {
            name: name.to_owned(),
            kind: "table".to_owned(),
            records,
            logical_bytes,
            root: format!("{root}{}", &crate::samples::SNAPSHOT_ID[8..]),
        };
        Self {
            shell: Shell::sample(),
            project: Named::new("p1", "Web shop"),
            database: Named::new("d1", "shop"),
            environment: Environment::Prod,
            id: crate::samples::SNAPSHOT_ID.to_owned(),
            at_ms: crate::samples::NOW_MS - 7_200_000,
            took_ms: 8_400,
            trigger: Trigger::Manual,
            system: System::PostgreSql,
            server: "PostgreSQL 17.2".to_owned(),
            point_in_time: true,
            method: "one exported snapshot, read by every worker".to_owned(),
            note: Some("after the price import".to_owned()),
            pinned: false,
            verified: Some((crate::samples::NOW_MS - 3_600_000, Thoroughness::Sample)),
            fully_verified_ms: None,
            damaged: None,
            records: 214_127,
            logical_bytes: 184_109_000,
            new_bytes: 412_000,
            collections: vec![
                row("public.customers", 20_000, 8_100_000, "11c09d2e"),
                row("public.order_items", 128_400, 61_400_000, "7be85a33"),
                row("public.orders", 48_201, 21_700_000, "16c0e4f1"),
                row("public.\"Price list\"", 312, 44_000, "a27d9b58"),
            ],
            missing: vec![(
                "public.payroll".to_owned(),
                "permission denied: run GRANT SELECT ON public.payroll TO dbsnap_ro".to_owned(),
            )],
            notes: vec![
                "public.rates is a foreign table: its definition is kept, and its rows are on another server"
                    .to_owned(),
            ],
            costs: Costs::Unknown,
            parent: Some("02f0c41d07be85a3316c0e4f1a27d9b5".to_owned()),
            connected: true,
            problem: None,
        }
    }

    /// One that was to be deleted with another id typed.
    pub fn sample_refused() -> Self {
        let problem = Problem::new("That is another id").with_fix("Type the id's first eight characters.");
        Self { problem: Some(problem), ..Self::sample() }
    }

    /// One that was found damaged.
    pub fn sample_damaged() -> Self {
        Self { verified: None, damaged: Some(Damage::sample()), ..Self::sample() }
    }

    /// One that stays.
    pub fn sample_pinned() -> Self {
        let at_ms = crate::samples::NOW_MS - 86_400_000;
        let verified = Some((at_ms, Thoroughness::Full));
        let collection = |name: &str, new, freed| (name.to_owned(), new, freed);
        let costs = Costs::Counted(Counted {
            at_ms: crate::samples::NOW_MS - 600_000,
            new_bytes: 412_000,
            freed_bytes: 96_000,
            descriptions: (4_100, 4_100),
            collections: vec![
                collection("public.customers", 0, 0),
                collection("public.orders", 407_900, 91_900),
            ],
        });
        Self {
            costs,
            pinned: true,
            note: None,
            parent: None,
            verified,
            fully_verified_ms: Some(at_ms),
            ..Self::sample()
        }
    }

    /// What is typed to delete it.
    pub fn confirmation(&self) -> &str {
        self.id.get(..8).unwrap_or(&self.id)
    }
}

impl Snapshot {
    /// One of a MongoDB server without a replica set, with every kind of collection.
    pub fn sample_documents() -> Self {
        let mut view = Self::sample();
        view.system = System::MongoDb;
        view.server = "MongoDB 7.0.14".to_owned();
        view.point_in_time = false;
        view.method = "each collection read once, one after the other".to_owned();
        view.missing.clear();
        view.notes.clear();
        let names = ["shop.customers", "shop.log", "shop.metrics", "shop.open_orders"];
        let kinds = ["collection", "capped collection", "time series", "view"];
        for (row, (name, kind)) in view.collections.iter_mut().zip(names.into_iter().zip(kinds)) {
            (row.name, row.kind) = (name.to_owned(), kind.to_owned());
        }
        view
    }
}

/// The whole page.
pub fn page(view: &Snapshot) -> Markup {
    let body = html! {
        div.head {
            div {
                h1 { "Snapshot of " (view.database.name) " " (tag::environment(view.environment)) " " (tag::pinned(view.pinned)) }
                p.muted { (format::time(view.at_ms, view.shell.now_ms)) }
                @if let Some(note) = &view.note { p.quote { (note) } }
            }
            div.actions {
                @if let Some(parent) = &view.parent { (compare_with(parent, &view.id)) }
                @if view.connected { (compare_live(&view.id, &view.database.id, COMPARE_LIVE)) }
                (pin_button(view))
                a.button.primary href=(urls::restore_new(&view.id)) { "Restore" }
            }
        }
        @if let Some(problem) = &view.problem { (alert(problem)) }
        @if let Some(found) = &view.damaged {
            (damage::notice("This snapshot is damaged.", found, view.connected, view.shell.now_ms))
        }
        @if !view.missing.is_empty() { (missing(view)) }
        @if !view.point_in_time { (mixed_moments()) }
        dl.facts.card.padded {
            (fact("State", &html! {
                (tag::completeness(view.missing.is_empty()))
                @if view.damaged.is_some() { " " (damage::label()) }
            }))
            (fact("Records", &html! { (format::count(view.records)) }))
            (fact("Size", &html! { (format::bytes(view.logical_bytes)) }))
            (fact("New bytes stored", &html! { (format::bytes(view.new_bytes)) }))
            (fact("Trigger", &html! { (view.trigger.name()) }))
            (fact("Took", &html! { (format::duration(view.took_ms)) }))
            (fact("Server", &html! { (view.server) }))
            (fact("Id", &short_id(&view.id)))
            (fact("Verified", &verified(view)))
            (fact("Consistency", &html! {
                (if view.point_in_time { "Point in time" } else { "Not point-in-time" })
                div.sub { (view.method) }
            }))
        }
        section.card { (collections(view)) }
        @if !view.notes.is_empty() {
            section.card.padded aria-labelledby="left-out" {
                h2 #left-out { "Not in a snapshot" }
                ul { @for note in &view.notes { li { (note) } } }
            }
        }
        (costs(view))
        (note_form(view))
        @if view.pinned {
            section.card.padded aria-labelledby="delete" {
                h2 #delete { "Delete this snapshot" }
                p { "It is pinned: no rule of the schedule and nobody deletes it before it is unpinned." }
            }
        } @else {
            (deletion(view))
        }
    };
    let crumbs = crumbs(&view.project, &view.database);
    Frame::new(&view.shell, &format!("Snapshot of {}", view.database.name), Section::Projects, &crumbs)
        .render(&body)
}

/// The way to a snapshot's or comparison's page.
pub(super) fn crumbs<'a>(project: &'a Named, database: &'a Named) -> [(&'a str, String); 3] {
    [
        ("Projects", urls::PROJECTS.to_owned()),
        (project.name.as_str(), urls::project(&project.id)),
        (database.name.as_str(), urls::database(&database.id)),
    ]
}

fn pin_button(view: &Snapshot) -> Markup {
    html! {
        form.inline method="post" action=(urls::snapshot_change(&view.id)) {
            input type="hidden" name="pinned" value=(!view.pinned);
            button type="submit" { (if view.pinned { "Unpin" } else { "Pin" }) }
        }
    }
}

fn verified(view: &Snapshot) -> Markup {
    let now_ms = view.shell.now_ms;
    html! {
        @match view.verified {
            None if view.damaged.is_some() => { "Found damaged" }
            None => { "Not yet" }
            Some((at_ms, thoroughness)) => {
                (format::time(at_ms, now_ms))
                div.sub {
                    (thoroughness.words())
                    @if let (Some(full_ms), true) = (view.fully_verified_ms, thoroughness != Thoroughness::Full) {
                        "; every byte " (format::ago(full_ms, now_ms))
                    }
                }
            }
        }
    }
}

fn costs(view: &Snapshot) -> Markup {
    html! {
        section.card aria-labelledby="costs" {
            div.card-head {
                h2 #costs { "What it costs" }
                @match &view.costs {
                    Costs::Counting(job) => { a href=(urls::job(job)) { span.state.calm { (icons::running()) "Counting now" } } }
                    Costs::Unknown => { (post_button(&urls::snapshot_cost(&view.id), "Count it", "small")) }
                    Costs::Counted(_) => { (post_button(&urls::snapshot_cost(&view.id), "Count it again", "small")) }
                }
            }
            @match &view.costs {
                Costs::Counted(counted) => {
                    (counted_costs(counted, view.shell.now_ms))
                    p.empty {
                        "Deleting it lets a clean-up free that, file by file: a file of which most is still needed stays whole until "
                        "less of it is."
                    }
                }
                _ => {
                    p.empty { "What it brought, and what would come free without it: all snapshots of the project are looked at for that." }
                }
            }
        }
    }
}

fn counted_costs(counted: &Counted, now_ms: i64) -> Markup {
    let (descriptions_new, descriptions_freed) = counted.descriptions;
    let row = |name: &Markup, new: u64, freed: u64| {
        html! { tr { th scope="row" { (name) } td.num { (format::bytes(new)) } td.num { (format::bytes(freed)) } } }
    };
    scrolling(
        "What it costs",
        &html! {
            table {
                caption { "Only this snapshot needs " (format::bytes(counted.freed_bytes)) span.muted { ", as counted " (format::ago(counted.at_ms, now_ms)) } }
                thead { tr {
                    th scope="col" { "Part" }
                    th.num scope="col" { "In no older snapshot" }
                    th.num scope="col" { "In no other snapshot" }
                } }
                tbody {
                    (row(&html! { "All of it" }, counted.new_bytes, counted.freed_bytes))
                    @for (name, new, freed) in &counted.collections { (row(&html! { code { (name) } }, *new, *freed)) }
                    (row(&html! { "Descriptions and schema" }, descriptions_new, descriptions_freed))
                }
            }
        },
    )
}

fn note_form(view: &Snapshot) -> Markup {
    html! {
        form.row.card.padded method="post" action=(urls::snapshot_change(&view.id)) {
            (Field { optional: true, ..Field::text("note", "Note", view.note.as_deref().unwrap_or_default()) }.render())
            button type="submit" { "Save the note" }
        }
    }
}

fn deletion(view: &Snapshot) -> Markup {
    html! {
        form.stack.card.padded method="post" action=(urls::snapshot_delete(&view.id)) {
            h2 { "Delete this snapshot" }
            p {
                "It is gone at once and does not come back. The space that only it took comes free with the project's "
                "clean-ups, in the project's settings, as soon as enough of it lies together."
            }
            (Field::code("confirm", "Type the first eight characters of its id", "").hint(view.confirmation()).render())
            div.actions { button.danger-quiet type="submit" { "Delete this snapshot" } }
        }
    }
}

fn compare_with(parent: &str, id: &str) -> Markup {
    html! {
        form.inline method="post" action=(urls::DIFFS) {
            input type="hidden" name="from" value=(parent);
            input type="hidden" name="to" value=(id);
            button type="submit" { "Compare with the one before" }
        }
    }
}

fn mixed_moments() -> Markup {
    warning(&html! {
        p {
            strong { "This snapshot is not point-in-time." }
            " The server offers no moment to read at, so documents may be of different moments: those that "
            "changed while it was taken may not fit each other."
        }
    })
}

fn missing(view: &Snapshot) -> Markup {
    warning(&html! {
        p {
            strong { "This snapshot is incomplete: " (format::count_of(view.missing.len() as u64, "object")) " could not be read" }
        }
        ul { @for (name, reason) in &view.missing { li { code { (name) } ": " (reason) } } }
    })
}

fn collections(view: &Snapshot) -> Markup {
    let caption = format::count_of(view.collections.len() as u64, view.system.collection());
    scrolling(
        &format!("{}s", view.system.collection_heading()),
        &html! {
            table {
                caption { (caption) }
                thead { tr {
                    th scope="col" { (view.system.collection_heading()) }
                    th scope="col" { "Kind" }
                    th.num scope="col" { "Records" }
                    th.num scope="col" { "Size" }
                    th scope="col" { "Root" }
                } }
                tbody {
                    @for row in &view.collections {
                        tr {
                            th scope="row" { a href=(urls::records(&view.id, &row.name)) { code { (row.name) } } }
                            td { (row.kind) }
                            td.num { (format::count(row.records)) }
                            td.num { (format::bytes(row.logical_bytes)) }
                            td { (short_id(&row.root)) }
                        }
                    }
                }
            }
        },
    )
}
