//! The scripted server is believed by the real driver.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bson::{Document, RawDocumentBuf, Timestamp, doc, rawdoc};
use engine_testutils::mongodb::script::{
    Command, Persona, Refusal, Reply, Role, SET_NAME, Scripted, Version, elect, first_batch, next_batch,
};
use futures::TryStreamExt;
use mongodb::error::{Error, ErrorKind};
use mongodb::options::{ReadPreference, SelectionCriteria, SessionOptions};
use mongodb::{Client, Collection};

const NAMESPACE: &str = "shop.orders";

fn code(error: &Error) -> Option<i32> {
    match &*error.kind {
        ErrorKind::Command(refused) => Some(refused.code),
        _ => None,
    }
}

async fn orders(server: &Scripted) -> Collection<RawDocumentBuf> {
    Client::with_uri_str(server.url()).await.unwrap().database("shop").collection("orders")
}

async fn find(orders: &Collection<RawDocumentBuf>) -> mongodb::error::Result<Vec<RawDocumentBuf>> {
    orders.find(doc! {}).await?.try_collect().await
}

/// A script that finds nothing, and knows nothing else.
fn nothing(command: &Command) -> Reply {
    match command.name.as_str() {
        "find" => first_batch(NAMESPACE, 0, &[]).into(),
        name => Refusal::command_not_found(name).into(),
    }
}

/// A script that gives out the replies in their order, whatever the command.
fn in_order<R: Into<Reply>>(replies: impl IntoIterator<Item = R>) -> impl FnMut(&Command) -> Reply + Send {
    let mut replies: std::collections::VecDeque<Reply> = replies.into_iter().map(Into::into).collect();
    move |command| replies.pop_front().unwrap_or_else(|| panic!("one command too many: {}", command.name))
}

#[tokio::test]
async fn the_driver_reads_through_several_batches() {
    let documents: Vec<RawDocumentBuf> = (0..6).map(|id| rawdoc! { "_id": id }).collect();
    let server = Scripted::start(
        Persona::primary(Version::V7_0),
        in_order([
            first_batch(NAMESPACE, 77, &documents[..2]),
            next_batch(NAMESPACE, 77, &documents[2..4]),
            next_batch(NAMESPACE, 0, &documents[4..]),
        ]),
    );
    let cursor = orders(&server).await.find(doc! { "open": true }).batch_size(2).await.unwrap();
    assert_eq!(cursor.try_collect::<Vec<_>>().await.unwrap(), documents);

    let find = server.seen_named("find").remove(0);
    assert_eq!((find.database.as_str(), find.document.get_str("find").unwrap()), ("shop", "orders"));
    assert_eq!(find.document.get_document("filter").unwrap(), &*rawdoc! { "open": true });
    let more = server.seen_named("getMore");
    assert_eq!(more.len(), 2);
    assert!(more.iter().all(|command| command.document.get_i64("getMore").unwrap() == 77));
    // It has come to the end by itself.
    assert!(server.seen_named("killCursors").is_empty());
}

#[tokio::test]
async fn documents_arrive_byte_for_byte() {
    let not_text = b"\x18\0\0\0\x10_id\0\x02\0\0\0\x02s\0\x03\0\0\0\xff\xfe\0\0";
    let twice = b"\x13\0\0\0\x10a\0\x01\0\0\0\x10a\0\x02\0\0\0\0";
    let odd = [&not_text[..], twice].map(|bytes| RawDocumentBuf::from_bytes(bytes.to_vec()).unwrap());
    let script = in_order([first_batch(NAMESPACE, 0, &odd)]);
    let server = Scripted::start(Persona::primary(Version::V6_0), script);
    let found = find(&orders(&server).await).await.unwrap();
    assert_eq!(
        found.iter().map(|d| d.as_bytes()).collect::<Vec<_>>(),
        [odd[0].as_bytes(), odd[1].as_bytes()]
    );
}

