//! Restores into MongoDB's collections in place, over the API and by the pages without scripts.

use bson::{Document, RawDocumentBuf, doc, rawdoc};
use engine_testutils::mongodb::{Scope, Server as Mongo};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::backed_up::{BackedUp, counts};
use crate::harness::{Api, Browser, PASSWORD, Server, segment, text};
use crate::in_place::shows;
use crate::mongodb_shop::{change, shop};
use crate::process::Program;

impl BackedUp {
    async fn mongodb(api: &Api) -> Self {
        let (name, url) = shop(Mongo::shared()).await;
        Self::of(api, name, url).await
    }

    async fn of(api: &Api, name: String, url: String) -> Self {
        let owner_url = Mongo::shared().admin_url().replacen("/admin?", &format!("/{name}?"), 1);
        Self::connect(api, name, url, owner_url).await
    }

    fn named(&self, collection: &str) -> String {
        format!("{}.{collection}", self.name)
    }

    async fn all(&self, collection: &str) -> Vec<RawDocumentBuf> {
        Mongo::shared().read_raw(&self.named(collection)).await
    }

    async fn set(&self, collection: &str, id: i32, set: Document) {
        let updates = vec![doc! { "q": { "_id": id }, "u": { "$set": set } }];
        Mongo::shared().command(&self.name, doc! { "update": collection, "updates": updates }).await;
    }
}

#[tokio::test]
async fn documents_are_previewed_restored_proven_and_undone() {
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let shop = BackedUp::mongodb(&api).await;
    let before = shop.all("orders").await;
    change(Mongo::shared(), &shop.name).await;
    let changed = shop.all("orders").await;
    assert_ne!(before, changed);

    let (id, plan) = shop.plan(&api, json!({ "all": true })).await;
    assert_eq!((&plan["mode"], &plan["state"]), (&json!("in_place"), &json!("planned")));
    assert_eq!((text(&plan["confirm_phrase"]), &plan["safety_snapshot"]), (shop.name.clone(), &Value::Null));
    let orders = shop.named("orders");
    assert_eq!(counts(&plan, &orders), [1, 3, 1]);
    let path = format!("/restores/{id}/collections/{}/changes", segment(&orders));
    let page = api.get(&format!("{path}?limit=1")).await.expect(StatusCode::OK);
    let first = &page["items"][0];
    assert_eq!(
        (&first["key"], &first["old"]["qty"], &first["new"]["qty"]),
        (&json!("7"), &json!({ "$numberLong": "3" }), &json!({ "$numberInt": "3" }))
    );

    let wrong = json!({ "confirm": "yes", "url": shop.owner_url });
    api.post(&format!("/restores/{id}/apply"), wrong).await.problem(422, "wrong-phrase");
    api.post(&format!("/restores/{id}/undo"), shop.order()).await.problem(409, "not-applied");
    let job = shop.carry_out(&api, &id, "apply").await;
    assert_eq!((&job["kind"], &job["state"]), (&json!("restore-apply"), &json!("succeeded")), "{job:#}");
    let result = &job["result"];
    assert_eq!((&result["proof"]["matches"], &result["proof"]["differences"]), (&json!(true), &json!(0)));
    assert_eq!((&result["records"], shop.all("orders").await), (&json!(5), before));
    let listed = api.get(&format!("/databases/{}/snapshots", shop.database)).await.expect(StatusCode::OK);
    let newest = &listed["items"][0];
    assert_eq!((&newest["id"], &newest["trigger"]), (&result["safety_snapshot"], &json!("safety")));

    // Undone, but for what has changed since.
    shop.set("orders", 9, doc! { "status": "mine" }).await;
    let job = shop.carry_out(&api, &id, "undo").await;
    assert_eq!((&job["kind"], &job["state"]), (&json!("restore-undo"), &json!("incomplete")), "{job:#}");
    let conflicts = json!({ "count": 1, "examples": [format!("{orders}: 9")] });
    assert_eq!((&job["result"]["conflicts"], &job["result"]["records"]), (&conflicts, &json!(4)));
    let mut now = shop.all("orders").await;
    now[8] = changed[8].clone();
    assert_eq!(now, changed);
    let undone = api.get(&format!("/restores/{id}")).await.expect(StatusCode::OK);
    assert_eq!((&undone["state"], &undone["safety_snapshot"]), (&json!("undone"), &newest["id"]));
    api.post(&format!("/restores/{id}/undo"), shop.order()).await.problem(409, "already-undone");
}

