//! Deleting what nobody needs: the files of a prune, and the two decisions it consists of.
//!
//! First a [`plan`] says which packs are worth deleting; it is published as a [`Run`]. Once
//! everybody who did not know of it has ended, a [`Judge`] looks at every object that is needed
//! then, and says which of those packs must stay after all; that is published as the [`Verdict`],
//! and only a verdict deletes.
//!
//! The plaintexts are lists of ids: a count (varint) and the ids, 16 bytes each, ascending.
//!
//! | file | plaintext |
//! |---|---|
//! | `gc/<n>` | time (8 bytes, little-endian), snapshots that go, packs that are condemned |
//! | `gc/<n>.verdict` | snapshots that go, packs that go, condemned packs that stay, index files that go |
//! | `gc/<n>.done` | time (8 bytes, little-endian) |
//! | `marks/<snapshot>.deleted`, `suspects/<pack>` | time (8 bytes, little-endian) |

use std::collections::BTreeSet;

use crate::codec::{Cursor, put_varint};
use crate::error::Result;
use crate::id::{PackId, SnapshotId};
use crate::limits;

/// What a prune means to delete: from now on no new reliance on these packs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// When it was published, in milliseconds since 1970.
    pub began_ms: i64,
    /// Deleted snapshots whose manifests go. Whatever else is committed counts.
    pub snapshots: BTreeSet<SnapshotId>,
    /// Packs that may go.
    pub condemned: BTreeSet<PackId>,
}

/// What a prune deletes. Kept for ever: a pack that it deletes is never believed again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Manifests that go.
    pub snapshots: BTreeSet<SnapshotId>,
    /// Packs that go.
    pub deleted: BTreeSet<PackId>,
    /// Condemned packs that hold something needed, and stay.
    pub kept: BTreeSet<PackId>,
    /// Index files that go; what they say of other packs is said by index files that stay.
    pub indexes: BTreeSet<PackId>,
}

impl Run {
    /// The plaintext.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.began_ms.to_le_bytes().to_vec();
        put_ids(&mut out, self.snapshots.iter().map(|id| &id.0));
        put_ids(&mut out, self.condemned.iter().map(|id| &id.0));
        out
    }

    /// Reads the plaintext.
    pub fn parse(plaintext: &[u8]) -> Result<Self> {
        let mut cursor = Cursor::new(plaintext, "prune");
        let began_ms = i64::from_le_bytes(cursor.array()?);
        let snapshots = ids(&mut cursor)?.into_iter().map(SnapshotId).collect();
        let condemned = ids(&mut cursor)?.into_iter().map(PackId).collect();
        cursor.finish()?;
        Ok(Self { began_ms, snapshots, condemned })
    }
}

impl Verdict {
    /// The plaintext.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_ids(&mut out, self.snapshots.iter().map(|id| &id.0));
        for packs in [&self.deleted, &self.kept, &self.indexes] {
            put_ids(&mut out, packs.iter().map(|id| &id.0));
        }
        out
    }

    /// Reads the plaintext.
    pub fn parse(plaintext: &[u8]) -> Result<Self> {
        let mut cursor = Cursor::new(plaintext, "verdict");
        let snapshots = ids(&mut cursor)?.into_iter().map(SnapshotId).collect();
        let mut packs = || ids(&mut cursor).map(|ids| ids.into_iter().map(PackId).collect());
        let (deleted, kept, indexes): (BTreeSet<PackId>, BTreeSet<PackId>, _) =
            (packs()?, packs()?, packs()?);
        if !deleted.is_disjoint(&kept) {
            return Err(cursor.malformed("a pack that goes and stays"));
        }
        cursor.finish()?;
        Ok(Self { snapshots, deleted, kept, indexes })
    }
}

/// The plaintext of a file that says no more than when it was made.
pub fn moment(at_ms: i64) -> Vec<u8> {
    at_ms.to_le_bytes().to_vec()
}

