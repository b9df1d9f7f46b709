//! A record's value: its fields in column order.
//!
//! Each field is a varint tag and what the tag announces:
//!
//! | tag | field |
//! |---|---|
//! | 0 | NULL |
//! | 1 | moved out: varint length, one byte depth, 32 bytes root |
//! | n >= 2 | n - 2 bytes, inline |
//!
//! Fields end with the value. NULLs at the end are not written, so that adding a nullable column
//! rewrites no record; the collection's descriptor says how many columns there are.

use crate::codec::{Cursor, put_varint, varint_len};
use crate::error::{Error, Result};
use crate::id::ObjectId;
use crate::limits;

/// One field of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    /// NULL.
    Null,
    /// The bytes themselves.
    Inline(&'a [u8]),
    /// The bytes are in pieces of their own.
    Out(OutOfLine),
}

/// Where a moved-out value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfLine {
    /// Bytes of the whole value.
    pub len: u64,
    /// Levels of lists above the pieces; 0 when `root` is the only piece.
    pub depth: u8,
    /// The piece, or the topmost list.
    pub root: ObjectId,
}

/// Bytes of a moved-out field: tag, length, depth and root.
fn out_len(out: &OutOfLine) -> usize {
    1 + varint_len(out.len) + 1 + ObjectId::LEN
}

/// Writes one record's fields to the end of a buffer.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    /// The end of the last field that is not NULL.
    end: usize,
}

impl<'a> Writer<'a> {
    /// A record whose bytes are appended to `out`.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        let end = out.len();
        Self { out, end }
    }

    /// Appends a field.
    pub fn push(&mut self, field: Field<'_>) {
        match field {
            Field::Null => {
                self.out.push(0);
                return;
            }
            Field::Inline(bytes) => {
                put_varint(self.out, bytes.len() as u64 + 2);
                self.out.extend_from_slice(bytes);
            }
            Field::Out(place) => {
                self.out.push(1);
                put_varint(self.out, place.len);
                self.out.push(place.depth);
                self.out.extend_from_slice(&place.root.0);
            }
        }
        self.end = self.out.len();
    }

    /// Ends the record: NULLs at its end go.
    pub fn finish(self) {
        self.out.truncate(self.end);
    }
}

/// The fields of a record, in order. After the last one written, every further column is NULL.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    cursor: Cursor<'a>,
}

impl<'a> Fields<'a> {
    /// The fields of `value`.
    pub fn new(value: &'a [u8]) -> Self {
        Self { cursor: Cursor::new(value, "record") }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.cursor.is_empty() {
            return None;
        }
        let field = read_field(&mut self.cursor);
        if field.is_err() {
            self.cursor = Cursor::new(&[], "record");
        }
        Some(field)
    }
}

fn read_field<'a>(cursor: &mut Cursor<'a>) -> Result<Field<'a>> {
    match cursor.varint()? {
        0 => Ok(Field::Null),
        1 => {
            let len = cursor.varint()?;
            let depth = cursor.byte()?;
            if depth > limits::VALUE_DEPTH {
                return Err(Error::Malformed("record", "a moved-out value is too deep"));
            }
            Ok(Field::Out(OutOfLine { len, depth, root: ObjectId(cursor.array()?) }))
        }
        tag => {
            let len = usize::try_from(tag - 2).map_err(|_| Error::Malformed("record", "field length"))?;
            cursor.take(len).map(Field::Inline)
        }
    }
}

/// Bytes the record stands for, moved-out values counted at their full length.
pub fn logical_len(value: &[u8]) -> Result<u64> {
    let mut len = value.len() as u64;
    for field in Fields::new(value) {
        if let Field::Out(out) = field? {
            len = len.saturating_add(out.len);
        }
    }
    Ok(len)
}

/// Moves long fields out until the record is at most [`limits::INLINE_RECORD`] bytes or moving
/// one more would not shrink it. `store` writes the pieces of one value and says where they are.
/// Returns `None` when the record is short enough as it is.
pub fn shrink<E: From<Error>>(
    value: &[u8],
    mut store: impl FnMut(&[u8]) -> Result<OutOfLine, E>,
) -> Result<Option<Vec<u8>>, E> {
    if value.len() <= limits::INLINE_RECORD {
        return Ok(None);
    }
    let mut fields = Fields::new(value).collect::<Result<Vec<_>>>()?;
    let mut len = value.len();
    while len > limits::INLINE_RECORD {
        // The first of the longest: a later one replaces it only when strictly longer.
        let mut longest: Option<(usize, usize)> = None;
        for (position, field) in fields.iter().enumerate() {
            if let Field::Inline(bytes) = field
                && longest.is_none_or(|(_, longest)| bytes.len() > longest)
            {
                longest = Some((position, bytes.len()));
            }
        }
        let Some((position, bytes_len)) = longest else { break };
        let inline_len = varint_len(bytes_len as u64 + 2) + bytes_len;
        let moved_len = 1 + varint_len(bytes_len as u64) + 1 + ObjectId::LEN;
        if moved_len >= inline_len {
            break;
        }
        let Field::Inline(bytes) = fields[position] else { break };
        let place = store(bytes)?;
        len = len - inline_len + out_len(&place);
        fields[position] = Field::Out(place);
    }
    let mut out = Vec::with_capacity(len);
    let mut writer = Writer::new(&mut out);
    fields.into_iter().for_each(|field| writer.push(field));
    writer.finish();
    Ok(Some(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(fields: &[Field<'_>]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out);
        fields.iter().for_each(|&field| writer.push(field));
        writer.finish();
        out
    }

    #[test]
    fn nulls_at_the_end_leave_no_trace() {
        let short = encode(&[Field::Inline(b"a"), Field::Null, Field::Inline(b"")]);
        let long = encode(&[Field::Inline(b"a"), Field::Null, Field::Inline(b""), Field::Null, Field::Null]);
        assert_eq!(short, long);
        let fields: Vec<_> = Fields::new(&short).map(|field| field.unwrap()).collect();
        assert_eq!(fields, [Field::Inline(b"a"), Field::Null, Field::Inline(b"")]);
    }

    #[test]
    fn the_first_of_the_longest_fields_moves_out() {
        let long = vec![b'x'; 5000];
        let value = encode(&[Field::Inline(b"k"), Field::Inline(&long), Field::Inline(&long)]);
        let mut moved = 0;
        let shrunk = shrink(&value, |bytes| {
            moved += 1;
            Ok::<_, Error>(OutOfLine { len: bytes.len() as u64, depth: 0, root: ObjectId([7; 32]) })
        })
        .unwrap()
        .unwrap();
        assert_eq!(moved, 1);
        let fields: Vec<_> = Fields::new(&shrunk).map(|field| field.unwrap()).collect();
        assert!(matches!(fields[1], Field::Out(OutOfLine { len: 5000, .. })));
        assert_eq!(fields[2], Field::Inline(&long[..]));
        assert_eq!(logical_len(&shrunk).unwrap(), shrunk.len() as u64 + 5000);
    }

    #[test]
    fn many_short_fields_stay_where_they_are() {
        let short = [b'x'; 30];
        let value = encode(&vec![Field::Inline(&short[..]); 400]);
        let shrunk = shrink(&value, |_| -> Result<OutOfLine> { panic!("nothing is worth moving") }).unwrap();
        assert_eq!(shrunk.as_deref(), Some(&value[..]));
    }
}
