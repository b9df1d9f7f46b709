//! What follows a scheduled backup: snapshots that the schedule's rules do not keep go, a prune frees
//! what only they needed, and once a week a sample of what is stored is read.

use super::{schedules, snapshots};
use crate::app::App;
use crate::audit::Actor;
use crate::error::Result;
use crate::ids::DatabaseId;
use crate::jobs;
use crate::meta::{JobState, PageRequest, Schedule, VerifyMode, Work};

/// A week, but for an hour: a daily run of the same time finds the check due.
const VERIFIED_EVERY_MS: i64 = (7 * 24 - 1) * 60 * 60 * 1000;

/// Does it, for a database whose scheduled backup has just ended. Rules are applied to what there is once
/// a snapshot was taken, also an incomplete one: they count complete ones only, so it costs none of them
/// its place. What is stored is read also where backups fail: it is all that there is then.
pub async fn after_backup(app: &App, database: DatabaseId, ended: JobState) -> Result<()> {
    let is_taken = matches!(ended, JobState::Succeeded | JobState::Incomplete);
    if !is_taken && ended != JobState::Failed {
        return Ok(());
    }
    let Some(schedule) = app.meta.schedule(database).await? else { return Ok(()) };
    if is_taken {
        apply_rules(app, &schedule).await?;
    }
    let (project, user) = (schedule.project_id, schedule.user_id);
    let since_ms = app.now_ms() - VERIFIED_EVERY_MS;
    jobs::enqueue_verify_unless_recent(app, project, user, VerifyMode::Sample, since_ms).await
}

async fn apply_rules(app: &App, schedule: &Schedule) -> Result<()> {
    let (user, project) = (schedule.user_id, schedule.project_id);
    let all = snapshots::list(app, user, schedule.database_id, PageRequest::all()).await?.items;
    let removed = schedules::decide(all, &schedule.keep, &schedule.timing, app.now_ms()).removed;
    if removed.is_empty() {
        return Ok(());
    }
    let repository = app.repositories.get(project).await?;
    for snapshot in &removed {
        match snapshots::remove(app, user, &repository, snapshot, Actor::Schedule).await {
            // Somebody pinned it since it was listed.
            Err(problem) if problem.slug == snapshots::PINNED => {}
            done => done?,
        }
    }
    jobs::enqueue_by_schedule(app, project, user, Work::Prune { dry_run: false }).await
}
