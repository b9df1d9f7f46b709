//! One suite for every store, and the repository over each.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod support;

use bytes::Bytes;
use engine::backup;
use engine::repo::{Repository, Session, UnlockKey};
use engine::source::Consistency;
use engine::store::{Created, Storage, Store};
use engine::verify::{self, Mode};
use engine::{Context, Kind};
use engine_testutils::store::{s3, seaweedfs};
use repo_format::manifest::Trigger;
use support::storage;

async fn conforms(store: Store) {
    assert_eq!(store.list("packs/").await.unwrap(), []);
    assert_eq!(store.read("packs/a").await.unwrap_err().kind(), Kind::NotFound);
    store.delete("packs/a").await.unwrap();

    assert_eq!(store.create("packs/a", Bytes::from_static(b"first")).await.unwrap(), Created::New);
    assert_eq!(store.create("packs/a", Bytes::from_static(b"second")).await.unwrap(), Created::Taken);
    assert_eq!(store.read("packs/a").await.unwrap(), "first");
    assert_eq!(store.read_range("packs/a", 1, 3).await.unwrap(), "irs");
    assert_eq!(store.read_range("packs/a", 3, 10).await.unwrap_err().kind(), Kind::Damaged);
    assert_eq!(store.create("packs/b", Bytes::new()).await.unwrap(), Created::New);
    assert_eq!(store.create("config", Bytes::from_static(b"c")).await.unwrap(), Created::New);
    let listed: Vec<_> =
        store.list("packs/").await.unwrap().into_iter().map(|file| (file.name, file.size_bytes)).collect();
    assert_eq!(listed, [("packs/a".to_owned(), 5), ("packs/b".to_owned(), 0)]);

    store.delete("packs/b").await.unwrap();
    assert_eq!(store.list("packs/").await.unwrap().len(), 1);
    store.delete_all().await.unwrap();
    assert_eq!(store.read("config").await.unwrap_err().kind(), Kind::NotFound);
    assert_eq!(store.list("packs/").await.unwrap(), []);
}

/// Of many writers of one name exactly one wins, and what is there is what it wrote.
async fn one_writer_wins(store: Store, rounds: usize) {
    for round in 0..rounds {
        let name = format!("snapshots/{round}");
        let writers = (0..8u8).map(|writer| {
            let (store, name) = (store.clone(), name.clone());
            tokio::spawn(async move { store.create(&name, Bytes::from(vec![writer; 10_000])).await.unwrap() })
        });
        let outcomes = futures::future::join_all(writers).await;
        let winners: Vec<u8> =
            (0..8u8).filter(|&writer| matches!(outcomes[writer as usize], Ok(Created::New))).collect();
        assert_eq!(winners.len(), 1, "round {round}");
        assert_eq!(store.read(&name).await.unwrap(), vec![winners[0]; 10_000]);
    }
}

