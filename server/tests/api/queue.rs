//! Jobs as their owner follows them.

use std::time::Duration;

use engine_testutils::postgres::Cluster;
use futures::StreamExt;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::harness::{Api, Server, shop, text};

/// Holds a lock that no backup gets past, until it is dropped.
pub async fn locked(database: &str) -> tokio_postgres::Client {
    let client = Cluster::shared().connect(database).await;
    client.batch_execute("BEGIN; LOCK TABLE customers IN ACCESS EXCLUSIVE MODE").await.unwrap();
    client
}

/// An event: its name, its id and its data.
type Event = (String, String, Value);

/// Follows a job in the background, and gives the stream time to begin.
pub async fn follow(api: &Api, job: &str) -> JoinHandle<Vec<Event>> {
    let following = tokio::spawn({
        let (api, job) = (api.clone(), job.to_owned());
        async move { events(&api, &job).await }
    });
    tokio::time::sleep(Duration::from_millis(400)).await;
    following
}

/// The events of a job until its stream ends.
async fn events(api: &Api, job: &str) -> Vec<Event> {
    let response = api.request(Method::GET, &format!("/jobs/{job}/events")).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut stream = response.bytes_stream();
    let mut text = String::new();
    while let Some(chunk) = stream.next().await {
        text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
    }
    let field = |block: &str, name: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.unwrap_or_default().to_owned()
    };
    let blocks = text.split("\n\n").filter(|block| block.contains("data: "));
    blocks
        .map(|block| {
            let data = serde_json::from_str(&field(block, "data")).unwrap();
            (field(block, "event"), field(block, "id"), data)
        })
        .collect()
}

#[tokio::test]
async fn events_begin_with_the_whole_state_and_end_with_the_last() {
    let (name, url) = shop().await;
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let database = api.database(&api.project("shop").await, &url).await;
    let lock = locked(&name).await;
    let job = api.start_backup(&database).await;
    api.job_when(&job, |job| job["state"] == "running").await;
    let following = follow(&api, &job).await;
    lock.batch_execute("ROLLBACK").await.unwrap();
    let events = following.await.unwrap();

    let (name, id, first) = &events[0];
    assert_eq!((name.as_str(), id.as_str(), &first["state"]), ("state", "0", &json!("running")));
    for field in ["collections_done", "collections_total", "records", "bytes_read", "bytes_stored"] {
        assert!(first["progress"][field].is_u64(), "{field} in {first:#}");
    }
    let (name, id, last) = events.last().unwrap();
    assert_eq!((name.as_str(), id.as_str(), &last["state"]), ("state", "end", &json!("succeeded")));
    assert_eq!(last, &api.get(&format!("/jobs/{job}")).await.body);
    assert_eq!(last["progress"]["records"], 3502);

    // One who comes late gets the end at once; one who saw it is told not to come again.
    let late = crate::queue::events(&api, &job).await;
    assert_eq!((late.len(), &late[0].2), (1, last));
    let again = api.request(Method::GET, &format!("/jobs/{job}/events")).header("last-event-id", "end");
    assert_eq!(again.send().await.unwrap().status(), StatusCode::NO_CONTENT);
}

/// Whoever signs out is told nothing more.
#[tokio::test]
async fn events_end_with_the_session() {
    let (name, url) = shop().await;
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let database = api.database(&api.project("shop").await, &url).await;
    let lock = locked(&name).await;
    let job = api.start_backup(&database).await;
    api.job_when(&job, |job| job["state"] == "running").await;
    let following = follow(&api, &job).await;
    assert!(!following.is_finished());
    api.post("/auth/logout", json!({})).await.expect(StatusCode::NO_CONTENT);
    let events = following.await.unwrap();
    assert_eq!(events.last().unwrap().2["state"], "running", "the job goes on");
    drop(lock);
}

