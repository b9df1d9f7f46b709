//! Restoring MongoDB into new databases, on a real server, and what proves it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod support;

use bson::{DateTime, RawDocumentBuf, Timestamp, doc, rawdoc};
use engine::history;
use engine::repo::Snapshot;
use engine::restore::{self, Restored, Scope};
use engine::rows::PageRequest;
use engine::{Kind, Result};
use engine_testutils::mongodb::{Scope as Reads, Server};
use mongodb::Client;
use support::TestRepo;

/// A database with one of everything that is hard to carry over.
async fn seed(server: &Server, name: &str) {
    let client = server.client().await;
    let database = client.database(name);
    for command in [
        doc! { "create": "capped", "capped": true, "size": 1 << 20, "max": 500 },
        doc! { "create": "collated", "collation": { "locale": "de", "strength": 2 } },
        doc! { "create": "judged", "validator": { "$jsonSchema": { "required": ["name"] } } },
        doc! { "create": "weather", "timeseries": { "timeField": "at", "metaField": "place" } },
        doc! { "create": "top", "viewOn": "orders", "pipeline": [{ "$match": { "total": { "$gt": 90 } } }] },
        doc! { "create": "best", "viewOn": "top", "pipeline": [{ "$sort": { "total": -1, "_id": 1 } }] },
        doc! { "createIndexes": "orders", "indexes": [
        { "key": { "number": 1 }, "name": "number", "unique": true },
        { "key": { "lines.sku": 1, "total": -1 }, "name": "lines", "sparse": true },
        { "key": { "$**": 1 }, "name": "all" } ] },
        doc! { "createIndexes": "sessions", "indexes": [
        { "key": { "seen": 1 }, "name": "expiry", "expireAfterSeconds": 3_600_000 } ] },
    ] {
        database.run_command(command).await.unwrap();
    }
    let insert = async |name: &str, documents: &[RawDocumentBuf]| {
        server.insert_raw(&format!("{database}.{name}", database = database.name()), documents).await;
    };
    let order = |n: i32| {
        let lines =
            bson::rawbson!([{ "sku": format!("s{}", n % 40), "n": n % 3 }, { "sku": "bag", "n": 1i64 }]);
        rawdoc! { "_id": n, "number": format!("N{n}"), "total": f64::from(n % 100), "lines": lines, "": { "$x.y": n } }
    };
    insert("orders", &(0..3_000).map(order).collect::<Vec<_>>()).await;
    insert("capped", &(0..900).map(|n| rawdoc! { "_id": (n * 7_919) % 10_007, "n": n }).collect::<Vec<_>>())
        .await;
    insert("collated", &["b", "Ä", "c"].map(|id| rawdoc! { "_id": id })).await;
    let empty = Timestamp { time: 0, increment: 0 };
    let large = rawdoc! { "_id": 3, "name": "large", "v": "x".repeat(9 << 20) };
    insert("judged", &[rawdoc! { "_id": 1, "name": "a", "t": empty }, large]).await;
    let nameless = doc! { "insert": "judged", "documents": [{ "_id": 2 }], "bypassDocumentValidation": true };
    database.run_command(nameless).await.unwrap();
    let measured =
        |n: i64| rawdoc! { "at": DateTime::from_millis(n * 60_000), "place": { "n": n % 4 }, "v": n as f64 };
    insert("weather", &(0..400).map(measured).collect::<Vec<_>>()).await;
    let seen = |n: i32| rawdoc! { "_id": n, "seen": DateTime::from_millis(DateTime::now().timestamp_millis() - i64::from(n) * 1_000) };
    insert("sessions", &(0..50).map(seen).collect::<Vec<_>>()).await;
    insert("repeated", &[repeated()]).await;
}

/// A document with a name that comes twice.
fn repeated() -> RawDocumentBuf {
    let mut bytes = rawdoc! { "_id": 1, "a": 1, "b": 2 }.into_bytes();
    let at = bytes.iter().position(|byte| *byte == b'b').unwrap();
    bytes[at] = b'a';
    RawDocumentBuf::from_bytes(bytes).unwrap()
}

