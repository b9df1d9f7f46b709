//! Files that were lost and of which all that matters is known otherwise: a verify makes them anew.

use std::collections::BTreeSet;

use bytes::Bytes;
use repo_format::files::{self, PruneFile};
use repo_format::id::SnapshotId;

use super::nth::FAULTS;
use super::{Files, Planned, Process};
use crate::error::Kind;
use crate::simulation::content::{self, Versions};
use crate::verify::{self, Mode};

const FINE: &str = "because nothing is wrong";
const VERSIONS: [Versions; 4] = [[0; 5], [1, 1, 1, 1, 1], [2, 2, 0, 2, 3], [3, 2, 2, 0, 1]];
const NEXT: Versions = [1, 0, 3, 1, 2];

/// An epoch, two prunes that ended, the snapshots that are left, and those that the prunes removed.
async fn pruned_twice() -> (Files, Planned, Vec<SnapshotId>) {
    let process = Process::create().await;
    process.repo.begin_epoch(&process.ctx).await.expect(FINE);
    let (mut planned, mut ids) = (Planned::new(), Vec::new());
    for versions in VERSIONS {
        let id = process.back_up(&versions).await.expect(FINE).id;
        planned.insert(id, versions);
        ids.push(id);
    }
    for id in &ids[..2] {
        process.delete(*id).await.expect(FINE);
        process.prune().await.expect(FINE);
        planned.remove(id);
    }
    (process.disk.files(), planned, ids[..2].to_vec())
}

/// What may happen to a file.
fn harmed(files: &Files, name: &str) -> Vec<(&'static str, Files)> {
    let content = files[name].clone();
    let with = |content: Option<Bytes>| {
        let mut files = files.clone();
        match content {
            Some(content) => drop(files.insert(name.to_owned(), content)),
            None => drop(files.remove(name)),
        }
        files
    };
    let mut flipped = content.to_vec();
    flipped[content.len() / 2] ^= 0x10;
    vec![
        ("flipped", with(Some(flipped.into()))),
        ("cut", with(Some(content.slice(..content.len() / 2)))),
        ("emptied", with(Some(Bytes::new()))),
        ("lost", with(None)),
    ]
}

/// The names of the files that are never deleted.
fn lasting(files: &Files) -> Vec<String> {
    let is_lasting = |name: &&String| name.starts_with(files::GC) || name.starts_with(files::EPOCHS);
    files.keys().filter(is_lasting).cloned().collect()
}

async fn reported(process: &Process, case: &str) -> Vec<(String, String)> {
    let report = verify::run(&process.repo, Mode::Structure, &process.ctx).await;
    let report = report.unwrap_or_else(|error| panic!("{case}: verify failed: {error}"));
    report.damaged.into_iter().map(|damage| (damage.object, damage.reason)).collect()
}

/// Everything is there and goes on.
async fn assert_sound(process: &Process, planned: &Planned, case: &str) {
    for (id, versions) in planned {
        let snapshot = process.repo.snapshot(*id).await.unwrap_or_else(|error| panic!("{case}: {error}"));
        let read = content::read(&process.repo, &snapshot).await;
        let read = read.unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(read, content::content(versions), "{case}");
    }
    let next = process.back_up(&NEXT).await.unwrap_or_else(|error| panic!("{case}: {error}"));
    process.delete(next.id).await.unwrap_or_else(|error| panic!("{case}: {error}"));
    let stats = process.prune().await.unwrap_or_else(|error| panic!("{case}: {error}"));
    assert_eq!(stats.snapshots_removed, 1, "{case}");
    assert_eq!(reported(process, case).await, [], "{case}");
}

