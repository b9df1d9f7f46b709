//! The program itself: how it starts, and what its end leaves.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use engine_testutils::postgres::Cluster;
use reqwest::StatusCode;
use serde_json::json;

use crate::harness::{Api, Browser, PASSWORD, shop, text};
use crate::queue::{follow, locked};

/// A running `dbsnap`. Killed when dropped.
pub struct Program {
    child: Child,
    pub base: String,
}

impl Program {
    pub fn command(folder: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dbsnap"));
        command.env("DBSNAP_DATA_DIR", folder).env("DBSNAP_LISTEN", "127.0.0.1:0").env("DBSNAP_LOG", "warn");
        command
    }

    pub fn start(folder: &Path) -> Self {
        Self::spawn(&mut Self::command(folder))
    }

    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let base = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("{line:?}")).to_owned();
        Self { child, base }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop, as an operator does, and gives its exit code and how long it took.
    pub fn terminate(self) -> (Option<i32>, Duration) {
        self.end_by("TERM")
    }

    pub fn end_by(mut self, signal: &str) -> (Option<i32>, Duration) {
        let begun = Instant::now();
        let pid = self.child.id().to_string();
        assert!(
            Command::new("sh").args(["-c", &format!("kill -{signal} {pid}")]).status().unwrap().success()
        );
        (self.child.wait().unwrap().code(), begun.elapsed())
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub async fn login(&self) -> Api {
        let api = Api::new(&self.base);
        let body = json!({ "email": "ada@example.com", "password": PASSWORD });
        let tokens = api.post("/auth/login", body).await.expect(StatusCode::OK);
        api.with_token(&text(&tokens["access_token"]))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Already ended, mostly.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An account with a database whose backup waits for a lock.
struct Waiting {
    api: Api,
    database: String,
    job: String,
    lock: tokio_postgres::Client,
}

async fn with_a_running_backup(program: &Program, name: &str, url: &str) -> Waiting {
    let api = Api::new(&program.base);
    let body = json!({ "email": "ada@example.com", "password": PASSWORD });
    let tokens = api.post("/auth/register", body).await.expect(StatusCode::CREATED);
    let api = api.with_token(&text(&tokens["access_token"]));
    let database = api.database(&api.project("shop").await, url).await;
    let lock = locked(name).await;
    let job = api.start_backup(&database).await;
    api.job_when(&job, |job| job["state"] == "running").await;
    Waiting { api, database, job, lock }
}

/// What the server keeps is nobody else's, whatever umask it was started with.
#[tokio::test]
async fn what_the_program_makes_is_closed_to_other_users() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("data");
    let program = Program::start(&folder);
    let api = Api::new(&program.base);
    let body = json!({ "email": "ada@example.com", "password": PASSWORD });
    let tokens = api.post("/auth/register", body).await.expect(StatusCode::CREATED);
    let api = api.with_token(&text(&tokens["access_token"]));
    let project = api.project("shop").await;
    let mode = |path: &str| {
        let metadata = std::fs::metadata(folder.join(path)).unwrap();
        format!("{:o}", std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777)
    };
    let cache = format!("cache/{project}.redb");
    let modes = ["", "meta.redb", "cache", &cache].map(mode);
    assert_eq!(modes, ["700", "600", "700", "600"]);
}

#[tokio::test]
async fn a_killed_program_leaves_no_running_job_and_goes_on_with_the_queued() {
    let (name, url) = shop().await;
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path());
    let Waiting { api, database, job: running, lock } = with_a_running_backup(&program, &name, &url).await;
    let queued = api.start_backup(&database).await;
    program.kill();
    drop(lock);

    let program = Program::start(folder.path());
    let again = program.login().await;
    let job = again.get(&format!("/jobs/{running}")).await.expect(StatusCode::OK);
    assert_eq!(job["state"], "interrupted");
    assert!(job["finished_at"].is_string());
    assert_eq!(again.ended(&queued).await["state"], "succeeded");
    // What was cut off is in the log, too, written at the start.
    let told = again.get("/audit?action=backup.end").await.expect(StatusCode::OK);
    let told: Vec<_> = (told["items"].as_array().unwrap().iter())
        .map(|entry| (text(&entry["detail"]["job_id"]), text(&entry["result"])))
        .collect();
    let expected = [(&queued, "succeeded"), (&running, "interrupted")];
    assert_eq!(told, expected.map(|(job, result)| (job.clone(), result.to_owned())));
    assert_eq!(again.get("/audit/verify").await.expect(StatusCode::OK)["ok"], true);
    // Tokens outlive the process.
    let api = Api { base: program.base.clone(), ..api };
    api.get("/me").await.expect(StatusCode::OK);
    again.back_up(&database).await;
}

