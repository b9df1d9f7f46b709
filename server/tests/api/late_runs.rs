//! Schedules whose backups take longer than the time between two of them, or whose clock was wrong.

use std::sync::Arc;
use std::time::Duration;

use engine::clock::Clock;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use server::ids::{DatabaseId, ProjectId};
use server::jobs;
use server::meta::{JobState, PageRequest};
use server::service::schedules::queue_due;

use crate::harness::{Api, Browser, PASSWORD, Server, shop, text};
use crate::queue::locked;
use crate::schedules::{Month, OPEN, Set, ms};

/// While a scheduled backup waits or runs, no other is queued behind it: what is due then is missed, and
/// the reason is told. So is a run that waited for hours.
#[tokio::test]
async fn what_is_due_while_the_last_run_is_not_done_is_missed_and_not_queued() {
    let (name, url) = shop().await;
    let (_, other_url) = shop().await;
    let clock = Set::at("2026-05-01T00:00:00Z");
    let folder = tempfile::tempdir().unwrap();
    let one_worker = [("DBSNAP_SIGNUP", "open"), ("DBSNAP_WORKERS", "1")];
    let server = Server::start_at(folder, &one_worker, Arc::clone(&clock) as Arc<dyn Clock>).await;
    let api = server.user("ada@example.com").await;
    let project = api.project("shop").await;
    let [slow, waiting] = [api.database(&project, &url).await, api.database(&project, &other_url).await];
    for (database, time) in [(&slow, "03:00"), (&waiting, "03:05")] {
        let body = json!({ "frequency": "daily", "time": time, "timezone": "UTC" });
        api.send(Method::PUT, &format!("/databases/{database}/schedule"), body).await.expect(StatusCode::OK);
    }
    let month = Month {
        clock: Arc::clone(&clock),
        server: Some(server),
        project: ProjectId::parse(&project).unwrap(),
    };
    let app = &month.server().app;
    let at = |day: &str, time: &str| format!("2026-05-{day}T{time}:00.000Z");
    let counts = async |expected| {
        while app.queue.counts() != expected {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };

    let lock = locked(&name).await;
    for (time, expected) in [("03:00", (0, 1)), ("03:05", (1, 1))] {
        clock.set(ms(&at("01", time)));
        queue_due(app).await.unwrap();
        counts(expected).await;
    }
    for day in ["02", "03"] {
        clock.set(ms(&at(day, "03:05")));
        queue_due(app).await.unwrap();
        queue_due(app).await.unwrap();
        assert_eq!(app.queue.counts(), (1, 1), "nothing piles up");
    }

    let api = month.signed_in().await;
    let missed = async |api: &Api, database: &str| {
        let schedule = api.get(&format!("/databases/{database}/schedule")).await.expect(StatusCode::OK);
        (schedule["last_missed"].clone(), schedule["missed_runs"].clone(), schedule["missed_reason"].clone())
    };
    let running = "The scheduled backup before it was still running, since 2026-05-01 03:00 UTC: no other is \
                   queued behind it.";
    let waited = "The scheduled backup before it was waiting for a worker, since 2026-05-01 03:05 UTC: no other is \
                  queued behind it.";
    assert_eq!(missed(&api, &slow).await, (json!(at("03", "03:00")), json!(2), json!(running)));
    assert_eq!(missed(&api, &waiting).await, (json!(at("03", "03:05")), json!(2), json!(waited)));
    let reasons = async |api: &Api, database: &str| -> Vec<Value> {
        let path = format!("/audit?action=schedule.missed&target={database}");
        let told = api.get(&path).await.expect(StatusCode::OK)["items"].as_array().unwrap().clone();
        told.iter().map(|entry| entry["detail"]["reason"].clone()).collect()
    };
    assert_eq!(reasons(&api, &slow).await, [running, running]);
    let metrics =
        reqwest::get(format!("{}/metrics", month.server().base)).await.unwrap().text().await.unwrap();
    for database in [&slow, &waiting] {
        let line = format!("dbsnap_missed_runs_total{{database=\"{database}\"}} 2\n");
        assert!(metrics.contains(&line), "{line} is not in {metrics}");
    }
    let browser = Browser::signed_in(&month.server().base, "ada@example.com", PASSWORD).await;
    let dashboard = browser.get("/projects").await.text;
    for (words, time) in [("Backing up", "03:00"), ("Waiting for a worker", "03:05")] {
        let told = format!("{words}</span></a> since <time datetime=\"2026-05-01T{time}:00Z\"");
        assert!(dashboard.contains(&told), "{told} is not in {dashboard}");
    }
    assert!(browser.get(&format!("/databases/{waiting}")).await.text.contains(">Waiting for a worker</a>"));
    assert!(browser.get(&format!("/databases/{slow}")).await.text.contains(">Backing up</a>"));
    for (database, because, has_come) in [
        (&slow, running, "The next run is due on"),
        (&waiting, waited, "One backup catches up for all of them"),
    ] {
        let page = browser.get(&format!("/databases/{database}/schedule")).await.text;
        assert!(page.contains(because) && page.contains(has_come), "{page}");
    }

    // The run that waited begins two days late, which is told, too: and the next day all is well.
    clock.set(ms("2026-05-03T09:00:00Z"));
    drop(lock);
    month.look(ms("2026-05-03T09:00:00Z")).await;
    let api = month.signed_in().await;
    let begun = &reasons(&api, &waiting).await[0];
    assert_eq!(
        text(begun),
        "Its backup was queued then, and began at 2026-05-03 09:00 UTC: no worker was free, or the server was down."
    );
    assert_eq!(missed(&api, &waiting).await, (json!(at("03", "03:05")), json!(3), json!(waited)));
    assert_eq!(reasons(&api, &slow).await.len(), 2, "that began in time");
    // What it holds is as old as its beginning.
    let taken = api.get(&format!("/databases/{waiting}/snapshots")).await.expect(StatusCode::OK);
    assert!(text(&taken["items"][0]["started_at"]).starts_with("2026-05-03T09:00:00"), "{taken:#}");
    let metrics =
        reqwest::get(format!("{}/metrics", month.server().base)).await.unwrap().text().await.unwrap();
    let line = format!("dbsnap_last_success_age_seconds{{database=\"{waiting}\"}} 0\n");
    assert!(metrics.contains(&line), "{line} is not in {metrics}");
    month.look(ms(&at("04", "03:05"))).await;
    let browser = Browser::signed_in(&month.server().base, "ada@example.com", PASSWORD).await;
    for (database, time) in [(&slow, "03:00"), (&waiting, "03:05")] {
        let expected = ["01", "04"].map(|day| (at(day, time), JobState::Succeeded));
        assert_eq!(month.runs(database).await, expected);
        let page = browser.get(&format!("/databases/{database}/schedule")).await.text;
        assert!(!page.contains("missed, the last one"), "{page}");
    }
}

/// A clock was in 2030 for a night, and was set right: what is stamped with that night says so, counts for
/// nothing that is told of today, and hides no failure.
#[tokio::test]
async fn what_a_wrong_clock_stamped_hides_no_failure() {
    let (_, url) = shop().await;
    let clock = Set::at("2026-05-01T00:00:00Z");
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_at(folder, &OPEN, Arc::clone(&clock) as Arc<dyn Clock>).await;
    let (api, project, database) = server.connected(&url).await;
    let body = json!({ "frequency": "daily", "time": "03:00", "timezone": "UTC" });
    api.send(Method::PUT, &format!("/databases/{database}/schedule"), body).await.expect(StatusCode::OK);
    let mut month = Month { clock, server: Some(server), project: ProjectId::parse(&project).unwrap() };
    let verifications = async |month: &Month| {
        let all = jobs::list(&month.server().app, month.project, PageRequest::all()).await.unwrap().items;
        all.iter().filter(|job| job.record.work.kind() == "verify").count()
    };

    month.look(ms("2026-05-01T03:00:00Z")).await;
    month.look(ms("2030-01-01T03:30:00Z")).await;
    assert_eq!(verifications(&month).await, 2);
    month.away_until("2026-05-02T00:00:00Z").await;
    let api = month.signed_in().await;
    let schedule = api.get(&format!("/databases/{database}/schedule")).await.expect(StatusCode::OK);
    assert_eq!(schedule["next_runs"][0], "2026-05-02T03:00:00.000Z");
    assert_eq!((&schedule["last_missed"], &schedule["missed_runs"]), (&Value::Null, &json!(0)));

    let id = DatabaseId::parse(&database).unwrap();
    let credentials = month.server().app.meta.database(id).await.unwrap().unwrap().url;
    month.server().app.meta.change_database(id, |database| database.url = None).await.unwrap().unwrap();
    for day in 2..=3 {
        month.look(ms(&format!("2026-05-0{day}T03:00:00Z"))).await;
    }
    let browser = Browser::signed_in(&month.server().base, "ada@example.com", PASSWORD).await;
    for page in ["/projects".to_owned(), format!("/projects/{project}")] {
        let page = browser.get(&page).await.text;
        assert!(page.contains("Last backup failed") && !page.contains("missed"), "{page}");
        let cell =
            page.split("data-label=\"Can be recovered from\"").nth(1).unwrap().split("</td>").next().unwrap();
        assert!(cell.contains("2026-05-01 03:00:00 UTC") && cell.contains("2 days ago"), "{cell}");
        assert!(!cell.contains("2030-01-01") && !page.contains("just now"), "{page}");
    }
    let history = browser.get(&format!("/databases/{database}")).await.text;
    assert!(history.contains("The last backup left no snapshot"), "{history}");
    assert!(history.contains("in the future: the clock was wrong then"), "{history}");
    let metrics =
        reqwest::get(format!("{}/metrics", month.server().base)).await.unwrap().text().await.unwrap();
    // Since it was connected: how old the last complete backup is nobody knows.
    let age = format!("dbsnap_last_success_age_seconds{{database=\"{database}\"}} {}\n", (2 * 24 + 3) * 3600);
    assert!(metrics.contains(&age), "{age} is not in {metrics}");

    month
        .server()
        .app
        .meta
        .change_database(id, |database| database.url = credentials)
        .await
        .unwrap()
        .unwrap();
    for day in 4..=9 {
        month.look(ms(&format!("2026-05-0{day}T03:00:00Z"))).await;
    }
    assert_eq!(month.runs(&database).await.last().unwrap().1, JobState::Succeeded);
    let browser = Browser::signed_in(&month.server().base, "ada@example.com", PASSWORD).await;
    let page = browser.get("/projects").await.text;
    assert!(!page.contains("Last backup failed") && page.contains("2026-05-09 03:00:00 UTC"), "{page}");
    assert_eq!(verifications(&month).await, 3, "once a week, and not every day");
}

/// Snapshots expire before the next weekly look at what is stored: it stays told when theirs were looked at.
#[tokio::test]
async fn when_snapshots_were_verified_is_told_when_they_are_gone() {
    let (_, url) = shop().await;
    let clock = Set::at("2026-05-01T00:00:00Z");
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_at(folder, &OPEN, Arc::clone(&clock) as Arc<dyn Clock>).await;
    let (api, project, database) = server.connected(&url).await;
    let body = json!({ "frequency": "daily", "time": "03:00", "timezone": "UTC", "keep": { "last": 1 } });
    api.send(Method::PUT, &format!("/databases/{database}/schedule"), body).await.expect(StatusCode::OK);
    let month = Month { clock, server: Some(server), project: ProjectId::parse(&project).unwrap() };
    month.look(ms("2026-05-01T03:00:00Z")).await;
    month.look(ms("2026-05-02T03:00:00Z")).await;
    let browser = Browser::signed_in(&month.server().base, "ada@example.com", PASSWORD).await;
    for page in ["/projects".to_owned(), format!("/projects/{project}")] {
        let page = browser.get(&page).await.text;
        let cell = page.split("data-label=\"Last verified\"").nth(1).unwrap().split("</td>").next().unwrap();
        assert!(
            cell.contains("2026-05-01 03:00:00 UTC") && cell.contains("snapshots that are gone now"),
            "{cell}"
        );
        // The snapshot that is left added nothing, and the project's storage is told beside it.
        let total = page.split("Storage used by the project").nth(1).unwrap();
        let total = total.split("<td class=\"num\">").nth(1).unwrap().split('<').next().unwrap();
        assert!(total.ends_with(" kB"), "{total}");
    }
}
