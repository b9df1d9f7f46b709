//! A consistent view of a deployment's databases.

use repo_format::catalog::Layout;
use repo_format::keys::RowKey;
use repo_format::manifest;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::MongoUrl;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::source::{
    ArchiveOutcome, Collection, Consistency, Identity, Incomplete, RecordBatch, ScanOrder, ScanStats,
};

/// How a snapshot is taken.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether records may be of different moments where the server offers no better.
    pub consistency: Consistency,
    /// Whether to catch up by a change stream even where the server honours a snapshot time: its
    /// history was too short for an attempt before this one.
    pub catch_up: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { consistency: Consistency::PointInTime, catch_up: false }
    }
}

/// Records of one key after a change: all that the collection holds under it now, none when it is
/// gone. More than one only where a sharded collection has the `_id` on several shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedRecord {
    /// The tree key, as a scan makes it.
    pub key: Vec<u8>,
    /// Record bytes as a scan makes them, sorted.
    pub records: Vec<Vec<u8>>,
}

/// One round of reading again what changed.
pub struct Round {
    /// What to read; collections without changes are not named.
    pub parts: Vec<RoundPart>,
}

/// One collection in a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoundPart {
    /// Its database.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whether all of it is read again, because its changes cannot be told record by record.
    pub whole: bool,
}

/// A deployment that stays readable until it is closed or dropped.
pub struct Snapshot {}

impl Snapshot {
    /// Connects, chooses how to be consistent, and lists what there is.
    pub async fn begin(url: &MongoUrl, options: &Options, ctx: &Context) -> Result<Self> {
        unimplemented!("{url:?} {options:?} {}", ctx.workers)
    }

    /// The collections that can be read, views included, by namespace and name.
    pub fn collections(&self) -> &[Collection] {
        unimplemented!()
    }

    /// What cannot be read, and what would allow it. Final once everything was read.
    pub fn incomplete(&self) -> Vec<Incomplete> {
        unimplemented!()
    }

    /// The order a scan with this layout claims to deliver.
    pub fn order_of(&self, namespace: &str, name: &str, layout: &Layout) -> ScanOrder {
        unimplemented!("{namespace} {name} {layout:?}")
    }

    /// Reads a collection and sends its records in batches: in key order where
    /// [`order_of`](Self::order_of) says so, a capped one in its natural order.
    pub async fn scan(
        &self,
        layout: &Layout,
        namespace: &str,
        name: &str,
        row_key: &RowKey,
        batches: mpsc::Sender<RecordBatch>,
        cancel: &CancellationToken,
    ) -> Result<ScanStats> {
        unimplemented!("{layout:?} {namespace} {name}")
    }

    /// What has to be read again, after every scan has ended and after each round. `None` when all
    /// records are of one moment, or may be of different ones.
    pub async fn next_round(&self, cancel: &CancellationToken) -> Result<Option<Round>> {
        unimplemented!("{cancel:?}")
    }

    /// Reads the changed records of a part that is not whole, in key order.
    pub async fn reread(
        &self,
        part: &RoundPart,
        layout: &Layout,
        row_key: &RowKey,
        changes: mpsc::Sender<Vec<ChangedRecord>>,
        cancel: &CancellationToken,
    ) -> Result<ScanStats> {
        unimplemented!("{part:?}")
    }

    /// Reads a whole collection again, as [`scan`](Self::scan) does, within the round.
    pub async fn rescan(
        &self,
        part: &RoundPart,
        layout: &Layout,
        row_key: &RowKey,
        batches: mpsc::Sender<RecordBatch>,
        cancel: &CancellationToken,
    ) -> Result<ScanStats> {
        unimplemented!("{part:?}")
    }

    /// After a round: `failure` is what its reading ended with, if it failed. Says whether the next
    /// round may make up for it, by failing with what is to be told when not.
    pub async fn end_round(&self, round: Round, failure: Option<Error>) -> Result<()> {
        unimplemented!("{} {failure:?}", round.parts.len())
    }

    /// How to begin again after a scan failed because the server's history is too short for it;
    /// `None` when beginning again would not help.
    pub fn another_way(&self, failure: &Error) -> Option<Options> {
        unimplemented!("{failure:?}")
    }

    /// Options and indexes of every collection, as the server gave them: one BSON document per
    /// collection, `{db, name, type, options, indexes: [..]}`, by database and name.
    pub async fn schema_archive(&self) -> Result<ArchiveOutcome> {
        unimplemented!()
    }

    /// Which deployment it is.
    pub(crate) fn identity(&self) -> Identity {
        unimplemented!()
    }

    /// How it is known that all records are of one moment. Final once everything was read.
    pub fn evidence(&self) -> manifest::Evidence {
        unimplemented!()
    }

    /// What is known to be left out although nothing failed, and what the user should know.
    pub fn notes(&self) -> Vec<String> {
        unimplemented!()
    }

    /// Lets go of cursors, sessions and the change stream.
    pub async fn close(self) -> Result<()> {
        unimplemented!()
    }
}
