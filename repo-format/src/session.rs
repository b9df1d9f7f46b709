//! Sessions: that somebody relies on objects, that it still lives, and that it was ended.
//!
//! | file | plaintext |
//! |---|---|
//! | `sessions/<id>` | time it began (8 bytes, little-endian), what it is for (1 byte) |
//! | `sessions/<id>.<n>` | the n-th sign of life: its time (8 bytes, little-endian) |
//! | `snapshots/<id>` as a tombstone | `00`, the time the session was ended (8 bytes, little-endian) |
//!
//! A tombstone takes the name that the session's commit needs. Its first byte cannot begin a
//! manifest, which is a CBOR map.

use crate::codec::Cursor;
use crate::error::Result;

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    /// It may commit a snapshot. To end it from outside takes a tombstone.
    Commit = 1,
    /// It only reads.
    Read = 2,
}

/// The content of a session's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// When it began, by its own clock, in milliseconds since 1970.
    pub began_ms: i64,
    /// What it is for.
    pub purpose: Purpose,
}

impl Beginning {
    /// The plaintext.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.began_ms.to_le_bytes().to_vec();
        out.push(self.purpose as u8);
        out
    }

    /// Reads the plaintext.
    pub fn parse(plaintext: &[u8]) -> Result<Self> {
        let mut cursor = Cursor::new(plaintext, "session");
        let began_ms = i64::from_le_bytes(cursor.array()?);
        let purpose = match cursor.byte()? {
            1 => Purpose::Commit,
            2 => Purpose::Read,
            _ => return Err(cursor.malformed("a purpose that does not exist")),
        };
        cursor.finish()?;
        Ok(Self { began_ms, purpose })
    }
}

/// The first byte of a tombstone.
const TOMBSTONE: u8 = 0;

/// The plaintext that takes the place of a manifest.
pub fn tombstone(ended_ms: i64) -> Vec<u8> {
    let mut out = vec![TOMBSTONE];
    out.extend_from_slice(&ended_ms.to_le_bytes());
    out
}

/// When the session was ended whose manifest would have this plaintext; `None` when it is no
/// tombstone but, if anything, a manifest.
pub fn parse_tombstone(plaintext: &[u8]) -> Result<Option<i64>> {
    if plaintext.first() != Some(&TOMBSTONE) {
        return Ok(None);
    }
    let mut cursor = Cursor::new(&plaintext[1..], "tombstone");
    let ended_ms = i64::from_le_bytes(cursor.array()?);
    cursor.finish()?;
    Ok(Some(ended_ms))
}
