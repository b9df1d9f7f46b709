//! The example: differences to look at before there is a database.

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::harness::{Browser, PASSWORD, Server, shop, text};

#[tokio::test]
async fn a_new_account_sees_real_differences_by_one_click() {
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let browser = Browser::signed_in(&server.base, "ada@example.com", PASSWORD).await;
    let first_run = browser.get("/projects").await.text;
    assert!(first_run.contains("Three steps") && first_run.contains("action=\"/example\""), "{first_run}");

    let click = async || {
        let answer = browser.send(Method::POST, "/example", &[]).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
        answer.headers["location"].to_str().unwrap().to_owned()
    };
    let page = click().await;
    let begun = Instant::now();
    let shown = loop {
        let shown = browser.get(&page).await.text;
        if shown.contains("public.customers") {
            break shown;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{shown}");
        tokio::time::sleep(Duration::from_millis(30)).await;
    };
    assert!(shown.contains("public.orders") && shown.contains("shipped_on"), "{shown}");
    assert!(!shown.contains("Not compared") && !shown.contains("schema archive"), "{shown}");
    let rows = browser.get(&format!("{page}/collections/public.customers")).await.text;
    for value in ["Byron", "Lovelace", "Alan Turing", "Carl Gauss"] {
        assert!(rows.contains(value), "{value} is not in {rows}");
    }
    assert_eq!(click().await, page, "there is one example");

    // By the API it is a project like any other, with exact counts.
    let diff = api.get(&format!("/diffs/{}", page.rsplit('/').next().unwrap())).await.expect(StatusCode::OK);
    assert_eq!(diff["collections"][0]["name"], "public.customers");
    let counts = json!({ "added": 1, "removed": 1, "changed": 3, "unchanged": 1, "order_only": 0 });
    assert_eq!(diff["collections"][0]["records"], counts);
    let projects = api.get("/projects").await.expect(StatusCode::OK);
    let project = text(&projects["items"][0]["id"]);
    let job = api.post(&format!("/projects/{project}/verify"), json!({ "mode": "full" })).await;
    let job = api.ended(&text(&job.expect(StatusCode::ACCEPTED)["job_id"])).await;
    assert_eq!((&job["state"], &job["result"]["damaged"]), (&json!("succeeded"), &json!([])));

    // It is neither a step done nor a database that somebody has to be warned of.
    let dashboard = browser.get("/projects").await.text;
    assert!(dashboard.contains("Three steps") && dashboard.contains("Open the example"), "{dashboard}");
    assert!(!dashboard.contains("not protected") && !dashboard.contains(">Done<"), "{dashboard}");
    let metrics = reqwest::get(format!("{}/metrics", server.base)).await.unwrap().text().await.unwrap();
    assert!(!metrics.contains("dbsnap_never_succeeded{"), "{metrics}");
    assert_eq!(
        api.send(Method::DELETE, &format!("/projects/{project}"), json!(null)).await.status,
        StatusCode::NO_CONTENT
    );
    assert_ne!(click().await, page, "it is made anew");
}

/// The steps stay until all of them are done, and then they are gone.
#[tokio::test]
async fn the_first_steps_go_once_two_snapshots_were_compared() {
    let (_, url) = shop().await;
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let browser = Browser::signed_in(&server.base, "ada@example.com", PASSWORD).await;
    let database = api.database(&api.project("shop").await, &url).await;
    let [from, to] = [api.back_up(&database).await, api.back_up(&database).await];
    let dashboard = browser.get("/projects").await.text;
    assert!(dashboard.contains("Three steps"), "{dashboard}");
    assert_eq!(dashboard.matches(">Done<").count(), 2, "{dashboard}");
    let diff = api.post("/diffs", json!({ "from": from, "to": to })).await.expect(StatusCode::ACCEPTED);
    api.ended(&text(&diff["job_id"])).await;
    let dashboard = browser.get("/projects").await.text;
    assert!(!dashboard.contains("Three steps") && dashboard.contains(" stored<"), "{dashboard}");
}
