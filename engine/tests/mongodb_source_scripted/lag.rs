//! A change stream that falls behind what is written.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bson::Timestamp;
use engine::monitor::{Monitor, Progress};
use engine::source::mongodb::{Options, Snapshot};
use engine_testutils::mongodb::script::{Persona, Refusal, Reply, Version, next_batch};

use crate::deployment::{Collection, Deployment, token};
use crate::moment::numbered;
use crate::play::{backed_up, nothing, play};
use crate::support::TestRepo;

/// Does not read at the time asked for, so that changes are followed.
fn shop() -> Deployment {
    let mut deployment = Deployment::new(vec![Collection::new("shop.a", numbered(3))]);
    deployment.honours = false;
    deployment
}

/// What the last round's failure is put down to.
async fn failure(lags: bool) -> engine::Error {
    // Where the stream stands from the first transaction on.
    let mut behind: Option<Timestamp> = None;
    let play = play(Persona::primary(Version::V8_0), shop(), move |command, deployment| {
        if command.name == "find" && command.document.get_bool("startTransaction").is_ok() {
            if !lags {
                return Some(Refusal::no_such_transaction().into());
            }
            behind = behind.or(Some(deployment.now));
            deployment.tick();
        }
        let behind = behind.filter(|_| command.name == "getMore")?;
        let id = command.document.get_i64("getMore").unwrap();
        let reply = next_batch("admin.$cmd.aggregate", id, &[]).resume_token(token(behind));
        Some(Reply::Late(Duration::from_millis(10), Box::new(reply.into())))
    });
    let test = TestRepo::new().await;
    let options = Options { patience: Duration::from_millis(300), ..Options::default() };
    let snapshot = Snapshot::begin(&play.parsed("shop"), &options, &test.ctx).await.unwrap();
    loop {
        match snapshot.next_round(&test.ctx.cancel).await {
            Ok(round) => snapshot.end_round(round.unwrap(), None).await.unwrap(),
            Err(error) => return error,
        }
    }
}

/// MG-C03: whether the stream does not keep up or the server ends transactions is told apart, with what helps.
#[tokio::test]
async fn c03_a_stream_that_cannot_keep_up_is_told_as_that() {
    let slow = failure(true).await;
    assert!(slow.message().contains("changes come faster than they can be followed"), "{slow}");
    let help = slow.help().unwrap();
    assert!(help.contains("faster connection") && !help.contains("minSnapshotHistory"), "{help}");
    let ended = failure(false).await;
    assert!(ended.message().contains("the server ends every transaction"), "{ended}");
    assert!(ended.help().unwrap().contains("transactionLifetimeLimitSeconds"));
}

#[derive(Default)]
struct Phases(Mutex<Vec<String>>);

impl Monitor for Phases {
    fn progress(&self, progress: &Progress) {
        let mut phases = self.0.lock().unwrap();
        if phases.last() != Some(&progress.phase) {
            phases.push(progress.phase.clone());
        }
    }
}

/// Progress says that changes are followed, where they are.
#[tokio::test]
async fn following_changes_is_a_phase_of_its_own() {
    for honours in [true, false] {
        let mut deployment = shop();
        deployment.honours = honours;
        let play = play(Persona::primary(Version::V8_0), deployment, nothing);
        let mut test = TestRepo::new().await;
        let phases = Arc::new(Phases::default());
        test.ctx.monitor = phases.clone();
        backed_up(&test, &play).await.unwrap();
        let seen = phases.0.lock().unwrap().clone();
        assert_eq!(seen.iter().any(|phase| phase == "following changes"), !honours, "{seen:?}");
    }
}
