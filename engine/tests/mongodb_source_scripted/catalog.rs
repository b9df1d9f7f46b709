//! Definitions that change while they are read.
//!
//! From 6.0 on a change stream that asks for expanded events tells of `create`, `createIndexes`,
//! `modify`, `shardCollection` and `reshardCollection`; before, it tells of `drop` and `rename` only
//! and refuses the option (<https://www.mongodb.com/docs/manual/reference/change-events/#expanded-events>).
//! A collection's UUID is in `listCollections`
//! (<https://www.mongodb.com/docs/manual/reference/command/listCollections/#output>).

use bson::rawdoc;
use engine::Kind;
use engine_testutils::mongodb::script::{Command, Persona, Refusal, Reply, Version};

use crate::deployment::{Collection, Deployment};
use crate::moment::numbered;
use crate::play::{Play, backed_up, contents, play, says, shown};
use crate::support::TestRepo;

/// A change of a definition, and the word for it in the error.
type Change = (&'static str, fn(&mut Deployment), &'static str);

const CHANGES: [Change; 6] = [
    (
        "collMod",
        |it| it.define("modify", "shop.a", |found| found.options = rawdoc! { "validator": { "x": 1 } }),
        "options",
    ),
    (
        "createIndexes",
        |it| {
            let index = rawdoc! { "v": 2, "key": { "x": 1 }, "name": "x_1" };
            it.define("createIndexes", "shop.a", |found| found.indexes.push(index));
        },
        "indexes",
    ),
    ("rename", |it| it.define("rename", "shop.a", |found| found.name = "c".to_owned()), "dropped or renamed"),
    ("reshard", |it| it.define("reshardCollection", "shop.a", |found| found.uuid = [9; 16]), "resharded"),
    ("drop and create", |it| it.make_anew("shop.a", vec![rawdoc! { "_id": 1, "v": "anew" }]), "made anew"),
    (
        "create",
        |it| {
            it.collections.push(Collection::new("shop.new", numbered(1)));
            it.define("create", "shop.new", |_| {});
        },
        "created",
    ),
];

/// When a scan of `b` goes on, so that the one of `a` is under way or over.
fn mid_scan(command: &Command) -> bool {
    command.name == "getMore" && command.document.get_str("collection").ok() == Some("b")
}

/// When the last round begins, so that everything was scanned.
fn in_the_last_round(command: &Command) -> bool {
    command.document.get_bool("startTransaction").is_ok()
}

/// A deployment that changes just before it answers such a command, `times` times. Snapshot times are
/// not honoured, so it is caught up with.
fn changing(version: Version, (_, change, _): Change, when: fn(&Command) -> bool, times: u32) -> Play {
    let mut deployment = Deployment::new(vec![
        Collection::new("shop.a", numbered(30)),
        Collection::new("shop.b", numbered(30)),
    ]);
    deployment.honours = false;
    deployment.most_per_reply = 10;
    let mut left = times;
    play(Persona::primary(version), deployment, move |command, deployment| {
        if expands(command) && version.wire < Version::V6_0.wire {
            let message = "BSON field '$changeStream.showExpandedEvents' is an unknown field.";
            return Some(Refusal::new(40_415, "Location40415", message).into());
        }
        if when(command) && left > 0 {
            left -= 1;
            change(deployment);
        }
        None::<Reply>
    })
}

fn expands(command: &Command) -> bool {
    command.name == "aggregate" && says(command, "showExpandedEvents")
}

/// MG-C05, MG-C19: what the snapshot holds is of one moment with its definitions, and the collection
/// beside the one that was altered was read once.
#[tokio::test]
async fn c05_what_is_altered_while_it_is_caught_up_with_is_read_anew() {
    for version in [Version::V5_0, Version::V7_0] {
        for change in CHANGES {
            let play = changing(version, change, mid_scan, 1);
            let test = TestRepo::new().await;
            let snapshot =
                backed_up(&test, &play).await.unwrap_or_else(|error| panic!("{}: {error}", change.0));
            assert_eq!(play.server.seen().iter().any(expands), version.wire >= Version::V6_0.wire);
            let name = if change.0 == "rename" { "shop.c" } else { "shop.a" };
            let wanted = play.deployment().documents(name);
            assert_eq!(contents(&test, &snapshot, name).await, shown(&wanted), "{version:?}: {}", change.0);
            let found = engine::catalog::collection(&test.repo, &snapshot, name).await.unwrap();
            let told = match change.0 {
                "collMod" => "validator",
                "createIndexes" => "x_1",
                _ => "_id_",
            };
            assert!(found.schema.contains(told), "{version:?}: {}: {}", change.0, found.schema);
            assert_eq!(snapshot.manifest.collections, if change.0 == "create" { 3 } else { 2 });
            assert_eq!(play.scans("b").len(), 1, "{version:?}: {}", change.0);
        }
    }
}

