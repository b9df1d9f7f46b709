//! The program on S3 and AWS KMS, as an operator runs it: by environment variables.

use std::path::Path;
use std::process::Command;

use engine_testutils::kms;
use engine_testutils::store::{ACCESS_KEY_ID, SECRET_ACCESS_KEY, seaweedfs};
use reqwest::{Client, StatusCode};
use serde_json::json;

use crate::harness::{Api, PASSWORD, shop, text};
use crate::process::Program;

fn command(folder: &Path, storage: &str) -> Command {
    let mut command = Program::command(folder);
    command.env("DBSNAP_STORAGE", storage);
    command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID).env("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY);
    command
}

async fn registered(program: &Program) -> Api {
    let api = Api::new(&program.base);
    let body = json!({ "email": "ada@example.com", "password": PASSWORD });
    let tokens = api.post("/auth/register", body).await.expect(StatusCode::CREATED);
    api.with_token(&text(&tokens["access_token"]))
}

async fn is_ready(program: &Program) -> bool {
    Client::new().get(format!("{}/readyz", program.base)).send().await.unwrap().status().is_success()
}

/// Everything but the bucket and the key in KMS is lost, and the history is read.
#[tokio::test]
async fn the_program_runs_on_s3_and_kms_and_outlives_its_folder() {
    let (_, url) = shop().await;
    let storage = seaweedfs::Server::shared().fresh_url();
    let (key, endpoint) = (kms::Server::shared().create_key(), kms::Server::shared().endpoint());
    let start = |folder: &Path| {
        let mut command = command(folder, &storage);
        Program::spawn(command.env("DBSNAP_KMS_KEY_ID", &key).env("DBSNAP_KMS_ENDPOINT", &endpoint))
    };
    let folder = tempfile::tempdir().unwrap();
    let program = start(folder.path());
    assert!(is_ready(&program).await);
    let api = registered(&program).await;
    let project = api.project("shop").await;
    let database = api.database(&project, &url).await;
    let snapshot = api.back_up(&database).await;
    let keys = api.get(&format!("/projects/{project}/keys")).await.expect(StatusCode::OK);
    assert_eq!((&keys["items"][0]["kind"], &keys["items"][0]["kms_key_id"]), (&json!("kms"), &json!(key)));
    assert!(!folder.path().join("server.key").exists(), "the key is in KMS and in memory only");
    assert_eq!(program.terminate().0, Some(0));

    // Another server key takes the place of the one that KMS wraps.
    let wrapped = || std::fs::read(folder.path().join("server.key.kms")).unwrap();
    let before = wrapped();
    let mut rotate = command(folder.path(), &storage);
    rotate.env("DBSNAP_KMS_KEY_ID", &key).env("DBSNAP_KMS_ENDPOINT", &endpoint).arg("rotate-server-key");
    let rotated = rotate.output().unwrap();
    assert!(rotated.status.success(), "{rotated:?}");
    assert_ne!(wrapped(), before);

    // It starts again on its folder.
    let program = start(folder.path());
    let again = program.login().await;
    again.get(&format!("/snapshots/{snapshot}")).await.expect(StatusCode::OK);
    again.back_up(&database).await;
    assert_eq!(program.terminate().0, Some(0));
    drop(folder);

    let folder = tempfile::tempdir().unwrap();
    let program = start(folder.path());
    let api = registered(&program).await;
    assert_eq!(api.get("/storage").await.expect(StatusCode::OK)["unclaimed"], 1);
    api.post("/storage/open", json!({})).await.expect(StatusCode::OK);
    let records = api.get(&format!("/snapshots/{snapshot}")).await.expect(StatusCode::OK)["records"].clone();
    assert!(records.as_u64().unwrap() > 0);
    let body = json!({ "mode": "full" });
    let job = api.post(&format!("/projects/{project}/verify"), body).await.expect(StatusCode::ACCEPTED);
    let verified = api.ended(&text(&job["job_id"])).await;
    assert_eq!((&verified["state"], &verified["result"]["damaged"]), (&json!("succeeded"), &json!([])));
    drop(program);

    // Without KMS the wrapped key is of no use, and the message says what is missing.
    let refused = command(folder.path(), &storage).output().unwrap();
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(message.contains("set DBSNAP_KMS_KEY_ID"), "{message}");
}

#[tokio::test]
async fn a_storage_that_cannot_be_used_stops_the_start_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let storage = seaweedfs::Server::shared().fresh_url();
    let refused = |command: &mut Command| {
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let absent = storage.replace("s3://dbsnap/", "s3://no-such-bucket/");
    let message = refused(&mut command(folder.path(), &absent));
    assert!(message.contains("no such bucket") && message.contains("Make the bucket"), "{message}");
    let message = refused(command(folder.path(), &storage).env("AWS_SECRET_ACCESS_KEY", "wrong"));
    assert!(message.contains("credentials are refused") && message.contains("AWS_*"), "{message}");
}
