//! A comparison's summary: which tables differ, and by how much.

use maud::{Markup, html};

use super::Named;
use crate::{
    components::{
        change::{ChangeKind, Counts},
        job::{self, Job},
        note,
        system::System,
        table::scrolling,
        tag::{self, Environment},
        warning,
    },
    format,
    layout::{Frame, Section, Shell},
    urls,
};

/// What a side shows.
#[derive(Clone, Debug)]
pub enum Shows {
    /// A snapshot: its id, and when it was taken.
    Snapshot(String, i64),
    /// What the database itself held: when it was read, once it was.
    Live(Option<i64>),
}

/// One side of a comparison.
#[derive(Clone, Debug)]
pub struct Side {
    /// A snapshot or the live database.
    pub shows: Shows,
    /// Of which database.
    pub database: Named,
    /// What that is for.
    pub environment: Environment,
    /// The note beside it.
    pub note: Option<String>,
    /// Whether all of it is of one moment.
    pub point_in_time: bool,
}

/// How a table as a whole fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Only the second side has it.
    Added,
    /// Only the first side has it.
    Removed,
    /// Both have it, different.
    Changed,
    /// Both have it, equal.
    Unchanged,
}

/// One table's differences.
#[derive(Clone, Debug)]
pub struct CollectionRow {
    /// Its display name.
    pub name: String,
    /// How it fared.
    pub status: Status,
    /// Its records; none are counted when `rekeyed` says why.
    pub counts: Counts,
    /// What changed in its schema.
    pub schema_changes: Vec<String>,
    /// Why its records cannot be compared one by one: another key was chosen.
    pub rekeyed: Option<String>,
}

/// The two sides and the work or its result.
#[derive(Clone, Debug)]
pub struct Diff {
    /// The frame.
    pub shell: Shell,
    /// Where it belongs.
    pub project: Named,
    /// Its id.
    pub id: String,
    /// Of which system both sides are.
    pub system: System,
    /// The first side, A.
    pub from: Side,
    /// The second side, B.
    pub to: Side,
    /// What could not be read for A or B, so that nothing can be said of it: its name, and why where that
    /// is not said with a snapshot.
    pub not_compared: Vec<(String, Option<String>)>,
    /// Whether the changed records can be listed: of a live database not for ever.
    pub has_pages: bool,
    /// What differs beside tables (views, functions, privileges), in words; none when not known.
    pub other_objects: Option<Vec<String>>,
    /// The result, or the job that works on it or failed to.
    pub outcome: Outcome,
}

/// What there is to show.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Not done, or not going to be.
    Job(Box<Job>),
    /// Done: the tables, those with most changes first.
    Summary(Vec<CollectionRow>),
}

impl Side {
    /// Two sides of one database.
    pub fn samples() -> [Self; 2] {
        let now = crate::samples::NOW_MS;
        let side = |snapshot: &str, hours: i64, note: Option<&str>| Self {
            shows: Shows::Snapshot(snapshot.to_owned(), now - hours * 3_600_000),
            database: Named::new("d1", "shop"),
            environment: Environment::Prod,
            note: note.map(str::to_owned),
            point_in_time: true,
        };
        [side("s2", 13, None), side("s1", 2, Some("after the price import"))]
    }

    /// The database itself, a minute ago.
    pub fn sample_live() -> Self {
        let [_, side] = Self::samples();
        Self { shows: Shows::Live(Some(crate::samples::NOW_MS - 60_000)), note: None, ..side }
    }

    /// The moment it shows; of what is being read, the latest.
    fn at_ms(&self) -> i64 {
        match &self.shows {
            Shows::Snapshot(_, at_ms) => *at_ms,
            Shows::Live(read_ms) => read_ms.unwrap_or(i64::MAX),
        }
    }
}

