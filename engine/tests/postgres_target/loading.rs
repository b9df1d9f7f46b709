//! A load is all or nothing, and tells what went wrong while there is still something to save.

use std::time::Duration;

use engine::source::RecordBatch;
use engine::target::postgres::Target;
use engine::{Error, Kind};
use engine_testutils::postgres::Cluster;
use repo_format::catalog::{CollectionKind, Column, Key, KeySource, Layout};
use repo_format::record::{Field, Writer};
use tokio::sync::mpsc;

use crate::copier::{source, url};

fn layout(columns: &[&str]) -> Layout {
    let column = |name: &&str| Column { name: (*name).into(), type_name: "text".into() };
    Layout {
        kind: CollectionKind::Table,
        columns: columns.iter().map(column).collect(),
        key: Key { source: KeySource::Multiset, name: None, columns: Vec::new() },
    }
}

fn batch<'a>(rows: impl IntoIterator<Item = &'a [&'a str]>) -> RecordBatch {
    let mut batch = RecordBatch::default();
    for row in rows {
        let mut value = Vec::new();
        let mut writer = Writer::new(&mut value);
        row.iter().for_each(|field| writer.push(Field::Inline(field.as_bytes())));
        writer.finish();
        batch.push(b"", &value);
    }
    batch
}

/// A target whose empty database got `schema` behind its back.
async fn target(cluster: &Cluster, schema: &str) -> (Target, String) {
    let database = cluster.fresh_database("load").await;
    let target = Target::create(&url(cluster, &database), &source(cluster, &[]))
        .await
        .expect("because the database is empty");
    cluster.execute(&database, schema).await;
    (target, database)
}

async fn load(
    target: &Target,
    columns: &[&str],
    expected: u64,
    batches: Vec<RecordBatch>,
) -> Result<u64, Error> {
    let (sender, rows) = mpsc::channel(1);
    let send = async move {
        for batch in batches {
            if sender.send(batch).await.is_err() {
                break;
            }
        }
    };
    let shape = layout(columns);
    tokio::join!(target.load(&shape, "public", "t", expected, rows), send).0
}

async fn count(cluster: &Cluster, database: &str) -> String {
    cluster.query_one(database, "SELECT count(*) FROM t").await
}

#[tokio::test]
async fn columns_are_matched_by_name_and_the_rest_keep_their_defaults() {
    let cluster = Cluster::shared();
    let (target, database) = target(cluster, "CREATE TABLE t (b text, a text, c int DEFAULT 5)").await;
    let loaded =
        load(&target, &["a", "b"], 2, vec![batch([&["A", "B"][..], &["\\.", "\\N"]])]).await.unwrap();
    assert_eq!(loaded, 2);
    let rows = cluster.query_text(&database, "SELECT a, b, c FROM t ORDER BY a").await;
    let text = |row: [&str; 3]| row.map(|field| Some(field.to_owned())).to_vec();
    assert_eq!(rows, [text(["A", "B", "5"]), text(["\\.", "\\N", "5"])]);
}

#[tokio::test]
async fn too_few_rows_and_a_sender_that_dies_leave_nothing() {
    let cluster = Cluster::shared();
    let (target, database) = target(cluster, "CREATE TABLE t (a text)").await;
    let error = load(&target, &["a"], 3, vec![batch([&["1"][..], &["2"]])]).await.unwrap_err();
    assert!(error.message().contains("2 rows came, 3 were expected"), "{error}");
    assert_eq!(count(cluster, &database).await, "0");
    assert_eq!(load(&target, &["a"], 0, vec![]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_refused_row_is_shown_and_nothing_stays() {
    let cluster = Cluster::shared();
    let (target, database) = target(cluster, "CREATE TABLE t (a int CHECK (a < 10))").await;
    let error = load(&target, &["a"], 3, vec![batch([&["1"][..], &["77"], &["3"]])]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.message().starts_with("loading public.t: "), "{error}");
    assert!(
        error.message().contains("t_a_check") && error.message().contains("Failing row contains (77)"),
        "{error}"
    );
    let error = load(&target, &["a"], 1, vec![batch([&["not a number"][..]])]).await.unwrap_err();
    assert!(error.message().contains("column a: \"not a number\""), "{error}");
    assert_eq!(count(cluster, &database).await, "0");
}

/// The server swallows a whole COPY before it says that a row of it was wrong.
#[tokio::test]
async fn an_error_ends_a_long_load_early() {
    let cluster = Cluster::shared();
    let (target, database) = target(cluster, "CREATE TABLE t (id int PRIMARY KEY, a text)").await;
    let filler = "x".repeat(100_000);
    let (sender, rows) = mpsc::channel(1);
    let send = async move {
        let mut sent = 0;
        for id in 0..5_000 {
            // The 11th row repeats the 10th.
            let id = if id == 10 { 9 } else { id };
            if sender.send(batch([&[id.to_string().as_str(), &filler][..]])).await.is_err() {
                break;
            }
            sent += 1;
        }
        sent
    };
    let shape = layout(&["id", "a"]);
    let (loaded, sent) = tokio::join!(target.load(&shape, "public", "t", 5_000, rows), send);
    let error = loaded.unwrap_err();
    assert!(error.message().contains("(id)=(9) already exists"), "{error}");
    assert!(sent < 1_000, "{sent} of 5000 rows were taken before the error came");
    assert_eq!(count(cluster, &database).await, "0");
}

#[tokio::test]
async fn a_load_over_many_copies_is_one_transaction() {
    let cluster = Cluster::shared();
    let (target, database) = target(cluster, "CREATE TABLE t (a text)").await;
    let filler = "x\\\t".repeat(20_000);
    let batches = || (0..1_700).map(|_| batch([&[filler.as_str()][..]])).collect::<Vec<_>>();
    // 170 MB of COPY text: three COPYs. One row too few first.
    let error = load(&target, &["a"], 1_701, batches()).await.unwrap_err();
    assert!(error.message().contains("1700 rows came"), "{error}");
    assert_eq!(count(cluster, &database).await, "0");
    assert_eq!(load(&target, &["a"], 1_700, batches()).await.unwrap(), 1_700);
    let equal = "SELECT count(*) FROM t WHERE length(a) = 60000 AND a = repeat(E'x\\\\\\t', 20000)";
    assert_eq!(cluster.query_one(&database, equal).await, "1700");
}

#[tokio::test]
async fn a_missing_table_and_early_triggers_are_refused() {
    let cluster = Cluster::shared();
    let (target, database) = target(cluster, "").await;
    let error = load(&target, &["a"], 1, vec![batch([&["1"][..]])]).await.unwrap_err();
    assert!(error.message().contains("\"public.t\" does not exist"), "{error}");
    let triggered = "CREATE TABLE t (a text); CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
                     CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()";
    cluster.execute(&database, triggered).await;
    let error = load(&target, &["a"], 1, vec![batch([&["1"][..]])]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
}

#[tokio::test]
async fn a_lost_connection_fails_the_load() {
    let cluster = Cluster::shared();
    let (target, database) = target(cluster, "CREATE TABLE t (a text)").await;
    let (sender, rows) = mpsc::channel(1);
    let shape = layout(&["a"]);
    let kill = async {
        sender.send(batch([&["1"][..]])).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let sql =
            format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'");
        assert_eq!(cluster.query_text("postgres", &sql).await.len(), 1);
        drop(sender);
    };
    let (loaded, ()) = tokio::join!(target.load(&shape, "public", "t", 1, rows), kill);
    assert_eq!(loaded.unwrap_err().kind(), Kind::Unreachable);
    assert_eq!(count(cluster, &database).await, "0");
}
