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

/// The file of a manifest.
pub fn snapshot(id: SnapshotId) -> String {
    format!("{SNAPSHOTS}{id}")
}