impl Diff {
    /// A few changed tables.
    pub fn sample() -> Self {
        let row =
            |name: &str, status, (added, changed, removed, unchanged): (u64, u64, u64, u64)| CollectionRow {
                name: name.to_owned(),
                status,
                counts: Counts { added, removed, changed, unchanged, order_only: 0 },
                schema_changes: Vec::new(),
                rekeyed: None,
            };
        let [from, to] = Side::samples();
        Self {
            shell: Shell::sample(),
            project: Named::new("p1", "Web shop"),
            id: "f1".to_owned(),
            system: System::PostgreSql,
            from,
            to,
            not_compared: vec![("public.payroll".to_owned(), None)],
            has_pages: true,
            other_objects: Some(vec![
                "function price(integer) in schema public changed".to_owned(),
                "view best_sellers in schema public added".to_owned(),
            ]),
            outcome: Outcome::Summary(vec![
                CollectionRow {
                    schema_changes: vec![
                        "column discount numeric(5,2) added".to_owned(),
                        "index orders_placed_at_idx added".to_owned(),
                    ],
                    ..row("public.orders", Status::Changed, (211, 38, 2, 47_950))
                },
                row("public.order_items", Status::Changed, (604, 0, 5, 127_791)),
                row("public.coupons", Status::Added, (40, 0, 0, 0)),
                CollectionRow {
                    rekeyed: Some(
                        "The primary key is now (sku, region), it was (id): records cannot be matched one by one."
                            .to_owned(),
                    ),
                    ..row("public.products", Status::Changed, (0, 0, 0, 0))
                },
                row("public.customers", Status::Unchanged, (0, 0, 0, 20_000)),
                row("public.\"Price list\"", Status::Unchanged, (0, 0, 0, 312)),
            ]),
        }
    }

    /// Two snapshots of a MongoDB server without a replica set.
    pub fn sample_documents() -> Self {
        let mut view =
            Self { system: System::MongoDb, not_compared: Vec::new(), other_objects: None, ..Self::sample() };
        view.from.point_in_time = false;
        view.to.point_in_time = false;
        let row = |name: &str, status, counts| CollectionRow {
            name: name.to_owned(),
            status,
            counts,
            schema_changes: Vec::new(),
            rekeyed: None,
        };
        let orders = Counts { added: 12, removed: 1, changed: 40, unchanged: 8_104, order_only: 31 };
        view.outcome = Outcome::Summary(vec![
            CollectionRow {
                schema_changes: vec!["index placed_at_1 added".to_owned()],
                ..row("shop.orders", Status::Changed, orders)
            },
            row("shop.coupons", Status::Added, Counts { added: 40, ..Counts::default() }),
            row("shop.customers", Status::Unchanged, Counts { unchanged: 2_311, ..Counts::default() }),
        ]);
        view
    }

    /// A snapshot and the live database, of which a table could not be read, after its pages are gone.
    pub fn sample_live() -> Self {
        let reason = "permission denied: run GRANT SELECT ON public.payroll TO dbsnap_ro".to_owned();
        let not_compared = vec![("public.payroll".to_owned(), Some(reason))];
        Self { to: Side::sample_live(), not_compared, has_pages: false, ..Self::sample() }
    }

    /// Two equal snapshots.
    pub fn sample_equal() -> Self {
        let mut view = Self { other_objects: Some(Vec::new()), ..Self::sample() };
        if let Outcome::Summary(rows) = &mut view.outcome {
            rows.retain(|row| row.status == Status::Unchanged);
        }
        view
    }

    /// While it is worked out.
    pub fn sample_running() -> Self {
        Self { outcome: Outcome::Job(Box::new(Job::sample_queued())), ..Self::sample() }
    }
}

