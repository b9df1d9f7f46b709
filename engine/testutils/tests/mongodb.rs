//! The ephemeral MongoDB server keeps to itself, leaves nothing behind, and takes bytes as they are.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bson::{Document, RawDocumentBuf, doc, rawdoc};
use engine_testutils::mongodb::{ADMIN, Flavour, Options, Scope, Server};
use futures::StreamExt;
use mongodb::Client;
use mongodb::error::{Error, ErrorKind};

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

fn code(error: &Error) -> Option<i32> {
    match &*error.kind {
        ErrorKind::Command(refused) => Some(refused.code),
        _ => None,
    }
}

async fn client(url: &str) -> Client {
    Client::with_uri_str(url).await.unwrap()
}

#[tokio::test]
async fn a_server_takes_documents_and_stopping_it_leaves_nothing() {
    let mut server = Server::start(Options::default());
    let database = server.fresh_database("shop");
    let orders = server.client().await.database(&database).collection::<Document>("orders");
    orders.insert_one(doc! { "_id": 1, "total": 3.5 }).await.unwrap();
    assert_eq!(orders.find_one(doc! {}).await.unwrap(), Some(doc! { "_id": 1, "total": 3.5 }));
    let (pid, folder) = (server.pid().to_string(), server.folder().to_owned());
    assert!(is_alive(&pid) && folder.is_dir() && !server.log().is_empty());
    server.stop();
    assert!(!is_alive(&pid) && !folder.exists());
}

#[tokio::test]
async fn it_is_a_replica_set_unless_told_otherwise() {
    let hello = Server::shared().command("admin", doc! { "hello": 1 }).await;
    assert!(hello.get_str("setName").is_ok() && hello.get_bool("isWritablePrimary").unwrap(), "{hello}");
    let alone = Server::start(Options { standalone: true, auth: false, ..Options::default() });
    assert_ne!(alone.port(), Server::shared().port());
    let hello = alone.command("admin", doc! { "hello": 1 }).await;
    assert!(!hello.contains_key("setName") && hello.get_bool("isWritablePrimary").unwrap(), "{hello}");
}

#[tokio::test]
async fn without_the_right_password_there_is_no_way_in() {
    let server = Server::shared();
    for url in [server.anonymous_url("admin"), server.url(ADMIN, "wrong", "admin")] {
        let refused = client(&url).await.list_database_names().await.unwrap_err();
        let is_refusal =
            matches!(&*refused.kind, ErrorKind::Authentication { .. }) || code(&refused) == Some(13);
        assert!(is_refusal, "{refused}");
    }
    let open = Server::start(Options { auth: false, ..Options::default() });
    assert!(client(&open.admin_url()).await.list_database_names().await.is_ok());
}

#[tokio::test]
async fn the_read_only_user_reads_its_scope_and_does_not_write() {
    let server = Server::shared();
    let (mine, other) = (server.fresh_database("mine"), server.fresh_database("other"));
    for database in [&mine, &other] {
        server.insert_raw(&format!("{database}.t"), &[rawdoc! { "_id": 1 }]).await;
    }
    let narrow = client(&server.create_read_only_user(Scope::Database(&mine), "narrow reader").await).await;
    let wide = client(&server.create_read_only_user(Scope::All, "wide@reader").await).await;
    let reads = async |client: &Client, database: &str| {
        client.database(database).collection::<Document>("t").count_documents(doc! {}).await
    };
    assert_eq!(narrow.default_database().unwrap().name(), mine);
    assert_eq!(reads(&narrow, &mine).await.unwrap(), 1);
    assert_eq!(code(&reads(&narrow, &other).await.unwrap_err()), Some(13));
    assert_eq!(reads(&wide, &mine).await.unwrap() + reads(&wide, &other).await.unwrap(), 2);
    for client in [&narrow, &wide] {
        for denied in [
            doc! { "insert": "t", "documents": [{ "_id": 2 }] },
            doc! { "create": "u" },
            doc! { "drop": "t" },
            doc! { "createIndexes": "t", "indexes": [{ "key": { "a": 1 }, "name": "a" }] },
        ] {
            let refused = client.database(&mine).run_command(denied.clone()).await.unwrap_err();
            assert_eq!(code(&refused), Some(13), "{denied}");
        }
    }
}

