//! Passwords are planted and looked for, in every form they could take, in everything the server
//! leaves: its data folder, its log, its answers and pages, the arguments of its children.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use engine_testutils::postgres::Cluster;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Answer, Api, Browser, PASSWORD, files, shop, text};
use crate::process::Program;

/// What a secret looks like, as it is and encoded.
fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned(), utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string()];
    forms.push(url::form_urlencoded::byte_serialize(secret.as_bytes()).collect());
    forms.push(serde_json::to_string(secret).unwrap().trim_matches('"').to_owned());
    // Base64 of a longer text holds one of three spellings, by where the secret begins in it. The
    // letters at its ends depend on the neighbours.
    for before in 0..3 {
        let padded = format!("{}{secret}", "x".repeat(before));
        for encoded in [STANDARD.encode(&padded), URL_SAFE.encode(&padded)] {
            let begin = (before * 8).div_ceil(6);
            let end = padded.len() * 8 / 6;
            forms.push(encoded[begin..end].to_owned());
        }
    }
    forms
}

/// The arguments of every process below `parent`, looked at all the time.
struct Children {
    seen: Arc<Mutex<BTreeSet<String>>>,
    done: Arc<AtomicBool>,
}

impl Children {
    fn of(parent: u32) -> Self {
        let (seen, done) = (Arc::new(Mutex::new(BTreeSet::new())), Arc::new(AtomicBool::new(false)));
        let (found, ended) = (Arc::clone(&seen), Arc::clone(&done));
        std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                for entry in std::fs::read_dir("/proc").unwrap().flatten() {
                    let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
                    // The name in parentheses may hold anything; the parent is the second field behind it.
                    let behind = stat.rsplit(") ").next().unwrap_or_default();
                    if behind.split(' ').nth(1) != Some(&parent.to_string()) {
                        continue;
                    }
                    let arguments = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
                    found.lock().unwrap().insert(String::from_utf8_lossy(&arguments).replace('\0', " "));
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Self { seen, done }
    }
}

/// Answers that were looked at.
#[derive(Default)]
struct Answers(Vec<(String, String)>);

impl Answers {
    async fn api(&mut self, api: &Api, method: Method, path: &str, body: Value) -> Answer {
        let answer = api.send(method, path, body).await;
        self.0.push((path.to_owned(), format!("{:?}{}", answer.headers, answer.text)));
        answer
    }

