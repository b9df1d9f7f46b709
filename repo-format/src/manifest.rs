//! Manifests: what a snapshot is of, when, how sure, and where its catalog begins.
//!
//! A manifest is deterministic CBOR in a sealed file of its own. Creating it is the snapshot's only
//! commit point. What is outside all roots is here: sequence states, versions, times.

use minicbor::{Decode, Encode};

use crate::codec;
use crate::error::Result;
use crate::id::{ObjectId, SnapshotId};

/// Why a snapshot was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Trigger {
    /// Somebody asked for it.
    #[n(0)]
    Manual,
    /// A schedule was due.
    #[n(1)]
    Schedule,
    /// A restore is about to change its target.
    #[n(2)]
    Safety,
}

/// Something that should be in the snapshot and is not.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Missing {
    /// The object's display name.
    #[n(0)]
    pub name: String,
    /// Why it was not read, and what would allow it.
    #[n(1)]
    pub reason: String,
}

/// A sequence's state, read after the data.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SequenceState {
    /// Its schema, unquoted.
    #[n(0)]
    pub namespace: String,
    /// Its name, unquoted.
    #[n(1)]
    pub name: String,
    /// The last value handed out, or the next one when `is_called` is false.
    #[n(2)]
    pub last_value: i64,
    /// Whether `last_value` has been handed out.
    #[n(3)]
    pub is_called: bool,
}

/// A materialized view of the source.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ViewName {
    /// Its schema, unquoted.
    #[n(0)]
    pub namespace: String,
    /// Its name, unquoted.
    #[n(1)]
    pub name: String,
}

/// An extension installed in the source.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Extension {
    /// Its name.
    #[n(0)]
    pub name: String,
    /// Its version.
    #[n(1)]
    pub version: String,
}

/// The database that was read.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Source {
    /// Stays the same however the database is renamed or moved; drawn by the server.
    #[n(0)]
    pub id: String,
    /// The name it had.
    #[n(1)]
    pub name: String,
    /// "postgresql" or "mongodb".
    #[n(2)]
    pub engine: String,
    /// As the server printed it.
    #[n(3)]
    pub version: String,
    /// The database's name on its server; empty when all of a MongoDB deployment were read.
    #[n(4)]
    pub database: String,
    /// The database's encoding; empty where that is no choice.
    #[n(5)]
    pub encoding: String,
    /// The database's collation; empty where databases have none.
    #[n(6)]
    pub collation: String,
    /// Installed extensions, by name.
    #[n(7)]
    pub extensions: Vec<Extension>,
    /// The server's own identity, where it can be read.
    #[n(8)]
    pub system_identifier: Option<String>,
}

/// Whether all records of a snapshot are of one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Grade {
    /// They are.
    #[n(0)]
    PointInTime,
    /// Some may be of other moments than others, because the server offers no better.
    #[n(1)]
    NotPointInTime,
}

/// How it is known that all records are of one moment.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Evidence {
    /// In words: "one exported snapshot, read by every worker".
    #[n(0)]
    pub method: String,
    /// The server's name for the snapshot.
    #[n(1)]
    pub snapshot: String,
    /// The position in the server's log, where it can be read.
    #[n(2)]
    pub log_position: Option<String>,
    /// The server's own time when the snapshot was taken, ISO 8601 in UTC.
    #[n(3)]
    pub server_time: String,
    /// Whether the server was a standby, or a secondary of its replica set.
    #[n(4)]
    pub standby: bool,
    /// What it amounts to.
    #[n(5)]
    pub grade: Grade,
}

/// The schema in its tool's own form, to restore from: for PostgreSQL what `pg_dump -Fc` wrote, for
/// MongoDB one BSON document per collection with its options and indexes as the server gave them.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SchemaArchive {
    /// The archive's piece, or its topmost list of pieces, as for a moved-out value.
    #[n(0)]
    pub root: ObjectId,
    /// Levels of lists above the pieces.
    #[n(1)]
    pub depth: u8,
    /// Its length.
    #[n(2)]
    pub len: u64,
    /// The tool that wrote it, with its version.
    #[n(3)]
    pub tool: String,
    /// The hash of its normalised text: equal texts share an archive.
    #[n(4)]
    pub text_hash: ObjectId,
}

/// Everything about a snapshot that is not in its trees.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Manifest {
    /// What was read.
    #[n(0)]
    pub source: Source,
    /// Why.
    #[n(1)]
    pub trigger: Trigger,
    /// What the user wrote about it at the time.
    #[n(2)]
    pub note: Option<String>,
    /// When the backup began, in milliseconds since 1970.
    #[n(3)]
    pub started_ms: i64,
    /// When it ended.
    #[n(4)]
    pub finished_ms: i64,
    /// How it is known to be consistent.
    #[n(5)]
    pub evidence: Evidence,
    /// The snapshot of the same source before this one.
    #[n(6)]
    pub parent: Option<SnapshotId>,
    /// The root of the catalog tree.
    #[n(7)]
    pub catalog_root: ObjectId,
    /// The level of that root.
    #[n(8)]
    pub catalog_level: u8,
    /// The schema archive; none when no tool could write one.
    #[n(9)]
    pub schema: Option<SchemaArchive>,
    /// Sequence states, by namespace and name.
    #[n(10)]
    pub sequences: Vec<SequenceState>,
    /// Collections in the catalog.
    #[n(11)]
    pub collections: u64,
    /// Records in all collections.
    #[n(12)]
    pub records: u64,
    /// Logical bytes of all collections.
    #[n(13)]
    pub logical_bytes: u64,
    /// Bytes that this snapshot added to the repository.
    #[n(14)]
    pub new_bytes: u64,
    /// What was not read; empty for a complete snapshot.
    #[n(15)]
    pub missing: Vec<Missing>,
    /// What is known to be left out although nothing failed, in words ("passwords of roles").
    #[n(16)]
    pub notes: Vec<String>,
    /// Materialized views that hold no data, so that a restore does not fill them.
    #[n(17)]
    #[cbor(skip_if = "Vec::is_empty")]
    pub unfilled_views: Vec<ViewName>,
}

impl Manifest {
    /// Whether everything in scope was read.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }

    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::to_cbor(self)
    }

    /// Reads canonical bytes; refuses any other spelling of the same manifest.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        codec::from_cbor(bytes, "manifest")
    }
}
