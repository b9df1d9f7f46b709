//! Servers that no test server is: older releases, with indexes it lacks, failing at the wrong moment.

use std::sync::atomic::{AtomicU32, Ordering};

use bson::{RawDocumentBuf, Timestamp, doc, rawdoc};
use engine::source::mongodb::MongoUrl;
use engine::target::mongodb::Target;
use engine::{Error, Kind};
use engine_testutils::mongodb::script::{Command, Persona, Refusal, Reply, Scripted, Version, first_batch};

use crate::copier::Copy;
use crate::values::built;

/// What an empty server without users answers, so that a script need only say what is special.
fn usual(command: &Command) -> Reply {
    let inserted = |name: &str| {
        let documents = command.document.get_array(name).unwrap().into_iter().count();
        doc! { "n": i32::try_from(documents).unwrap() }
    };
    match command.name.as_str() {
        "connectionStatus" => {
            doc! { "authInfo": { "authenticatedUsers": [], "authenticatedUserPrivileges": [] } }.into()
        }
        "listDatabases" => doc! { "databases": [] }.into(),
        "listCollections" => first_batch("x.$cmd.listCollections", 0, &[]).into(),
        "getParameter" => Refusal::unauthorized("admin").into(),
        "insert" => inserted("documents").into(),
        "update" => inserted("updates").into(),
        "create" | "createIndexes" | "collMod" | "drop" | "dropDatabase" => doc! {}.into(),
        name => Refusal::command_not_found(name).into(),
    }
}

fn url(server: &Scripted) -> MongoUrl {
    MongoUrl::parse(&format!("{}to?serverSelectionTimeoutMS=2000", server.url())).unwrap()
}

fn one(documents: Vec<RawDocumentBuf>) -> Copy {
    let mut copy = Copy::empty();
    copy.add("from", "c", "collection", &rawdoc! {}, &[], documents);
    copy
}

async fn filled(server: &Scripted, copy: &Copy) -> Result<Target, Error> {
    let target = Target::create(&url(server), &copy.restoring()).await.unwrap();
    match copy.fill(&target).await {
        Ok(_) => Ok(target),
        Err(error) => {
            target.abandon().await.unwrap();
            Err(error)
        }
    }
}

fn documents(command: &Command) -> Vec<RawDocumentBuf> {
    let array = command.document.get_array("documents").unwrap();
    array.into_iter().map(|item| item.unwrap().as_document().unwrap().to_owned()).collect()
}

fn empty() -> Timestamp {
    Timestamp { time: 0, increment: 0 }
}

#[tokio::test]
async fn an_old_server_is_made_to_keep_empty_timestamps() {
    for version in [Version::V5_0, Version::V6_0] {
        let server = Scripted::start(Persona::primary(version), |command| {
            match (command.name.as_str(), command.document.get("bypassEmptyTsReplacement")) {
                ("insert", Ok(Some(_))) => Refusal::new(
                    40_415,
                    "Location40415",
                    "BSON field 'insert.bypassEmptyTsReplacement' is an unknown field.",
                )
                .into(),
                _ => usual(command),
            }
        });
        let stamped = rawdoc! { "_id": { "$a": 1 }, "t": empty(), "$set": "$x", "a.b": 1 };
        let all = vec![
            rawdoc! { "_id": 1 },
            stamped.clone(),
            rawdoc! { "_id": 3, "t": empty() },
            rawdoc! { "_id": 4 },
        ];
        filled(&server, &one(all.clone())).await.unwrap();

        let inserts = server.seen_named("insert");
        // Asked once whether it keeps them, and never again.
        let asked = |found: &&Command| matches!(found.document.get("bypassEmptyTsReplacement"), Ok(Some(_)));
        assert_eq!(inserts.iter().filter(asked).count(), 1);
        let sent: Vec<_> = inserts.iter().filter(|found| !asked(found)).flat_map(documents).collect();
        assert_eq!(sent, all);
        let updates = server.seen_named("update");
        assert_eq!(updates.len(), 1);
        let statements = updates[0].document.get_array("updates").unwrap();
        let wanted = rawdoc! { "q": { "_id": { "$eq": { "$a": 1 } } },
        "u": [{ "$replaceWith": { "$literal": stamped } }] };
        assert_eq!(statements.get_document(0).unwrap(), wanted.as_ref());
        assert_eq!(statements.into_iter().count(), 2);
        let concern = updates[0].document.get_document("writeConcern").unwrap();
        assert_eq!((concern.get_str("w").unwrap(), concern.get_bool("j").unwrap()), ("majority", true));
    }
}

