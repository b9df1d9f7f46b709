//! Snapshots of one moment where the server reads at the time it is asked for.
//!
//! The replies stand for MongoDB 5.0 to 8.0 as a replica set: `find` with read concern `snapshot`
//! tells its time in `cursor.atClusterTime`, and reads at `atClusterTime` when asked to
//! (<https://www.mongodb.com/docs/manual/reference/read-concern-snapshot/>,
//! <https://github.com/mongodb/specifications/blob/master/source/sessions/snapshot-sessions.md>).

use bson::{RawDocumentBuf, rawdoc};
use engine_testutils::mongodb::script::{Command, Persona, Version};
use repo_format::manifest::Grade;

use crate::deployment::{Collection, Deployment};
use crate::play::{RELEASES, at, backed_up, contents, nothing, play, shown};
use crate::support::TestRepo;

pub fn numbered(count: i32) -> Vec<RawDocumentBuf> {
    (0..count).map(|n| rawdoc! { "_id": n, "v": "before" }).collect()
}

fn shop() -> Deployment {
    Deployment::new(vec![
        Collection::new("shop.fs.chunks", numbered(40)),
        Collection::new("shop.fs.files", numbered(40)),
        Collection::new("shop.orders", numbered(40)),
    ])
}

/// MG-C01, MG-C12, MG-C20: the time of the first snapshot read is sent with every scan, by a command
/// of our own, and what is written meanwhile is in none of them: GridFS files and chunks agree.
#[tokio::test]
async fn c01_every_scan_reads_at_the_time_of_the_first() {
    for version in RELEASES {
        let play = play(Persona::primary(version), shop(), |command, deployment| {
            // An application writes to all of them whenever a scan begins.
            let is_scan = command.name == "find" && command.document.get("limit").unwrap().is_none();
            if is_scan {
                for place in ["shop.fs.chunks", "shop.fs.files", "shop.orders"] {
                    deployment.put(place, rawdoc! { "_id": 7, "v": "after" });
                    deployment.put(
                        place,
                        rawdoc! { "_id": 1_000 + deployment.now.time as i32 % 1_000, "v": "new" },
                    );
                }
            }
            None
        });
        let test = TestRepo::new().await;
        let snapshot = backed_up(&test, &play).await.unwrap();
        let mut times: Vec<_> = ["fs.chunks", "fs.files", "orders"]
            .iter()
            .flat_map(|name| play.scans(name))
            .map(|scan| at(&scan).unwrap())
            .collect();
        assert_eq!(times.len(), 3);
        times.dedup();
        assert_eq!(times.len(), 1, "{version:?}: {times:?}");
        for name in ["shop.fs.chunks", "shop.fs.files", "shop.orders"] {
            assert_eq!(contents(&test, &snapshot, name).await, shown(&numbered(40)), "{version:?}: {name}");
        }
        let evidence = &snapshot.manifest.evidence;
        assert_eq!(evidence.grade, Grade::PointInTime);
        assert!(evidence.method.contains("at one cluster time"), "{}", evidence.method);
        let time = times[0];
        assert_eq!(evidence.snapshot, format!("Timestamp({}, {})", time.time, time.increment));
        assert!(evidence.server_time.starts_with("2027-01-15T"), "{}", evidence.server_time);
    }
}

/// MG-C10, MG-C16: only commands that can be read at a snapshot, and that read-only users of any
/// deployment may send; nothing is asked of the database with the oplog.
#[tokio::test]
async fn c10_nothing_is_counted_and_the_oplog_is_left_alone() {
    const USED: [&str; 12] = [
        "hello",
        "isMaster",
        "ismaster",
        "buildInfo",
        "ping",
        "endSessions",
        "killCursors",
        "listCollections",
        "listIndexes",
        "collStats",
        "find",
        "getMore",
    ];
    for honours in [true, false] {
        let mut deployment = shop();
        deployment.honours = honours;
        let play = play(Persona::primary(Version::V7_0), deployment, nothing);
        let test = TestRepo::new().await;
        backed_up(&test, &play).await.unwrap();
        let seen = play.server.seen();
        let is_used = |command: &Command| {
            let pipeline = command.document.get_array("pipeline").ok();
            let stage = pipeline.and_then(|pipeline| pipeline.get_document(0).ok().map(ToOwned::to_owned));
            let stage = stage.and_then(|stage| Some(stage.iter().next()?.ok()?.0.as_str().to_owned()));
            match stage.as_deref() {
                Some(stage) => ["$changeStream", "$listSearchIndexes"].contains(&stage),
                None => USED.contains(&&*command.name) || command.name == "abortTransaction",
            }
        };
        let other: Vec<_> = seen.iter().filter(|command| !is_used(command)).collect();
        assert!(other.is_empty(), "{other:?}");
        assert!(seen.iter().all(|command| command.database != "local"));
    }
}

/// MG-C11: the reply's time and the member go into the manifest. A member that follows behind, or is
/// hidden, answers `hello` with `secondaryDelaySecs` and `hidden`
/// (<https://www.mongodb.com/docs/manual/reference/command/hello/#response>).
#[tokio::test]
async fn c11_a_read_from_a_secondary_says_which_and_when() {
    let mut persona = Persona::secondary(Version::V7_0);
    persona.primary = Some("primary.invalid:27017".to_owned());
    persona.extra = bson::doc! { "hidden": true, "passive": true, "secondaryDelaySecs": 3_600 };
    let play = play(persona, shop(), nothing);
    let test = TestRepo::new().await;
    let url = format!("{}&directConnection=true&readPreference=secondary", play.url("shop"));
    let snapshot = test.try_backup(&url).await.unwrap();
    let evidence = &snapshot.manifest.evidence;
    assert!(evidence.standby);
    assert_eq!(evidence.grade, Grade::PointInTime);
    let address = play.server.address();
    for said in [address.as_str(), "secondaries", "hidden", "3600 seconds behind"] {
        assert!(evidence.method.contains(said), "{said}: {}", evidence.method);
    }
    let now = play.deployment().now;
    assert_eq!(evidence.snapshot, format!("Timestamp({}, {})", now.time, now.increment));
    // A time of our own and causal consistency exclude each other.
    for scan in play.scans("orders") {
        let concern = scan.document.get_document("readConcern").unwrap();
        assert!(concern.get("afterClusterTime").unwrap().is_none(), "{concern:?}");
    }
}
