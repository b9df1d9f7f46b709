//! The one bridge from waiting to computing: hashing, compressing and sealing run on rayon's
//! threads, in jobs whose results come back in the order they were asked for.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::oneshot;

use repo_format::frame::{Opener, Sealer};
use repo_format::id::RepositoryId;
use repo_format::keys::KeySchedule;

use crate::error::{Error, Kind, Result};

/// Runs `work` on a computing thread and waits for it without blocking an async thread. A runtime
/// of one thread has nothing to keep free, and there it stays in order: simulations rely on that.
pub(crate) async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        return catch_unwind(AssertUnwindSafe(work)).map_err(|_| ended_early());
    }
    let (send, receive) = oneshot::channel();
    spawn(work, send);
    receive.await.map_err(|_| ended_early())
}

/// A job that panics ends its caller's operation, by dropping `send`. Left to rayon it would end
/// the process.
fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static, send: oneshot::Sender<T>) {
    rayon::spawn(move || {
        if let Ok(result) = catch_unwind(AssertUnwindSafe(work)) {
            drop(send.send(result));
        }
    });
}

fn ended_early() -> Error {
    Error::new(Kind::Internal, "a computing job ended early")
}

/// Jobs in flight, whose results are taken in order. For blocking threads.
pub(crate) struct Ordered<T> {
    waiting: VecDeque<oneshot::Receiver<T>>,
    most: usize,
}

impl<T: Send + 'static> Ordered<T> {
    /// At most `most` jobs at a time.
    pub fn new(most: usize) -> Self {
        Self { waiting: VecDeque::with_capacity(most), most }
    }

    /// Starts a job; returns the oldest result when there are too many in flight.
    pub fn push(&mut self, work: impl FnOnce() -> T + Send + 'static) -> Result<Option<T>> {
        let (send, receive) = oneshot::channel();
        spawn(work, send);
        self.waiting.push_back(receive);
        if self.waiting.len() > self.most { self.pop() } else { Ok(None) }
    }

    /// The oldest result, waiting for it.
    pub fn pop(&mut self) -> Result<Option<T>> {
        match self.waiting.pop_front() {
            Some(receive) => receive.blocking_recv().map(Some).map_err(|_| ended_early()),
            None => Ok(None),
        }
    }
}

thread_local! {
    static SEALER: RefCell<Option<(RepositoryId, u32, Sealer)>> = const { RefCell::new(None) };
    static OPENER: RefCell<Option<(RepositoryId, Opener)>> = const { RefCell::new(None) };
}

/// Lends this thread's sealer; it is made anew when the repository or epoch is another than last
/// time. A compression context takes longer to make than a leaf takes to compress.
pub(crate) fn with_sealer<T>(
    repository: RepositoryId,
    epoch: u32,
    keys: &KeySchedule,
    work: impl FnOnce(&mut Sealer) -> T,
) -> T {
    SEALER.with_borrow_mut(|slot| {
        if slot.as_ref().is_none_or(|(of, at, _)| (*of, *at) != (repository, epoch)) {
            *slot = Some((repository, epoch, Sealer::new(repository, epoch, &keys.seal(epoch))));
        }
        let (_, _, sealer) = slot.as_mut().expect("because it was just set");
        work(sealer)
    })
}

/// Lends this thread's opener.
pub(crate) fn with_opener<T>(
    repository: RepositoryId,
    keys: &KeySchedule,
    work: impl FnOnce(&mut Opener) -> T,
) -> T {
    OPENER.with_borrow_mut(|slot| {
        if slot.as_ref().is_none_or(|(of, _)| *of != repository) {
            *slot = Some((repository, Opener::new(repository, keys.clone())));
        }
        let (_, opener) = slot.as_mut().expect("because it was just set");
        work(opener)
    })
}