#[tokio::test]
async fn documents_go_out_byte_for_byte() {
    let server = Scripted::start(Persona::primary(Version::V8_0), usual);
    let int = 1i32.to_le_bytes();
    let not_utf8 = [3, 0, 0, 0, 0xff, 0xfe, 0];
    let all = vec![
        built(&[(0x10, "_id", &int), (0x02, "a", &not_utf8), (0x02, "a", &not_utf8)]),
        built(&[(0x02, "_id", &not_utf8), (0x10, "a", &int)]),
        built(&[(0x10, "a", &int), (0x10, "_id", &int), (0x10, "", &int)]),
        rawdoc! { "no_id": 1 },
        rawdoc! { "_id": 5, "t": empty(), "u": empty() },
    ];
    let copy = one(all.clone());
    let target = Target::create(&url(&server), &copy.restoring()).await.unwrap();
    let notes = copy.fill(&target).await.unwrap();
    let sent: Vec<_> = server.seen_named("insert").iter().flat_map(documents).collect();
    let bytes = |all: &[RawDocumentBuf]| all.iter().map(|one| one.as_bytes().to_vec()).collect::<Vec<_>>();
    assert_eq!(bytes(&sent), bytes(&all));
    // What the server may do to them is told.
    let texts: Vec<_> = notes.iter().map(|note| note.text.as_str()).collect();
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert!(texts[0].starts_with("1 documents of to.c have no _id"), "{texts:?}");
    assert!(texts[1].contains("_id is not the first field"), "{texts:?}");
    for insert in server.seen_named("insert") {
        let concern = insert.document.get_document("writeConcern").unwrap();
        assert_eq!((concern.get_str("w").unwrap(), concern.get_bool("j").unwrap()), ("majority", true));
        assert!(insert.document.get_bool("ordered").unwrap());
    }
}

#[tokio::test]
async fn indexes_go_out_as_the_source_gave_them() {
    let server = Scripted::start(Persona::primary(Version::V8_0), usual);
    let text = rawdoc! { "v": 2, "key": { "_fts": "text", "_ftsx": 1 }, "name": "words", "weights": { "title": 10, "body": 1 },
    "default_language": "german", "language_override": "lang", "textIndexVersion": 3 };
    let hashed = rawdoc! { "v": 2, "key": { "_id": "hashed" }, "name": "_id_hashed" };
    let default = rawdoc! { "v": 2, "key": { "_id": 1 }, "name": "_id_" };
    let mut copy = Copy::empty();
    copy.add("from", "c", "collection", &rawdoc! {}, &[default, text.clone(), hashed.clone()], Vec::new());
    filled(&server, &copy).await.unwrap();
    let built = server.seen_named("createIndexes");
    assert_eq!(built.len(), 1);
    let indexes = built[0].document.get_array("indexes").unwrap();
    assert_eq!(indexes.get_document(0).unwrap(), text.as_ref());
    assert_eq!(indexes.get_document(1).unwrap(), hashed.as_ref());
    assert_eq!(indexes.into_iter().count(), 2);
}

#[tokio::test]
async fn options_a_server_does_not_know_are_left_out_of_an_index() {
    let server = Scripted::start(Persona::primary(Version::V8_0), |command| {
        let ignores = command.document.get_bool("ignoreUnknownIndexOptions").unwrap_or(false);
        match command.name.as_str() {
            "createIndexes" if !ignores => Refusal::new(
                197,
                "InvalidIndexSpecificationOption",
                "The field 'safe' is not valid for an index specification.",
            )
            .into(),
            _ => usual(command),
        }
    });
    let index = rawdoc! { "v": 2, "key": { "a": 1 }, "name": "a_1", "safe": true };
    let mut copy = Copy::empty();
    copy.add("from", "c", "collection", &rawdoc! {}, &[index], Vec::new());
    let target = Target::create(&url(&server), &copy.restoring()).await.unwrap();
    let notes = copy.fill(&target).await.unwrap();
    assert!(notes.len() == 1 && !notes[0].failed && notes[0].text.contains("a_1 of to.c"), "{notes:?}");
}

