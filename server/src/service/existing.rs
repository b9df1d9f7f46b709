//! Repositories that are in the storage and that no project here is of: after a data folder was
//! lost, all of them.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::StatusCode;
use engine::Kind;
use engine::repo::{Keyring, Repository, Snapshot, UnlockKey};
use engine::source::Consistency;
use repo_format::manifest::Source;

use super::audit;
use crate::app::App;
use crate::audit::{Event, action};
use crate::error::{Problem, Result};
use crate::ids::{DatabaseId, ProjectId, UserId};
use crate::meta::{ConnectedDatabase, Endpoint, Environment, PageRequest, Project};

/// The repositories that no project is of.
pub async fn unclaimed(app: &App) -> Result<Vec<ProjectId>> {
    let known: BTreeSet<ProjectId> = app.meta.project_ids().await?.into_iter().collect();
    let stored = app.storage.repositories().await?;
    let ids = stored.iter().filter_map(|name| ProjectId::parse(name));
    Ok(ids.filter(|id| !known.contains(id)).collect())
}

/// Makes projects of the repositories that a recovery key opens; without one, of those that this
/// server's own keys open, if it has no project yet. Their databases come without credentials. A recovery
/// key also opens the user's projects again whose repositories this server's keys do not open any more.
pub async fn open(app: &App, user: UserId, recovery_key: Option<&str>) -> Result<Vec<Project>> {
    let opened = open_all(app, user, recovery_key).await;
    let ids =
        opened.as_ref().ok().map(|projects| projects.iter().map(|project| project.id).collect::<Vec<_>>());
    let event = Event::new(action::STORAGE_OPEN, "storage").with("projects", ids);
    audit::record(app, user, event.with("recovery_key", recovery_key.is_some()), opened).await
}

async fn open_all(app: &App, user: UserId, recovery_key: Option<&str>) -> Result<Vec<Project>> {
    let keyring = match recovery_key {
        Some(text) => Keyring::new(parse(text)?),
        // Whoever shares this storage with another server must not take over what is that one's.
        None if !app.meta.project_ids().await?.is_empty() => {
            return Err(Problem::invalid("recovery_key", "Give the recovery key of the project to open."));
        }
        None => app.repositories.keyring().clone(),
    };
    let (mut opened, mut failed, mut is_damaged) = (Vec::new(), None, false);
    let closed = if recovery_key.is_some() { locked(app, user).await? } else { Vec::new() };
    let closed = closed.into_iter().map(|project| (project.id, Some(project)));
    for (id, known) in unclaimed(app).await?.into_iter().map(|id| (id, None)).chain(closed) {
        match app.repositories.open_with(id, &keyring).await {
            Ok(repository) => match open_from_now_on(app, user, id, known, &repository).await {
                Ok(project) => opened.push(project),
                Err(problem) => {
                    app.repositories.forget(id);
                    return Err(problem);
                }
            },
            // Another key's.
            Err(problem) if problem.kind() == Some(Kind::Locked) => is_damaged |= problem.has_deeper_cause(),
            // One that is in trouble must not keep the others closed.
            Err(problem) => {
                tracing::warn!(project = %id, cause = problem.describe(), "a stored repository does not open");
                failed = Some(problem);
            }
        }
    }
    if let (true, Some(problem)) = (opened.is_empty(), failed) {
        return Err(problem);
    }
    if opened.is_empty() {
        let mut detail =
            "No repository in the storage that is not open here already opens with this key. Check the \
                          key, and that DBSNAP_STORAGE names the storage it is of."
                .to_owned();
        if is_damaged {
            detail.push_str(" A key slot there is damaged: the key that it was for opens nothing any more.");
        }
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "wrong-key", "Nothing opens", detail));
    }
    Ok(opened)
}

/// The user's projects whose repositories this server's own keys do not open any more.
pub async fn locked(app: &App, user: UserId) -> Result<Vec<Project>> {
    let mut locked = Vec::new();
    for project in super::projects::list(app, user, PageRequest::all()).await?.items {
        let opened = app.repositories.get(project.id).await;
        if opened.is_err_and(|problem| problem.kind() == Some(Kind::Locked)) {
            locked.push(project);
        }
    }
    Ok(locked)
}

