//! Comparing a snapshot with what its database holds now, on real servers.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod support;

use bson::{doc, rawdoc};
use engine::Kind;
use engine::diff::{self, Change, ChangeKind, CollectionDiff, Filter, Side, Status, Summary};
use engine::live::{self, Options, Reading};
use engine::prune;
use engine::repo::Snapshot;
use engine::restore;
use engine::rows::{Page, PageRequest};
use engine_testutils::mongodb::{Scope, Server};
use support::{TestRepo, database, request};

const SHOP: &str = "
    CREATE TABLE orders (id bigint PRIMARY KEY, customer text NOT NULL, total numeric, note text);
    INSERT INTO orders SELECT n, 'customer ' || n % 100, n * 1.5, repeat(md5(n::text), 3) FROM generate_series(1, 8000) n;
    CREATE TABLE log (line text);
    INSERT INTO log SELECT 'line ' || n % 50 FROM generate_series(1, 1000) n;
    CREATE TABLE names (name text PRIMARY KEY, picture bytea);
    INSERT INTO names SELECT md5(n::text), decode(repeat(md5(n::text), 1000), 'hex') FROM generate_series(1, 20) n;
    CREATE TABLE gone (id int PRIMARY KEY);
    INSERT INTO gone VALUES (1), (2);
";

async fn compare(test: &TestRepo, from: &Snapshot, url: &str) -> (Reading, Summary) {
    live::compare(&test.repo, from, &request(url), &Options::default(), &test.ctx).await.unwrap()
}

async fn page(
    test: &TestRepo,
    from: &Snapshot,
    to: impl Into<Side<'_>>,
    collection: &str,
    request: &PageRequest,
) -> Page<Change> {
    diff::changes(&test.repo, from, to, collection, &Filter::default(), request).await.unwrap()
}

/// All changes of a collection, read in pages of `limit`.
async fn changes(
    test: &TestRepo,
    from: &Snapshot,
    to: impl Into<Side<'_>> + Copy,
    collection: &str,
    limit: usize,
) -> Vec<Change> {
    let mut request = PageRequest { limit, ..PageRequest::default() };
    let mut all = Vec::new();
    loop {
        let found = page(test, from, to, collection, &request).await;
        all.extend(found.items);
        match found.next_cursor {
            Some(cursor) => request.cursor = Some(cursor),
            None => return all,
        }
    }
}

fn of<'a>(summary: &'a Summary, name: &str) -> &'a CollectionDiff {
    summary.collections.iter().find(|found| found.name == name).unwrap()
}

/// Added, removed, changed, unchanged.
fn counts(summary: &Summary, name: &str) -> (u64, u64, u64, u64) {
    let found = of(summary, name).records;
    (found.added, found.removed, found.changed, found.unchanged)
}

