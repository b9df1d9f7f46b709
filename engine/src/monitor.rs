//! How an operation tells its caller what it is doing. The crate never prints.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// Where an operation stands. Counters only grow within one operation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What is being done now, in words for people ("reading public.orders").
    pub phase: String,
    /// Collections finished.
    pub collections_done: u64,
    /// Collections in all; 0 until they are listed.
    pub collections_total: u64,
    /// Records processed.
    pub records: u64,
    /// Bytes read from the database, or from the repository when restoring or verifying.
    pub bytes_read: u64,
    /// Bytes added to the repository, after compression and encryption.
    pub bytes_stored: u64,
}

/// Receives progress. Called often: implementations must return at once.
pub trait Monitor: Send + Sync {
    /// The newest state of the operation.
    fn progress(&self, progress: &Progress);

    /// Whether the operation has nothing to do but wait for others, maybe for long, from now on.
    fn waits(&self, is_waiting: bool) {
        let _ = is_waiting;
    }
}

/// A monitor that ignores everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Monitor for Silent {
    fn progress(&self, _: &Progress) {}
}

/// Passes progress on as one operation's: counters never shrink, though every step counts anew.
pub(crate) struct Steps {
    listener: Arc<dyn Monitor>,
    newest: Mutex<Progress>,
}

impl Steps {
    pub fn new(listener: Arc<dyn Monitor>) -> Self {
        Self { listener, newest: Mutex::default() }
    }

    /// Tells that a step begins.
    pub fn step(&self, phase: &str) {
        self.progress(&Progress { phase: phase.to_owned(), ..Progress::default() });
    }
}

impl Monitor for Steps {
    fn progress(&self, progress: &Progress) {
        let merged = {
            let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
            *newest = Progress {
                phase: progress.phase.clone(),
                collections_done: newest.collections_done.max(progress.collections_done),
                collections_total: newest.collections_total.max(progress.collections_total),
                records: newest.records.max(progress.records),
                bytes_read: newest.bytes_read.max(progress.bytes_read),
                bytes_stored: newest.bytes_stored.max(progress.bytes_stored),
            };
            newest.clone()
        };
        self.listener.progress(&merged);
    }

    fn waits(&self, is_waiting: bool) {
        self.listener.waits(is_waiting);
    }
}
