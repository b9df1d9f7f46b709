//! Changed rows: a table of the columns that differ, cell by cell.

use maud::{Markup, html};

use crate::{
    components::{
        change::{self, ChangeKind},
        table::{scrolling, value},
    },
    format,
};

/// Column names and texts of one side of a record; none for NULL.
pub type Row = Vec<(String, Option<String>)>;

/// The surroundings of the first difference between two long values.
#[derive(Clone, Debug)]
pub struct Window {
    /// The column.
    pub column: String,
    /// Bytes from the beginning to the difference; none when it is farther in than was looked.
    pub differs_at: Option<u64>,
    /// Where the texts below begin.
    pub starts_at: u64,
    /// Bytes of the older value.
    pub old_size_bytes: u64,
    /// Bytes of the newer value.
    pub new_size_bytes: u64,
    /// A part of the older value.
    pub old: String,
    /// The same part of the newer value.
    pub new: String,
}

/// A changed row.
#[derive(Clone, Debug)]
pub struct Change {
    /// What happened to it.
    pub kind: ChangeKind,
    /// Its key, readable.
    pub key: String,
    /// As A has it.
    pub old: Option<Row>,
    /// As B has it.
    pub new: Option<Row>,
    /// The columns whose values differ.
    pub columns: Vec<String>,
    /// Of those, columns of JSON in which only white space differs.
    pub reformatted: Vec<String>,
    /// Of those, columns with a long value: what stands around the first difference.
    pub windows: Vec<Window>,
    /// Whether a value was too long to show whole.
    pub truncated: bool,
}

impl Change {
    /// One of each kind.
    pub fn samples() -> Vec<Self> {
        let row = |id: &str, status: &str, total: Option<&str>, note: &str| -> Row {
            vec![
                ("id".to_owned(), Some(id.to_owned())),
                ("customer_id".to_owned(), Some("8812".to_owned())),
                ("status".to_owned(), Some(status.to_owned())),
                ("total".to_owned(), total.map(str::to_owned)),
                ("note".to_owned(), Some(note.to_owned())),
            ]
        };
        let changed = |columns: &[&str], old: Row, new: Row| Self {
            kind: ChangeKind::Changed,
            key: format!("({})", old[0].1.as_deref().unwrap_or_default()),
            old: Some(old),
            new: Some(new),
            columns: columns.iter().map(|c| (*c).to_owned()).collect(),
            reformatted: Vec::new(),
            windows: Vec::new(),
            truncated: false,
        };
        vec![
            changed(
                &["status"],
                row("1007", "pending", Some("80.00"), ""),
                row("1007", "paid", Some("80.00"), ""),
            ),
            changed(
                &["total", "note"],
                row("1012", "paid", None, "Please deliver to the neighbour on the left, after 18:00"),
                row(
                    "1012",
                    "paid",
                    Some("12.50"),
                    "Please deliver to the neighbour on the right, after 18:00",
                ),
            ),
            Self {
                kind: ChangeKind::Removed,
                key: "(1031)".to_owned(),
                old: Some(row("1031", "cancelled", Some("5.00"), "")),
                new: None,
                columns: Vec::new(),
                reformatted: Vec::new(),
                windows: Vec::new(),
                truncated: false,
            },
            Self {
                kind: ChangeKind::Added,
                key: "(48202)".to_owned(),
                old: None,
                new: Some(row("48202", "pending", Some("249.90"), "gift")),
                columns: Vec::new(),
                reformatted: Vec::new(),
                windows: Vec::new(),
                truncated: true,
            },
        ]
    }
}

/// The value columns of the table: all, or in the short form those that differ in some row of the
/// page. Where no row was modified, every value is new or gone, so all are shown.
fn shown_columns(changes: &[Change], all: bool) -> Vec<&str> {
    let mut shown: Vec<&str> = Vec::new();
    let modified = changes.iter().flat_map(|change| &change.columns);
    if !is_wide(changes, all) {
        for name in modified {
            if !shown.contains(&name.as_str()) {
                shown.push(name);
            }
        }
        return shown;
    }
    for change in changes {
        // The newer side's order first: that is the table as it is now.
        for (name, _) in change.new.iter().chain(&change.old).flatten() {
            if !shown.contains(&name.as_str()) {
                shown.push(name);
            }
        }
    }
    shown
}

fn is_wide(changes: &[Change], all: bool) -> bool {
    all || !changes.iter().any(|change| change.kind == ChangeKind::Changed)
}

/// The rows of a page. `all` shows every column, and not only those that differ.
pub(super) fn table(label: &str, changes: &[Change], all: bool) -> Markup {
    let columns = shown_columns(changes, all);
    let wide = is_wide(changes, all);
    scrolling(
        label,
        &html! {
            table.grid.changes {
                caption.visually-hidden { (label) ", in key order" }
                thead { tr {
                    th scope="col" { "Change" }
                    th.sticky scope="col" { "Key" }
                    @for name in &columns { th scope="col" { (name) } }
                } }
                tbody {
                    @for change in changes {
                        tr.(change.kind.as_str()) data-change tabindex="-1" {
                            td { (change::label(change.kind)) }
                            th.sticky scope="row" { (change.key) @if change.truncated { div.sub { "shortened" } } }
                            (cells(change, &columns, wide))
                        }
                    }
                }
            }
        },
    )
}

fn cells(change: &Change, columns: &[&str], wide: bool) -> Markup {
    match (&change.old, &change.new) {
        (Some(old), Some(new)) => html! {
            @for name in columns { (changed_cell(change, name, old, new, !wide)) }
        },
        (Some(row), None) | (None, Some(row)) if !wide => html! {
            td.whole colspan=(columns.len()) { (whole_record(change.kind, row)) }
        },
        (Some(row), None) | (None, Some(row)) => html! {
            @for name in columns { td { (one_sided(change.kind, find(row, name))) } }
        },
        (None, None) => html! {},
    }
}