#[tokio::test]
async fn collections_that_changed_since_the_plan_are_told_and_single_documents_restored() {
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let shop = BackedUp::mongodb(&api).await;
    change(Mongo::shared(), &shop.name).await;
    let orders = shop.named("orders");
    let (id, _) = shop.plan(&api, json!({ "collections": [orders] })).await;
    shop.set("orders", 20, doc! { "status": "later" }).await;
    let now = shop.all("orders").await;
    api.post(&format!("/restores/{id}/apply"), shop.order()).await.problem(409, "target-changed");
    assert_eq!(shop.all("orders").await, now);

    let path = format!("/snapshots/{}/collections/{}/records", shop.snapshot, segment(&orders));
    let page = api.get(&format!("{path}?from_key=10&limit=1")).await.expect(StatusCode::OK);
    let scope = json!({ "records": { &orders: [page["items"][0]["id"]] } });
    let (id, plan) = shop.plan(&api, scope).await;
    assert_eq!(counts(&plan, &orders), [1, 0, 0]);
    let job = shop.carry_out(&api, &id, "apply").await;
    assert_eq!((&job["state"], &job["result"]["records"]), (&json!("succeeded"), &json!(1)), "{job:#}");
    assert_eq!(shop.all("orders").await.len(), now.len() + 1);
    // Somebody else has none of this.
    let other = server.user("eve@example.com").await;
    for what in ["apply", "undo"] {
        other.post(&format!("/restores/{id}/{what}"), shop.order()).await.problem(404, "not-found");
    }
}

/// Documents of which fifteen fill a transaction.
fn large(n: std::ops::Range<i32>) -> Vec<RawDocumentBuf> {
    n.map(|n| rawdoc! { "_id": n, "v": "x".repeat(1 << 20) }).collect()
}

#[tokio::test]
async fn a_program_that_is_killed_between_transactions_leaves_what_an_undo_takes_back() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path());
    let api = Api::new(&program.base);
    let body = json!({ "email": "ada@example.com", "password": PASSWORD });
    let tokens = api.post("/auth/register", body).await.expect(StatusCode::CREATED);
    let api = api.with_token(&text(&tokens["access_token"]));
    let mongo = Mongo::shared();
    let name = mongo.fresh_database("files");
    mongo.insert_raw(&format!("{name}.files"), &large(0..20)).await;
    let url = mongo.create_read_only_user(Scope::Database(&name), &format!("{name}_reader")).await;
    let shop = BackedUp::of(&api, name, url).await;
    let updates = vec![doc! { "q": {}, "u": { "$set": { "w": 1 } }, "multi": true }];
    mongo.command(&shop.name, doc! { "update": "files", "updates": updates }).await;
    let changed = shop.all("files").await;
    let (id, _) = shop.plan(&api, json!({ "all": true })).await;
    // The last of three transactions meets this one, and keeps being begun anew.
    let client = mongo.client().await;
    let mut foreign = client.start_session().await.unwrap();
    foreign.start_transaction().await.unwrap();
    let files = client.database(&shop.name).collection::<Document>("files");
    files.update_one(doc! { "_id": 19 }, doc! { "$set": { "v": 1 } }).session(&mut foreign).await.unwrap();
    let job = api.post(&format!("/restores/{id}/apply"), shop.order()).await.expect(StatusCode::ACCEPTED);
    let written = doc! { "w": { "$exists": false } };
    while files.count_documents(written.clone()).await.unwrap() < 14 {
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    }
    program.kill();
    foreign.abort_transaction().await.unwrap();
    assert_eq!(files.count_documents(written).await.unwrap(), 14);

    let program = Program::start(folder.path());
    let api = program.login().await;
    let job = api.get(&format!("/jobs/{}", text(&job["job_id"]))).await.expect(StatusCode::OK);
    assert_eq!(job["state"], "interrupted");
    assert!(text(&job["error"]["detail"]).contains("Undo the restore"), "{job:#}");
    let found = api.get(&format!("/restores/{id}")).await.expect(StatusCode::OK);
    let listed = api.get(&format!("/databases/{}/snapshots", shop.database)).await.expect(StatusCode::OK);
    assert_eq!(
        (&found["state"], &found["safety_snapshot"]),
        (&json!("interrupted"), &listed["items"][0]["id"])
    );
    // The plan does not hold any more; the page offers the way back.
    api.post(&format!("/restores/{id}/apply"), shop.order()).await.problem(409, "target-changed");
    let browser = Browser::signed_in(&program.base, "ada@example.com", PASSWORD).await;
    let page = format!("/restores/{id}");
    let offered = browser.get(&page).await.text;
    assert!(offered.contains("Undo this restore") && offered.contains("safety snapshot"), "{offered}");
    let confirm = |phrase: &str| [("url", shop.owner_url.clone()), ("confirm", phrase.to_owned())];
    let refused = browser.send(Method::POST, &format!("{page}/undo"), &confirm("yes")).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused.text.contains("The phrase is not the one asked for"), "{}", refused.text);
    let undone = browser.send(Method::POST, &format!("{page}/undo"), &confirm(&shop.name)).await;
    assert_eq!(undone.status, StatusCode::SEE_OTHER, "{}", undone.text);
    let found = api.get(&format!("/restores/{id}")).await.expect(StatusCode::OK);
    let job = api.ended(&text(&found["undo_job_id"])).await;
    assert_eq!((&job["state"], &job["result"]["records"]), (&json!("succeeded"), &json!(14)), "{job:#}");
    assert_eq!(shop.all("files").await, changed);
    let done = browser.get(&page).await.text;
    assert!(done.contains("Put back as before the restore: 14 records"), "{done}");
}

