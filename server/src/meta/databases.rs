//! Connected databases and their sealed credentials.

use redb::WriteTransaction;
use serde::{Deserialize, Serialize};

use super::rows::{self, DATABASES, DATABASES_BY_PROJECT, Order};
use super::{Meta, Page, PageRequest, Result};
use crate::ids::{DatabaseId, ProjectId};
use crate::server_key::Sealed;

/// What a database is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    Prod,
    Staging,
    Dev,
}

/// Where a database is and as whom it is read: the URL without its password and its options.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
    pub database: String,
    pub user: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConnectedDatabase {
    pub id: DatabaseId,
    pub project_id: ProjectId,
    pub name: String,
    pub environment: Environment,
    /// "postgresql".
    pub engine: String,
    pub server_version: String,
    pub endpoint: Endpoint,
    /// The whole URL; gone with the connection when the database is removed.
    pub url: Option<Sealed>,
    pub created_ms: i64,
    /// Set when it was removed and its snapshots kept.
    pub removed_ms: Option<i64>,
}

impl Meta {
    pub async fn add_database(&self, database: ConnectedDatabase) -> Result<()> {
        self.write(move |tx| {
            rows::put(tx, DATABASES, &database.id.to_string(), &database)?;
            rows::link(tx, DATABASES_BY_PROJECT, &rows::below(database.project_id, database.id), "")
        })
        .await
    }

    /// A database, removed or not: its snapshots may outlive its connection.
    pub async fn database(&self, id: DatabaseId) -> Result<Option<ConnectedDatabase>> {
        self.read(move |tx| rows::get(&tx.open_table(DATABASES)?, &id.to_string())).await
    }

    /// A project's databases, oldest first, the removed ones among them.
    pub async fn databases_of(
        &self,
        project: ProjectId,
        page: PageRequest,
    ) -> Result<Page<ConnectedDatabase>> {
        self.read(move |tx| {
            let links = tx.open_table(DATABASES_BY_PROJECT)?;
            rows::child_rows(&links, &tx.open_table(DATABASES)?, project, Order::OldestFirst, &page)
        })
        .await
    }

    /// Changes a database by `change`, which sees its newest state.
    pub async fn change_database(
        &self,
        id: DatabaseId,
        change: impl FnOnce(&mut ConnectedDatabase) + Send + 'static,
    ) -> Result<Option<ConnectedDatabase>> {
        self.write(move |tx| {
            let found: Option<ConnectedDatabase> = rows::get(&tx.open_table(DATABASES)?, &id.to_string())?;
            let Some(mut database) = found else { return Ok(None) };
            change(&mut database);
            rows::put(tx, DATABASES, &id.to_string(), &database)?;
            Ok(Some(database))
        })
        .await
    }
}

pub(super) fn remove_of_project(tx: &WriteTransaction, project: ProjectId) -> Result<()> {
    let links = rows::children(
        &tx.open_table(DATABASES_BY_PROJECT)?,
        project,
        Order::OldestFirst,
        &PageRequest::all(),
    )?;
    for id in &links.items {
        rows::remove(tx, DATABASES, id)?;
        rows::unlink(tx, DATABASES_BY_PROJECT, &rows::below(project, id))?;
    }
    Ok(())
}
