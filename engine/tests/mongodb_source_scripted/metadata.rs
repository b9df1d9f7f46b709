//! What a snapshot says of definitions and of what is not in it.

use bson::spec::BinarySubtype;
use bson::{Binary, RawDocumentBuf, rawdoc};
use engine_testutils::mongodb::script::{Persona, Version, first_batch};

use crate::deployment::{Collection, Deployment};
use crate::moment::numbered;
use crate::play::{backed_up, contents, nothing, play, says, shown};
use crate::support::TestRepo;

fn id_index() -> RawDocumentBuf {
    rawdoc! { "v": 2, "key": { "_id": 1 }, "name": "_id_" }
}

/// MG-M12: collections with `encryptedFields` and their state collections are named as left out; a
/// value that a client encrypted is binary of subtype 6 and nothing else.
/// <https://www.mongodb.com/docs/manual/core/queryable-encryption/reference/limitations/>
#[tokio::test]
async fn m12_queryable_encryption_is_left_out_by_name_and_encrypted_values_are_kept() {
    let encrypted = Binary { subtype: BinarySubtype::Encrypted, bytes: vec![1; 50] };
    let values = vec![rawdoc! { "_id": 1, "ssn": encrypted }];
    let play = play(
        Persona::primary(Version::V8_0),
        Deployment::new(vec![
            Collection::new("shop.a", values.clone()),
            Collection::new("shop.people", numbered(3))
                .of_kind("collection", rawdoc! { "encryptedFields": { "fields": [] } }),
            Collection::new("shop.enxcol_.people.esc", numbered(3)),
        ]),
        nothing,
    );
    let test = TestRepo::new().await;
    let snapshot = backed_up(&test, &play).await.unwrap();
    let missing: Vec<_> = snapshot.manifest.missing.iter().map(|missing| missing.name.as_str()).collect();
    assert_eq!(missing, ["shop.people", "shop.enxcol_.people.esc"]);
    assert!(snapshot.manifest.missing.iter().all(|missing| missing.reason.contains("Queryable Encryption")));
    assert!(!snapshot.manifest.is_complete());
    assert_eq!(contents(&test, &snapshot, "shop.a").await, shown(&values));
    assert!(play.scans("people").is_empty());
}

/// MG-M13, MG-M14: the server's own databases are left out, a user's collections in `admin` are told,
/// and so is that users and roles are no part of it.
#[tokio::test]
async fn m13_what_belongs_to_the_server_is_left_out_and_what_does_not_is_told() {
    let play = play(
        Persona::primary(Version::V8_0),
        Deployment::new(vec![
            Collection::new("admin.system.users", numbered(1)),
            Collection::new("admin.notes", numbered(1)),
            Collection::new("config.settings", numbered(1)),
            Collection::new("local.oplog.rs", numbered(1)),
            Collection::new("__mdb_internal_search.x", numbered(1)),
            Collection::new("shop.a", numbered(1)),
            Collection::new("shop.system.js", numbered(1)),
            Collection::new("shop.system.profile", numbered(1)),
        ]),
        nothing,
    );
    let test = TestRepo::new().await;
    let snapshot = test.try_backup(&play.url("")).await.unwrap();
    let found = engine::catalog::collections(&test.repo, &snapshot).await.unwrap();
    let names: Vec<_> = found.iter().map(|found| found.display_name()).collect();
    assert_eq!(names, ["shop.a", "shop.system.js"]);
    let notes = &snapshot.manifest.notes;
    assert!(notes.iter().any(|note| note.contains("admin") && note.ends_with(": notes")), "{notes:?}");
    assert!(notes.iter().any(|note| note == "users and roles are not part of snapshots"), "{notes:?}");
}

