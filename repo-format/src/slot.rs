//! Slots: the root key, wrapped by a key that somebody keeps elsewhere.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | `dbsnapSL` |
//! | 8 | 1 | format version |
//! | 9 | 1 | kind: 1 server key, 2 recovery key, 3 AWS KMS |
//! | 10 | 16 | repository id |
//! | 26 | 32 | commitment to the unlocking key |
//! | 58 | 32 | commitment to the root key |
//! | 90 | 12 | nonce |
//! | 102 | 48 | root key under AES-256-GCM-SIV |
//! | 150 | n | kind 3 only: what KMS unwraps the unlocking key from |
//! | 150 + n | 16 | check: a hash of all before and of the slot's id under a key of the root key |
//!
//! The wrapping key and the commitment are derived from the unlocking key followed by the slot's
//! id. Associated data: bytes 0 to 90 followed by the slot's id and by what is from byte 150 on.
//! The commitments are checked first: GCM-SIV alone does not commit to its key. Who has the root key finds by
//! the check whether a slot is whole that it has no key of.

use std::fmt;

use aes_gcm_siv::aead::{AeadInOut, KeyInit};
use aes_gcm_siv::{Aes256GcmSiv, Nonce, Tag};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::codec::Cursor;
use crate::error::{Error, Result};
use crate::id::{RepositoryId, SlotId};
use crate::keys::{RootKey, context};
use crate::limits::{self, FORMAT_VERSION};

const MAGIC: [u8; 8] = *b"dbsnapSL";
const HEAD: usize = 90;
/// Where the part of a KMS slot begins, and the check of every other slot.
const END: usize = 150;
const CHECK: usize = 16;

/// What kind of key opens a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SlotKind {
    /// The server's key file.
    Server = 1,
    /// The recovery key that is shown once.
    Recovery = 2,
    /// A key that AWS KMS wraps.
    Kms = 3,
}

/// How AWS KMS gives the unlocking key of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KmsKey {
    /// The key in KMS that wraps it, as KMS names it.
    pub key_id: String,
    /// The wrapped key, opaque to everybody but KMS.
    pub ciphertext: Vec<u8>,
}

impl KmsKey {
    fn write(&self, out: &mut Vec<u8>) -> Result<()> {
        for (what, bytes, most) in [
            ("name of a KMS key", self.key_id.as_bytes(), limits::KMS_KEY_ID),
            ("ciphertext of KMS", self.ciphertext.as_slice(), limits::KMS_CIPHERTEXT),
        ] {
            if bytes.len() > most {
                return Err(Error::OverLimit(what, most as u64));
            }
            out.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
            out.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn parse(cursor: &mut Cursor<'_>) -> Result<Self> {
        let mut part = |most: usize| {
            let len = usize::from(u16::from_le_bytes(cursor.array()?));
            if len > most {
                return Err(cursor.malformed("a part of KMS is too long"));
            }
            Ok(cursor.take(len)?.to_vec())
        };
        let (key_id, ciphertext) = (part(limits::KMS_KEY_ID)?, part(limits::KMS_CIPHERTEXT)?);
        let key_id = String::from_utf8(key_id).map_err(|_| cursor.malformed("its KMS key has no name"))?;
        Ok(Self { key_id, ciphertext })
    }
}

/// What is readable of a slot without its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// What kind of key opens it.
    pub kind: SlotKind,
    /// Where that key is, if KMS has it.
    pub kms: Option<KmsKey>,
}

/// A key that opens a slot.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct UnlockKey([u8; 32]);

impl fmt::Debug for UnlockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnlockKey(..)")
    }
}

/// The letters of a recovery key: no I, L, O or U, which are misread.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Bytes of a recovery key's text form: 32 of key, 3 of checksum.
const RECOVERY: usize = 35;

impl From<SlotKind> for Outline {
    /// Of a kind that needs no more than its key.
    fn from(kind: SlotKind) -> Self {
        Self { kind, kms: None }
    }
}

