//! Restores in place, over the API and by the pages without scripts.

use engine_testutils::postgres::Cluster;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::backed_up::{BackedUp, counts};
use crate::harness::{Api, Browser, PASSWORD, Server, segment, shop, text};
use crate::process::Program;

const CHANGES: &str = r#"
    UPDATE customers SET city = 'Rome' WHERE id IN (7, 1500);
    INSERT INTO customers VALUES (3001, 'new', NULL, 0);
    DELETE FROM orders WHERE region = 'eu' AND number = 42;
    DELETE FROM "Odd/Table" WHERE note = 'a';
"#;

const STATE: &str = r#"
    SELECT md5(concat((SELECT string_agg(c::text, '|' ORDER BY id) FROM customers c),
      (SELECT string_agg(o::text, '|' ORDER BY o::text) FROM orders o), (SELECT string_agg(t::text, '|' ORDER BY id) FROM "Odd/Table" t)))
"#;

impl BackedUp {
    async fn postgres(api: &Api) -> Self {
        let (name, url) = shop().await;
        let owner_url = Cluster::shared().superuser_url(&name);
        Self::connect(api, name, url, owner_url).await
    }

    async fn execute(&self, sql: &str) {
        Cluster::shared().execute(&self.name, sql).await;
    }

    async fn state(&self) -> String {
        Cluster::shared().query_one(&self.name, STATE).await
    }
}

#[tokio::test]
async fn a_restore_in_place_is_previewed_proven_and_undone() {
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let shop = BackedUp::postgres(&api).await;
    let before = shop.state().await;
    shop.execute(CHANGES).await;
    let changed = shop.state().await;

    let (id, plan) = shop.plan(&api, json!({ "all": true })).await;
    assert_eq!((&plan["mode"], &plan["state"]), (&json!("in_place"), &json!("planned")));
    assert_eq!(plan["confirm_phrase"], shop.name);
    assert_eq!(counts(&plan, "public.customers"), [0, 2, 1]);
    assert_eq!(counts(&plan, "public.orders"), [1, 0, 0]);
    let path = format!("/restores/{id}/collections/{}/changes", segment("public.customers"));
    let page = api.get(&format!("{path}?limit=1")).await.expect(StatusCode::OK);
    let first = &page["items"][0];
    assert_eq!(
        (&first["key"], &first["old"]["city"], &first["new"]["city"]),
        (&json!("7"), &json!("Rome"), &json!("Turin"))
    );
    let cursor = text(&page["next_cursor"]);
    let page = api.get(&format!("{path}?cursor={cursor}&kind=removed")).await.expect(StatusCode::OK);
    assert_eq!(page["items"][0]["key"], "3001");

    let wrong = json!({ "confirm": "yes", "url": shop.owner_url });
    api.post(&format!("/restores/{id}/apply"), wrong).await.problem(422, "wrong-phrase");
    api.post(&format!("/restores/{id}/undo"), shop.order()).await.problem(409, "not-applied");
    let job = shop.carry_out(&api, &id, "apply").await;
    assert_eq!((&job["kind"], &job["state"]), (&json!("restore-apply"), &json!("succeeded")), "{job:#}");
    assert_eq!(job["result"]["proof"]["matches"], true);
    assert_eq!((&job["result"]["proof"]["differences"], &job["result"]["records"]), (&json!(0), &json!(5)));
    assert_eq!(shop.state().await, before);
    let safety = text(&job["result"]["safety_snapshot"]);
    let listed = api.get(&format!("/databases/{}/snapshots", shop.database)).await.expect(StatusCode::OK);
    assert_eq!(
        (&listed["items"][0]["id"], &listed["items"][0]["trigger"]),
        (&json!(safety), &json!("safety"))
    );
    api.post(&format!("/restores/{id}/apply"), shop.order()).await.problem(409, "already-applied");

    // Undone, but for what has changed since.
    shop.execute("UPDATE customers SET city = 'mine' WHERE id = 7").await;
    let job = shop.carry_out(&api, &id, "undo").await;
    assert_eq!((&job["kind"], &job["state"]), (&json!("restore-undo"), &json!("incomplete")), "{job:#}");
    let conflicts = json!({ "count": 1, "examples": ["public.customers: 7"] });
    assert_eq!((&job["result"]["conflicts"], &job["result"]["records"]), (&conflicts, &json!(4)));
    shop.execute("UPDATE customers SET city = 'Rome' WHERE id = 7").await;
    assert_eq!(shop.state().await, changed);
    let undone = api.get(&format!("/restores/{id}")).await.expect(StatusCode::OK);
    assert_eq!((&undone["state"], &undone["undo_result"]["conflicts"]), (&json!("undone"), &conflicts));
    api.post(&format!("/restores/{id}/undo"), shop.order()).await.problem(409, "already-undone");

    let actions = api.get("/audit?limit=1000").await.expect(StatusCode::OK);
    let actions: Vec<_> =
        actions["items"].as_array().unwrap().iter().map(|entry| text(&entry["action"])).collect();
    for action in ["restore.start", "restore.end", "restore-undo.start", "restore-undo.end", "records.read"] {
        assert!(actions.iter().any(|found| found == action), "{action}: {actions:?}");
    }
}

