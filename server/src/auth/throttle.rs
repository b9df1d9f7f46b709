//! Slows down guessing: after a number of failures a key waits out its window. Windows are measured in time
//! that only passes, [`engine::clock::Clock::elapsed_ms`]: a calendar that is set would hold people out for
//! years, or let guesses in.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

/// Keys remembered before the oldest are dropped: memory is bounded whatever comes in.
const MAX_KEYS: usize = 100_000;

struct Window {
    started_ms: u64,
    attempts: u32,
    /// Whether an attempt was refused in it.
    has_refused: bool,
}

impl Window {
    fn new(started_ms: u64) -> Self {
        Self { started_ms, attempts: 0, has_refused: false }
    }
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

/// Attempts per key and window. An attempt counts when it begins, so that many at once count as
/// many, and is taken back when it succeeds.
pub struct Throttle<K> {
    max_attempts: u32,
    window_ms: u64,
    windows: Mutex<HashMap<K, Window>>,
}

impl<K: Eq + Hash + Clone> Throttle<K> {
    pub fn new(max_attempts: u32, window_ms: u64) -> Self {
        Self { max_attempts, window_ms, windows: Mutex::new(HashMap::new()) }
    }

    /// Counts an attempt, or says for how long there may be none.
    pub fn begin(&self, key: &K, now_ms: u64) -> Result<(), Refusal> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() >= MAX_KEYS {
            windows.retain(|_, window| now_ms.saturating_sub(window.started_ms) < self.window_ms);
            if windows.len() >= MAX_KEYS {
                windows.clear();
            }
        }
        let window = windows.entry(key.clone()).or_insert_with(|| Window::new(now_ms));
        if now_ms.saturating_sub(window.started_ms) >= self.window_ms {
            *window = Window::new(now_ms);
        }
        if window.attempts >= self.max_attempts {
            let left_ms = (window.started_ms + self.window_ms).saturating_sub(now_ms);
            let seconds = left_ms.div_ceil(1000).max(1);
            let is_first = !std::mem::replace(&mut window.has_refused, true);
            return Err(Refusal { seconds, is_first });
        }
        window.attempts += 1;
        Ok(())
    }

    /// Takes one attempt back, leaving earlier failures: for keys that many share.
    pub fn take_back(&self, key: &K) {
        if let Some(window) = self.windows.lock().unwrap_or_else(PoisonError::into_inner).get_mut(key) {
            window.attempts = window.attempts.saturating_sub(1);
        }
    }

    /// How many keys it keeps in memory.
    pub fn remembered(&self) -> usize {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Forgets a key's attempts: the last one succeeded.
    pub fn succeeded(&self, key: &K) {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_ipv6_is_one_origin() {
        let origin = |text: &str| Origin::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(origin("2001:db8:1:2::1"), origin("2001:db8:1:2:ffff::9"));
        assert_ne!(origin("2001:db8:1:2::1"), origin("2001:db8:1:3::1"));
        assert_eq!(origin("::ffff:192.0.2.7"), origin("192.0.2.7"));
        assert_ne!(origin("192.0.2.7"), origin("192.0.2.8"));
    }

    #[test]
    fn failures_close_a_window_and_time_opens_it() {
        let throttle = Throttle::new(3, 60_000);
        for _ in 0..3 {
            throttle.begin(&"a", 1_000).unwrap();
        }
        assert_eq!(throttle.begin(&"a", 31_000), Err(Refusal { seconds: 30, is_first: true }));
        assert_eq!(throttle.begin(&"a", 32_000), Err(Refusal { seconds: 29, is_first: false }));
        throttle.begin(&"b", 31_000).unwrap();
        throttle.begin(&"a", 61_000).unwrap();
    }

    #[test]
    fn success_forgets_failures() {
        let throttle = Throttle::new(2, 60_000);
        throttle.begin(&"a", 0).unwrap();
        throttle.begin(&"a", 0).unwrap();
        throttle.succeeded(&"a");
        throttle.begin(&"a", 0).unwrap();
    }
}
