//! The records of one collection as a snapshot holds them, paged by key.

use maud::{Markup, html};

use super::Named;
use crate::{
    components::{
        Problem, alert, document,
        form::Field,
        table::{pager, scrolling, value},
    },
    format, json,
    layout::{Frame, Section, Shell},
    urls,
};

/// What a record holds.
#[derive(Clone, Debug)]
pub enum Content {
    /// Columns in order: name and text, none for NULL.
    Row(Vec<(String, Option<String>)>),
    /// Canonical Extended JSON.
    Document(String),
}

/// A record.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its opaque id.
    pub id: String,
    /// Its key, readable.
    pub key: String,
    /// What it holds.
    pub content: Content,
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
    /// Whether a single record can be restored.
    pub may_restore: bool,
    /// The next page.
    pub next_cursor: Option<String>,
    /// Why the key was not understood.
    pub problem: Option<Problem>,
}

impl Records {
    /// A page of a small table.
    pub fn sample() -> Self {
        let record = |id: &str, name: &str, price: Option<&str>, tags: &str| Record {
            id: format!("k{id}"),
            key: format!("({id})"),
            content: Content::Row(vec![
                ("id".to_owned(), Some(id.to_owned())),
                ("name".to_owned(), Some(name.to_owned())),
                ("price".to_owned(), price.map(str::to_owned)),
                ("tags".to_owned(), Some(tags.to_owned())),
                ("updated_at".to_owned(), Some("2026-03-14 13:02:11.420117+00".to_owned())),
            ]),
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
            may_restore: true,
            next_cursor: Some("k4".to_owned()),
            problem: None,
        }
    }
}

impl Records {
    /// Documents.
    pub fn sample_documents() -> Self {
        let record = |key: &str, text: &str| Record {
            id: "k".to_owned(),
            key: key.to_owned(),
            content: Content::Document(text.to_owned()),
            truncated: false,
        };
        let long = format!(
            r#"{{"_id":"export","title":"Catalogue <2026>","summary":"{}","body":{{"$truncated":4194311}}}}"#,
            "Kettles, umbrellas. ".repeat(40)
        );
        Self {
            collection: "shop.orders".to_owned(),
            total: 8_157,
            records: vec![
                record("65f0c0ffee65f0c0ffee65f0", crate::samples::ORDER),
                record(
                    "65f0c0ffee65f0c0ffee65f1",
                    r#"{"_id":{"$oid":"65f0c0ffee65f0c0ffee65f1"},"status":"paid","total":{"$numberDecimal":"80.00"},"lines":[]}"#,
                ),
                record("7", r#"{"_id":{"$numberInt":"7"}}"#),
                Record { truncated: true, ..record("export", &long) },
            ],
            paged: false,
            may_restore: true,
            next_cursor: Some("k7".to_owned()),
            ..Self::sample()
        }
    }

    fn are_documents(&self) -> bool {
        self.records.iter().any(|record| matches!(record.content, Content::Document(_)))
    }
}

/// The whole page.
pub fn page(view: &Records) -> Markup {
    let title = format!("Records of {}", view.collection);
    let base = urls::records(&view.snapshot, &view.collection);
    let next = view.next_cursor.as_ref().map(|c| urls::records_page(&view.snapshot, &view.collection, c));
    let start = if view.are_documents() { "Start from _id" } else { "Start from key" };
    let body = html! {
        h1 { code { (view.collection) } }
        p.muted {
            (format::count_of(view.total, "record")) " in the snapshot of " (format::time(view.at_ms, view.shell.now_ms))
        }
        @if let Some(problem) = &view.problem { (alert(problem)) }
        form.row method="get" action=(base) {
            (Field { optional: true, ..Field::code("from_key", start, &view.from_key) }.render())
            button type="submit" { "Go" }
        }
        section.card {
            @if view.records.is_empty() {
                p.empty { "No records here." }
            } @else if view.are_documents() {
                (documents(view))
            } @else {
                (table(view))
            }
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
    for (name, _) in records.iter().flat_map(cells) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names
}

fn cells(record: &Record) -> &[(String, Option<String>)] {
    match &record.content {
        Content::Row(cells) => cells,
        Content::Document(_) => &[],
    }
}

/// One line each, which unfolds.
fn documents(view: &Records) -> Markup {
    // So few are there to be read, not to be searched.
    let open = view.records.len() <= 3;
    html! {
        ul.documents aria-label=(format!("Records of {} in the order of _id", view.collection)) {
            @for record in &view.records {
                @if let Content::Document(text) = &record.content {
                    li {
                        details open[open] {
                            summary {
                                code.key { (record.key) }
                                @if record.truncated { " " span.tag { "shortened" } }
                                span.preview { (json::preview(text)) }
                            }
                            (document::whole(&record.key, text, record.truncated))
                            @if view.may_restore { p { (restore(view, record)) } }
                        }
                    }
                }
            }
        }
    }
}

/// The way to restore a record by itself.
fn restore(view: &Records, record: &Record) -> Markup {
    html! {
        a href=(urls::restore_record(&view.snapshot, &view.collection, &record.id)) {
            "Restore" span.visually-hidden { " " (record.key) }
        }
    }
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
                    @if view.may_restore { th scope="col" { span.visually-hidden { "Restore" } } }
                } }
                tbody {
                    @for record in &view.records {
                        tr {
                            th.sticky scope="row" { (record.key) @if record.truncated { div.sub { "shortened" } } }
                            @for name in &columns {
                                td {
                                    @match cells(record).iter().find(|(column, _)| column == name) {
                                        Some((_, text)) => { (value(text.as_deref())) }
                                        None => { span.null { "no such column" } }
                                    }
                                }
                            }
                            @if view.may_restore {
                                td { (restore(view, record)) }
                            }
                        }
                    }
                }
            }
        },
    )
}
