//! Projects: who owns what.

use std::collections::BTreeSet;

use redb::ReadTransaction;
use serde::{Deserialize, Serialize};

use super::databases::add_database;
use super::rows::{self, DATABASES, Order, PROJECTS, PROJECTS_BY_USER};
use super::{ConnectedDatabase, Meta, Page, PageRequest, Result, damage, databases, diffs, jobs, restores};
use crate::ids::{DatabaseId, ProjectId, UserId};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    pub id: ProjectId,
    pub user_id: UserId,
    pub name: String,
    pub created_ms: i64,
    /// Whether its repository is whole. Not so while it is being made or removed: then the project is
    /// nobody's, and what was left by a crash is removed at the next start.
    pub ready: bool,
    /// When a recovery key was last exported: until then, losing the server's key loses the snapshots.
    #[serde(default)]
    pub recovery_key_ms: Option<i64>,
    /// Whether a verification found no slot of that key any more.
    #[serde(default)]
    pub recovery_key_lost: bool,
    /// Whether its history came with the program.
    #[serde(default)]
    pub is_example: bool,
}

impl Project {
    /// Whether somebody has a recovery key that opens it, for all that is known.
    pub fn has_recovery_key(&self) -> bool {
        self.recovery_key_ms.is_some() && !self.recovery_key_lost
    }
}

impl Meta {
    /// Reserves a project before its repository is made.
    pub async fn add_unready_project(&self, project: Project) -> Result<()> {
        let project = Project { ready: false, ..project };
        self.write(move |tx| rows::put(tx, PROJECTS, &project.id.to_string(), &project)).await
    }

    /// Remembers when a recovery key was last exported, or that there is none.
    pub async fn set_recovery_key_made(&self, id: ProjectId, at_ms: Option<i64>) -> Result<()> {
        self.change_project(id, move |project| {
            (project.recovery_key_ms, project.recovery_key_lost) = (at_ms, false);
        })
        .await
    }

    /// Remembers whether the recovery key that was made at that time is lost, unless another was made since.
    pub async fn set_recovery_key_lost(&self, id: ProjectId, made_ms: i64, is_lost: bool) -> Result<()> {
        self.change_project(id, move |project| {
            if project.recovery_key_ms == Some(made_ms) {
                project.recovery_key_lost = is_lost;
            }
        })
        .await
    }

    /// Changes a project, if it is there.
    async fn change_project(
        &self,
        id: ProjectId,
        change: impl Fn(&mut Project) + Send + 'static,
    ) -> Result<()> {
        self.write(move |tx| {
            let found: Option<Project> = rows::get(&tx.open_table(PROJECTS)?, &id.to_string())?;
            let Some(mut project) = found else { return Ok(()) };
            change(&mut project);
            rows::put(tx, PROJECTS, &id.to_string(), &project)
        })
        .await
    }

    /// Shows a project to its owner: its repository is whole.
    pub async fn ready_project(&self, project: Project) -> Result<()> {
        self.write(move |tx| {
            rows::put(tx, PROJECTS, &project.id.to_string(), &Project { ready: true, ..project.clone() })?;
            rows::link(tx, PROJECTS_BY_USER, &rows::below(project.user_id, project.id), "")
        })
        .await
    }

    /// Takes in a project whose repository was there before, with its databases. In one step: one
    /// that is not ready would be removed with its repository at the next start.
    pub async fn adopt_project(&self, project: Project, databases: Vec<ConnectedDatabase>) -> Result<()> {
        self.write(move |tx| {
            for database in &databases {
                add_database(tx, database)?;
            }
            rows::put(tx, PROJECTS, &project.id.to_string(), &Project { ready: true, ..project.clone() })?;
            rows::link(tx, PROJECTS_BY_USER, &rows::below(project.user_id, project.id), "")
        })
        .await
    }

    /// Adds those of a project's databases that are not known, and says how many these were.
    pub async fn add_unknown_databases(
        &self,
        project: ProjectId,
        mut found: Vec<ConnectedDatabase>,
    ) -> Result<usize> {
        let known: BTreeSet<DatabaseId> = self
            .read(move |tx| {
                let databases = tx.open_table(DATABASES)?;
                let ids = databases.range::<&str>(..)?;
                ids.map(|row| Ok(DatabaseId::parse(row?.0.value()))).filter_map(Result::transpose).collect()
            })
            .await?;
        found.retain(|database| !known.contains(&database.id));
        if found.is_empty() {
            return Ok(0);
        }
        self.write(move |tx| {
            let is_there: Option<Project> = rows::get(&tx.open_table(PROJECTS)?, &project.to_string())?;
            if is_there.is_none_or(|project| !project.ready) {
                return Ok(0);
            }
            for database in &found {
                add_database(tx, database)?;
            }
            Ok(found.len())
        })
        .await
    }

    /// The ids of all projects, of everybody, those being made or removed among them.
    pub async fn project_ids(&self) -> Result<Vec<ProjectId>> {
        self.read(|tx| Ok(all(tx)?.into_iter().map(|project| project.id).collect())).await
    }

    /// The ids of the projects that have a repository, of everybody.
    pub async fn ready_projects(&self) -> Result<Vec<ProjectId>> {
        self.read(|tx| Ok(all(tx)?.into_iter().filter(|project| project.ready).map(|one| one.id).collect()))
            .await
    }

    /// A project; none while it is being made or removed.
    pub async fn project(&self, id: ProjectId) -> Result<Option<Project>> {
        self.read(move |tx| {
            let project: Option<Project> = rows::get(&tx.open_table(PROJECTS)?, &id.to_string())?;
            Ok(project.filter(|project| project.ready))
        })
        .await
    }

    /// A user's projects, oldest first.
    pub async fn projects_of(&self, user: UserId, page: PageRequest) -> Result<Page<Project>> {
        self.read(move |tx| {
            let links = tx.open_table(PROJECTS_BY_USER)?;
            rows::child_rows(&links, &tx.open_table(PROJECTS)?, user, Order::OldestFirst, &page)
        })
        .await
    }

    /// Begins a project's deletion: nobody finds it any more.
    pub async fn begin_project_deletion(&self, project: Project) -> Result<()> {
        self.write(move |tx| {
            rows::unlink(tx, PROJECTS_BY_USER, &rows::below(project.user_id, project.id))?;
            rows::put(tx, PROJECTS, &project.id.to_string(), &Project { ready: false, ..project })
        })
        .await
    }

    /// Removes a project and everything that belongs to it, after its repository is gone.
    pub async fn remove_project(&self, id: ProjectId) -> Result<()> {
        self.write(move |tx| {
            databases::remove_of_project(tx, id)?;
            jobs::remove_of_project(tx, id)?;
            diffs::remove_of_project(tx, id)?;
            restores::remove_of_project(tx, id)?;
            damage::remove_of_project(tx, id)?;
            rows::remove(tx, PROJECTS, &id.to_string())
        })
        .await
    }

    /// Projects that are being made or removed.
    pub async fn unready_projects(&self) -> Result<Vec<ProjectId>> {
        self.read(|tx| Ok(all(tx)?.into_iter().filter(|project| !project.ready).map(|one| one.id).collect()))
            .await
    }
}

fn all(tx: &ReadTransaction) -> Result<Vec<Project>> {
    let mut found = Vec::new();
    for entry in tx.open_table(PROJECTS)?.range::<&str>(..)? {
        found.push(serde_json::from_slice(entry?.1.value())?);
    }
    Ok(found)
}
