//! What a snapshot holds is what the database holds, byte for byte. Case numbers are those of the
//! list of edge cases that the source was built against.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

#[path = "mongodb_source/support.rs"]
mod support;

use bson::{RawDocumentBuf, doc, rawdoc};
use engine::source::ScanOrder;
use engine::source::mongodb::{MongoUrl, Options, Snapshot};
use engine_testutils::mongodb::{Scope, Server};
use repo_format::catalog::{CollectionKind, KeySource};
use support::{Database, collection, context, document, documents, read_all, scan};

fn raw(document: bson::Document) -> RawDocumentBuf {
    RawDocumentBuf::try_from(&document).unwrap()
}

/// A document of these elements, as bytes and without any check.
fn bytes_of(elements: &[(u8, &[u8], &[u8])]) -> RawDocumentBuf {
    let mut bytes = vec![0; 4];
    for (kind, name, value) in elements {
        bytes.push(*kind);
        bytes.extend_from_slice(name);
        bytes.push(0);
        bytes.extend_from_slice(value);
    }
    bytes.push(0);
    let len = i32::try_from(bytes.len()).unwrap();
    bytes[..4].copy_from_slice(&len.to_le_bytes());
    RawDocumentBuf::from_bytes(bytes).unwrap()
}

fn text(text: &[u8]) -> Vec<u8> {
    let len = i32::try_from(text.len() + 1).unwrap();
    [&len.to_le_bytes()[..], text, &[0]].concat()
}

/// MG-D01, MG-D03, MG-D05, MG-D06: nothing is decoded on the way.
#[tokio::test]
async fn d01_to_d06_documents_come_byte_for_byte() {
    let database = Database::new().await;
    let id = |n: i32| n.to_le_bytes();
    let one = 1i32.to_le_bytes();
    let (inner, array) = (rawdoc! { "b": 1, "a": 2 }, rawdoc! { "0": 1, "1": "x" });
    let scoped = [&text(b"x")[..], rawdoc! {}.as_bytes()].concat();
    let scoped = [&i32::try_from(scoped.len() + 4).unwrap().to_le_bytes()[..], &scoped].concat();
    let every_type: &[(u8, &[u8], &[u8])] = &[
        (0x10, b"_id", &id(1)),
        (0x01, b"double", &f64::NAN.to_le_bytes()),
        (0x02, b"string", &text("gr\u{fc}n\0x".as_bytes())),
        (0x03, b"document", inner.as_bytes()),
        (0x04, b"array", array.as_bytes()),
        (0x05, b"old binary", &[6, 0, 0, 0, 2, 2, 0, 0, 0, 9, 9]),
        (0x05, b"vector", &[3, 0, 0, 0, 9, 0x27, 0, 1]),
        (0x06, b"undefined", &[]),
        (0x07, b"oid", &[1; 12]),
        (0x08, b"bool", &[1]),
        (0x09, b"date", &(-62_135_596_800_001i64).to_le_bytes()),
        (0x0a, b"null", &[]),
        (0x0b, b"regex", b"a.b\0imsx\0"),
        (0x0c, b"pointer", &[&text(b"db.c")[..], &[2; 12]].concat()),
        (0x0d, b"code", &text(b"return 1")),
        (0x0e, b"symbol", &text(b"s")),
        (0x0f, b"scoped", &scoped),
        (0x11, b"timestamp", &[1, 0, 0, 0, 2, 0, 0, 0]),
        (0x12, b"long", &(i64::MAX).to_le_bytes()),
        (0x13, b"decimal", &[100, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x3c, 0x30]),
        (0xff, b"min", &[]),
        (0x7f, b"max", &[]),
    ];
    let inserted = [
        bytes_of(every_type),
        bytes_of(&[(0x10, b"_id", &id(2)), (0x10, b"twice", &one), (0x02, b"twice", &text(b"x"))]),
        bytes_of(&[(0x10, b"_id", &id(4)), (0x10, b"", &one), (0x10, b"a.b", &one), (0x10, b"$x", &one)]),
        bytes_of(&[(0x10, b"_id", &id(5)), (0x11, b"empty time", &[0; 8])]),
    ];
    database.insert("all", &inserted).await;
    let expected: Vec<Vec<u8>> = database
        .server
        .read_raw(&format!("{}.all", database.name))
        .await
        .into_iter()
        .map(RawDocumentBuf::into_bytes)
        .collect();
    let (ctx, _folder) = context();
    let snapshot = database.snapshot(&ctx).await;
    let read = documents(&snapshot, "all", &ctx).await;
    assert_eq!(read, expected);
    // The server kept them as well, so this is not only two equal readings.
    assert_eq!(read[1], inserted[1].as_bytes());
    snapshot.close().await.unwrap();
}

