//! One snapshot is one moment, whatever others do meanwhile. Case numbers are those of the list of
//! edge cases that the source was built against.

#![allow(clippy::unwrap_used, reason = "a test ends at its first surprise")]

#[path = "postgres_source/support.rs"]
mod support;

use std::time::Duration;

use engine::error::Kind;
use engine::source::postgres::{Options, Snapshot};
use engine_testutils::postgres::Cluster;
use support::{Database, collection, names, quick, row_key, rows, scan};
use tokio_util::sync::CancellationToken;

/// PG-C01, PG-C03: `pg_dump` reads 0 rows from both tables here.
#[tokio::test]
async fn c01_rows_moved_between_tables_are_read_exactly_once() {
    let database = Database::with(
        "CREATE TABLE src (id int PRIMARY KEY); CREATE TABLE dst (id int PRIMARY KEY);
         INSERT INTO src SELECT generate_series(1, 5)",
    )
    .await;
    let writer = Cluster::shared().connect(&database.name).await;
    writer.batch_execute("BEGIN; INSERT INTO dst SELECT * FROM src; TRUNCATE src").await.unwrap();
    let commit = async {
        database.until_it_waits().await;
        writer.batch_execute("COMMIT").await.unwrap();
    };
    let (snapshot, ()) = tokio::join!(database.snapshot(), commit);
    assert_eq!(rows(&snapshot, "dst").await.len(), 5);
    assert_eq!(rows(&snapshot, "src").await.len(), 0);
    snapshot.close().await.unwrap();
}

/// PG-C02: a snapshot's tables cannot be truncated under it.
#[tokio::test]
async fn c02_tables_stay_locked_until_the_snapshot_is_closed() {
    let database = Database::with("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2)").await;
    let snapshot = database.snapshot().await;
    let writer = Cluster::shared().connect(&database.name).await;
    let refused = writer.batch_execute("SET lock_timeout = '100ms'; TRUNCATE t").await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "55P03");
    assert_eq!(rows(&snapshot, "t").await.len(), 2);
    snapshot.close().await.unwrap();
    writer.batch_execute("TRUNCATE t").await.unwrap();
}

/// PG-C02 in its worst form: the holder dies, the table is truncated, and a worker that joined the
/// snapshot long before would read it as empty without an error.
#[tokio::test]
async fn c02_a_truncate_after_the_holder_died_is_never_read_as_empty() {
    let database = Database::with(
        "CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1);
         CREATE TABLE b (id int PRIMARY KEY); INSERT INTO b VALUES (1)",
    )
    .await;
    let snapshot = database.snapshot().await;
    assert_eq!(rows(&snapshot, "a").await.len(), 1);
    // The worker stays, with the snapshot.
    database.kill(1).await;
    database.execute("TRUNCATE b").await;
    let error = scan(&snapshot, collection(&snapshot, "b")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::SourceChanged, "{error:?}");
}

/// PG-C09: whoever waits to change a table waits for the snapshot, and workers get no lock of it any more.
/// They do not wait for one: the connection that has it reads the table.
#[tokio::test(flavor = "multi_thread")]
async fn c09_a_table_that_somebody_waits_to_change_is_read() {
    let database = Database::with(
        "CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1);
         CREATE TABLE b (id int PRIMARY KEY); INSERT INTO b SELECT generate_series(1, 1000);
         CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id);
         CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10); INSERT INTO p VALUES (1);",
    )
    .await;
    let snapshot = database.snapshot().await;
    let mut changing = Vec::new();
    for table in ["b", "p1"] {
        let (name, sql) = (database.name.clone(), format!("TRUNCATE {table}"));
        let waits = format!("query = '{sql}' AND wait_event_type = 'Lock'");
        changing.push(tokio::spawn(async move { Cluster::shared().execute(&name, &sql).await }));
        while database.one(&format!("SELECT count(*) FROM pg_stat_activity WHERE {waits}")).await == "0" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let read = async |table| rows(&snapshot, table).await.len();
    let (a, b, p) = tokio::join!(read("a"), read("b"), read("p"));
    assert_eq!((a, b, p), (1, 1000, 1));
    snapshot.close().await.unwrap();
    for changing in changing {
        changing.await.unwrap();
    }
    assert_eq!(Cluster::shared().query_one(&database.name, "SELECT count(*) FROM b").await, "0");
}

