//! `/projects/{id}/databases` and `/databases`.

use axum::extract::State;
use axum::http::StatusCode;
use engine::source::Consistency;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use zeroize::Zeroizing;

use super::extract::{Json, ListQuery, Path, Queries, Query};
use super::openapi::ProblemBody;
use super::words::ConsistencyWord;
use super::{Accepted, rfc3339};
use crate::app::App;
use crate::auth::ApiUser;
use crate::error::Result;
use crate::ids::{DatabaseId, ProjectId};
use crate::meta::{ConnectedDatabase, Environment, Page};
use crate::service::databases::{self, DatabaseChange, Snapshots};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDatabase {
    name: String,
    #[schema(value_type = String)]
    url: Zeroizing<String>,
    environment: Environment,
    /// `point_in_time` where absent: a server that cannot show one moment is refused.
    #[serde(default)]
    #[schema(value_type = ConsistencyWord, default = "point_in_time")]
    consistency: Consistency,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    name: Option<String>,
    environment: Option<Environment>,
    #[schema(value_type = Option<String>)]
    url: Option<Zeroizing<String>>,
    #[schema(value_type = Option<ConsistencyWord>)]
    consistency: Option<Consistency>,
    /// The URL leads to the same database although its name or its server is another: it was renamed
    /// or moved. Without it such a URL is refused as `other-database`.
    #[serde(default)]
    moved: bool,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Removal {
    #[serde(default)]
    #[param(inline, required = false)]
    snapshots: SnapshotsOf,
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum SnapshotsOf {
    #[default]
    Keep,
    Delete,
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewBackup {
    note: Option<String>,
}

/// A database without its password.
#[derive(Serialize, ToSchema)]
pub struct DatabaseBody {
    id: DatabaseId,
    project_id: ProjectId,
    name: String,
    environment: Environment,
    engine: String,
    server_version: String,
    /// The first host; of a `mongodb+srv://` URL the name whose records list the hosts.
    host: String,
    /// Null where the records of a `mongodb+srv://` name say it.
    #[schema(required)]
    port: Option<u16>,
    /// All hosts, each with its port where it has one.
    hosts: Vec<String>,
    /// Null where all databases of a MongoDB server are backed up.
    #[schema(required)]
    database: Option<String>,
    /// Empty where nobody signs in.
    user: String,
    #[schema(value_type = ConsistencyWord)]
    consistency: Consistency,
    created_at: String,
    /// When it was removed; null while it is connected.
    #[schema(required)]
    removed_at: Option<String>,
}

impl From<ConnectedDatabase> for DatabaseBody {
    fn from(database: ConnectedDatabase) -> Self {
        Self {
            id: database.id,
            project_id: database.project_id,
            name: database.name,
            environment: database.environment,
            engine: database.engine,
            server_version: database.server_version,
            hosts: database.endpoint.hosts(),
            host: database.endpoint.host,
            port: Some(database.endpoint.port).filter(|port| *port > 0),
            database: database.endpoint.database,
            user: database.endpoint.user,
            consistency: database.consistency,
            created_at: rfc3339(database.created_ms),
            removed_at: database.removed_ms.map(rfc3339),
        }
    }
}

/// Connects a database that can be read and not written.
#[utoipa::path(
    post, path = "/projects/{id}/databases", tag = "databases",
    params(("id" = String, Path)),
    request_body = NewDatabase,
    responses((status = 201, description = "Connected; 422 is `not-read-only` with `privileges`, `unreachable` with the failed `stage`, or `invalid`", body = DatabaseBody)),
)]
pub async fn create(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(project): Path<ProjectId>,
    Json(body): Json<NewDatabase>,
) -> Result<(StatusCode, axum::Json<DatabaseBody>)> {
    let NewDatabase { name, url, environment, consistency } = body;
    let new = databases::NewDatabase { name, url, environment, consistency };
    let database = databases::connect(&app, visitor.user_id, project, new).await?;
    Ok((StatusCode::CREATED, axum::Json(database.into())))
}

/// Which of a project's databases are wanted.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Which {
    /// Instead of the connected ones, those that were removed and of which snapshots are kept. Their
    /// snapshots are at `/databases/{id}/snapshots`, and can be deleted by
    /// `DELETE /databases/{id}?snapshots=delete`.
    #[serde(default)]
    #[param(required = false)]
    removed: bool,
}

