//! Indexes are built from what the source's server said of them.

use bson::{DateTime, RawDocumentBuf, doc, rawdoc};
use engine::target::mongodb::Target;
use engine_testutils::mongodb::{Flavour, Server};

use crate::copier::{Copy, list_indexes, read, url};

/// Specifications by name, without what the server may order otherwise.
async fn indexes(server: &Server, database: &str, name: &str) -> Vec<RawDocumentBuf> {
    let mut found = list_indexes(&server.client().await, database, name).await;
    found.sort_by(|a, b| a.get_str("name").unwrap().cmp(b.get_str("name").unwrap()));
    found
}

#[tokio::test]
async fn every_kind_of_index_is_restored() {
    let server = Server::shared();
    let client = server.client().await;
    let (from, to) = (server.fresh_database("indexes"), server.fresh_database("restored"));
    let place = doc! { "type": "Point", "coordinates": [5.32, 60.39] };
    let rows =
        (0..20).map(|n| doc! { "_id": n, "a": n, "b": n % 3, "at": place.clone(), "tags": ["x", "y"] });
    client.database(&from).collection("c").insert_many(rows).await.unwrap();
    let specifications = vec![
        doc! { "key": { "a": 1 }, "name": "unique", "unique": true },
        doc! { "key": { "b": 1, "a": -1 }, "name": "compound" },
        doc! { "key": { "absent": 1 }, "name": "sparse", "sparse": true, "unique": true },
        doc! { "key": { "b": 1 }, "name": "partial", "partialFilterExpression": { "a": { "$gt": 5 } } },
        doc! { "key": { "b": -1 }, "name": "empty_partial", "partialFilterExpression": {} },
        doc! { "key": { "$**": 1 }, "name": "wildcard", "wildcardProjection": { "tags": 0 } },
        doc! { "key": { "at": "2dsphere" }, "name": "sphere" },
        doc! { "key": { "tags": 1 }, "name": "hidden", "hidden": true },
        doc! { "key": { "a": 1, "tags": 1 }, "name": "collated", "collation": { "locale": "fr", "strength": 1 } },
    ];
    client
        .database(&from)
        .run_command(doc! { "createIndexes": "c", "indexes": specifications })
        .await
        .unwrap();
    let collated = doc! { "create": "d", "collation": { "locale": "de" } };
    client.database(&from).run_command(collated).await.unwrap();
    let simple = doc! { "key": { "a": 1 }, "name": "simple", "collation": { "locale": "simple" } };
    let inherited = doc! { "key": { "b": 1 }, "name": "inherited" };
    let both = doc! { "createIndexes": "d", "indexes": [simple, inherited] };
    client.database(&from).run_command(both).await.unwrap();

    let copy = Copy::of(&client, &from).await;
    let notes = copy.restore(&url(server, Some(&to))).await;
    assert_eq!(notes, vec![]);
    for name in ["c", "d"] {
        assert_eq!(indexes(server, &to, name).await, indexes(server, &from, name).await, "{name}");
    }
    let twice = client.database(&to).collection("c").insert_one(doc! { "_id": 100, "a": 1 }).await;
    assert!(twice.unwrap_err().to_string().contains("11000"));
}

#[tokio::test]
async fn indexes_that_delete_come_after_the_proof() {
    let server = Server::shared();
    let client = server.client().await;
    let (from, to) = (server.fresh_database("expiry"), server.fresh_database("restored"));
    let at = |hours: i64| DateTime::from_millis(DateTime::now().timestamp_millis() - hours * 3_600_000);
    let documents: Vec<_> = (0..10).map(|n| rawdoc! { "_id": n, "at": at(n * 10), "n": n }).collect();
    let by_age = rawdoc! { "v": 2, "key": { "at": 1 }, "name": "by_age", "expireAfterSeconds": 198_000 };
    let partly = rawdoc! { "v": 2, "key": { "at": -1 }, "name": "partly", "expireAfterSeconds": 0,
    "partialFilterExpression": { "n": { "$gte": 8 } } };
    let mut copy = Copy::empty();
    copy.add(&from, "sessions", "collection", &rawdoc! {}, &[by_age, partly], documents);
    let target = Target::create(&url(server, Some(&to)), &copy.restoring()).await.unwrap();
    assert_eq!(copy.fill(&target).await.unwrap(), vec![]);
    // What the proof sees: every document, and nothing that deletes.
    assert_eq!(read(&client, &to, "sessions").await.len(), 10);
    assert_eq!(indexes(server, &to, "sessions").await.len(), 1);
    let notes = target.finish(&copy.restoring()).await.unwrap();
    let texts: Vec<_> = notes.iter().map(|note| note.text.clone()).collect();
    assert_eq!(texts.len(), 2, "{texts:#?}");
    assert!(texts[0].starts_with("4 documents of") && texts[0].contains("expired"), "{texts:#?}");
    assert!(texts[1].starts_with("2 documents of"), "{texts:#?}");
    let names: Vec<_> = (indexes(server, &to, "sessions").await.iter())
        .map(|index| {
            (index.get_str("name").unwrap().to_owned(), index.get("expireAfterSeconds").unwrap().is_some())
        })
        .collect();
    let wanted = [("_id_", false), ("by_age", true), ("partly", true)];
    assert_eq!(names, wanted.map(|(name, expires)| (name.to_owned(), expires)));
}

