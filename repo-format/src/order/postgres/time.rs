//! Dates and timestamps, counted from 2000-01-01 as PostgreSQL does: from 1970 its last
//! timestamp would not fit 64 bits.

use super::malformed;
use crate::error::Result;

const MICROS_PER_DAY: i64 = 86_400_000_000;
/// Days from 0000-03-01 to 2000-01-01, both proleptic Gregorian.
const EPOCH_DAYS: i64 = 730_425;
/// Past every date that PostgreSQL holds, and far from overflow.
const LAST_YEAR: i64 = 6_000_000;

/// Days, or the extremes for the infinities.
pub(super) fn date(text: &[u8]) -> Result<i64> {
    if let Some(infinity) = infinity(text) {
        return Ok(infinity);
    }
    let (text, before_christ) = strip_era(text);
    let (days, rest) = take_date(text, before_christ)?;
    if rest.is_empty() { Ok(days) } else { Err(wrong()) }
}

/// Microseconds, or the extremes for the infinities.
pub(super) fn timestamp(text: &[u8]) -> Result<i64> {
    if let Some(infinity) = infinity(text) {
        return Ok(infinity);
    }
    let (text, before_christ) = strip_era(text);
    let text = text.strip_suffix(b"+00").unwrap_or(text);
    let (days, rest) = take_date(text, before_christ)?;
    let micros = time_of_day(rest.strip_prefix(b" ").ok_or_else(wrong)?)?;
    days.checked_mul(MICROS_PER_DAY).and_then(|day| day.checked_add(micros)).ok_or_else(wrong)
}

fn wrong() -> crate::Error {
    malformed("not an ISO date or timestamp in UTC")
}

fn infinity(text: &[u8]) -> Option<i64> {
    match text {
        b"infinity" => Some(i64::MAX),
        b"-infinity" => Some(i64::MIN),
        _ => None,
    }
}

fn strip_era(text: &[u8]) -> (&[u8], bool) {
    text.strip_suffix(b" BC").map_or((text, false), |text| (text, true))
}

/// The date at the front, and what follows it.
fn take_date(text: &[u8], before_christ: bool) -> Result<(i64, &[u8])> {
    let dash = text.iter().position(|&byte| byte == b'-').ok_or_else(wrong)?;
    let printed_year = number(&text[..dash])?;
    if !(4..=7).contains(&dash) || text.len() < dash + 6 || text[dash + 3] != b'-' {
        return Err(wrong());
    }
    let (month, day) = (number(&text[dash + 1..dash + 3])?, number(&text[dash + 4..dash + 6])?);
    // There is no year 0: 1 BC comes before 1.
    let year = if before_christ { 1 - printed_year } else { printed_year };
    let valid = (1..=LAST_YEAR).contains(&printed_year)
        && (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day);
    if !valid {
        return Err(wrong());
    }
    Ok((days_since_epoch(year, month, day), &text[dash + 6..]))
}

fn time_of_day(text: &[u8]) -> Result<i64> {
    let (clock, fraction) = text.split_at_checked(8).ok_or_else(wrong)?;
    if clock[2] != b':' || clock[5] != b':' {
        return Err(wrong());
    }
    let (hour, minute, second) = (number(&clock[..2])?, number(&clock[3..5])?, number(&clock[6..])?);
    if hour > 23 || minute > 59 || second > 59 {
        return Err(wrong());
    }
    let micros = match fraction.split_first() {
        None => 0,
        Some((b'.', digits)) if (1..=6).contains(&digits.len()) => {
            number(digits)? * 10_i64.pow(6 - digits.len() as u32)
        }
        Some(_) => return Err(wrong()),
    };
    Ok(((hour * 60 + minute) * 60 + second) * 1_000_000 + micros)
}

/// Up to seven decimal digits.
fn number(digits: &[u8]) -> Result<i64> {
    if digits.is_empty() || digits.len() > 7 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(wrong());
    }
    Ok(digits.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0')))
}

fn days_in_month(year: i64, month: i64) -> i64 {
    let leap = year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Proleptic Gregorian, with years that begin in March so that the leap day is the last.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - EPOCH_DAYS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_as_postgresql_counts_them() {
        assert_eq!(date(b"2000-01-01").unwrap(), 0);
        assert_eq!(date(b"1970-01-01").unwrap(), -10_957);
        assert_eq!(date(b"2024-02-29").unwrap(), 8_825);
        // The Julian day 0 is 2,451,545 days before.
        assert_eq!(date(b"4714-11-24 BC").unwrap(), -2_451_545);
        assert_eq!(timestamp(b"2000-01-01 00:00:01.5+00").unwrap(), 1_500_000);
        assert_eq!(timestamp(b"1999-12-31 23:59:59").unwrap(), -1_000_000);
        // PostgreSQL's END_TIMESTAMP is the microsecond after its last.
        assert_eq!(timestamp(b"294276-12-31 23:59:59.999999").unwrap(), 9_223_371_331_199_999_999);
    }
}
