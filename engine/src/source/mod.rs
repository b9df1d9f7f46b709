//! Where records come from. A source lists collections and streams each one's records; it knows
//! nothing of trees, packs or repositories.

mod address;
mod dial;
pub mod mongodb;
mod names;
mod open;
mod pasted;
pub mod postgres;
mod test;
mod url;

use repo_format::catalog::Layout;
use serde::{Deserialize, Serialize};

pub use address::{AddressPolicy, Refusal};
pub(crate) use names::{dotted_name, sql_name};
pub(crate) use open::{Identity, Options, Source};
pub use test::{refuse_writers, test};
pub use url::{DatabaseUrl, Engine};

/// A collection as a source lists it.
#[derive(Clone, Debug)]
pub struct Collection {
    /// The schema (PostgreSQL) or database (MongoDB) it is in, unquoted.
    pub namespace: String,
    /// Its name, unquoted.
    pub name: String,
    /// The columns and the key its records are read with.
    pub layout: Layout,
    /// The normalised schema text: canonical JSON of columns, constraints, indexes, triggers and
    /// so on, without OIDs. Equal texts mean equal schemas.
    pub schema: String,
    /// The version of the rules that made `schema`.
    pub schema_version: u32,
    /// Rows the server expects; a planner's guess, for progress only.
    pub estimated_rows: u64,
    /// Bytes on the server's disk, for progress only.
    pub estimated_bytes: u64,
}

impl Collection {
    /// The name outsiders use; see [`Engine::display_name`].
    pub fn display_name(&self) -> String {
        Engine::of(&self.layout).display_name(&self.namespace, &self.name)
    }
}

/// How a partition that cannot be read is named: its root is the collection that lacks it.
pub(crate) fn partition_name(partition: &str, root: &str) -> String {
    format!("{partition} (partition of {root})")
}

/// How a collection is named that was read and whose definition cannot be restored.
pub(crate) fn definition_name(collection: &str) -> String {
    format!("{collection} (definition)")
}

/// How a view, a function or another object without rows is named that cannot be restored, because
/// it needs a table whose definition is missing.
pub(crate) fn dependent_name(object: &str, table: &str) -> String {
    format!("{object} (needs {table})")
}

/// Whether [`dependent_name`] made the name of something missing.
pub(crate) fn is_dependent(missing: &str) -> bool {
    missing.ends_with(')') && missing.contains(" (needs ")
}

/// The object that something missing is, or is a part of: names made by [`partition_name`],
/// [`definition_name`] and [`dependent_name`] begin with it.
pub(crate) fn missing_object(missing: &str) -> &str {
    let part = (missing.rfind(" (partition of "))
        .or_else(|| missing.strip_suffix(" (definition)").map(str::len))
        .or_else(|| missing.rfind(" (needs ").filter(|_| is_dependent(missing)));
    part.map_or(missing, |end| &missing[..end])
}

/// Whether what is missing under this name belongs to a collection, whole or in part, or is the database
/// it is in.
pub(crate) fn concerns(missing: &str, collection: &str) -> bool {
    missing == collection
        || missing.ends_with(&partition_name("", collection))
        || is_database(missing) && collection.strip_prefix(missing).is_some_and(|rest| rest.starts_with('.'))
}

/// Whether something missing is a whole database of MongoDB: every other name has a dot or a space in it.
fn is_database(missing: &str) -> bool {
    !missing.is_empty() && !missing.contains(['.', ' ', '"'])
}

/// Something a snapshot should hold and does not, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incomplete {
    /// The object's display name.
    pub name: String,
    /// Why it was not read, and what would allow it (the GRANT to run, for one).
    pub reason: String,
}

/// Consecutive records of one collection: key bytes and record bytes, as the tree will hold them
/// (before long values move out). One allocation per batch, not per record.
#[derive(Debug, Default)]
pub struct RecordBatch {
    bytes: Vec<u8>,
    /// End of each key and each value in `bytes`, in turn.
    ends: Vec<(usize, usize)>,
    /// Bytes as read from the server, for progress.
    pub bytes_read: u64,
}

