//! A part of a PostgreSQL snapshot is restored.

use engine_testutils::postgres::Cluster;
use reqwest::StatusCode;
use serde_json::json;

use crate::harness::{Server, shop, text};

#[tokio::test]
async fn chosen_tables_are_restored_and_what_is_left_out_is_told() {
    let (name, url) = shop().await;
    let cluster = Cluster::shared();
    let server = Server::start().await;
    let (api, _, database) = server.connected(&url).await;
    let snapshot = api.back_up(&database).await;

    let target = format!("{name}_part");
    let url = cluster.superuser_url(&target);
    let plan = |tables: &[&str]| json!({ "snapshot": snapshot, "scope": { "collections": tables }, "target": { "url": url, "mode": "new" } });
    api.post("/restores/plan", plan(&["public.nothing"])).await.problem(422, "invalid");
    let planned = api.post("/restores/plan", plan(&["public.orders"])).await.expect(StatusCode::ACCEPTED);
    let job = api.ended(&text(&planned["job_id"])).await;
    assert_eq!(job["state"], "succeeded", "{job:#}");
    let path = format!("/restores/{}", text(&planned["id"]));
    let restore = api.get(&path).await.expect(StatusCode::OK);
    assert_eq!(restore["scope"], json!({ "collections": ["public.orders"] }));
    let listed = restore["preview"]["collections"].as_array().unwrap();
    assert_eq!((listed.len(), &listed[0]["records"]["added"]), (1, &json!(500)));
    let checks = restore["preflight"].as_array().unwrap();
    let scope = checks.iter().find(|check| check["check"] == "scope").unwrap();
    let told = "foreign key orders_customer_fkey of public.orders (needs public.customers)";
    assert!(scope["ok"] == true && text(&scope["detail"]).contains(told), "{scope:#}");

    let order = json!({ "confirm": restore["confirm_phrase"], "url": url });
    let applied = api.post(&format!("{path}/apply"), order).await.expect(StatusCode::ACCEPTED);
    let job = api.ended(&text(&applied["job_id"])).await;
    assert_eq!(job["state"], "succeeded", "{job:#}");
    assert_eq!(job["result"]["proof"]["matches"], true);
    assert_eq!(job["result"]["proof"]["collections"].as_array().unwrap().len(), 1);
    let tables = "SELECT string_agg(relname, ',') FROM pg_class WHERE relkind = 'r' AND oid >= 16384";
    assert_eq!(cluster.query_one(&target, tables).await, "orders");
    let sum = "SELECT count(*) || '/' || sum(hashtext(o::text)::bigint) FROM orders o";
    assert_eq!(cluster.query_one(&target, sum).await, cluster.query_one(&name, sum).await);
}