/// PG-C04: tables created, dropped and renamed between listing and locking.
#[tokio::test]
async fn c04_a_change_of_the_tables_while_locking_starts_over() {
    let database = Database::with(
        "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY);
         CREATE TABLE old (id int PRIMARY KEY); INSERT INTO b VALUES (1)",
    )
    .await;
    let writer = Cluster::shared().connect(&database.name).await;
    writer.batch_execute("BEGIN; LOCK TABLE a IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let change = async {
        database.until_it_waits().await;
        let sql = "DROP TABLE old; CREATE TABLE new (id int PRIMARY KEY); ALTER TABLE b RENAME TO b2;
                   CREATE TABLE b (id int PRIMARY KEY); COMMIT";
        writer.batch_execute(sql).await.unwrap();
    };
    let (snapshot, ()) = tokio::join!(database.snapshot(), change);
    assert_eq!(names(&snapshot), ["public.a", "public.b", "public.b2", "public.new"]);
    assert!(snapshot.evidence().restarts >= 1);
    assert_eq!((rows(&snapshot, "b").await.len(), rows(&snapshot, "b2").await.len()), (0, 1));
}

#[tokio::test]
async fn c04_restarts_are_bounded_and_the_blocking_table_is_named() {
    let database = Database::with("CREATE TABLE busy (id int PRIMARY KEY)").await;
    let writer = Cluster::shared().connect(&database.name).await;
    writer.batch_execute("BEGIN; LOCK TABLE busy IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let options = Options { lock_timeout: Duration::from_millis(100), max_restarts: 1, ..Options::default() };
    let error = Snapshot::begin(&database.url, &options, &CancellationToken::new()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::SourceChanged);
    assert!(error.message().contains("2 attempts") && error.message().contains("busy"), "{error}");
}

/// PG-C05: several workers, one moment.
#[tokio::test]
async fn c05_workers_see_the_same_rows_while_a_writer_commits() {
    let database = Database::with("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2)").await;
    let snapshot = database.snapshot().await;
    let before = rows(&snapshot, "t").await;
    database.execute("INSERT INTO t VALUES (3); DELETE FROM t WHERE id = 1").await;
    let (one, other) = tokio::join!(rows(&snapshot, "t"), rows(&snapshot, "t"));
    assert_eq!((&one, &other), (&before, &before));
    assert_eq!(rows(&database.snapshot().await, "t").await.len(), 2);
}

/// PG-C07: a worker that comes after the holder is gone.
#[tokio::test]
async fn c07_a_lost_holder_ends_the_snapshot() {
    let database = Database::with("CREATE TABLE t (id int PRIMARY KEY)").await;
    let snapshot = database.snapshot().await;
    database.kill(9).await;
    let error = scan(&snapshot, collection(&snapshot, "t")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::SourceChanged, "{error:?}");
    assert!(error.message().contains("join the snapshot"), "{error}");
}

/// PG-C08: time limits that the role or the database comes with.
#[tokio::test]
async fn c08_time_limits_of_the_role_do_not_end_it() {
    let database = Database::with("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    let role = &database.role;
    database
        .execute(&format!(
            "ALTER ROLE {role} SET idle_in_transaction_session_timeout = '150ms';
             ALTER ROLE {role} SET statement_timeout = '150ms'; ALTER ROLE {role} SET idle_session_timeout = '150ms'"
        ))
        .await;
    let snapshot = database.snapshot().await;
    assert_eq!(rows(&snapshot, "t").await.len(), 1);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(rows(&snapshot, "t").await.len(), 1);
    snapshot.close().await.unwrap();
}

/// PG-C12, PG-O07: sequences are read after the data and keep `is_called`.
#[tokio::test]
async fn c12_sequences_are_at_or_past_every_row() {
    let database = Database::with(
        "CREATE TABLE t (id serial PRIMARY KEY, i int GENERATED ALWAYS AS IDENTITY); INSERT INTO t DEFAULT VALUES;
         CREATE SEQUENCE unused START 7; CREATE SEQUENCE jumped; SELECT setval('jumped', 50, false);
         CREATE SEQUENCE down INCREMENT -5 MAXVALUE 100; SELECT nextval('down')",
    )
    .await;
    let snapshot = database.snapshot().await;
    let read = rows(&snapshot, "t").await;
    database.execute("INSERT INTO t DEFAULT VALUES").await;
    let states = snapshot.sequences().await.unwrap();
    let state = |name: &str| {
        let state = states.iter().find(|state| state.name == name).unwrap();
        (state.last_value, state.is_called)
    };
    assert_eq!(read.len(), 1);
    assert_eq!(state("t_id_seq"), (2, true));
    assert_eq!(state("t_i_seq"), (2, true));
    assert_eq!(state("unused"), (7, false));
    assert_eq!(state("jumped"), (50, false));
    assert_eq!(state("down"), (100, true));
}

/// PG-C10's cause, seen from the other side: cancelling while waiting for a lock ends the wait on
/// the server too.
#[tokio::test]
async fn cancelling_ends_the_wait_for_a_lock() {
    let database = Database::with("CREATE TABLE t (id int PRIMARY KEY)").await;
    let writer = Cluster::shared().connect(&database.name).await;
    writer.batch_execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let cancel = CancellationToken::new();
    let stop = async {
        database.until_it_waits().await;
        cancel.cancel();
    };
    let options = quick();
    let (snapshot, ()) = tokio::join!(Snapshot::begin(&database.url, &options, &cancel), stop);
    assert_eq!(snapshot.unwrap_err().kind(), Kind::Cancelled);
    database.until_none("true").await;
}

#[tokio::test]
async fn dropping_the_receiver_ends_the_query_on_the_server() {
    let database = Database::with(
        "CREATE TABLE t (a text); INSERT INTO t SELECT repeat('x', 1000) FROM generate_series(1, 200000)",
    )
    .await;
    let snapshot = database.snapshot().await;
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<engine::source::RecordBatch>(1);
    let read_one = async {
        assert!(!receiver.recv().await.unwrap().is_empty());
        drop(receiver);
    };
    let (layout, row_key, cancel) = (&collection(&snapshot, "t").layout, row_key(), CancellationToken::new());
    let (stats, ()) = tokio::join!(snapshot.scan(layout, "public", "t", &row_key, sender, &cancel), read_one);
    assert_eq!(stats.unwrap_err().kind(), Kind::Cancelled);
    database.until_none("query LIKE 'COPY%' AND state = 'active'").await;
}

/// A dropped snapshot leaves nothing behind on the server.
#[tokio::test]
async fn dropping_a_snapshot_frees_its_locks() {
    let database = Database::with("CREATE TABLE t (id int PRIMARY KEY)").await;
    let snapshot = database.snapshot().await;
    assert_eq!(rows(&snapshot, "t").await.len(), 0);
    drop(snapshot);
    database.until_none("true").await;
    database.execute("TRUNCATE t").await;
}

/// Partitions attached after the snapshot was taken are not part of it.
#[tokio::test]
async fn a_partition_attached_meanwhile_is_noticed() {
    let database = Database::with(
        "CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id);
         CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10); INSERT INTO p VALUES (1);",
    )
    .await;
    let snapshot = database.snapshot().await;
    assert_eq!(rows(&snapshot, "p").await.len(), 1);
    database
        .execute(
            "CREATE TABLE p2 (id int PRIMARY KEY); INSERT INTO p2 VALUES (11);
        ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (10) TO (20)",
        )
        .await;
    match scan(&snapshot, collection(&snapshot, "p")).await {
        Ok((stats, _)) => assert_eq!(stats.records, 1, "a row that is not in the snapshot was read"),
        Err(error) => assert_eq!(error.kind(), Kind::SourceChanged, "{error:?}"),
    }
}

/// Where there is no moment without a table that passes by, it is left out by name, and so is what needs it.
#[tokio::test]
async fn a_table_that_is_always_made_anew_is_left_out_by_name() {
    let database = Database::with(
        "CREATE TABLE kept (id int PRIMARY KEY); INSERT INTO kept VALUES (1); CREATE TABLE scratch (id int)",
    )
    .await;
    let job = Cluster::shared().connect(&database.name).await;
    let working = tokio::spawn(async move {
        loop {
            let sql = "BEGIN; DROP TABLE scratch CASCADE; CREATE TABLE scratch (id int); COMMIT";
            job.batch_execute(sql).await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let options = Options { is_restless: true, ..quick() };
    let snapshot = Snapshot::begin(&database.url, &options, &CancellationToken::new()).await.unwrap();
    assert_eq!(names(&snapshot), ["public.kept"]);
    let [left_out] = snapshot.incomplete() else { panic!("{:?}", snapshot.incomplete()) };
    assert_eq!(left_out.name, "public.scratch");
    assert!(left_out.reason.contains("made or dropped while the snapshot was taken"), "{left_out:?}");
    assert!(snapshot.evidence().restarts > 5);
    assert_eq!(rows(&snapshot, "kept").await.len(), 1);
    let archive = snapshot.schema_archive().await.unwrap();
    assert!(matches!(archive, engine::source::ArchiveOutcome::Written(_)), "pg_dump does not wait for it");
    assert!(!working.is_finished());
    working.abort();
    snapshot.close().await.unwrap();
}
