//! `/jobs`.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use engine::monitor::Progress;
use serde::Serialize;
use serde_json::Value;

use super::extract::{ListQuery, Path, Query};
use super::rfc3339;
use crate::app::App;
use crate::auth::ApiUser;
use crate::error::{JobError, Result};
use crate::events;
use crate::ids::{JobId, ProjectId};
use crate::jobs::{self, Job};
use crate::meta::{JobState, Page};
use crate::service::projects;

#[derive(Serialize)]
pub struct JobBody {
    id: JobId,
    project_id: ProjectId,
    kind: &'static str,
    state: JobState,
    created_at: String,
    started_at: Option<String>,
    finished_at: Option<String>,
    progress: Progress,
    result: Option<Value>,
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
            progress: record.progress,
            result,
            error,
        }
    }
}

pub async fn get(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(id): Path<JobId>,
) -> Result<axum::Json<JobBody>> {
    Ok(axum::Json(jobs::find(&app, visitor.user_id, id).await?.into()))
}

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

pub async fn cancel(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(id): Path<JobId>,
) -> Result<StatusCode> {
    jobs::find(&app, visitor.user_id, id).await?;
    jobs::cancel(&app, id).await?;
    Ok(StatusCode::ACCEPTED)
}

pub async fn follow(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(id): Path<JobId>,
    headers: HeaderMap,
) -> Result<Response> {
    let job = jobs::find(&app, visitor.user_id, id).await?;
    Ok(events::follow(&app, job, &headers, |job| {
        serde_json::to_string(&JobBody::from(job.clone())).unwrap_or_default()
    }))
}
