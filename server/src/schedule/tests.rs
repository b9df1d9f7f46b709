//! Due times, worked out by hand and by property.

use proptest::prelude::*;

use super::*;

fn ms(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_millisecond()
}

fn daily(time: &str, timezone: &str) -> Timing {
    Timing::parse(Frequency::Daily, None, time, timezone).unwrap()
}

fn weekly(weekday: Weekday, time: &str, timezone: &str) -> Timing {
    Timing::parse(Frequency::Weekly, Some(weekday), time, timezone).unwrap()
}

#[track_caller]
fn runs(timing: &Timing, after: &str, expected: &[&str]) {
    let found = timing.next_runs(ms(after), expected.len());
    let found: Vec<String> = found.into_iter().map(crate::api::rfc3339).collect();
    let expected: Vec<String> = expected.iter().map(|text| crate::api::rfc3339(ms(text))).collect();
    assert_eq!(found, expected, "{timing}");
}

#[test]
fn a_time_of_day_moves_against_utc_with_the_seasons() {
    let timing = daily("02:00", "Europe/Berlin");
    runs(&timing, "2026-02-03T00:59:59Z", &["2026-02-03T01:00:00Z", "2026-02-04T01:00:00Z"]);
    runs(&timing, "2026-02-03T01:00:00Z", &["2026-02-04T01:00:00Z"]);
    runs(&timing, "2026-07-01T12:00:00Z", &["2026-07-02T00:00:00Z"]);
}

#[test]
fn a_time_that_does_not_exist_is_due_as_much_later_as_the_clocks_go_forward() {
    // Clocks went from 02:00 to 03:00 on 2026-03-29.
    let expected = ["2026-03-28T01:30:00Z", "2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"];
    runs(&daily("02:30", "Europe/Berlin"), "2026-03-27T12:00:00Z", &expected);
    // In Lord Howe they go by half an hour.
    runs(&daily("02:15", "Australia/Lord_Howe"), "2026-10-03T00:00:00Z", &["2026-10-03T15:45:00Z"]);
    // 24 hours: Samoa had no 30 December 2011. What was due on it is due with the day after.
    let expected = ["2011-12-29T12:00:00Z", "2011-12-30T12:00:00Z", "2011-12-31T12:00:00Z"];
    runs(&daily("02:00", "Pacific/Apia"), "2011-12-29T00:00:00Z", &expected);
}

#[test]
fn a_time_that_exists_twice_is_due_the_first_time_only() {
    // Clocks went from 03:00 back to 02:00 on 2026-10-25.
    let expected = ["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"];
    runs(&daily("02:30", "Europe/Berlin"), "2026-10-23T12:00:00Z", &expected);
    // America goes back at night, too: 01:30 is there twice.
    let expected = ["2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"];
    runs(&daily("01:30", "America/New_York"), "2026-10-31T12:00:00Z", &expected);
}

#[test]
fn a_week_is_a_week_of_the_zone() {
    // Monday 00:30 in Auckland is Sunday in UTC.
    let timing = weekly(Weekday::Monday, "00:30", "Pacific/Auckland");
    runs(&timing, "2026-06-01T00:00:00Z", &["2026-06-07T12:30:00Z", "2026-06-14T12:30:00Z"]);
    let timing = weekly(Weekday::Sunday, "02:30", "Europe/Berlin");
    runs(&timing, "2026-03-24T00:00:00Z", &["2026-03-29T01:30:00Z", "2026-04-05T00:30:00Z"]);
    for (at, weekday) in Weekday::ALL.into_iter().enumerate() {
        // 2026-06-01 was a Monday.
        let day = format!("2026-06-0{}T12:00:00Z", at + 1);
        runs(&weekly(weekday, "12:00", "UTC"), "2026-05-31T23:00:00Z", &[&day]);
    }
}

