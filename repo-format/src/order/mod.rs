//! Keys as bytes whose plain comparison is the order of the tree.
//!
//! A key is the concatenation of its columns' encodings. Each encoding is self-delimiting, so no
//! key is a prefix of another and a concatenation compares column by column.

pub mod bson;
pub mod postgres;

use minicbor::{Decode, Encode};

use crate::keys::RowKey;
use crate::limits;

/// How one column becomes key bytes. The numbers are part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum KeyEncoding {
    /// `smallint`, `integer`, `bigint`, `oid`: 8 bytes, one form for all widths.
    #[n(0)]
    Integer,
    /// `boolean`: one byte.
    #[n(1)]
    Boolean,
    /// `uuid`: its 16 bytes.
    #[n(2)]
    Uuid,
    /// `date`: days, 8 bytes.
    #[n(3)]
    Date,
    /// `timestamp` and `timestamptz`: microseconds, 8 bytes.
    #[n(4)]
    Timestamp,
    /// `bytea`: its bytes, escaped and terminated.
    #[n(5)]
    Bytes,
    /// Text of any kind, enum labels, and every type without an encoding of its own: the bytes of
    /// the text, escaped and terminated.
    #[n(6)]
    Text,
    /// `numeric`: by value, so that 1.0 and 1.00 are one key.
    #[n(7)]
    Numeric,
    /// `real` and `double precision`: by value, -0 and 0 are one key, NaN is the greatest.
    #[n(8)]
    Float,
    /// A MongoDB `_id`, by value: the one encoding whose input is a document and no text.
    #[n(9)]
    Bson,
}

/// Appends `bytes` so that the result is self-delimiting and compares as `bytes` does: a zero byte
/// becomes `00 ff`, and `00 01` ends it.
pub fn push_escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    for part in bytes.split_inclusive(|&byte| byte == 0) {
        out.extend_from_slice(part);
        if part.last() == Some(&0) {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0x00, 0x01]);
}

/// Takes what [`push_escaped`] wrote from the front of `key`, and returns it with the rest.
pub fn take_escaped(key: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut out = Vec::new();
    let mut rest = key;
    loop {
        let zero = rest.iter().position(|&byte| byte == 0)?;
        out.extend_from_slice(&rest[..zero]);
        rest = rest.get(zero + 2..).filter(|_| zero + 1 < rest.len())?;
        match key[key.len() - rest.len() - 1] {
            0x01 => return Some((out, rest)),
            0xff => out.push(0),
            _ => return None,
        }
    }
}

/// Shortens a key that is over [`limits::KEY`]: its first 992 bytes, then the keyed hash of all of
/// it. Keys that share 992 bytes are then in hash order, which is an order all the same.
pub fn bound_key(key: &mut Vec<u8>, hasher: &RowKey) {
    if key.len() > limits::KEY {
        let hash = hasher.hash(key);
        key.truncate(limits::KEY_PREFIX);
        key.extend_from_slice(&hash);
    }
}
