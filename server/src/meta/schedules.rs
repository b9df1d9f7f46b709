//! Schedules of databases, and up to when their due times are done with.

use engine::retention::Keep;
use redb::WriteTransaction;
use serde::{Deserialize, Serialize};

use super::rows::{self, SCHEDULES};
use super::{JobRecord, Meta, Result, audit, jobs};
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
            let (last_missed_ms, missed_runs) =
                before.map_or((None, 0), |before| (before.last_missed_ms, before.missed_runs));
            let schedule = Schedule { last_missed_ms, missed_runs, ..schedule };
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
            found.map_or(Ok(()), |found| rows::put(tx, SCHEDULES, &key, &Schedule { handled_ms, ..found }))
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
            if let Some((missed_ms, missed_runs)) = run.missed {
                (schedule.last_missed_ms, schedule.missed_runs) = (Some(missed_ms), missed_runs);
                let event = Event::new(action::SCHEDULE_MISSED, format!("database/{key}"))
                    .by(Actor::Schedule)
                    .with("due", crate::api::rfc3339(missed_ms))
                    .with("runs", missed_runs);
                audit::append(tx, Some(seen.user_id), run.job.created_ms, event, Outcome::Failed)?;
            }
            rows::put(tx, SCHEDULES, &key, &schedule)?;
            jobs::add(tx, &run.job)?;
            Ok(true)
        })
        .await
    }
}

pub(super) fn remove_of_database(tx: &WriteTransaction, database: &str) -> Result<()> {
    rows::remove(tx, SCHEDULES, database)
}
