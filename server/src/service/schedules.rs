//! Schedules: setting them, and queueing what is due.

use engine::cost::Freed;
use engine::retention::{self, Keep, Period};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{audit, databases, snapshots, usage};
use crate::app::App;
use crate::audit::{Event, action};
use crate::error::{Problem, Result};
use crate::ids::{DatabaseId, UserId};
use crate::jobs;
use crate::meta::{ConnectedDatabase, DueRun, PageRequest, Reason, Schedule, Work};
use crate::schedule::{Frequency, Looks, Reading, Timing, TimingError, Way, Weekday, believed, is_ahead};

/// The most a rule may keep.
const MAX_KEEP: u32 = 10_000;
/// How many of its next runs a schedule tells.
const NEXT_RUNS: usize = 3;

/// A schedule as somebody writes it.
#[derive(Clone, Debug)]
pub struct NewSchedule {
    pub frequency: Frequency,
    pub weekday: Option<Weekday>,
    pub time: String,
    pub timezone: String,
    pub keep: Keep,
}

/// What rules would do with the snapshots that a database has now.
pub struct Preview {
    /// Newest first, with the reasons.
    pub kept: Vec<(engine::repo::Snapshot, Vec<retention::Reason>)>,
    /// Newest first.
    pub removed: Vec<engine::repo::Snapshot>,
}

/// What goes by a schedule's rules.
pub struct Removal {
    /// Newest first.
    pub snapshots: Vec<engine::repo::Snapshot>,
    /// What comes free with them; none if it could not be counted in time.
    pub freed: Option<Freed>,
}

/// A database's schedule.
pub async fn find(app: &App, user: UserId, database: DatabaseId) -> Result<Option<Schedule>> {
    databases::find(app, user, database).await?;
    Ok(app.meta.schedule(database).await?)
}

/// The next three runs, in milliseconds since 1970.
pub fn next_runs(app: &App, schedule: &Schedule) -> Vec<i64> {
    let now_ms = app.now_ms();
    schedule.timing.next_runs(believed(schedule.handled_ms, now_ms).max(now_ms), NEXT_RUNS)
}

/// Runs that were missed and that somebody should hear of.
pub struct Missed {
    /// The last due time of them.
    pub last_ms: i64,
    pub runs: u32,
    /// Why the last was, in a sentence.
    pub because: String,
    /// Whether a complete backup was taken since.
    pub is_caught_up: bool,
}

/// What a schedule missed, until the first run that was due after that has left a complete backup.
pub fn missed(schedule: &Schedule, database: &ConnectedDatabase, now_ms: i64) -> Option<Missed> {
    let last_ms = schedule.last_missed_ms?;
    let complete_ms = database.last_complete_ms.filter(|at_ms| !is_ahead(*at_ms, now_ms));
    let has_since = |at_ms: i64| complete_ms.is_some_and(|complete_ms| complete_ms >= at_ms);
    let is_over = schedule.timing.next_after(last_ms).is_some_and(has_since);
    (!is_over).then(|| Missed {
        last_ms,
        runs: schedule.missed_runs,
        because: missed_because(schedule).unwrap_or_default(),
        is_caught_up: has_since(last_ms),
    })
}

/// Why the last run was missed that was, in a sentence.
pub fn missed_because(schedule: &Schedule) -> Option<String> {
    schedule.last_missed_ms?;
    Some(match schedule.missed_because {
        Some(reason) => reason.describe(),
        None => "The server was not running then, or ended before the backup did.".to_owned(),
    })
}

/// Sets a database's schedule; the first run is the next due time from now on.
pub async fn set(app: &App, user: UserId, id: DatabaseId, new: NewSchedule) -> Result<Schedule> {
    let database = databases::find(app, user, id).await?;
    let (timing, keep) = checked(&new)?;
    // A run that is due at this moment stays due, unless the times are others now.
    let same = app.meta.schedule(id).await?.filter(|before| before.timing == timing);
    let (handled_ms, repeated_ms, aside) = match same {
        Some(same) => (same.handled_ms, same.repeated_ms, same.aside),
        None => (app.now_ms(), None, Vec::new()),
    };
    let schedule = Schedule {
        database_id: id,
        project_id: database.project_id,
        user_id: user,
        timing,
        keep,
        handled_ms,
        repeated_ms,
        aside,
        last_missed_ms: None,
        missed_runs: 0,
        missed_because: None,
        missed_total: 0,
    };
    let event = Event::new(action::SCHEDULE_SET, audit::database(id))
        .with("database", &database.name)
        .with("runs", schedule.timing.to_string())
        .with("keep", keep);
    let done = app.meta.set_schedule(schedule).await.map_err(Problem::from);
    audit::record(app, user, event, done).await
}

