//! A played deployment behind scripted members, and what a backup of it reads.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use bson::{RawDocumentBuf, Timestamp};
use engine::document::extended_json;
use engine::repo::Snapshot;
use engine::rows::PageRequest;
use engine::source::Consistency;
use engine::source::mongodb::MongoUrl;
use engine::{backup, history};
use engine_testutils::mongodb::script::{Clock, Command, Persona, Reply, Scripted, Version};
use repo_format::manifest::Trigger;

use crate::deployment::Deployment;
use crate::support::TestRepo;

/// Releases that take snapshots, all of which read at one time on request.
pub const RELEASES: [Version; 4] = [Version::V5_0, Version::V6_0, Version::V7_0, Version::V8_0];

pub type Shared = Arc<Mutex<Deployment>>;

/// One member of a deployment, or its router.
pub struct Play {
    pub server: Scripted,
    deployment: Shared,
}

/// Plays the deployment; `special` answers first, and may change what is there.
pub fn play(
    persona: Persona,
    deployment: Deployment,
    special: impl FnMut(&Command, &mut Deployment) -> Option<Reply> + Send + 'static,
) -> Play {
    member(persona, &Arc::new(Mutex::new(deployment)), special)
}

/// As [`play`], of a deployment that has other members, too.
pub fn member(
    persona: Persona,
    deployment: &Shared,
    mut special: impl FnMut(&Command, &mut Deployment) -> Option<Reply> + Send + 'static,
) -> Play {
    let clock: Arc<OnceLock<Clock>> = Arc::default();
    let (shared, own_clock) = (Arc::clone(deployment), Arc::clone(&clock));
    let server = Scripted::start(persona, move |command| {
        let mut deployment = shared.lock().unwrap();
        let reply = special(command, &mut deployment);
        let reply = reply.unwrap_or_else(|| deployment.answer(command));
        if let Some(clock) = own_clock.get() {
            clock.set(deployment.now);
        }
        reply
    });
    server.set_cluster_time(deployment.lock().unwrap().now);
    clock.set(server.clock()).unwrap();
    Play { server, deployment: Arc::clone(deployment) }
}

/// Nothing special.
pub fn nothing(_: &Command, _: &mut Deployment) -> Option<Reply> {
    None
}

impl Play {
    pub fn deployment(&self) -> MutexGuard<'_, Deployment> {
        self.deployment.lock().unwrap()
    }

    /// The URL of one database in it.
    pub fn url(&self, database: &str) -> String {
        format!("{}{database}?serverSelectionTimeoutMS=3000", self.server.url())
    }

    pub fn parsed(&self, database: &str) -> MongoUrl {
        MongoUrl::parse(&self.url(database)).unwrap()
    }

    /// The `find`s of a collection that asked for all of it (a probe asks for one document).
    pub fn scans(&self, name: &str) -> Vec<Command> {
        let all = |command: &Command| {
            command.document.get_str("find").ok() == Some(name)
                && command.document.get("limit").unwrap().is_none()
                && command.document.get("filter").unwrap().is_none()
        };
        self.server.seen_named("find").into_iter().filter(all).collect()
    }
}

/// The time that the command asks to be read at.
pub fn at(command: &Command) -> Option<Timestamp> {
    command.at_cluster_time()
}

/// Whether a command has a name or a text in it, wherever.
pub fn says(command: &Command, word: &str) -> bool {
    command.document.as_bytes().windows(word.len()).any(|bytes| bytes == word.as_bytes())
}

/// A backup of the database "shop".
pub async fn backed_up(test: &TestRepo, play: &Play) -> engine::Result<Snapshot> {
    test.try_backup(&play.url("shop")).await
}

/// As [`backed_up`], where records may be of different moments.
pub async fn backed_up_at_best(test: &TestRepo, play: &Play) -> engine::Result<Snapshot> {
    let request = backup::Request {
        source_id: "db1".to_owned(),
        source_name: "test".to_owned(),
        url: play.url("shop"),
        consistency: Consistency::BestEffort,
        trigger: Trigger::Manual,
        note: None,
    };
    backup::run(&test.repo, &request, &test.ctx).await
}

/// The documents of a collection in a snapshot as Extended JSON, in key order.
pub async fn contents(test: &TestRepo, snapshot: &Snapshot, name: &str) -> Vec<String> {
    let page = PageRequest { limit: 1_000_000, ..PageRequest::default() };
    let records = history::records(&test.repo, snapshot, name, &page).await.unwrap();
    assert_eq!(records.next_cursor, None);
    let documents = records.items.iter().map(|record| record.content.document().unwrap().to_owned());
    documents.collect()
}

/// As [`contents`] shows documents.
pub fn shown(documents: &[RawDocumentBuf]) -> Vec<String> {
    documents.iter().map(|document| extended_json(document.as_bytes())).collect()
}
