//! The bytes of leaves and inner nodes.
//!
//! Both begin with the level (one byte) and the number of entries (varint). Keys are written as
//! the length they share with the key before (varint, always as long as possible), the length of
//! the rest (varint), and the rest.
//!
//! | leaf entry | inner entry |
//! |---|---|
//! | key | last key below the child |
//! | value length (varint) | child id (32 bytes) |
//! | value | records below (varint) |
//! | | logical bytes below (varint) |

use std::ops::Range;

use crate::codec::{Cursor, put_varint};
use crate::error::{Error, Result};
use crate::id::ObjectId;
use crate::limits;

/// Longest key in a tree: a bounded key and an ordinal.
const MAX_KEY: usize = limits::KEY + 8;

/// One child of an inner node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The greatest key below the child.
    pub last_key: Vec<u8>,
    /// The child.
    pub child: ObjectId,
    /// Records below the child.
    pub records: u64,
    /// Logical bytes below the child.
    pub bytes: u64,
}

/// An inner node, read and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its level, 1 or more.
    pub level: u8,
    /// Its children in key order; never none.
    pub entries: Vec<Entry>,
}

/// A leaf, read and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// All keys, one after the other, each in full.
    keys: Vec<u8>,
    /// The leaf's plaintext, which holds the values.
    plaintext: Vec<u8>,
    /// Per record, where its key and its value are.
    places: Vec<(Range<usize>, Range<usize>)>,
}

/// Appends keys, each relative to the one before.
#[derive(Debug, Default)]
struct KeyWriter {
    previous: Vec<u8>,
}

impl KeyWriter {
    fn put(&mut self, out: &mut Vec<u8>, key: &[u8]) {
        let shared = shared_prefix(&self.previous, key);
        put_varint(out, shared as u64);
        put_varint(out, (key.len() - shared) as u64);
        out.extend_from_slice(&key[shared..]);
        self.previous.truncate(shared);
        self.previous.extend_from_slice(&key[shared..]);
    }
}

fn shared_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Appends the next key to `keys`, where `previous` lies; checks that it is greater and that its
/// prefix is as long as possible, so that a node has one spelling.
fn read_key(cursor: &mut Cursor<'_>, keys: &mut Vec<u8>, previous: Range<usize>, first: bool) -> Result<()> {
    let shared = cursor.bounded(previous.len())?;
    // `previous` was held to the same limit, so `shared` is within it.
    let rest_len = cursor.bounded(MAX_KEY - shared)?;
    let rest = cursor.take(rest_len)?;
    let after_shared = keys.get(previous.start + shared..previous.end).and_then(|tail| tail.first());
    let greater = match (after_shared, rest.first()) {
        (None, None) => first,
        (None, Some(_)) => true,
        (Some(_), None) => false,
        (Some(old), Some(new)) => old < new,
    };
    if !greater {
        return Err(cursor.malformed("keys do not ascend, or a prefix is too short"));
    }
    keys.extend_from_within(previous.start..previous.start + shared);
    keys.extend_from_slice(rest);
    Ok(())
}

/// The plaintext of a leaf. Keys must ascend strictly.
pub fn encode_leaf<'a>(len: usize, records: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Vec<u8> {
    let mut out = vec![0];
    put_varint(&mut out, len as u64);
    let mut keys = KeyWriter::default();
    for (key, value) in records {
        keys.put(&mut out, key);
        put_varint(&mut out, value.len() as u64);
        out.extend_from_slice(value);
    }
    out
}

/// The plaintext of an inner node. Last keys must ascend strictly.
pub fn encode_node(level: u8, entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(entries.len() * 56);
    out.push(level);
    put_varint(&mut out, entries.len() as u64);
    let mut keys = KeyWriter::default();
    for entry in entries {
        keys.put(&mut out, &entry.last_key);
        out.extend_from_slice(&entry.child.0);
        put_varint(&mut out, entry.records);
        put_varint(&mut out, entry.bytes);
    }
    out
}

