//! Comparing a snapshot with what its database holds now.

use bson::{doc, rawdoc};
use engine_testutils::mongodb::Server as Mongo;
use engine_testutils::postgres::Cluster;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use server::live_readings::KEPT_MS;

use crate::harness::{Api, Server, segment, shop, text};
use crate::mongodb_shop;
use crate::queue::locked;

const CHANGES: &str = r#"
    UPDATE customers SET city = 'Rome' WHERE id IN (7, 1500);
    INSERT INTO customers VALUES (3001, 'new', NULL, 0);
    DELETE FROM orders WHERE region = 'eu' AND number = 42;
"#;

/// Starts a comparison and waits for its job: the comparison's id and the job.
async fn compared(api: &Api, from: &str, database: &str) -> (String, Value) {
    let started = api.post("/diffs", json!({ "from": from, "live": database })).await;
    let started = started.expect(StatusCode::ACCEPTED);
    (text(&started["id"]), api.ended(&text(&started["job_id"])).await)
}

async fn diff(api: &Api, id: &str) -> Value {
    api.get(&format!("/diffs/{id}")).await.expect(StatusCode::OK)
}

fn counts(diff: &Value, name: &str) -> [u64; 4] {
    let found = diff["collections"].as_array().unwrap().iter().find(|found| found["name"] == name).unwrap();
    ["added", "removed", "changed", "unchanged"].map(|kind| found["records"][kind].as_u64().unwrap())
}

fn changes_of(id: &str, collection: &str) -> String {
    format!("/diffs/{id}/collections/{}/changes", segment(collection))
}

/// All changes of a collection, in pages of one.
async fn paged(api: &Api, id: &str, collection: &str) -> Vec<Value> {
    let (mut items, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("{}?limit=1{cursor}", changes_of(id, collection));
        let page = api.get(&path).await.expect(StatusCode::OK);
        items.extend(page["items"].as_array().unwrap().clone());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return items,
        }
    }
}

