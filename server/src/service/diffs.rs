//! Comparing snapshots, with each other and with what a database holds now.

use std::sync::Arc;

use axum::http::StatusCode;
use engine::diff::{self, Change, Filter, Summary};
use engine::live::Reading;
use engine::rows;
use repo_format::manifest::{Grade, Manifest};
use serde::{Deserialize, Serialize};

use super::{audit, databases, projects, snapshots};
use crate::app::App;
use crate::audit::{Event, action};
use crate::error::{Problem, Result};
use crate::ids::{DatabaseId, DiffId, JobId, ProjectId, UserId};
use crate::jobs::{self, Job};
use crate::meta::{ComparedWith, Diff, JobState, Page, PageRequest, Work};
use crate::view;

/// A comparison as its owner sees it.
pub struct FoundDiff {
    pub diff: Diff,
    /// The job that makes it; none if it was never queued: the process ended before.
    pub job: Option<Job>,
    /// There once it is made.
    pub summary: Option<Summary>,
    /// Of a live database, once it was read.
    pub read: Option<ReadFacts>,
    /// Whether pages of changes can be had; of a live database not for ever.
    pub has_pages: bool,
}

impl FoundDiff {
    /// How far it is.
    pub fn state(&self) -> JobState {
        self.job.as_ref().map_or(JobState::Interrupted, Job::state)
    }
}

/// What is to be known of a database that was read to be compared.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReadFacts {
    /// When reading began: the moment it shows.
    pub at_ms: i64,
    /// Whether all of it is of one moment.
    pub point_in_time: bool,
    /// What could not be read: name and reason.
    pub missing: Vec<(String, String)>,
}

impl ReadFacts {
    pub fn of(manifest: &Manifest) -> Self {
        let missing = manifest.missing.iter();
        Self {
            at_ms: manifest.started_ms,
            point_in_time: manifest.evidence.grade == Grade::PointInTime,
            missing: missing.map(|missing| (missing.name.clone(), missing.reason.clone())).collect(),
        }
    }
}

/// What is kept of a comparison that was made.
#[derive(Serialize, Deserialize)]
struct Kept {
    #[serde(flatten)]
    summary: Summary,
    #[serde(default)]
    read: Option<ReadFacts>,
}

/// Compares two snapshots of one project. Snapshots never change, so a comparison that was made,
/// or is being made, is given out again.
pub async fn start(app: &App, user: UserId, from: &str, to: &str) -> Result<(DiffId, JobId)> {
    let (from, to) = (snapshots::find(app, user, from).await?, snapshots::find(app, user, to).await?);
    if from.project_id != to.project_id {
        let detail = "The snapshots are of different projects. Compare snapshots of one project.";
        return Err(Problem::invalid("to", detail));
    }
    let project_id = from.project_id;
    let (from, to) = (from.snapshot.id.to_string(), to.snapshot.id.to_string());
    if let Some(known) = app.meta.diff_of(project_id, &from, &to).await? {
        let state = jobs::get(app, known.job_id).await?.map(|job| job.state());
        if matches!(state, Some(JobState::Queued | JobState::Running | JobState::Succeeded)) {
            return Ok((known.id, known.job_id));
        }
    }
    add(app, user, project_id, from, ComparedWith::Snapshot(to)).await
}

/// Compares a snapshot with what a database of its project holds when the job reads it: each time anew.
pub async fn start_live(app: &App, user: UserId, from: &str, database: &str) -> Result<(DiffId, JobId)> {
    let from = snapshots::find(app, user, from).await?;
    let database_id = DatabaseId::parse(database).ok_or_else(Problem::not_found)?;
    let database = databases::find(app, user, database_id).await?;
    if from.project_id != database.project_id {
        let detail = "The database is of another project than the snapshot. Compare within one project.";
        return Err(Problem::invalid("live", detail));
    }
    let source = &from.snapshot.manifest.source;
    if source.engine != database.engine {
        let [of_snapshot, of_database] =
            [&source.engine, &database.engine].map(|engine| view::connection::engine_name(engine));
        let detail = format!(
            "The snapshot is of {of_snapshot} and the database is {of_database}. Compare it with a database of {of_snapshot}."
        );
        return Err(Problem::invalid("live", detail));
    }
    databases::credentials(&database)?;
    let to = ComparedWith::Live { database_id };
    add(app, user, from.project_id, from.snapshot.id.to_string(), to).await
}

