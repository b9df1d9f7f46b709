//! From the root key to every other key of a repository.
//!
//! The root key is 32 random bytes that exist only wrapped, in slots. Each purpose has a key of
//! its own, derived with BLAKE3's key derivation under a fixed context string, so that no key is
//! used for two things and none reveals another.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::id::{ObjectId, ObjectKind};

/// The context strings; they are part of the format.
pub mod context {
    /// Object ids.
    pub const ID: &str = "dbsnap 2026-11 v0 object id";
    /// Cut points of leaves and inner nodes.
    pub const CUT: &str = "dbsnap 2026-11 v0 leaf cut";
    /// Cut points of inner nodes.
    pub const NODE_CUT: &str = "dbsnap 2026-11 v0 node cut";
    /// The gear table for the pieces of moved-out values.
    pub const GEAR: &str = "dbsnap 2026-11 v0 piece gear";
    /// Keys of records that have none, and the tails of long keys.
    pub const ROW: &str = "dbsnap 2026-11 v0 row key";
    /// Sealing; the input is the root key and the epoch as a little-endian `u32`.
    pub const SEAL: &str = "dbsnap 2026-11 v0 seal";
    /// The commitment to the root key that config and slots carry.
    pub const COMMIT: &str = "dbsnap 2026-11 v0 commitment";
    /// Wrapping of the root key in a slot, from the unlocking key.
    pub const SLOT_WRAP: &str = "dbsnap 2026-11 v0 slot wrap";
    /// The commitment to the unlocking key that a slot carries.
    pub const SLOT_COMMIT: &str = "dbsnap 2026-11 v0 slot commitment";
    /// The check of a slot's bytes, from the root key.
    pub const SLOT_CHECK: &str = "dbsnap 2026-11 v0 slot check";
}

macro_rules! secret {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Zeroize, ZeroizeOnDrop)]
        pub struct $name(pub(crate) [u8; 32]);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    };
}

secret! {
    /// The key everything else of one repository is derived from.
    RootKey
}
secret! {
    /// Hashes records without a key, and the tails of long keys.
    RowKey
}
secret! {
    /// Seals and opens frames of one epoch.
    SealKey
}

impl RootKey {
    /// A root key from 32 random bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// What config and slots carry, to tell a wrong key from damage.
    pub fn commitment(&self) -> [u8; 32] {
        blake3::derive_key(context::COMMIT, &self.0)
    }
}

impl RowKey {
    /// A row key for data that is never stored in a repository, such as a test's.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The keyed hash of `bytes`.
    pub fn hash(&self, bytes: &[u8]) -> [u8; 32] {
        *blake3::keyed_hash(&self.0, bytes).as_bytes()
    }
}

impl SealKey {
    /// A key for data that never outlives its job, such as sort spills.
    pub fn ephemeral(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// Every derived key of one repository.
#[derive(Clone, Debug)]
pub struct KeySchedule {
    root: RootKey,
    id: Secret32,
    pub(crate) cut: Secret32,
    pub(crate) node_cut: Secret32,
    pub(crate) gear: Secret32,
    row: RowKey,
}

secret! {
    /// A derived key without operations of its own.
    Secret32
}

impl KeySchedule {
    /// Derives all keys.
    pub fn new(root: RootKey) -> Self {
        let derive = |context| Secret32(blake3::derive_key(context, &root.0));
        Self {
            id: derive(context::ID),
            cut: derive(context::CUT),
            node_cut: derive(context::NODE_CUT),
            gear: derive(context::GEAR),
            row: RowKey(blake3::derive_key(context::ROW, &root.0)),
            root,
        }
    }

    /// The id of an object: the keyed hash of its kind and its canonical plaintext.
    pub fn object_id(&self, kind: ObjectKind, plaintext: &[u8]) -> ObjectId {
        let mut hasher = blake3::Hasher::new_keyed(&self.id.0);
        hasher.update(&[kind as u8]).update(plaintext);
        ObjectId(*hasher.finalize().as_bytes())
    }

    /// Hashes records without a key.
    pub fn row(&self) -> &RowKey {
        &self.row
    }

    /// The root key, to be wrapped in another slot.
    pub fn root(&self) -> &RootKey {
        &self.root
    }

    /// The key that seals frames of `epoch`.
    pub fn seal(&self, epoch: u32) -> SealKey {
        let mut material = [0; 36];
        material[..32].copy_from_slice(&self.root.0);
        material[32..].copy_from_slice(&epoch.to_le_bytes());
        let key = SealKey(blake3::derive_key(context::SEAL, &material));
        material.zeroize();
        key
    }
}
