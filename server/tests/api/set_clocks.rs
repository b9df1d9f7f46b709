//! A server whose clock was wrong, and is set right while it runs or while it does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use engine::clock::Clock;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use server::ids::{JobId, ProjectId};
use server::meta::JobState;
use server::service::schedules::queue_due;
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Api, PASSWORD, Server, shop};
use crate::schedules::{Month, OPEN, Set, ms};

/// A way to a database that can be shut: then whoever comes is sent away.
struct Gate {
    url: String,
    is_shut: Arc<AtomicBool>,
}

impl Gate {
    async fn before(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut way = url::Url::parse(url).unwrap();
        let behind = (way.host_str().unwrap().to_owned(), way.port().unwrap());
        way.set_host(Some("127.0.0.1")).unwrap();
        way.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
        let is_shut = Arc::new(AtomicBool::new(false));
        let shut = Arc::clone(&is_shut);
        tokio::spawn(async move {
            while let Ok((mut outside, _)) = listener.accept().await {
                if shut.load(Ordering::SeqCst) {
                    continue;
                }
                let behind = behind.clone();
                tokio::spawn(async move {
                    let mut inside = TcpStream::connect(behind).await.unwrap();
                    // Either side may end it.
                    let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
                });
            }
        });
        Self { url: way.to_string(), is_shut }
    }

    fn shut(&self, is_shut: bool) {
        self.is_shut.store(is_shut, Ordering::SeqCst);
    }
}

async fn started_at(at: &str) -> (Arc<Set>, Server) {
    let clock = Set::at(at);
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_at(folder, &OPEN, Arc::clone(&clock) as Arc<dyn Clock>).await;
    (clock, server)
}

async fn every_day_at_three(api: &Api, database: &str) {
    let body = json!({ "frequency": "daily", "time": "03:00", "timezone": "UTC" });
    api.send(Method::PUT, &format!("/databases/{database}/schedule"), body).await.expect(StatusCode::OK);
}

/// A clock was in 2030 when a backup failed that is tried again seconds later. It is set right before
/// that: the backup does not wait for 2030, and neither does what is behind it.
#[tokio::test]
async fn a_retry_does_not_wait_for_the_time_of_a_clock_that_was_ahead() {
    let (_, url) = shop().await;
    let (clock, server) = started_at("2030-01-01T01:00:00Z").await;
    let gate = Gate::before(&url).await;
    let api = server.user("ada@example.com").await;
    let database = api.database(&api.project("shop").await, &gate.url).await;
    gate.shut(true);
    let failed = api.start_backup(&database).await;
    let begun = Instant::now();
    while server.app.meta.job(JobId::parse(&failed).unwrap()).await.unwrap().unwrap().retries == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "it did not fail");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    clock.set(ms("2026-05-01T01:00:00Z"));
    gate.shut(false);
    queue_due(&server.app).await.unwrap();
    assert_eq!(api.ended(&failed).await["state"], "succeeded");
    api.back_up(&database).await;
}

/// Who guessed wrong while the clock was ahead waits for the quarter of an hour that others do.
#[tokio::test]
async fn nobody_is_kept_out_until_the_time_of_a_clock_that_was_ahead() {
    let (clock, server) = started_at("2030-01-01T01:00:00Z").await;
    let api = server.user("ada@example.com").await;
    let login = async |password: &str| {
        api.post("/auth/login", json!({ "email": "ada@example.com", "password": password })).await
    };
    for _ in 0..5 {
        login("wrong password").await.problem(401, "wrong-credentials");
    }
    for at in ["2026-05-01T01:00:00Z", "2031-01-01T01:00:00Z"] {
        clock.set(ms(at));
        let seconds = login(PASSWORD).await.problem(429, "too-many-attempts")["retry_after_seconds"].clone();
        assert!((1..=900).contains(&seconds.as_i64().unwrap()), "{seconds} at {at}");
    }
}

