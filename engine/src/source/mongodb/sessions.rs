//! Sessions that outlive slow readers.
//!
//! A server forgets a session, and with it every cursor in it, after 30 minutes without use,
//! whatever the cursor asked for. A scan whose reader is slow may stay silent for longer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bson::{Document, doc};
use mongodb::{Client, ClientSession};
use tokio::task::AbortHandle;

use super::fault;
use crate::error::Result;

const REFRESHED_EVERY: Duration = Duration::from_secs(5 * 60);

type Live = Arc<Mutex<HashMap<u64, Document>>>;

/// Opens sessions and keeps them alive while they are held.
#[derive(Debug)]
pub(super) struct Sessions {
    client: Client,
    live: Live,
    numbers: std::sync::atomic::AtomicU64,
    refresher: AbortHandle,
}

/// A session that is kept alive until it is dropped.
pub(super) struct Held {
    pub session: ClientSession,
    number: u64,
    live: Live,
}

impl Sessions {
    pub fn new(client: &Client) -> Self {
        Self::refreshed(client, REFRESHED_EVERY)
    }

    fn refreshed(client: &Client, every: Duration) -> Self {
        let live = Live::default();
        let refresher = tokio::spawn(refresh(client.clone(), live.clone(), every)).abort_handle();
        Self { client: client.clone(), live, numbers: 0.into(), refresher }
    }

    /// A session without causal consistency: every read says itself what it has to see.
    pub async fn open(&self) -> Result<Held> {
        self.hold(self.client.start_session().causal_consistency(false).await)
    }

    /// A session whose transactions see everything up to the operation time it is advanced to.
    pub async fn open_causal(&self) -> Result<Held> {
        self.hold(self.client.start_session().causal_consistency(true).await)
    }

    fn hold(&self, session: mongodb::error::Result<ClientSession>) -> Result<Held> {
        let session = session.map_err(|error| fault::statement("opening a session", &error))?;
        let number = self.numbers.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        locked(&self.live).insert(number, session.id().clone());
        Ok(Held { session, number, live: self.live.clone() })
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        self.refresher.abort();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        locked(&self.live).remove(&self.number);
    }
}

fn locked(live: &Live) -> std::sync::MutexGuard<'_, HashMap<u64, Document>> {
    live.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn refresh(client: Client, live: Live, every: Duration) {
    let mut tick = tokio::time::interval(every);
    tick.tick().await;
    loop {
        tick.tick().await;
        let ids: Vec<Document> = locked(&live).values().cloned().collect();
        if ids.is_empty() {
            continue;
        }
        let refreshed = client.database("admin").run_command(doc! { "refreshSessions": ids }).await;
        if let Err(error) = refreshed {
            let told = fault::statement("refreshing sessions", &error);
            tracing::warn!(error = %told, "a slow scan may lose its cursor");
        }
    }
}

#[cfg(test)]
mod tests {
    use engine_testutils::mongodb::script::{Command, Persona, Refusal, Scripted, Version};

    use super::*;

    /// MG-C13: the server is told of every session that is held, and of none that was let go. A session
    /// that nobody uses for 30 minutes is forgotten, with its cursors, whatever they asked for
    /// (<https://www.mongodb.com/docs/manual/reference/method/cursor.noCursorTimeout/#session-idle-timeout-overrides-nocursortimeout>).
    #[tokio::test]
    async fn sessions_are_refreshed_while_they_are_held() {
        const _: () = assert!(REFRESHED_EVERY.as_secs() * 3 < 30 * 60, "two may fail in between");
        let server =
            Scripted::start(Persona::primary(Version::V7_0), |command| match command.name.as_str() {
                "refreshSessions" => doc! {}.into(),
                name => Refusal::command_not_found(name).into(),
            });
        let client = Client::with_uri_str(server.url()).await.unwrap();
        let sessions = Sessions::refreshed(&client, Duration::from_millis(20));
        let (kept, let_go) = (sessions.open().await.unwrap(), sessions.open_causal().await.unwrap());
        let names = |command: &Command, held: &Held| {
            let ids = command.document.get_array("refreshSessions").unwrap();
            let id = bson::RawDocumentBuf::try_from(held.session.id()).unwrap();
            ids.into_iter().any(|found| found.unwrap().as_document() == Some(&id))
        };
        let next = async |after: usize| loop {
            let seen = server.seen_named("refreshSessions");
            if seen.len() > after {
                return seen.last().cloned().unwrap();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let both = next(0).await;
        assert!(names(&both, &kept) && names(&both, &let_go));
        let id_of_the_second = bson::RawDocumentBuf::try_from(let_go.session.id()).unwrap();
        drop(let_go);
        // One may have been on its way.
        let one = next(server.seen_named("refreshSessions").len() + 1).await;
        assert!(names(&one, &kept));
        let ids = one.document.get_array("refreshSessions").unwrap();
        assert!(ids.into_iter().all(|found| found.unwrap().as_document() != Some(&id_of_the_second)));
    }
}
