//! The whole way: connect, snapshot, change, snapshot, diff, restore, proof.

use base64::Engine;
use engine_testutils::postgres::Cluster;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::harness::{Api, Server, files, segment, shop, text};

#[tokio::test]
async fn from_an_account_to_a_proven_restore() {
    let (name, url) = shop().await;
    let cluster = Cluster::shared();
    let server = Server::start().await;
    let (api, project, database) = server.connected(&url).await;

    let first = api.back_up(&database).await;
    cluster
        .execute(
            &name,
            r#"UPDATE customers SET city = 'Rome', credit = 9 WHERE id IN (7, 1500);
               UPDATE customers SET name = 'renamed' WHERE id = 2999;
               INSERT INTO customers VALUES (3001, 'new', NULL, 0);
               DELETE FROM orders WHERE region = 'eu' AND number = 42;
               UPDATE "Odd/Table" SET note = 'b' WHERE note IS NULL;"#,
        )
        .await;
    let second = api.back_up(&database).await;
    history(&api, &database, &first, &second).await;
    records(&api, &second).await;
    comparison(&api, &first, &second).await;
    restore(&api, &name, &second).await;

    let path = format!("/projects/{project}/verify");
    let job = api.post(&path, json!({ "mode": "full" })).await.expect(StatusCode::ACCEPTED);
    let job = api.ended(&text(&job["job_id"])).await;
    assert_eq!(job["result"]["damaged"], json!([]), "{job:#}");
    assert!(job["result"]["objects"].as_u64().unwrap() > 5);

    let folder = server.stop().await;
    nothing_secret_in(folder.path(), &format!("{name}_reader-password"), cluster.password());
}

async fn history(api: &Api, database: &str, first: &str, second: &str) {
    let path = format!("/databases/{database}/snapshots");
    let page = api.get(&format!("{path}?limit=1")).await.expect(StatusCode::OK);
    assert_eq!(page["items"][0]["id"], second);
    let cursor = text(&page["next_cursor"]);
    let page = api.get(&format!("{path}?limit=1&cursor={cursor}")).await.expect(StatusCode::OK);
    assert_eq!((&page["items"][0]["id"], &page["next_cursor"]), (&json!(first), &Value::Null));

    let snapshot = api.get(&format!("/snapshots/{second}")).await.expect(StatusCode::OK);
    assert_eq!((&snapshot["state"], &snapshot["trigger"]), (&json!("complete"), &json!("manual")));
    assert_eq!((&snapshot["parent"], &snapshot["records"]), (&json!(first), &json!(3001 + 499 + 2)));
    assert_eq!(snapshot["database_id"], database);
    let names: Vec<_> = snapshot["collections"].as_array().unwrap().iter().map(|c| &c["name"]).collect();
    assert_eq!(names.len(), 3);
    assert!(names.contains(&&json!("public.\"Odd/Table\"")), "{names:?}");
}

async fn records(api: &Api, snapshot: &str) {
    let path = format!("/snapshots/{snapshot}/collections/{}/records", segment("public.customers"));
    let page = api.get(&format!("{path}?limit=2&from_key=1500")).await.expect(StatusCode::OK);
    let value = json!({ "id": "1500", "name": "customer 1500", "city": "Rome", "credit": "9.00" });
    assert_eq!(page["items"][0]["value"], value);
    let cursor = text(&page["next_cursor"]);
    let page = api.get(&format!("{path}?limit=1000&cursor={cursor}")).await.expect(StatusCode::OK);
    assert_eq!(page["items"][0]["value"]["id"], "1502");
    assert_eq!(page["items"].as_array().unwrap().len(), 1000);
    let odd = format!("/snapshots/{snapshot}/collections/{}/records", segment("public.\"Odd/Table\""));
    assert_eq!(api.get(&odd).await.expect(StatusCode::OK)["items"][1]["value"]["note"], "b");
    // A key of several columns is taken as it is shown.
    let orders = format!("/snapshots/{snapshot}/collections/{}/records", segment("public.orders"));
    let second = &api.get(&orders).await.expect(StatusCode::OK)["items"][1];
    let shown = text(&second["key"]);
    assert!(shown.starts_with("(eu, "), "{shown}");
    let from =
        api.get(&format!("{orders}?limit=1&from_key={}", segment(&shown))).await.expect(StatusCode::OK);
    assert_eq!(&from["items"][0], second);
    let none = format!("/snapshots/{snapshot}/collections/{}/records", segment("public.nothing"));
    api.get(&none).await.problem(404, "not-found");
    api.get(&format!("{path}?cursor=%21")).await.problem(422, "invalid");
}

