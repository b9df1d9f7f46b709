//! What the tests of the PostgreSQL source share.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::time::Duration;

use engine::Result;
use engine::source::ScanStats;
use engine::source::postgres::{Options, PostgresUrl, Snapshot};
use engine::source::{ArchiveOutcome, Collection, RecordBatch, SchemaArchive};
use engine_testutils::postgres::Cluster;
use repo_format::catalog::Layout;
use repo_format::keys::RowKey;
use repo_format::record::{Field, Fields};
use tokio_util::sync::CancellationToken;

/// A database of the shared cluster with a role that may only read it.
pub struct Database {
    pub name: String,
    pub role: String,
    pub url: PostgresUrl,
}

impl Database {
    pub async fn with(sql: &str) -> Self {
        let cluster = Cluster::shared();
        let name = cluster.fresh_database("source").await;
        cluster.execute(&name, sql).await;
        Self::open(name).await
    }

    pub async fn open(name: String) -> Self {
        let role = format!("{name}_reader");
        let url = Cluster::shared().create_read_only_role(&name, &role).await;
        Self { url: PostgresUrl::parse(&url).unwrap(), name, role }
    }

    pub async fn execute(&self, sql: &str) {
        Cluster::shared().execute(&self.name, sql).await;
    }

    pub async fn one(&self, sql: &str) -> String {
        Cluster::shared().query_one(&self.name, sql).await
    }

    pub async fn snapshot(&self) -> Snapshot {
        self.try_snapshot().await.unwrap_or_else(|error| panic!("{error:?}"))
    }

    pub async fn try_snapshot(&self) -> Result<Snapshot> {
        Snapshot::begin(&self.url, &quick(), &CancellationToken::new()).await
    }

    /// Waits until a connection of the source waits for a lock.
    pub async fn until_it_waits(&self) {
        let sql = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND usename = '{}' AND wait_event_type = 'Lock'",
            self.name, self.role
        );
        for _ in 0..200 {
            if self.one(&sql).await != "0" {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("nothing waits for a lock");
    }

    /// Ends the source's connections, oldest first, and waits for it: the holder is the oldest.
    pub async fn kill(&self, how_many: usize) {
        let sql = format!(
            "SELECT pid FROM pg_stat_activity WHERE usename = '{}' ORDER BY backend_start LIMIT {how_many}",
            self.role
        );
        let rows = Cluster::shared().query_text(&self.name, &sql).await;
        let pids: Vec<_> = rows.into_iter().map(|mut row| row.remove(0).unwrap()).collect();
        assert!(!pids.is_empty());
        let pids = pids.join(", ");
        self.execute(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid IN ({pids})"
        ))
        .await;
        self.until_none(&format!("pid IN ({pids})")).await;
    }

    /// Waits until no connection of the source is in this state.
    pub async fn until_none(&self, state: &str) {
        let sql =
            format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{}' AND {state}", self.role);
        for _ in 0..200 {
            if self.one(&sql).await == "0" {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("still there: {state}");
    }
}

/// The schema as it is kept.
pub async fn archive(snapshot: &Snapshot) -> SchemaArchive {
    match snapshot.schema_archive().await.unwrap() {
        ArchiveOutcome::Written(archive) => archive,
        ArchiveOutcome::Unavailable { reason } => panic!("{reason}"),
    }
}

/// Gives up sooner than the default.
pub fn quick() -> Options {
    Options { lock_timeout: Duration::from_secs(5), ..Options::default() }
}

/// A record as read: key bytes, and the fields as text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    pub key: Vec<u8>,
    pub fields: Vec<Option<Vec<u8>>>,
}

impl Record {
    pub fn text(&self, field: usize) -> Option<&str> {
        self.fields[field].as_deref().map(|bytes| std::str::from_utf8(bytes).unwrap())
    }
}

pub fn row_key() -> RowKey {
    RowKey::new([7; 32])
}

pub fn collection<'a>(snapshot: &'a Snapshot, name: &str) -> &'a Collection {
    let found = snapshot.collections().iter().find(|collection| collection.name == name);
    found.unwrap_or_else(|| panic!("no {name} in {:?}", names(snapshot)))
}

pub fn names(snapshot: &Snapshot) -> Vec<String> {
    snapshot.collections().iter().map(Collection::display_name).collect()
}

pub async fn scan(snapshot: &Snapshot, collection: &Collection) -> Result<(ScanStats, Vec<Record>)> {
    scan_as(snapshot, &collection.layout, &collection.namespace, &collection.name).await
}

pub async fn scan_as(
    snapshot: &Snapshot,
    layout: &Layout,
    namespace: &str,
    name: &str,
) -> Result<(ScanStats, Vec<Record>)> {
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<RecordBatch>(4);
    let (cancel, row_key) = (CancellationToken::new(), row_key());
    let collect = async {
        let mut records = Vec::new();
        while let Some(batch) = receiver.recv().await {
            records.extend(batch.iter().map(|(key, value)| record(key, value, layout.columns.len())));
        }
        records
    };
    let (stats, records) =
        tokio::join!(snapshot.scan(layout, namespace, name, &row_key, sender, &cancel), collect);
    stats.map(|stats| (stats, records))
}

fn record(key: &[u8], value: &[u8], width: usize) -> Record {
    let mut fields: Vec<_> = Fields::new(value)
        .map(|field| match field.unwrap() {
            Field::Null => None,
            Field::Inline(bytes) => Some(bytes.to_vec()),
            Field::Out(_) => panic!("a source moves nothing out"),
        })
        .collect();
    assert!(fields.len() <= width);
    fields.resize(width, None);
    Record { key: key.to_vec(), fields }
}

/// The records of a table, which must be readable.
pub async fn rows(snapshot: &Snapshot, name: &str) -> Vec<Record> {
    scan(snapshot, collection(snapshot, name)).await.unwrap_or_else(|error| panic!("{error:?}")).1
}

/// One column of a table as text, NULL as `None`.
pub async fn column(snapshot: &Snapshot, name: &str, field: usize) -> Vec<Option<String>> {
    rows(snapshot, name).await.iter().map(|record| record.text(field).map(str::to_owned)).collect()
}
