//! Reading and writing integers and strings of bytes.

use crate::error::{Error, Result};

/// Reads a slice from front to back; every length is checked before it is used.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Cursor<'a> {
    /// A cursor at the start of `bytes`; `what` names the structure in errors.
    pub fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    /// Whether everything was read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Bytes not yet read.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// An error about this structure.
    pub fn malformed(&self, why: &'static str) -> Error {
        Error::Malformed(self.what, why)
    }

    /// The next `len` bytes.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(self.malformed("it ends early"))?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(self.malformed("it ends early"))?;
        self.rest = rest;
        Ok(*taken)
    }

    /// The next byte.
    pub fn byte(&mut self) -> Result<u8> {
        self.array().map(|[byte]| byte)
    }

    /// A little-endian `u32`.
    pub fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// A varint in its shortest form.
    pub fn varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(self.malformed("a varint over 64 bits"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    return Err(self.malformed("a varint that is not the shortest"));
                }
                return Ok(value);
            }
        }
        Err(self.malformed("a varint over 64 bits"))
    }

    /// A varint that must be at most `max`.
    pub fn bounded(&mut self, max: usize) -> Result<usize> {
        let value = self.varint()?;
        usize::try_from(value)
            .ok()
            .filter(|&value| value <= max)
            .ok_or(self.malformed("a count or length over its limit"))
    }

    /// Fails unless everything was read.
    pub fn finish(self) -> Result<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.malformed("bytes after its end")) }
    }
}

/// Appends a varint: seven bits a byte, least significant first, the top bit set on all but the
/// last.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes that [`put_varint`] writes for `value`.
pub fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Deterministic CBOR: maps with ascending integer keys, shortest integers, definite lengths.
pub(crate) fn to_cbor<T: minicbor::Encode<()>>(value: &T) -> Vec<u8> {
    minicbor::to_vec(value).expect("because writing to memory cannot fail and no type refuses")
}

/// Reads what [`to_cbor`] writes, and refuses every other spelling of the same value: what is
/// hashed must have one form.
pub(crate) fn from_cbor<'b, T>(bytes: &'b [u8], what: &'static str) -> Result<T>
where
    T: minicbor::Decode<'b, ()> + minicbor::Encode<()>,
{
    let value: T =
        minicbor::decode(bytes).map_err(|_| Error::Malformed(what, "it is not the CBOR expected"))?;
    if to_cbor(&value) != bytes {
        return Err(Error::Malformed(what, "it is not in canonical form"));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_have_one_form() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value));
            let mut cursor = Cursor::new(&out, "test");
            assert_eq!(cursor.varint(), Ok(value));
            cursor.finish().unwrap();
        }
        assert!(Cursor::new(&[0x80, 0x00], "test").varint().is_err(), "a longer form of zero");
        assert!(Cursor::new(&[0xff; 10], "test").varint().is_err(), "more than 64 bits");
        assert!(Cursor::new(&[0x80], "test").varint().is_err(), "an end in the middle");
    }
}
