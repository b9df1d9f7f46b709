//! What is said of snapshots later: notes, pins, and when they were verified.

use engine_testutils::postgres::Cluster;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Api, Browser, PASSWORD, Server, shop, text};

async fn snapshots(api: &Api, database: &str) -> Vec<Value> {
    let listed = api.get(&format!("/databases/{database}/snapshots")).await.expect(StatusCode::OK);
    listed["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_note_is_changed_and_removed_and_outlives_the_server() {
    let (_, url) = shop().await;
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let database = api.database(&api.project("shop").await, &url).await;
    let body = json!({ "note": "as taken" });
    let job = api.post(&format!("/databases/{database}/backups"), body).await.expect(StatusCode::ACCEPTED);
    let snapshot = text(&api.ended(&text(&job["job_id"])).await["result"]["snapshot_id"]);
    let path = format!("/snapshots/{snapshot}");
    let patch = async |body: Value| api.send(Method::PATCH, &path, body).await;
    let before = api.get(&path).await.expect(StatusCode::OK);
    assert_eq!((&before["note"], &before["pinned"]), (&json!("as taken"), &json!(false)));
    assert_eq!(patch(json!({})).await.expect(StatusCode::OK), before);

    let changed = patch(json!({ "note": "  before the release " })).await.expect(StatusCode::OK);
    assert_eq!(changed["note"], "before the release");
    assert_eq!(changed, api.get(&path).await.expect(StatusCode::OK));
    assert_eq!(snapshots(&api, &database).await[0]["note"], "before the release");
    let pinned = patch(json!({ "pinned": true })).await.expect(StatusCode::OK);
    assert_eq!((&pinned["note"], &pinned["pinned"]), (&json!("before the release"), &json!(true)));
    for body in [json!({ "note": "x".repeat(1001) }), json!({ "pinned": "yes" }), json!({ "pin": true })] {
        patch(body).await.problem(422, "invalid");
    }

    let folder = server.stop().await;
    let server = Server::start_in(folder, &[("DBSNAP_SIGNUP", "open")]).await;
    let api = Api { base: server.base.clone(), ..api };
    let found = api.get(&path).await.expect(StatusCode::OK);
    assert_eq!((&found["note"], &found["pinned"]), (&json!("before the release"), &json!(true)));
    let removed = api.send(Method::PATCH, &path, json!({ "note": null })).await.expect(StatusCode::OK);
    assert_eq!((&removed["note"], &removed["pinned"]), (&Value::Null, &json!(true)));
    let told = api.get("/audit?action=snapshot.change").await.expect(StatusCode::OK);
    let told: Vec<&Value> = told["items"].as_array().unwrap().iter().map(|entry| &entry["detail"]).collect();
    assert_eq!(
        (&told[0]["note"], &told[1]["pinned"], &told[2]["note"]),
        (&json!("removed"), &json!(true), &json!("set"))
    );
    assert!(!told.iter().any(|detail| detail.to_string().contains("release")), "{told:#?}");
}

/// Neither by hand nor by rules nor with its database.
#[tokio::test]
async fn a_pinned_snapshot_goes_only_once_it_is_unpinned() {
    let (_, url) = shop().await;
    let server = Server::start().await;
    let (api, _, database) = server.connected(&url).await;
    let [first, second, third] =
        [api.back_up(&database).await, api.back_up(&database).await, api.back_up(&database).await];
    let path = format!("/snapshots/{first}");
    api.send(Method::PATCH, &path, json!({ "pinned": true })).await.expect(StatusCode::OK);
    api.send(Method::DELETE, &path, Value::Null).await.problem(409, "pinned");
    let removal = format!("/databases/{database}?snapshots=delete");
    let refused = api.send(Method::DELETE, &removal, Value::Null).await.problem(409, "pinned");
    assert_eq!(refused["snapshots"], json!([first]));
    api.get(&format!("/databases/{database}")).await.expect(StatusCode::OK);

    let rules = json!({ "frequency": "daily", "time": "02:00", "timezone": "UTC", "keep": { "last": 1 } });
    let preview = api.post(&format!("/databases/{database}/schedule/preview"), rules).await;
    let preview = preview.expect(StatusCode::OK);
    assert_eq!(preview["kept"][1]["id"], first.as_str());
    assert_eq!(preview["kept"][1]["reasons"], json!(["pinned"]));
    assert_eq!(
        (&preview["removed"][0]["id"], preview["removed"].as_array().unwrap().len()),
        (&json!(second), 1)
    );
    assert_eq!(preview["kept"][0]["id"], third.as_str());

    api.send(Method::PATCH, &path, json!({ "pinned": false })).await.expect(StatusCode::OK);
    api.send(Method::DELETE, &path, Value::Null).await.expect(StatusCode::NO_CONTENT);
    api.send(Method::PATCH, &path, json!({ "pinned": true })).await.problem(404, "not-found");
    let told = api.get("/audit?action=snapshot.delete").await.expect(StatusCode::OK);
    let told: Vec<&Value> = told["items"].as_array().unwrap().iter().map(|entry| &entry["result"]).collect();
    assert_eq!(told, ["succeeded", "failed"]);
}

#[tokio::test]
async fn the_pages_pin_and_annotate() {
    let (_, url) = shop().await;
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let database = api.database(&api.project("shop").await, &url).await;
    let snapshot = api.back_up(&database).await;
    let browser = Browser::signed_in(&server.base, "ada@example.com", PASSWORD).await;
    let page = format!("/snapshots/{snapshot}");
    let change = format!("{page}/change");
    for (field, value) in [("note", "kept for the audit"), ("pinned", "true")] {
        let done = browser.send(Method::POST, &change, &[(field, value.to_owned())]).await;
        assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.text);
    }
    let shown = browser.get(&page).await.text;
    assert!(shown.contains("kept for the audit") && shown.contains(">Unpin<"), "{shown}");
    assert!(!shown.contains(&format!("{page}/delete")), "{shown}");
    let history = browser.get(&format!("/databases/{database}")).await.text;
    assert!(history.contains("kept for the audit") && history.contains("pinned</span>"), "{history}");
    let confirm = [("confirm", snapshot[..8].to_owned())];
    let refused = browser.send(Method::POST, &format!("{page}/delete"), &confirm).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert!(refused.text.contains("Unpin it first"), "{}", refused.text);
    let long = browser.send(Method::POST, &change, &[("note", "x".repeat(1001))]).await;
    assert_eq!(long.status, StatusCode::UNPROCESSABLE_ENTITY);
    let removal = [("confirm", "shop".to_owned()), ("delete_snapshots", "yes".to_owned())];
    let refused = browser.send(Method::POST, &format!("/databases/{database}/remove"), &removal).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert!(refused.text.contains("Pinned snapshots"), "{}", refused.text);
}

