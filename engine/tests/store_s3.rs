//! What is particular to S3: stores that are refused, one server only, answers that are lost, and
//! requests counted.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use engine::repo::{Repository, UnlockKey};
use engine::store::{Created, Requests, Storage};
use engine::{Context, Kind};
use engine_testutils::store::s3::{Fault, Server};
use engine_testutils::store::{s3, seaweedfs};
use support::{TestRepo, database, storage};

/// What a repository is made with and opened from.
struct Opener {
    scratch: tempfile::TempDir,
    ctx: Context,
    caches: AtomicUsize,
}

impl Opener {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        Self { ctx: Context::new(scratch.path()), scratch, caches: AtomicUsize::new(0) }
    }

    fn cache(&self) -> std::path::PathBuf {
        self.scratch.path().join(self.caches.fetch_add(1, Ordering::Relaxed).to_string())
    }

    async fn create(&self, storage: &Storage) -> engine::Result<Repository> {
        let key = UnlockKey::new([1; 32]);
        Repository::create(storage.store("p").unwrap(), &key, &self.cache(), &self.ctx).await
    }

    async fn open(&self, storage: &Storage) -> engine::Result<Repository> {
        let key = UnlockKey::new([1; 32]);
        Repository::open(storage.store("p").unwrap(), &key, &self.cache(), &self.ctx).await
    }
}

fn since(storage: &Storage, before: Requests) -> Requests {
    let now = storage.requests();
    Requests {
        writes: now.writes - before.writes,
        reads: now.reads - before.reads,
        lists: now.lists - before.lists,
        deletes: now.deletes - before.deletes,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_keeps_writers_apart_passes_once() {
    let storage = storage(&seaweedfs::Server::shared().fresh_url());
    let opener = Opener::new();
    opener.create(&storage).await.unwrap();
    let left = storage.store("p").unwrap();
    let left: Vec<String> = left.list("").await.unwrap().into_iter().map(|file| file.name).collect();
    assert_eq!(left, ["config", "config.copy"], "of the probe nothing stays");

    let before = storage.requests();
    let key = UnlockKey::new([1; 32]);
    let second = storage.store("q").unwrap();
    Repository::create(second, &key, &opener.cache(), &opener.ctx).await.unwrap();
    // Is there a config, or its copy? A slot, the config, the copy. No second probe.
    assert_eq!(since(&storage, before), Requests { writes: 3, reads: 2, lists: 0, deletes: 0 });
}

/// What a backup costs that finds nothing new: a fixed number of requests, however many objects
/// there are.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_what_did_not_change_costs_a_few_requests() {
    let mut costs = Vec::new();
    for rows in [100, 40_000] {
        let sql = format!(
            "CREATE TABLE t (id int PRIMARY KEY, v text);
             INSERT INTO t SELECT n, md5(n::text) || md5((n + 1)::text) FROM generate_series(1, {rows}) n"
        );
        let (_, _, url) = database(&sql).await;
        let test = TestRepo::in_storage(storage(&seaweedfs::Server::shared().fresh_url())).await;
        let first = test.backup(&url).await;
        let before = test.storage().requests();
        let second = test.backup(&url).await;
        assert_eq!(first.manifest.catalog_root, second.manifest.catalog_root);
        costs.push(since(test.storage(), before));
    }
    assert_eq!(costs[0], costs[1], "the cost does not depend on the number of objects");
    // Written: the session, the manifest, its first mark. Listed: epochs; prunes, before and after what is between
    // them; suspects, index, packs; snapshots and their marks. Deleted: the session.
    assert_eq!((costs[0].writes, costs[0].deletes), (3, 1), "{costs:?}");
    assert_eq!(costs[0].lists, 8, "{costs:?}");
    assert!(costs[0].reads <= 8, "{costs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_ignores_conditions_is_refused() {
    let server = Server::start().await;
    let storage = storage(&server.url("x"));
    server.fail(|_| Fault::IgnoreCondition);
    let refused = Opener::new().create(&storage).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Unsupported);
    assert!(refused.message().contains("keep several writers apart"), "{refused}");
    assert!(refused.help().unwrap().contains("exclusive=true"));
    server.heal();
    let left = storage.store("p").unwrap();
    assert!(left.list("slots/").await.unwrap().is_empty(), "a refused store holds no keys");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_listings_lag_is_refused() {
    let server = Server::start().await;
    server.fail(|seen| if seen.is_listing() { Fault::EmptyListing } else { Fault::None });
    let refused = Opener::new().create(&storage(&server.url("x"))).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Unsupported);
}

/// `s3s-fs` checks and renames in two steps, so the probe would refuse it.
#[tokio::test(flavor = "multi_thread")]
async fn an_exclusive_repository_has_one_server() {
    let server = Server::start().await;
    let url = format!("{}&exclusive=true", server.url("x"));
    let (opener, first) = (Opener::new(), storage(&url).owned_by([1; 16]));
    opener.create(&first).await.unwrap();
    opener.open(&first).await.unwrap();

    let other = opener.open(&storage(&url).owned_by([2; 16])).await.unwrap_err();
    assert_eq!(other.kind(), Kind::InUse);
    assert!(other.message().contains("another server"), "{other}");
    let shared = opener.open(&storage(&server.url("x"))).await.unwrap_err();
    assert!(shared.help().unwrap().contains("exclusive=true"));

    // As the help says: the other one is stopped, and its claim deleted.
    let store = first.store("p").unwrap();
    let claim = store.list("owners/").await.unwrap().remove(0).name;
    assert!(other.help().unwrap().contains(&claim));
    store.delete(&claim).await.unwrap();
    opener.open(&storage(&url).owned_by([2; 16])).await.unwrap();
    assert_eq!(opener.open(&first).await.unwrap_err().kind(), Kind::InUse);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_repository_is_not_opened_as_exclusive() {
    let url = seaweedfs::Server::shared().fresh_url();
    let opener = Opener::new();
    opener.create(&storage(&url)).await.unwrap();
    let refused = opener.open(&storage(&format!("{url}&exclusive=true"))).await.unwrap_err();
    assert!(refused.help().unwrap().contains("Take exclusive=true out"));
}

#[tokio::test(flavor = "multi_thread")]
async fn in_one_process_an_exclusive_store_keeps_writers_apart() {
    let server = s3::Server::start().await;
    let store = storage(&format!("{}&exclusive=true", server.url("x"))).store("p").unwrap();
    let writers = (0..8u8).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move { store.create("name", Bytes::from(vec![writer; 100])).await.unwrap() })
    });
    let outcomes = futures::future::join_all(writers).await;
    let winners: Vec<_> = (0..8u8).filter(|&n| matches!(outcomes[n as usize], Ok(Created::New))).collect();
    assert_eq!(winners.len(), 1);
    assert_eq!(store.read("name").await.unwrap(), vec![winners[0]; 100]);
}

