//! How far a restore came that is written in several transactions. Pure.
//!
//! Differences are written in one order, whatever the collection: so the number of those that were written
//! tells which they are.

use repo_format::tree::{Change, Counts};

/// A walk over all differences, which writes some of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    Removed,
    Changed,
    Added,
}

/// The walks, in their order: what goes makes room for what comes, also where they are not written
/// together. In each the collections follow one another, and in a collection the keys. What a restore
/// noted down depends on it, so it stays.
pub(super) const PASSES: [Pass; 3] = [Pass::Removed, Pass::Changed, Pass::Added];

impl Pass {
    pub fn of(change: &Change) -> Self {
        match change {
            Change::Removed { .. } => Self::Removed,
            Change::Changed { .. } => Self::Changed,
            Change::Added { .. } => Self::Added,
        }
    }

    fn count(self, counts: &mut Counts) -> &mut u64 {
        match self {
            Self::Removed => &mut counts.removed,
            Self::Changed => &mut counts.changed,
            Self::Added => &mut counts.added,
        }
    }
}

/// How many differences of each kind a collection has that were written: the first of them by key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share(Counts);

impl Share {
    /// Whether a difference was written. To be asked of each, by key.
    pub fn takes(&mut self, change: &Change) -> bool {
        let left = Pass::of(change).count(&mut self.0);
        let is_taken = *left > 0;
        *left -= u64::from(is_taken);
        is_taken
    }
}

/// The shares of collections that differ so, when the first `written` differences of all were written.
pub(super) fn shares(mut differing: Vec<Counts>, written: u64) -> Vec<Share> {
    let mut left = written;
    for pass in PASSES {
        for counts in &mut differing {
            let count = pass.count(counts);
            *count = left.min(*count);
            left -= *count;
        }
    }
    differing.into_iter().map(Share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(removed: u64, changed: u64, added: u64) -> Counts {
        Counts { removed, changed, added }
    }

    #[test]
    fn what_was_written_is_told_by_the_order_of_writing() {
        let all = || vec![counts(2, 1, 3), counts(1, 2, 0)];
        let of = |written| shares(all(), written).into_iter().map(|share| share.0).collect::<Vec<_>>();
        assert_eq!(of(0), [counts(0, 0, 0), counts(0, 0, 0)]);
        assert_eq!(of(2), [counts(2, 0, 0), counts(0, 0, 0)]);
        assert_eq!(of(3), [counts(2, 0, 0), counts(1, 0, 0)]);
        assert_eq!(of(5), [counts(2, 1, 0), counts(1, 1, 0)]);
        assert_eq!(of(8), [counts(2, 1, 2), counts(1, 2, 0)]);
        assert_eq!(of(u64::MAX), all());
    }

    #[test]
    fn the_first_of_a_kind_were_written() {
        let added = Change::Added { key: vec![1], new: vec![1] };
        let removed = Change::Removed { key: vec![2], old: vec![1] };
        let mut share = Share(counts(0, 0, 2));
        let taken = [&added, &removed, &added, &added].map(|change| share.takes(change));
        assert_eq!(taken, [true, false, true, false]);
    }
}