fn remade() -> Vec<String> {
    let gc = |n, file| files::prune(n, file);
    vec![
        files::epoch(1),
        gc(1, PruneFile::Run),
        gc(1, PruneFile::Done),
        gc(2, PruneFile::Run),
        gc(2, PruneFile::Done),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_longer_matters_is_told_once_and_made_anew() {
    let (files, planned, _) = pruned_twice().await;
    for name in remade() {
        for (how, harmed) in harmed(&files, &name) {
            let case = format!("{name} {how}");
            let process = Process::open(harmed).await.expect(&case);
            let found = reported(&process, &case).await;
            // The last prune may not be done yet, for all anybody can tell: the next one ends it.
            if how == "lost" && name == files::prune(2, PruneFile::Done) {
                assert_eq!(found, [], "{case}");
            } else {
                assert_eq!(found.len(), 1, "{case}: {found:?}");
                assert_eq!(found[0].0, name, "{case}");
                assert!(found[0].1.ends_with("it was made anew"), "{case}: {found:?}");
                assert_eq!(lasting(&process.disk.files()), lasting(&files), "{case}");
            }
            assert_eq!(reported(&process, &case).await, [], "{case}");
            assert_sound(&process, &planned, &case).await;
            let other = Process::open(process.disk.files()).await.expect(&case);
            assert_eq!(reported(&other, &case).await, [], "{case}");
        }
    }
}

/// A run is made anew as its verdict tells it.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_made_anew_names_what_its_verdict_does() {
    let (files, _, removed) = pruned_twice().await;
    let whole = Process::open(files.clone()).await.expect(FINE).repo.read_run(1).await.expect(FINE);
    for (how, harmed) in harmed(&files, &files::prune(1, PruneFile::Run)) {
        let process = Process::open(harmed).await.expect(how);
        reported(&process, how).await;
        let run = process.repo.read_run(1).await.expect(how);
        assert_eq!(run.snapshots, BTreeSet::from([removed[0]]), "{how}");
        assert_eq!(
            (run.snapshots, run.condemned),
            (whole.snapshots.clone(), whole.condemned.clone()),
            "{how}"
        );
    }
}

/// What is left when that is cut off at any call is made anew by the next one.
#[tokio::test(flavor = "multi_thread")]
async fn every_call_of_making_anew_may_fail() {
    let (files, ..) = pruned_twice().await;
    for name in &remade()[..3] {
        let (_, flipped) = harmed(&files, name).remove(0);
        let mut met = 0;
        for fault in FAULTS {
            for n in 1.. {
                let case = format!("{name}, call {n}: {fault:?}");
                let process = Process::open(flipped.clone()).await.expect(FINE);
                process.disk.fail(n, fault);
                let outcome = verify::run(&process.repo, Mode::Structure, &process.ctx).await;
                let failures = process.disk.heal();
                if failures == 0 {
                    assert_eq!(outcome.expect(&case).damaged.len(), 1, "{case}");
                    break;
                }
                met += 1;
                if let Err(error) = outcome {
                    assert_eq!(error.kind(), Kind::Storage, "{case}: {error}");
                }
                let other = Process::open(process.disk.files()).await.expect(&case);
                assert!(reported(&other, &case).await.iter().all(|(found, _)| found == name), "{case}");
                assert_eq!(reported(&other, &case).await, [], "{case}");
                assert_eq!(lasting(&other.disk.files()), lasting(&files), "{case}");
            }
        }
        assert!(met > 50, "{name}: only {met}");
    }
}

/// Without a verdict nobody can tell what a run meant, or that it is done: nothing is made up.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_made_anew_beside_a_lost_verdict() {
    let (files, _, _) = pruned_twice().await;
    let verdict = files::prune(1, PruneFile::Verdict);
    for (_, without) in harmed(&files, &verdict) {
        for name in [files::prune(1, PruneFile::Run), files::prune(1, PruneFile::Done)] {
            for (how, harmed) in harmed(&without, &name) {
                let case = format!("{name} {how}");
                let process = Process::open(harmed).await.expect(&case);
                for _ in 0..2 {
                    let mut found: Vec<_> = reported(&process, &case).await;
                    found.sort();
                    let named: Vec<&String> = found.iter().map(|(name, _)| name).collect();
                    assert_eq!(named.len(), 2, "{case}: {found:?}");
                    assert!(named.contains(&&verdict) && named.contains(&&name), "{case}: {found:?}");
                    assert!(found.iter().all(|(_, why)| !why.contains("anew")), "{case}: {found:?}");
                }
            }
        }
    }
}

/// A prune that does not know what another one removed says which file it lacks.
#[tokio::test(flavor = "multi_thread")]
async fn a_prune_that_lacks_a_verdict_names_it() {
    let (files, _, removed) = pruned_twice().await;
    // The snapshot that is left names this one as its parent.
    let (verdict, parent) = (files::prune(2, PruneFile::Verdict), removed[1]);
    for (how, harmed) in harmed(&files, &verdict) {
        let process = Process::open(harmed).await.expect(how);
        let refused = process.prune().await.expect_err(how);
        assert_eq!(refused.kind(), Kind::Damaged, "{how}");
        let start = format!("nothing was deleted, because the file {verdict} cannot be read");
        assert!(refused.message().starts_with(&start), "{how}: {refused}");
        let help = refused.help().expect(how);
        assert!(help.contains(&format!("Put the file {verdict} back")), "{how}: {help}");
        assert!(help.contains(&format!("/api/v1/snapshots/{parent}")), "{how}: {help}");
        process.delete(parent).await.expect(how);
        process.prune().await.expect(how);
        // Brought back, it is obeyed.
        let mut back = process.disk.files();
        back.insert(verdict.clone(), files[&verdict].clone());
        let process = Process::open(back).await.expect(how);
        assert_eq!(reported(&process, how).await, [], "{how}");
    }
}
