//! Comparing snapshots.

use engine::diff::{self, Change, Filter, Summary};
use engine::rows;

use super::{audit, projects, snapshots};
use crate::app::App;
use crate::audit::{Event, action};
use crate::error::{Problem, Result};
use crate::ids::{DiffId, JobId, ProjectId, UserId};
use crate::jobs::{self, Job};
use crate::meta::{Diff, JobState, Page, PageRequest, Work};

/// A comparison as its owner sees it.
pub struct FoundDiff {
    pub diff: Diff,
    /// The job that makes it; none if it was never queued: the process ended before.
    pub job: Option<Job>,
    /// There once it succeeded.
    pub summary: Option<Summary>,
}

impl FoundDiff {
    /// How far it is.
    pub fn state(&self) -> JobState {
        self.job.as_ref().map_or(JobState::Interrupted, Job::state)
    }
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
    let id = DiffId::new(app.clock.as_ref(), app.entropy.as_ref());
    let job_id = jobs::new_id(app);
    let diff = Diff { id, project_id, from, to, job_id, summary: None, created_ms: app.now_ms() };
    app.meta.add_diff(diff).await?;
    jobs::enqueue(app, job_id, project_id, user, Work::Diff { diff_id: id }).await?;
    Ok((id, job_id))
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
    let to = snapshots::find(app, user, &diff.to).await?;
    let page =
        diff::changes(&from.repository, &from.snapshot, &to.snapshot, collection, filter, page).await?;
    let event = Event::new(action::RECORDS_READ, format!("diff/{id}"))
        .with("database", &to.snapshot.manifest.source.name)
        .with("from", &diff.from)
        .with("to", &diff.to);
    audit::records_read(app, user, event).await?;
    Ok(page)
}

async fn opened(app: &App, mut diff: Diff) -> Result<FoundDiff> {
    let job = jobs::get(app, diff.job_id).await?;
    // The job wrote its summary before it ended, and maybe after the row was read.
    if diff.summary.is_none() && job.as_ref().is_some_and(|job| job.state().is_final()) {
        diff = app.meta.diff(diff.id).await?.ok_or_else(Problem::not_found)?;
    }
    let summary = match &diff.summary {
        Some(sealed) => {
            let plain = app.summaries.open(&diff.id.to_string(), sealed)?;
            Some(serde_json::from_slice(&plain).map_err(Problem::internal)?)
        }
        None => None,
    };
    Ok(FoundDiff { diff, job, summary })
}
