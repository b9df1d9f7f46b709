//! What is known of a job that has not ended: its newest state, and how to stop it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use engine::monitor::{Monitor, Progress};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
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

/// Takes the engine's progress, which comes far more often than anybody looks, and holds the job's place
/// among those that run at a time.
pub struct Gauge {
    progress: Mutex<Progress>,
    permits: Arc<Semaphore>,
    place: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Gauge {
    pub fn new(permits: Arc<Semaphore>, place: OwnedSemaphorePermit) -> Self {
        Self { progress: Mutex::default(), permits, place: Mutex::new(Some(place)) }
    }

    pub fn read(&self) -> Progress {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The job has ended: another may run in its place.
    pub fn leave(&self) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Monitor for Gauge {
    /// A prune that waits for what others have begun, for a quarter of an hour where they were killed,
    /// keeps nobody from running. Where its place was taken meanwhile, one job more runs.
    fn waits(&self, is_waiting: bool) {
        let place = if is_waiting { None } else { Arc::clone(&self.permits).try_acquire_owned().ok() };
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = place;
    }

    fn progress(&self, progress: &Progress) {
        let mut newest = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
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

    fn gauge(permits: &Arc<Semaphore>) -> Gauge {
        Gauge::new(permits.clone(), permits.clone().try_acquire_owned().expect("nobody else has it"))
    }

    #[test]
    fn who_waits_has_no_place() {
        let permits = Arc::new(Semaphore::new(1));
        let waiting = gauge(&permits);
        assert_eq!(permits.available_permits(), 0);
        waiting.waits(true);
        let other = gauge(&permits);
        waiting.waits(false);
        assert_eq!(permits.available_permits(), 0, "one more runs");
        waiting.leave();
        assert_eq!(permits.available_permits(), 0);
        other.waits(true);
        other.waits(false);
        assert_eq!(permits.available_permits(), 0, "its own place was free");
        other.leave();
        assert_eq!(permits.available_permits(), 1);
    }

    #[test]
    fn counters_never_go_back() {
        let gauge = gauge(&Arc::new(Semaphore::new(1)));
        gauge.progress(&Progress { phase: "reading".to_owned(), records: 7, ..Progress::default() });
        gauge.progress(&Progress { phase: "finishing".to_owned(), ..Progress::default() });
        assert_eq!((gauge.read().phase.as_str(), gauge.read().records), ("finishing", 7));
    }
}
