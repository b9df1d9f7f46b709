//! The catalog: one record per collection, in a tree like any other.
//!
//! The key is (namespace, name), each as a self-delimiting text key part. The value is a record of
//! two fields: the descriptor below as deterministic CBOR, and the collection's normalised schema
//! text. Sequence states, UUIDs and versions are in neither, so that equal data has an equal root.

use minicbor::{Decode, Encode};

use crate::error::{Error, Result};
use crate::id::ObjectId;
use crate::order::{KeyEncoding, push_escaped, take_escaped};
use crate::record::{Field, Fields, OutOfLine, Writer};

/// Where the key of a collection's records comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum KeySource {
    /// The primary key.
    #[n(0)]
    Primary,
    /// A unique index that identifies every row.
    #[n(1)]
    Unique,
    /// Nothing identifies a row: the key is a keyed hash of the whole record, and equal records
    /// are counted.
    #[n(2)]
    Multiset,
}

/// One column of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct KeyColumn {
    /// Position in [`Layout::columns`], from 0.
    #[n(0)]
    pub column: u32,
    /// How the column's text becomes key bytes.
    #[n(1)]
    pub encoding: KeyEncoding,
}

/// The key of a collection's records.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Key {
    /// Where it comes from.
    #[n(0)]
    pub source: KeySource,
    /// The constraint or index it is taken from; none for a multiset.
    #[n(1)]
    pub name: Option<String>,
    /// Its columns in key order; empty for a multiset.
    #[n(2)]
    pub columns: Vec<KeyColumn>,
}

/// One column of a collection, in the order of the record's fields.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Column {
    /// The name as the database has it, unquoted.
    #[n(0)]
    pub name: String,
    /// The type as the database prints it ("character varying(80)"); `bson` for a document.
    #[n(1)]
    pub type_name: String,
}

/// What a collection is in its database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum CollectionKind {
    /// An ordinary table.
    #[n(0)]
    Table,
    /// A partitioned table, read through its root.
    #[n(1)]
    PartitionedTable,
    /// The server's large objects: one record per page.
    #[n(2)]
    LargeObjects,
    /// A MongoDB collection: one record per document.
    #[n(3)]
    Collection,
    /// A MongoDB collection of bounded size.
    #[n(4)]
    CappedCollection,
    /// A MongoDB time series: one record per measurement.
    #[n(5)]
    TimeSeries,
    /// A view: it has no records, and its schema is its definition.
    #[n(6)]
    View,
}

/// How a collection's records are to be read: its columns and its key. A later read of the same
/// data must use the layout it was first read with, or the roots are not comparable.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Layout {
    /// What it is.
    #[n(0)]
    pub kind: CollectionKind,
    /// Stored columns in field order; generated and dropped columns are not stored.
    #[n(1)]
    pub columns: Vec<Column>,
    /// The key.
    #[n(2)]
    pub key: Key,
}

impl Layout {
    /// Whether each record is a BSON document: one field, named by its only column.
    pub fn is_documents(&self) -> bool {
        use CollectionKind::{CappedCollection, Collection, TimeSeries, View};
        matches!(self.kind, Collection | CappedCollection | TimeSeries | View)
    }
}

/// What the catalog says of one collection.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Descriptor {
    /// How its records were read.
    #[n(0)]
    pub layout: Layout,
    /// The root of its records' tree.
    #[n(1)]
    pub data_root: ObjectId,
    /// The level of the root: 0 when it is a leaf.
    #[n(2)]
    pub level: u8,
    /// Records in the tree.
    #[n(3)]
    pub records: u64,
    /// Logical bytes of the records: keys and values before compression, moved-out values included.
    #[n(4)]
    pub logical_bytes: u64,
    /// The version of the rules that produced the schema text beside this descriptor.
    #[n(5)]
    pub schema_version: u32,
    /// The order its records have in the database, where that is part of the content (capped
    /// collections) and is not key order.
    #[n(6)]
    pub natural_order: Option<NaturalOrder>,
}

/// Where the list of a collection's keys in natural order is: a value as moved-out ones are. Each
/// key is a varint length and its bytes, without ordinal: where several records have one key, the
/// n-th mention of it stands for the n-th of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct NaturalOrder {
    /// The list's piece, or its topmost list of pieces.
    #[n(0)]
    pub root: ObjectId,
    /// Levels of lists above the pieces.
    #[n(1)]
    pub depth: u8,
    /// Its length in bytes.
    #[n(2)]
    pub len: u64,
}

impl From<OutOfLine> for NaturalOrder {
    fn from(place: OutOfLine) -> Self {
        Self { root: place.root, depth: place.depth, len: place.len }
    }
}

impl From<NaturalOrder> for OutOfLine {
    fn from(order: NaturalOrder) -> Self {
        Self { root: order.root, depth: order.depth, len: order.len }
    }
}

impl Descriptor {
    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        crate::codec::to_cbor(self)
    }

    /// Reads canonical bytes; refuses any other spelling of the same value.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let descriptor: Self = crate::codec::from_cbor(bytes, "descriptor")?;
        let width = descriptor.layout.columns.len();
        if descriptor.layout.key.columns.iter().any(|part| part.column as usize >= width) {
            return Err(Error::Malformed("descriptor", "a key column that is not among the columns"));
        }
        Ok(descriptor)
    }
}

/// The catalog key of a collection.
pub fn key(namespace: &str, name: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(namespace.len() + name.len() + 4);
    push_escaped(&mut out, namespace.as_bytes());
    push_escaped(&mut out, name.as_bytes());
    out
}

/// The (namespace, name) of a catalog key.
pub fn parse_key(key: &[u8]) -> Result<(String, String)> {
    let bad = || Error::Malformed("catalog key", "it is not a namespace and a name");
    let (namespace, rest) = take_escaped(key).ok_or_else(bad)?;
    let (name, rest) = take_escaped(rest).ok_or_else(bad)?;
    if !rest.is_empty() {
        return Err(bad());
    }
    Ok((String::from_utf8(namespace).map_err(|_| bad())?, String::from_utf8(name).map_err(|_| bad())?))
}

/// The catalog value of a collection, before long fields move out.
pub fn encode_value(descriptor: &Descriptor, schema: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out);
    writer.push(Field::Inline(&descriptor.to_bytes()));
    writer.push(Field::Inline(schema.as_bytes()));
    writer.finish();
    out
}

/// The two fields of a catalog value: descriptor and schema text. Either may be moved out.
pub fn parse_value(value: &[u8]) -> Result<(Field<'_>, Field<'_>)> {
    let mut fields = Fields::new(value);
    let (descriptor, schema) = (fields.next().transpose()?, fields.next().transpose()?);
    match (descriptor, schema, fields.next()) {
        (Some(descriptor), schema, None) if descriptor != Field::Null => {
            Ok((descriptor, schema.unwrap_or(Field::Null)))
        }
        _ => Err(Error::Malformed("catalog value", "it is not a descriptor and a schema")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_hold_any_name_and_order_by_namespace_first() {
        for (namespace, name) in [("public", "orders"), ("", "a.b\"c"), ("a\0", "\0")] {
            assert_eq!(parse_key(&key(namespace, name)).unwrap(), (namespace.into(), name.into()));
        }
        assert!(key("a", "z") < key("a\0", "a"));
        assert!(parse_key(b"public").is_err());
    }
}