#[tokio::test]
async fn a_write_that_most_members_did_not_confirm_fails() {
    let unconfirmed = doc! { "writeConcernError": { "code": 64, "codeName": "WriteConcernTimeout",
    "errmsg": "waiting for replication timed out" } };
    // By the driver, by a command of our own, and of a definition.
    for (on, document) in [
        ("insert", rawdoc! { "_id": 1 }),
        ("insert", rawdoc! { "_id": 1, "t": empty() }),
        ("create", rawdoc! { "_id": 1 }),
    ] {
        let unconfirmed = unconfirmed.clone();
        let server = Scripted::start(Persona::primary(Version::V7_0), move |command| {
            if command.name != on {
                return usual(command);
            }
            let mut answer = unconfirmed.clone();
            answer.insert("n", 1);
            answer.into()
        });
        let error = filled(&server, &one(vec![document])).await.err().unwrap();
        assert!(error.message().contains("most members of the target did not confirm"), "{on}: {error}");
        assert!(error.message().contains("timed out"), "{on}: {error}");
        assert!(!server.seen_named("drop").is_empty(), "{on}");
    }
}

/// The driver's insert is tried again under the number of the first try, by which a server knows it.
#[tokio::test]
async fn an_insert_on_a_lost_connection_is_tried_again_under_its_number() {
    let tries = AtomicU32::new(0);
    let server = Scripted::start(Persona::primary(Version::V7_0), move |command| {
        let is_first = command.name == "insert" && tries.fetch_add(1, Ordering::Relaxed) == 0;
        if is_first { Reply::Drop } else { usual(command) }
    });
    filled(&server, &one(vec![rawdoc! { "_id": 1 }, rawdoc! { "_id": 2 }])).await.unwrap();
    let inserts = server.seen_named("insert");
    assert_eq!(inserts.len(), 2);
    let number = |command: &Command| {
        let session = command.document.get_document("lsid").unwrap().to_owned();
        (session, command.document.get_i64("txnNumber").unwrap())
    };
    assert_eq!(number(&inserts[0]), number(&inserts[1]));
    assert_eq!(documents(&inserts[0]), documents(&inserts[1]));
}

/// Where nothing tells a second try from a first one, there is none.
#[tokio::test]
async fn an_insert_that_could_happen_twice_is_not_tried_again() {
    let stamped = rawdoc! { "_id": 1, "t": empty() };
    let without_id = rawdoc! { "a": 1 };
    for (persona, document) in [
        (Persona::primary(Version::V7_0), stamped),
        (Persona::primary(Version::V7_0), without_id),
        (Persona::standalone(Version::V7_0), rawdoc! { "_id": 1 }),
    ] {
        let server = Scripted::start(persona, |command| match command.name.as_str() {
            "insert" => Reply::Drop,
            _ => usual(command),
        });
        let error = filled(&server, &one(vec![document])).await.err().unwrap();
        assert_eq!(error.kind(), Kind::Unreachable, "{error}");
        assert!(error.message().contains("loading to.c: the connection to the target was lost"), "{error}");
        assert_eq!(server.seen_named("insert").len(), 1);
        assert!(!server.seen_named("drop").is_empty());
    }
}

#[tokio::test]
async fn a_lost_answer_to_create_is_told() {
    let made = AtomicU32::new(0);
    let server =
        Scripted::start(Persona::primary(Version::V7_0), move |command| match command.name.as_str() {
            "create" => {
                made.store(1, Ordering::Relaxed);
                Reply::Drop
            }
            "listCollections" if made.load(Ordering::Relaxed) == 1 => {
                first_batch("to.$cmd.listCollections", 0, &[rawdoc! { "name": "c", "type": "collection" }])
                    .into()
            }
            _ => usual(command),
        });
    let copy = one(Vec::new());
    let target = Target::create(&url(&server), &copy.restoring()).await.unwrap();
    let error = target.pre_data(&copy.restoring()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unreachable, "{error}");
    let left = target.abandon().await.unwrap();
    assert!(left.contains("Whether to.c was made by the restore is not known"), "{left}");
    assert_eq!(server.seen_named("drop").len(), 0);
}

