//! A table with another key than it had is explained.

use engine_testutils::postgres::Cluster;
use reqwest::StatusCode;
use serde_json::json;

use crate::harness::{Server, segment, shop, text};

#[tokio::test]
async fn a_table_with_another_key_is_explained_in_place_of_changes() {
    let (name, url) = shop().await;
    let cluster = Cluster::shared();
    let server = Server::start().await;
    let (api, _, database) = server.connected(&url).await;
    let first = api.back_up(&database).await;
    let sql = "ALTER TABLE orders DROP CONSTRAINT orders_pkey, ADD PRIMARY KEY (number); DELETE FROM orders WHERE number = 1;
               UPDATE customers SET city = 'Rome' WHERE id = 1";
    cluster.execute(&name, sql).await;
    let second = api.back_up(&database).await;
    let started =
        api.post("/diffs", json!({ "from": first, "to": second })).await.expect(StatusCode::ACCEPTED);
    api.ended(&text(&started["job_id"])).await;
    let id = text(&started["id"]);
    let diff = api.get(&format!("/diffs/{id}")).await.expect(StatusCode::OK);
    let orders =
        diff["collections"].as_array().unwrap().iter().find(|c| c["name"] == "public.orders").unwrap();
    let nothing = json!({ "added": 0, "removed": 0, "changed": 0, "unchanged": 0, "order_only": 0 });
    assert_eq!((&orders["status"], &orders["records"]), (&json!("changed"), &nothing));
    let why = "the key was (region text, number integer) and is (number integer): the 500 records of before cannot be \
               matched with the 499 of now";
    assert_eq!(orders["rekeyed"], why);

    let changes = async |table: &str| {
        let path = format!("/diffs/{id}/collections/{}/changes", segment(table));
        api.get(&path).await.expect(StatusCode::OK)
    };
    let page = changes("public.orders").await;
    assert_eq!(page, json!({ "items": [], "next_cursor": null, "rekeyed": why }));
    let page = changes("public.customers").await;
    assert_eq!((page["items"].as_array().unwrap().len(), page.get("rekeyed")), (1, None));
}
