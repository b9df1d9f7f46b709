//! Differences as pages show them.

use engine::diff;
use web::components::change::{ChangeKind, Counts};
use web::pages::{changes, diff as page};

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
    }
}

/// A changed record.
pub fn change(change: diff::Change) -> changes::Change {
    changes::Change {
        kind: match change.kind {
            diff::ChangeKind::Added => ChangeKind::Added,
            diff::ChangeKind::Removed => ChangeKind::Removed,
            diff::ChangeKind::Changed => ChangeKind::Changed,
        },
        key: change.key,
        old: change.old,
        new: change.new,
        columns: change.columns,
        truncated: change.truncated,
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
