use engine_testutils::postgres::Cluster;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Browser, PASSWORD, Server, shop};

#[tokio::test]
async fn a_connection_test_tells_every_stage() {
    let (_, url) = shop().await;
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let project = api.project("shop").await;
    let report = api.post(&format!("/projects/{project}/connection-test"), json!({ "url": url })).await;
    let report = report.expect(StatusCode::OK);
    assert_eq!(report["ok"], true, "{report:#}");
    let stages: Vec<_> = report["stages"].as_array().unwrap().iter().map(|stage| &stage["stage"]).collect();
    assert_eq!(stages, ["resolve", "connect", "tls", "authenticate", "list", "read", "read_only"]);
    assert_eq!((&report["engine"], &report["collections"]), (&json!("postgresql"), &json!(3)));
    assert_eq!(report["privileges"], json!([]));
}

/// What is refused leaves nothing behind, and says what to do.
#[tokio::test]
async fn databases_that_cannot_be_backed_up_safely_are_refused() {
    let (name, url) = shop().await;
    let cluster = Cluster::shared();
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let project = api.project("shop").await;
    let path = format!("/projects/{project}/databases");
    let connect =
        async |url: &str| api.post(&path, json!({ "name": "shop", "url": url, "environment": "dev" })).await;
    let problem = connect(&cluster.superuser_url(&name)).await.problem(422, "not-read-only");
    assert!(!problem["privileges"].as_array().unwrap().is_empty(), "{problem:#}");

    let wrong = cluster.url(&format!("{name}_reader"), "wrong-password", &name);
    let problem = connect(&wrong).await.problem(422, "unreachable");
    assert_eq!(problem["stage"], "authenticate", "{problem:#}");
    assert!(!problem.to_string().contains("wrong-password"));

    let problem = connect("postgres://u:p@127.0.0.1:1/d").await.problem(422, "unreachable");
    assert_eq!(problem["stage"], "connect");
    let problem = connect("postgres://u:p@no-such-host.invalid/d").await.problem(422, "unreachable");
    assert_eq!(problem["stage"], "resolve");
    connect("postgres://u:p@169.254.169.254/d").await.problem(422, "forbidden-address");
    connect("mysql://u:hunter2@h/d").await.problem(422, "invalid");

    let listed = api.get(&path).await.expect(StatusCode::OK);
    assert_eq!(listed["items"], json!([]));
    let answer = connect(&url).await;
    assert!(!answer.text.contains("-password"), "{}", answer.text);
    answer.expect(StatusCode::CREATED);
}

/// A new role would hold it too, so that advice to make one alone would lead nowhere.
#[tokio::test]
async fn what_everybody_may_write_is_refused_with_the_commands_that_mend_it() {
    let (name, url) = shop().await;
    let cluster = Cluster::shared();
    let granted = r#"GRANT INSERT, UPDATE ON customers TO PUBLIC; GRANT UPDATE (note) ON "Odd/Table" TO PUBLIC;
        GRANT CREATE ON SCHEMA public TO PUBLIC; GRANT USAGE ON SEQUENCE "Odd/Table_id_seq" TO PUBLIC"#;
    cluster.execute(&name, granted).await;
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let project = api.project("shop").await;
    let path = format!("/projects/{project}/databases");
    let connect =
        async |url: &str| api.post(&path, json!({ "name": "shop", "url": url, "environment": "dev" })).await;
    let problem = connect(&url).await.problem(422, "not-read-only");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.starts_with("The role can write: ") && detail.contains(". Create a role"), "{detail}");
    let mending: Vec<_> =
        problem["statements"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let column = r#"REVOKE UPDATE (note) ON TABLE public."Odd/Table" FROM PUBLIC;"#;
    assert!(mending.contains(&column) && mending.len() == 4, "{problem:#}");
    cluster.execute(&name, &mending.join("\n")).await;
    connect(&url).await.expect(StatusCode::CREATED);
}

#[tokio::test]
async fn a_misspelt_wish_for_encryption_is_refused_and_other_unknown_ones_are_named() {
    let (_, url) = shop().await;
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let project = api.project("shop").await;
    let path = format!("/projects/{project}/connection-test");
    let test = async |query: &str| {
        let separator = if url.contains('?') { '&' } else { '?' };
        api.post(&path, json!({ "url": format!("{url}{separator}{query}") })).await
    };
    let problem = test("ssl_mode=verify-full").await.problem(422, "invalid");
    assert!(problem["detail"].as_str().unwrap().contains("\"ssl_mode\""), "{problem:#}");
    let report = test("pgbouncer=true").await.expect(StatusCode::OK);
    assert!(report["notes"].to_string().contains("pgbouncer"), "{report:#}");
}

