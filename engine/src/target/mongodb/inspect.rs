//! What a target is before anything is written: read only, with whatever credentials there are.

use std::collections::{BTreeMap, BTreeSet};

use bson::{Document, RawDocumentBuf, doc};
use mongodb::Client;

use super::fault::{self, code};
use super::privileges::Privileges;
use crate::error::Result;
use crate::source::dotted_name;

/// Collections named when a database is not empty.
const NAMED: usize = 10;

/// What a database holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Contents {
    /// There is none of that name.
    Absent,
    /// It is there, or cannot be told from an absent one, and has no collections.
    Empty,
    /// It has collections or views.
    Occupied {
        /// The first few, by display name.
        names: Vec<String>,
        /// How many there are.
        total: usize,
    },
}

/// What kind of deployment the target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topology {
    Standalone,
    ReplicaSet,
    Sharded,
}

/// How much the server takes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub document_bytes: usize,
    pub message_bytes: usize,
    pub batch_documents: usize,
}

impl Limits {
    /// The limits every supported server has, for answers that do not say.
    const USUAL: Self =
        Self { document_bytes: 16 << 20, message_bytes: 48_000_000, batch_documents: 100_000 };

    fn of(hello: &Document) -> Self {
        let number = |name: &str, usual: usize| {
            let found = hello.get_i32(name).ok().and_then(|number| usize::try_from(number).ok());
            found.filter(|number| *number > 0).unwrap_or(usual)
        };
        Self {
            document_bytes: number("maxBsonObjectSize", Self::USUAL.document_bytes),
            message_bytes: number("maxMessageSizeBytes", Self::USUAL.message_bytes),
            batch_documents: number("maxWriteBatchSize", Self::USUAL.batch_documents),
        }
    }
}

/// A major and a minor version ("7.0").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Release(pub u32, pub u32);

