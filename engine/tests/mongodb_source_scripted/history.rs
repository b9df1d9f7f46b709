//! Histories that are too short, for a while or for good.
//!
//! A server keeps `minSnapshotHistoryWindowInSeconds` of history, 300 by default; a read behind it
//! ends with SnapshotTooOld
//! (<https://www.mongodb.com/docs/manual/reference/parameters/#mongodb-parameter-param.minSnapshotHistoryWindowInSeconds>).
//! A time that a catalog change or a lagging member is in the way of is answered with
//! SnapshotUnavailable (<https://www.mongodb.com/docs/manual/reference/read-concern-snapshot/>). An
//! oplog that does not reach back ends a change stream with ChangeStreamHistoryLost
//! (<https://www.mongodb.com/docs/manual/changeStreams/#resume-a-change-stream>).

use bson::rawdoc;
use engine::Kind;
use engine_testutils::mongodb::script::{Command, Persona, Refusal, Version};
use repo_format::manifest::Grade;

use crate::deployment::{Collection, Deployment};
use crate::moment::numbered;
use crate::play::{RELEASES, at, backed_up, contents, nothing, play, says, shown};
use crate::support::TestRepo;

fn is_scan_of(command: &Command, name: &str) -> bool {
    command.document.get_str("find").ok() == Some(name) && command.document.get("limit").unwrap().is_none()
}

/// MG-C02: the window closes after the first part of a scan. What was read is given up; a second
/// reading catches up, and everything in it is of the time it says.
#[tokio::test]
async fn c02_a_scan_that_outlives_the_window_catches_up_and_mixes_nothing() {
    for version in RELEASES {
        let mut deployment = Deployment::new(vec![
            Collection::new("shop.a", numbered(30)),
            Collection::new("shop.b", numbered(30)),
        ]);
        deployment.most_per_reply = 10;
        let mut scans = 0;
        let play = play(Persona::primary(version), deployment, move |command, deployment| {
            let is_at_time = at(command).is_some();
            if is_scan_of(command, "a") && !is_at_time {
                // The second reading, too, is written under.
                deployment.put("shop.b", rawdoc! { "_id": 3, "v": "while a was read again" });
                deployment.put("shop.a", rawdoc! { "_id": 4, "v": "while a was read again" });
                deployment.delete("shop.b", 5);
            }
            if command.name == "getMore" && command.document.get_str("collection").ok() == Some("a") {
                scans += 1;
                if scans == 1 {
                    deployment.put("shop.a", rawdoc! { "_id": 1, "v": "after" });
                    deployment.put("shop.b", rawdoc! { "_id": 2, "v": "after" });
                    return Some(Refusal::snapshot_too_old().into());
                }
            }
            None
        });
        let test = TestRepo::new().await;
        let snapshot = backed_up(&test, &play).await.unwrap();
        for name in ["a", "b"] {
            let place = format!("shop.{name}");
            let mut wanted = play.deployment().documents(&place);
            wanted.sort_by_key(|document| document.get_i32("_id").unwrap());
            assert_eq!(contents(&test, &snapshot, &place).await, shown(&wanted), "{version:?}");
            // The second scan began anew, not where the first one ended.
            let scans = play.scans(name);
            let last = scans.last().unwrap();
            assert!(at(last).is_none() && last.document.get("min").unwrap().is_none());
        }
        let evidence = &snapshot.manifest.evidence;
        assert_eq!(evidence.grade, Grade::PointInTime);
        assert!(evidence.method.contains("change stream"), "{}", evidence.method);
        assert!(evidence.method.contains("at one cluster time"), "{}", evidence.method);
    }
}

/// MG-C04: a change stream that lost its place ends the run, at its opening, while it is followed,
/// and when it is resumed after a failure.
#[tokio::test]
async fn c04_a_lost_change_stream_fails_the_run() {
    for refusal in [
        Refusal::change_stream_history_lost().with_labels(&["NonResumableChangeStreamError"]),
        Refusal::new(280, "ChangeStreamFatalError", "cannot resume stream; the resume token was not found"),
        Refusal::new(
            136,
            "CappedPositionLost",
            "CollectionScan died due to position in capped collection being deleted",
        ),
    ] {
        for resumed in [false, true] {
            let mut deployment = Deployment::new(vec![Collection::new("shop.a", numbered(30))]);
            deployment.honours = false;
            let refusal = refusal.clone();
            let mut broken = false;
            let play = play(Persona::primary(Version::V6_0), deployment, move |command, deployment| {
                if is_scan_of(command, "a") {
                    // There is something that the stream has not told yet.
                    deployment.tick();
                }
                let is_stream = command.document.get_str("collection").ok() == Some("$cmd.aggregate");
                let opens_again = command.name == "aggregate" && says(command, "resumeAfter");
                if opens_again || (is_stream && !resumed) {
                    return Some(refusal.clone().into());
                }
                if is_stream && !broken {
                    broken = true;
                    return Some(
                        Refusal::cursor_not_found(1).with_labels(&["ResumableChangeStreamError"]).into(),
                    );
                }
                None
            });
            let test = TestRepo::new().await;
            let error = backed_up(&test, &play).await.unwrap_err();
            assert_eq!(error.kind(), Kind::SourceChanged, "{error}");
            assert!(error.message().contains("oplog no longer reaches back"), "{error}");
            assert!(error.help().unwrap().contains("replSetResizeOplog"));
            assert_eq!(test.repo.snapshots().await.unwrap().len(), 0);
        }
    }
}