#[test]
fn what_passed_is_run_once_and_the_rest_was_missed() {
    let timing = daily("02:00", "UTC");
    let look = |handled: &str, now: &str| timing.look(ms(handled), ms(now));
    let due = |day: &str| Some(ms(&format!("2026-02-{day}T02:00:00Z")));
    assert_eq!(look("2026-02-03T02:00:00Z", "2026-02-04T01:59:59Z"), Look::default());
    let on_time = Look { run: due("04"), missed: None, missed_runs: 0 };
    assert_eq!(look("2026-02-03T02:00:00Z", "2026-02-04T02:00:00Z"), on_time);
    assert_eq!(look("2026-02-03T02:00:00Z", "2026-02-04T02:10:00Z"), on_time);
    let late = Look { run: due("04"), missed: due("04"), missed_runs: 1 };
    assert_eq!(look("2026-02-03T02:00:00Z", "2026-02-04T02:10:01Z"), late);
    // Away for days, back in the evening: one run for four that were missed.
    let back = Look { run: due("07"), missed: due("07"), missed_runs: 4 };
    assert_eq!(look("2026-02-03T02:00:00Z", "2026-02-07T20:00:00Z"), back);
    // Back just in time for the last: that one is not missed.
    let just = Look { run: due("07"), missed: due("06"), missed_runs: 3 };
    assert_eq!(look("2026-02-03T02:00:00Z", "2026-02-07T02:01:00Z"), just);
}

/// What ran by a clock that was ahead is run again at its time, but for what ran minutes before.
#[test]
fn a_due_time_that_the_clock_has_yet_to_reach_is_not_done_with() {
    let timing = daily("02:00", "UTC");
    let due = ms("2026-02-04T02:00:00Z");
    let cases = [
        ("2031-02-04T02:00:00Z", "2026-02-04T01:59:00Z", Some(due)),
        ("2026-02-04T02:00:00Z", "2026-02-03T06:00:00Z", Some(due)),
        ("2026-02-04T02:00:00Z", "2026-02-04T01:49:59Z", Some(due)),
        ("2026-02-04T02:00:00Z", "2026-02-04T01:50:00Z", None),
        ("2026-02-04T02:00:00Z", "2026-02-04T01:59:59Z", None),
    ];
    for (handled, corrected, run) in cases {
        let (handled_ms, now_ms) = (ms(handled), ms(corrected));
        assert_eq!(timing.look(handled_ms, now_ms), Look::default(), "nothing is due at {corrected}");
        let handled_ms = believed(handled_ms, now_ms);
        assert_eq!(timing.look(handled_ms, due).run, run, "{handled} at {corrected}");
    }
}

#[test]
fn weekdays_are_read_by_name_and_by_number() {
    let read = |text: &str| serde_json::from_str::<Weekday>(text).map_err(|error| error.to_string());
    for (text, day) in [
        ("\"sunday\"", Weekday::Sunday),
        ("\"Sunday\"", Weekday::Sunday),
        ("\"WED\"", Weekday::Wednesday),
        ("0", Weekday::Sunday),
        ("1", Weekday::Monday),
        ("6", Weekday::Saturday),
        ("7", Weekday::Sunday),
        ("\"0\"", Weekday::Sunday),
        ("\"1\"", Weekday::Monday),
    ] {
        assert_eq!(read(text), Ok(day), "{text}");
    }
    for text in ["8", "-1", "1.5", "\"\"", "\"sundays\"", "\"8\"", "true"] {
        let error = read(text).unwrap_err();
        assert!(error.contains("expected a day of the week: monday to sunday, or 1 for Monday"), "{error}");
    }
    for day in Weekday::ALL {
        assert_eq!(read(&serde_json::to_string(&day).unwrap()), Ok(day), "as it is stored");
    }
}

#[test]
fn due_times_are_told_by_the_clocks_of_their_zone() {
    let timing = daily("02:30", "Europe/Berlin");
    // It does not exist that night: the run is at 03:30 by clocks that have gone forward.
    let at_ms = timing.next_after(ms("2026-03-28T12:00:00Z")).unwrap();
    assert_eq!(timing.local(at_ms), "Sun 2026-03-29 03:30 UTC+02:00");
    assert_eq!(timing.local_rfc3339(at_ms), "2026-03-29T03:30:00+02:00");
    assert_eq!(daily("02:30", "UTC").local(ms("2026-03-28T02:30:00Z")), "Sat 2026-03-28 02:30 UTC+00:00");
    assert_eq!(
        daily("02:30", "Asia/Kolkata").local(ms("2026-03-28T02:30:00Z")),
        "Sat 2026-03-28 08:00 UTC+05:30"
    );
}