/// MG-K01 to MG-K07: ids of every type, in the order of the tree.
#[tokio::test]
async fn k01_ids_of_all_types_come_in_key_order() {
    let database = Database::new().await;
    let mut inserted: Vec<RawDocumentBuf> = vec![
        bytes_of(&[(0xff, b"_id", &[])]),
        bytes_of(&[(0x7f, b"_id", &[])]),
        bytes_of(&[(0x0a, b"_id", &[])]),
        raw(doc! { "_id": f64::NAN }),
        raw(doc! { "_id": f64::NEG_INFINITY }),
        raw(doc! { "_id": -0.0 }),
        raw(doc! { "_id": 9_007_199_254_740_993i64 }),
        raw(doc! { "_id": 9_007_199_254_740_992f64 }),
        raw(doc! { "_id": "0.1".parse::<bson::Decimal128>().unwrap() }),
        raw(doc! { "_id": 0.1 }),
        raw(doc! { "_id": "a\0b" }),
        raw(doc! { "_id": "a" }),
        raw(doc! { "_id": { "b": 1, "a": 2 } }),
        raw(doc! { "_id": { "a": 2, "b": 1 } }),
        raw(doc! { "_id": bson::DateTime::from_millis(-62_198_755_200_000) }),
        raw(doc! { "_id": true }),
        raw(doc! { "_id": "long".repeat(500) }),
        raw(doc! { "_id": bson::oid::ObjectId::new() }),
        raw(doc! { "_id": bson::Timestamp { time: 7, increment: 1 } }),
    ];
    for len in [0usize, 1, 3] {
        let binary = bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: vec![0xff; len] };
        inserted.push(raw(doc! { "_id": binary }));
    }
    inserted.extend((0..500).map(|n| raw(doc! { "_id": n * 7 % 500 + 1, "n": n })));
    database.insert("ids", &inserted).await;
    let (ctx, _folder) = context();
    let snapshot = database.snapshot(&ctx).await;
    let ids = collection(&snapshot, "ids");
    assert_eq!(snapshot.order_of(&ids.namespace, "ids", &ids.layout), ScanOrder::Key);
    // The scan itself checks that keys ascend.
    let records = scan(&snapshot, ids, &ctx).await.unwrap();
    assert_eq!(records.len(), inserted.len());
    snapshot.close().await.unwrap();
}

/// MG-D07: documents of the greatest size, and many of them in flat memory.
#[tokio::test]
async fn d07_documents_of_sixteen_megabytes_are_read() {
    let database = Database::new().await;
    let room = 16 * 1024 * 1024 - rawdoc! { "_id": 1, "x": "" }.as_bytes().len();
    let large = raw(doc! { "_id": 1, "x": "y".repeat(room) });
    assert_eq!(large.as_bytes().len(), 16 * 1024 * 1024);
    database.insert("large", &[large.clone(), raw(doc! { "_id": 2 })]).await;
    let (ctx, _folder) = context();
    let snapshot = database.snapshot(&ctx).await;
    let read = documents(&snapshot, "large", &ctx).await;
    assert_eq!(read.len(), 2);
    assert!(read[0] == large.as_bytes());
    snapshot.close().await.unwrap();
}

/// MG-D11: names that other tools skip.
#[tokio::test]
async fn d11_odd_names_are_read() {
    let database = Database::new().await;
    let names = ["a\nb", "50%", "a/b", "Case", "case", "a.b.c", "ümlaut", &"n".repeat(180), "a$b"];
    let mut made = Vec::new();
    for name in names {
        if database.db().create_collection(name).await.is_ok() {
            database.insert(name, &[raw(doc! { "_id": name })]).await;
            made.push(name);
        }
    }
    assert!(made.len() >= 8, "{made:?}");
    let (ctx, _folder) = context();
    let snapshot = database.snapshot(&ctx).await;
    for name in made {
        let read = documents(&snapshot, name, &ctx).await;
        assert_eq!(read, [raw(doc! { "_id": name }).into_bytes()], "{name}");
    }
    snapshot.close().await.unwrap();
}

