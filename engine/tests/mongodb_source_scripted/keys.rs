//! Orders that servers deliver, and the one of the tree.

use bson::{RawDocumentBuf, rawdoc};
use engine_testutils::mongodb::script::{Persona, Version, first_batch};

use crate::deployment::{Collection, Deployment};
use crate::moment::numbered;
use crate::play::{backed_up, contents, nothing, play, shown};
use crate::support::TestRepo;

/// MG-K11: the order is asked of the index of `_id`, never of a sort (`sort` and `hint` name the same
/// index: <https://www.mongodb.com/docs/manual/tutorial/sort-results-with-indexes/>), and a server
/// that delivers another is sorted after.
#[tokio::test]
async fn k11_what_comes_out_of_order_is_sorted_here() {
    let deployment = Deployment::new(vec![Collection::new("shop.a", numbered(100))]);
    let play = play(Persona::primary(Version::V7_0), deployment, |command, deployment| {
        let is_scan = command.document.get_str("find").ok() == Some("a")
            && command.document.get("limit").unwrap().is_none();
        is_scan.then(|| {
            let mut documents = numbered(100);
            documents.swap(20, 70);
            let time = command.at_cluster_time().unwrap_or(deployment.now);
            first_batch("shop.a", 0, &documents).at_cluster_time(time).into()
        })
    });
    let test = TestRepo::new().await;
    let snapshot = backed_up(&test, &play).await.unwrap();
    assert_eq!(contents(&test, &snapshot, "shop.a").await, shown(&numbered(100)));
    assert_eq!(play.scans("a").len(), 2);
    for find in play.server.seen_named("find") {
        let by_id = rawdoc! { "_id": 1 };
        if let Ok(sort) = find.document.get_document("sort") {
            assert_eq!((sort, find.document.get_document("hint").unwrap()), (by_id.as_ref(), by_id.as_ref()));
        }
    }
}

/// MG-K08: an index of a collation orders 'a', 'B', 'c'; keys are in the order of bytes. A collection
/// without the index of `_id` is not asked for its order.
/// <https://www.mongodb.com/docs/manual/reference/collation/>
#[tokio::test]
async fn k08_the_order_of_a_collation_is_not_the_trees() {
    let ids = |ids: &[&str]| ids.iter().map(|id| rawdoc! { "_id": *id }).collect::<Vec<RawDocumentBuf>>();
    let collation = rawdoc! { "locale": "en", "strength": 2 };
    let index = rawdoc! { "v": 2, "key": { "_id": 1 }, "name": "_id_", "collation": collation.clone() };
    let hashed = rawdoc! { "v": 2, "key": { "_id": "hashed" }, "name": "_id_hashed" };
    let deployment = Deployment::new(vec![
        Collection::new("shop.folded", ids(&["a", "B", "c", "ä"]))
            .of_kind("collection", rawdoc! { "collation": collation })
            .with_indexes(vec![index]),
        Collection::new("shop.hashed", ids(&["c", "B", "a"])).with_indexes(vec![hashed]),
    ]);
    let play = play(Persona::primary(Version::V7_0), deployment, nothing);
    let test = TestRepo::new().await;
    let snapshot = backed_up(&test, &play).await.unwrap();
    assert_eq!(contents(&test, &snapshot, "shop.folded").await, shown(&ids(&["B", "a", "c", "ä"])));
    assert_eq!(play.scans("folded").len(), 1);
    // MG-M03: of two equal ids a hashed index says nothing, so all documents count.
    let found = engine::catalog::collection(&test.repo, &snapshot, "shop.hashed").await.unwrap();
    assert_eq!(found.descriptor.layout.key.source, repo_format::catalog::KeySource::Multiset);
    assert_eq!(found.descriptor.records, 3);
    assert!(play.scans("hashed")[0].document.get("sort").unwrap().is_none());
}

/// MG-K10: collections of old servers with `autoIndexId: false` may hold documents without `_id`, equal
/// ones among them (<https://www.mongodb.com/docs/v3.6/reference/command/create/>): all are kept, and
/// one of two equal ones that goes is one record less.
#[tokio::test]
async fn k10_documents_without_an_id_are_a_multiset() {
    let documents =
        vec![rawdoc! { "a": 1 }, rawdoc! { "a": 2 }, rawdoc! { "a": 1 }, rawdoc! { "_id": 5, "a": 1 }];
    let test = TestRepo::new().await;
    let mut snapshots = Vec::new();
    for honours in [true, false] {
        let collection = Collection::new("shop.a", documents[usize::from(!honours)..].to_vec())
            .of_kind("collection", rawdoc! { "autoIndexId": false })
            .with_indexes(Vec::new());
        let mut deployment = Deployment::new(vec![collection]);
        deployment.honours = honours;
        let play = play(Persona::primary(Version::V5_0), deployment, nothing);
        snapshots.push(backed_up(&test, &play).await.unwrap());
    }
    let mut found = contents(&test, &snapshots[0], "shop.a").await;
    found.sort();
    let mut wanted = shown(&documents);
    wanted.sort();
    assert_eq!(found, wanted);
    let summary = engine::diff::summary(&test.repo, &snapshots[0], &snapshots[1], &test.ctx).await.unwrap();
    let counts = summary.collections[0].records;
    assert_eq!((counts.added, counts.changed, counts.removed, counts.unchanged), (0, 0, 1, 3));
}