#[tokio::test]
async fn a_snapshot_is_compared_with_what_the_database_holds_now() {
    let (name, url) = shop().await;
    let cluster = Cluster::shared();
    let server = Server::start().await;
    let (api, project, database) = server.connected(&url).await;
    let from = api.back_up(&database).await;

    let (id, job) = compared(&api, &from, &database).await;
    assert_eq!((&job["kind"], &job["state"]), (&json!("live-diff"), &json!("succeeded")), "{job:#}");
    assert_eq!((&job["result"]["objects_kept"], &job["result"]["records"]), (&json!(0), &json!(3502)));
    let equal = diff(&api, &id).await;
    assert!(equal["collections"].as_array().unwrap().iter().all(|found| found["status"] == "unchanged"));

    cluster.execute(&name, CHANGES).await;
    let (id, job) = compared(&api, &from, &database).await;
    assert_eq!(job["state"], "succeeded", "{job:#}");
    let body = diff(&api, &id).await;
    assert_eq!(
        (&body["from"], &body["to"], &body["state"]),
        (&json!(from), &Value::Null, &json!("succeeded"))
    );
    let live = &body["live"];
    assert_eq!((&live["database"], &live["point_in_time"]), (&json!(database), &json!(true)));
    assert_eq!((&live["incomplete"], &live["has_changes"]), (&json!([]), &json!(true)));
    assert!(text(&live["read_at"]) >= text(&body["created_at"]), "{body:#}");
    assert_eq!(counts(&body, "public.customers"), [1, 0, 2, 2998]);
    assert_eq!(counts(&body, "public.orders"), [0, 1, 0, 499]);
    let all = api.get(&changes_of(&id, "public.customers")).await.expect(StatusCode::OK);
    let items = all["items"].as_array().unwrap();
    assert_eq!((&items[0]["key"], &items[0]["columns"]), (&json!("7"), &json!(["city"])));
    assert_eq!((&items[0]["old"]["city"], &items[0]["new"]["city"]), (&json!("Turin"), &json!("Rome")));
    assert_eq!((&items[2]["key"], &items[2]["kind"]), (&json!("3001"), &json!("added")));

    // Pages stay as they were read, whatever the database and other snapshots become.
    let other = api.back_up(&database).await;
    cluster.execute(&name, "UPDATE customers SET name = 'later'").await;
    api.send(Method::DELETE, &format!("/snapshots/{other}"), Value::Null)
        .await
        .expect(StatusCode::NO_CONTENT);
    let prune = api.post(&format!("/projects/{project}/prune"), json!({ "dry_run": false })).await;
    api.ended(&text(&prune.expect(StatusCode::ACCEPTED)["job_id"])).await;
    assert_eq!(&paged(&api, &id, "public.customers").await, items);
    let again = compared(&api, &from, &database).await.0;
    assert_ne!(again, id, "each is made anew");
    assert_eq!(counts(&diff(&api, &again).await, "public.customers"), [1, 0, 3000, 0]);

    let told = api.get("/audit?action=live-diff").await.expect(StatusCode::OK);
    let told = told["items"].as_array().unwrap();
    assert_eq!(told.len(), 6, "{told:#?}");
    assert_eq!(
        (&told[5]["action"], &told[5]["target"]),
        (&json!("live-diff.start"), &json!(format!("database/{database}")))
    );
    assert_eq!(
        (&told[5]["detail"]["snapshot_id"], &told[5]["detail"]["database"]),
        (&json!(from), &json!("shop"))
    );
    let listed = api.get(&format!("/projects/{project}/diffs")).await.expect(StatusCode::OK);
    assert_eq!(listed["items"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_reading_goes_with_time_with_the_server_and_with_its_snapshot() {
    let (name, url) = shop().await;
    let server = Server::start().await;
    let (api, _, database) = server.connected(&url).await;
    let from = api.back_up(&database).await;
    Cluster::shared().execute(&name, CHANGES).await;
    let (id, _) = compared(&api, &from, &database).await;
    let path = changes_of(&id, "public.customers");
    let now_ms = server.app.now_ms();
    server.app.live_readings.forget_unused(now_ms + KEPT_MS - 60_000);
    api.get(&path).await.expect(StatusCode::OK);
    server.app.live_readings.forget_unused(now_ms + KEPT_MS + 60_000);
    let gone = text(&api.get(&path).await.problem(410, "reading-gone")["detail"]);
    assert!(gone.contains("Compare with the live database again."), "{gone}");

    let (id, _) = compared(&api, &from, &database).await;
    let path = changes_of(&id, "public.customers");
    api.get(&path).await.expect(StatusCode::OK);
    let before = diff(&api, &id).await;
    let folder = server.stop().await;
    let server = Server::start_in(folder, &[("DBSNAP_SIGNUP", "open")]).await;
    let api = Api { base: server.base.clone(), ..api };
    api.get(&path).await.problem(410, "reading-gone");
    let after = diff(&api, &id).await;
    assert_eq!(after["live"]["has_changes"], false);
    assert_eq!(
        (&after["collections"], &after["live"]["read_at"]),
        (&before["collections"], &before["live"]["read_at"])
    );

    let (id, _) = compared(&api, &from, &database).await;
    api.send(Method::DELETE, &format!("/snapshots/{from}"), Value::Null).await.expect(StatusCode::NO_CONTENT);
    api.get(&changes_of(&id, "public.customers")).await.problem(404, "not-found");
    assert_eq!(diff(&api, &id).await["live"]["has_changes"], false);
}

#[tokio::test]
async fn a_live_comparison_waits_its_turn_can_be_stopped_and_needs_the_database() {
    let (name, url) = shop().await;
    let server = Server::start().await;
    let (api, _, database) = server.connected(&url).await;
    let from = api.back_up(&database).await;
    let lock = locked(&name).await;
    let start = async || {
        let started = api.post("/diffs", json!({ "from": from, "live": database })).await;
        let started = started.expect(StatusCode::ACCEPTED);
        (text(&started["id"]), text(&started["job_id"]))
    };
    let (id, job) = start().await;
    api.job_when(&job, |job| job["state"] == "running").await;
    let (_, behind) = start().await;
    assert_eq!(api.get(&format!("/jobs/{behind}")).await.body["state"], "queued", "one reads at a time");
    api.get(&changes_of(&id, "public.customers")).await.problem(409, "not-compared-yet");
    api.post(&format!("/jobs/{job}/cancel"), json!({})).await.expect(StatusCode::ACCEPTED);
    assert_eq!(api.ended(&job).await["state"], "cancelled");
    let stopped = diff(&api, &id).await;
    assert_eq!((&stopped["state"], &stopped["live"]["read_at"]), (&json!("cancelled"), &Value::Null));
    api.get(&changes_of(&id, "public.customers")).await.problem(410, "reading-gone");

    // Removing the database stops what reads it.
    let gone = api.send(Method::DELETE, &format!("/databases/{database}"), json!({})).await;
    gone.expect(StatusCode::NO_CONTENT);
    assert_eq!(api.ended(&behind).await["state"], "cancelled");
    drop(lock);
    let refused = api.post("/diffs", json!({ "from": from, "live": database })).await;
    refused.problem(404, "not-found");
}

#[tokio::test]
async fn what_cannot_be_read_is_named_and_who_may_write_is_refused() {
    let (name, _) = shop().await;
    let (cluster, role) = (Cluster::shared(), format!("{name}_some"));
    let grants = format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'some'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role};
         GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO {role};"
    );
    cluster.execute(&name, &grants).await;
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let database = api.database(&api.project("shop").await, &cluster.url(&role, "some", &name)).await;
    let from = api.back_up(&database).await;
    cluster.execute(&name, &format!("REVOKE SELECT ON orders FROM {role}")).await;
    let (id, job) = compared(&api, &from, &database).await;
    assert_eq!(job["state"], "incomplete", "{job:#}");
    assert_eq!(job["result"]["incomplete"][0]["name"], "public.orders");
    let body = diff(&api, &id).await;
    assert_eq!(body["not_compared"], json!(["public.orders"]));
    assert!(text(&body["live"]["incomplete"][0]["reason"]).contains("GRANT"), "{body:#}");
    assert_eq!(body["collections"].as_array().unwrap().len(), 2, "it is not taken for removed");
    let refused = api.get(&changes_of(&id, "public.orders")).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(refused["type"], "unsupported");

    cluster.execute(&name, &format!("GRANT DELETE ON customers TO {role}")).await;
    let (_, job) = compared(&api, &from, &database).await;
    assert_eq!(
        (&job["state"], &job["error"]["type"]),
        (&json!("failed"), &json!("not-read-only")),
        "{job:#}"
    );
}

#[tokio::test]
async fn documents_are_compared_live_and_only_what_can_be_is() {
    let mongo = Mongo::shared();
    let (name, url) = mongodb_shop::shop(mongo).await;
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let project = api.project("shop").await;
    let documents = api.database(&project, &url).await;
    let from = api.back_up(&documents).await;
    mongodb_shop::change(mongo, &name).await;
    mongo.insert_raw(&format!("{name}.new"), &[rawdoc! { "_id": 1 }]).await;
    mongo.command(&name, doc! { "create": "empty" }).await;
    let (id, job) = compared(&api, &from, &documents).await;
    assert_eq!(job["state"], "succeeded", "{job:#}");
    let body = diff(&api, &id).await;
    assert_eq!(counts(&body, &format!("{name}.orders")), [1, 1, 3, 46]);
    assert_eq!(counts(&body, &format!("{name}.new")), [1, 0, 0, 0]);
    let items = paged(&api, &id, &format!("{name}.orders")).await;
    let keys: Vec<_> = items.iter().map(|item| text(&item["key"])).collect();
    assert_eq!(keys, ["7", "8", "9", "10", "51"]);
    assert!(items[0]["patch"].as_array().is_some_and(|patch| !patch.is_empty()), "{items:#?}");

    let (_, rows_url) = shop().await;
    let rows = api.database(&project, &rows_url).await;
    let elsewhere = api.database(&api.project("other").await, &url).await;
    let refused = async |body: Value| api.post("/diffs", body).await;
    let detail = refused(json!({ "from": from, "live": rows })).await.problem(422, "invalid");
    assert_eq!(detail["field"], "live");
    assert!(text(&detail["detail"]).contains("of MongoDB and the database is PostgreSQL"), "{detail:#}");
    let other = refused(json!({ "from": from, "live": elsewhere })).await.problem(422, "invalid");
    assert!(text(&other["detail"]).contains("another project"), "{other:#}");
    let both = refused(json!({ "from": from, "to": from, "live": documents })).await.problem(422, "invalid");
    assert_eq!(both["field"], "live");
    assert_eq!(refused(json!({ "from": from })).await.problem(422, "invalid")["field"], "to");
    for (from, live) in [(from.as_str(), "a database"), ("a snapshot", documents.as_str())] {
        refused(json!({ "from": from, "live": live })).await.problem(404, "not-found");
    }
    // Of one's own and somebody else's, neither order gives anything away.
    let eve = server.user("eve@example.com").await;
    let hers = eve.database(&eve.project("hers").await, &url).await;
    for (api, from, live) in [(&eve, &from, &hers), (&api, &from, &hers), (&eve, &from, &documents)] {
        api.post("/diffs", json!({ "from": from, "live": live })).await.problem(404, "not-found");
    }
}