#[tokio::test]
async fn backups_of_a_database_queue_up_and_can_be_cancelled() {
    let (name, url) = shop().await;
    let server = Server::start().await;
    let (api, project, database) = server.connected(&url).await;
    let lock = locked(&name).await;
    let running = api.start_backup(&database).await;
    api.job_when(&running, |job| job["state"] == "running").await;
    let (waiting, last) = (api.start_backup(&database).await, api.start_backup(&database).await);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let state = async |job: &str| text(&api.get(&format!("/jobs/{job}")).await.body["state"]);
    assert_eq!((state(&waiting).await, state(&last).await), ("queued".to_owned(), "queued".to_owned()));

    let cancel = async |job: &str| api.post(&format!("/jobs/{job}/cancel"), json!({})).await.status;
    assert_eq!(cancel(&waiting).await, StatusCode::ACCEPTED);
    assert_eq!(state(&waiting).await, "cancelled");
    assert_eq!(cancel(&running).await, StatusCode::ACCEPTED);
    let ended = api.ended(&running).await;
    assert_eq!((&ended["state"], &ended["result"]), (&json!("cancelled"), &Value::Null));
    lock.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(api.ended(&last).await["state"], "succeeded");
    assert_eq!(cancel(&last).await, StatusCode::ACCEPTED);
    assert_eq!(state(&last).await, "succeeded", "what ended stays as it is");

    let listed = api.get(&format!("/projects/{project}/jobs")).await.expect(StatusCode::OK);
    let ids: Vec<_> = listed["items"].as_array().unwrap().iter().map(|job| text(&job["id"])).collect();
    assert_eq!(ids, [last, waiting, running], "newest first");
    let snapshots = api.get(&format!("/databases/{database}/snapshots")).await.expect(StatusCode::OK);
    assert_eq!(snapshots["items"].as_array().unwrap().len(), 1, "a cancelled backup leaves no snapshot");
}

#[tokio::test]
async fn a_table_that_cannot_be_read_makes_a_backup_incomplete_by_name() {
    let (name, _) = shop().await;
    let cluster = Cluster::shared();
    let role = format!("{name}_partial");
    let grants = format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'partial';
         GRANT SELECT ON customers, \"Odd/Table\" TO {role};
         GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO {role};"
    );
    cluster.execute(&name, &grants).await;
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let database = api.database(&api.project("shop").await, &cluster.url(&role, "partial", &name)).await;
    let job = api.start_backup(&database).await;
    let job = api.ended(&job).await;
    assert_eq!(job["state"], "incomplete", "{job:#}");
    let snapshot = api.get(&format!("/snapshots/{}", text(&job["result"]["snapshot_id"]))).await;
    let snapshot = snapshot.expect(StatusCode::OK);
    assert_eq!(snapshot["state"], "incomplete");
    assert_eq!(snapshot["incomplete"][0]["name"], "public.orders", "{snapshot:#}");
    assert!(text(&snapshot["incomplete"][0]["reason"]).contains("GRANT"), "{snapshot:#}");
}

/// A query of such a table is refused, because its plan calls the function; its rows are read without.
#[tokio::test]
async fn a_table_that_the_server_cannot_plan_for_is_backed_up() {
    let (name, url) = shop().await;
    let sql = "CREATE FUNCTION base() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 5';
               CREATE FUNCTION cutoff() RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN base() + 1; END';
               CREATE TABLE recent (id int PRIMARY KEY, n int); CREATE INDEX ON recent (n) WHERE n > cutoff();
               INSERT INTO recent VALUES (2, 2), (1, 1);";
    let sql = format!("{sql} GRANT SELECT ON recent TO {name}_reader");
    Cluster::shared().execute(&name, &sql).await;
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let database = api.database(&api.project("shop").await, &url).await;
    let snapshot = api.back_up(&database).await;
    let rows = api.get(&format!("/snapshots/{snapshot}/collections/public.recent/records")).await;
    let rows = rows.expect(StatusCode::OK);
    let found: Vec<_> = (rows["items"].as_array().unwrap().iter()).map(|row| &row["value"]).collect();
    assert_eq!(found, [&json!({"id": "1", "n": "1"}), &json!({"id": "2", "n": "2"})]);
}

#[tokio::test]
async fn a_job_that_fails_says_what_to_do() {
    let (name, url) = shop().await;
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let database = api.database(&api.project("shop").await, &url).await;
    Cluster::shared().execute("postgres", &format!("ALTER ROLE {name}_reader NOLOGIN")).await;
    let job = api.start_backup(&database).await;
    let job = api.ended(&job).await;
    assert_eq!(job["state"], "failed");
    assert!(!text(&job["error"]["type"]).is_empty() && text(&job["error"]["detail"]).len() > 20, "{job:#}");
    assert!(!job.to_string().contains("-password"));
}
