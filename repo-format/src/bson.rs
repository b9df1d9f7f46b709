//! Raw BSON, walked without being believed.
//!
//! What a database holds is kept byte for byte, so everything that a server may have let in passes: field
//! names that come twice or are empty, text that is not UTF-8, arrays whose names are not positions, types
//! that are deprecated. Lengths and ends are checked, because nothing can be read past a wrong one.

use crate::error::{Error, Result};

/// The type bytes of BSON.
pub mod kind {
    /// A binary64, 8 bytes.
    pub const DOUBLE: u8 = 0x01;
    /// Text with its length in front and a zero byte behind.
    pub const STRING: u8 = 0x02;
    /// A document.
    pub const DOCUMENT: u8 = 0x03;
    /// A document whose names are positions.
    pub const ARRAY: u8 = 0x04;
    /// Length, subtype, bytes.
    pub const BINARY: u8 = 0x05;
    /// Nothing follows. Deprecated.
    pub const UNDEFINED: u8 = 0x06;
    /// 12 bytes.
    pub const OBJECT_ID: u8 = 0x07;
    /// One byte.
    pub const BOOLEAN: u8 = 0x08;
    /// Milliseconds since 1970, signed, 8 bytes.
    pub const DATE: u8 = 0x09;
    /// Nothing follows.
    pub const NULL: u8 = 0x0a;
    /// Pattern and options, each ended by a zero byte.
    pub const REGEX: u8 = 0x0b;
    /// A namespace as a string, and 12 bytes. Deprecated.
    pub const DB_POINTER: u8 = 0x0c;
    /// A string that is JavaScript.
    pub const CODE: u8 = 0x0d;
    /// A string of its own type. Deprecated.
    pub const SYMBOL: u8 = 0x0e;
    /// Length of the whole, a string that is JavaScript, and a document. Deprecated.
    pub const CODE_WITH_SCOPE: u8 = 0x0f;
    /// 4 bytes, signed.
    pub const INT32: u8 = 0x10;
    /// Increment and seconds, 4 bytes each.
    pub const TIMESTAMP: u8 = 0x11;
    /// 8 bytes, signed.
    pub const INT64: u8 = 0x12;
    /// A decimal128 with a binary integer for its digits, 16 bytes.
    pub const DECIMAL128: u8 = 0x13;
    /// Nothing follows; greater than everything.
    pub const MAX_KEY: u8 = 0x7f;
    /// Nothing follows; less than everything.
    pub const MIN_KEY: u8 = 0xff;
}

fn malformed(why: &'static str) -> Error {
    Error::Malformed("BSON", why)
}

/// One element of a document or array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element<'a> {
    /// The type byte, one of [`kind`].
    pub kind: u8,
    /// The name, without the zero byte that ends it.
    pub name: &'a [u8],
    /// The value, of the length that its type asks for. What is inside an embedded document is unchecked.
    pub value: &'a [u8],
}

/// The elements of a document or array in their order. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    rest: &'a [u8],
}

impl<'a> Elements<'a> {
    /// The elements of `document`, which must be whole: its length first, a zero byte last.
    pub fn new(document: &'a [u8]) -> Result<Self> {
        if document_len(document)? != document.len() {
            return Err(malformed("bytes after its end"));
        }
        Ok(Self { rest: &document[4..document.len() - 1] })
    }

    fn take(&mut self) -> Result<Element<'a>> {
        let (&kind, rest) = self.rest.split_first().ok_or(malformed("it ends early"))?;
        let (name, rest) = cstring(rest)?;
        let (value, rest) = rest.split_at(value_len(kind, rest)?);
        self.rest = rest;
        Ok(Element { kind, name, value })
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<Element<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let element = self.take();
        if element.is_err() {
            self.rest = &[];
        }
        Some(element)
    }
}

