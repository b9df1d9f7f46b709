//! Slows down guessing: after a number of failures a key waits out its window. Windows are measured in time
//! that only passes, [`engine::clock::Clock::elapsed_ms`]: a calendar that is set would hold people out for
//! years, or let guesses in.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Keys remembered before the oldest are dropped: memory is bounded whatever comes in.
const MAX_KEYS: usize = 100_000;

#[derive(Default)]
struct Window {
    started_ms: u64,
    failures: u32,
    /// Attempts that have not ended: each may yet be a failure.
    under_way: u32,
    /// Whether an attempt was refused in it.
    has_refused: bool,
}

/// Who is counted as one: an IPv4 address, or the 64 bits of an IPv6 address that its network has, for
/// one client may use all that are below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin(IpAddr);

impl From<IpAddr> for Origin {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6((u128::from(address) & !u128::from(u64::MAX)).into()),
            address => address,
        })
    }
}

/// There may be no attempt now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// After so many there may be one again.
    pub seconds: u64,
    /// Whether none was refused before, in this window: what is refused comes without end, and one of a
    /// window is worth remembering.
    pub is_first: bool,
}

/// Failures per key and window. Many attempts at once are no way round it: as many are made at a time as may
/// still fail, and the others wait for them.
pub struct Throttle<K: Eq + Hash> {
    max_failures: u32,
    window_ms: u64,
    windows: Mutex<HashMap<K, Window>>,
    /// Told when an attempt has ended.
    ended: Notify,
}

/// An attempt that is made. Dropped, it is a failure.
pub struct Attempt<'a, K: Eq + Hash> {
    throttle: &'a Throttle<K>,
    key: K,
    has_failed: bool,
}

impl<K: Eq + Hash + Clone> Throttle<K> {
    pub fn new(max_failures: u32, window_ms: u64) -> Self {
        Self { max_failures, window_ms, windows: Mutex::default(), ended: Notify::new() }
    }

    /// Begins an attempt as soon as no other stands in its way, or says for how long there may be none.
    pub async fn begin(&self, key: &K, now_ms: u64) -> Result<Attempt<'_, K>, Refusal> {
        loop {
            let mut ended = pin!(self.ended.notified());
            // From here on none is overlooked.
            ended.as_mut().enable();
            if let Some(decided) = self.decide(key, now_ms) {
                return decided;
            }
            ended.await;
        }
    }

    /// `None` where attempts that are under way decide.
    fn decide(&self, key: &K, now_ms: u64) -> Option<Result<Attempt<'_, K>, Refusal>> {
        let mut windows = self.windows();
        if windows.len() >= MAX_KEYS {
            windows.retain(|_, window| now_ms.saturating_sub(window.started_ms) < self.window_ms);
            if windows.len() >= MAX_KEYS {
                windows.clear();
            }
        }
        let fresh = |under_way| Window { started_ms: now_ms, under_way, ..Window::default() };
        let window = windows.entry(key.clone()).or_insert_with(|| fresh(0));
        if now_ms.saturating_sub(window.started_ms) >= self.window_ms {
            *window = fresh(window.under_way);
        }
        if window.failures >= self.max_failures {
            let left_ms = (window.started_ms + self.window_ms).saturating_sub(now_ms);
            let seconds = left_ms.div_ceil(1000).max(1);
            let is_first = !std::mem::replace(&mut window.has_refused, true);
            return Some(Err(Refusal { seconds, is_first }));
        }
        if window.failures + window.under_way >= self.max_failures {
            return None;
        }
        window.under_way += 1;
        Some(Ok(Attempt { throttle: self, key: key.clone(), has_failed: true }))
    }

    /// How many keys it keeps in memory.
    pub fn remembered(&self) -> usize {
        self.windows().len()
    }
}

impl<K: Eq + Hash> Throttle<K> {
    fn windows(&self) -> MutexGuard<'_, HashMap<K, Window>> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Attempt<'_, K> {
    /// It did not fail. Earlier failures stay: for keys that many share.
    pub fn take_back(mut self) {
        self.has_failed = false;
    }

    /// It succeeded, and earlier failures of the key are forgotten.
    pub fn succeed(self) {
        if let Some(window) = self.throttle.windows().get_mut(&self.key) {
            window.failures = 0;
        }
        self.take_back();
    }
}

impl<K: Eq + Hash> Drop for Attempt<'_, K> {
    fn drop(&mut self) {
        let mut windows = self.throttle.windows();
        if let Some(window) = windows.get_mut(&self.key) {
            window.under_way = window.under_way.saturating_sub(1);
            window.failures += u32::from(self.has_failed);
            if window.failures == 0 && window.under_way == 0 {
                windows.remove(&self.key);
            }
        }
        drop(windows);
        self.throttle.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn a_network_of_ipv6_is_one_origin() {
        let origin = |text: &str| Origin::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(origin("2001:db8:1:2::1"), origin("2001:db8:1:2:ffff::9"));
        assert_ne!(origin("2001:db8:1:2::1"), origin("2001:db8:1:3::1"));
        assert_eq!(origin("::ffff:192.0.2.7"), origin("192.0.2.7"));
        assert_ne!(origin("192.0.2.7"), origin("192.0.2.8"));
    }

    #[tokio::test]
    async fn failures_close_a_window_and_time_opens_it() {
        let throttle = Throttle::new(3, 60_000);
        for _ in 0..3 {
            drop(throttle.begin(&"a", 1_000).await.unwrap());
        }
        let refused = async |now_ms| throttle.begin(&"a", now_ms).await.err();
        assert_eq!(refused(31_000).await, Some(Refusal { seconds: 30, is_first: true }));
        assert_eq!(refused(32_000).await, Some(Refusal { seconds: 29, is_first: false }));
        throttle.begin(&"b", 31_000).await.unwrap().take_back();
        throttle.begin(&"a", 61_000).await.unwrap().take_back();
        assert_eq!(throttle.remembered(), 0);
    }

    #[tokio::test]
    async fn success_forgets_failures() {
        let throttle = Throttle::new(2, 60_000);
        for _ in 0..3 {
            drop(throttle.begin(&"a", 0).await.unwrap());
            throttle.begin(&"a", 0).await.unwrap().succeed();
        }
        drop(throttle.begin(&"a", 0).await.unwrap());
        throttle.begin(&"a", 0).await.unwrap().take_back();
        drop(throttle.begin(&"a", 0).await.unwrap());
        assert!(throttle.begin(&"a", 0).await.is_err(), "a failure that stays is one of two");
    }

    /// Right passwords that arrive together are all let in, and wrong ones are no more than may fail.
    #[tokio::test]
    async fn attempts_at_once_wait_for_one_another() {
        let throttle = Throttle::new(2, 60_000);
        let made = AtomicU32::new(0);
        let attempt = async |is_right: bool| {
            let attempt = throttle.begin(&"a", 0).await?;
            made.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            if is_right {
                attempt.succeed();
            }
            Ok::<(), Refusal>(())
        };
        let all = futures::future::join_all((0..9).map(|_| attempt(true))).await;
        assert_eq!((all, made.swap(0, Ordering::Relaxed)), (vec![Ok(()); 9], 9));
        let all = futures::future::join_all((0..9).map(|_| attempt(false))).await;
        let refused = all.iter().filter(|attempt| attempt.is_err()).count();
        assert_eq!((refused, made.into_inner()), (7, 2));
    }
}
