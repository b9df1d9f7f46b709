//! Restores in place: what is asked before, what they would change, and taking them back.

use std::time::Duration;

use axum::http::StatusCode;
use engine::backup::Request;
use engine::diff::{Change, Filter};
use engine::restore::{self, Plan, Scope};
use engine::rows;
use engine::source::{DatabaseUrl, Engine};
use repo_format::manifest::Trigger;
use serde_json::Value;
use zeroize::Zeroizing;

use super::restores::{FoundRestore, RestoreState, check_phrase, check_target, find};
use super::snapshots::FoundSnapshot;
use super::{audit, databases};
use crate::app::App;
use crate::audit::{Event, action};
use crate::error::{Problem, Result};
use crate::ids::{DatabaseId, JobId, RestoreId, UserId};
use crate::jobs::{self, ApplyOrder, Job};
use crate::meta::{ConnectedDatabase, PageRequest, Restore, RestoreMode, Work};

/// Collections with fewer records in all are read before the answer, to say at once that they changed. Of others
/// the job finds out.
const READ_AT_ONCE: u64 = 50_000;
/// How long that may take.
const READ_LIMIT: Duration = Duration::from_secs(10);

/// Fails when the collections are known not to hold what they held when the restore was planned. The job looks
/// again.
pub(super) async fn check_unchanged(
    app: &App,
    snapshot: &FoundSnapshot,
    scope: &Scope,
    plan: &Plan,
    url: &str,
) -> Result<()> {
    let records = plan.preview.collections.iter().map(|found| found.records);
    let in_all: u64 = records.map(|found| found.differing() + found.unchanged).sum();
    if in_all > READ_AT_ONCE {
        return Ok(());
    }
    let (scratch, context) = jobs::errand(app)?;
    let (repository, from) = (snapshot.repository.clone(), snapshot.snapshot.clone());
    let (scope, plan, url) = (scope.clone(), plan.clone(), Zeroizing::new(url.to_owned()));
    let runtime = tokio::runtime::Handle::current();
    // As jobs do: what is computed between two awaits holds up no request.
    let reading = tokio::task::spawn_blocking(move || {
        runtime.block_on(async {
            let reading = restore::is_as_planned(&repository, &from, &scope, &plan, &url, &context);
            tokio::time::timeout(READ_LIMIT, reading).await
        })
    });
    let read = reading.await.map_err(Problem::internal)?;
    if let Err(error) = tokio::fs::remove_dir_all(&scratch).await {
        tracing::warn!(%error, "a scratch folder stays until the next start");
    }
    match read {
        Ok(Ok(false)) => {
            let detail = "It does not hold what it held when the restore was planned. Nothing was written. Plan again, and \
                          look at what changed.";
            Err(Problem::conflict("target-changed", "The target changed", detail))
        }
        Ok(Err(error)) => Err(error.into()),
        Ok(Ok(true)) | Err(_) => Ok(()),
    }
}

/// What the safety snapshot of a restore in place is of: the connected database that the target is, or one
/// that is listed with its snapshots as those are that were removed.
pub async fn safety_request(app: &App, restore: &Restore, url: &DatabaseUrl, text: &str) -> Result<Request> {
    let place = databases::endpoint(url);
    let all = app.meta.databases_of(restore.project_id, PageRequest::all()).await?.items;
    let same_place = |database: &&ConnectedDatabase| {
        database.endpoint.hosts() == place.hosts() && database.endpoint.database == place.database
    };
    let connected = all.iter().filter(same_place).min_by_key(|database| database.removed_ms.is_some());
    let database = match connected {
        Some(database) => database.clone(),
        None => {
            let id = DatabaseId::new(app.clock.as_ref(), app.entropy.as_ref());
            let repository = app.repositories.get(restore.project_id).await?;
            let source = source_of(&repository, &restore.snapshot_id).await?;
            let source = all.iter().find(|database| database.id.to_string() == source);
            let now_ms = app.now_ms();
            let database = ConnectedDatabase {
                id,
                project_id: restore.project_id,
                name: restore.target.clone(),
                environment: source.map_or(crate::meta::Environment::Prod, |source| source.environment),
                engine: url.engine().as_str().to_owned(),
                server_version: String::new(),
                endpoint: place,
                consistency: Default::default(),
                url: None,
                created_ms: now_ms,
                last_complete_ms: None,
                last_verified_ms: None,
                removed_ms: Some(now_ms),
            };
            app.meta.add_database(database.clone()).await?;
            database
        }
    };
    Ok(Request {
        source_id: database.id.to_string(),
        source_name: database.name,
        url: text.to_owned(),
        consistency: database.consistency,
        trigger: Trigger::Safety,
        note: Some(format!("before a restore into {}", restore.target)),
    })
}