/// A name twice; a timestamp that servers fill in; no `_id`.
fn odd_documents() -> [RawDocumentBuf; 3] {
    let repeated = b"\x1c\0\0\0\x10_id\0\x01\0\0\0\x10a\0\x01\0\0\0\x10a\0\x02\0\0\0\0".to_vec();
    let empty_time = rawdoc! { "_id": 2, "t": bson::Timestamp { time: 0, increment: 0 }, "last": true };
    [RawDocumentBuf::from_bytes(repeated).unwrap(), empty_time, rawdoc! { "z": 1, "a": 2 }]
}

#[tokio::test]
async fn odd_documents_arrive_unaltered() {
    let server = Server::shared();
    let namespace = format!("{}.odd", server.fresh_database("bytes"));
    let [repeated, empty_time, nameless] = odd_documents();
    server.insert_raw(&namespace, &[repeated.clone(), empty_time.clone(), nameless.clone()]).await;
    let read = server.read_raw(&namespace).await;
    assert_eq!(read[0].as_bytes(), repeated.as_bytes());
    assert_eq!(read[1].as_bytes(), empty_time.as_bytes());
    // The server put an id of its own in front of the rest.
    assert!(read[2].get_object_id("_id").is_ok());
    assert!(read[2].as_bytes().ends_with(&nameless.as_bytes()[4..]));
}

/// SecantusDB refuses it, so tests of such strings need the scripted server there.
#[tokio::test]
async fn text_that_is_not_utf8_arrives_unaltered_at_mongod() {
    let bytes = b"\x18\0\0\0\x10_id\0\x02\0\0\0\x02s\0\x03\0\0\0\xff\xfe\0\0".to_vec();
    let document = RawDocumentBuf::from_bytes(bytes).unwrap();
    let server = Server::shared();
    let database = server.client().await.database(&server.fresh_database("bytes"));
    let collection = database.collection::<RawDocumentBuf>("odd");
    let inserted = collection.insert_one(&document).await;
    match server.flavour() {
        Flavour::Mongod => {
            inserted.unwrap();
            let read = server.read_raw(&format!("{}.odd", database.name())).await;
            assert_eq!(read[0].as_bytes(), document.as_bytes());
        }
        Flavour::SecantusDb => assert!(inserted.is_err()),
    }
}

#[tokio::test]
async fn more_than_one_command_holds_is_inserted_in_several() {
    let server = Server::shared();
    let namespace = format!("{}.large", server.fresh_database("bytes"));
    let filling = "x".repeat(6 << 20);
    let documents: Vec<_> = (0..8).map(|id| rawdoc! { "_id": id, "filling": filling.as_str() }).collect();
    server.insert_raw(&namespace, &documents).await;
    let ids: Vec<i32> =
        server.read_raw(&namespace).await.iter().map(|document| document.get_i32("_id").unwrap()).collect();
    assert_eq!(ids, (0..8).collect::<Vec<i32>>());
}

#[tokio::test]
#[should_panic(expected = "E11000")]
async fn a_refused_document_is_no_success() {
    let server = Server::shared();
    let namespace = format!("{}.twice", server.fresh_database("bytes"));
    server.insert_raw(&namespace, &[rawdoc! { "_id": 1 }, rawdoc! { "_id": 1 }]).await;
}