/// Reads what [`moment`] writes.
pub fn parse_moment(plaintext: &[u8]) -> Result<i64> {
    let mut cursor = Cursor::new(plaintext, "moment");
    let at_ms = i64::from_le_bytes(cursor.array()?);
    cursor.finish()?;
    Ok(at_ms)
}

fn put_ids<'a>(out: &mut Vec<u8>, ids: impl ExactSizeIterator<Item = &'a [u8; 16]>) {
    put_varint(out, ids.len() as u64);
    ids.for_each(|id| out.extend_from_slice(id));
}

fn ids(cursor: &mut Cursor<'_>) -> Result<Vec<[u8; 16]>> {
    let count = cursor.bounded(limits::PRUNED)?;
    let mut ids: Vec<[u8; 16]> = Vec::with_capacity(count.min(cursor.remaining() / 16));
    for _ in 0..count {
        let id = cursor.array()?;
        if ids.last().is_some_and(|last| *last >= id) {
            return Err(cursor.malformed("ids that do not ascend"));
        }
        ids.push(id);
    }
    Ok(ids)
}

/// What a pack holds, as far as anybody needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackUse {
    /// Which pack.
    pub id: PackId,
    /// Length of its file.
    pub len: u64,
    /// Whether it holds nodes and lists, rather than leaves and pieces.
    pub is_tree: bool,
    /// Whether any index file names it. What is in no index is not counted, and nobody can need it
    /// yet: a writer that will name it holds a session.
    pub is_indexed: bool,
    /// Whether it was found damaged.
    pub is_suspect: bool,
    /// Objects that are needed and counted here: each object counts in one pack only.
    pub needed_objects: u64,
    /// Bytes of their frames.
    pub needed_bytes: u64,
    /// The other objects.
    pub unneeded_objects: u64,
    /// Bytes of their frames.
    pub unneeded_bytes: u64,
}

/// When a pack is worth its rewriting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Percent of a pack's frames that must be unneeded before the rest is copied out of it.
    pub unneeded_percent: u64,
    /// Packs under so many percent of the full size are small.
    pub small_percent: u64,
    /// So many small packs are merged; fewer are left alone.
    pub small_packs: usize,
    /// So many index files under a quarter of the full size are merged.
    pub small_indexes: usize,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { unneeded_percent: 25, small_percent: 25, small_packs: 8, small_indexes: 8 }
    }
}

/// What is worth deleting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Packs to condemn.
    pub condemned: BTreeSet<PackId>,
    /// Objects in them that nobody needs.
    pub unneeded_objects: u64,
    /// Bytes that go with them: whole files, less what must be copied first.
    pub unneeded_bytes: u64,
    /// Bytes to copy out of them first.
    pub copied_bytes: u64,
    /// Bytes of the packs that are left alone.
    pub kept_bytes: u64,
}

impl PackUse {
    fn is_worth_deleting(&self, thresholds: &Thresholds) -> bool {
        let all = self.needed_bytes + self.unneeded_bytes;
        !self.is_indexed
            || self.is_suspect
            || self.needed_objects == 0
            || self.unneeded_bytes * 100 >= all * thresholds.unneeded_percent.max(1)
    }

    fn is_small(&self, thresholds: &Thresholds) -> bool {
        let full = if self.is_tree { limits::TREE_PACK } else { limits::DATA_PACK } as u64;
        self.len * 100 < full * thresholds.small_percent
    }
}