impl Release {
    /// The release at the front of a version ("7.0.14-rc1"); 0.0 when there is none.
    pub fn of(version: &str) -> Self {
        let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
        Self(numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }
}

impl std::fmt::Display for Release {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// What is known of a target without writing to it.
#[derive(Clone, Debug)]
pub(super) struct TargetState {
    /// As the server prints it.
    pub version: String,
    /// The features it may use, where that can be read: an upgraded server may still be held back.
    pub compatibility: Option<Release>,
    pub topology: Topology,
    /// Whether the member that answered takes writes.
    pub takes_writes: bool,
    pub limits: Limits,
    pub privileges: Privileges,
    /// The databases that were asked about.
    pub contents: BTreeMap<String, Contents>,
    /// Every database, where that can be listed.
    pub databases: Option<BTreeSet<String>>,
}

impl TargetState {
    /// The newest release whose features the target has.
    pub fn release(&self) -> Release {
        self.compatibility.unwrap_or_else(|| Release::of(&self.version))
    }
}

/// Looks at the deployment and at some of its databases. Reads only.
pub(super) async fn inspect(client: &Client, databases: &BTreeSet<&str>) -> Result<TargetState> {
    const DOING: &str = "looking at the target";
    let admin = client.database("admin");
    let failed = |error| fault::command(DOING, error);
    let hello = admin.run_command(doc! { "hello": 1 }).await.map_err(failed)?;
    let build = admin.run_command(doc! { "buildInfo": 1 }).await.map_err(failed)?;
    let compatibility = doc! { "getParameter": 1, "featureCompatibilityVersion": 1 };
    // Only administrators may ask for it.
    let compatibility = admin.run_command(compatibility).await.ok();
    let compatibility = compatibility.as_ref().and_then(|answer| {
        let version = answer.get_document("featureCompatibilityVersion").ok()?.get_str("version").ok()?;
        Some(Release::of(version))
    });
    let topology = match (hello.get_str("msg"), hello.get_str("setName")) {
        (Ok("isdbgrid"), _) => Topology::Sharded,
        (_, Ok(_)) => Topology::ReplicaSet,
        _ => Topology::Standalone,
    };
    let privileges = Privileges::read(client).await?;
    let listed = list_databases(client).await?;
    Ok(TargetState {
        version: build.get_str("version").unwrap_or_default().to_owned(),
        compatibility,
        topology,
        takes_writes: hello.get_bool("isWritablePrimary").unwrap_or(true),
        limits: Limits::of(&hello),
        privileges,
        contents: contents(client, databases, listed.as_ref()).await?,
        databases: listed,
    })
}

/// What these databases hold.
pub(super) async fn contents(
    client: &Client,
    databases: &BTreeSet<&str>,
    listed: Option<&BTreeSet<String>>,
) -> Result<BTreeMap<String, Contents>> {
    let mut found = BTreeMap::new();
    for database in databases {
        let mut names = list_collections(client, database).await?;
        names.retain(|name| counts(name));
        let contents = match (names.is_empty(), listed.is_some_and(|listed| !listed.contains(*database))) {
            (true, true) => Contents::Absent,
            (true, false) => Contents::Empty,
            (false, _) => Contents::Occupied {
                names: names.iter().take(NAMED).map(|name| dotted_name(database, name)).collect(),
                total: names.len(),
            },
        };
        found.insert((*database).to_owned(), contents);
    }
    Ok(found)
}

/// Whether a collection is somebody's. The server makes the others by itself.
fn counts(name: &str) -> bool {
    !name.starts_with("system.") || name == "system.js" || name.starts_with("system.buckets.")
}

/// The names of all databases; `None` when the user may not list them.
pub(super) async fn list_databases(client: &Client) -> Result<Option<BTreeSet<String>>> {
    let command = doc! { "listDatabases": 1, "nameOnly": true, "authorizedDatabases": false };
    let answer = match client.database("admin").run_command(command).await {
        Ok(answer) => answer,
        Err(error) if fault::code_of(&error) == Some(code::UNAUTHORIZED) => return Ok(None),
        Err(error) => return Err(fault::command("listing the target's databases", error)),
    };
    let databases = answer.get_array("databases").ok().into_iter().flatten();
    let names = databases.filter_map(|database| database.as_document()?.get_str("name").ok());
    Ok(Some(names.map(str::to_owned).collect()))
}

/// The names of everything in a database.
pub(super) async fn list_collections(client: &Client, database: &str) -> Result<Vec<String>> {
    let listed = list(client, database, doc! { "listCollections": 1, "nameOnly": true }).await?;
    let mut names: Vec<String> =
        listed.iter().map(|entry| entry.get_str("name").unwrap_or_default().to_owned()).collect();
    names.sort();
    Ok(names)
}

/// A collection's options, as the server lists them; `None` when there is no such collection.
pub(super) async fn list_options(
    client: &Client,
    database: &str,
    name: &str,
) -> Result<Option<RawDocumentBuf>> {
    let listed = list(client, database, doc! { "listCollections": 1, "filter": { "name": name } }).await?;
    Ok(listed.first().map(|entry| entry.get_document("options").map(ToOwned::to_owned).unwrap_or_default()))
}

async fn list(client: &Client, database: &str, command: Document) -> Result<Vec<RawDocumentBuf>> {
    let failed = |error| fault::command(&format!("listing the collections of {database}"), error);
    let command = RawDocumentBuf::try_from(&command).map_err(|error| failed(error.into()))?;
    let cursor = client.database(database).run_raw_cursor_command(command).await;
    let mut cursor = match cursor {
        Ok(cursor) => cursor,
        // A router says the first of a database that no shard has yet; nothing is in one that cannot be.
        Err(error)
            if matches!(
                fault::code_of(&error),
                Some(code::NAMESPACE_NOT_FOUND | code::INVALID_NAMESPACE)
            ) =>
        {
            return Ok(Vec::new());
        }
        Err(error) => return Err(failed(error)),
    };
    let mut listed = Vec::new();
    while cursor.advance().await.map_err(failed)? {
        listed.push(cursor.current().to_owned());
    }
    Ok(listed)
}

/// "a, b and 3 more".
pub(super) fn listed(names: &[String], total: usize) -> String {
    let shown = names.join(", ");
    match total - names.len() {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_compare_by_number() {
        assert_eq!(Release::of("7.0.14-rc1"), Release(7, 0));
        assert!(Release::of("10.0.0") > Release::of("8.2.11"));
        assert_eq!(Release::of("").to_string(), "0.0");
    }

    #[test]
    fn only_what_servers_make_by_themselves_does_not_count() {
        let counted = ["orders", "system.js", "system.buckets.weather", "systems"];
        assert!(counted.iter().all(|name| counts(name)));
        assert!(!counts("system.views") && !counts("system.profile"));
    }

    #[test]
    fn limits_that_a_server_does_not_tell_are_the_usual_ones() {
        let limits = Limits::of(&doc! { "maxBsonObjectSize": 1024, "maxWriteBatchSize": 0 });
        assert_eq!(limits, Limits { document_bytes: 1024, ..Limits::USUAL });
    }
}
