//! Comparing two trees by comparing hashes.
//!
//! Both trees are walked in key order. Where both fronts are the same subtree it is passed
//! unopened, whatever its height in either tree; otherwise the taller front is opened, or both
//! when they are of one level. The cost is that of the changed leaves and the paths to them.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use crate::id::ObjectId;
use crate::tree::read::{Frontier, Head};
use crate::tree::{Lookup, Root, kind_of_level};

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Only the newer tree has the key.
    Added {
        /// The key.
        key: Vec<u8>,
        /// Its value in the newer tree.
        new: Vec<u8>,
    },
    /// Only the older tree has the key.
    Removed {
        /// The key.
        key: Vec<u8>,
        /// Its value in the older tree.
        old: Vec<u8>,
    },
    /// Both have the key, with different values.
    Changed {
        /// The key.
        key: Vec<u8>,
        /// Its value in the older tree.
        old: Vec<u8>,
        /// Its value in the newer tree.
        new: Vec<u8>,
    },
}

impl Change {
    /// The key that differs.
    pub fn key(&self) -> &[u8] {
        match self {
            Self::Added { key, .. } | Self::Removed { key, .. } | Self::Changed { key, .. } => key,
        }
    }
}

/// How many records differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Only in the newer tree.
    pub added: u64,
    /// Only in the older tree.
    pub removed: u64,
    /// In both, with different values.
    pub changed: u64,
}

/// The differences of two trees in key order.
#[derive(Debug)]
pub struct Diff {
    old: Frontier,
    new: Frontier,
    start: Option<Vec<u8>>,
    every_pair: bool,
}

/// What the two fronts call for.
enum Step {
    /// The same subtree on both sides: pass it.
    SkipBoth,
    /// Open one side, or both.
    Open { old: bool, new: bool },
    /// The front of the older tree is gone in the newer one.
    Removed,
    /// The front of the newer tree is not in the older one.
    Added,
    /// Records with one key on both sides.
    Pair,
    /// Both trees are passed.
    End,
}

/// How many subtrees are announced at a time.
const LOOK_AHEAD: usize = 256;

impl Diff {
    /// The differences from `old` to `new`, from the first key that is at least `start`.
    pub fn new(old: &Root, new: &Root, start: Option<&[u8]>) -> Self {
        let start = start.map(<[u8]>::to_vec);
        Self { old: Frontier::new(old), new: Frontier::new(new), start, every_pair: false }
    }

    /// As [`new`](Self::new), but nothing is taken for equal: every key that both trees have is told
    /// as changed, for a caller to whom equal bytes mean different things on the two sides. Reads
    /// both trees whole.
    pub fn every_pair(old: &Root, new: &Root, start: Option<&[u8]>) -> Self {
        Self { every_pair: true, ..Self::new(old, new, start) }
    }

    /// The next difference.
    pub fn next<L: Lookup>(&mut self, lookup: &mut L) -> Result<Option<Change>, L::Error> {
        self.begin(lookup)?;
        loop {
            match self.step() {
                Step::SkipBoth => self.skip_both(),
                Step::Open { old, new } => self.open(old, new, lookup)?,
                // A whole subtree that one side lacks is still opened: its records are asked for.
                Step::Removed => match self.old.head() {
                    Head::Record(key, value) => {
                        let change = Change::Removed { key: key.to_vec(), old: value.to_vec() };
                        self.old.skip();
                        return Ok(Some(change));
                    }
                    _ => self.open(true, false, lookup)?,
                },
                Step::Added => match self.new.head() {
                    Head::Record(key, value) => {
                        let change = Change::Added { key: key.to_vec(), new: value.to_vec() };
                        self.new.skip();
                        return Ok(Some(change));
                    }
                    _ => self.open(false, true, lookup)?,
                },
                Step::Pair => {
                    let change = self.pair();
                    self.skip_both();
                    if change.is_some() {
                        return Ok(change);
                    }
                }
                Step::End => return Ok(None),
            }
        }
    }

