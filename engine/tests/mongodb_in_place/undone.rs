//! Taking a restore back.

use engine::Kind;

use super::*;

async fn changed() -> Target {
    let target = Target::new(vec![], vec![("orders", numbered(0..300)), ("items", numbered(0..20))]).await;
    target.set("orders", doc! { "_id": { "$lt": 10 } }, doc! { "v": "w" }).await;
    target.remove("orders", doc! { "_id": 100 }).await;
    target.insert("orders", &numbered(300..302)).await;
    target.remove("items", doc! {}).await;
    target
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_restore_wrote_becomes_what_it_was() {
    let target = changed().await;
    let before = (target.all("orders").await, target.all("items").await);
    let (plan, _) = target.restore(&Scope::All).await;
    // Documents that the restore did not write may change as they like.
    target.set("orders", doc! { "_id": 200 }, doc! { "v": "later" }).await;
    target.insert("orders", &numbered(900..901)).await;
    let safety = target.safety().await;
    let undone = target.undo(&Scope::All, &plan, &safety).await.unwrap();
    assert!(undone.proof.matches, "{:#?}", undone.proof);
    assert_eq!((undone.conflicts.count, undone.records), (0, 13 + 20));
    target.set("orders", doc! { "_id": 200 }, doc! { "v": "v200" }).await;
    target.remove("orders", doc! { "_id": 900 }).await;
    assert_eq!((target.all("orders").await, target.all("items").await), before);
    // What is taken back already is not taken back again.
    let again = target.undo(&Scope::All, &plan, &safety).await.unwrap();
    assert_eq!((again.records, again.conflicts.count), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_changed_since_are_conflicts_and_stay() {
    let target = changed().await;
    let (plan, _) = target.restore(&Scope::All).await;
    target.set("orders", doc! { "_id": { "$in": [3, 100] } }, doc! { "v": "mine" }).await;
    target.insert("orders", &[rawdoc! { "_id": 301, "v": "mine" }]).await;
    target.set("orders", doc! { "_id": 4 }, doc! { "v": "w" }).await;
    target.remove("items", doc! { "_id": 1 }).await;
    let undone = target.undo(&Scope::All, &plan, &target.safety().await).await.unwrap();
    assert!(undone.proof.matches, "{:#?}", undone.proof);
    let examples = [3, 100, 301].map(|id| format!("{}: {id}", target.named("orders")));
    assert_eq!((undone.conflicts.count, undone.conflicts.examples), (3, examples.to_vec()));
    let now = target.all("orders").await;
    for id in [3, 100, 301] {
        assert!(now.contains(&rawdoc! { "_id": id, "v": "mine" }.into_bytes()), "{id}");
    }
    assert_eq!((now.len(), target.all("items").await.len()), (302, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_of_single_records_is_taken_back_by_itself() {
    let target = changed().await;
    let before = target.all("orders").await;
    let (_, preview) = target.plan(&target.collections(&["orders"])).await;
    let ids = target.changes(&preview, "orders").await.into_iter().take(2).map(|change| change.id).collect();
    let scope = target.records("orders", ids);
    let (plan, restored) = target.restore(&scope).await;
    assert_eq!(restored.records, 2);
    assert_ne!(target.all("orders").await, before);
    let undone = target.undo(&scope, &plan, &target.safety().await).await.unwrap();
    assert_eq!((undone.records, undone.conflicts.count), (2, 0));
    assert_eq!(target.all("orders").await, before);
}

/// The other documents could be taken back; which one is in the way is for people to say.
#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_that_holds_what_may_be_there_once_is_named() {
    let index =
        doc! { "createIndexes": "users", "indexes": [{ "key": { "v": 1 }, "name": "v", "unique": true }] };
    let target = Target::new(vec![index], vec![("users", numbered(1..3))]).await;
    // Not by updates: SecantusDB keeps a unique value for taken that an update took away.
    target.remove("users", doc! {}).await;
    target.insert("users", &[rawdoc! { "_id": 1, "v": "c" }, rawdoc! { "_id": 2, "v": "d" }]).await;
    let (plan, _) = target.restore(&Scope::All).await;
    target.remove("users", doc! { "_id": 2 }).await;
    target.insert("users", &[rawdoc! { "_id": 2, "v": "c" }]).await;
    let now = target.all("users").await;
    let error = target.undo(&Scope::All, &plan, &target.safety().await).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused, "{error}");
    let help = error.help().unwrap();
    let named = format!("({}: 2)", target.named("users"));
    assert!(help.starts_with("Nothing was changed. ") && help.contains(&named), "{help}");
    assert_eq!(target.all("users").await, now);
}
