//! Single records of a collection, by key.

use std::collections::BTreeSet;

use repo_format::catalog::{CollectionKind, KeySource};
use repo_format::tree::{self, Cursor, Root};

use crate::catalog::Cataloged;
use crate::error::{Error, Kind, Result};
use crate::ingest::Output;
use crate::patch::{ORDINAL, numbered};
use crate::repo::{ObjectReader, Repository};

/// Keys of single records.
pub(super) type Ids = BTreeSet<Vec<u8>>;

/// Length of the key of a row without one; an ordinal follows it in further copies.
const ROW_KEY: usize = 32;

/// Whether equal records are told apart by nothing but their number.
pub(super) fn is_multiset(found: &Cataloged) -> bool {
    found.descriptor.layout.key.source == KeySource::Multiset
}

/// The key that a record shares with its copies.
pub(super) fn base(key: &[u8], is_multiset: bool) -> &[u8] {
    if is_multiset { &key[..key.len().min(ROW_KEY)] } else { key }
}

/// Keys as the collection has them, without ordinals.
pub(super) fn distinct(ids: &Ids, is_multiset: bool) -> Ids {
    ids.iter().map(|id| base(id, is_multiset).to_vec()).collect()
}

/// The records of a tree that have the key: one, or all copies of it.
pub(super) fn with_key(
    root: &Root,
    key: &[u8],
    is_multiset: bool,
    reader: &mut ObjectReader,
) -> Result<Vec<Vec<u8>>> {
    if !is_multiset {
        return Ok(tree::get(root, key, reader)?.into_iter().collect());
    }
    let mut cursor = Cursor::new(root, Some(key));
    let mut records = Vec::new();
    while let Some((found, record)) = cursor.next(reader)? {
        if found != key && !(found.starts_with(key) && found.len() == key.len() + ORDINAL) {
            break;
        }
        records.push(record);
    }
    Ok(records)
}

/// A collection as if it held these records alone. Objects of its tree that the repository has not go to
/// `output`.
pub(super) async fn only(
    repo: &Repository,
    found: Cataloged,
    ids: Ids,
    mut output: Output,
) -> Result<Cataloged> {
    if matches!(found.descriptor.layout.kind, CollectionKind::CappedCollection | CollectionKind::LargeObjects)
    {
        let message = format!(
            "single records of {} cannot be restored: they make sense together",
            found.display_name()
        );
        return Err(Error::new(Kind::Unsupported, message).with_help("Restore all of it."));
    }
    let keys = repo.keys().clone();
    repo.with_reader(move |reader| {
        let (root, is_multiset) = (found.root(), is_multiset(&found));
        let mut builder = tree::Builder::new(&keys);
        for key in distinct(&ids, is_multiset) {
            let records = with_key(&root, &key, is_multiset, reader)?;
            if records.is_empty() {
                let message = format!("{} has no record of that id", found.display_name());
                return Err(Error::new(Kind::NotFound, message)
                    .with_help("Take the ids from its list of records, as they are."));
            }
            for (ordinal, record) in (0..).zip(&records) {
                builder.push(&numbered(&key, ordinal), record, &mut output)?;
            }
        }
        Ok(with_root(&found, &builder.finish(&mut output)?))
    })
    .await
}

/// A collection as it is cataloged, with another tree.
pub(super) fn with_root(cataloged: &Cataloged, root: &Root) -> Cataloged {
    let mut cataloged = cataloged.clone();
    let descriptor = &mut cataloged.descriptor;
    (descriptor.data_root, descriptor.level) = (root.id, root.level);
    (descriptor.records, descriptor.logical_bytes) = (root.records, root.bytes);
    cataloged
}
