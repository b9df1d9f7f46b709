//! What servers answer that no test server can be made to: lost commits, conflicts, altered documents.

use bson::{Document, RawDocumentBuf, Timestamp, doc, rawdoc};
use engine_testutils::mongodb::script::{Command, Persona, Refusal, Reply, Scripted, Version, first_batch};
use mongodb::Client;
use mongodb::error::{TRANSIENT_TRANSACTION_ERROR, UNKNOWN_TRANSACTION_COMMIT_RESULT};

use super::{Change, Destination, Writer};
use crate::error::{Error, Kind};

fn document(v: &str) -> RawDocumentBuf {
    rawdoc! { "_id": 1, "v": v }
}

/// A server with one document, which a transaction writes. `special` answers what is not as usual.
fn server(mut special: impl FnMut(&Command) -> Option<Reply> + Send + 'static) -> Scripted {
    let mut is_written = false;
    Scripted::start(Persona::primary(Version::V7_0), move |command| {
        if let Some(reply) = special(command) {
            return reply;
        }
        match command.name.as_str() {
            "find" => {
                first_batch("shop.orders", 0, &[document(if is_written { "new" } else { "old" })]).into()
            }
            "update" => {
                is_written = true;
                doc! { "n": 1 }.into()
            }
            "abortTransaction" => {
                is_written = false;
                doc! {}.into()
            }
            "commitTransaction" | "endSessions" => doc! {}.into(),
            name => Refusal::command_not_found(name).into(),
        }
    })
}

async fn write(server: &Scripted, change: Change) -> (Result<(), Error>, bool) {
    let client = Client::with_uri_str(server.url()).await.unwrap();
    let destination = Destination {
        database: "shop".to_owned(),
        name: "orders".to_owned(),
        bypasses: false,
        replaces: true,
    };
    let mut writer = Writer::open(client, vec![destination], Default::default()).await.unwrap();
    let written = writer.write(&vec![change], &|| Box::pin(std::future::ready(Ok(())))).await;
    (written, writer.is_unsettled())
}

fn replaced() -> Change {
    Change { destination: 0, old: Some(document("old")), new: Some(document("new")) }
}

fn unknown() -> Reply {
    Refusal::max_time_expired().with_labels(&[UNKNOWN_TRANSACTION_COMMIT_RESULT]).into()
}

fn names(server: &Scripted) -> Vec<String> {
    let ours = ["find", "update", "insert", "delete", "commitTransaction", "abortTransaction"];
    server
        .seen()
        .into_iter()
        .map(|command| command.name)
        .filter(|name| ours.contains(&name.as_str()))
        .collect()
}

#[tokio::test]
async fn a_transaction_reads_writes_reads_and_commits_durably() {
    let server = server(|_| None);
    let (written, _) = write(&server, replaced()).await;
    written.unwrap();
    assert_eq!(names(&server), ["find", "update", "find", "commitTransaction"]);
    let field = |name: &str, field: &str| -> Document {
        let command = server.seen_named(name)[0].document.clone();
        Document::try_from(command).unwrap().get_document(field).unwrap().clone()
    };
    assert_eq!(field("find", "readConcern").get_str("level").unwrap(), "snapshot");
    let concern = field("commitTransaction", "writeConcern");
    assert_eq!((concern.get_str("w").unwrap(), concern.get_bool("j").unwrap()), ("majority", true));
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_asked_for_again() {
    let mut lost = 2;
    let server = server(move |command| {
        let is_lost = command.name == "commitTransaction" && lost > 0;
        lost -= i32::from(is_lost);
        is_lost.then(unknown)
    });
    let (written, is_unsettled) = write(&server, replaced()).await;
    written.unwrap();
    assert!(!is_unsettled);
    assert_eq!(server.seen_named("update").len(), 1);
    assert_eq!(server.seen_named("commitTransaction").len(), 3);
}

#[tokio::test]
async fn a_commit_that_never_answers_is_not_taken_for_one_that_failed() {
    let server = server(|command| (command.name == "commitTransaction").then(unknown));
    let (written, is_unsettled) = write(&server, replaced()).await;
    let error = written.unwrap_err();
    assert_eq!(error.kind(), Kind::Unreachable, "{error}");
    assert!(error.message().contains("it is not known") && is_unsettled, "{error}");
}

#[tokio::test]
async fn a_transaction_that_the_server_ended_is_begun_anew() {
    let mut conflicts = 1;
    let server = server(move |command| {
        let is_conflict = command.name == "update" && conflicts > 0;
        conflicts -= i32::from(is_conflict);
        let refusal =
            || Refusal::new(112, "WriteConflict", "conflict").with_labels(&[TRANSIENT_TRANSACTION_ERROR]);
        is_conflict.then(|| refusal().into())
    });
    write(&server, replaced()).await.0.unwrap();
    let wanted = ["find", "update", "abortTransaction", "find", "update", "find", "commitTransaction"];
    assert_eq!(names(&server), wanted);
}

#[tokio::test]
async fn a_document_that_the_server_alters_is_not_committed() {
    let mut found = 0;
    let server = server(move |command| {
        found += i32::from(command.name == "find");
        let altered = || first_batch("shop.orders", 0, &[document("altered")]).into();
        (command.name == "find" && found == 2).then(altered)
    });
    let error = write(&server, replaced()).await.0.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused, "{error}");
    assert!(
        error.message().contains("shop.orders: the server does not keep the document with _id 1"),
        "{error}"
    );
    assert_eq!(names(&server), ["find", "update", "find", "abortTransaction"]);
}

/// Servers before 8.0 do not know how to keep empty timestamps on insertion: a pipeline empties them again.
#[tokio::test]
async fn empty_timestamps_stay_empty_on_servers_that_fill_them_in() {
    let timed = rawdoc! { "_id": 1, "t": Timestamp { time: 0, increment: 0 } };
    let (mut is_there, stored) = (false, timed.clone());
    let server = server(move |command| match command.name.as_str() {
        "find" => Some(
            first_batch("shop.orders", 0, if is_there { std::slice::from_ref(&stored) } else { &[] }).into(),
        ),
        "insert" if command.document.get("bypassEmptyTsReplacement").unwrap().is_some() => {
            Some(Refusal::new(40_415, "Location40415", "unknown field").into())
        }
        "insert" => Some(doc! { "n": 1 }.into()),
        "update" => {
            is_there = true;
            Some(doc! { "n": 1 }.into())
        }
        _ => None,
    });
    write(&server, Change { destination: 0, old: None, new: Some(timed.clone()) }).await.0.unwrap();
    let wanted =
        ["find", "insert", "abortTransaction", "find", "insert", "update", "find", "commitTransaction"];
    assert_eq!(names(&server), wanted);
    let update = Document::try_from(server.seen_named("update")[0].document.clone()).unwrap();
    let statement = update.get_array("updates").unwrap()[0].as_document().unwrap().clone();
    let literal = doc! { "$replaceWith": { "$literal": Document::try_from(timed).unwrap() } };
    assert_eq!(statement.get_array("u").unwrap()[0].as_document(), Some(&literal));
}
