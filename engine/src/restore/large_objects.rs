//! Large objects with pages that are not there. Whoever reads an object through functions sees zeros
//! in their place, so a page of zeros and no page are the same content, where the object goes on.

use repo_format::limits;
use repo_format::record::{Field, Fields};
use repo_format::tree::{Change, Cursor, Root};
use repo_format::value;

use crate::error::Result;
use crate::repo::ObjectReader;

/// Whether a difference between two trees of large objects is none in their content. `wanted` is the
/// older tree.
pub(super) fn is_same_content(wanted: &Root, change: &Change, reader: &mut ObjectReader) -> Result<bool> {
    let (old, new) = match change {
        Change::Added { new, .. } => (None, Some(new)),
        Change::Removed { old, .. } => (Some(old), None),
        Change::Changed { old, new, .. } => (Some(old), Some(new)),
    };
    let mut digits = |record: Option<&Vec<u8>>| match record {
        Some(record) => page(record, reader),
        None => Ok(Some(Vec::new())),
    };
    // The entry for the object itself has no page: its absence is an object's.
    let (Some(old_page), Some(new_page)) = (digits(old)?, digits(new)?) else { return Ok(false) };
    if without_zeros(&old_page) != without_zeros(&new_page) {
        return Ok(false);
    }
    let Some(object) = old.or(new).map(|record| number(record, reader)).transpose()? else {
        return Ok(false);
    };
    goes_on(wanted, change.key(), &object, reader)
}

/// Whether the object has a page behind `key`: at its end, zeros are part of its length.
fn goes_on(wanted: &Root, key: &[u8], object: &[u8], reader: &mut ObjectReader) -> Result<bool> {
    let mut cursor = Cursor::new(wanted, Some(key));
    while let Some((found, record)) = cursor.next(reader)? {
        if found != key {
            return Ok(number(&record, reader)? == object);
        }
    }
    Ok(false)
}

/// Whether a difference is in what is said of an object, not in its content: its owner, its
/// privileges, its comment. A restore may have had to give it to somebody else.
pub(super) fn is_about_object(change: &Change, reader: &mut ObjectReader) -> Result<bool> {
    let Change::Changed { old, new, .. } = change else { return Ok(false) };
    Ok(page(old, reader)?.is_none() && page(new, reader)?.is_none())
}

/// Zeros that a shorter page lacks. The text is hexadecimal after `\x`.
fn without_zeros(page: &[u8]) -> &[u8] {
    let digits = page.strip_prefix(b"\\x").unwrap_or(page);
    let end = digits.iter().rposition(|&digit| digit != b'0').map_or(0, |last| last + 1);
    &digits[..end]
}

fn number(record: &[u8], reader: &mut ObjectReader) -> Result<Vec<u8>> {
    Ok(field(record, 0, reader)?.unwrap_or_default())
}

/// The bytes of a page as the database prints them; `None` for the object itself.
fn page(record: &[u8], reader: &mut ObjectReader) -> Result<Option<Vec<u8>>> {
    field(record, 2, reader)
}

fn field(record: &[u8], position: usize, reader: &mut ObjectReader) -> Result<Option<Vec<u8>>> {
    Ok(match Fields::new(record).nth(position).transpose()? {
        None | Some(Field::Null) => None,
        Some(Field::Inline(bytes)) => Some(bytes.to_vec()),
        Some(Field::Out(place)) => Some(value::read(&place, limits::RECORD as u64, reader)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_at_a_pages_end_are_no_content() {
        assert_eq!(without_zeros(b"\\x6160"), without_zeros(b"\\x616000"));
        assert_eq!(without_zeros(b"\\x0000"), without_zeros(b""));
        assert_ne!(without_zeros(b"\\x6106"), without_zeros(b"\\x61"));
    }
}