/// A snapshot remembers what a verification found: that nothing is wrong with it, and how that is known.
#[tokio::test]
async fn a_verification_is_remembered_with_the_snapshots() {
    let (name, url) = shop().await;
    let server = Server::start().await;
    let (api, project, database) = server.connected(&url).await;
    let first = api.back_up(&database).await;
    let verify = async |mode: &str| {
        let body = json!({ "mode": mode });
        let queued =
            api.post(&format!("/projects/{project}/verify"), body).await.expect(StatusCode::ACCEPTED);
        let job = api.ended(&text(&queued["job_id"])).await;
        assert_eq!(job["state"], "succeeded", "{job:#}");
        job["result"].clone()
    };
    let find = async |id: &str| api.get(&format!("/snapshots/{id}")).await.expect(StatusCode::OK);
    assert_eq!(find(&first).await["verified_at"], Value::Null);
    assert_eq!(verify("full").await["undamaged"], json!([first]));
    let full = find(&first).await;
    assert_eq!((&full["verified_mode"], &full["fully_verified_at"]), (&json!("full"), &full["verified_at"]));
    assert!(full["verified_at"].is_string());

    Cluster::shared().execute(&name, "UPDATE customers SET name = 'renamed ' || id").await;
    let second = api.back_up(&database).await;
    assert_eq!(find(&second).await["verified_at"], Value::Null);
    verify("sample").await;
    let (old, new) = (find(&first).await, find(&second).await);
    assert_eq!((&old["verified_mode"], &old["fully_verified_at"]), (&json!("sample"), &full["verified_at"]));
    assert_eq!((&new["verified_mode"], &new["fully_verified_at"]), (&json!("sample"), &Value::Null));
    assert_eq!(snapshots(&api, &database).await[0]["verified_at"], new["verified_at"]);
}

/// By forms alone: what was found is shown, damage by collection and keys, and where there is nothing to
/// verify, nothing is said to be verified.
#[tokio::test]
async fn the_pages_verify_and_show_what_was_found() {
    let (_, url) = shop().await;
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let project = api.project("shop").await;
    let [full, empty] = [api.database(&project, &url).await, api.database(&project, &url).await];
    let snapshot = api.back_up(&full).await;
    let browser = Browser::signed_in(&server.base, "ada@example.com", PASSWORD).await;
    let verify = async |mode: &str| {
        let path = format!("/projects/{project}/verify");
        let begun = browser.send(Method::POST, &path, &[("mode", mode.to_owned())]).await;
        assert_eq!(begun.status, StatusCode::SEE_OTHER, "{}", begun.text);
        let job = begun.headers["location"].to_str().unwrap().to_owned();
        api.ended(job.strip_prefix("/jobs/").unwrap()).await;
        (browser.get(&job).await.text, job)
    };
    let row = async |database: &str| {
        let page = browser.get("/projects").await.text;
        let page = page.split("<tbody>").nth(1).unwrap();
        let start = page.find(&format!("href=\"/databases/{database}\"")).unwrap();
        page[start..].split("</tr>").next().unwrap().to_owned()
    };
    assert!(row(&full).await.contains("Never") && row(&empty).await.contains("Nothing yet"));
    let (page, job) = verify("full").await;
    assert!(page.contains("Nothing is wrong") && page.contains("every byte"), "{page}");
    assert!(row(&full).await.contains(&job) && row(&empty).await.contains("Nothing yet"));
    assert!(browser.get(&format!("/projects/{project}")).await.text.contains("Nothing was wrong"));
    assert!(browser.get(&format!("/snapshots/{snapshot}")).await.text.contains("every byte"));

    // Leaves and small nodes are in the data pack.
    let folder = server.folder.path().join("repositories").join(&project).join("packs");
    let packs = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let largest = packs.max_by_key(|path| std::fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = std::fs::read(&largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&largest, bytes).unwrap();
    let (page, job) = verify("full").await;
    assert!(page.contains("Damage was found") && page.contains("public."), "{page}");
    assert!(page.contains(&format!("/snapshots/{snapshot}")), "{page}");
    assert!(page.contains("up to") || page.contains("all keys") || page.contains("after"), "{page}");
    assert!(row(&full).await.contains("Damage found") && row(&full).await.contains(&job));
    assert!(row(&empty).await.contains("Nothing yet"));
    assert!(browser.get(&format!("/projects/{project}")).await.text.contains("Damage was found"));
    let found = api.get(&format!("/snapshots/{snapshot}")).await.expect(StatusCode::OK);
    assert_eq!((&found["verified_at"], &found["fully_verified_at"]), (&Value::Null, &Value::Null));
    assert!(row(&full).await.contains("No complete undamaged snapshot: not protected"));
}