#[tokio::test]
async fn a_target_that_changed_since_the_plan_is_told_at_once() {
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let shop = BackedUp::postgres(&api).await;
    shop.execute(CHANGES).await;
    let (id, _) = shop.plan(&api, json!({ "collections": ["public.customers"] })).await;
    shop.execute("UPDATE customers SET name = 'later' WHERE id = 2").await;
    let now = shop.state().await;
    api.post(&format!("/restores/{id}/apply"), shop.order()).await.problem(409, "target-changed");
    assert_eq!(shop.state().await, now);
}

#[tokio::test]
async fn single_records_are_restored_by_the_ids_that_lists_give() {
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let shop = BackedUp::postgres(&api).await;
    shop.execute(CHANGES).await;
    let path = format!("/snapshots/{}/collections/{}/records", shop.snapshot, segment("public.customers"));
    let page = api.get(&format!("{path}?from_key=1500&limit=1")).await.expect(StatusCode::OK);
    let record = text(&page["items"][0]["id"]);
    let scope = json!({ "records": { "public.customers": [record] } });
    let (id, plan) = shop.plan(&api, scope.clone()).await;
    assert_eq!((&plan["scope"], counts(&plan, "public.customers")), (&scope, [0, 1, 0]));
    let job = shop.carry_out(&api, &id, "apply").await;
    assert_eq!((&job["state"], &job["result"]["records"]), (&json!("succeeded"), &json!(1)), "{job:#}");
    let sql = "SELECT string_agg(id::text, ',') FROM customers WHERE city = 'Rome'";
    assert_eq!(Cluster::shared().query_one(&shop.name, sql).await, "7");

    // Beside it, too: the table with that row alone.
    let plan = |scope: Value, mode: &str| json!({ "snapshot": shop.snapshot, "scope": scope, "target": { "url": shop.url, "mode": mode } });
    api.post("/restores/plan", plan(scope.clone(), "new")).await.problem(422, "target-not-empty");
    let beside = format!("{}_beside", shop.name);
    let target = Cluster::shared().superuser_url(&beside);
    let body =
        json!({ "snapshot": shop.snapshot, "scope": scope, "target": { "url": target, "mode": "new" } });
    let planned = api.post("/restores/plan", body).await.expect(StatusCode::ACCEPTED);
    assert_eq!(api.ended(&text(&planned["job_id"])).await["state"], "succeeded");
    let path = format!("/restores/{}", text(&planned["id"]));
    let found = api.get(&path).await.expect(StatusCode::OK);
    assert_eq!((&found["confirm_phrase"], counts(&found, "public.customers")), (&json!(beside), [1, 0, 0]));
    let order = json!({ "confirm": beside, "url": target });
    let job = api.post(&format!("{path}/apply"), order).await.expect(StatusCode::ACCEPTED);
    let job = api.ended(&text(&job["job_id"])).await;
    assert_eq!((&job["state"], &job["result"]["records"]), (&json!("succeeded"), &json!(1)), "{job:#}");
    assert_eq!(
        Cluster::shared().query_one(&beside, "SELECT string_agg(id::text, ',') FROM customers").await,
        "1500"
    );

    for (scope, mode) in [
        (json!({ "records": { "public.nonesuch": ["AAAA"] } }), "in_place"),
        (json!({ "records": { "public.customers": [] } }), "in_place"),
        (json!({ "records": {} }), "in_place"),
        (json!({ "collections": ["public.nonesuch"] }), "in_place"),
    ] {
        api.post("/restores/plan", plan(scope, mode)).await.problem(422, "invalid");
    }
}

#[tokio::test]
async fn the_safety_snapshot_of_a_database_that_is_not_connected_is_found_too() {
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let shop = BackedUp::postgres(&api).await;
    let cluster = Cluster::shared();
    let copy = cluster.fresh_database("copy").await;
    cluster.execute(&copy, "CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, city text, credit numeric(10,2))").await;
    let url = cluster.superuser_url(&copy);
    let copy = BackedUp { owner_url: url.clone(), url, name: copy, ..shop };
    let (id, plan) = copy.plan(&api, json!({ "collections": ["public.customers"] })).await;
    assert_eq!(counts(&plan, "public.customers"), [3000, 0, 0]);
    let job = copy.carry_out(&api, &id, "apply").await;
    assert_eq!(job["state"], "succeeded", "{job:#}");
    assert_eq!(cluster.query_one(&copy.name, "SELECT count(*) FROM customers").await, "3000");
    let safety = text(&job["result"]["safety_snapshot"]);
    let found = api.get(&format!("/snapshots/{safety}")).await.expect(StatusCode::OK);
    assert_eq!((&found["trigger"], &found["records"]), (&json!("safety"), &json!(0)));
    assert_ne!(found["database_id"], copy.database);
    let browser = Browser::signed_in(&server.base, "ada@example.com", PASSWORD).await;
    let page = browser.get(&format!("/snapshots/{safety}")).await;
    assert!(page.text.contains(&copy.name), "{}", page.text);
}

