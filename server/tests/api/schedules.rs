//! Schedules over the API and their page, and a month of them by a clock that the test sets.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use engine::clock::{Clock, System};
use engine_testutils::postgres::Cluster;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use server::api::rfc3339;
use server::ids::{DatabaseId, ProjectId};
use server::jobs;
use server::meta::{JobRecord, JobState, PageRequest, Work};
use server::service::schedules::queue_due;

use crate::harness::{Answer, Api, Browser, PASSWORD, Server, shop, text};
use crate::queue::locked;

pub const OPEN: [(&str, &str); 1] = [("DBSNAP_SIGNUP", "open")];

/// A clock that stands until it is set, or goes on by a millisecond whenever somebody looks at it.
#[derive(Debug)]
pub struct Set {
    at_ms: AtomicI64,
    step_ms: i64,
    /// So much more time has passed than really has.
    passed_ms: AtomicU64,
}

impl Set {
    pub fn at(text: &str) -> Arc<Self> {
        Self::by(0, text)
    }

    fn stepping(text: &str) -> Arc<Self> {
        Self::by(1, text)
    }

    fn by(step_ms: i64, text: &str) -> Arc<Self> {
        Arc::new(Self { at_ms: AtomicI64::new(ms(text)), step_ms, passed_ms: AtomicU64::new(0) })
    }

    /// Lets time pass that the calendar does not show.
    pub fn pass(&self, passed_ms: u64) {
        self.passed_ms.fetch_add(passed_ms, Ordering::SeqCst);
    }

    pub fn set(&self, at_ms: i64) {
        self.at_ms.store(at_ms, Ordering::SeqCst);
    }
}

impl Clock for Set {
    fn now_ms(&self) -> i64 {
        self.at_ms.fetch_add(self.step_ms, Ordering::SeqCst)
    }

    fn elapsed_ms(&self) -> u64 {
        System.elapsed_ms() + self.passed_ms.load(Ordering::SeqCst)
    }
}

