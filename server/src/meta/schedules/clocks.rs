//! What a schedule makes of a clock that was wrong.
//!
//! A clock that reads earlier than what is done with was ahead before, or is behind now, and nothing tells
//! which. So the schedule goes on from what it reads, and what was done is put aside, not taken back. Once the
//! clock comes to the time of that, how it came there decides:
//!
//! - It leapt there, before the eyes of this process: it was behind in between. What was put aside is done, and
//!   what was told as missed by then is told again.
//! - It came there as time passed: it was ahead before. Those times have only now come, and are run.
//! - It may be either, because a process begins and nobody saw it, or because due times were seen to meanwhile.
//!   The last run is due again, since one backup too many is better than one too few; what was before it is done.
//! - Where a leap ends just at the time of the last run, that is due again for the same reason.
//!
//! So a run is lost to a clock only where three things come together: the clock was ahead and was set right, no due
//! time came since then, and the computer slept over the time that had been run too early.

use serde::{Deserialize, Serialize};

use super::{Meta, Reason, Result, SCHEDULES, Schedule, rows};
use crate::ids::DatabaseId;
use crate::schedule::{Way, is_ahead, is_on_time};

/// So many readings of wrong clocks are kept apart, the nearest: a file must not grow by a clock.
const MAX_PUT_ASIDE: usize = 8;

/// Up to when a schedule was done with by a clock that read later, and what it told then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutAside {
    /// What the other clock read when that was put aside.
    since_ms: i64,
    handled_ms: i64,
    repeated_ms: Option<i64>,
    last_missed_ms: Option<i64>,
    missed_runs: u32,
    missed_because: Option<Reason>,
}

impl Schedule {
    /// The schedule by a clock that reads this, and came to it in this way.
    pub fn settled(&self, now_ms: i64, way: Way) -> Self {
        if is_ahead(self.handled_ms, now_ms) {
            return self.clone().put_aside(now_ms);
        }
        let (ahead, reached): (Vec<_>, Vec<_>) =
            self.aside.iter().cloned().partition(|aside| is_ahead(aside.handled_ms, now_ms));
        let settled = Self { aside: ahead, ..self.clone() };
        let newest = reached.into_iter().max_by_key(|aside| aside.handled_ms);
        let Some(newest) = newest.filter(|newest| newest.handled_ms > self.handled_ms) else {
            return settled;
        };
        match way {
            // It had come there before it leapt.
            Way::Leapt { from_ms } if newest.handled_ms <= from_ms => settled,
            Way::Leapt { .. }
                if settled.handled_ms <= newest.since_ms && !is_on_time(newest.handled_ms, now_ms) =>
            {
                settled.taken_up(newest)
            }
            Way::Leapt { .. } | Way::Unseen => settled.with_last_due_again(newest.handled_ms, now_ms),
            Way::Passed | Way::SetBack => settled,
        }
    }

    /// Goes on from what a clock reads that was ahead, or is behind now.
    fn put_aside(mut self, now_ms: i64) -> Self {
        self.aside.push(PutAside {
            since_ms: now_ms,
            handled_ms: self.handled_ms,
            repeated_ms: self.repeated_ms,
            last_missed_ms: self.last_missed_ms,
            missed_runs: self.missed_runs,
            missed_because: self.missed_because,
        });
        self.aside.sort_by_key(|aside| aside.handled_ms);
        self.aside.truncate(MAX_PUT_ASIDE);
        Self { handled_ms: now_ms, repeated_ms: None, ..self }.without_what_is_ahead(now_ms)
    }

    /// Goes on from what was put aside.
    fn taken_up(self, aside: PutAside) -> Self {
        let PutAside { handled_ms, repeated_ms, last_missed_ms, missed_runs, missed_because, .. } = aside;
        let settled = Self { handled_ms, repeated_ms, ..self };
        if last_missed_ms <= settled.last_missed_ms {
            return settled;
        }
        Self { last_missed_ms, missed_runs, missed_because, ..settled }
    }

    /// Goes on from a time that was done with, and has a backup begin: for a time that has passed since, or
    /// else for that one.
    fn with_last_due_again(self, done_ms: i64, now_ms: i64) -> Self {
        let has_next = self.timing.next_after(done_ms).is_some_and(|next_ms| next_ms <= now_ms);
        let handled_ms = if has_next { done_ms } else { done_ms - 1 };
        Self { handled_ms: handled_ms.max(self.handled_ms), ..self }
    }