/// MG-D10, MG-K10, MG-K13, MG-M02, MG-M10, MG-M11: each kind has the layout that suits it.
#[tokio::test]
async fn every_kind_of_collection_has_its_layout_and_order() {
    let database = Database::new().await;
    let db = database.db();
    let run = async |command: bson::Document| db.run_command(command).await.unwrap();
    run(doc! { "create": "capped", "capped": true, "size": 1 << 20 }).await;
    run(doc! { "create": "series", "timeseries": { "timeField": "at", "metaField": "m" } }).await;
    run(doc! { "create": "clustered", "clusteredIndex": { "key": { "_id": 1 }, "unique": true } }).await;
    run(doc! { "create": "folded", "collation": { "locale": "en", "strength": 2 } }).await;
    run(doc! { "create": "view", "viewOn": "plain", "pipeline": [{ "$sort": { "b": 1, "a": 1 } }] }).await;
    database.insert("plain", &[raw(doc! { "_id": 1 })]).await;
    database.insert("capped", &[3, 1, 2].map(|id| raw(doc! { "_id": id }))).await;
    database.insert("clustered", &[3, 1, 2].map(|id| raw(doc! { "_id": id }))).await;
    database.insert("folded", &["b", "A", "c"].map(|id| raw(doc! { "_id": id }))).await;
    let series = db.collection::<bson::Document>("series");
    let at = bson::DateTime::from_millis(1_700_000_000_000);
    series.insert_many((0..3).map(|_| doc! { "at": at, "m": "x", "v": 1 })).await.unwrap();

    let (ctx, _folder) = context();
    let snapshot = database.snapshot(&ctx).await;
    let seen = |name: &str| {
        let found = collection(&snapshot, name);
        let order = snapshot.order_of(&found.namespace, name, &found.layout);
        (found.layout.kind, found.layout.key.source, order)
    };
    use CollectionKind::{CappedCollection, Collection, TimeSeries, View};
    use KeySource::{Multiset, Primary};
    assert_eq!(seen("plain"), (Collection, Primary, ScanOrder::Key));
    assert_eq!(seen("capped"), (CappedCollection, Primary, ScanOrder::Natural));
    assert_eq!(seen("clustered"), (Collection, Primary, ScanOrder::Any));
    assert_eq!(seen("folded"), (Collection, Primary, ScanOrder::Any));
    assert_eq!(seen("series"), (TimeSeries, Multiset, ScanOrder::Any));
    assert_eq!(seen("view"), (View, Multiset, ScanOrder::Any));

    let ids = |documents: Vec<Vec<u8>>| -> Vec<bson::Bson> {
        let parsed = documents.iter().map(|bytes| bson::Document::from_reader(&bytes[..]).unwrap());
        parsed.map(|document| document.get("_id").cloned().unwrap()).collect()
    };
    assert_eq!(ids(documents(&snapshot, "capped", &ctx).await), [3.into(), 1.into(), 2.into()]);
    assert_eq!(documents(&snapshot, "clustered", &ctx).await.len(), 3);
    assert_eq!(documents(&snapshot, "folded", &ctx).await.len(), 3);
    assert_eq!(documents(&snapshot, "series", &ctx).await.len(), 3);
    assert_eq!(documents(&snapshot, "view", &ctx).await.len(), 0);
    assert!(collection(&snapshot, "view").schema.contains(r#"{\"$sort\":{\"b\":1,\"a\":1}}"#));
    assert!(!snapshot.collections().iter().any(|found| found.name.starts_with("system.")));
    snapshot.close().await.unwrap();
}

/// MG-M01, MG-M05 to MG-M08: what the server says of options and indexes goes into the archive.
#[tokio::test]
async fn m01_definitions_are_archived_as_the_server_gives_them() {
    let database = Database::new().await;
    let db = database.db();
    let validator = doc! { "$jsonSchema": { "required": ["b", "a"] } };
    db.run_command(doc! { "create": "c", "validator": validator }).await.unwrap();
    let indexes = vec![
        doc! { "key": { "b": 1, "a": -1 }, "name": "b_a", "unique": true, "sparse": true },
        doc! { "key": { "x": 1 }, "name": "partial", "partialFilterExpression": {} },
        doc! { "key": { "p": "2dsphere" }, "name": "geo" },
        doc! { "key": { "$**": 1 }, "name": "wild", "wildcardProjection": { "a": 1 } },
        doc! { "key": { "t": 1 }, "name": "ttl", "expireAfterSeconds": 3600, "hidden": true },
    ];
    for index in indexes {
        let name = index.get_str("name").unwrap().to_owned();
        let made = db.run_command(doc! { "createIndexes": "c", "indexes": [index] }).await;
        made.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let (ctx, _folder) = context();
    let snapshot = database.snapshot(&ctx).await;
    let engine::source::ArchiveOutcome::Written(archive) = snapshot.schema_archive().await.unwrap() else {
        panic!("there is an archive");
    };
    let archived = bson::RawDocument::from_bytes(&archive.bytes).unwrap();
    assert_eq!(archived.get_str("name").unwrap(), "c");
    let listed = db.run_command(doc! { "listIndexes": "c" }).await.unwrap();
    let listed = listed.get_document("cursor").unwrap().get_array("firstBatch").unwrap().clone();
    let kept: Vec<bson::Document> = archived
        .get_array("indexes")
        .unwrap()
        .into_iter()
        .map(|index| bson::Document::try_from(index.unwrap().as_document().unwrap()).unwrap())
        .collect();
    let listed: Vec<bson::Document> =
        listed.into_iter().map(|index| index.as_document().unwrap().clone()).collect();
    assert_eq!(kept, listed);
    assert_eq!(kept.len(), 6);
    let schema = &collection(&snapshot, "c").schema;
    for name in ["b_a", "partial", "geo", "wild", "ttl", "_id_", "validator"] {
        assert!(schema.contains(&format!("\"name\":\"{name}\"")), "{name} in {schema}");
    }
    assert!(snapshot.notes().iter().any(|note| note.contains("users and roles")));
    snapshot.close().await.unwrap();
}

/// MG-M13, MG-C20: all databases but the server's own; GridFS is two collections like others.
#[tokio::test]
async fn m13_all_databases_but_the_servers_own_are_read() {
    let server = Server::start(engine_testutils::mongodb::Options::default());
    server.insert_raw("one.a", &[raw(doc! { "_id": 1 })]).await;
    server.insert_raw("two.system.js", &[raw(doc! { "_id": "f", "value": "x" })]).await;
    server.insert_raw("two.fs.files", &[raw(doc! { "_id": 1 })]).await;
    server.insert_raw("admin.mine", &[raw(doc! { "_id": 1 })]).await;
    let url = server.create_read_only_user(Scope::All, "reader").await;
    let (ctx, _folder) = context();
    let snapshot = Snapshot::begin(&MongoUrl::parse(&url).unwrap(), &Options::default(), &ctx).await.unwrap();
    let mut names = support::names(&snapshot);
    names.sort();
    assert_eq!(names, ["one.a", "two.fs.files", "two.system.js"]);
    let (all, _) = read_all(&snapshot, &ctx).await.unwrap();
    assert_eq!(all["a"].len() + all["system.js"].len() + all["fs.files"].len(), 3);
    assert!(snapshot.notes().iter().any(|note| note.contains("mine")), "{:?}", snapshot.notes());
    snapshot.close().await.unwrap();
}

/// A database that is not there looks like an empty one.
#[tokio::test]
async fn a_database_with_nothing_in_it_is_told() {
    let server = Server::shared();
    let url = server.create_read_only_user(Scope::Database("gone"), "reader_of_nothing").await;
    let (ctx, _folder) = context();
    let snapshot = Snapshot::begin(&MongoUrl::parse(&url).unwrap(), &Options::default(), &ctx).await.unwrap();
    let told = "nothing is in the database gone: it is empty, or not there any more";
    assert!(snapshot.notes().iter().any(|note| note == told), "{:?}", snapshot.notes());
    snapshot.close().await.unwrap();
}

/// MG-K01, MG-K12: a change of an id's type only is the same key, with another record.
#[tokio::test]
async fn k12_equal_numbers_are_one_key() {
    let database = Database::new().await;
    let (ctx, _folder) = context();
    let mut seen = Vec::new();
    for id in [bson::Bson::Int32(1), bson::Bson::Int64(1), bson::Bson::Double(1.0)] {
        let one = database.db().collection::<bson::Document>("one");
        one.delete_many(doc! {}).await.unwrap();
        one.insert_one(doc! { "_id": id }).await.unwrap();
        let snapshot = database.snapshot(&ctx).await;
        seen.extend(scan(&snapshot, collection(&snapshot, "one"), &ctx).await.unwrap());
        snapshot.close().await.unwrap();
    }
    assert_eq!(seen.len(), 3);
    assert!(seen[0].0 == seen[1].0 && seen[1].0 == seen[2].0);
    assert!(document(&seen[0].1) != document(&seen[1].1) && document(&seen[1].1) != document(&seen[2].1));
}

/// MG-K13: ids that are far longer than a key of the tree, and differ only at their ends.
#[tokio::test]
async fn k13_very_long_ids_of_a_clustered_collection_are_told_apart() {
    let database = Database::new().await;
    let clustered = doc! { "create": "long", "clusteredIndex": { "key": { "_id": 1 }, "unique": true } };
    database.db().run_command(clustered).await.unwrap();
    let inserted: Vec<RawDocumentBuf> =
        ["c", "a", "b", ""].iter().map(|end| raw(doc! { "_id": "x".repeat(1 << 20) + end })).collect();
    database.insert("long", &inserted).await;
    let (ctx, _folder) = context();
    let snapshot = database.snapshot(&ctx).await;
    let (all, _) = read_all(&snapshot, &ctx).await.unwrap();
    assert_eq!(all["long"].len(), 4);
    assert!(all["long"].keys().all(|key| key.len() == 1024));
    let mut read: Vec<Vec<u8>> = all["long"].values().map(|records| document(&records[0])).collect();
    let mut wanted: Vec<Vec<u8>> = inserted.into_iter().map(RawDocumentBuf::into_bytes).collect();
    read.sort();
    wanted.sort();
    assert!(read == wanted);
    snapshot.close().await.unwrap();
}
