//! The changed records of one collection.

mod documents;
mod rows;

use maud::{Markup, html};

use super::{
    Named,
    diff::{Side, direction, in_field_order},
};
use crate::{
    components::{
        Problem, alert,
        change::{ChangeKind, Counts},
        system::System,
        table::pager,
        warning,
    },
    format,
    layout::{Frame, Section, Shell},
    urls::{self, ChangesQuery},
};

pub use documents::{Difference, DocumentChange, Step};
pub use rows::{Change, Row, Window};

/// The changes of a page, in key order.
#[derive(Clone, Debug)]
pub enum ChangeList {
    /// Of a table.
    Rows(Vec<Change>),
    /// Of a collection.
    Documents(Vec<DocumentChange>),
}

impl ChangeList {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Rows(rows) => rows.is_empty(),
            Self::Documents(documents) => documents.is_empty(),
        }
    }
}

/// What makes of an older state a newer one.
#[derive(Clone, Debug)]
pub enum Of {
    /// A comparison.
    Comparison {
        /// Its id.
        id: String,
        /// The first side, A.
        from: Side,
        /// The second side, B.
        to: Side,
    },
    /// A restore in place that is planned.
    Restore {
        /// Its id.
        id: String,
        /// The snapshot's database.
        database: Named,
        /// Host, port and database of the target.
        target: String,
    },
}

impl Of {
    fn base(&self, collection: &str) -> String {
        match self {
            Self::Comparison { id, .. } => urls::changes(id, collection),
            Self::Restore { id, .. } => urls::restore_changes(id, collection),
        }
    }
}

/// A page of changes.
#[derive(Clone, Debug)]
pub struct Changes {
    /// The frame.
    pub shell: Shell,
    /// Where it belongs.
    pub project: Named,
    /// What the changes are of.
    pub of: Of,
    /// Of which system both sides are.
    pub system: System,
    /// The collection.
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
    /// The columns one can filter by; of documents, top-level fields, and those of other pages too.
    pub columns: Vec<String>,
    /// Whether all columns are shown, not only the changed ones.
    pub all_columns: bool,
    /// The changes of this page, in key order.
    pub changes: ChangeList,
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
        let [from, to] = Side::samples();
        Self {
            shell: Shell::sample(),
            project: Named::new("p1", "Web shop"),
            of: Of::Comparison { id: "f1".to_owned(), from, to },
            system: System::PostgreSql,
            collection: "public.orders".to_owned(),
            counts: Counts { added: 211, removed: 2, changed: 38, unchanged: 47_950, order_only: 0 },
            schema_changes: vec!["column discount numeric(5,2) added".to_owned()],
            rekeyed: None,
            kind: None,
            column: None,
            columns: ["id", "customer_id", "status", "total", "note"].map(str::to_owned).to_vec(),
            all_columns: false,
            changes: ChangeList::Rows(Change::samples()),
            cursor: None,
            next_cursor: Some("k48202".to_owned()),
            problem: None,
        }
    }

    /// What a restore in place would change.
    pub fn sample_restore() -> Self {
        let of = Of::Restore {
            id: "r1".to_owned(),
            database: Named::new("d1", "shop"),
            target: "localhost:5432/shop".to_owned(),
        };
        Self { of, schema_changes: Vec::new(), ..Self::sample() }
    }

    /// Documents of two snapshots.
    pub fn sample_documents() -> Self {
        Self {
            system: System::MongoDb,
            collection: "shop.orders".to_owned(),
            counts: Counts { added: 12, removed: 1, changed: 40, unchanged: 8_104, order_only: 31 },
            schema_changes: vec!["index placed_at_1 added".to_owned()],
            columns: ["customer", "lines", "qty", "status", "tags"].map(str::to_owned).to_vec(),
            changes: ChangeList::Documents(DocumentChange::samples()),
            ..Self::sample()
        }
    }

    /// All columns, only modified records.
    pub fn sample_all_columns() -> Self {
        let mut view = Self { all_columns: true, kind: Some(ChangeKind::Changed), ..Self::sample() };
        if let ChangeList::Rows(rows) = &mut view.changes {
            rows.retain(|change| change.kind == ChangeKind::Changed);
        }
        view
    }

    /// A filter that nothing matches.
    pub fn sample_none() -> Self {
        Self {
            changes: ChangeList::Rows(Vec::new()),
            next_cursor: None,
            column: Some("note".to_owned()),
            ..Self::sample()
        }
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
            changes: ChangeList::Rows(Vec::new()),
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
        urls::changes_at(self.of.base(&self.collection), query)
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
        @match &view.of {
            Of::Comparison { from, to, .. } => (direction(from, to, view.shell.now_ms)),
            Of::Restore { target, .. } => p {
                "What the restore into " code { (target) } " would write: from what is there now to what the snapshot holds."
            }
        }
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
    let (database, section, parent) = match &view.of {
        Of::Comparison { id, to, .. } => (&to.database, Section::Projects, ("Comparison", urls::diff(id))),
        Of::Restore { id, database, .. } => (database, Section::Restores, ("Restore", urls::restore(id))),
    };
    let mut crumbs = super::snapshot::crumbs(&view.project, database).to_vec();
    crumbs.push(parent);
    Frame::new(&view.shell, &format!("Changes of {}", view.collection), section, &crumbs).wide().render(&body)
}

