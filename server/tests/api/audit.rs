//! The audit log: what it tells, to whom, and that nothing in it can be changed unnoticed.

use engine_testutils::postgres::Cluster;
use redb::{Database, ReadableTable, Table, TableDefinition};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Answer, Api, Browser, PASSWORD, Server, shop, text};
use crate::process::Program;
use crate::queue::locked;

const AUDIT: TableDefinition<&str, &[u8]> = TableDefinition::new("audit");
const HEADS: TableDefinition<&str, &[u8]> = TableDefinition::new("audit_heads");
const SETTINGS: TableDefinition<&str, &[u8]> = TableDefinition::new("settings");

async fn entries(api: &Api, query: &str) -> Vec<Value> {
    let body = api.get(&format!("/audit{query}")).await.expect(StatusCode::OK);
    body["items"].as_array().unwrap().clone()
}

fn actions(entries: &[Value]) -> Vec<String> {
    entries.iter().map(|entry| format!("{} {}", text(&entry["action"]), text(&entry["result"]))).collect()
}

/// An export's chain, followed by nothing but what the operator's documentation says.
fn follow(lines: &str) -> Result<usize, usize> {
    let (mut previous, mut number) = ("0".repeat(64), 0);
    for line in lines.lines() {
        number += 1;
        let (open, hash) = line.strip_suffix("\"}").unwrap().rsplit_once(",\"hash\":\"").unwrap();
        let entry: Value = serde_json::from_str(line).unwrap();
        let fits = blake3::hash(format!("{open}}}").as_bytes()).to_hex().as_str() == hash;
        if !fits || entry["seq"] != number || entry["previous"] != previous.as_str() {
            return Err(number);
        }
        previous = hash.to_owned();
    }
    Ok(number)
}

