//! The ephemeral cluster starts fast, keeps to itself and leaves nothing behind.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use engine_testutils::postgres::Cluster;

fn is_alive(pid: &str) -> bool {
    // A zombie has ended: it only waits for whoever collects it.
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "still not: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test]
async fn a_cluster_takes_sql_and_stopping_it_leaves_nothing() {
    let mut cluster = Cluster::start();
    let database = cluster.fresh_database("a b\"c").await;
    cluster
        .execute(&database, "CREATE TABLE t (a int, b text); INSERT INTO t VALUES (1, NULL), (2, 'x')")
        .await;
    let rows = cluster.query_text(&database, "SELECT a, b FROM t ORDER BY a").await;
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(rows, [vec![text("1"), None], vec![text("2"), text("x")]]);
    let (pid, folder) = (cluster.pid().to_string(), cluster.folder().to_owned());
    assert!(is_alive(&pid) && folder.is_dir());
    cluster.stop();
    assert!(!is_alive(&pid) && !folder.exists());
}

#[tokio::test]
async fn clusters_are_apart() {
    let one = Cluster::start();
    let two = Cluster::start_with(&[("work_mem", "7MB")]);
    assert_ne!(one.port(), two.port());
    one.create_database("only_here").await;
    let names =
        two.query_text("postgres", "SELECT datname FROM pg_database WHERE datname = 'only_here'").await;
    assert!(names.is_empty());
    assert_eq!(two.query_one("postgres", "SHOW work_mem").await, "7MB");
    assert_eq!(two.query_one("postgres", "SHOW max_connections").await, "200");
}

#[tokio::test]
async fn a_wrong_password_is_refused() {
    let cluster = Cluster::shared();
    let url = cluster.url(engine_testutils::postgres::SUPERUSER, "wrong", "postgres");
    let error = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.err().unwrap();
    assert_eq!(error.code(), Some(&tokio_postgres::error::SqlState::INVALID_PASSWORD));
}

#[tokio::test]
async fn the_read_only_role_reads_and_does_not_write() {
    let cluster = Cluster::shared();
    let database = cluster.fresh_database("readers").await;
    let url = cluster.create_read_only_role(&database, &format!("{database} reader")).await;
    cluster.execute(&database, "CREATE TABLE later (id serial); INSERT INTO later DEFAULT VALUES").await;
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(client.query("SELECT id FROM later", &[]).await.unwrap().len(), 1);
    assert_eq!(client.query("SELECT last_value FROM later_id_seq", &[]).await.unwrap().len(), 1);
    for denied in [
        "INSERT INTO later DEFAULT VALUES",
        "CREATE TABLE public.mine ()",
        "CREATE TEMP TABLE mine ()",
        "CREATE SCHEMA mine",
    ] {
        let error = client.batch_execute(denied).await.unwrap_err();
        assert_eq!(error.code(), Some(&tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE), "{denied}");
    }
}

/// The child of the test below, run as a process of its own so that it can be killed.
#[test]
#[ignore = "run by a_killed_process_takes_its_cluster_along"]
fn hold_a_cluster_until_killed() {
    let cluster = Cluster::shared();
    println!("CLUSTER {} {}", cluster.pid(), cluster.folder().display());
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_killed_process_takes_its_cluster_along() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "hold_a_cluster_until_killed", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // The test harness prints the test's name on the same line first.
    let line = lines.map_while(Result::ok).find(|line| line.contains("CLUSTER ")).unwrap();
    let (pid, folder) = line.split_once("CLUSTER ").unwrap().1.split_once(' ').unwrap();
    assert!(is_alive(pid) && Path::new(folder).is_dir());
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("the server is gone", || !is_alive(pid));
    wait_until("the folder is gone", || !Path::new(folder).exists());
}

#[test]
fn clusters_of_many_threads_do_not_collide() {
    let ports: Vec<u16> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(Cluster::start)).collect();
        let clusters: Vec<Cluster> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        clusters.iter().map(Cluster::port).collect()
    });
    let distinct: std::collections::BTreeSet<u16> = ports.iter().copied().collect();
    assert_eq!(distinct.len(), ports.len());
}
