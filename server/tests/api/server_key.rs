//! The server key is replaced by a new one, and nothing that it sealed is lost.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::harness::{Api, PASSWORD, Server, shop, text};
use crate::process::Program;

const OPEN: [(&str, &str); 1] = [("DBSNAP_SIGNUP", "open")];

/// Runs the operator's command; gives what it said and whether it succeeded.
fn rotate(folder: &Path) -> (bool, String) {
    let output = Program::command(folder).arg("rotate-server-key").output().unwrap();
    let told = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.success(), String::from_utf8(told).unwrap())
}

fn key(folder: &Path) -> Vec<u8> {
    std::fs::read(folder.join("server.key")).unwrap()
}

/// The access token is worth nothing any more, and the refresh token gives another.
async fn refreshed(api: &Api, tokens: &Value) -> (Api, Value) {
    api.get("/me").await.problem(401, "unauthorized");
    let body = json!({ "refresh_token": tokens["refresh_token"] });
    let tokens = api.post("/auth/refresh", body).await.expect(StatusCode::OK);
    (api.with_token(&text(&tokens["access_token"])), tokens)
}

#[tokio::test]
async fn a_new_server_key_opens_all_that_the_old_one_sealed() {
    let (_, url) = shop().await;
    let server = Server::start().await;
    let (status, refused) = rotate(server.folder.path());
    assert!(!status && refused.contains("in use by another dbsnap"), "{refused}");

    let body = json!({ "email": "ada@example.com", "password": PASSWORD });
    let tokens = Api::new(&server.base).post("/auth/register", body).await.expect(StatusCode::CREATED);
    let api = Api::new(&server.base).with_token(&text(&tokens["access_token"]));
    let project = api.project("shop").await;
    let database = api.database(&project, &url).await;
    let job = api.start_backup(&database).await;
    let before = api.ended(&job).await;
    let snapshots = [text(&before["result"]["snapshot_id"]), api.back_up(&database).await];
    let pair = json!({ "from": snapshots[0], "to": snapshots[1] });
    let diff = api.post("/diffs", pair).await.expect(StatusCode::ACCEPTED);
    api.ended(&text(&diff["job_id"])).await;
    let diff = format!("/diffs/{}", text(&diff["id"]));
    let compared = api.get(&diff).await.expect(StatusCode::OK);
    let folder = server.stop().await;

    let old = key(folder.path());
    let (succeeded, told) = rotate(folder.path());
    assert!(succeeded && told.contains("repositories that it opens: 1"), "{told}");
    let new = key(folder.path());
    assert!(old != new && new.len() == 32);
    let file = folder.path().join("server.key");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!folder.path().join("server.key.next").exists());

    // Whoever has the old key and a copy of the data could sign as before: those keys are given up, and the
    // session goes on.
    let server = Server::start_in(folder, &OPEN).await;
    let (api, tokens) = refreshed(&Api { base: server.base.clone(), ..api }, &tokens).await;
    // Results and URLs were sealed.
    assert_eq!(api.get(&format!("/jobs/{job}")).await.expect(StatusCode::OK), before);
    assert_eq!(api.get(&diff).await.expect(StatusCode::OK), compared);
    api.back_up(&database).await;
    let slots = api.get(&format!("/projects/{project}/keys")).await.expect(StatusCode::OK);
    let slots = slots["items"].as_array().unwrap().clone();
    assert_eq!((slots.len(), &slots[0]["usable"]), (1, &json!(true)), "the old key's slot is gone");
    let folder = server.stop().await;

    // The old key opens nothing any more.
    std::fs::write(&file, &old).unwrap();
    let refused = Program::command(folder.path()).output().unwrap();
    assert!(
        String::from_utf8(refused.stderr).unwrap().contains("not the one this data folder was made with")
    );

    // As a crash leaves it that came when the metadata was sealed anew and the file not yet in place.
    std::fs::write(folder.path().join("server.key.next"), &new).unwrap();
    std::fs::set_permissions(folder.path().join("server.key.next"), PermissionsExt::from_mode(0o600))
        .unwrap();
    let server = Server::start_in(folder, &OPEN).await;
    let api = Api { base: server.base.clone(), ..api };
    api.back_up(&database).await;
    let folder = server.stop().await;
    assert_eq!(key(folder.path()), new);

    // As a crash leaves it that came before: the next key is there and seals nothing yet.
    let next = folder.path().join("server.key.next");
    std::fs::write(&next, [7; 32]).unwrap();
    std::fs::set_permissions(&next, PermissionsExt::from_mode(0o600)).unwrap();
    let (succeeded, told) = rotate(folder.path());
    assert!(succeeded, "{told}");
    assert_eq!(key(folder.path()), [7; 32]);
    let server = Server::start_in(folder, &OPEN).await;
    let (api, _) = refreshed(&Api { base: server.base.clone(), ..api }, &tokens).await;
    api.back_up(&database).await;
    drop(server.stop().await);
}
