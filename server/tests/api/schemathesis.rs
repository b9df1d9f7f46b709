//! schemathesis makes requests of the API's document, valid and not, and holds every answer
//! against it: no 5xx, no status, type or field that the document does not have.

use std::fmt::Write;
use std::process::Stdio;

use reqwest::{Method, StatusCode};
use serde_json::json;
use server::router::api_routes;
use tokio::process::Command;

use crate::harness::{Server, segment, shop, text};

const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_schema_conformance,response_headers_conformance";

/// Operations after which the token or what the ids name is gone, or whose answers begin once a job
/// ends.
const LEFT_OUT: [&str; 3] = ["/auth/logout", "/me/sign-out-everywhere", "/jobs/{id}/events"];

/// How long it runs: seconds, more by `DBSNAP_TEST_SCHEMATHESIS_SECONDS`.
fn seconds() -> u32 {
    let asked = std::env::var("DBSNAP_TEST_SCHEMATHESIS_SECONDS").ok();
    asked.map_or(25, |asked| asked.parse().expect("a number of seconds"))
}

#[tokio::test]
async fn the_document_holds_for_requests_that_nobody_thought_of() {
    let (_, url) = shop().await;
    let server = Server::start().await;
    let (api, project, database) = server.connected(&url).await;
    let job = api.start_backup(&database).await;
    let snapshot = text(&api.ended(&job).await["result"]["snapshot_id"]);
    let pair = json!({ "from": snapshot, "to": snapshot });
    let diff = api.post("/diffs", pair).await.expect(StatusCode::ACCEPTED);
    api.ended(&text(&diff["job_id"])).await;

    // Without ids that exist nothing but 404 would be met. What is removed is somebody else's.
    let mut settings = String::new();
    for route in
        api_routes().iter().filter(|route| route.path.contains("{id}") && route.method != Method::DELETE)
    {
        let id = match route.path.split('/').nth(1).unwrap() {
            "projects" => &project,
            "databases" => &database,
            "jobs" => &job,
            "snapshots" => &snapshot,
            "diffs" => diff["id"].as_str().unwrap(),
            _ => continue,
        };
        let (method, path) = (&route.method, route.path);
        let name = segment("public.customers");
        writeln!(settings, "[[operations]]\ninclude-path = \"{path}\"\ninclude-method = \"{method}\"")
            .unwrap();
        writeln!(settings, "parameters = {{ \"path.id\" = \"{id}\", \"path.name\" = \"{name}\" }}\n")
            .unwrap();
    }
    let file = server.folder.path().join("schemathesis.toml");
    std::fs::write(&file, settings).unwrap();

    let home = std::env::var("HOME").unwrap();
    let mut command = Command::new(format!("{home}/.cache/dbsnap/tools/api/bin/schemathesis"));
    command.arg("--config-file").arg(&file).arg("run").arg(format!("{}/api/v1/openapi.json", server.base));
    command.args(["--checks", CHECKS, "--phases", "coverage,fuzzing", "--continue-on-failure"]);
    command.args(["--max-time", &seconds().to_string(), "--seed", "1", "--no-color"]);
    command.args(["--suppress-health-check", "all", "--max-redirects", "0"]);
    for path in LEFT_OUT {
        command.args(["--exclude-path", path]);
    }
    command.arg("-H").arg(format!("Authorization: Bearer {}", api.token.as_deref().unwrap()));
    let output = command.current_dir(server.folder.path()).stdin(Stdio::null()).kill_on_drop(true).output();
    let output = output.await.expect("`cargo xtask test` installs schemathesis");
    let told = String::from_utf8_lossy(&output.stdout);
    let summary = told.find("SUMMARY").map_or(&*told, |at| &told[at..]);
    println!("{summary}");
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(summary.contains("Test cases:"), "nothing was tested: {told}");
}