#[track_caller]
fn nothing_differs(reading: &Reading, summary: &Summary, from: &Snapshot) {
    assert_eq!(reading.manifest().catalog_root, from.manifest.catalog_root);
    assert_eq!((reading.objects(), reading.size_bytes()), (0, 0), "all of it is in the repository");
    assert!(summary.collections.iter().all(|found| found.status == Status::Unchanged), "{summary:#?}");
    assert_eq!(summary.not_compared, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_since_a_snapshot_is_shown_exactly_and_pages_stay_as_read() {
    let (cluster, name, url) = database(SHOP).await;
    let test = TestRepo::new().await;
    let from = test.backup(&url).await;
    let (reading, summary) = compare(&test, &from, &url).await;
    nothing_differs(&reading, &summary, &from);
    assert_eq!(summary.other_objects.as_deref(), Some([].as_slice()));
    let stored = test.repo.stored_bytes().await.unwrap();

    let sql = "UPDATE orders SET total = 0 WHERE id IN (7, 4000);
         DELETE FROM orders WHERE id = 8000;
         INSERT INTO orders VALUES (9000, 'new', 1, NULL);
         DELETE FROM log WHERE ctid IN (SELECT ctid FROM log WHERE line = 'line 3' LIMIT 2);
         UPDATE names SET picture = picture || 'x' WHERE name = md5('5');
         DROP TABLE gone;
         CREATE TABLE coupons (code text PRIMARY KEY);
         INSERT INTO coupons SELECT 'c' || n FROM generate_series(1, 30) n;
         CREATE VIEW cheap AS SELECT id FROM orders WHERE total < 10;";
    cluster.execute(&name, sql).await;
    cluster.execute(&name, &format!("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}_reader")).await;
    let (reading, summary) = compare(&test, &from, &url).await;
    assert_eq!(counts(&summary, "public.orders"), (1, 1, 2, 7997));
    assert_eq!(counts(&summary, "public.log"), (0, 2, 0, 998));
    assert_eq!(counts(&summary, "public.names"), (0, 0, 1, 19));
    assert_eq!(counts(&summary, "public.coupons"), (30, 0, 0, 0));
    assert_eq!(of(&summary, "public.coupons").status, Status::Added);
    assert_eq!((of(&summary, "public.gone").status, counts(&summary, "public.gone").1), (Status::Removed, 2));
    let others = summary.other_objects.as_ref().unwrap();
    assert!(others.contains(&"view cheap in schema public added".to_owned()), "{others:?}");
    assert!(reading.objects() < 40, "{} objects were kept", reading.objects());
    assert_eq!(test.repo.stored_bytes().await.unwrap(), stored, "nothing goes into the repository");

    let shown = changes(&test, &from, &reading, "public.orders", 100).await;
    let kinds: Vec<_> = shown.iter().map(|change| (change.kind, change.key.as_str())).collect();
    use ChangeKind::{Added, Changed, Removed};
    assert_eq!(kinds, [(Changed, "7"), (Changed, "4000"), (Removed, "8000"), (Added, "9000")]);
    assert_eq!(shown[0].columns, ["total"]);
    let picture = changes(&test, &from, &reading, "public.names", 1).await;
    assert_eq!(picture[0].windows[0].new_size_bytes, picture[0].windows[0].old_size_bytes + 2);

    // What becomes of the database is nothing to a reading that was made.
    cluster.execute(&name, "UPDATE orders SET note = 'later'; DROP TABLE coupons").await;
    assert_eq!(changes(&test, &from, &reading, "public.orders", 1).await, shown);
    assert_eq!(changes(&test, &from, &reading, "public.coupons", 7).await.len(), 30);
    // The same pages as between snapshots.
    let to = test.backup(&url).await;
    let (again, _) = compare(&test, &from, &url).await;
    assert_eq!(again.manifest().catalog_root, to.manifest.catalog_root);
    let both = [
        changes(&test, &from, &again, "public.orders", 500).await,
        changes(&test, &from, &to, "public.orders", 500).await,
    ];
    assert_eq!(both[0].len(), 8001);
    assert_eq!(both[0], both[1]);
}

/// Tables may be altered between a snapshot and the reading: columns are told as between snapshots, and
/// rows that hold the same are the same.
#[tokio::test(flavor = "multi_thread")]
async fn altered_tables_are_compared_by_the_names_of_their_columns() {
    let (cluster, name, url) = database(SHOP).await;
    let test = TestRepo::new().await;
    let from = test.backup(&url).await;
    let sql = "ALTER TABLE orders ADD COLUMN paid bool;
         UPDATE orders SET paid = true WHERE id = 5;
         ALTER TABLE names DROP COLUMN picture;
         ALTER TABLE gone DROP CONSTRAINT gone_pkey, ADD COLUMN n int;
         ALTER TABLE gone ALTER COLUMN id DROP NOT NULL;
         UPDATE gone SET id = NULL WHERE id = 2;
         CREATE TABLE log2 (extra int, line text); INSERT INTO log2 (line) SELECT line FROM log;
         DROP TABLE log; ALTER TABLE log2 RENAME TO log;";
    cluster.execute(&name, sql).await;
    cluster.execute(&name, &format!("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}_reader")).await;
    let (reading, summary) = compare(&test, &from, &url).await;
    assert_eq!(counts(&summary, "public.orders"), (0, 0, 1, 7999));
    assert_eq!(of(&summary, "public.orders").schema_changes, ["column paid added: boolean"]);
    let changed = changes(&test, &from, &reading, "public.orders", 10).await;
    assert_eq!(
        (changed[0].key.as_str(), changed[0].columns.as_slice()),
        ("5", ["paid".to_owned()].as_slice())
    );
    assert_eq!(counts(&summary, "public.names"), (0, 0, 20, 0));
    assert_eq!(changes(&test, &from, &reading, "public.names", 6).await.len(), 20);
    // The same rows in a table with its columns in another order.
    assert_eq!(counts(&summary, "public.log"), (0, 0, 0, 1000));
    let rekeyed = of(&summary, "public.gone").rekeyed.as_ref().unwrap();
    assert!(rekeyed.contains("(id integer)"), "{rekeyed}");
}

/// What the database holds may be in the repository for the sake of another snapshot only. When that one
/// is deleted and pruned, what it held goes, and the pages of the comparison stay.
#[tokio::test(flavor = "multi_thread")]
async fn a_prune_takes_nothing_from_a_reading() {
    let (cluster, name, url) = database(SHOP).await;
    let test = TestRepo::new().await;
    let from = test.backup(&url).await;
    let sql = "UPDATE orders SET note = md5(note) WHERE id > 2000;
         UPDATE names SET picture = decode(repeat(md5('new ' || name), 1500), 'hex');
         CREATE TABLE coupons (code text PRIMARY KEY, scan bytea);
         INSERT INTO coupons SELECT 'c' || n, decode(repeat(md5(n::text), 2000), 'hex') FROM generate_series(1, 30) n;";
    cluster.execute(&name, sql).await;
    cluster.execute(&name, &format!("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}_reader")).await;
    let newest = test.backup(&url).await;
    let (reading, _) = compare(&test, &from, &url).await;
    assert_eq!(reading.manifest().catalog_root, newest.manifest.catalog_root);
    let tables = ["public.orders", "public.names", "public.coupons"];
    let mut before = Vec::new();
    for table in tables {
        before.push(changes(&test, &from, &reading, table, 1000).await);
    }
    assert_eq!(before.iter().map(Vec::len).collect::<Vec<_>>(), [6000, 20, 30]);

    test.repo.delete_snapshot(newest.id, test.ctx.clock.as_ref()).await.unwrap();
    let pruned = prune::run(&test.repo, &prune::Options::default(), &test.ctx).await.unwrap();
    assert!(pruned.objects_removed > 50, "{pruned:?}");
    assert!(!pruned.is_waiting, "a reading that was made holds up no prune");
    let (all, first) = (Filter::default(), PageRequest::default());
    let gone = diff::changes(&test.repo, &from, &newest, tables[0], &all, &first);
    assert_eq!(gone.await.unwrap_err().kind(), Kind::Damaged, "what the deleted snapshot had is gone");
    for (table, before) in tables.into_iter().zip(before) {
        assert!(changes(&test, &from, &reading, table, 700).await == before, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_named_and_too_much_is_refused() {
    let (cluster, name, _) = database(SHOP).await;
    let grants = format!(
        "CREATE ROLE {name}_some LOGIN PASSWORD 'some'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}_some"
    );
    cluster.execute(&name, &grants).await;
    let url = cluster.url(&format!("{name}_some"), "some", &name);
    let test = TestRepo::new().await;
    let from = test.backup(&url).await;
    cluster.execute(&name, &format!("REVOKE SELECT ON log FROM {name}_some; DELETE FROM gone")).await;
    let (reading, summary) = compare(&test, &from, &url).await;
    assert_eq!(summary.not_compared, ["public.log"]);
    assert!(
        reading.manifest().missing[0].reason.contains("GRANT SELECT"),
        "{:?}",
        reading.manifest().missing
    );
    assert!(summary.collections.iter().all(|found| found.name != "public.log"), "{summary:#?}");
    assert_eq!(counts(&summary, "public.gone"), (0, 2, 0, 0));
    let (all, first) = (Filter::default(), PageRequest::default());
    let refused = diff::changes(&test.repo, &from, &reading, "public.log", &all, &first);
    assert_eq!(refused.await.unwrap_err().kind(), Kind::Unsupported);

    cluster.execute(&name, "UPDATE orders SET note = md5(note) || note").await;
    let little = Options { most_bytes: 100 << 10 };
    let error = live::compare(&test.repo, &from, &request(&url), &little, &test.ctx).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(error.help().unwrap().starts_with("Take a snapshot"), "{error:?}");

    let elsewhere = request("mongodb://u:p@127.0.0.1:1/d");
    let error = live::compare(&test.repo, &from, &elsewhere, &little, &test.ctx).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    // No session is left behind that a prune would wait for.
    assert_eq!(test.storage().store("project").unwrap().list("sessions/").await.unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_compared_with_what_the_server_holds_now() {
    let server = Server::shared();
    let name = server.fresh_database("live");
    let order =
        |n: i32| rawdoc! { "_id": n, "number": format!("N{n}"), "lines": [{ "sku": "bag", "n": 1i64 }] };
    server.insert_raw(&format!("{name}.orders"), &(0..3_000).map(order).collect::<Vec<_>>()).await;
    server.command(&name, doc! { "create": "log", "capped": true, "size": 1 << 20 }).await;
    server.insert_raw(&format!("{name}.log"), &[3, 1, 2].map(|n| rawdoc! { "_id": n })).await;
    server.command(&name, doc! { "create": "top", "viewOn": "orders", "pipeline": [] }).await;
    let url = server.create_read_only_user(Scope::Database(&name), &format!("{name}_reader")).await;
    let test = TestRepo::new().await;
    let from = test.backup(&url).await;
    let (reading, summary) = compare(&test, &from, &url).await;
    nothing_differs(&reading, &summary, &from);

    let update = doc! { "update": "orders", "updates": [
    { "q": { "_id": 7 }, "u": { "$set": { "lines.0.n": 2i64 } } } ] };
    server.command(&name, update).await;
    let delete = doc! { "delete": "orders", "deletes": [{ "q": { "_id": 2_999 }, "limit": 1 }] };
    server.command(&name, delete).await;
    server.insert_raw(&format!("{name}.orders"), &[order(5_000)]).await;
    server.insert_raw(&format!("{name}.coupons"), &[rawdoc! { "_id": "c1" }]).await;
    let (reading, summary) = compare(&test, &from, &url).await;
    let orders = format!("{name}.orders");
    assert_eq!(counts(&summary, &orders), (1, 1, 1, 2_998));
    assert_eq!(of(&summary, &format!("{name}.coupons")).status, Status::Added);
    for same in ["log", "top"] {
        assert_eq!(of(&summary, &format!("{name}.{same}")).status, Status::Unchanged, "{same}");
    }
    let shown = changes(&test, &from, &reading, &orders, 2).await;
    let kinds: Vec<_> = shown.iter().map(|change| (change.kind, change.key.as_str())).collect();
    assert_eq!(
        kinds,
        [(ChangeKind::Changed, "7"), (ChangeKind::Removed, "2999"), (ChangeKind::Added, "5000")]
    );
    let patch = shown[0].patch.as_ref().unwrap();
    assert_eq!((patch.len(), shown[0].columns.as_slice()), (1, ["lines".to_owned()].as_slice()));
}

/// PG-S11: a value that the server cannot print costs its own table, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_with_a_value_that_cannot_be_printed_is_named_and_the_others_are_read() {
    let (cluster, name, url) = database(
        "CREATE TABLE big (id int PRIMARY KEY, b bytea); CREATE TABLE small (id int PRIMARY KEY);
         INSERT INTO small SELECT generate_series(1, 1000)",
    )
    .await;
    let test = TestRepo::new().await;
    let whole = test.backup(&url).await;
    // Where the server has it, a quick compression.
    let long = "DO $$BEGIN ALTER TABLE big ALTER b SET COMPRESSION lz4; EXCEPTION WHEN OTHERS THEN END$$;
         INSERT INTO big VALUES (1, 'x'); INSERT INTO big SELECT 42, convert_to(repeat('x', 600000000), 'UTF8')";
    cluster.execute(&name, long).await;
    let snapshot = test.backup(&url).await;
    let [missing] = snapshot.manifest.missing.as_slice() else { panic!("{:?}", snapshot.manifest.missing) };
    assert_eq!(missing.name, "public.big");
    let reason = "the row with key (42) is larger than the server can print in one piece. PostgreSQL prints at most 1 GB a row";
    assert!(missing.reason.starts_with(reason), "{missing:?}");
    assert_eq!((snapshot.manifest.collections, snapshot.manifest.records), (1, 1000));
    assert!(snapshot.manifest.schema.is_some());

    let (_, summary) = compare(&test, &whole, &url).await;
    assert_eq!(summary.not_compared, ["public.big"]);
    assert_eq!(counts(&summary, "public.small"), (0, 0, 0, 1000));

    let proof = restore::prove(&test.repo, &whole, &url, &test.ctx).await.unwrap();
    let of_big = proof.collections.iter().find(|found| found.name == "public.big").unwrap();
    let told = format!("cannot be read: {reason}");
    assert!(!proof.matches && of_big.examples[0].starts_with(&told), "{proof:#?}");
    let of_small = proof.collections.iter().find(|found| found.name == "public.small").unwrap();
    assert!(of_small.matches, "{proof:#?}");
}
