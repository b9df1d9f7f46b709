//! A connected database with a snapshot, to restore into in place.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::harness::{Api, text};

pub struct BackedUp {
    pub name: String,
    /// With the right to read.
    pub url: String,
    /// With the right to write.
    pub owner_url: String,
    pub database: String,
    pub snapshot: String,
}

impl BackedUp {
    pub async fn connect(api: &Api, name: String, url: String, owner_url: String) -> Self {
        let project = api.project("shop").await;
        let database = api.database(&project, &url).await;
        let snapshot = api.back_up(&database).await;
        Self { name, url, owner_url, database, snapshot }
    }

    /// Plans with the right to read alone.
    pub async fn plan(&self, api: &Api, scope: Value) -> (String, Value) {
        let target = json!({ "url": self.url, "mode": "in_place" });
        let body = json!({ "snapshot": self.snapshot, "scope": scope, "target": target });
        let planned = api.post("/restores/plan", body).await.expect(StatusCode::ACCEPTED);
        let job = api.ended(&text(&planned["job_id"])).await;
        assert_eq!(job["state"], "succeeded", "{job:#}");
        let id = text(&planned["id"]);
        let plan = api.get(&format!("/restores/{id}")).await.expect(StatusCode::OK);
        (id, plan)
    }

    pub fn order(&self) -> Value {
        json!({ "confirm": self.name, "url": self.owner_url })
    }

    pub async fn carry_out(&self, api: &Api, id: &str, what: &str) -> Value {
        let job =
            api.post(&format!("/restores/{id}/{what}"), self.order()).await.expect(StatusCode::ACCEPTED);
        api.ended(&text(&job["job_id"])).await
    }
}

/// How many records a plan adds, changes and removes in a collection.
pub fn counts(plan: &Value, collection: &str) -> [u64; 3] {
    let all = plan["preview"]["collections"].as_array().unwrap();
    let found = all.iter().find(|found| found["name"] == collection).unwrap();
    ["added", "changed", "removed"].map(|kind| found["records"][kind].as_u64().unwrap())
}
