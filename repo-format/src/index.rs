//! Index files: where objects are.
//!
//! The plaintext of an index is the number of packs (varint) and for each its id (16 bytes), its
//! file's length (varint), and its directory as in the pack's footer. It is sealed as the named
//! file it is. Several index files may say the same; together they are the index.

use crate::codec::{Cursor, put_varint};
use crate::error::Result;
use crate::id::PackId;
use crate::limits;
use crate::pack::{MAGIC, PackedObject, parse_directory, write_directory};

/// What an index says of one pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexedPack {
    /// Which pack.
    pub id: PackId,
    /// Length of the pack's file.
    pub len: u64,
    /// Its objects in file order.
    pub objects: Vec<PackedObject>,
}

/// The plaintext of an index file.
pub fn encode(packs: &[IndexedPack]) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, packs.len() as u64);
    for pack in packs {
        out.extend_from_slice(&pack.id.0);
        put_varint(&mut out, pack.len);
        write_directory(&mut out, &pack.objects);
    }
    out
}

/// Reads an index file.
pub fn parse(plaintext: &[u8]) -> Result<Vec<IndexedPack>> {
    let mut cursor = Cursor::new(plaintext, "index");
    let count = cursor.bounded(limits::INDEX_ENTRIES)?;
    let mut packs = Vec::with_capacity(count.min(cursor.remaining() / 18));
    for _ in 0..count {
        let (id, len) = (PackId(cursor.array()?), cursor.varint()?);
        packs.push(IndexedPack { id, len, objects: parse_directory(&mut cursor, MAGIC.len() as u32)? });
    }
    cursor.finish()?;
    Ok(packs)
}