/// A server with such a database, and a snapshot of it through a user who may only read.
async fn taken(test: &TestRepo) -> (&'static Server, String, Snapshot) {
    let server = Server::shared();
    let name = server.fresh_database("shop");
    seed(server, &name).await;
    let url = server.create_read_only_user(Reads::Database(&name), &format!("{name}_reader")).await;
    let snapshot = test.backup(&url).await;
    assert_eq!(snapshot.manifest.missing, []);
    (server, name, snapshot)
}

fn url(server: &Server, database: &str) -> String {
    server.admin_url().replace("/admin?", &format!("/{database}?"))
}

async fn restored(test: &TestRepo, snapshot: &Snapshot, scope: &Scope, url: &str) -> Result<Restored> {
    let plan = restore::plan(&test.repo, snapshot, scope, url, &test.ctx).await.unwrap();
    assert!(plan.is_clear(), "{:#?}", plan.preflight);
    restore::apply(&test.repo, snapshot, scope, &plan, &plan.confirm_phrase, url, &test.ctx).await
}

async fn read(client: &Client, database: &str, name: &str) -> Vec<RawDocumentBuf> {
    let mut cursor =
        client.database(database).collection::<RawDocumentBuf>(name).find(doc! {}).await.unwrap();
    let mut documents = Vec::new();
    while cursor.advance().await.unwrap() {
        documents.push(cursor.current().to_owned());
    }
    documents
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_database_has_the_snapshots_roots() {
    let test = TestRepo::new().await;
    let (server, name, snapshot) = taken(&test).await;
    let client = server.client().await;
    let to = format!("{name}_restored");
    let done = restored(&test, &snapshot, &Scope::All, &url(server, &to)).await.unwrap();
    assert!(done.proof.matches, "{:#?}", done.proof);
    assert_eq!((done.proof.differences, done.records), (0, snapshot.manifest.records));
    assert_eq!(done.proof.schema_differences, Vec::<String>::new());
    assert!(done.notes.iter().all(|note| !note.failed), "{:#?}", done.notes);

    // The server agrees, read in its own order.
    for collection in ["orders", "capped", "collated", "judged", "weather", "sessions", "repeated", "best"] {
        let (found, wanted) = (read(&client, &to, collection).await, read(&client, &name, collection).await);
        let bytes = |all: &[RawDocumentBuf]| {
            let mut all: Vec<_> = all.iter().map(|one| one.as_bytes().to_vec()).collect();
            if !["capped", "best"].contains(&collection) {
                all.sort();
            }
            all
        };
        assert!(!wanted.is_empty() && bytes(&found) == bytes(&wanted), "{collection}");
    }

    // A second restore finds the database occupied, and leaves it alone.
    let target = url(server, &to);
    let again = restore::plan(&test.repo, &snapshot, &Scope::All, &target, &test.ctx).await.unwrap();
    assert!(!again.is_clear());
    let refused =
        restore::apply(&test.repo, &snapshot, &Scope::All, &again, &again.confirm_phrase, &target, &test.ctx);
    assert_eq!(refused.await.unwrap_err().kind(), Kind::Conflict);
    assert_eq!(read(&client, &to, "orders").await.len(), 3_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_altered_document_makes_the_proof_fail() {
    let test = TestRepo::new().await;
    let (server, name, snapshot) = taken(&test).await;
    let client = server.client().await;
    let to = format!("{name}_restored");
    let target = url(server, &to);
    assert!(restored(&test, &snapshot, &Scope::All, &target).await.unwrap().proof.matches);

    // A type, an order of fields and a document too many: three differences that values do not show.
    let orders = client.database(&to).collection::<RawDocumentBuf>("orders");
    orders.update_one(doc! { "_id": 1_234 }, doc! { "$set": { "lines.1.n": 1 } }).await.unwrap();
    orders
        .update_one(
            doc! { "_id": 2_000 },
            vec![doc! { "$replaceWith": {
            "_id": "$_id", "total": "$total", "number": "$number", "lines": "$lines" } }],
        )
        .await
        .unwrap();
    client.database(&to).collection("sessions").insert_one(doc! { "_id": 77_777 }).await.unwrap();
    let proof = restore::prove(&test.repo, &snapshot, &target, &test.ctx).await.unwrap();
    assert!(!proof.matches);
    assert_eq!(proof.differences, 3, "{proof:#?}");
    let of = |name: &str| proof.collections.iter().find(|found| found.name.ends_with(name)).unwrap();
    assert_eq!(of("orders").examples.len(), 2);
    assert!(of("orders").examples[0].starts_with("1234 has other values"), "{proof:#?}");
    assert!(of("sessions").examples[0].contains("77777 is in the target only"), "{proof:#?}");
    assert!(of("capped").matches);
}

#[tokio::test(flavor = "multi_thread")]
async fn chosen_collections_are_restored_and_proven() {
    let test = TestRepo::new().await;
    let (server, name, snapshot) = taken(&test).await;
    let client = server.client().await;
    let to = format!("{name}_chosen");
    let scope = Scope::Collections(vec![format!("{name}.capped"), format!("{name}.judged")]);
    let done = restored(&test, &snapshot, &scope, &url(server, &to)).await.unwrap();
    assert!(done.proof.matches, "{:#?}", done.proof);
    assert_eq!(done.records, 503);
    let mut names = client.database(&to).list_collection_names().await.unwrap();
    names.sort();
    assert_eq!(names, ["capped", "judged"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn single_documents_are_restored_into_a_new_database() {
    let test = TestRepo::new().await;
    let (server, name, snapshot) = taken(&test).await;
    let client = server.client().await;
    let (judged, capped) = (format!("{name}.judged"), format!("{name}.capped"));
    let records = |collection: &str, skipped: usize, count: usize| {
        let (repo, collection) = (test.repo.clone(), collection.to_owned());
        let snapshot = snapshot.clone();
        async move {
            let page =
                history::records(&repo, &snapshot, &collection, &PageRequest::default()).await.unwrap();
            let ids = page.items.into_iter().skip(skipped).take(count).map(|record| record.id);
            Scope::Records([(collection, ids.collect())].into())
        }
    };
    let to = format!("{name}_single");
    let done = restored(&test, &snapshot, &records(&judged, 1, 2).await, &url(server, &to)).await.unwrap();
    assert!(done.proof.matches, "{:#?}", done.proof);
    assert_eq!((done.records, done.notes), (2, vec![]));
    assert_eq!(client.database(&to).list_collection_names().await.unwrap(), ["judged"]);
    let all = read(&client, &name, "judged").await;
    let found = read(&client, &to, "judged").await;
    assert!(found.len() == 2 && found.iter().all(|document| all.contains(document)), "other documents came");
    // The order of a capped collection is of all its documents.
    let of_capped = records(&capped, 0, 1).await;
    let target = url(server, &format!("{name}_capped"));
    let error = restore::plan(&test.repo, &snapshot, &of_capped, &target, &test.ctx).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_restore_leaves_nothing() {
    let server = Server::shared();
    let client = server.client().await;
    for after_ms in [30, 120, 250, 500] {
        let test = TestRepo::new().await;
        let (_, name, snapshot) = taken(&test).await;
        let to = format!("{name}_cancelled");
        let target = url(server, &to);
        let plan = restore::plan(&test.repo, &snapshot, &Scope::All, &target, &test.ctx).await.unwrap();
        let cancel = test.ctx.cancel.clone();
        let timer = tokio::spawn(async move {
            tokio::time::sleep(std::time::Duration::from_millis(after_ms)).await;
            cancel.cancel();
        });
        let ended = restore::apply(
            &test.repo,
            &snapshot,
            &Scope::All,
            &plan,
            &plan.confirm_phrase,
            &target,
            &test.ctx,
        )
        .await;
        timer.await.unwrap();
        match ended {
            // It was faster.
            Ok(done) => assert!(done.proof.matches),
            Err(error) => {
                assert_eq!(error.kind(), Kind::Cancelled, "{error}");
                assert!(!client.list_database_names().await.unwrap().contains(&to), "{after_ms}: {error:?}");
            }
        }
    }
}
