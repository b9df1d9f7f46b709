//! Where leaves and pieces end.
//!
//! Leaves are cut by FastCDC v2020 over a *surrogate stream*: each record contributes, in place of
//! its own bytes, the first `max(1, ceil(len / 8))` bytes of BLAKE3's extendable output over its
//! key, keyed with the cut key. `len` is the record's length without any prefix compression. So
//! cuts reveal nothing of the content, rows of low entropy are cut as well as any others, and an
//! update that keeps a record's length moves no boundary.
//!
//! A leaf's end is a function of the records from its start on, never of what came before. That is
//! what makes equal content have equal trees, and edits local.

use std::collections::VecDeque;

use fastcdc::v2020::{self, Normalization};

use crate::codec::varint_len;
use crate::keys::KeySchedule;
use crate::limits::{LEAF_AVG, LEAF_MAX, LEAF_MIN, PIECE, SURROGATE_SCALE};

/// The length that a record counts with.
pub fn record_len(key_len: usize, value_len: usize) -> usize {
    varint_len(key_len as u64) + key_len + varint_len(value_len as u64) + value_len
}

/// FastCDC's masks for one intended size, and the same shifted for its two-byte step.
#[derive(Clone, Copy, Debug)]
struct Masks {
    small: u64,
    large: u64,
}

impl Masks {
    fn new(avg: usize) -> Self {
        let (small, large) = v2020::select_masks(avg, Normalization::Level1);
        Self { small, large }
    }
}

/// Decides where leaves end, from the records' keys and lengths alone.
#[derive(Debug)]
pub struct LeafCutter {
    key: [u8; 32],
    masks: Masks,
    /// Surrogate bytes of the records that are in no leaf yet.
    surrogate: Vec<u8>,
    /// For each of those records, where its bytes end, counted from `consumed`.
    ends: VecDeque<usize>,
    /// What the ends are counted from: total bytes drained so far.
    consumed: usize,
}

impl LeafCutter {
    /// A cutter at the start of a leaf.
    pub fn new(keys: &KeySchedule) -> Self {
        Self {
            key: keys.cut.0,
            masks: Masks::new(LEAF_AVG),
            surrogate: Vec::with_capacity(2 * LEAF_MAX),
            ends: VecDeque::new(),
            consumed: 0,
        }
    }

    /// Whether every record pushed is in a leaf already.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Takes the next record.
    pub fn push(&mut self, key: &[u8], value_len: usize) {
        let len = record_len(key.len(), value_len).div_ceil(SURROGATE_SCALE).max(1);
        let start = self.surrogate.len();
        self.surrogate.resize(start + len, 0);
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(key).finalize_xof().fill(&mut self.surrogate[start..]);
        self.ends.push_back(self.consumed + self.surrogate.len());
    }

    /// How many of the oldest records form a leaf, as soon as that is certain without another
    /// look at what follows. Call until `None` after each push.
    pub fn next_leaf(&mut self) -> Option<usize> {
        if self.surrogate.len() < LEAF_MAX { None } else { self.decided_leaf() }
    }

    /// As [`next_leaf`](Self::next_leaf), but looks also when fewer than [`LEAF_MAX`] bytes wait.
    /// For edits, which ask at the end of each old leaf whether the new ones end there too.
    pub fn decided_leaf(&mut self) -> Option<usize> {
        let window = self.surrogate.len().min(LEAF_MAX);
        // The crate leaves the last byte of an odd window untested. Windows that are not the last
        // one of a tree have to test it, so they get one more byte, which is never the answer.
        let cut = if window % 2 == 1 {
            self.surrogate.push(0);
            let cut = self.cut(window + 1);
            self.surrogate.pop();
            cut
        } else {
            self.cut(window)
        };
        if cut < window {
            Some(self.take_through(cut))
        } else if window == LEAF_MAX {
            Some(self.take_through(LEAF_MAX - 1))
        } else {
            None
        }
    }

    /// The last leaves' record counts, at the end of the tree. Call until `None`.
    pub fn last_leaf(&mut self) -> Option<usize> {
        if self.ends.is_empty() {
            return None;
        }
        let window = self.surrogate.len().min(LEAF_MAX);
        let cut = self.cut(window);
        Some(self.take_through(if cut < window { cut } else { window - 1 }))
    }

    fn cut(&self, window: usize) -> usize {
        if window <= LEAF_MIN {
            return window;
        }
        let Masks { small, large } = self.masks;
        let source = &self.surrogate[..window];
        v2020::cut(source, LEAF_MIN, LEAF_AVG, LEAF_MAX, small, large, small << 1, large << 1).1
    }