/// Removes a database's schedule; there must be one.
pub async fn remove(app: &App, user: UserId, id: DatabaseId) -> Result<()> {
    let database = databases::find(app, user, id).await?;
    if !app.meta.remove_schedule(id).await? {
        return Err(Problem::not_found());
    }
    let event = Event::new(action::SCHEDULE_REMOVE, audit::database(id)).with("database", &database.name);
    audit::record(app, user, event, Ok(())).await
}

/// What a schedule's rules would do with the snapshots that are there now. Changes nothing.
pub async fn preview(app: &App, user: UserId, id: DatabaseId, new: &NewSchedule) -> Result<Preview> {
    databases::find(app, user, id).await?;
    let (timing, keep) = checked(new)?;
    let all = snapshots::list(app, user, id, PageRequest::all()).await?.items;
    Ok(decide(all, &keep, &timing, app.now_ms()))
}

/// What would come free if a database's snapshots went that a preview removes.
pub async fn freed(app: &App, user: UserId, id: DatabaseId, preview: &Preview) -> Result<Option<Freed>> {
    let database = databases::find(app, user, id).await?;
    usage::freed(app, database.project_id, &preview.removed).await
}

/// Whether the rules, or the days that they go by, are others than those in force: then they are shown
/// before they are saved, whatever they do.
pub async fn changes_rules(app: &App, id: DatabaseId, new: &NewSchedule) -> Result<bool> {
    let (timing, keep) = checked(new)?;
    Ok(match app.meta.schedule(id).await? {
        None => !keep.keeps_all(),
        Some(set) => set.keep != keep || (!keep.keeps_all() && set.timing.timezone() != timing.timezone()),
    })
}

/// What goes of the snapshots that are there now by a schedule's rules.
pub async fn would_remove(app: &App, schedule: &Schedule) -> Result<Removal> {
    let all = snapshots::list(app, schedule.user_id, schedule.database_id, PageRequest::all()).await?.items;
    let snapshots = decide(all, &schedule.keep, &schedule.timing, app.now_ms()).removed;
    let freed = usage::freed(app, schedule.project_id, &snapshots).await?;
    Ok(Removal { snapshots, freed })
}

/// Applies rules to a database's snapshots, by the calendar of its time zone.
pub fn decide(all: Vec<engine::repo::Snapshot>, keep: &Keep, timing: &Timing, now_ms: i64) -> Preview {
    let rows: Vec<_> = (all.iter().enumerate())
        .map(|(at, snapshot)| retention::Snapshot {
            // Newest come first, and of two of one moment the first listed is the newer.
            id: std::cmp::Reverse(at),
            source: snapshot.manifest.source.id.as_str(),
            at_ms: snapshot.manifest.started_ms,
            complete: snapshot.manifest.is_complete(),
            pinned: snapshot.mark.pinned,
        })
        .collect();
    let zone = timing.zone();
    let decision = retention::decide(&rows, keep, now_ms, |at_ms| period(at_ms, &zone));
    let kept = decision.kept.into_iter().map(|(at, reasons)| (all[at.0].clone(), reasons)).collect();
    let removed = decision.removed.into_iter().map(|at| all[at.0].clone()).collect();
    Preview { kept, removed }
}

/// The day, week (from Monday on) and month of a moment in a time zone.
fn period(at_ms: i64, zone: &TimeZone) -> Period {
    let at = Timestamp::from_millisecond(at_ms).unwrap_or(Timestamp::UNIX_EPOCH);
    let date = at.to_zoned(zone.clone()).date();
    let midnight = date.to_zoned(TimeZone::UTC).map_or(0, |midnight| midnight.timestamp().as_second());
    let days = midnight.div_euclid(24 * 60 * 60);
    Period {
        day: days,
        // 1970 began on a Thursday.
        week: (days + 3).div_euclid(7),
        month: i64::from(date.year()) * 12 + i64::from(date.month()),
    }
}

