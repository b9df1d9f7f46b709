//! Killing the server at random while it works through mixed jobs: every accepted job is there
//! afterwards, once, and ends.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use engine_testutils::postgres::Cluster;
use serde_json::{Value, json};

use crate::driver::Process;

/// How often it is killed: a few times, more by `DBSNAP_TEST_KILLS`.
fn kills() -> u32 {
    std::env::var("DBSNAP_TEST_KILLS").map_or(4, |kills| kills.parse().expect("a number of kills"))
}

/// Numbers that look random; the seed is printed, so that a failure can be had again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// What was asked of the server, over all its lives.
struct Ledger {
    project: String,
    databases: Vec<String>,
    /// Jobs whose acceptance was heard, and the note of those that are backups.
    accepted: BTreeMap<String, Option<String>>,
    /// Requests that were on their way at a kill: each may have made one job.
    unheard: usize,
    snapshots: Vec<String>,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// Sends what belongs to one job and writes down what was heard of it.
async fn ask(
    server: &Process,
    path: &str,
    body: Value,
    note: Option<String>,
) -> Option<(String, Option<String>)> {
    let (status, answer) = server.try_send(path, body).await?;
    assert!(status < 300, "{path} answered {status}: {answer}");
    Some((text(&answer["job_id"]), note))
}

impl Ledger {
    /// Asks for one job of a random kind. False once the server is gone.
    async fn ask_something(&mut self, server: &Process, dice: &mut Dice, number: usize) -> bool {
        let database = &self.databases[dice.below(self.databases.len() as u64) as usize];
        let newest = self.snapshots.last().cloned();
        let (path, body, note) = match (dice.below(4), newest) {
            (0, _) => (format!("/projects/{}/verify", self.project), json!({"mode": "structure"}), None),
            (1, Some(newest)) => {
                let from = self.snapshots[dice.below(self.snapshots.len() as u64) as usize].clone();
                ("/diffs".to_owned(), json!({"from": from, "to": newest}), None)
            }
            _ => {
                let note = format!("backup {number}");
                (format!("/databases/{database}/backups"), json!({"note": note}), Some(note))
            }
        };
        match ask(server, &path, body, note).await {
            Some((job, note)) => {
                // A comparison that is known already is given out again with its job.
                self.accepted.entry(job.clone()).or_insert(note);
                if dice.below(6) == 0 {
                    let _ = server.try_send(&format!("/jobs/{job}/cancel"), json!({})).await;
                }
                true
            }
            None => {
                self.unheard += 1;
                false
            }
        }
    }

    /// Every accepted job is there once, has ended, and made at most one snapshot.
    async fn settle(&mut self, server: &Process) {
        let mut jobs = BTreeMap::new();
        let mut cursor = String::new();
        loop {
            let page = server.get(&format!("/projects/{}/jobs?limit=100{cursor}", self.project)).await;
            for job in page["items"].as_array().unwrap() {
                assert!(jobs.insert(text(&job["id"]), job.clone()).is_none(), "listed twice: {job}");
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        for id in self.accepted.keys() {
            assert!(jobs.contains_key(id), "the accepted job {id} is lost");
        }
        let unknown = jobs.keys().filter(|id| !self.accepted.contains_key(*id)).count();
        assert!(unknown <= self.unheard, "{unknown} jobs that nobody asked for, {} unheard", self.unheard);
        let mut made = BTreeSet::new();
        for id in jobs.keys() {
            let accepted = json!({"job_id": id});
            let ended = tokio::time::timeout(Duration::from_secs(120), server.ended(&accepted));
            let job = ended.await.unwrap_or_else(|_| panic!("the job {id} never ends"));
            let state = text(&job["state"]);
            assert!(matches!(&*state, "succeeded" | "cancelled" | "interrupted"), "{job}");
            assert!(job["finished_at"].is_string(), "{job}");
            if let Some(snapshot) = job["result"]["snapshot_id"].as_str() {
                assert!(made.insert(snapshot.to_owned()), "two jobs made the snapshot {snapshot}");
            }
        }
        self.snapshots.clear();
        let mut notes = BTreeSet::new();
        for database in &self.databases {
            let page = server.get(&format!("/databases/{database}/snapshots?limit=1000")).await;
            for snapshot in page["items"].as_array().unwrap() {
                // The note names the job: a second snapshot of it would be a job that ran twice.
                assert!(notes.insert(text(&snapshot["note"])), "a backup was made twice: {snapshot}");
                self.snapshots.push(text(&snapshot["id"]));
            }
        }
        let all: BTreeSet<String> = self.snapshots.iter().cloned().collect();
        assert!(made.is_subset(&all), "a job's snapshot is not in the history");
        self.snapshots.sort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_kills_lose_and_double_no_job() {
    let cluster = Cluster::shared();
    let data = tempfile::tempdir().unwrap();
    let server = Process::start(data.path()).await;
    let project = text(&server.post("/projects", json!({"name": "mixed"})).await["id"]);
    let mut databases = Vec::new();
    for number in 0..2 {
        let name = cluster.fresh_database(&format!("mixed{number}")).await;
        let sql = "CREATE TABLE t (id int PRIMARY KEY, body text);
                   INSERT INTO t SELECT n, md5(n::text) FROM generate_series(1, 20000) n;";
        cluster.execute(&name, sql).await;
        let url = cluster.create_read_only_role(&name, &format!("{name}_reader")).await;
        let body = json!({"name": name, "url": url, "environment": "dev"});
        let added = server.post(&format!("/projects/{project}/databases"), body).await;
        databases.push(text(&added["id"]));
    }
    let (accepted, snapshots) = (BTreeMap::new(), Vec::new());
    let mut ledger = Ledger { project, databases, accepted, unheard: 0, snapshots };
    let seed =
        std::env::var("DBSNAP_TEST_SEED").map_or(u64::from(std::process::id()), |s| s.parse().unwrap());
    println!("DBSNAP_TEST_SEED={seed}");
    let (mut dice, mut number) = (Dice(seed), 0);
    let mut server = Some(server);
    for _ in 0..kills() {
        let running = server.take().expect("one is running");
        let after = Duration::from_millis(dice.below(900));
        let pid = running.pid();
        let killer = tokio::spawn(async move {
            tokio::time::sleep(after).await;
            kill(pid);
        });
        // Requests until it is gone, with pauses in which jobs get ahead.
        loop {
            number += 1;
            if !ledger.ask_something(&running, &mut dice, number).await {
                break;
            }
            tokio::time::sleep(Duration::from_millis(dice.below(60))).await;
        }
        killer.await.unwrap();
        running.kill().await;
        let started = Process::start(data.path()).await;
        ledger.settle(&started).await;
        server = Some(started);
    }
    let jobs = ledger.accepted.len();
    println!("{} kills, {jobs} jobs, {} snapshots", kills(), ledger.snapshots.len());
    assert!(jobs >= kills() as usize, "hardly any job was there to be lost");
}

/// As a power cut would. The process is ours until it is collected, so its id is no other's.
fn kill(pid: u32) {
    let killed = std::process::Command::new("sh").args(["-c", &format!("kill -KILL {pid}")]).status();
    assert!(killed.unwrap().success());
}
