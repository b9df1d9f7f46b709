//! Looking into a snapshot: its collections and their records.

use repo_format::catalog::CollectionKind;
use repo_format::tree;
use serde::{Deserialize, Serialize};

use crate::catalog;
use crate::error::Result;
use crate::repo::{Repository, Snapshot};
use crate::rows::{self, Content, Page, PageRequest, Shown};

/// One collection, as lists show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectionSummary {
    /// `schema.table`, quoted as in SQL where needed, or `database.collection`.
    pub name: String,
    /// "table", "partitioned table", "large objects", "collection", "capped collection",
    /// "time series" or "view".
    pub kind: String,
    /// Records in it.
    pub records: u64,
    /// Logical bytes of its records.
    pub logical_bytes: u64,
    /// The root of its tree, in hexadecimal. Equal roots mean equal data, within one project.
    pub root: String,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Opaque and URL-safe; names the record in a restore's scope.
    pub id: String,
    /// The key in words.
    pub key: String,
    /// What it holds.
    pub content: Content,
    /// Whether a value was cut to what is shown.
    pub truncated: bool,
}

/// The collections of a snapshot, by name.
pub async fn collections(repo: &Repository, snapshot: &Snapshot) -> Result<Vec<CollectionSummary>> {
    let collections = catalog::collections(repo, snapshot).await?;
    let summary = |found: catalog::Cataloged| CollectionSummary {
        name: found.display_name(),
        kind: match found.descriptor.layout.kind {
            CollectionKind::Table => "table",
            CollectionKind::PartitionedTable => "partitioned table",
            CollectionKind::LargeObjects => "large objects",
            CollectionKind::Collection => "collection",
            CollectionKind::CappedCollection => "capped collection",
            CollectionKind::TimeSeries => "time series",
            CollectionKind::View => "view",
        }
        .to_owned(),
        records: found.descriptor.records,
        logical_bytes: found.descriptor.logical_bytes,
        root: found.descriptor.data_root.to_string(),
    };
    Ok(collections.into_iter().map(summary).collect())
}

/// One page of a collection's records in key order.
pub async fn records(
    repo: &Repository,
    snapshot: &Snapshot,
    collection: &str,
    page: &PageRequest,
) -> Result<Page<Record>> {
    let found = catalog::collection(repo, snapshot, collection).await?;
    let start = rows::start_key(page, &found.descriptor.layout, repo.keys().row())?;
    let after_start = page.cursor.is_some();
    let limit = page.limit.max(1);
    repo.with_reader(move |reader| {
        let layout = &found.descriptor.layout;
        let mut cursor = tree::Cursor::new(&found.root(), start.as_deref());
        let mut items = Vec::new();
        let mut last = None;
        while let Some((key, value)) = cursor.next(reader)? {
            if after_start && start.as_deref() == Some(key.as_slice()) {
                continue;
            }
            if items.len() == limit {
                return Ok(Page { items, next_cursor: last });
            }
            let id = rows::encode_id(&key);
            let Shown { key, content, truncated } = rows::shown(layout, &key, &value, reader)?;
            last = Some(id.clone());
            items.push(Record { id, key, content, truncated });
        }
        Ok(Page { items, next_cursor: None })
    })
    .await
}
