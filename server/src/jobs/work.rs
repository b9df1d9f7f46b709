//! What each kind of job does: look up what it needs, let the engine work, keep what came of it.

use engine::Context;
use engine::repo::{Repository, Snapshot};
use engine::{backup, cost, diff, live, prune, source, verify};
use repo_format::id::SnapshotId;
use repo_format::manifest::{Manifest, Trigger};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::restoring;
use crate::app::App;
use crate::error::{Problem, Result};
use crate::ids::{DatabaseId, DiffId, ProjectId};
use crate::meta::{ComparedWith, JobRecord, JobState, VerifyMode, Work};
use crate::service::diffs::ReadFacts;
use crate::service::{addresses, databases, diffs, existing, keys, upkeep};

pub(super) type Done = (JobState, Value);

/// Does a job's work. Credentials are opened in here and nowhere else.
pub async fn run(app: App, record: JobRecord, context: Context) -> Result<Done> {
    match record.work.clone() {
        Work::Backup { database_id, note, due_ms } => {
            let trigger = if due_ms.is_some() { Trigger::Schedule } else { Trigger::Manual };
            run_backup(&app, database_id, note, trigger, &context).await
        }
        Work::Diff { diff_id } => run_diff(&app, diff_id, &context).await,
        Work::LiveDiff { diff_id, database_id } => run_live_diff(&app, diff_id, database_id, &context).await,
        Work::RestorePlan { restore_id } => restoring::plan(&app, restore_id, &context).await,
        Work::RestoreApply { restore_id, .. } => restoring::apply(&app, &record, restore_id, &context).await,
        Work::RestoreUndo { restore_id, .. } => restoring::undo(&app, &record, restore_id, &context).await,
        Work::Verify { mode } => run_verify(&app, &record, mode, &context).await,
        Work::Prune { dry_run } => run_prune(&app, &record, dry_run, &context).await,
        Work::Cost { snapshot_id } => run_cost(&app, &record, &snapshot_id, &context).await,
    }
}

/// After a job ended, however it did: what it alone needed goes, and what it calls for is done.
pub async fn after(app: &App, record: &JobRecord) -> Result<()> {
    if let Work::RestorePlan { restore_id } = record.work {
        app.meta.change_restore(restore_id, |restore| restore.target_url = None).await?;
    }
    if let Work::Backup { database_id, due_ms: Some(_), .. } = record.work {
        upkeep::after_backup(app, database_id, record.state).await?;
    }
    Ok(())
}

async fn run_backup(
    app: &App,
    id: DatabaseId,
    note: Option<String>,
    trigger: Trigger,
    context: &Context,
) -> Result<Done> {
    let (project_id, request) = request(app, id, trigger, note).await?;
    let repository = app.repositories.get(project_id).await?;
    let snapshot = backup::run(&repository, &request, context).await?;
    app.repositories.saw(snapshot.id, project_id);
    keys::check_own_slot(app, project_id, &repository).await;
    let manifest = &snapshot.manifest;
    let state = if manifest.is_complete() { JobState::Succeeded } else { JobState::Incomplete };
    let result = json!({
        "snapshot_id": snapshot.id.to_string(),
        "root": manifest.catalog_root.to_string(),
        "records": manifest.records,
        "logical_bytes": manifest.logical_bytes,
        "new_bytes": manifest.new_bytes,
        "incomplete": missing(manifest),
    });
    Ok((state, result))
}

/// What reading a database takes, once it is allowed where it is and its credentials cannot write.
async fn request(
    app: &App,
    id: DatabaseId,
    trigger: Trigger,
    note: Option<String>,
) -> Result<(ProjectId, backup::Request)> {
    let database = app.meta.database(id).await?.ok_or_else(Problem::not_found)?;
    let url = opened(app, &id.to_string(), databases::credentials(&database)?)?;
    let parsed = addresses::check_url(app, &url).await?;
    source::refuse_writers(&parsed).await?;
    let request = backup::Request {
        source_id: id.to_string(),
        source_name: database.name,
        url: url.to_string(),
        consistency: database.consistency,
        trigger,
        note,
    };
    Ok((database.project_id, request))
}

/// What could not be read, and why.
fn missing(manifest: &Manifest) -> Value {
    let missing = manifest.missing.iter();
    missing.map(|missing| json!({ "name": missing.name, "reason": missing.reason })).collect()
}

