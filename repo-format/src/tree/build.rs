//! Building trees from records in key order.
//!
//! [`Leaves`] groups records into leaves, [`LeafRecords::seal`] makes a leaf's bytes and id (work
//! that may run anywhere, in any order), and [`Spine`] makes the levels above from the leaves in
//! order. [`Builder`] is the three together, for callers without threads.

use crate::chunker::{LeafCutter, node_ends};
use crate::error::{Error, Result};
use crate::id::ObjectKind;
use crate::keys::KeySchedule;
use crate::limits;
use crate::record;
use crate::tree::node::{Entry, encode_leaf, encode_node};
use crate::tree::{Root, Sink};

/// The records of one leaf, not yet encoded.
#[derive(Debug, Default)]
pub struct LeafRecords {
    bytes: Vec<u8>,
    places: Vec<Place>,
}

/// Where one record is: its key ends at `key_end`, its value, and so the record, at `end`.
#[derive(Clone, Copy, Debug)]
struct Place {
    key_end: usize,
    end: usize,
    logical_bytes: u64,
}

/// A leaf's content and its place in the level above.
#[derive(Debug)]
pub struct SealedLeaf {
    /// What the level above says of it.
    pub entry: Entry,
    /// Its canonical plaintext.
    pub plaintext: Vec<u8>,
}

impl LeafRecords {
    fn push(&mut self, key: &[u8], value: &[u8], logical_bytes: u64) {
        self.bytes.extend_from_slice(key);
        let key_end = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.places.push(Place { key_end, end: self.bytes.len(), logical_bytes });
    }

    /// Takes the first `len` records away.
    fn take_front(&mut self, len: usize) -> Self {
        let mut rest = self.places.split_off(len);
        let end = self.places.last().map_or(0, |place| place.end);
        for place in &mut rest {
            place.key_end -= end;
            place.end -= end;
        }
        let rest_bytes = self.bytes.split_off(end);
        Self {
            bytes: std::mem::replace(&mut self.bytes, rest_bytes),
            places: std::mem::replace(&mut self.places, rest),
        }
    }

    fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let starts = std::iter::once(0).chain(self.places.iter().map(|place| place.end));
        starts
            .zip(&self.places)
            .map(|(start, place)| (&self.bytes[start..place.key_end], &self.bytes[place.key_end..place.end]))
    }

    /// Bytes of keys and values held.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Encodes and identifies the leaf.
    pub fn seal(&self, keys: &KeySchedule) -> SealedLeaf {
        let plaintext = encode_leaf(self.places.len(), self.iter());
        let entry = Entry {
            last_key: self.iter().last().map(|(key, _)| key.to_vec()).unwrap_or_default(),
            child: keys.object_id(ObjectKind::Leaf, &plaintext),
            records: self.places.len() as u64,
            bytes: self.places.iter().map(|place| place.logical_bytes).sum(),
        };
        SealedLeaf { entry, plaintext }
    }
}

/// Groups records into leaves.
#[derive(Debug)]
pub struct Leaves {
    cutter: LeafCutter,
    /// The records that are in no leaf yet: the newest group is still growing.
    waiting: LeafRecords,
    last_key: Option<Vec<u8>>,
}

impl Leaves {
    /// At the start of a tree, or of a leaf within one.
    pub fn new(keys: &KeySchedule) -> Self {
        Self { cutter: LeafCutter::new(keys), waiting: LeafRecords::default(), last_key: None }
    }

    /// Whether every record pushed has left in a leaf.
    pub fn is_empty(&self) -> bool {
        self.waiting.places.is_empty()
    }

    /// Takes the next record. Fails unless its key is greater than every key before.
    pub fn push(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        if self.last_key.as_deref().is_some_and(|last| last >= key) {
            return Err(Error::Malformed("record stream", "keys do not ascend"));
        }
        if key.len() > limits::KEY + 8 {
            return Err(Error::OverLimit("key length", limits::KEY as u64));
        }
        let logical_bytes = key.len() as u64 + record::logical_len(value)?;
        let last_key = self.last_key.get_or_insert_default();
        last_key.clear();
        last_key.extend_from_slice(key);
        self.cutter.push(key, value.len());
        self.waiting.push(key, value, logical_bytes);
        Ok(())
    }

    /// The next finished leaf, if its end is certain. Call until `None` after each push.
    pub fn next_leaf(&mut self) -> Option<LeafRecords> {
        let len = self.cutter.next_leaf()?;
        Some(self.waiting.take_front(len))
    }

    /// As [`next_leaf`](Self::next_leaf), looking without waiting for more records.
    pub fn decided_leaf(&mut self) -> Option<LeafRecords> {
        let len = self.cutter.decided_leaf()?;
        Some(self.waiting.take_front(len))
    }

    /// The remaining leaves, at the end of the tree. Call until `None`.
    pub fn last_leaf(&mut self) -> Option<LeafRecords> {
        let len = self.cutter.last_leaf()?;
        Some(self.waiting.take_front(len))
    }
}

/// One level of inner nodes under construction.
#[derive(Debug, Default)]
struct Level {
    pending: Vec<Entry>,
    /// Whether a node of this level has been finished.
    cut: bool,
}

