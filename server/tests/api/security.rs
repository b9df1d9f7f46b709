use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Answer, Api, Server};

#[tokio::test]
async fn other_sites_cannot_change_anything() {
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let host = server.base.strip_prefix("http://").unwrap().to_owned();
    let post = |headers: &[(&str, &str)]| {
        let request = api.request(Method::POST, "/projects").json(&json!({ "name": "x" }));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        Answer::of(request)
    };
    let other_port = format!("{}1", server.base);
    for headers in [
        &[("sec-fetch-site", "cross-site")][..],
        &[("sec-fetch-site", "same-site")],
        &[("sec-fetch-site", "cross-site"), ("origin", &server.base)],
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
        &[("origin", &other_port)],
    ] {
        post(headers).await.problem(403, "cross-site");
    }
    for headers in [
        &[][..],
        &[("sec-fetch-site", "same-origin"), ("origin", &server.base)],
        &[("origin", &server.base), ("host", &host)],
    ] {
        post(headers).await.expect(StatusCode::CREATED);
    }
    let form = api.client.post(format!("{}/projects", server.base)).header("origin", "https://evil.example");
    let page = Answer::of(form.form(&[("name", "x")])).await;
    assert_eq!(page.status, StatusCode::FORBIDDEN);
    assert!(
        page.text.contains("<html") && page.text.contains("The request came from another site."),
        "{}",
        page.text
    );
    let read = api.request(Method::GET, "/projects").header("sec-fetch-site", "cross-site");
    assert_eq!(Answer::of(read).await.expect(StatusCode::OK)["items"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn every_answer_carries_the_security_headers() {
    let server = Server::start_with(&[("DBSNAP_PUBLIC_URL", "https://dbsnap.example.com")]).await;
    let client = reqwest::Client::new();
    for path in ["/healthz", "/api/v1/me", "/api/v1/nowhere", "/login"] {
        let answer = Answer::of(client.get(format!("{}{path}", server.base))).await;
        let header = |name: &str| answer.headers[name].to_str().unwrap().to_owned();
        let policy = header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("cache-control"), "no-store", "{path}");
        assert!(header("strict-transport-security").starts_with("max-age="));
    }
}

#[tokio::test]
async fn malformed_requests_are_problems_that_repeat_no_secret() {
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let raw = |body: &str, kind: &str| {
        let request = api.request(Method::POST, "/projects");
        Answer::of(request.header("content-type", kind).body(body.to_owned()))
    };
    raw("{", "application/json").await.problem(400, "malformed");
    raw("{}", "text/plain").await.problem(415, "not-json");
    raw("{}", "application/json").await.problem(422, "invalid");
    let wrong = raw(r#"{"name": {"hunter2": "hunter2"}}"#, "application/json").await;
    assert!(!wrong.text.contains("hunter2"), "{}", wrong.text);
    wrong.problem(422, "invalid");
    let large = format!("{{\"name\": \"{}\"}}", "x".repeat(300 * 1024));
    raw(&large, "application/json").await.problem(413, "malformed");
    api.get("/projects?limit=0").await.problem(422, "invalid");
    api.get("/projects?cursor=x").await.problem(422, "invalid");
    api.get("/nowhere").await.problem(404, "not-found");
    api.send(Method::PUT, "/me", json!({})).await.problem(405, "wrong-method");
}

#[tokio::test]
async fn the_operators_addresses_answer() {
    let server = Server::start().await;
    let client = reqwest::Client::new();
    let get = async |path: &str| Answer::of(client.get(format!("{}{path}", server.base))).await;
    assert_eq!(get("/healthz").await.status, StatusCode::OK);
    assert_eq!(get("/readyz").await.status, StatusCode::OK);
    let metrics = get("/metrics").await;
    assert!(metrics.text.contains("dbsnap_http_responses_total{status=\"2xx\"} 2\n"), "{}", metrics.text);
}

#[tokio::test]
async fn lists_are_paged_by_key() {
    let server = Server::start().await;
    let api: Api = server.user("ada@example.com").await;
    for n in 0..5 {
        api.project(&format!("p{n}")).await;
    }
    let (mut names, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = api.get(&format!("/projects?limit=2{cursor}")).await.expect(StatusCode::OK);
        let items = page["items"].as_array().unwrap();
        assert!((1..=2).contains(&items.len()));
        names.extend(items.iter().map(|item| item["name"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(names, ["p0", "p1", "p2", "p3", "p4"]);
}

/// Whoever connects and says nothing, or nothing that is a request, does not keep the connection.
#[tokio::test]
async fn silent_connections_are_closed() {
    let server = Server::start().await;
    let address = server.base.trim_start_matches("http://").to_owned();
    let said: [&[u8]; 4] = [b"", b"P", b"GET / HTTP/1.1\r\nHost: a\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"];
    let held = said.map(async |said| {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(said).await.unwrap();
        let mut answer = Vec::new();
        // A connection that is reset is closed as well.
        let closed = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut answer)).await;
        assert!(closed.is_ok(), "open after a minute: {:?}", String::from_utf8_lossy(said));
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{:?}", String::from_utf8_lossy(&answer));
    });
    futures::future::join_all(held).await;
}
