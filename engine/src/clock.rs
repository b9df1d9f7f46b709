//! Time and randomness, passed in so that tests can fix both.

use std::future::Future;
use std::pin::Pin;
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A wait that ends by itself.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A source of time: of the calendar's, which may jump, and of time that only passes.
pub trait Clock: Send + Sync {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    fn now_ms(&self) -> i64;

    /// Milliseconds since some moment of this process's life. Never jumps, whatever is done to the
    /// calendar; need not count time in which the computer slept.
    fn elapsed_ms(&self) -> u64 {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        START.elapsed().as_millis() as u64
    }

    /// Waits until [`elapsed_ms`](Self::elapsed_ms) has grown by so much.
    fn sleep(&self, wait_ms: u64) -> Sleep {
        Box::pin(tokio::time::sleep(Duration::from_millis(wait_ms)))
    }
}

/// A source of unpredictable bytes for nonces, names and keys.
pub trait Entropy: Send + Sync {
    /// Fills `out` with unpredictable bytes.
    fn fill(&self, out: &mut [u8]);
}

/// The operating system's clock and random number generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Clock for System {
    fn now_ms(&self) -> i64 {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
    }
}

impl Entropy for System {
    fn fill(&self, out: &mut [u8]) {
        getrandom::fill(out)
            .expect("because a system without random numbers cannot encrypt, and must not go on");
    }
}

/// Convenience over [`Entropy`]: `N` unpredictable bytes.
pub(crate) fn random<const N: usize>(entropy: &dyn Entropy) -> [u8; N] {
    let mut bytes = [0; N];
    entropy.fill(&mut bytes);
    bytes
}
