//! What there is: databases, collections, options and indexes, as the server gives them.

use std::collections::{BTreeMap, BTreeSet};

use bson::{Document, doc};
use futures::{StreamExt, TryStreamExt, stream};
use mongodb::error::Error as DriverError;

use super::connect::{Deployment, Topology};
use super::fault::{self, code};
use super::read::in_time;
use super::stream::Tracking;
use super::user::User;
use super::wire::{self, CursorReply};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::source::{Incomplete, dotted_name};

/// Databases and collections asked about at a time.
const ASKED_AT_ONCE: usize = 8;
/// Databases of the server's own.
const SERVERS_OWN: [&str; 3] = ["admin", "config", "local"];

/// What a collection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    Capped,
    TimeSeries,
    View,
}

/// A collection as the server lists it. Equal ones have the same identity, options and indexes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub database: String,
    pub name: String,
    pub kind: Kind,
    /// The server's word for it ("collection", "view", "timeseries").
    pub type_name: String,
    /// As BSON, byte for byte.
    pub options: Vec<u8>,
    /// Stays with the collection however it is renamed; views have none.
    pub uuid: Option<Vec<u8>>,
    /// Each index as BSON, byte for byte, without those being built.
    pub indexes: Vec<Vec<u8>>,
    /// Names of indexes that are being built.
    pub building: Vec<String>,
}

impl Listed {
    pub fn display(&self) -> String {
        dotted_name(&self.database, &self.name)
    }

    /// Whether it holds the records that `earlier`, of the same name, held, apart from what was written
    /// to it: only the definition may be another.
    pub fn has_records_of(&self, earlier: &Self) -> Result<bool> {
        let is_it = self.uuid == earlier.uuid && self.kind == earlier.kind;
        // A smaller size makes a capped collection drop documents without an event.
        let as_many = self.kind != Kind::Capped || self.options == earlier.options;
        Ok(is_it && as_many && Tracking::of(self)? == Tracking::of(earlier)?)
    }

    /// Whether the server keeps an ordinary index of `_id`, in which no two are equal.
    pub fn has_id_index(&self) -> Result<bool> {
        for index in &self.indexes {
            let Some(key) = wire::document(index, "key")? else { continue };
            let mut parts = wire::elements(key)?;
            let first = parts.next().transpose()?;
            let ascending = wire::number(key, "_id")? == Some(1);
            if first.is_some_and(|part| part.name == b"_id") && ascending && parts.next().is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether documents are stored by `_id`, without an index of it.
    pub fn is_clustered(&self) -> Result<bool> {
        Ok(wire::find(&self.options, "clusteredIndex")?.is_some())
    }

    /// Whether strings compare by a language's rules.
    pub fn has_collation(&self) -> Result<bool> {
        let Some(collation) = wire::document(&self.options, "collation")? else { return Ok(false) };
        Ok(wire::text(collation, "locale")?.is_some_and(|locale| locale != "simple"))
    }
}

/// Everything in scope.
#[derive(Clone, Debug, Default)]
pub(super) struct Listing {
    /// By database and name.
    pub collections: Vec<Listed>,
    pub incomplete: Vec<Incomplete>,
    pub notes: Vec<String>,
    /// What there is of databases, for a user to whom not all are shown; none where all are in scope or seen.
    pub shown: Option<Shown>,
}

/// The part of a deployment that a user is shown.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    /// The databases that it may read.
    databases: Vec<String>,
    /// All that there are, where it may list them.
    all: Option<Vec<String>>,
}

impl Shown {
    /// What of `databases`, all in scope that the user may read; none where that is all there is.
    async fn of(deployment: &Deployment, databases: &[String]) -> Option<Self> {
        let shown = |all| Self { databases: databases.to_vec(), all };
        match User::of(deployment).await {
            // A server that lists anything to nobody lists everything.
            Ok(None) => None,
            Ok(Some(user)) if user.may_list_databases() => {
                let Ok(all) = named(deployment, doc! { "listDatabases": 1, "nameOnly": true }).await else {
                    return Some(shown(None));
                };
                all.iter().any(|name| !databases.contains(name)).then(|| shown(Some(all)))
            }
            // What is not known is not held either.
            _ => Some(shown(None)),
        }
    }

