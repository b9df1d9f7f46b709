//! Sharded clusters, behind their router.
//!
//! A router answers `hello` with `isdbgrid`, and reads all shards at the `atClusterTime` it is given
//! (<https://www.mongodb.com/docs/manual/reference/read-concern-snapshot/#read-concern-and-atclustertime>).
//! `_id` is unique only within a shard where the collection is sharded by another key
//! (<https://www.mongodb.com/docs/manual/core/sharding-shard-key/#unique-indexes>).

use bson::{RawDocumentBuf, rawdoc};
use engine_testutils::mongodb::script::{Persona, Refusal, Version};
use repo_format::manifest::Grade;

use crate::deployment::{Collection, Deployment};
use crate::moment::numbered;
use crate::play::{at, backed_up, contents, play, shown};
use crate::support::TestRepo;

/// Forty documents, of which 10 and 25 are on two shards.
fn on_two_shards() -> Vec<RawDocumentBuf> {
    let mut documents: Vec<_> = (0..40).map(|n| rawdoc! { "_id": n, "shard": "west" }).collect();
    documents.extend([10, 25].map(|n| rawdoc! { "_id": n, "shard": "east" }));
    documents
}

fn in_key_order(mut documents: Vec<RawDocumentBuf>) -> Vec<String> {
    documents.sort_by_key(|document| (document.get_i32("_id").unwrap(), document.as_bytes().to_vec()));
    shown(&documents)
}

/// MG-C17, MG-K09: everything through the router, at one time, and both documents of an id are kept,
/// also when the cursor is lost between them.
#[tokio::test]
async fn c17_a_cluster_is_read_through_its_router_at_one_time() {
    for version in [Version::V5_0, Version::V8_0] {
        for loses_a_cursor in [false, true] {
            let mut deployment = Deployment::new(vec![
                Collection::new("shop.a", on_two_shards()),
                Collection::new("shop.b", numbered(30)),
            ]);
            // The 12th of each reply is the first of the two with id 10 or the one before it.
            deployment.most_per_reply = 11;
            let mut more = 0;
            let play = play(Persona::mongos(version), deployment, move |command, deployment| {
                let asks_for_more =
                    command.name == "getMore" && command.document.get_str("collection").ok() == Some("a");
                more += u32::from(asks_for_more);
                if asks_for_more && more == 1 {
                    deployment.put("shop.b", rawdoc! { "_id": 3, "v": "after" });
                    // A chunk that migrates away ends cursors on the shard it was on.
                    return loses_a_cursor.then(|| Refusal::query_plan_killed().into());
                }
                None
            });
            let test = TestRepo::new().await;
            let snapshot = backed_up(&test, &play).await.unwrap();
            assert_eq!(
                contents(&test, &snapshot, "shop.a").await,
                in_key_order(on_two_shards()),
                "{loses_a_cursor}"
            );
            assert_eq!(contents(&test, &snapshot, "shop.b").await, shown(&numbered(30)));
            assert_eq!(snapshot.manifest.evidence.grade, Grade::PointInTime);
            let mut times: Vec<_> = play.scans("a").iter().chain(&play.scans("b")).map(at).collect();
            times.dedup();
            assert!(times.len() == 1 && times[0].is_some(), "{times:?}");
        }
    }
}

/// MG-K09: catching up keeps both, and takes away the one that is deleted.
#[tokio::test]
async fn k09_documents_of_one_id_are_caught_up_with() {
    let mut deployment = Deployment::new(vec![Collection::new("shop.a", on_two_shards())]);
    deployment.honours = false;
    let mut is_done = false;
    let play = play(Persona::mongos(Version::V7_0), deployment, move |command, deployment| {
        let is_scan = command.document.get_str("find").ok() == Some("a")
            && command
                .document
                .get_document("readConcern")
                .is_ok_and(|concern| concern.get_str("level").ok() == Some("majority"));
        if is_scan && !is_done {
            is_done = true;
            let reply = deployment.answer(command);
            // The first of those with id 25 is replaced after the scan has read it.
            deployment.put("shop.a", rawdoc! { "_id": 25, "shard": "west", "v": "after" });
            return Some(reply);
        }
        None
    });
    let test = TestRepo::new().await;
    let snapshot = backed_up(&test, &play).await.unwrap();
    let wanted = play.deployment().documents("shop.a");
    assert_eq!(contents(&test, &snapshot, "shop.a").await, in_key_order(wanted));
    assert_eq!(snapshot.manifest.records, 42);
}
