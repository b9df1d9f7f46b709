//! From COPY's text stream to records.

use memchr::{memchr, memchr_iter};
use repo_format::catalog::{KeySource, Layout};
use repo_format::keys::RowKey;
use repo_format::limits;
use repo_format::order::{bound_key, postgres::push_key};
use repo_format::record::{Field, Writer};

use crate::error::{Error, Kind, Result};
use crate::source::RecordBatch;

/// A batch is handed on once it has this many bytes.
const BATCH: usize = 256 * 1024;
/// A row over this many bytes leaves no buffer behind.
const LONG_ROW: usize = 16 << 20;

/// Splits a stream of rows in COPY's text format and writes each as a record. Nothing is allocated
/// per row: the buffers live as long as the reader.
pub(super) struct RowReader<'a> {
    layout: &'a Layout,
    row_key: &'a RowKey,
    table: String,
    /// The start of a row whose end has not arrived.
    partial: Vec<u8>,
    scratch: Scratch,
    batch: RecordBatch,
    records: u64,
    bytes_read: u64,
}

#[derive(Default)]
struct Scratch {
    /// The fields' places in the row, or in `decoded` where the row holds escapes; `None` is NULL.
    fields: Vec<Option<(usize, usize)>>,
    decoded: Vec<u8>,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl<'a> RowReader<'a> {
    /// A reader of the rows of `table`, which is only named in errors.
    pub(super) fn new(layout: &'a Layout, row_key: &'a RowKey, table: String) -> Self {
        Self {
            layout,
            row_key,
            table,
            partial: Vec::new(),
            scratch: Scratch::default(),
            batch: RecordBatch::default(),
            records: 0,
            bytes_read: 0,
        }
    }

    pub(super) fn records(&self) -> u64 {
        self.records
    }

    pub(super) fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// Takes the next bytes of the stream. Servers send one row at a time, but the protocol allows
    /// any cut.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<()> {
        self.bytes_read += chunk.len() as u64;
        self.batch.bytes_read += chunk.len() as u64;
        let mut start = 0;
        for end in memchr_iter(b'\n', chunk) {
            if self.partial.is_empty() {
                self.row(&chunk[start..end])?;
            } else {
                let mut row = std::mem::take(&mut self.partial);
                row.extend_from_slice(&chunk[start..end]);
                self.row(&row)?;
            }
            start = end + 1;
        }
        self.partial.extend_from_slice(&chunk[start..]);
        if self.partial.len() > limits::RECORD { Err(self.too_long(&[])) } else { Ok(()) }
    }

    /// The stream has ended.
    pub(super) fn finish(&mut self) -> Result<()> {
        if self.partial.is_empty() { Ok(()) } else { Err(self.unexpected("the last row has no end")) }
    }

    /// The records since the last call, once there are enough of them, or at the end any.
    pub(super) fn take_batch(&mut self, at_end: bool) -> Option<RecordBatch> {
        let ready = self.batch.size_bytes() >= BATCH || (at_end && !self.batch.is_empty());
        ready.then(|| std::mem::take(&mut self.batch))
    }

