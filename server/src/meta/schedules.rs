//! Schedules of databases, and up to when their due times are done with.

mod clocks;

use engine::retention::Keep;
use redb::WriteTransaction;
use serde::{Deserialize, Serialize};

pub use self::clocks::PutAside;
use super::rows::{self, SCHEDULES};
use super::{ConnectedDatabase, JobRecord, JobState, Meta, Result, Work, Writing, audit, jobs};
use crate::audit::{Actor, Event, Outcome, action};
use crate::ids::{DatabaseId, JobId, ProjectId, UserId};
use crate::schedule::{Timing, is_ahead};

/// A run that waits longer than this for a worker is told of: on a busy server some wait for minutes.
const LATE_MS: i64 = 60 * 60 * 1000;

/// When a database is backed up, and which snapshots stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    pub database_id: DatabaseId,
    pub project_id: ProjectId,
    /// Who set it: its runs are this account's jobs.
    pub user_id: UserId,
    pub timing: Timing,
    pub keep: Keep,
    /// Due times up to here are done with: their backups are queued, or they were missed.
    pub handled_ms: i64,
    /// The last due time whose backup did not begin then.
    pub last_missed_ms: Option<i64>,
    /// How many were missed by then since the last complete backup.
    pub missed_runs: u32,
    /// Why the last was; none where a version before reasons told of it.
    #[serde(default)]
    pub missed_because: Option<Reason>,
    /// How many were missed since there is a schedule.
    #[serde(default)]
    pub missed_total: u64,
    /// The due time whose backup the server's end cut off, and which became due again for it.
    #[serde(default)]
    pub repeated_ms: Option<i64>,
    /// What was done with by clocks that read later.
    #[serde(default)]
    pub aside: Vec<PutAside>,
}

/// Why a backup did not begin when it was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Nobody who is here now looked at the clock then.
    NotRunning,
    /// The backup could not be queued then.
    NotQueued,
    /// The clock was set forward over that time, or the computer slept.
    Leapt { from_ms: i64, to_ms: i64 },
    /// It began, and the server ended.
    CutOff,
    /// The backup of an earlier time waited for a worker, since then; none if a clock that was ahead says so.
    Waiting { since_ms: Option<i64> },
    /// The backup of an earlier time ran, since then; none if a clock that was ahead says so.
    Running { since_ms: Option<i64> },
    /// It was queued, and began then.
    BegunLate { at_ms: i64 },
}

impl Reason {
    /// In a sentence.
    pub fn describe(self) -> String {
        let minute = |at_ms| Timing::utc(at_ms);
        let since = |at_ms: Option<i64>| match at_ms {
            Some(at_ms) => format!("since {}", minute(at_ms)),
            None => "since before the clock was set right".to_owned(),
        };
        match self {
            Self::NotRunning => {
                "The server was not running then, or could not note down that a backup begins.".to_owned()
            }
            Self::NotQueued => {
                "The server could not note down that the backup begins: its data folder took no writes."
                    .to_owned()
            }
            Self::Leapt { from_ms, to_ms } => format!(
                "The server's clock did not show that time: it went from {} to {}.",
                minute(from_ms),
                minute(to_ms)
            ),
            Self::CutOff => "The server ended before the backup did.".to_owned(),
            Self::Waiting { since_ms } => format!(
                "The scheduled backup before it was waiting for a worker, {}: no other is queued behind it.",
                since(since_ms)
            ),
            Self::Running { since_ms } => format!(
                "The scheduled backup before it was still running, {}: no other is queued behind it.",
                since(since_ms)
            ),
            Self::BegunLate { at_ms } => {
                let begun = minute(at_ms);
                format!(
                    "Its backup was queued then, and began at {begun}: no worker was free, or the server was down."
                )
            }
        }
    }
}

/// Runs that were missed.
struct Missed {
    /// The last due time of them.
    last_ms: i64,
    runs: u32,
    because: Reason,
}

/// A due time whose backup is to be queued.
pub struct DueRun {
    pub due_ms: i64,
    /// The last due time that was missed on the way to this one, and how many were.
    pub missed: Option<(i64, u32)>,
    /// Why they were, unless an earlier run stood in the way.
    pub because: Reason,
    pub job: JobRecord,
}

impl Meta {
    pub async fn schedule(&self, database: DatabaseId) -> Result<Option<Schedule>> {
        self.read(move |tx| rows::get(&tx.open_table(SCHEDULES)?, &database.to_string())).await
    }