fn records(view: &Changes) -> Markup {
    html! {
        section.card {
            (tabs(view))
            (filters(view))
            @if view.changes.is_empty() {
                p.empty { "No change matches. " a href=(view.of.base(&view.collection)) { "Show all changes" } }
            } @else {
                (list(view))
            }
        }
    }
}

fn list(view: &Changes) -> Markup {
    let label = format!("Changes of {}", view.collection);
    match &view.changes {
        ChangeList::Rows(changes) => rows::table(&label, changes, view.all_columns),
        ChangeList::Documents(changes) => documents::list(&label, changes),
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
    html! {
        div.filters {
            form.inline method="get" action=(view.of.base(&view.collection)) {
                @if let Some(kind) = view.kind { input type="hidden" name="kind" value=(kind.as_str()); }
                @if view.all_columns { input type="hidden" name="show" value="all"; }
                @match view.system {
                    System::PostgreSql => { (column_choice(view)) }
                    System::MongoDb => { (field_choice(view)) }
                }
                button.small type="submit" { "Filter" }
            }
            @match view.system {
                System::PostgreSql => { (column_toggle(view)) }
                System::MongoDb if view.counts.order_only > 0 => {
                    span.muted { (in_field_order(view.counts.order_only)) }
                }
                System::MongoDb => {}
            }
        }
    }
}

fn column_choice(view: &Changes) -> Markup {
    html! {
        label for="column" { "Changed column" }
        select #column name="column" {
            option value="" { "Any" }
            @for name in &view.columns {
                option value=(name) selected[view.column.as_deref() == Some(name)] { (name) }
            }
        }
    }
}

/// Any document may have any field, so there is no list to choose from, only names to begin with.
fn field_choice(view: &Changes) -> Markup {
    html! {
        label for="column" { "Changed field" }
        input #column.code type="text" name="column" list="fields" value=[view.column.as_deref()]
            placeholder="any" autocomplete="off" spellcheck="false" autocapitalize="none";
        datalist #fields { @for name in &view.columns { option value=(name) {} } }
    }
}

fn column_toggle(view: &Changes) -> Markup {
    let toggled =
        ChangesQuery { all_columns: !view.all_columns, cursor: view.cursor.as_deref(), ..view.query() };
    html! {
        a href=(view.url(&toggled)) {
            (if view.all_columns { "Show only the key and changed columns" } else { "Show all columns" })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rekeyed_table_has_a_reason_in_place_of_counts() {
        let html = page(&Changes::sample_rekeyed()).into_string();
        assert!(html.contains("Not compared.") && html.contains("it was (id)"), "{html}");
        assert!(!html.contains("No change matches") && !html.contains("Kinds of change"), "{html}");
    }

    #[test]
    fn documents_are_filtered_by_any_field() {
        let view = Changes { column: Some("a \"b\"".to_owned()), ..Changes::sample_documents() };
        let html = page(&view).into_string();
        assert!(
            html.contains(r#"value="a &quot;b&quot;""#) && html.contains("31 only in field order"),
            "{html}"
        );
        assert!(!html.contains("Show all columns"), "{html}");
    }
}