async fn run_diff(app: &App, id: DiffId, context: &Context) -> Result<Done> {
    let diff = app.meta.diff(id).await?.ok_or_else(Problem::not_found)?;
    let repository = app.repositories.get(diff.project_id).await?;
    let from = snapshot(&repository, &diff.from).await?;
    let ComparedWith::Snapshot(to) = &diff.to else { return Err(Problem::not_found()) };
    let to = snapshot(&repository, to).await?;
    let summary = diff::summary(&repository, &from, &to, context).await?;
    let result = json!({
        "diff_id": id,
        "objects_read": summary.objects_read,
        "bytes_read": summary.bytes_read,
    });
    diffs::keep(app, id, summary, None).await?;
    Ok((JobState::Succeeded, result))
}

async fn run_live_diff(app: &App, id: DiffId, database: DatabaseId, context: &Context) -> Result<Done> {
    let diff = app.meta.diff(id).await?.ok_or_else(Problem::not_found)?;
    let (_, request) = request(app, database, Trigger::Manual, None).await?;
    let repository = app.repositories.get(diff.project_id).await?;
    let from = snapshot(&repository, &diff.from).await?;
    let (reading, summary) =
        live::compare(&repository, &from, &request, &live::Options::default(), context).await?;
    let manifest = reading.manifest();
    // Of what could not be read nothing is said: not even that it is the same.
    let state = if manifest.is_complete() { JobState::Succeeded } else { JobState::Incomplete };
    let result = json!({
        "diff_id": id,
        "root": manifest.catalog_root.to_string(),
        "records": manifest.records,
        "objects_read": summary.objects_read,
        "bytes_read": summary.bytes_read,
        "objects_kept": reading.objects(),
        "bytes_kept": reading.size_bytes(),
        "incomplete": missing(manifest),
    });
    let facts = ReadFacts::of(manifest);
    app.live_readings.keep(id, diff.project_id, diff.from, reading, app.now_ms());
    diffs::keep(app, id, summary, Some(facts)).await?;
    Ok((state, result))
}

async fn run_verify(app: &App, record: &JobRecord, mode: VerifyMode, context: &Context) -> Result<Done> {
    let repository = app.repositories.get(record.project_id).await?;
    let mode = match mode {
        VerifyMode::Structure => verify::Mode::Structure,
        VerifyMode::Sample => {
            let known = app.meta.damage(record.project_id).await?;
            verify::Mode::Sample { turn: known.map_or(0, |known| known.samples) }
        }
        VerifyMode::Full => verify::Mode::Full,
    };
    let mut report = verify::run(&repository, mode, context).await?;
    report.damaged.extend(keys::lost(app, record.project_id, &repository).await?);
    // The report is the result; a storage that takes no marks has been read all the same.
    if let Err(error) = verify::remember(&repository, &report, mode, context).await {
        tracing::warn!(%error, "the snapshots do not remember that they were verified");
    }
    // Snapshots expire, and it stays true that their database's were looked at.
    let whole = |snapshot: &Snapshot| report.undamaged.contains(&snapshot.id.to_string());
    let snapshots = repository.snapshots().await?;
    let verified = snapshots.iter().filter(|snapshot| whole(snapshot));
    let databases = verified.filter_map(|snapshot| DatabaseId::parse(&snapshot.manifest.source.id)).collect();
    app.meta.verified_databases(databases, app.now_ms()).await?;
    existing::find_databases(app, record.project_id, snapshots).await?;
    Ok((JobState::Succeeded, serde_json::to_value(&report).map_err(Problem::internal)?))
}

async fn run_prune(app: &App, record: &JobRecord, dry_run: bool, context: &Context) -> Result<Done> {
    let repository = app.repositories.get(record.project_id).await?;
    let grace_ms = app.config.prune_grace.as_millis() as u64;
    let options = prune::Options { dry_run, grace_ms, ..prune::Options::default() };
    let stats = prune::run(&repository, &options, context).await?;
    Ok((JobState::Succeeded, serde_json::to_value(stats).map_err(Problem::internal)?))
}

async fn run_cost(app: &App, record: &JobRecord, snapshot: &str, context: &Context) -> Result<Done> {
    let id = SnapshotId::parse(snapshot).ok_or_else(Problem::not_found)?;
    let repository = app.repositories.get(record.project_id).await?;
    let cost = cost::run(&repository, id, context).await?;
    Ok((JobState::Succeeded, serde_json::to_value(cost).map_err(Problem::internal)?))
}

pub(super) fn opened(
    app: &App,
    owner: &str,
    sealed: &crate::server_key::Sealed,
) -> Result<Zeroizing<String>> {
    let plain = app.credentials.open(owner, sealed)?;
    let text = std::str::from_utf8(&plain).map_err(Problem::internal)?;
    Ok(Zeroizing::new(text.to_owned()))
}

pub(super) async fn snapshot(repository: &Repository, id: &str) -> Result<Snapshot> {
    let id = SnapshotId::parse(id).ok_or_else(Problem::not_found)?;
    Ok(repository.snapshot(id).await?)
}
