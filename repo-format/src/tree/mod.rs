//! Merkle trees over records in key order.
//!
//! A tree maps byte keys to byte values in strictly increasing order of the keys' bytes. Leaves
//! (level 0) hold records; a node of level n lists nodes of level n - 1 by their last keys. The
//! root is the first level that has one node; the empty tree is one empty leaf. Equal content has
//! an equal root, however it came about.

pub mod build;
pub mod diff;
pub mod edit;
pub mod node;
pub mod read;

use crate::error::Error;
use crate::id::{ObjectId, ObjectKind};

pub use build::{Builder, LeafRecords, Leaves, Spine};
pub use diff::{Change, Counts, Diff};
pub use edit::edit;
pub use node::{Entry, Leaf, Node};
pub use read::{Cursor, get};

/// A tree: its root and what lies below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root {
    /// The root's id. Equal ids mean equal trees, within one repository.
    pub id: ObjectId,
    /// The root's level; 0 when it is a leaf.
    pub level: u8,
    /// Records in the tree.
    pub records: u64,
    /// Logical bytes of the records, moved-out values included.
    pub bytes: u64,
}

/// Where trees are read from. The caller moves the bytes; this crate does no I/O.
pub trait Lookup {
    /// What reading can fail with, beside malformed content.
    type Error: From<Error>;

    /// The plaintext of an object, already proven to be what its id says.
    fn load(&mut self, kind: ObjectKind, id: ObjectId) -> Result<Vec<u8>, Self::Error>;

    /// Says that these objects will probably be asked for next, in this order. A lookup over a
    /// distant store fetches them together; ignoring it changes nothing but speed.
    fn expect(&mut self, wanted: &[(ObjectKind, ObjectId)]) {
        let _ = wanted;
    }
}

/// Receives the objects of a tree under construction: children before their parents.
pub trait Sink {
    /// What writing can fail with.
    type Error: From<Error>;

    /// Stores one object.
    fn store(&mut self, kind: ObjectKind, id: ObjectId, plaintext: Vec<u8>) -> Result<(), Self::Error>;
}

/// The kind of the nodes of a level.
pub fn kind_of_level(level: u8) -> ObjectKind {
    if level == 0 { ObjectKind::Leaf } else { ObjectKind::Node }
}