    /// Which of these databases may be there and not be shown. One that the user may look into, and that
    /// is not listed, is gone.
    pub async fn hidden(&self, deployment: &Deployment, mut databases: Vec<String>) -> Vec<String> {
        databases.retain(|database| !self.databases.contains(database));
        if let Some(all) = &self.all {
            databases.retain(|database| all.contains(database));
            return databases;
        }
        let asked = stream::iter(databases).map(|database| async move {
            let list = doc! { "listCollections": 1, "nameOnly": true };
            documents(deployment, &database, list).await.is_err().then_some(database)
        });
        asked.buffered(ASKED_AT_ONCE).filter_map(std::future::ready).collect().await
    }
}

impl Listing {
    /// That there may be more than was shown, and how to see it.
    pub fn note_on_shown(&self) -> Option<String> {
        let shown = self.shown.as_ref()?;
        let named = match shown.databases.as_slice() {
            [] => "none".to_owned(),
            names => names.join(", "),
        };
        Some(format!(
            "only the databases that the user may read could be seen: {named}; there may be others. The role \
             readAnyDatabase on admin shows all"
        ))
    }

    /// What is in `other` and differs here, or is missing on one side; none when all is equal.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let names = |listing: &Self| -> BTreeSet<String> {
            listing.collections.iter().map(Listed::display).collect()
        };
        let (before, after) = (names(self), names(other));
        if let Some(name) = before.symmetric_difference(&after).next() {
            let what = if after.contains(name) { "was created" } else { "was dropped or renamed" };
            return Some(format!("{name} {what}"));
        }
        let mut pairs = self.collections.iter().zip(&other.collections);
        let (old, new) = pairs.find(|(old, new)| old != new)?;
        let what = if old.uuid != new.uuid {
            "was dropped and made anew, or resharded"
        } else if old.options != new.options || old.kind != new.kind {
            "got other options"
        } else {
            "got other indexes"
        };
        Some(format!("{} {what}", old.display()))
    }
}

/// Lists one database, or all but the server's own.
pub(super) async fn list(deployment: &Deployment, only: Option<&str>) -> Result<Listing> {
    let (databases, shown) = match only {
        Some(database) => (vec![database.to_owned()], None),
        None => {
            let databases = databases(deployment).await?;
            let shown = Shown::of(deployment, &databases).await;
            (databases, shown)
        }
    };
    let found: Vec<(String, Result<Found, DriverError>)> = stream::iter(databases)
        .map(|database| async move {
            let found = collections(deployment, &database).await;
            (database, found)
        })
        .buffered(ASKED_AT_ONCE)
        .collect()
        .await;
    let mut listing = Listing { shown, ..Listing::default() };
    let mut denied = None;
    let mut listable = 0;
    for (database, found) in found {
        match found {
            Ok(found) => {
                listable += 1;
                listing.collections.extend(found.collections);
                listing.incomplete.extend(found.incomplete);
            }
            Err(error) => {
                let told = fault::statement(&format!("listing the collections of {database}"), &error);
                if fault::code_of(&error) != Some(code::UNAUTHORIZED) {
                    return Err(told);
                }
                listing.incomplete.push(unreadable(database, &told));
                denied = Some(told);
            }
        }
    }
    if let (Some(told), 0) = (denied, listable) {
        return Err(told);
    }
    add_indexes(deployment, &mut listing).await?;
    listing.collections.sort_by(|a, b| (&a.database, &a.name).cmp(&(&b.database, &b.name)));
    if only.is_none() {
        listing.notes.extend(note_on_admin(deployment).await);
    }
    Ok(listing)
}

fn unreadable(name: String, told: &Error) -> Incomplete {
    let help = told.help().map(|help| format!(". {help}")).unwrap_or_default();
    Incomplete { name, reason: format!("{}{help}", told.message()) }
}

/// Names of the databases that the user can see, without the server's own.
pub(super) async fn databases(deployment: &Deployment) -> Result<Vec<String>> {
    // With the first, users without the privilege to list databases see those they may read.
    let attempts = [
        doc! { "listDatabases": 1, "nameOnly": true, "authorizedDatabases": true },
        doc! { "listDatabases": 1, "nameOnly": true },
    ];
    let mut refused = None;
    for attempt in attempts {
        match named(deployment, attempt).await {
            Ok(names) => return Ok(names),
            Err(error) => refused = Some(error),
        }
    }
    let Some(error) = refused else { return Ok(Vec::new()) };
    let told = fault::statement("listing the databases", &error);
    Err(Error::new(told.kind(), told.message().to_owned())
        .with_help("Name one database in the URL, or grant the role readAnyDatabase on admin."))
}

