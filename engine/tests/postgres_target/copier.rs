//! Copies a database as a restore does, without a repository between: the source's batches go
//! straight into the target.

use std::process::{Command, Stdio};

use engine::Result;
use engine::source::postgres::{Options, PostgresUrl, Snapshot};
use engine::target::Note;
use engine::target::postgres::Target;
use engine_testutils::postgres::Cluster;
use repo_format::keys::RowKey;
use repo_format::manifest::{Extension, Source};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The schema archive of a database, as the superuser sees it.
pub fn archive(cluster: &Cluster, database: &str) -> Vec<u8> {
    dump(cluster, database, &["-Fc"])
}

/// The schema as SQL, without what differs from run to run.
pub fn schema_text(cluster: &Cluster, database: &str) -> String {
    let text = String::from_utf8(dump(cluster, database, &["-Fp"])).expect("because the databases are UTF-8");
    text.lines()
        .filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"))
        .map(|line| format!("{line}\n"))
        .collect()
}

fn dump(cluster: &Cluster, database: &str, format: &[&str]) -> Vec<u8> {
    let output = Command::new(cluster.binaries().join("pg_dump"))
        .args(format)
        .arg("--schema-only")
        .arg(cluster.superuser_url(database))
        .stdin(Stdio::null())
        .output()
        .expect("because the cluster has pg_dump");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

pub fn url(cluster: &Cluster, database: &str) -> PostgresUrl {
    PostgresUrl::parse(&cluster.superuser_url(database)).expect("because the cluster writes URLs")
}

/// A source of this cluster's version, encoding and collation.
pub fn source(cluster: &Cluster, extensions: &[&str]) -> Source {
    Source {
        id: "source".into(),
        name: "Source".into(),
        engine: "postgresql".into(),
        version: cluster.version().into(),
        database: "source".into(),
        encoding: "UTF8".into(),
        collation: "C.UTF-8".into(),
        extensions: extensions
            .iter()
            .map(|name| Extension { name: (*name).into(), version: "1.0".into() })
            .collect(),
        system_identifier: None,
    }
}

/// Restores `from` into `target`, all collections at once, and gives every note.
pub async fn copy(cluster: &Cluster, from: &str, target: &Target) -> Result<Vec<Note>> {
    let archive = archive(cluster, from);
    let mut notes = target.pre_data(&archive).await?;
    let cancel = CancellationToken::new();
    let snapshot = Snapshot::begin(&url(cluster, from), &Options::default(), &cancel).await?;
    assert_eq!(snapshot.incomplete(), []);
    let row_key = RowKey::new([7; 32]);
    let loads = snapshot.collections().iter().map(|collection| {
        let (layout, namespace, name) = (&collection.layout, &collection.namespace, &collection.name);
        let (snapshot, row_key, cancel) = (&snapshot, &row_key, &cancel);
        async move {
            // The loader wants to know how many there are, so they are counted first.
            let expected = count(snapshot, collection, row_key, cancel).await?;
            let (sender, rows) = mpsc::channel(4);
            let scan = snapshot.scan(layout, namespace, name, row_key, sender, cancel);
            let (scanned, loaded) = tokio::join!(scan, target.load(layout, namespace, name, expected, rows));
            assert_eq!(loaded?, scanned?.records);
            Ok::<_, engine::Error>(())
        }
    });
    futures::future::try_join_all(loads).await?;
    notes.extend(target.post_data(&archive, &[]).await?);
    let sequences = snapshot.sequences().await?;
    target.set_sequences(&sequences).await?;
    snapshot.close().await?;
    Ok(notes)
}

async fn count(
    snapshot: &Snapshot,
    collection: &engine::source::Collection,
    row_key: &RowKey,
    cancel: &CancellationToken,
) -> Result<u64> {
    let (sender, mut rows) = mpsc::channel(4);
    let scan =
        snapshot.scan(&collection.layout, &collection.namespace, &collection.name, row_key, sender, cancel);
    let drain = async { while rows.recv().await.is_some() {} };
    let (stats, ()) = tokio::join!(scan, drain);
    Ok(stats?.records)
}

/// Every table's rows and every filled materialized view's, sorted, and every sequence's state, by relation.
/// Partitions are read through their root: hashed enums put rows elsewhere in another database.
pub async fn contents(cluster: &Cluster, database: &str) -> Vec<(String, Vec<Vec<Option<String>>>)> {
    let listed = "SELECT format('%I.%I', n.nspname, c.relname), c.relkind::text FROM pg_class c
                  JOIN pg_namespace n ON n.oid = c.relnamespace
                  WHERE c.relkind IN ('r', 'p', 'm', 'S') AND c.relispopulated AND NOT c.relispartition AND n.nspname NOT IN ('pg_catalog', 'information_schema')
                  AND n.nspname NOT LIKE 'pg_toast%' ORDER BY 1";
    let mut all = Vec::new();
    for relation in cluster.query_text(database, listed).await {
        let name = relation[0].clone().expect("because relations have names");
        let columns = if relation[1].as_deref() == Some("S") { "last_value, is_called" } else { "*" };
        let mut rows = cluster.query_text(database, &format!("SELECT {columns} FROM {name}")).await;
        rows.sort();
        all.push((name, rows));
    }
    all
}

/// Asserts that two databases hold the same, and names the first relation that differs.
pub async fn assert_equal(cluster: &Cluster, left: &str, right: &str) {
    assert_eq!(schema_text(cluster, left), schema_text(cluster, right));
    let (left, right) = (contents(cluster, left).await, contents(cluster, right).await);
    let names =
        |relations: &[(String, Vec<_>)]| relations.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&left), names(&right));
    for ((name, left), (_, right)) in left.iter().zip(&right) {
        assert!(left == right, "{name}: {} rows and {} rows differ", left.len(), right.len());
    }
}
