use super::*;
use engine::clock::System;

fn backup(database_id: DatabaseId, project_id: ProjectId) -> JobRecord {
    JobRecord {
        id: JobId::new(&System, &System),
        project_id,
        user_id: UserId::new(&System, &System),
        work: Work::Backup { database_id, note: None, due_ms: None },
        state: JobState::Queued,
        created_ms: 1,
        started_ms: None,
        finished_ms: None,
        by_schedule: false,
        retries: 0,
        not_before_ms: 0,
        progress: Progress::default(),
        outcome: None,
    }
}

fn done() -> Finish {
    Finish {
        state: JobState::Succeeded,
        finished_ms: 9,
        progress: Progress::default(),
        outcome: None,
        audit: Detail::new(),
        findings: None,
    }
}

#[tokio::test]
async fn backups_of_one_database_wait_for_each_other_and_others_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let meta = Meta::open(&folder.path().join("meta.redb")).unwrap();
    let project = ProjectId::new(&System, &System);
    let (a, b) = (DatabaseId::new(&System, &System), DatabaseId::new(&System, &System));
    for database in [a, a, b] {
        meta.add_job(backup(database, project)).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    let lane = |job: &JobRecord| match job.work {
        Work::Backup { database_id, .. } => database_id,
        _ => unreachable!(),
    };
    let first = meta.claim_job(2).await.unwrap().unwrap();
    let second = meta.claim_job(2).await.unwrap().unwrap();
    assert_eq!((lane(&first), lane(&second)), (a, b));
    assert!(meta.claim_job(2).await.unwrap().is_none(), "the second backup of a waits");
    meta.finish_job(first.id, done()).await.unwrap();
    assert_eq!(lane(&meta.claim_job(3).await.unwrap().unwrap()), a);
}

/// However many other jobs there were since.
#[tokio::test]
async fn the_newest_job_about_something_is_found_until_its_project_goes() {
    let folder = tempfile::tempdir().unwrap();
    let meta = Meta::open(&folder.path().join("meta.redb")).unwrap();
    let project = ProjectId::new(&System, &System);
    let (a, b) = (DatabaseId::new(&System, &System), DatabaseId::new(&System, &System));
    let failed = backup(a, project);
    meta.add_job(failed.clone()).await.unwrap();
    meta.finish_job(failed.id, Finish { state: JobState::Failed, ..done() }).await.unwrap();
    for _ in 0..60 {
        let other = backup(b, project);
        meta.add_job(other.clone()).await.unwrap();
        meta.finish_job(other.id, done()).await.unwrap();
    }
    let page = || PageRequest { after: None, limit: 2 };
    let about = async |database| meta.jobs_about(Subject::Backups(database), page()).await.unwrap().items;
    let of_a = about(a).await;
    assert_eq!((of_a.len(), of_a[0].id, of_a[0].state), (1, failed.id, JobState::Failed));
    assert_eq!(about(b).await.len(), 2);
    meta.write(move |tx| remove_of_project(tx, project)).await.unwrap();
    assert!(about(a).await.is_empty() && about(b).await.is_empty());
}

/// However long it took: nothing that came meanwhile is in it.
#[tokio::test]
async fn a_backup_is_as_old_as_its_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let meta = Meta::open(&folder.path().join("meta.redb")).unwrap();
    let (project, database) = (ProjectId::new(&System, &System), DatabaseId::new(&System, &System));
    let row = serde_json::json!({
        "id": database, "project_id": project, "name": "shop", "environment": "prod", "engine": "postgresql",
        "server_version": "17.2", "url": null, "created_ms": 1, "removed_ms": null,
        "endpoint": { "host": "db", "port": 5432, "database": "shop", "user": "ro" },
    });
    let key = database.to_string();
    meta.write(move |tx| rows::put(tx, rows::DATABASES, &key, &row)).await.unwrap();
    meta.add_job(backup(database, project)).await.unwrap();
    let claimed = meta.claim_job(100).await.unwrap().unwrap();
    meta.finish_job(claimed.id, Finish { finished_ms: 900_000, ..done() }).await.unwrap();
    let known = meta.protection().await.unwrap();
    assert_eq!((known.len(), known[0].last_complete_ms), (1, Some(100)));
}

