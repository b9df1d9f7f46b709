//! Connecting databases, and backing them up.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use engine::repo::Snapshot;
use engine::source::{self, ConnectionReport, Consistency, DatabaseUrl, Stage, StageReport, mongodb};
use repo_format::manifest::Source;
use zeroize::Zeroizing;

use super::{addresses, audit, projects, snapshots};
use crate::app::App;
use crate::audit::{Actor, Event, Outcome, action};
use crate::error::{self, Problem, Result};
use crate::ids::{DatabaseId, JobId, ProjectId, UserId};
use crate::jobs;
use crate::meta::{ConnectedDatabase, Endpoint, Environment, Page, PageRequest, Work};
use crate::server_key::Sealed;

/// A database to connect.
pub struct NewDatabase {
    pub name: String,
    pub url: Zeroizing<String>,
    pub environment: Environment,
    pub consistency: Consistency,
}

/// What to change about a database; what is absent stays.
#[derive(Default)]
pub struct DatabaseChange {
    pub name: Option<String>,
    pub environment: Option<Environment>,
    pub url: Option<Zeroizing<String>>,
    pub consistency: Option<Consistency>,
    /// Whether the URL leads to the same database although it looks like another one.
    pub moved: bool,
}

/// What becomes of a removed database's snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Snapshots {
    Keep,
    Delete,
}

/// Tests a connection, stage by stage, and keeps nothing.
pub async fn test(
    app: &App,
    user: UserId,
    project: ProjectId,
    url: &str,
    consistency: Consistency,
) -> Result<ConnectionReport> {
    projects::find(app, user, project).await?;
    let url = addresses::check_url(app, url).await?;
    let report = source::test(&url, consistency).await;
    let event = Event::new(action::CONNECTION_TEST, audit::project(project));
    let event = event.with("address", endpoint(&url).to_string()).with("ok", report.ok);
    let outcome = if report.ok { Outcome::Succeeded } else { Outcome::Failed };
    app.meta.append_audit(Some(user), app.now_ms(), event, outcome).await?;
    Ok(report)
}

/// Connects a database, if it can be read and not written. Its credentials are sealed.
pub async fn connect(
    app: &App,
    user: UserId,
    project: ProjectId,
    new: NewDatabase,
) -> Result<ConnectedDatabase> {
    projects::find(app, user, project).await?;
    let done = add(app, project, new).await;
    let event = match &done {
        Ok(database) => Event::new(action::DATABASE_CONNECT, audit::database(database.id))
            .with("name", &database.name)
            .with("environment", database.environment)
            .with("address", database.endpoint.to_string()),
        Err(_) => Event::new(action::DATABASE_CONNECT, audit::project(project)),
    };
    audit::record(app, user, event, done).await
}

async fn add(app: &App, project: ProjectId, new: NewDatabase) -> Result<ConnectedDatabase> {
    let name = projects::parse_name(&new.name)?;
    let (url, report) = tested(app, &new.url, new.consistency).await?;
    let id = DatabaseId::new(app.clock.as_ref(), app.entropy.as_ref());
    let database = ConnectedDatabase {
        id,
        project_id: project,
        name,
        environment: new.environment,
        engine: report.engine,
        server_version: report.server_version,
        endpoint: endpoint(&url),
        consistency: new.consistency,
        url: Some(seal(app, id, &new.url)),
        created_ms: app.now_ms(),
        last_complete_ms: None,
        last_verified_ms: None,
        removed_ms: None,
    };
    app.meta.add_database(database.clone()).await?;
    Ok(database)
}

/// A user's connected database. Somebody else's, or a removed one, is not found.
pub async fn find(app: &App, user: UserId, id: DatabaseId) -> Result<ConnectedDatabase> {
    let database = find_with_history(app, user, id).await?;
    if database.removed_ms.is_some() { Err(Problem::not_found()) } else { Ok(database) }
}