impl RecordBatch {
    /// An empty batch with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { bytes: Vec::with_capacity(capacity), ends: Vec::new(), bytes_read: 0 }
    }

    /// Appends a record: `key` and `value` append their bytes to the buffer they are given.
    pub fn push_with<E>(
        &mut self,
        key: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
        value: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = self.bytes.len();
        let written = key(&mut self.bytes).and_then(|()| {
            let key_end = self.bytes.len();
            value(&mut self.bytes).map(|()| key_end)
        });
        match written {
            Ok(key_end) => self.ends.push((key_end, self.bytes.len())),
            Err(error) => {
                self.bytes.truncate(start);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Appends a record.
    pub fn push(&mut self, key: &[u8], value: &[u8]) {
        self.bytes.extend_from_slice(key);
        let key_end = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.ends.push((key_end, self.bytes.len()));
    }

    /// Records in the batch.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of keys and values.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The records as (key, value), in the order they were pushed.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|&(_, end)| end));
        starts
            .zip(&self.ends)
            .map(|(start, &(key_end, end))| (&self.bytes[start..key_end], &self.bytes[key_end..end]))
    }
}

/// What one scan delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanStats {
    /// Records sent.
    pub records: u64,
    /// Bytes as read from the server.
    pub bytes_read: u64,
}

/// The schema of a database, restorable.
#[derive(Clone, Debug)]
pub struct SchemaArchive {
    /// What the target reads: `pg_dump`'s custom format, or definitions as the server gave them.
    pub bytes: Vec<u8>,
    /// What wrote it ("pg_dump 15.18").
    pub tool: String,
    /// The same for the same schema: without times, versions and random keys.
    pub normalised: Vec<u8>,
    /// Collections whose definition is not in it, and why.
    pub excluded: Vec<Incomplete>,
    /// What the tool warned about, and what it is known to leave out.
    pub notes: Vec<String>,
}

/// Whether a schema archive could be made.
#[derive(Clone, Debug)]
pub enum ArchiveOutcome {
    /// It could.
    Written(SchemaArchive),
    /// There is no tool that can: data and the catalog's description are all there is.
    Unavailable {
        /// Why, and what to do about it.
        reason: String,
    },
}

/// Whether records may be of different moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consistency {
    /// All records are of one moment, or there is no snapshot.
    #[default]
    PointInTime,
    /// One moment where the server offers it; else the snapshot is labelled as not point-in-time.
    BestEffort,
}

/// Whether a scan delivers records in key order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanOrder {
    /// Keys ascend; the reader still checks.
    Key,
    /// Any order: the reader sorts.
    Any,
    /// The order the collection gives its records, which is part of its content: the reader sorts,
    /// and keeps it.
    Natural,
}

/// One stage of a connection test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The host name becomes addresses.
    Resolve,
    /// A TCP connection opens.
    Connect,
    /// TLS is agreed on, or is not asked for.
    Tls,
    /// The user and password are accepted.
    Authenticate,
    /// Collections can be listed.
    List,
    /// A row can be read from every listed collection.
    Read,
    /// No privilege to write was found.
    ReadOnly,
}

/// How one stage went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageReport {
    /// Which stage.
    pub stage: Stage,
    /// Whether it passed.
    pub ok: bool,
    /// What was seen.
    pub detail: String,
    /// What to do, when it failed or could be better.
    pub fix: Option<String>,
}

/// The result of a connection test. Stages after the first failure are absent, but for `Read` and
/// `ReadOnly`, which are both reported once the connection stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionReport {
    /// Whether the database can be backed up with these credentials.
    pub ok: bool,
    /// The stages in order.
    pub stages: Vec<StageReport>,
    /// "postgresql" or "mongodb".
    pub engine: String,
    /// As the server names it; empty when it was not reached.
    pub server_version: String,
    /// Collections found.
    pub collections: u64,
    /// Size of the database on the server's disk.
    pub size_bytes: u64,
    /// Every privilege found that could write, named as in "table public.orders: INSERT".
    pub privileges: Vec<String>,
    /// Residual abilities that are no direct write privilege ("may create temporary tables").
    pub notes: Vec<String>,
    /// Whether the server cannot show all records as of one moment, so that it is only backed up
    /// with [`Consistency::BestEffort`].
    #[serde(default)]
    pub lacks_point_in_time: bool,
    /// The server's own identity, where it can be read.
    #[serde(default)]
    pub system_identifier: Option<String>,
}