#[tokio::test]
async fn pages_lead_from_a_document_to_its_restore_and_back_again() {
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let shop = BackedUp::mongodb(&api).await;
    change(Mongo::shared(), &shop.name).await;
    let browser = Browser::signed_in(&server.base, "ada@example.com", PASSWORD).await;
    let orders = segment(&shop.named("orders"));
    let page =
        browser.get(&format!("/snapshots/{}/collections/{orders}?from_key=9", shop.snapshot)).await.text;
    let start = page.find(&format!("/snapshots/{}/restore?of=", shop.snapshot)).unwrap();
    let link = page[start..].split('"').next().unwrap().replace("&amp;", "&");
    let page = browser.get(&link).await.text;
    assert!(page.contains("Every other one stays as it is"), "{page}");
    let value = |name: &str| {
        let at = page.find(&format!("name=\"{name}\" value=\"")).unwrap();
        page[at..].split('"').nth(3).unwrap().to_owned()
    };
    let form = [
        ("of", value("of")),
        ("record", value("record")),
        ("mode", "in_place".to_owned()),
        ("url", shop.url.clone()),
    ];
    let planned = browser.send(Method::POST, &format!("/snapshots/{}/restore", shop.snapshot), &form).await;
    assert_eq!(planned.status, StatusCode::SEE_OTHER, "{}", planned.text);
    let restore = planned.headers["location"].to_str().unwrap().to_owned();
    let plan = shows(&browser, &restore, "What will be written").await;
    assert!(plan.contains("0 inserts, 1 update, 0 deletes"), "{plan}");
    assert!(plan.contains("1 document in one transaction"), "{plan}");
    let page = browser.get(&format!("{restore}/collections/{orders}")).await.text;
    assert!(page.contains("from what is there now") && page.contains("paid_at"), "{page}");
    let confirm = [("url", shop.owner_url.clone()), ("confirm", shop.name.clone())];
    let applied = browser.send(Method::POST, &format!("{restore}/apply"), &confirm).await;
    assert_eq!(applied.status, StatusCode::SEE_OTHER, "{}", applied.text);
    let done = shows(&browser, &restore, "Undo this restore").await;
    assert!(done.contains("the restored documents match the snapshot"), "{done}");
    let undone = browser.send(Method::POST, &format!("{restore}/undo"), &confirm).await;
    assert_eq!(undone.status, StatusCode::SEE_OTHER, "{}", undone.text);
    shows(&browser, &restore, "Put back as before the restore: 1 record").await;
    let paid = shop.all("orders").await[8].get_str("status").unwrap().to_owned();
    assert_eq!(paid, "paid");
}
