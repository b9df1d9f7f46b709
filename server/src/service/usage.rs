//! What is stored: by project, by database, by snapshot.

use std::collections::BTreeMap;
use std::time::Duration;

use engine::cost::{self, Freed};
use engine::repo::Snapshot;

use super::{projects, snapshots};
use crate::app::App;
use crate::error::{Problem, Result, causes};
use crate::ids::{JobId, ProjectId, UserId};
use crate::jobs;
use crate::meta::{ConnectedDatabase, PageRequest, Work};

/// How long an answer may wait for a count that reads a whole project's nodes.
const COUNTING: Duration = Duration::from_secs(5);

/// What a project has stored.
pub struct Usage {
    /// Bytes of everything in its repository.
    pub stored_bytes: u64,
    /// The databases that are connected or of which snapshots are kept, oldest first.
    pub databases: Vec<DatabaseUsage>,
}

/// What a database has stored.
pub struct DatabaseUsage {
    pub database: ConnectedDatabase,
    /// Newest first.
    pub snapshots: Vec<Snapshot>,
}

impl DatabaseUsage {
    /// The size of its newest snapshot.
    pub fn logical_bytes(&self) -> u64 {
        self.snapshots.first().map_or(0, |newest| newest.manifest.logical_bytes)
    }

    /// What its snapshots added to the repository when they were taken.
    pub fn new_bytes(&self) -> u64 {
        self.snapshots.iter().map(|snapshot| snapshot.manifest.new_bytes).sum()
    }
}

/// What a project has stored now.
pub async fn of_project(app: &App, user: UserId, project: ProjectId) -> Result<Usage> {
    projects::find(app, user, project).await?;
    let repository = app.repositories.get(project).await?;
    let mut by_source: BTreeMap<String, Vec<Snapshot>> = BTreeMap::new();
    for snapshot in snapshots::of(&repository).await? {
        by_source.entry(snapshot.manifest.source.id.clone()).or_default().push(snapshot);
    }
    let databases = app.meta.databases_of(project, PageRequest::all()).await?.items.into_iter();
    let databases = databases.map(|database| DatabaseUsage {
        snapshots: by_source.remove(&database.id.to_string()).unwrap_or_default(),
        database,
    });
    let is_shown = |usage: &DatabaseUsage| usage.database.removed_ms.is_none() || !usage.snapshots.is_empty();
    Ok(Usage {
        databases: databases.filter(is_shown).collect(),
        stored_bytes: repository.stored_bytes().await?,
    })
}

/// What a project that was found to be the caller's has stored, in bytes.
pub async fn stored_bytes(app: &App, project: ProjectId) -> Result<u64> {
    Ok(app.repositories.get(project).await?.stored_bytes().await?)
}

/// Queues a count of what a snapshot costs: for that, all snapshots of its project are looked at.
pub async fn start_cost(app: &App, user: UserId, snapshot: &str) -> Result<JobId> {
    let found = snapshots::find(app, user, snapshot).await?;
    let job = jobs::new_id(app);
    let work = Work::Cost { snapshot_id: found.snapshot.id.to_string() };
    jobs::enqueue(app, job, found.project_id, user, work).await?;
    Ok(job)
}

/// What would come free without some snapshots; none where that could not be counted within the time that
/// somebody waits for an answer.
pub async fn freed(app: &App, project: ProjectId, going: &[Snapshot]) -> Result<Option<Freed>> {
    if going.is_empty() {
        return Ok(Some(Freed::default()));
    }
    let repository = app.repositories.get(project).await?;
    let (scratch, context) = jobs::errand(app)?;
    // Whoever does not wait any more ends it.
    let _ended_with_this = context.cancel.clone().drop_guard();
    let ids: Vec<_> = going.iter().map(|snapshot| snapshot.id).collect();
    let runtime = tokio::runtime::Handle::current();
    let counting = tokio::task::spawn_blocking(move || {
        let counted = runtime.block_on(cost::freed(&repository, &ids, &context));
        let _ = std::fs::remove_dir_all(&scratch);
        counted
    });
    match tokio::time::timeout(COUNTING, counting).await {
        Ok(counted) => match counted.map_err(Problem::internal)? {
            Ok(freed) => Ok(Some(freed)),
            Err(error) => {
                tracing::warn!(%project, error = causes(&error), "what would come free cannot be counted");
                Ok(None)
            }
        },
        Err(_) => Ok(None),
    }
}

/// How many snapshots each database has, as far as that is known. What is old is counted anew in the
/// background: who asks every few seconds must not wait for a storage.
pub fn snapshot_counts(app: &App) -> BTreeMap<String, u64> {
    let (counts, is_due) = app.metrics.snapshots(app.elapsed_ms());
    if is_due {
        let app = app.clone();
        tokio::spawn(async move {
            let counted = count(&app).await.inspect_err(Problem::log).ok();
            app.metrics.snapshots_counted(counted, app.elapsed_ms());
        });
    }
    counts
}

async fn count(app: &App) -> Result<BTreeMap<String, u64>> {
    let mut counts = BTreeMap::new();
    for project in app.meta.project_ids().await? {
        if app.meta.project(project).await?.is_none() {
            // It is being made or removed.
            continue;
        }
        for database in app.meta.databases_of(project, PageRequest::all()).await?.items {
            counts.insert(database.id.to_string(), 0);
        }
        for snapshot in app.repositories.get(project).await?.snapshots().await? {
            *counts.entry(snapshot.manifest.source.id).or_default() += 1;
        }
    }
    Ok(counts)
}
