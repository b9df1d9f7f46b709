//! Keys of a project, and opening storage that another data folder made.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Answer, Api, Browser, PASSWORD, Server, segment, shop, text};

async fn slots(api: &Api, project: &str) -> Vec<Value> {
    let body = api.get(&format!("/projects/{project}/keys")).await.expect(StatusCode::OK);
    assert_eq!(body["next_cursor"], Value::Null);
    body["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn keys_are_listed_added_replaced_and_removed() {
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let project = api.project("shop").await;
    let keys = format!("/projects/{project}/keys");
    let first = slots(&api, &project).await.remove(0);
    assert_eq!((&first["kind"], &first["usable"]), (&json!("server"), &json!(true)));

    let only = text(&first["slot"]);
    let refused = Answer::of(api.request(Method::DELETE, &format!("{keys}/{only}"))).await;
    refused.problem(409, "last-key");
    assert_eq!(slots(&api, &project).await.len(), 1);

    let made = api.post(&keys, json!({ "kind": "server" })).await.expect(StatusCode::CREATED);
    assert!(made["recovery_key"].is_null());
    Answer::of(api.request(Method::DELETE, &format!("{keys}/{only}"))).await.expect(StatusCode::NO_CONTENT);
    Answer::of(api.request(Method::DELETE, &format!("{keys}/{only}"))).await.problem(404, "not-found");

    let exported = api.post(&format!("{keys}/recovery"), json!({})).await.expect(StatusCode::CREATED);
    assert_eq!(text(&exported["recovery_key"]).len(), 69);
    let recovery = slots(&api, &project).await.into_iter().find(|slot| slot["kind"] == "recovery").unwrap();
    let path = format!("{keys}/{}/rotate", text(&recovery["slot"]));
    let replaced = api.post(&path, json!({})).await.expect(StatusCode::CREATED);
    assert_ne!(replaced["recovery_key"], exported["recovery_key"]);
    assert_eq!(slots(&api, &project).await.len(), 2);

    let page = api.get(&format!("{keys}?limit=1")).await.expect(StatusCode::OK);
    let rest = api.get(&format!("{keys}?limit=1&cursor={}", text(&page["next_cursor"]))).await;
    let rest = rest.expect(StatusCode::OK);
    assert_eq!([page["items"][0].clone(), rest["items"][0].clone()].to_vec(), slots(&api, &project).await);
    assert_eq!(rest["next_cursor"], Value::Null);
    for wrong in ["limit=0", "limit=many", "cursor=nothing"] {
        api.get(&format!("{keys}?{wrong}")).await.problem(422, "invalid");
    }

    api.post(&keys, json!({ "kind": "kms" })).await.problem(422, "invalid");
    let begun = api.post(&format!("{keys}/epoch"), json!({})).await.expect(StatusCode::CREATED);
    assert_eq!(begun["epoch"], 1);
    assert_eq!(api.get(&keys).await.body["epoch"], 1);

    let stranger = server.user("eve@example.com").await;
    stranger.get(&keys).await.problem(404, "not-found");
    stranger.post(&format!("{keys}/epoch"), json!({})).await.problem(404, "not-found");
}

#[tokio::test]
async fn of_two_keys_removed_at_once_one_stays() {
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let project = api.project("shop").await;
    let keys = format!("/projects/{project}/keys");
    for _ in 0..5 {
        api.post(&keys, json!({ "kind": "server" })).await.expect(StatusCode::CREATED);
        let both = slots(&api, &project).await;
        let remove = |slot: &Value| {
            Answer::of(api.request(Method::DELETE, &format!("{keys}/{}", text(&slot["slot"]))))
        };
        let (first, second) = tokio::join!(remove(&both[0]), remove(&both[1]));
        let refused = if first.status == StatusCode::NO_CONTENT { second } else { first };
        refused.problem(409, "last-key");
        assert_eq!(slots(&api, &project).await.len(), 1);
    }
}

/// Of the first server nothing is left but its storage, and what its owner wrote down.
#[tokio::test]
async fn a_fresh_server_reads_the_whole_history_with_a_recovery_key() {
    let (_, url) = shop().await;
    let storage = tempfile::tempdir().unwrap();
    let place = format!("fs://{}", storage.path().display());
    let variables = [("DBSNAP_STORAGE", place.as_str()), ("DBSNAP_SIGNUP", "open")];
    let lost = Server::start_with(&variables).await;
    let api = lost.user("ada@example.com").await;
    let project = api.project("shop").await;
    let database = api.database(&project, &url).await;
    let snapshots = [api.back_up(&database).await, api.back_up(&database).await];
    let exported = api.post(&format!("/projects/{project}/keys/recovery"), json!({})).await;
    let recovery_key = text(&exported.expect(StatusCode::CREATED)["recovery_key"]);
    drop(lost.stop().await);

    let fresh = Server::start_with(&variables).await;
    let api = fresh.user("ada@example.com").await;
    assert_eq!(api.get("/storage").await.expect(StatusCode::OK)["unclaimed"], 1);
    api.post("/storage/open", json!({})).await.problem(422, "wrong-key");
    let typo =
        recovery_key.replace(&recovery_key[..1], if recovery_key.starts_with('A') { "B" } else { "A" });
    api.post("/storage/open", json!({ "recovery_key": typo })).await.problem(422, "invalid");
    let opened = api.post("/storage/open", json!({ "recovery_key": recovery_key })).await;
    let opened = opened.expect(StatusCode::OK)["projects"][0].clone();
    assert_eq!(text(&opened["id"]), project);
    assert_eq!(api.get("/storage").await.body["unclaimed"], 0);

    // The ids are those of before, and everything is there.
    let listed = api.get(&format!("/databases/{database}/snapshots")).await.expect(StatusCode::OK);
    let ids: Vec<String> = listed["items"].as_array().unwrap().iter().map(|s| text(&s["id"])).collect();
    assert_eq!(ids.len(), 2);
    assert!(snapshots.iter().all(|snapshot| ids.contains(snapshot)));
    let found = api.get(&format!("/snapshots/{}", ids[0])).await.expect(StatusCode::OK);
    let collection = segment(&text(&found["collections"][0]["name"]));
    let records = api.get(&format!("/snapshots/{}/collections/{collection}/records", ids[0])).await;
    assert!(!records.expect(StatusCode::OK)["items"].as_array().unwrap().is_empty());

    // Credentials are not in the storage, which pages say; with them the history goes on.
    let browser = Browser::signed_in(&fresh.base, "ada@example.com", PASSWORD).await;
    let settings = format!("/databases/{database}/settings");
    for page in ["/projects".to_owned(), format!("/projects/{project}"), format!("/databases/{database}")] {
        let page = browser.get(&page).await.text;
        assert!(page.contains("not known here") && page.contains(&settings), "{page}");
        for words in ["unknown/", "Back up now", "Set a schedule", "Compare with the live database"] {
            assert!(!page.contains(words), "{words} is in {page}");
        }
    }
    let page = browser.get(&settings).await.text;
    assert!(page.contains("None is known here") && !page.contains("Leave this empty"), "{page}");
    let page = browser.get(&format!("/snapshots/{}", ids[0])).await.text;
    assert!(!page.contains("Compare with the live database"), "{page}");
    let job = api.start_backup(&database).await;
    let failed = api.ended(&job).await;
    assert_eq!((&failed["state"], &failed["error"]["type"]), (&json!("failed"), &json!("no-credentials")));
    api.send(Method::PATCH, &format!("/databases/{database}"), json!({ "url": url }))
        .await
        .expect(StatusCode::OK);
    let page = browser.get(&format!("/databases/{database}")).await.text;
    assert!(page.contains("Back up now") && !page.contains("not known here"), "{page}");
    let next = api.back_up(&database).await;
    let parent = api.get(&format!("/snapshots/{next}")).await.body["parent"].clone();
    assert_eq!(parent, json!(ids[0]));

    // From now on this server's own key opens it, also after a restart.
    let folder = fresh.stop().await;
    let again = Server::start_in(folder, &variables).await;
    let body = json!({ "email": "ada@example.com", "password": crate::harness::PASSWORD });
    let tokens = Api::new(&again.base).post("/auth/login", body).await.expect(StatusCode::OK);
    let api = Api::new(&again.base).with_token(&text(&tokens["access_token"]));
    let keys = slots(&api, &project).await;
    assert_eq!(keys.iter().filter(|slot| slot["usable"] == true).count(), 1);
    assert_eq!(keys.len(), 3, "the lost server's, the recovery key, this server's");
    api.get(&format!("/snapshots/{next}")).await.expect(StatusCode::OK);
}

/// A slot that rotted opens nothing: verify says so, and whoever has the recovery key gets in again.
#[tokio::test]
async fn a_damaged_slot_of_the_server_is_replaced_with_the_recovery_key() {
    let (_, url) = shop().await;
    let server = Server::start().await;
    let (api, project, database) = server.connected(&url).await;
    let snapshot = api.back_up(&database).await;
    let own = text(&slots(&api, &project).await[0]["slot"]);
    let exported = api.post(&format!("/projects/{project}/keys/recovery"), json!({})).await;
    let recovery_key = text(&exported.expect(StatusCode::CREATED)["recovery_key"]);
    let recovery = slots(&api, &project).await.into_iter().find(|slot| slot["slot"] != own).unwrap();
    let folder = server.folder.path().join("repositories").join(&project).join("slots");
    let flip = |slot: &str| {
        let path = folder.join(slot);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[110] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    };

    // The recovery key's: nobody here could tell by opening it.
    flip(&text(&recovery["slot"]));
    let asked = async || {
        let browser = Browser::signed_in(&server.base, "ada@example.com", PASSWORD).await;
        browser.get(&format!("/projects/{project}")).await.text.contains("recovery key")
    };
    assert!(!asked().await);
    let verified = api.post(&format!("/projects/{project}/verify"), json!({ "mode": "structure" })).await;
    let job = api.ended(&text(&verified.expect(StatusCode::ACCEPTED)["job_id"])).await;
    let damaged = &job["result"]["damaged"];
    assert_eq!(damaged[0]["object"], format!("slots/{}", text(&recovery["slot"])), "{job:#}");
    assert!(asked().await, "there is none any more");
    flip(&text(&recovery["slot"]));

    // The server's own.
    flip(&own);
    let server = Server::start_in(server.stop().await, &[]).await;
    let api = Api { base: server.base.clone(), ..api };
    let told = api.get(&format!("/databases/{database}/snapshots")).await.problem(503, "locked");
    assert!(text(&told["detail"]).contains("/storage"), "{told}");
    flip(&text(&recovery["slot"]));
    let typed = json!({ "recovery_key": recovery_key });
    let refused = api.post("/storage/open", typed).await.problem(422, "wrong-key");
    assert!(text(&refused["detail"]).contains("A key slot there is damaged"), "{refused}");
    flip(&text(&recovery["slot"]));
    let browser = Browser::signed_in(&server.base, "ada@example.com", PASSWORD).await;
    let projects = browser.get("/projects").await.text;
    assert!(projects.contains("Open it with its recovery key"), "{projects}");
    let connect = format!("/projects/{project}/connect");
    assert!(!projects.contains(&connect), "{projects}");
    let closed = browser.get(&format!("/databases/{database}")).await;
    assert_eq!(closed.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(closed.text.contains("href=\"/storage\">Open existing storage</a>"), "{}", closed.text);
    let page = browser.get("/storage").await.text;
    assert!(page.contains("its key slot is lost or damaged"), "{page}");
    let opened = browser.send(Method::POST, "/storage", &[("recovery_key", recovery_key)]).await;
    assert_eq!(opened.status, StatusCode::SEE_OTHER, "{}", opened.text);
    let projects = browser.get("/projects").await.text;
    assert!(!projects.contains("Open it with its recovery key") && projects.contains(&connect), "{projects}");
    api.get(&format!("/snapshots/{snapshot}")).await.expect(StatusCode::OK);
    let server = Server::start_in(server.stop().await, &[]).await;
    let api = Api { base: server.base.clone(), ..api };
    api.get(&format!("/snapshots/{snapshot}")).await.expect(StatusCode::OK);
    let kinds: Vec<Value> = slots(&api, &project).await.iter().map(|slot| slot["kind"].clone()).collect();
    assert_eq!(kinds.iter().filter(|kind| kind.is_null()).count(), 1, "{kinds:?}");
}

/// Removes all slots beneath a running server, which has the root key in memory.
fn lose_slots(server: &Server, project: &str) {
    let folder = server.folder.path().join("repositories").join(project).join("slots");
    for entry in std::fs::read_dir(folder).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
}

/// What a verification says of the keys.
async fn verified(api: &Api, project: &str) -> Vec<String> {
    let queued = api.post(&format!("/projects/{project}/verify"), json!({ "mode": "structure" })).await;
    let job = api.ended(&text(&queued.expect(StatusCode::ACCEPTED)["job_id"])).await;
    assert_eq!(job["state"], "succeeded", "{job:#}");
    let damaged = job["result"]["damaged"].as_array().unwrap();
    assert!(damaged.iter().all(|damage| damage["object"] == "slots/"), "{job:#}");
    damaged.iter().map(|damage| text(&damage["reason"])).collect()
}

#[tokio::test]
async fn lost_slots_are_made_anew_while_the_server_has_the_key() {
    const OWN: &str = "no key slot opened with this server's key; one was made anew";
    const RECOVERY: &str = "the recovery key that was written down opens nothing any more: make a new one";
    let (_, url) = shop().await;
    let server = Server::start().await;
    let (api, project, database) = server.connected(&url).await;
    let snapshot = api.back_up(&database).await;
    let export = format!("/projects/{project}/keys/recovery");
    api.post(&export, json!({})).await.expect(StatusCode::CREATED);
    assert_eq!(verified(&api, &project).await, [""; 0]);
    let said = async |page: &str, words: &str| {
        let browser = Browser::signed_in(&server.base, "ada@example.com", PASSWORD).await;
        browser.get(page).await.text.contains(words)
    };
    let settings = format!("/projects/{project}/settings");
    let lost = "The recovery key that was written down opens nothing any more.";

    lose_slots(&server, &project);
    assert_eq!(verified(&api, &project).await, [OWN, RECOVERY]);
    assert!(said(&settings, lost).await && !said(&settings, "None has been made.").await);
    assert!(said(&format!("/projects/{project}"), "recovery key").await, "it asks for one");
    // The recovery key stays lost until there is a new one.
    assert_eq!(verified(&api, &project).await, [RECOVERY]);
    assert_eq!(slots(&api, &project).await.len(), 1);
    api.post(&export, json!({})).await.expect(StatusCode::CREATED);
    assert!(!said(&settings, lost).await);
    assert_eq!(verified(&api, &project).await, [""; 0]);

    // A key that its owner gives up is not lost.
    let recovery = slots(&api, &project).await.into_iter().find(|slot| slot["kind"] == "recovery").unwrap();
    let path = format!("/projects/{project}/keys/{}", text(&recovery["slot"]));
    Answer::of(api.request(Method::DELETE, &path)).await.expect(StatusCode::NO_CONTENT);
    assert!(said(&settings, "None has been made.").await);
    assert_eq!(verified(&api, &project).await, [""; 0]);

    // A backup sees to it, too: what it stored is there after a restart.
    lose_slots(&server, &project);
    let newer = api.back_up(&database).await;
    let kept = slots(&api, &project).await;
    assert_eq!((kept.len(), &kept[0]["usable"]), (1, &json!(true)));
    let server = Server::start_in(server.stop().await, &[]).await;
    let api = Api { base: server.base.clone(), ..api };
    for snapshot in [snapshot, newer] {
        api.get(&format!("/snapshots/{snapshot}")).await.expect(StatusCode::OK);
    }
}