impl Node {
    /// Reads an inner node that must be of `level`.
    pub fn parse(plaintext: &[u8], level: u8) -> Result<Self> {
        let mut cursor = Cursor::new(plaintext, "node");
        if cursor.byte()? != level || level == 0 || level > limits::TREE_LEVEL {
            return Err(Error::Malformed("node", "it has another level"));
        }
        let len = cursor.bounded(limits::NODE_MAX)?;
        if len == 0 {
            return Err(Error::Malformed("node", "it has no children"));
        }
        let mut entries = Vec::with_capacity(len);
        let (mut keys, mut previous) = (Vec::new(), 0..0);
        for position in 0..len {
            let start = keys.len();
            read_key(&mut cursor, &mut keys, previous, position == 0)?;
            previous = start..keys.len();
            entries.push(Entry {
                last_key: keys[previous.clone()].to_vec(),
                child: ObjectId(cursor.array()?),
                records: cursor.varint()?,
                bytes: cursor.varint()?,
            });
        }
        cursor.finish()?;
        Ok(Self { level, entries })
    }
}

impl Leaf {
    /// Reads a leaf.
    pub fn parse(plaintext: Vec<u8>) -> Result<Self> {
        let mut cursor = Cursor::new(&plaintext, "leaf");
        if cursor.byte()? != 0 {
            return Err(Error::Malformed("leaf", "it has another level"));
        }
        // An entry takes three bytes at least, which bounds what is set aside for a false count.
        let len = cursor.bounded(plaintext.len() / 3)?;
        let mut keys = Vec::new();
        let mut places: Vec<(Range<usize>, Range<usize>)> = Vec::with_capacity(len);
        for position in 0..len {
            let start = keys.len();
            let previous = places.last().map_or(0..0, |(key, _)| key.clone());
            read_key(&mut cursor, &mut keys, previous, position == 0)?;
            let value_len = cursor.bounded(limits::FRAME)?;
            let value_start = plaintext.len() - cursor.remaining();
            cursor.take(value_len)?;
            places.push((start..keys.len(), value_start..value_start + value_len));
        }
        cursor.finish()?;
        Ok(Self { keys, plaintext, places })
    }

    /// Records in the leaf.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none: only the empty tree has such a leaf.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The record at `position`, as (key, value).
    pub fn record(&self, position: usize) -> Option<(&[u8], &[u8])> {
        let (key, value) = self.places.get(position)?;
        Some((&self.keys[key.clone()], &self.plaintext[value.clone()]))
    }

    /// The records in key order.
    pub fn records(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.places.iter().map(|(key, value)| (&self.keys[key.clone()], &self.plaintext[value.clone()]))
    }

    /// The position of the first record whose key is at least `key`.
    pub fn lower_bound(&self, key: &[u8]) -> usize {
        self.places.partition_point(|(place, _)| &self.keys[place.clone()] < key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_have_one_spelling() {
        let records: [(&[u8], &[u8]); 3] = [(b"a", b"1"), (b"ab", b""), (b"b", b"22")];
        let bytes = encode_leaf(3, records.into_iter());
        let leaf = Leaf::parse(bytes.clone()).unwrap();
        assert!(leaf.records().eq(records));
        assert_eq!(leaf.lower_bound(b"aa"), 1);
        // The second key with a shorter prefix than it could have.
        let longer = [&bytes[..7], &[0, 2, b'a', b'b'], &bytes[10..]].concat();
        assert!(Leaf::parse(longer).is_err());
        // Keys that do not ascend.
        assert!(Leaf::parse(encode_leaf(2, [(&b"b"[..], &b""[..]), (b"a", b"")].into_iter())).is_err());
        assert!(Leaf::parse(encode_leaf(2, [(&b"a"[..], &b""[..]), (b"a", b"")].into_iter())).is_err());
    }
}
