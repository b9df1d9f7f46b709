//! `/projects/{id}/usage` and `/snapshots/{id}/cost`.

use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::extract::Path;
use super::{Accepted, rfc3339, snapshots};
use crate::app::App;
use crate::auth::ApiUser;
use crate::error::Result;
use crate::ids::{DatabaseId, ProjectId};
use crate::service::usage::{self, DatabaseUsage};

#[derive(Serialize, ToSchema)]
pub struct UsageBody {
    /// Bytes of everything that is stored, also of what no snapshot needs any more.
    stored_bytes: u64,
    /// The databases that are connected or of which snapshots are kept, oldest first.
    databases: Vec<DatabaseUsageBody>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = DatabaseUsage)]
pub struct DatabaseUsageBody {
    id: DatabaseId,
    name: String,
    #[schema(required)]
    removed_at: Option<String>,
    /// The size of the newest snapshot.
    logical_bytes: u64,
    /// What the snapshots added to what is stored when they were taken.
    new_bytes: u64,
    /// Newest first.
    snapshots: Vec<SnapshotUsageBody>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = SnapshotUsage)]
pub struct SnapshotUsageBody {
    id: String,
    created_at: String,
    pinned: bool,
    logical_bytes: u64,
    /// What it added to what is stored when it was taken. What would come free without it is told by
    /// `POST /snapshots/{id}/cost`.
    new_bytes: u64,
}

impl From<DatabaseUsage> for DatabaseUsageBody {
    fn from(usage: DatabaseUsage) -> Self {
        let (logical_bytes, new_bytes) = (usage.logical_bytes(), usage.new_bytes());
        let snapshots = usage.snapshots.into_iter().map(|snapshot| SnapshotUsageBody {
            id: snapshot.id.to_string(),
            created_at: snapshots::created_at(&snapshot.manifest),
            pinned: snapshot.mark.pinned,
            logical_bytes: snapshot.manifest.logical_bytes,
            new_bytes: snapshot.manifest.new_bytes,
        });
        Self {
            id: usage.database.id,
            name: usage.database.name,
            removed_at: usage.database.removed_ms.map(rfc3339),
            logical_bytes,
            new_bytes,
            snapshots: snapshots.collect(),
        }
    }
}

/// What a project has stored, by database and snapshot. Snapshots share what is equal in them, so the
/// parts need not add up to the whole.
#[utoipa::path(
    get, path = "/projects/{id}/usage", tag = "projects",
    params(("id" = String, Path)),
    responses((status = 200, description = "Bytes by database and snapshot", body = UsageBody)),
)]
pub async fn of_project(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(id): Path<ProjectId>,
) -> Result<axum::Json<UsageBody>> {
    let found = usage::of_project(&app, visitor.user_id, id).await?;
    let databases = found.databases.into_iter().map(DatabaseUsageBody::from).collect();
    Ok(axum::Json(UsageBody { stored_bytes: found.stored_bytes, databases }))
}

/// Queues a count of what a snapshot costs: what it brought, and what would come free without it, by
/// collection. All snapshots of the project are looked at for that. The job's result: `logical_bytes`,
/// `written_bytes`, `new_objects`, `new_bytes`, `freed_objects`, `freed_bytes`, and the last four again in
/// `descriptions` and in each of `collections`. What a prune frees differs from `freed_bytes`: packs that are mostly
/// needed stay whole.
#[utoipa::path(
    post, path = "/snapshots/{id}/cost", tag = "snapshots",
    params(("id" = String, Path)),
    responses((status = 202, description = "Queued", body = Accepted)),
)]
pub async fn start_cost(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(id): Path<String>,
) -> Result<(StatusCode, axum::Json<Accepted>)> {
    let job_id = usage::start_cost(&app, visitor.user_id, &id).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(Accepted { job_id })))
}
