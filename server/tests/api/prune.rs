//! Deleting snapshots, and pruning what only they needed.

use engine_testutils::postgres::Cluster;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Answer, Api, Browser, PASSWORD, Server, files, shop, text};

async fn prune(api: &Api, project: &str, dry_run: bool) -> Value {
    let path = format!("/projects/{project}/prune");
    let queued = api.post(&path, json!({ "dry_run": dry_run })).await.expect(StatusCode::ACCEPTED);
    let job = api.ended(&text(&queued["job_id"])).await;
    assert_eq!((&job["kind"], &job["state"]), (&json!("prune"), &json!("succeeded")), "{job:#}");
    job["result"].clone()
}

fn number(result: &Value, field: &str) -> u64 {
    result[field].as_u64().unwrap_or_else(|| panic!("no {field} in {result:#}"))
}

/// A database may be removed with all that was taken of it; another one's snapshots stay.
#[tokio::test]
async fn a_removed_database_takes_its_snapshots_along_if_told_to() {
    let (_, url) = shop().await;
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let project = api.project("shop").await;
    let [gone, kept] = [api.database(&project, &url).await, api.database(&project, &url).await];
    let lost = [api.back_up(&gone).await, api.back_up(&gone).await];
    let stays = api.back_up(&kept).await;
    let path = format!("/databases/{gone}?snapshots=delete");
    api.send(Method::DELETE, &path, json!({})).await.expect(StatusCode::NO_CONTENT);
    for id in &lost {
        api.get(&format!("/snapshots/{id}")).await.problem(404, "not-found");
    }
    api.get(&format!("/snapshots/{stays}")).await.expect(StatusCode::OK);
    let told = api.get("/audit?action=snapshot.delete").await.expect(StatusCode::OK);
    assert_eq!(told["items"].as_array().unwrap().len(), 2, "{told:#}");
    let verified = api.post(&format!("/projects/{project}/verify"), json!({ "mode": "full" })).await;
    let verified = api.ended(&text(&verified.expect(StatusCode::ACCEPTED)["job_id"])).await;
    assert_eq!((&verified["state"], &verified["result"]["damaged"]), (&json!("succeeded"), &json!([])));
}

/// A manifest that was lost stands in the way of every prune until it is put back or given up.
#[tokio::test]
async fn a_snapshot_whose_manifest_was_lost_can_be_deleted() {
    let (_, url) = shop().await;
    let server = Server::start().await;
    let (api, project, database) = server.connected(&url).await;
    let (lost, stays) = (api.back_up(&database).await, api.back_up(&database).await);
    let manifest = (files(server.folder.path()).into_iter())
        .find_map(|(path, _)| path.ends_with(&format!("snapshots/{lost}")).then_some(path));
    std::fs::remove_file(manifest.unwrap()).unwrap();
    let path = format!("/projects/{project}/prune");
    let queued = api.post(&path, json!({ "dry_run": false })).await.expect(StatusCode::ACCEPTED);
    let job = api.ended(&text(&queued["job_id"])).await;
    assert_eq!(job["state"], "failed", "{job:#}");
    assert!(job["error"].to_string().contains("is missing"), "{job:#}");

    let stranger = server.user("eve@example.com").await;
    let path = format!("/snapshots/{lost}");
    stranger.send(Method::DELETE, &path, Value::Null).await.problem(404, "not-found");
    let eve = Browser::signed_in(&server.base, "eve@example.com", PASSWORD).await;
    let told = eve.get(&path).await;
    assert!(told.status == StatusCode::NOT_FOUND && !told.text.contains("missing"), "{}", told.text);
    let browser = Browser::signed_in(&server.base, "ada@example.com", PASSWORD).await;
    let told = browser.get(&path).await;
    assert!(told.text.contains(&format!("the file snapshots/{lost} is missing")), "{}", told.text);
    let delete = format!("{path}/delete");
    let wrong = browser.send(Method::POST, &delete, &[("confirm", "shop".to_owned())]).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    let done = browser.send(Method::POST, &delete, &[("confirm", lost[..8].to_owned())]).await;
    assert_eq!(
        (done.status, &done.headers["location"]),
        (StatusCode::SEE_OTHER, &format!("/projects/{project}").parse().unwrap())
    );
    api.send(Method::DELETE, &path, Value::Null).await.problem(404, "not-found");
    assert_eq!(number(&prune(&api, &project, false).await, "snapshots_removed"), 1);

    // A damaged one that is pinned, by the API.
    api.send(Method::PATCH, &format!("/snapshots/{stays}"), json!({ "pinned": true }))
        .await
        .expect(StatusCode::OK);
    let manifest = (files(server.folder.path()).into_iter())
        .find_map(|(path, _)| path.ends_with(&format!("snapshots/{stays}")).then_some(path));
    std::fs::write(manifest.unwrap(), "rotten").unwrap();
    let path = format!("/snapshots/{stays}");
    let page = browser.get(&path).await.text;
    assert!(page.contains("is damaged") && page.contains("It is pinned"), "{page}");
    api.send(Method::DELETE, &path, Value::Null).await.problem(409, "pinned");
    api.send(Method::PATCH, &path, json!({ "note": "x" })).await.problem(409, "unreadable");
    api.send(Method::PATCH, &path, json!({ "pinned": false })).await.expect(StatusCode::NO_CONTENT);
    assert!(!browser.get(&path).await.text.contains("It is pinned"));
    api.send(Method::DELETE, &path, Value::Null).await.expect(StatusCode::NO_CONTENT);
    api.send(Method::DELETE, &path, Value::Null).await.problem(404, "not-found");
    assert_eq!(number(&prune(&api, &project, false).await, "snapshots_removed"), 1);
}

