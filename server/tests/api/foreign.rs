//! Another account's id is an address of nothing, on every route that takes one. The routes are the
//! router's own, so that a new one is met here, and fails the test until it has a case.

use engine_testutils::postgres::Cluster;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use server::ids::ProjectId;
use server::router::{api_routes, page_routes};
use server::routing::Route;

use crate::harness::{Api, Browser, PASSWORD, Server, segment, shop, text};

const URL: &str = "postgres://u:p@127.0.0.1:1/d";

/// What belongs to somebody else.
struct Foreign {
    project: String,
    database: String,
    job: String,
    snapshot: String,
    diff: String,
    restore: String,
    /// Where a restore of the snapshot could go.
    target: String,
}

impl Foreign {
    async fn make(owner: &Api) -> Self {
        let (name, url) = shop().await;
        let project = owner.project("shop").await;
        let database = owner.database(&project, &url).await;
        let job = owner.start_backup(&database).await;
        let snapshot = text(&owner.ended(&job).await["result"]["snapshot_id"]);
        let target = Cluster::shared().superuser_url(&format!("{name}_copy"));
        let mut foreign =
            Self { project, database, job, snapshot, diff: String::new(), restore: String::new(), target };
        for path in ["/diffs", "/restores/plan"] {
            let started = owner.post(path, foreign.body("POST", path)).await.expect(StatusCode::ACCEPTED);
            owner.ended(&text(&started["job_id"])).await;
            let id = text(&started["id"]);
            if path == "/diffs" { foreign.diff = id } else { foreign.restore = id }
        }
        foreign
    }

    /// A route's address with somebody else's ids in it.
    fn fill(&self, path: &str) -> String {
        let id = match path.split('/').nth(1).unwrap() {
            "projects" => &self.project,
            "databases" => &self.database,
            "jobs" => &self.job,
            "snapshots" => &self.snapshot,
            "diffs" => &self.diff,
            "restores" => &self.restore,
            kind => panic!("no foreign id for the new kind of route {kind}: add one"),
        };
        let path = path.replace("{id}", id).replace("{slot}", &"0".repeat(32));
        path.replace("{name}", &segment("public.customers"))
    }

    /// A body that the owner could send to a route of the API, ids included.
    fn body(&self, method: &str, path: &str) -> Value {
        match (method, path) {
            ("GET" | "DELETE", _) => Value::Null,
            ("POST", "/projects/{id}/connection-test") => json!({ "url": URL }),
            ("POST", "/projects/{id}/verify") => json!({ "mode": "structure" }),
            ("POST", "/projects/{id}/prune") => json!({ "dry_run": false }),
            ("POST", "/projects/{id}/keys") => json!({ "kind": "recovery" }),
            ("POST", path) if path.starts_with("/projects/{id}/keys/") => json!({}),
            ("POST", "/projects/{id}/databases") => json!({ "name": "n", "url": URL, "environment": "dev" }),
            ("PATCH", "/databases/{id}") => json!({ "name": "taken over" }),
            ("POST", "/snapshots/{id}/cost") => json!({}),
            ("PATCH", "/snapshots/{id}") => json!({ "note": "taken over", "pinned": true }),
            ("POST", "/databases/{id}/backups") => json!({}),
            ("PUT", "/databases/{id}/schedule") | ("POST", "/databases/{id}/schedule/preview") => {
                json!({ "frequency": "daily", "time": "02:00", "timezone": "UTC" })
            }
            ("POST", "/jobs/{id}/cancel") => json!({}),
            ("POST", "/diffs") => json!({ "from": self.snapshot, "to": self.snapshot }),
            ("POST", "/restores/plan") => {
                let target = json!({ "url": self.target });
                json!({ "snapshot": self.snapshot, "scope": { "all": true }, "target": target })
            }
            ("POST", "/restores/{id}/apply" | "/restores/{id}/undo") => json!({ "confirm": "x", "url": URL }),
            _ => panic!("no foreign-id case for {method} {path}: add one"),
        }
    }

