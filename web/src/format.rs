//! Numbers, sizes and times as people read them. Times are milliseconds since 1970, UTC.

use maud::{Markup, html};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
/// Clocks of two machines may differ by so much, and nobody has to hear of it.
const AHEAD_MS: i64 = -10 * MINUTE_MS;

/// `1234567` as `1,234,567`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 row`, `2 rows`: the word follows the number. Only for words whose plural is a plain `s`.
pub fn count_of(n: u64, one: &str) -> String {
    format!("{} {one}{}", count(n), if n == 1 { "" } else { "s" })
}

/// Bytes in decimal units with three significant figures: `0 B`, `999 B`, `1.23 MB`.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if n < 1000 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1000.0;
    let mut unit = 0;
    // 999.5 would round to "1000 kB".
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = if value < 9.995 {
        2
    } else if value < 99.95 {
        1
    } else {
        0
    };
    format!("{value:.decimals$} {}", UNITS[unit])
}

/// A span of time, at most two units: `450 ms`, `12 s`, `3 min 20 s`, `2 h 5 min`.
pub fn duration(ms: i64) -> String {
    let ms = ms.max(0);
    if ms < 1000 {
        return format!("{ms} ms");
    }
    if ms < 10_000 {
        return format!("{}.{} s", ms / 1000, ms % 1000 / 100);
    }
    if ms < MINUTE_MS {
        return format!("{} s", ms / 1000);
    }
    if ms < HOUR_MS {
        return format!("{} min {} s", ms / MINUTE_MS, ms % MINUTE_MS / 1000);
    }
    format!("{} h {} min", ms / HOUR_MS, ms % HOUR_MS / MINUTE_MS)
}

/// How long before `now_ms` something was: `just now`, `5 minutes ago`, `3 days ago`. Nothing that was can
/// have been later than now, but by a clock that was wrong.
pub fn ago(at_ms: i64, now_ms: i64) -> String {
    let elapsed = now_ms - at_ms;
    let (n, unit) = match elapsed {
        i64::MIN..AHEAD_MS => return "in the future: the clock was wrong then".to_owned(),
        AHEAD_MS..MINUTE_MS => return "just now".to_owned(),
        MINUTE_MS..HOUR_MS => (elapsed / MINUTE_MS, "minute"),
        HOUR_MS..DAY_MS => (elapsed / HOUR_MS, "hour"),
        _ => (elapsed / DAY_MS, "day"),
    };
    format!("{} ago", count_of(n.unsigned_abs(), unit))
}

/// A moment, absolute and relative, in a `<time>` element.
pub fn time(at_ms: i64, now_ms: i64) -> Markup {
    html! {
        time datetime=(rfc3339(at_ms)) { span.at { (second(at_ms)) " UTC" } span.ago { " · " (ago(at_ms, now_ms)) } }
    }
}

/// As [`time`], the relative form below the absolute one: for tables with many columns.
pub fn time_stacked(at_ms: i64, now_ms: i64) -> Markup {
    html! {
        time datetime=(rfc3339(at_ms)) { span.at { (second(at_ms)) " UTC" } " " span.ago.below { (ago(at_ms, now_ms)) } }
    }
}

/// A moment in a `<time>` element, where the relative form would only be noise.
pub fn time_absolute(at_ms: i64) -> Markup {
    html! { time datetime=(rfc3339(at_ms)) { span.at { (second(at_ms)) " UTC" } } }
}

/// `2026-02-03 14:05:09`. To the second, or snapshots taken around a quick change look alike.
fn second(at_ms: i64) -> String {
    rfc3339(at_ms).replace('T', " ").trim_end_matches('Z').to_owned()
}

/// `2026-02-03T14:05:09Z`.
pub fn rfc3339(at_ms: i64) -> String {
    let c = civil(at_ms);
    format!("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", c.year, c.month, c.day, c.hour, c.minute, c.second)
}

struct Civil {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
}

/// The Gregorian date and time of day of a UTC moment. Counting years from March puts the leap day
/// last, so that the length of every month but the last follows one formula.
fn civil(at_ms: i64) -> Civil {
    const DAYS_PER_ERA: i64 = 146_097; // 400 years
    let of_day = at_ms.rem_euclid(DAY_MS) / 1000;
    let days = at_ms.div_euclid(DAY_MS) + 719_468; // from 0000-03-01
    let era = days.div_euclid(DAYS_PER_ERA);
    let day_of_era = days.rem_euclid(DAYS_PER_ERA);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    Civil {
        year: year_of_era + era * 400 + i64::from(month <= 2),
        month,
        day: day_of_year - (153 * from_march + 2) / 5 + 1,
        hour: of_day / 3600,
        minute: of_day % 3600 / 60,
        second: of_day % 60,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped_by_thousands() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_000), "1,000");
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
        assert_eq!(count_of(1, "table"), "1 table");
        assert_eq!(count_of(1200, "table"), "1,200 tables");
    }

    #[test]
    fn sizes_keep_three_figures_and_never_read_1000() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_000), "1.00 kB");
        assert_eq!(bytes(12_345), "12.3 kB");
        assert_eq!(bytes(999_499), "999 kB");
        assert_eq!(bytes(999_999), "1.00 MB");
        assert_eq!(bytes(340_000_000), "340 MB");
        assert_eq!(bytes(u64::MAX), "18447 PB");
    }

    #[test]
    fn durations_use_at_most_two_units() {
        assert_eq!(duration(-5), "0 ms");
        assert_eq!(duration(450), "450 ms");
        assert_eq!(duration(1_950), "1.9 s");
        assert_eq!(duration(59_999), "59 s");
        assert_eq!(duration(200_000), "3 min 20 s");
        assert_eq!(duration(7_500_000), "2 h 5 min");
    }

    #[test]
    fn dates_agree_with_known_moments() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_400_000), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_709_251_199_000), "2024-02-29T23:59:59Z");
        assert_eq!(rfc3339(4_107_542_400_000), "2100-03-01T00:00:00Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59Z");
    }

    #[test]
    fn ages_are_whole_units_and_the_future_is_no_age() {
        assert_eq!(ago(10, 5), "just now");
        assert_eq!(ago(10 * MINUTE_MS, 0), "just now");
        assert_eq!(ago(10 * MINUTE_MS + 1, 0), "in the future: the clock was wrong then");
        assert_eq!(ago(0, 59_999), "just now");
        assert_eq!(ago(0, 60_000), "1 minute ago");
        assert_eq!(ago(0, 2 * HOUR_MS), "2 hours ago");
        assert_eq!(ago(0, 400 * DAY_MS), "400 days ago");
    }

    #[test]
    fn a_time_carries_both_forms() {
        let markup = time(0, 3 * DAY_MS).into_string();
        assert_eq!(
            markup,
            r#"<time datetime="1970-01-01T00:00:00Z"><span class="at">1970-01-01 00:00:00 UTC</span><span class="ago"> · 3 days ago</span></time>"#
        );
    }
}
