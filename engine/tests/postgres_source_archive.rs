//! The schema archive: what it holds, what is kept out of it, and what stands in its way.

#![allow(clippy::unwrap_used, reason = "a test ends at its first surprise")]

#[path = "postgres_source/support.rs"]
mod support;

use std::time::Duration;

use engine::error::Kind;
use engine::source::postgres::{Options, PostgresUrl, Snapshot};
use engine_testutils::postgres::Cluster;
use support::{Database, archive};

/// PG-D01, D02, D06: the archive differs every time, its normalised text does not, and it shows the
/// snapshot's schema, not a later one.
#[tokio::test]
async fn d01_an_unchanged_schema_has_one_normalised_text() {
    let database = Database::with(
        "CREATE TABLE t (id serial PRIMARY KEY, a text DEFAULT 'x'); COMMENT ON TABLE t IS E'-- no\\n\\\\! comment';
         CREATE FUNCTION f() RETURNS int LANGUAGE sql AS E'-- inner\\nSELECT 1'",
    )
    .await;
    let snapshot = database.snapshot().await;
    database.execute("CREATE TABLE later (id int)").await;
    let (one, other) = (archive(&snapshot).await, archive(&snapshot).await);
    assert_eq!(one.normalised, other.normalised);
    assert!(one.bytes.starts_with(b"PGDMP") && one.tool.starts_with("pg_dump "));
    let text = String::from_utf8(one.normalised.clone()).unwrap();
    assert!(text.contains("CREATE TABLE public.t") && text.contains("-- inner") && !text.contains("later"));
    snapshot.close().await.unwrap();

    let changed = database.snapshot().await;
    assert_ne!(archive(&changed).await.normalised, one.normalised);
}

/// PG-P15, P16: passwords of foreign servers and publishers are in no archive, whoever reads.
#[tokio::test]
async fn p15_a_superusers_archive_is_as_that_of_a_reader() {
    let database = Database::with(
        "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER \"a OPTIONS (\" FOREIGN DATA WRAPPER w OPTIONS (host 'h');
         CREATE SERVER plain FOREIGN DATA WRAPPER w; CREATE TABLE t (id int PRIMARY KEY);
         CREATE USER MAPPING FOR CURRENT_USER SERVER \"a OPTIONS (\" OPTIONS (user 'me', password 'SECRET;''x\"');
         CREATE USER MAPPING FOR PUBLIC SERVER plain; CREATE USER MAPPING FOR CURRENT_USER SERVER plain OPTIONS (password 'SECRET');
         CREATE SUBSCRIPTION s CONNECTION 'host=h password=SECRET' PUBLICATION p WITH (connect = false, slot_name = NONE)",
    )
    .await;
    let of_reader = archive(&database.snapshot().await).await;
    let superuser = PostgresUrl::parse(&Cluster::shared().superuser_url(&database.name)).unwrap();
    let cancel = tokio_util::sync::CancellationToken::new();
    let snapshot = Snapshot::begin(&superuser, &Options::default(), &cancel).await.unwrap();
    let of_superuser = archive(&snapshot).await;
    assert!(!of_superuser.bytes.windows(6).any(|bytes| bytes == b"SECRET"));
    let text = String::from_utf8(of_superuser.normalised).unwrap();
    assert_eq!(text, String::from_utf8(of_reader.normalised).unwrap());
    for statement in
        ["SERVER \"a OPTIONS (\";\n", "FOR public SERVER plain;\n", "OPTIONS (\n    host 'h'\n);"]
    {
        assert!(text.contains(statement), "{statement}: {text}");
    }
    assert_eq!(of_superuser.notes, of_reader.notes);
    let told = [
        "options of 3 user mappings (passwords of foreign servers) are not captured",
        "1 subscription (with the password of its publisher) is not captured",
    ];
    assert_eq!(of_superuser.notes, told);
    snapshot.close().await.unwrap();
    database.execute("DROP SUBSCRIPTION s").await;
}

/// PG-C17: what a server lacks for many tables is told with the number that it takes.
#[tokio::test]
async fn c17_too_few_locks_for_the_schema_archive_are_told() {
    let cluster = Cluster::start_with(&[("max_locks_per_transaction", "10"), ("max_connections", "20")]);
    for batch in 0..5 {
        let tables =
            format!("FOR n IN 1..30 LOOP EXECUTE format('CREATE TABLE t_{batch}_%s (id int)', n); END LOOP;");
        cluster.execute("postgres", &format!("DO $$BEGIN {tables} END$$")).await;
    }
    let url = PostgresUrl::parse(&cluster.create_read_only_role("postgres", "reader").await).unwrap();
    let cancel = tokio_util::sync::CancellationToken::new();
    let snapshot = Snapshot::begin(&url, &Options::default(), &cancel).await.unwrap();
    assert_eq!(snapshot.collections().len(), 150);
    // Somebody else takes all locks that are left but a few. They stay when taking one more fails.
    let other = cluster.connect("postgres").await;
    let all = other.batch_execute("SELECT pg_advisory_lock(n) FROM generate_series(1, 100000) n").await;
    assert!(all.unwrap_err().as_db_error().unwrap().message().contains("shared memory"));
    other.batch_execute("SELECT pg_advisory_unlock(n) FROM generate_series(1, 60) n").await.unwrap();
    let error = snapshot.schema_archive().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported, "{error:?}");
    let help = "The server has too few locks for 150 tables, which a backup locks twice: set \
                max_locks_per_transaction to 32 (it is 10) and restart it.";
    assert_eq!(error.help(), Some(help), "{error:?}");
    assert!(
        error.message().starts_with("pg_dump failed: ") && error.message().contains("out of shared memory")
    );

    // So it is where the snapshot's own locks are too many.
    snapshot.close().await.unwrap();
    other.batch_execute("SELECT pg_advisory_lock(n) FROM generate_series(1, 100000) n").await.unwrap_err();
    other.batch_execute("SELECT pg_advisory_unlock(n) FROM generate_series(1, 60) n").await.unwrap();
    let error = Snapshot::begin(&url, &Options::default(), &cancel).await.unwrap_err();
    assert_eq!((error.kind(), error.help()), (Kind::Unsupported, Some(help)), "{error:?}");
}

/// PG-D04, D08 are in the unit tests of the tool's choice; PG-C10: `pg_dump` must not wait for ever.
#[tokio::test]
async fn c10_a_waiting_change_fails_the_schema_archive() {
    let database = Database::with("CREATE TABLE t (id int PRIMARY KEY)").await;
    let options = Options { lock_timeout: Duration::from_millis(300), ..Default::default() };
    let cancel = tokio_util::sync::CancellationToken::new();
    let snapshot = Snapshot::begin(&database.url, &options, &cancel).await.unwrap();
    let writer = Cluster::shared().connect(&database.name).await;
    let change = tokio::spawn(async move { writer.batch_execute("ALTER TABLE t ADD COLUMN x int").await });
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while database.one(waiting).await == "0" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let error = snapshot.schema_archive().await.unwrap_err();
    assert_eq!(error.kind(), Kind::SourceChanged, "{error:?}");
    snapshot.close().await.unwrap();
    change.await.unwrap().unwrap();
}