    fn row(&mut self, row: &[u8]) -> Result<()> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let written = self.write(row, &mut scratch);
        // What a long row took is given back: the next one may be short.
        if row.len() < LONG_ROW {
            self.scratch = scratch;
        }
        written?;
        self.records += 1;
        Ok(())
    }

    fn write(&mut self, row: &[u8], scratch: &mut Scratch) -> Result<()> {
        let Scratch { fields, decoded, key, value } = scratch;
        fields.clear();
        let width = self.layout.columns.len();
        let text: &[u8] = if memchr(b'\\', row).is_none() {
            split_plain(row, width, fields);
            row
        } else {
            decoded.clear();
            split_escaped(row, fields, decoded).map_err(|why| self.unexpected(why))?;
            decoded
        };
        if fields.len() != width {
            return Err(self.unexpected("a row has another number of fields than columns were asked for"));
        }
        if text.len() > limits::RECORD {
            return Err(self.too_long(&self.key_text(text, fields)));
        }
        if self.batch.size_bytes() == 0 {
            let read = self.batch.bytes_read;
            self.batch = RecordBatch::with_capacity(BATCH + text.len() + 1024);
            self.batch.bytes_read = read;
        }
        key.clear();
        if self.layout.key.source == KeySource::Multiset {
            value.clear();
            write_value(text, fields, value);
            key.extend_from_slice(&self.row_key.hash(value));
            self.batch.push(key, value);
            return Ok(());
        }
        self.write_key(text, fields, key)?;
        bound_key(key, self.row_key);
        self.batch.push_with(
            |out| {
                out.extend_from_slice(key);
                Ok(())
            },
            |out| {
                write_value(text, fields, out);
                Ok(())
            },
        )
    }

    fn write_key(&self, text: &[u8], fields: &[Option<(usize, usize)>], key: &mut Vec<u8>) -> Result<()> {
        for part in &self.layout.key.columns {
            let column = part.column as usize;
            let mismatch = |why: &str| {
                let name = self.layout.columns.get(column).map_or("?", |column| &column.name);
                let message = format!("{}: the key column {name} {why}", self.table);
                Error::new(Kind::Conflict, message)
                    .with_help("The table's key is not what it was when it was first read.")
            };
            let Some(Some((start, end))) = fields.get(column).copied() else {
                return Err(mismatch("holds NULL"));
            };
            push_key(key, part.encoding, &text[start..end])
                .map_err(|error| mismatch("holds a value of another type").with_source(error))?;
        }
        Ok(())
    }

    /// The key for people: `(7, eu)`.
    fn key_text(&self, text: &[u8], fields: &[Option<(usize, usize)>]) -> Vec<String> {
        let shown = |part: &repo_format::catalog::KeyColumn| {
            let (start, end) = fields.get(part.column as usize).copied().flatten()?;
            let text = String::from_utf8_lossy(&text[start..end]);
            Some(text.chars().take(80).collect())
        };
        self.layout.key.columns.iter().filter_map(shown).collect()
    }

    fn too_long(&self, key: &[String]) -> Error {
        let row = if key.is_empty() {
            "a row".to_owned()
        } else {
            format!("the row with key ({})", key.join(", "))
        };
        let message = format!("{}: {row} is over the limit of {} MiB", self.table, limits::RECORD >> 20);
        Error::new(Kind::Unsupported, message)
            .with_help("Split the row's values, or keep them outside the table.")
    }

    fn unexpected(&self, why: &str) -> Error {
        Error::new(Kind::Internal, format!("{}: {why}", self.table))
    }
}

fn write_value(text: &[u8], fields: &[Option<(usize, usize)>], out: &mut Vec<u8>) {
    let mut writer = Writer::new(out);
    for field in fields {
        writer.push(match field {
            Some((start, end)) => Field::Inline(&text[*start..*end]),
            None => Field::Null,
        });
    }
    writer.finish();
}

/// Without a backslash there is neither an escape nor a NULL.
fn split_plain(row: &[u8], width: usize, fields: &mut Vec<Option<(usize, usize)>>) {
    // A table without columns prints empty lines, and so does one empty field.
    if width == 0 && row.is_empty() {
        return;
    }
    let mut start = 0;
    for end in memchr_iter(b'\t', row) {
        fields.push(Some((start, end)));
        start = end + 1;
    }
    fields.push(Some((start, row.len())));
}

fn split_escaped(
    row: &[u8],
    fields: &mut Vec<Option<(usize, usize)>>,
    decoded: &mut Vec<u8>,
) -> Result<(), &'static str> {
    let mut start = 0;
    for end in memchr_iter(b'\t', row).chain([row.len()]) {
        let raw = &row[start..end];
        start = end + 1;
        if raw == b"\\N" {
            fields.push(None);
            continue;
        }
        let from = decoded.len();
        unescape(raw, decoded)?;
        fields.push(Some((from, decoded.len())));
    }
    Ok(())
}

