//! Reading trees: one record, or records in key order from any key.

use crate::id::ObjectId;
use crate::tree::node::{Entry, Leaf, Node};
use crate::tree::{Lookup, Root, kind_of_level};

/// A subtree that has not been opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subtree {
    pub level: u8,
    pub id: ObjectId,
    pub records: u64,
    pub bytes: u64,
    /// The greatest key below it; `None` for a whole tree, whose greatest key nobody has said.
    pub last_key: Option<Vec<u8>>,
}

impl Subtree {
    fn child(level: u8, entry: &Entry) -> Self {
        let Entry { last_key, child, records, bytes } = entry.clone();
        Self { level, id: child, records, bytes, last_key: Some(last_key) }
    }

    pub(crate) fn entry(&self) -> Option<Entry> {
        let last_key = self.last_key.clone()?;
        Some(Entry { last_key, child: self.id, records: self.records, bytes: self.bytes })
    }
}

/// What stands at the front of a [`Frontier`].
pub(crate) enum Head<'a> {
    /// A subtree, unopened.
    Subtree(&'a Subtree),
    /// A record, as (key, value).
    Record(&'a [u8], &'a [u8]),
    /// Nothing is left.
    End,
}

/// A walk through a tree in key order that opens only what it is told to. At any time it is the
/// sequence of unopened subtrees and records that are not yet passed.
#[derive(Debug)]
pub(crate) struct Frontier {
    /// Unopened subtrees, the next one last.
    subtrees: Vec<Subtree>,
    /// The open leaf and the position in it; its records come before all `subtrees`.
    leaf: Option<(Leaf, usize)>,
}

impl Frontier {
    pub fn new(root: &Root) -> Self {
        let Root { id, level, records, bytes } = *root;
        let whole = Subtree { level, id, records, bytes, last_key: None };
        Self { subtrees: vec![whole], leaf: None }
    }

    pub fn head(&self) -> Head<'_> {
        if let Some((leaf, position)) = &self.leaf
            && let Some((key, value)) = leaf.record(*position)
        {
            return Head::Record(key, value);
        }
        self.subtrees.last().map_or(Head::End, Head::Subtree)
    }

    /// Whether the subtree at the head is the last thing of the whole tree.
    pub fn head_is_last(&self) -> bool {
        self.subtrees.len() <= 1
    }

    /// Passes the record or the whole subtree at the head.
    pub fn skip(&mut self) {
        if let Some((leaf, position)) = &mut self.leaf
            && *position < leaf.len()
        {
            *position += 1;
        } else {
            self.subtrees.pop();
        }
    }

    /// Puts the children or the records of the subtree at the head in its place. Only for heads
    /// that are subtrees.
    pub fn open<L: Lookup>(&mut self, lookup: &mut L) -> Result<(), L::Error> {
        let Some(subtree) = self.subtrees.pop() else { return Ok(()) };
        let plaintext = lookup.load(kind_of_level(subtree.level), subtree.id)?;
        if subtree.level == 0 {
            self.leaf = Some((Leaf::parse(plaintext)?, 0));
        } else {
            let node = Node::parse(&plaintext, subtree.level)?;
            self.subtrees
                .extend(node.entries.iter().rev().map(|entry| Subtree::child(node.level - 1, entry)));
        }
        Ok(())
    }

    /// Passes everything before `key`, opening only the path to it.
    pub fn seek<L: Lookup>(&mut self, key: &[u8], lookup: &mut L) -> Result<(), L::Error> {
        if let Some((leaf, position)) = &mut self.leaf {
            *position = (*position).max(leaf.lower_bound(key));
        }
        loop {
            match self.head() {
                Head::Subtree(Subtree { last_key: Some(last_key), .. }) if last_key.as_slice() < key => {
                    self.subtrees.pop();
                }
                Head::Subtree(_) => {
                    self.open(lookup)?;
                    if let Some((leaf, position)) = &mut self.leaf {
                        *position = leaf.lower_bound(key);
                    }
                }
                Head::Record(..) | Head::End => return Ok(()),
            }
        }
    }

    /// The unopened subtrees that come next, nearest first.
    pub fn upcoming(&self) -> impl Iterator<Item = &Subtree> {
        self.subtrees.iter().rev()
    }
}

/// Records in key order.
#[derive(Debug)]
pub struct Cursor {
    frontier: Frontier,
    start: Option<Vec<u8>>,
}

/// How many subtrees a cursor announces at a time.
const LOOK_AHEAD: usize = 64;

impl Cursor {
    /// At the first record whose key is at least `start`; without one, at the first of all.
    pub fn new(root: &Root, start: Option<&[u8]>) -> Self {
        Self { frontier: Frontier::new(root), start: start.map(<[u8]>::to_vec) }
    }

    /// The next record, as (key, value).
    #[allow(clippy::type_complexity, reason = "a key and a value, as everywhere")]
    pub fn next<L: Lookup>(&mut self, lookup: &mut L) -> Result<Option<(Vec<u8>, Vec<u8>)>, L::Error> {
        if let Some(start) = self.start.take() {
            self.frontier.seek(&start, lookup)?;
        }
        loop {
            match self.frontier.head() {
                Head::Record(key, value) => {
                    let record = (key.to_vec(), value.to_vec());
                    self.frontier.skip();
                    return Ok(Some(record));
                }
                Head::Subtree(subtree) => {
                    let was_node = subtree.level > 0;
                    self.frontier.open(lookup)?;
                    if was_node {
                        let wanted: Vec<_> = self
                            .frontier
                            .upcoming()
                            .take(LOOK_AHEAD)
                            .map(|next| (kind_of_level(next.level), next.id))
                            .collect();
                        lookup.expect(&wanted);
                    }
                }
                Head::End => return Ok(None),
            }
        }
    }
}

/// The value of `key`, if the tree has it. Reads one node of each level.
pub fn get<L: Lookup>(root: &Root, key: &[u8], lookup: &mut L) -> Result<Option<Vec<u8>>, L::Error> {
    let mut frontier = Frontier::new(root);
    frontier.seek(key, lookup)?;
    Ok(match frontier.head() {
        Head::Record(found, value) if found == key => Some(value.to_vec()),
        _ => None,
    })
}
