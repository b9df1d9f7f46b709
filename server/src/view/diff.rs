//! Differences as pages show them.

use engine::diff;
use engine::rows::{Content, Row};
use web::components::change::{ChangeKind, Counts};
use web::pages::changes::{self, ChangeList, DocumentChange};
use web::pages::diff as page;

use super::document;

/// The tables of a summary; the engine has sorted them by impact.
pub fn rows(summary: &diff::Summary) -> Vec<page::CollectionRow> {
    summary.collections.iter().map(row).collect()
}

/// One table of a summary.
pub fn row(collection: &diff::CollectionDiff) -> page::CollectionRow {
    page::CollectionRow {
        name: collection.name.clone(),
        status: match collection.status {
            diff::Status::Added => page::Status::Added,
            diff::Status::Removed => page::Status::Removed,
            diff::Status::Changed => page::Status::Changed,
            diff::Status::Unchanged => page::Status::Unchanged,
        },
        counts: counts(&collection.records),
        schema_changes: collection.schema_changes.clone(),
        rekeyed: collection.rekeyed.clone(),
    }
}

/// How many records of each kind.
pub fn counts(counts: &diff::Counts) -> Counts {
    Counts {
        added: counts.added,
        removed: counts.removed,
        changed: counts.changed,
        unchanged: counts.unchanged,
        order_only: counts.order_only,
    }
}

/// The changes of a page. Those of one collection are all of rows or all of documents.
pub fn changes(changes: Vec<diff::Change>) -> ChangeList {
    let sides = |change: &diff::Change| [change.old.clone(), change.new.clone()].into_iter().flatten().next();
    match changes.first().and_then(sides) {
        Some(Content::Document(_)) => {
            ChangeList::Documents(changes.into_iter().map(document_change).collect())
        }
        _ => ChangeList::Rows(changes.into_iter().map(row_change).collect()),
    }
}

fn row_change(change: diff::Change) -> changes::Change {
    changes::Change {
        kind: kind(change.kind),
        key: change.key,
        old: change.old.and_then(cells),
        new: change.new.and_then(cells),
        columns: change.columns,
        reformatted: change.reformatted,
        windows: change.windows.into_iter().map(window).collect(),
        truncated: change.truncated,
    }
}

fn window(window: diff::Window) -> changes::Window {
    changes::Window {
        column: window.column,
        differs_at: window.differs_at,
        starts_at: window.starts_at,
        old_size_bytes: window.old_size_bytes,
        new_size_bytes: window.new_size_bytes,
        old: window.old,
        new: window.new,
    }
}

fn cells(content: Content) -> Option<Row> {
    match content {
        Content::Row(row) => Some(row),
        Content::Document(_) => None,
    }
}

fn document_change(change: diff::Change) -> DocumentChange {
    let (old, new) = (change.old.and_then(json), change.new.and_then(json));
    let differences = match (&old, &change.patch) {
        (Some(old), Some(patch)) => document::differences(old, patch),
        _ => None,
    };
    DocumentChange {
        kind: kind(change.kind),
        key: change.key,
        old,
        new,
        differences,
        fields: change.columns,
        order_only: change.order_only,
        truncated: change.truncated,
    }
}

fn json(content: Content) -> Option<String> {
    match content {
        Content::Document(json) => Some(json),
        Content::Row(_) => None,
    }
}

fn kind(kind: diff::ChangeKind) -> ChangeKind {
    match kind {
        diff::ChangeKind::Added => ChangeKind::Added,
        diff::ChangeKind::Removed => ChangeKind::Removed,
        diff::ChangeKind::Changed => ChangeKind::Changed,
    }
}

/// A kind of change as the engine filters by it.
pub fn filter(kind: ChangeKind) -> diff::ChangeKind {
    match kind {
        ChangeKind::Added => diff::ChangeKind::Added,
        ChangeKind::Removed => diff::ChangeKind::Removed,
        ChangeKind::Changed => diff::ChangeKind::Changed,
    }
}
