//! What a restore made, and the commands that are still on their way: a restore that ends early
//! must take away the first, and must not be overtaken by the second.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::task::TaskTracker;

use crate::error::{Error, Kind, Result};

/// (database, collection).
type Name = (String, String);

/// Whether a collection is known to be this restore's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Made {
    /// The server was asked to make it and has not answered: it may be somebody else's.
    Asked,
    /// The server made it for this restore.
    Confirmed,
}

/// The collections a restore made.
#[derive(Debug, Default)]
pub(super) struct Journal {
    made: Mutex<BTreeMap<Name, Made>>,
}

impl Journal {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Name, Made>> {
        // Nothing can fail while it is locked.
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn asked(&self, database: &str, name: &str) {
        self.lock().insert((database.to_owned(), name.to_owned()), Made::Asked);
    }

    pub fn confirmed(&self, database: &str, name: &str) {
        self.lock().insert((database.to_owned(), name.to_owned()), Made::Confirmed);
    }

    /// The server refused to make it: whatever is there is not ours.
    pub fn refused(&self, database: &str, name: &str) {
        self.lock().remove(&(database.to_owned(), name.to_owned()));
    }

    /// Everything asked for, by name.
    pub fn all(&self) -> Vec<(Name, Made)> {
        self.lock().iter().map(|(name, made)| (name.clone(), *made)).collect()
    }
}

/// Commands that write, each in a task of its own: one that was sent reaches its end even when
/// nobody waits for it any more, and its end can be awaited. An insert that came after its
/// collection was dropped would make the collection anew.
#[derive(Debug, Default)]
pub(super) struct Commands {
    running: TaskTracker,
}

impl Commands {
    /// Runs a command to its end, also when the caller is dropped meanwhile.
    pub async fn run<T: Send + 'static>(
        &self,
        command: impl Future<Output = T> + Send + 'static,
    ) -> Result<T> {
        let ended = self.running.spawn(command).await;
        ended.map_err(|error| {
            Error::new(Kind::Internal, "a command to the target ended before its answer").with_source(error)
        })
    }

    /// Waits until all have ended, but no longer than `limit`. Says whether they have.
    pub async fn ended(&self, limit: Duration) -> bool {
        self.running.close();
        tokio::time::timeout(limit, self.running.wait()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn a_refused_collection_is_nobodys() {
        let journal = Journal::default();
        journal.asked("a", "x");
        journal.asked("a", "y");
        journal.asked("a", "z");
        journal.confirmed("a", "x");
        journal.refused("a", "z");
        let name = |name: &str| ("a".to_owned(), name.to_owned());
        assert_eq!(journal.all(), [(name("x"), Made::Confirmed), (name("y"), Made::Asked)]);
    }

    #[tokio::test]
    async fn a_command_ends_although_its_caller_went_away() {
        let (commands, done) = (Commands::default(), Arc::new(AtomicBool::new(false)));
        let (answer, waiting) = tokio::sync::oneshot::channel::<()>();
        let command = {
            let done = Arc::clone(&done);
            async move {
                let _ = waiting.await;
                done.store(true, Ordering::Relaxed);
            }
        };
        let moment = Duration::from_millis(20);
        assert!(tokio::time::timeout(moment, commands.run(command)).await.is_err());
        assert!(!commands.ended(moment).await);
        answer.send(()).unwrap();
        assert!(commands.ended(Duration::from_secs(10)).await);
        assert!(done.load(Ordering::Relaxed));
    }
}