/// The whole page.
pub fn page(view: &Diff) -> Markup {
    let running = matches!(&view.outcome, Outcome::Job(job) if job.state.is_open());
    let body = html! {
        h1 { "Comparison" }
        (direction(&view.from, &view.to, view.shell.now_ms))
        @match &view.outcome {
            Outcome::Job(job) => {
                section.card.padded aria-label="Progress" {
                    (job::live(job, view.shell.now_ms, &urls::diff(&view.id)))
                }
            }
            Outcome::Summary(rows) => {
                @if !view.has_pages { (pages_gone()) }
                @if !view.not_compared.is_empty() { (not_compared(&view.not_compared)) }
                (summary(view, rows))
            }
        }
    };
    let crumbs = super::snapshot::crumbs(&view.project, &view.to.database);
    Frame::new(&view.shell, "Comparison", Section::Projects, &crumbs).refreshing(running).render(&body)
}

/// The header that says what is compared with what, on the summary and on every table of it.
pub fn direction(from: &Side, to: &Side, now_ms: i64) -> Markup {
    let (from_age, to_age) = if from.at_ms() <= to.at_ms() { ("older", "newer") } else { ("newer", "older") };
    html! {
        div.direction role="group" aria-label="What is compared" {
            (side("A", from_age, from, now_ms))
            span.arrow aria-hidden="true" { "→" }
            span.visually-hidden { "compared with" }
            (side("B", to_age, to, now_ms))
            @match (&from.shows, &to.shows) {
                (Shows::Snapshot(from, _), Shows::Snapshot(to, _)) => {
                    form.inline method="post" action=(urls::DIFFS) {
                        input type="hidden" name="from" value=(to);
                        input type="hidden" name="to" value=(from);
                        button.small type="submit" { "Swap A and B" }
                    }
                }
                (Shows::Snapshot(from, _), Shows::Live(Some(_))) => {
                    (compare_live(from, &to.database.id, "Compare again"))
                }
                _ => {}
            }
        }
    }
}

/// The button that compares a snapshot with what a database holds now.
pub(super) fn compare_live(snapshot: &str, database: &str, words: &str) -> Markup {
    html! {
        form.inline method="post" action=(urls::DIFFS) {
            input type="hidden" name="from" value=(snapshot);
            input type="hidden" name="live" value=(database);
            button type="submit" { (words) }
        }
    }
}

fn side(letter: &str, age: &str, side: &Side, now_ms: i64) -> Markup {
    html! {
        div.side {
            p { strong.letter { (letter) } " " span.age { (age) } " " (side.database.name) " " (tag::environment(side.environment)) }
            p {
                @match &side.shows {
                    Shows::Snapshot(id, at_ms) => { a href=(urls::snapshot(id)) { (format::time(*at_ms, now_ms)) } }
                    Shows::Live(Some(at_ms)) => { "live database, read at " (format::time(*at_ms, now_ms)) }
                    Shows::Live(None) => { "live database" }
                }
                " " (tag::moments(side.point_in_time))
            }
            @if let Some(note) = &side.note { p.muted.clip { (note) } }
        }
    }
}

fn not_compared(names: &[(String, Option<String>)]) -> Markup {
    warning(&html! {
        p { strong { "Not compared, because it could not be read for A or B:" } }
        ul {
            @for (name, reason) in names {
                li { code { (name) } @if let Some(reason) = reason { ": " (reason) } }
            }
        }
    })
}

fn pages_gone() -> Markup {
    note(&html! {
        p {
            "What was read of the live database is kept for an hour after it was last looked at, and not after a "
            "restart of the server. The counts below stay; compare again to see the changed records."
        }
    })
}