    /// Ends the leaf with the record that holds surrogate byte `position`.
    fn take_through(&mut self, position: usize) -> usize {
        let limit = self.consumed + position;
        let mut records = 0;
        let mut end = self.consumed;
        while let Some(&next) = self.ends.front() {
            self.ends.pop_front();
            records += 1;
            end = next;
            if end > limit {
                break;
            }
        }
        self.surrogate.drain(..end - self.consumed);
        self.consumed = end;
        records
    }
}

/// Whether an inner node ends after its `len`-th entry, whose last key is `last_key`.
pub fn node_ends(keys: &KeySchedule, level: u8, last_key: &[u8], len: usize) -> bool {
    use crate::limits::{NODE_MAX, NODE_MIN, NODE_ODDS};
    if len < NODE_MIN {
        return false;
    }
    if len >= NODE_MAX {
        return true;
    }
    let mut hasher = blake3::Hasher::new_keyed(&keys.node_cut.0);
    hasher.update(&[level]).update(last_key);
    let hash = hasher.finalize();
    let head = hash.as_bytes().first_chunk().expect("because a hash has 32 bytes");
    u64::from_le_bytes(*head).is_multiple_of(NODE_ODDS)
}

/// Cuts a moved-out value into pieces.
#[derive(Clone, Debug)]
pub struct PieceCutter {
    gear: Box<[u64; 256]>,
    gear_shifted: Box<[u64; 256]>,
    masks: Masks,
}

impl PieceCutter {
    /// The gear table is BLAKE3's extendable output under the gear key, 256 little-endian `u64`.
    pub fn new(keys: &KeySchedule) -> Self {
        let mut bytes = [0; 2048];
        blake3::Hasher::new_keyed(&keys.gear.0).finalize_xof().fill(&mut bytes);
        let mut gear = Box::new([0; 256]);
        for (entry, chunk) in gear.iter_mut().zip(bytes.chunks_exact(8)) {
            *entry = u64::from_le_bytes(chunk.try_into().expect("because chunks have 8 bytes"));
        }
        let gear_shifted = Box::new(gear.map(|entry| entry << 1));
        Self { gear, gear_shifted, masks: Masks::new(PIECE.1) }
    }

    /// The length of the piece at the start of `rest`, which must reach to the end of the value or
    /// hold at least 256 KiB. An empty value is one empty piece.
    pub fn piece(&self, rest: &[u8]) -> usize {
        let (min, avg, max) = PIECE;
        if rest.len() <= min {
            return rest.len();
        }
        let Masks { small, large } = self.masks;
        let (gear, shifted) = (&self.gear[..], &self.gear_shifted[..]);
        v2020::cut_gear(rest, min, avg, max, small, large, small << 1, large << 1, gear, shifted).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::RootKey;

    fn keys() -> KeySchedule {
        KeySchedule::new(RootKey::new([0; 32]))
    }

    fn leaves(cutter: &mut LeafCutter, records: impl Iterator<Item = (Vec<u8>, usize)>) -> Vec<usize> {
        let mut out = Vec::new();
        for (key, value_len) in records {
            cutter.push(&key, value_len);
            out.extend(std::iter::from_fn(|| cutter.next_leaf()));
        }
        out.extend(std::iter::from_fn(|| cutter.last_leaf()));
        out
    }

    #[test]
    fn looking_early_decides_nothing_else() {
        // The early look is what edits rely on; every boundary it finds must be one of the plain
        // walk, also for windows of odd length.
        let records: Vec<_> =
            (0u32..4000).map(|n| (n.to_be_bytes().to_vec(), 40 + n as usize % 97)).collect();
        let plain = leaves(&mut LeafCutter::new(&keys()), records.iter().cloned());
        let mut cutter = LeafCutter::new(&keys());
        let mut early = Vec::new();
        for (key, value_len) in &records {
            cutter.push(key, *value_len);
            early.extend(std::iter::from_fn(|| cutter.decided_leaf()));
        }
        early.extend(std::iter::from_fn(|| cutter.last_leaf()));
        assert_eq!(early, plain);
        assert!(plain.len() > 10);
    }

    #[test]
    fn a_record_over_the_largest_leaf_is_a_leaf() {
        let records = [(b"a".to_vec(), 100), (b"b".to_vec(), 600_000), (b"c".to_vec(), 100)];
        let counts = leaves(&mut LeafCutter::new(&keys()), records.into_iter());
        assert_eq!(counts.iter().sum::<usize>(), 3);
    }

    #[test]
    fn leaves_have_the_intended_size() {
        let records = (0u64..40_000).map(|n| (n.to_be_bytes().to_vec(), 160));
        let counts = leaves(&mut LeafCutter::new(&keys()), records);
        let mean = 40_000 * record_len(8, 160) / counts.len();
        assert!((14_000..26_000).contains(&mean), "mean leaf of {mean} bytes");
    }
}
