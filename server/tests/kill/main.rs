//! Killing the server in the middle of backups: what was there stays whole, and the next snapshot
//! succeeds.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod driver;
mod mixed;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use driver::Process;
use engine_testutils::postgres::Cluster;
use serde_json::{Value, json};

/// Enough that packs fill up while rows are still being read.
const ROWS: u32 = 500_000;

/// When to kill: as soon as this is seen.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// So many thousandths of the time that a whole backup took have passed.
    Time(u32),
    /// A file is being written in this folder of the repository.
    Writing(&'static str),
    /// One more file is in this folder than before.
    Written(&'static str),
}

const KILLS: [Moment; 10] = [
    Moment::Written("sessions"),
    Moment::Time(250),
    Moment::Writing("packs"),
    Moment::Written("packs"),
    Moment::Time(600),
    Moment::Time(850),
    Moment::Writing("index"),
    Moment::Written("index"),
    Moment::Writing("snapshots"),
    Moment::Written("snapshots"),
];

/// Several tables, so that every phase lasts: one in key order, one sorted with a spill, one with
/// long values.
fn tables() -> String {
    format!(
        "CREATE TABLE ordered (id bigint PRIMARY KEY, body text);
         INSERT INTO ordered SELECT n, md5(n::text) || md5((n * 7)::text) || md5((n * 11)::text) FROM generate_series(1, {ROWS}) n;
         CREATE TABLE keyless (body text, n int);
         INSERT INTO keyless SELECT md5(n::text), n % 1000 FROM generate_series(1, {ROWS}) n;
         CREATE TABLE long (id int PRIMARY KEY, body bytea);
         INSERT INTO long SELECT n, decode(repeat(md5(n::text), 4000), 'hex') FROM generate_series(1, 200) n;"
    )
}

/// Changes every table, so that the next backup has much to store.
const CHANGE: &str = "UPDATE ordered SET body = md5(body) || body WHERE id % 3 = 0;
     UPDATE keyless SET body = md5(body) WHERE n % 3 = 0;
     UPDATE long SET body = sha512(body) || body;";

#[tokio::test(flavor = "multi_thread")]
async fn ten_kills_lose_nothing() {
    let cluster = Cluster::shared();
    let database = cluster.fresh_database("kill").await;
    cluster.execute(&database, &tables()).await;
    let url = cluster.create_read_only_role(&database, &format!("{database}_reader")).await;
    let data = tempfile::tempdir().unwrap();

    let server = Process::start(data.path()).await;
    let project = server.post("/projects", json!({"name": "kill"})).await["id"].as_str().unwrap().to_owned();
    let body = json!({"name": "db", "url": url, "environment": "dev"});
    let added = server.post(&format!("/projects/{project}/databases"), body).await;
    let backups = format!("/databases/{}/backups", added["id"].as_str().unwrap());
    let started = Instant::now();
    let first = server.post(&backups, json!({"note": "before all kills"})).await;
    let first = server.succeeded(&first).await["result"]["snapshot_id"].as_str().unwrap().to_owned();
    let whole = started.elapsed();
    server.kill().await;

    let repository = data.path().join("repositories").join(&project);
    let mut hit: BTreeMap<&str, u32> = BTreeMap::new();
    for moment in KILLS {
        cluster.execute(&database, CHANGE).await;
        let server = Process::start(data.path()).await;
        let before = Files::of(&repository);
        let job = server.post(&backups, json!({})).await;
        wait_for(moment, &before, &repository, whole).await;
        server.kill().await;
        let reached = Files::of(&repository).reached(&before);
        *hit.entry(reached).or_default() += 1;

        let server = Process::start(data.path()).await;
        let after = server.ended(&job).await;
        assert!(matches!(after["state"].as_str(), Some("interrupted" | "succeeded")), "{after}");
        let verified = server.post(&format!("/projects/{project}/verify"), json!({"mode": "full"})).await;
        let report = server.succeeded(&verified).await;
        assert_eq!(report["result"]["damaged"], json!([]), "killed with {reached}");
        let records =
            server.get(&format!("/snapshots/{first}/collections/public.ordered/records?limit=1")).await;
        assert_eq!(records["items"][0]["value"]["id"], "1");
        server.kill().await;
    }
    println!("killed with {hit:?}, a whole backup taking {whole:?}");
    assert!(hit.len() >= 4, "the kills hit {hit:?} only");

    let server = Process::start(data.path()).await;
    let last = server.post(&backups, json!({})).await;
    let last = server.succeeded(&last).await["result"]["snapshot_id"].as_str().unwrap().to_owned();
    for (snapshot, name) in [(&first, "first"), (&last, "last")] {
        let target = cluster.superuser_url(&format!("{database}_{name}"));
        let restored = restore(&server, snapshot, &target).await;
        assert_eq!(restored["result"]["proof"]["matches"], true, "the {name} snapshot: {restored}");
    }
}

/// The names of a repository's files, by folder; those being written begin with a dot.
struct Files(BTreeMap<&'static str, Vec<String>>);

impl Files {
    fn of(repository: &Path) -> Self {
        let names = |folder: PathBuf| -> Vec<String> {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
        };
        let folders = ["sessions", "packs", "index", "snapshots"];
        Self(folders.into_iter().map(|folder| (folder, names(repository.join(folder)))).collect())
    }

    fn written(&self, folder: &str) -> usize {
        self.0[folder].iter().filter(|name| !name.starts_with('.')).count()
    }

    fn writing(&self, folder: &str) -> usize {
        self.0[folder].len() - self.written(folder)
    }

    /// The furthest step a backup had come to.
    fn reached(&self, before: &Self) -> &'static str {
        let more = |folder: &str| self.written(folder) > before.written(folder);
        let half = |folder: &str| self.writing(folder) > before.writing(folder);
        if more("snapshots") {
            "its manifest written"
        } else if half("snapshots") {
            "its manifest half-written"
        } else if more("index") {
            "its index written"
        } else if half("index") {
            "its index half-written"
        } else if half("packs") {
            "a pack half-written"
        } else if more("packs") {
            "packs written"
        } else {
            "nothing stored yet"
        }
    }
}

/// Looks as often as it can; gives up when the backup must have ended.
async fn wait_for(moment: Moment, before: &Files, repository: &Path, whole: Duration) {
    let started = Instant::now();
    while started.elapsed() < 4 * whole {
        let come = match moment {
            Moment::Time(thousandths) => started.elapsed() >= whole * thousandths / 1000,
            Moment::Writing(folder) => Files::of(repository).writing(folder) > before.writing(folder),
            Moment::Written(folder) => Files::of(repository).written(folder) > before.written(folder),
        };
        if come {
            return;
        }
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
}

async fn restore(server: &Process, snapshot: &str, target: &str) -> Value {
    let plan =
        json!({"snapshot": snapshot, "scope": {"all": true}, "target": {"url": target, "mode": "new"}});
    let plan = server.post("/restores/plan", plan).await;
    server.succeeded(&plan).await;
    let id = plan["id"].as_str().unwrap();
    let planned = server.get(&format!("/restores/{id}")).await;
    let body = json!({"confirm": planned["confirm_phrase"], "url": target});
    let job = server.post(&format!("/restores/{id}/apply"), body).await;
    tokio::time::timeout(Duration::from_secs(120), server.succeeded(&job)).await.unwrap()
}
