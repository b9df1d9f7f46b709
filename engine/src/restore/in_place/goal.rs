//! What a table is to hold: the tree that its own, read again, has to be.

use repo_format::catalog::KeySource;
use repo_format::keys::KeySchedule;
use repo_format::tree::{self, Cursor, Root};

use super::fit::{Ids, Member};
use crate::catalog::Cataloged;
use crate::error::{Error, Kind, Result};
use crate::ingest::Output;
use crate::patch::{Edit, edit_tree, numbered};
use crate::repo::ObjectReader;

/// Length of the key of a row without one; an ordinal follows it in further copies.
pub(super) const ROW_KEY: usize = 32;
const ORDINAL: usize = size_of::<u64>();

/// The goal of a restore for a table that holds `live`: the snapshot's rows, or the live ones with those
/// in scope as the snapshot has them.
pub(super) fn of_restore(
    member: &Member,
    live: &Root,
    keys: &KeySchedule,
    reader: &mut ObjectReader,
    output: Output,
) -> Result<Root> {
    let Some(ids) = &member.chosen.ids else { return Ok(member.chosen.cataloged.root()) };
    let edits = selected(&member.chosen.cataloged, ids, live, reader)?;
    edit_tree(keys, live, edits, reader, output)
}

/// What makes the chosen records of `live` those of the snapshot. Of rows without a key all copies are
/// exchanged together: there is nothing that tells one from another.
fn selected(snapshot: &Cataloged, ids: &Ids, live: &Root, reader: &mut ObjectReader) -> Result<Vec<Edit>> {
    let root = snapshot.root();
    let is_multiset = snapshot.descriptor.layout.key.source == KeySource::Multiset;
    let mut edits = Vec::new();
    for key in distinct(ids, is_multiset) {
        let (wanted, there) = match is_multiset {
            true => (copies(&root, &key, reader)?, copies(live, &key, reader)?),
            false => (single(&root, &key, reader)?, single(live, &key, reader)?),
        };
        if wanted.is_empty() && there.is_empty() {
            let message = format!(
                "{} has a record of this scope in neither the snapshot nor the target",
                snapshot.display_name()
            );
            return Err(Error::new(Kind::NotFound, message)
                .with_help("Take the ids from the lists of records or of changes, as they are."));
        }
        let ordinals = 0..wanted.len().max(there.len()) as u64;
        let mut wanted = wanted.into_iter();
        edits.extend(ordinals.map(|ordinal| (numbered(&key, ordinal), wanted.next())));
    }
    Ok(edits)
}

/// The records of a scope in what a table holds, hashed: whether they changed since is all there is to ask.
pub(super) fn standing_of_selected(
    member: &Member,
    ids: &Ids,
    live: &Root,
    keys: &KeySchedule,
    reader: &mut ObjectReader,
) -> Result<String> {
    let mut bytes = Vec::new();
    for key in distinct(ids, member.is_multiset()) {
        let there = match member.is_multiset() {
            true => copies(live, &key, reader)?,
            false => single(live, &key, reader)?,
        };
        for part in std::iter::once(&key).chain(&there) {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part);
        }
        bytes.extend_from_slice(&(there.len() as u64).to_be_bytes());
    }
    Ok(keys.row().hash(&bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Keys as the table has them, without ordinals.
fn distinct(ids: &Ids, is_multiset: bool) -> Ids {
    ids.iter().map(|id| base(id, is_multiset).to_vec()).collect()
}

/// The key that a record shares with its copies.
pub(super) fn base(key: &[u8], is_multiset: bool) -> &[u8] {
    if is_multiset { &key[..key.len().min(ROW_KEY)] } else { key }
}

fn single(root: &Root, key: &[u8], reader: &mut ObjectReader) -> Result<Vec<Vec<u8>>> {
    Ok(tree::get(root, key, reader)?.into_iter().collect())
}

fn copies(root: &Root, base: &[u8], reader: &mut ObjectReader) -> Result<Vec<Vec<u8>>> {
    let mut cursor = Cursor::new(root, Some(base));
    let mut records = Vec::new();
    while let Some((key, record)) = cursor.next(reader)? {
        if key != base && !(key.starts_with(base) && key.len() == base.len() + ORDINAL) {
            break;
        }
        records.push(record);
    }
    Ok(records)
}

/// A collection as it is cataloged, with another tree.
pub(super) fn with_root(cataloged: &Cataloged, root: &Root) -> Cataloged {
    let mut cataloged = cataloged.clone();
    let descriptor = &mut cataloged.descriptor;
    (descriptor.data_root, descriptor.level) = (root.id, root.level);
    (descriptor.records, descriptor.logical_bytes) = (root.records, root.bytes);
    cataloged
}