/// MG-M01, MG-M15: an index that is being built is told as that, whichever way the server says so
/// (`buildUUID`, and `indexBuildInfo` of 7.0 and later:
/// <https://www.mongodb.com/docs/manual/reference/command/listIndexes/>), and is no index of the archive;
/// fields that nobody knows are in it.
#[tokio::test]
async fn m15_an_index_that_is_being_built_is_told_as_that() {
    let build = Binary { subtype: BinarySubtype::Uuid, bytes: vec![5; 16] };
    let spec = |name: &str| rawdoc! { "v": 2, "key": { "x": 1 }, "name": name };
    let indexes = vec![
        id_index(),
        rawdoc! { "v": 2, "key": { "y": 1 }, "name": "ready", "futureOption": { "b": 1, "a": 2 } },
        rawdoc! { "spec": spec("in_5_0"), "buildUUID": build.clone() },
        rawdoc! { "v": 2, "key": { "z": 1 }, "name": "in_7_0", "indexBuildInfo": { "buildUUID": build } },
    ];
    let options = rawdoc! { "futureFlag": true, "size": 4096.5 };
    let collection = Collection::new("shop.a", numbered(3))
        .of_kind("collection", options.clone())
        .with_indexes(indexes.clone());
    let play = play(Persona::primary(Version::V7_0), Deployment::new(vec![collection]), nothing);
    let test = TestRepo::new().await;
    let snapshot = backed_up(&test, &play).await.unwrap();
    let notes = &snapshot.manifest.notes;
    let told = "indexes of shop.a that were still being built: in_5_0, in_7_0";
    assert!(notes.iter().any(|note| note == told), "{notes:?}");
    let found = engine::catalog::collection(&test.repo, &snapshot, "shop.a").await.unwrap();
    assert!(found.schema.contains(r#""indexes_in_progress":["in_5_0","in_7_0"]"#), "{}", found.schema);
    assert!(found.schema.contains("futureOption") && found.schema.contains("futureFlag"));
    let (url, how) = (play.parsed("shop"), engine::source::mongodb::Options::default());
    let begun = engine::source::mongodb::Snapshot::begin(&url, &how, &test.ctx);
    let engine::source::ArchiveOutcome::Written(archive) =
        begun.await.unwrap().schema_archive().await.unwrap()
    else {
        panic!("there is an archive");
    };
    let entry = bson::RawDocument::from_bytes(&archive.bytes).unwrap();
    assert_eq!(entry.get_document("options").unwrap(), options.as_ref());
    let kept: Vec<_> = entry
        .get_array("indexes")
        .unwrap()
        .into_iter()
        .map(|it| it.unwrap().as_document().unwrap().to_owned())
        .collect();
    assert_eq!(kept, indexes[..2]);
}

/// MG-M16: search indexes are listed by an aggregation that other servers do not know
/// (<https://www.mongodb.com/docs/manual/reference/operator/aggregation/listSearchIndexes/>). They are
/// told, and a restore says again that they are not in it.
#[tokio::test]
async fn m16_search_indexes_are_listed_and_not_restored() {
    let deployment = Deployment::new(vec![Collection::new("shop.a", numbered(3))]);
    let play = play(Persona::primary(Version::V7_0), deployment, |command, _| {
        let is_asked = says(command, "$listSearchIndexes");
        is_asked.then(|| {
            let index = rawdoc! { "id": "65f0", "name": "words", "type": "search", "status": "READY",
            "latestDefinition": { "mappings": { "dynamic": true } } };
            first_batch("shop.a", 0, &[index]).into()
        })
    });
    let test = TestRepo::new().await;
    let snapshot = backed_up(&test, &play).await.unwrap();
    let notes = &snapshot.manifest.notes;
    let told = "search indexes are listed here and not restored: words of shop.a";
    assert!(notes.iter().any(|note| note == told), "{notes:?}");

    let url = play.url("copy");
    let plan =
        engine::restore::plan(&test.repo, &snapshot, &engine::restore::Scope::All, &url, &test.ctx).await;
    let preflight = plan.unwrap().preflight;
    let indexes = preflight.iter().find(|check| check.check == "indexes").unwrap();
    assert!(indexes.ok && indexes.detail.contains("words of copy.a (search index)"), "{}", indexes.detail);
}

/// MG-M06: 9.0 lists the simple collation of plain indexes, which is no difference to what other
/// releases list.
#[tokio::test]
async fn m06_a_collation_that_is_none_is_no_difference() {
    let test = TestRepo::new().await;
    let mut schemas = Vec::new();
    for collation in [false, true] {
        let mut index = rawdoc! { "v": 2, "key": { "x": 1 }, "name": "x_1" };
        if collation {
            index.append(bson::raw::cstr!("collation"), rawdoc! { "locale": "simple" });
        }
        let collection = Collection::new("shop.a", numbered(3)).with_indexes(vec![id_index(), index]);
        let play = play(Persona::primary(Version::V8_0), Deployment::new(vec![collection]), nothing);
        let snapshot = backed_up(&test, &play).await.unwrap();
        schemas.push(engine::catalog::collection(&test.repo, &snapshot, "shop.a").await.unwrap().schema);
    }
    assert_eq!(schemas[0], schemas[1]);
}
