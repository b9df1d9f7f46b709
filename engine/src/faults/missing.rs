//! A snapshot whose manifest was lost: verify names it, and no prune takes what it needs.

use repo_format::files;
use repo_format::id::SnapshotId;
use repo_format::session::{Beginning, Purpose};

use super::{Files, Process};
use crate::defect::{Defect, plant};
use crate::error::{Kind, Result};
use crate::prune::Stats;
use crate::repo::Mark;
use crate::simulation::content::{self, Versions};
use crate::verify::{self, Mode};

const FINE: &str = "because nothing is wrong";
const VERSIONS: [Versions; 3] = [[0; 5], [1, 1, 1, 1, 1], [2, 2, 0, 2, 3]];

/// Three snapshots, each after the one before; the last one is pinned.
async fn three() -> (Files, Vec<SnapshotId>) {
    let process = Process::create().await;
    let mut ids = Vec::new();
    for versions in VERSIONS {
        ids.push(process.back_up(&versions).await.expect(FINE).id);
    }
    let pin = |mark: &mut Mark| mark.pinned = true;
    process.repo.mark(ids[2], process.ctx.clock.as_ref(), &pin).await.expect(FINE);
    (process.disk.files(), ids)
}

fn without(files: &Files, lost: &[SnapshotId]) -> Files {
    let mut files = files.clone();
    lost.iter().for_each(|id| drop(files.remove(&files::snapshot(*id))));
    files
}