fn unescape(mut raw: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
    while let Some(backslash) = memchr(b'\\', raw) {
        out.extend_from_slice(&raw[..backslash]);
        out.push(match raw.get(backslash + 1) {
            Some(b'\\') => b'\\',
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'r') => b'\r',
            Some(b'b') => 0x08,
            Some(b'f') => 0x0c,
            Some(b'v') => 0x0b,
            _ => return Err("a row holds an escape that COPY does not write"),
        });
        raw = &raw[backslash + 2..];
    }
    out.extend_from_slice(raw);
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use repo_format::catalog::{CollectionKind, Column, Key, KeyColumn};
    use repo_format::order::KeyEncoding;
    use repo_format::record::Fields;

    use super::*;

    fn layout(width: usize, key: bool) -> Layout {
        let column = |position| Column { name: format!("c{position}"), type_name: "text".to_owned() };
        let columns =
            if key { vec![KeyColumn { column: 0, encoding: KeyEncoding::Integer }] } else { Vec::new() };
        let source = if key { KeySource::Primary } else { KeySource::Multiset };
        Layout {
            kind: CollectionKind::Table,
            columns: (0..width).map(column).collect(),
            key: Key { source, name: None, columns },
        }
    }

    type Row = Vec<Option<Vec<u8>>>;

    /// Reads `stream` in pieces of `piece` bytes.
    fn read(stream: &[u8], width: usize, piece: usize) -> Result<Vec<Row>> {
        let (layout, row_key) = (layout(width, false), RowKey::new([1; 32]));
        let mut reader = RowReader::new(&layout, &row_key, "public.t".to_owned());
        for piece in stream.chunks(piece) {
            reader.push(piece)?;
        }
        reader.finish()?;
        let batch = reader.take_batch(true).unwrap_or_default();
        assert_eq!(batch.bytes_read, if batch.is_empty() { 0 } else { stream.len() as u64 });
        assert_eq!(reader.records(), batch.len() as u64);
        let row = |value| {
            let mut row: Row = Fields::new(value)
                .map(|field| match field.unwrap() {
                    Field::Null => None,
                    Field::Inline(bytes) => Some(bytes.to_vec()),
                    Field::Out(_) => panic!("nothing was moved out"),
                })
                .collect();
            row.resize(width, None);
            row
        };
        Ok(batch.iter().map(|(_, value)| row(value)).collect())
    }

    /// What the server's CopyAttributeOutText does.
    fn print(rows: &[Row]) -> Vec<u8> {
        let mut out = Vec::new();
        for row in rows {
            for (position, field) in row.iter().enumerate() {
                if position > 0 {
                    out.push(b'\t');
                }
                let Some(field) = field else {
                    out.extend_from_slice(b"\\N");
                    continue;
                };
                for &byte in field {
                    match byte {
                        b'\\' => out.extend_from_slice(b"\\\\"),
                        b'\n' => out.extend_from_slice(b"\\n"),
                        b'\t' => out.extend_from_slice(b"\\t"),
                        b'\r' => out.extend_from_slice(b"\\r"),
                        0x08 => out.extend_from_slice(b"\\b"),
                        0x0c => out.extend_from_slice(b"\\f"),
                        0x0b => out.extend_from_slice(b"\\v"),
                        byte => out.push(byte),
                    }
                }
            }
            out.push(b'\n');
        }
        out
    }

    proptest! {
        #[test]
        fn rows_survive_any_cut_of_the_stream(
            rows in prop::collection::vec(prop::collection::vec(prop::option::of(
                prop::collection::vec(prop::sample::select(b"ab\\N\n\t\r\x08\x0c\x0b.\xff".to_vec()), 0..5)), 3), 0..8),
            piece in 1usize..40,
        ) {
            prop_assert_eq!(read(&print(&rows), 3, piece).unwrap(), rows);
        }

        #[test]
        fn any_stream_is_read_or_refused(stream in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = read(&stream, 2, 7);
        }
    }

    #[test]
    fn tables_without_columns_have_rows_and_empty_fields_are_not_null() {
        assert_eq!(read(b"\n\n", 0, 9).unwrap(), [vec![], vec![]]);
        assert_eq!(read(b"\n\\N\n", 1, 9).unwrap(), [vec![Some(vec![])], vec![None]]);
        assert_eq!(
            read(b"\\\\N\n\\\\.\n", 1, 1).unwrap(),
            [vec![Some(b"\\N".to_vec())], vec![Some(b"\\.".to_vec())]]
        );
    }

    #[test]
    fn a_broken_stream_is_refused() {
        for (stream, width) in
            [(&b"a\tb\n"[..], 1), (b"a\n", 2), (b"a", 1), (b"\\x\n", 1), (b"\\\n", 1), (b"x\n", 0)]
        {
            assert!(read(stream, width, 9).is_err(), "{stream:?}");
        }
    }

    #[test]
    fn a_key_of_another_type_is_named() {
        let (layout, row_key) = (layout(2, true), RowKey::new([1; 32]));
        for (row, why) in [(&b"\\N\tx\n"[..], "NULL"), (b"x\ty\n", "another type")] {
            let error = RowReader::new(&layout, &row_key, "public.t".to_owned()).push(row).unwrap_err();
            assert_eq!(error.kind(), Kind::Conflict);
            assert!(error.message().contains("public.t") && error.message().contains("c0"));
            assert!(error.message().contains(why));
        }
    }
}