#[tokio::test]
async fn a_program_that_is_killed_while_it_writes_leaves_the_tables_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path());
    let api = Api::new(&program.base);
    let body = json!({ "email": "ada@example.com", "password": PASSWORD });
    let tokens = api.post("/auth/register", body).await.expect(StatusCode::CREATED);
    let api = api.with_token(&text(&tokens["access_token"]));
    let shop = BackedUp::postgres(&api).await;
    let before = shop.state().await;
    shop.execute(CHANGES).await;
    let now = shop.state().await;
    let (id, _) = shop.plan(&api, json!({ "all": true })).await;
    // The restore's locks let a reader lock a row, and its first write to that row then waits.
    let lock = Cluster::shared().connect(&shop.name).await;
    lock.batch_execute("BEGIN; SELECT FROM customers WHERE id = 7 FOR UPDATE").await.unwrap();
    let job = api.post(&format!("/restores/{id}/apply"), shop.order()).await.expect(StatusCode::ACCEPTED);
    let snapshots = format!("/databases/{}/snapshots", shop.database);
    while api.get(&snapshots).await.expect(StatusCode::OK)["items"].as_array().unwrap().len() < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    }
    program.kill();
    drop(lock);
    assert_eq!(shop.state().await, now);

    let program = Program::start(folder.path());
    let api = program.login().await;
    let job = api.get(&format!("/jobs/{}", text(&job["job_id"]))).await.expect(StatusCode::OK);
    assert_eq!(job["state"], "interrupted");
    assert!(text(&job["error"]["detail"]).contains("in one transaction"), "{job:#}");
    let listed = api.get(&snapshots).await.expect(StatusCode::OK);
    assert_eq!(listed["items"][0]["trigger"], "safety");
    // The plan still holds, and its locks are free again.
    let job = shop.carry_out(&api, &id, "apply").await;
    assert_eq!(job["state"], "succeeded", "{job:#}");
    assert_eq!(shop.state().await, before);
}

/// A restore's page once it shows something.
pub async fn shows(browser: &Browser, path: &str, words: &str) -> String {
    for _ in 0..600 {
        let page = browser.get(path).await;
        if page.text.contains(words) {
            return page.text;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{path} never shows {words}: {}", browser.get(path).await.text);
}

#[tokio::test]
async fn pages_lead_from_a_record_to_its_restore_and_back_again() {
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let shop = BackedUp::postgres(&api).await;
    shop.execute(CHANGES).await;
    let browser = Browser::signed_in(&server.base, "ada@example.com", PASSWORD).await;
    let records =
        format!("/snapshots/{}/collections/{}?from_key=7", shop.snapshot, segment("public.customers"));
    let page = browser.get(&records).await.text;
    let start = page.find(&format!("/snapshots/{}/restore?of=", shop.snapshot)).unwrap();
    let link = page[start..].split('"').next().unwrap().replace("&amp;", "&");
    let page = browser.get(&link).await.text;
    assert!(page.contains("1 record</") || page.contains("1 record"), "{page}");
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
    let changes = format!("{restore}/collections/{}", segment("public.customers"));
    let page = browser.get(&changes).await.text;
    assert!(
        page.contains("Rome") && page.contains("Turin") && page.contains("from what is there now"),
        "{page}"
    );

    let confirm = |phrase: &str| [("url", shop.owner_url.clone()), ("confirm", phrase.to_owned())];
    let refused = browser.send(Method::POST, &format!("{restore}/apply"), &confirm("yes")).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    let applied = browser.send(Method::POST, &format!("{restore}/apply"), &confirm(&shop.name)).await;
    assert_eq!(applied.status, StatusCode::SEE_OTHER, "{}", applied.text);
    let done = shows(&browser, &restore, "Undo this restore").await;
    assert!(
        done.contains("the restored rows match the snapshot") && done.contains("safety snapshot"),
        "{done}"
    );
    let refused = browser.send(Method::POST, &format!("{restore}/undo"), &confirm("yes")).await;
    assert!(refused.text.contains("The phrase is not the one asked for"), "{}", refused.text);
    assert!(!refused.text.contains(Cluster::shared().password()), "{}", refused.text);
    let undone = browser.send(Method::POST, &format!("{restore}/undo"), &confirm(&shop.name)).await;
    assert_eq!(undone.status, StatusCode::SEE_OTHER, "{}", undone.text);
    shows(&browser, &restore, "Put back as before the restore: 1 record").await;
    let sql = "SELECT city FROM customers WHERE id = 7";
    assert_eq!(Cluster::shared().query_one(&shop.name, sql).await, "Rome");
}
