//! Applying sorted changes to a tree: the result is what building anew would give, and subtrees
//! without changes are taken over unread wherever the new tree has the same boundaries.

use std::iter::Peekable;

use crate::error::Error;
use crate::id::ObjectId;
use crate::keys::KeySchedule;
use crate::tree::build::Builder;
use crate::tree::node::Node;
use crate::tree::read::{Frontier, Head};
use crate::tree::{Lookup, Root, Sink, kind_of_level};

/// The tree `root` with `changes` made: `Some` sets a key's value, `None` removes the key, and a
/// key that is not there is removed without complaint. Changes must ascend strictly by key.
pub fn edit<X, E>(
    keys: &KeySchedule,
    root: &Root,
    changes: impl IntoIterator<Item = (Vec<u8>, Option<Vec<u8>>)>,
    io: &mut X,
) -> Result<Root, E>
where
    X: Lookup<Error = E> + Sink<Error = E>,
    E: From<Error>,
{
    let mut changes = Ascending { inner: changes.into_iter(), last: None }.peekable();
    let mut frontier = Frontier::new(root);
    let mut builder = Builder::new(keys);
    let mut taken_over: Option<ObjectId> = None;
    loop {
        let next_change = match changes.peek() {
            Some(Ok((key, _))) => Some(key.as_slice()),
            Some(Err(error)) => return Err(error.clone().into()),
            None => None,
        };
        match frontier.head() {
            Head::Subtree(subtree) => {
                // The end of the tree ends its last nodes wherever they are, so these may be
                // taken over only when nothing follows. A leaf boundary is where the old tree
                // had one; what is pushed up to here may be certain already.
                let untouched = match (&subtree.last_key, next_change) {
                    (_, None) => true,
                    (Some(last_key), Some(key)) => last_key.as_slice() < key && !frontier.head_is_last(),
                    (None, Some(_)) => false,
                };
                let (level, entry) = (subtree.level, subtree.entry());
                if untouched {
                    builder.settle(io)?;
                }
                match entry {
                    Some(entry)
                        if untouched && builder.leaves.is_empty() && builder.spine.is_aligned(level) =>
                    {
                        taken_over = Some(entry.child);
                        builder.spine.push(level, entry, io)?;
                        frontier.skip();
                    }
                    _ => frontier.open(io)?,
                }
            }
            Head::Record(key, value) => {
                if next_change.is_some_and(|change| change <= key) {
                    let replaces = next_change == Some(key);
                    apply_next(&mut changes, &mut builder, io)?;
                    if replaces {
                        frontier.skip();
                    }
                } else {
                    builder.push(key, value, io)?;
                    frontier.skip();
                }
            }
            Head::End if next_change.is_some() => apply_next(&mut changes, &mut builder, io)?,
            Head::End => break,
        }
    }
    let root = builder.finish(io)?;
    collapse(root, taken_over, io)
}

fn apply_next<S: Sink>(
    changes: &mut Peekable<impl Iterator<Item = Result<(Vec<u8>, Option<Vec<u8>>), Error>>>,
    builder: &mut Builder,
    sink: &mut S,
) -> Result<(), S::Error> {
    match changes.next() {
        Some(Ok((key, Some(value)))) => builder.push(&key, &value, sink),
        Some(Err(error)) => Err(error.into()),
        Some(Ok((_, None))) | None => Ok(()),
    }
}

/// The last node of a level may have a single child. When everything before it is gone it must
/// not stay the root: the first level with one node is.
fn collapse<L: Lookup>(
    mut root: Root,
    taken_over: Option<ObjectId>,
    lookup: &mut L,
) -> Result<Root, L::Error> {
    if taken_over != Some(root.id) {
        return Ok(root);
    }
    while root.level > 0 {
        let node = Node::parse(&lookup.load(kind_of_level(root.level), root.id)?, root.level)?;
        match node.entries.as_slice() {
            [only] => {
                root =
                    Root { id: only.child, level: root.level - 1, records: only.records, bytes: only.bytes }
            }
            _ => break,
        }
    }
    Ok(root)
}

/// Passes changes through and fails at the first that does not ascend.
struct Ascending<I> {
    inner: I,
    last: Option<Vec<u8>>,
}

impl<I: Iterator<Item = (Vec<u8>, Option<Vec<u8>>)>> Iterator for Ascending<I> {
    type Item = Result<(Vec<u8>, Option<Vec<u8>>), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let (key, value) = self.inner.next()?;
        if self.last.as_ref().is_some_and(|last| *last >= key) {
            return Some(Err(Error::Malformed("changes", "keys do not ascend")));
        }
        self.last = Some(key.clone());
        Some(Ok((key, value)))
    }
}