/// Chooses packs to condemn: those that nobody needs, those that are mostly unneeded, those that
/// are damaged, and small ones where there are many.
pub fn plan(packs: &[PackUse], thresholds: &Thresholds) -> Plan {
    let mut condemned: BTreeSet<PackId> =
        packs.iter().filter(|pack| pack.is_worth_deleting(thresholds)).map(|pack| pack.id).collect();
    for is_tree in [false, true] {
        let small = packs.iter().filter(|pack| pack.is_tree == is_tree && pack.is_small(thresholds));
        let small: BTreeSet<PackId> =
            small.map(|pack| pack.id).filter(|id| !condemned.contains(id)).collect();
        if small.len() >= thresholds.small_packs.max(2) {
            condemned.extend(small);
        }
    }
    let mut plan = Plan::default();
    for pack in packs {
        if condemned.contains(&pack.id) {
            plan.unneeded_objects += pack.unneeded_objects;
            plan.unneeded_bytes += pack.len.saturating_sub(pack.needed_bytes);
            plan.copied_bytes += pack.needed_bytes;
        } else {
            plan.kept_bytes += pack.len;
        }
    }
    plan.condemned = condemned;
    plan
}

/// Condemned packs that turn out to be well used, so that copying out of them is not worth it: a
/// pack that was in no index when it was condemned, and is needed now.
pub fn rescued(packs: &[PackUse], condemned: &BTreeSet<PackId>, thresholds: &Thresholds) -> BTreeSet<PackId> {
    let well_used = |pack: &&PackUse| !pack.is_worth_deleting(thresholds) && !pack.is_small(thresholds);
    let among = packs.iter().filter(|pack| condemned.contains(&pack.id));
    among.filter(well_used).map(|pack| pack.id).collect()
}

/// Chooses index files to replace: all that name a pack which goes, and small ones where there are
/// many. Given are each file's objects and whether it names such a pack.
pub fn stale_indexes(files: &[(PackId, usize, bool)], thresholds: &Thresholds) -> BTreeSet<PackId> {
    let mut stale: BTreeSet<PackId> =
        files.iter().filter(|(_, _, names_deleted)| *names_deleted).map(|(id, ..)| *id).collect();
    let small = files.iter().filter(|(_, objects, _)| *objects < limits::INDEX_ENTRIES / 4);
    let small: BTreeSet<PackId> = small.map(|(id, ..)| *id).filter(|id| !stale.contains(id)).collect();
    if small.len() + stale.len() >= thresholds.small_indexes.max(2) {
        stale.extend(small);
    }
    stale
}

/// Decides which condemned packs must stay. Every object that is needed is shown to it once, with
/// all the places where it is.
#[derive(Debug)]
pub struct Judge<'a> {
    condemned: &'a BTreeSet<PackId>,
    kept: BTreeSet<PackId>,
    absent: u64,
}

impl<'a> Judge<'a> {
    /// A judge over what a run condemned, of which `rescued` stays in any case.
    pub fn new(condemned: &'a BTreeSet<PackId>, rescued: BTreeSet<PackId>) -> Self {
        Self { condemned, kept: rescued, absent: 0 }
    }

    /// Whether an object with these places would be lost if everything condemned and not yet kept
    /// were deleted: it is to be copied first.
    pub fn is_at_risk(&self, places: impl IntoIterator<Item = PackId>) -> bool {
        places.into_iter().all(|pack| self.condemned.contains(&pack) && !self.kept.contains(&pack))
    }

    /// Takes in an object that is needed. `places` are the packs that hold it, the best one first. It
    /// is safe in a pack that is not condemned; otherwise one of its packs stays.
    pub fn needed(&mut self, places: impl IntoIterator<Item = PackId>) {
        let mut first = None;
        for pack in places {
            if !self.condemned.contains(&pack) || self.kept.contains(&pack) {
                return;
            }
            first = first.or(Some(pack));
        }
        match first {
            Some(pack) => {
                self.kept.insert(pack);
            }
            None => self.absent += 1,
        }
    }

    /// Objects that are needed and are nowhere.
    pub fn absent(&self) -> u64 {
        self.absent
    }

