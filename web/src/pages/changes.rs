//! The changed records of one table.

use maud::{Markup, html};

use super::{
    Named,
    diff::{Side, direction},
};
use crate::{
    components::{
        Problem, alert,
        change::{self, ChangeKind, Counts},
        table::{pager, scrolling, value},
        warning,
    },
    format,
    layout::{Frame, Section, Shell},
    urls::{self, ChangesQuery},
};

/// Column names and texts of one side of a record; none for NULL.
pub type Row = Vec<(String, Option<String>)>;

/// A changed record.
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
    /// Whether a value was too long to show whole.
    pub truncated: bool,
}

/// A page of changes.
#[derive(Clone, Debug)]
pub struct Changes {
    /// The frame.
    pub shell: Shell,
    /// Where it belongs.
    pub project: Named,
    /// The comparison.
    pub diff: String,
    /// The first side, A.
    pub from: Side,
    /// The second side, B.
    pub to: Side,
    /// The table.
    pub collection: String,
    /// How many records changed in all.
    pub counts: Counts,
    /// What changed in its schema.
    pub schema_changes: Vec<String>,
    /// Why its records cannot be compared one by one: another key was chosen.
    pub rekeyed: Option<String>,
    /// Only this kind.
    pub kind: Option<ChangeKind>,
    /// Only changes of this column.
    pub column: Option<String>,
    /// The columns one can filter by.
    pub columns: Vec<String>,
    /// Whether all columns are shown, not only the changed ones.
    pub all_columns: bool,
    /// The changes of this page, in key order.
    pub changes: Vec<Change>,
    /// Where this page starts, if not at the first change.
    pub cursor: Option<String>,
    /// Where the next one starts.
    pub next_cursor: Option<String>,
    /// Why the filter was not understood.
    pub problem: Option<Problem>,
}

impl Changes {
    /// One change of each kind.
    pub fn sample() -> Self {
        let row = |id: &str, status: &str, total: Option<&str>, note: &str| -> Row {
            vec![
                ("id".to_owned(), Some(id.to_owned())),
                ("customer_id".to_owned(), Some("8812".to_owned())),
                ("status".to_owned(), Some(status.to_owned())),
                ("total".to_owned(), total.map(str::to_owned)),
                ("note".to_owned(), Some(note.to_owned())),
            ]
        };
        let changed = |columns: &[&str], old: Row, new: Row| Change {
            kind: ChangeKind::Changed,
            key: format!("({})", old[0].1.as_deref().unwrap_or_default()),
            old: Some(old),
            new: Some(new),
            columns: columns.iter().map(|c| (*c).to_owned()).collect(),
            truncated: false,
        };
        let [from, to] = Side::samples();
        Self {
            shell: Shell::sample(),
            project: Named::new("p1", "Web shop"),
            diff: "f1".to_owned(),
            from,
            to,
            collection: "public.orders".to_owned(),
            counts: Counts { added: 211, removed: 2, changed: 38, unchanged: 47_950 },
            schema_changes: vec!["column discount numeric(5,2) added".to_owned()],
            rekeyed: None,
            kind: None,
            column: None,
            columns: ["id", "customer_id", "status", "total", "note"].map(str::to_owned).to_vec(),
            all_columns: false,
            changes: vec![
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
                Change {
                    kind: ChangeKind::Removed,
                    key: "(1031)".to_owned(),
                    old: Some(row("1031", "cancelled", Some("5.00"), "")),
                    new: None,
                    columns: Vec::new(),
                    truncated: false,
                },
                Change {
                    kind: ChangeKind::Added,
                    key: "(48202)".to_owned(),
                    old: None,
                    new: Some(row("48202", "pending", Some("249.90"), "gift")),
                    columns: Vec::new(),
                    truncated: true,
                },
            ],
            cursor: None,
            next_cursor: Some("k48202".to_owned()),
            problem: None,
        }
    }

