//! Marks: what is said of a snapshot after it was committed.
//!
//! A manifest never changes, so what becomes known later is in files of their own: `marks/<snapshot>.<n>`,
//! deterministic CBOR. Each holds all that is said, and of several the one with the greatest n counts.

use minicbor::{Decode, Encode};

use crate::codec;
use crate::error::Result;

/// Everything that was said of a snapshot later. The default says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Mark {
    /// When it was made, in milliseconds since 1970.
    #[n(0)]
    pub at_ms: i64,
    /// The note from now on, instead of the manifest's; empty for none.
    #[n(1)]
    pub note: Option<String>,
    /// Whether nobody may delete the snapshot.
    #[n(2)]
    pub pinned: bool,
    /// When a verification of the structure last found nothing wrong with it.
    #[n(3)]
    pub structure_ms: Option<i64>,
    /// The same of a verification of a sample.
    #[n(4)]
    pub sample_ms: Option<i64>,
    /// The same of a verification of every byte.
    #[n(5)]
    pub full_ms: Option<i64>,
    /// When it was decided that the snapshot is deleted: nothing is said of it after that.
    #[n(6)]
    pub deleting_ms: Option<i64>,
}

impl Mark {
    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::to_cbor(self)
    }

    /// Reads canonical bytes; refuses any other spelling of the same mark.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        codec::from_cbor(bytes, "mark")
    }
}
