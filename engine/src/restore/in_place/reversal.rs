//! Taking a restore back: the records that it wrote become what they were, unless they changed since.

use repo_format::catalog::Layout;
use repo_format::keys::KeySchedule;
use repo_format::tree::{Change, Diff, Root};

use super::goals::Written;
use super::reached::Share;
use crate::context::Context;
use crate::error::Result;
use crate::ingest::Output;
use crate::patch::{Edit, edit_tree};
use crate::repo::ObjectReader;
use crate::restore::apply::Conflicts;
use crate::restore::records::base;
use crate::rows;

/// Conflicts that are named.
const EXAMPLES: usize = 20;

/// A table that a restore wrote.
#[derive(Clone, Copy)]
pub(super) struct Table<'a> {
    pub name: &'a str,
    pub layout: &'a Layout,
    pub is_multiset: bool,
    /// What it holds now.
    pub now: Root,
}

/// The goal of taking a restore back: what the table holds now, with the records that the restore wrote as
/// they were before it. Records that are neither as the restore left them nor as they were are conflicts,
/// and stay. `second` is a reader of its own, for what differs.
pub(super) fn goal(
    written: Written,
    table: Table<'_>,
    keys: &KeySchedule,
    reader: &mut ObjectReader,
    second: ObjectReader,
    output: Output,
    ctx: &Context,
) -> Result<(Root, Conflicts)> {
    let mut walk = Walk::new(written, table, second, ctx);
    let mut failure = None;
    let edits = std::iter::from_fn(|| match walk.next_edit() {
        Ok(edit) => edit,
        Err(error) => {
            failure = Some(error);
            None
        }
    });
    let root = edit_tree(keys, &table.now, edits, reader, output);
    // Edits that broke off make a tree that looks whole and is not.
    match failure {
        Some(error) => Err(error),
        None => Ok((root?, walk.conflicts)),
    }
}

/// Walks over what the restore wrote and what was written since, side by side.
struct Walk<'a> {
    table: Table<'a>,
    written: Side,
    since: Side,
    reader: ObjectReader,
    ready: std::vec::IntoIter<Edit>,
    conflicts: Conflicts,
    ctx: &'a Context,
}

/// Differences, one of them looked at before it is taken.
struct Side {
    diff: Diff,
    head: Option<Change>,
    /// Which of them count, if not all do.
    share: Option<Share>,
}

impl Side {
    fn new(old: &Root, new: &Root, share: Option<Share>) -> Self {
        Self { diff: Diff::new(old, new, None), head: None, share }
    }

    fn head(&mut self, reader: &mut ObjectReader) -> Result<Option<&Change>> {
        while self.head.is_none() {
            let Some(change) = self.diff.next(reader)? else { break };
            if self.share.as_mut().is_none_or(|share| share.takes(&change)) {
                self.head = Some(change);
            }
        }
        Ok(self.head.as_ref())
    }

    /// Takes the differences whose keys have this base, and passes those before them.
    fn take(&mut self, wanted: &[u8], is_multiset: bool, reader: &mut ObjectReader) -> Result<Vec<Change>> {
        let mut taken = Vec::new();
        while let Some(head) = self.head(reader)? {
            match base(head.key(), is_multiset).cmp(wanted) {
                std::cmp::Ordering::Less => self.head = None,
                std::cmp::Ordering::Equal => taken.extend(self.head.take()),
                std::cmp::Ordering::Greater => break,
            }
        }
        Ok(taken)
    }
}

impl<'a> Walk<'a> {
    fn new(written: Written, table: Table<'a>, reader: ObjectReader, ctx: &'a Context) -> Self {
        Self {
            table,
            written: Side::new(&written.before, &written.after, written.share),
            since: Side::new(&written.after, &table.now, None),
            reader,
            ready: Vec::new().into_iter(),
            conflicts: Conflicts::default(),
            ctx,
        }
    }

    fn next_edit(&mut self) -> Result<Option<Edit>> {
        loop {
            if let Some(edit) = self.ready.next() {
                return Ok(Some(edit));
            }
            self.ctx.check()?;
            let is_multiset = self.table.is_multiset;
            let Some(first) = self.written.head(&mut self.reader)? else { return Ok(None) };
            let wanted = base(first.key(), is_multiset).to_vec();
            let written = self.written.take(&wanted, is_multiset, &mut self.reader)?;
            let since = self.since.take(&wanted, is_multiset, &mut self.reader)?;
            if since.is_empty() {
                let back = |change: Change| (change.key().to_vec(), old(&change).map(<[u8]>::to_vec));
                self.ready = written.into_iter().map(back).collect::<Vec<_>>().into_iter();
            } else if !is_back(&written, &since) {
                self.conflict(&written[0])?;
            }
        }
    }

    fn conflict(&mut self, change: &Change) -> Result<()> {
        self.conflicts.count += 1;
        if self.conflicts.examples.len() < EXAMPLES {
            let record = new(change).or(old(change)).unwrap_or_default();
            let shown = rows::shown(self.table.layout, change.key(), record, &mut self.reader)?;
            self.conflicts.examples.push(format!("{}: {}", self.table.name, shown.key));
        }
        Ok(())
    }
}

/// Whether what was written since made of all that the restore wrote what it had been, and nothing else.
fn is_back(written: &[Change], since: &[Change]) -> bool {
    let now = |change: &Change| match since.iter().find(|later| later.key() == change.key()) {
        Some(later) => new(later).map(<[u8]>::to_vec),
        None => new(change).map(<[u8]>::to_vec),
    };
    written.iter().all(|change| now(change).as_deref() == old(change))
        && since.iter().all(|later| written.iter().any(|change| change.key() == later.key()))
}

fn old(change: &Change) -> Option<&[u8]> {
    match change {
        Change::Added { .. } => None,
        Change::Removed { old, .. } | Change::Changed { old, .. } => Some(old),
    }
}

fn new(change: &Change) -> Option<&[u8]> {
    match change {
        Change::Removed { .. } => None,
        Change::Added { new, .. } | Change::Changed { new, .. } => Some(new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(old: Option<u8>, new: Option<u8>) -> Change {
        let key = b"k".to_vec();
        match (old, new) {
            (None, Some(new)) => Change::Added { key, new: vec![new] },
            (Some(old), None) => Change::Removed { key, old: vec![old] },
            (Some(old), Some(new)) => Change::Changed { key, old: vec![old], new: vec![new] },
            (None, None) => panic!("a change changes something"),
        }
    }

    #[test]
    fn what_was_put_back_by_hand_is_no_conflict_and_what_changed_otherwise_is() {
        let written = [change(Some(1), Some(2))];
        assert!(is_back(&written, &[change(Some(2), Some(1))]));
        assert!(!is_back(&written, &[change(Some(2), Some(3))]));
        assert!(!is_back(&written, &[change(Some(2), None)]));
        let removed = [change(Some(1), None)];
        assert!(is_back(&removed, &[change(None, Some(1))]));
        assert!(!is_back(&removed, &[change(None, Some(3))]));
        // One copy more than the restore knew of.
        let more = Change::Added { key: b"k1".to_vec(), new: vec![1] };
        assert!(!is_back(&written, &[change(Some(2), Some(1)), more]));
    }
}
