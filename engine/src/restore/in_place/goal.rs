//! What a table is to hold: the tree that its own, read again, has to be.

use repo_format::keys::KeySchedule;
use repo_format::tree::Root;

use super::fit::Member;
use crate::catalog::Cataloged;
use crate::error::{Error, Kind, Result};
use crate::ingest::Output;
use crate::patch::{Edit, edit_tree, numbered};
use crate::repo::ObjectReader;
use crate::restore::records::{Ids, distinct, is_multiset, with_key};

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
    let is_multiset = is_multiset(snapshot);
    let mut edits = Vec::new();
    for key in distinct(ids, is_multiset) {
        let wanted = with_key(&root, &key, is_multiset, reader)?;
        let there = with_key(live, &key, is_multiset, reader)?;
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
        let there = with_key(live, &key, member.is_multiset(), reader)?;
        for part in std::iter::once(&key).chain(&there) {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part);
        }
        bytes.extend_from_slice(&(there.len() as u64).to_be_bytes());
    }
    Ok(keys.row().hash(&bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}
