//! Frames: how plaintext is compressed and sealed.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 1 | format version |
//! | 1 | 1 | codec: 0 raw, 1 zstd; others are refused |
//! | 2 | 1 | kind: an object's, or 64 for a named file |
//! | 3 | 4 | key epoch, little-endian |
//! | 7 | 4 | plain length, little-endian |
//! | 11 | 12 | nonce |
//! | 23 | n | AES-256-GCM-SIV ciphertext of the (compressed) plaintext, and its 16-byte tag |
//!
//! The associated data, 59 bytes: version, repository id, kind, object id (or BLAKE3 of the file's
//! name), plain length, codec, epoch. A frame therefore opens only as what it was sealed as.

use aes_gcm_siv::aead::{AeadInOut, KeyInit};
use aes_gcm_siv::{Aes256GcmSiv, Nonce, Tag};

use crate::codec::Cursor;
use crate::error::{Error, Result};
use crate::id::{ObjectId, ObjectKind, RepositoryId};
use crate::keys::{KeySchedule, SealKey};
use crate::limits;

/// Bytes of a frame before its ciphertext.
pub const HEADER: usize = 23;
/// Bytes that a frame adds to raw content.
pub const OVERHEAD: usize = HEADER + TAG;
const TAG: usize = 16;
const NONCE: usize = 12;
const RAW: u8 = 0;
const ZSTD: u8 = 1;
const FILE_KIND: u8 = 64;
/// Level 3 is zstd's own default: past it, time grows faster than space shrinks on rows.
const ZSTD_LEVEL: i32 = 3;

/// What a frame holds; part of what is authenticated.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// An object.
    Object(ObjectKind, ObjectId),
    /// A named file, or a named part of one.
    File(&'a str),
}

impl Subject<'_> {
    fn kind(&self) -> u8 {
        match self {
            Self::Object(kind, _) => *kind as u8,
            Self::File(_) => FILE_KIND,
        }
    }

    fn identity(&self) -> [u8; 32] {
        match self {
            Self::Object(_, id) => id.0,
            Self::File(name) => *blake3::hash(name.as_bytes()).as_bytes(),
        }
    }
}

/// The fields of a frame that are read before it is opened. Not yet authenticated.
#[derive(Clone, Copy, Debug)]
struct Header {
    codec: u8,
    kind: u8,
    epoch: u32,
    plain_len: u32,
    nonce: [u8; NONCE],
}

impl Header {
    fn parse(cursor: &mut Cursor<'_>) -> Result<Self> {
        let version = cursor.byte()?;
        if version != limits::FORMAT_VERSION {
            return Err(Error::Version(version));
        }
        let codec = cursor.byte()?;
        if codec > ZSTD {
            return Err(Error::Codec(codec));
        }
        let (kind, epoch, plain_len) = (cursor.byte()?, cursor.u32()?, cursor.u32()?);
        if plain_len as usize > limits::FRAME {
            return Err(Error::OverLimit("plain length of a frame", limits::FRAME as u64));
        }
        Ok(Self { codec, kind, epoch, plain_len, nonce: cursor.array()? })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[limits::FORMAT_VERSION, self.codec, self.kind]);
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&self.plain_len.to_le_bytes());
        out.extend_from_slice(&self.nonce);
    }

    fn associated(&self, repository: RepositoryId, subject: &Subject<'_>) -> [u8; 59] {
        let mut out = [0; 59];
        out[0] = limits::FORMAT_VERSION;
        out[1..17].copy_from_slice(&repository.0);
        out[17] = subject.kind();
        out[18..50].copy_from_slice(&subject.identity());
        out[50..54].copy_from_slice(&self.plain_len.to_le_bytes());
        out[54] = self.codec;
        out[55..59].copy_from_slice(&self.epoch.to_le_bytes());
        out
    }
}

/// Compresses and seals. Holds a compression context, which is costly to make: keep one a thread.
pub struct Sealer {
    repository: RepositoryId,
    epoch: u32,
    cipher: Aes256GcmSiv,
    compressor: zstd::bulk::Compressor<'static>,
}

