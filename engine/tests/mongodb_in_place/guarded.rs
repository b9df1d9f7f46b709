//! What others write meanwhile, and what is then not overwritten.

use engine::{Context, Kind};
use engine_testutils::mongodb::Options;

use super::*;

async fn changed() -> Target {
    let target = Target::new(vec![], vec![("orders", numbered(0..100))]).await;
    target.set("orders", doc! { "_id": { "$lt": 10 } }, doc! { "v": "w" }).await;
    target
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_changed_after_the_plan_stops_the_restore() {
    let target = changed().await;
    let (plan, _) = target.plan(&Scope::All).await;
    target.set("orders", doc! { "_id": 50 }, doc! { "v": "later" }).await;
    let now = target.all("orders").await;
    let error = target.apply(&Scope::All, &plan).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict, "{error}");
    assert!(error.message().contains(&target.named("orders")), "{error}");
    assert_eq!(target.all("orders").await, now);
    assert_eq!(target.test.repo.snapshots().await.unwrap().len(), 1, "nothing was to be kept");
    let (repo, ctx, url) = (&target.test.repo, &target.test.ctx, target.url());
    let is_same = restore::is_as_planned(repo, &target.snapshot, &Scope::All, &plan, &url, ctx);
    assert!(!is_same.await.unwrap());
}

/// The document is as it was read until the other transaction commits, and then it is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_changes_between_reading_and_writing_is_not_overwritten() {
    let target = changed().await;
    let (plan, _) = target.plan(&Scope::All).await;
    let mut foreign = target.foreign_write("orders", 3, doc! { "v": "mine" }).await;
    let (ended, ()) = tokio::join!(target.apply(&Scope::All, &plan), async {
        target.begins_to_write().await;
        foreign.commit_transaction().await.unwrap();
    });
    let error = ended.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict, "{error}");
    assert!(error.message().contains("the document with _id 3"), "{error}");
    assert!(error.help().unwrap().starts_with("Nothing was changed."), "{:?}", error.help());
    let wanted = |n: i32| {
        let v = match n {
            3 => "mine".to_owned(),
            0..10 => "w".to_owned(),
            _ => format!("v{n}"),
        };
        rawdoc! { "_id": n, "v": v }.into_bytes()
    };
    assert_eq!(target.all("orders").await, (0..100).map(wanted).collect::<Bytes>());
}