fn checked(new: &NewSchedule) -> Result<(Timing, Keep)> {
    let timing = Timing::parse(new.frequency, new.weekday, &new.time, &new.timezone).map_err(|error| {
        let field = match error {
            TimingError::Time => "time",
            TimingError::TimeZone => "timezone",
            TimingError::NoWeekday | TimingError::Weekday => "weekday",
        };
        Problem::invalid(field, error.to_string())
    })?;
    let Keep { last, daily, weekly, monthly } = new.keep;
    if [last, daily, weekly, monthly].into_iter().flatten().any(|count| !(1..=MAX_KEEP).contains(&count)) {
        let detail = format!("Keep 1 to {MAX_KEEP} of each, or leave it out.");
        return Err(Problem::invalid("keep", detail));
    }
    Ok((timing, new.keep))
}

/// Looks at the clock once: queues a backup for every schedule that is due. What fails stays due.
pub async fn queue_due(app: &App) -> Result<()> {
    // One after the other, or who has waited longest would not be first in the queue.
    let mut looks = app.queue.looking.lock().await;
    let reading = Reading { now_ms: app.now_ms(), elapsed_ms: app.elapsed_ms() };
    let way = looks.way_to(reading);
    if let Way::SetBack | Way::Leapt { .. } = way {
        jobs::clock_was_set(app);
    }
    let done = queue_due_at(app, &looks, reading.now_ms, way).await;
    looks.looked(reading, done.is_ok());
    done
}

async fn queue_due_at(app: &App, looks: &Looks, now_ms: i64, way: Way) -> Result<()> {
    let mut due = Vec::new();
    for mut schedule in app.meta.schedules().await? {
        if schedule.settled(now_ms, way) != schedule {
            tracing::warn!(database = %schedule.database_id, ?way, "the clock was set; a schedule is put right by it");
            let settled = app.meta.settle_schedule(schedule.database_id, now_ms, way).await?;
            let Some(settled) = settled else { continue };
            schedule = settled;
        }
        let look = schedule.timing.look(schedule.handled_ms, now_ms);
        if let Some(due_ms) = look.run {
            due.push((due_ms, schedule, look));
        }
    }
    // Whoever has waited longest goes first; of one minute, the database that is here longest.
    due.sort_by_key(|(due_ms, schedule, _)| (*due_ms, schedule.database_id));
    for (due_ms, schedule, look) in due {
        let (database, project, user) = (schedule.database_id, schedule.project_id, schedule.user_id);
        let missed = look.missed.map(|missed_ms| (missed_ms, look.missed_runs));
        let because = match way {
            Way::Leapt { from_ms } if look.missed > Some(from_ms) => Reason::Leapt { from_ms, to_ms: now_ms },
            _ if look.missed.is_some_and(|missed_ms| looks.has_failed_at(missed_ms)) => Reason::NotQueued,
            _ => Reason::NotRunning,
        };
        let work = Work::Backup { database_id: database, note: None, due_ms: Some(due_ms) };
        let job = jobs::scheduled_record(app, project, user, work);
        jobs::enqueue_due(app, schedule, DueRun { due_ms, missed, because, job }).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_those_of_the_time_zone() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap().as_millisecond();
        let berlin = crate::schedule::zone("Europe/Berlin").unwrap();
        // 23:30 UTC on Sunday is 00:30 on Monday, the 1st of June 2026, in Berlin.
        let (sunday, monday) = (at("2026-05-31T21:30:00Z"), at("2026-05-31T22:30:00Z"));
        let (before, after) = (period(sunday, &berlin), period(monday, &berlin));
        assert_eq!((after.day, after.week, after.month), (before.day + 1, before.week + 1, before.month + 1));
        assert_eq!(period(sunday, &TimeZone::UTC), period(monday, &TimeZone::UTC));
        let old = period(at("1969-12-28T12:00:00Z"), &TimeZone::UTC);
        assert_eq!((old.day, old.week), (-4, -1));
        assert_eq!(period(at("1969-12-29T12:00:00Z"), &TimeZone::UTC).week, 0);
    }
}
