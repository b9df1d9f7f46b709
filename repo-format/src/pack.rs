//! Packs: many frames in one file.
//!
//! | part | bytes |
//! |---|---|
//! | magic | 8: `dbsnapPK` |
//! | frames | each object's frame, one after the other |
//! | padding | a frame of zeros, so that the file's length says little |
//! | footer | a frame with the directory |
//! | trailer | 4: length of the footer frame, little-endian |
//!
//! The directory is the number of objects (varint) and for each its id (32 bytes), kind (1 byte),
//! frame length and plain length (varints). Frames follow the magic in directory order, so their
//! offsets add up from it. Padding and footer are sealed as the named parts `<file>#padding` and
//! `<file>#footer`.

use crate::codec::{Cursor, put_varint};
use crate::error::{Error, Result};
use crate::files;
use crate::frame::{OVERHEAD, Opener, Sealer, Subject};
use crate::id::{ObjectId, ObjectKind, PackId};
use crate::limits;

/// The first bytes of every pack.
pub const MAGIC: [u8; 8] = *b"dbsnapPK";
/// Bytes after the footer.
pub const TRAILER: usize = 4;

/// One object of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedObject {
    /// Which object.
    pub id: ObjectId,
    /// Its kind.
    pub kind: ObjectKind,
    /// Where its frame begins in the pack.
    pub offset: u32,
    /// Length of its frame.
    pub len: u32,
    /// Length of its plaintext.
    pub plain_len: u32,
}

/// A pack under construction, in memory.
#[derive(Debug)]
pub struct PackWriter {
    id: PackId,
    bytes: Vec<u8>,
    objects: Vec<PackedObject>,
}

impl PackWriter {
    /// An empty pack.
    pub fn new(id: PackId) -> Self {
        Self { id, bytes: MAGIC.to_vec(), objects: Vec::new() }
    }

    /// Appends an object's sealed frame.
    pub fn push(&mut self, kind: ObjectKind, id: ObjectId, plain_len: u32, frame: &[u8]) {
        let (offset, len) = (self.bytes.len() as u32, frame.len() as u32);
        self.bytes.extend_from_slice(frame);
        self.objects.push(PackedObject { id, kind, offset, len, plain_len });
    }

