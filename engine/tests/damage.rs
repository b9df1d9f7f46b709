//! What verify says of a damaged repository, and what still works.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::diff::{self, Status};
use engine::monitor::{Monitor, Progress};
use engine::rows::PageRequest;
use engine::verify::{self, Mode};
use engine::{Context, Kind, history, prune};
use support::{TestRepo, database};

const TABLES: &str = "
    CREATE TABLE numbers (id int PRIMARY KEY, body text);
    INSERT INTO numbers SELECT n, md5(n::text) FROM generate_series(1, 20000) n;
    CREATE TABLE pictures (id int PRIMARY KEY, body bytea);
    INSERT INTO pictures SELECT n, (SELECT string_agg(sha512((n * 1000 + m)::text::bytea), '') FROM generate_series(1, 3000) m)
        FROM generate_series(1, 5) n;
";

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort_by_key(|path| std::fs::metadata(path).unwrap().len());
    files
}

/// The largest pack holds leaves and pieces; the others, nodes and lists.
fn data_pack(test: &TestRepo) -> PathBuf {
    files(&test.path().join("packs")).pop().unwrap()
}

fn flip(path: &Path, position: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[position] ^= 0x04;
    std::fs::write(path, bytes).unwrap();
}

async fn damaged(test: &TestRepo, mode: Mode) -> Vec<verify::Damage> {
    verify::run(&test.repo, mode, &test.ctx).await.unwrap().damaged
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_is_found_and_named() {
    let (_, _, url) = database(TABLES).await;
    let test = TestRepo::in_folder().await;
    let snapshot = test.backup(&url).await;
    assert_eq!(damaged(&test, Mode::Full).await, []);
    let pack = data_pack(&test);
    let len = std::fs::metadata(&pack).unwrap().len() as usize;
    let original = std::fs::read(&pack).unwrap();
    let mut hurt = 0;
    for position in (200..len).step_by(len / 40) {
        flip(&pack, position);
        let found = damaged(&test, Mode::Full).await;
        // A bit in the padding between objects and directory hurts nobody.
        hurt += usize::from(!found.is_empty());
        for damage in &found {
            assert_eq!(damage.snapshots, [snapshot.id.to_string()], "{damage:?}");
            if damage.collection.is_empty() {
                assert!(
                    damage.key_range.contains("schema") || damage.key_range.contains("collections"),
                    "{damage:?}"
                );
            } else {
                assert!(damage.collection.starts_with("public."), "{damage:?}");
                assert!(!damage.key_range.is_empty(), "{damage:?}");
            }
        }
        std::fs::write(&pack, &original).unwrap();
    }
    assert!(hurt >= 35, "only {hurt} of 40 flips were found");
    assert_eq!(damaged(&test, Mode::Full).await, []);
}

/// A sample of the same objects each time would never find what is wrong with the others.
#[tokio::test(flavor = "multi_thread")]
async fn twenty_samples_read_every_object_once() {
    let (_, _, url) = database(TABLES).await;
    let test = TestRepo::in_folder().await;
    test.backup(&url).await;
    let structure = verified(&test, Mode::Structure).await.objects;
    let full = verified(&test, Mode::Full).await.objects;
    let mut sampled = Vec::new();
    for turn in 40..60 {
        sampled.push(verified(&test, Mode::Sample { turn }).await.objects - structure);
    }
    assert_eq!(sampled.iter().sum::<u64>(), full - structure, "{sampled:?}");
    assert!(sampled.iter().filter(|objects| **objects > 0).count() > 10, "{sampled:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_pack_is_found_by_every_mode() {
    let (_, _, url) = database(TABLES).await;
    let test = TestRepo::in_folder().await;
    let snapshot = test.backup(&url).await;
    let pack = data_pack(&test);
    let kept = std::fs::read(&pack).unwrap();
    std::fs::remove_file(&pack).unwrap();
    for mode in [Mode::Structure, Mode::Sample { turn: 0 }, Mode::Full] {
        let found = damaged(&test, mode).await;
        assert!(found.iter().any(|damage| damage.reason.contains("missing")), "{mode:?}: {found:?}");
    }
    let page = PageRequest::default();
    let read = history::records(&test.repo, &snapshot, "public.numbers", &page).await;
    assert_eq!(read.unwrap_err().kind(), Kind::Damaged);

    // Cut short: what lies behind the cut is named.
    std::fs::write(&pack, &kept[..kept.len() / 2]).unwrap();
    let found = damaged(&test, Mode::Structure).await;
    assert!(found.iter().all(|damage| damage.reason.contains("shorter")), "{found:?}");
    assert!(!found.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_manifest_or_index_hurts_no_other_snapshot() {
    let (cluster, name, url) = database(TABLES).await;
    let test = TestRepo::in_folder().await;
    let first = test.backup(&url).await;
    cluster.execute(&name, "UPDATE numbers SET body = 'new' WHERE id = 77").await;
    let second = test.backup(&url).await;
    let manifest = test.path().join(format!("snapshots/{}", first.id));
    let original = std::fs::read(&manifest).unwrap();
    flip(&manifest, 40);
    let listed: Vec<_> = test.repo.snapshots().await.unwrap().iter().map(|found| found.id).collect();
    assert_eq!(listed, [second.id]);
    let found = damaged(&test, Mode::Structure).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].snapshots, [first.id.to_string()]);
    std::fs::write(&manifest, &original).unwrap();

    // One manifest in the place of another is noticed: its name is part of what is sealed.
    let other = test.path().join(format!("snapshots/{}", second.id));
    std::fs::copy(&other, &manifest).unwrap();
    assert_eq!(test.repo.snapshot(first.id).await.unwrap_err().kind(), Kind::Damaged);
    std::fs::write(&manifest, &original).unwrap();

    // An index that is lost is made anew from the packs it named.
    let index = files(&test.path().join("index")).remove(0);
    std::fs::remove_file(&index).unwrap();
    let test = test.reopen(true).await;
    let summary = diff::summary(&test.repo, &first, &second, &test.ctx).await.unwrap();
    assert_eq!(summary.collections[0].records.changed, 1);
    let third = test.backup(&url).await;
    assert!(third.manifest.new_bytes < second.manifest.new_bytes, "{}", third.manifest.new_bytes);
    assert_eq!(damaged(&test, Mode::Full).await, []);
    let summary = diff::summary(&test.repo, &first, &third, &test.ctx).await.unwrap();
    assert_eq!(summary.collections[0].records.changed, 1);
    let summary = diff::summary(&test.repo, &second, &third, &test.ctx).await.unwrap();
    assert!(summary.collections.iter().all(|found| found.status == Status::Unchanged));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_backup_stores_what_a_lost_pack_held() {
    let (_, _, url) = database(TABLES).await;
    let test = TestRepo::in_folder().await;
    let first = test.backup(&url).await;
    let pack = data_pack(&test);
    std::fs::remove_file(&pack).unwrap();
    // The times in two archives of one schema would differ from one second to the next.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let second = test.backup(&url).await;
    assert!(second.manifest.new_bytes > first.manifest.new_bytes / 2, "{}", second.manifest.new_bytes);
    assert_eq!(damaged(&test, Mode::Full).await, [], "the first snapshot is whole again, too");
    let test = test.reopen(true).await;
    assert_eq!(damaged(&test, Mode::Full).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_pack_is_suspect_until_a_backup_mends_it_and_a_prune_removes_it() {
    let (_, _, url) = database(TABLES).await;
    let test = TestRepo::in_folder().await;
    let first = test.backup(&url).await;
    let pack = data_pack(&test);
    flip(&pack, std::fs::metadata(&pack).unwrap().len() as usize / 3);
    let found = damaged(&test, Mode::Full).await;
    assert!(!found.is_empty());
    assert!(found.iter().all(|damage| damage.snapshots == [first.id.to_string()]), "{found:?}");
    let names = |folder: &str| -> Vec<_> {
        let folder = test.path().join(folder);
        files(&folder).iter().map(|path| path.file_name().unwrap().to_owned()).collect()
    };
    assert_eq!(names("suspects"), [pack.file_name().unwrap()]);
    // The next backup stores all of it anew, whoever makes it; the first snapshot is whole again.
    let second = test.backup(&url).await;
    assert_eq!(second.manifest.catalog_root, first.manifest.catalog_root);
    assert!(second.manifest.new_bytes > std::fs::metadata(&pack).unwrap().len() / 2);
    assert_eq!(damaged(&test, Mode::Full).await, []);
    let summary = diff::summary(&test.repo, &first, &second, &test.ctx).await.unwrap();
    assert!(summary.collections.iter().all(|found| found.status == Status::Unchanged));
    let page = PageRequest { limit: 30_000, ..PageRequest::default() };
    for (table, records) in [("public.numbers", 20_000), ("public.pictures", 5)] {
        let read = history::records(&test.repo, &first, table, &page).await.unwrap();
        assert_eq!(read.items.len(), records);
    }
    prune::run(&test.repo, &prune::Options::default(), &test.ctx).await.unwrap();
    assert!(!pack.exists() && names("suspects").is_empty());
    assert_eq!(damaged(&test, Mode::Full).await, []);
    let test = test.reopen(true).await;
    assert_eq!(damaged(&test, Mode::Full).await, []);
}

/// Copies a folder's files over those of another.
fn copy_files(from: &Path, to: &Path) {
    drop(std::fs::remove_dir_all(to));
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_files(&path, &to);
        } else {
            std::fs::copy(&path, &to).unwrap();
        }
    }
}

/// Wherever the damage is that a verification finds, and however much it read: the next backup mends it.
/// The list of collections is read in every mode, but only where snapshots are walked.
#[tokio::test(flavor = "multi_thread")]
async fn what_any_mode_finds_the_next_backup_mends() {
    let (_, _, url) =
        database("CREATE TABLE numbers (id int PRIMARY KEY); INSERT INTO numbers VALUES (1);").await;
    let mut test = TestRepo::in_folder().await;
    test.backup(&url).await;
    let (aside, pack) = (tempfile::tempdir().unwrap(), data_pack(&test));
    copy_files(&test.path(), aside.path());
    let len = std::fs::metadata(&pack).unwrap().len() as usize;
    for mode in [Mode::Structure, Mode::Sample { turn: 0 }] {
        let (mut found_lists, mut position) = (0, 4);
        while position < len {
            flip(&pack, position);
            let found = damaged(&test, mode).await;
            found_lists +=
                usize::from(found.iter().any(|damage| damage.key_range == "the list of collections"));
            if !found.is_empty() {
                test.backup(&url).await;
                assert_eq!(
                    damaged(&test, Mode::Full).await,
                    [],
                    "{mode:?} found {found:?} at {position} of {len}"
                );
                copy_files(aside.path(), &test.path());
                test = test.reopen(true).await;
            } else {
                flip(&pack, position);
            }
            position += len / 12;
        }
        assert!(found_lists > 0, "{mode:?} never found the list of collections damaged");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_an_index_file_is_a_finding_and_no_dead_end() {
    let (_, _, url) = database(TABLES).await;
    let test = TestRepo::in_folder().await;
    let first = test.backup(&url).await;
    let index = files(&test.path().join("index")).remove(0);
    flip(&index, 60);
    let only_the_index = |found: &[verify::Damage]| {
        let [damage] = found else { panic!("{found:?}") };
        assert!(damage.object.starts_with("index/") && damage.snapshots.is_empty(), "{damage:?}");
    };
    // Also where it was read before it was damaged.
    only_the_index(&damaged(&test, Mode::Full).await);
    let test = test.reopen(true).await;
    only_the_index(&damaged(&test, Mode::Full).await);
    let second = test.backup(&url).await;
    assert_eq!(second.manifest.catalog_root, first.manifest.catalog_root);
    assert!(second.manifest.new_bytes < first.manifest.new_bytes / 10, "{}", second.manifest.new_bytes);
    only_the_index(&damaged(&test, Mode::Full).await);
    prune::run(&test.repo, &prune::Options::default(), &test.ctx).await.unwrap();
    assert_eq!(damaged(&test, Mode::Full).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prune_sweeps_up_what_killed_writers_left() {
    let test = TestRepo::in_folder().await;
    let folder = test.path().join("packs");
    std::fs::create_dir_all(&folder).unwrap();
    let [old, young, other] = [".new-1", ".new-2", "unknown"].map(|name| folder.join(name));
    for path in [&old, &young, &other] {
        std::fs::write(path, "half of it").unwrap();
    }
    let before = std::time::SystemTime::now() - std::time::Duration::from_secs(25 * 60 * 60);
    for path in [&old, &other] {
        std::fs::File::options().write(true).open(path).unwrap().set_modified(before).unwrap();
    }
    prune::run(&test.repo, &prune::Options::default(), &test.ctx).await.unwrap();
    assert_eq!([&old, &young, &other].map(|path| path.exists()), [false, true, true]);
}

/// Does something when a backup has read everything and begins to store the rest.
struct WhenStoring(Box<dyn Fn() + Send + Sync>);

impl Monitor for WhenStoring {
    fn progress(&self, progress: &Progress) {
        if progress.phase == "storing" {
            (self.0)();
        }
    }
}

/// As when the project was deleted by another server: what was stored nobody could open.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_into_a_repository_that_is_removed_meanwhile_fails() {
    let (_, _, url) = database(TABLES).await;
    let mut test = TestRepo::in_folder().await;
    let configs = ["config", "config.copy"].map(|name| test.path().join(name));
    let remove = move || configs.iter().for_each(|config| drop(std::fs::remove_file(config)));
    test.ctx = Context { monitor: Arc::new(WhenStoring(Box::new(remove))), ..test.ctx.clone() };
    let error = test.try_backup(&url).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Ended);
    assert!(error.message().contains("removed from its storage while the backup ran"), "{error}");
}

async fn verified(test: &TestRepo, mode: Mode) -> verify::Report {
    let report = verify::run(&test.repo, mode, &test.ctx).await.unwrap();
    verify::remember(&test.repo, &report, mode, &test.ctx).await.unwrap();
    report
}

/// What a verification found is remembered with each snapshot, and forgotten once it is damaged.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_remembers_when_nothing_was_wrong_with_it() {
    let (cluster, name, url) = database(TABLES).await;
    let test = TestRepo::in_folder().await;
    let first = test.backup(&url).await;
    let mark = async |id| test.repo.snapshot(id).await.unwrap().mark;
    assert_eq!(mark(first.id).await.full_ms, None);
    assert_eq!(verified(&test, Mode::Full).await.undamaged, [first.id.to_string()]);
    cluster.execute(&name, "UPDATE numbers SET body = md5(body)").await;
    let second = test.backup(&url).await;
    assert_eq!(verified(&test, Mode::Structure).await.undamaged.len(), 2);
    let (old, new) = (mark(first.id).await, mark(second.id).await);
    assert!(old.full_ms.is_some() && old.structure_ms.is_some() && old.sample_ms.is_none(), "{old:?}");
    assert!(new.full_ms.is_none() && new.structure_ms.is_some(), "{new:?}");

    // What only the first one needs is in its own pack.
    let packs = files(&test.path().join("packs"));
    let lost = packs.iter().min_by_key(|path| std::fs::metadata(path).unwrap().modified().unwrap()).unwrap();
    std::fs::remove_file(lost).unwrap();
    let report = verified(&test, Mode::Sample { turn: 0 }).await;
    assert!(!report.undamaged.contains(&first.id.to_string()), "{report:?}");
    let old = mark(first.id).await;
    assert_eq!((old.full_ms, old.structure_ms, old.sample_ms), (None, None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_mark_is_named_and_hides_nothing() {
    let (_, _, url) = database(TABLES).await;
    let test = TestRepo::in_folder().await;
    let snapshot = test.backup(&url).await;
    verified(&test, Mode::Structure).await;
    let mark = files(&test.path().join("marks")).remove(0);
    flip(&mark, 40);
    let test = test.reopen(true).await;
    assert!(test.repo.snapshots().await.unwrap()[0].mark.pinned, "what may be pinned must not go");
    let report = verified(&test, Mode::Full).await;
    assert_eq!(report.damaged.len(), 1, "{report:?}");
    assert_eq!(report.damaged[0].snapshots, [snapshot.id.to_string()]);
    assert!(report.damaged[0].object.starts_with("marks/"), "{report:?}");
}