    /// All schedules, by the age of their databases.
    pub async fn schedules(&self) -> Result<Vec<Schedule>> {
        self.read(|tx| {
            let mut found = Vec::new();
            for entry in tx.open_table(SCHEDULES)?.range::<&str>(..)? {
                found.push(serde_json::from_slice(entry?.1.value())?);
            }
            Ok(found)
        })
        .await
    }

    /// Sets a database's schedule. What was missed before stays known.
    pub async fn set_schedule(&self, schedule: Schedule) -> Result<Schedule> {
        self.write(move |tx| {
            let key = schedule.database_id.to_string();
            let before: Option<Schedule> = rows::get(&tx.open_table(SCHEDULES)?, &key)?;
            let schedule = match before {
                None => schedule,
                Some(Schedule { last_missed_ms, missed_runs, missed_because, missed_total, .. }) => {
                    Schedule { last_missed_ms, missed_runs, missed_because, missed_total, ..schedule }
                }
            };
            rows::put(tx, SCHEDULES, &key, &schedule)?;
            Ok(schedule)
        })
        .await
    }

    /// Removes a database's schedule; tells whether there was one.
    pub async fn remove_schedule(&self, database: DatabaseId) -> Result<bool> {
        self.write(move |tx| Ok(tx.open_table(SCHEDULES)?.remove(database.to_string().as_str())?.is_some()))
            .await
    }

    /// Queues the backup of a due time, in the one step in which the due time is done with, so that no
    /// crash loses or doubles it. False if the schedule is not as `seen` any more, or its last run waits or
    /// runs still: then the time is missed.
    pub async fn queue_due(&self, seen: Schedule, run: DueRun) -> Result<bool> {
        self.write(move |tx| {
            let key = seen.database_id.to_string();
            let found: Option<Schedule> = rows::get(&tx.open_table(SCHEDULES)?, &key)?;
            let Some(mut schedule) = found.filter(|found| *found == seen) else { return Ok(false) };
            schedule.handled_ms = run.due_ms;
            let open = jobs::open_run(tx, seen.database_id, None)?;
            if let Some(missed) = missed_by(&run, open.as_ref()) {
                miss(tx, &mut schedule, missed, run.job.created_ms)?;
            }
            rows::put(tx, SCHEDULES, &key, &schedule)?;
            if open.is_none() {
                jobs::add(tx, &run.job)?;
            }
            Ok(open.is_none())
        })
        .await
    }
}

/// What is missed when a due time has come: those that passed before, and where an earlier run is `open`
/// this one, too.
fn missed_by(run: &DueRun, open: Option<&JobRecord>) -> Option<Missed> {
    let Some(open) = open else {
        return run.missed.map(|(last_ms, runs)| Missed { last_ms, runs, because: run.because });
    };
    let known = |at_ms: i64| Some(at_ms).filter(|at_ms| !is_ahead(*at_ms, run.job.created_ms));
    let because = match (open.state, open.started_ms) {
        (JobState::Running, Some(since_ms)) => Reason::Running { since_ms: known(since_ms) },
        _ => Reason::Waiting { since_ms: known(open.created_ms) },
    };
    let runs = match run.missed {
        Some((last_ms, runs)) if last_ms == run.due_ms => runs,
        before => before.map_or(0, |(_, runs)| runs).saturating_add(1),
    };
    Some(Missed { last_ms: run.due_ms, runs, because })
}

/// Counts missed runs, and has the audit log tell of them. What was told of is not told of again.
fn miss(tx: &Writing, schedule: &mut Schedule, missed: Missed, now_ms: i64) -> Result<()> {
    let Missed { last_ms, runs, because } = missed;
    if schedule.last_missed_ms == Some(last_ms) {
        return Ok(());
    }
    let (database, reason) = (schedule.database_id, because.describe());
    let last = crate::api::rfc3339(last_ms);
    tracing::warn!(%database, runs, last, reason, "runs of a schedule were missed");
    let known: Option<ConnectedDatabase> =
        rows::get(&tx.open_table(rows::DATABASES)?, &database.to_string())?;
    let complete_ms = known.and_then(|database| database.last_complete_ms);
    let complete_ms = complete_ms.filter(|at_ms| !is_ahead(*at_ms, now_ms));
    let before = schedule.last_missed_ms.filter(|before| complete_ms.is_none_or(|at_ms| at_ms < *before));
    schedule.missed_runs = runs.saturating_add(before.map_or(0, |_| schedule.missed_runs));
    // Of a run that begins late, later ones may have been told of already.
    if before.is_none_or(|before| before < last_ms || before > now_ms) {
        (schedule.last_missed_ms, schedule.missed_because) = (Some(last_ms), Some(because));
    }
    schedule.missed_total += u64::from(runs);
    let event = Event::new(action::SCHEDULE_MISSED, format!("database/{database}"))
        .by(Actor::Schedule)
        .with("due", last)
        .with("runs", runs)
        .with("reason", reason);
    audit::append(tx, Some(schedule.user_id), now_ms, event, Outcome::Failed)
}