/// As [`find`], and also a removed database whose snapshots were kept.
pub async fn find_with_history(app: &App, user: UserId, id: DatabaseId) -> Result<ConnectedDatabase> {
    let database = app.meta.database(id).await?.ok_or_else(Problem::not_found)?;
    projects::find(app, user, database.project_id).await?;
    Ok(database)
}

/// A project's connected databases, oldest first.
pub async fn list(
    app: &App,
    user: UserId,
    project: ProjectId,
    page: PageRequest,
) -> Result<Page<ConnectedDatabase>> {
    projects::find(app, user, project).await?;
    // Removed ones are left out of a page rather than of the count: a page may be short, and
    // the cursor still leads on.
    let mut page = app.meta.databases_of(project, page).await?;
    page.items.retain(|database| database.removed_ms.is_none());
    Ok(page)
}

/// Why a new database may be one that is there already: it has the name of one, or its address. Pages
/// ask before they connect it, since nobody can tell two of one name apart.
pub async fn twin(
    app: &App,
    user: UserId,
    project: ProjectId,
    name: &str,
    url: &str,
) -> Result<Option<Problem>> {
    let all = list(app, user, project, PageRequest::all()).await?.items;
    let same_name = |other: &&ConnectedDatabase| other.name.to_lowercase() == name.trim().to_lowercase();
    if let Some(other) = all.iter().find(same_name) {
        let detail =
            format!("This project has a database called {}. Give another name, or tick below.", other.name);
        return Ok(Some(Problem::invalid("name", detail)));
    }
    // One that cannot be read is for the test to explain.
    let Ok(url) = DatabaseUrl::parse(url) else { return Ok(None) };
    let place = endpoint(&url);
    let same_place = |other: &&ConnectedDatabase| {
        other.endpoint.hosts() == place.hosts() && other.endpoint.database == place.database
    };
    Ok(all.iter().find(same_place).map(|other| {
        let detail = format!("{} is connected as {}. Tick below if it is meant twice.", place, other.name);
        Problem::invalid("url", detail)
    }))
}

/// A project's databases that were removed and of which snapshots are kept, oldest first.
pub async fn list_removed(
    app: &App,
    user: UserId,
    project: ProjectId,
    page: PageRequest,
) -> Result<Page<ConnectedDatabase>> {
    projects::find(app, user, project).await?;
    let mut page = app.meta.databases_of(project, page).await?;
    page.items.retain(|database| database.removed_ms.is_some());
    if !page.items.is_empty() {
        let all = app.repositories.get(project).await?.snapshots().await?;
        let kept: BTreeSet<String> = all.into_iter().map(|snapshot| snapshot.manifest.source.id).collect();
        page.items.retain(|database| kept.contains(&database.id.to_string()));
    }
    Ok(page)
}

/// Renames, re-tags or re-connects a database. A new URL is tested like the first.
pub async fn change(
    app: &App,
    user: UserId,
    id: DatabaseId,
    change: DatabaseChange,
) -> Result<ConnectedDatabase> {
    let before = find(app, user, id).await?;
    let reconnected = change.url.is_some();
    let done = apply(app, before, change).await;
    let after = done.as_ref().ok();
    let event = Event::new(action::DATABASE_CHANGE, audit::database(id))
        .with("name", after.map(|database| &database.name))
        .with("environment", after.map(|database| database.environment))
        .with("address", after.filter(|_| reconnected).map(|database| database.endpoint.to_string()));
    audit::record(app, user, event, done).await
}

