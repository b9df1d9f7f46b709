//! The program on S3 and AWS KMS, as an operator runs it: by environment variables.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine_testutils::kms;
use engine_testutils::store::s3::{self, Fault};
use engine_testutils::store::{ACCESS_KEY_ID, SECRET_ACCESS_KEY, seaweedfs};
use reqwest::{Client, StatusCode};
use serde_json::json;

use crate::harness::{Api, PASSWORD, shop, text};
use crate::process::Program;

fn command(folder: &Path, storage: &str) -> Command {
    let mut command = Program::command(folder);
    command.env("DBSNAP_STORAGE", storage);
    command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID).env("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY);
    command
}

async fn registered(program: &Program) -> Api {
    let api = Api::new(&program.base);
    let body = json!({ "email": "ada@example.com", "password": PASSWORD });
    let tokens = api.post("/auth/register", body).await.expect(StatusCode::CREATED);
    api.with_token(&text(&tokens["access_token"]))
}

async fn is_ready(program: &Program) -> bool {
    Client::new().get(format!("{}/readyz", program.base)).send().await.unwrap().status().is_success()
}

/// Everything but the bucket and the key in KMS is lost, and the history is read.
#[tokio::test]
async fn the_program_runs_on_s3_and_kms_and_outlives_its_folder() {
    let (_, url) = shop().await;
    let storage = seaweedfs::Server::shared().fresh_url();
    let (key, endpoint) = (kms::Server::shared().create_key(), kms::Server::shared().endpoint());
    let start = |folder: &Path| {
        let mut command = command(folder, &storage);
        Program::spawn(command.env("DBSNAP_KMS_KEY_ID", &key).env("DBSNAP_KMS_ENDPOINT", &endpoint))
    };
    let folder = tempfile::tempdir().unwrap();
    let program = start(folder.path());
    assert!(is_ready(&program).await);
    let api = registered(&program).await;
    let project = api.project("shop").await;
    let database = api.database(&project, &url).await;
    let snapshot = api.back_up(&database).await;
    let keys = api.get(&format!("/projects/{project}/keys")).await.expect(StatusCode::OK);
    assert_eq!((&keys["items"][0]["kind"], &keys["items"][0]["kms_key_id"]), (&json!("kms"), &json!(key)));
    assert!(!folder.path().join("server.key").exists(), "the key is in KMS and in memory only");
    assert_eq!(program.terminate().0, Some(0));

    // Another server key takes the place of the one that KMS wraps.
    let wrapped = || std::fs::read(folder.path().join("server.key.kms")).unwrap();
    let before = wrapped();
    let mut rotate = command(folder.path(), &storage);
    rotate.env("DBSNAP_KMS_KEY_ID", &key).env("DBSNAP_KMS_ENDPOINT", &endpoint).arg("rotate-server-key");
    let rotated = rotate.output().unwrap();
    assert!(rotated.status.success(), "{rotated:?}");
    assert_ne!(wrapped(), before);

    // It starts again on its folder.
    let program = start(folder.path());
    let again = program.login().await;
    again.get(&format!("/snapshots/{snapshot}")).await.expect(StatusCode::OK);
    again.back_up(&database).await;
    assert_eq!(program.terminate().0, Some(0));
    drop(folder);

    let folder = tempfile::tempdir().unwrap();
    let program = start(folder.path());
    let api = registered(&program).await;
    assert_eq!(api.get("/storage").await.expect(StatusCode::OK)["unclaimed"], 1);
    api.post("/storage/open", json!({})).await.expect(StatusCode::OK);
    let records = api.get(&format!("/snapshots/{snapshot}")).await.expect(StatusCode::OK)["records"].clone();
    assert!(records.as_u64().unwrap() > 0);
    let body = json!({ "mode": "full" });
    let job = api.post(&format!("/projects/{project}/verify"), body).await.expect(StatusCode::ACCEPTED);
    let verified = api.ended(&text(&job["job_id"])).await;
    assert_eq!((&verified["state"], &verified["result"]["damaged"]), (&json!("succeeded"), &json!([])));
    drop(program);

    // Without KMS the wrapped key is of no use, and the message says what is missing.
    let refused = command(folder.path(), &storage).output().unwrap();
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(message.contains("set DBSNAP_KMS_KEY_ID"), "{message}");
}

#[tokio::test]
async fn a_storage_that_cannot_be_used_stops_the_start_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let storage = seaweedfs::Server::shared().fresh_url();
    let refused = |command: &mut Command| {
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let absent = storage.replace("s3://dbsnap/", "s3://no-such-bucket/");
    let message = refused(&mut command(folder.path(), &absent));
    assert!(message.contains("no such bucket") && message.contains("Make the bucket"), "{message}");
    let message = refused(command(folder.path(), &storage).env("AWS_SECRET_ACCESS_KEY", "wrong"));
    assert!(message.contains("credentials are refused") && message.contains("AWS_*"), "{message}");
}

