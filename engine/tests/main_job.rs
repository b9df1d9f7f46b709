//! The main job on a real server: snapshot, change, snapshot, compare, verify.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use engine::diff::{self, ChangeKind, Filter, Status};
use engine::monitor::{Monitor, Progress};
use engine::rows::PageRequest;
use engine::{history, verify};
use engine_testutils::postgres::Cluster;
use support::{TestRepo, database};

const ORDERS: &str = "
    CREATE TABLE orders (id bigint PRIMARY KEY, customer text NOT NULL, total numeric, note text);
    INSERT INTO orders SELECT n, 'customer ' || n % 100, n * 1.5, repeat(md5(n::text), 3) FROM generate_series(1, 30000) n;
    CREATE TABLE log (line text);
    INSERT INTO log SELECT 'line ' || n % 50 FROM generate_series(1, 1000) n;
    CREATE TABLE names (name text PRIMARY KEY, picture bytea);
    INSERT INTO names SELECT md5(n::text), decode(repeat(md5(n::text), 1000), 'hex') FROM generate_series(1, 40) n;
    CREATE TABLE empty (id int);
";

#[tokio::test(flavor = "multi_thread")]
async fn a_diff_shows_exactly_what_changed() {
    let (cluster, name, url) = database(ORDERS).await;
    let test = TestRepo::new().await;
    let first = test.backup(&url).await;
    assert_eq!(first.manifest.records, 30_000 + 1000 + 40);
    cluster
        .execute(
            &name,
            "UPDATE orders SET total = 0 WHERE id IN (7, 15000);
             DELETE FROM orders WHERE id = 30000;
             INSERT INTO orders VALUES (40000, 'new', 1, NULL);
             DELETE FROM log WHERE ctid IN (SELECT ctid FROM log WHERE line = 'line 3' LIMIT 2);
             UPDATE names SET picture = picture || 'x' WHERE name = md5('5')",
        )
        .await;
    let second = test.backup(&url).await;
    assert_eq!(second.manifest.parent, Some(first.id));
    assert!(second.manifest.new_bytes < first.manifest.new_bytes / 5);

    let summary = diff::summary(&test.repo, &first, &second, &test.ctx).await.unwrap();
    let of = |name: &str| summary.collections.iter().find(|found| found.name == name).unwrap();
    let counts = |name: &str| {
        let found = of(name).records;
        (found.added, found.removed, found.changed, found.unchanged)
    };
    assert_eq!(counts("public.orders"), (1, 1, 2, 29_997));
    assert_eq!(counts("public.log"), (0, 2, 0, 998));
    assert_eq!(counts("public.names"), (0, 0, 1, 39));
    assert_eq!(of("public.empty").status, Status::Unchanged);
    assert!(summary.objects_read < 40, "{} objects were read", summary.objects_read);

    let page = PageRequest { limit: 3, ..PageRequest::default() };
    let all = Filter::default();
    let changes = diff::changes(&test.repo, &first, &second, "public.orders", &all, &page).await.unwrap();
    let shown: Vec<_> = changes.items.iter().map(|change| (change.kind, change.key.as_str())).collect();
    assert_eq!(
        shown,
        [(ChangeKind::Changed, "7"), (ChangeKind::Changed, "15000"), (ChangeKind::Removed, "30000")]
    );
    assert_eq!(changes.items[0].columns, ["total"]);
    let cell =
        |content: &Option<diff::Content>, at: usize| content.as_ref().unwrap().row().unwrap()[at].1.clone();
    assert_eq!(cell(&changes.items[0].old, 2).as_deref(), Some("10.5"));
    assert_eq!(cell(&changes.items[0].new, 2).as_deref(), Some("0"));

    let next = PageRequest { cursor: changes.next_cursor, limit: 3, from_key: None };
    let rest = diff::changes(&test.repo, &first, &second, "public.orders", &all, &next).await.unwrap();
    assert_eq!(rest.items.len(), 1);
    assert_eq!((rest.items[0].kind, rest.items[0].key.as_str()), (ChangeKind::Added, "40000"));
    assert_eq!(cell(&rest.items[0].new, 3), None);
    assert_eq!(rest.next_cursor, None);

    // The same database again adds next to nothing and has the same roots.
    let third = test.backup(&url).await;
    assert_eq!(third.manifest.catalog_root, second.manifest.catalog_root);
    assert!(third.manifest.new_bytes < 1000, "{} bytes were added", third.manifest.new_bytes);

    let test = test.reopen(true).await;
    let report = verify::run(&test.repo, verify::Mode::Full, &test.ctx).await.unwrap();
    assert_eq!(report.damaged, []);
    assert!(report.objects > 100);
    let from_key = PageRequest { from_key: Some("15000".to_owned()), limit: 1, cursor: None };
    let records = history::records(&test.repo, &second, "public.orders", &from_key).await.unwrap();
    assert_eq!(records.items[0].key, "15000");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_not_in_the_order_claimed_are_sorted_and_nothing_is_lost() {
    // Keys over the limit end in a hash: index order is not key order. What the first attempt had
    // begun to store must be there when the second builds the same leaves.
    let sql = "CREATE TABLE paths (path text COLLATE \"C\" PRIMARY KEY, n int);
        INSERT INTO paths SELECT 'a/' || lpad(n::text, 8, '0'), n FROM generate_series(1, 20000) n;
        INSERT INTO paths SELECT 'z' || repeat('long', 300) || n, n FROM generate_series(1, 40) n;";
    let (_, _, url) = database(sql).await;
    let test = TestRepo::new().await;
    let snapshot = test.backup(&url).await;
    assert_eq!(snapshot.manifest.records, 20_040);
    let report = verify::run(&test.repo, verify::Mode::Full, &test.ctx).await.unwrap();
    assert_eq!(report.damaged, []);
    let all = PageRequest { limit: 30_000, ..PageRequest::default() };
    let records = history::records(&test.repo, &snapshot, "public.paths", &all).await.unwrap();
    assert_eq!(records.items.len(), 20_040);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_can_be_read_before_anything_else_after_the_cache_is_lost() {
    let (_, _, url) = database(ORDERS).await;
    let test = TestRepo::new().await;
    let snapshot = test.backup(&url).await;
    let test = test.reopen(true).await;
    let page = PageRequest::default();
    let records = history::records(&test.repo, &snapshot, "public.orders", &page).await.unwrap();
    assert_eq!(records.items.len(), 100);
}

/// JD-08.
#[tokio::test(flavor = "multi_thread")]
async fn json_in_another_format_is_a_change_and_called_that() {
    let (cluster, name, url) = database(
        r#"CREATE TABLE doc (id int PRIMARY KEY, j json, jb jsonb, t text);
           INSERT INTO doc SELECT n, '{"a":1,"b":[1,2]}', '{"a":1}', '{"a":1}' FROM generate_series(1, 4) n;
           INSERT INTO doc SELECT 5, json_build_object('long', repeat('x y', 20000))"#,
    )
    .await;
    let test = TestRepo::new().await;
    let first = test.backup(&url).await;
    cluster
        .execute(
            &name,
            r#"UPDATE doc SET j = '{ "a": 1, "b": [1, 2] }', jb = '{ "a" : 1 }' WHERE id = 1;
               UPDATE doc SET j = '{ "a": 2, "b": [1, 2] }' WHERE id = 2;
               UPDATE doc SET j = '{ "a":1,"b":[1,2]}', t = '{ "a":1}' WHERE id = 3;
               UPDATE doc SET j = (' ' || j::text)::json WHERE id = 5"#,
        )
        .await;
    let second = test.backup(&url).await;
    let page = PageRequest::default();
    let changes = diff::changes(&test.repo, &first, &second, "public.doc", &Filter::default(), &page).await;
    let found: Vec<_> = (changes.unwrap().items.into_iter())
        .map(|change| (change.key, change.columns.join(","), change.reformatted.join(",")))
        .collect();
    let change = |key: &str, columns: &str, reformatted: &str| {
        (key.to_owned(), columns.to_owned(), reformatted.to_owned())
    };
    // jsonb has no format of its own, and text is no JSON.
    let expected =
        [change("1", "j", "j"), change("2", "j", ""), change("3", "j,t", "j"), change("5", "j", "j")];
    assert_eq!(found, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_change_places_are_compared_by_name() {
    let sql = "CREATE TABLE people (id int PRIMARY KEY, first text, last text);
        INSERT INTO people SELECT n, 'f' || n, 'l' || n FROM generate_series(1, 500) n;
        CREATE TABLE wide (id int PRIMARY KEY, gone text, kept text);
        INSERT INTO wide SELECT n, NULL, 'k' || n FROM generate_series(1, 500) n;";
    let (cluster, name, url) = database(sql).await;
    let test = TestRepo::new().await;
    let first = test.backup(&url).await;
    cluster
        .execute(
            &name,
            "ALTER TABLE people RENAME first TO t; ALTER TABLE people RENAME last TO first;
             ALTER TABLE people RENAME t TO last; UPDATE people SET first = 'f7', last = 'l7' WHERE id = 7;
             ALTER TABLE wide DROP COLUMN gone; UPDATE wide SET kept = 'new' WHERE id = 9;",
        )
        .await;
    let second = test.backup(&url).await;
    let summary = diff::summary(&test.repo, &first, &second, &test.ctx).await.unwrap();
    let changed =
        |name: &str| summary.collections.iter().find(|found| found.name == name).unwrap().records.changed;
    // Everybody's names were swapped but one's, whose were swapped back; a column of NULLs that is
    // gone changes nothing.
    assert_eq!((changed("public.people"), changed("public.wide")), (499, 1));
    let all = PageRequest { limit: 1000, ..PageRequest::default() };
    let filter = Filter { kind: None, column: Some("last".to_owned()) };
    let changes = diff::changes(&test.repo, &first, &second, "public.people", &filter, &all).await.unwrap();
    assert_eq!(changes.items.len(), 499);
    assert_eq!(changes.items[0].columns, ["last", "first"], "in the newer order");
}

/// Truncates `dst` when a phase begins for the first time, and goes on once that waits for its lock.
struct TruncateAt {
    phase: &'static str,
    cluster: &'static Cluster,
    database: String,
    begun: AtomicU32,
}

impl Monitor for TruncateAt {
    fn progress(&self, progress: &Progress) {
        if progress.phase != self.phase || self.begun.fetch_add(1, Ordering::SeqCst) > 0 {
            return;
        }
        let (cluster, database) = (self.cluster, self.database.clone());
        let other = database.clone();
        tokio::spawn(async move { cluster.execute(&other, "TRUNCATE dst").await });
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                       AND query = 'TRUNCATE dst' AND wait_event_type = 'Lock'";
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                while cluster.query_one(&database, waiting).await == "0" {
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                }
            });
        });
    }
}

