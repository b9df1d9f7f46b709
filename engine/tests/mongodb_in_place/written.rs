//! What is written, and that it is all of what was planned and nothing else.

use bson::{DateTime, Timestamp};
use engine_testutils::mongodb::Flavour;
use futures::StreamExt;
use repo_format::manifest::Trigger;

use super::*;

async fn changed() -> Target {
    let target = Target::new(
        vec![],
        vec![("orders", numbered(0..300)), ("items", numbered(0..50)), ("same", numbered(0..10))],
    )
    .await;
    target.set("orders", doc! { "_id": { "$lt": 10 } }, doc! { "v": "w" }).await;
    target.remove("orders", doc! { "_id": 100 }).await;
    target.insert("orders", &numbered(300..303)).await;
    target.remove("items", doc! { "_id": { "$lt": 5 } }).await;
    target
}

#[tokio::test(flavor = "multi_thread")]
async fn collections_become_what_the_snapshot_holds() {
    let target = changed().await;
    let (plan, preview) = target.plan(&Scope::All).await;
    assert_eq!(target.counts(&plan, "orders"), (1, 10, 3));
    assert_eq!(target.counts(&plan, "items"), (5, 0, 0));
    assert_eq!(target.counts(&plan, "same"), (0, 0, 0));
    assert_eq!(
        detail(&plan, "transactions"),
        "19 documents in one transaction: all of it is written, or nothing"
    );
    assert_eq!(target.changes(&preview, "orders").await.len(), 14);
    let (uuid, mut stream) = (target.uuid("orders").await, target.watch("orders").await);
    let restored = target.apply(&Scope::All, &plan).await.unwrap();
    assert!(restored.proof.matches, "{:#?}", restored.proof);
    assert_eq!((restored.records, restored.proof.collections.len(), restored.notes.len()), (19, 3, 0));
    assert_eq!(target.uuid("orders").await, uuid);
    let mut told = BTreeMap::new();
    for _ in 0..14 {
        let event = stream.next().await.unwrap().unwrap();
        *told.entry(format!("{:?}", event.operation_type)).or_insert(0) += 1;
    }
    let wanted = [("Delete", 3), ("Insert", 1), ("Replace", 10)];
    assert_eq!(told, wanted.map(|(kind, count)| (kind.to_owned(), count)).into());
    let bytes = |documents: Vec<RawDocumentBuf>| -> Bytes {
        documents.into_iter().map(RawDocumentBuf::into_bytes).collect()
    };
    assert_eq!(target.all("orders").await, bytes(numbered(0..300)));
    assert_eq!(target.all("items").await, bytes(numbered(0..50)));

    // What was there before is kept, and was known before anything was written.
    let safety = target.safety().await;
    assert_eq!(restored.safety_snapshot, Some(safety.id.to_string()));
    assert_eq!((safety.manifest.trigger, safety.manifest.records), (Trigger::Safety, 302 + 45 + 10));
    // What holds all of it already is not written, nor kept.
    let (_, again) = target.restore(&Scope::All).await;
    assert_eq!((again.records, again.safety_snapshot), (0, None));
    assert_eq!(target.reached.lock().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn chosen_collections_and_single_records_leave_the_rest_alone() {
    let target = changed().await;
    let (orders, items) = (target.all("orders").await, target.all("items").await);
    let (plan, preview) = target.plan(&target.collections(&["orders"])).await;
    assert_eq!(plan.preview.collections.len(), 1);
    // One of each kind: 3 is changed, 100 is gone, 301 is new.
    let keys = ["3", "100", "301"];
    let chosen = target.changes(&preview, "orders").await.into_iter();
    let ids: Vec<String> =
        chosen.filter(|change| keys.contains(&change.key.as_str())).map(|change| change.id).collect();
    let scope = target.records("orders", ids);
    let (plan, _) = target.plan(&scope).await;
    assert_eq!(target.counts(&plan, "orders"), (1, 1, 1));
    // Others may change what is not in scope.
    target.set("orders", doc! { "_id": 200 }, doc! { "v": "later" }).await;
    let restored = target.apply(&scope, &plan).await.unwrap();
    assert!(restored.proof.matches, "{:#?}", restored.proof);
    assert_eq!(restored.records, 3);
    let wanted = |n: i32| {
        let v = match n {
            3 | 100 => format!("v{n}"),
            0..10 => "w".to_owned(),
            200 => "later".to_owned(),
            _ => format!("v{n}"),
        };
        rawdoc! { "_id": n, "v": v }.into_bytes()
    };
    assert_eq!(target.all("orders").await, (0..303).filter(|n| *n != 301).map(wanted).collect::<Bytes>());

    target.restore(&target.collections(&["items"])).await;
    assert_eq!(target.all("items").await.len(), 50);
    assert_ne!((target.all("orders").await, target.all("items").await), (orders, items));
}

/// Documents that servers, drivers or update commands would take for something else.
fn odd(server: &Server) -> Vec<RawDocumentBuf> {
    let empty = Timestamp { time: 0, increment: 0 };
    let mut repeated = rawdoc! { "_id": 1, "a": 1, "b": 2 }.into_bytes();
    let at = repeated.iter().position(|byte| *byte == b'b').unwrap();
    repeated[at] = b'a';
    let mut text = rawdoc! { "_id": 2, "text": "abc" }.into_bytes();
    // SecantusDB takes no text that is not UTF-8.
    if server.flavour() == Flavour::Mongod {
        let at = text.windows(3).position(|bytes| bytes == b"abc").unwrap();
        text[at] = 0xff;
    }
    vec![
        RawDocumentBuf::from_bytes(repeated).unwrap(),
        RawDocumentBuf::from_bytes(text).unwrap(),
        rawdoc! { "_id": 3, "t": empty, "inner": { "t": empty } },
        rawdoc! { "_id": 4, "$set": { "a.b": "$field" }, "$where": "no" },
        rawdoc! { "_id": { "b": 1, "a": [1, { "x": null }] }, "": { "$x.y": 1 } },
        rawdoc! { "_id": "text", "nan": f64::NAN, "zero": -0.0 },
        rawdoc! { "_id": empty, "v": 1 },
        rawdoc! { "_id": null, "v": 1 },
        rawdoc! { "_id": 7.5, "v": "x".repeat(9 << 20) },
        rawdoc! { "_id": 8i64, "v": "whole" },
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_documents_come_back_byte_for_byte() {
    let target = Target::new(vec![], vec![("odd", odd(Server::shared()))]).await;
    let before = target.all("odd").await;
    // Changed, gone, and one whose _id is equal and of another type.
    target.set("odd", doc! { "_id": { "$in": [1, 2, 3, 4, 7.5, "text"] } }, doc! { "extra": 1 }).await;
    target.remove("odd", doc! { "v": { "$in": [1, "whole"] } }).await;
    target.remove("odd", doc! { "": { "$exists": true } }).await;
    target.insert("odd", &[rawdoc! { "_id": 8.0, "v": "double" }]).await;
    let changed = target.all("odd").await;
    let (plan, restored) = target.restore(&Scope::All).await;
    assert_eq!(target.all("odd").await, before);
    assert_eq!(restored.records, 10);
    // And gone from an empty collection.
    let undone = target.undo(&Scope::All, &plan, &target.safety().await).await.unwrap();
    assert!(undone.proof.matches, "{:#?}", undone.proof);
    assert_eq!(target.all("odd").await, changed);
    target.remove("odd", doc! {}).await;
    target.restore(&Scope::All).await;
    assert_eq!(target.all("odd").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn unique_values_change_places() {
    let index = doc! { "createIndexes": "users", "indexes": [{ "key": { "mail": 1 }, "name": "mail", "unique": true }] };
    let user = |n: i32, mail: &str| rawdoc! { "_id": n, "mail": mail };
    let target =
        Target::new(vec![index], vec![("users", vec![user(1, "a"), user(2, "b"), user(3, "c")])]).await;
    let before = target.all("users").await;
    target.remove("users", doc! {}).await;
    target.insert("users", &[user(1, "b"), user(2, "c"), user(4, "a")]).await;
    let (_, restored) = target.restore(&Scope::All).await;
    assert_eq!((target.all("users").await, restored.records), (before, 4));

    // One of them alone would need what another holds.
    target.remove("users", doc! { "_id": 1 }).await;
    target.insert("users", &[user(5, "a")]).await;
    let (_, preview) = target.plan(&Scope::All).await;
    let changes = target.changes(&preview, "users").await;
    let id = changes.into_iter().find(|change| change.key == "1").unwrap().id;
    let scope = target.records("users", vec![id]);
    let (plan, _) = target.plan(&scope).await;
    let error = target.apply(&scope, &plan).await.unwrap_err();
    assert_eq!(error.kind(), engine::Kind::Refused, "{error}");
    assert!(error.help().unwrap().starts_with("Nothing was changed."), "{:?}", error.help());
    assert_eq!(target.all("users").await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_a_validator_refuses_come_back_if_its_user_may() {
    let create = doc! { "create": "judged", "validator": { "name": { "$type": "string" } } };
    let target = Target::new(vec![create], vec![]).await;
    let nameless = doc! { "insert": "judged", "documents": [{ "_id": 1 }, { "_id": 2, "v": 1 }], "bypassDocumentValidation": true };
    target.run(nameless).await;
    let snapshot = target.test.backup(&target.url()).await;
    let target = Target { snapshot, ..target };
    let before = target.all("judged").await;
    target.remove("judged", doc! { "_id": 2 }).await;
    let (plan, _) = target.plan(&Scope::All).await;
    assert!(detail(&plan, "validators").contains(&target.named("judged")));
    let roles = vec![doc! { "role": "readWrite", "db": &target.name }.into()];
    let writer = target.server.create_user(&format!("{}_writer", target.name), roles, &target.name).await;
    let error = target.apply_with(&Scope::All, &plan, &writer, &target.test.ctx).await.unwrap_err();
    assert!(error.message().contains("_id 2 is refused"), "{error}");
    assert!(error.help().unwrap().contains("dbAdmin"), "{:?}", error.help());
    assert_eq!(target.all("judged").await.len(), 1);
    target.restore(&Scope::All).await;
    assert_eq!(target.all("judged").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn collections_that_are_not_alike_are_left_and_named() {
    let commands = vec![
        doc! { "create": "capped", "capped": true, "size": 1 << 20 },
        doc! { "create": "weather", "timeseries": { "timeField": "at" } },
        doc! { "create": "top", "viewOn": "orders", "pipeline": [] },
        doc! { "createIndexes": "sessions", "indexes": [{ "key": { "at": 1 }, "name": "at", "expireAfterSeconds": 3600 }] },
    ];
    let session = rawdoc! { "_id": 1, "at": DateTime::now() };
    let documents = vec![
        ("orders", numbered(0..10)),
        ("gone", numbered(0..3)),
        ("capped", numbered(0..3)),
        ("sessions", vec![session]),
    ];
    let target = Target::new(commands, documents).await;
    target.run(doc! { "drop": "gone" }).await;
    target.insert("new", &numbered(0..3)).await;
    target.remove("orders", doc! { "_id": 1 }).await;
    target.run(doc! { "createIndexes": "orders", "indexes": [{ "key": { "v": 1 }, "name": "by_v" }] }).await;
    let (plan, _) = target.plan(&Scope::All).await;
    let found = detail(&plan, "collections");
    for why in [
        format!("{}: the target has no such collection", target.named("gone")),
        format!("{}: it is a capped collection", target.named("capped")),
        format!("{}: it is a time series", target.named("weather")),
        format!("{}: it is a view", target.named("top")),
        format!("what the snapshot has not stays: {}", target.named("new")),
    ] {
        assert!(found.contains(&why), "{found}");
    }
    assert!(warns(&plan, "collections") && warns(&plan, "definitions"), "{:#?}", plan.preflight);
    assert!(warns(&plan, "expiry") && detail(&plan, "expiry").contains(&target.named("sessions")));
    let restored = target.apply(&Scope::All, &plan).await.unwrap();
    assert!(restored.proof.matches);
    assert_eq!(restored.notes.iter().filter(|note| note.failed).count(), 4, "{:#?}", restored.notes);
    assert_eq!(target.all("new").await.len(), 3);
    // What is asked for by name is not left out on the quiet.
    let (plan, _) = target.try_plan(&target.collections(&["orders", "capped"])).await.unwrap();
    assert!(!plan.is_clear());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_under_another_name_is_restored_into() {
    let target = changed().await;
    let copy = format!("{}_copy", target.name);
    target.server.insert_raw(&format!("{copy}.orders"), &numbered(5..20)).await;
    let url = target.server.admin_url().replace("/admin?", &format!("/{copy}?"));
    let scope = target.collections(&["orders"]);
    let (repo, ctx) = (&target.test.repo, &target.test.ctx);
    let (plan, _) = restore::plan_in_place(repo, &target.snapshot, &scope, &url, ctx).await.unwrap();
    assert_eq!(
        (plan.confirm_phrase.as_str(), plan.preview.collections[0].name.as_str()),
        (copy.as_str(), format!("{copy}.orders").as_str())
    );
    let original = target.all("orders").await;
    let restored = target.apply_with(&scope, &plan, &url, ctx).await.unwrap();
    assert!(restored.proof.matches && restored.records == 285, "{restored:#?}");
    let copied = target.server.read_raw(&format!("{copy}.orders")).await;
    assert_eq!(copied, numbered(0..300));
    assert_eq!(target.all("orders").await, original);
}