/// What was counted while the clock was ahead is counted anew once it is right.
#[tokio::test]
async fn snapshots_are_counted_anew_when_the_clock_is_set_back() {
    let (_, url) = shop().await;
    let (clock, server) = started_at("2030-01-01T01:00:00Z").await;
    let api = server.user("ada@example.com").await;
    let database = api.database(&api.project("shop").await, &url).await;
    let counted = async |count: usize| {
        let line = format!("dbsnap_snapshots{{database=\"{database}\"}} {count}\n");
        let begun = Instant::now();
        loop {
            let metrics =
                reqwest::get(format!("{}/metrics", server.base)).await.unwrap().text().await.unwrap();
            if metrics.contains(&line) {
                return metrics;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{line} is not in {metrics}");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    };
    counted(0).await;
    clock.set(ms("2026-05-01T01:00:00Z"));
    api.back_up(&database).await;
    clock.pass(60_000);
    let metrics = counted(1).await;
    let uptime = metrics.lines().find_map(|line| line.strip_prefix("dbsnap_uptime_seconds "));
    assert!((0..120).contains(&uptime.unwrap().parse::<i64>().unwrap()), "{metrics}");
}

struct Life {
    month: Month,
    database: String,
}

impl Life {
    async fn begun_at(at: &str) -> Self {
        let (_, url) = shop().await;
        let (clock, server) = started_at(at).await;
        let (api, project, database) = server.connected(&url).await;
        every_day_at_three(&api, &database).await;
        let month = Month { clock, server: Some(server), project: ProjectId::parse(&project).unwrap() };
        Self { month, database }
    }

    async fn look(&self, at: &str) {
        self.month.look(ms(at)).await;
    }

    /// The days of May whose runs succeeded, and what is told as missed: the last day, how many, and why.
    async fn expect(&self, days: &[&str], missed: Option<(&str, u32, &str)>) {
        let due = |day: &str| format!("2026-05-{day}T03:00:00.000Z");
        let runs: Vec<_> = days.iter().map(|day| (due(day), JobState::Succeeded)).collect();
        assert_eq!(self.month.runs(&self.database).await, runs);
        let api = self.month.signed_in().await;
        let schedule =
            api.get(&format!("/databases/{}/schedule", self.database)).await.expect(StatusCode::OK);
        let told = ["last_missed", "missed_runs", "missed_reason"].map(|field| schedule[field].clone());
        let expected = match missed {
            None => [Value::Null, json!(0), Value::Null],
            Some((day, runs, reason)) => [json!(due(day)), json!(runs), json!(reason)],
        };
        assert_eq!(told, expected);
    }
}

/// The machine's clock stood in 2020 when the server began, and is set right while it runs.
#[tokio::test]
async fn what_was_done_before_a_clock_was_behind_is_not_missed_and_not_done_again() {
    let mut life = Life::begun_at("2026-05-01T00:00:00Z").await;
    life.look("2026-05-01T03:00:00Z").await;
    life.look("2026-05-02T03:00:00Z").await;
    life.month.away_until("2020-01-01T00:00:00Z").await;
    life.look("2026-05-02T10:00:00Z").await;
    life.expect(&["01", "02"], None).await;
    let metrics =
        reqwest::get(format!("{}/metrics", life.month.server().base)).await.unwrap().text().await.unwrap();
    let never = format!("dbsnap_missed_runs_total{{database=\"{}\"}} 0\n", life.database);
    assert!(metrics.contains(&never), "{metrics}");

    // For minutes only, over a time that was done.
    life.look("2026-05-03T03:00:00Z").await;
    life.look("2026-05-03T02:30:00Z").await;
    life.look("2026-05-03T03:15:00Z").await;
    life.expect(&["01", "02", "03"], None).await;

    // For days: what was due then was missed, and nothing but that.
    life.look("2020-01-01T00:00:00Z").await;
    life.look("2019-01-01T00:00:00Z").await;
    life.look("2026-05-05T10:00:00Z").await;
    let reason = "The server's clock did not show that time: it went from 2019-01-01 00:00 UTC to 2026-05-05 10:00 UTC.";
    life.expect(&["01", "02", "03", "05"], Some(("05", 2, reason))).await;

    // What is told of stays told, whatever the clock says meanwhile.
    life.look("2020-01-01T00:00:00Z").await;
    life.expect(&["01", "02", "03", "05"], None).await;
    life.look("2026-05-05T12:00:00Z").await;
    life.expect(&["01", "02", "03", "05"], Some(("05", 2, reason))).await;
}

/// Nobody saw how the clock came to be right: it may have been ahead before. One backup too many is better
/// than one too few, but what was done long before is not missed.
#[tokio::test]
async fn where_nobody_saw_how_the_clock_was_set_right_the_last_run_is_done_again() {
    let mut life = Life::begun_at("2026-05-01T00:00:00Z").await;
    life.look("2026-05-01T03:00:00Z").await;
    life.look("2026-05-02T03:00:00Z").await;
    life.month.away_until("2020-01-01T00:00:00Z").await;
    life.month.away_until("2026-05-02T10:00:00Z").await;
    let reason = "The server was not running then, or could not note down that a backup begins.";
    life.expect(&["01", "02", "02"], Some(("02", 1, reason))).await;
    life.look("2026-05-03T03:00:00Z").await;
    life.month.away_until("2020-01-01T00:00:00Z").await;
    life.month.away_until("2026-05-04T10:00:00Z").await;
    life.expect(&["01", "02", "02", "03", "04"], Some(("04", 1, reason))).await;
}

/// A clock was a day ahead, and was set right: its run is none of the day that then comes.
#[tokio::test]
async fn what_was_done_by_a_clock_that_was_ahead_is_done_again_when_its_time_comes() {
    let life = Life::begun_at("2026-05-01T00:00:00Z").await;
    life.look("2026-05-01T03:00:00Z").await;
    life.look("2026-05-02T03:05:00Z").await;
    let (mut at_ms, end_ms) = (ms("2026-05-01T03:20:00Z"), ms("2026-05-02T03:00:00Z"));
    while at_ms <= end_ms {
        life.month.look(at_ms).await;
        at_ms += 10 * 60 * 1000;
    }
    life.expect(&["01", "02", "02"], None).await;
    life.look("2026-05-03T03:00:00Z").await;
    life.expect(&["01", "02", "02", "03"], None).await;
}

/// The same where the computer slept over it, or the test of an administrator is in a hurry.
#[tokio::test]
async fn what_was_done_by_a_clock_that_was_ahead_is_done_again_after_a_leap_to_its_time() {
    let life = Life::begun_at("2026-05-01T00:00:00Z").await;
    life.look("2026-05-01T03:00:00Z").await;
    life.look("2026-05-02T03:05:00Z").await;
    life.look("2026-05-01T04:00:00Z").await;
    life.look("2026-05-02T03:05:00Z").await;
    life.expect(&["01", "02", "02"], None).await;
    // And where other times came first.
    life.look("2026-05-05T03:05:00Z").await;
    life.look("2026-05-02T04:00:00Z").await;
    life.look("2026-05-03T03:00:00Z").await;
    life.look("2026-05-04T03:00:00Z").await;
    life.look("2026-05-05T05:00:00Z").await;
    let reason = "The server's clock did not show that time: it went from 2026-05-04 03:00 UTC to 2026-05-05 05:00 UTC.";
    life.expect(&["01", "02", "02", "05", "03", "04", "05"], Some(("05", 1, reason))).await;
}
