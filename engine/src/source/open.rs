//! A database that is being read, whatever its engine.

use repo_format::catalog::Layout;
use repo_format::keys::RowKey;
use repo_format::manifest::{self, Extension};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::monitor::Progress;
use crate::source::{
    ArchiveOutcome, Collection, Consistency, DatabaseUrl, Incomplete, RecordBatch, ScanOrder, ScanStats,
    mongodb, postgres,
};

/// How a database is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Collections that are read at a time.
    pub workers: usize,
    /// Whether records may be of different moments where the server offers no better.
    pub consistency: Consistency,
    /// Whether to catch up with changes although the server offers reading at one time.
    pub catch_up: bool,
    /// Whether reading it has failed because its definitions change all the time.
    pub is_restless: bool,
}

impl Options {
    /// Options with which every engine chooses for itself.
    pub fn new(workers: usize, consistency: Consistency) -> Self {
        Self { workers, consistency, catch_up: false, is_restless: false }
    }
}

/// What a manifest says of the database beside its name.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub version: String,
    pub database: String,
    pub encoding: String,
    pub collation: String,
    pub extensions: Vec<Extension>,
    pub system_identifier: Option<String>,
}

/// A database that stays readable as of one moment until it is closed or dropped.
pub(crate) enum Source {
    Postgres(Box<postgres::Snapshot>),
    MongoDb(Box<mongodb::Snapshot>),
}

impl Source {
    /// Connects, and fixes the moment where the engine can.
    pub async fn begin(url: &DatabaseUrl, options: &Options, ctx: &Context) -> Result<Self> {
        match url {
            DatabaseUrl::Postgres(url) => {
                let options = postgres::Options {
                    workers: options.workers.max(1),
                    is_restless: options.is_restless,
                    ..postgres::Options::default()
                };
                let snapshot = postgres::Snapshot::begin(url, &options, &ctx.cancel).await?;
                Ok(Self::Postgres(Box::new(snapshot)))
            }
            DatabaseUrl::MongoDb(url) => {
                let options = mongodb::Options {
                    consistency: options.consistency,
                    catch_up: options.catch_up,
                    ..mongodb::Options::default()
                };
                let snapshot = mongodb::Snapshot::begin(url, &options, ctx).await?;
                Ok(Self::MongoDb(Box::new(snapshot)))
            }
        }
    }

    /// Opens a PostgreSQL database whose `guarded` tables nobody else may write until it is closed.
    pub async fn begin_guarded(
        url: &postgres::PostgresUrl,
        workers: usize,
        guarded: Vec<(String, String)>,
        ctx: &Context,
    ) -> Result<Self> {
        let options = postgres::Options { workers: workers.max(1), guarded, ..postgres::Options::default() };
        let snapshot = postgres::Snapshot::begin(url, &options, &ctx.cancel).await?;
        Ok(Self::Postgres(Box::new(snapshot)))
    }

    /// The collections that can be read, by namespace and name.
    pub fn collections(&self) -> &[Collection] {
        match self {
            Self::Postgres(snapshot) => snapshot.collections(),
            Self::MongoDb(snapshot) => snapshot.collections(),
        }
    }

    /// What cannot be read, and what would allow it.
    pub fn incomplete(&self) -> Vec<Incomplete> {
        match self {
            Self::Postgres(snapshot) => snapshot.incomplete().to_vec(),
            Self::MongoDb(snapshot) => snapshot.incomplete(),
        }
    }

    /// Whether there may be namespaces that the user is not shown.
    pub fn may_hide(&self) -> bool {
        match self {
            Self::Postgres(_) => false,
            Self::MongoDb(snapshot) => snapshot.may_hide(),
        }
    }

    /// Which of these namespaces of an earlier snapshot may be there and not be shown to the user.
    pub async fn hidden(&self, namespaces: Vec<String>) -> Vec<String> {
        match self {
            Self::Postgres(_) => Vec::new(),
            Self::MongoDb(snapshot) => snapshot.hidden(namespaces).await,
        }
    }

    /// The order a scan with this layout claims to deliver.
    pub fn order_of(&self, namespace: &str, name: &str, layout: &Layout) -> ScanOrder {
        match self {
            Self::Postgres(snapshot) => snapshot.order_of(namespace, name, layout),
            Self::MongoDb(snapshot) => snapshot.order_of(namespace, name, layout),
        }
    }

    /// Reads a collection and sends its records in batches.
    pub async fn scan(
        &self,
        layout: &Layout,
        namespace: &str,
        name: &str,
        row_key: &RowKey,
        batches: mpsc::Sender<RecordBatch>,
        cancel: &CancellationToken,
    ) -> Result<ScanStats> {
        match self {
            Self::Postgres(snapshot) => {
                snapshot.scan(layout, namespace, name, row_key, batches, cancel).await
            }
            Self::MongoDb(snapshot) => snapshot.scan(layout, namespace, name, row_key, batches, cancel).await,
        }
    }