    /// Which pack.
    pub fn id(&self) -> PackId {
        self.id
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether no object was added.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Objects so far.
    pub fn objects(&self) -> usize {
        self.objects.len()
    }

    /// Pads, writes the footer, and returns the file's bytes and its directory.
    pub fn finish(
        mut self,
        sealer: &mut Sealer,
        nonces: [[u8; 12]; 2],
    ) -> Result<(Vec<u8>, Vec<PackedObject>)> {
        let directory = encode_directory(&self.objects);
        let file = files::pack(self.id);
        let mut footer = Vec::new();
        // Ids do not compress, and a raw frame's length is known before it is sealed.
        let footer_len =
            sealer.seal_raw(Subject::File(&format!("{file}#footer")), &directory, nonces[0], &mut footer)?;
        let least = self.bytes.len() + OVERHEAD + footer_len + TRAILER;
        let zeros = vec![0; padded_len(least) - least];
        sealer.seal_raw(Subject::File(&format!("{file}#padding")), &zeros, nonces[1], &mut self.bytes)?;
        self.bytes.extend_from_slice(&footer);
        self.bytes.extend_from_slice(&(footer_len as u32).to_le_bytes());
        Ok((self.bytes, self.objects))
    }
}

/// Padmé: the least length of at least `len` that has only as many significant bits as its
/// logarithm has bits. Adds at most 12 %, and about 1 % to a full pack.
pub fn padded_len(len: usize) -> usize {
    if len < 2 {
        return len;
    }
    let exponent = len.ilog2();
    let zero_bits = exponent - (exponent.ilog2() + 1);
    let mask = (1usize << zero_bits) - 1;
    (len + mask) & !mask
}

fn encode_directory(objects: &[PackedObject]) -> Vec<u8> {
    let mut out = Vec::with_capacity(objects.len() * 40);
    put_varint(&mut out, objects.len() as u64);
    for object in objects {
        out.extend_from_slice(&object.id.0);
        out.push(object.kind as u8);
        put_varint(&mut out, object.len.into());
        put_varint(&mut out, object.plain_len.into());
    }
    out
}

/// Reads a directory; offsets are added up from `first_offset`.
pub(crate) fn parse_directory(cursor: &mut Cursor<'_>, first_offset: u32) -> Result<Vec<PackedObject>> {
    let count = cursor.bounded(limits::PACK_OBJECTS)?;
    let mut objects = Vec::with_capacity(count.min(cursor.remaining() / 35));
    let mut offset = first_offset;
    for _ in 0..count {
        let id = ObjectId(cursor.array()?);
        let kind =
            ObjectKind::from_byte(cursor.byte()?).ok_or(cursor.malformed("a kind that does not exist"))?;
        let len = cursor.bounded(limits::FRAME + OVERHEAD)? as u32;
        let plain_len = cursor.bounded(limits::FRAME)? as u32;
        objects.push(PackedObject { id, kind, offset, len, plain_len });
        offset = offset.checked_add(len).ok_or(cursor.malformed("it is over 4 GiB"))?;
    }
    Ok(objects)
}

pub(crate) fn write_directory(out: &mut Vec<u8>, objects: &[PackedObject]) {
    out.extend_from_slice(&encode_directory(objects));
}

/// Reads the directory of a whole pack from its bytes. This is how verify checks that index and packs
/// agree.
pub fn read_directory(id: PackId, bytes: &[u8], opener: &mut Opener) -> Result<Vec<PackedObject>> {
    if !bytes.starts_with(&MAGIC) {
        return Err(Error::Malformed("pack", "it does not begin as one"));
    }
    read_footer(id, bytes.len() as u64, bytes, opener)
}

/// How many bytes at the end of a pack its footer and trailer are. `tail` is at least its last
/// [`TRAILER`] bytes, and `len` the length of all of it.
pub fn footer_len(len: u64, tail: &[u8]) -> Result<usize> {
    let bad = |why| Error::Malformed("pack", why);
    let trailer = tail.last_chunk::<TRAILER>().ok_or(bad("it ends early"))?;
    let footer = u32::from_le_bytes(*trailer) as usize + TRAILER;
    let room = len.checked_sub((MAGIC.len() + TRAILER) as u64).ok_or(bad("it ends early"))?;
    if (footer - TRAILER) as u64 > room { Err(bad("its footer is too long")) } else { Ok(footer) }
}

/// Reads the directory of a pack of `len` bytes from its end, which is at least the
/// [`footer_len`] of it. This is how an index is made anew where index files are lost.
pub fn read_footer(id: PackId, len: u64, tail: &[u8], opener: &mut Opener) -> Result<Vec<PackedObject>> {
    let bad = |why| Error::Malformed("pack", why);
    let footer_len = footer_len(len, tail)?;
    let start = tail.len().checked_sub(footer_len).ok_or(bad("it ends early"))?;
    let name = format!("{}#footer", files::pack(id));
    let directory = opener.open(Subject::File(&name), &tail[start..tail.len() - TRAILER])?;
    let mut cursor = Cursor::new(&directory, "pack directory");
    let objects = parse_directory(&mut cursor, MAGIC.len() as u32)?;
    cursor.finish()?;
    let end = objects.last().map_or(MAGIC.len() as u64, |last| u64::from(last.offset) + u64::from(last.len));
    if end > len - footer_len as u64 {
        return Err(bad("its objects reach into its footer"));
    }
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::RepositoryId;
    use crate::keys::{KeySchedule, RootKey};

    #[test]
    fn a_pack_lists_its_objects() {
        let keys = KeySchedule::new(RootKey::new([1; 32]));
        let repository = RepositoryId([2; 16]);
        let (mut sealer, mut opener) =
            (Sealer::new(repository, 0, &keys.seal(0)), Opener::new(repository, keys.clone()));
        let id = PackId([3; 16]);
        let mut pack = PackWriter::new(id);
        for n in 0..20u8 {
            let plain = vec![n; 100];
            let object = keys.object_id(ObjectKind::Leaf, &plain);
            let mut frame = Vec::new();
            sealer.seal(Subject::Object(ObjectKind::Leaf, object), &plain, [n; 12], &mut frame).unwrap();
            pack.push(ObjectKind::Leaf, object, 100, &frame);
        }
        let (bytes, objects) = pack.finish(&mut sealer, [[100; 12], [101; 12]]).unwrap();
        assert_eq!(bytes.len(), padded_len(bytes.len()), "the whole file has a padded length");
        assert_eq!(read_directory(id, &bytes, &mut opener).unwrap(), objects);
        let third = objects[2];
        let frame = &bytes[third.offset as usize..][..third.len as usize];
        assert_eq!(opener.open_object(third.kind, third.id, frame).unwrap(), [2; 100]);
        assert!(read_directory(PackId([4; 16]), &bytes, &mut opener).is_err(), "under another name");
        assert!(read_directory(id, &bytes[..bytes.len() - 1], &mut opener).is_err(), "cut short");
    }

    #[test]
    fn padding_is_small() {
        for len in [1000, 4_000_000, 33_000_000] {
            let padded = padded_len(len);
            assert!(padded >= len && padded - len <= len / 8, "{len} to {padded}");
            assert_eq!(padded_len(padded), padded);
        }
    }
}