#[test]
fn what_cannot_be_a_timing_is_refused() {
    let parse = |time: &str, zone: &str| Timing::parse(Frequency::Daily, None, time, zone);
    for time in ["", "2:00", "24:00", "02:60", "02-00", "+1:00", "02:00:00", "noon"] {
        assert_eq!(parse(time, "UTC"), Err(TimingError::Time), "{time}");
    }
    for name in ["", "Berlin", "Mars/Olympus", "+02:00", "../UTC"] {
        assert_eq!(parse("02:00", name), Err(TimingError::TimeZone), "{name}");
    }
    let weekly = Timing::parse(Frequency::Weekly, None, "02:00", "UTC");
    assert_eq!(weekly, Err(TimingError::NoWeekday));
    let daily = Timing::parse(Frequency::Daily, Some(Weekday::Friday), "02:00", "UTC");
    assert_eq!(daily, Err(TimingError::Weekday));
    assert_eq!(parse("02:00", "europe/berlin").unwrap().to_string(), "every day at 02:00 Europe/Berlin");
}

/// Timings in zones that go by the hour, by half an hour, not at all, and over the date line.
fn timings() -> impl Strategy<Value = Timing> {
    let zones =
        ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Apia", "UTC"];
    let weekday = prop_oneof![Just(None), prop::sample::select(Weekday::ALL.to_vec()).prop_map(Some)];
    (weekday, 0_i8..24, 0_i8..60, prop::sample::select(zones.to_vec())).prop_map(
        |(weekday, hour, minute, zone)| {
            let frequency = if weekday.is_some() { Frequency::Weekly } else { Frequency::Daily };
            Timing::parse(frequency, weekday, &format!("{hour:02}:{minute:02}"), zone).unwrap()
        },
    )
}

/// From 2010, so that Samoa's missing day is among them, to 2030.
fn moments() -> impl Strategy<Value = i64> {
    ms("2010-01-01T00:00:00Z")..ms("2030-01-01T00:00:00Z")
}

const HOUR_MS: i64 = 60 * 60 * 1000;

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// A due time comes after the moment asked about, and neither too soon nor too late after another.
    #[test]
    fn due_times_are_a_day_or_a_week_apart(timing in timings(), after_ms in moments()) {
        let runs = timing.next_runs(after_ms, 4);
        prop_assert_eq!(runs.len(), 4);
        prop_assert!(runs[0] > after_ms);
        let period = if timing.weekday().is_some() { 7 * 24 * HOUR_MS } else { 24 * HOUR_MS };
        // A day is 23 to 25 hours, and one of Samoa's was none.
        let slack = if timing.timezone() == "Pacific/Apia" { 25 * HOUR_MS } else { HOUR_MS };
        for pair in runs.windows(2) {
            prop_assert!((pair[1] - pair[0] - period).abs() <= slack, "{} {:?}", timing, runs);
        }
    }

    /// Whatever moment one asks at between two due times, the answer is the same.
    #[test]
    fn the_next_due_time_does_not_depend_on_when_one_asks(timing in timings(), after_ms in moments(), part in 0.0..1.0) {
        let [first, second] = timing.next_runs(after_ms, 2)[..] else { unreachable!() };
        let between = first + ((second - first) as f64 * part) as i64;
        prop_assert_eq!(timing.next_after(between.min(second - 1)), Some(second));
    }

    /// However the looks at the clock fall, every due time is run for or counted as missed, once.
    #[test]
    fn no_due_time_is_lost_or_doubled(
        timing in timings(),
        start_ms in moments(),
        pauses in prop::collection::vec(0..20 * 24 * HOUR_MS, 1..20),
    ) {
        let (mut now_ms, mut handled_ms, mut run, mut passed_by) = (start_ms, start_ms, Vec::new(), 0);
        for pause in pauses {
            now_ms += pause;
            let look = timing.look(handled_ms, now_ms);
            if let Some(due) = look.run {
                run.push(due);
                handled_ms = due;
                let caught_up = u32::from(look.missed == Some(due));
                passed_by += look.missed_runs - caught_up;
            }
            prop_assert_eq!(timing.look(handled_ms, now_ms), Look::default());
        }
        let all = std::iter::successors(timing.next_after(start_ms), |at| timing.next_after(*at));
        let all: Vec<i64> = all.take_while(|at| *at <= now_ms).collect();
        prop_assert!(run.iter().all(|due| all.contains(due)) && run.is_sorted());
        prop_assert_eq!(run.len() + passed_by as usize, all.len());
    }
}