    /// Without missed runs that have yet to come: only a clock that was wrong missed them.
    pub(super) fn without_what_is_ahead(self, now_ms: i64) -> Self {
        if self.last_missed_ms.is_none_or(|last_ms| !is_ahead(last_ms, now_ms)) {
            return self;
        }
        Self { last_missed_ms: None, missed_runs: 0, missed_because: None, ..self }
    }
}

impl Meta {
    /// Settles a schedule by what the clock reads, and gives it as it is then; none if it is gone.
    pub async fn settle_schedule(
        &self,
        database: DatabaseId,
        now_ms: i64,
        way: Way,
    ) -> Result<Option<Schedule>> {
        self.write(move |tx| {
            let key = database.to_string();
            let found: Option<Schedule> = rows::get(&tx.open_table(SCHEDULES)?, &key)?;
            let settled = found.map(|found| found.settled(now_ms, way));
            if let Some(settled) = &settled {
                rows::put(tx, SCHEDULES, &key, settled)?;
            }
            Ok(settled)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{DAY_MS, midnights};
    use super::*;

    const BEHIND: Way = Way::Leapt { from_ms: 5 * DAY_MS };

    fn done_until(handled_ms: i64) -> Schedule {
        Schedule { handled_ms, ..midnights() }
    }

    #[test]
    fn how_the_clock_came_to_what_was_put_aside_decides() {
        let noon_ms = 20 * DAY_MS + DAY_MS / 2;
        let behind = done_until(20 * DAY_MS).settled(5 * DAY_MS, Way::SetBack);
        assert_eq!((behind.handled_ms, behind.aside.len()), (5 * DAY_MS, 1));
        assert_eq!(behind.settled(6 * DAY_MS, Way::Passed), behind, "that has yet to come");
        let cases = [
            (BEHIND, noon_ms, 20 * DAY_MS),
            (BEHIND, 22 * DAY_MS, 20 * DAY_MS),
            // Just in time for it.
            (BEHIND, 20 * DAY_MS + 1, 20 * DAY_MS - 1),
            (Way::Passed, noon_ms, 5 * DAY_MS),
            // It had come there before it leapt.
            (Way::Leapt { from_ms: 20 * DAY_MS }, noon_ms, 5 * DAY_MS),
            (Way::Unseen, noon_ms, 20 * DAY_MS - 1),
            (Way::Unseen, 21 * DAY_MS, 20 * DAY_MS),
        ];
        for (way, now_ms, handled_ms) in cases {
            let settled = behind.settled(now_ms, way);
            assert_eq!((settled.handled_ms, settled.aside.len()), (handled_ms, 0), "{way:?} to {now_ms}");
        }
        // Runs were due since.
        let lived = Schedule { handled_ms: 6 * DAY_MS, ..behind };
        for (now_ms, handled_ms) in [(noon_ms, 20 * DAY_MS - 1), (22 * DAY_MS, 20 * DAY_MS)] {
            assert_eq!(lived.settled(now_ms, BEHIND).handled_ms, handled_ms);
        }
    }

    #[test]
    fn a_clock_that_was_wrong_twice_takes_nothing_back() {
        let twice = done_until(20 * DAY_MS).settled(5 * DAY_MS, Way::SetBack);
        let twice = Schedule { handled_ms: 6 * DAY_MS, ..twice }.settled(DAY_MS, Way::SetBack);
        assert_eq!(twice.settled(21 * DAY_MS, BEHIND).handled_ms, 20 * DAY_MS);
        let once = twice.settled(7 * DAY_MS, Way::Leapt { from_ms: 2 * DAY_MS });
        assert_eq!((once.handled_ms, once.aside.len()), (6 * DAY_MS, 1));
        // Nor does one that goes back for ever fill the file.
        let mut falling = done_until(100 * DAY_MS);
        for day in (50..100).rev() {
            falling = falling.settled(day * DAY_MS, Way::SetBack);
        }
        assert_eq!((falling.handled_ms, falling.aside.len()), (50 * DAY_MS, MAX_PUT_ASIDE));
    }

    #[test]
    fn what_was_told_as_missed_is_told_again() {
        let told = Schedule {
            last_missed_ms: Some(19 * DAY_MS),
            missed_runs: 3,
            missed_because: Some(Reason::CutOff),
            repeated_ms: Some(19 * DAY_MS),
            ..done_until(20 * DAY_MS)
        };
        let behind = told.settled(5 * DAY_MS, Way::SetBack);
        assert_eq!((behind.last_missed_ms, behind.missed_runs, behind.repeated_ms), (None, 0, None));
        assert_eq!(behind.settled(21 * DAY_MS, BEHIND), told);
    }
}
