//! One snapshot is one moment, whatever others do meanwhile. Case numbers are those of the list of
//! edge cases that the source was built against.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

#[path = "mongodb_source/support.rs"]
mod support;
#[path = "mongodb_source/writers.rs"]
mod writers;

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bson::{Document, doc};
use engine::source::mongodb::Snapshot;
use engine_testutils::mongodb::{Flavour, Options as ServerOptions, Server};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use repo_format::manifest::Grade;
use support::{Database, Records, catch_up, context, document, scan};
use writers::{COLLECTIONS as WRITTEN, Sizes, Writers, differences, state_of};

/// So many changes at once that one round of reading them again is not the last.
const BULK: i32 = 1_500;

/// The documents of a snapshot, decoded, by collection.
fn decoded(all: &BTreeMap<String, Records>) -> BTreeMap<String, Vec<Document>> {
    let documents = |records: &Records| {
        let flat = records.values().flatten();
        flat.map(|record| Document::from_reader(&document(record)[..]).unwrap()).collect()
    };
    all.iter().map(|(name, records)| (name.clone(), documents(records))).collect()
}

/// Reads everything with pauses between the scans, in which the writers go on.
async fn read_slowly(
    snapshot: &Snapshot,
    pause: Duration,
    ctx: &engine::Context,
) -> (BTreeMap<String, Records>, u32) {
    let mut all = BTreeMap::new();
    for found in snapshot.collections() {
        let mut records = Records::new();
        for (key, record) in scan(snapshot, found, ctx).await.unwrap() {
            records.entry(key).or_default().push(record);
        }
        all.insert(found.name.clone(), records);
        tokio::time::sleep(pause).await;
    }
    let rounds = catch_up(snapshot, &mut all, ctx).await.unwrap();
    (all, rounds)
}

/// A server that remembers all of a run: random writers outrun what SecantusDB keeps by default, and a
/// snapshot that its oplog does not reach back to fails.
fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    let options = ServerOptions { oplog_max_entries: Some(10_000_000), ..ServerOptions::default() };
    SERVER.get_or_init(|| Server::start(options))
}

/// MG-C04: SecantusDB goes on without a word when its oplog has forgotten changes, where mongod fails. What a
/// snapshot would lack is noticed all the same, by a user who may not read the oplog.
#[tokio::test]
async fn c04_changes_lost_without_a_word_fail_the_run() {
    static FORGETFUL: OnceLock<Server> = OnceLock::new();
    let options = ServerOptions { oplog_max_entries: Some(200), ..ServerOptions::default() };
    let database = Database::on(FORGETFUL.get_or_init(|| Server::start(options))).await;
    if database.server.flavour() == Flavour::Mongod {
        return;
    }
    let numbers = database.db().collection::<Document>("numbers");
    let insert = async |range: std::ops::Range<i32>| {
        numbers.insert_many(range.map(|number| doc! { "_id": number })).await.unwrap();
    };
    let (ctx, _folder) = context();
    insert(0..1_000).await;
    let snapshot = database.snapshot(&ctx).await;
    assert_eq!(support::documents(&snapshot, "numbers", &ctx).await.len(), 1_000);
    // Faster than the stream is read, and far more than the oplog holds.
    for batch in 1..20 {
        insert(batch * 1_000..(batch + 1) * 1_000).await;
    }
    let mut all = BTreeMap::from([("numbers".to_owned(), Records::new())]);
    let error = catch_up(&snapshot, &mut all, &ctx).await.unwrap_err();
    assert_eq!(error.kind(), engine::Kind::SourceChanged);
    assert!(error.message().contains("no longer reaches back"), "{error}");
    assert!(error.help().is_some_and(|help| help.contains("oplog")));

    // A server that forgets as much, but nothing of what happens meanwhile, is snapshotted.
    let snapshot = database.snapshot(&ctx).await;
    let mut read = BTreeMap::new();
    let records = scan(&snapshot, support::collection(&snapshot, "numbers"), &ctx).await.unwrap();
    let records: Records = records.into_iter().map(|(key, record)| (key, vec![record])).collect();
    read.insert("numbers".to_owned(), records);
    insert(20_000..20_050).await;
    catch_up(&snapshot, &mut read, &ctx).await.unwrap();
    assert_eq!(snapshot.evidence().grade, Grade::PointInTime);
    assert_eq!(decoded(&read)["numbers"].len(), 20_050);
}

/// One step of changing definitions: a new collection, one that is replaced, an index, and one that is
/// dropped again. Each is over before the next begins, so that a snapshot holds all of them up to one.
async fn redefine(database: &Database, step: i32) {
    let db = database.db();
    let insert = async |name: &str, document: Document| {
        db.collection::<Document>(name).insert_one(document).await.unwrap();
    };
    insert(&format!("new_{step}"), doc! { "_id": step }).await;
    insert("steps", doc! { "_id": step }).await;
    let out = [doc! { "$group": { "_id": "steps", "n": { "$sum": 1 } } }, doc! { "$out": "summary" }];
    db.collection::<Document>("steps").aggregate(out).await.unwrap();
    let index = mongodb::IndexModel::builder().keys(doc! { format!("step_{step}"): 1 }).build();
    db.collection::<Document>("items").create_index(index).await.unwrap();
    insert("passing", doc! { "_id": step }).await;
    db.collection::<Document>("passing").drop().await.unwrap();
}

