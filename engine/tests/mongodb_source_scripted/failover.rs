//! Members that step down while they are read.
//!
//! A member that steps down answers NotWritablePrimary or InterruptedDueToReplStateChange and closes
//! its cursors; drivers do not try `getMore` again
//! (<https://github.com/mongodb/specifications/blob/master/source/retryable-reads/retryable-reads.md>).
//! A time of the past is read by whichever member has it
//! (<https://www.mongodb.com/docs/manual/reference/read-concern-snapshot/>).

use std::sync::{Arc, Mutex};

use bson::rawdoc;
use engine_testutils::mongodb::script::{Command, Persona, Refusal, Reply, Version, elect};
use repo_format::manifest::Grade;

use crate::deployment::{Collection, Deployment};
use crate::moment::numbered;
use crate::play::{Play, Shared, at, contents, member, shown};
use crate::support::TestRepo;

fn asks_for_more(command: &Command) -> bool {
    command.name == "getMore" && command.document.get_str("collection").ok() == Some("a")
}

/// How the first primary goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Going {
    SteppingDown,
    Dying,
}

/// Two members; the first one goes in the middle of a scan of `a`, and by then something was written.
fn set(going: Going, second: impl FnMut(&Command) -> Option<Reply> + Send + 'static) -> [Play; 2] {
    let mut deployment = Deployment::new(vec![Collection::new("shop.a", numbered(60))]);
    deployment.most_per_reply = 20;
    let shared: Shared = Arc::new(Mutex::new(deployment));
    let mut more = 0;
    let first = member(Persona::primary(Version::V7_0), &shared, move |command, deployment| {
        more += u32::from(asks_for_more(command));
        if asks_for_more(command) && more == 2 {
            deployment.forget_cursors();
            deployment.put("shop.a", rawdoc! { "_id": 1, "v": "after" });
            deployment.put("shop.a", rawdoc! { "_id": 50, "v": "after" });
            return Some(match going {
                Going::SteppingDown => Refusal::interrupted_by_failover().into(),
                Going::Dying => Reply::Shutdown,
            });
        }
        // From here on it takes no reads that want a primary.
        (more >= 2 && command.name != "getMore").then(|| Refusal::not_writable_primary().into())
    });
    let mut second_special = second;
    let second =
        member(Persona::secondary(Version::V7_0), &shared, move |command, _| second_special(command));
    [first, second]
}

async fn read(test: &TestRepo, members: &[Play; 2]) -> engine::Result<engine::repo::Snapshot> {
    let servers = [&members[0].server, &members[1].server];
    elect(Version::V7_0, &servers, 0, 1);
    let hosts = format!("{},{}", servers[0].address(), servers[1].address());
    let url = format!(
        "mongodb://{hosts}/shop?replicaSet=scripted&serverSelectionTimeoutMS=20000&heartbeatFrequencyMS=500"
    );
    let watching = async {
        // The others elect a primary once the first is gone.
        while members[0].server.seen().iter().filter(|command| asks_for_more(command)).count() < 2 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        elect(Version::V7_0, &servers, 1, 2);
    };
    let (snapshot, ()) = tokio::join!(test.try_backup(&url), watching);
    snapshot
}

/// MG-C18: the scan goes on from its last id on the new primary, at the same time.
#[tokio::test]
async fn c18_a_scan_goes_on_after_a_failover_at_the_same_time() {
    for going in [Going::SteppingDown, Going::Dying] {
        let members = set(going, |_| None);
        let test = TestRepo::new().await;
        let snapshot = read(&test, &members).await.unwrap();
        assert_eq!(contents(&test, &snapshot, "shop.a").await, shown(&numbered(60)), "{going:?}");
        assert_eq!(snapshot.manifest.evidence.grade, Grade::PointInTime);
        let before = members[0].scans("a");
        let after = members[1].scans("a");
        assert_eq!(after.len(), 1, "{going:?}");
        assert!(at(&before[0]).is_some() && at(&before[0]) == at(&after[0]));
        assert_eq!(after[0].document.get_document("min").unwrap().get_i32("_id").ok(), Some(39));
    }
}

/// MG-C18: where the new primary has no such history, everything is read anew, at another time.
#[tokio::test]
async fn c18_without_the_history_a_scan_starts_again() {
    let members = set(Going::SteppingDown, |command| {
        let goes_on = command.name == "find" && command.document.get("min").unwrap().is_some();
        goes_on.then(|| Refusal::snapshot_too_old().into())
    });
    let test = TestRepo::new().await;
    let snapshot = read(&test, &members).await.unwrap();
    let mut wanted = members[1].deployment().documents("shop.a");
    wanted.sort_by_key(|document| document.get_i32("_id").unwrap());
    assert_eq!(contents(&test, &snapshot, "shop.a").await, shown(&wanted));
    assert!(shown(&wanted)[1].contains("after"));
    assert_eq!(snapshot.manifest.evidence.grade, Grade::PointInTime);
}