/// How many bytes the value of type `kind` at the front of `bytes` takes; never more than there are.
pub fn value_len(kind: u8, bytes: &[u8]) -> Result<usize> {
    let len = match kind {
        kind::UNDEFINED | kind::NULL | kind::MIN_KEY | kind::MAX_KEY => 0,
        kind::BOOLEAN => 1,
        kind::INT32 => 4,
        kind::DOUBLE | kind::DATE | kind::TIMESTAMP | kind::INT64 => 8,
        kind::OBJECT_ID => 12,
        kind::DECIMAL128 => 16,
        kind::STRING | kind::CODE | kind::SYMBOL => string(bytes)?.1,
        kind::DOCUMENT | kind::ARRAY => document_len(bytes)?,
        kind::BINARY => length(bytes)?.checked_add(5).ok_or(malformed("it ends early"))?,
        kind::REGEX => {
            let (_, rest) = cstring(bytes)?;
            bytes.len() - cstring(rest)?.1.len()
        }
        kind::DB_POINTER => string(bytes)?.1 + 12,
        kind::CODE_WITH_SCOPE => {
            let len = length(bytes)?;
            scoped(bytes.get(..len).ok_or(malformed("it ends early"))?)?;
            len
        }
        _ => return Err(malformed("a type that does not exist")),
    };
    if len > bytes.len() { Err(malformed("it ends early")) } else { Ok(len) }
}

/// The bytes of a string, code or symbol, without length and final zero byte; they may hold any.
pub fn text(value: &[u8]) -> Result<&[u8]> {
    let (text, len) = string(value)?;
    fits(value.len() == len).map(|()| text)
}

/// Subtype and bytes of a binary value. Those of subtype 2 begin with a length of their own.
pub fn binary(value: &[u8]) -> Result<(u8, &[u8])> {
    let (head, bytes) = value.split_at_checked(5).ok_or(malformed("it ends early"))?;
    fits(bytes.len() == length(value)?).map(|()| (head[4], bytes))
}

/// Pattern and options of a regular expression.
pub fn regex(value: &[u8]) -> Result<(&[u8], &[u8])> {
    let (pattern, rest) = cstring(value)?;
    let (options, rest) = cstring(rest)?;
    fits(rest.is_empty()).map(|()| (pattern, options))
}

/// Namespace and id of a database pointer.
pub fn db_pointer(value: &[u8]) -> Result<(&[u8], &[u8])> {
    let (namespace, len) = string(value)?;
    let id = &value[len..];
    fits(id.len() == 12).map(|()| (namespace, id))
}

/// Code and scope; the scope is a whole document.
pub fn code_with_scope(value: &[u8]) -> Result<(&[u8], &[u8])> {
    fits(length(value)? == value.len())?;
    scoped(value)
}

/// A number of type decimal128.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decimal {
    /// No number, of whatever sign and payload.
    NotANumber,
    /// One of the infinities.
    Infinite {
        /// Whether it is the negative one.
        negative: bool,
    },
    /// coefficient × 10^exponent.
    Finite {
        /// The sign, which a zero has too.
        negative: bool,
        /// At most 34 digits.
        coefficient: u128,
        /// From -6176 to 6111.
        exponent: i32,
    },
}

/// The value of a decimal128. A coefficient of more than 34 digits is zero, as IEEE 754 says.
pub fn decimal128(value: [u8; 16]) -> Decimal {
    const MOST: u128 = 10u128.pow(34) - 1;
    let bits = u128::from_le_bytes(value);
    let negative = bits >> 127 == 1;
    let combination = (bits >> 122) & 0x1f;
    if combination == 0x1f {
        return Decimal::NotANumber;
    }
    if combination == 0x1e {
        return Decimal::Infinite { negative };
    }
    // Two set bits in front mean an implied 100 before 111 more bits: always more than 34 digits.
    let (shift, coefficient) = if combination >> 3 == 3 { (111, 0) } else { (113, bits & ((1 << 113) - 1)) };
    let exponent = ((bits >> shift) & 0x3fff) as i32 - 6176;
    let coefficient = if coefficient > MOST { 0 } else { coefficient };
    Decimal::Finite { negative, coefficient, exponent }
}

fn fits(it_does: bool) -> Result<()> {
    if it_does { Ok(()) } else { Err(malformed("a length that does not fit")) }
}

/// The `int32` at the front, as a length.
fn length(bytes: &[u8]) -> Result<usize> {
    let head = bytes.first_chunk().ok_or(malformed("it ends early"))?;
    usize::try_from(i32::from_le_bytes(*head)).map_err(|_| malformed("a negative length"))
}

fn document_len(bytes: &[u8]) -> Result<usize> {
    let len = length(bytes)?;
    match bytes.get(..len) {
        None => Err(malformed("it ends early")),
        Some([_, _, _, _, .., 0]) => Ok(len),
        Some(_) => Err(malformed("a document without an end")),
    }
}