/// Where the storage does not let go of the old key's slots, as where the program is killed before, they go at
/// the next start.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn slots_that_a_rotation_left_go_at_the_next_start() {
    let store = s3::Server::start().await;
    // For one server: this store does not keep racing writers apart.
    let storage = format!("{}&exclusive=true", store.url("x"));
    let folder = tempfile::tempdir().unwrap();
    let program = Program::spawn(&mut command(folder.path(), &storage));
    let api = registered(&program).await;
    let project = api.project("shop").await;
    assert_eq!(program.terminate().0, Some(0));

    store.fail(|seen| match seen.method == "DELETE" && seen.path.contains("/slots/") {
        true => Fault::Status(403),
        false => Fault::None,
    });
    std::fs::write(folder.path().join(".server-key-0123456789abcdef"), [1; 32]).unwrap();
    for left in 1..=2 {
        let rotated = command(folder.path(), &storage).arg("rotate-server-key").output().unwrap();
        let told = String::from_utf8(rotated.stdout).unwrap();
        assert!(rotated.status.success() && told.contains("repositories that it opens: 1"), "{told}");
        assert!(told.contains(&format!("could not be removed: {left}; the next start")), "{told}");
    }
    assert!(!folder.path().join(".server-key-0123456789abcdef").exists());
    store.heal();

    let program = Program::spawn(&mut command(folder.path(), &storage));
    let keys = program.login().await.get(&format!("/projects/{project}/keys")).await.expect(StatusCode::OK);
    assert_eq!(keys["items"].as_array().unwrap().len(), 1, "{keys:#}");
    assert_eq!(keys["items"][0]["usable"], true);
}

/// A storage that answers nothing keeps no worker from the jobs behind one that was cancelled.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_job_ends_when_it_is_cancelled_while_the_storage_hangs() {
    let (_, url) = shop().await;
    let store = s3::Server::start().await;
    let storage = format!("{}&exclusive=true", store.url("x"));
    let folder = tempfile::tempdir().unwrap();
    let program = Program::spawn(&mut command(folder.path(), &storage));
    let api = registered(&program).await;
    let database = api.database(&api.project("shop").await, &url).await;

    store.fail(|_| Fault::Slow(Duration::from_secs(3600)));
    let job = api.start_backup(&database).await;
    api.job_when(&job, |job| job["state"] == "running").await;
    api.post(&format!("/jobs/{job}/cancel"), json!({})).await.expect(StatusCode::ACCEPTED);
    assert_eq!(api.ended(&job).await["state"], "cancelled");
    store.heal();
    api.back_up(&database).await;
}

/// A way to KMS that can be closed.
struct Gate {
    port: u16,
    is_open: Arc<AtomicBool>,
    through: Arc<Mutex<Vec<TcpStream>>>,
}

impl Gate {
    fn before(endpoint: &str) -> Self {
        let behind = endpoint.strip_prefix("http://").unwrap().trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (is_open, through) = (Arc::new(AtomicBool::new(true)), Arc::<Mutex<Vec<TcpStream>>>::default());
        let gate = Self { port, is_open: Arc::clone(&is_open), through: Arc::clone(&through) };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if !is_open.load(Ordering::SeqCst) {
                    continue;
                }
                let server = TcpStream::connect(&behind).unwrap();
                through.lock().unwrap().push(client.try_clone().unwrap());
                pass(client.try_clone().unwrap(), server.try_clone().unwrap());
                pass(server, client);
            }
        });
        gate
    }

    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn close(&self) {
        self.is_open.store(false, Ordering::SeqCst);
        for stream in self.through.lock().unwrap().drain(..) {
            // It may have ended by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn open(&self) {
        self.is_open.store(true, Ordering::SeqCst);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    std::thread::spawn(move || {
        // Either end may go first, or be shut.
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
}

/// A slot of KMS that cannot be tried is not lost; one that is gone is made anew once KMS is there.
#[tokio::test]
async fn a_slot_of_kms_is_made_anew_when_it_is_lost_and_not_when_kms_is_away() {
    let key = kms::Server::shared().create_key();
    let gate = Gate::before(&kms::Server::shared().endpoint());
    let folder = tempfile::tempdir().unwrap();
    let repositories = folder.path().join("repositories");
    let start = || {
        let mut command = command(folder.path(), &format!("fs://{}", repositories.display()));
        command.env("DBSNAP_KMS_KEY_ID", &key).env("DBSNAP_KMS_ENDPOINT", gate.endpoint());
        Program::spawn(&mut command)
    };
    let program = start();
    let api = registered(&program).await;
    let project = api.project("shop").await;
    let slots = repositories.join(&project).join("slots");
    let names = || std::fs::read_dir(&slots).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let verified = async || {
        let body = json!({ "mode": "structure" });
        let job = api.post(&format!("/projects/{project}/verify"), body).await.expect(StatusCode::ACCEPTED);
        let job = api.ended(&text(&job["job_id"])).await;
        assert_eq!(job["state"], "succeeded", "{job:#}");
        let damaged = job["result"]["damaged"].as_array().unwrap().clone();
        damaged.iter().map(|damage| text(&damage["reason"])).collect::<Vec<String>>()
    };
    let first = names();
    assert_eq!((first.len(), verified().await), (1, Vec::new()));

    gate.close();
    assert_eq!((verified().await, names()), (Vec::new(), first.clone()));
    std::fs::remove_file(&first[0]).unwrap();
    let told = verified().await;
    assert!(told.len() == 1 && told[0].contains("none could be made: AWS KMS failed"), "{told:?}");
    assert!(names().is_empty());

    gate.open();
    assert_eq!(verified().await, ["no key slot opened with this server's key; one was made anew"]);
    assert_eq!((verified().await, names().len()), (Vec::new(), 1));
    assert_eq!(program.terminate().0, Some(0));
    let program = start();
    let keys = program.login().await.get(&format!("/projects/{project}/keys")).await.expect(StatusCode::OK);
    assert_eq!((&keys["items"][0]["kind"], &keys["items"][0]["usable"]), (&json!("kms"), &json!(true)));
}