    async fn page(&mut self, browser: &Browser, method: Method, path: &str, form: &[(&str, String)]) {
        let answer = browser.send(method, path, form).await;
        self.0.push((path.to_owned(), format!("{:?}{}", answer.headers, answer.text)));
    }
}

#[tokio::test]
async fn a_planted_password_is_found_nowhere() {
    let (name, _) = shop().await;
    let cluster = Cluster::shared();
    let (reading, writing) = ("Pl4nted/rd+%&=\"ö ürgh", "Pl4nted/wr+%&=\"ö ürgh");
    let wrong = "Pl4nted/no+%&=\"ö ürgh";
    let (reader, writer) = (format!("{name}_planted"), format!("{name}_writer"));
    let grants = format!(
        "CREATE ROLE {reader} LOGIN PASSWORD '{reading}';
         GRANT SELECT ON ALL TABLES IN SCHEMA public TO {reader};
         GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO {reader};
         CREATE ROLE {writer} LOGIN SUPERUSER PASSWORD '{writing}';"
    );
    cluster.execute(&name, &grants).await;
    let good = cluster.url(&reader, reading, &name);
    let bad = cluster.url(&reader, wrong, &name);
    let target = cluster.url(&writer, writing, &format!("{name}_copy"));

    let folder = tempfile::tempdir().unwrap();
    let log = tempfile::NamedTempFile::new().unwrap();
    let program = Program::spawn(
        Program::command(folder.path()).env("DBSNAP_LOG", "trace").stderr(log.reopen().unwrap()),
    );
    let children = Children::of(program.pid());
    let account = json!({ "email": "ada@example.com", "password": PASSWORD });
    let api = Api::new(&program.base);
    let tokens = api.post("/auth/register", account).await.expect(StatusCode::CREATED);
    let api = api.with_token(&text(&tokens["access_token"]));
    let browser = Browser::signed_in(&program.base, "ada@example.com", PASSWORD).await;
    let project = api.project("shop").await;
    let mut all = Answers::default();

    // Refused first, then connected, backed up, and restored with another password.
    let databases = format!("/projects/{project}/databases");
    let test = format!("/projects/{project}/connection-test");
    let new = |url: &str| json!({ "name": "shop", "url": url, "environment": "prod" });
    for url in [&bad, &target, &format!("{bad}?sslmode=nonsense"), &bad.replace("postgres", "ftp")] {
        all.api(&api, Method::POST, &databases, new(url)).await;
        all.api(&api, Method::POST, &test, json!({ "url": url })).await;
        let form = [("url", url.clone()), ("name", "shop".to_owned()), ("environment", "prod".to_owned())];
        let connect = |action: &str| [&form[..], &[("action", action.to_owned())]].concat();
        for action in ["connect", "test"] {
            all.page(&browser, Method::POST, &format!("/projects/{project}/connect"), &connect(action)).await;
        }
    }
    let misplaced = json!({ "name": { "url": good }, "url": good, "environment": good });
    all.api(&api, Method::POST, &databases, misplaced).await;
    let connected = all.api(&api, Method::POST, &databases, new(&good)).await.expect(StatusCode::CREATED);
    let database = format!("/databases/{}", text(&connected["id"]));
    all.api(&api, Method::PATCH, &database, json!({ "url": bad })).await.problem(422, "unreachable");
    all.api(&api, Method::PATCH, &database, json!({ "url": good })).await.expect(StatusCode::OK);
    let job = all.api(&api, Method::POST, &format!("{database}/backups"), json!({})).await;
    let job = text(&job.expect(StatusCode::ACCEPTED)["job_id"]);
    let snapshot = text(&api.ended(&job).await["result"]["snapshot_id"]);
    let live = json!({ "from": snapshot, "live": connected["id"] });
    let compared = all.api(&api, Method::POST, "/diffs", live.clone()).await.expect(StatusCode::ACCEPTED);
    let compared_job = text(&compared["job_id"]);
    assert_eq!(api.ended(&compared_job).await["state"], "succeeded");
    let plan = json!({ "snapshot": snapshot, "scope": { "all": true }, "target": { "url": target } });
    let planned = all.api(&api, Method::POST, "/restores/plan", plan).await.expect(StatusCode::ACCEPTED);
    api.ended(&text(&planned["job_id"])).await;
    let restore = format!("/restores/{}", text(&planned["id"]));
    let phrase = api.get(&restore).await.body["confirm_phrase"].clone();
    let apply = json!({ "confirm": phrase, "url": target });
    let applied = all.api(&api, Method::POST, &format!("{restore}/apply"), apply).await;
    let applied = text(&applied.expect(StatusCode::ACCEPTED)["job_id"]);
    let ended = api.ended(&applied).await;
    assert!(ended["result"]["proof"]["matches"] == true, "{ended:#}");
    // A backup that fails for its password keeps a record, too.
    cluster.execute(&name, &format!("ALTER ROLE {reader} PASSWORD 'another'")).await;
    let failed = api.start_backup(&text(&connected["id"])).await;
    assert_eq!(api.ended(&failed).await["state"], "failed");
    let not_compared = all.api(&api, Method::POST, "/diffs", live).await.expect(StatusCode::ACCEPTED);
    let not_compared = text(&not_compared["job_id"]);
    assert_eq!(api.ended(&not_compared).await["state"], "failed");

    for path in ["/projects".to_owned(), databases, format!("/projects/{project}/jobs"), database.clone()] {
        all.api(&api, Method::GET, &path, Value::Null).await;
    }
    for job in [&job, &applied, &failed, &compared_job, &not_compared] {
        all.api(&api, Method::GET, &format!("/jobs/{job}"), Value::Null).await;
        all.page(&browser, Method::GET, &format!("/jobs/{job}"), &[]).await;
    }
    all.api(&api, Method::GET, &restore, Value::Null).await;
    for path in [&format!("/projects/{project}"), &database, &format!("{database}/settings"), &restore] {
        all.page(&browser, Method::GET, path, &[]).await;
    }
    let (code, _) = program.terminate();
    assert_eq!(code, Some(0));
    children.done.store(true, Ordering::Relaxed);

    let children = children.seen.lock().unwrap().clone();
    assert!(children.iter().any(|arguments| arguments.contains("pg_dump")), "{children:?}");
    let log = std::fs::read(log.path()).unwrap();
    assert!(log.len() > 10_000, "the log is empty");
    // Bytes that are no text become marks, and text between them stays as it is.
    let lossy = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let stored = files(folder.path()).into_iter().map(|(name, bytes)| (name, lossy(bytes)));
    let mut places: Vec<(String, String)> = stored.collect();
    assert!(places.iter().any(|(name, _)| name.ends_with("meta.redb")));
    places.push(("the log".to_owned(), lossy(log)));
    places.extend(all.0.into_iter().map(|(path, text)| (format!("the answer of {path}"), text)));
    places.extend(children.into_iter().map(|arguments| ("a child's arguments".to_owned(), arguments)));
    for secret in [reading, writing, wrong] {
        for form in forms(secret) {
            let held = places.iter().find(|(_, text)| text.contains(&form));
            assert_eq!(held.map(|(place, _)| place), None, "{form}");
        }
    }
}

/// A search that finds nothing must be one that would have found it.
#[test]
fn every_form_is_found_where_it_is() {
    let secret = "Pl4nted/rd+%&=\"ö ürgh";
    for before in ["", "a", "ab", "abc", "postgres://u:"] {
        let whole = format!("{before}{secret}@host/db");
        for text in [whole.clone(), STANDARD.encode(&whole), URL_SAFE.encode(&whole), encoded_url(&whole)] {
            let found = forms(secret).iter().any(|form| text.contains(form.as_str()));
            assert!(found, "{text}");
        }
    }
}

fn encoded_url(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