#[tokio::test]
async fn what_was_done_is_told_with_actor_target_result_and_the_snapshots_root() {
    let (_, url) = shop().await;
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let wrong = json!({ "email": "ada@example.com", "password": "a wrong password" });
    api.post("/auth/login", wrong).await.problem(401, "wrong-credentials");
    let right = json!({ "email": "ada@example.com", "password": PASSWORD });
    api.post("/auth/login", right).await.expect(StatusCode::OK);
    let project = api.project("shop").await;
    let database = api.database(&project, &url).await;
    let snapshot = api.back_up(&database).await;
    let body = json!({ "mode": "structure" });
    let verify = api.post(&format!("/projects/{project}/verify"), body).await.expect(StatusCode::ACCEPTED);
    api.ended(&text(&verify["job_id"])).await;
    let exported = api.post(&format!("/projects/{project}/keys/recovery"), json!({})).await;
    let recovery_key = text(&exported.expect(StatusCode::CREATED)["recovery_key"]);
    let body = json!({ "current_password": "not mine", "new_password": "another long one" });
    api.post("/me/password", body).await.problem(422, "invalid");

    let newest_first = entries(&api, "").await;
    let expected = [
        "account.password-change failed",
        "key.recovery-export succeeded",
        "verify.end succeeded",
        "verify.start succeeded",
        "backup.end succeeded",
        "backup.start succeeded",
        "database.connect succeeded",
        "project.create succeeded",
        "account.sign-in succeeded",
        "account.sign-in failed",
        "account.register succeeded",
    ];
    assert_eq!(actions(&newest_first), expected);
    let seqs: Vec<u64> = newest_first.iter().map(|entry| entry["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=11).rev().collect::<Vec<_>>());
    assert_eq!(newest_first[9]["actor"], "unknown");
    assert!(newest_first.iter().filter(|entry| entry["actor"] == "ada@example.com").count() == 10);

    let backup = &entries(&api, "?action=backup.end").await[0];
    assert_eq!(backup["target"], format!("database/{database}"));
    let root = api.get(&format!("/snapshots/{snapshot}")).await.expect(StatusCode::OK)["root"].clone();
    assert_eq!((&backup["detail"]["snapshot_id"], &backup["detail"]["root"]), (&json!(snapshot), &root));
    assert_eq!(entries(&api, "?action=backup").await.len(), 2);
    assert_eq!(entries(&api, "?result=failed").await.len(), 2);
    assert!(entries(&api, "?from=2999-01-01").await.is_empty());
    assert_eq!(entries(&api, "?to=2999-01-01&from=2020-01-01T00:00:00Z").await.len(), 11);
    api.get("/audit?from=yesterday").await.problem(422, "invalid");
    api.get("/audit?result=perhaps").await.problem(422, "invalid");
    let jobs = format!("/projects/{project}/jobs?limit=1&colour=red");
    for path in ["/audit?action=backup&colour=red", "/audit/export?colour=red&actor=x", &jobs] {
        let problem = api.get(path).await.problem(422, "invalid");
        assert_eq!(problem["field"], "colour", "{path}");
        assert!(text(&problem["detail"]).starts_with("The parameter colour means nothing here. Use one of "));
    }
    let problem = api.get("/audit?Hunter2=x").await.problem(422, "invalid");
    assert!(!problem.to_string().contains("Hunter2"), "{problem:#}");
    for path in ["/audit?action=zzz", "/audit?action=backup.", "/audit/export?action=zzz"] {
        let problem = api.get(path).await.problem(422, "invalid");
        assert_eq!(problem["field"], "action");
        assert!(text(&problem["detail"]).contains("backup.end, "), "{problem:#}");
    }

    let everything = newest_first.iter().map(Value::to_string).collect::<String>();
    for secret in [PASSWORD, "a wrong password", "not mine", "another long one", &recovery_key] {
        assert!(!everything.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn entries_come_in_pages_and_as_lines_that_can_be_checked_alone() {
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    for n in 0..4 {
        api.project(&format!("project {n}")).await;
    }
    let first = api.get("/audit?limit=3").await.expect(StatusCode::OK);
    let cursor = text(&first["next_cursor"]);
    let second = api.get(&format!("/audit?limit=3&cursor={cursor}")).await.expect(StatusCode::OK);
    assert_eq!(second["next_cursor"], Value::Null);
    let seqs = [&first, &second].map(|page| page["items"].as_array().unwrap().clone()).concat();
    let seqs: Vec<u64> = seqs.iter().map(|entry| entry["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [5, 4, 3, 2, 1]);
    api.get("/audit?cursor=x").await.problem(422, "invalid");

    let export = Answer::of(api.request(Method::GET, "/audit/export")).await;
    assert_eq!(export.headers["content-type"], "application/jsonl");
    // The export itself is the sixth.
    assert_eq!(follow(&export.text), Ok(6));
    let changed = export.text.replacen("project 2", "project 7", 1);
    assert_eq!(follow(&changed), Err(4));
    assert!(export.headers["content-disposition"].to_str().unwrap().contains("dbsnap-audit.jsonl"));
    let filtered = Answer::of(api.request(Method::GET, "/audit/export?action=project")).await;
    assert_eq!(filtered.text.lines().count(), 4);
    // A part says that it is one, and the steps that check the whole do not take it for that.
    assert!(filtered.headers["content-disposition"].to_str().unwrap().contains("dbsnap-audit-part.jsonl"));
    assert_eq!(follow(&filtered.text), Err(1));
    let verified = api.get("/audit/verify").await.expect(StatusCode::OK);
    assert_eq!((&verified["ok"], &verified["entries"]), (&json!(true), &json!(7)));
    assert_eq!(verified["broken_at"], Value::Null);
}

#[tokio::test]
async fn nobody_sees_the_entries_of_others() {
    let server = Server::start().await;
    let (ada, eve) = (server.user("ada@example.com").await, server.user("eve@example.com").await);
    let project = ada.project("shop").await;
    eve.get(&format!("/projects/{project}")).await.problem(404, "not-found");
    assert_eq!(actions(&entries(&eve, "").await), ["account.register succeeded"]);
    let export = Answer::of(eve.request(Method::GET, "/audit/export")).await;
    assert!(!export.text.contains("ada@") && !export.text.contains(&project), "{}", export.text);
    assert_eq!(eve.get("/audit/verify").await.expect(StatusCode::OK)["entries"], 2);
    let browser = Browser::signed_in(&server.base, "eve@example.com", PASSWORD).await;
    assert!(!browser.get("/audit").await.text.contains("project.create"));
    let nobody = Api { token: None, ..eve };
    for path in ["/audit", "/audit/verify", "/audit/export"] {
        nobody.get(path).await.problem(401, "unauthorized");
    }
}

/// Changes the stored line of entry `seq`, as somebody with access to the file would.
fn tamper(path: &std::path::Path, seq: u64, change: impl Fn(&str) -> Option<String>) {
    let database = opened(path);
    let tx = database.begin_write().unwrap();
    {
        let mut table = tx.open_table(AUDIT).unwrap();
        let ending = format!("/{seq:016x}");
        let keys: Vec<String> =
            table.range::<&str>(..).unwrap().map(|row| row.unwrap().0.value().to_owned()).collect();
        let key = keys.into_iter().find(|key| key.ends_with(&ending)).unwrap();
        let line = String::from_utf8(table.get(key.as_str()).unwrap().unwrap().value().to_vec()).unwrap();
        match change(&line) {
            Some(changed) => {
                assert_ne!(changed, line);
                table.insert(key.as_str(), changed.as_bytes()).unwrap();
            }
            None => {
                table.remove(key.as_str()).unwrap();
            }
        }
    }
    tx.commit().unwrap();
}

#[tokio::test]
async fn a_tampered_entry_is_found_by_its_number() {
    let mut server = Server::start().await;
    let mut api = server.user("ada@example.com").await;
    for n in 0..4 {
        api.project(&format!("project {n}")).await;
    }
    type Change = fn(&str) -> Option<String>;
    // Whoever has the file and not the key can make a hash anew, and no seal.
    let cases: [(u64, &str, Change); 5] = [
        (6, "Entry 6 is missing.", |_| None),
        (5, "Entry 5 is not what was written.", |line| {
            Some(hashed_anew(&line.replace("succeeded", "failed")))
        }),
        (3, "Entry 3 is not what was written.", |line| Some(line.replace("project 1", "project 9"))),
        (2, "Entry 2 is not what was written.", |line| Some(hashed_anew(&line.replacen("T", "U", 1)))),
        (1, "Entry 1 is not what was written.", |line| Some(hashed_anew(&line.replace("ada@", "eve@")))),
    ];
    api.get("/audit").await.expect(StatusCode::OK);
    Browser::signed_in(&server.base, "ada@example.com", PASSWORD).await;
    for (seq, told, change) in cases {
        let folder = server.stop().await;
        tamper(&folder.path().join("meta.redb"), seq, change);
        let operator = Program::command(folder.path()).arg("verify-audit").output().unwrap();
        let operator = String::from_utf8(operator.stderr).unwrap();
        assert!(operator.contains(told), "{operator}");
        server = Server::start_in(folder, &[("DBSNAP_SIGNUP", "open")]).await;
        api = Api { base: server.base.clone(), ..api };
        let verified = api.get("/audit/verify").await.expect(StatusCode::OK);
        assert_eq!((&verified["ok"], &verified["broken_at"]), (&json!(false), &json!(seq)));
        assert_eq!(verified["broken"], told);
        let browser = Browser::signed_in(&server.base, "ada@example.com", PASSWORD).await;
        let page = browser.get("/audit?verify=yes").await;
        assert!(page.text.contains(told), "{}", page.text);
    }
}

/// What somebody does to the ends of chains who has the file.
fn change_ends(
    path: &std::path::Path,
    change: impl FnOnce(&mut Table<'_, &str, &[u8]>, &mut Table<'_, &str, &[u8]>),
) {
    let database = opened(path);
    let tx = database.begin_write().unwrap();
    change(&mut tx.open_table(HEADS).unwrap(), &mut tx.open_table(AUDIT).unwrap());
    tx.commit().unwrap();
}

/// What is kept of a chain's end is told when it is gone or another, with the account and the number, and
/// so it stays: what is written after that is written behind what there is.
#[tokio::test]
async fn an_end_that_was_removed_or_exchanged_is_told_and_nothing_is_written_over() {
    let server = Server::start().await;
    let mut apis = Vec::new();
    for name in ["ada", "bob", "eve", "joe"] {
        apis.push(server.user(&format!("{name}@example.com")).await);
    }
    let mut accounts = Vec::new();
    for api in &apis {
        accounts.push(text(&api.get("/me").await.expect(StatusCode::OK)["id"]));
    }
    let [ada, bob, eve, joe] = [0, 1, 2, 3].map(|at| accounts[at].clone());
    let folder = server.stop().await;
    let path = folder.path().join("meta.redb");
    let mut old = Vec::new();
    change_ends(&path, |heads, _| old = heads.get(bob.as_str()).unwrap().unwrap().value().to_vec());

    let server = Server::start_in(folder, &[("DBSNAP_SIGNUP", "open")]).await;
    let apis: Vec<Api> = apis.into_iter().map(|api| Api { base: server.base.clone(), ..api }).collect();
    for api in &apis {
        api.project("one").await;
        api.project("two").await;
    }
    let export = async |api: &Api| Answer::of(api.request(Method::GET, "/audit/export")).await.text;
    let before = [export(&apis[0]).await, export(&apis[1]).await];
    let folder = server.stop().await;
    change_ends(&path_of(&folder), |heads, entries| {
        heads.remove(ada.as_str()).unwrap();
        heads.insert(bob.as_str(), old.as_slice()).unwrap();
        heads.remove(eve.as_str()).unwrap();
        // The last entry is cut off, and an end made up that fits.
        let last: Value =
            serde_json::from_slice(entries.get(key(&joe, 2).as_str()).unwrap().unwrap().value()).unwrap();
        let head = json!({ "entries": 2, "hash": last["hash"], "sealed_from": 1, "seal": "0".repeat(64) });
        heads.insert(joe.as_str(), head.to_string().as_bytes()).unwrap();
        entries.remove(key(&joe, 3).as_str()).unwrap();
        for seq in 1..=3 {
            entries.remove(key(&eve, seq).as_str()).unwrap();
        }
    });
    let operator = Program::command(folder.path()).arg("verify-audit").output().unwrap();
    assert!(!operator.status.success());
    let operator = String::from_utf8(operator.stderr).unwrap();
    for (account, told) in
        [(&ada, "number 5 on"), (&bob, "Entry 2 was added"), (&eve, "number 1 on"), (&joe, "last entry, 2")]
    {
        let line = operator.lines().find(|line| line.contains(account.as_str())).unwrap_or_default();
        assert!(line.contains(told), "{told} is not told of {account}: {operator}");
    }

    let server = Server::start_in(folder, &[("DBSNAP_SIGNUP", "open")]).await;
    let apis: Vec<Api> = apis.into_iter().map(|api| Api { base: server.base.clone(), ..api }).collect();
    for round in 0..2 {
        for (api, seq) in apis.iter().zip([5, 2, 1, if round == 0 { 2 } else { 3 }]) {
            let verified = api.get("/audit/verify").await.expect(StatusCode::OK);
            assert_eq!(
                (&verified["ok"], &verified["broken_at"]),
                (&json!(false), &json!(seq)),
                "{verified:#}"
            );
        }
        for api in &apis {
            api.project("three").await;
        }
    }
    for (api, before) in apis.iter().zip(before) {
        let now = export(api).await;
        assert!(now.starts_with(&before), "what there was is there: {now}");
        assert_eq!(now.lines().count(), before.lines().count() + 3);
    }
}

/// The log as a version that made no seals would have left it, changed by `change`: without the key, seals
/// and sealed ends, every link and hash made anew.
fn forge(path: &std::path::Path, change: impl Fn(&str) -> String) {
    let database = opened(path);
    let tx = database.begin_write().unwrap();
    {
        tx.open_table(SETTINGS).unwrap().remove("audit_key").unwrap().expect("there is a key");
        let (mut entries, mut heads) = (tx.open_table(AUDIT).unwrap(), tx.open_table(HEADS).unwrap());
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let lines: Vec<(String, String)> = entries
            .iter()
            .unwrap()
            .map(|row| row.map(|(key, line)| (key.value().to_owned(), text(line.value()))).unwrap())
            .collect();
        let (mut account, mut previous) = (String::new(), String::new());
        for (at, line) in lines {
            let (chain, seq) = at.split_once('/').unwrap();
            if account != chain {
                (account, previous) = (chain.to_owned(), "0".repeat(64));
            }
            // What was sealed as it was found has none.
            let ends = [",\"seal\":\"", ",\"hash\":\""].map(|end| line.rsplit_once(end));
            let (open, _) = ends.into_iter().flatten().next().unwrap();
            let (open, link) = open.rsplit_once("\"previous\":\"").unwrap();
            let open = format!("{}\"previous\":\"{previous}\"{}", change(open), &link[65..]);
            let line = hashed_anew(&format!("{open},\"hash\":\"\"}}"));
            let entry: Value = serde_json::from_str(&line).unwrap();
            previous = text(entry["hash"].as_str().unwrap().as_bytes());
            entries.insert(at.as_str(), line.as_bytes()).unwrap();
            let head = json!({ "entries": u64::from_str_radix(seq, 16).unwrap(), "hash": previous });
            heads.insert(chain, head.to_string().as_bytes()).unwrap();
        }
    }
    tx.commit().unwrap();
}

/// The server started again on what somebody left of its folder, and the account's client.
async fn started_again(folder: tempfile::TempDir, api: &Api) -> (Server, Api) {
    let server = Server::start_in(folder, &[("DBSNAP_SIGNUP", "open")]).await;
    let api = Api { base: server.base.clone(), ..api.clone() };
    (server, api)
}

/// Whoever takes the log's key away and makes all entries anew has made nothing whole: no key is drawn to
/// seal what is there, and checking alone changes nothing.
#[tokio::test]
async fn a_log_that_was_made_anew_without_its_key_is_not_sealed_again() {
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    api.project("shop").await;
    let folder = server.stop().await;
    forge(&path_of(&folder), |line| line.replace("ada@example.com", "eve@example.com"));
    let left = std::fs::read(path_of(&folder)).unwrap();
    let key = std::fs::read(folder.path().join("server.key")).unwrap();
    for _ in 0..2 {
        let operator = Program::command(folder.path()).arg("verify-audit").output().unwrap();
        let told = String::from_utf8(operator.stderr).unwrap();
        assert!(!operator.status.success() && told.contains("key that seals the log is not there"), "{told}");
        assert!(told.contains("from number 1 on"), "{told}");
        assert!(std::fs::read(path_of(&folder)).unwrap() == left, "checking changes nothing");
    }
    assert_eq!(std::fs::read(folder.path().join("server.key")).unwrap(), key);

    let (server, api) = started_again(folder, &api).await;
    let forged = entries(&api, "?action=project").await;
    assert_eq!(forged[0]["actor"], "eve@example.com");
    for round in 0..3 {
        let verified = api.get("/audit/verify").await.expect(StatusCode::OK);
        assert_eq!((&verified["ok"], &verified["broken_at"]), (&json!(false), &json!(1)), "{verified:#}");
        api.project(&format!("round {round}")).await;
    }
    let folder = server.stop().await;
    let operator = Program::command(folder.path()).arg("verify-audit").output().unwrap();
    let told = String::from_utf8(operator.stderr).unwrap();
    assert!(!operator.status.success() && told.contains("number 1 on"), "{told}");
    // Nor does taking the ends away as well as all entries leave an account that never did anything.
    change_ends(&path_of(&folder), |heads, entries| {
        heads.retain(|_, _| false).unwrap();
        entries.retain(|_, _| false).unwrap();
    });
    change_settings(&path_of(&folder), |settings| {
        settings.remove("audit_key").unwrap().expect("a new one was drawn");
    });
    let (_server, api) = started_again(folder, &api).await;
    let verified = api.get("/audit/verify").await.expect(StatusCode::OK);
    assert_eq!((&verified["ok"], &verified["broken_at"]), (&json!(false), &json!(1)), "{verified:#}");
}

/// What somebody does to the settings who has the file.
fn change_settings(path: &std::path::Path, change: impl FnOnce(&mut Table<'_, &str, &[u8]>)) {
    let database = opened(path);
    let tx = database.begin_write().unwrap();
    change(&mut tx.open_table(SETTINGS).unwrap());
    tx.commit().unwrap();
}

fn take_back_the_layout(settings: &mut Table<'_, &str, &[u8]>) {
    settings.insert("schema_version", &b"2"[..]).unwrap();
}

/// A log from before there were seals is sealed as it is found, once, and says so in every chain: also where
/// somebody only makes it look like one.
#[tokio::test]
async fn sealing_a_log_from_before_there_were_seals_leaves_an_entry() {
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let idle = server.user("eve@example.com").await;
    api.project("shop").await;
    let wrong = json!({ "email": "joe@example.com", "password": PASSWORD });
    api.post("/auth/login", wrong).await.problem(401, "wrong-credentials");
    let mut folder = server.stop().await;
    for (round, found) in [(1, 2), (2, 4)] {
        forge(&path_of(&folder), str::to_owned);
        change_settings(&path_of(&folder), take_back_the_layout);
        let (server, api) = started_again(folder, &api).await;
        let told = entries(&api, "?action=audit.seal").await;
        assert_eq!(told.len(), round);
        assert_eq!(
            (&told[0]["actor"], &told[0]["detail"]),
            (&json!("operator"), &json!({ "entries": found }))
        );
        api.project(&format!("round {round}")).await;
        for api in [&api, &Api { base: server.base.clone(), ..idle.clone() }] {
            let verified = api.get("/audit/verify").await.expect(StatusCode::OK);
            assert_eq!(verified["ok"], true, "{verified:#}");
            assert_eq!(entries(api, "?action=audit.seal").await.len(), round);
        }
        let chains = server.app.meta.verify_all_audit().await.unwrap();
        assert!(chains.iter().any(|(chain, found)| chain == "nobody" && found.entries == round as u64 + 1));
        folder = server.stop().await;
        let operator = Program::command(folder.path()).arg("verify-audit").output().unwrap();
        assert!(operator.status.success(), "{operator:?}");
    }
    // With its key there, a layout that goes back has nothing sealed.
    change_settings(&path_of(&folder), take_back_the_layout);
    let (server, api) = started_again(folder, &api).await;
    assert_eq!(entries(&api, "?action=audit.seal").await.len(), 2);
    let folder = server.stop().await;
    // Nor has it later, when the key goes.
    forge(&path_of(&folder), str::to_owned);
    let (_server, api) = started_again(folder, &api).await;
    assert_eq!(api.get("/audit/verify").await.expect(StatusCode::OK)["broken_at"], 1);
    assert_eq!(entries(&api, "?action=audit.seal").await.len(), 2);
}

/// A child of another test that has yet to become its program holds the file that was open when it was made.
fn opened(path: &std::path::Path) -> Database {
    for _ in 0..500 {
        match Database::open(path) {
            Err(redb::DatabaseError::DatabaseAlreadyOpen) => {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            database => return database.unwrap(),
        }
    }
    panic!("{} stays in use", path.display());
}

fn path_of(folder: &tempfile::TempDir) -> std::path::PathBuf {
    folder.path().join("meta.redb")
}

fn key(account: &str, seq: u64) -> String {
    format!("{account}/{seq:016x}")
}

fn hashed_anew(line: &str) -> String {
    let (open, _) = line.rsplit_once(",\"hash\":\"").unwrap();
    let hash = blake3::hash(format!("{open}}}").as_bytes()).to_hex();
    format!("{open},\"hash\":\"{hash}\"}}")
}

/// What cannot be read is not left out: it is told by its number, whatever is looked for.
#[tokio::test]
async fn an_entry_that_cannot_be_read_is_listed_by_its_number() {
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    api.project("shop").await;
    let folder = server.stop().await;
    tamper(&folder.path().join("meta.redb"), 1, |line| Some(line.replacen('{', "[", 1)));
    let server = Server::start_in(folder, &[("DBSNAP_SIGNUP", "open")]).await;
    let api = Api { base: server.base.clone(), ..api };
    for query in ["", "?action=project"] {
        let listed = entries(&api, query).await;
        let listed: Vec<_> = listed.iter().map(|entry| (&entry["seq"], text(&entry["action"]))).collect();
        assert_eq!(listed, [(&json!(2), "project.create".to_owned()), (&json!(1), "unreadable".to_owned())]);
    }
    let browser = Browser::signed_in(&server.base, "ada@example.com", PASSWORD).await;
    let page = browser.get("/audit").await.text;
    assert!(page.contains("This entry cannot be read"), "{page}");
}

#[tokio::test]
async fn the_page_filters_without_scripts() {
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    api.project("shop").await;
    let browser = Browser::signed_in(&server.base, "ada@example.com", PASSWORD).await;
    let page = browser.get("/audit").await;
    assert!(page.text.contains("project.create") && page.text.contains("account.sign-in"));
    let page = browser.get("/audit?action=project&result=&from=&to=").await;
    assert!(page.text.contains("project.create") && !page.text.contains("account.register"));
    let page = browser.get("/audit?from=tomorrow").await;
    assert_eq!(page.status, StatusCode::UNPROCESSABLE_ENTITY);
    let page = browser.get("/audit?verify=yes").await;
    assert!(page.text.contains("The chain is whole, up to entry 3."), "{}", page.text);
}

#[tokio::test]
async fn a_deleted_project_and_a_deleted_account_leave_their_entries() {
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let project = api.project("shop").await;
    Answer::of(api.request(Method::DELETE, &format!("/projects/{project}")))
        .await
        .expect(StatusCode::NO_CONTENT);
    assert_eq!(
        actions(&entries(&api, "?action=project").await),
        ["project.delete succeeded", "project.create succeeded"]
    );
    let body = json!({ "confirm": "ada@example.com", "password": PASSWORD });
    assert_eq!(api.post("/me/delete", body).await.status, StatusCode::NO_CONTENT);
    let chains = server.app.meta.verify_all_audit().await.unwrap();
    assert!(chains.iter().any(|(_, chain)| chain.entries == 4 && chain.broken.is_none()), "{chains:?}");
}

/// Whoever looks at records is told of, once for a while, and found by who and what.
#[tokio::test]
async fn looking_at_records_is_told_once_and_entries_are_found_by_actor_and_target() {
    let (_, url) = shop().await;
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let database = api.database(&api.project("shop").await, &url).await;
    let [first, second] = [api.back_up(&database).await, api.back_up(&database).await];
    let records = format!("/snapshots/{first}/collections/public.customers/records?limit=1");
    for _ in 0..3 {
        api.get(&records).await.expect(StatusCode::OK);
    }
    api.get(&format!("/snapshots/{second}/collections/nothing/records")).await.problem(404, "not-found");
    let diff = api.post("/diffs", json!({ "from": first, "to": second })).await.expect(StatusCode::ACCEPTED);
    api.ended(&text(&diff["job_id"])).await;
    let diff = text(&diff["id"]);
    let changes = format!("/diffs/{diff}/collections/public.customers/changes");
    for _ in 0..2 {
        api.get(&changes).await.expect(StatusCode::OK);
    }
    let browser = Browser::signed_in(&server.base, "ada@example.com", PASSWORD).await;
    assert_eq!(
        browser.get(&format!("/diffs/{diff}/collections/public.customers")).await.status,
        StatusCode::OK
    );

    let targets = async |query: &str| -> Vec<String> {
        entries(&api, query).await.iter().map(|entry| text(&entry["target"])).collect()
    };
    let read = [format!("diff/{diff}"), format!("snapshot/{first}")];
    assert_eq!(targets("?action=records.read").await, read);
    assert_eq!(targets(&format!("?target=snapshot/{first}")).await, read[1..]);
    assert_eq!(targets(&format!("?target={diff}&actor=ADA@example.com")).await, read[..1]);
    assert_eq!(targets("?target=diff").await, read[..1]);
    assert!(targets("?target=diff&actor=schedule").await.is_empty());
    assert_eq!(targets("?actor=unknown").await.len(), 0);
    let everything = entries(&api, "?action=records").await.iter().map(Value::to_string).collect::<String>();
    assert!(!everything.contains("customers"), "names of tables are not in the log: {everything}");

    let exported = Answer::of(api.request(Method::GET, "/audit/export?target=snapshot")).await;
    assert_eq!(exported.text.lines().count(), 1, "{}", exported.text);
    let page = browser.get(&format!("/audit?target=snapshot%2F{first}&actor=ada%40example.com")).await.text;
    assert!(page.contains("records.read") && !page.contains("backup.end"), "{page}");
    let export = format!("/api/v1/audit/export?actor=ada%40example.com&amp;target=snapshot%2F{first}");
    assert!(page.contains(&export), "{export} is not in {page}");
}

/// Whoever tried to delete or to restore something and typed another phrase is in the log.
#[tokio::test]
async fn a_wrong_phrase_is_told_as_the_action_that_failed() {
    let (name, url) = shop().await;
    let server = Server::start().await;
    let (api, project, database) = server.connected(&url).await;
    let snapshot = api.back_up(&database).await;
    let cluster = Cluster::shared();
    let target = cluster.superuser_url(&cluster.fresh_database("wrong").await);
    let plan =
        json!({ "snapshot": snapshot, "scope": { "all": true }, "target": { "url": target, "mode": "new" } });
    let planned = api.post("/restores/plan", plan).await.expect(StatusCode::ACCEPTED);
    api.ended(&text(&planned["job_id"])).await;
    let restore = text(&planned["id"]);
    let order = json!({ "confirm": name, "url": target });
    api.post(&format!("/restores/{restore}/apply"), order).await.problem(422, "wrong-phrase");
    let body = json!({ "confirm": "eve@example.com", "password": PASSWORD });
    api.post("/me/delete", body).await.problem(422, "invalid");

    let browser = Browser::signed_in(&server.base, "ada@example.com", PASSWORD).await;
    let keys = api.get(&format!("/projects/{project}/keys")).await.expect(StatusCode::OK);
    let slot = text(&keys["items"][0]["slot"]);
    let forms = [
        (format!("/projects/{project}/delete"), "name"),
        (format!("/databases/{database}/remove"), "confirm"),
        (format!("/snapshots/{snapshot}/delete"), "confirm"),
        (format!("/projects/{project}/keys/{slot}/remove"), "confirm"),
    ];
    for (path, field) in &forms {
        let answer = browser.send(Method::POST, path, &[(field, "something else".to_owned())]).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{path}: {}", answer.text);
    }
    let told: Vec<_> = entries(&api, "?result=failed").await;
    let told: Vec<_> = told
        .iter()
        .map(|entry| (text(&entry["action"]), text(&entry["target"]), entry["detail"]["confirmed"].clone()))
        .collect();
    let account = text(&api.get("/me").await.expect(StatusCode::OK)["id"]);
    let expected = [
        ("key.remove", format!("project/{project}")),
        ("snapshot.delete", format!("snapshot/{snapshot}")),
        ("database.remove", format!("database/{database}")),
        ("project.delete", format!("project/{project}")),
        ("account.delete", format!("account/{account}")),
        ("restore.start", format!("restore/{restore}")),
    ];
    assert_eq!(told, expected.map(|(action, target)| (action.to_owned(), target, json!(false))));
}

/// What was refused is told as what failed: a removal that a pin is in the way of, and a plan for a target
/// that is in use.
#[tokio::test]
async fn a_refused_removal_and_a_refused_plan_are_told() {
    let (_, url) = shop().await;
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let database = api.database(&api.project("shop").await, &url).await;
    let snapshot = api.back_up(&database).await;
    let pin = json!({ "pinned": true });
    api.send(Method::PATCH, &format!("/snapshots/{snapshot}"), pin).await.expect(StatusCode::OK);
    let path = format!("/databases/{database}?snapshots=delete");
    Answer::of(api.request(Method::DELETE, &path)).await.problem(409, "pinned");
    let browser = Browser::signed_in(&server.base, "ada@example.com", PASSWORD).await;
    let form = [("confirm", "shop".to_owned()), ("delete_snapshots", "yes".to_owned())];
    let answer = browser.send(Method::POST, &format!("/databases/{database}/remove"), &form).await;
    assert_eq!(answer.status, StatusCode::CONFLICT, "{}", answer.text);

    let cluster = Cluster::shared();
    let name = cluster.fresh_database("taken").await;
    cluster.execute(&name, "CREATE TABLE customers (id int PRIMARY KEY)").await;
    let url = cluster.superuser_url(&name);
    let plan =
        json!({ "snapshot": snapshot, "scope": { "all": true }, "target": { "url": url, "mode": "new" } });
    api.post("/restores/plan", plan).await.problem(422, "target-not-empty");
    let plan = json!({ "snapshot": "0".repeat(32), "scope": { "all": true }, "target": { "url": url, "mode": "new" } });
    api.post("/restores/plan", plan).await.problem(404, "not-found");

    let told: Vec<_> = entries(&api, "?result=failed").await;
    let told: Vec<_> = told
        .iter()
        .map(|entry| (text(&entry["action"]), text(&entry["target"]), text(&entry["detail"]["problem"])))
        .collect();
    let removal = ("database.remove", format!("database/{database}"), "pinned");
    let expected = [
        ("restore-plan.start", format!("snapshot/{snapshot}"), "target-not-empty"),
        removal.clone(),
        removal,
    ];
    assert_eq!(told, expected.map(|(action, target, slug)| (action.to_owned(), target, slug.to_owned())));
}

/// Who asked a job to stop is told, from the API and from the page, before how it ended; of one that has
/// ended nothing is.
#[tokio::test]
async fn who_cancelled_a_job_is_told() {
    let (name, url) = shop().await;
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let database = api.database(&api.project("shop").await, &url).await;
    let lock = locked(&name).await;
    let running = api.start_backup(&database).await;
    api.job_when(&running, |job| job["state"] == "running").await;
    let waiting = api.start_backup(&database).await;
    let eve = server.user("eve@example.com").await;
    eve.post(&format!("/jobs/{running}/cancel"), json!({})).await.problem(404, "not-found");
    for _ in 0..2 {
        api.post(&format!("/jobs/{waiting}/cancel"), json!({})).await.expect(StatusCode::ACCEPTED);
    }
    let browser = Browser::signed_in(&server.base, "ada@example.com", PASSWORD).await;
    let answer = browser.send(Method::POST, &format!("/jobs/{running}/cancel"), &[]).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    api.ended(&running).await;
    drop(lock);

    let told = entries(&api, "?actor=ada@example.com").await;
    let told: Vec<_> = told
        .iter()
        .filter(|entry| entry["action"] == "job.cancel" || entry["action"] == "backup.end")
        .map(|entry| {
            [&entry["action"], &entry["target"], &entry["result"], &entry["detail"]].map(Clone::clone)
        })
        .collect();
    let asked = |job: &str| {
        [json!("job.cancel"), json!(format!("job/{job}")), json!("succeeded"), json!({ "kind": "backup" })]
    };
    assert_eq!(told.len(), 4, "{told:#?}");
    for (at, job) in [(0, &running), (2, &waiting)] {
        assert_eq!((&told[at][0], &told[at][2]), (&json!("backup.end"), &json!("cancelled")));
        assert_eq!(told[at][3]["job_id"], json!(job));
        assert_eq!(told[at + 1], asked(job));
    }
    assert!(entries(&eve, "?action=job").await.is_empty());
    let page = browser.get("/audit?action=job").await.text;
    assert!(page.contains(&format!("href=\"/jobs/{running}\"")), "{page}");
}

/// A connection that does not work is told as what failed, with the address it was to.
#[tokio::test]
async fn a_failed_connection_test_is_told_as_failed() {
    let (_, url) = shop().await;
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let path = format!("/projects/{}/connection-test", api.project("shop").await);
    for (url, ok) in [(url.as_str(), true), ("postgres://u:p@127.0.0.1:1/d", false)] {
        let report = api.post(&path, json!({ "url": url })).await.expect(StatusCode::OK);
        assert_eq!(report["ok"], ok, "{report:#}");
    }
    let told = entries(&api, "?action=connection.test").await;
    assert_eq!(actions(&told), ["connection.test failed", "connection.test succeeded"]);
    assert_eq!((&told[0]["detail"]["ok"], &told[1]["detail"]["ok"]), (&json!(false), &json!(true)));
    assert!(text(&told[0]["detail"]["address"]).contains("127.0.0.1:1"), "{told:#?}");
}
