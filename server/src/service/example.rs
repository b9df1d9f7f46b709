//! The example: a project whose history comes with the program, for whoever wants to see differences
//! before connecting a database. It is a project like any other, but that nothing is backed up into it.

use engine::example;
use engine::source::Consistency;

use super::{diffs, projects};
use crate::app::App;
use crate::error::Result;
use crate::ids::{DatabaseId, DiffId, UserId};
use crate::jobs;
use crate::meta::{ConnectedDatabase, Endpoint, Environment, PageRequest, Project};

const NAME: &str = "Example shop";

/// Makes the account's example project, unless it has it already, and compares its two snapshots.
pub async fn show(app: &App, user: UserId) -> Result<DiffId> {
    let all = projects::list(app, user, PageRequest::all()).await?.items;
    let project = match all.into_iter().find(|project| project.is_example) {
        Some(project) => project,
        None => projects::create_example(app, user, NAME).await?,
    };
    let [from, to] = snapshots(app, &project).await?;
    Ok(diffs::start(app, user, &from, &to).await?.0)
}

/// The ids of the two snapshots, the older one first. Those of a project that was left half-made, or of
/// which somebody deleted one, are taken anew.
async fn snapshots(app: &App, project: &Project) -> Result<[String; 2]> {
    let repository = app.repositories.get(project.id).await?;
    let mut there = repository.snapshots().await?;
    if let [newer, older, ..] = there.as_slice() {
        return Ok([older.id.to_string(), newer.id.to_string()]);
    }
    let database = match app.meta.databases_of(project.id, PageRequest::all()).await?.items.pop() {
        Some(database) => database.id,
        None => add_database(app, project).await?,
    };
    // What is left of them would stand between the new ones.
    for snapshot in there.drain(..) {
        repository.delete_snapshot(snapshot.id, app.clock.as_ref()).await?;
    }
    let (scratch, ctx) = jobs::errand(app)?;
    let taken = example::run(&repository, &database.to_string(), NAME, &ctx).await;
    let _ = tokio::fs::remove_dir_all(&scratch).await;
    Ok(taken?.map(|snapshot| snapshot.id.to_string()))
}

/// Whose history it is: a database that is not connected, so that nobody is warned that it is not
/// backed up.
async fn add_database(app: &App, project: &Project) -> Result<DatabaseId> {
    let id = DatabaseId::new(app.clock.as_ref(), app.entropy.as_ref());
    let database = ConnectedDatabase {
        id,
        project_id: project.id,
        name: NAME.to_owned(),
        environment: Environment::Dev,
        engine: "postgresql".to_owned(),
        server_version: String::new(),
        endpoint: Endpoint {
            host: "example".to_owned(),
            port: 0,
            other_hosts: Vec::new(),
            database: Some("shop".to_owned()),
            user: String::new(),
        },
        consistency: Consistency::PointInTime,
        url: None,
        created_ms: app.now_ms(),
        last_complete_ms: None,
        last_verified_ms: None,
        removed_ms: Some(app.now_ms()),
    };
    app.meta.add_database(database).await?;
    Ok(id)
}