#[tokio::test]
async fn what_only_a_deleted_snapshot_needed_goes_with_a_prune() {
    let (name, url) = shop().await;
    let server = Server::start().await;
    let (api, project, database) = server.connected(&url).await;
    let old = api.back_up(&database).await;
    // Every leaf of a table changes.
    Cluster::shared().execute(&name, "UPDATE customers SET name = 'renamed ' || id").await;
    let new = api.back_up(&database).await;
    let fields = [
        "snapshots_removed",
        "objects_condemned",
        "bytes_condemned",
        "objects_removed",
        "bytes_freed",
        "bytes_kept",
    ];
    let nothing = prune(&api, &project, true).await;
    for field in &fields[..5] {
        assert_eq!(number(&nothing, field), 0, "{field}: {nothing:#}");
    }

    let path = format!("/snapshots/{old}");
    api.send(Method::DELETE, &path, Value::Null).await.expect(StatusCode::NO_CONTENT);
    api.send(Method::DELETE, &path, Value::Null).await.problem(404, "not-found");
    api.get(&path).await.problem(404, "not-found");
    let listed = api.get(&format!("/databases/{database}/snapshots")).await.expect(StatusCode::OK);
    let ids: Vec<String> = listed["items"].as_array().unwrap().iter().map(|one| text(&one["id"])).collect();
    assert_eq!(ids, std::slice::from_ref(&new));

    let before = files(server.folder.path());
    let dry = prune(&api, &project, true).await;
    assert_eq!(number(&dry, "snapshots_removed"), 1);
    assert!(number(&dry, "objects_condemned") > 0 && number(&dry, "bytes_condemned") > 0, "{dry:#}");
    assert_eq!((number(&dry, "objects_removed"), number(&dry, "bytes_freed")), (0, 0), "{dry:#}");
    let packs =
        |files: &[(String, Vec<u8>)]| files.iter().filter(|(name, _)| name.contains("/packs/")).count();
    assert_eq!(packs(&files(server.folder.path())), packs(&before), "a dry run deletes nothing");

    let done = prune(&api, &project, false).await;
    assert_eq!(number(&done, "snapshots_removed"), 1);
    for field in ["objects_condemned", "bytes_condemned"] {
        assert_eq!(number(&done, field), number(&dry, field), "{field}: the dry run said so");
    }
    assert_eq!(number(&done, "objects_removed"), number(&dry, "objects_condemned"), "{done:#}");
    assert!(number(&done, "bytes_freed") > 0, "{done:#}");
    let pack_bytes = |files: &[(String, Vec<u8>)]| -> u64 {
        files.iter().filter(|(name, _)| name.contains("/packs/")).map(|(_, bytes)| bytes.len() as u64).sum()
    };
    assert_eq!(pack_bytes(&files(server.folder.path())), number(&done, "bytes_kept"), "{done:#}");

    let again = prune(&api, &project, false).await;
    for field in &fields[..5] {
        assert_eq!(number(&again, field), 0, "{field}: {again:#}");
    }
    let verify = api.post(&format!("/projects/{project}/verify"), json!({ "mode": "full" })).await;
    let job = api.ended(&text(&verify.expect(StatusCode::ACCEPTED)["job_id"])).await;
    assert_eq!((&job["state"], &job["result"]["damaged"]), (&json!("succeeded"), &json!([])), "{job:#}");
    let records = api.get(&format!("/snapshots/{new}/collections/public.customers/records")).await;
    assert!(!records.expect(StatusCode::OK)["items"].as_array().unwrap().is_empty());
}