/// The levels above the leaves.
#[derive(Debug)]
pub struct Spine {
    keys: KeySchedule,
    /// `levels[0]` makes nodes of level 1.
    levels: Vec<Level>,
}

impl Spine {
    /// No leaves yet.
    pub fn new(keys: &KeySchedule) -> Self {
        Self { keys: keys.clone(), levels: Vec::new() }
    }

    /// Whether a subtree of `level` may be taken whole: no node up to that level is half-made.
    pub(crate) fn is_aligned(&self, level: u8) -> bool {
        self.levels.iter().take(level as usize).all(|level| level.pending.is_empty())
    }

    /// Takes the next leaf (`level` 0), or the next finished subtree of `level`, in key order.
    pub fn push<S: Sink>(&mut self, level: u8, entry: Entry, sink: &mut S) -> Result<(), S::Error> {
        let position = level as usize;
        if self.levels.len() <= position {
            self.levels.resize_with(position + 1, Level::default);
        }
        // A subtree taken whole is a node cut at every level below it.
        self.levels[..position].iter_mut().for_each(|below| below.cut = true);
        let ends = {
            let pending = &mut self.levels[position].pending;
            pending.push(entry);
            let last = pending.last().expect("because it was just pushed");
            node_ends(&self.keys, level + 1, &last.last_key, pending.len())
        };
        if ends { self.flush(position, sink) } else { Ok(()) }
    }

    /// Ends the pending node of a level and hands it to the level above.
    fn flush<S: Sink>(&mut self, position: usize, sink: &mut S) -> Result<(), S::Error> {
        let level = u8::try_from(position + 1).ok().filter(|&level| level <= limits::TREE_LEVEL);
        let level = level.ok_or(Error::OverLimit("tree level", u64::from(limits::TREE_LEVEL)))?;
        let state = &mut self.levels[position];
        state.cut = true;
        let entries = std::mem::take(&mut state.pending);
        let plaintext = encode_node(level, &entries);
        let entry = Entry {
            child: self.keys.object_id(ObjectKind::Node, &plaintext),
            records: entries.iter().map(|entry| entry.records).sum(),
            bytes: entries.iter().map(|entry| entry.bytes).sum(),
            last_key: entries.into_iter().next_back().map(|entry| entry.last_key).unwrap_or_default(),
        };
        sink.store(ObjectKind::Node, entry.child, plaintext)?;
        self.push(level, entry, sink)
    }

    /// Ends the tree. A tree without leaves gets its empty one.
    pub fn finish<S: Sink>(mut self, sink: &mut S) -> Result<Root, S::Error> {
        let mut position = 0;
        while position < self.levels.len() {
            let level = &mut self.levels[position];
            if !level.cut
                && level.pending.len() == 1
                && let Some(entry) = level.pending.pop()
            {
                return Ok(Root {
                    id: entry.child,
                    level: position as u8,
                    records: entry.records,
                    bytes: entry.bytes,
                });
            }
            if !level.pending.is_empty() {
                self.flush(position, sink)?;
            }
            position += 1;
        }
        let empty = LeafRecords::default().seal(&self.keys);
        let root = Root { id: empty.entry.child, level: 0, records: 0, bytes: 0 };
        sink.store(ObjectKind::Leaf, root.id, empty.plaintext)?;
        Ok(root)
    }
}

/// Builds a tree in one thread.
#[derive(Debug)]
pub struct Builder {
    keys: KeySchedule,
    pub(crate) leaves: Leaves,
    pub(crate) spine: Spine,
}

impl Builder {
    /// An empty tree.
    pub fn new(keys: &KeySchedule) -> Self {
        Self { keys: keys.clone(), leaves: Leaves::new(keys), spine: Spine::new(keys) }
    }

    /// Takes the next record. Fails unless its key is greater than every key before.
    pub fn push<S: Sink>(&mut self, key: &[u8], value: &[u8], sink: &mut S) -> Result<(), S::Error> {
        self.leaves.push(key, value)?;
        while let Some(leaf) = self.leaves.next_leaf() {
            self.store(&leaf, sink)?;
        }
        Ok(())
    }

    /// Stores the leaves whose end is certain already, without waiting for more records.
    pub(crate) fn settle<S: Sink>(&mut self, sink: &mut S) -> Result<(), S::Error> {
        while let Some(leaf) = self.leaves.decided_leaf() {
            self.store(&leaf, sink)?;
        }
        Ok(())
    }

    fn store<S: Sink>(&mut self, leaf: &LeafRecords, sink: &mut S) -> Result<(), S::Error> {
        let SealedLeaf { entry, plaintext } = leaf.seal(&self.keys);
        sink.store(ObjectKind::Leaf, entry.child, plaintext)?;
        self.spine.push(0, entry, sink)
    }

    /// Ends the tree.
    pub fn finish<S: Sink>(mut self, sink: &mut S) -> Result<Root, S::Error> {
        while let Some(leaf) = self.leaves.last_leaf() {
            self.store(&leaf, sink)?;
        }
        self.spine.finish(sink)
    }
}
