//! Names of the files of a repository. Every one is created once and never overwritten.
//!
//! | name | holds |
//! |---|---|
//! | `config` | the repository's id, its features, and the commitment to its root key |
//! | `config.copy` | the same bytes |
//! | `slots/<slot>` | the root key, wrapped |
//! | `sessions/<snapshot>` | that somebody relies on objects |
//! | `sessions/<snapshot>.<n>` | that it still does |
//! | `packs/<pack>` | objects |
//! | `index/<pack-like id>` | where objects are |
//! | `snapshots/<snapshot>` | manifests |
//! | `epochs/<epoch>` | that frames are sealed under this key epoch from now on |
//! | `owners/<server>` | which server uses the repository, where only one may |
//! | `gc/<n>` | what the n-th prune means to delete |
//! | `gc/<n>.verdict` | what it deletes |
//! | `gc/<n>.done` | that it is deleted |
//! | `marks/<snapshot>.<n>` | what is said of a snapshot later |
//! | `marks/<snapshot>.deleted` | that a snapshot is deleted |
//! | `suspects/<pack>` | that a pack was found damaged |

use crate::id::{PackId, SlotId, SnapshotId};

/// The repository's own description.
pub const CONFIG: &str = "config";
/// The same bytes as [`CONFIG`], for when that is lost.
pub const CONFIG_COPY: &str = "config.copy";
/// Folder of key slots.
pub const SLOTS: &str = "slots/";
/// Folder of sessions.
pub const SESSIONS: &str = "sessions/";
/// Folder of packs.
pub const PACKS: &str = "packs/";
/// Folder of index files.
pub const INDEX: &str = "index/";
/// Folder of key epochs.
pub const EPOCHS: &str = "epochs/";
/// Folder of claims on a repository that one server only may use.
pub const OWNERS: &str = "owners/";
/// Folder of manifests.
pub const SNAPSHOTS: &str = "snapshots/";
/// Folder of prunes.
pub const GC: &str = "gc/";
/// Folder of later facts about snapshots.
pub const MARKS: &str = "marks/";
/// Folder of packs that were found damaged.
pub const SUSPECTS: &str = "suspects/";

/// The file of a slot.
pub fn slot(id: SlotId) -> String {
    format!("{SLOTS}{id}")
}

/// The file by which somebody says that they remove a slot; `by` is drawn for it.
pub fn slot_removal(id: SlotId, by: SlotId) -> String {
    format!("{SLOTS}{id}.{by}")
}

/// The slot that a file says is being removed; `None` for every other name.
pub fn parse_slot_removal(name: &str) -> Option<SlotId> {
    let (id, by) = name.strip_prefix(SLOTS)?.split_once('.')?;
    SlotId::parse(by)?;
    SlotId::parse(id)
}

/// The file of a session.
pub fn session(id: SnapshotId) -> String {
    format!("{SESSIONS}{id}")
}

/// The file of a pack.
pub fn pack(id: PackId) -> String {
    format!("{PACKS}{id}")
}

/// The file of an index, which is named like a pack: at random.
pub fn index(id: PackId) -> String {
    format!("{INDEX}{id}")
}

/// The file of a key epoch; the first epoch, 0, has none.
pub fn epoch(epoch: u32) -> String {
    format!("{EPOCHS}{epoch:08x}")
}

/// The epoch that a file stands for.
pub fn parse_epoch(name: &str) -> Option<u32> {
    let digits = name.strip_prefix(EPOCHS)?;
    let number = u32::from_str_radix(digits, 16).ok()?;
    (epoch(number) == name).then_some(number)
}

/// The file of a server's claim.
pub fn owner(server: [u8; 16]) -> String {
    format!("{OWNERS}{:032x}", u128::from_be_bytes(server))
}

/// The file of a manifest.
pub fn snapshot(id: SnapshotId) -> String {
    format!("{SNAPSHOTS}{id}")
}