/// Twenty samples read everything, if none is read twice.
#[tokio::test]
async fn samples_that_came_to_their_end_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let meta = Meta::open(&folder.path().join("meta.redb")).unwrap();
    let project = ProjectId::new(&System, &System);
    for (mode, counted) in [(VerifyMode::Sample, 1), (VerifyMode::Full, 1), (VerifyMode::Sample, 2)] {
        let job =
            JobRecord { work: Work::Verify { mode }, ..backup(DatabaseId::new(&System, &System), project) };
        meta.add_job(job.clone()).await.unwrap();
        let finish = Finish { findings: Some(Findings::default()), ..done() };
        meta.finish_job(job.id, finish).await.unwrap();
        assert_eq!(meta.damage(project).await.unwrap().unwrap().samples, counted);
    }
}

#[tokio::test]
async fn a_restart_interrupts_what_ran_and_keeps_what_waited() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("meta.redb");
    let meta = Meta::open(&path).unwrap();
    let project = ProjectId::new(&System, &System);
    let database = DatabaseId::new(&System, &System);
    let apply = JobRecord {
        work: Work::RestoreApply {
            restore_id: RestoreId::new(&System, &System),
            in_place: false,
            in_steps: false,
        },
        ..backup(database, project)
    };
    meta.add_job(backup(database, project)).await.unwrap();
    let ran = meta.claim_job(2).await.unwrap().unwrap();
    meta.add_job(backup(database, project)).await.unwrap();
    meta.add_job(apply.clone()).await.unwrap();
    drop(meta);

    let meta = Meta::open(&path).unwrap();
    let (interrupted, queued) = meta.recover_jobs(5).await.unwrap();
    let mut ids: Vec<_> = interrupted.iter().map(|job| job.id).collect();
    ids.sort();
    let mut expected = vec![ran.id, apply.id];
    expected.sort();
    assert_eq!(ids, expected);
    assert_eq!(queued.len(), 1);
    assert_eq!(meta.job(ran.id).await.unwrap().unwrap().state, JobState::Interrupted);
    assert_eq!(meta.claim_job(6).await.unwrap().unwrap().id, queued[0].id);
}

#[tokio::test]
async fn a_verification_is_spared_by_one_that_reads_as_much_and_came_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let meta = Meta::open(&folder.path().join("meta.redb")).unwrap();
    let project = ProjectId::new(&System, &System);
    let verify = |mode, created_ms| JobRecord {
        work: Work::Verify { mode },
        created_ms,
        ..backup(DatabaseId::new(&System, &System), project)
    };
    let wanted = || verify(VerifyMode::Sample, 100);
    let ends = [
        (VerifyMode::Structure, 50, JobState::Succeeded, true),
        (VerifyMode::Full, 50, JobState::Failed, true),
        (VerifyMode::Sample, 50, JobState::Cancelled, true),
        (VerifyMode::Sample, 50, JobState::Interrupted, true),
        (VerifyMode::Sample, 49, JobState::Succeeded, true),
        (VerifyMode::Sample, 50, JobState::Succeeded, false),
        (VerifyMode::Full, 50, JobState::Succeeded, false),
    ];
    for (mode, created_ms, state, is_queued) in ends {
        // Ids are in the order of their milliseconds.
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        let other = verify(mode, created_ms);
        meta.add_job(other.clone()).await.unwrap();
        meta.finish_job(other.id, Finish { state, ..done() }).await.unwrap();
        let queued = meta.add_verify_unless_recent(wanted(), 50).await.unwrap();
        assert_eq!(queued, is_queued, "{mode:?} at {created_ms} that {state:?}");
        if !queued {
            break;
        }
        // One that waits is enough.
        assert!(!meta.add_verify_unless_recent(wanted(), 50).await.unwrap());
        let waits = meta.claim_job(101).await.unwrap().unwrap();
        meta.finish_job(waits.id, Finish { state: JobState::Failed, ..done() }).await.unwrap();
    }
}

