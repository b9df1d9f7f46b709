//! A project's repository that is not where it was, as when a mount is missing.

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::harness::{Answer, Api, Browser, PASSWORD, Server, shop, text};
use crate::process::Program;

const OPEN: [(&str, &str); 1] = [("DBSNAP_SIGNUP", "open")];

#[tokio::test]
async fn a_repository_out_of_reach_is_told_and_hides_no_other() {
    let (_, url) = shop().await;
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let (good, lost) = (api.project("good").await, api.project("lost").await);
    let kept = api.database(&good, &url).await;
    api.back_up(&kept).await;
    let gone = api.database(&lost, &url).await;
    let snapshot = api.back_up(&gone).await;
    let repository = server.folder.path().join("repositories").join(&lost);
    let aside = server.folder.path().join("aside");
    std::fs::rename(&repository, &aside).unwrap();
    // An empty folder, as an unmounted mount leaves it.
    std::fs::create_dir(&repository).unwrap();

    let check = async |api: &Api, base: &str| {
        let listed = api.get(&format!("/databases/{gone}/snapshots")).await;
        let told = listed.problem(503, "storage");
        assert!(told["detail"].as_str().unwrap().contains("Bring the storage back"), "{told:#}");
        api.get(&format!("/snapshots/{snapshot}")).await.problem(503, "storage");
        // A key that is made now would open nothing.
        let keys = format!("/projects/{lost}/keys");
        api.get(&keys).await.problem(503, "storage");
        api.post(&format!("{keys}/recovery"), json!({})).await.problem(503, "storage");
        api.post(&format!("{keys}/epoch"), json!({})).await.problem(503, "storage");
        let page = Browser::signed_in(base, "ada@example.com", PASSWORD).await.get("/projects").await;
        assert_eq!(page.status, StatusCode::OK);
        for words in [">good<", ">lost<", "Bring the storage back", "Can be recovered from"] {
            assert!(page.text.contains(words), "{words} in {}", page.text);
        }
        api.get(&format!("/databases/{kept}/snapshots")).await.expect(StatusCode::OK);
    };
    check(&api, &server.base).await;
    let server = Server::start_in(server.stop().await, &OPEN).await;
    let api = Api { base: server.base.clone(), ..api };
    check(&api, &server.base).await;

    std::fs::remove_dir(server.folder.path().join("repositories").join(&lost)).unwrap();
    std::fs::rename(
        server.folder.path().join("aside"),
        server.folder.path().join("repositories").join(&lost),
    )
    .unwrap();
    let listed = api.get(&format!("/databases/{gone}/snapshots")).await.expect(StatusCode::OK);
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
}

async fn ready(base: &str) -> Answer {
    Answer::of(reqwest::Client::new().get(format!("{base}/readyz"))).await
}

/// A folder that answers is not enough: it has to be the one that the projects are in. Nothing is made in its
/// place, by a start least of all.
#[tokio::test]
async fn an_empty_folder_in_the_place_of_the_storage_is_not_ready_and_starts_no_server() {
    let server = Server::start().await;
    assert_eq!(ready(&server.base).await.status, StatusCode::OK, "nothing is stored yet");
    let api = server.user("ada@example.com").await;
    let project = api.project("shop").await;
    assert_eq!(ready(&server.base).await.status, StatusCode::OK);
    let (storage, aside) = (server.folder.path().join("repositories"), server.folder.path().join("aside"));
    std::fs::rename(&storage, &aside).unwrap();
    let told = ready(&server.base).await.problem(503, "not-ready");
    assert!(told["detail"].as_str().unwrap().contains("Bring the folder back"), "{told:#}");
    std::fs::create_dir(&storage).unwrap();
    let told = ready(&server.base).await.problem(503, "not-ready");
    assert_eq!(told["failed"], "storage");
    assert!(told["detail"].as_str().unwrap().contains("none of the repositories"), "{told:#}");
    let delete = format!("/projects/{project}");
    api.send(Method::DELETE, &delete, json!({ "confirm": "shop" })).await.problem(503, "storage");
    api.get(&delete).await.expect(StatusCode::OK);
    // Its first project would make it look like the storage.
    let refused = api.post("/projects", json!({ "name": "other" })).await.problem(503, "storage");
    assert!(refused["detail"].as_str().unwrap().contains("Bring the storage back"), "{refused:#}");
    assert_eq!(std::fs::read_dir(&storage).unwrap().count(), 0);

    let folder = server.stop().await;
    let start = || {
        let output = Program::command(folder.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let refused = start();
    assert!(refused.contains("none of the repositories that this server knows"), "{refused}");
    assert!(refused.contains("mount the folder again"), "{refused}");
    std::fs::remove_dir(&storage).unwrap();
    let refused = start();
    assert!(refused.contains("Bring the folder back"), "{refused}");
    assert!(!storage.exists(), "it was made anew");
    std::fs::rename(&aside, &storage).unwrap();
    let server = Server::start_in(folder, &OPEN).await;
    assert_eq!(ready(&server.base).await.status, StatusCode::OK);
}

/// An older copy of the metadata knows nothing of a database that was connected since.
#[tokio::test]
async fn databases_that_only_snapshots_know_are_listed() {
    let ((_, first), (_, later)) = (shop().await, shop().await);
    let server = Server::start().await;
    let (api, project, _) = server.connected(&first).await;
    let databases = format!("/projects/{project}/databases");
    let folder = server.stop().await;
    let (meta, copy) = (folder.path().join("meta.redb"), folder.path().join("copy"));
    std::fs::copy(&meta, &copy).unwrap();

    let server = Server::start_in(folder, &OPEN).await;
    let api = Api { base: server.base.clone(), ..api };
    let body = json!({ "name": "later", "url": later, "environment": "dev" });
    let added = text(&api.post(&databases, body).await.expect(StatusCode::CREATED)["id"]);
    let snapshot = api.back_up(&added).await;
    let folder = server.stop().await;
    std::fs::rename(&copy, &meta).unwrap();

    let server = Server::start_in(folder, &OPEN).await;
    let api = Api { base: server.base.clone(), ..api };
    let begun = Instant::now();
    let found = loop {
        let listed = api.get(&databases).await.expect(StatusCode::OK);
        if let Some(found) = listed["items"].as_array().unwrap().iter().find(|found| found["id"] == *added) {
            break found.clone();
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{listed:#}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(found["name"], "later");
    let listed = api.get(&format!("/databases/{added}/snapshots")).await.expect(StatusCode::OK);
    assert_eq!(listed["items"][0]["id"], *snapshot);
    // Its credentials are in no snapshot.
    let job = api.start_backup(&added).await;
    assert!(
        api.ended(&job).await["error"]["detail"].as_str().unwrap().contains("Give its URL in its settings")
    );
}