    /// The same for the forms of a page.
    fn form(&self, method: &str, path: &str) -> Vec<(&'static str, String)> {
        let fields: &[(&str, &str)] = match (method, path) {
            ("GET", _) => &[],
            ("POST", "/projects/{id}/recovery-key" | "/jobs/{id}/cancel") => &[],
            ("POST", "/projects/{id}/keys") => &[("kind", "recovery")],
            ("POST", path) if path.starts_with("/projects/{id}/keys/") => &[("confirm", "x")],
            ("POST", "/databases/{id}/remove") => &[("confirm", "shop")],
            ("POST", "/projects/{id}/delete") => &[("name", "shop")],
            ("POST", "/projects/{id}/prune") => &[("dry_run", "false")],
            ("POST", "/projects/{id}/verify") => &[("mode", "structure")],
            ("POST", "/snapshots/{id}/cost") => &[],
            ("POST", "/snapshots/{id}/change") => &[("note", "taken over"), ("pinned", "true")],
            ("POST", "/snapshots/{id}/delete") => &[("confirm", &self.snapshot[..8])],
            ("POST", "/projects/{id}/connect" | "/databases/{id}/settings") => {
                &[("name", "n"), ("url", URL), ("environment", "dev"), ("action", "connect")]
            }
            ("POST", "/databases/{id}/schedule/remove") => &[],
            ("POST", "/databases/{id}/schedule") => &[
                ("weekday", ""),
                ("time", "02:00"),
                ("timezone", "UTC"),
                ("last", ""),
                ("daily", ""),
                ("weekly", ""),
                ("monthly", ""),
                ("action", "save"),
            ],
            ("POST", "/databases/{id}/backups") => &[("note", "")],
            ("POST", "/snapshots/{id}/restore") => &[("url", URL)],
            ("POST", "/restores/{id}/apply" | "/restores/{id}/undo") => &[("url", URL), ("confirm", "x")],
            ("POST", "/diffs") => &[("from", &self.snapshot), ("to", &self.snapshot)],
            _ => panic!("no foreign-id case for {method} {path}: add one"),
        };
        fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
    }
}

/// The routes that take an id, in their address or in their body: all but those listed here.
fn with_ids(routes: Vec<Route>) -> impl Iterator<Item = (Method, &'static str)> {
    let takes_none = |route: &Route| {
        let mine = ["/auth/", "/me", "/account"].iter().any(|start| route.path.starts_with(start));
        let others = matches!(
            route.path,
            "/projects" | "/example" | "/register" | "/login" | "/logout" | "/storage" | "/storage/open"
        );
        !route.path.contains("{id}") && (route.method == Method::GET || mine || others)
    };
    routes.into_iter().filter(move |route| !takes_none(route)).map(|route| (route.method, route.path))
}

#[tokio::test]
async fn every_route_of_the_api_hides_what_belongs_to_others() {
    let server = Server::start().await;
    let (owner, other) = (server.user("ada@example.com").await, server.user("eve@example.com").await);
    let foreign = Foreign::make(&owner).await;
    let signed_out = Api { token: None, ..other.clone() };
    for (method, path) in with_ids(api_routes()) {
        let (filled, body) = (foreign.fill(path), foreign.body(method.as_str(), path));
        let answer = other.send(method.clone(), &filled, body.clone()).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{method} {path}: {}", answer.text);
        let answer = signed_out.send(method.clone(), &filled, body.clone()).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path}: {}", answer.text);
        if path.contains("{id}") {
            let unknown = path.replace("{id}", "0123").replace("{name}", "x").replace("{slot}", "x");
            let answer = owner.send(method.clone(), &unknown, body).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{method} {path}: {}", answer.text);
        }
    }
    let live = json!({ "from": foreign.snapshot, "live": foreign.database });
    other.post("/diffs", live).await.problem(404, "not-found");
    for list in ["/projects", "/restores"] {
        assert_eq!(other.get(list).await.expect(StatusCode::OK)["items"], json!([]), "{list}");
    }
    // Nothing of the above touched what it was aimed at.
    let database = owner.get(&format!("/databases/{}", foreign.database)).await.expect(StatusCode::OK);
    assert_eq!(database["name"], "shop");
    owner.get(&format!("/snapshots/{}", foreign.snapshot)).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn every_page_hides_what_belongs_to_others() {
    let server = Server::start().await;
    let owner = server.user("ada@example.com").await;
    server.user("eve@example.com").await;
    let foreign = Foreign::make(&owner).await;
    let other = Browser::signed_in(&server.base, "eve@example.com", PASSWORD).await;
    let signed_out = Browser::new(&server.base);
    for (method, path) in with_ids(page_routes()) {
        let (filled, form) = (foreign.fill(path), foreign.form(method.as_str(), path));
        let answer = other.send(method.clone(), &filled, &form).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{method} {path}: {}", answer.text);
        let answer = signed_out.send(method.clone(), &filled, &form).await;
        assert!(answer.status.is_redirection(), "{method} {path}: {} {}", answer.status, answer.text);
        assert!(answer.headers["location"].to_str().unwrap().starts_with("/login"), "{method} {path}");
    }
    owner.get(&format!("/databases/{}", foreign.database)).await.expect(StatusCode::OK);
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
    let api = Api { base: server.base.clone(), ..api };
    api.get(&format!("/projects/{kept}")).await.expect(StatusCode::OK);
}