pub fn ms(text: &str) -> i64 {
    text.parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

async fn delete(api: &Api, path: &str) -> Answer {
    Answer::of(api.request(Method::DELETE, path)).await
}

#[tokio::test]
async fn a_schedule_is_set_read_previewed_and_removed() {
    let (_, url) = shop().await;
    let server = Server::start().await;
    let (api, _, database) = server.connected(&url).await;
    let path = format!("/databases/{database}/schedule");
    api.get(&path).await.problem(404, "not-found");
    delete(&api, &path).await.problem(404, "not-found");

    let body = json!({ "frequency": "weekly", "weekday": "sunday", "time": "02:30", "timezone": "europe/berlin",
        "keep": { "daily": 7, "weekly": 4 } });
    let set = api.send(Method::PUT, &path, body.clone()).await.expect(StatusCode::OK);
    assert_eq!(set["words"], "every Sunday at 02:30 Europe/Berlin");
    assert_eq!(set["keep"], json!({ "last": null, "daily": 7, "weekly": 4, "monthly": null }));
    assert_eq!((set["next_runs"].as_array().unwrap().len(), &set["last_missed"]), (3, &Value::Null));
    assert_eq!(api.get(&path).await.expect(StatusCode::OK), set);

    let wrong = [
        (json!({ "frequency": "daily", "time": "25:00", "timezone": "UTC" }), "time"),
        (json!({ "frequency": "daily", "time": "02:00", "timezone": "Berlin" }), "timezone"),
        (json!({ "frequency": "weekly", "time": "02:00", "timezone": "UTC" }), "weekday"),
        (json!({ "frequency": "daily", "time": "02:00", "timezone": "UTC", "keep": { "last": 0 } }), "keep"),
        (
            json!({ "frequency": "daily", "time": "02:00", "timezone": "UTC", "keep": { "yearly": 3 } }),
            "keep",
        ),
        (
            json!({ "frequency": "daily", "time": "02:00", "timezone": "UTC", "keep": { "last": "3" } }),
            "keep",
        ),
        (json!({ "frequency": "hourly", "time": "02:00", "timezone": "UTC" }), "frequency"),
    ];
    for (body, field) in wrong {
        let problem = api.send(Method::PUT, &path, body).await.problem(422, "invalid");
        assert_eq!(problem["field"], field, "{problem:#}");
    }
    for (weekday, name) in [(json!(0), "sunday"), (json!("Wed"), "wednesday"), (json!("1"), "monday")] {
        let body = json!({ "frequency": "Weekly", "weekday": weekday, "time": "02:30", "timezone": "Europe/Berlin" });
        let set = api.send(Method::PUT, &path, body).await.expect(StatusCode::OK);
        assert_eq!(set["weekday"], name);
        assert!(text(&set["next_runs_local"][0]).contains("T02:30:00+0"), "{set:#}");
    }
    let ninth = json!({ "frequency": "weekly", "weekday": 8, "time": "02:30", "timezone": "UTC" });
    let problem = api.send(Method::PUT, &path, ninth).await.problem(422, "invalid");
    assert!(
        text(&problem["detail"]).contains("expected a day of the week: monday to sunday, or 1"),
        "{problem:#}"
    );
    let misspelt =
        json!({ "frequency": "daily", "time": "02:00", "timezone": "UTC", "keep": { "hunter2": 3 } });
    let problem = api.send(Method::PUT, &path, misspelt).await.problem(422, "invalid");
    assert!(
        text(&problem["detail"]).starts_with("unknown field, expected one of `last`, `daily`"),
        "{problem:#}"
    );

    let set = api.send(Method::PUT, &path, body.clone()).await.expect(StatusCode::OK);

    let [first, second] = [api.back_up(&database).await, api.back_up(&database).await];
    let keep = json!({ "frequency": "daily", "time": "02:00", "timezone": "UTC", "keep": { "last": 1 } });
    let preview = api.post(&format!("{path}/preview"), keep).await.expect(StatusCode::OK);
    assert_eq!(preview["kept"][0]["id"], second.as_str());
    assert_eq!(preview["kept"][0]["reasons"], json!(["newest-complete", "last"]));
    assert_eq!(preview["removed"][0]["id"], first.as_str());
    assert_eq!(api.get(&path).await.expect(StatusCode::OK)["keep"], set["keep"], "a preview changes nothing");
    // One value for one moment, and the answer to what is set tells what it will remove.
    let one = api.get(&format!("/snapshots/{first}")).await.expect(StatusCode::OK);
    assert_eq!(preview["removed"][0]["created_at"], one["created_at"]);
    assert_eq!((&set["would_remove"], &set["would_free_bytes"]), (&json!([]), &json!(0)));
    // Two snapshots of the same rows share them: what comes free is little beside what is stored.
    let freed_bytes = preview["freed_bytes"].as_u64().unwrap();
    let job = api.post(&format!("/snapshots/{first}/cost"), json!({})).await.expect(StatusCode::ACCEPTED);
    let cost = api.ended(&text(&job["job_id"])).await;
    assert_eq!(cost["result"]["freed_bytes"].as_u64(), Some(freed_bytes), "{cost:#}");
    let keep = json!({ "frequency": "daily", "time": "02:00", "timezone": "UTC", "keep": { "last": 1 } });
    let set = api.send(Method::PUT, &path, keep).await.expect(StatusCode::OK);
    assert_eq!(set["would_remove"], preview["removed"]);
    assert_eq!(set["would_free_bytes"], freed_bytes);
    assert_eq!(api.get(&path).await.expect(StatusCode::OK), set);

    assert_eq!(delete(&api, &path).await.status, StatusCode::NO_CONTENT);
    api.get(&path).await.problem(404, "not-found");
    let told = api.get("/audit?action=schedule").await.expect(StatusCode::OK);
    let told: Vec<String> =
        told["items"].as_array().unwrap().iter().map(|entry| text(&entry["action"])).collect();
    let set = ["schedule.set"; 6];
    assert_eq!(told, [&["schedule.remove"], &set[..]].concat());

    api.send(Method::PUT, &path, body).await.expect(StatusCode::OK);
    assert_eq!(delete(&api, &format!("/databases/{database}")).await.status, StatusCode::NO_CONTENT);
    assert!(server.app.meta.schedules().await.unwrap().is_empty(), "a removed database has no schedule");
}

/// Saving other rules a moment after a run is due does not take the run away.
#[tokio::test]
async fn other_rules_leave_a_due_run_due() {
    let (_, url) = shop().await;
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let database = api.database(&api.project("shop").await, &url).await;
    let path = format!("/databases/{database}/schedule");
    let id = DatabaseId::parse(&database).unwrap();
    let handled = async |time: &str, last: u32| {
        let body = json!({
            "frequency": "daily", "time": time, "timezone": "Europe/Berlin", "keep": { "last": last },
        });
        api.send(Method::PUT, &path, body).await.expect(StatusCode::OK);
        server.app.meta.schedule(id).await.unwrap().unwrap().handled_ms
    };
    let first = handled("02:00", 3).await;
    assert_eq!(handled("02:00", 2).await, first);
    assert!(handled("03:00", 2).await > first, "of other times, those before now are none of its runs");
}

#[tokio::test]
async fn the_page_shows_what_rules_remove_before_it_saves_them() {
    let (_, url) = shop().await;
    let server = Server::start().await;
    let (api, _, database) = server.connected(&url).await;
    let browser = Browser::signed_in(&server.base, "ada@example.com", PASSWORD).await;
    let path = format!("/databases/{database}/schedule");
    assert!(browser.get(&path).await.text.contains("Nothing is scheduled"));
    api.back_up(&database).await;
    api.back_up(&database).await;
    let form = |last: &str, reviewed: &str, action: &str| {
        let fields = [
            ("weekday", "monday"),
            ("time", "06:15"),
            ("timezone", "Asia/Kolkata"),
            ("last", last),
            ("daily", ""),
            ("weekly", ""),
            ("monthly", ""),
            ("reviewed", reviewed),
            ("action", action),
        ];
        fields.map(|(name, value)| (name, value.to_owned()))
    };
    let shown = browser.send(Method::POST, &path, &form("1", "", "save")).await;
    assert_eq!(shown.status, StatusCode::OK);
    assert!(
        shown.text.contains("1 snapshot</strong> would go") || shown.text.contains("1 snapshot would go"),
        "{}",
        shown.text
    );
    let reviewed = |page: &Answer| {
        let value = page.text.split("name=\"reviewed\" value=\"").nth(1).unwrap();
        value.split('"').next().unwrap().to_owned()
    };
    let seen = reviewed(&shown);
    api.get(&format!("/databases/{database}/schedule")).await.problem(404, "not-found");
    let bytes_told = shown.text.contains("that nothing else needs:");
    assert!(bytes_told, "{}", shown.text);
    // Rules that remove nothing now are shown before they are saved, too.
    for action in ["preview", "save"] {
        let other = browser.send(Method::POST, &path, &form("2", "9,,,,UTC", action)).await;
        assert_eq!(other.status, StatusCode::OK);
        assert!(other.text.contains("All 2 snapshots stay"), "{}", other.text);
    }
    api.get(&format!("/databases/{database}/schedule")).await.problem(404, "not-found");
    // A snapshot that was taken since would make another one go: that is to be seen, too.
    api.back_up(&database).await;
    let more = browser.send(Method::POST, &path, &form("1", &seen, "save")).await;
    assert_eq!(more.status, StatusCode::OK, "it was saved unseen");
    assert!(more.text.contains("2 snapshots"), "{}", more.text);
    api.get(&format!("/databases/{database}/schedule")).await.problem(404, "not-found");
    let saved = browser.send(Method::POST, &path, &form("1", &reviewed(&more), "save")).await;
    assert_eq!(saved.status, StatusCode::SEE_OTHER, "{}", saved.text);
    let page = browser.get(&path).await;
    assert!(page.text.contains("A backup every Monday at 06:15 Asia/Kolkata"), "{}", page.text);
    assert!(page.text.contains(" 06:15 UTC+05:30"), "{}", page.text);
    // The same rules at another time change nothing that goes, and are saved at once when nothing does.
    let page = browser.get(&format!("/databases/{database}/settings")).await;
    assert!(page.text.contains("every Monday at 06:15 Asia/Kolkata"), "{}", page.text);
    let wrong = browser.send(Method::POST, &path, &form("many", "", "save")).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    let removed = browser.send(Method::POST, &format!("{path}/remove"), &[]).await;
    assert_eq!(removed.status, StatusCode::SEE_OTHER);
    assert!(browser.get(&path).await.text.contains("Nothing is scheduled"));
}

/// What the month is lived through with.
pub struct Month {
    pub clock: Arc<Set>,
    pub server: Option<Server>,
    pub project: ProjectId,
}

impl Month {
    pub fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    /// Sets the clock, looks at it once and waits for what that began.
    pub async fn look(&self, at_ms: i64) {
        self.clock.set(at_ms);
        let app = &self.server().app;
        queue_due(app).await.unwrap();
        loop {
            if app.queue.counts() == (0, 0) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Looks every quarter of an hour.
    async fn live(&self, from: &str, to: &str) {
        let mut at_ms = ms(from);
        while at_ms <= ms(to) {
            self.look(at_ms).await;
            at_ms += 15 * 60 * 1000;
        }
    }

    /// Ends the server, lets time pass, and starts another on what it left.
    pub async fn away_until(&mut self, at: &str) {
        let folder = self.server.take().unwrap().stop().await;
        self.clock.set(ms(at));
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as Arc<dyn Clock>;
        self.server = Some(Server::start_at(folder, &OPEN, clock).await);
        // Its own first look may have begun what is due.
        self.look(ms(at)).await;
    }

    /// The jobs of a database, oldest first: the due time they were for, and how they ended.
    pub async fn runs(&self, database: &str) -> Vec<(String, JobState)> {
        let database = DatabaseId::parse(database).unwrap();
        let mut jobs: Vec<JobRecord> =
            self.server().app.meta.jobs_of(self.project, PageRequest::all()).await.unwrap().items;
        jobs.sort_by_key(|job| job.id);
        let run = |job: &JobRecord| match job.work {
            Work::Backup { database_id, due_ms: Some(due_ms), .. } if database_id == database => {
                Some((rfc3339(due_ms), job.state))
            }
            _ => None,
        };
        jobs.iter().filter_map(run).collect()
    }

    pub async fn signed_in(&self) -> Api {
        let api = Api::new(&self.server().base);
        let body = json!({ "email": "ada@example.com", "password": PASSWORD });
        let tokens = api.post("/auth/login", body).await.expect(StatusCode::OK);
        api.with_token(&text(&tokens["access_token"]))
    }
}

/// From the 3rd of October to the 9th of November 2026: clocks go forward in Sydney on 4 October, back in
/// Berlin on 25 October and in New York on 1 November.
#[tokio::test]
async fn a_month_has_exactly_the_snapshots_that_its_schedules_ask_for() {
    let (_, url) = shop().await;
    let clock = Set::at("2026-10-03T12:00:00Z");
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_at(folder, &OPEN, Arc::clone(&clock) as Arc<dyn Clock>).await;
    let api = server.user("ada@example.com").await;
    let project = api.project("shop").await;
    let berlin = api.database(&project, &url).await;
    let new_york = api.database(&project, &url).await;
    let [sydney, gone] = [api.database(&project, &url).await, api.database(&project, &url).await];
    let daily = json!({ "frequency": "daily", "time": "02:30", "timezone": "Europe/Berlin" });
    let sundays = |time: &str, timezone: &str, keep: Value| json!({ "frequency": "weekly", "weekday": "sunday", "time": time, "timezone": timezone, "keep": keep });
    let schedules = [
        (&berlin, daily),
        (&new_york, sundays("01:30", "America/New_York", json!({ "last": 2 }))),
        (&sydney, sundays("02:30", "Australia/Sydney", json!({}))),
        (&gone, sundays("01:30", "America/New_York", json!({}))),
    ];
    for (database, schedule) in schedules {
        let path = format!("/databases/{database}/schedule");
        api.send(Method::PUT, &path, schedule).await.expect(StatusCode::OK);
    }
    // Its credentials are lost, as after opening existing storage: its runs cannot start.
    let forget = server.app.meta.change_database(DatabaseId::parse(&gone).unwrap(), |gone| gone.url = None);
    forget.await.unwrap().unwrap();
    let mut month = Month { clock, server: Some(server), project: ProjectId::parse(&project).unwrap() };

    month.live("2026-10-03T12:00:00Z", "2026-10-27T12:00:00Z").await;
    // A short pause over no due time, and one over three.
    month.away_until("2026-10-27T20:00:00Z").await;
    month.live("2026-10-27T20:00:00Z", "2026-10-30T12:00:00Z").await;
    month.away_until("2026-11-02T09:00:00Z").await;
    let api = month.signed_in().await;
    let schedule = api.get(&format!("/databases/{berlin}/schedule")).await.expect(StatusCode::OK);
    assert_eq!(
        (&schedule["last_missed"], &schedule["missed_runs"]),
        (&json!("2026-11-02T01:30:00.000Z"), &json!(3))
    );
    assert_eq!(schedule["next_runs"][0], "2026-11-03T01:30:00.000Z");
    let page = Browser::signed_in(&month.server().base, "ada@example.com", PASSWORD).await;
    let page = page.get(&format!("/databases/{berlin}/schedule")).await;
    assert!(page.text.contains("3 runs missed"), "{}", page.text);
    month.live("2026-11-02T09:00:00Z", "2026-11-09T12:00:00Z").await;

    // 02:30 in Berlin is 00:30 UTC until the night in which it exists twice, then 01:30. 31 October and
    // 1 November were missed, and the run of the 2nd caught up for them.
    let october = (4..=30).map(|day| format!("2026-10-{day:02}T0{}:30", if day <= 25 { 0 } else { 1 }));
    let november = (2..=9).map(|day| format!("2026-11-{day:02}T01:30"));
    let ended = |due: Vec<String>, state| -> Vec<_> {
        due.into_iter().map(|at| (format!("{at}:00.000Z"), state)).collect()
    };
    let expected = ended(october.chain(november).collect(), JobState::Succeeded);
    assert_eq!(month.runs(&berlin).await, expected);
    // 01:30 in New York: summer time, twice there on 1 November (missed), then winter.
    let sundays = ["10-04T05", "10-11T05", "10-18T05", "10-25T05", "11-01T05", "11-08T06"];
    let sundays = || sundays.map(|at| format!("2026-{at}:30")).to_vec();
    assert_eq!(month.runs(&new_york).await, ended(sundays(), JobState::Succeeded));
    assert_eq!(month.runs(&gone).await, ended(sundays(), JobState::Failed));
    // 02:30 in Sydney: not there on 4 October, when it is 03:30 instead; then an hour earlier by UTC.
    let sundays = ["10-03T16", "10-10T15", "10-17T15", "10-24T15", "10-31T15", "11-07T15"];
    let sundays = sundays.map(|at| format!("2026-{at}:30")).to_vec();
    assert_eq!(month.runs(&sydney).await, ended(sundays, JobState::Succeeded));

    let api = month.signed_in().await;
    // New York's rule keeps two of its six.
    for (database, count) in [(&berlin, 35), (&new_york, 2), (&sydney, 6), (&gone, 0)] {
        let path = format!("/databases/{database}/snapshots");
        let found = api.get(&path).await.expect(StatusCode::OK)["items"].as_array().unwrap().clone();
        assert_eq!(found.len(), count);
        assert!(
            found.iter().all(|one| one["trigger"] == "schedule" && one["state"] == "complete"),
            "{found:#?}"
        );
    }
    what_the_month_left_in_the_log(&api).await;
    // What they alone needed was freed, and a sample was read once a week.
    let jobs = jobs::list(&month.server().app, month.project, PageRequest::all()).await.unwrap().items;
    let ended = |wanted: &str| jobs.iter().filter(|job| job.record.work.kind() == wanted).count();
    assert_eq!((ended("prune"), ended("verify")), (4, 5));
    assert!(jobs.iter().all(|job| job.state() == JobState::Succeeded || job.record.work.kind() == "backup"));
    let body = json!({ "mode": "full" });
    let job = api.post(&format!("/projects/{project}/verify"), body).await.expect(StatusCode::ACCEPTED);
    let verified = api.ended(&text(&job["job_id"])).await;
    assert_eq!((&verified["state"], &verified["result"]["damaged"]), (&json!("succeeded"), &json!([])));
    assert_eq!(api.get("/audit/verify").await.expect(StatusCode::OK)["ok"], true);
}

/// Whatever a schedule does, it does as the schedule.
async fn what_the_month_left_in_the_log(api: &Api) {
    let counts = [
        ("schedule.missed", 4),
        ("backup.end", 53),
        ("snapshot.delete", 4),
        ("prune.start", 4),
        ("prune.end", 4),
        ("verify.end", 5),
    ];
    for (action, count) in counts {
        let told = api.get(&format!("/audit?action={action}&limit=1000")).await.expect(StatusCode::OK);
        let told = told["items"].as_array().unwrap();
        assert_eq!(told.len(), count, "{action}");
        assert!(told.iter().all(|entry| entry["actor"] == "schedule"), "{told:#?}");
    }
}

/// A restart cuts off a scheduled backup: it is run again, once. What is cut off twice counts as missed
/// until the next time, and is told wherever missed runs are.
#[tokio::test]
async fn a_scheduled_backup_that_a_restart_cuts_off_is_run_again_once() {
    let (name, url) = shop().await;
    let clock = Set::at("2026-05-01T00:00:00Z");
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_at(folder, &OPEN, Arc::clone(&clock) as Arc<dyn Clock>).await;
    let (api, project, database) = server.connected(&url).await;
    let body = json!({ "frequency": "daily", "time": "03:00", "timezone": "UTC" });
    api.send(Method::PUT, &format!("/databases/{database}/schedule"), body).await.expect(StatusCode::OK);
    let mut month = Month {
        clock: Arc::clone(&clock),
        server: Some(server),
        project: ProjectId::parse(&project).unwrap(),
    };
    let due = |day: &str| format!("2026-05-{day}T03:00:00.000Z");
    let is_running = async |month: &Month| {
        while month.server().app.queue.counts() != (0, 1) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };

    let lock = locked(&name).await;
    clock.set(ms("2026-05-01T03:00:00Z"));
    queue_due(&month.server().app).await.unwrap();
    is_running(&month).await;
    for at in ["2026-05-01T03:04:00Z", "2026-05-01T03:05:00Z"] {
        let folder = month.server.take().unwrap().stop().await;
        clock.set(ms(at));
        let clock = Arc::clone(&clock) as Arc<dyn Clock>;
        month.server = Some(Server::start_at(folder, &OPEN, clock).await);
        queue_due(&month.server().app).await.unwrap();
        if at.ends_with("04:00Z") {
            is_running(&month).await;
        }
    }
    let cut_off = vec![(due("01"), JobState::Interrupted), (due("01"), JobState::Interrupted)];
    assert_eq!(month.runs(&database).await, cut_off);
    let api = month.signed_in().await;
    let schedule = api.get(&format!("/databases/{database}/schedule")).await.expect(StatusCode::OK);
    assert_eq!((&schedule["last_missed"], &schedule["missed_runs"]), (&json!(due("01")), &json!(1)));
    let told = api.get("/audit?action=schedule.missed").await.expect(StatusCode::OK);
    assert_eq!(told["items"].as_array().unwrap().len(), 1, "{told:#}");
    let browser = Browser::signed_in(&month.server().base, "ada@example.com", PASSWORD).await;
    let dashboard = browser.get("/projects").await.text;
    assert!(dashboard.contains("1 run missed") || dashboard.contains("1 run</"), "{dashboard}");
    let page = browser.get(&format!("/databases/{database}/schedule")).await.text;
    assert!(page.contains("1 run missed") && !page.contains("catches up"), "{page}");
    assert!(page.contains("The next run is due on <time datetime=\"2026-05-02T03:00:00Z\""), "{page}");
    let metrics = reqwest::get(format!("{}/metrics", month.server().base)).await.unwrap();
    let metrics = metrics.text().await.unwrap();
    for line in ["dbsnap_missed_runs_total", "dbsnap_never_succeeded"] {
        assert!(
            metrics.contains(&format!("{line}{{database=\"{database}\"}} 1\n")),
            "{line} is not in {metrics}"
        );
    }

    drop(lock);
    month.look(ms("2026-05-02T03:00:00Z")).await;
    // The next run left a complete backup: nobody has to be told of it any more.
    let browser = Browser::signed_in(&month.server().base, "ada@example.com", PASSWORD).await;
    let dashboard = browser.get("/projects").await.text;
    assert!(!dashboard.contains("1 run"), "{dashboard}");
    let page = browser.get(&format!("/databases/{database}/schedule")).await.text;
    assert!(!page.contains("1 run missed"), "{page}");
    let expected = [cut_off, vec![(due("02"), JobState::Succeeded)]].concat();
    assert_eq!(month.runs(&database).await, expected);
}

/// What a scheduled backup calls for is done after an incomplete one, too; and what is stored is read even
/// where no backup can start.
#[tokio::test]
async fn rules_are_applied_after_an_incomplete_backup_and_a_sample_is_read_after_any() {
    let (name, _) = shop().await;
    let (cluster, role) = (Cluster::shared(), format!("{name}_partial"));
    let grants = format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'partial';
         GRANT SELECT ON customers, orders, \"Odd/Table\" TO {role};
         GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO {role};"
    );
    cluster.execute(&name, &grants).await;
    let url = cluster.url(&role, "partial", &name);
    let clock = Set::at("2026-05-01T00:00:00Z");
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_at(folder, &OPEN, Arc::clone(&clock) as Arc<dyn Clock>).await;
    let (api, project, database) = server.connected(&url).await;
    let path = format!("/databases/{database}/schedule");
    let body = json!({ "frequency": "daily", "time": "03:00", "timezone": "UTC", "keep": { "last": 1 } });
    api.send(Method::PUT, &path, body).await.expect(StatusCode::OK);
    let first = api.back_up(&database).await;
    clock.set(ms("2026-05-01T00:01:00Z"));
    let second = api.back_up(&database).await;
    let month = Month {
        clock: Arc::clone(&clock),
        server: Some(server),
        project: ProjectId::parse(&project).unwrap(),
    };
    let ended = async |kind: &str| {
        let app = &month.server().app;
        let jobs = jobs::list(app, month.project, PageRequest::all()).await.unwrap().items;
        jobs.iter().filter(|job| job.record.work.kind() == kind).count()
    };

    // A table that its reader may not read any more.
    cluster.execute(&name, &format!("REVOKE SELECT ON orders FROM {role}")).await;
    month.look(ms("2026-05-01T03:00:00Z")).await;
    assert_eq!(month.runs(&database).await.pop().unwrap().1, JobState::Incomplete);
    let found =
        month.signed_in().await.get(&format!("/databases/{database}/snapshots")).await.expect(StatusCode::OK);
    let ids: Vec<String> = found["items"].as_array().unwrap().iter().map(|one| text(&one["id"])).collect();
    assert!(ids.len() == 2 && ids[1] == second && !ids.contains(&first), "{found:#}");
    assert_eq!((ended("prune").await, ended("verify").await), (1, 1));

    // Its credentials are lost: nothing is taken, and a week later a sample is read all the same.
    let forget = month
        .server()
        .app
        .meta
        .change_database(DatabaseId::parse(&database).unwrap(), |gone| gone.url = None);
    forget.await.unwrap().unwrap();
    month.look(ms("2026-05-02T03:00:00Z")).await;
    assert_eq!((ended("prune").await, ended("verify").await), (1, 1));
    month.look(ms("2026-05-08T03:00:00Z")).await;
    assert_eq!(month.runs(&database).await.pop().unwrap().1, JobState::Failed);
    assert_eq!((ended("prune").await, ended("verify").await), (1, 2));
}

/// Due at the same minute, with two workers: the order of the queue is the age of the databases, whoever
/// they belong to, and nobody's run is lost or doubled, whoever else looks at the clock meanwhile.
#[tokio::test]
async fn twenty_databases_that_are_due_at_once_take_their_turns() {
    let (_, url) = shop().await;
    let clock = Set::stepping("2026-05-01T00:00:00Z");
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_at(folder, &OPEN, Arc::clone(&clock) as Arc<dyn Clock>).await;
    let owners = [server.user("ada@example.com").await, server.user("eve@example.com").await];
    let projects = [owners[0].project("shop").await, owners[1].project("shop").await];
    let mut databases = Vec::new();
    for n in 0..20 {
        let (api, project) = (&owners[n % 2], &projects[n % 2]);
        let database = api.database(project, &url).await;
        let body = json!({ "frequency": "daily", "time": "03:00", "timezone": "UTC" });
        api.send(Method::PUT, &format!("/databases/{database}/schedule"), body).await.expect(StatusCode::OK);
        databases.push(database);
    }
    let app = &server.app;
    let ended = async || {
        loop {
            let mut all = Vec::new();
            for project in &projects {
                let project = ProjectId::parse(project).unwrap();
                all.extend(jobs::list(app, project, PageRequest::all()).await.unwrap().items);
            }
            if all.iter().all(|job| job.state().is_final()) {
                return all;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };

    clock.set(ms("2026-05-01T03:00:00Z"));
    queue_due(app).await.unwrap();
    let all = ended().await;
    assert!(all.iter().all(|job| job.state() == JobState::Succeeded));
    let mut backups: Vec<_> = all.iter().filter(|job| job.record.work.kind() == "backup").collect();
    backups.sort_by_key(|job| job.record.started_ms);
    let served: Vec<String> = backups.iter().map(|job| database_of(job).unwrap()).collect();
    assert_eq!(served, databases, "they begin in the order of their ages");
    // The first scheduled backup of a project calls for a look at what is stored: one, whoever else ends.
    assert_eq!(all.len() - backups.len(), 2);
    let spans = all.iter().map(|job| (job.record.started_ms.unwrap(), job.record.finished_ms.unwrap()));
    let spans: Vec<(i64, i64)> = spans.collect();
    let at_once = |at: i64| spans.iter().filter(|(start, end)| (*start..*end).contains(&at)).count();
    assert_eq!(spans.iter().map(|(start, _)| at_once(*start)).max(), Some(2), "two workers, both in use");

    clock.set(ms("2026-05-02T03:00:00Z"));
    let looks = [queue_due(app), queue_due(app), queue_due(app)];
    for done in futures::future::join_all(looks).await {
        done.unwrap();
    }
    let all = ended().await;
    let mut served: Vec<String> = all.iter().filter_map(database_of).collect();
    served.sort();
    let twice: Vec<&String> = databases.iter().flat_map(|database| [database, database]).collect();
    assert!(served.iter().eq(twice), "one more each, whoever looked");
}

/// The database that a job backs up.
fn database_of(job: &jobs::Job) -> Option<String> {
    match job.record.work {
        Work::Backup { database_id, .. } => Some(database_id.to_string()),
        _ => None,
    }
}
