//! Where two long values differ: what stands around the first difference, since a value's beginning
//! need not show any.

use repo_format::record::{Field, Fields};
use repo_format::value;
use serde::Serialize;

use super::align::Alignment;
use crate::error::Result;
use crate::repo::ObjectReader;

/// Values up to this long are read whole by people.
const LONG: u64 = 2 << 10;
/// How much of each side is shown.
const SHOWN: usize = 2 << 10;
/// How much of that stands before the difference.
const BEFORE: usize = 512;
/// How far a difference is looked for: first so far, then four times as far, and so on to the last.
const FIRST_LOOK: usize = 64 << 10;
const LAST_LOOK: usize = 16 << 20;

/// The surroundings of the first difference between two values of a column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Window {
    /// The column.
    pub column: String,
    /// Where the difference is, in bytes from the beginning; `None` when it is farther in than is
    /// looked.
    pub differs_at: Option<u64>,
    /// Where the texts below begin.
    pub starts_at: u64,
    /// Bytes of the older value.
    pub old_size_bytes: u64,
    /// Bytes of the newer value.
    pub new_size_bytes: u64,
    /// A part of the older value.
    pub old: String,
    /// The same part of the newer value.
    pub new: String,
}

impl Alignment {
    /// Of the columns in which two records differ, those with a long value on either side. NULL has
    /// no surroundings.
    pub(super) fn windows(
        &self,
        old: &[u8],
        new: &[u8],
        differing: &[String],
        reader: &mut ObjectReader,
    ) -> Result<Vec<Window>> {
        let old: Vec<Field<'_>> = Fields::new(old).collect::<Result<_, _>>()?;
        let new: Vec<Field<'_>> = Fields::new(new).collect::<Result<_, _>>()?;
        let mut windows = Vec::new();
        for column in differing {
            let (old, new) = self.pair(column, &old, &new);
            let (Some(old_len), Some(new_len)) = (len(old), len(new)) else { continue };
            if old_len.max(new_len) > LONG {
                windows.push(window(column, (old, old_len), (new, new_len), reader)?);
            }
        }
        Ok(windows)
    }
}

fn window(
    column: &str,
    (old, old_len): (Field<'_>, u64),
    (new, new_len): (Field<'_>, u64),
    reader: &mut ObjectReader,
) -> Result<Window> {
    let mut look = FIRST_LOOK;
    let (old_start, new_start, differs_at) = loop {
        let (old_start, new_start) = (prefix(old, look, reader)?, prefix(new, look, reader)?);
        let at = first_difference(&old_start, &new_start);
        // One that ends where the other goes on differs there, if all of it was read.
        let is_whole = |start: &[u8], len: u64| start.len() as u64 == len;
        let ends = is_whole(&old_start, old_len) || is_whole(&new_start, new_len);
        if at < old_start.len().min(new_start.len()) || ends {
            break (old_start, new_start, Some(at));
        }
        if look >= LAST_LOOK {
            break (old_start, new_start, None);
        }
        look *= 4;
    };
    let start = char_start(&old_start, differs_at.unwrap_or_default().saturating_sub(BEFORE));
    // What was read of a value ends early so that no character is cut.
    let end =
        |text: &[u8]| char_start(text, (differs_at.unwrap_or_default() + SHOWN - BEFORE).min(text.len()));
    let part = |text: &[u8]| {
        let start = start.min(text.len());
        String::from_utf8_lossy(&text[start..end(text).max(start)]).into_owned()
    };
    Ok(Window {
        column: column.to_owned(),
        differs_at: differs_at.map(|at| at as u64),
        starts_at: start as u64,
        old_size_bytes: old_len,
        new_size_bytes: new_len,
        old: part(&old_start),
        new: part(&new_start),
    })
}

/// Bytes that two values share from the beginning, whole characters only.
fn first_difference(old: &[u8], new: &[u8]) -> usize {
    let shared = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    if shared == old.len().min(new.len()) { shared } else { char_start(old, shared) }
}

/// The start of the UTF-8 character that the byte at `at` belongs to.
fn char_start(text: &[u8], at: usize) -> usize {
    let is_inner = |at: usize| text.get(at).is_some_and(|byte| byte & 0xC0 == 0x80);
    let steps = (0..4).take_while(|step| *step < at && is_inner(at - step)).count();
    at - steps
}

fn len(field: Field<'_>) -> Option<u64> {
    match field {
        Field::Null => None,
        Field::Inline(bytes) => Some(bytes.len() as u64),
        Field::Out(place) => Some(place.len),
    }
}

fn prefix(field: Field<'_>, most: usize, reader: &mut ObjectReader) -> Result<Vec<u8>> {
    Ok(match field {
        Field::Null => Vec::new(),
        Field::Inline(bytes) => bytes.to_vec(),
        Field::Out(place) => value::read_prefix(&place, most, reader)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_character_is_cut() {
        let (old, new) = ("aä".as_bytes(), "aö".as_bytes());
        // The first byte of both letters is the same.
        assert_eq!(first_difference(old, new), 1);
        assert_eq!(first_difference(b"ab", b"abc"), 2);
        assert_eq!((char_start("ä".as_bytes(), 1), char_start(b"abc", 2)), (0, 2));
    }
}
