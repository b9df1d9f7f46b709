//! `/projects`.

use axum::extract::State;
use axum::http::StatusCode;
use engine::source::Consistency;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::extract::{Json, ListQuery, Path, Query};
use super::openapi::ProblemBody;
use super::words::{ConnectionBody, ConsistencyWord};
use super::{Accepted, rfc3339};
use crate::app::App;
use crate::auth::ApiUser;
use crate::error::Result;
use crate::ids::ProjectId;
use crate::meta::{Page, Project, VerifyMode};
use crate::service::{databases, projects};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewProject {
    name: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectionTest {
    #[schema(value_type = String)]
    url: Zeroizing<String>,
    /// What the test is for; `point_in_time` where absent.
    #[serde(default)]
    #[schema(value_type = ConsistencyWord, default = "point_in_time")]
    consistency: Consistency,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Verification {
    mode: VerifyMode,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Pruning {
    /// Whether to say only what would go.
    dry_run: bool,
}

#[derive(Serialize, ToSchema)]
pub struct ProjectBody {
    id: ProjectId,
    name: String,
    created_at: String,
}

#[derive(Serialize, ToSchema)]
pub struct RecoveryKey {
    /// Shown this once.
    recovery_key: String,
}

impl From<Project> for ProjectBody {
    fn from(project: Project) -> Self {
        Self { id: project.id, name: project.name, created_at: rfc3339(project.created_ms) }
    }
}

/// Makes a project and its repository.
#[utoipa::path(
    post, path = "/projects", tag = "projects",
    request_body = NewProject,
    responses((status = 201, description = "Made", body = ProjectBody)),
)]
pub async fn create(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Json(body): Json<NewProject>,
) -> Result<(StatusCode, axum::Json<ProjectBody>)> {
    let project = projects::create(&app, visitor.user_id, &body.name).await?;
    Ok((StatusCode::CREATED, axum::Json(project.into())))
}

/// The projects, oldest first.
#[utoipa::path(
    get, path = "/projects", tag = "projects",
    params(ListQuery),
    responses((status = 200, description = "A page", body = Page<ProjectBody>)),
)]
pub async fn list(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Query(query): Query<ListQuery>,
) -> Result<axum::Json<Page<ProjectBody>>> {
    let page = projects::list(&app, visitor.user_id, query.page()?).await?;
    Ok(axum::Json(page.map(ProjectBody::from)))
}

/// A project.
#[utoipa::path(
    get, path = "/projects/{id}", tag = "projects",
    params(("id" = String, Path)),
    responses((status = 200, description = "The project", body = ProjectBody)),
)]
pub async fn get(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(id): Path<ProjectId>,
) -> Result<axum::Json<ProjectBody>> {
    Ok(axum::Json(projects::find(&app, visitor.user_id, id).await?.into()))
}

/// Removes a project with its snapshots.
#[utoipa::path(
    delete, path = "/projects/{id}", tag = "projects",
    params(("id" = String, Path)),
    responses((status = 204, description = "Gone"), (status = 409, description = "`jobs-running`", body = ProblemBody)),
)]
pub async fn delete(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(id): Path<ProjectId>,
) -> Result<StatusCode> {
    projects::delete(&app, visitor.user_id, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Tests a connection, stage by stage, and keeps nothing.
#[utoipa::path(
    post, path = "/projects/{id}/connection-test", tag = "projects",
    params(("id" = String, Path)),
    request_body = ConnectionTest,
    responses((status = 200, description = "What was found; `ok` says whether it can be backed up", body = ConnectionBody)),
)]
pub async fn test_connection(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(id): Path<ProjectId>,
    Json(body): Json<ConnectionTest>,
) -> Result<axum::Json<ConnectionBody>> {
    let ConnectionTest { url, consistency } = body;
    Ok(axum::Json(databases::test(&app, visitor.user_id, id, &url, consistency).await?.into()))
}

/// Queues a verification of everything in the repository.
#[utoipa::path(
    post, path = "/projects/{id}/verify", tag = "projects",
    params(("id" = String, Path)),
    request_body = Verification,
    responses((status = 202, description = "Queued", body = Accepted)),
)]
pub async fn verify(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(id): Path<ProjectId>,
    Json(body): Json<Verification>,
) -> Result<(StatusCode, axum::Json<Accepted>)> {
    let job_id = projects::start_verify(&app, visitor.user_id, id, body.mode).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(Accepted { job_id })))
}

/// Queues a prune: what no snapshot needs is removed from the repository.
#[utoipa::path(
    post, path = "/projects/{id}/prune", tag = "projects",
    params(("id" = String, Path)),
    request_body = Pruning,
    responses((status = 202, description = "Queued", body = Accepted)),
)]
pub async fn prune(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(id): Path<ProjectId>,
    Json(body): Json<Pruning>,
) -> Result<(StatusCode, axum::Json<Accepted>)> {
    let job_id = projects::start_prune(&app, visitor.user_id, id, body.dry_run).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(Accepted { job_id })))
}

/// Adds a recovery key and shows it this once.
#[utoipa::path(
    post, path = "/projects/{id}/keys/recovery", tag = "projects",
    params(("id" = String, Path)),
    responses((status = 201, description = "The key", body = RecoveryKey)),
)]
pub async fn export_recovery_key(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(id): Path<ProjectId>,
) -> Result<(StatusCode, axum::Json<RecoveryKey>)> {
    let recovery_key = projects::export_recovery_key(&app, visitor.user_id, id).await?;
    Ok((StatusCode::CREATED, axum::Json(RecoveryKey { recovery_key })))
}
