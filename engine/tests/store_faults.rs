//! A store that fails in the middle of a backup: what is said, and what is left.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod support;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use engine::clock::{Clock, Sleep, System};
use engine::prune::{self, Options};
use engine::store::Storage;
use engine::verify::{self, Mode};
use engine::{Context, Kind};
use engine_testutils::store::s3::{Fault, Server};
use support::{TestRepo, database, storage};

async fn assert_sound(test: &TestRepo, snapshots: usize) {
    let verified = verify::run(&test.repo, Mode::Full, &test.ctx).await.unwrap();
    assert!(verified.damaged.is_empty(), "{:?}", verified.damaged);
    assert_eq!(test.repo.snapshots().await.unwrap().len(), snapshots);
}

/// From some request on, every one fails, for as long as the backup goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_ends_with_a_plain_message_when_s3_stops_working() {
    let sql = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT n, md5(n::text) FROM generate_series(1, 3000) n";
    let (cluster, name, url) = database(sql).await;
    let server = Server::start().await;
    // For one server: s3s-fs does not keep racing writers apart.
    let test = TestRepo::in_storage(storage(&format!("{}&exclusive=true", server.url("x")))).await;
    test.backup(&url).await;
    let (mut snapshots, mut failures) = (1, 0);
    for fault in [Fault::Status(500), Fault::Status(503), Fault::Cut, Fault::LoseAnswer, Fault::CutAnswer(5)]
    {
        for healthy in [0, 1, 2, 4, 7, 11] {
            cluster.execute(&name, "UPDATE t SET v = md5(random()::text) WHERE id % 500 = 0").await;
            let seen = AtomicUsize::new(0);
            server.fail(
                move |_| {
                    if seen.fetch_add(1, Ordering::Relaxed) < healthy { Fault::None } else { fault }
                },
            );
            let backup = test.try_backup(&url).await;
            server.heal();
            match backup {
                Ok(_) => snapshots += 1,
                Err(error) => {
                    assert_eq!(error.kind(), Kind::Storage, "{fault:?} after {healthy}: {error}");
                    assert!(error.help().is_some_and(|help| help.contains("Nothing was lost")), "{error}");
                    failures += 1;
                    // A manifest whose answer was lost is committed all the same.
                    let listed = test.repo.snapshots().await.unwrap().len();
                    assert!(listed == snapshots || (fault == Fault::LoseAnswer && listed == snapshots + 1));
                    snapshots = listed;
                }
            }
        }
        assert_sound(&test, snapshots).await;
    }
    assert!(failures >= 20, "only {failures} of 30 backups met the fault");
    // Slowness alone ends nothing.
    server.fail(|_| Fault::Slow(Duration::from_millis(30)));
    test.backup(&url).await;
    server.heal();
    assert_sound(&test, snapshots + 1).await;
}

/// Waiting passes faster, so that a session that could not be closed is dead within a third of a second.
/// Signs of life are given as ever.
struct Fast;

impl Clock for Fast {
    fn now_ms(&self) -> i64 {
        System.now_ms()
    }

    fn elapsed_ms(&self) -> u64 {
        System.elapsed_ms() * 3000
    }

    fn sleep(&self, wait_ms: u64) -> Sleep {
        System.sleep(if wait_ms < 60_000 { wait_ms.div_ceil(3000) } else { wait_ms })
    }
}