    /// Counts the remaining differences. Subtrees that one side lacks are counted unopened.
    pub fn count<L: Lookup>(mut self, lookup: &mut L) -> Result<Counts, L::Error> {
        self.begin(lookup)?;
        let mut counts = Counts::default();
        loop {
            match self.step() {
                Step::SkipBoth => self.skip_both(),
                Step::Open { old, new } => self.open(old, new, lookup)?,
                Step::Removed => {
                    counts.removed += records_at(&self.old.head());
                    self.old.skip();
                }
                Step::Added => {
                    counts.added += records_at(&self.new.head());
                    self.new.skip();
                }
                Step::Pair => {
                    counts.changed += u64::from(self.pair().is_some());
                    self.skip_both();
                }
                Step::End => return Ok(counts),
            }
        }
    }

    fn begin<L: Lookup>(&mut self, lookup: &mut L) -> Result<(), L::Error> {
        if let Some(start) = self.start.take() {
            // Equal trees need no path to the start.
            if matches!(self.step(), Step::SkipBoth) {
                self.skip_both();
            } else {
                self.old.seek(&start, lookup)?;
                self.new.seek(&start, lookup)?;
            }
        }
        Ok(())
    }

    fn step(&self) -> Step {
        match (self.old.head(), self.new.head()) {
            (Head::End, Head::End) => Step::End,
            (_, Head::End) => Step::Removed,
            (Head::End, _) => Step::Added,
            (Head::Subtree(old), Head::Subtree(new)) => match old.level.cmp(&new.level) {
                Ordering::Equal if old.id == new.id && !self.every_pair => Step::SkipBoth,
                Ordering::Equal => Step::Open { old: true, new: true },
                Ordering::Greater => Step::Open { old: true, new: false },
                Ordering::Less => Step::Open { old: false, new: true },
            },
            (Head::Subtree(old), Head::Record(key, _)) => match &old.last_key {
                Some(last_key) if last_key.as_slice() < key => Step::Removed,
                _ => Step::Open { old: true, new: false },
            },
            (Head::Record(key, _), Head::Subtree(new)) => match &new.last_key {
                Some(last_key) if last_key.as_slice() < key => Step::Added,
                _ => Step::Open { old: false, new: true },
            },
            (Head::Record(old, _), Head::Record(new, _)) => match old.cmp(new) {
                Ordering::Less => Step::Removed,
                Ordering::Greater => Step::Added,
                Ordering::Equal => Step::Pair,
            },
        }
    }

    fn pair(&self) -> Option<Change> {
        match (self.old.head(), self.new.head()) {
            (Head::Record(key, old), Head::Record(_, new)) if old != new || self.every_pair => {
                Some(Change::Changed { key: key.to_vec(), old: old.to_vec(), new: new.to_vec() })
            }
            _ => None,
        }
    }

    fn skip_both(&mut self) {
        self.old.skip();
        self.new.skip();
    }

    fn open<L: Lookup>(&mut self, old: bool, new: bool, lookup: &mut L) -> Result<(), L::Error> {
        let opens_node = [(old, &self.old), (new, &self.new)].iter().any(|(opens, side)| {
            *opens && matches!(side.head(), Head::Subtree(subtree) if subtree.level > 0)
        });
        if old {
            self.old.open(lookup)?;
        }
        if new {
            self.new.open(lookup)?;
        }
        if opens_node {
            self.announce(lookup);
        }
        Ok(())
    }

    /// Tells the lookup which of the next subtrees are on one side only: those will be opened.
    fn announce<L: Lookup>(&self, lookup: &mut L) {
        let ids = |side: &Frontier| -> BTreeSet<ObjectId> {
            side.upcoming().take(2 * LOOK_AHEAD).map(|subtree| subtree.id).collect()
        };
        let (in_old, in_new) = (ids(&self.old), ids(&self.new));
        let wanted: Vec<_> = (self.old.upcoming().take(LOOK_AHEAD).filter(|next| !in_new.contains(&next.id)))
            .chain(self.new.upcoming().take(LOOK_AHEAD).filter(|next| !in_old.contains(&next.id)))
            .map(|next| (kind_of_level(next.level), next.id))
            .collect();
        lookup.expect(&wanted);
    }
}

fn records_at(head: &Head<'_>) -> u64 {
    match head {
        Head::Record(..) => 1,
        Head::Subtree(subtree) => subtree.records,
        Head::End => 0,
    }
}
