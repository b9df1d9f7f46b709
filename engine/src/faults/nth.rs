//! The n-th call of an operation to the store fails, for every n.

use super::{Disk, Fault, Files, Planned, Process};
use crate::error::{Kind, Result};
use crate::simulation::content::{self, Versions};
use crate::verify::{self, Mode};

pub(super) const FAULTS: [Fault; 4] = [Fault::Refused, Fault::AnswerLost, Fault::Full, Fault::Gone];

const NEXT: Versions = [3, 2, 0, 1, 2];
const AFTER: Versions = [1, 1, 3, 0, 1];

/// A repository with two snapshots, and a deleted one that only a prune removes. Opened again it has
/// work for a prune.
async fn history() -> (Files, Planned) {
    let process = Process::create().await;
    let mut planned = Planned::new();
    for versions in [[0; 5], [1, 1, 0, 2, 0], [2, 1, 1, 0, 0]] {
        let snapshot = process.back_up(&versions).await.expect("because nothing fails yet");
        planned.insert(snapshot.id, versions);
    }
    let deleted = *planned.keys().next().expect("because there are three");
    process.delete(deleted).await.expect("because nothing fails yet");
    planned.remove(&deleted);
    (process.disk.files(), planned)
}

/// Everything that was committed is there and whole; nothing else is, but for what `more` allows.
async fn check(process: &Process, planned: &Planned, more: Option<&Versions>, case: &str) {
    let report = verify::run(&process.repo, Mode::Full, &process.ctx).await;
    let report = report.unwrap_or_else(|error| panic!("{case}: verify failed: {error}"));
    assert_eq!(report.damaged, [], "{case}");
    let snapshots = process.repo.snapshots().await.expect("because nothing fails any more");
    for id in planned.keys() {
        assert!(snapshots.iter().any(|snapshot| snapshot.id == *id), "{case}: snapshot {id} is gone");
    }
    for snapshot in &snapshots {
        let versions =
            planned.get(&snapshot.id).or(more).unwrap_or_else(|| panic!("{case}: {}", snapshot.id));
        let read = content::read(&process.repo, snapshot).await;
        let read = read.unwrap_or_else(|error| panic!("{case}: snapshot {}: {error}", snapshot.id));
        assert_eq!(read, content::content(versions), "{case}: snapshot {}", snapshot.id);
    }
    assert!(snapshots.len() <= planned.len() + usize::from(more.is_some()), "{case}");
}

/// After a failure: the process that met it and another one find everything in order, and go on.
async fn assert_sound(process: Process, planned: &Planned, more: Option<&Versions>, case: &str) {
    let other = Process::open_on(process.disk.clone()).await.expect("because nothing fails any more");
    check(&other, planned, more, case).await;
    let mut planned = planned.clone();
    // What may have been committed, was or was not: from here on that is settled.
    for snapshot in other.repo.snapshots().await.expect("because nothing fails any more") {
        planned.entry(snapshot.id).or_insert_with(|| *more.expect("because it was checked"));
    }
    for process in [&process, &other] {
        let snapshot = process.back_up(&AFTER).await;
        let snapshot = snapshot.unwrap_or_else(|error| panic!("{case}: the next backup failed: {error}"));
        planned.insert(snapshot.id, AFTER);
    }
    let pruned = other.prune().await;
    pruned.unwrap_or_else(|error| panic!("{case}: the next prune failed: {error}"));
    check(&process, &planned, None, case).await;
}

/// Runs an operation with each call failing in turn, until one run has no such call any more.
async fn fail_each(
    files: &Files,
    planned: &Planned,
    more: Option<&Versions>,
    what: &str,
    operation: impl AsyncFn(&Process) -> Result<()>,
) -> u64 {
    let mut met = 0;
    for fault in FAULTS {
        for n in 1.. {
            let case = format!("{what}, call {n}: {fault:?}");
            let process = Process::open(files.clone()).await.expect("because nothing fails yet");
            process.disk.fail(n, fault);
            let outcome = operation(&process).await;
            let failures = process.disk.heal();
            if failures == 0 {
                outcome.unwrap_or_else(|error| panic!("{case}: {error}"));
                break;
            }
            met += 1;
            if let Err(error) = outcome {
                assert_eq!(error.kind(), Kind::Storage, "{case}: {error}");
            }
            assert_sound(process, planned, more, &case).await;
        }
    }
    println!("{what}: {met} failures met");
    met
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_of_a_backup_may_fail() {
    let (files, planned) = history().await;
    let back_up = async |process: &Process| process.back_up(&NEXT).await.map(drop);
    let met = fail_each(&files, &planned, Some(&NEXT), "backup", back_up).await;
    assert!(met > 50, "only {met}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_of_a_prune_may_fail() {
    let (files, planned) = history().await;
    let prune = async |process: &Process| process.prune().await.map(drop);
    let met = fail_each(&files, &planned, None, "prune", prune).await;
    assert!(met > 100, "only {met}");
}

/// A verify that failed must not call the repository damaged, and changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn every_call_of_a_verify_may_fail() {
    let (files, planned) = history().await;
    let verify = async |process: &Process| {
        let report = verify::run(&process.repo, Mode::Full, &process.ctx).await?;
        assert_eq!(report.damaged, []);
        Ok(())
    };
    let met = fail_each(&files, &planned, None, "verify", verify).await;
    assert!(met > 50, "only {met}");
}

/// Opening a repository and making one: either it is there afterwards, or it is not.
#[tokio::test(flavor = "multi_thread")]
async fn every_call_of_opening_and_creating_may_fail() {
    let (files, planned) = history().await;
    for fault in FAULTS {
        for n in 1.. {
            let disk = Disk::new(files.clone());
            disk.fail(n, fault);
            let opened = Process::open_on(disk.clone()).await.map(drop);
            if disk.heal() == 0 {
                opened.expect("because nothing failed");
                break;
            }
            let process = Process::open_on(disk).await.expect("because nothing fails any more");
            check(&process, &planned, None, &format!("open, call {n}: {fault:?}")).await;
        }
    }
    for fault in FAULTS {
        for n in 1.. {
            let disk = Disk::default();
            disk.fail(n, fault);
            let created = Process::create_on(disk.clone()).await.map(drop);
            if disk.heal() == 0 {
                created.expect("because nothing failed");
                break;
            }
            let case = format!("create, call {n}: {fault:?}");
            if let Err(error) = &created {
                assert!(matches!(error.kind(), Kind::Storage | Kind::Conflict), "{case}: {error}");
            }
            let process = match Process::create_on(disk.clone()).await {
                Err(error) if error.kind() == Kind::Conflict => Process::open_on(disk).await,
                process => process,
            };
            let process = process.unwrap_or_else(|error| panic!("{case}: {error}"));
            assert_sound(process, &Planned::new(), None, &case).await;
        }
    }
}