#[tokio::test]
async fn a_document_larger_than_the_target_takes_is_named() {
    let mut persona = Persona::primary(Version::V7_0);
    persona.extra = doc! { "maxBsonObjectSize": 1_000 };
    let server = Scripted::start(persona, usual);
    let large = rawdoc! { "_id": "large", "v": "x".repeat(2_000) };
    let error = filled(&server, &one(vec![rawdoc! { "_id": 1 }, large])).await.err().unwrap();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(error.message().contains("_id large has"), "{error}");
}

#[tokio::test]
async fn batches_stay_below_what_the_server_takes() {
    let mut persona = Persona::primary(Version::V7_0);
    persona.extra = doc! { "maxWriteBatchSize": 7, "maxMessageSizeBytes": 40_000 };
    let server = Scripted::start(persona, usual);
    let all: Vec<_> =
        (0..40).map(|n| rawdoc! { "_id": n, "v": "x".repeat(if n < 20 { 1 } else { 6_000 }) }).collect();
    filled(&server, &one(all.clone())).await.unwrap();
    let inserts = server.seen_named("insert");
    assert!(inserts.iter().all(|insert| documents(insert).len() <= 7));
    assert!(inserts.iter().all(|insert| insert.document.as_bytes().len() <= 40_000));
    assert_eq!(inserts.iter().flat_map(documents).collect::<Vec<_>>(), all);
}

/// An upgraded server may still be held to the features of the release before.
#[tokio::test]
async fn features_count_and_not_the_version() {
    let server = Scripted::start(Persona::primary(Version::V7_0), |command| match command.name.as_str() {
        "getParameter" => doc! { "featureCompatibilityVersion": { "version": "6.0" } }.into(),
        _ => usual(command),
    });
    let mut copy = Copy::empty();
    copy.source.version = "7.0.2".to_owned();
    let series = rawdoc! { "timeseries": { "timeField": "t", "bucketMaxSpanSeconds": 60, "bucketRoundingSeconds": 60 } };
    copy.add("from", "s", "timeseries", &series, &[], Vec::new());
    let checks = copy.preflight(&url(&server)).await;
    let version = checks.iter().find(|check| check.check == "server version").unwrap();
    assert!(!version.ok && version.detail.contains("with the features of 6.0"), "{}", version.detail);
    assert!(
        version.detail.contains("bucketMaxSpanSeconds of time series to.s (from 6.3 on)"),
        "{}",
        version.detail
    );
}

fn says_hashed(command: &Command) -> bool {
    command.document.as_bytes().windows(6).any(|bytes| bytes == b"hashed")
}

/// MG-M09: where documents have an array under the path, servers build no hashed index
/// (<https://www.mongodb.com/docs/manual/core/indexes/index-types/index-hashed/#limitations>). Other
/// tools make an ascending one of it; here it is told, and asked for as it was.
#[tokio::test]
async fn hashed_indexes_on_arrays_are_reported_and_not_rewritten() {
    let hashed = rawdoc! { "v": 2, "key": { "lines.sku": "hashed" }, "name": "sku" };
    let plain = rawdoc! { "v": 2, "key": { "a": 1 }, "name": "a_1" };
    let server = Scripted::start(Persona::primary(Version::V8_0), |command| {
        let hashes = command.name == "createIndexes" && says_hashed(command);
        if !hashes {
            return usual(command);
        }
        let message = "hashed indexes do not currently support array values. Found array at path: lines";
        Refusal::new(16_766, "Location16766", message).into()
    });
    let mut copy = one(vec![rawdoc! { "_id": 1, "lines": [{ "sku": "s" }] }]);
    copy.archive.clear();
    copy.archive.extend(crate::copier::entry(
        "from",
        "c",
        "collection",
        &rawdoc! {},
        &[hashed.clone(), plain],
    ));
    let target = Target::create(&url(&server), &copy.restoring()).await.unwrap();
    let notes = copy.fill(&target).await.unwrap();
    assert!(notes.len() == 1 && notes[0].failed, "{notes:?}");
    assert!(notes[0].text.contains("index sku of to.c is not restored") && notes[0].text.contains("array"));
    for asked in server.seen_named("createIndexes") {
        for index in asked.document.get_array("indexes").unwrap() {
            let index = index.unwrap().as_document().unwrap().to_owned();
            assert!(index.get_str("name").ok() != Some("sku") || index == hashed, "{index:?}");
        }
    }
    // The other one is built.
    assert!(server.seen_named("createIndexes").iter().any(|asked| !says_hashed(asked)));
}