/// MG-C05: after everything was scanned, only another collection is scanned, and a definition alone
/// makes nothing be scanned.
#[tokio::test]
async fn c05_only_what_is_another_collection_is_scanned_again() {
    for version in [Version::V5_0, Version::V7_0] {
        for change in CHANGES {
            let play = changing(version, change, in_the_last_round, 1);
            let test = TestRepo::new().await;
            backed_up(&test, &play).await.unwrap_or_else(|error| panic!("{}: {error}", change.0));
            let scans = ["a", "b", "c", "new"].map(|name| play.scans(name).len());
            let wanted = match change.0 {
                "rename" => [1, 1, 1, 0],
                "create" => [1, 1, 0, 1],
                "reshard" | "drop and create" => [2, 1, 0, 0],
                _ => [1, 1, 0, 0],
            };
            assert_eq!(scans, wanted, "{version:?}: {}", change.0);
        }
    }
}

/// MG-C05: a stream that begins with how a listed collection came to be makes nothing be scanned again.
#[tokio::test]
async fn c05_the_creation_of_what_is_listed_does_not_move_it() {
    let late: Change = ("create", |it| it.define("create", "shop.a", |_| {}), "created");
    for when in [mid_scan, in_the_last_round] {
        let play = changing(Version::V7_0, late, when, 1);
        let test = TestRepo::new().await;
        let snapshot = backed_up(&test, &play).await.unwrap();
        assert_eq!(contents(&test, &snapshot, "shop.a").await, shown(&play.deployment().documents("shop.a")));
        assert_eq!(["a", "b"].map(|name| play.scans(name).len()), [1, 1]);
    }
}

/// MG-C05: what is written to a collection under another name is told under that name. Listings before and
/// after are equal.
#[tokio::test]
async fn c05_a_collection_that_was_renamed_and_is_back_is_scanned_again() {
    let away: Change = (
        "away and back",
        |it| {
            it.define("rename", "shop.a", |found| found.name = "away".to_owned());
            it.put("shop.away", rawdoc! { "_id": 7, "v": "away" });
            it.define("rename", "shop.away", |found| found.name = "a".to_owned());
        },
        "",
    );
    for version in [Version::V5_0, Version::V7_0] {
        let play = changing(version, away, in_the_last_round, 1);
        let test = TestRepo::new().await;
        let snapshot = backed_up(&test, &play).await.unwrap();
        let wanted = play.deployment().documents("shop.a");
        assert_eq!(contents(&test, &snapshot, "shop.a").await, shown(&wanted), "{version:?}");
        assert_eq!(["a", "b"].map(|name| play.scans(name).len()), [2, 1], "{version:?}");
    }
}

/// MG-C05: a deployment that never holds still is told so, and nothing is committed.
#[tokio::test]
async fn c05_definitions_that_never_hold_still_fail_the_run() {
    for change in [CHANGES[1], CHANGES[4]] {
        let play = changing(Version::V7_0, change, in_the_last_round, u32::MAX);
        let test = TestRepo::new().await;
        let error = backed_up(&test, &play).await.unwrap_err();
        assert_eq!(error.kind(), Kind::SourceChanged, "{error}");
        assert!(error.message().contains("shop.a") && error.message().contains(change.2), "{error}");
        assert_eq!(test.repo.snapshots().await.unwrap().len(), 0);
    }
}

/// MG-C19: of the name alone nothing would be noticed: the new collection's documents are like those
/// of the old one, and reads at the old time would find none. The UUID tells, also before the scan.
#[tokio::test]
async fn c19_a_collection_that_was_made_anew_is_noticed_by_its_uuid() {
    for honours in [true, false] {
        let mut deployment = Deployment::new(vec![
            Collection::new("shop.a", numbered(30)),
            Collection::new("shop.b", numbered(30)),
        ]);
        deployment.honours = honours;
        let mut is_done = false;
        let play = play(Persona::primary(Version::V7_0), deployment, move |command, deployment| {
            let is_scan = command.document.get_str("find").ok() == Some("a")
                && command.document.get("limit").unwrap().is_none();
            if is_scan && !is_done {
                is_done = true;
                deployment.make_anew("shop.a", numbered(30));
                // A server that keeps the old one for reads at that time.
                return Some(
                    engine_testutils::mongodb::script::first_batch("shop.a", 0, &numbered(29))
                        .at_cluster_time(command.at_cluster_time().unwrap_or(deployment.now))
                        .into(),
                );
            }
            None
        });
        let test = TestRepo::new().await;
        let snapshot = backed_up(&test, &play).await.unwrap();
        assert_eq!(contents(&test, &snapshot, "shop.a").await, shown(&numbered(30)), "honours: {honours}");
        assert!(play.scans("a").len() >= 2);
    }
}
