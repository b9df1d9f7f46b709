//! Changes that were heard of and not yet read again. They are few or very many: what does not fit
//! in memory is spilled, sealed as every spill is.

use std::collections::BTreeMap;

use super::records::Id;
use super::wire::ClusterTime;
use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::sort::Sorter;

/// Bytes of changes kept in memory.
const BUDGET: usize = 16 << 20;

/// One document that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// The collection, by its position in the listing.
    pub collection: usize,
    /// The tree key of the `_id`.
    pub key: Vec<u8>,
    pub id: Id,
    pub time: ClusterTime,
}

/// Changes by collection and key.
pub(super) struct Pending {
    sorter: Sorter,
    /// Changes heard of, per collection; one document may be in it more than once.
    counts: BTreeMap<usize, u64>,
    /// Collections that changed in ways that no id tells, and when last.
    whole: BTreeMap<usize, ClusterTime>,
    /// The latest time of all changes in here.
    latest: ClusterTime,
}

impl Pending {
    pub fn new(ctx: &Context) -> Self {
        Self {
            sorter: Sorter::new(ctx, BUDGET),
            counts: BTreeMap::new(),
            whole: BTreeMap::new(),
            latest: ClusterTime::default(),
        }
    }

    pub fn push(&mut self, change: &Change) -> Result<()> {
        let collection = u32::try_from(change.collection).unwrap_or(u32::MAX).to_be_bytes();
        let key = [&collection[..], &change.key].concat();
        let value = [&change.time.0.to_be_bytes()[..], &[change.id.kind], &change.id.value].concat();
        *self.counts.entry(change.collection).or_default() += 1;
        self.latest = self.latest.max(change.time);
        self.sorter.push(&key, &value)
    }

    pub fn push_whole(&mut self, collection: usize, time: ClusterTime) {
        self.latest = self.latest.max(time);
        let known = self.whole.entry(collection).or_default();
        *known = (*known).max(time);
    }

    /// Changes in here, counted as they came.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    pub fn latest(&self) -> ClusterTime {
        self.latest
    }

    /// Collections with changes by id, ascending.
    pub fn collections(&self) -> Vec<usize> {
        self.counts.keys().copied().collect()
    }

    /// Collections that changed in ways that no id tells, and when last.
    pub fn whole(&self) -> &BTreeMap<usize, ClusterTime> {
        &self.whole
    }

    /// Hands on every document once, with its latest change, by collection and key.
    pub fn for_each(self, mut each: impl FnMut(Change) -> Result<()>) -> Result<()> {
        let mut last: Option<Change> = None;
        self.sorter.finish()?.for_each(|key, value| {
            let change = read(key, value)?;
            let same = |last: &Change| last.collection == change.collection && last.key == change.key;
            if let Some(earlier) = last.take_if(|last| !same(last)) {
                each(earlier)?;
            }
            // Of one key, times ascend.
            last = Some(change);
            Ok(())
        })?;
        last.map_or(Ok(()), each)
    }
}

fn read(key: &[u8], value: &[u8]) -> Result<Change> {
    let parts = || {
        let (collection, key) = key.split_first_chunk()?;
        let (time, id) = value.split_first_chunk()?;
        let (kind, value) = id.split_first()?;
        Some(Change {
            collection: u32::from_be_bytes(*collection) as usize,
            key: key.to_vec(),
            id: Id { kind: *kind, value: value.to_vec() },
            time: ClusterTime(u64::from_be_bytes(*time)),
        })
    };
    parts().ok_or_else(|| Error::new(Kind::Internal, "a change that was noted cannot be read"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_document_comes_once_in_order_with_its_latest_change() {
        let folder = tempfile::tempdir().unwrap();
        let mut pending = Pending::new(&Context::new(folder.path()));
        let change = |collection, key: u8, time| Change {
            collection,
            key: vec![key],
            id: Id { kind: 0x10, value: vec![key, 0, 0, 0] },
            time: ClusterTime(time),
        };
        for (collection, key, time) in [(1, 5, 9), (0, 7, 300), (1, 5, 70_000), (1, 4, 2), (0, 7, 299)] {
            pending.push(&change(collection, key, time)).unwrap();
        }
        pending.push_whole(2, ClusterTime(70_001));
        assert_eq!((pending.total(), pending.latest()), (5, ClusterTime(70_001)));
        assert_eq!(pending.collections(), [0, 1]);
        let mut seen = Vec::new();
        pending
            .for_each(|change| {
                seen.push(change);
                Ok(())
            })
            .unwrap();
        assert_eq!(seen, [change(0, 7, 300), change(1, 4, 2), change(1, 5, 70_000)]);
    }
}