/// The databases that a command lists, without the server's own.
async fn named(deployment: &Deployment, command: Document) -> Result<Vec<String>, DriverError> {
    let reply = deployment.try_run("admin", command).await?;
    let listed = reply.get_array("databases").into_iter().flatten();
    let names = listed.filter_map(|database| database.as_document()?.get_str("name").ok());
    let own = |name: &&str| SERVERS_OWN.contains(name) || name.starts_with("__mdb_internal");
    Ok(names.filter(|name| !own(name)).map(str::to_owned).collect())
}

/// The admin database is not part of a snapshot; collections of a user's own in it are told.
async fn note_on_admin(deployment: &Deployment) -> Option<String> {
    let list = doc! { "listCollections": 1, "nameOnly": true, "authorizedCollections": true };
    let documents = documents(deployment, "admin", list).await.ok()?;
    let names = documents.iter().filter_map(|listed| wire::text(listed, "name").ok().flatten());
    let own: Vec<_> = names.filter(|name| !name.starts_with("system.")).collect();
    (!own.is_empty())
        .then(|| format!("collections in the database admin are not part of snapshots: {}", own.join(", ")))
}

/// All documents of a command's cursor, byte for byte.
async fn documents(
    deployment: &Deployment,
    database: &str,
    command: Document,
) -> Result<Vec<Vec<u8>>, DriverError> {
    let command = bson::RawDocumentBuf::try_from(&command)?;
    let database = deployment.client.database(database);
    let mut run = database.run_raw_cursor_command(command);
    if let Some(criteria) = &deployment.preference {
        run = run.selection_criteria(criteria.clone());
    }
    let mut cursor = in_time(run.batch().into_future()).await?;
    let mut found = Vec::new();
    while let Some(batch) = in_time(cursor.try_next()).await? {
        let reply = CursorReply::parse(batch.as_raw_document().as_bytes()).map_err(DriverError::custom)?;
        for document in reply.documents().map_err(DriverError::custom)? {
            found.push(document.map_err(DriverError::custom)?.to_vec());
        }
    }
    Ok(found)
}

struct Found {
    collections: Vec<Listed>,
    incomplete: Vec<Incomplete>,
}

/// The collections of one database that belong in a snapshot, without their indexes.
async fn collections(deployment: &Deployment, database: &str) -> Result<Found, DriverError> {
    let mut found = Found { collections: Vec::new(), incomplete: Vec::new() };
    for listed in documents(deployment, database, doc! { "listCollections": 1 }).await? {
        let listed = describe(database, &listed).map_err(DriverError::custom)?;
        if listed.name.starts_with("system.") && listed.name != "system.js" {
            continue;
        }
        match refusal(&listed).map_err(DriverError::custom)? {
            Some(reason) => found.incomplete.push(Incomplete { name: listed.display(), reason }),
            None => found.collections.push(listed),
        }
    }
    Ok(found)
}

/// The listing of one collection alone; none when it is gone.
pub(super) async fn look_up(deployment: &Deployment, database: &str, name: &str) -> Result<Option<Listed>> {
    let command = doc! { "listCollections": 1, "filter": { "name": name } };
    let found = documents(deployment, database, command).await;
    let found = found.map_err(|error| fault::statement(&dotted_name(database, name), &error))?;
    found.first().map(|listed| describe(database, listed)).transpose()
}

fn describe(database: &str, listed: &[u8]) -> Result<Listed> {
    let options = wire::document(listed, "options")?.unwrap_or(&[5, 0, 0, 0, 0]).to_vec();
    let type_name = wire::text(listed, "type")?.unwrap_or_else(|| "collection".to_owned());
    let kind = match type_name.as_str() {
        "view" => Kind::View,
        "timeseries" => Kind::TimeSeries,
        _ if wire::flag(&options, "capped")? => Kind::Capped,
        _ => Kind::Plain,
    };
    let uuid = match wire::document(listed, "info")? {
        Some(info) => wire::find(info, "uuid")?.map(|uuid| uuid.value.to_vec()),
        None => None,
    };
    Ok(Listed {
        database: database.to_owned(),
        name: wire::text(listed, "name")?.unwrap_or_default(),
        kind,
        type_name,
        options,
        uuid,
        indexes: Vec::new(),
        building: Vec::new(),
    })
}

