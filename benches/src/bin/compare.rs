//! DBSnap beside `pg_dump` and `COPY`, in one run, on one private server.
//!
//! `cargo run --release -p benches --bin compare -- [rows] [dbsnap]` (default 2,000,000 rows; with
//! `dbsnap` the other tools are left out). Needs pgbench and zstd on PATH and a release build of
//! `dbsnap`, which it makes. Every figure is of this run; it
//! fails when the diff reads more than the changed leaves and their paths, shows a wrong value, or
//! a stated bound is broken.
#![allow(clippy::print_stdout, reason = "the table it prints is what it is for")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use benches::{Server, text};
use engine_testutils::bench::bench_table;
use engine_testutils::postgres::Cluster;
use serde_json::{Value, json};

/// Rows that are updated in each table between the two snapshots.
const UPDATES: u64 = 1000;
/// The server may not use more memory than this, however many rows there are.
const MOST_MEMORY_MIB: f64 = 300.0;
/// The second snapshot of the generated table may not add more than this.
const MOST_ADDED: u64 = 12_000_000;
/// Runs of each of the other tools, of which the median counts.
const RUNS: usize = 3;

#[tokio::main]
async fn main() {
    let rows: u64 = std::env::args().nth(1).map_or(2_000_000, |rows| rows.parse().expect("a number of rows"));
    let alone = std::env::args().nth(2).is_some_and(|word| word == "dbsnap");
    let program = build_server();
    let cluster = Cluster::start_with(&[("shared_buffers", "512MB"), ("max_wal_size", "4GB")]);
    println!("PostgreSQL {}, {rows} rows a table\n", cluster.version());
    println!("| table | tool | wall time | bytes |\n|---|---|---|---|");
    for table in ["generated", "pgbench_accounts"] {
        let database = format!("bench_{table}");
        fill(&cluster, &database, table, rows).await;
        let url = cluster.create_read_only_role(&database, &format!("{database}_reader")).await;
        if !alone {
            others(&url, table);
        }
        ours(&cluster, &program, &database, table, &url, rows).await;
    }
}

fn build_server() -> PathBuf {
    let built = Command::new(env!("CARGO")).args(["build", "--release", "--bin", "dbsnap"]).status();
    assert!(built.is_ok_and(|status| status.success()), "the server builds");
    let this = std::env::current_exe().expect("because this program runs from a file");
    this.with_file_name("dbsnap")
}

async fn fill(cluster: &Cluster, database: &str, table: &str, rows: u64) {
    cluster.create_database(database).await;
    if table == "generated" {
        let client = cluster.connect(database).await;
        bench_table(&client, table, rows).await.expect("because the table is made by plain SQL");
        return;
    }
    let scale = (rows / 100_000).max(1).to_string();
    let filled = Command::new(cluster.binaries().join("pgbench"))
        .args(["-i", "-q", "-s", &scale])
        .arg(cluster.superuser_url(database))
        .stderr(Stdio::null())
        .status();
    assert!(filled.is_ok_and(|status| status.success()), "pgbench fills its tables");
}

/// The other tools, taking turns.
fn others(url: &str, table: &str) {
    let copy = format!("psql -q '{url}' -c 'COPY {table} TO STDOUT'");
    let commands = [
        ("`COPY ... TO STDOUT`", copy),
        ("`pg_dump -Fc -Z0`", format!("pg_dump -Fc -Z0 '{url}'")),
        ("`pg_dump \\| zstd -3`", format!("pg_dump '{url}' | zstd -3 -q")),
    ];
    let mut times: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    let mut sizes: BTreeMap<&str, u64> = BTreeMap::new();
    for _ in 0..RUNS {
        for (name, command) in &commands {
            let started = Instant::now();
            let output = Command::new("bash")
                .args(["-c", &format!("set -o pipefail; {command} | wc -c")])
                .output()
                .expect("because bash runs everywhere this does");
            assert!(output.status.success(), "{name} failed");
            times.entry(name).or_default().push(started.elapsed());
            let bytes = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap_or_default();
            sizes.insert(name, bytes);
        }
    }
    for (name, _) in &commands {
        let mut runs = times.remove(name).unwrap_or_default();
        runs.sort();
        row(table, name, runs[runs.len() / 2], sizes[name]);
    }
}

