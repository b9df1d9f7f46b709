//! Another account's id is an address of nothing, on every route that takes one.

use engine_testutils::postgres::Cluster;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use server::ids::ProjectId;

use crate::harness::{Server, segment, shop, text};

/// The routes of the API that hold an id, read from the table itself, so that a new one is not
/// forgotten here.
fn routes_with_ids() -> Vec<(Method, String)> {
    let table = include_str!("../../src/router.rs");
    let api = &table[table.find("fn api()").unwrap()..];
    let api = &api[..api.find("\n}").unwrap()];
    let mut found = Vec::new();
    for route in api.split(".route(").skip(1) {
        let path = route.split('"').nth(1).unwrap();
        if !path.contains("{id}") {
            continue;
        }
        for (word, method) in [
            ("get(", Method::GET),
            ("post(", Method::POST),
            ("put(", Method::PUT),
            ("patch(", Method::PATCH),
            ("delete(", Method::DELETE),
        ] {
            let handlers = &route[path.len()..];
            if handlers.contains(&format!(" {word}")) || handlers.contains(&format!(").{word}")) {
                found.push((method, path.to_owned()));
            }
        }
    }
    found
}

/// A body that the route's owner could send.
fn body(path: &str) -> Value {
    match path {
        "/projects/{id}/connection-test" => json!({ "url": "postgres://u:p@127.0.0.1:1/d" }),
        "/projects/{id}/verify" => json!({ "mode": "structure" }),
        "/projects/{id}/databases" => {
            json!({ "name": "n", "url": "postgres://u:p@127.0.0.1:1/d", "environment": "dev" })
        }
        "/restores/{id}/apply" => json!({ "confirm": "x", "url": "postgres://u:p@127.0.0.1:1/d" }),
        _ => json!({}),
    }
}

#[tokio::test]
async fn every_route_hides_what_belongs_to_others() {
    let (name, url) = shop().await;
    let server = Server::start().await;
    let (owner, other) = (server.user("ada@example.com").await, server.user("eve@example.com").await);
    let project = owner.project("shop").await;
    let database = owner.database(&project, &url).await;
    let job = owner.start_backup(&database).await;
    let snapshot = text(&owner.ended(&job).await["result"]["snapshot_id"]);
    let pair = json!({ "from": snapshot, "to": snapshot });
    let diff = owner.post("/diffs", pair.clone()).await.expect(StatusCode::ACCEPTED);
    let target = Cluster::shared().superuser_url(&format!("{name}_copy"));
    let plan = json!({ "snapshot": snapshot, "scope": { "all": true }, "target": { "url": target } });
    let restore = owner.post("/restores/plan", plan.clone()).await.expect(StatusCode::ACCEPTED);

    let id_of = |path: &str| match path.split('/').nth(1).unwrap() {
        "projects" => project.clone(),
        "databases" => database.clone(),
        "jobs" => job.clone(),
        "snapshots" => snapshot.clone(),
        "diffs" => text(&diff["id"]),
        "restores" => text(&restore["id"]),
        kind => panic!("no foreign id for the new kind of route {kind}: add one"),
    };
    let routes = routes_with_ids();
    assert!(routes.len() >= 22, "only {} routes were found in the table", routes.len());
    for (method, path) in &routes {
        let filled = path.replace("{id}", &id_of(path)).replace("{name}", &segment("public.customers"));
        let answer = other.send(method.clone(), &filled, body(path)).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{method} {path}: {}", answer.text);
        let signed_out = crate::harness::Api { token: None, ..other.clone() };
        let answer = signed_out.send(method.clone(), &filled, body(path)).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path}: {}", answer.text);
        let unknown = path.replace("{id}", "0123").replace("{name}", "x");
        let answer = owner.send(method.clone(), &unknown, body(path)).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{method} {path}: {}", answer.text);
    }
    other.post("/diffs", pair).await.problem(404, "not-found");
    other.post("/restores/plan", plan).await.problem(404, "not-found");
    for list in ["/projects", "/restores"] {
        assert_eq!(other.get(list).await.expect(StatusCode::OK)["items"], json!([]), "{list}");
    }
    // Nothing of the above touched what it was aimed at.
    owner.get(&format!("/databases/{database}")).await.expect(StatusCode::OK);
    owner.get(&format!("/snapshots/{snapshot}")).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_deleted_project_is_gone_from_disk_and_from_every_list() {
    let (_, url) = shop().await;
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let (project, kept) = (api.project("shop").await, api.project("kept").await);
    let database = api.database(&project, &url).await;
    let snapshot = api.back_up(&database).await;
    let folder = server.folder.path().join("repositories").join(&project);
    assert!(folder.is_dir());
    let path = format!("/projects/{project}");
    assert_eq!(api.send(Method::DELETE, &path, json!({})).await.status, StatusCode::NO_CONTENT);
    for path in [path, format!("/databases/{database}"), format!("/snapshots/{snapshot}")] {
        api.get(&path).await.problem(404, "not-found");
    }
    assert!(!folder.exists(), "the repository's folder stays");
    assert!(!server.folder.path().join("cache").join(format!("{project}.redb")).exists());
    let listed = api.get("/projects").await.expect(StatusCode::OK);
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    api.get(&format!("/projects/{kept}")).await.expect(StatusCode::OK);
}

/// A crash while a project is made or removed leaves an unready row and parts of a repository.
#[tokio::test]
async fn what_a_crash_left_of_a_project_is_removed_at_the_next_start() {
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let (project, kept) = (api.project("half").await, api.project("kept").await);
    let row = server.app.meta.project(ProjectId::parse(&project).unwrap()).await.unwrap().unwrap();
    server.app.meta.begin_project_deletion(row).await.unwrap();
    api.get(&format!("/projects/{project}")).await.problem(404, "not-found");
    let folder = server.stop().await;
    let repositories = folder.path().join("repositories");
    assert!(repositories.join(&project).is_dir());

    let server = Server::start_in(folder, &[("DBSNAP_SIGNUP", "open")]).await;
    assert!(!repositories.join(&project).exists());
    assert!(server.app.meta.unready_projects().await.unwrap().is_empty());
    let api = crate::harness::Api { base: server.base.clone(), ..api };
    api.get(&format!("/projects/{kept}")).await.expect(StatusCode::OK);
}