/// MG-C05: collections that come, go and are replaced while others are scanned and caught up with do not
/// make the others be scanned again, and the snapshot is the state at one point of the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c05_definitions_that_change_beside_random_writers_leave_one_moment() {
    let database = Database::on(server()).await;
    let (ctx, _folder) = context();
    redefine(&database, 0).await;
    let writing = Writers::start(&database, 5, 2, Sizes { accounts: 100, bulk: 10 }).await;
    let mut snapshot = database.snapshot(&ctx).await;
    let (mut all, mut step) = (BTreeMap::new(), 0);
    let listed = snapshot.collections().to_vec();
    let (mut failure, mut failed) = (None, Vec::new());
    for found in &listed {
        match scan(&snapshot, found, &ctx).await {
            Ok(records) => {
                let records = records.into_iter().map(|(key, record)| (key, vec![record]));
                all.insert(found.name.clone(), records.collect::<Records>());
            }
            Err(error) => {
                failed.push(format!("{}: {error}", found.name));
                failure.get_or_insert(error);
            }
        }
        step += 1;
        redefine(&database, step).await;
    }
    assert!(failure.is_some(), "the collection that was replaced was scanned");
    let (mut scanned, mut renewals) = (Vec::new(), 0);
    loop {
        let failure = match failure.take() {
            Some(failure) => failure,
            None => match catch_up(&snapshot, &mut all, &ctx).await {
                Ok(_) => break,
                Err(error) => error,
            },
        };
        scanned.extend(support::renew(&mut snapshot, &mut all, &failure, &ctx).await);
        renewals += 1;
        if renewals == 1 {
            step += 1;
            redefine(&database, step).await;
        }
    }
    let log = writing.stop().await;
    assert_eq!(snapshot.evidence().grade, Grade::PointInTime);
    assert_eq!(renewals, 2);
    let is_written = |name: &String| WRITTEN.contains(&name.as_str());
    assert!(!scanned.iter().any(is_written), "scanned again: {scanned:?}, after {failed:#?}");
    let items = &support::collection(&snapshot, "items").schema;
    assert!((0..=step).all(|step| items.contains(&format!("step_{step}_1"))), "{items}");

    let (read, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
        decoded(&all).into_iter().partition(|(name, _)| WRITTEN.contains(&name.as_str()));
    assert_eq!(others["steps"].len() as i32, step + 1);
    assert_eq!(others["summary"], [doc! { "_id": "steps", "n": step + 1 }]);
    assert_eq!(others.len() as i32, step + 3, "{:?}", others.keys());
    for step in 0..=step {
        assert_eq!(others[&format!("new_{step}")], [doc! { "_id": step }]);
    }
    let number = usize::try_from(read["counter"][0].get_i64("n").unwrap()).unwrap();
    let state = state_of(&log[..=number]);
    let differing = differences(&state, &read).join("\n");
    assert!(state == read, "not the state after {number} transactions:\n{differing}");
    assert!(number > 0, "nothing was written meanwhile");
}

/// MG-C03: random writers insert, update, replace and delete in several collections and move money
/// between them in transactions. The snapshot equals what the log of their transactions makes of
/// the collections at exactly one point of it.
#[test]
fn c03_a_snapshot_under_random_writers_is_the_state_at_one_point_of_their_log() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut runner = TestRunner::new(Config { cases: 4, failure_persistence: None, ..Config::default() });
    let strategy = (any::<u64>(), 1usize..5, 0u64..250, 20i32..400);
    let most_rounds = AtomicU32::new(0);
    let run = |(seed, writers, pause_ms, accounts): (u64, usize, u64, i32)| {
        runtime.block_on(async {
            let database = Database::on(server()).await;
            let (ctx, _folder) = context();
            let writing = Writers::start(&database, seed, writers, Sizes { accounts, bulk: BULK }).await;
            let snapshot = database.snapshot(&ctx).await;
            let (all, rounds) = read_slowly(&snapshot, Duration::from_millis(pause_ms), &ctx).await;
            let log = writing.stop().await;
            assert_eq!(snapshot.evidence().grade, Grade::PointInTime);
            snapshot.close().await.unwrap();
            let read = decoded(&all);
            // The number of the last transaction in it says which point it must be.
            let number = usize::try_from(read["counter"][0].get_i64("n").unwrap()).unwrap();
            assert!(number < log.len());
            let state = state_of(&log[..=number]);
            let transactions = log.len() - 1;
            let differing = differences(&state, &read).join("\n");
            assert!(
                state == read,
                "not the state after {number} of {transactions} transactions:\n{differing}"
            );
            assert!(rounds > 0, "nothing changed meanwhile, so nothing was tested");
            most_rounds.fetch_max(rounds, Ordering::Relaxed);
        });
        Ok::<_, proptest::test_runner::TestCaseError>(())
    };
    runner.run(&strategy, run).unwrap();
    assert!(most_rounds.into_inner() > 1, "one round was always enough");
}