impl Sealer {
    /// Seals for `repository` under the key of `epoch`.
    pub fn new(repository: RepositoryId, epoch: u32, key: &SealKey) -> Self {
        let compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL)
            .expect("because level 3 exists and a context is only memory");
        Self { repository, epoch, cipher: Aes256GcmSiv::new(&key.0.into()), compressor }
    }

    /// Appends one frame to `out` and returns its length. `nonce` must be random: repeating one
    /// reveals whether two frames are equal.
    pub fn seal(
        &mut self,
        subject: Subject<'_>,
        plain: &[u8],
        nonce: [u8; NONCE],
        out: &mut Vec<u8>,
    ) -> Result<usize> {
        let compressed =
            self.compressor.compress(plain).map_err(|_| Error::Malformed("frame", "compression failed"))?;
        if compressed.len() < plain.len() {
            self.seal_as(ZSTD, &subject, plain.len(), &compressed, nonce, out)
        } else {
            self.seal_as(RAW, &subject, plain.len(), plain, nonce, out)
        }
    }

    /// As [`Sealer::seal`], but never compressed: the frame's length says the plain length.
    pub fn seal_raw(
        &mut self,
        subject: Subject<'_>,
        plain: &[u8],
        nonce: [u8; NONCE],
        out: &mut Vec<u8>,
    ) -> Result<usize> {
        self.seal_as(RAW, &subject, plain.len(), plain, nonce, out)
    }

    fn seal_as(
        &self,
        codec: u8,
        subject: &Subject<'_>,
        plain_len: usize,
        body: &[u8],
        nonce: [u8; NONCE],
        out: &mut Vec<u8>,
    ) -> Result<usize> {
        if plain_len > limits::FRAME {
            return Err(Error::OverLimit("plain length of a frame", limits::FRAME as u64));
        }
        let header =
            Header { codec, kind: subject.kind(), epoch: self.epoch, plain_len: plain_len as u32, nonce };
        let start = out.len();
        header.write(out);
        out.extend_from_slice(body);
        let associated = header.associated(self.repository, subject);
        let tag = self
            .cipher
            .encrypt_inout_detached(&Nonce::from(nonce), &associated, (&mut out[start + HEADER..]).into())
            .map_err(|_| Error::Unsealed)?;
        out.extend_from_slice(&tag);
        Ok(out.len() - start)
    }
}

/// The epoch that a sealed frame says it is of. Authenticated only by opening it.
pub fn epoch_of(frame: &[u8]) -> Option<u32> {
    Header::parse(&mut Cursor::new(frame, "frame")).ok().map(|header| header.epoch)
}

/// Where the key of an epoch comes from.
enum Keys {
    Schedule(KeySchedule),
    One(Box<Aes256GcmSiv>),
}

/// Opens and decompresses. Holds a decompression context: keep one a thread.
pub struct Opener {
    repository: RepositoryId,
    keys: Keys,
    /// The cipher of the epoch used last; most frames of a repository share one.
    recent: Option<(u32, Aes256GcmSiv)>,
    decompressor: zstd::bulk::Decompressor<'static>,
}

impl Opener {
    /// Opens frames of every epoch of a repository.
    pub fn new(repository: RepositoryId, schedule: KeySchedule) -> Self {
        Self::with_keys(repository, Keys::Schedule(schedule))
    }

    /// Opens frames sealed under `key`, whatever their epoch says.
    pub fn with_key(repository: RepositoryId, key: &SealKey) -> Self {
        Self::with_keys(repository, Keys::One(Box::new(Aes256GcmSiv::new(&key.0.into()))))
    }

    fn with_keys(repository: RepositoryId, keys: Keys) -> Self {
        let decompressor =
            zstd::bulk::Decompressor::new().expect("because a decompression context is only memory");
        Self { repository, keys, recent: None, decompressor }
    }

