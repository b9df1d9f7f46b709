//! A data folder whose disk runs full while the server works, and gets room again.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::clock::Clock;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use server::app::App;
use server::config::Config;
use server::ids::ProjectId;
use server::meta::JobState;
use server::service::schedules::queue_due;

use crate::harness::{Answer, Api, Server, shop, text};
use crate::queue::locked;
use crate::schedules::{Month, Set, ms};

/// A file system of a few MiB. Only root can mount one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", size, "tmpfs"]).arg(folder.path());
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        mounted.then(|| Self(folder))
    }

    fn filler(&self) -> PathBuf {
        self.0.path().join("filler")
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut filler = File::create(self.filler()).unwrap();
        while filler.write_all(&[7; 512]).is_ok() {}
    }

    fn make_room(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }

    fn take_no_more_writes(&self) {
        let mut remount = Command::new("mount");
        let done = remount.args(["-o", "remount,ro"]).arg(self.0.path()).status().unwrap();
        assert!(done.success());
    }

    fn folder(&self) -> tempfile::TempDir {
        tempfile::tempdir_in(self.0.path()).unwrap()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The server may have it open still.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

async fn ready(server: &Server) -> Answer {
    Answer::of(reqwest::Client::new().get(format!("{}/readyz", server.base))).await
}

async fn rename(api: &Api, database: &str, name: &str) -> Answer {
    api.send(Method::PATCH, &format!("/databases/{database}"), json!({ "name": name })).await
}

fn storage(folder: &Path) -> String {
    format!("fs://{}", folder.display())
}

#[tokio::test]
async fn a_full_disk_is_told_by_readyz_and_the_server_goes_on_once_there_is_room() {
    let Some(disk) = SmallDisk::mount("size=12m") else {
        println!("not run: a file system of a few MiB can be mounted by root only");
        return;
    };
    let (name, url) = shop().await;
    let kept = tempfile::tempdir().unwrap();
    let variables = [("DBSNAP_SIGNUP", "open"), ("DBSNAP_STORAGE", &*storage(kept.path()))];
    let server = Server::start_in(disk.folder(), &variables).await;
    let api = server.user("ada@example.com").await;
    let database = api.database(&api.project("shop").await, &url).await;
    api.back_up(&database).await;
    assert_eq!(ready(&server).await.status, StatusCode::OK);

    // One backup is running as the disk fills.
    let lock = locked(&name).await;
    let running = api.start_backup(&database).await;
    api.job_when(&running, |job| job["state"] == "running").await;
    disk.fill();
    // It says so before anything failed, once it looks again.
    let begun = Instant::now();
    while ready(&server).await.status == StatusCode::OK {
        assert!(begun.elapsed() < Duration::from_secs(60), "a full disk is ready");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let mut acknowledged = "shop".to_owned();
    let mut last = String::new();
    let refused = loop {
        last = format!("{} {}", "x".repeat(80), last.len());
        let answer = rename(&api, &database, &last).await;
        if answer.status != StatusCode::OK {
            break answer;
        }
        acknowledged.clone_from(&last);
    };
    refused.problem(503, "metadata");
    assert_eq!(ready(&server).await.problem(503, "not-ready")["failed"], "metadata");
    let health = reqwest::get(format!("{}/healthz", server.base)).await.unwrap();
    assert_eq!(health.status(), StatusCode::OK);
    // What is there can be looked at meanwhile, also by whoever watches.
    let metrics = async || {
        let answer = reqwest::get(format!("{}/metrics", server.base)).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        answer.text().await.unwrap()
    };
    let full = metrics().await;
    assert!(full.contains("dbsnap_metadata_writable 0\n"), "{full}");
    assert!(full.contains(&format!("dbsnap_never_succeeded{{database=\"{database}\"}} 0")), "{full}");
    let found = api.get(&format!("/databases/{database}")).await.expect(StatusCode::OK);
    assert_eq!(found["name"], acknowledged.as_str());
    let snapshots = api.get(&format!("/databases/{database}/snapshots")).await.expect(StatusCode::OK);
    assert_eq!(snapshots["items"].as_array().unwrap().len(), 1);
    // The backup comes to its end, which cannot be written yet.
    lock.batch_execute("ROLLBACK").await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;

    disk.make_room();
    let begun = Instant::now();
    while ready(&server).await.status != StatusCode::OK {
        assert!(begun.elapsed() < Duration::from_secs(60), "it is not ready again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(metrics().await.contains("dbsnap_metadata_writable 1\n"));
    // What was acknowledged is there; what failed is there whole, or not at all.
    let found = api.get(&format!("/databases/{database}")).await.expect(StatusCode::OK);
    assert!([acknowledged, last].contains(&text(&found["name"])), "{found:#}");
    let verified = api.get("/audit/verify").await.expect(StatusCode::OK);
    assert_eq!((&verified["ok"], &verified["broken_at"]), (&json!(true), &Value::Null));
    let ended = api.ended(&running).await;
    assert!(["succeeded", "failed"].contains(&&*text(&ended["state"])), "{ended:#}");
    // And so does everything go on: the lane of that backup is free, caches and scratch files work.
    rename(&api, &database, "shop").await.expect(StatusCode::OK);
    api.back_up(&database).await;
    assert_eq!(ready(&server).await.status, StatusCode::OK);
}

/// A copy, or a disk in trouble: what is there can be looked at, also by a server that starts on it.
#[tokio::test]
async fn a_server_starts_on_a_storage_that_takes_no_writes() {
    let Some(disk) = SmallDisk::mount("size=64m") else {
        println!("not run: a file system of a few MiB can be mounted by root only");
        return;
    };
    let (_, url) = shop().await;
    let variables = [("DBSNAP_SIGNUP", "open"), ("DBSNAP_STORAGE", &*storage(&disk.0.path().join("kept")))];
    let server = Server::start_with(&variables).await;
    let (api, _, database) = server.connected(&url).await;
    let snapshot = api.back_up(&database).await;
    let data = server.stop().await;

    disk.take_no_more_writes();
    let server = Server::start_in(data, &variables).await;
    let api = Api { base: server.base.clone(), ..api };
    let records = format!("/snapshots/{snapshot}/collections/public.customers/records");
    let records = api.get(&records).await.expect(StatusCode::OK);
    assert!(!records["items"].as_array().unwrap().is_empty());
    let pin = api.send(Method::PATCH, &format!("/snapshots/{snapshot}"), json!({ "pinned": true })).await;
    pin.problem(503, "storage");
    assert_eq!(ready(&server).await.problem(503, "not-ready")["failed"], "storage");
    // Who has nothing in it yet cannot begin.
    let empty = tempfile::tempdir().unwrap();
    let config = Config::read(|name| match name {
        "DBSNAP_DATA_DIR" => Some(empty.path().into()),
        _ => variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).into()),
    });
    let refused = App::open(config.unwrap()).await.err().unwrap().to_string();
    assert!(refused.contains("Read-only file system") && refused.contains("right to write"), "{refused}");
    assert_eq!(refused.matches("Read-only file system").count(), 1, "{refused}");
}

#[tokio::test]
async fn a_full_storage_is_told_by_readyz() {
    let Some(disk) = SmallDisk::mount("size=2m") else {
        println!("not run: a file system of a few MiB can be mounted by root only");
        return;
    };
    let kept = disk.folder();
    let variables = [("DBSNAP_SIGNUP", "open"), ("DBSNAP_STORAGE", &*storage(kept.path()))];
    let server = Server::start_with(&variables).await;
    server.user("ada@example.com").await.project("shop").await;
    assert_eq!(ready(&server).await.status, StatusCode::OK);
    disk.fill();
    // An empty file can be made there still.
    File::create(kept.path().join("empty")).unwrap();
    let told = ready(&server).await.problem(503, "not-ready");
    assert_eq!(told["failed"], "storage");
    assert!(text(&told["detail"]).contains("The disk is full"), "{told:#}");
    let names = std::fs::read_dir(kept.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let is_tried = |name: &std::ffi::OsString| name.to_string_lossy().starts_with(".new-");
    assert!(!names.collect::<Vec<_>>().iter().any(is_tried), "what was tried is gone");
    // Whoever deletes a project makes room, and needs a server for it.
    let server = Server::start_in(server.stop().await, &variables).await;
    assert_eq!(ready(&server).await.problem(503, "not-ready")["failed"], "storage");
    disk.make_room();
    assert_eq!(ready(&server).await.status, StatusCode::OK);
}

/// A run that is due while the disk is full is caught up once there is room, and why it was missed is told.
#[tokio::test]
async fn a_run_that_a_full_disk_kept_from_beginning_says_so() {
    let Some(disk) = SmallDisk::mount("size=12m") else {
        println!("not run: a file system of a few MiB can be mounted by root only");
        return;
    };
    let (_, url) = shop().await;
    let kept = tempfile::tempdir().unwrap();
    let variables = [("DBSNAP_SIGNUP", "open"), ("DBSNAP_STORAGE", &*storage(kept.path()))];
    let clock = Set::at("2026-05-01T02:55:00Z");
    let server = Server::start_at(disk.folder(), &variables, Arc::clone(&clock) as Arc<dyn Clock>).await;
    let (api, project, database) = server.connected(&url).await;
    let schedule = format!("/databases/{database}/schedule");
    let body = json!({ "frequency": "daily", "time": "03:00", "timezone": "UTC" });
    api.send(Method::PUT, &schedule, body).await.expect(StatusCode::OK);
    queue_due(&server.app).await.unwrap();

    disk.fill();
    let mut renamed = 0;
    while rename(&api, &database, &format!("{} {renamed}", "x".repeat(80))).await.status == StatusCode::OK {
        renamed += 1;
    }
    for (minutes, at) in [(5, "2026-05-01T03:00:00Z"), (20, "2026-05-01T03:20:00Z")] {
        clock.pass(minutes * 60 * 1000);
        clock.set(ms(at));
        assert!(queue_due(&server.app).await.is_err(), "there was room at {at}");
    }
    disk.make_room();
    let begun = Instant::now();
    while ready(&server).await.status != StatusCode::OK {
        assert!(begun.elapsed() < Duration::from_secs(60), "it is not ready again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let project = ProjectId::parse(&project).unwrap();
    let month = Month { clock, server: Some(server), project };
    month.look(ms("2026-05-01T03:20:00Z")).await;
    let due = "2026-05-01T03:00:00.000Z";
    assert_eq!(month.runs(&database).await, [(due.to_owned(), JobState::Succeeded)]);
    let told = month.signed_in().await.get(&schedule).await.expect(StatusCode::OK);
    let reason = "The server could not note down that the backup begins: its data folder took no writes.";
    assert_eq!((&told["last_missed"], &told["missed_reason"]), (&json!(due), &json!(reason)));
}

/// What is made at a first start is there whole or not at all.
#[tokio::test]
async fn a_first_start_on_a_full_disk_leaves_nothing_in_the_way_of_the_next() {
    let Some(disk) = SmallDisk::mount("size=8m") else {
        println!("not run: a file system of a few MiB can be mounted by root only");
        return;
    };
    let folder = disk.folder();
    // Of a program that was killed.
    std::fs::write(folder.path().join(".meta-abcdef"), [1; 32]).unwrap();
    disk.fill();
    let config = Config::read(|name| (name == "DBSNAP_DATA_DIR").then(|| folder.path().into()));
    let refused = App::open(config.unwrap()).await.err().unwrap().to_string();
    assert!(refused.contains("meta.redb cannot be opened") && refused.contains("has room"), "{refused}");
    assert!(!folder.path().join("meta.redb").exists());
    disk.make_room();
    let server = Server::start_in(folder, &[("DBSNAP_SIGNUP", "open")]).await;
    server.user("ada@example.com").await;
    assert!(!server.folder.path().join(".meta-abcdef").exists());
}
