//! Names of the files of a repository. Every one is created once and never overwritten.
//!
//! | name | holds |
//! |---|---|
//! | `config` | the repository's id, its features, and the commitment to its root key |
//! | `slots/<slot>` | the root key, wrapped |
//! | `sessions/<snapshot>` | that somebody relies on objects |
//! | `packs/<pack>` | objects |
//! | `index/<pack-like id>` | where objects are |
//! | `snapshots/<snapshot>` | manifests |
//! | `epochs/<epoch>` | that frames are sealed under this key epoch from now on |
//! | `owners/<server>` | which server uses the repository, where only one may |
//! | `gc/<n>` | reserved for deletion runs |
//! | `marks/<snapshot>/..` | reserved for later facts about a snapshot |

use crate::id::{PackId, SlotId, SnapshotId};

/// The repository's own description.
pub const CONFIG: &str = "config";
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

/// The file of a slot.
pub fn slot(id: SlotId) -> String {
    format!("{SLOTS}{id}")
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
