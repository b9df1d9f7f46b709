//! Which snapshots stay. Pure: from a list of snapshots and rules to what is kept, each with its
//! reasons, and what goes.
//!
//! The rules count complete snapshots only, each source's by itself. Days, weeks and months are those
//! of a calendar that is passed in, because a night's backup belongs to the day of its time zone.
//!
//! ```
//! use engine::retention::{Keep, Period, Snapshot, decide};
//!
//! let snapshot = |id, at_ms| Snapshot { id, source: "shop", at_ms, complete: true, pinned: false };
//! let snapshots = [snapshot(1, 1_000), snapshot(2, 2_000), snapshot(3, 90_000_000)];
//! let day = |at_ms: i64| at_ms.div_euclid(86_400_000);
//! let calendar = |at_ms| Period { day: day(at_ms), week: day(at_ms) / 7, month: day(at_ms) / 30 };
//! let decision = decide(&snapshots, &Keep { daily: Some(7), ..Keep::default() }, 90_000_001, calendar);
//! assert_eq!(decision.removed, [1]);
//! ```

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// How many snapshots are kept for which reason. Without any rule all are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keep {
    /// The newest ones.
    #[serde(default)]
    pub last: Option<u32>,
    /// The newest one of each of so many days that have one.
    #[serde(default)]
    pub daily: Option<u32>,
    /// The same of weeks.
    #[serde(default)]
    pub weekly: Option<u32>,
    /// The same of months.
    #[serde(default)]
    pub monthly: Option<u32>,
}

impl Keep {
    /// Whether nothing ever goes.
    pub fn keeps_all(&self) -> bool {
        [self.last, self.daily, self.weekly, self.monthly].iter().all(Option::is_none)
    }
}

/// A snapshot, as far as the rules look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot<I, S> {
    /// Its id.
    pub id: I,
    /// The stable id of what it is of; a renamed database keeps it.
    pub source: S,
    /// When it was taken, in milliseconds since 1970.
    pub at_ms: i64,
    /// Whether it holds everything.
    pub complete: bool,
    /// Whether somebody wants it kept whatever the rules say.
    pub pinned: bool,
}

/// The day, week and month of a moment, each by a number of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// The day.
    pub day: i64,
    /// The week.
    pub week: i64,
    /// The month.
    pub month: i64,
}

/// Why a snapshot stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// There are no rules.
    NoRules,
    /// Somebody pinned it.
    Pinned,
    /// It is the newest complete one of its source: that never goes.
    NewestComplete,
    /// It is not complete, and no newer one is: it may hold what no other does.
    NothingNewerIsComplete,
    /// It is of a time that has not come: a clock was wrong.
    NotYet,
    /// It is among the last.
    Last,
    /// It is the newest of a day.
    Daily,
    /// It is the newest of a week.
    Weekly,
    /// It is the newest of a month.
    Monthly,
}

/// Clocks of several servers that are right differ by less.
const CLOCKS_DIFFER_MS: i64 = 10 * 60 * 1000;

/// What stays and what goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision<I> {
    /// What stays, newest first, with every reason for it.
    pub kept: Vec<(I, Vec<Reason>)>,
    /// What goes, newest first.
    pub removed: Vec<I>,
}

