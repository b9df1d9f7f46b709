//! A restore that ends early takes away what it made, and nothing else.

use std::time::Duration;

use bson::{RawDocumentBuf, doc, rawdoc};
use engine::Kind;
use engine::source::mongodb::MongoUrl;
use engine::target::mongodb::Target;
use engine_testutils::mongodb::{Options, Server};
use repo_format::catalog::CollectionKind;
use tokio::sync::mpsc;

use crate::copier::{Copy, batches, layout, list_options, url};

fn numbered(count: i32) -> Vec<RawDocumentBuf> {
    (0..count).map(|n| rawdoc! { "_id": n }).collect()
}

async fn begun(server: &Server, to: &str, documents: Vec<RawDocumentBuf>) -> (Copy, Target) {
    let mut copy = Copy::empty();
    copy.add("source", "first", "collection", &rawdoc! {}, &[], numbered(10));
    copy.add("source", "second", "collection", &rawdoc! {}, &[], documents);
    let target = Target::create(&url(server, Some(to)), &copy.restoring()).await.unwrap();
    (copy, target)
}

#[tokio::test]
async fn a_document_that_is_refused_is_named_and_everything_is_dropped_again() {
    let server = Server::shared();
    let client = server.client().await;
    let to = server.fresh_database("failing");
    let mut documents = numbered(500);
    documents.insert(300, rawdoc! { "_id": "again" });
    documents.insert(400, rawdoc! { "_id": "again" });
    let (copy, target) = begun(server, &to, documents).await;
    let error = copy.fill(&target).await.unwrap_err();
    assert!(error.message().contains("_id again") && error.message().contains(&to), "{error}");
    let left = target.abandon().await.unwrap();
    assert!(left.contains("dropped again"), "{left}");
    assert_eq!(list_options(&client, &to).await, vec![]);
    assert!(!client.list_database_names().await.unwrap().contains(&to));
}

#[tokio::test]
async fn what_somebody_else_made_meanwhile_stays() {
    let server = Server::shared();
    let client = server.client().await;
    let to = server.fresh_database("shared");
    let (copy, target) = begun(server, &to, numbered(10)).await;
    let theirs = client.database(&to).collection("second");
    theirs.insert_one(doc! { "theirs": true }).await.unwrap();
    client.database(&to).collection("third").insert_one(doc! { "theirs": true }).await.unwrap();
    let error = copy.fill(&target).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict, "{error}");
    target.abandon().await.unwrap();
    let names: Vec<_> = list_options(&client, &to).await.into_iter().map(|found| found.0).collect();
    assert_eq!(names, ["second", "third"]);
    assert_eq!(theirs.count_documents(doc! {}).await.unwrap(), 1);
}

#[tokio::test]
async fn fewer_records_than_expected_fail() {
    let server = Server::shared();
    let to = server.fresh_database("fewer");
    let (copy, target) = begun(server, &to, numbered(10)).await;
    target.pre_data(&copy.restoring()).await.unwrap();
    let layout = layout(CollectionKind::Collection);
    let load = target.load(&layout, "source", "second", 11, batches(&numbered(10)));
    let error = load.await.unwrap_err();
    assert!(error.message().contains("10 documents came, 11"), "{error}");
    target.abandon().await.unwrap();
}

/// Inserts that were sent when the restore was cancelled must not make the collection anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_load_leaves_nothing() {
    let server = Server::shared();
    let client = server.client().await;
    for pause_ms in [0, 1, 5, 20, 60] {
        let to = server.fresh_database("cancelled");
        let (copy, target) = begun(server, &to, numbered(10)).await;
        target.pre_data(&copy.restoring()).await.unwrap();
        let layout = layout(CollectionKind::Collection);
        let many: Vec<_> = (0..60).map(|n| rawdoc! { "_id": n, "v": "z".repeat(500_000) }).collect();
        let load = target.load(&layout, "source", "second", 60, batches(&many));
        // Dropped while a command is on its way, as a cancelled restore does.
        let cancelled = tokio::time::timeout(Duration::from_millis(pause_ms), load).await;
        let left = target.abandon().await.unwrap();
        assert!(left.contains("dropped again"), "{left}");
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(list_options(&client, &to).await, vec![], "{cancelled:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_away_fails_the_load() {
    let mut server = Server::start(Options { auth: false, ..Options::default() });
    let url =
        MongoUrl::parse(&format!("{}?serverSelectionTimeoutMS=2000", server.anonymous_url("gone"))).unwrap();
    let mut copy = Copy::empty();
    copy.add("source", "c", "collection", &rawdoc! {}, &[], Vec::new());
    let target = Target::create(&url, &copy.restoring()).await.unwrap();
    target.pre_data(&copy.restoring()).await.unwrap();
    let (sender, receiver) = mpsc::channel(1);
    let layout = layout(CollectionKind::Collection);
    let load = target.load(&layout, "source", "c", 20, receiver);
    let feed = async {
        let mut first = batches(&numbered(10));
        sender.send(first.recv().await.unwrap()).await.unwrap();
        server.stop();
        let mut second = batches(&numbered(20));
        let _ = sender.send(second.recv().await.unwrap()).await;
        drop(sender);
    };
    let (loaded, ()) = tokio::join!(load, feed);
    let error = loaded.unwrap_err();
    assert_eq!(error.kind(), Kind::Unreachable, "{error}");
    assert!(error.message().starts_with("loading gone.c"), "{error}");
}