#[tokio::test]
async fn refusals_arrive_with_code_name_and_labels() {
    let refusals = || {
        [
            (13, "Unauthorized", Refusal::unauthorized("shop")),
            (26, "NamespaceNotFound", Refusal::namespace_not_found(NAMESPACE)),
            (43, "CursorNotFound", Refusal::cursor_not_found(77)),
            (50, "MaxTimeMSExpired", Refusal::max_time_expired()),
            (123, "NotAReplicaSet", Refusal::not_a_replica_set()),
            (175, "QueryPlanKilled", Refusal::query_plan_killed()),
            (239, "SnapshotTooOld", Refusal::snapshot_too_old()),
            (246, "SnapshotUnavailable", Refusal::snapshot_unavailable()),
            (251, "NoSuchTransaction", Refusal::no_such_transaction()),
            (286, "ChangeStreamHistoryLost", Refusal::change_stream_history_lost()),
        ]
    };
    let script = in_order(refusals().map(|(_, _, refusal)| refusal.with_labels(&["OfATest"])));
    let server = Scripted::start(Persona::mongos(Version::V8_0), script);
    let orders = orders(&server).await;
    for (code, name, _) in refusals() {
        let error = find(&orders).await.unwrap_err();
        let ErrorKind::Command(refused) = &*error.kind else { panic!("{error}") };
        assert_eq!((refused.code, refused.code_name.as_str()), (code, name));
        assert!(error.contains_label("OfATest"));
    }
}

#[tokio::test]
async fn a_dropped_connection_is_survived() {
    let document = rawdoc! { "_id": 1 };
    let script = in_order::<Reply>([
        Reply::Drop,
        first_batch(NAMESPACE, 77, std::slice::from_ref(&document)).into(),
        Reply::Drop,
        first_batch(NAMESPACE, 0, &[]).into(),
    ]);
    let server = Scripted::start(Persona::primary(Version::V7_0), script);
    let orders = orders(&server).await;
    // The driver repeats a find by itself, and no getMore.
    let mut cursor = orders.find(doc! {}).await.unwrap();
    assert!(cursor.advance().await.unwrap() && cursor.current() == &*document);
    let lost = cursor.advance().await.unwrap_err();
    assert!(matches!(&*lost.kind, ErrorKind::Io(_)), "{lost}");
    assert!(find(&orders).await.unwrap().is_empty());
    let finds = server.seen_named("find");
    assert_eq!((finds.len(), server.seen_named("getMore").len()), (3, 1));
    assert_ne!(finds[0].connection, finds[1].connection);
}

#[tokio::test]
async fn a_failover_between_two_members_is_followed() {
    let stepped_down = Arc::new(AtomicBool::new(false));
    let first = {
        let stepped_down = Arc::clone(&stepped_down);
        Scripted::start(Persona::standalone(Version::V7_0), move |_| {
            if stepped_down.load(Ordering::SeqCst) {
                return Refusal::not_writable_primary().into();
            }
            first_batch(NAMESPACE, 0, &[rawdoc! { "_id": 1 }]).into()
        })
    };
    let second = Scripted::start(Persona::standalone(Version::V7_0), |_| {
        first_batch(NAMESPACE, 0, &[rawdoc! { "_id": 2 }]).into()
    });
    elect(Version::V7_0, &[&first, &second], 0, 1);
    assert_eq!((first.persona().role, second.persona().role), (Role::Primary, Role::Secondary));
    let orders = orders(&first).await;
    assert_eq!(find(&orders).await.unwrap(), [rawdoc! { "_id": 1 }]);

    let secondary = orders.clone_with_type::<RawDocumentBuf>();
    let criteria = SelectionCriteria::ReadPreference(ReadPreference::Secondary { options: None });
    let from_secondary = secondary.find_one(doc! {}).selection_criteria(criteria).await.unwrap();
    assert_eq!(from_secondary, Some(rawdoc! { "_id": 2 }));

    stepped_down.store(true, Ordering::SeqCst);
    elect(Version::V7_0, &[&first, &second], 1, 2);
    assert_eq!(find(&orders).await.unwrap(), [rawdoc! { "_id": 2 }]);
    assert_eq!((first.seen_named("find").len(), second.seen_named("find").len()), (2, 2));
}