/// The same of a verify and of a prune: neither calls anything damaged, and both go on later.
#[tokio::test(flavor = "multi_thread")]
async fn a_verify_and_a_prune_end_with_a_plain_message_when_s3_stops_working() {
    let sql = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT n, md5(n::text) FROM generate_series(1, 3000) n";
    let (cluster, name, url) = database(sql).await;
    let server = Server::start().await;
    let mut test = TestRepo::in_storage(storage(&format!("{}&exclusive=true", server.url("x")))).await;
    test.ctx = Context { clock: Arc::new(Fast), ..test.ctx.clone() };
    let kept = test.backup(&url).await;
    let mut failures = 0;
    // An answer that is cut after a few bytes, each time, is read on from there: slow, and no failure.
    for fault in [Fault::Status(503), Fault::Cut, Fault::LoseAnswer, Fault::CutAnswer(0)] {
        cluster.execute(&name, "UPDATE t SET v = md5(random()::text)").await;
        let deleted = test.backup(&url).await;
        test.repo.delete_snapshot(deleted.id, test.ctx.clock.as_ref()).await.unwrap();
        for healthy in [2, 11, 22] {
            let fail =
                || {
                    let seen = AtomicUsize::new(0);
                    server.fail(move |_| {
                        if seen.fetch_add(1, Ordering::Relaxed) < healthy { Fault::None } else { fault }
                    });
                };
            fail();
            let verified = verify::run(&test.repo, Mode::Full, &test.ctx).await.map(|report| report.damaged);
            fail();
            let pruned = prune::run(&test.repo, &Options::default(), &test.ctx).await;
            server.heal();
            assert!(verified.as_ref().map_or(true, Vec::is_empty), "{fault:?} after {healthy}: {verified:?}");
            for error in [verified.err(), pruned.err()].into_iter().flatten() {
                assert_eq!(error.kind(), Kind::Storage, "{fault:?} after {healthy}: {error}");
                assert!(error.help().is_some_and(|help| help.contains("Nothing was lost")), "{error}");
                failures += 1;
            }
        }
        prune::run(&test.repo, &Options::default(), &test.ctx).await.unwrap();
        assert_sound(&test, 1).await;
        assert_eq!(test.repo.snapshots().await.unwrap()[0].id, kept.id);
    }
    assert!(failures >= 16, "only {failures} of 24 operations met the fault");
}

/// Runs one of the tests below in mounts of its own, where it may fill and lock a disk. They go
/// with its process.
async fn in_own_mounts(test: &str) {
    let sql = "CREATE TABLE t (id int PRIMARY KEY, v bytea);
               INSERT INTO t SELECT n, decode(string_agg(md5(n || '-' || m), ''), 'hex')
               FROM generate_series(1, 300) n, generate_series(1, 4096) m GROUP BY n";
    let (_, _, url) = database(sql).await;
    let mut command = Command::new("unshare");
    if !Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout.trim_ascii() == b"0") {
        command.args(["--user", "--map-root-user"]);
    }
    // In a chroot the root is no mount, and cannot be told to keep mounts to itself.
    let can_part = Command::new("unshare").args(["--mount", "true"]).output();
    if !can_part.is_ok_and(|parted| parted.status.success()) {
        command.args(["--propagation", "unchanged"]);
    }
    command.arg("--mount").arg(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture"]).env("DBSNAP_TEST_URL", url);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
    let output = output.expect("because Linux has unshare");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

fn mount(folder: &Path, options: &str) {
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(folder).status();
    assert!(mounted.is_ok_and(|status| status.success()), "mounting with {options}");
}

/// A disk that is gone with it, also where its mount is not this process's alone.
struct Disk(tempfile::TempDir);

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

/// A repository on a disk of its own, and the database to back up.
async fn on_a_small_disk(mebibytes: usize) -> (Disk, TestRepo, String) {
    let disk = Disk(tempfile::tempdir().unwrap());
    mount(disk.0.path(), &format!("size={mebibytes}m"));
    let storage = Storage::parse(&format!("fs://{}/repositories", disk.0.path().display())).unwrap();
    (disk, TestRepo::in_storage(storage).await, std::env::var("DBSNAP_TEST_URL").unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_named_and_costs_no_snapshot() {
    in_own_mounts("the_disk_fills").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "no test by itself; a_full_disk_is_named_and_costs_no_snapshot runs it in mounts of its own"]
async fn the_disk_fills() {
    let (disk, test, url) = on_a_small_disk(12).await;
    let full = test.try_backup(&url).await.unwrap_err();
    assert_eq!(full.kind(), Kind::Storage);
    assert!(full.help().unwrap().contains("The disk is full"), "{full}");
    assert_sound(&test, 0).await;
    mount(disk.0.path(), "remount,size=100m");
    test.backup(&url).await;
    assert_sound(&test, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_folder_is_named_and_still_read() {
    in_own_mounts("the_folder_is_read_only").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "no test by itself; a_read_only_folder_is_named_and_still_read runs it in mounts of its own"]
async fn the_folder_is_read_only() {
    let (disk, test, url) = on_a_small_disk(100).await;
    test.backup(&url).await;
    mount(disk.0.path(), "remount,ro");
    let refused = test.try_backup(&url).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Storage);
    assert!(refused.help().unwrap().contains("the right to write"), "{refused}");
    assert_eq!(test.repo.snapshots().await.unwrap().len(), 1);
    assert!(test.storage().check().await.is_err(), "the server is not ready");
    mount(disk.0.path(), "remount,rw");
    test.backup(&url).await;
    assert_sound(&test, 2).await;
}