async fn apply(app: &App, before: ConnectedDatabase, change: DatabaseChange) -> Result<ConnectedDatabase> {
    let id = before.id;
    let name = change.name.as_deref().map(projects::parse_name).transpose()?;
    let connection = match &change.url {
        Some(url) => {
            let (parsed, report) = tested(app, url, change.consistency.unwrap_or(before.consistency)).await?;
            if report.engine != before.engine {
                let detail = "The URL leads to another database system, and the snapshots taken so far could not \
                              be compared with its own. Connect it as a database of its own.";
                return Err(Problem::invalid("url", detail));
            }
            if !change.moved {
                refuse_other(app, &before, &parsed, &report).await?;
            }
            Some((endpoint(&parsed), report.server_version, seal(app, id, url)))
        }
        None => None,
    };
    let changed = app.meta.change_database(id, move |database| {
        if let Some(name) = name {
            database.name = name;
        }
        if let Some(environment) = change.environment {
            database.environment = environment;
        }
        if let Some(consistency) = change.consistency {
            database.consistency = consistency;
        }
        if let Some((endpoint, server_version, url)) = connection {
            database.endpoint = endpoint;
            database.server_version = server_version;
            database.url = Some(url);
        }
    });
    changed.await?.ok_or_else(Problem::not_found)
}

/// A history holds one database: another one under its name would be compared with it as if rows had
/// changed. It is told by its name, and by the identity of its server where that can be read.
async fn refuse_other(
    app: &App,
    before: &ConnectedDatabase,
    url: &DatabaseUrl,
    report: &ConnectionReport,
) -> Result<()> {
    let known = match newest_source(app, before).await? {
        Some(source) => Place {
            database: Some(source.database).filter(|name| !name.is_empty()),
            server: source.system_identifier,
        },
        None => Place { database: before.endpoint.database.clone(), server: None },
    };
    let found =
        Place { database: url.database().map(str::to_owned), server: report.system_identifier.clone() };
    let Some(difference) = known.difference(&found) else { return Ok(()) };
    let detail = format!(
        "{difference} Connect another database as one of its own. If it is the same one, renamed or moved, say so \
         (\"moved\": true)."
    );
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    Err(Problem::new(status, "other-database", "Another database", detail).with("field", "url"))
}

/// By what a database is known again.
struct Place {
    /// None where all of a server are meant.
    database: Option<String>,
    /// The server's own identity, where it can be read.
    server: Option<String>,
}

impl Place {
    /// In what another place differs, if it does.
    fn difference(&self, found: &Self) -> Option<String> {
        let name = |place: &Self| match &place.database {
            Some(database) => format!("the database {database}"),
            None => "all databases of a server".to_owned(),
        };
        if self.database != found.database {
            return Some(format!(
                "This is the history of {}, and the URL leads to {}.",
                name(self),
                name(found)
            ));
        }
        match (&self.server, &found.server) {
            (Some(server), Some(other)) if server != other => Some(format!(
                "The URL leads to another server than the snapshots so far: its system identifier is {other}, not {server}."
            )),
            _ => None,
        }
    }
}

/// What the newest snapshot of a database says it was taken of.
async fn newest_source(app: &App, database: &ConnectedDatabase) -> Result<Option<Source>> {
    let repository = app.repositories.get(database.project_id).await?;
    let id = database.id.to_string();
    let mut sources = repository.snapshots().await?.into_iter().map(|snapshot| snapshot.manifest.source);
    Ok(sources.find(|source| source.id == id))
}

/// Removes a database: its credentials go at once and its backups stop. Its snapshots stay, or are
/// deleted, and a prune frees what only they needed. Of one that was removed before, the snapshots that
/// stayed then can be deleted.
pub async fn remove(app: &App, user: UserId, id: DatabaseId, fate: Snapshots) -> Result<()> {
    let database = match fate {
        Snapshots::Keep => find(app, user, id).await?,
        Snapshots::Delete => find_with_history(app, user, id).await?,
    };
    let all = match fate {
        Snapshots::Keep => Vec::new(),
        Snapshots::Delete => snapshots::list(app, user, id, PageRequest::all()).await?.items,
    };
    let event = Event::new(action::DATABASE_REMOVE, audit::database(id)).with("name", &database.name);
    if let refused @ Err(_) = refuse_pinned(&all) {
        return audit::record(app, user, event, refused).await;
    }
    match database.removed_ms {
        None => {
            audit::record(app, user, event, disconnect(app, id).await).await?;
        }
        Some(_) if all.is_empty() => return Err(Problem::not_found()),
        Some(_) => {}
    }
    if all.is_empty() {
        return Ok(());
    }
    let repository = app.repositories.get(database.project_id).await?;
    for snapshot in &all {
        snapshots::remove(app, user, &repository, snapshot, Actor::Account).await?;
    }
    projects::start_prune(app, user, database.project_id, false).await.map(drop)
}