/// Makes sure that this server's keys open the repository from now on, and a project of it if there is none.
async fn open_from_now_on(
    app: &App,
    user: UserId,
    id: ProjectId,
    known: Option<Project>,
    repository: &Repository,
) -> Result<Project> {
    super::keys::ensure_own_slot(app, repository).await?;
    match known {
        Some(project) => {
            find_databases(app, id, repository.snapshots().await?).await?;
            Ok(project)
        }
        None => adopt(app, user, id, repository).await,
    }
}

fn parse(text: &str) -> Result<UnlockKey> {
    UnlockKey::from_recovery_text(text).map_err(|error| {
        Problem::invalid("recovery_key", format!("This is no recovery key: {error}. Check what was typed."))
    })
}

/// Makes a project of a repository, and lists what is in it.
async fn adopt(app: &App, user: UserId, id: ProjectId, repository: &Repository) -> Result<Project> {
    let has_recovery_key = super::keys::has_recovery_slot(repository).await?;
    let databases = databases_in(app, id, repository.snapshots().await?);
    let names: Vec<&str> = databases.iter().map(|database| database.name.as_str()).collect();
    let name: String = names.join(", ").chars().take(super::projects::MAX_NAME_CHARS).collect();
    let now_ms = app.now_ms();
    let project = Project {
        id,
        user_id: user,
        name: if name.is_empty() { "Opened from storage".to_owned() } else { name },
        created_ms: databases.iter().map(|database| database.created_ms).min().unwrap_or(now_ms),
        ready: true,
        recovery_key_ms: has_recovery_key.then_some(now_ms),
        recovery_key_lost: false,
        is_example: false,
    };
    app.meta.adopt_project(project.clone(), databases).await?;
    Ok(project)
}

/// Lists the databases of every project that only snapshots know: the metadata may be an older copy, or
/// another server may have connected them. They come without credentials.
pub async fn find_all_databases(app: &App) -> Result<()> {
    for id in app.meta.ready_projects().await? {
        let found = async {
            let repository = app.repositories.get(id).await?;
            find_databases(app, id, repository.snapshots().await?).await
        };
        if let Err(problem) = found.await {
            // Its pages say so.
            tracing::warn!(project = %id, cause = problem.describe(), "its databases could not be looked for");
        }
    }
    Ok(())
}

/// As [`find_all_databases`], of one project with these snapshots.
pub async fn find_databases(app: &App, id: ProjectId, snapshots: Vec<Snapshot>) -> Result<()> {
    let found = databases_in(app, id, snapshots);
    let added = app.meta.add_unknown_databases(id, found).await?;
    if added > 0 {
        tracing::warn!(project = %id, added, "databases that only snapshots know are listed without credentials");
    }
    Ok(())
}

/// The databases that snapshots of a project, newest first, are of.
fn databases_in(app: &App, id: ProjectId, snapshots: Vec<Snapshot>) -> Vec<ConnectedDatabase> {
    let mut sources: BTreeMap<DatabaseId, (Source, i64)> = BTreeMap::new();
    // Newest first: a database has the name it had last, and was made before its first snapshot.
    for snapshot in snapshots {
        let Some(database) = DatabaseId::parse(&snapshot.manifest.source.id) else { continue };
        app.repositories.saw(snapshot.id, id);
        let (source, started_ms) = (snapshot.manifest.source, snapshot.manifest.started_ms);
        sources.entry(database).or_insert((source, started_ms)).1 = started_ms;
    }
    let known = |(database, (source, first_ms))| known(database, id, source, first_ms);
    sources.into_iter().map(known).collect()
}

/// A database as its newest snapshot knows it.
fn known(id: DatabaseId, project_id: ProjectId, source: Source, created_ms: i64) -> ConnectedDatabase {
    ConnectedDatabase {
        id,
        project_id,
        name: source.name,
        // The careful guess.
        environment: Environment::Prod,
        engine: source.engine,
        server_version: source.version,
        endpoint: Endpoint::unknown(Some(source.database).filter(|name| !name.is_empty())),
        consistency: Consistency::PointInTime,
        url: None,
        created_ms,
        last_complete_ms: None,
        last_verified_ms: None,
        removed_ms: None,
    }
}