/// Applies `keep` to `snapshots`, in whatever order they come. Those that a wrong clock dated later than
/// now stay, and take no other's place: else they would be the newest for as long.
pub fn decide<I: Copy + Ord, S: Ord>(
    snapshots: &[Snapshot<I, S>],
    keep: &Keep,
    now_ms: i64,
    calendar: impl Fn(i64) -> Period,
) -> Decision<I> {
    let mut by_source: BTreeMap<&S, Vec<&Snapshot<I, S>>> = BTreeMap::new();
    // The id settles the order of two of one moment, so that the same list gives the same answer.
    let mut newest_first: Vec<&Snapshot<I, S>> = snapshots.iter().collect();
    newest_first.sort_by_key(|snapshot| std::cmp::Reverse((snapshot.at_ms, snapshot.id)));
    let mut reasons: BTreeMap<I, BTreeSet<Reason>> = BTreeMap::new();
    for snapshot in &newest_first {
        if snapshot.at_ms > now_ms.saturating_add(CLOCKS_DIFFER_MS) {
            reasons.entry(snapshot.id).or_default().insert(Reason::NotYet);
        } else {
            by_source.entry(&snapshot.source).or_default().push(snapshot);
        }
    }
    for of_source in by_source.values() {
        for (id, reason) in kept_of(of_source, keep, &calendar) {
            reasons.entry(id).or_default().insert(reason);
        }
    }
    let mut decision = Decision { kept: Vec::new(), removed: Vec::new() };
    for snapshot in newest_first {
        match reasons.remove(&snapshot.id) {
            Some(reasons) => decision.kept.push((snapshot.id, reasons.into_iter().collect())),
            None => decision.removed.push(snapshot.id),
        }
    }
    decision
}

/// Which of a moment's numbers a rule goes by.
type NumberOf = fn(Period) -> i64;