/// A change stream that is interrupted goes on after what it has told.
#[tokio::test]
async fn an_interrupted_change_stream_is_resumed_and_misses_nothing() {
    let mut deployment = Deployment::new(vec![Collection::new("shop.a", numbered(30))]);
    deployment.honours = false;
    let mut asked = 0;
    let play = play(Persona::primary(Version::V7_0), deployment, move |command, deployment| {
        if is_scan_of(command, "a") && command.document.get_document("readConcern").is_ok() {
            deployment.put("shop.a", rawdoc! { "_id": 5, "v": "during the scan" });
        }
        if command.document.get_str("collection").ok() != Some("$cmd.aggregate") {
            return None;
        }
        asked += 1;
        if asked == 2 {
            deployment.put("shop.a", rawdoc! { "_id": 6, "v": "while nobody listened" });
            return Some(
                Refusal::interrupted_by_failover().with_labels(&["ResumableChangeStreamError"]).into(),
            );
        }
        None
    });
    let test = TestRepo::new().await;
    let snapshot = backed_up(&test, &play).await.unwrap();
    let wanted = play.deployment().documents("shop.a");
    assert_eq!(contents(&test, &snapshot, "shop.a").await, shown(&wanted));
    let resumed = play.server.seen_named("aggregate");
    assert!(resumed.iter().any(|command| says(command, "resumeAfter")));
}

/// MG-C06: what is unavailable for a moment is asked for again, at the first read and at a scan.
#[tokio::test]
async fn c06_a_snapshot_that_is_unavailable_is_asked_for_again() {
    for on_the_scan in [false, true] {
        let deployment = Deployment::new(vec![Collection::new("shop.a", numbered(30))]);
        let mut refusals = 2;
        let play = play(Persona::primary(Version::V7_0), deployment, move |command, _| {
            let concerned = command.name == "find" && is_scan_of(command, "a") == on_the_scan;
            if concerned && refusals > 0 {
                refusals -= 1;
                return Some(Refusal::snapshot_unavailable().into());
            }
            None
        });
        let test = TestRepo::new().await;
        let snapshot = backed_up(&test, &play).await.unwrap();
        assert_eq!(contents(&test, &snapshot, "shop.a").await, shown(&numbered(30)));
        assert!(snapshot.manifest.evidence.method.contains("read concern snapshot at one cluster time"));
        let scans = play.scans("a");
        assert_eq!(scans.len(), if on_the_scan { 3 } else { 1 });
        // Again at the same time.
        assert!(scans.iter().all(|scan| at(scan) == at(&scans[0])));
    }
}

/// MG-C06: what stays unavailable is read at a later time.
#[tokio::test]
async fn c06_a_time_that_stays_unavailable_is_given_up_for_a_later_one() {
    let deployment = Deployment::new(vec![Collection::new("shop.a", numbered(30))]);
    let play = play(Persona::primary(Version::V7_0), deployment, |command, deployment| {
        let is_first_time = is_scan_of(command, "a") && at(command).is_some();
        if is_first_time {
            deployment.tick();
            return Some(Refusal::snapshot_unavailable().into());
        }
        None
    });
    let test = TestRepo::new().await;
    let snapshot = backed_up(&test, &play).await.unwrap();
    assert_eq!(contents(&test, &snapshot, "shop.a").await, shown(&numbered(30)));
    let evidence = &snapshot.manifest.evidence;
    assert_eq!(evidence.grade, Grade::PointInTime);
    let first = at(&play.scans("a")[0]).unwrap();
    assert!(evidence.snapshot > format!("Timestamp({}, {})", first.time, first.increment));
}

/// A server that only echoes times is found out, and caught up with.
#[tokio::test]
async fn a_server_that_echoes_times_is_not_believed() {
    let mut deployment = Deployment::new(vec![Collection::new("shop.a", numbered(30))]);
    deployment.honours = false;
    let play = play(Persona::primary(Version::V8_0), deployment, nothing);
    let test = TestRepo::new().await;
    let snapshot = backed_up(&test, &play).await.unwrap();
    let evidence = &snapshot.manifest.evidence;
    assert!(evidence.method.contains("in one transaction"), "{}", evidence.method);
    assert!(play.scans("a").iter().all(|scan| at(scan).is_none()));
}
