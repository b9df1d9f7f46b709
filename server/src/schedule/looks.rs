//! How the clock comes from one look at it to the next. A calendar that is set leaves time out, and time that
//! only passes, which every process counts for itself, tells so.

use super::{ON_TIME_MS, is_ahead};

/// What a look at the clock says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// By the calendar.
    pub now_ms: i64,
    /// How much time has passed in this process.
    pub elapsed_ms: u64,
}

/// How the clock came to what it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Nobody in this process looked before.
    Unseen,
    /// As time passed, within minutes.
    Passed,
    /// It was set back.
    SetBack,
    /// It was set forward, or the computer slept: what is after this moment it did not show.
    Leapt { from_ms: i64 },
}

/// The looks of a process at the clock.
#[derive(Debug, Default)]
pub struct Looks {
    /// The last whose every due time was seen to.
    last: Option<Reading>,
    /// When the last one was whose due times were not, since that.
    failed_ms: Option<i64>,
}

impl Looks {
    /// How the clock came to `now` since the last look.
    pub fn way_to(&self, now: Reading) -> Way {
        let Some(last) = self.last else { return Way::Unseen };
        let passed_ms = now.elapsed_ms.saturating_sub(last.elapsed_ms);
        let from_ms = last.now_ms.saturating_add(i64::try_from(passed_ms).unwrap_or(i64::MAX));
        if is_ahead(from_ms, now.now_ms) {
            Way::SetBack
        } else if now.now_ms.saturating_sub(from_ms) > ON_TIME_MS {
            Way::Leapt { from_ms }
        } else {
            Way::Passed
        }
    }

    /// Whether somebody looked at the clock since then, and could not see to what was due.
    pub fn has_failed_at(&self, due_ms: i64) -> bool {
        self.failed_ms.is_some_and(|failed_ms| failed_ms >= due_ms)
    }

    /// Somebody looked. What failed is as if nobody had: the next look is to see the same.
    pub fn looked(&mut self, at: Reading, is_seen_to: bool) {
        if is_seen_to {
            *self = Self { last: Some(at), failed_ms: None };
        } else {
            self.failed_ms = Some(at.now_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE_MS: i64 = 60 * 1000;

    #[test]
    fn a_clock_that_is_set_is_told_from_time_that_passes() {
        let reading = |minutes: i64, passed: i64| Reading {
            now_ms: minutes * MINUTE_MS,
            elapsed_ms: u64::try_from(passed * MINUTE_MS).unwrap(),
        };
        let mut looks = Looks::default();
        assert_eq!(looks.way_to(reading(1000, 5)), Way::Unseen);
        looks.looked(reading(1000, 5), true);
        let cases = [
            (1010, 5, Way::Passed),
            (990, 5, Way::Passed),
            (5000, 4005, Way::Passed),
            (1011, 5, Way::Leapt { from_ms: 1000 * MINUTE_MS }),
            (1100, 35, Way::Leapt { from_ms: 1030 * MINUTE_MS }),
            (989, 5, Way::SetBack),
            (1010, 26, Way::SetBack),
        ];
        for (minutes, passed, way) in cases {
            assert_eq!(looks.way_to(reading(minutes, passed)), way, "{minutes} after {passed}");
        }
    }

    #[test]
    fn a_look_that_failed_leaves_what_it_saw_to_the_next() {
        let reading = |now_ms, elapsed_ms| Reading { now_ms, elapsed_ms };
        let leapt = Way::Leapt { from_ms: 10 };
        let mut looks = Looks::default();
        looks.looked(reading(0, 0), true);
        looks.looked(reading(100 * MINUTE_MS, 0), false);
        assert_eq!(looks.way_to(reading(100 * MINUTE_MS + 10, 10)), leapt);
        let tells = |looks: &Looks| [99, 100, 101].map(|minutes| looks.has_failed_at(minutes * MINUTE_MS));
        assert_eq!(tells(&looks), [true, true, false]);
        looks.looked(reading(100 * MINUTE_MS + 10, 10), true);
        assert_eq!(looks.way_to(reading(100 * MINUTE_MS + 20, 20)), Way::Passed);
        assert_eq!(tells(&looks), [false; 3]);
    }
}