/// A database's schedule, as far as `due_ms` is a time of it: of other times than those that are set now
/// nothing is due any more.
fn of_due_time(tx: &Writing, database: DatabaseId, due_ms: i64) -> Result<Option<Schedule>> {
    let found: Option<Schedule> = rows::get(&tx.open_table(SCHEDULES)?, &database.to_string())?;
    Ok(found.filter(|schedule| schedule.timing.next_after(due_ms - 1) == Some(due_ms)))
}

/// The backup of a due time begins. Where it waited until that was long past, it is told of as one that was
/// not there in time, unless it was when it was queued.
pub(super) fn begun(tx: &Writing, job: &JobRecord, now_ms: i64) -> Result<()> {
    let Work::Backup { database_id, due_ms: Some(due_ms), .. } = job.work else { return Ok(()) };
    let is_late = |at_ms: i64| at_ms - due_ms > LATE_MS;
    if job.retries > 0 || is_late(job.created_ms) || !is_late(now_ms) {
        return Ok(());
    }
    let Some(mut schedule) = of_due_time(tx, database_id, due_ms)? else { return Ok(()) };
    let because = Reason::BegunLate { at_ms: now_ms };
    miss(tx, &mut schedule, Missed { last_ms: due_ms, runs: 1, because }, now_ms)?;
    rows::put(tx, SCHEDULES, &database_id.to_string(), &schedule)
}

/// The server's end cut off the backup of a due time: that, or the last that was missed because it ran, is
/// due again, so that the next look at the clock runs it. Once: a backup that takes the server down with it
/// would do so for ever. What is not run again counts as missed.
pub(super) fn interrupted(
    tx: &Writing,
    job: JobId,
    database: DatabaseId,
    due_ms: i64,
    now_ms: i64,
) -> Result<()> {
    let Some(mut schedule) = of_due_time(tx, database, due_ms)? else { return Ok(()) };
    let again_ms = schedule.handled_ms;
    let is_due = again_ms >= due_ms
        && schedule.repeated_ms != Some(again_ms)
        && schedule.timing.next_after(again_ms - 1) == Some(again_ms);
    // A later run that is queued already does for this one, too.
    if is_due && jobs::open_run(tx, database, Some(job))?.is_none() {
        (schedule.handled_ms, schedule.repeated_ms) = (again_ms - 1, Some(again_ms));
    } else {
        miss(tx, &mut schedule, Missed { last_ms: due_ms, runs: 1, because: Reason::CutOff }, now_ms)?;
    }
    rows::put(tx, SCHEDULES, &database.to_string(), &schedule)
}

/// A database was completely backed up: what a wrong clock made of its schedule is taken back.
pub(super) fn backed_up(tx: &WriteTransaction, database: DatabaseId, now_ms: i64) -> Result<()> {
    let key = database.to_string();
    let found: Option<Schedule> = rows::get(&tx.open_table(SCHEDULES)?, &key)?;
    let Some(found) = found else { return Ok(()) };
    let corrected = found.clone().without_what_is_ahead(now_ms);
    if corrected == found { Ok(()) } else { rows::put(tx, SCHEDULES, &key, &corrected) }
}

