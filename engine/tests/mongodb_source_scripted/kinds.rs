//! Kinds of collections that a release reads in its own way.

use bson::{RawDocumentBuf, rawdoc};
use engine::Kind;
use engine_testutils::mongodb::script::{Command, Persona, Refusal, Reply, Version};
use repo_format::manifest::Grade;

use crate::deployment::{Collection, Deployment};
use crate::moment::numbered;
use crate::play::{Play, at, backed_up, backed_up_at_best, contents, play, shown};
use crate::support::TestRepo;

/// Two collections, one of them capped, of a server that reads capped ones in snapshots from 8.0 on
/// (<https://www.mongodb.com/docs/manual/reference/read-concern-snapshot/#read-concern-and-capped-collections>).
/// `writes` go to the capped one while the other is scanned.
fn with_a_log(version: Version, writes: bool) -> Play {
    let capped = rawdoc! { "capped": true, "size": 1 << 20 };
    // Natural order is not that of ids.
    let entries: Vec<RawDocumentBuf> = [5, 3, 9, 1].iter().map(|n| rawdoc! { "_id": *n }).collect();
    let deployment = Deployment::new(vec![
        Collection::new("shop.a", numbered(30)),
        Collection::new("shop.log", entries).of_kind("collection", capped),
    ]);
    play(Persona::primary(version), deployment, move |command, deployment| {
        let of_log = command.document.get_str("find").ok() == Some("log");
        let in_snapshot = command.document.get_bool("autocommit").is_ok()
            || command
                .document
                .get_document("readConcern")
                .is_ok_and(|concern| concern.get_str("level").ok() == Some("snapshot"));
        if of_log && in_snapshot && version.wire < Version::V8_0.wire {
            let message = "Reading from capped collections with readConcern snapshot is not supported";
            return Some(Refusal::new(246, "SnapshotUnavailable", message).into());
        }
        let scans_a = command.document.get_str("find").ok() == Some("a")
            && command.document.get("limit").unwrap().is_none();
        if scans_a && writes {
            deployment.put("shop.log", rawdoc! { "_id": 100 + (deployment.now.time % 1_000) as i32 });
        }
        None
    })
}

/// MG-C08, MG-D10: before 8.0 what holds a capped collection is caught up with, also where the server
/// honours times; the order of the log is kept.
#[tokio::test]
async fn c08_capped_collections_are_caught_up_with_before_8_0() {
    for version in [Version::V5_0, Version::V6_0, Version::V7_0, Version::V8_0] {
        let play = with_a_log(version, false);
        let test = TestRepo::new().await;
        let snapshot = backed_up(&test, &play).await.unwrap();
        let evidence = &snapshot.manifest.evidence;
        let caught_up = version.wire < Version::V8_0.wire;
        assert_eq!(evidence.method.contains("change stream"), caught_up, "{}", evidence.method);
        assert_eq!(evidence.grade, Grade::PointInTime);
        let scan = &play.scans("log")[0];
        assert_eq!(at(scan).is_none(), caught_up);
        assert_eq!(scan.document.get_document("hint").unwrap().get_i32("$natural").ok(), Some(1));
        // Key order here is that of ids; the natural order is kept beside it.
        let wanted: Vec<RawDocumentBuf> = [1, 3, 5, 9].iter().map(|n| rawdoc! { "_id": *n }).collect();
        assert_eq!(contents(&test, &snapshot, "shop.log").await, shown(&wanted));
        let found = engine::catalog::collection(&test.repo, &snapshot, "shop.log").await.unwrap();
        assert!(found.descriptor.natural_order.is_some());
    }
}

/// MG-C08: where it changed meanwhile there is no such moment: refused, or labelled on request.
#[tokio::test]
async fn c08_a_capped_collection_that_changed_is_labelled_or_refused() {
    let play = with_a_log(Version::V7_0, true);
    let test = TestRepo::new().await;
    let error = backed_up(&test, &play).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported, "{error}");
    assert!(error.message().contains("capped") && error.message().contains("shop.log"), "{error}");
    assert!(error.help().unwrap().contains("best effort"));

    let play = with_a_log(Version::V7_0, true);
    let snapshot = backed_up_at_best(&test, &play).await.unwrap();
    assert_eq!(snapshot.manifest.evidence.grade, Grade::NotPointInTime);
    let notes = &snapshot.manifest.notes;
    assert!(notes.iter().any(|note| note == "records may be of different moments: shop.log"), "{notes:?}");

    let play = with_a_log(Version::V8_0, true);
    let snapshot = backed_up(&test, &play).await.unwrap();
    assert_eq!(snapshot.manifest.evidence.grade, Grade::PointInTime);
    assert_eq!(contents(&test, &snapshot, "shop.log").await.len(), 4);
}