/// What stays of one source's snapshots, which come newest first.
fn kept_of<I: Copy, S>(
    snapshots: &[&Snapshot<I, S>],
    keep: &Keep,
    calendar: &impl Fn(i64) -> Period,
) -> Vec<(I, Reason)> {
    if keep.keeps_all() {
        return snapshots.iter().map(|snapshot| (snapshot.id, Reason::NoRules)).collect();
    }
    let pinned = snapshots.iter().filter(|snapshot| snapshot.pinned);
    let mut kept: Vec<(I, Reason)> = pinned.map(|snapshot| (snapshot.id, Reason::Pinned)).collect();
    let incomplete = snapshots.iter().take_while(|snapshot| !snapshot.complete);
    kept.extend(incomplete.map(|snapshot| (snapshot.id, Reason::NothingNewerIsComplete)));
    let complete: Vec<&Snapshot<I, S>> =
        snapshots.iter().copied().filter(|snapshot| snapshot.complete).collect();
    kept.extend(complete.first().map(|newest| (newest.id, Reason::NewestComplete)));
    let last = keep.last.unwrap_or(0) as usize;
    kept.extend(complete.iter().take(last).map(|snapshot| (snapshot.id, Reason::Last)));
    let periods: [(Option<u32>, Reason, NumberOf); 3] = [
        (keep.daily, Reason::Daily, |period| period.day),
        (keep.weekly, Reason::Weekly, |period| period.week),
        (keep.monthly, Reason::Monthly, |period| period.month),
    ];
    for (count, reason, number) in periods {
        let mut seen = None;
        let firsts = complete.iter().filter(|snapshot| {
            let period = Some(number(calendar(snapshot.at_ms)));
            std::mem::replace(&mut seen, period) != period
        });
        kept.extend(firsts.take(count.unwrap_or(0) as usize).map(|snapshot| (snapshot.id, reason)));
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR_MS: i64 = 60 * 60 * 1000;
    const DAY_MS: i64 = 24 * HOUR_MS;
    /// Later than all of them.
    const NOW_MS: i64 = 1_000_000 * DAY_MS;

    /// Weeks of seven days and months of thirty: what the rules need to know of a calendar.
    fn calendar(at_ms: i64) -> Period {
        let day = at_ms.div_euclid(DAY_MS);
        Period { day, week: day.div_euclid(7), month: day.div_euclid(30) }
    }

    fn snapshot(id: u32, day: i64, complete: bool) -> Snapshot<u32, &'static str> {
        Snapshot {
            id,
            source: "shop",
            at_ms: day * DAY_MS + i64::from(id % 24) * HOUR_MS,
            complete,
            pinned: false,
        }
    }

    fn kept(decision: &Decision<u32>) -> Vec<u32> {
        decision.kept.iter().map(|(id, _)| *id).collect()
    }

    #[test]
    fn a_snapshot_of_a_time_to_come_is_in_nobodys_way() {
        let all = [snapshot(1, 10, true), snapshot(2, 11, true), snapshot(3, 1000, true)];
        let decision = decide(&all, &Keep { last: Some(1), ..Keep::default() }, 12 * DAY_MS, calendar);
        assert_eq!(decision.kept[0], (3, vec![Reason::NotYet]));
        assert_eq!(kept(&decision), [3, 2]);
        // Hours ahead are a wrong clock's, too. What was taken since is newer, whatever the dates say.
        let decision = decide(&all, &Keep { last: Some(1), ..Keep::default() }, 11 * DAY_MS, calendar);
        assert_eq!((kept(&decision), decision.removed), (vec![3, 2, 1], vec![]));
        // Another server's clock may be a little ahead.
        let now_ms = 11 * DAY_MS + 2 * HOUR_MS - 5 * 60 * 1000;
        let decision = decide(&all, &Keep { last: Some(1), ..Keep::default() }, now_ms, calendar);
        assert_eq!(decision.removed, [1]);
    }

    #[test]
    fn each_rule_keeps_the_newest_of_its_periods() {
        // One a day for 70 days, numbered from the oldest.
        let all: Vec<_> = (0..70).map(|day| snapshot(day as u32, day, true)).collect();
        let keep = Keep { last: Some(2), daily: Some(3), weekly: Some(3), monthly: Some(2) };
        let decision = decide(&all, &keep, NOW_MS, calendar);
        // Weeks end with 62, 55 ..., months with 59, 29.
        assert_eq!(kept(&decision), [69, 68, 67, 62, 59, 55]);
        let reasons = [Reason::NewestComplete, Reason::Last, Reason::Daily, Reason::Weekly, Reason::Monthly];
        assert_eq!(decision.kept[0].1, reasons);
        assert_eq!(decision.removed.len(), 64);
    }

    #[test]
    fn days_without_a_snapshot_do_not_count() {
        let all = [snapshot(1, 1, true), snapshot(2, 1, true), snapshot(3, 20, true), snapshot(4, 90, true)];
        let decision = decide(&all, &Keep { daily: Some(3), ..Keep::default() }, NOW_MS, calendar);
        assert_eq!(kept(&decision), [4, 3, 2]);
        assert_eq!(decision.removed, [1]);
    }

    #[test]
    fn incomplete_ones_take_no_place_and_go_once_a_complete_one_is_newer() {
        let all = [
            snapshot(1, 1, true),
            snapshot(2, 2, false),
            snapshot(3, 3, true),
            snapshot(4, 4, false),
            snapshot(5, 5, false),
        ];
        let decision = decide(&all, &Keep { last: Some(1), ..Keep::default() }, NOW_MS, calendar);
        assert_eq!(kept(&decision), [5, 4, 3]);
        assert_eq!(decision.kept[0].1, [Reason::NothingNewerIsComplete]);
        assert_eq!(decision.removed, [2, 1]);
    }

    #[test]
    fn sources_are_counted_apart_and_a_pin_holds() {
        let other = |id, day| Snapshot { source: "other", ..snapshot(id, day, true) };
        let pinned = Snapshot { pinned: true, ..snapshot(1, 1, false) };
        let all = [pinned, snapshot(2, 2, true), snapshot(3, 3, true), other(4, 1), other(5, 2)];
        let decision = decide(&all, &Keep { last: Some(1), ..Keep::default() }, NOW_MS, calendar);
        assert_eq!(kept(&decision), [3, 5, 1]);
    }

    #[test]
    fn without_rules_nothing_goes_and_a_rule_of_none_leaves_the_newest() {
        let all = [snapshot(1, 1, true), snapshot(2, 2, true)];
        assert!(decide(&all, &Keep::default(), NOW_MS, calendar).removed.is_empty());
        let decision = decide(&all, &Keep { last: Some(0), ..Keep::default() }, NOW_MS, calendar);
        assert_eq!((kept(&decision), decision.removed), (vec![2], vec![1]));
    }

    fn snapshots() -> impl Strategy<Value = Vec<Snapshot<u32, u8>>> {
        let one = (0_u8..3, 0_i64..100 * 24, any::<bool>(), 0_u8..10);
        prop::collection::vec(one, 0..80).prop_map(|all| {
            let snapshot = |(id, (source, hour, complete, pin)): (usize, (u8, i64, bool, u8))| Snapshot {
                id: id as u32,
                source,
                at_ms: hour * HOUR_MS,
                complete,
                pinned: pin == 0,
            };
            all.into_iter().enumerate().map(snapshot).collect()
        })
    }

    fn rules() -> impl Strategy<Value = Keep> {
        let count = || prop::option::of(0_u32..12);
        (count(), count(), count(), count()).prop_map(|(last, daily, weekly, monthly)| Keep {
            last,
            daily,
            weekly,
            monthly,
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_snapshot_is_kept_or_removed_and_what_must_stay_stays(all in snapshots(), keep in rules()) {
            let decision = decide(&all, &keep, NOW_MS, calendar);
            let kept: BTreeSet<u32> = kept(&decision).into_iter().collect();
            let removed: BTreeSet<u32> = decision.removed.iter().copied().collect();
            prop_assert!(kept.is_disjoint(&removed));
            prop_assert_eq!(kept.len() + removed.len(), all.len());
            for snapshot in all.iter().filter(|snapshot| snapshot.pinned) {
                prop_assert!(kept.contains(&snapshot.id));
            }
            for source in 0..3 {
                let complete = all.iter().filter(|one| one.source == source && one.complete);
                if let Some(newest) = complete.max_by_key(|one| (one.at_ms, one.id)) {
                    prop_assert!(kept.contains(&newest.id));
                }
            }
            prop_assert!(decision.kept.iter().all(|(_, reasons)| !reasons.is_empty()));
        }

        /// What a decision leaves, the same rules leave alone: applying them again removes nothing.
        #[test]
        fn what_is_left_stays(all in snapshots(), keep in rules()) {
            let decision = decide(&all, &keep, NOW_MS, calendar);
            let kept = kept(&decision);
            let left: Vec<_> = all.into_iter().filter(|one| kept.contains(&one.id)).collect();
            prop_assert_eq!(decide(&left, &keep, NOW_MS, calendar).removed, Vec::<u32>::new());
        }

        /// Incomplete snapshots change nothing about which complete ones stay.
        #[test]
        fn incomplete_ones_push_nothing_out(all in snapshots(), keep in rules()) {
            let complete: Vec<_> = all.iter().copied().filter(|one| one.complete).collect();
            let with = kept(&decide(&all, &keep, NOW_MS, calendar));
            let without = kept(&decide(&complete, &keep, NOW_MS, calendar));
            prop_assert!(without.iter().all(|id| with.contains(id)));
            let is_complete = |id: &u32| complete.iter().any(|one| one.id == *id);
            prop_assert!(with.iter().filter(|id| is_complete(id)).all(|id| without.contains(id)));
        }

        /// Greater numbers keep no less.
        #[test]
        fn more_generous_rules_keep_no_less(all in snapshots(), keep in rules(), more in 0_u32..5) {
            let greater = |count: Option<u32>| count.map(|count| count + more);
            let generous = Keep {
                last: greater(keep.last),
                daily: greater(keep.daily),
                weekly: greater(keep.weekly),
                monthly: greater(keep.monthly),
            };
            let with = kept(&decide(&all, &generous, NOW_MS, calendar));
            prop_assert!(kept(&decide(&all, &keep, NOW_MS, calendar)).iter().all(|id| with.contains(id)));
        }
    }
}
