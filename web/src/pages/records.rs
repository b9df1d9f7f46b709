//! The records of one collection as a snapshot holds them, paged by key.

use maud::{Markup, html};

use super::Named;
use crate::{
    components::{
        Problem, alert,
        form::Field,
        table::{pager, scrolling, value},
    },
    format,
    layout::{Frame, Section, Shell},
    urls,
};

/// A record.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its key, readable.
    pub key: String,
    /// Its columns in order: name and text, none for NULL.
    pub columns: Vec<(String, Option<String>)>,
    /// Whether a value was too long to show whole.
    pub truncated: bool,
}

/// A page of records.
#[derive(Clone, Debug)]
pub struct Records {
    /// The frame.
    pub shell: Shell,
    /// Where it belongs.
    pub project: Named,
    /// Of which database.
    pub database: Named,
    /// In which snapshot.
    pub snapshot: String,
    /// When that was taken.
    pub at_ms: i64,
    /// Of which collection.
    pub collection: String,
    /// Records in all.
    pub total: u64,
    /// The records of this page.
    pub records: Vec<Record>,
    /// The key to start from, as typed.
    pub from_key: String,
    /// Whether this is not the first page.
    pub paged: bool,
    /// The next page.
    pub next_cursor: Option<String>,
    /// Why the key was not understood.
    pub problem: Option<Problem>,
}

impl Records {
    /// A page of a small table.
    pub fn sample() -> Self {
        let record = |id: &str, name: &str, price: Option<&str>, tags: &str| Record {
            key: format!("({id})"),
            columns: vec![
                ("id".to_owned(), Some(id.to_owned())),
                ("name".to_owned(), Some(name.to_owned())),
                ("price".to_owned(), price.map(str::to_owned)),
                ("tags".to_owned(), Some(tags.to_owned())),
                ("updated_at".to_owned(), Some("2026-03-14 13:02:11.420117+00".to_owned())),
            ],
            truncated: false,
        };
        let long = Record {
            truncated: true,
            ..record("4", &"A very long description. ".repeat(12), Some("1.00"), "{}")
        };
        Self {
            shell: Shell::sample(),
            project: Named::new("p1", "Web shop"),
            database: Named::new("d1", "shop"),
            snapshot: crate::samples::SNAPSHOT_ID.to_owned(),
            at_ms: crate::samples::NOW_MS - 7_200_000,
            collection: "public.products".to_owned(),
            total: 1_204,
            records: vec![
                record("1", "Kettle <steel>", Some("39.00"), "{kitchen,steel}"),
                record("2", "Umbrella", None, "{}"),
                record("3", "", Some("4.50"), "{sale}"),
                long,
            ],
            from_key: String::new(),
            paged: true,
            next_cursor: Some("k4".to_owned()),
            problem: None,
        }
    }
}

/// The whole page.
pub fn page(view: &Records) -> Markup {
    let title = format!("Records of {}", view.collection);
    let base = urls::records(&view.snapshot, &view.collection);
    let next = view.next_cursor.as_ref().map(|c| urls::records_page(&view.snapshot, &view.collection, c));
    let body = html! {
        h1 { code { (view.collection) } }
        p.muted {
            (format::count_of(view.total, "record")) " in the snapshot of " (format::time(view.at_ms, view.shell.now_ms))
        }
        @if let Some(problem) = &view.problem { (alert(problem)) }
        form.row method="get" action=(base) {
            (Field { optional: true, ..Field::code("from_key", "Start from key", &view.from_key) }.render())
            button type="submit" { "Go" }
        }
        section.card {
            @if view.records.is_empty() { p.empty { "No records here." } } @else { (table(view)) }
        }
        (pager(view.paged.then_some(base.as_str()), next.as_deref()))
    };
    let mut crumbs = super::snapshot::crumbs(&view.project, &view.database).to_vec();
    crumbs.push(("Snapshot", urls::snapshot(&view.snapshot)));
    Frame::new(&view.shell, &title, Section::Projects, &crumbs).wide().render(&body)
}

/// The columns of all records of the page, in the order they are met: a table's records agree, but
/// a snapshot taken around a schema change need not.
fn columns(records: &[Record]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in records.iter().flat_map(|record| &record.columns) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names
}

fn table(view: &Records) -> Markup {
    let columns = columns(&view.records);
    let label = format!("Records of {}", view.collection);
    scrolling(
        &label,
        &html! {
            table.grid {
                caption.visually-hidden { (label) " in key order" }
                thead { tr {
                    th.sticky scope="col" { "Key" }
                    @for name in &columns { th scope="col" { (name) } }
                } }
                tbody {
                    @for record in &view.records {
                        tr {
                            th.sticky scope="row" { (record.key) @if record.truncated { div.sub { "shortened" } } }
                            @for name in &columns {
                                td {
                                    @match record.columns.iter().find(|(column, _)| column == name) {
                                        Some((_, text)) => { (value(text.as_deref())) }
                                        None => { span.null { "no such column" } }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        },
    )
}