async fn pruned(files: Files) -> (Process, Result<Stats>) {
    let process = Process::open(files).await.expect(FINE);
    let pruned = process.prune().await;
    (process, pruned)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lost_snapshot_needs_is_not_pruned() {
    let (files, ids) = three().await;
    for lost in [&ids[..1], &ids[1..2], &ids[2..], &ids[1..], &ids[..]] {
        let process = Process::open(without(&files, lost)).await.expect(FINE);
        let report = verify::run(&process.repo, Mode::Structure, &process.ctx).await.expect(FINE);
        let named: Vec<&str> = report.damaged.iter().map(|damage| damage.object.as_str()).collect();
        let mut expected: Vec<String> = lost.iter().map(|id| files::snapshot(*id)).collect();
        expected.sort();
        assert_eq!(named, expected);
        let refused = process.prune().await.expect_err("a manifest is missing");
        assert_eq!(refused.kind(), Kind::Damaged);
        assert!(
            refused.message().starts_with("nothing was deleted, because the file snapshots/"),
            "{refused}"
        );
        assert!(refused.help().is_some_and(|help| help.contains("delete the snapshot")), "{refused:?}");

        // The file is put back: everything is there.
        let mut back = process.disk.files();
        back.extend(files.iter().map(|(name, content)| (name.clone(), content.clone())));
        let (process, outcome) = pruned(back).await;
        outcome.expect("nothing is missing any more");
        for (id, versions) in ids.iter().zip(&VERSIONS) {
            let snapshot = process.repo.snapshot(*id).await.expect(FINE);
            assert_eq!(
                content::read(&process.repo, &snapshot).await.expect(FINE),
                content::content(versions)
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_snapshot_can_be_deleted_and_then_prunes_go_on() {
    let (files, ids) = three().await;
    let process = Process::open(without(&files, &[ids[0], ids[2]])).await.expect(FINE);
    for id in [ids[0], ids[2]] {
        process.prune().await.expect_err("a manifest is missing");
        if id == ids[2] {
            assert_eq!(process.delete(id).await.expect_err("it is pinned").kind(), Kind::Conflict);
            let unpin = |mark: &mut Mark| mark.pinned = false;
            process.repo.mark(id, process.ctx.clock.as_ref(), &unpin).await.expect(FINE);
        }
        process.delete(id).await.expect(FINE);
        assert_eq!(process.delete(id).await.expect_err("it is deleted").kind(), Kind::NotFound);
    }
    assert_eq!(process.delete(SnapshotId([9; 16])).await.expect_err("nobody made it").kind(), Kind::NotFound);
    let stats = process.prune().await.expect(FINE);
    assert_eq!(stats.snapshots_removed, 2);
    assert!(stats.objects_removed > 0, "{stats:?}");
    assert!(process.disk.files().keys().all(|name| !name.ends_with(".deleted")), "the marks went, too");
    let report = verify::run(&process.repo, Mode::Full, &process.ctx).await.expect(FINE);
    assert_eq!(report.damaged, []);
    assert_eq!(process.prune().await.expect(FINE).snapshots_removed, 0);
}

/// What may have been said of a snapshot whose marks are lost nobody knows: it counts as pinned.
#[tokio::test(flavor = "multi_thread")]
async fn lost_marks_are_reported_and_pin() {
    let (files, ids) = three().await;
    for lost in [&ids[..1], &ids[1..]] {
        let mut files = files.clone();
        let is_lost = |name: &str| files::parse_mark(name).is_some_and(|(id, _)| lost.contains(&id));
        files.retain(|name, _| !is_lost(name));
        let process = Process::open(files).await.expect(FINE);
        let report = verify::run(&process.repo, Mode::Structure, &process.ctx).await.expect(FINE);
        let named: Vec<_> = report.damaged.iter().map(|damage| damage.object.clone()).collect();
        let mut expected: Vec<_> = lost.iter().map(|id| format!("marks/{id}")).collect();
        expected.sort();
        assert_eq!(named, expected);
        verify::remember(&process.repo, &report, Mode::Structure, &process.ctx).await.expect(FINE);
        for id in lost {
            assert!(process.repo.snapshot(*id).await.expect(FINE).mark.pinned);
            assert_eq!(process.delete(*id).await.expect_err("it is pinned").kind(), Kind::Conflict);
        }
        let report = verify::run(&process.repo, Mode::Structure, &process.ctx).await.expect(FINE);
        assert_eq!(report.damaged, [], "it was told once, and is said in new marks");
    }
}

/// A process that ends between a commit and the first mark leaves its session, and who ends that makes the
/// mark.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_was_cut_off_before_its_mark_is_no_damage() {
    let (mut files, ids) = three().await;
    files.retain(|name, _| files::parse_mark(name).is_none_or(|(id, _)| id != ids[1]));
    let process = Process::open(files).await.expect(FINE);
    let beginning = Beginning { began_ms: 1, purpose: Purpose::Commit }.to_bytes();
    process.repo.create_file(&files::session(ids[1]), &beginning).await.expect(FINE);
    let report = verify::run(&process.repo, Mode::Structure, &process.ctx).await.expect(FINE);
    assert_eq!(report.damaged, []);
    process.delete(ids[0]).await.expect(FINE);
    process.prune().await.expect(FINE);
    assert!(process.disk.files().contains_key(&files::mark(ids[1], 0)));
    let report = verify::run(&process.repo, Mode::Structure, &process.ctx).await.expect(FINE);
    assert_eq!(report.damaged, []);
    assert!(!process.repo.snapshot(ids[1]).await.expect(FINE).mark.pinned);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_whose_beginning_is_lost_goes_on() {
    let process = Process::create().await;
    process.back_up(&VERSIONS[0]).await.expect(FINE);
    assert_eq!(process.repo.begin_epoch(&process.ctx).await.expect(FINE), 1);
    process.back_up(&VERSIONS[1]).await.expect(FINE);
    let mut files = process.disk.files();
    files.remove(&files::epoch(1)).expect(FINE);
    let process = Process::open(files).await.expect(FINE);
    process.back_up(&VERSIONS[2]).await.expect(FINE);
    assert_eq!(process.repo.epoch(), 1);
    let report = verify::run(&process.repo, Mode::Structure, &process.ctx).await.expect(FINE);
    let named: Vec<_> = report.damaged.iter().map(|damage| damage.object.clone()).collect();
    assert_eq!(named, [files::epoch(1)]);
    let report = verify::run(&process.repo, Mode::Structure, &process.ctx).await.expect(FINE);
    assert_eq!(report.damaged, []);
    assert_eq!(process.repo.begin_epoch(&process.ctx).await.expect(FINE), 2);
}

#[tokio::test]
async fn without_the_rule_it_would_be_lost_for_good() {
    let (files, ids) = three().await;
    plant(Some(Defect::ForgetMissing));
    let (process, outcome) = pruned(without(&files, &ids[2..])).await;
    plant(None);
    outcome.expect("it does not care");
    let mut back = process.disk.files();
    back.insert(files::snapshot(ids[2]), files[&files::snapshot(ids[2])].clone());
    let process = Process::open(back).await.expect(FINE);
    let snapshot = process.repo.snapshot(ids[2]).await.expect(FINE);
    assert!(content::read(&process.repo, &snapshot).await.is_err(), "what it needs is gone");
}