fn folder() -> (tempfile::TempDir, Storage) {
    let folder = tempfile::tempdir().unwrap();
    let storage = Storage::parse(&format!("fs://{}/below", folder.path().display())).unwrap();
    (folder, storage)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_conforms() {
    let (_folder, storage) = folder();
    conforms(storage.store("a").unwrap()).await;
    one_writer_wins(storage.store("b").unwrap(), 20).await;
    storage.check().await.unwrap();
}

/// A folder that is gone, as a mount may be, is not made anew, neither by a look at it nor by a backup.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_folder_stays_lost() {
    let (parent, storage) = folder();
    storage.prepare().await.unwrap();
    let ctx = Context::new(parent.path().join("scratch"));
    let (key, cache) = (UnlockKey::new([7; 32]), parent.path().join("cache"));
    let repo = Repository::create(storage.store("p").unwrap(), &key, &cache, &ctx).await.unwrap();
    let (here, away) = (parent.path().join("below"), parent.path().join("away"));
    std::fs::rename(&here, &away).unwrap();
    assert_eq!(storage.check().await.unwrap_err().kind(), Kind::Storage);
    let request = backup::Request {
        source_id: "s".to_owned(),
        source_name: "shop".to_owned(),
        url: "postgres://reader:secret@127.0.0.1:1/shop".to_owned(),
        consistency: Consistency::PointInTime,
        trigger: Trigger::Manual,
        note: None,
    };
    let error = backup::run(&repo, &request, &ctx).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Storage);
    assert!(error.message().contains("config is gone"), "{error}");
    assert!(!here.exists());

    std::fs::rename(&away, &here).unwrap();
    storage.check().await.unwrap();
    assert_eq!(backup::run(&repo, &request, &ctx).await.unwrap_err().kind(), Kind::Unreachable);
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_conforms() {
    let storage = Storage::memory().unwrap();
    conforms(storage.store("a").unwrap()).await;
    one_writer_wins(storage.store("b").unwrap(), 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_conforms() {
    let server = s3::Server::start().await;
    let storage = storage(&server.url("a/b"));
    storage.check().await.unwrap();
    conforms(storage.store("a").unwrap()).await;
    large_files_are_created_once(&storage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn seaweedfs_conforms() {
    let storage = storage(&seaweedfs::Server::shared().fresh_url());
    storage.check().await.unwrap();
    conforms(storage.store("a").unwrap()).await;
    // Each waits for the others' locks: a race takes seconds.
    one_writer_wins(storage.store("b").unwrap(), 3).await;
    large_files_are_created_once(&storage).await;
}

/// A pack is sent in parts, under the same condition as everything else.
async fn large_files_are_created_once(storage: &Storage) {
    let store = storage.store("large").unwrap();
    let content = |byte: u8| Bytes::from(vec![byte; 20 << 20]);
    let before = storage.requests();
    assert_eq!(store.create("packs/a", content(1)).await.unwrap(), Created::New);
    // One to begin, three parts, one to end.
    assert_eq!(storage.requests().writes - before.writes, 5);
    assert_eq!(store.create("packs/a", content(2)).await.unwrap(), Created::Taken);
    assert_eq!(store.read_range("packs/a", 20 << 19, 3).await.unwrap(), [1, 1, 1].as_slice());
    assert_eq!(store.list("packs/").await.unwrap()[0].size_bytes, 20 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn repositories_are_found_by_their_config() {
    let server = s3::Server::start().await;
    for storage in [folder().1, Storage::memory().unwrap(), storage(&server.url("below"))] {
        assert!(storage.repositories().await.unwrap().is_empty());
        for name in ["b", "a"] {
            storage.store(name).unwrap().create("config", Bytes::from_static(b"c")).await.unwrap();
        }
        storage.store("half").unwrap().create("slots/x", Bytes::from_static(b"s")).await.unwrap();
        assert_eq!(storage.repositories().await.unwrap(), ["a", "b"]);
    }
}

#[tokio::test]
async fn leftovers_of_a_killed_writer_are_not_listed() {
    let (folder, storage) = folder();
    let store = storage.store("a").unwrap();
    store.create("packs/a", Bytes::from_static(b"a")).await.unwrap();
    std::fs::write(folder.path().join("below/a/packs/.new-0123"), b"half a pack").unwrap();
    assert_eq!(store.list("packs/").await.unwrap().len(), 1);
}

#[test]
fn storage_urls_say_what_is_wrong_with_them() {
    for (wrong, why) in [
        ("fs://relative", "absolute"),
        ("/just/a/path", "no URL"),
        ("s3://", "neither"),
        ("s3://bucket?colour=red", "colour"),
        ("s3://bucket?region=a&exclusive=yes", "exclusive"),
        ("http://bucket", "neither"),
        ("s3://bucket?region=a&endpoint=nowhere", "endpoint \"nowhere\" is no URL"),
        ("s3://bucket?region=a&endpoint=localhost:9000", "is no URL"),
        ("s3://bucket?region=a&endpoint=", "is no URL"),
    ] {
        let error = Storage::parse(wrong).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.message().contains(why), "{wrong}: {error}");
        assert!(error.help().is_some());
    }
    assert!(Storage::parse("s3://bucket/a/b?region=eu-central-1&endpoint=http://127.0.0.1:1").is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_opens_with_its_keys_only() {
    for storage in [folder().1, Storage::memory().unwrap()] {
        let scratch = tempfile::tempdir().unwrap();
        let ctx = Context::new(scratch.path());
        let (key, cache) = (UnlockKey::new([1; 32]), |name: &str| scratch.path().join(name));
        let store = storage.store("p").unwrap();
        let absent = Repository::open(store.clone(), &key, &cache("0"), &ctx).await.unwrap_err();
        assert_eq!(absent.kind(), Kind::NotFound);
        let made = Repository::create(store.clone(), &key, &cache("1"), &ctx).await.unwrap();
        let again = Repository::create(store.clone(), &key, &cache("2"), &ctx).await.unwrap_err();
        assert_eq!(again.kind(), Kind::Conflict);

        let recovery = made.export_recovery_key().await.unwrap();
        let wrong = Repository::open(store.clone(), &UnlockKey::new([2; 32]), &cache("3"), &ctx).await;
        assert_eq!(wrong.unwrap_err().kind(), Kind::Locked);
        let recovery = UnlockKey::from_recovery_text(&recovery).unwrap();
        let opened = Repository::open(store.clone(), &recovery, &cache("4"), &ctx).await.unwrap();
        assert_eq!(opened.id(), made.id());

        // A session leaves nothing behind once it is closed.
        let session = Session::begin(&opened, &ctx).await.unwrap();
        assert_eq!(store.list("sessions/").await.unwrap().len(), 1);
        session.close().await;
        assert_eq!(store.list("sessions/").await.unwrap(), []);
        // Nor when whoever waited for it went away.
        drop(Session::begin(&opened, &ctx).await.unwrap());
        let begun = std::time::Instant::now();
        while !store.list("sessions/").await.unwrap().is_empty() {
            assert!(begun.elapsed() < std::time::Duration::from_secs(60), "its file stays");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_slot_or_config_is_noticed_and_one_config_is_enough() {
    let (folder, storage) = folder();
    let scratch = tempfile::tempdir().unwrap();
    let ctx = Context::new(scratch.path());
    let (key, cache) = (UnlockKey::new([1; 32]), scratch.path().join("c"));
    let store = storage.store("p").unwrap();
    drop(Repository::create(store.clone(), &key, &cache, &ctx).await.unwrap());
    let path = |name: &str| folder.path().join("below/p").join(name);
    let slot = path(&store.list("slots/").await.unwrap().remove(0).name);
    let configs = [path("config"), path("config.copy")];
    let original = std::fs::read(&configs[0]).unwrap();
    assert_eq!(std::fs::read(&configs[1]).unwrap(), original);
    let changed = |original: &[u8], position: usize| {
        let mut changed = original.to_vec();
        changed[position] ^= 0x10;
        changed
    };
    let open = || Repository::open(store.clone(), &key, &cache, &ctx);
    let whole = std::fs::read(&slot).unwrap();
    for position in (0..whole.len()).step_by(7) {
        std::fs::write(&slot, changed(&whole, position)).unwrap();
        assert!(open().await.is_err(), "slot with byte {position} changed");
    }
    std::fs::write(&slot, whole).unwrap();
    for position in (0..original.len()).step_by(7) {
        configs.iter().for_each(|path| std::fs::write(path, changed(&original, position)).unwrap());
        assert!(open().await.is_err(), "both configs with byte {position} changed");
        for lost in &configs {
            configs.iter().for_each(|path| std::fs::write(path, &original).unwrap());
            std::fs::write(lost, changed(&original, position)).unwrap();
            mended(&open().await.unwrap(), lost, &original, &ctx).await;
        }
    }
    for lost in &configs {
        std::fs::remove_file(lost).unwrap();
        assert!(storage.holds_repository("p").await.unwrap());
        let made = Repository::create(store.clone(), &key, &scratch.path().join("other"), &ctx).await;
        assert_eq!(made.unwrap_err().kind(), Kind::Conflict);
        if *lost == configs[0] {
            mended(&open().await.unwrap(), lost, &original, &ctx).await;
        } else {
            // As when its maker was cut off before: nothing to tell.
            assert_eq!(damaged(&open().await.unwrap(), &ctx).await, [""; 0]);
            assert_eq!(std::fs::read(lost).unwrap(), original);
        }
    }
    configs.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    assert_eq!(open().await.unwrap_err().kind(), Kind::NotFound);
}

/// A verification names the file that is lost, and makes it what it was.
async fn mended(repo: &Repository, lost: &std::path::Path, original: &[u8], ctx: &Context) {
    assert_eq!(damaged(repo, ctx).await, [lost.file_name().unwrap().to_str().unwrap()]);
    assert_eq!(std::fs::read(lost).unwrap(), original);
    assert_eq!(damaged(repo, ctx).await, [""; 0]);
}

async fn damaged(repo: &Repository, ctx: &Context) -> Vec<String> {
    let report = verify::run(repo, Mode::Structure, ctx).await.unwrap();
    report.damaged.into_iter().map(|damage| damage.object).collect()
}