    /// All columns, only modified records.
    pub fn sample_all_columns() -> Self {
        let mut view = Self { all_columns: true, kind: Some(ChangeKind::Changed), ..Self::sample() };
        view.changes.retain(|change| change.kind == ChangeKind::Changed);
        view
    }

    /// A filter that nothing matches.
    pub fn sample_none() -> Self {
        Self { changes: Vec::new(), next_cursor: None, column: Some("note".to_owned()), ..Self::sample() }
    }

    /// A table with another key than before.
    pub fn sample_rekeyed() -> Self {
        let reason =
            "The primary key is now (sku, region), it was (id): records cannot be matched one by one.";
        Self {
            collection: "public.products".to_owned(),
            counts: Counts::default(),
            rekeyed: Some(reason.to_owned()),
            schema_changes: Vec::new(),
            changes: Vec::new(),
            next_cursor: None,
            ..Self::sample()
        }
    }

    fn query(&self) -> ChangesQuery<'_> {
        ChangesQuery {
            kind: self.kind.map(ChangeKind::as_str),
            column: self.column.as_deref(),
            all_columns: self.all_columns,
            cursor: None,
        }
    }

    fn url(&self, query: &ChangesQuery<'_>) -> String {
        urls::changes_query(&self.diff, &self.collection, query)
    }

    /// The value columns of the table: all, or in the short form those that differ in some record of
    /// the page. Where no record was modified, every value is new or gone, so all are shown.
    fn shown_columns(&self) -> Vec<&str> {
        let mut shown: Vec<&str> = Vec::new();
        let modified = self.changes.iter().flat_map(|change| &change.columns);
        if !self.is_wide() {
            for name in modified {
                if !shown.contains(&name.as_str()) {
                    shown.push(name);
                }
            }
            return shown;
        }
        for change in &self.changes {
            // The newer side's order first: that is the table as it is now.
            for (name, _) in change.new.iter().chain(&change.old).flatten() {
                if !shown.contains(&name.as_str()) {
                    shown.push(name);
                }
            }
        }
        shown
    }

    fn is_wide(&self) -> bool {
        self.all_columns || !self.changes.iter().any(|change| change.kind == ChangeKind::Changed)
    }
}

/// The whole page.
pub fn page(view: &Changes) -> Markup {
    let first = view.cursor.is_some().then(|| view.url(&view.query()));
    let next = view
        .next_cursor
        .as_deref()
        .map(|cursor| view.url(&ChangesQuery { cursor: Some(cursor), ..view.query() }));
    let body = html! {
        h1 { code { (view.collection) } }
        (direction(&view.from, &view.to, view.shell.now_ms))
        @if let Some(problem) = &view.problem { (alert(problem)) }
        @if !view.schema_changes.is_empty() {
            div.notice {
                p { strong { "Schema changed" } }
                ul { @for change in &view.schema_changes { li { (change) } } }
            }
        }
        @if let Some(reason) = &view.rekeyed {
            (warning(&html! { p { strong { "Not compared." } " " (reason) } }))
        } @else {
            (records(view))
        }
        (pager(first.as_deref(), next.as_deref()))
        p.muted.keys hidden data-keys { kbd { "n" } " next change, " kbd { "p" } " previous" }
    };
    let mut crumbs = super::snapshot::crumbs(&view.project, &view.to.database).to_vec();
    crumbs.push(("Comparison", urls::diff(&view.diff)));
    Frame::new(&view.shell, &format!("Changes of {}", view.collection), Section::Projects, &crumbs)
        .wide()
        .render(&body)
}

fn records(view: &Changes) -> Markup {
    html! {
        section.card {
            (tabs(view))
            (filters(view))
            @if view.changes.is_empty() {
                p.empty { "No change matches. " a href=(urls::changes(&view.diff, &view.collection)) { "Show all changes" } }
            } @else {
                (table(view))
            }
        }
    }
}