#[tokio::test]
async fn a_database_is_changed_and_removed_without_losing_its_history() {
    let (name, url) = shop().await;
    let server = Server::start().await;
    let (api, _, database) = server.connected(&url).await;
    let snapshot = api.back_up(&database).await;
    let path = format!("/databases/{database}");
    let patch = async |body: Value| api.send(Method::PATCH, &path, body).await;

    let changed = patch(json!({ "name": " live ", "environment": "staging" })).await.expect(StatusCode::OK);
    assert_eq!((&changed["name"], &changed["environment"]), (&json!("live"), &json!("staging")));
    patch(json!({ "url": "postgres://u:p@127.0.0.1:1/d" })).await.problem(422, "unreachable");
    patch(json!({ "url": url })).await.expect(StatusCode::OK);
    patch(json!({ "name": "" })).await.problem(422, "invalid");

    // Another database is not taken for the same one, unless it is said to be.
    let (_, other) = shop().await;
    let problem = patch(json!({ "url": other })).await.problem(422, "other-database");
    assert!(
        problem["detail"].as_str().unwrap().contains(&format!("history of the database {name},")),
        "{problem:#}"
    );
    patch(json!({ "url": other, "moved": true })).await.expect(StatusCode::OK);
    patch(json!({ "url": url })).await.expect(StatusCode::OK);

    let delete = async |query: &str| api.send(Method::DELETE, &format!("{path}{query}"), json!({})).await;
    assert_eq!(delete("").await.status, StatusCode::NO_CONTENT);
    api.get(&path).await.problem(404, "not-found");
    api.post(&format!("{path}/backups"), json!({})).await.problem(404, "not-found");
    let listed = api.get(&format!("{path}/snapshots")).await.expect(StatusCode::OK);
    assert_eq!(listed["items"][0]["id"], snapshot);
    api.get(&format!("/snapshots/{snapshot}")).await.expect(StatusCode::OK);
}

/// A connection is tested once and used for years.
#[tokio::test]
async fn a_role_that_has_become_able_to_write_gets_no_more_backups() {
    let (name, url) = shop().await;
    let server = Server::start().await;
    let (api, _, database) = server.connected(&url).await;
    api.back_up(&database).await;
    let cluster = Cluster::shared();
    cluster.execute(&name, &format!("GRANT INSERT ON customers TO {name}_reader")).await;
    let job = api.ended(&api.start_backup(&database).await).await;
    assert_eq!(
        (&job["state"], &job["error"]["type"]),
        (&json!("failed"), &json!("not-read-only")),
        "{job:#}"
    );
    let detail = job["error"]["detail"].as_str().unwrap();
    assert!(detail.contains("table public.customers: INSERT"), "{detail}");
    cluster.execute(&name, &format!("REVOKE INSERT ON customers FROM {name}_reader")).await;
    api.back_up(&database).await;
}

/// A database is of one system for good.
#[tokio::test]
async fn a_database_of_postgresql_cannot_become_one_of_mongodb() {
    let (_, url) = shop().await;
    let server = Server::start().await;
    let (api, _, database) = server.connected(&url).await;
    let snapshot = api.back_up(&database).await;
    let found = api.get(&format!("/snapshots/{snapshot}")).await.expect(StatusCode::OK);
    assert_eq!((&found["consistency"], &found["engine"]), (&json!("point_in_time"), &json!("postgresql")));

    let mongo = engine_testutils::mongodb::Server::shared();
    let reader = mongo.create_read_only_user(engine_testutils::mongodb::Scope::All, "every_reader").await;
    let patch = json!({ "url": reader.replacen("/admin?", "/?", 1) });
    api.send(Method::PATCH, &format!("/databases/{database}"), patch).await.problem(422, "invalid");
}

/// Nobody can tell two databases of one name apart, and one that is connected twice is mostly a mistake.
#[tokio::test]
async fn the_page_asks_before_it_connects_a_database_like_another() {
    let (_, url) = shop().await;
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let project = api.project("shop").await;
    api.database(&project, &url).await;
    let browser = Browser::signed_in(&server.base, "ada@example.com", PASSWORD).await;
    let connect = async |name: &str, twin: Option<&str>| {
        let mut form = vec![("url", url.clone()), ("name", name.to_owned())];
        form.extend([("environment", "prod".to_owned()), ("action", "connect".to_owned())]);
        form.extend(twin.map(|twin| ("twin", twin.to_owned())));
        browser.send(Method::POST, &format!("/projects/{project}/connect"), &form).await
    };
    for (name, words) in [("Shop", "has a database called shop"), ("other", "is connected as shop")] {
        let asked = connect(name, None).await;
        assert_eq!(asked.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(asked.text.contains(words) && asked.text.contains("name=\"twin\""), "{}", asked.text);
    }
    assert_eq!(connect("Shop", Some("yes")).await.status, StatusCode::SEE_OTHER);
    let listed = api.get(&format!("/projects/{project}/databases")).await.expect(StatusCode::OK);
    assert_eq!(listed["items"].as_array().unwrap().len(), 2);
}
