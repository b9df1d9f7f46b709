//! `/projects`.

use axum::extract::State;
use axum::http::StatusCode;
use engine::source::{ConnectionReport, Consistency};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::extract::{Json, ListQuery, Path, Query};
use super::{Accepted, rfc3339};
use crate::app::App;
use crate::auth::ApiUser;
use crate::error::Result;
use crate::ids::ProjectId;
use crate::meta::{Page, Project, VerifyMode};
use crate::service::{databases, projects};

#[derive(Deserialize)]
pub struct NewProject {
    name: String,
}

#[derive(Deserialize)]
pub struct ConnectionTest {
    url: Zeroizing<String>,
    /// What the test is for; `point_in_time` where absent.
    #[serde(default)]
    consistency: Consistency,
}

#[derive(Deserialize)]
pub struct Verification {
    mode: VerifyMode,
}

#[derive(Serialize)]
pub struct ProjectBody {
    id: ProjectId,
    name: String,
    created_at: String,
}

#[derive(Serialize)]
pub struct RecoveryKey {
    /// Shown this once.
    recovery_key: String,
}

impl From<Project> for ProjectBody {
    fn from(project: Project) -> Self {
        Self { id: project.id, name: project.name, created_at: rfc3339(project.created_ms) }
    }
}

pub async fn create(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Json(body): Json<NewProject>,
) -> Result<(StatusCode, axum::Json<ProjectBody>)> {
    let project = projects::create(&app, visitor.user_id, &body.name).await?;
    Ok((StatusCode::CREATED, axum::Json(project.into())))
}

pub async fn list(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Query(query): Query<ListQuery>,
) -> Result<axum::Json<Page<ProjectBody>>> {
    let page = projects::list(&app, visitor.user_id, query.page()?).await?;
    Ok(axum::Json(page.map(ProjectBody::from)))
}

pub async fn get(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(id): Path<ProjectId>,
) -> Result<axum::Json<ProjectBody>> {
    Ok(axum::Json(projects::find(&app, visitor.user_id, id).await?.into()))
}

pub async fn delete(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(id): Path<ProjectId>,
) -> Result<StatusCode> {
    projects::delete(&app, visitor.user_id, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn test_connection(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(id): Path<ProjectId>,
    Json(body): Json<ConnectionTest>,
) -> Result<axum::Json<ConnectionReport>> {
    let ConnectionTest { url, consistency } = body;
    Ok(axum::Json(databases::test(&app, visitor.user_id, id, &url, consistency).await?))
}

pub async fn verify(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(id): Path<ProjectId>,
    Json(body): Json<Verification>,
) -> Result<(StatusCode, axum::Json<Accepted>)> {
    let job_id = projects::start_verify(&app, visitor.user_id, id, body.mode).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(Accepted { job_id })))
}

pub async fn export_recovery_key(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(id): Path<ProjectId>,
) -> Result<(StatusCode, axum::Json<RecoveryKey>)> {
    let recovery_key = projects::export_recovery_key(&app, visitor.user_id, id).await?;
    Ok((StatusCode::CREATED, axum::Json(RecoveryKey { recovery_key })))
}