fn summary(view: &Diff, rows: &[CollectionRow]) -> Markup {
    let (system, diff) = (view.system, view.id.as_str());
    let word = system.collection();
    let others = view.other_objects.as_deref();
    let (differ, equal) =
        (format!("{}s that differ", system.collection_heading()), format!("Unchanged {word}s"));
    let (unchanged, differing): (Vec<_>, Vec<_>) =
        rows.iter().partition(|row| row.status == Status::Unchanged);
    html! {
        @if differing.is_empty() {
            (note(&html! {
                p {
                    strong { (nothing_differs(system, others)) }
                    " Every " (word) " compared has the same root hash in A and B: the same records, and the same schema of the " (word) "."
                    (about_others(system, others))
                }
            }))
            (other_objects(others.unwrap_or_default()))
        } @else {
            (totals(system, &differing))
            (schema_changes(&differing))
            (other_objects(others.unwrap_or_default()))
            section.card {
                (scrolling(&differ, &counts_table(system, &differ, diff, &differing)))
            }
        }
        @if !unchanged.is_empty() {
            details.card {
                summary { (format::count_of(unchanged.len() as u64, &format!("unchanged {word}"))) }
                (scrolling(&equal, &counts_table(system, &equal, diff, &unchanged)))
            }
        }
    }
}

/// No more than is known: tables are not all there is in a database of PostgreSQL.
fn nothing_differs(system: System, others: Option<&[String]>) -> String {
    match (system, others) {
        (System::MongoDb, _) | (_, Some([])) => "No differences.".to_owned(),
        _ => format!("No {} differs.", system.collection()),
    }
}

fn about_others(system: System, others: Option<&[String]>) -> &'static str {
    match (system, others) {
        (System::MongoDb, _) => "",
        (_, Some([])) => " All other objects, as views, functions and types, are defined the same.",
        (_, Some(_)) => " Other objects of the schema differ.",
        (_, None) => " Whether other objects differ, as views, functions and types, is not known.",
    }
}

fn other_objects(changes: &[String]) -> Markup {
    html! {
        @if !changes.is_empty() {
            section.card.padded aria-labelledby="objects" {
                h2 #objects { "Other objects of the schema that differ" }
                ul { @for change in changes { li { (change) } } }
            }
        }
    }
}

fn totals(system: System, rows: &[&CollectionRow]) -> Markup {
    let total = |kind| rows.iter().map(|row| row.counts.of(kind)).sum::<u64>();
    let rekeyed = rows.iter().filter(|row| row.rekeyed.is_some()).count() as u64;
    let order_only = rows.iter().map(|row| row.counts.order_only).sum::<u64>();
    let differ = if rows.len() == 1 { "differs" } else { "differ" };
    html! {
        ul.totals {
            @for kind in ChangeKind::ALL {
                li.(kind.as_str()) {
                    strong { (format::count(total(kind))) } " "
                    (crate::components::change::label(kind))
                    @if kind == ChangeKind::Changed && order_only > 0 {
                        span.muted { " · " (in_field_order(order_only)) }
                    }
                }
            }
            @if rekeyed > 0 { li { strong { (format::count(rekeyed)) } " not compared" } }
            li { strong { (rows.len()) } " " (words_after(rows.len() as u64, system.collection())) " " (differ) }
        }
    }
}

/// `1 only in field order`.
pub(super) fn in_field_order(n: u64) -> String {
    format!("{} only in field order", format::count(n))
}

fn words_after(n: u64, word: &str) -> String {
    format!("{word}{}", if n == 1 { "" } else { "s" })
}

fn schema_changes(rows: &[&CollectionRow]) -> Markup {
    let changed: Vec<_> = rows.iter().filter(|row| !row.schema_changes.is_empty()).collect();
    html! {
        @if !changed.is_empty() {
            section.card.padded aria-labelledby="schema" {
                h2 #schema { "Schema changes" }
                dl.schema {
                    @for row in changed {
                        dt { code { (row.name) } }
                        @for change in &row.schema_changes { dd { (change) } }
                    }
                }
            }
        }
    }
}

fn counts_table(system: System, caption: &str, diff: &str, rows: &[&CollectionRow]) -> Markup {
    html! {
        table.counts.tally.stacked {
            caption { (caption) }
            thead { tr {
                th scope="col" { (system.collection_heading()) }
                @for kind in ChangeKind::ALL { th.num scope="col" { (kind.name()) } }
                th.num scope="col" { "Unchanged" }
            } }
            tbody { @for row in rows { (counts_row(system, diff, row)) } }
        }
    }
}