impl UnlockKey {
    /// A key from 32 random bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The form a person writes down: 14 groups of four letters, the last ones a checksum.
    pub fn to_recovery_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([0; RECOVERY]);
        bytes[..32].copy_from_slice(&self.0);
        bytes[32..].copy_from_slice(&blake3::hash(&self.0).as_bytes()[..3]);
        let mut text = Zeroizing::new(String::with_capacity(70));
        for (at, five) in bytes.chunks_exact(5).enumerate() {
            let bits = five.iter().fold(0u64, |bits, &byte| bits << 8 | u64::from(byte));
            for letter in 0..8 {
                if letter % 4 == 0 && (at, letter) != (0, 0) {
                    text.push('-');
                }
                text.push(char::from(ALPHABET[(bits >> (35 - 5 * letter)) as usize & 31]));
            }
        }
        text
    }

    /// Reads [`to_recovery_text`](Self::to_recovery_text) as a person may have typed it: any case,
    /// any spacing, and the letters that look alike.
    pub fn from_recovery_text(text: &str) -> Result<Self> {
        let bad = |why| Error::Malformed("recovery key", why);
        let mut bytes = Zeroizing::new(Vec::with_capacity(RECOVERY));
        let (mut bits, mut count) = (0u64, 0);
        for letter in text.chars().filter(|c| !c.is_whitespace() && *c != '-') {
            let letter = match letter.to_ascii_uppercase() {
                'O' => '0',
                'I' | 'L' => '1',
                other => other,
            };
            let value = ALPHABET.iter().position(|&known| char::from(known) == letter);
            bits = bits << 5 | value.ok_or(bad("it has a letter that no recovery key has"))? as u64;
            count += 1;
            if count % 8 == 0 {
                bytes.extend_from_slice(&bits.to_be_bytes()[3..]);
                bits = 0;
            }
        }
        if count != RECOVERY / 5 * 8 {
            return Err(bad("it has another number of letters"));
        }
        let key: [u8; 32] = *bytes.first_chunk().ok_or(bad("it is too short"))?;
        if blake3::hash(&key).as_bytes()[..3] != bytes[32..] {
            return Err(bad("its checksum is wrong, so a letter is"));
        }
        Ok(Self(key))
    }

    fn derive(&self, purpose: &'static str, slot: SlotId) -> Zeroizing<[u8; 32]> {
        let mut material = Zeroizing::new([0; 48]);
        material[..32].copy_from_slice(&self.0);
        material[32..].copy_from_slice(&slot.0);
        Zeroizing::new(blake3::derive_key(purpose, &material[..]))
    }

    fn cipher(&self, slot: SlotId) -> Aes256GcmSiv {
        Aes256GcmSiv::new(&(*self.derive(context::SLOT_WRAP, slot)).into())
    }
}

/// Wraps a root key: the bytes of the slot's file. The kind is KMS where `kms` says how KMS gives
/// the key, and must not be KMS where it does not.
pub fn wrap(
    outline: &Outline,
    repository: RepositoryId,
    slot: SlotId,
    root: &RootKey,
    key: &UnlockKey,
    nonce: [u8; 12],
) -> Result<Vec<u8>> {
    if (outline.kind == SlotKind::Kms) != outline.kms.is_some() {
        return Err(Error::Malformed("slot", "its kind does not fit what it holds"));
    }
    let mut out = Vec::with_capacity(END);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[FORMAT_VERSION, outline.kind as u8]);
    out.extend_from_slice(&repository.0);
    out.extend_from_slice(&*key.derive(context::SLOT_COMMIT, slot));
    out.extend_from_slice(&root.commitment());
    let mut kms = Vec::new();
    outline.kms.iter().try_for_each(|part| part.write(&mut kms))?;
    let associated = [&out[..HEAD], &slot.0, &kms].concat();
    out.extend_from_slice(&nonce);
    let mut wrapped = Zeroizing::new(root.0);
    let tag = key
        .cipher(slot)
        .encrypt_inout_detached(&Nonce::from(nonce), &associated, wrapped.as_mut_slice().into())
        .map_err(|_| Error::Unsealed)?;
    out.extend_from_slice(&*wrapped);
    out.extend_from_slice(&tag);
    out.extend_from_slice(&kms);
    let check = check_of(root, slot, &out);
    out.extend_from_slice(&check);
    Ok(out)
}