#[tokio::test]
async fn a_terminated_program_interrupts_its_jobs_and_exits_with_zero() {
    let (name, url) = shop().await;
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path());
    let Waiting { api, database, job, lock, .. } = with_a_running_backup(&program, &name, &url).await;
    let following = follow(&api, &job).await;
    let (code, took) = tokio::task::spawn_blocking(move || program.terminate()).await.unwrap();
    assert_eq!(code, Some(0));
    let events = following.await.unwrap();
    let (name, id, last) = events.last().unwrap();
    assert_eq!((name.as_str(), id.as_str(), &last["state"]), ("state", "end", &json!("interrupted")));
    assert!(took < Duration::from_secs(30), "{took:?}");
    drop(lock);

    let program = Program::start(folder.path());
    let api = program.login().await;
    let told = api.get(&format!("/jobs/{job}")).await.expect(StatusCode::OK);
    assert_eq!((&told["state"], &told["error"]["type"]), (&json!("interrupted"), &json!("interrupted")));
    let browser = Browser::signed_in(&program.base, "ada@example.com", PASSWORD).await;
    for page in [format!("/databases/{database}"), format!("/jobs/{job}")] {
        let page = browser.get(&page).await.text;
        assert!(page.contains("The server stopped during this backup"), "{page}");
        assert!(page.contains("Another backup can be started"), "{page}");
        assert!(!page.contains("Change the connection"), "{page}");
    }
    api.back_up(&database).await;
    assert_eq!(program.terminate().0, Some(0));
}

/// A restore that cannot go on: nobody can make a type in its target.
#[tokio::test]
async fn a_restore_that_is_stopped_or_cut_off_says_what_it_may_have_left() {
    let (name, url) = shop().await;
    let cluster = Cluster::shared();
    let target = cluster.fresh_database("held").await;
    let target_url = cluster.superuser_url(&target);
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path());
    let Waiting { api, database, job, lock } = with_a_running_backup(&program, &name, &url).await;
    drop(lock);
    api.ended(&job).await;
    let snapshot = api.back_up(&database).await;
    let plan = json!({ "snapshot": snapshot, "scope": { "all": true }, "target": { "url": target_url, "mode": "new" } });
    let planned = api.post("/restores/plan", plan).await.expect(StatusCode::ACCEPTED);
    api.ended(&text(&planned["job_id"])).await;
    let path = format!("/restores/{}", text(&planned["id"]));
    let held = cluster.connect(&target).await;
    held.batch_execute("BEGIN; LOCK TABLE pg_catalog.pg_type IN SHARE MODE").await.unwrap();
    let apply = async |api: &Api| {
        let order = json!({ "confirm": target, "url": target_url });
        let job =
            text(&api.post(&format!("{path}/apply"), order).await.expect(StatusCode::ACCEPTED)["job_id"]);
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = ";
        while cluster.query_one("postgres", &format!("{waits}'{target}'")).await == "0" {
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        job
    };

    let job = apply(&api).await;
    api.post(&format!("/jobs/{job}/cancel"), json!({})).await.expect(StatusCode::ACCEPTED);
    let job = api.ended(&job).await;
    assert_eq!((&job["state"], &job["error"]["type"]), (&json!("cancelled"), &json!("stopped")), "{job:#}");
    let detail = text(&job["error"]["detail"]);
    assert!(detail.contains(&format!("Database \"{target}\" was there before and is kept")), "{detail}");

    // The statement that waits outlives its client; the next attempt's is told from it by its absence.
    let end = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = '{target}'"
    );
    while !cluster.query_text("postgres", &end).await.is_empty() {
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    let job = apply(&api).await;
    program.kill();
    let program = Program::start(folder.path());
    let api = program.login().await;
    let job = api.get(&format!("/jobs/{job}")).await.expect(StatusCode::OK);
    assert_eq!(
        (&job["state"], &job["error"]["type"]),
        (&json!("interrupted"), &json!("interrupted")),
        "{job:#}"
    );
    let browser = Browser::signed_in(&program.base, "ada@example.com", PASSWORD).await;
    let page = browser.get(&path).await;
    assert!(
        page.text.contains("unproven, and nothing of it was removed. Drop the target database"),
        "{}",
        page.text
    );
    drop(held);
}