/// A project's databases, oldest first.
#[utoipa::path(
    get, path = "/projects/{id}/databases", tag = "databases",
    params(("id" = String, Path), ListQuery, Which),
    responses((status = 200, description = "A page", body = Page<DatabaseBody>)),
)]
pub async fn list(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(project): Path<ProjectId>,
    Queries(query, which): Queries<ListQuery, Which>,
) -> Result<axum::Json<Page<DatabaseBody>>> {
    let page = match which.removed {
        false => databases::list(&app, visitor.user_id, project, query.page()?).await?,
        true => databases::list_removed(&app, visitor.user_id, project, query.page()?).await?,
    };
    Ok(axum::Json(page.map(DatabaseBody::from)))
}

/// A database.
#[utoipa::path(
    get, path = "/databases/{id}", tag = "databases",
    params(("id" = String, Path)),
    responses((status = 200, description = "The database", body = DatabaseBody)),
)]
pub async fn get(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(id): Path<DatabaseId>,
) -> Result<axum::Json<DatabaseBody>> {
    Ok(axum::Json(databases::find(&app, visitor.user_id, id).await?.into()))
}

/// Renames, re-tags or re-connects a database; a new URL is tested like the first.
#[utoipa::path(
    patch, path = "/databases/{id}", tag = "databases",
    params(("id" = String, Path)),
    request_body = Change,
    responses((status = 200, description = "As it is now", body = DatabaseBody)),
)]
pub async fn change(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(id): Path<DatabaseId>,
    Json(body): Json<Change>,
) -> Result<axum::Json<DatabaseBody>> {
    let Change { name, environment, url, consistency, moved } = body;
    let change = DatabaseChange { name, environment, url, consistency, moved };
    Ok(axum::Json(databases::change(&app, visitor.user_id, id, change).await?.into()))
}

/// Removes a database; its snapshots stay unless they are to be deleted. Those of one that was removed
/// before can be deleted by the same call.
#[utoipa::path(
    delete, path = "/databases/{id}", tag = "databases",
    params(("id" = String, Path), Removal),
    responses(
        (status = 204, description = "Gone"),
        (status = 409, description = "`pinned`: some of its snapshots are, and nothing was removed", body = ProblemBody),
    ),
)]
pub async fn remove(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(id): Path<DatabaseId>,
    Query(removal): Query<Removal>,
) -> Result<StatusCode> {
    let snapshots = match removal.snapshots {
        SnapshotsOf::Keep => Snapshots::Keep,
        SnapshotsOf::Delete => Snapshots::Delete,
    };
    databases::remove(&app, visitor.user_id, id, snapshots).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Queues a backup. The body may be absent: a note is all there is to say.
#[utoipa::path(
    post, path = "/databases/{id}/backups", tag = "databases",
    params(("id" = String, Path)),
    request_body = Option<NewBackup>,
    responses((status = 202, description = "Queued, behind those of the same database", body = Accepted)),
)]
pub async fn start_backup(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(id): Path<DatabaseId>,
    body: axum::body::Bytes,
) -> Result<(StatusCode, axum::Json<Accepted>)> {
    let new: NewBackup = if body.iter().all(u8::is_ascii_whitespace) {
        NewBackup::default()
    } else {
        super::extract::from_slice(&body)?
    };
    let job_id = databases::start_backup(&app, visitor.user_id, id, new.note).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(Accepted { job_id })))
}