/// Why a collection is not read although it can be.
fn refusal(listed: &Listed) -> Result<Option<String>> {
    let encrypted =
        listed.name.starts_with("enxcol_.") || wire::find(&listed.options, "encryptedFields")?.is_some();
    Ok(encrypted.then(|| {
        "it belongs to Queryable Encryption, whose collections cannot be restored from copies; use the backups of \
         your provider for it"
            .to_owned()
    }))
}

async fn add_indexes(deployment: &Deployment, listing: &mut Listing) -> Result<()> {
    let all = std::mem::take(&mut listing.collections);
    let described: Vec<(Listed, Result<(), DriverError>)> = stream::iter(all)
        .map(|mut listed| async move {
            let read = indexes(deployment, &mut listed).await;
            (listed, read)
        })
        .buffered(ASKED_AT_ONCE)
        .collect()
        .await;
    for (listed, read) in described {
        let Err(error) = read else {
            listing.collections.push(listed);
            continue;
        };
        let told = fault::statement(&format!("listing the indexes of {}", listed.display()), &error);
        match fault::code_of(&error) {
            Some(code::UNAUTHORIZED) => listing.incomplete.push(unreadable(listed.display(), &told)),
            // Dropped since it was listed: as if it had never been.
            Some(code::NAMESPACE_NOT_FOUND) => {}
            _ => return Err(told),
        }
    }
    Ok(())
}

async fn indexes(deployment: &Deployment, listed: &mut Listed) -> Result<(), DriverError> {
    if listed.kind == Kind::View {
        return Ok(());
    }
    let mut command = doc! { "listIndexes": &listed.name };
    if deployment.topology != Topology::Sharded {
        command.insert("includeBuildUUIDs", true);
    }
    for index in documents(deployment, &listed.database, command).await? {
        let (spec, building) = finished(&index).map_err(DriverError::custom)?;
        match building {
            Some(name) => listed.building.push(name),
            None => listed.indexes.push(spec.to_vec()),
        }
    }
    Ok(())
}

/// An index's definition, and its name if it is still being built.
fn finished(index: &[u8]) -> Result<(&[u8], Option<String>)> {
    let spec = wire::document(index, "spec")?.unwrap_or(index);
    let building =
        wire::find(index, "buildUUID")?.is_some() || wire::find(index, "indexBuildInfo")?.is_some();
    let name = if building { Some(wire::text(spec, "name")?.unwrap_or_default()) } else { None };
    Ok((spec, name))
}

/// Names of Atlas search indexes, by the position of their collection. Servers without them refuse.
pub(super) async fn search_indexes(
    deployment: &Deployment,
    collections: &[Listed],
) -> BTreeMap<usize, Vec<String>> {
    let mut found: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for (at, listed) in collections.iter().enumerate().filter(|(_, listed)| listed.kind == Kind::Plain) {
        let command = doc! {
            "aggregate": &listed.name, "pipeline": [{ "$listSearchIndexes": {} }], "cursor": {},
        };
        // The first refusal speaks for all: it is a matter of the server or of the user.
        let Ok(indexes) = documents(deployment, &listed.database, command).await else { return found };
        let names = indexes.iter().filter_map(|index| wire::text(index, "name").ok().flatten());
        let names: Vec<String> = names.collect();
        if !names.is_empty() {
            found.insert(at, names);
        }
    }
    found
}

/// Records and bytes the server expects in a collection; guesses, for progress only.
pub(super) async fn sizes(deployment: &Deployment, collections: &[Listed]) -> Vec<(u64, u64)> {
    stream::iter(collections)
        .map(|listed| async move {
            if listed.kind == Kind::View {
                return (0, 0);
            }
            let command = doc! { "collStats": &listed.name };
            let Ok(stats) = deployment.try_run(&listed.database, command).await else { return (0, 0) };
            let number = |name: &str| match stats.get(name) {
                Some(bson::Bson::Int32(number)) => u64::try_from(*number).unwrap_or(0),
                Some(bson::Bson::Int64(number)) => u64::try_from(*number).unwrap_or(0),
                Some(bson::Bson::Double(number)) => *number as u64,
                _ => 0,
            };
            (number("count"), number("size"))
        })
        .buffered(ASKED_AT_ONCE)
        .collect()
        .await
}

/// The error for a collection that is not what was listed any more.
pub(super) fn changed(what: &str) -> Error {
    Error::new(ErrorKind::SourceChanged, format!("{what} while it was read"))
        .with_help("Take a new snapshot when no collection is created, dropped, changed or indexed.")
}