#[tokio::test]
async fn a_verification_that_found_new_damage_is_followed_by_another() {
    let folder = tempfile::tempdir().unwrap();
    let meta = Meta::open(&folder.path().join("meta.redb")).unwrap();
    let project = ProjectId::new(&System, &System);
    let verify = || JobRecord {
        work: Work::Verify { mode: VerifyMode::Sample },
        created_ms: 100,
        ..backup(DatabaseId::new(&System, &System), project)
    };
    // Damage that is known already, found again, is nothing that another look so soon would change.
    for (finished_ms, is_followed) in [(110, true), (120, false)] {
        let job = verify();
        meta.add_job(job.clone()).await.unwrap();
        let hurt = ["a".to_owned()].into();
        let findings = Some(Findings { count: 1, hurt, ..Findings::default() });
        meta.finish_job(job.id, Finish { finished_ms, findings, ..done() }).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        let next = verify();
        assert_eq!(meta.add_verify_unless_recent(next.clone(), 50).await.unwrap(), is_followed);
        meta.finish_job(next.id, Finish { state: JobState::Failed, ..done() }).await.unwrap();
    }
}

#[tokio::test]
async fn a_claim_that_nobody_heard_of_is_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let meta = Meta::open(&folder.path().join("meta.redb")).unwrap();
    let project = ProjectId::new(&System, &System);
    for _ in 0..2 {
        meta.add_job(backup(DatabaseId::new(&System, &System), project)).await.unwrap();
    }
    let (known, lost) =
        (meta.claim_job(2).await.unwrap().unwrap(), meta.claim_job(3).await.unwrap().unwrap());
    assert_eq!(meta.requeue_jobs_but(HashSet::from([known.id])).await.unwrap(), 1);
    assert_eq!(meta.job(known.id).await.unwrap().unwrap().state, JobState::Running);
    let again = meta.claim_job(4).await.unwrap().unwrap();
    assert_eq!((again.id, again.started_ms), (lost.id, Some(4)));
    assert!(meta.claim_job(5).await.unwrap().is_none());
}

#[tokio::test]
async fn a_retry_waits_its_time_and_is_not_overtaken_in_its_lane() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("meta.redb");
    let meta = Meta::open(&path).unwrap();
    let project = ProjectId::new(&System, &System);
    let (a, b) = (DatabaseId::new(&System, &System), DatabaseId::new(&System, &System));
    let first = backup(a, project);
    meta.add_job(first.clone()).await.unwrap();
    assert_eq!(meta.claim_job(10).await.unwrap().unwrap().id, first.id);
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    let (behind, other) = (backup(a, project), backup(b, project));
    meta.add_job(behind.clone()).await.unwrap();
    meta.add_job(other.clone()).await.unwrap();
    let again = meta.retry_job(first.id, 100).await.unwrap().unwrap();
    assert_eq!((again.state, again.retries), (JobState::Queued, 1));
    assert!(meta.retry_job(first.id, 100).await.unwrap().is_none(), "it is not running");
    assert_eq!(meta.claim_job(99).await.unwrap().unwrap().id, other.id);
    assert!(meta.claim_job(99).await.unwrap().is_none());
    assert_eq!(meta.claim_job(100).await.unwrap().unwrap().id, first.id);
    meta.retry_job(first.id, 101 + 4_000).await.unwrap();
    assert!(meta.claim_job(101).await.unwrap().is_none(), "so long some wait");
    // By a clock that was years ahead then.
    assert_eq!(meta.claim_job(100).await.unwrap().unwrap().id, first.id);
    meta.retry_job(first.id, 1_000_000).await.unwrap();
    drop(meta);

    let meta = Meta::open(&path).unwrap();
    meta.recover_jobs(999_998).await.unwrap();
    assert_eq!(meta.claim_job(999_999).await.unwrap().unwrap().id, first.id, "a restart is not waited out");
}

#[tokio::test]
async fn a_final_state_never_changes() {
    let folder = tempfile::tempdir().unwrap();
    let meta = Meta::open(&folder.path().join("meta.redb")).unwrap();
    let job = backup(DatabaseId::new(&System, &System), ProjectId::new(&System, &System));
    meta.add_job(job.clone()).await.unwrap();
    let cancelled = Finish { state: JobState::Cancelled, ..done() };
    assert!(meta.finish_queued_job(job.id, cancelled).await.unwrap().is_some());
    assert!(meta.claim_job(2).await.unwrap().is_none());
    let after = meta.finish_job(job.id, done()).await.unwrap().unwrap();
    assert_eq!(after.state, JobState::Cancelled);
    assert!(meta.finish_queued_job(job.id, done()).await.unwrap().is_none());
}
