//! Telling a server that works on an answer for long from one that has gone silent.
//!
//! A scan of a table that is mostly dead rows says nothing for hours, and so does a connection whose
//! other end is gone behind a proxy. Any byte is a sign of life, since one row may take its time. Where
//! there is none, another connection asks from time to time what the server is doing.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::timeout;

use super::fault;
use super::session::{Session, literal};
use crate::error::{Error, Kind, Result};

/// How long nothing may come until the server is asked.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// Times in a row that it must not be working, to be given up.
const UNANSWERED: u32 = 5;

/// Who waits for the server.
enum Waiting<'a> {
    /// The session itself.
    Session,
    /// A process of ours with a connection of its own.
    Process { id: Option<u32>, application: &'a str },
}

impl Session {
    /// Waits for an answer on this session for as long as the server works on it.
    ///
    /// # Errors
    /// [`Unreachable`](Kind::Unreachable) when it does not, or cannot be asked.
    pub(super) fn answered<'a, T: Send + 'a>(
        &'a self,
        answer: impl Future<Output = T> + Send + 'a,
    ) -> BoxFuture<'a, Result<T>> {
        // On the heap: some of what is waited for is large, and callers would move it over their stacks.
        self.watched(answer.boxed(), Waiting::Session).boxed()
    }

    /// As [`answered`](Self::answered), for the end of a process that is connected to the same server under
    /// the name of `application`.
    pub(super) fn process_answered<'a, T: Send + 'a>(
        &'a self,
        end: impl Future<Output = T> + Send + 'a,
        id: Option<u32>,
        application: &'a str,
    ) -> BoxFuture<'a, Result<T>> {
        self.watched(end.boxed(), Waiting::Process { id, application }).boxed()
    }

    async fn watched<T>(&self, mut answer: BoxFuture<'_, T>, waiting: Waiting<'_>) -> Result<T> {
        let (mut unanswered, mut before) = (0, self.signs_of_life(&waiting).await);
        while unanswered < UNANSWERED {
            if let Ok(answer) = timeout(self.patience(), &mut answer).await {
                return Ok(answer);
            }
            let signs = self.signs_of_life(&waiting).await;
            // What cannot be known is no silence.
            let is_alive = signs.is_none() || signs != before || self.is_working(&waiting).await;
            unanswered = if is_alive { 0 } else { unanswered + 1 };
            before = signs;
        }
        let silent = self.patience() * UNANSWERED;
        let message = format!("the server said nothing for {} s, and is not at work on it", silent.as_secs());
        Err(Error::new(Kind::Unreachable, message).with_help(
            "Check the network between here and the server, and what proxies stand in it; then try again.",
        ))
    }

    /// A number that another one follows with every sign of life.
    async fn signs_of_life(&self, waiting: &Waiting<'_>) -> Option<u64> {
        match waiting {
            Waiting::Session => Some(self.bytes_passed()),
            Waiting::Process { id, .. } => wakings((*id)?).await,
        }
    }

    async fn is_working(&self, waiting: &Waiting<'_>) -> bool {
        let whose = match waiting {
            Waiting::Session => format!("pid = {}", self.backend()),
            Waiting::Process { application, .. } => format!("application_name = {}", literal(application)),
        };
        // Waiting for the client means that bytes get no further: they would have arrived by now.
        let sql = format!(
            "SELECT (coalesce(state, 'disabled') IN ('active', 'disabled') AND wait_event_type IS DISTINCT FROM 'Client')::text \
             FROM pg_stat_activity WHERE {whose}"
        );
        let asking = async {
            match self.beside().await {
                Ok(other) => other.rows(&sql).await.is_ok_and(|rows| rows.iter().any(|row| row.flag(0))),
                // It speaks, and may well be at work.
                Err(error) => fault::has_no_room(&error),
            }
        };
        timeout(PATIENCE, asking).await.unwrap_or(false)
    }
}

/// How often a process was put to sleep or to wait, which one that waits for nothing but the network is not
/// again until something arrives. Known on Linux.
async fn wakings(process: u32) -> Option<u64> {
    let status = tokio::fs::read_to_string(format!("/proc/{process}/status")).await.ok()?;
    let counts = status.lines().filter_map(|line| {
        let (name, count) = line.split_once(':')?;
        name.ends_with("voluntary_ctxt_switches").then(|| count.trim().parse::<u64>().ok())?
    });
    counts.reduce(|voluntary, others| voluntary + others)
}
