//! Databases that were read to be compared, kept so that the pages of a comparison stay as they are.
//!
//! They are in memory and in files without a name, sealed under keys that are in memory: none of them
//! outlives the process.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::live::Reading;
use engine::restore::Preview;

use crate::ids::{DiffId, ProjectId, RestoreId};

/// How long after its last use a reading is kept.
pub const KEPT_MS: i64 = 60 * 60 * 1000;
/// How many are kept, and how many bytes in all; the one used least recently goes first.
const MOST: usize = 16;
const MOST_BYTES: u64 = 32 << 30;

/// The readings that are kept, by the comparison that each was made for.
pub struct LiveReadings<R = Reading, K = DiffId>(Mutex<HashMap<K, Kept<R>>>);

/// The same of restores in place that were planned.
pub type Previews = LiveReadings<Preview, RestoreId>;

struct Kept<R> {
    reading: Arc<R>,
    size_bytes: u64,
    project: ProjectId,
    /// The snapshot that it is compared with.
    from: String,
    used_ms: i64,
}

impl<R, K> Default for LiveReadings<R, K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl LiveReadings {
    /// Keeps a reading, and lets go of others if they are too many then.
    pub fn keep(&self, id: DiffId, project: ProjectId, from: String, reading: Reading, now_ms: i64) {
        let size_bytes = reading.size_bytes();
        let reading = Arc::new(reading);
        self.insert(id, Kept { reading, size_bytes, project, from, used_ms: now_ms });
    }
}

impl Previews {
    /// Keeps what a restore would change, and lets go of others if they are too many then.
    pub fn keep(&self, id: RestoreId, project: ProjectId, from: String, preview: Preview, now_ms: i64) {
        let size_bytes = preview.size_bytes();
        let reading = Arc::new(preview);
        self.insert(id, Kept { reading, size_bytes, project, from, used_ms: now_ms });
    }
}

impl<R, K: Copy + Eq + Hash> LiveReadings<R, K> {
    fn insert(&self, id: K, kept: Kept<R>) {
        let mut all = self.fresh(kept.used_ms);
        all.insert(id, kept);
        while all.len() > MOST || all.values().map(|kept| kept.size_bytes).sum::<u64>() > MOST_BYTES {
            let others = all.iter().filter(|(other, _)| **other != id);
            let Some(oldest) = others.min_by_key(|(_, kept)| kept.used_ms).map(|(oldest, _)| *oldest) else {
                return;
            };
            all.remove(&oldest);
        }
    }

    /// The reading of a comparison, if it is still there. It is in use by that.
    pub fn take_up(&self, id: K, now_ms: i64) -> Option<Arc<R>> {
        let mut all = self.fresh(now_ms);
        let kept = all.get_mut(&id)?;
        kept.used_ms = now_ms;
        Some(Arc::clone(&kept.reading))
    }

    /// Whether the reading of a comparison is still there.
    pub fn has(&self, id: K, now_ms: i64) -> bool {
        self.fresh(now_ms).contains_key(&id)
    }

    /// Lets go of those that nobody has used for long.
    pub fn forget_unused(&self, now_ms: i64) {
        drop(self.fresh(now_ms));
    }

    /// Lets go of a project's.
    pub fn forget_project(&self, project: ProjectId) {
        self.lock().retain(|_, kept| kept.project != project);
    }

    /// Lets go of those that are compared with a snapshot.
    pub fn forget_snapshot(&self, snapshot: &str) {
        self.lock().retain(|_, kept| kept.from != snapshot);
    }

    fn fresh(&self, now_ms: i64) -> MutexGuard<'_, HashMap<K, Kept<R>>> {
        let mut all = self.lock();
        all.retain(|_, kept| now_ms - kept.used_ms < KEPT_MS);
        all
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Kept<R>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::clock::System;

    fn keep(
        readings: &LiveReadings<()>,
        project: ProjectId,
        from: &str,
        size_bytes: u64,
        used_ms: i64,
    ) -> DiffId {
        let id = DiffId::new(&System, &System);
        let from = from.to_owned();
        readings.insert(id, Kept { reading: Arc::new(()), size_bytes, project, from, used_ms });
        id
    }

    #[test]
    fn the_one_used_least_recently_goes_first() {
        let (readings, project) = (LiveReadings::default(), ProjectId::new(&System, &System));
        let ids: Vec<DiffId> = (0..16).map(|n| keep(&readings, project, "s", 1, n)).collect();
        assert!(readings.take_up(ids[0], 20).is_some());
        keep(&readings, project, "s", 1, 21);
        let there: Vec<usize> = (0..16).filter(|n| readings.has(ids[*n], 21)).collect();
        assert_eq!(there, [&[0], &(2..16).collect::<Vec<_>>()[..]].concat(), "17 are one too many");
        // A large one takes the place of all but those that fit beside it, and is itself never too large.
        let large = keep(&readings, project, "s", MOST_BYTES - 1, 22);
        assert!(readings.has(large, 22) && !readings.has(ids[0], 22));
        let larger = keep(&readings, project, "s", MOST_BYTES + 1, 23);
        assert!(readings.has(larger, 23) && !readings.has(large, 23));
    }

    #[test]
    fn they_go_after_an_hour_and_with_what_they_belong_to() {
        let readings = LiveReadings::default();
        let [a, b] = [ProjectId::new(&System, &System), ProjectId::new(&System, &System)];
        let [first, second, third] = [(a, "s"), (a, "t"), (b, "t")].map(|(p, s)| keep(&readings, p, s, 1, 0));
        assert!(readings.take_up(first, KEPT_MS - 1).is_some());
        assert!(readings.has(first, KEPT_MS) && !readings.has(second, KEPT_MS));
        let second = keep(&readings, a, "t", 1, KEPT_MS);
        let third_again = keep(&readings, b, "t", 1, KEPT_MS);
        assert!(!readings.has(third, KEPT_MS));
        readings.forget_project(b);
        assert!(!readings.has(third_again, KEPT_MS));
        readings.forget_snapshot("t");
        assert!(!readings.has(second, KEPT_MS) && readings.has(first, KEPT_MS));
    }
}
