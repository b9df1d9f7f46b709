//! Relations that come and go while a snapshot is taken, as the scratch tables of jobs and tests do.
//!
//! One that the snapshot shows has to be locked since before it. That is no use for one that is about
//! to be dropped: whoever drops it then waits for the snapshot, and whoever reads it waits for them.
//! So a snapshot that shows a relation which came only just now is not taken: the next moment, without
//! it, is as good. Where there is no such moment, it is left out by name.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::catalog::Relation;

/// Listings that a relation has to be in before it counts as one that stays.
const SETTLED_AFTER: u32 = 5;
/// Moments that are looked at. Below a second in all, but for the time that listing takes.
const MOMENTS: u32 = 40;

/// Why a relation is left out.
pub(super) const PASSED: &str = "it was made or dropped while the snapshot was taken. If it stays, the next \
                                 backup has it";

/// What is known of relations that may not stay.
#[derive(Debug, Default)]
pub(super) struct Passing {
    /// The listing each was first seen in.
    seen: HashMap<u32, u32>,
    listings: u32,
    /// Whether some did come or go, so that being listed is not enough.
    is_restless: bool,
    moments: u32,
}

impl Passing {
    /// `is_restless` when relations are known to come and go.
    pub(super) fn new(is_restless: bool) -> Self {
        Self { is_restless, ..Self::default() }
    }

    /// Takes note of a listing, and gives the relations in it that can be counted on.
    pub(super) fn settled(&mut self, listed: &[Relation]) -> Vec<Relation> {
        self.listings += 1;
        let is_listed: HashSet<u32> = listed.iter().map(|relation| relation.oid).collect();
        self.seen.retain(|oid, _| is_listed.contains(oid));
        for oid in is_listed {
            self.seen.entry(oid).or_insert(self.listings);
        }
        listed.iter().filter(|relation| self.is_settled(relation)).cloned().collect()
    }

    /// Whether it is too early to say of anything that it stays.
    pub(super) fn is_too_early(&self) -> bool {
        self.is_restless && self.listings <= SETTLED_AFTER
    }

    /// Marks those of a snapshot's relations that cannot be counted on. Whether the snapshot will do.
    pub(super) fn mark(&self, shown: &mut [Relation]) -> bool {
        let mut will_do = true;
        for relation in shown.iter_mut().filter(|relation| !self.is_settled(relation)) {
            relation.is_passing = true;
            will_do = self.moments >= MOMENTS;
        }
        will_do
    }

    fn is_settled(&self, relation: &Relation) -> bool {
        let since = self.seen.get(&relation.oid).map(|seen| self.listings - seen);
        !relation.is_gone && since.is_some_and(|since| !self.is_restless || since >= SETTLED_AFTER)
    }

    /// Whether another moment is worth a look, after this one showed that relations come and go.
    pub(super) fn look_again(&mut self) -> bool {
        self.is_restless = true;
        self.moments += 1;
        self.moments < 2 * MOMENTS
    }

    /// How long to wait for it. Never the same time twice running: a loop may have that period.
    pub(super) fn pause(&self) -> Duration {
        Duration::from_millis(u64::from(5 + self.moments * 7 % 31))
    }

    /// Moments that would not do.
    pub(super) fn moments(&self) -> u32 {
        self.moments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relations(oids: &[u32]) -> Vec<Relation> {
        oids.iter().map(|oid| Relation::named(*oid, "t")).collect()
    }

    fn oids(relations: &[Relation]) -> Vec<u32> {
        relations.iter().map(|relation| relation.oid).collect()
    }

    #[test]
    fn where_nothing_moves_all_that_is_listed_counts() {
        let mut passing = Passing::default();
        assert_eq!(oids(&passing.settled(&relations(&[1, 2]))), [1, 2]);
        assert!(!passing.is_too_early());
        assert!(passing.mark(&mut relations(&[1, 2])));
        // One that came after the listing shows that something moves.
        let mut shown = relations(&[1, 2, 3]);
        assert!(!passing.mark(&mut shown));
        assert_eq!(
            shown.iter().map(|relation| relation.is_passing).collect::<Vec<_>>(),
            [false, false, true]
        );
    }

    #[test]
    fn then_only_what_stayed_for_some_listings_does() {
        let mut passing = Passing::new(true);
        for listing in 0..=SETTLED_AFTER {
            assert!(passing.look_again());
            let settled = passing.settled(&relations(&[1, 100 + listing]));
            let expected: &[u32] = if listing == SETTLED_AFTER { &[1] } else { &[] };
            assert_eq!(oids(&settled), expected);
            assert_eq!(passing.is_too_early(), listing < SETTLED_AFTER);
        }
        assert!(passing.mark(&mut relations(&[1])), "a moment without the others will do");
        assert!(!passing.mark(&mut relations(&[1, 105])));
    }

    #[test]
    fn where_no_moment_will_do_what_passes_is_left_out() {
        let mut passing = Passing::new(true);
        (0..MOMENTS).for_each(|_| {
            assert!(passing.look_again());
            passing.settled(&relations(&[1]));
        });
        let mut shown = relations(&[1, 7]);
        shown[0].is_gone = true;
        assert!(passing.mark(&mut shown));
        assert!(shown.iter().all(|relation| relation.is_passing));
        let more = (0..1000).take_while(|_| passing.look_again()).count();
        assert!(more < 1000, "it ends");
    }
}