fn row(table: &str, what: &str, time: Duration, bytes: u64) {
    println!("| {table} | {what} | {:.2} s | {:.1} MB |", time.as_secs_f64(), bytes as f64 / 1e6);
}

async fn ours(cluster: &Cluster, program: &Path, database: &str, table: &str, url: &str, rows: u64) {
    let server = Server::start(program).await;
    let project = text(&server.post("/projects", json!({"name": "bench"})).await, "id");
    let body = json!({"name": table, "url": url, "environment": "dev"});
    let added = server.post(&format!("/projects/{project}/databases"), body).await;
    let database_id = text(&added, "id");

    let (first, time) = snapshot(&server, &database_id).await;
    row(table, "dbsnap, first snapshot", time, server.stored_bytes());
    let expected = update(cluster, database, table, rows).await;
    let before = server.stored_bytes();
    let (second, time) = snapshot(&server, &database_id).await;
    let added = server.stored_bytes() - before;
    row(table, &format!("dbsnap, second, {UPDATES} rows changed"), time, added);

    let started = Instant::now();
    let diff = server.post("/diffs", json!({"from": first, "to": second})).await;
    let (_, time) = server.wait(&text(&diff, "job_id"), started).await;
    let id = text(&diff, "id");
    let summary = server.get(&format!("/diffs/{id}")).await;
    let objects = summary["objects_read"].as_u64().expect("the objects that the diff read");
    println!("| {table} | dbsnap, diff: {objects} objects read | {:.2} s | |", time.as_secs_f64());
    check_values(&server, &id, table, &expected).await;
    let memory = server.peak_memory_mib();
    println!("| {table} | dbsnap, peak memory | | {memory:.0} MiB |");

    // Per changed row: one leaf of either side, and less than one node of the two levels above.
    let most = expected.len() as u64 * 4 + 64;
    assert!(objects <= most, "{objects} objects were read for {} changed rows", expected.len());
    assert!(memory < MOST_MEMORY_MIB, "the server held {memory:.0} MiB");
    assert!(table != "generated" || rows > 2_000_000 || added < MOST_ADDED, "{added} bytes were added");
}

async fn snapshot(server: &Server, database: &str) -> (String, Duration) {
    let started = Instant::now();
    let job = server.post(&format!("/databases/{database}/backups"), json!({})).await;
    let (job, time) = server.wait(&text(&job, "job_id"), started).await;
    (text(&job["result"], "snapshot_id"), time)
}

/// Updates random rows; returns the new value of each by its key.
async fn update(cluster: &Cluster, database: &str, table: &str, rows: u64) -> BTreeMap<String, String> {
    let (key, column) = columns(table);
    let sql = format!(
        "UPDATE {table} SET {column} = {column} + 7 WHERE {key} IN \
         (SELECT DISTINCT 1 + (random() * {})::bigint FROM generate_series(1, {UPDATES})) \
         RETURNING {key}::text, {column}::text",
        rows - 2
    );
    let updated = cluster.query_text(database, &sql).await;
    updated
        .into_iter()
        .map(|row| {
            let mut cells = row.into_iter().flatten();
            (cells.next().unwrap_or_default(), cells.next().unwrap_or_default())
        })
        .collect()
}

fn columns(table: &str) -> (&'static str, &'static str) {
    if table == "generated" { ("id", "amount") } else { ("aid", "abalance") }
}

/// Every change shown is one that was made, with its new value, and none is missing.
async fn check_values(server: &Server, diff: &str, table: &str, expected: &BTreeMap<String, String>) {
    let (_, column) = columns(table);
    let mut shown = BTreeMap::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/diffs/{diff}/collections/public.{table}/changes?limit=1000{cursor}");
        let page = server.get(&path).await;
        for change in page["items"].as_array().into_iter().flatten() {
            assert_eq!(change["columns"], json!([column]), "only the updated column differs");
            shown.insert(text(change, "key"), change["new"][column].as_str().unwrap_or_default().to_owned());
        }
        match &page["next_cursor"] {
            Value::String(next) => cursor = format!("&cursor={next}"),
            _ => break,
        }
    }
    assert_eq!(shown, *expected, "the diff shows exactly what was updated");
}