#[tokio::test]
async fn a_server_goes_down_and_comes_back() {
    let script = in_order::<Reply>([
        first_batch(NAMESPACE, 0, &[]).into(),
        Reply::Shutdown,
        first_batch(NAMESPACE, 0, &[]).into(),
    ]);
    let server = Scripted::start(Persona::standalone(Version::V5_0), script);
    let url = server.url() + "?serverSelectionTimeoutMS=700&retryReads=false";
    let orders = Client::with_uri_str(url).await.unwrap().database("shop").collection("orders");
    find(&orders).await.unwrap();
    let cut_off = find(&orders).await.unwrap_err();
    assert!(matches!(&*cut_off.kind, ErrorKind::Io(_)), "{cut_off}");
    let gone = find(&orders).await.unwrap_err();
    assert!(matches!(&*gone.kind, ErrorKind::ServerSelection { .. }), "{gone}");
    server.reopen();
    let deadline = Instant::now() + Duration::from_secs(10);
    while let Err(error) = find(&orders).await {
        assert!(Instant::now() < deadline, "{error}");
    }
}

#[tokio::test]
async fn snapshot_reads_are_honoured_where_the_script_does() {
    let time = Timestamp { time: 1_700_000_123, increment: 4 };
    let script = move |_: &Command| first_batch(NAMESPACE, 0, &[]).at_cluster_time(time).into();
    for version in [Version::V5_0, Version::V6_0, Version::V7_0, Version::V8_0] {
        let server = Scripted::start(Persona::primary(version), script);
        let orders = orders(&server).await;
        let mut session = orders.client().start_session().snapshot(true).await.unwrap();
        for _ in 0..2 {
            orders.find(doc! {}).session(&mut session).await.unwrap();
        }
        let asked: Vec<_> = server.seen_named("find").iter().map(Command::at_cluster_time).collect();
        assert_eq!(asked, [None, Some(time)]);
    }
    let old = Scripted::start(Persona::primary(Version::V4_4), nothing);
    let orders = orders(&old).await;
    let options = SessionOptions::builder().snapshot(true).build();
    let mut session = orders.client().start_session().with_options(options).await.unwrap();
    let refused = orders.find(doc! {}).session(&mut session).await.err().unwrap();
    assert!(refused.to_string().contains("5.0"), "{refused}");
    assert!(old.seen_named("find").is_empty());
}

#[tokio::test]
async fn every_persona_is_what_it_says() {
    let roles = [Persona::standalone, Persona::mongos, Persona::primary, Persona::secondary];
    for version in [Version::V4_4, Version::V5_0, Version::V6_0, Version::V7_0, Version::V8_0] {
        for persona in roles.map(|role| role(version)) {
            let role = persona.role;
            let server = Scripted::start(persona, nothing);
            let url = server.url() + "?directConnection=true";
            let admin = Client::with_uri_str(url).await.unwrap().database("admin");
            let hello = admin.run_command(doc! { "hello": 1 }).await.unwrap();
            assert_eq!(hello.get_i32("maxWireVersion").unwrap(), version.wire);
            assert_eq!(hello.get_bool("isWritablePrimary").unwrap(), role != Role::Secondary);
            assert_eq!(hello.get_str("msg").ok(), (role == Role::Mongos).then_some("isdbgrid"));
            let in_set = matches!(role, Role::Primary | Role::Secondary);
            assert_eq!(hello.get_str("setName").ok(), in_set.then_some(SET_NAME));
            assert_eq!(hello.contains_key("electionId"), role == Role::Primary);
            assert_eq!(hello.contains_key("$clusterTime"), role != Role::Standalone);
            let [major, minor, patch] = version.build;
            let build = admin.run_command(doc! { "buildInfo": 1 }).await.unwrap();
            assert_eq!(build.get_str("version").unwrap(), format!("{major}.{minor}.{patch}"));
            let unknown = admin.run_command(doc! { "frobnicate": 1 }).await.unwrap_err();
            assert_eq!(code(&unknown), Some(59));
        }
    }
}

