//! Schedules of databases, and up to when their due times are done with.

use engine::retention::Keep;
use redb::WriteTransaction;
use serde::{Deserialize, Serialize};

use super::rows::{self, SCHEDULES};
use super::{JobRecord, Meta, Result, Writing, audit, jobs};
use crate::audit::{Actor, Event, Outcome, action};
use crate::ids::{DatabaseId, ProjectId, UserId};
use crate::schedule::Timing;

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
    /// How many were missed when the last was.
    pub missed_runs: u32,
    /// How many were missed since there is a schedule.
    #[serde(default)]
    pub missed_total: u64,
    /// The due time whose backup the server's end cut off, and which became due again for it.
    #[serde(default)]
    pub repeated_ms: Option<i64>,
}

/// A due time whose backup is to be queued.
pub struct DueRun {
    pub due_ms: i64,
    /// The last due time that was missed on the way to this one, and how many were.
    pub missed: Option<(i64, u32)>,
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
                Some(Schedule { last_missed_ms, missed_runs, missed_total, .. }) => {
                    Schedule { last_missed_ms, missed_runs, missed_total, ..schedule }
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

    /// Takes back what a wrong clock made of a schedule.
    pub async fn set_handled(&self, database: DatabaseId, handled_ms: i64) -> Result<()> {
        self.write(move |tx| {
            let key = database.to_string();
            let found: Option<Schedule> = rows::get(&tx.open_table(SCHEDULES)?, &key)?;
            let Some(found) = found else { return Ok(()) };
            rows::put(tx, SCHEDULES, &key, &Schedule { handled_ms, repeated_ms: None, ..found })
        })
        .await
    }

    /// Queues the backup of a due time, in the one step in which the due time is done with, so that no
    /// crash loses or doubles it. False if the schedule is not as `seen` any more.
    pub async fn queue_due(&self, seen: Schedule, run: DueRun) -> Result<bool> {
        self.write(move |tx| {
            let key = seen.database_id.to_string();
            let found: Option<Schedule> = rows::get(&tx.open_table(SCHEDULES)?, &key)?;
            let Some(mut schedule) = found.filter(|found| *found == seen) else { return Ok(false) };
            schedule.handled_ms = run.due_ms;
            if let Some((missed_ms, runs)) = run.missed {
                miss(tx, &mut schedule, missed_ms, runs, run.job.created_ms)?;
            }
            rows::put(tx, SCHEDULES, &key, &schedule)?;
            jobs::add(tx, &run.job)?;
            Ok(true)
        })
        .await
    }
}

/// Counts missed runs, the last of them due at `missed_ms`, and has the audit log tell of them.
fn miss(tx: &Writing, schedule: &mut Schedule, missed_ms: i64, runs: u32, now_ms: i64) -> Result<()> {
    (schedule.last_missed_ms, schedule.missed_runs) = (Some(missed_ms), runs);
    schedule.missed_total += u64::from(runs);
    let event = Event::new(action::SCHEDULE_MISSED, format!("database/{}", schedule.database_id))
        .by(Actor::Schedule)
        .with("due", crate::api::rfc3339(missed_ms))
        .with("runs", runs);
    audit::append(tx, Some(schedule.user_id), now_ms, event, Outcome::Failed)
}

/// The server's end cut off the backup of a due time: that is due again, so that the next look at the
/// clock runs it. Once: a backup that takes the server down with it would do so for ever. What is not
/// run again counts as missed.
pub(super) fn interrupted(tx: &Writing, database: DatabaseId, due_ms: i64, now_ms: i64) -> Result<()> {
    let key = database.to_string();
    let found: Option<Schedule> = rows::get(&tx.open_table(SCHEDULES)?, &key)?;
    // Of other times than those that are set now nothing is due any more.
    let found = found.filter(|schedule| schedule.timing.next_after(due_ms - 1) == Some(due_ms));
    let Some(mut schedule) = found else { return Ok(()) };
    // A later run that is queued already does for this one, too.
    if schedule.handled_ms == due_ms && schedule.repeated_ms != Some(due_ms) {
        (schedule.handled_ms, schedule.repeated_ms) = (due_ms - 1, Some(due_ms));
    } else {
        miss(tx, &mut schedule, due_ms, 1, now_ms)?;
    }
    rows::put(tx, SCHEDULES, &key, &schedule)
}

pub(super) fn remove_of_database(tx: &WriteTransaction, database: &str) -> Result<()> {
    rows::remove(tx, SCHEDULES, database)
}
