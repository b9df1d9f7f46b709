//! What is known of a job that has not ended: its newest state, and how to stop it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use engine::monitor::{Monitor, Progress};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Job;
use crate::meta::{JobRecord, JobState};

/// A job's live state. Clones share it.
#[derive(Clone)]
pub struct Feed {
    sender: Arc<watch::Sender<Job>>,
    token: CancellationToken,
    by_user: Arc<AtomicBool>,
}

impl Feed {
    /// Begins with a stored state; the job stops with `stopping`, too.
    pub fn new(record: JobRecord, stopping: &CancellationToken) -> Self {
        let job = Job { record, result: None, error: None };
        Self {
            sender: Arc::new(watch::Sender::new(job)),
            token: stopping.child_token(),
            by_user: Arc::default(),
        }
    }

    pub fn job(&self) -> Job {
        self.sender.borrow().clone()
    }

    pub fn state(&self) -> JobState {
        self.sender.borrow().state()
    }

    pub fn watch(&self) -> watch::Receiver<Job> {
        self.sender.subscribe()
    }

    pub fn publish(&self, job: Job) {
        self.sender.send_replace(job);
    }

    /// Publishes newer counters; says whether they were newer.
    pub fn publish_progress(&self, progress: Progress) -> bool {
        self.sender.send_if_modified(|job| {
            let newer = job.record.progress != progress;
            job.record.progress = progress;
            newer
        })
    }

    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Stops the job on a user's behalf.
    pub fn cancel(&self) {
        self.by_user.store(true, Ordering::SeqCst);
        self.token.cancel();
    }

    /// How a job that was stopped ended; `None` if nobody stopped it.
    pub fn stopped_as(&self) -> Option<JobState> {
        match (self.by_user.load(Ordering::SeqCst), self.token.is_cancelled()) {
            (true, _) => Some(JobState::Cancelled),
            (false, true) => Some(JobState::Interrupted),
            (false, false) => None,
        }
    }
}

/// Takes the engine's progress, which comes far more often than anybody looks.
#[derive(Default)]
pub struct Gauge(Mutex<Progress>);

impl Gauge {
    pub fn read(&self) -> Progress {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Monitor for Gauge {
    fn progress(&self, progress: &Progress) {
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A phase that counts nothing reports zeros; what was counted before stays.
        *newest = Progress {
            phase: progress.phase.clone(),
            collections_done: newest.collections_done.max(progress.collections_done),
            collections_total: newest.collections_total.max(progress.collections_total),
            records: newest.records.max(progress.records),
            bytes_read: newest.bytes_read.max(progress.bytes_read),
            bytes_stored: newest.bytes_stored.max(progress.bytes_stored),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_never_go_back() {
        let gauge = Gauge::default();
        gauge.progress(&Progress { phase: "reading".to_owned(), records: 7, ..Progress::default() });
        gauge.progress(&Progress { phase: "finishing".to_owned(), ..Progress::default() });
        assert_eq!((gauge.read().phase.as_str(), gauge.read().records), ("finishing", 7));
    }
}