/// What a killed server leaves in the storage is waited for, and keeps no other job from running.
#[tokio::test]
async fn prunes_that_wait_keep_no_worker() {
    let (_, url) = shop().await;
    let server = Server::start_with(&[("DBSNAP_WORKERS", "2")]).await;
    let (api, project, database) = server.connected(&url).await;
    let deleted = api.back_up(&database).await;
    api.send(Method::DELETE, &format!("/snapshots/{deleted}"), Value::Null)
        .await
        .expect(StatusCode::NO_CONTENT);
    let sessions = server.folder.path().join("repositories").join(&project).join("sessions");
    let dead = sessions.join("5e".repeat(16));
    std::fs::write(&dead, "of a process that was killed").unwrap();
    let mut prunes = Vec::new();
    for _ in 0..2 {
        let path = format!("/projects/{project}/prune");
        let queued = api.post(&path, json!({ "dry_run": false })).await.expect(StatusCode::ACCEPTED);
        prunes.push(text(&queued["job_id"]));
    }
    let waits = async |id: &str| {
        let job = api.get(&format!("/jobs/{id}")).await.expect(StatusCode::OK);
        assert_ne!(job["state"], "succeeded", "it waits: {job:#}");
        job["progress"].to_string().contains("waiting for")
    };
    for id in &prunes {
        while !waits(id).await {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
    api.back_up(&database).await;
    for id in &prunes {
        assert!(waits(id).await);
    }
    std::fs::remove_file(&dead).unwrap();
    for id in &prunes {
        assert_eq!(api.ended(id).await["state"], "succeeded");
    }
    // Each waits from its beginning on, and both stop in time with the server.
    std::fs::write(&dead, "of another one").unwrap();
    let again = api.back_up(&database).await;
    api.send(Method::DELETE, &format!("/snapshots/{again}"), Value::Null)
        .await
        .expect(StatusCode::NO_CONTENT);
    let path = format!("/projects/{project}/prune");
    let queued = api.post(&path, json!({ "dry_run": false })).await.expect(StatusCode::ACCEPTED);
    while !waits(&text(&queued["job_id"])).await {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let server = Server::start_in(server.stop().await, &[]).await;
    let api = Api { base: server.base.clone(), ..api };
    let job = api.get(&format!("/jobs/{}", text(&queued["job_id"]))).await.expect(StatusCode::OK);
    assert_eq!(job["state"], "interrupted", "{job:#}");
}

#[tokio::test]
async fn a_prune_says_whether_it_is_a_dry_run() {
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let project = api.project("shop").await;
    let path = format!("/projects/{project}/prune");
    api.post(&path, json!({})).await.problem(422, "invalid");
    api.post(&path, json!({ "dry_run": "yes" })).await.problem(422, "invalid");
}

/// By forms alone: a wrong confirmation changes nothing, a dry run comes before what deletes.
#[tokio::test]
async fn the_pages_delete_a_snapshot_and_clean_up() {
    let (_, url) = shop().await;
    let server = Server::start().await;
    let (api, project, database) = server.connected(&url).await;
    let snapshot = api.back_up(&database).await;
    let browser = Browser::signed_in(&server.base, "ada@example.com", PASSWORD).await;

    let page = browser.get(&format!("/snapshots/{snapshot}")).await;
    assert!(page.text.contains(&format!("action=\"/snapshots/{snapshot}/delete\"")), "{}", page.text);
    let delete = format!("/snapshots/{snapshot}/delete");
    let wrong = browser.send(Method::POST, &delete, &[("confirm", "shop".to_owned())]).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(wrong.text.contains(&format!("Type {} to delete it.", &snapshot[..8])), "{}", wrong.text);
    api.get(&format!("/snapshots/{snapshot}")).await.expect(StatusCode::OK);
    let done = browser.send(Method::POST, &delete, &[("confirm", snapshot[..8].to_owned())]).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.text);
    assert_eq!(done.headers["location"], format!("/databases/{database}"));
    api.get(&format!("/snapshots/{snapshot}")).await.problem(404, "not-found");

    let settings = browser.get(&format!("/projects/{project}/settings")).await;
    assert!(settings.text.contains("See what would go"), "{}", settings.text);
    for (dry_run, words) in [("true", "What would go"), ("false", "What went")] {
        let prune = format!("/projects/{project}/prune");
        let begun = browser.send(Method::POST, &prune, &[("dry_run", dry_run.to_owned())]).await;
        assert_eq!(begun.status, StatusCode::SEE_OTHER, "{}", begun.text);
        let job = begun.headers["location"].to_str().unwrap().to_owned();
        api.ended(job.strip_prefix("/jobs/").unwrap()).await;
        let page = browser.get(&job).await;
        assert!(page.text.contains(words), "{}", page.text);
        assert_eq!(page.text.contains("Remove it now"), dry_run == "true", "{}", page.text);
    }
}

/// A deleted snapshot is nobody's parent: the newest one before it that is left takes its place.
#[tokio::test]
async fn a_deleted_snapshot_is_no_parent_any_more() {
    let (_, url) = shop().await;
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let project = api.project("shop").await;
    let [database, other] = [api.database(&project, &url).await, api.database(&project, &url).await];
    let first = api.back_up(&database).await;
    api.back_up(&other).await;
    let [second, third] = [api.back_up(&database).await, api.back_up(&database).await];
    let browser = Browser::signed_in(&server.base, "ada@example.com", PASSWORD).await;
    let parents = async |id: &str| {
        let one = api.get(&format!("/snapshots/{id}")).await.expect(StatusCode::OK)["parent"].clone();
        let listed = api.get(&format!("/databases/{database}/snapshots")).await.expect(StatusCode::OK);
        let listed = listed["items"].as_array().unwrap().iter().find(|one| one["id"] == id).unwrap().clone();
        assert_eq!(listed["parent"], one);
        let page = browser.get(&format!("/snapshots/{id}")).await.text;
        let form = page.split("<form").find(|form| form.contains("Compare with the one before"));
        let from = form.and_then(|form| form.split("name=\"from\" value=\"").nth(1));
        let offered = from.map(|rest| rest.split('"').next().unwrap());
        assert_eq!(offered, one.as_str(), "{page}");
        one
    };
    assert_eq!(parents(&third).await, second.as_str());
    let listed = format!("/databases/{database}/snapshots?limit=2");
    let page = api.get(&listed).await.expect(StatusCode::OK);
    assert_eq!(page["items"][1]["id"], second);
    api.send(Method::DELETE, &format!("/snapshots/{second}"), Value::Null)
        .await
        .expect(StatusCode::NO_CONTENT);
    assert_eq!(parents(&third).await, first.as_str());
    let rest = format!("{listed}&cursor={}", text(&page["next_cursor"]));
    let rest = api.get(&rest).await.expect(StatusCode::OK);
    assert_eq!((&rest["items"][0]["id"], rest["items"].as_array().unwrap().len()), (&json!(first), 1));
    let compared =
        browser.send(Method::POST, "/diffs", &[("from", first.clone()), ("to", third.clone())]).await;
    assert_eq!(compared.status, StatusCode::SEE_OTHER, "{}", compared.text);
    prune(&api, &project, false).await;
    assert_eq!(parents(&third).await, first.as_str());
    api.send(Method::DELETE, &format!("/snapshots/{first}"), Value::Null)
        .await
        .expect(StatusCode::NO_CONTENT);
    assert_eq!(parents(&third).await, Value::Null);
}

/// What was kept of a removed database is listed, browsed, compared and, in the end, deleted.
#[tokio::test]
async fn what_is_kept_of_a_removed_database_is_on_a_list() {
    let (_, url) = shop().await;
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let project = api.project("shop").await;
    let [kept, empty] = [api.database(&project, &url).await, api.database(&project, &url).await];
    let [first, second] = [api.back_up(&kept).await, api.back_up(&kept).await];
    let browser = Browser::signed_in(&server.base, "ada@example.com", PASSWORD).await;
    let removed = async || {
        let path = format!("/projects/{project}/databases?removed=true");
        api.get(&path).await.expect(StatusCode::OK)["items"].as_array().unwrap().clone()
    };
    assert!(removed().await.is_empty());
    for database in [&kept, &empty] {
        let path = format!("/databases/{database}");
        api.send(Method::DELETE, &path, Value::Null).await.expect(StatusCode::NO_CONTENT);
        api.send(Method::DELETE, &path, Value::Null).await.problem(404, "not-found");
    }
    let listed = removed().await;
    assert_eq!((listed.len(), &listed[0]["id"]), (1, &json!(kept)), "of the other nothing is left");
    assert!(listed[0]["removed_at"].is_string());
    let connected = api.get(&format!("/projects/{project}/databases")).await.expect(StatusCode::OK);
    assert_eq!(connected["items"], json!([]));
    api.get(&format!("/projects/{project}/databases?removed=maybe")).await.problem(422, "invalid");

    let page = browser.get(&format!("/projects/{project}")).await.text;
    assert!(page.contains("Removed databases") && page.contains(&format!("/databases/{kept}")), "{page}");
    let path = format!("/databases/{kept}/snapshots");
    let snapshots = api.get(&path).await.expect(StatusCode::OK)["items"].as_array().unwrap().len();
    assert_eq!(snapshots, 2);
    for page in
        [format!("/databases/{kept}"), format!("/snapshots/{first}"), format!("/snapshots/{second}/restore")]
    {
        assert_eq!(browser.get(&page).await.status, StatusCode::OK, "{page}");
    }

    let remove = format!("/databases/{kept}/remove");
    let form = |name: &str| [("confirm", name.to_owned()), ("delete_snapshots", "yes".to_owned())];
    let wrong = browser.send(Method::POST, &remove, &form("other")).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    let pin = format!("/snapshots/{first}");
    api.send(Method::PATCH, &pin, json!({ "pinned": true })).await.expect(StatusCode::OK);
    let pinned = browser.send(Method::POST, &remove, &form("shop")).await;
    assert_eq!(pinned.status, StatusCode::CONFLICT);
    api.send(Method::PATCH, &pin, json!({ "pinned": false })).await.expect(StatusCode::OK);
    let done = browser.send(Method::POST, &remove, &form("shop")).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.text);
    assert!(removed().await.is_empty());
    api.get(&pin).await.problem(404, "not-found");
    let again = format!("/databases/{kept}?snapshots=delete");
    api.send(Method::DELETE, &again, Value::Null).await.problem(404, "not-found");
    assert!(!browser.get(&format!("/projects/{project}")).await.text.contains("Removed databases"));
}

/// What is stored, by database and snapshot; and what one of them costs, held against a prune.
#[tokio::test]
async fn usage_is_told_by_database_and_snapshot() {
    let (name, url) = shop().await;
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let project = api.project("shop").await;
    let [database, empty] = [api.database(&project, &url).await, api.database(&project, &url).await];
    let first = api.back_up(&database).await;
    Cluster::shared().execute(&name, "UPDATE customers SET name = 'renamed ' || id").await;
    let second = api.back_up(&database).await;
    let usage = api.get(&format!("/projects/{project}/usage")).await.expect(StatusCode::OK);
    let found = &usage["databases"];
    assert_eq!(
        (&found[0]["id"], &found[1]["id"], &found[1]["snapshots"]),
        (&json!(database), &json!(empty), &json!([]))
    );
    let ids: Vec<&Value> = found[0]["snapshots"].as_array().unwrap().iter().map(|one| &one["id"]).collect();
    assert_eq!(ids, [&second, &first]);
    let mut new_bytes = 0;
    for told in found[0]["snapshots"].as_array().unwrap() {
        let one = api.get(&format!("/snapshots/{}", text(&told["id"]))).await.expect(StatusCode::OK);
        for field in ["created_at", "logical_bytes", "new_bytes", "pinned"] {
            assert_eq!(told[field], one[field], "{field}");
        }
        new_bytes += number(told, "new_bytes");
    }
    assert_eq!(number(&found[0], "new_bytes"), new_bytes);
    assert_eq!(found[0]["logical_bytes"], found[0]["snapshots"][0]["logical_bytes"]);
    let on_disk = files(server.folder.path()).into_iter();
    let on_disk = on_disk
        .filter(|(name, _)| ["/packs/", "/index/", "/snapshots/"].iter().any(|part| name.contains(part)));
    let on_disk: u64 = on_disk.map(|(_, bytes)| bytes.len() as u64).sum();
    assert_eq!(number(&usage, "stored_bytes"), on_disk);

    let client = reqwest::Client::new();
    let told = format!("dbsnap_snapshots{{database=\"{database}\"}} 2\n");
    // Counted in the background: who asks first is not kept waiting.
    while !Answer::of(client.get(format!("{}/metrics", server.base))).await.text.contains(&told) {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }

    let browser = Browser::signed_in(&server.base, "ada@example.com", PASSWORD).await;
    let page = browser.get(&format!("/projects/{project}/usage")).await.text;
    assert!(page.contains(&format!("/snapshots/{first}")) && page.contains("No snapshot yet"), "{page}");
    let begun = browser.send(Method::POST, &format!("/snapshots/{first}/cost"), &[]).await;
    assert_eq!(begun.status, StatusCode::SEE_OTHER);
    let job = begun.headers["location"].to_str().unwrap().strip_prefix("/jobs/").unwrap().to_owned();
    let cost = api.ended(&job).await["result"].clone();
    assert!(
        number(&cost, "freed_bytes") > 0 && number(&cost, "freed_bytes") < number(&cost, "new_bytes"),
        "{cost:#}"
    );
    let page = browser.get(&format!("/snapshots/{first}")).await.text;
    assert!(page.contains("Only this snapshot needs") && page.contains("public.customers"), "{page}");
    let asked = api.post(&format!("/snapshots/{first}/cost"), json!({})).await.expect(StatusCode::ACCEPTED);
    assert_eq!(api.ended(&text(&asked["job_id"])).await["result"], cost);
    api.send(Method::DELETE, &format!("/snapshots/{first}"), Value::Null)
        .await
        .expect(StatusCode::NO_CONTENT);
    let dry = prune(&api, &project, true).await;
    // A prune leaves alone what is too small a part of a pack.
    let condemned = number(&dry, "objects_condemned");
    assert!(condemned > 0 && condemned <= number(&cost, "freed_objects"), "{dry:#} {cost:#}");
}
