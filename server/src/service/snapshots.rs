//! Snapshots: a database's history, and what is in it.

use engine::history::{self, CollectionSummary, Record};
use engine::repo::{Repository, Snapshot};
use engine::rows;
use repo_format::id::SnapshotId;

use super::{audit, databases, projects};
use crate::app::App;
use crate::audit::{Actor, Event, action};
use crate::error::{Problem, Result};
use crate::ids::{DatabaseId, ProjectId, UserId};
use crate::meta::{Page, PageRequest};

/// A snapshot and where it is.
pub struct FoundSnapshot {
    pub project_id: ProjectId,
    pub repository: Repository,
    pub snapshot: Snapshot,
}

impl FoundSnapshot {
    /// The database it is of; none if its source is not one of this server's.
    pub fn database_id(&self) -> Option<DatabaseId> {
        DatabaseId::parse(&self.snapshot.manifest.source.id)
    }
}

/// A database's snapshots, newest first. Those of a removed database, too.
pub async fn list(
    app: &App,
    user: UserId,
    database: DatabaseId,
    page: PageRequest,
) -> Result<Page<Snapshot>> {
    let database = databases::find_with_history(app, user, database).await?;
    let repository = app.repositories.get(database.project_id).await?;
    let source = database.id.to_string();
    let mut all = repository.snapshots().await?;
    all.retain(|snapshot| snapshot.manifest.source.id == source);
    for snapshot in &all {
        app.repositories.saw(snapshot.id, database.project_id);
    }
    let start = match &page.after {
        None => 0,
        Some(after) => {
            let at = all.iter().position(|snapshot| snapshot.id.to_string() == *after);
            at.ok_or_else(|| Problem::invalid("cursor", "Use the cursor as an earlier answer gave it."))? + 1
        }
    };
    let more = all.len() - start > page.limit;
    let items: Vec<Snapshot> = all.into_iter().skip(start).take(page.limit).collect();
    let next_cursor = if more { items.last().map(|snapshot| snapshot.id.to_string()) } else { None };
    Ok(Page { items, next_cursor })
}

/// A user's snapshot, by its id alone. Somebody else's is not found.
pub async fn find(app: &App, user: UserId, id: &str) -> Result<FoundSnapshot> {
    let id = SnapshotId::parse(id).ok_or_else(Problem::not_found)?;
    if let Some(project) = app.repositories.project_of(id) {
        projects::find(app, user, project).await?;
        return in_project(app, project, id).await?.ok_or_else(Problem::not_found);
    }
    let mut failed = None;
    for project in projects::list(app, user, PageRequest::all()).await?.items {
        match in_project(app, project.id, id).await {
            Ok(Some(found)) => {
                app.repositories.saw(id, project.id);
                return Ok(found);
            }
            Ok(None) => {}
            // One project's trouble must not hide the snapshots of the others.
            Err(problem) => failed = Some(problem),
        }
    }
    Err(failed.unwrap_or_else(Problem::not_found))
}

/// Deletes a snapshot. Nobody sees it from now on; its bytes come free with the next prune.
pub async fn delete(app: &App, user: UserId, id: &str) -> Result<()> {
    let found = find(app, user, id).await?;
    remove(app, user, &found.repository, &found.snapshot, Actor::Account).await
}

/// Deletes a snapshot that was found, for somebody or for the rules of a schedule.
pub(super) async fn remove(
    app: &App,
    user: UserId,
    repository: &Repository,
    snapshot: &Snapshot,
    actor: Actor,
) -> Result<()> {
    let event = Event::new(action::SNAPSHOT_DELETE, format!("snapshot/{}", snapshot.id))
        .by(actor)
        .with("database", &snapshot.manifest.source.name)
        .with("root", snapshot.manifest.catalog_root.to_string());
    let done = repository.delete_snapshot(snapshot.id, app.clock.as_ref()).await;
    audit::record(app, user, event, done.map_err(Problem::from)).await
}

async fn in_project(app: &App, project_id: ProjectId, id: SnapshotId) -> Result<Option<FoundSnapshot>> {
    let repository = app.repositories.get(project_id).await?;
    match repository.snapshot(id).await {
        Ok(snapshot) => Ok(Some(FoundSnapshot { project_id, repository, snapshot })),
        Err(error) if error.kind() == engine::Kind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A snapshot's collections, by name.
pub async fn collections(found: &FoundSnapshot) -> Result<Vec<CollectionSummary>> {
    Ok(history::collections(&found.repository, &found.snapshot).await?)
}

/// A page of a collection's records, in key order.
pub async fn records(
    found: &FoundSnapshot,
    collection: &str,
    page: &rows::PageRequest,
) -> Result<rows::Page<Record>> {
    Ok(history::records(&found.repository, &found.snapshot, collection, page).await?)
}
