//! Reading a large MongoDB collection: snapshots beside a bare driver cursor that drops the
//! documents, on one private server, and the memory that `dbsnap` needs for it.
//!
//! `cargo run --release -p benches --bin scan -- [gigabytes] [runs]` (default 1, and 3 runs of which the
//! median counts). Fails when the process holds more memory than stated. A snapshot asks for one
//! document a few times, to find out what the server can do; SecantusDB reads the whole collection
//! for each, so that is a row of its own.
#![allow(clippy::print_stdout, reason = "the table it prints is what it is for")]

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use benches::text;
use bson::{RawDocumentBuf, rawdoc};
use engine_testutils::mongodb::{Scope, Server};
use futures::StreamExt;
use serde_json::json;

/// Documents made and inserted at a time.
const BATCH: u64 = 10_000;
/// The server may not use more memory than this, however large the collection is.
const MOST_MEMORY_MIB: f64 = 300.0;

#[tokio::main]
async fn main() {
    let number =
        |at, default| std::env::args().nth(at).map_or(default, |text| text.parse().expect("a number"));
    let (gigabytes, runs) = (number(1, 1), number(2, 3));
    let program = build_server();
    let mongo = Server::shared();
    // Connected while it is small: SecantusDB cannot tell of a large collection within a page's time.
    let mut filled = fill(mongo, (0, 0), 1).await;
    let url = mongo.create_read_only_user(Scope::Database("bench"), "bench_reader").await;
    let server = benches::Server::start(&program).await;
    let project = text(&server.post("/projects", json!({"name": "bench"})).await, "id");
    let body = json!({"name": "bench", "url": url, "environment": "dev"});
    let added = server.post(&format!("/projects/{project}/databases"), body).await;
    let database = text(&added, "id");

    filled = fill(mongo, filled, gigabytes * 1_000_000_000).await;
    let (documents, bytes) = filled;
    println!("{documents} documents, {:.2} GB of BSON, {:?}\n", bytes as f64 / 1e9, mongo.flavour());
    println!("| reader | wall time | documents/s | MB/s |\n|---|---|---|---|");

    let (mut bare, mut one) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        bare.push(cursor(mongo, documents).await);
        one.push(one_document(mongo).await);
    }
    row("a bare cursor, batches dropped", median(bare), documents, bytes);
    println!("| one document, `limit: 1` | {:.2} s | | |", median(one).as_secs_f64());

    let first = snapshot(&server, &database).await;
    row("dbsnap, first snapshot", first, documents, bytes);
    let stored = server.stored_bytes();
    let mut again = Vec::new();
    for _ in 0..runs {
        again.push(snapshot(&server, &database).await);
    }
    row("dbsnap, a snapshot of the same", median(again), documents, bytes);
    let memory = server.peak_memory_mib();
    let more = server.stored_bytes() - stored;
    println!("\nstored {:.2} GB, by each further snapshot {} bytes", stored as f64 / 1e9, more / runs);
    println!("peak memory of dbsnap {memory:.0} MiB");
    assert!(memory < MOST_MEMORY_MIB, "the server held {memory:.0} MiB");
}

fn build_server() -> PathBuf {
    let built = Command::new(env!("CARGO")).args(["build", "--release", "--bin", "dbsnap"]).status();
    assert!(built.is_ok_and(|status| status.success()), "the server builds");
    let this = std::env::current_exe().expect("because this program runs from a file");
    this.with_file_name("dbsnap")
}

/// Inserts documents behind those that are there until there are `bytes` of them; returns how many
/// and their exact size.
async fn fill(mongo: &Server, (mut documents, mut total): (u64, u64), bytes: u64) -> (u64, u64) {
    while total < bytes {
        let batch: Vec<RawDocumentBuf> = (documents..documents + BATCH).map(document).collect();
        total += batch.iter().map(|document| document.as_bytes().len() as u64).sum::<u64>();
        documents += BATCH;
        mongo.insert_raw("bench.events", &batch).await;
    }
    (documents, total)
}

/// About a kilobyte of what applications store: ids, times, names, a list, a text.
fn document(number: u64) -> RawDocumentBuf {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let words = ["order", "paid", "shipped", "returned", "customer", "warehouse", "invoice", "note"];
    let text: Vec<&str> = (0..90).map(|at| words[(mixed.rotate_left(at) % 8) as usize]).collect();
    let mut lines = bson::RawArrayBuf::new();
    for at in 0..4_u32 {
        let line = mixed.rotate_left(at * 7);
        lines.push(rawdoc! { "sku": format!("SKU-{:06}", line % 1_000_000), "qty": (line % 9) as i32, "price": (line % 10_000) as f64 / 100.0 });
    }
    rawdoc! {
        "_id": number as i64,
        "customer": format!("customer-{:x}", mixed >> 40),
        "at": bson::DateTime::from_millis(1_700_000_000_000 + number as i64 * 1_000),
        "status": words[(mixed % 4) as usize],
        "lines": lines,
        "text": text.join(" "),
    }
}

/// Reads the collection as fast as the driver hands out its batches.
async fn cursor(mongo: &Server, expected: u64) -> Duration {
    let collection = mongo.client().await.database("bench").collection::<RawDocumentBuf>("events");
    let started = Instant::now();
    let find = collection.find(bson::doc! {}).sort(bson::doc! { "_id": 1 }).batch_size(10_000);
    let mut batches = find.batch().await.expect("a cursor");
    let mut seen = 0;
    while let Some(batch) = batches.next().await {
        let batch = batch.expect("a batch");
        seen += batch.doc_slices().expect("documents").into_iter().count() as u64;
    }
    assert_eq!(seen, expected, "the cursor reads every document");
    started.elapsed()
}

/// Asks for the first document only.
async fn one_document(mongo: &Server) -> Duration {
    let collection = mongo.client().await.database("bench").collection::<RawDocumentBuf>("events");
    let started = Instant::now();
    let found = collection.find_one(bson::doc! {}).sort(bson::doc! { "_id": 1 }).await;
    assert!(found.expect("an answer").is_some(), "the collection has documents");
    started.elapsed()
}

async fn snapshot(server: &benches::Server, database: &str) -> Duration {
    let started = Instant::now();
    let job = server.post(&format!("/databases/{database}/backups"), json!({})).await;
    server.wait(&text(&job, "job_id"), started).await.1
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn row(reader: &str, time: Duration, documents: u64, bytes: u64) {
    let seconds = time.as_secs_f64();
    let (rate, megabytes) = (documents as f64 / seconds, bytes as f64 / 1e6 / seconds);
    println!("| {reader} | {seconds:.2} s | {rate:.0} | {megabytes:.0} |");
}