fn check_of(root: &RootKey, slot: SlotId, before: &[u8]) -> [u8; CHECK] {
    let key = Zeroizing::new(blake3::derive_key(context::SLOT_CHECK, &root.0));
    let hash = blake3::Hasher::new_keyed(&key).update(before).update(&slot.0).finalize();
    std::array::from_fn(|at| hash.as_bytes()[at])
}

/// Nothing of version 0 is promised to be readable later, and who meets an older draft is to know it.
const NO_CHECK: &str = "it ends before its check: it was cut, or written by an earlier draft of format version 0, \
                        which only the program of that time reads";

/// A slot's parts, as they stand in its file.
struct Parts {
    outline: Outline,
    key_commitment: [u8; 32],
    root_commitment: [u8; 32],
    nonce: [u8; 12],
    wrapped: Zeroizing<[u8; 32]>,
    tag: [u8; 16],
    check: [u8; CHECK],
}

impl Parts {
    fn parse(repository: RepositoryId, bytes: &[u8]) -> Result<Self> {
        let mut cursor = Cursor::new(bytes, "slot");
        if cursor.array::<8>()? != MAGIC {
            return Err(cursor.malformed("it does not begin as one"));
        }
        let version = cursor.byte()?;
        if version != FORMAT_VERSION {
            return Err(Error::Version(version));
        }
        let kind = match cursor.byte()? {
            1 => SlotKind::Server,
            2 => SlotKind::Recovery,
            3 => SlotKind::Kms,
            _ => return Err(cursor.malformed("it is of a kind this reader does not know")),
        };
        if cursor.array()? != repository.0 {
            return Err(cursor.malformed("it is of another repository"));
        }
        let (key_commitment, root_commitment) = (cursor.array()?, cursor.array()?);
        let (nonce, wrapped, tag) = (cursor.array()?, Zeroizing::new(cursor.array()?), cursor.array()?);
        let kms = if kind == SlotKind::Kms { Some(KmsKey::parse(&mut cursor)?) } else { None };
        if cursor.is_empty() {
            return Err(cursor.malformed(NO_CHECK));
        }
        let check = cursor.array()?;
        cursor.finish()?;
        let outline = Outline { kind, kms };
        Ok(Self { outline, key_commitment, root_commitment, nonce, wrapped, tag, check })
    }

    /// Whether all bytes are what they were when the slot was made, under this name.
    fn prove(&self, root: &RootKey, slot: SlotId, bytes: &[u8]) -> Result<()> {
        let is_whole = self.root_commitment == root.commitment()
            && self.check == check_of(root, slot, &bytes[..bytes.len() - CHECK]);
        if is_whole { Ok(()) } else { Err(Error::WrongContent) }
    }
}

/// What the bytes of a slot's file say of it. Authenticated only by [`unwrap`].
pub fn outline(repository: RepositoryId, bytes: &[u8]) -> Result<Outline> {
    Ok(Parts::parse(repository, bytes)?.outline)
}

/// Whether the bytes of a slot's file are those that were stored under its name, for who has the root key
/// and not the slot's.
pub fn prove(repository: RepositoryId, slot: SlotId, bytes: &[u8], root: &RootKey) -> Result<()> {
    Parts::parse(repository, bytes)?.prove(root, slot, bytes)
}

/// Whether the bytes of a slot's file say that it is of another repository, by its id and its root key: one
/// whose making ended early leaves such a slot.
pub fn is_foreign(repository: RepositoryId, bytes: &[u8], root: &RootKey) -> bool {
    let of = |at: usize, len: usize| bytes.get(at..at + len);
    bytes.starts_with(&MAGIC)
        && of(10, 16).is_some_and(|id| id != repository.0)
        && of(58, 32).is_some_and(|commitment| commitment != root.commitment())
}