/// Not even the most talkative log repeats a password or a token.
#[tokio::test]
async fn the_log_holds_no_secret() {
    let (name, url) = shop().await;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let output = std::fs::File::create(&log).unwrap();
    let program = Program::spawn(Program::command(folder.path()).env("DBSNAP_LOG", "trace").stderr(output));
    let Waiting { api, job, lock, .. } = with_a_running_backup(&program, &name, &url).await;
    drop(lock);
    api.ended(&job).await;
    let wrong = url.replace("-password", "-wrong-password");
    let project = api.get("/projects").await.body["items"][0]["id"].clone();
    let body = json!({ "name": "x", "url": wrong, "environment": "dev" });
    api.post(&format!("/projects/{}/databases", text(&project)), body).await.problem(422, "unreachable");
    program.terminate();
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("started") && log.lines().count() > 50, "{log}");
    let token = api.token.unwrap();
    for secret in [&format!("{name}_reader-password"), "wrong-password", PASSWORD, &token] {
        let at = log.lines().find(|line| line.contains(secret));
        assert_eq!(at, None, "{secret} is in the log");
    }
}

#[tokio::test]
async fn the_operator_resets_a_forgotten_password() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path());
    let api = Api::new(&program.base);
    let account = json!({ "email": "ada@example.com", "password": PASSWORD });
    let tokens = api.post("/auth/register", account.clone()).await.expect(StatusCode::CREATED);
    let reset =
        |email: &str| Program::command(folder.path()).args(["reset-password", email]).output().unwrap();
    let refused = String::from_utf8(reset("ada@example.com").stderr).unwrap();
    assert!(refused.contains("in use by another dbsnap"), "{refused}");
    program.kill();
    let unknown = reset("eve@example.com");
    assert_eq!(unknown.status.code(), Some(1));
    let output = reset("Ada@example.com");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let told = String::from_utf8(output.stdout).unwrap();
    let password = told.trim().rsplit(' ').next().unwrap();

    let program = Program::start(folder.path());
    let api = Api::new(&program.base);
    api.with_token(&text(&tokens["access_token"])).get("/me").await.problem(401, "unauthorized");
    api.post("/auth/login", account).await.problem(401, "wrong-credentials");
    let account = json!({ "email": "ada@example.com", "password": password });
    api.post("/auth/login", account).await.expect(StatusCode::OK);
}

/// A terminal that closes ends the server in order, like a service that is stopped.
#[test]
fn a_hangup_ends_it_as_a_termination_does() {
    for signal in ["HUP", "INT", "TERM"] {
        let folder = tempfile::tempdir().unwrap();
        let (code, _) = Program::start(folder.path()).end_by(signal);
        assert_eq!(code, Some(0), "SIG{signal}");
    }
}

#[test]
fn what_is_wrong_at_the_start_is_said_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |command: &mut Command| {
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(output.stdout.is_empty());
        String::from_utf8(output.stderr).unwrap()
    };
    let message = refused(Program::command(folder.path()).env("DBSNAP_WORKERS", "0"));
    assert!(message.contains("DBSNAP_WORKERS=\"0\" cannot be used"), "{message}");
    let message = refused(Program::command(folder.path()).env("DBSNAP_STORAGE", "ftp://x"));
    assert!(message.contains("ftp://x"), "{message}");
    let nowhere = "s3://bucket?region=x&endpoint=nowhere";
    let message = refused(Program::command(folder.path()).env("DBSNAP_STORAGE", nowhere));
    assert!(message.contains("endpoint \"nowhere\" is no URL"), "{message}");

    let program = Program::start(folder.path());
    let message = refused(&mut Program::command(folder.path()));
    assert!(message.contains("in use by another dbsnap"), "{message}");
    program.kill();

    let key = folder.path().join("server.key");
    let moved = folder.path().join("moved.key");
    std::fs::rename(&key, &moved).unwrap();
    let message = refused(&mut Program::command(folder.path()));
    assert!(message.contains("server.key is missing"), "{message}");
    assert!(!key.exists(), "no new key is made over stored secrets");
    let other = tempfile::tempdir().unwrap();
    Program::start(other.path()).kill();
    std::fs::copy(other.path().join("server.key"), &key).unwrap();
    let message = refused(&mut Program::command(folder.path()));
    assert!(message.contains("not the one this data folder was made with"), "{message}");
    Program::spawn(Program::command(folder.path()).env("DBSNAP_SERVER_KEY_FILE", &moved)).kill();
}
