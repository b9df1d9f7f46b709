//! `/jobs`.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::extract::{ListQuery, Path, Query};
use super::rfc3339;
use super::words::ProgressBody;
use crate::app::App;
use crate::auth::ApiUser;
use crate::error::{JobError, Result};
use crate::events;
use crate::ids::{JobId, ProjectId};
use crate::jobs::{self, Job};
use crate::meta::{JobState, Page};
use crate::service::{self, projects};

#[derive(Serialize, ToSchema)]
pub struct JobBody {
    id: JobId,
    project_id: ProjectId,
    /// `backup`, `diff`, `live-diff`, `restore-plan`, `restore-apply`, `restore-undo`, `verify`, `prune`, `cost` and what later versions add.
    kind: &'static str,
    state: JobState,
    created_at: String,
    #[schema(required)]
    started_at: Option<String>,
    #[schema(required)]
    finished_at: Option<String>,
    progress: ProgressBody,
    /// What came of it, by its kind; null until it has ended well.
    #[schema(required, value_type = Option<Object>)]
    result: Option<Value>,
    /// Why it failed.
    #[schema(required)]
    error: Option<JobError>,
}

impl From<Job> for JobBody {
    fn from(job: Job) -> Self {
        let Job { record, result, error } = job;
        Self {
            id: record.id,
            project_id: record.project_id,
            kind: record.work.kind(),
            state: record.state,
            created_at: rfc3339(record.created_ms),
            started_at: record.started_ms.map(rfc3339),
            finished_at: record.finished_ms.map(rfc3339),
            progress: record.progress.into(),
            result,
            error,
        }
    }
}

/// A job.
#[utoipa::path(
    get, path = "/jobs/{id}", tag = "jobs",
    params(("id" = String, Path)),
    responses((status = 200, description = "The job", body = JobBody)),
)]
pub async fn get(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(id): Path<JobId>,
) -> Result<axum::Json<JobBody>> {
    Ok(axum::Json(jobs::find(&app, visitor.user_id, id).await?.into()))
}

/// A project's jobs, newest first.
#[utoipa::path(
    get, path = "/projects/{id}/jobs", tag = "jobs",
    params(("id" = String, Path), ListQuery),
    responses((status = 200, description = "A page", body = Page<JobBody>)),
)]
pub async fn list(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(project): Path<ProjectId>,
    Query(query): Query<ListQuery>,
) -> Result<axum::Json<Page<JobBody>>> {
    projects::find(&app, visitor.user_id, project).await?;
    let page = jobs::list(&app, project, query.page()?).await?;
    Ok(axum::Json(page.map(JobBody::from)))
}

/// Asks a job to stop at its next safe point.
#[utoipa::path(
    post, path = "/jobs/{id}/cancel", tag = "jobs",
    params(("id" = String, Path)),
    responses((status = 202, description = "Asked to stop")),
)]
pub async fn cancel(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(id): Path<JobId>,
) -> Result<StatusCode> {
    service::jobs::cancel(&app, visitor.user_id, id).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Server-sent events: `state` at once and when it changes, `progress` in between. Their data is the job.
#[utoipa::path(
    get, path = "/jobs/{id}/events", tag = "jobs",
    params(("id" = String, Path), ("last-event-id" = Option<String>, Header, description = "The last event seen")),
    responses((status = 200, description = "Until the job has ended", body = String, content_type = "text/event-stream"), (status = 204, description = "The job has ended and its end was seen")),
)]
pub async fn follow(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(id): Path<JobId>,
    headers: HeaderMap,
) -> Result<Response> {
    let job = jobs::find(&app, visitor.user_id, id).await?;
    Ok(events::follow(&app, visitor.session_id, job, &headers, |job| {
        serde_json::to_string(&JobBody::from(job.clone())).unwrap_or_default()
    }))
}