#[tokio::test]
async fn tls_is_spoken_and_nothing_else() {
    let server = Server::start(Options { tls: true, ..Options::default() });
    assert!(server.client().await.list_database_names().await.is_ok());
    let reader = server.create_read_only_user(Scope::All, "reader").await;
    assert!(client(&reader).await.list_database_names().await.is_ok());
    let plain = reader.split("&tls=").next().unwrap().to_owned() + "&serverSelectionTimeoutMS=500";
    assert!(client(&plain).await.list_database_names().await.is_err());
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let mut server = Server::start(Options { durable: true, ..Options::default() });
    let (pid, port) = (server.pid(), server.port());
    server.insert_raw("kept.t", &[rawdoc! { "_id": 1 }, rawdoc! { "_id": 2 }]).await;
    server.restart();
    assert!(server.pid() != pid && server.port() == port);
    assert_eq!(server.read_raw("kept.t").await, [rawdoc! { "_id": 1 }, rawdoc! { "_id": 2 }]);
    let folder = server.folder().to_owned();
    drop(server);
    assert!(!folder.exists());
}

#[tokio::test]
async fn a_small_oplog_forgets() {
    let server = Server::start(Options { oplog_max_entries: Some(50), ..Options::default() });
    if server.flavour() == Flavour::Mongod {
        // It prunes in its own time, so what can be seen is what it was told.
        let oplog = server.command("local", doc! { "collStats": "oplog.rs" }).await;
        let size_bytes = oplog.get("maxSize").and_then(|size| size.as_i64().or(size.as_i32().map(i64::from)));
        assert_eq!(size_bytes, Some(1 << 20), "{oplog}");
        return;
    }
    let collection = server.client().await.database("pruned").collection::<Document>("t");
    let mut stream = collection.watch().await.unwrap();
    collection.insert_one(doc! { "_id": -1 }).await.unwrap();
    let token = stream.next().await.unwrap().unwrap().id;
    // SecantusDB looks at every thousandth entry.
    let more: Vec<_> = (0..2500).map(|id| rawdoc! { "_id": id }).collect();
    server.insert_raw("pruned.t", &more).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    let lost = loop {
        let resumed = collection.watch().resume_after(token.clone()).await;
        let Some(error) = resumed.err() else {
            assert!(Instant::now() < deadline, "the token's entry is still there");
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        break error;
    };
    assert_eq!(code(&lost), Some(286));
}

#[tokio::test]
async fn fail_points_work_where_asked_for() {
    let server = Server::start(Options { fail_points: true, ..Options::default() });
    let fail = doc! {
        "configureFailPoint": "failCommand",
        "mode": { "times": 1 },
        "data": { "failCommands": ["ping"], "errorCode": 11601 },
    };
    server.command("admin", fail.clone()).await;
    let client = server.client().await;
    let refused = client.database("admin").run_command(doc! { "ping": 1 }).await.unwrap_err();
    assert_eq!(code(&refused), Some(11601));
    let shared = Server::shared().client().await;
    assert!(shared.database("admin").run_command(fail).await.is_err());
}

/// The child of the test below, run as a process of its own so that it can be killed.
#[test]
#[ignore = "run by a_killed_process_takes_its_server_along"]
fn hold_a_server_until_killed() {
    let server = Server::shared();
    println!("SERVER {} {}", server.pid(), server.folder().display());
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_killed_process_takes_its_server_along() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "hold_a_server_until_killed", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // The test harness prints the test's name on the same line first.
    let line = lines.map_while(Result::ok).find(|line| line.contains("SERVER ")).unwrap();
    let (pid, folder) = line.split_once("SERVER ").unwrap().1.split_once(' ').unwrap();
    assert!(is_alive(pid) && Path::new(folder).is_dir());
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("the server is gone", || !is_alive(pid));
    wait_until("the folder is gone", || !Path::new(folder).exists());
}

#[test]
fn servers_of_many_threads_do_not_collide() {
    let ports: std::collections::BTreeSet<u16> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| Server::start(Options::default()))).collect();
        let servers: Vec<Server> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        servers.iter().map(Server::port).collect()
    });
    assert_eq!(ports.len(), 4);
}
