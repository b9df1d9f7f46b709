//! Real processes on one folder: they back up, verify, delete and prune, and are killed at any
//! moment. Afterwards everything that was committed is whole.
//!
//! The processes are this test's own program, started again. Their clocks run fast, so that a
//! session of a killed one is dead within seconds.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod support;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use engine::clock::{Clock, Sleep, System};
use engine::prune::{self, Options};
use engine::repo::Repository;
use engine::store::Storage;
use engine::verify::{self, Mode};
use engine::{Context, Kind, backup};
use repo_format::prune::Thresholds;
use support::{TestRepo, database, key, request};

/// Time passes so much faster for the processes: a killed one is dead after a second and a half.
const SPEED: u64 = 600;
const FOLDER: &str = "DBSNAP_TEST_PRUNE_FOLDER";
const URL: &str = "DBSNAP_TEST_PRUNE_URL";
const PROCESS: &str = "DBSNAP_TEST_PRUNE_PROCESS";

/// Rounds in which every process that backs up is killed once; the one that prunes lives for three.
const ROUNDS: u64 = 9;

const TABLES: &str = "
    CREATE TABLE numbers (id int PRIMARY KEY, body text);
    INSERT INTO numbers SELECT n, md5(n::text) FROM generate_series(1, 5000) n;
    CREATE TABLE pictures (id int PRIMARY KEY, body bytea);
    INSERT INTO pictures SELECT n, convert_to(repeat(md5(n::text), 2000), 'UTF8') FROM generate_series(1, 3) n;
";

struct Fast;

impl Clock for Fast {
    fn now_ms(&self) -> i64 {
        System.now_ms()
    }

    fn elapsed_ms(&self) -> u64 {
        System.elapsed_ms() * SPEED
    }

    fn sleep(&self, wait_ms: u64) -> Sleep {
        System.sleep(wait_ms.div_ceil(SPEED))
    }
}

/// Everything is worth pruning.
fn options() -> Options {
    let thresholds =
        Thresholds { unneeded_percent: 1, small_packs: 2, small_indexes: 2, ..Thresholds::default() };
    Options { thresholds, ..Options::default() }
}

async fn open(folder: &Path, name: &str) -> (Repository, Context) {
    let scratch = folder.join(format!("scratch-{name}"));
    std::fs::create_dir_all(&scratch).unwrap();
    let ctx = Context { clock: Arc::new(Fast), ..Context::new(scratch) };
    let store =
        Storage::parse(&format!("fs://{}/storage", folder.display())).unwrap().store("project").unwrap();
    let repo = Repository::open(store, &key(), &folder.join(format!("cache-{name}")), &ctx).await.unwrap();
    (repo, ctx)
}

/// Says that something happened, durably enough for a process that is about to be killed.
fn note(folder: &Path, what: &str, id: &str) {
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(folder.join(what)).unwrap();
    // In one call: what two processes say at once must not be mixed.
    file.write_all(format!("{id}\n").as_bytes()).unwrap();
}

fn noted(folder: &Path, what: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(folder.join(what)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// What a process does until it is killed. Process 0 prunes, the others back up.
async fn live(folder: PathBuf, url: String, process: String) {
    let (repo, ctx) = open(&folder, &process).await;
    loop {
        let outcome = if process == "0" {
            delete_and_prune(&repo, &folder, &ctx).await
        } else {
            back_up(&repo, &folder, &url, &ctx).await
        };
        if let Err(error) = outcome {
            // On a busy computer a process may seem dead for so long.
            let is_expected = matches!(error.kind(), Kind::Ended | Kind::NotFound);
            if !is_expected {
                note(&folder, "failures", &format!("process {process}: {error}"));
            }
        }
    }
}

async fn back_up(repo: &Repository, folder: &Path, url: &str, ctx: &Context) -> engine::Result<()> {
    let snapshot = backup::run(repo, &request(url), ctx).await?;
    note(folder, "committed", &snapshot.id.to_string());
    Ok(())
}

async fn delete_and_prune(repo: &Repository, folder: &Path, ctx: &Context) -> engine::Result<()> {
    let snapshots = repo.snapshots().await?;
    for old in snapshots.iter().skip(2) {
        note(folder, "deleted", &old.id.to_string());
        repo.delete_snapshot(old.id, ctx.clock.as_ref()).await?;
    }
    let stats = prune::run(repo, &options(), ctx).await?;
    note(folder, "pruned", &format!("{} {}", stats.snapshots_removed, stats.objects_removed));
    let report = verify::run(repo, Mode::Full, ctx).await?;
    if !report.damaged.is_empty() {
        note(folder, "failures", &format!("verify: {:?}", report.damaged));
    }
    Ok(())
}

fn start(folder: &Path, url: &str, process: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_process", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .env(URL, url)
        .env(PROCESS, process.to_string())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it is one of the processes of the other test"]
async fn a_process() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    live(folder.into(), std::env::var(URL).unwrap(), std::env::var(PROCESS).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_processes_lose_nothing_that_was_committed() {
    let (cluster, name, url) = database(TABLES).await;
    let test = TestRepo::new().await;
    let folder = test.folder.path().to_owned();
    let mut pruner = start(&folder, &url, 0);
    for round in 0..ROUNDS {
        let mut processes: Vec<Child> = (1..3).map(|process| start(&folder, &url, process)).collect();
        for (at, process) in processes.iter_mut().enumerate() {
            // Moments that no two rounds share.
            tokio::time::sleep(Duration::from_millis(500 + (round * 397 + at as u64 * 211) % 1100)).await;
            let change = format!("UPDATE numbers SET body = '{round} {at}' WHERE id % 97 = {at}");
            cluster.execute(&name, &change).await;
            process.kill().unwrap();
            process.wait().unwrap();
        }
        if round % 3 == 2 {
            pruner.kill().unwrap();
            pruner.wait().unwrap();
            pruner = start(&folder, &url, 0);
        }
    }
    pruner.kill().unwrap();
    pruner.wait().unwrap();
    let (repo, ctx) = open(&folder, "last").await;
    for _ in 0..2 {
        delete_and_prune(&repo, &folder, &ctx).await.unwrap();
    }
    assert_eq!(noted(&folder, "failures"), BTreeSet::new());
    let there: BTreeSet<String> =
        repo.snapshots().await.unwrap().iter().map(|found| found.id.to_string()).collect();
    let (committed, deleted) = (noted(&folder, "committed"), noted(&folder, "deleted"));
    let lost: Vec<_> = committed.difference(&deleted).filter(|id| !there.contains(*id)).collect();
    assert!(lost.is_empty(), "committed and gone: {lost:?}");
    let pruned = noted(&folder, "pruned");
    assert!(committed.len() >= 3 && pruned.iter().any(|line| !line.starts_with("0 ")), "{pruned:?}");
    assert_eq!(verify::run(&repo, Mode::Full, &ctx).await.unwrap().damaged, []);
    println!("{} committed, {} deleted, pruned {pruned:?}", committed.len(), deleted.len());
}