async fn comparison(api: &Api, first: &str, second: &str) {
    let started =
        api.post("/diffs", json!({ "from": first, "to": second })).await.expect(StatusCode::ACCEPTED);
    let job = api.ended(&text(&started["job_id"])).await;
    assert_eq!(job["state"], "succeeded", "{job:#}");
    let id = text(&started["id"]);
    let again = api.post("/diffs", json!({ "from": first, "to": second })).await.expect(StatusCode::ACCEPTED);
    assert_eq!(again, started, "snapshots never change, and neither does their comparison");
    assert_eq!(api.post("/diffs", json!({ "from": first })).await.problem(422, "invalid")["field"], "to");
    assert_eq!(api.post("/diffs", json!({ "from": 7 })).await.problem(422, "invalid")["field"], "from");

    let diff = api.get(&format!("/diffs/{id}")).await.expect(StatusCode::OK);
    assert_eq!(diff["state"], "succeeded");
    let of = |name: &str| {
        let found = diff["collections"].as_array().unwrap().iter().find(|c| c["name"] == name);
        found.unwrap()["records"].clone()
    };
    let counts = |added: u64, removed: u64, changed: u64, unchanged: u64| json!({ "added": added, "removed": removed, "changed": changed, "unchanged": unchanged, "order_only": 0 });
    assert_eq!(of("public.customers"), counts(1, 0, 3, 2997));
    assert_eq!(of("public.orders"), counts(0, 1, 0, 499));
    assert_eq!(of("public.\"Odd/Table\""), counts(0, 0, 1, 1));

    let path = format!("/diffs/{id}/collections/{}/changes", segment("public.customers"));
    let all = api.get(&path).await.expect(StatusCode::OK);
    let items = all["items"].as_array().unwrap();
    let shown: Vec<_> = items.iter().map(|c| (text(&c["kind"]), c["columns"].clone())).collect();
    let changed = |columns: &[&str]| ("changed".to_owned(), json!(columns));
    assert_eq!(shown[..3], [changed(&["city", "credit"]), changed(&["city", "credit"]), changed(&["name"])]);
    assert_eq!((shown[3].0.as_str(), &items[3]["old"]), ("added", &Value::Null));
    assert_eq!((&items[0]["old"]["city"], &items[0]["new"]["city"]), (&json!("Turin"), &json!("Rome")));

    let (mut paged, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = api.get(&format!("{path}?limit=1{cursor}")).await.expect(StatusCode::OK);
        paged.extend(page["items"].as_array().unwrap().clone());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(&paged, items);
    let named = api.get(&format!("{path}?kind=changed&column=name")).await.expect(StatusCode::OK);
    assert_eq!(named["items"].as_array().unwrap().as_slice(), &items[2..3]);
    let problem = api.get(&format!("{path}?kind=moved")).await.problem(422, "invalid");
    assert_eq!(problem["field"], "kind");
    assert!(problem["detail"].as_str().unwrap().contains("`added`"), "{problem:#}");
    api.get(&format!("{path}?column=nothing")).await.problem(422, "invalid");
    api.get(&format!("/diffs/{id}/collections/nothing/changes")).await.problem(404, "not-found");
}

async fn restore(api: &Api, source: &str, snapshot: &str) {
    let cluster = Cluster::shared();
    let occupied = plan_body(snapshot, &cluster.superuser_url(source));
    api.post("/restores/plan", occupied).await.problem(422, "target-not-empty");
    let one = cluster.fresh_database("one").await;
    cluster.execute(&one, "CREATE TABLE lonely (id int)").await;
    let held = plan_body(snapshot, &cluster.superuser_url(&one));
    let held = text(&api.post("/restores/plan", held).await.problem(422, "target-not-empty")["detail"]);
    assert!(held.contains("it holds ") && !held.contains("1 object"), "{held}");

    let target = format!("{source}_restored");
    let url = cluster.superuser_url(&target);
    let planned = api.post("/restores/plan", plan_body(snapshot, &url)).await.expect(StatusCode::ACCEPTED);
    let job = api.ended(&text(&planned["job_id"])).await;
    assert_eq!(job["state"], "succeeded", "{job:#}");
    let path = format!("/restores/{}", text(&planned["id"]));
    let restore = api.get(&path).await.expect(StatusCode::OK);
    assert_eq!(restore["state"], "planned");
    assert!(restore["preflight"].as_array().unwrap().iter().all(|check| check["ok"] == true), "{restore:#}");
    assert_eq!(restore["preview"]["collections"][0]["records"]["added"], 3001);
    let confirm = text(&restore["confirm_phrase"]);

    let apply = async |confirm: &str, url: &str| {
        api.post(&format!("{path}/apply"), json!({ "confirm": confirm, "url": url })).await
    };
    apply("yes", &url).await.problem(422, "wrong-phrase");
    apply(&confirm, &cluster.superuser_url(source)).await.problem(422, "other-target");
    cluster.create_database(&target).await;
    cluster.execute(&target, "CREATE TABLE intruder (id int)").await;
    apply(&confirm, &url).await.problem(409, "target-changed");
    cluster.drop_database(&target).await;

    // Of orders that come at once, one is carried out.
    let orders = futures::future::join_all((0..4).map(|_| apply(&confirm, &url))).await;
    let (applied, others): (Vec<_>, Vec<_>) =
        orders.into_iter().partition(|order| order.status == StatusCode::ACCEPTED);
    assert!(others.iter().all(|order| order.status == StatusCode::CONFLICT), "{others:?}");
    assert_eq!(applied.len(), 1, "{applied:?}");
    let applied = &applied[0].body;
    let job = api.ended(&text(&applied["job_id"])).await;
    assert_eq!(job["state"], "succeeded", "{job:#}");
    assert_eq!(job["result"]["proof"]["matches"], true);
    assert_eq!(job["result"]["proof"]["differences"], 0);
    assert_eq!(job["result"]["safety_snapshot"], Value::Null);
    let restore = api.get(&path).await.expect(StatusCode::OK);
    assert_eq!(restore["state"], "succeeded");
    let listed = api.get("/restores").await.expect(StatusCode::OK);
    assert_eq!(
        (&listed["items"][0]["id"], &listed["items"][0]["state"]),
        (&planned["id"], &json!("succeeded"))
    );
    apply(&confirm, &url).await.problem(409, "already-applied");

    let sum = "SELECT count(*) || '/' || sum(hashtext(c::text)::bigint) FROM customers c";
    assert_eq!(cluster.query_one(&target, sum).await, cluster.query_one(source, sum).await);
}

fn plan_body(snapshot: &str, url: &str) -> Value {
    json!({ "snapshot": snapshot, "scope": { "all": true }, "target": { "url": url, "mode": "new" } })
}

/// Passwords that went through the server are nowhere on its disk, whatever they look like.
fn nothing_secret_in(folder: &std::path::Path, reader: &str, superuser: &str) {
    let mut searched = 0;
    for secret in [reader, superuser] {
        let encoded = base64::engine::general_purpose::STANDARD_NO_PAD.encode(secret);
        for (file, bytes) in files(folder) {
            searched += bytes.len();
            for form in [secret.as_bytes(), encoded.as_bytes()] {
                assert!(!bytes.windows(form.len()).any(|window| window == form), "a password is in {file}");
            }
        }
    }
    assert!(searched > 100_000, "only {searched} bytes were searched");
}