/// A conflict passes when the other transaction is taken back. What is altered meanwhile, and not by the
/// restore, makes the proof differ.
#[tokio::test(flavor = "multi_thread")]
async fn a_passing_conflict_is_waited_for_and_an_altered_document_fails_the_proof() {
    let target = changed().await;
    let (plan, _) = target.plan(&Scope::All).await;
    let mut foreign = target.foreign_write("orders", 3, doc! { "v": "mine" }).await;
    let (ended, ()) = tokio::join!(target.apply(&Scope::All, &plan), async {
        target.begins_to_write().await;
        target.set("orders", doc! { "_id": 77 }, doc! { "v": "altered" }).await;
        foreign.abort_transaction().await.unwrap();
    });
    let restored = ended.unwrap();
    assert!(!restored.proof.matches);
    let proof = &restored.proof.collections[0];
    assert_eq!((restored.proof.differences, proof.differences), (1, 1));
    assert!(proof.examples[0].contains("77"), "{:?}", proof.examples);
    assert!(restored.notes.iter().any(|note| note.text.contains("written since")), "{:?}", restored.notes);
    assert_eq!(target.all("orders").await[3], rawdoc! { "_id": 3, "v": "v3" }.into_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_cancelled_in_its_only_transaction_changes_nothing() {
    let target = changed().await;
    let (plan, _) = target.plan(&Scope::All).await;
    let now = target.all("orders").await;
    let mut foreign = target.foreign_write("orders", 3, doc! { "v": "mine" }).await;
    let ctx = Context { cancel: Default::default(), ..target.test.ctx.clone() };
    let url = target.url();
    let (ended, ()) = tokio::join!(target.apply_with(&Scope::All, &plan, &url, &ctx), async {
        target.begins_to_write().await;
        ctx.cancel.cancel();
    });
    let error = ended.unwrap_err();
    assert_eq!(error.kind(), Kind::Cancelled, "{error}");
    assert_eq!(error.help(), Some("Nothing was changed."));
    assert!(target.reached.lock().unwrap().is_empty(), "there is nothing to take back");
    foreign.abort_transaction().await.unwrap();
    assert_eq!(target.all("orders").await, now);
}

/// Forty documents of 1 MiB, written over one another, take six transactions. The last meets somebody
/// else's and is given up; what the others wrote is taken back.
#[tokio::test(flavor = "multi_thread")]
async fn what_transactions_before_a_failure_wrote_is_told_and_undone() {
    let target = Target::new(vec![], vec![("files", large(0..40)), ("few", numbered(0..5))]).await;
    target.set("files", doc! {}, doc! { "w": 1 }).await;
    target.remove("few", doc! { "_id": 2 }).await;
    let changed = (target.all("files").await, target.all("few").await);
    let (plan, _) = target.plan(&Scope::All).await;
    assert!(warns(&plan, "transactions"), "{:#?}", plan.preflight);
    let found = detail(&plan, "transactions");
    assert!(found.starts_with("41 documents in 6 transactions"), "{found}");
    let mut foreign = target.foreign_write("files", 39, doc! { "v": "mine" }).await;
    let error = target.apply(&Scope::All, &plan).await.unwrap_err();
    foreign.abort_transaction().await.unwrap();
    assert_eq!(error.kind(), Kind::Refused, "{error}");
    assert!(error.message().contains("; 35 of 41 documents had been written by then"), "{error}");
    assert!(error.help().unwrap().contains("Undo the restore"), "{:?}", error.help());
    // All documents of a transaction, or none of them.
    let (now, original) = (target.all("files").await, large(0..40));
    let restored = |at: usize| now[at] == original[at].as_bytes();
    assert_eq!((0..40).filter(|at| restored(*at)).collect::<Vec<_>>(), (0..35).collect::<Vec<_>>());
    assert_eq!(target.all("few").await.len(), 4);

    // What is not there is not noted, so what somebody else puts right meanwhile is theirs.
    assert_eq!(target.reached.lock().unwrap().last().unwrap().records, 35);
    target
        .run(doc! { "update": "files", "updates": [{ "q": { "_id": 36 }, "u": { "$unset": { "w": 1 } } }] })
        .await;
    assert_eq!(target.all("files").await[36], original[36].as_bytes());
    // Somebody goes on with one of them, and puts another back by hand.
    target.set("files", doc! { "_id": 7 }, doc! { "v": "mine" }).await;
    target.set("files", doc! { "_id": 8 }, doc! { "w": 1 }).await;
    let undone = target.undo(&Scope::All, &plan, &target.safety().await).await.unwrap();
    assert!(undone.proof.matches, "{:#?}", undone.proof);
    assert_eq!((undone.records, undone.conflicts.count), (33, 1));
    assert_eq!(undone.conflicts.examples, [format!("{}: 7", target.named("files"))]);
    let (mut files, few) = (target.all("files").await, target.all("few").await);
    assert_eq!(files[36], original[36].as_bytes(), "taken back, though the restore never came there");
    files[7] = changed.0[7].clone();
    files[36] = changed.0[36].clone();
    assert!((files, few) == changed, "not as before the restore");
}

#[tokio::test(flavor = "multi_thread")]
async fn unique_values_that_may_meet_across_transactions_are_told_before() {
    let index =
        doc! { "createIndexes": "users", "indexes": [{ "key": { "v": 1 }, "name": "v", "unique": true }] };
    let target = Target::new(vec![index], vec![("files", large(0..20)), ("users", numbered(0..5))]).await;
    target.remove("users", doc! {}).await;
    target.insert("users", &[rawdoc! { "_id": 0, "v": "v1" }, rawdoc! { "_id": 1, "v": "v0" }]).await;
    let (plan, _) = target.plan(&Scope::All).await;
    assert!(detail(&plan, "transactions").ends_with("in one transaction: all of it is written, or nothing"));
    target.set("files", doc! {}, doc! { "w": 1 }).await;
    let (plan, _) = target.plan(&Scope::All).await;
    let told = detail(&plan, "transactions");
    assert!(told.ends_with(&format!("not in the same transaction: {}", target.named("users"))), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_write_is_told_before_anything_happens() {
    let target = changed().await;
    let reader = target
        .server
        .create_read_only_user(Reads::Database(&target.name), &format!("{}_two", target.name))
        .await;
    let (repo, ctx) = (&target.test.repo, &target.test.ctx);
    let (plan, _) = restore::plan_in_place(repo, &target.snapshot, &Scope::All, &reader, ctx).await.unwrap();
    assert!(plan.is_clear(), "{:#?}", plan.preflight);
    assert!(detail(&plan, "right to write").contains("which is enough to plan"), "{:#?}", plan.preflight);
    let error = target.apply_with(&Scope::All, &plan, &reader, ctx).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Denied, "{error}");
    let elsewhere = format!("{}&readPreference=secondaryPreferred", target.url());
    let error = target.apply_with(&Scope::All, &plan, &elsewhere, ctx).await.unwrap_err();
    assert!(error.message().contains("readPreference"), "{error}");
    assert!(target.reached.lock().unwrap().is_empty());
    let roles = vec![doc! { "role": "readWrite", "db": &target.name }.into()];
    let writer = target.server.create_user(&format!("{}_writer", target.name), roles, &target.name).await;
    assert!(target.apply_with(&Scope::All, &plan, &writer, ctx).await.unwrap().proof.matches);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_transactions_is_refused_with_the_way_out() {
    let target = changed().await;
    let alone = Server::start(Options { standalone: true, ..Options::default() });
    alone.insert_raw(&format!("{}.orders", target.name), &numbered(0..5)).await;
    let url = alone.admin_url().replace("/admin?", &format!("/{}?", target.name));
    let (repo, ctx) = (&target.test.repo, &target.test.ctx);
    let (plan, _) = restore::plan_in_place(repo, &target.snapshot, &Scope::All, &url, ctx).await.unwrap();
    assert!(!plan.is_clear());
    assert!(detail(&plan, "deployment").contains("restore into a new database"), "{:#?}", plan.preflight);
    assert_eq!(target.counts(&plan, "orders"), (95, 0, 0));
}
