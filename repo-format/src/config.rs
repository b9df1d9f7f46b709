//! The `config` file: which repository this is, and what a program must know to touch it.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | `dbsnapCF` |
//! | 8 | 1 | format version |
//! | 9 | 16 | repository id |
//! | 25 | 32 | commitment to the root key |
//! | 57 | n | a frame of the named file `config`: the settings as deterministic CBOR |
//!
//! The first 57 bytes are readable without a key, since slots are opened with them. The settings
//! repeat them sealed, so that a changed id or commitment is noticed.

use minicbor::{Decode, Encode};

use crate::codec::{self, Cursor};
use crate::error::{Error, Result};
use crate::files;
use crate::frame::{Opener, Sealer, Subject};
use crate::id::{ObjectId, RepositoryId};
use crate::limits::FORMAT_VERSION;

const MAGIC: [u8; 8] = *b"dbsnapCF";

/// The part that is readable without a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preamble {
    /// Which repository.
    pub repository: RepositoryId,
    /// The commitment to its root key.
    pub commitment: [u8; 32],
}

/// The sealed part.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Settings {
    /// The preamble's repository id again.
    #[n(0)]
    pub repository: RepositoryId,
    /// The preamble's commitment again.
    #[n(1)]
    pub commitment: ObjectId,
    /// When the repository was made, in milliseconds since 1970.
    #[n(2)]
    pub created_ms: i64,
    /// Features that a reader must know; version 0 has none.
    #[n(3)]
    pub reader_features: Vec<String>,
    /// Features that a writer must know.
    #[n(4)]
    pub writer_features: Vec<String>,
    /// Features that whoever deletes must know.
    #[n(5)]
    pub deleter_features: Vec<String>,
    /// Whether one server only may write, because the store cannot create without overwriting.
    #[n(6)]
    pub exclusive: bool,
}

/// The bytes of a config file.
pub fn encode(settings: &Settings, sealer: &mut Sealer, nonce: [u8; 12]) -> Result<Vec<u8>> {
    let mut out = MAGIC.to_vec();
    out.push(FORMAT_VERSION);
    out.extend_from_slice(&settings.repository.0);
    out.extend_from_slice(&settings.commitment.0);
    sealer.seal(Subject::File(files::CONFIG), &codec::to_cbor(settings), nonce, &mut out)?;
    Ok(out)
}

/// Reads the part that needs no key, and returns the sealed rest.
pub fn parse_preamble(bytes: &[u8]) -> Result<(Preamble, &[u8])> {
    let mut cursor = Cursor::new(bytes, "config");
    if cursor.array::<8>()? != MAGIC {
        return Err(cursor.malformed("it does not begin as one"));
    }
    let version = cursor.byte()?;
    if version != FORMAT_VERSION {
        return Err(Error::Version(version));
    }
    let preamble = Preamble { repository: RepositoryId(cursor.array()?), commitment: cursor.array()? };
    let sealed = cursor.take(cursor.remaining())?;
    Ok((preamble, sealed))
}

/// Opens the sealed part and checks it against the preamble. Unknown reader features are refused.
pub fn open_settings(preamble: &Preamble, sealed: &[u8], opener: &mut Opener) -> Result<Settings> {
    let settings: Settings = codec::from_cbor(&opener.open(Subject::File(files::CONFIG), sealed)?, "config")?;
    if settings.repository != preamble.repository || settings.commitment.0 != preamble.commitment {
        return Err(Error::Malformed("config", "its two halves do not agree"));
    }
    if !settings.reader_features.is_empty() {
        return Err(Error::Malformed("config", "it needs a feature this reader does not know"));
    }
    Ok(settings)
}
