//! Telling a server that works on an answer for long from one that has gone silent.
//!
//! A scan of a table that is mostly dead rows says nothing for hours, and so does a connection whose
//! other end is gone behind a proxy. From time to time another connection asks what the server is doing.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::timeout;

use super::session::Session;
use crate::error::{Error, Kind, Result};

/// How long nothing may come until the server is asked.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// Times in a row that it must not be working, to be given up.
const UNANSWERED: u32 = 5;

impl Session {
    /// Waits for an answer for as long as the server works on it.
    ///
    /// # Errors
    /// [`Unreachable`](Kind::Unreachable) when it does not, or cannot be asked.
    pub(super) async fn answered<T>(&self, answer: impl Future<Output = T>) -> Result<T> {
        let mut answer = pin!(answer);
        // Most rows are there already, and need no clock.
        if let Poll::Ready(answer) = futures::poll!(answer.as_mut()) {
            return Ok(answer);
        }
        let mut unanswered = 0;
        while unanswered < UNANSWERED {
            if let Ok(answer) = timeout(self.patience(), &mut answer).await {
                return Ok(answer);
            }
            unanswered = if self.is_working().await { 0 } else { unanswered + 1 };
        }
        let silent = self.patience() * UNANSWERED;
        let message = format!("the server said nothing for {} s, and is not at work on it", silent.as_secs());
        Err(Error::new(Kind::Unreachable, message).with_help(
            "Check the network between here and the server, and what proxies stand in it; then try again.",
        ))
    }

    async fn is_working(&self) -> bool {
        // Waiting for the client means that its answer gets no further: it would have arrived by now.
        let sql = format!(
            "SELECT (coalesce(state, 'disabled') IN ('active', 'disabled') AND wait_event IS DISTINCT FROM 'ClientWrite')::text \
             FROM pg_stat_activity WHERE pid = {}",
            self.backend()
        );
        let asking = async {
            let other = self.beside().await.ok()?;
            Some(other.rows(&sql).await.ok()?.first().is_some_and(|row| row.flag(0)))
        };
        timeout(PATIENCE, asking).await.ok().flatten().unwrap_or(false)
    }
}