    /// Reads what is to be read before the records.
    pub async fn prepare(&self, ctx: &Context) -> Result<()> {
        let Self::Postgres(snapshot) = self else { return Ok(()) };
        ctx.monitor.progress(&Progress { phase: "reading the schema".to_owned(), ..Progress::default() });
        tokio::select! {
            biased;
            () = ctx.cancel.cancelled() => Err(Error::cancelled()),
            archive = snapshot.schema_archive() => archive.map(drop),
        }
    }

    /// What restoring needs beside the records: definitions, in the engine's own form.
    pub async fn schema_archive(&self) -> Result<ArchiveOutcome> {
        match self {
            Self::Postgres(snapshot) => snapshot.schema_archive().await,
            Self::MongoDb(snapshot) => snapshot.schema_archive().await,
        }
    }

    /// Where sequences stand. They are outside snapshots, so this belongs after the data.
    pub async fn sequences(&self) -> Result<Vec<manifest::SequenceState>> {
        match self {
            Self::Postgres(snapshot) => snapshot.sequences().await,
            Self::MongoDb(_) => Ok(Vec::new()),
        }
    }

    /// Materialized views that hold no data.
    pub fn unfilled_views(&self) -> Vec<manifest::ViewName> {
        match self {
            Self::Postgres(snapshot) => snapshot.unfilled_views().to_vec(),
            Self::MongoDb(_) => Vec::new(),
        }
    }

    /// Which database it is.
    pub fn identity(&self) -> Identity {
        match self {
            Self::Postgres(snapshot) => {
                let evidence = snapshot.evidence().clone();
                Identity {
                    version: evidence.server_version,
                    database: evidence.database,
                    encoding: evidence.encoding,
                    collation: evidence.collation,
                    extensions: (evidence.extensions.into_iter())
                        .map(|(name, version)| Extension { name, version })
                        .collect(),
                    system_identifier: evidence.system_identifier,
                }
            }
            Self::MongoDb(snapshot) => snapshot.identity(),
        }
    }

    /// How it is known that all records are of one moment. Final once everything was read.
    pub fn evidence(&self) -> manifest::Evidence {
        match self {
            Self::Postgres(snapshot) => {
                let evidence = snapshot.evidence().clone();
                manifest::Evidence {
                    method: evidence.isolation,
                    snapshot: evidence.snapshot_name,
                    log_position: evidence.lsn,
                    server_time: evidence.server_time,
                    standby: evidence.is_standby,
                    grade: manifest::Grade::PointInTime,
                }
            }
            Self::MongoDb(snapshot) => snapshot.evidence(),
        }
    }

    /// What is known to be left out although nothing failed.
    pub fn notes(&self) -> Vec<String> {
        match self {
            Self::Postgres(snapshot) => snapshot.notes().to_vec(),
            Self::MongoDb(snapshot) => snapshot.notes(),
        }
    }

    /// How to open and read the database once more after reading it failed with `error`; `None`
    /// when that would not help.
    pub fn another_way(&self, error: &Error, options: &Options) -> Option<Options> {
        match self {
            // Somebody waits to change a table, or has: the next snapshot is taken after them.
            Self::Postgres(_) => {
                (error.kind() == Kind::SourceChanged).then_some(Options { is_restless: true, ..*options })
            }
            Self::MongoDb(snapshot) => {
                snapshot.another_way(error).map(|found| Options { catch_up: found.catch_up, ..*options })
            }
        }
    }

    /// Whether [`renew`](Self::renew) may make up for a reading that failed with `error`.
    pub fn may_renew(&self, error: &Error) -> bool {
        match self {
            Self::Postgres(snapshot) => snapshot.may_renew(error),
            Self::MongoDb(snapshot) => snapshot.may_renew(error),
        }
    }

    /// Goes on after a reading failed because definitions changed, where the collections are listed anew, or
    /// for what one collection holds. Returns those, by namespace and name, whose records still count; `None`
    /// when the database has to be opened once more.
    pub async fn renew(&mut self, error: &Error) -> Result<Option<Vec<(String, String)>>> {
        match self {
            Self::Postgres(snapshot) => snapshot.renew(error).await,
            Self::MongoDb(snapshot) => snapshot.renew(error).await,
        }
    }

    /// Frees the locks of a reading that failed. An error says no more than that they are free.
    pub async fn let_go(self) {
        if let Self::Postgres(snapshot) = self {
            let _ = snapshot.close().await;
        }
    }

    /// Lets go of what the server keeps for this reading.
    pub async fn close(self) -> Result<()> {
        match self {
            Self::Postgres(snapshot) => snapshot.close().await,
            Self::MongoDb(snapshot) => snapshot.close().await,
        }
    }
}
