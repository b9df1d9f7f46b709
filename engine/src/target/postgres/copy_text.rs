//! Rows as COPY text: the only place where values are escaped.

use repo_format::record::{Field, Fields};

use crate::error::{Error, Kind, Result};

/// Appends the row that `value` (a record with all fields inline) stands for. Fields that are not
/// written are NULL.
///
/// Every backslash and every character that ends a field or a line is escaped, so no value can
/// make a line of its own; an unescaped `\.` would end the COPY early and successfully.
pub(super) fn push_row(out: &mut Vec<u8>, value: &[u8], columns: usize) -> Result<()> {
    let mut fields = Fields::new(value);
    for position in 0..columns {
        if position > 0 {
            out.push(b'\t');
        }
        match fields.next().transpose()? {
            None | Some(Field::Null) => out.extend_from_slice(b"\\N"),
            Some(Field::Inline(bytes)) => push_escaped(out, bytes),
            Some(Field::Out(_)) => {
                return Err(Error::new(Kind::Internal, "a moved-out value reached the target unresolved"));
            }
        }
    }
    if fields.next().is_some() {
        return Err(Error::damaged("a record has more fields than its collection has columns"));
    }
    out.push(b'\n');
    Ok(())
}

fn push_escaped(out: &mut Vec<u8>, mut bytes: &[u8]) {
    while let Some(at) = bytes.iter().position(|byte| matches!(byte, b'\\' | b'\n' | b'\r' | b'\t')) {
        out.extend_from_slice(&bytes[..at]);
        out.extend_from_slice(match bytes[at] {
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            _ => b"\\\\",
        });
        bytes = &bytes[at + 1..];
    }
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use repo_format::record::Writer;

    use super::*;

    fn row(fields: &[Option<&[u8]>], columns: usize) -> Result<String> {
        let (mut value, mut out) = (Vec::new(), Vec::new());
        let mut writer = Writer::new(&mut value);
        for field in fields {
            writer.push(field.map_or(Field::Null, Field::Inline));
        }
        writer.finish();
        push_row(&mut out, &value, columns)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn no_value_can_end_its_field_its_line_or_the_copy() {
        assert_eq!(row(&[Some(b"\\.")], 1).unwrap(), "\\\\.\n");
        assert_eq!(row(&[Some(b"\\N"), None], 2).unwrap(), "\\\\N\t\\N\n");
        assert_eq!(row(&[Some(b"a\tb\nc\rd\\")], 1).unwrap(), "a\\tb\\nc\\rd\\\\\n");
    }

    #[test]
    fn missing_fields_are_null_and_empty_ones_are_empty() {
        assert_eq!(row(&[Some(b"")], 3).unwrap(), "\t\\N\t\\N\n");
        assert_eq!(row(&[], 0).unwrap(), "\n");
    }

    #[test]
    fn a_record_wider_than_its_collection_is_damage() {
        assert_eq!(row(&[Some(b"a"), Some(b"b")], 1).unwrap_err().kind(), Kind::Damaged);
    }
}