    /// Of the condemned packs, those that go and those that stay.
    pub fn finish(self) -> (BTreeSet<PackId>, BTreeSet<PackId>) {
        (self.condemned.difference(&self.kept).copied().collect(), self.kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(n: u8) -> PackUse {
        PackUse {
            id: PackId([n; 16]),
            len: 32 << 20,
            is_tree: false,
            is_indexed: true,
            is_suspect: false,
            needed_objects: 10,
            needed_bytes: 32 << 20,
            unneeded_objects: 0,
            unneeded_bytes: 0,
        }
    }

    fn condemned(packs: &[PackUse]) -> Vec<u8> {
        plan(packs, &Thresholds::default()).condemned.iter().map(|id| id.0[0]).collect()
    }

    #[test]
    fn what_is_needed_and_full_is_left_alone() {
        assert!(condemned(&[pack(1), pack(2)]).is_empty());
        let unneeded = PackUse { needed_objects: 0, needed_bytes: 0, unneeded_bytes: 32 << 20, ..pack(3) };
        let quarter = PackUse { needed_bytes: 24 << 20, unneeded_bytes: 8 << 20, ..pack(4) };
        let less = PackUse { needed_bytes: 25 << 20, unneeded_bytes: 7 << 20, ..pack(5) };
        let (orphan, suspect) =
            (PackUse { is_indexed: false, ..pack(6) }, PackUse { is_suspect: true, ..pack(7) });
        assert_eq!(condemned(&[pack(1), unneeded, quarter, less, orphan, suspect]), [3, 4, 6, 7]);
        let found = plan(&[pack(1), unneeded, quarter], &Thresholds::default());
        assert_eq!(found.unneeded_bytes, (32 + 8) << 20);
        assert_eq!(found.copied_bytes, 24 << 20);
        assert_eq!(found.kept_bytes, 32 << 20);
    }

    #[test]
    fn small_packs_are_merged_by_kind_once_there_are_many() {
        let small = |n| PackUse { len: 1 << 20, needed_bytes: 1 << 20, ..pack(n) };
        let tree = |n| PackUse { is_tree: true, len: 1 << 10, needed_bytes: 1 << 10, ..pack(n) };
        let seven: Vec<_> = (0..7).map(small).chain((20..27).map(tree)).collect();
        assert!(condemned(&seven).is_empty());
        let eight: Vec<_> = (0..8).map(small).chain((20..27).map(tree)).collect();
        assert_eq!(condemned(&eight), [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn a_needed_object_keeps_a_place() {
        let (a, b, c) = (PackId([1; 16]), PackId([2; 16]), PackId([3; 16]));
        let run = BTreeSet::from([a, b]);
        let mut judge = Judge::new(&run, BTreeSet::new());
        judge.needed([a, c]);
        assert!(judge.kept.is_empty(), "it is in a pack that is not condemned");
        judge.needed([b, a]);
        judge.needed([a, b]);
        judge.needed([]);
        assert_eq!(judge.absent(), 1);
        let (deleted, kept) = judge.finish();
        assert_eq!(
            (deleted, kept),
            (BTreeSet::from([a]), BTreeSet::from([b])),
            "one of its places is enough"
        );
    }

    #[test]
    fn plaintexts_have_one_spelling() {
        let run = Run {
            began_ms: 5,
            snapshots: BTreeSet::from([SnapshotId([9; 16])]),
            condemned: BTreeSet::from([PackId([1; 16]), PackId([2; 16])]),
        };
        assert_eq!(Run::parse(&run.to_bytes()).unwrap(), run);
        let mut swapped = run.to_bytes();
        let at = swapped.len() - 32;
        swapped[at..].rotate_left(16);
        assert!(Run::parse(&swapped).is_err(), "ids that do not ascend");
        let verdict = Verdict {
            snapshots: run.snapshots.clone(),
            deleted: BTreeSet::from([PackId([1; 16])]),
            kept: BTreeSet::from([PackId([2; 16])]),
            indexes: BTreeSet::from([PackId([3; 16])]),
        };
        assert_eq!(Verdict::parse(&verdict.to_bytes()).unwrap(), verdict);
        let both = Verdict { kept: verdict.deleted.clone(), ..verdict };
        assert!(Verdict::parse(&both.to_bytes()).is_err(), "a pack that goes and stays");
    }
}