fn tabs(view: &Changes) -> Markup {
    let kinds = std::iter::once(None).chain(ChangeKind::ALL.map(Some));
    html! {
        nav.tabs aria-label="Kinds of change" {
            @for kind in kinds {
                @let n = kind.map_or_else(|| view.counts.differing(), |kind| view.counts.of(kind));
                @let query = ChangesQuery { kind: kind.map(ChangeKind::as_str), ..view.query() };
                a href=(view.url(&query)) aria-current=[(view.kind == kind).then_some("page")] {
                    (kind.map_or("All", ChangeKind::name)) " " span.badge { (format::count(n)) }
                }
            }
        }
    }
}

fn filters(view: &Changes) -> Markup {
    let toggled =
        ChangesQuery { all_columns: !view.all_columns, cursor: view.cursor.as_deref(), ..view.query() };
    html! {
        div.filters {
            form.inline method="get" action=(urls::changes(&view.diff, &view.collection)) {
                @if let Some(kind) = view.kind { input type="hidden" name="kind" value=(kind.as_str()); }
                @if view.all_columns { input type="hidden" name="show" value="all"; }
                label for="column" { "Changed column" }
                select #column name="column" {
                    option value="" { "Any" }
                    @for name in &view.columns {
                        option value=(name) selected[view.column.as_deref() == Some(name)] { (name) }
                    }
                }
                button.small type="submit" { "Filter" }
            }
            a href=(view.url(&toggled)) {
                (if view.all_columns { "Show only the key and changed columns" } else { "Show all columns" })
            }
        }
    }
}

fn table(view: &Changes) -> Markup {
    let columns = view.shown_columns();
    let label = format!("Changes of {}", view.collection);
    scrolling(
        &label,
        &html! {
            table.grid.changes {
                caption.visually-hidden { (label) ", in key order" }
                thead { tr {
                    th scope="col" { "Change" }
                    th.sticky scope="col" { "Key" }
                    @for name in &columns { th scope="col" { (name) } }
                } }
                tbody {
                    @for change in &view.changes {
                        tr.(change.kind.as_str()) data-change tabindex="-1" {
                            td { (change::label(change.kind)) }
                            th.sticky scope="row" { (change.key) @if change.truncated { div.sub { "shortened" } } }
                            (cells(change, &columns, view.is_wide()))
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
            (Some(old), Some(new)) if differs => td.differs { (change::cell(old, new, short)) },
            (None, Some(new)) => td.differs { (one_sided(ChangeKind::Added, Some(new))) },
            (Some(old), None) => td.differs { (one_sided(ChangeKind::Removed, Some(old))) },
            (_, Some(same)) => td.same { (value(same)) },
            (None, None) => td.same {},
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
    fn the_short_form_shows_only_columns_that_differ_somewhere() {
        assert_eq!(Changes::sample().shown_columns(), ["status", "total", "note"]);
        let all = Changes::sample_all_columns();
        assert_eq!(all.shown_columns(), ["id", "customer_id", "status", "total", "note"]);
    }

    #[test]
    fn a_page_without_modified_records_shows_all_columns() {
        let mut view = Changes::sample();
        view.changes.retain(|change| change.kind == ChangeKind::Added);
        assert_eq!(view.shown_columns(), ["id", "customer_id", "status", "total", "note"]);
    }

    #[test]
    fn a_rekeyed_table_has_a_reason_in_place_of_counts() {
        let html = page(&Changes::sample_rekeyed()).into_string();
        assert!(html.contains("Not compared.") && html.contains("it was (id)"), "{html}");
        assert!(!html.contains("No change matches") && !html.contains("Kinds of change"), "{html}");
    }

    #[test]
    fn an_unchanged_cell_is_not_marked() {
        let view = Changes::sample_all_columns();
        let html = cells(&view.changes[0], &["customer_id", "status"], true).into_string();
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
            truncated: false,
        };
        let html = cells(&change, &["a", "b"], true).into_string();
        assert!(html.contains("<del><span class=\"value\">1</span></del>"), "{html}");
        assert!(html.contains("<ins><span class=\"value\">2</span></ins>"), "{html}");
    }
}
