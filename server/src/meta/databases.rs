//! Connected databases and their sealed credentials.

use std::collections::BTreeSet;
use std::fmt;

use engine::source::Consistency;
use redb::WriteTransaction;
use serde::{Deserialize, Serialize};

use super::rows::{self, DATABASES, DATABASES_BY_PROJECT, Order, SCHEDULES};
use super::{Meta, Page, PageRequest, Result, Schedule, schedules};
use crate::ids::{DatabaseId, ProjectId};
use crate::server_key::Sealed;

/// What a database is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    Prod,
    Staging,
    Dev,
}

/// Where a database is and as whom it is read: the URL without its password and its options.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The first host; of `mongodb+srv://` the name whose records list the hosts.
    pub host: String,
    /// 0 where the name's records say it.
    pub port: u16,
    /// The other hosts of a replica set or of a sharded cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_hosts: Vec<(String, u16)>,
    /// None where all databases of a server are meant.
    pub database: Option<String>,
    /// Empty where nobody signs in.
    pub user: String,
}

/// The host of a database whose address nobody here was told.
const UNKNOWN: &str = "unknown";

impl Endpoint {
    /// Of a database that came out of the storage: where it is and who reads it are in no snapshot.
    pub fn unknown(database: Option<String>) -> Self {
        Self { host: UNKNOWN.to_owned(), port: 0, other_hosts: Vec::new(), database, user: String::new() }
    }

    /// Whether it says where the database is.
    pub fn is_known(&self) -> bool {
        // Of a server that has this name, a port or its own records are known.
        self.host != UNKNOWN || self.port != 0
    }

    /// Every host, with its port where it has one: `host:port`.
    pub fn hosts(&self) -> Vec<String> {
        let first = (self.host.clone(), self.port);
        std::iter::once(&first).chain(&self.other_hosts).map(|(host, port)| host_text(host, *port)).collect()
    }
}

fn host_text(host: &str, port: u16) -> String {
    match (host.contains(':'), port) {
        (_, 0) => host.to_owned(),
        (true, port) => format!("[{host}]:{port}"),
        (false, port) => format!("{host}:{port}"),
    }
}

/// Hosts and database, as lists show them.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hosts().join(","))?;
        self.database.iter().try_for_each(|database| write!(f, "/{database}"))
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConnectedDatabase {
    pub id: DatabaseId,
    pub project_id: ProjectId,
    pub name: String,
    pub environment: Environment,
    /// "postgresql" or "mongodb".
    pub engine: String,
    pub server_version: String,
    pub endpoint: Endpoint,
    /// Whether a backup may hold records of different moments where the server offers no better.
    #[serde(default)]
    pub consistency: Consistency,
    /// The whole URL; gone with the connection when the database is removed.
    pub url: Option<Sealed>,
    pub created_ms: i64,
    /// When its last complete backup began, of those that this server took.
    #[serde(default)]
    pub last_complete_ms: Option<i64>,
    /// When a verification last found one of its snapshots whole. The snapshot may be gone since.
    #[serde(default)]
    pub last_verified_ms: Option<i64>,
    /// Set when it was removed and its snapshots kept.
    pub removed_ms: Option<i64>,
}

impl ConnectedDatabase {
    /// Whether it is a project's database and cannot be read: it came out of the storage, which holds no
    /// credentials.
    pub fn lacks_credentials(&self) -> bool {
        self.url.is_none() && self.removed_ms.is_none()
    }
}

/// What is known of a database's backups, for the operator.
#[derive(Clone, Copy, Debug)]
pub struct Protection {
    pub database: DatabaseId,
    pub connected_ms: i64,
    /// When its last complete backup began, of those that this server took.
    pub last_complete_ms: Option<i64>,
    /// How many runs its schedule has missed; none without a schedule.
    pub missed_runs: Option<u64>,
}

pub(super) fn add_database(tx: &WriteTransaction, database: &ConnectedDatabase) -> Result<()> {
    rows::put(tx, DATABASES, &database.id.to_string(), database)?;
    rows::link(tx, DATABASES_BY_PROJECT, &rows::below(database.project_id, database.id), "")
}

impl Meta {
    pub async fn add_database(&self, database: ConnectedDatabase) -> Result<()> {
        self.write(move |tx| add_database(tx, &database)).await
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

    /// What is known of the backups of each connected database.
    pub async fn protection(&self) -> Result<Vec<Protection>> {
        self.read(|tx| {
            let (databases, schedules) = (tx.open_table(DATABASES)?, tx.open_table(SCHEDULES)?);
            let mut found = Vec::new();
            for entry in databases.range::<&str>(..)? {
                let database: ConnectedDatabase = serde_json::from_slice(entry?.1.value())?;
                if database.removed_ms.is_some() {
                    continue;
                }
                let schedule: Option<Schedule> = rows::get(&schedules, &database.id.to_string())?;
                found.push(Protection {
                    database: database.id,
                    connected_ms: database.created_ms,
                    last_complete_ms: database.last_complete_ms,
                    missed_runs: schedule.map(|schedule| schedule.missed_total),
                });
            }
            Ok(found)
        })
        .await
    }

    /// Remembers of databases when snapshots of theirs were found whole.
    pub async fn verified_databases(&self, ids: BTreeSet<DatabaseId>, at_ms: i64) -> Result<()> {
        self.write(move |tx| {
            for id in ids {
                let found: Option<ConnectedDatabase> =
                    rows::get(&tx.open_table(DATABASES)?, &id.to_string())?;
                if let Some(found) = found {
                    let found = ConnectedDatabase { last_verified_ms: Some(at_ms), ..found };
                    rows::put(tx, DATABASES, &id.to_string(), &found)?;
                }
            }
            Ok(())
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
            if database.removed_ms.is_some() {
                schedules::remove_of_database(tx, &id.to_string())?;
            }
            Ok(Some(database))
        })
        .await
    }
}

/// Remembers when a complete backup began: what it holds is no newer for its having taken long.
pub(super) fn backed_up(tx: &WriteTransaction, id: DatabaseId, at_ms: i64) -> Result<()> {
    let found: Option<ConnectedDatabase> = rows::get(&tx.open_table(DATABASES)?, &id.to_string())?;
    let Some(database) = found else { return Ok(()) };
    let database = ConnectedDatabase { last_complete_ms: Some(at_ms), ..database };
    rows::put(tx, DATABASES, &id.to_string(), &database)
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
        schedules::remove_of_database(tx, id)?;
        rows::unlink(tx, DATABASES_BY_PROJECT, &rows::below(project, id))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_that_were_stored_with_one_host_are_read() {
        let stored = r#"{"host":"::1","port":5432,"database":"shop","user":"ro"}"#;
        let endpoint: Endpoint = serde_json::from_str(stored).unwrap();
        assert_eq!(endpoint.to_string(), "[::1]:5432/shop");
        let all = Endpoint {
            host: "a".to_owned(),
            port: 27017,
            other_hosts: vec![("b".to_owned(), 27018)],
            database: None,
            user: String::new(),
        };
        assert_eq!(all.to_string(), "a:27017,b:27018");
    }
}
