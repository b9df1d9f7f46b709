//! Limits of time and size that servers and hosting tiers set.

use bson::{RawDocumentBuf, rawdoc};
use engine_testutils::mongodb::script::{Command, Persona, Refusal, Version};

use crate::deployment::{Collection, Deployment};
use crate::moment::numbered;
use crate::play::{at, backed_up, contents, play, shown};
use crate::support::TestRepo;

fn is_scan(command: &Command) -> bool {
    command.name == "find" && command.document.get("limit").unwrap().is_none()
}

/// MG-C14: `defaultMaxTimeMS` (8.0) holds for reads that set no limit of their own
/// (<https://www.mongodb.com/docs/manual/reference/cluster-parameters/defaultMaxTimeMS/>), and shared
/// tiers of Atlas end every operation after 300 seconds, `getMore` included, and refuse
/// `noCursorTimeout` (<https://www.mongodb.com/docs/atlas/reference/free-shared-limitations/>).
#[tokio::test]
async fn c14_time_limits_do_not_end_a_scan() {
    let mut deployment = Deployment::new(vec![Collection::new("shop.a", numbered(100))]);
    deployment.most_per_reply = 10;
    let mut more = 0;
    let play = play(Persona::primary(Version::V8_0), deployment, move |command, deployment| {
        if command.name == "find" && command.document.get("maxTimeMS").unwrap().is_none() {
            return Some(Refusal::max_time_expired().into());
        }
        if command.document.get_bool("noCursorTimeout").ok() == Some(true) {
            let message = "noTimeout cursors are disallowed in this atlas tier";
            return Some(Refusal::new(8_000, "AtlasError", message).into());
        }
        if command.name == "getMore" && command.document.get_str("collection").ok() == Some("a") {
            more += 1;
            if more % 3 == 0 {
                deployment.put("shop.a", rawdoc! { "_id": 50 + more, "v": "after" });
                return Some(Refusal::max_time_expired().into());
            }
        }
        None
    });
    let test = TestRepo::new().await;
    let snapshot = backed_up(&test, &play).await.unwrap();
    assert_eq!(contents(&test, &snapshot, "shop.a").await, shown(&numbered(100)));
    let scans = play.scans("a");
    let ended: Vec<_> =
        scans.iter().filter(|scan| scan.document.get_bool("noCursorTimeout").is_err()).collect();
    assert!(ended.len() >= 4, "{}", ended.len());
    // Each goes on from the last id, at the same time.
    for pair in ended.windows(2) {
        let from =
            |scan: &Command| scan.document.get_document("min").map_or(-1, |min| min.get_i32("_id").unwrap());
        assert!(from(pair[0]) < from(pair[1]));
        assert_eq!(at(pair[0]), at(pair[1]));
    }
}

/// The documents of a collection in an order that is not that of their ids.
fn shuffled(count: i32) -> Vec<RawDocumentBuf> {
    (0..count).map(|n| rawdoc! { "_id": n * 37 % count, "v": "before" }).collect()
}

/// MG-C15: a guard refuses large scans but for those in natural order, as `mongodump` knows it
/// (TOOLS-4312, <https://github.com/mongodb/mongo-tools/blob/master/mongodump/mongodump.go>). Such a
/// scan cannot be gone on with: it is begun again when its cursor is lost, and nothing is missing.
#[tokio::test]
async fn c15_a_server_that_refuses_large_scans_is_read_in_natural_order() {
    for loses_a_cursor in [false, true] {
        let mut deployment = Deployment::new(vec![Collection::new("shop.a", shuffled(100))]);
        deployment.most_per_reply = 10;
        let mut more = 0;
        let play = play(Persona::primary(Version::V8_0), deployment, move |command, _| {
            let document = &command.document;
            let natural =
                document.get_document("hint").is_ok_and(|hint| hint.get_i32("$natural").ok() == Some(1));
            if is_scan(command) && document.get("min").unwrap().is_none() && !natural {
                let message = "Query rejected: estimated scan size exceeds maxEstimatedScanBytes";
                return Some(Refusal::new(9_000_001, "Location9000001", message).into());
            }
            if command.name == "getMore" && document.get_str("collection").ok() == Some("a") {
                more += 1;
                if more == 4 && loses_a_cursor {
                    return Some(Refusal::cursor_not_found(document.get_i64("getMore").unwrap()).into());
                }
            }
            None
        });
        let test = TestRepo::new().await;
        let snapshot = match backed_up(&test, &play).await {
            Ok(snapshot) => snapshot,
            Err(error) => {
                // Rather nothing than a part.
                assert!(loses_a_cursor, "{error}");
                assert_eq!(error.kind(), engine::Kind::SourceChanged);
                continue;
            }
        };
        assert_eq!(contents(&test, &snapshot, "shop.a").await, shown(&numbered(100)), "{loses_a_cursor}");
    }
}