/// PG-C09, PG-C10: a change that waits for the snapshot while the schema is being read gets its turn, and
/// the snapshot another one. One that waits while the rows are being read goes on waiting for them.
#[tokio::test(flavor = "multi_thread")]
async fn one_concurrent_truncate_makes_the_backup_begin_anew_or_waits() {
    for (phase, records) in [("reading", 200), ("reading the schema", 100)] {
        let (cluster, name, url) = database(
            "CREATE TABLE src (id int PRIMARY KEY); INSERT INTO src SELECT generate_series(1, 100);
             CREATE TABLE dst (id int PRIMARY KEY); INSERT INTO dst SELECT generate_series(1, 100);",
        )
        .await;
        let mut test = TestRepo::new().await;
        let truncate = Arc::new(TruncateAt { phase, cluster, database: name, begun: AtomicU32::new(0) });
        test.ctx.monitor = truncate.clone();
        let snapshot = test.backup(&url).await;
        assert!(truncate.begun.load(Ordering::SeqCst) > 0, "{phase}");
        assert_eq!(snapshot.manifest.records, records, "{phase}");
        assert!(snapshot.manifest.schema.is_some() && snapshot.manifest.is_complete(), "{phase}");
    }
}

/// Jobs and tests make scratch tables and drop them all the time. Whoever drops one waits for a snapshot
/// that shows it, and whoever reads it waits for them.
#[tokio::test(flavor = "multi_thread")]
async fn scratch_tables_that_come_and_go_fail_no_backup() {
    let (cluster, name, url) = database(
        "CREATE TABLE kept (id int PRIMARY KEY); INSERT INTO kept SELECT generate_series(1, 1000);
         CREATE VIEW seen AS SELECT id FROM kept",
    )
    .await;
    let job = cluster.connect(&name).await;
    let working = tokio::spawn(async move {
        let pause = || tokio::time::sleep(std::time::Duration::from_millis(50));
        loop {
            let make = "CREATE TABLE scratch (id serial PRIMARY KEY); INSERT INTO scratch DEFAULT VALUES";
            job.batch_execute(make).await.unwrap();
            pause().await;
            job.batch_execute("DROP TABLE scratch").await.unwrap();
            pause().await;
        }
    });
    let test = TestRepo::new().await;
    for _ in 0..5 {
        let snapshot = test.backup(&url).await;
        assert_eq!(snapshot.manifest.missing, []);
        let collections = engine::history::collections(&test.repo, &snapshot).await.unwrap();
        let kept = collections.iter().find(|found| found.name == "public.kept").unwrap();
        assert_eq!(kept.records, 1000);
    }
    assert!(!working.is_finished(), "the loop went on");
    working.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_differs_beside_tables_is_named() {
    let (cluster, name, url) = database(
        "CREATE TABLE t (id int PRIMARY KEY); CREATE VIEW v AS SELECT 1 AS one; CREATE TYPE mood AS ENUM ('ok');
         CREATE FUNCTION f(n int) RETURNS int LANGUAGE sql AS 'SELECT n'; CREATE SEQUENCE gone; CREATE SEQUENCE stays;",
    )
    .await;
    let test = TestRepo::new().await;
    let first = test.backup(&url).await;
    let same = test.backup(&url).await;
    let summary = diff::summary(&test.repo, &first, &same, &test.ctx).await.unwrap();
    assert_eq!(summary.other_objects, Some(Vec::new()));
    cluster
        .execute(
            &name,
            "CREATE OR REPLACE VIEW v AS SELECT 2 AS one; ALTER TYPE mood ADD VALUE 'sad'; DROP SEQUENCE gone;
             CREATE OR REPLACE FUNCTION f(n int) RETURNS int LANGUAGE sql AS 'SELECT n + 1'; CREATE SCHEMA audit;
             GRANT SELECT ON t TO PUBLIC; ALTER TABLE t ADD COLUMN note text; CREATE INDEX noted ON t (note);
             SELECT nextval('stays'), nextval('stays')",
        )
        .await;
    let second = test.backup(&url).await;
    let summary = diff::summary(&test.repo, &first, &second, &test.ctx).await.unwrap();
    let expected = [
        "privileges on TABLE t in schema public added",
        "function f(integer) in schema public changed",
        "schema audit added",
        "sequence gone in schema public removed",
        "type mood in schema public changed",
        "view v in schema public changed",
        "sequence public.stays stands at 2, where it stood before 1",
    ];
    assert_eq!(summary.other_objects.unwrap(), expected);
    assert!(!summary.collections[0].schema_changes.is_empty());
}

/// The owner and what is set for columns are told, whether or not the table has another change.
#[tokio::test(flavor = "multi_thread")]
async fn no_change_of_a_table_hides_another_one() {
    let (cluster, name, url) = database(
        "CREATE TABLE given (id int PRIMARY KEY); CREATE TABLE grown (id int PRIMARY KEY, t text);
         CREATE TABLE tuned (id int PRIMARY KEY, t text); CREATE TABLE sorted (id int PRIMARY KEY);
         CREATE TABLE switched (id int PRIMARY KEY); CREATE VIEW v AS SELECT 1 AS a;
         CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
         CREATE TRIGGER a AFTER INSERT ON switched EXECUTE FUNCTION f(); COMMENT ON TABLE given IS 'x'",
    )
    .await;
    let test = TestRepo::new().await;
    let first = test.backup(&url).await;
    let owner = format!("{name}_owner");
    cluster
        .execute(
            &name,
            &format!(
                "CREATE ROLE {owner}; ALTER TABLE given OWNER TO {owner}; ALTER VIEW v OWNER TO {owner};
                 ALTER TABLE grown OWNER TO {owner}; ALTER TABLE grown ADD COLUMN n int; ALTER TABLE grown ALTER t SET STATISTICS 7;
                 ALTER TABLE tuned ALTER t SET STORAGE EXTERNAL, ALTER t SET STATISTICS 9;
                 ALTER TABLE sorted ADD COLUMN n int; ALTER TABLE sorted CLUSTER ON sorted_pkey;
                 ALTER TABLE switched DISABLE TRIGGER a; ALTER TABLE switched REPLICA IDENTITY FULL"
            ),
        )
        .await;
    let second = test.backup(&url).await;
    let summary = diff::summary(&test.repo, &first, &second, &test.ctx).await.unwrap();
    let before = engine_testutils::postgres::SUPERUSER;
    let (given, other) = (format!("owner: {before} → {owner}"), "other properties of the table changed");
    let told: Vec<(&str, Vec<&str>)> = (summary.collections.iter())
        .map(|found| (found.name.as_str(), found.schema_changes.iter().map(String::as_str).collect()))
        .collect();
    let expected = [
        ("public.given", vec![given.as_str()]),
        ("public.grown", vec!["column n added: integer", given.as_str(), other]),
        ("public.sorted", vec!["column n added: integer"]),
        (
            "public.switched",
            vec!["replica identity: default → full", "trigger a: enabled on origin → disabled"],
        ),
        ("public.tuned", vec![other]),
    ];
    assert_eq!(told, expected);
    assert!(summary.collections.iter().all(|found| found.status == diff::Status::Changed));
    let others = [
        "constraint sorted sorted_pkey in schema public changed".to_owned(),
        format!("view v in schema public: owner {before} → {owner}"),
    ];
    assert_eq!(summary.other_objects.unwrap(), others);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_far_into_a_long_value_is_seen() {
    let (cluster, name, url) = database(
        "CREATE TABLE t (id int PRIMARY KEY, body text, short text);
         INSERT INTO t SELECT n, (SELECT string_agg(md5((n * 100000 + m)::text), '') FROM generate_series(1, 12000) m), 'a' FROM generate_series(1, 3) n",
    )
    .await;
    let test = TestRepo::new().await;
    let first = test.backup(&url).await;
    // Behind 300,000 of 384,000 bytes; at the very end; and a NULL, which has no surroundings.
    let sql = "UPDATE t SET body = overlay(body placing '<ä changed>' from 300001), short = 'b' WHERE id = 1;
               UPDATE t SET body = body || 'end' WHERE id = 2; UPDATE t SET body = NULL WHERE id = 3";
    cluster.execute(&name, sql).await;
    let second = test.backup(&url).await;
    let page = PageRequest::default();
    let changes =
        diff::changes(&test.repo, &first, &second, "public.t", &Filter::default(), &page).await.unwrap();
    let change = &changes.items[0];
    assert_eq!(
        (change.columns.as_slice(), change.truncated),
        (["body".to_owned(), "short".to_owned()].as_slice(), true)
    );
    let [window] = change.windows.as_slice() else { panic!("{:?}", change.windows) };
    assert_eq!(
        (window.column.as_str(), window.differs_at, window.starts_at),
        ("body", Some(300_000), 299_488)
    );
    assert_eq!((window.old_size_bytes, window.new_size_bytes), (384_000, 384_001));
    assert!(window.new.contains("<ä changed>") && !window.old.contains("changed"), "{window:?}");
    assert!(window.old.len() < 3000 && window.new.len() < 3000);
    let [window] = changes.items[1].windows.as_slice() else { panic!("{:?}", changes.items[1].windows) };
    assert_eq!(window.differs_at, Some(384_000));
    assert!(window.new.ends_with("end") && window.new.trim_end_matches("end") == window.old);
    assert_eq!(changes.items[2].windows, []);
}

/// Cancels as soon as a table is being compared.
struct CancelComparing(tokio_util::sync::CancellationToken);

impl Monitor for CancelComparing {
    fn progress(&self, progress: &Progress) {
        if progress.phase.starts_with("comparing ") {
            self.0.cancel();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_stops_inside_a_table() {
    let (cluster, name, url) =
        database("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 50000)").await;
    let mut test = TestRepo::new().await;
    let first = test.backup(&url).await;
    cluster.execute(&name, "UPDATE t SET id = -id").await;
    let second = test.backup(&url).await;
    test.ctx.monitor = Arc::new(CancelComparing(test.ctx.cancel.clone()));
    let error = diff::summary(&test.repo, &first, &second, &test.ctx).await.unwrap_err();
    assert_eq!(error.kind(), engine::Kind::Cancelled);
}