#[tokio::test]
async fn a_test_decides_about_times_and_further_fields() {
    let persona = Persona { extra: doc! { "tags": { "use": "backup" } }, ..Persona::primary(Version::V8_0) };
    let server = Scripted::start(persona, |_| doc! { "n": 1 }.into());
    let later = Timestamp { time: 1_800_000_000, increment: 9 };
    server.set_cluster_time(later);
    let admin = Client::with_uri_str(server.url()).await.unwrap().database("admin");
    let hello = admin.run_command(doc! { "hello": 1 }).await.unwrap();
    assert_eq!(hello.get_document("tags").unwrap(), &doc! { "use": "backup" });
    let reply = admin.run_command(doc! { "anything": 1 }).await.unwrap();
    assert_eq!((reply.get_timestamp("operationTime").unwrap(), reply.get_i32("n").unwrap()), (later, 1));
    server.set_persona(Persona { session_timeout_minutes: None, ..server.persona() });
    let hello = admin.run_command(doc! { "hello": 1 }).await.unwrap();
    assert!(!hello.contains_key("logicalSessionTimeoutMinutes"));
}

#[tokio::test]
async fn documents_beside_a_command_are_seen_in_it() {
    let script = in_order([doc! { "n": 2 }]);
    let server = Scripted::start(Persona::primary(Version::V7_0), script);
    orders(&server).await.insert_many([rawdoc! { "_id": 1 }, rawdoc! { "_id": 2 }]).await.unwrap();
    let insert = Document::try_from(server.seen_named("insert").remove(0).document).unwrap();
    assert_eq!(insert.get_array("documents").unwrap(), &[doc! { "_id": 1 }.into(), doc! { "_id": 2 }.into()]);
}

#[tokio::test]
async fn silence_is_silence_and_late_is_late() {
    let late = Reply::Late(Duration::from_millis(300), Box::new(first_batch(NAMESPACE, 0, &[]).into()));
    let server = Scripted::start(Persona::primary(Version::V7_0), in_order([late, Reply::Silence]));
    let orders = orders(&server).await;
    let started = Instant::now();
    assert!(find(&orders).await.unwrap().is_empty());
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert!(tokio::time::timeout(Duration::from_millis(300), find(&orders)).await.is_err());
}

#[test]
fn the_old_greeting_is_answered_in_kind() {
    let server = Scripted::start(Persona::secondary(Version::V5_0), nothing);
    let question = rawdoc! { "isMaster": 1, "helloOk": true };
    let mut body = 0i32.to_le_bytes().to_vec();
    body.extend(b"admin.$cmd\0");
    body.extend(0i32.to_le_bytes());
    body.extend((-1i32).to_le_bytes());
    body.extend(question.as_bytes());
    let length = i32::try_from(16 + body.len()).unwrap();
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let header: Vec<u8> = [length, 42, 0, 2004].into_iter().flat_map(i32::to_le_bytes).collect();
    stream.write_all(&[header, body].concat()).unwrap();

    let mut header = [0; 36];
    stream.read_exact(&mut header).unwrap();
    let int = |at: usize| i32::from_le_bytes(header[at..at + 4].try_into().unwrap());
    assert_eq!((int(8), int(12), int(32)), (42, 1, 1), "the request's id, OP_REPLY, one document");
    let mut document = vec![0; usize::try_from(int(0)).unwrap() - 36];
    stream.read_exact(&mut document).unwrap();
    let reply = RawDocumentBuf::from_bytes(document).unwrap();
    assert!(!reply.get_bool("ismaster").unwrap() && reply.get_bool("helloOk").unwrap());
    assert_eq!(server.seen_named("isMaster")[0].database, "admin");
}

#[tokio::test]
#[should_panic(expected = "the script panicked: one command too many: find")]
async fn a_script_that_panics_fails_the_test() {
    let server = Scripted::start(Persona::primary(Version::V7_0), in_order::<Reply>([]));
    assert!(find(&orders(&server).await).await.is_err());
}