/// Unwraps the root key from the bytes of a slot's file. [`Error::WrongKey`] means that the slot
/// is for another key; any other error, that its bytes are damaged.
pub fn unwrap(repository: RepositoryId, slot: SlotId, bytes: &[u8], key: &UnlockKey) -> Result<RootKey> {
    let mut parts = Parts::parse(repository, bytes)?;
    // blake3::Hash compares in constant time.
    let commitment = *key.derive(context::SLOT_COMMIT, slot);
    if blake3::Hash::from(parts.key_commitment) != blake3::Hash::from(commitment) {
        return Err(Error::WrongKey);
    }
    let associated = [&bytes[..HEAD], &slot.0, &bytes[END..bytes.len() - CHECK]].concat();
    key.cipher(slot)
        .decrypt_inout_detached(
            &Nonce::from(parts.nonce),
            &associated,
            parts.wrapped.as_mut_slice().into(),
            &Tag::from(parts.tag),
        )
        .map_err(|_| Error::Unsealed)?;
    let root = RootKey::new(*parts.wrapped);
    parts.prove(&root, slot, bytes)?;
    Ok(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_opens_with_its_key_and_name_only() {
        let (repository, slot) = (RepositoryId([1; 16]), SlotId([2; 16]));
        let (root, key) = (RootKey::new([3; 32]), UnlockKey::new([4; 32]));
        let kms = KmsKey { key_id: "arn:aws:kms:x:1:key/2".to_owned(), ciphertext: vec![6; 90] };
        let outlines = [SlotKind::Server.into(), Outline { kind: SlotKind::Kms, kms: Some(kms) }];
        for of in outlines {
            let bytes = wrap(&of, repository, slot, &root, &key, [5; 12]).unwrap();
            assert_eq!(outline(repository, &bytes), Ok(of));
            assert!(!is_foreign(repository, &bytes, &root));
            assert!(
                !is_foreign(repository, &bytes, &RootKey::new([9; 32]))
                    && !is_foreign(RepositoryId([9; 16]), &bytes, &root)
            );
            assert!(is_foreign(RepositoryId([9; 16]), &bytes, &RootKey::new([9; 32])));
            opens_with_its_key_only(repository, slot, &bytes, &key, &root);
            let draft = outline(repository, &bytes[..bytes.len() - CHECK]);
            assert_eq!(draft, Err(Error::Malformed("slot", NO_CHECK)));
        }
        assert!(wrap(&SlotKind::Kms.into(), repository, slot, &root, &key, [5; 12]).is_err());
    }

    fn opens_with_its_key_only(
        repository: RepositoryId,
        slot: SlotId,
        bytes: &[u8],
        key: &UnlockKey,
        root: &RootKey,
    ) {
        assert_eq!(unwrap(repository, slot, bytes, key).unwrap().commitment(), root.commitment());
        assert_eq!(prove(repository, slot, bytes, root), Ok(()));
        assert!(prove(repository, SlotId([9; 16]), bytes, root).is_err());
        let wrong = UnlockKey::new([9; 32]);
        assert_eq!(unwrap(repository, slot, bytes, &wrong).err(), Some(Error::WrongKey));
        assert!(unwrap(repository, SlotId([9; 16]), bytes, key).is_err());
        assert!(unwrap(RepositoryId([9; 16]), slot, bytes, key).is_err());
        for position in 0..bytes.len() {
            let mut changed = bytes.to_vec();
            changed[position] ^= 1;
            assert!(unwrap(repository, slot, &changed, key).is_err(), "byte {position}");
            assert!(prove(repository, slot, &changed, root).is_err(), "byte {position}");
            assert!(!is_foreign(repository, &changed, root), "byte {position}");
        }
    }

    #[test]
    fn a_recovery_key_survives_being_typed() {
        let key = UnlockKey::new(std::array::from_fn(|at| at as u8 * 7));
        let text = key.to_recovery_text();
        assert_eq!(text.len(), 56 + 13);
        let typed = text.to_lowercase().replace('-', " ").replace('0', "o").replace('1', "l");
        assert_eq!(UnlockKey::from_recovery_text(&typed).unwrap().0, key.0);
        let mut wrong = text.to_string();
        let first = if wrong.starts_with('A') { "B" } else { "A" };
        wrong.replace_range(0..1, first);
        assert!(UnlockKey::from_recovery_text(&wrong).is_err());
        assert!(UnlockKey::from_recovery_text("").is_err());
    }
}