/// The n-th sign of life of a session.
pub fn beat(id: SnapshotId, n: u64) -> String {
    format!("{SESSIONS}{id}.{n}")
}

/// The session that a file of the folder of sessions belongs to, and the number of the sign of
/// life; 0 is the session's own file. `None` for names that are neither.
pub fn parse_session(name: &str) -> Option<(SnapshotId, u64)> {
    let name = name.strip_prefix(SESSIONS)?;
    match name.split_once('.') {
        None => Some((SnapshotId::parse(name)?, 0)),
        Some((id, n)) => Some((SnapshotId::parse(id)?, parse_number(n)?)),
    }
}

/// A file of a prune.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PruneFile {
    /// What it means to delete.
    Run,
    /// What it deletes.
    Verdict,
    /// That it is deleted.
    Done,
}

/// The name of a file of the n-th prune.
pub fn prune(n: u64, file: PruneFile) -> String {
    match file {
        PruneFile::Run => format!("{GC}{n}"),
        PruneFile::Verdict => format!("{GC}{n}.verdict"),
        PruneFile::Done => format!("{GC}{n}.done"),
    }
}

/// Which file of which prune a name is of.
pub fn parse_prune(name: &str) -> Option<(u64, PruneFile)> {
    let name = name.strip_prefix(GC)?;
    Some(match name.split_once('.') {
        None => (parse_number(name)?, PruneFile::Run),
        Some((n, "verdict")) => (parse_number(n)?, PruneFile::Verdict),
        Some((n, "done")) => (parse_number(n)?, PruneFile::Done),
        Some(_) => return None,
    })
}

/// A number from 1 in its only spelling.
fn parse_number(text: &str) -> Option<u64> {
    let n: u64 = text.parse().ok().filter(|&n| n > 0)?;
    (n.to_string() == text).then_some(n)
}

/// The mark that a snapshot is deleted.
pub fn deletion(id: SnapshotId) -> String {
    format!("{MARKS}{id}.deleted")
}

/// The n-th later fact about a snapshot; with 0 the mark that only says that there is the snapshot.
pub fn mark(id: SnapshotId, n: u64) -> String {
    format!("{MARKS}{id}.{n}")
}

/// Which mark of which snapshot a name is of; `None` in the second place is its deletion.
pub fn parse_mark(name: &str) -> Option<(SnapshotId, Option<u64>)> {
    let (id, rest) = name.strip_prefix(MARKS)?.split_once('.')?;
    let n = match rest {
        "deleted" => None,
        "0" => Some(0),
        n => Some(parse_number(n)?),
    };
    Some((SnapshotId::parse(id)?, n))
}

/// The file that says that a pack was found damaged.
pub fn suspect(id: PackId) -> String {
    format!("{SUSPECTS}{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written_and_have_one_spelling() {
        let id = SnapshotId([7; 16]);
        assert_eq!(parse_session(&session(id)), Some((id, 0)));
        assert_eq!(parse_session(&beat(id, 12)), Some((id, 12)));
        for file in [PruneFile::Run, PruneFile::Verdict, PruneFile::Done] {
            assert_eq!(parse_prune(&prune(10, file)), Some((10, file)));
        }
        assert_eq!(parse_mark(&mark(id, 3)), Some((id, Some(3))));
        assert_eq!(parse_mark(&mark(id, 0)), Some((id, Some(0))));
        assert_eq!(parse_mark(&deletion(id)), Some((id, None)));
        for wrong in ["gc/", "gc/0", "gc/01", "gc/+1", "gc/1.", "gc/1.verdicts", "gc/x", "1"] {
            assert_eq!(parse_prune(wrong), None, "{wrong}");
        }
        assert_eq!(parse_session(&format!("{SESSIONS}{id}.0")), None);
        assert_eq!(parse_session(&format!("{SESSIONS}{id}.1.2")), None);
        assert_eq!(parse_mark(&format!("{MARKS}{id}")), None);
    }
}
