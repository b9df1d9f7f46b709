//! What is stored, and what a snapshot costs.

use axum::extract::{Path, State};
use axum::response::Response;
use engine::cost::Cost;
use web::pages::Named;
use web::pages::snapshot::{Costs, Counted};
use web::pages::usage::{self as page_of, DatabaseUsage, SnapshotUsage};
use web::urls;

use super::place::{self, id};
use super::{html, see_other, shell};
use crate::app::App;
use crate::auth::{PageUser, Visitor};
use crate::error::Result;
use crate::ids::ProjectId;
use crate::jobs;
use crate::meta::{JobState, Subject};
use crate::service::snapshots::FoundSnapshot;
use crate::service::usage;

/// What a project has stored.
pub async fn page(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    Path(project): Path<String>,
) -> Result<Response> {
    let project = id(ProjectId::parse, &project)?;
    let found = usage::of_project(&app, visitor.user_id, project).await?;
    let view = page_of::Usage {
        shell: shell(&app, &visitor),
        project: place::project(&app, &visitor, project).await?,
        stored_bytes: found.stored_bytes,
        databases: found.databases.into_iter().map(database).collect(),
    };
    Ok(html(page_of::page(&view)))
}

fn database(usage: usage::DatabaseUsage) -> DatabaseUsage {
    let (logical_bytes, new_bytes) = (usage.logical_bytes(), usage.new_bytes());
    let snapshots = usage.snapshots.iter().map(|snapshot| SnapshotUsage {
        id: snapshot.id.to_string(),
        at_ms: snapshot.manifest.started_ms,
        pinned: snapshot.mark.pinned,
        logical_bytes: snapshot.manifest.logical_bytes,
        new_bytes: snapshot.manifest.new_bytes,
    });
    DatabaseUsage {
        snapshots: snapshots.collect(),
        environment: place::environment(usage.database.environment),
        removed: usage.database.removed_ms.is_some(),
        database: Named::new(usage.database.id.to_string(), usage.database.name),
        logical_bytes,
        new_bytes,
    }
}

/// Starts counting what a snapshot costs, and leads to the job.
pub async fn start_cost(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    Path(snapshot): Path<String>,
) -> Result<Response> {
    let job = usage::start_cost(&app, visitor.user_id, &snapshot).await?;
    Ok(see_other(&urls::job(&job.to_string())))
}

/// What was last counted of a snapshot's cost, or the job that counts it.
pub(super) async fn costs(app: &App, _: &Visitor, found: &FoundSnapshot) -> Result<Costs> {
    let wanted = found.snapshot.id.to_string();
    let mut jobs = jobs::about(app, Subject::Costs(found.project_id, wanted)).await?.into_iter().peekable();
    if let Some(open) = jobs.peek().filter(|job| !job.state().is_final()) {
        return Ok(Costs::Counting(open.record.id.to_string()));
    }
    let done = jobs.find(|job| job.state() == JobState::Succeeded);
    let counted = done.and_then(|job| {
        let cost: Cost = serde_json::from_value(job.result?).ok()?;
        let collections = cost.collections.iter().map(|found| (found.name.clone(), found.share));
        let collections = collections.map(|(name, share)| (name, share.new_bytes, share.freed_bytes));
        Some(Counted {
            at_ms: job.record.finished_ms.unwrap_or(job.record.created_ms),
            new_bytes: cost.share.new_bytes,
            freed_bytes: cost.share.freed_bytes,
            descriptions: (cost.descriptions.new_bytes, cost.descriptions.freed_bytes),
            collections: collections.collect(),
        })
    });
    Ok(counted.map_or(Costs::Unknown, Costs::Counted))
}