/// Records that a removal was asked for with something else typed than the database's name.
pub async fn not_confirmed(
    app: &App,
    user: UserId,
    database: &ConnectedDatabase,
    problem: Problem,
) -> Problem {
    let event = Event::new(action::DATABASE_REMOVE, audit::database(database.id));
    audit::not_confirmed(app, user, event.with("name", &database.name), problem).await
}

/// Nothing is removed in part: what is pinned keeps all of them.
fn refuse_pinned(all: &[Snapshot]) -> Result<()> {
    let ids: Vec<String> = all.iter().filter(|one| one.mark.pinned).map(|one| one.id.to_string()).collect();
    match ids.len() {
        0 => Ok(()),
        count => {
            let detail = format!(
                "Pinned snapshots of the database: {count}. Unpin them first, or keep the snapshots."
            );
            Err(snapshots::pinned(detail).with("snapshots", ids))
        }
    }
}

async fn disconnect(app: &App, id: DatabaseId) -> Result<()> {
    let now_ms = app.now_ms();
    app.meta
        .change_database(id, move |database| {
            database.url = None;
            database.removed_ms = Some(now_ms);
        })
        .await?;
    for job in app.meta.active_jobs().await? {
        if matches!(job.work, Work::Backup { database_id, .. } | Work::LiveDiff { database_id, .. } if database_id == id)
        {
            jobs::cancel(app, job.id).await?;
        }
    }
    Ok(())
}

/// The sealed URL to read a database with, which a removed one has no more.
pub fn credentials(database: &ConnectedDatabase) -> Result<&Sealed> {
    database.url.as_ref().ok_or_else(|| {
        if database.removed_ms.is_none() {
            let detail = "The database came out of the storage, which holds no credentials. Give its URL in its settings.";
            return Problem::conflict("no-credentials", "No credentials", detail);
        }
        let detail = "The database was removed. Connect it again to read it.";
        Problem::conflict("database-removed", "The database was removed", detail)
    })
}

/// Queues a backup, behind those of the same database that are there already.
pub async fn start_backup(app: &App, user: UserId, id: DatabaseId, note: Option<String>) -> Result<JobId> {
    let database = find(app, user, id).await?;
    let note = snapshots::parse_note(note)?;
    let job = jobs::new_id(app);
    jobs::enqueue(app, job, database.project_id, user, Work::Backup { database_id: id, note, due_ms: None })
        .await?;
    Ok(job)
}

async fn tested(app: &App, url: &str, consistency: Consistency) -> Result<(DatabaseUrl, ConnectionReport)> {
    let url = addresses::check_url(app, url).await?;
    let report = source::test(&url, consistency).await;
    if report.ok { Ok((url, report)) } else { Err(refusal(&report, &url)) }
}