    /// Opens a frame that must hold `subject`. An object's content is not yet checked against its
    /// id: [`open_object`](Self::open_object) does both.
    pub fn open(&mut self, subject: Subject<'_>, frame: &[u8]) -> Result<Vec<u8>> {
        let mut cursor = Cursor::new(frame, "frame");
        let header = Header::parse(&mut cursor)?;
        if header.kind != subject.kind() {
            return Err(Error::Malformed("frame", "it holds another kind"));
        }
        let body_len = cursor.remaining().checked_sub(TAG).ok_or(cursor.malformed("it ends early"))?;
        let mut body = cursor.take(body_len)?.to_vec();
        let tag: [u8; TAG] = cursor.array()?;
        let associated = header.associated(self.repository, &subject);
        self.cipher(header.epoch)
            .decrypt_inout_detached(
                &Nonce::from(header.nonce),
                &associated,
                body.as_mut_slice().into(),
                &Tag::from(tag),
            )
            .map_err(|_| Error::Unsealed)?;
        let plain_len = header.plain_len as usize;
        if header.codec == ZSTD {
            body = self
                .decompressor
                .decompress(&body, plain_len)
                .map_err(|_| Error::Malformed("frame", "it does not decompress"))?;
        }
        if body.len() != plain_len {
            return Err(Error::Malformed("frame", "its content has another length"));
        }
        Ok(body)
    }

    /// Opens an object's frame and proves that the content is what the id says.
    pub fn open_object(&mut self, kind: ObjectKind, id: ObjectId, frame: &[u8]) -> Result<Vec<u8>> {
        let plain = self.open(Subject::Object(kind, id), frame)?;
        match &self.keys {
            Keys::Schedule(schedule) if schedule.object_id(kind, &plain) != id => Err(Error::WrongContent),
            _ => Ok(plain),
        }
    }

    fn cipher(&mut self, epoch: u32) -> &Aes256GcmSiv {
        let schedule = match &self.keys {
            Keys::One(cipher) => return cipher,
            Keys::Schedule(schedule) => schedule,
        };
        if self.recent.as_ref().is_none_or(|(recent, _)| *recent != epoch) {
            self.recent = Some((epoch, Aes256GcmSiv::new(&schedule.seal(epoch).0.into())));
        }
        let (_, cipher) = self.recent.as_ref().expect("because it was just set");
        cipher
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::RootKey;

    fn pair() -> (Sealer, Opener) {
        let schedule = KeySchedule::new(RootKey::new([1; 32]));
        let repository = RepositoryId([2; 16]);
        (Sealer::new(repository, 0, &schedule.seal(0)), Opener::new(repository, schedule))
    }

    #[test]
    fn a_frame_opens_only_as_what_it_was_sealed_as() {
        let (mut sealer, mut opener) = pair();
        let mut frame = Vec::new();
        let plain = [b'x'; 1000];
        sealer.seal(Subject::File("snapshots/1"), &plain, [3; 12], &mut frame).unwrap();
        assert!(frame.len() < 200, "a thousand equal bytes compress");
        assert_eq!(opener.open(Subject::File("snapshots/1"), &frame).unwrap(), plain);
        assert_eq!(opener.open(Subject::File("snapshots/2"), &frame), Err(Error::Unsealed));
        for position in 0..frame.len() {
            let mut changed = frame.clone();
            changed[position] ^= 1;
            assert!(opener.open(Subject::File("snapshots/1"), &changed).is_err(), "bit at {position}");
        }
        for len in 0..frame.len() {
            assert!(opener.open(Subject::File("snapshots/1"), &frame[..len]).is_err(), "cut at {len}");
        }
    }

    #[test]
    fn content_that_is_not_what_its_id_says_is_refused() {
        let (mut sealer, mut opener) = pair();
        let id = ObjectId([9; 32]);
        let mut frame = Vec::new();
        sealer.seal(Subject::Object(ObjectKind::Leaf, id), b"content", [3; 12], &mut frame).unwrap();
        assert_eq!(opener.open_object(ObjectKind::Leaf, id, &frame), Err(Error::WrongContent));
    }
}
