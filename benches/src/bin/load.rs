//! How pages feel while the server works: 50 signed-in browsers look around, first with nothing
//! else to do, then beside four backups at once.
//!
//! `cargo build --release --bin dbsnap`, then
//! `cargo run --release -p benches --bin load -- target/release/dbsnap [seconds]`. It fails when an
//! answer is not a page, or a backup does not succeed.
#![allow(clippy::print_stdout, reason = "the table it prints is what it is for")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use benches::{EMAIL, PASSWORD, Server, text};
use engine_testutils::postgres::Cluster;
use futures::future::join_all;
use serde_json::json;

const SESSIONS: usize = 50;
const DATABASES: usize = 4;
/// Rows of each database; a backup of them lasts for seconds.
const ROWS: u32 = 500_000;
/// What somebody takes to look at a page.
const PAUSE: Duration = Duration::from_millis(200);

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let program = arguments.next().expect("name the dbsnap binary");
    let seconds = arguments.next().map_or(20, |text| text.parse().expect("a number of seconds"));
    let server = Server::start_with(Path::new(&program), &[("DBSNAP_WORKERS", "4")]).await;
    let project = text(&server.post("/projects", json!({"name": "load"})).await, "id");
    let mut databases = Vec::new();
    for number in 0..DATABASES {
        databases.push(connect(&server, &project, number).await);
    }
    let snapshot = back_up(&server, &databases[0]).await;
    let pages: Arc<[String]> = [
        "/projects".to_owned(),
        format!("/projects/{project}"),
        format!("/databases/{}", databases[0]),
        format!("/snapshots/{snapshot}"),
        format!("/snapshots/{snapshot}/collections/public.load"),
        "/restores".to_owned(),
    ]
    .into();
    let mut browsers = Vec::new();
    for _ in 0..SESSIONS {
        browsers.push(sign_in(&server).await);
    }

    println!("| beside | pages | median | 95 % | 99 % | longest | backups |");
    println!("|---|---|---|---|---|---|---|");
    look_around("nothing", &server, &browsers, &pages, &[], seconds).await;
    look_around("4 backups at once", &server, &browsers, &pages, &databases, seconds).await;
}

async fn connect(server: &Server, project: &str, number: usize) -> String {
    let cluster = Cluster::shared();
    let name = cluster.fresh_database(&format!("load{number}")).await;
    let sql = format!(
        "CREATE TABLE load (id int PRIMARY KEY, body text);
         INSERT INTO load SELECT n, md5(n::text) || md5((n * 7)::text) FROM generate_series(1, {ROWS}) n;"
    );
    cluster.execute(&name, &sql).await;
    let url = cluster.create_read_only_role(&name, &format!("{name}_reader")).await;
    let body = json!({"name": name, "url": url, "environment": "dev"});
    text(&server.post(&format!("/projects/{project}/databases"), body).await, "id")
}

async fn back_up(server: &Server, database: &str) -> String {
    let started = server.post(&format!("/databases/{database}/backups"), json!({})).await;
    let path = format!("/jobs/{}", text(&started, "job_id"));
    loop {
        let job = server.get(&path).await;
        match job["state"].as_str() {
            Some("queued" | "running") => tokio::time::sleep(Duration::from_millis(100)).await,
            Some("succeeded") => return text(&job["result"], "snapshot_id"),
            _ => panic!("a backup ended as {job}"),
        }
    }
}

/// A browser with the cookies of a session of its own.
async fn sign_in(server: &Server) -> reqwest::Client {
    let browser = reqwest::Client::builder().cookie_store(true).build().expect("because it needs no more");
    let form = [("email", EMAIL), ("password", PASSWORD)];
    let answer = browser.post(format!("{}/login", server.base())).form(&form).send().await;
    assert!(answer.expect("because the server is running").status().is_success(), "a sign-in failed");
    browser
}

/// Lets every browser open page after page for a time, while backups of `databases` follow each
/// other, and prints how long the pages took.
async fn look_around(
    beside: &str,
    server: &Server,
    browsers: &[reqwest::Client],
    pages: &Arc<[String]>,
    databases: &[String],
    seconds: u64,
) {
    let is_over = Arc::new(AtomicBool::new(false));
    let backups = join_all(databases.iter().map(async |database| {
        let mut taken = 0_usize;
        while !is_over.load(Ordering::Relaxed) {
            back_up(server, database).await;
            taken += 1;
        }
        taken
    }));
    let until = Instant::now() + Duration::from_secs(seconds);
    let looking = browsers.iter().enumerate().map(|(number, browser)| {
        let (browser, pages, base) = (browser.clone(), Arc::clone(pages), server.base().to_owned());
        tokio::spawn(async move { open_pages(&browser, &base, &pages, number, until).await })
    });
    let looking = async {
        let took = join_all(looking).await;
        is_over.store(true, Ordering::Relaxed);
        took
    };
    let (took, backups) = tokio::join!(looking, backups);
    let mut took: Vec<Duration> =
        took.into_iter().flat_map(|took| took.expect("because no page failed")).collect();
    took.sort_unstable();
    let at = |share: usize| took[(took.len() * share / 100).min(took.len() - 1)].as_secs_f64() * 1000.0;
    println!(
        "| {beside} | {} | {:.1} ms | {:.1} ms | {:.1} ms | {:.1} ms | {} |",
        took.len(),
        at(50),
        at(95),
        at(99),
        at(100),
        backups.iter().sum::<usize>()
    );
}

async fn open_pages(
    browser: &reqwest::Client,
    base: &str,
    pages: &[String],
    first: usize,
    until: Instant,
) -> Vec<Duration> {
    let mut took = Vec::new();
    for page in pages.iter().cycle().skip(first % pages.len()) {
        if Instant::now() >= until {
            break;
        }
        let started = Instant::now();
        let answer =
            browser.get(format!("{base}{page}")).send().await.expect("because the server is running");
        assert!(answer.status().is_success() && answer.url().path() == page, "{page} is {}", answer.url());
        answer.text().await.expect("because the page comes whole");
        took.push(started.elapsed());
        tokio::time::sleep(PAUSE).await;
    }
    took
}