async fn add(
    app: &App,
    user: UserId,
    project_id: ProjectId,
    from: String,
    to: ComparedWith,
) -> Result<(DiffId, JobId)> {
    let id = DiffId::new(app.clock.as_ref(), app.entropy.as_ref());
    let job_id = jobs::new_id(app);
    let work = match &to {
        ComparedWith::Snapshot(_) => Work::Diff { diff_id: id },
        ComparedWith::Live { database_id } => Work::LiveDiff { diff_id: id, database_id: *database_id },
    };
    let diff = Diff { id, project_id, from, to, job_id, summary: None, created_ms: app.now_ms() };
    app.meta.add_diff(diff).await?;
    jobs::enqueue(app, job_id, project_id, user, work).await?;
    Ok((id, job_id))
}

/// Keeps what a comparison found.
pub async fn keep(app: &App, id: DiffId, summary: Summary, read: Option<ReadFacts>) -> Result<()> {
    let plain = serde_json::to_vec(&Kept { summary, read }).map_err(Problem::internal)?;
    let sealed = app.summaries.seal(&id.to_string(), &plain, app.entropy.as_ref());
    Ok(app.meta.set_diff_summary(id, sealed).await?)
}

/// A user's comparison. Somebody else's is not found.
pub async fn find(app: &App, user: UserId, id: DiffId) -> Result<FoundDiff> {
    let diff = app.meta.diff(id).await?.ok_or_else(Problem::not_found)?;
    projects::find(app, user, diff.project_id).await?;
    opened(app, diff).await
}

/// A project's comparisons, newest first.
pub async fn list(app: &App, user: UserId, project: ProjectId, page: PageRequest) -> Result<Page<FoundDiff>> {
    projects::find(app, user, project).await?;
    let page = app.meta.diffs_of(project, page).await?;
    let mut items = Vec::with_capacity(page.items.len());
    for diff in page.items {
        items.push(opened(app, diff).await?);
    }
    Ok(Page { items, next_cursor: page.next_cursor })
}

/// A page of the records that differ in one collection, in key order.
pub async fn changes(
    app: &App,
    user: UserId,
    id: DiffId,
    collection: &str,
    filter: &Filter,
    page: &rows::PageRequest,
) -> Result<rows::Page<Change>> {
    let diff = app.meta.diff(id).await?.ok_or_else(Problem::not_found)?;
    let from = snapshots::find(app, user, &diff.from).await?;
    let (repository, snapshot) = (&from.repository, &from.snapshot);
    let event = Event::new(action::RECORDS_READ, format!("diff/{id}")).with("from", &diff.from);
    let (page, event) = match &diff.to {
        ComparedWith::Snapshot(to_id) => {
            let to = snapshots::find(app, user, to_id).await?.snapshot;
            let page = diff::changes(repository, snapshot, &to, collection, filter, page).await?;
            (page, event.with("database", &to.manifest.source.name).with("to", to_id))
        }
        ComparedWith::Live { database_id } => {
            let reading = reading(app, &diff).await?;
            let page =
                diff::changes(repository, snapshot, reading.as_ref(), collection, filter, page).await?;
            (page, event.with("database", &reading.manifest().source.name).with("live", database_id))
        }
    };
    audit::records_read(app, user, event).await?;
    Ok(page)
}

/// What was read of a live database, as long as it is kept.
async fn reading(app: &App, diff: &Diff) -> Result<Arc<Reading>> {
    if let Some(reading) = app.live_readings.take_up(diff.id, app.now_ms()) {
        return Ok(reading);
    }
    let state = jobs::get(app, diff.job_id).await?.map(|job| job.state());
    if state.is_some_and(|state| !state.is_final()) {
        let detail = "The database is still being read. Wait for the job to end.";
        return Err(Problem::conflict("not-compared-yet", "Not compared yet", detail));
    }
    let detail = "What was read of the database is kept for an hour after it was last looked at, and not after a \
                  restart of the server. Compare with the live database again.";
    Err(Problem::new(StatusCode::GONE, "reading-gone", "What was read is gone", detail))
}

async fn opened(app: &App, mut diff: Diff) -> Result<FoundDiff> {
    let job = jobs::get(app, diff.job_id).await?;
    // The job wrote its summary before it ended, and maybe after the row was read.
    if diff.summary.is_none() && job.as_ref().is_some_and(|job| job.state().is_final()) {
        diff = app.meta.diff(diff.id).await?.ok_or_else(Problem::not_found)?;
    }
    let kept: Option<Kept> = match &diff.summary {
        Some(sealed) => {
            let plain = app.summaries.open(&diff.id.to_string(), sealed)?;
            Some(serde_json::from_slice(&plain).map_err(Problem::internal)?)
        }
        None => None,
    };
    let (summary, read) = kept.map_or((None, None), |kept| (Some(kept.summary), kept.read));
    let has_pages = match diff.to {
        ComparedWith::Snapshot(_) => summary.is_some(),
        ComparedWith::Live { .. } => app.live_readings.has(diff.id, app.now_ms()),
    };
    Ok(FoundDiff { diff, job, summary, read, has_pages })
}