/// Why a database is not connected: the first stage that failed, with the engine's advice.
fn refusal(report: &ConnectionReport, url: &DatabaseUrl) -> Problem {
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    let is_read_only = |stage: &&StageReport| !stage.ok && stage.stage == Stage::ReadOnly;
    let failed = report.stages.iter().find(is_read_only);
    // A table that cannot be read is named by the backup and refuses nothing, being able to write does.
    let failed = failed.or_else(|| report.stages.iter().find(|stage| !stage.ok));
    let advice = failed.and_then(|stage| stage.fix.as_deref()).unwrap_or_default();
    let Advice { help, statements, elsewhere } = Advice::of(advice, url);
    let mut help = [help, elsewhere].join(" ").trim_end().to_owned();
    if !statements.is_empty() {
        help.push_str(match url {
            DatabaseUrl::Postgres(_) => {
                " Statements to run are in the field statements; those FROM PUBLIC affect every role."
            }
            DatabaseUrl::MongoDb(_) => " A script for mongosh is in the field statements.",
        });
    }
    let message = failed.map_or("", |stage| stage.detail.as_str());
    let detail = error::sentences(message, Some(help.trim()).filter(|help| !help.is_empty()));
    let problem = match failed.map(|stage| stage.stage) {
        Some(Stage::ReadOnly) => Problem::new(status, "not-read-only", "These credentials can write", detail)
            .with("privileges", &report.privileges),
        stage => Problem::new(status, "unreachable", "The database cannot be backed up", detail)
            .with("stage", stage),
    };
    let problem = if report.lacks_point_in_time {
        // What would make the same request succeed.
        problem.with("requires_consistency", Consistency::BestEffort)
    } else {
        problem
    };
    problem
        .with("field", "url")
        .with("engine", &report.engine)
        .with("server_version", &report.server_version)
        .with("statements", statements)
        .with("stages", &report.stages)
}

/// The engine's advice: sentences, and what to run.
pub struct Advice {
    pub help: String,
    /// SQL statement by statement, or one script for mongosh.
    pub statements: Vec<String>,
    /// Where the same is done without running anything.
    pub elsewhere: String,
}

impl Advice {
    /// Takes the advice of a stage apart. `url` says which engine gave it.
    pub fn of(advice: &str, url: &DatabaseUrl) -> Self {
        match url {
            DatabaseUrl::Postgres(_) => {
                let (statements, help): (Vec<_>, Vec<_>) =
                    advice.lines().partition(|line| line.ends_with(';'));
                let statements = statements.into_iter().map(str::to_owned).collect();
                Self { help: help.join(" "), statements, elsewhere: String::new() }
            }
            DatabaseUrl::MongoDb(url) => {
                let script = mongodb::read_only_setup(url.database());
                match advice.split_once(script.trim()) {
                    Some((before, after)) => Self {
                        help: before.trim().to_owned(),
                        elsewhere: after.trim().to_owned(),
                        statements: vec![script],
                    },
                    None => {
                        Self { help: advice.to_owned(), statements: Vec::new(), elsewhere: String::new() }
                    }
                }
            }
        }
    }
}

pub(super) fn endpoint(url: &DatabaseUrl) -> Endpoint {
    let mut hosts = url.hosts().into_iter();
    let (host, port) = hosts.next().unwrap_or_default();
    Endpoint {
        host,
        port,
        other_hosts: hosts.collect(),
        database: url.database().map(str::to_owned),
        user: url.user().to_owned(),
    }
}

fn seal(app: &App, id: DatabaseId, url: &str) -> Sealed {
    app.credentials.seal(&id.to_string(), url.trim().as_bytes(), app.entropy.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_known_by_its_name_and_its_server() {
        let place = |database: Option<&str>, server: Option<&str>| Place {
            database: database.map(str::to_owned),
            server: server.map(str::to_owned),
        };
        let known = place(Some("shop"), Some("7300"));
        assert_eq!(known.difference(&place(Some("shop"), Some("7300"))), None);
        assert_eq!(known.difference(&place(Some("shop"), None)), None, "not every role may ask");
        let told = known.difference(&place(Some("shop"), Some("7301"))).unwrap();
        assert!(told.contains("is 7301, not 7300"), "{told}");
        let told = known.difference(&place(None, Some("7300"))).unwrap();
        assert!(told.contains("the database shop") && told.contains("all databases"), "{told}");
    }

    #[test]
    fn a_script_for_mongosh_stays_in_one_piece() {
        let url = DatabaseUrl::parse("mongodb://me@db/shop").unwrap();
        let script = mongodb::read_only_setup(Some("shop"));
        let advice = Advice::of(&format!("Create a user.\n{script}On Atlas: there."), &url);
        assert_eq!((advice.help.as_str(), advice.elsewhere.as_str()), ("Create a user.", "On Atlas: there."));
        assert_eq!(advice.statements, [script]);
    }
}
