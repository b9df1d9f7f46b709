//! Databases that the server does not list to who may neither list all nor read them
//! (<https://www.mongodb.com/docs/manual/reference/command/listDatabases/>: `authorizedDatabases`).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use bson::{Document, doc};
use engine::backup;
use engine::diff::{self, Status, Summary};
use engine::repo::Snapshot;
use engine::source::{Stage, mongodb};
use engine_testutils::mongodb::script::{Command, Persona, Refusal, Reply, Version};
use repo_format::manifest::Trigger;

use crate::deployment::{Collection, Deployment};
use crate::moment::numbered;
use crate::play::{Play, play};
use crate::support::{TestRepo, request};

/// What a user may.
#[derive(Default)]
struct Rights {
    reads: BTreeSet<&'static str>,
    lists_all: bool,
}

impl Rights {
    fn privileges(&self) -> Vec<Document> {
        let read = ["changeStream", "collStats", "find", "listCollections", "listIndexes"].to_vec();
        let of = |database: &&str| doc! { "resource": { "db": *database, "collection": "" }, "actions": read.clone() };
        let list = doc! { "resource": { "cluster": true }, "actions": ["listDatabases"] };
        self.reads.iter().map(of).chain(self.lists_all.then_some(list)).collect()
    }

    /// As MongoDB answers such a user; none where it answers as everybody.
    fn answer(&self, command: &Command, deployment: &Deployment) -> Option<Reply> {
        let database = command.database.as_str();
        match command.name.as_str() {
            "connectionStatus" => Some(
                doc! { "authInfo": {
                    "authenticatedUsers": [{ "user": "reader", "db": "admin" }],
                    "authenticatedUserRoles": [{ "role": "given", "db": "admin" }],
                    "authenticatedUserPrivileges": self.privileges(),
                } }
                .into(),
            ),
            "listDatabases"
                if !self.lists_all || command.document.get_bool("authorizedDatabases").is_ok() =>
            {
                let there =
                    |database: &&&str| deployment.collections.iter().any(|it| it.database == **database);
                let names = self.reads.iter().filter(there).map(|name| doc! { "name": *name });
                Some(doc! { "databases": names.collect::<Vec<_>>() }.into())
            }
            "listCollections" if !self.reads.contains(database) => {
                Some(Refusal::unauthorized(database).into())
            }
            _ => None,
        }
    }
}

/// Two databases, and a user who may read both and not list all.
fn two() -> (Play, Arc<Mutex<Rights>>) {
    let rights = Rights { reads: BTreeSet::from(["app", "other"]), lists_all: false };
    let rights = Arc::new(Mutex::new(rights));
    let held = Arc::clone(&rights);
    let deployment =
        Deployment::new(vec![Collection::new("app.a", numbered(3)), Collection::new("other.b", numbered(5))]);
    let play = play(Persona::primary(Version::V8_0), deployment, move |command, deployment| {
        held.lock().unwrap().answer(command, deployment)
    });
    (play, rights)
}

fn missing(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.manifest.missing.iter().map(|missing| missing.name.as_str()).collect()
}

fn removed(summary: &Summary) -> Vec<&str> {
    let removed = summary.collections.iter().filter(|found| found.status == Status::Removed);
    removed.map(|found| found.name.as_str()).collect()
}

/// MG-P06: who may not list databases is told so, by the test and by the snapshot.
#[tokio::test]
async fn p06_what_may_be_hidden_is_told() {
    let (play, rights) = two();
    let test = TestRepo::new().await;
    let told = "only the databases that the user may read could be seen: app, other";
    let listed = async || {
        let report = mongodb::test(&play.parsed("")).await;
        assert!(report.ok, "{report:?}");
        report.stages.into_iter().find(|found| found.stage == Stage::List).unwrap().detail
    };
    assert!(listed().await.contains(told));
    let snapshot = test.backup(&play.url("")).await;
    let notes = &snapshot.manifest.notes;
    let note = notes.iter().find(|note| note.starts_with(told)).unwrap_or_else(|| panic!("{notes:?}"));
    assert!(note.contains("readAnyDatabase") && snapshot.manifest.is_complete(), "{note}");

    rights.lock().unwrap().lists_all = true;
    assert_eq!(listed().await, "2 collections");
    let snapshot = test.backup(&play.url("")).await;
    assert!(!snapshot.manifest.notes.iter().any(|note| note.contains("could be seen")));
    // What a URL names is all there is to see.
    rights.lock().unwrap().lists_all = false;
    let snapshot = test.backup(&play.url("app")).await;
    assert!(!snapshot.manifest.notes.iter().any(|note| note.contains("could be seen")));
}

/// MG-P06: a database whose right to read was taken away is missing, in this snapshot and the next, and its
/// collections are not called removed. Once all databases are listed, one that is not is gone.
#[tokio::test]
async fn p06_a_database_that_is_not_shown_any_more_is_missing_and_not_removed() {
    let (play, rights) = two();
    let test = TestRepo::new().await;
    let first = test.backup(&play.url("")).await;
    assert!(first.manifest.is_complete() && first.manifest.records == 8, "{:?}", first.manifest);

    rights.lock().unwrap().reads.remove("other");
    // The third time the user may list all, and still not read it.
    for lists_all in [false, false, true] {
        rights.lock().unwrap().lists_all = lists_all;
        let later = test.backup(&play.url("")).await;
        assert_eq!(missing(&later), ["other"]);
        assert!(later.manifest.missing[0].reason.contains("its right to read it may have been taken away"));
        let summary = diff::summary(&test.repo, &first, &later, &test.ctx).await.unwrap();
        assert_eq!((removed(&summary), summary.not_compared.as_slice()), (vec![], &["other".to_owned()][..]));
    }

    play.deployment().collections.retain(|found| found.database != "other");
    let last = test.backup(&play.url("")).await;
    assert!(last.manifest.is_complete(), "{:?}", last.manifest.missing);
    let summary = diff::summary(&test.repo, &first, &last, &test.ctx).await.unwrap();
    assert_eq!(removed(&summary), ["other.b"]);
}

/// MG-P06: a database that the user may look into, and in which nothing is, was dropped.
#[tokio::test]
async fn p06_a_database_that_was_dropped_is_gone_where_it_could_be_read() {
    let (play, _) = two();
    let test = TestRepo::new().await;
    let first = test.backup(&play.url("")).await;
    play.deployment().collections.retain(|found| found.database != "other");
    let later = test.backup(&play.url("")).await;
    assert!(later.manifest.is_complete(), "{:?}", later.manifest.missing);
    let summary = diff::summary(&test.repo, &first, &later, &test.ctx).await.unwrap();
    assert_eq!(removed(&summary), ["other.b"]);
}

/// MG-P06: what only a snapshot before a restore had, as seen by who may write, was never this user's.
#[tokio::test]
async fn p06_what_a_restore_saw_is_not_missed() {
    let (play, rights) = two();
    let test = TestRepo::new().await;
    let may_read = |databases: &[&'static str]| {
        rights.lock().unwrap().reads = databases.iter().copied().collect();
    };
    may_read(&["app"]);
    test.backup(&play.url("")).await;
    may_read(&["app", "other"]);
    let before_restore = backup::Request { trigger: Trigger::Safety, ..request(&play.url("")) };
    let safety = backup::run(&test.repo, &before_restore, &test.ctx).await.unwrap();
    assert_eq!(safety.manifest.collections, 2);
    may_read(&["app"]);
    let later = test.backup(&play.url("")).await;
    assert_eq!((missing(&later), later.manifest.collections), (vec![], 1));
}
