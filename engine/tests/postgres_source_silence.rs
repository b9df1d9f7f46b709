//! A server that has gone silent is given up, wherever it was asked something; one that is at work, or
//! whose bytes take their time, is not.

#![allow(clippy::unwrap_used, reason = "a test ends at its first surprise")]

#[path = "postgres_source/support.rs"]
mod support;

use std::time::Duration;

use engine::Error;
use engine::error::Kind;
use engine::source::postgres::{Options, PostgresUrl, Snapshot};
use engine_testutils::postgres::Cluster;
use support::{Database, collection, quick, rows, scan};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_util::sync::CancellationToken;

/// How a proxy passes on what the server sends.
#[derive(Clone, Copy)]
enum Manner {
    /// Not more than so many bytes of each connection, which stays open.
    StopsAfter(u64),
    /// So many bytes at a time, with a pause after each.
    Slow(usize),
}

impl Manner {
    async fn pass(self, from_server: &mut OwnedReadHalf, to_client: &mut OwnedWriteHalf) {
        match self {
            Self::StopsAfter(bytes) => {
                let _ = tokio::io::copy(&mut from_server.take(bytes), to_client).await;
            }
            Self::Slow(bytes) => {
                let mut some = vec![0; bytes];
                while let Ok(read @ 1..) = from_server.read(&mut some).await {
                    if to_client.write_all(&some[..read]).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }
}

/// The URL of a proxy before the database.
async fn proxied(database: &Database, manner: Manner) -> PostgresUrl {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let server = ("127.0.0.1", Cluster::shared().port());
                let server = tokio::net::TcpStream::connect(server).await.unwrap();
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                let asking = async { tokio::io::copy(&mut from_client, &mut to_server).await };
                let answering = manner.pass(&mut from_server, &mut to_client);
                // Both connections stay open until the client closes its own.
                let _ = tokio::join!(asking, answering);
            });
        }
    });
    let url = format!("postgres://{0}:{0}-password@127.0.0.1:{port}/{1}", database.role, database.name);
    PostgresUrl::parse(&url).unwrap()
}

async fn begin(url: &PostgresUrl, patience_ms: u64) -> engine::Result<Snapshot> {
    let options = Options { patience: Duration::from_millis(patience_ms), ..quick() };
    Snapshot::begin(url, &options, &CancellationToken::new()).await
}

fn is_of_silence(error: &Error) {
    assert_eq!(error.kind(), Kind::Unreachable, "{error:?}");
    assert!(error.message().contains("said nothing"), "{error:?}");
}

const WIDE: &str = "CREATE TABLE t (id int PRIMARY KEY, body text);
    INSERT INTO t SELECT n, repeat(md5(n::text), 30) FROM generate_series(1, 20000) n";

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_silent_between_rows_is_given_up() {
    let database = Database::with(WIDE).await;
    let url = proxied(&database, Manner::StopsAfter(2 << 20)).await;
    let snapshot = begin(&url, 200).await.unwrap();
    is_of_silence(&scan(&snapshot, collection(&snapshot, "t")).await.unwrap_err());
}

/// The catalogs of this many columns are more than the proxy passes on; the question whether the server is at
/// work is less.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_silent_while_its_catalogs_are_read_is_given_up() {
    let columns: Vec<String> = (0..400).map(|n| format!("column_{n} int")).collect();
    let database = Database::with(&format!("CREATE TABLE t ({})", columns.join(", "))).await;
    let url = proxied(&database, Manner::StopsAfter(16 << 10)).await;
    is_of_silence(&begin(&url, 200).await.unwrap_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_silent_to_pg_dump_is_given_up() {
    let database = Database::with("CREATE TABLE t (id int PRIMARY KEY)").await;
    let url = proxied(&database, Manner::StopsAfter(64 << 10)).await;
    let snapshot = begin(&url, 200).await.unwrap();
    is_of_silence(&snapshot.schema_archive().await.unwrap_err());
}

/// The server is at work, or waits for a lock, for many times longer than is waited for a byte.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_long_at_work_is_not_given_up() {
    let database = Database::with(&format!(
        "{WIDE}; CREATE TABLE dead (id int) WITH (autovacuum_enabled = off);
         INSERT INTO dead SELECT generate_series(1, 4000000); DELETE FROM dead",
    ))
    .await;
    let writer = Cluster::shared().connect(&database.name).await;
    writer.batch_execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let letting_go = async {
        database.until_it_waits().await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        writer.batch_execute("COMMIT").await.unwrap();
    };
    let (snapshot, ()) = tokio::join!(begin(&database.url, 10), letting_go);
    let snapshot = snapshot.unwrap();
    let waiting = tokio::spawn(async move { writer.batch_execute("TRUNCATE t").await });
    let waits = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND query = 'TRUNCATE t' AND wait_event_type = 'Lock'",
        database.name
    );
    while database.one(&waits).await == "0" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // pg_dump waits behind it, and gives up for that.
    let error = snapshot.schema_archive().await.unwrap_err();
    assert_eq!(error.kind(), Kind::SourceChanged, "{error:?}");
    assert_eq!(rows(&snapshot, "dead").await.len(), 0);
    assert_eq!(rows(&snapshot, "t").await.len(), 20_000);
    snapshot.close().await.unwrap();
    waiting.await.unwrap().unwrap();
}

/// One row, and a schema, that take many times longer than is waited for a byte.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_take_their_time_are_no_silence() {
    let database = Database::with(
        "CREATE TABLE t (id int PRIMARY KEY, body text);
         INSERT INTO t SELECT 1, string_agg(md5(n::text), '') FROM generate_series(1, 40000) n",
    )
    .await;
    let url = proxied(&database, Manner::Slow(8 << 10)).await;
    let snapshot = begin(&url, 100).await.unwrap();
    assert_eq!(rows(&snapshot, "t").await[0].text(1).unwrap().len(), 40_000 * 32);
    snapshot.schema_archive().await.unwrap();
    snapshot.close().await.unwrap();
}