/// The request succeeded and nobody was told. Its repetition finds the name taken: by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_creation_whose_answer_is_lost_is_not_taken_for_somebody_elses() {
    let server = Server::start().await;
    let store = storage(&server.url("x")).store("p").unwrap();
    for (name, bytes) in [("small", 100), ("large", 20 << 20)] {
        let content = Bytes::from(vec![7; bytes]);
        for lost in 0..5 {
            let name = format!("{name}-{lost}");
            let seen = Arc::new(AtomicUsize::new(0));
            server.fail(move |request| {
                let is_write = request.method != "GET";
                if is_write && seen.fetch_add(1, Ordering::Relaxed) == lost {
                    Fault::LoseAnswer
                } else {
                    Fault::None
                }
            });
            let created = store.create(&name, content.clone()).await.unwrap();
            assert_eq!(created, Created::New, "{name}");
            server.heal();
            assert_eq!(store.read(&name).await.unwrap(), content);
            let other = store.create(&name, Bytes::from(vec![8; bytes])).await.unwrap();
            assert_eq!(other, Created::Taken, "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_recovers_is_not_noticed_and_one_that_does_not_is_named() {
    let server = Server::start().await;
    let storage = storage(&server.url("x"));
    let store = storage.store("p").unwrap();
    store.create("packs/a", Bytes::from(vec![7; 100_000])).await.unwrap();
    let faults = [
        Fault::Status(500),
        Fault::Status(503),
        Fault::Cut,
        Fault::LoseAnswer,
        Fault::CutAnswer(10),
        Fault::Slow(Duration::from_millis(200)),
    ];
    for (at, fault) in faults.into_iter().enumerate() {
        // Every second request.
        let seen = AtomicUsize::new(0);
        server.fail(
            move |_| {
                if seen.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) { fault } else { Fault::None }
            },
        );
        assert_eq!(store.read("packs/a").await.unwrap().len(), 100_000, "{fault:?}");
        assert_eq!(store.read_range("packs/a", 50_000, 1000).await.unwrap().len(), 1000, "{fault:?}");
        assert_eq!(store.list("packs/").await.unwrap().len(), 1 + at, "{fault:?}");
        let name = format!("packs/b{at}");
        assert_eq!(store.create(&name, Bytes::from_static(b"b")).await.unwrap(), Created::New, "{fault:?}");
        server.heal();
    }
    // An answer that is cut after some bytes is gone on with from there, so it takes one without any.
    server.fail(|_| Fault::CutAnswer(0));
    assert_eq!(store.read("packs/a").await.unwrap_err().kind(), Kind::Storage);
    for fault in [Fault::Status(500), Fault::Status(503), Fault::Cut] {
        server.fail(move |_| fault);
        for failed in [
            store.read("packs/a").await.unwrap_err(),
            store.list("packs/").await.unwrap_err(),
            storage.check().await.unwrap_err(),
            store.create("packs/c", Bytes::from_static(b"c")).await.unwrap_err(),
        ] {
            assert_eq!(failed.kind(), Kind::Storage, "{fault:?}: {failed}");
            assert!(!failed.message().ends_with(": "), "{fault:?}: {failed}");
            assert!(failed.help().is_some_and(|help| help.contains("ry again")), "{fault:?}: {failed}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_used_says_why() {
    let server = Server::start().await;
    server.fail(|_| Fault::Status(403));
    let denied = storage(&server.url("x")).check().await.unwrap_err();
    assert!(denied.message().contains("credentials are refused"), "{denied}");
    server.heal();
    let absent = storage(&server.url("x").replace("s3://dbsnap", "s3://absent")).check().await.unwrap_err();
    assert!(absent.message().contains("no such bucket"), "{absent}");
    let unreachable =
        storage("s3://dbsnap/x?region=us-east-1&endpoint=http://127.0.0.1:1").check().await.unwrap_err();
    assert!(unreachable.message().contains("no connection"), "{unreachable}");
    for error in [denied, absent, unreachable] {
        assert_eq!(error.kind(), Kind::Storage);
        assert!(error.help().is_some());
    }
}