/// The id of the database that a snapshot is of.
async fn source_of(repository: &engine::repo::Repository, id: &str) -> Result<String> {
    let id = repo_format::id::SnapshotId::parse(id).ok_or_else(Problem::not_found)?;
    Ok(repository.snapshot(id).await?.manifest.source.id)
}

/// The id of the safety snapshot that a restore took: as its result tells, or, of one that has none, as it
/// was noted before anything took effect.
pub fn safety_snapshot(restore: &Restore, apply_job: Option<&Job>) -> Option<String> {
    match apply_job?.result.as_ref() {
        Some(result) => result.get("safety_snapshot").and_then(Value::as_str).map(str::to_owned),
        None => restore.safety_snapshot.clone().filter(|_| restore.written != Some(0)),
    }
}

/// Whether a restore can be taken back.
pub fn is_undoable(found: &FoundRestore) -> bool {
    may_have_written(found) && safety_snapshot(&found.restore, found.apply_job.as_ref()).is_some()
}

/// Whether a restore in place ended, and may have left something that can be taken back.
fn may_have_written(found: &FoundRestore) -> bool {
    let in_steps = || found.apply_job.as_ref().is_some_and(|job| job.record.work.is_in_steps());
    found.restore.mode == RestoreMode::InPlace
        && match found.state {
            RestoreState::Succeeded | RestoreState::Incomplete => true,
            // What was written in one transaction is gone with it.
            RestoreState::Failed | RestoreState::Cancelled | RestoreState::Interrupted => in_steps(),
            _ => false,
        }
}

/// Takes a restore in place back. The URL is kept in memory until the job has used it.
pub async fn undo(app: &App, user: UserId, id: RestoreId, order: ApplyOrder) -> Result<JobId> {
    let found = find(app, user, id).await?;
    if found.restore.mode == RestoreMode::New {
        let detail = "It was restored into a database that held nothing before: drop that database instead.";
        return Err(Problem::conflict("not-undoable", "There is nothing to go back to", detail));
    }
    let plan = match (found.state, &found.plan) {
        (RestoreState::Undoing, _) => return Err(already_undoing()),
        (RestoreState::Undone, _) => {
            let detail = "The restore was taken back. What had changed since stays as it is.";
            return Err(Problem::conflict("already-undone", "Already taken back", detail));
        }
        (_, Some(plan)) if may_have_written(&found) => plan,
        _ => {
            let detail = "Only a restore that was carried out can be taken back.";
            return Err(Problem::conflict("not-applied", "Not carried out", detail));
        }
    };
    if safety_snapshot(&found.restore, found.apply_job.as_ref()).is_none() {
        let detail = "The restore wrote nothing: either it did not come to that, or the target held already what it was to \
                      hold.";
        return Err(Problem::conflict("nothing-to-undo", "Nothing to take back", detail));
    }
    check_phrase(app, user, &found.restore, plan, &order, action::RESTORE_UNDO_START).await?;
    let in_steps = check_target(app, plan, &order).await?.engine() == Engine::MongoDb;
    let (job_id, before) = (jobs::new_id(app), found.restore.undo_job_id);
    if !app.meta.claim_undo(id, before, job_id).await? {
        return Err(already_undoing());
    }
    let work = Work::RestoreUndo { restore_id: id, in_steps };
    let queued = jobs::enqueue_apply(app, job_id, found.restore.project_id, user, work, order).await;
    if let Err(problem) = queued {
        app.meta.change_restore(id, move |restore| restore.undo_job_id = before).await?;
        return Err(problem);
    }
    Ok(job_id)
}

fn already_undoing() -> Problem {
    let detail = "The restore is being taken back. Wait for its job to end.";
    Problem::conflict("already-undoing", "Already being taken back", detail)
}

/// A page of what a planned restore in place would change in a table, in key order.
pub async fn changes(
    app: &App,
    user: UserId,
    id: RestoreId,
    table: &str,
    filter: &Filter,
    page: &rows::PageRequest,
) -> Result<rows::Page<Change>> {
    let found = find(app, user, id).await?;
    let Some(preview) = app.previews.take_up(id, app.now_ms()) else {
        if found.state == RestoreState::Planning {
            let detail = "The target is still being read. Wait for the plan's job to end.";
            return Err(Problem::conflict("not-planned", "Not planned", detail));
        }
        let detail = "What a restore in place would change is kept for an hour after it was last looked at, and not after a \
                      restart of the server; of other restores it is the whole snapshot. Plan again to see it.";
        return Err(Problem::new(StatusCode::GONE, "reading-gone", "What was read is gone", detail));
    };
    let repository = app.repositories.get(found.restore.project_id).await?;
    let page = preview.changes(&repository, table, filter, page).await?;
    let event =
        Event::new(action::RECORDS_READ, format!("restore/{id}")).with("from", &found.restore.snapshot_id);
    audit::records_read(app, user, event).await?;
    Ok(page)
}