fn counts_row(system: System, diff: &str, row: &CollectionRow) -> Markup {
    let word = system.collection();
    html! {
        tr {
            th scope="row" {
                @if row.counts.differing() > 0 {
                    a href=(urls::changes(diff, &row.name)) { code { (row.name) } }
                } @else {
                    code { (row.name) }
                }
                @match row.status {
                    Status::Added => { " " span.tag { "new " (word) } }
                    Status::Removed => { " " span.tag { "dropped " (word) } }
                    Status::Changed | Status::Unchanged => {}
                }
                @if !row.schema_changes.is_empty() { " " span.tag { "schema changed" } }
                @if row.counts.order_only > 0 {
                    div.sub { (format::count(row.counts.order_only)) " of the modified: only the order of fields" }
                }
                @if let Some(reason) = &row.rekeyed { div.sub.wrap { strong { "Re-keyed. " } (reason) } }
            }
            @if row.rekeyed.is_some() {
                td.num.muted colspan="4" data-label="Records" { "not compared" }
            } @else {
                @for kind in ChangeKind::ALL { (count_cell(diff, row, kind)) }
                td.num.muted data-label="Unchanged" { (format::count(row.counts.unchanged)) }
            }
        }
    }
}

fn count_cell(diff: &str, row: &CollectionRow, kind: ChangeKind) -> Markup {
    let n = row.counts.of(kind);
    let query = urls::ChangesQuery { kind: Some(kind.as_str()), ..Default::default() };
    html! {
        td.num.count.(kind.as_str()) .zero[n == 0] data-label=(kind.name()) {
            @if n == 0 { "0" } @else { a href=(urls::changes_query(diff, &row.name, &query)) { (format::count(n)) } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_tables_are_not_called_an_equal_database() {
        let told = |others: Option<Vec<String>>| {
            let view = Diff { other_objects: others, ..Diff::sample_equal() };
            page(&view).into_string()
        };
        assert!(told(Some(Vec::new())).contains("No differences."));
        let unknown = told(None);
        assert!(!unknown.contains("No differences.") && unknown.contains("is not known"), "{unknown}");
        let html = told(Some(vec!["view v in schema public changed".to_owned()]));
        assert!(
            !html.contains("No differences.") && html.contains("<li>view v in schema public changed</li>")
        );
    }

    #[test]
    fn the_live_database_is_no_snapshot() {
        let html = page(&Diff::sample_live()).into_string();
        assert!(html.contains("live database, read at "), "{html}");
        assert!(html.contains(r#"name="live" value="d1""#) && html.contains("Compare again"), "{html}");
        assert!(!html.contains("Swap A and B") && html.contains("kept for an hour"), "{html}");
        assert!(html.contains("<code>public.payroll</code>: permission denied"), "{html}");
        let reading = Side { shows: Shows::Live(None), ..Side::sample_live() };
        let html = page(&Diff { to: reading, has_pages: true, ..Diff::sample_running() }).into_string();
        assert!(!html.contains("read at") && !html.contains("Compare again"), "{html}");
    }

    #[test]
    fn a_rekeyed_table_is_not_compared_rather_than_without_differences() {
        let Outcome::Summary(rows) = Diff::sample().outcome else { panic!("the sample is done") };
        let row = rows.iter().find(|row| row.rekeyed.is_some()).unwrap();
        let html = counts_row(System::PostgreSql, "f1", row).into_string();
        assert!(html.contains("not compared") && html.contains("cannot be matched"), "{html}");
        assert!(!html.contains(">0<"), "{html}");
        assert!(totals(System::PostgreSql, &[row]).into_string().contains("<strong>1</strong> not compared"));
    }
}
