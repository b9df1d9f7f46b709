//! Keys from the `_id` of a MongoDB document.
//!
//! Keys compare as MongoDB compares values without a collation, and values that it calls equal get equal
//! keys: numbers of all four types are one class and compare by exact value, strings and symbols are another.
//! The names of an array's elements are no part of the key, as they are none of an index's.

mod number;

use crate::bson::{self, Element, Elements, kind};
use crate::error::{Error, Result};
use crate::keys::RowKey;
use crate::order::push_escaped;

/// Ends an object or array: less than every class.
const END: u8 = 0x00;
/// A document without `_id`: less than every class that a value can have.
const NO_ID: u8 = 0x01;

/// Appends the key of the first `_id` of `document`; of a document without one, a byte that sorts before
/// every type and the keyed hash of the whole document. The caller applies [`crate::order::bound_key`]. On an
/// error nothing is appended.
pub fn push_key(out: &mut Vec<u8>, document: &[u8], hasher: &RowKey) -> Result<()> {
    for element in Elements::new(document)? {
        let element = element?;
        if element.name == b"_id" {
            return push_id(out, element.kind, element.value);
        }
    }
    out.push(NO_ID);
    out.extend_from_slice(&hasher.hash(document));
    Ok(())
}

/// Appends the key of a value that stands alone: `kind` is its BSON type byte, `value` its bytes. The caller
/// applies [`crate::order::bound_key`]. On an error nothing is appended.
pub fn push_id(out: &mut Vec<u8>, kind: u8, value: &[u8]) -> Result<()> {
    let start = out.len();
    let pushed = push_tree(out, kind, value);
    if pushed.is_err() {
        out.truncate(start);
    }
    pushed
}

/// An object or array that is being written.
struct Level<'a> {
    elements: Elements<'a>,
    /// Names count in objects; in arrays they are positions.
    named: bool,
}

/// No recursion: a stack of levels stands any depth of nesting.
fn push_tree(out: &mut Vec<u8>, kind: u8, value: &[u8]) -> Result<()> {
    if bson::value_len(kind, value)? != value.len() {
        return Err(Error::Malformed("BSON", "bytes after its end"));
    }
    let mut open = Vec::new();
    out.push(class(kind)?);
    open.extend(push_value(out, kind, value)?);
    while let Some(Level { elements, named }) = open.last_mut() {
        let Some(element) = elements.next() else {
            out.push(END);
            open.pop();
            continue;
        };
        let Element { kind, name, value } = element?;
        // The class comes before the name, as MongoDB compares.
        out.push(class(kind)?);
        if *named {
            out.extend_from_slice(name);
            out.push(0);
        }
        open.extend(push_value(out, kind, value)?);
    }
    Ok(())
}

/// The byte of a type's class, in the order of classes.
fn class(kind: u8) -> Result<u8> {
    Ok(match kind {
        kind::MIN_KEY => 0x08,
        kind::UNDEFINED => 0x10,
        kind::NULL => 0x18,
        kind::DOUBLE | kind::INT32 | kind::INT64 | kind::DECIMAL128 => 0x20,
        kind::STRING | kind::SYMBOL => 0x28,
        kind::DOCUMENT => 0x30,
        kind::ARRAY => 0x38,
        kind::BINARY => 0x40,
        kind::OBJECT_ID => 0x48,
        kind::BOOLEAN => 0x50,
        kind::DATE => 0x58,
        kind::TIMESTAMP => 0x60,
        kind::REGEX => 0x68,
        kind::DB_POINTER => 0x70,
        kind::CODE => 0x78,
        kind::CODE_WITH_SCOPE => 0x80,
        kind::MAX_KEY => 0xf8,
        _ => return Err(Error::Malformed("BSON", "a type that does not exist")),
    })
}

/// Appends what follows the class. A value with elements is handed back for its elements to be written.
fn push_value<'a>(out: &mut Vec<u8>, kind: u8, value: &'a [u8]) -> Result<Option<Level<'a>>> {
    match kind {
        kind::DOUBLE => number::double(out, f64::from_le_bytes(array(value)?)),
        kind::INT32 => number::integer(out, i32::from_le_bytes(array(value)?).into()),
        kind::INT64 => number::integer(out, i64::from_le_bytes(array(value)?)),
        kind::DECIMAL128 => number::decimal(out, bson::decimal128(array(value)?)),
        kind::STRING | kind::SYMBOL | kind::CODE => push_escaped(out, bson::text(value)?),
        kind::DOCUMENT => return Ok(Some(Level { elements: Elements::new(value)?, named: true })),
        kind::ARRAY => return Ok(Some(Level { elements: Elements::new(value)?, named: false })),
        kind::BINARY => {
            let (subtype, bytes) = bson::binary(value)?;
            push_len(out, bytes.len());
            out.push(subtype);
            out.extend_from_slice(bytes);
        }
        kind::DATE => {
            let millis = i64::from_le_bytes(array(value)?);
            out.extend_from_slice(&(millis.cast_unsigned() ^ (1 << 63)).to_be_bytes());
        }
        kind::TIMESTAMP => out.extend_from_slice(&u64::from_le_bytes(array(value)?).to_be_bytes()),
        kind::REGEX => out.extend_from_slice(value),
        kind::DB_POINTER => {
            let (namespace, id) = bson::db_pointer(value)?;
            push_len(out, namespace.len());
            out.extend_from_slice(namespace);
            out.extend_from_slice(id);
        }
        kind::CODE_WITH_SCOPE => {
            let (code, scope) = bson::code_with_scope(value)?;
            push_escaped(out, code);
            return Ok(Some(Level { elements: Elements::new(scope)?, named: true }));
        }
        // An object id and a boolean are their bytes; the rest has none.
        _ => out.extend_from_slice(value),
    }
    Ok(None)
}

/// Lengths in BSON are positive `int32`.
fn push_len(out: &mut Vec<u8>, len: usize) {
    out.extend_from_slice(&(len as u32).to_be_bytes());
}

fn array<const N: usize>(value: &[u8]) -> Result<[u8; N]> {
    value.try_into().map_err(|_| Error::Malformed("BSON", "a length that does not fit"))
}