fn find<'a>(row: &'a Row, name: &str) -> Option<Option<&'a str>> {
    row.iter().find(|(column, _)| column == name).map(|(_, text)| text.as_deref())
}

fn changed_cell(change: &Change, name: &str, old: &Row, new: &Row, short: bool) -> Markup {
    let differs = change.columns.iter().any(|column| column == name);
    html! {
        @match (find(old, name), find(new, name)) {
            (Some(old), Some(new)) if differs => td.differs {
                @match change.windows.iter().find(|window| window.column == name) {
                    Some(window) => { (surroundings(window, short)) }
                    None => { (change::cell(old, new, short)) }
                }
                @if change.reformatted.iter().any(|column| column == name) {
                    " " span.tag { "formatting only" }
                }
            },
            (None, Some(new)) => td.differs { (one_sided(ChangeKind::Added, Some(new))) },
            (Some(old), None) => td.differs { (one_sided(ChangeKind::Removed, Some(old))) },
            (_, Some(same)) => td.same { (value(same)) },
            (None, None) => td.same {},
        }
    }
}

/// Where two long values differ first, and how long they are. People count bytes from 1, as SQL does.
fn surroundings(window: &Window, short: bool) -> Markup {
    let sizes = [window.old_size_bytes, window.new_size_bytes].map(format::bytes);
    html! {
        @match window.differs_at {
            Some(_) => { (change::cell(Some(&window.old), Some(&window.new), short)) }
            None => { (value(Some(&window.old))) }
        }
        div.sub {
            @match window.differs_at {
                Some(at) => { "First difference at byte " (format::count(at + 1)) ". " }
                None => { "The difference is farther in than is looked. " }
            }
            @if window.starts_at > 0 { "Shown from byte " (format::count(window.starts_at + 1)) ". " }
            "The value has " (sizes[0]) @if window.old_size_bytes != window.new_size_bytes { ", then " (sizes[1]) } "."
        }
    }
}

/// A value that only one side has. Outer none: the side has no such column.
fn one_sided(kind: ChangeKind, text: Option<Option<&str>>) -> Markup {
    html! {
        @if let Some(text) = text {
            @match kind {
                ChangeKind::Removed => del { (value(text)) },
                ChangeKind::Added | ChangeKind::Changed => ins { (value(text)) },
            }
        }
    }
}

/// All values of an added or deleted record in one cell, where the table only has the columns that
/// differ in modified ones.
fn whole_record(kind: ChangeKind, row: &Row) -> Markup {
    html! {
        dl.whole-record {
            @for (name, text) in row {
                div { dt { (name) } dd { (one_sided(kind, Some(text.as_deref()))) } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_in_another_format_is_called_that() {
        let mut changes = Change::samples();
        assert!(!table("orders", &changes, false).into_string().contains("formatting only"));
        changes[1].reformatted = vec!["note".to_owned()];
        let html = table("orders", &changes, false).into_string();
        assert_eq!(html.matches("formatting only").count(), 1, "{html}");
    }

    #[test]
    fn a_long_value_is_shown_around_its_first_difference() {
        let mut changes = Change::samples();
        changes[1].windows = vec![Window {
            column: "note".to_owned(),
            differs_at: Some(70_000),
            starts_at: 69_488,
            old_size_bytes: 80_000,
            new_size_bytes: 80_001,
            old: "the same and the left".to_owned(),
            new: "the same and the right".to_owned(),
        }];
        let html = table("orders", &changes, false).into_string();
        assert!(html.contains("First difference at byte 70,001. Shown from byte 69,489."), "{html}");
        assert!(html.contains("<mark>left</mark>") && !html.contains("neighbour"), "{html}");
    }

    #[test]
    fn the_short_form_shows_only_columns_that_differ_somewhere() {
        let all = Change::samples();
        assert_eq!(shown_columns(&all, false), ["status", "total", "note"]);
        assert_eq!(shown_columns(&all, true), ["id", "customer_id", "status", "total", "note"]);
    }

    #[test]
    fn a_page_without_modified_rows_shows_all_columns() {
        let mut changes = Change::samples();
        changes.retain(|change| change.kind == ChangeKind::Added);
        assert_eq!(shown_columns(&changes, false), ["id", "customer_id", "status", "total", "note"]);
    }

    #[test]
    fn an_unchanged_cell_is_not_marked() {
        let html = cells(&Change::samples()[0], &["customer_id", "status"], true).into_string();
        assert_eq!(html.matches("td class=\"differs\"").count(), 1);
        assert!(html.starts_with("<td class=\"same\"><span class=\"value\">8812</span></td>"), "{html}");
    }

    #[test]
    fn a_column_that_only_one_side_has_is_marked_on_that_side() {
        let change = Change {
            kind: ChangeKind::Changed,
            key: "(1)".to_owned(),
            old: Some(vec![("a".to_owned(), Some("1".to_owned()))]),
            new: Some(vec![("b".to_owned(), Some("2".to_owned()))]),
            columns: vec!["a".to_owned(), "b".to_owned()],
            reformatted: Vec::new(),
            windows: Vec::new(),
            truncated: false,
        };
        let html = cells(&change, &["a", "b"], true).into_string();
        assert!(html.contains("<del><span class=\"value\">1</span></del>"), "{html}");
        assert!(html.contains("<ins><span class=\"value\">2</span></ins>"), "{html}");
    }
}