#[tokio::test]
async fn an_index_that_the_target_refuses_is_named_and_the_others_are_built() {
    let server = Server::shared();
    let client = server.client().await;
    let (from, to) = (server.fresh_database("refused"), server.fresh_database("restored"));
    let indexes = [
        rawdoc! { "v": 2, "key": { "_id": 1 }, "name": "_id_" },
        rawdoc! { "v": 2, "key": { "a": 1 }, "name": "fine" },
        rawdoc! { "v": 2, "key": { "a": "nonsense" }, "name": "impossible" },
        rawdoc! { "v": 2, "key": { "b": 0 }, "name": "legacy" },
        rawdoc! { "v": 2, "key": { "c": 1 }, "name": "odd_option", "safe": true },
        rawdoc! { "v": 2, "key": { "words": "text" }, "name": "words" },
        rawdoc! { "v": 2, "key": { "d": "hashed" }, "name": "hashed" },
    ];
    let mut copy = Copy::empty();
    copy.add(&from, "c", "collection", &rawdoc! {}, &indexes, vec![rawdoc! { "_id": 1, "a": 1 }]);
    let notes = copy.restore(&url(server, Some(&to))).await;
    let failed =
        |name: &str| notes.iter().any(|note| note.failed && note.text.contains(&format!("index {name} ")));
    assert!(failed("impossible") && failed("legacy"), "{notes:#?}");
    // SecantusDB has no text and hashed indexes, and does not ignore what it is told to.
    let lacks = server.flavour() == Flavour::SecantusDb;
    assert_eq!(["words", "hashed", "odd_option"].map(failed), [lacks; 3], "{notes:#?}");
    assert_eq!(
        notes.iter().any(|note| !note.failed && note.text.contains("odd_option")),
        !lacks,
        "{notes:#?}"
    );
    let built: Vec<_> = (list_indexes(&client, &to, "c").await.iter())
        .map(|index| index.get_str("name").unwrap().to_owned())
        .collect();
    assert!(["_id_", "fine"].iter().all(|name| built.iter().any(|built| built == name)), "{built:?}");
    assert_eq!(built.len(), if lacks { 2 } else { 5 }, "{built:?}");
}

#[tokio::test]
async fn documents_that_break_a_unique_index_fail_the_restore() {
    let server = Server::shared();
    let client = server.client().await;
    let (from, to) = (server.fresh_database("twice"), server.fresh_database("restored"));
    let unique = rawdoc! { "v": 2, "key": { "a": 1 }, "name": "unique", "unique": true };
    let twice = vec![rawdoc! { "_id": 1, "a": 1 }, rawdoc! { "_id": 2, "a": 1 }];
    let mut copy = Copy::empty();
    copy.add(&from, "c", "collection", &rawdoc! {}, &[unique], twice);
    let target = Target::create(&url(server, Some(&to)), &copy.restoring()).await.unwrap();
    let error = copy.fill(&target).await.unwrap_err();
    assert_eq!(error.kind(), engine::Kind::Unsupported, "{error}");
    let left = target.abandon().await.unwrap();
    assert!(left.contains("dropped again"), "{left}");
    assert!(!client.list_database_names().await.unwrap().contains(&to));
}