/// The text of the string at the front, and the bytes that the whole takes.
fn string(bytes: &[u8]) -> Result<(&[u8], usize)> {
    let len = length(bytes)?;
    match bytes[4..].get(..len) {
        None => Err(malformed("it ends early")),
        Some([text @ .., 0]) => Ok((text, 4 + len)),
        Some(_) => Err(malformed("a string without an end")),
    }
}

/// What comes before the first zero byte, and what comes after it.
fn cstring(bytes: &[u8]) -> Result<(&[u8], &[u8])> {
    let end = bytes.iter().position(|&byte| byte == 0).ok_or(malformed("it ends early"))?;
    Ok((&bytes[..end], &bytes[end + 1..]))
}

fn scoped(value: &[u8]) -> Result<(&[u8], &[u8])> {
    let rest = value.get(4..).ok_or(malformed("it ends early"))?;
    let (code, len) = string(rest)?;
    let scope = &rest[len..];
    fits(document_len(scope)? == scope.len()).map(|()| (code, scope))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn document(elements: &[(u8, &[u8], &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (kind, name, value) in elements {
            body.push(*kind);
            body.extend_from_slice(name);
            body.push(0);
            body.extend_from_slice(value);
        }
        let len = body.len() as i32 + 5;
        [&len.to_le_bytes()[..], &body, &[0]].concat()
    }

    fn walked(bytes: &[u8]) -> Result<Vec<Element<'_>>> {
        Elements::new(bytes)?.collect()
    }

    /// A value of each type, as short as it can be and not empty where it need not be.
    fn one_of_each() -> Vec<(u8, Vec<u8>)> {
        let empty = document(&[]);
        let string = |text: &[u8]| [&(text.len() as i32 + 1).to_le_bytes()[..], text, &[0]].concat();
        let scoped = [&string(b"f()")[..], &empty].concat();
        let scoped = [&(scoped.len() as i32 + 4).to_le_bytes()[..], &scoped].concat();
        let mut all = vec![
            (kind::STRING, string(b"a\0\xff")),
            (kind::SYMBOL, string(b"")),
            (kind::CODE, string(b"f()")),
            (kind::DOCUMENT, empty.clone()),
            (kind::ARRAY, document(&[(kind::NULL, b"7", b"")])),
            (kind::BINARY, vec![2, 0, 0, 0, 0x80, 1, 2]),
            (kind::REGEX, b"a+\0i\0".to_vec()),
            (kind::DB_POINTER, [string(b"db.c"), vec![9; 12]].concat()),
            (kind::CODE_WITH_SCOPE, scoped),
        ];
        for (kind, len) in
            [(kind::DOUBLE, 8), (kind::UNDEFINED, 0), (kind::OBJECT_ID, 12), (kind::BOOLEAN, 1)]
        {
            all.push((kind, vec![1; len]));
        }
        for (kind, len) in [(kind::DATE, 8), (kind::NULL, 0), (kind::INT32, 4), (kind::TIMESTAMP, 8)] {
            all.push((kind, vec![1; len]));
        }
        for (kind, len) in [(kind::INT64, 8), (kind::DECIMAL128, 16), (kind::MIN_KEY, 0), (kind::MAX_KEY, 0)]
        {
            all.push((kind, vec![1; len]));
        }
        all
    }

    #[test]
    fn every_type_is_walked_and_duplicates_stay() {
        let all = one_of_each();
        assert_eq!(all.len(), 21);
        let named: Vec<_> = all.iter().map(|(kind, value)| (*kind, &b"\xffname"[..], &value[..])).collect();
        let found = walked(&document(&named)).map(|found| found.len());
        assert_eq!(found, Ok(21));
        let bytes = document(&named);
        for (element, (kind, value)) in walked(&bytes).unwrap().iter().zip(&all) {
            assert_eq!((element.kind, element.name, element.value), (*kind, &b"\xffname"[..], &value[..]));
        }
    }

    /// The end of the document is inside each value in turn: the walk must notice, whatever the type.
    #[test]
    fn a_value_that_is_cut_short_is_refused() {
        for (kind, value) in one_of_each() {
            for len in 0..value.len() {
                let cut = document(&[(kind, b"a", &value[..len])]);
                assert!(walked(&cut).is_err(), "type {kind:#04x} cut to {len}");
                assert!(value_len(kind, &value[..len]).is_err(), "type {kind:#04x} cut to {len}");
            }
            assert_eq!(value_len(kind, &[&value[..], &[7; 9]].concat()), Ok(value.len()));
        }
    }

    #[test]
    fn what_is_inside_a_value_is_told_apart() {
        let all = one_of_each();
        let value = |wanted| &all.iter().find(|(kind, _)| *kind == wanted).unwrap().1[..];
        assert_eq!(text(value(kind::STRING)), Ok(&b"a\0\xff"[..]));
        assert_eq!(text(value(kind::SYMBOL)), Ok(&b""[..]));
        assert_eq!(binary(value(kind::BINARY)), Ok((0x80, &[1, 2][..])));
        assert_eq!(regex(value(kind::REGEX)), Ok((&b"a+"[..], &b"i"[..])));
        assert_eq!(db_pointer(value(kind::DB_POINTER)), Ok((&b"db.c"[..], &[9; 12][..])));
        let (code, scope) = code_with_scope(value(kind::CODE_WITH_SCOPE)).unwrap();
        assert_eq!((code, walked(scope)), (&b"f()"[..], Ok(vec![])));
    }

    #[test]
    fn broken_documents_are_refused() {
        let refused: &[&[u8]] = &[
            b"",
            &[5, 0, 0],
            &[5, 0, 0, 0],
            &[5, 0, 0, 0, 1],
            &[5, 0, 0, 0, 0, 0],
            &[4, 0, 0, 0],
            &[0xff, 0xff, 0xff, 0xff, 0],
            &[0xff, 0xff, 0xff, 0x7f, 0],
            // A name without an end, and a zero byte where a type should be.
            &[7, 0, 0, 0, 0x0a, b'a', 0],
            &[7, 0, 0, 0, 0, 0, 0],
            // A type that does not exist.
            &[8, 0, 0, 0, 0x14, b'a', 0, 0],
            // An embedded document that is longer than the space.
            &[13, 0, 0, 0, 3, b'a', 0, 6, 0, 0, 0, 0, 0],
        ];
        for bytes in refused {
            assert!(walked(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn decimals_are_read() {
        let spelled =
            |high: u64, low: u64| decimal128((u128::from(high) << 64 | u128::from(low)).to_le_bytes());
        let finite = |negative, coefficient, exponent| Decimal::Finite { negative, coefficient, exponent };
        assert_eq!(spelled(0x3040_0000_0000_0000, 1), finite(false, 1, 0));
        assert_eq!(spelled(0xb03c_0000_0000_0000, 100), finite(true, 100, -2));
        assert_eq!(spelled(0, 1), finite(false, 1, -6176));
        let most = 10u128.pow(34) - 1;
        assert_eq!(
            spelled(0x5ffe_0000_0000_0000 | (most >> 64) as u64, most as u64),
            finite(false, most, 6111)
        );
        // One more is no coefficient, nor is anything in the other form.
        let over = most + 1;
        assert_eq!(spelled(0x3040_0000_0000_0000 | (over >> 64) as u64, over as u64), finite(false, 0, 0));
        assert_eq!(spelled(0x6c10_0000_0000_0000, 1), finite(false, 0, 0));
        assert_eq!(spelled(0x7800_0000_0000_0000, 0), Decimal::Infinite { negative: false });
        assert_eq!(spelled(0xf800_0000_0000_0000, 5), Decimal::Infinite { negative: true });
        assert_eq!(spelled(0x7c00_0000_0000_0000, 0), Decimal::NotANumber);
        assert_eq!(spelled(0xfe00_0000_0000_0000, 7), Decimal::NotANumber);
    }

    proptest! {
        #[test]
        fn any_bytes_are_walked_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), kind: u8) {
            let _ = (value_len(kind, &bytes), text(&bytes), binary(&bytes), regex(&bytes));
            let _ = (db_pointer(&bytes), code_with_scope(&bytes));
            // With a length and an end that fit, so that the walk gets inside.
            let whole = [&(bytes.len() as i32 + 5).to_le_bytes()[..], &bytes, &[0]].concat();
            if let Ok(elements) = walked(&whole) {
                let len: usize = elements.iter().map(|one| 2 + one.name.len() + one.value.len()).sum();
                prop_assert_eq!(len, bytes.len());
            }
        }
    }
}