/// MG-C09: a time series has no events, so it is read at the snapshot's time in every way: with all
/// others where nothing has to be caught up with, else once more in the last round.
/// <https://www.mongodb.com/docs/manual/core/timeseries/timeseries-limitations/#change-streams>
#[tokio::test]
async fn c09_time_series_are_read_at_the_time_of_the_snapshot() {
    for (version, honours) in [(Version::V5_0, true), (Version::V8_0, true), (Version::V7_0, false)] {
        let series = rawdoc! { "timeseries": { "timeField": "at" } };
        let mut deployment = Deployment::new(vec![
            Collection::new("shop.a", numbered(30)),
            Collection::new("shop.weather", numbered(20))
                .of_kind("timeseries", series)
                .with_indexes(Vec::new()),
        ]);
        deployment.honours = honours;
        let play = play(Persona::primary(version), deployment, |command, deployment| {
            // Both are written to whenever one is read whole, and no event tells of the series.
            let is_scan = |name: &str| {
                command.document.get_str("find").ok() == Some(name)
                    && command.document.get("limit").unwrap().is_none()
                    && command.document.get("filter").unwrap().is_none()
            };
            let first = deployment.documents("shop.weather").len() < 23;
            if first && (is_scan("a") || is_scan("weather")) {
                let n = deployment.documents("shop.weather").len() as i32;
                deployment.put("shop.weather", rawdoc! { "_id": n, "v": "measured meanwhile" });
                deployment.put("shop.a", rawdoc! { "_id": n, "v": "written meanwhile" });
            }
            None::<Reply>
        });
        let test = TestRepo::new().await;
        let snapshot = backed_up(&test, &play).await.unwrap();
        assert_eq!(snapshot.manifest.evidence.grade, Grade::PointInTime);
        let count = async |word: &str, name: &str| {
            contents(&test, &snapshot, name).await.iter().filter(|found| found.contains(word)).count()
        };
        let (in_series, in_plain) =
            (count("measured", "shop.weather").await, count("written", "shop.a").await);
        // One write to each at a time: at any moment there are as many of both.
        assert_eq!(in_series, in_plain, "{version:?}, honours: {honours}");
        assert_eq!(in_series == 0, honours);
        let in_snapshot =
            |command: &Command| at(command).is_some() || command.document.get_bool("autocommit").is_ok();
        let last = play
            .server
            .seen_named("find")
            .into_iter()
            .rfind(|it| it.document.get_str("find").ok() == Some("weather"));
        assert!(in_snapshot(&last.unwrap()));
    }
}

/// MG-D02, MG-D07: bytes that no text is, and a document above the limit that clients are held to:
/// servers keep up to 16 KB more (`BSONObjMaxInternalSize`,
/// <https://github.com/mongodb/mongo/blob/master/src/mongo/bson/util/builder.h>).
#[tokio::test]
async fn d07_documents_above_the_limit_and_text_that_is_none_are_read() {
    let not_utf8 = RawDocumentBuf::from_bytes(
        [&[23, 0, 0, 0, 0x10][..], b"_id\0", &[1, 0, 0, 0, 0x02], b"a\0", &[2, 0, 0, 0, 0xff, 0, 0]].concat(),
    );
    let not_utf8 = not_utf8.unwrap();
    let room = (16 << 20) + (16 << 10) - rawdoc! { "_id": 2, "v": "" }.as_bytes().len();
    let large = rawdoc! { "_id": 2, "v": "x".repeat(room) };
    assert_eq!(large.as_bytes().len(), (16 << 20) + (16 << 10));
    let documents = vec![not_utf8.clone(), large.clone()];
    let deployment = Deployment::new(vec![Collection::new("shop.a", documents)]);
    let play = play(Persona::primary(Version::V8_0), deployment, crate::play::nothing);
    let test = TestRepo::new().await;
    let snapshot = backed_up(&test, &play).await.unwrap();
    let read = contents(&test, &snapshot, "shop.a").await;
    assert_eq!(read[0], shown(&[not_utf8])[0]);
    assert!(read[0].contains(r#"{"$invalidUtf8":"\\xff"}"#), "{}", read[0]);
    assert_eq!(snapshot.manifest.records, 2);
    assert!(snapshot.manifest.logical_bytes as usize > large.as_bytes().len());
}