pub(super) fn remove_of_database(tx: &WriteTransaction, database: &str) -> Result<()> {
    rows::remove(tx, SCHEDULES, database)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::audit::Detail;
    use crate::meta::Finish;
    use crate::schedule::Frequency;
    use engine::clock::System;

    pub const DAY_MS: i64 = 24 * 60 * 60 * 1000;

    pub fn midnights() -> Schedule {
        Schedule {
            database_id: DatabaseId::new(&System, &System),
            project_id: ProjectId::new(&System, &System),
            user_id: UserId::new(&System, &System),
            timing: Timing::parse(Frequency::Daily, None, "00:00", "UTC").unwrap(),
            keep: Keep::default(),
            handled_ms: 0,
            last_missed_ms: None,
            missed_runs: 0,
            missed_because: None,
            missed_total: 0,
            repeated_ms: None,
            aside: Vec::new(),
        }
    }

    fn run(schedule: &Schedule, due_ms: i64) -> DueRun {
        let work = Work::Backup { database_id: schedule.database_id, note: None, due_ms: Some(due_ms) };
        let job = JobRecord {
            id: JobId::new(&System, &System),
            project_id: schedule.project_id,
            user_id: schedule.user_id,
            work,
            state: JobState::Queued,
            created_ms: due_ms,
            started_ms: None,
            finished_ms: None,
            by_schedule: true,
            retries: 0,
            not_before_ms: 0,
            progress: Default::default(),
            outcome: None,
        };
        DueRun { due_ms, missed: None, because: Reason::NotRunning, job }
    }

    /// The server ends while a run is days behind: the last time that was missed for it is due again, once,
    /// and is not told of twice.
    #[tokio::test]
    async fn a_run_that_others_were_missed_for_is_run_again_when_the_server_ends() {
        let folder = tempfile::tempdir().unwrap();
        let meta = Meta::open(&folder.path().join("meta.redb")).unwrap();
        let schedule = midnights();
        let database = schedule.database_id;
        let now = async || meta.schedule(database).await.unwrap().unwrap();
        meta.set_schedule(schedule).await.unwrap();
        let cut_off = async |now_ms| {
            meta.claim_job(now_ms).await.unwrap().unwrap();
            meta.recover_jobs(now_ms).await.unwrap();
        };

        let first = now().await;
        assert!(meta.queue_due(first.clone(), run(&first, DAY_MS)).await.unwrap());
        let second = now().await;
        assert!(!meta.queue_due(second.clone(), run(&second, 2 * DAY_MS)).await.unwrap());
        let waiting = Reason::Waiting { since_ms: Some(DAY_MS) };
        let told =
            |schedule: &Schedule| (schedule.last_missed_ms, schedule.missed_because, schedule.missed_total);
        assert_eq!(told(&now().await), (Some(2 * DAY_MS), Some(waiting), 1));
        cut_off(DAY_MS + 1).await;
        let again = now().await;
        assert_eq!((again.handled_ms, again.repeated_ms), (2 * DAY_MS - 1, Some(2 * DAY_MS)));

        let late = DueRun { missed: Some((2 * DAY_MS, 1)), ..run(&again, 2 * DAY_MS) };
        assert!(meta.queue_due(again, late).await.unwrap());
        assert_eq!(told(&now().await), (Some(2 * DAY_MS), Some(waiting), 1), "that was told");
        cut_off(2 * DAY_MS + 1).await;
        assert_eq!(now().await.handled_ms, 2 * DAY_MS, "once is enough");
    }

    /// When the backup before it began is told by the clock that is right now, or not at all.
    #[test]
    fn a_time_of_a_clock_that_was_ahead_is_not_told() {
        let schedule = midnights();
        let before = run(&schedule, 9 * DAY_MS).job;
        let ran = JobRecord { state: JobState::Running, started_ms: Some(9 * DAY_MS), ..before.clone() };
        for open in [before, ran] {
            let told = |due_ms| missed_by(&run(&schedule, due_ms), Some(&open)).unwrap().because.describe();
            assert!(told(2 * DAY_MS).contains(", since before the clock was set right: no other is queued"));
            assert!(told(10 * DAY_MS).contains(", since 1970-01-10 00:00 UTC: no other is queued"));
        }
    }

    /// A run that waited for hours is told of when it begins, and one that failed meanwhile is not told of
    /// because it is tried again.
    #[tokio::test]
    async fn a_run_that_begins_hours_late_is_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let meta = Meta::open(&folder.path().join("meta.redb")).unwrap();
        for (begins_ms, is_told) in [(LATE_MS, false), (LATE_MS + 1, true)] {
            let schedule = midnights();
            meta.set_schedule(schedule.clone()).await.unwrap();
            assert!(meta.queue_due(schedule.clone(), run(&schedule, DAY_MS)).await.unwrap());
            let job = meta.claim_job(DAY_MS + begins_ms).await.unwrap().unwrap();
            meta.retry_job(job.id, 0).await.unwrap().unwrap();
            meta.claim_job(2 * DAY_MS - 1).await.unwrap().unwrap();
            let found = meta.schedule(schedule.database_id).await.unwrap().unwrap();
            assert_eq!(found.missed_total, u64::from(is_told));
            let done = Finish {
                state: JobState::Succeeded,
                finished_ms: 9,
                progress: Default::default(),
                outcome: None,
                audit: Detail::new(),
                findings: None,
            };
            meta.finish_job(job.id, done).await.unwrap();
        }
    }
}
