//! Columns and indexes of the tables that are read, and the key chosen from them.

use std::collections::HashMap;

use repo_format::catalog::{Key, KeyColumn, KeySource};
use repo_format::order::KeyEncoding;

use super::catalog::oid_array;
use super::fault;
use super::session::Session;
use crate::error::Result;

/// A column that is not dropped.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(super) number: i16,
    pub(crate) name: String,
    pub(crate) type_name: String,
    pub(super) type_oid: u32,
    pub(super) not_null: bool,
    pub(super) default: Option<String>,
    /// `a` or `d` for identity columns.
    pub(crate) identity: String,
    /// `s` or `v` for generated columns.
    pub(super) generated: String,
    pub(super) collation_oid: u32,
    /// Where it is not the type's own.
    pub(super) collation: Option<String>,
    /// Whether text compares as its bytes do.
    pub(super) collates_as_bytes: bool,
    pub(super) comment: Option<String>,
}

impl Column {
    /// Generated values follow from the others and cannot be written.
    pub(super) fn is_stored(&self) -> bool {
        self.generated.is_empty()
    }

    /// How its text becomes key bytes. Domains, enums and everything unusual compare as text.
    pub(super) fn encoding(&self) -> KeyEncoding {
        match self.type_oid {
            20 | 21 | 23 | 26 => KeyEncoding::Integer,
            16 => KeyEncoding::Boolean,
            2950 => KeyEncoding::Uuid,
            1082 => KeyEncoding::Date,
            1114 | 1184 => KeyEncoding::Timestamp,
            17 => KeyEncoding::Bytes,
            1700 => KeyEncoding::Numeric,
            700 | 701 => KeyEncoding::Float,
            _ => KeyEncoding::Text,
        }
    }

    /// Whether the server sorts this column as its key bytes sort. `char(n)` does not: it ignores
    /// the padding that its text has.
    fn sorts_as_key(&self, encoding: KeyEncoding, text_is_utf8: bool) -> bool {
        let is_text = matches!(self.type_oid, 25 | 1043);
        encoding == self.encoding()
            && (encoding != KeyEncoding::Text || (is_text && self.collates_as_bytes && text_is_utf8))
    }
}

/// An index, its columns as numbers of the table's; 0 stands for an expression.
#[derive(Clone, Debug)]
pub(super) struct Index {
    pub(super) name: String,
    columns: Vec<i16>,
    collations: Vec<u32>,
    options: Vec<i16>,
    is_btree: bool,
    has_default_classes: bool,
    is_unique: bool,
    is_primary: bool,
    is_valid: bool,
    is_immediate: bool,
    is_partial: bool,
    nulls_equal: bool,
    is_replica_identity: bool,
    pub(super) is_constraint: bool,
    pub(super) definition: String,
}

/// All columns, by table.
pub(super) async fn columns(session: &Session, tables: &[u32]) -> Result<HashMap<u32, Vec<Column>>> {
    let bytewise = "(co.collprovider = 'c' AND co.collcollate IN ('C', 'POSIX')) OR co.collprovider = 'b' \
         OR (co.collprovider = 'd' AND (d.provider = 'b' OR (d.provider = 'c' AND d.datcollate IN ('C', 'POSIX'))))";
    // The provider of the database's own collation has its column only since version 15.
    let sql = format!(
        "SELECT a.attrelid::text, a.attnum::text, a.attname::text, format_type(a.atttypid, a.atttypmod), \
           a.atttypid::text, a.attnotnull::text, pg_get_expr(ad.adbin, ad.adrelid), a.attidentity::text, \
           a.attgenerated::text, a.attcollation::text, \
           CASE WHEN a.attcollation <> t.typcollation THEN quote_ident(cn.nspname) || '.' || quote_ident(co.collname) END, \
           coalesce({bytewise}, false)::text, col_description(a.attrelid, a.attnum) \
         FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
           LEFT JOIN pg_attrdef ad ON ad.adrelid = a.attrelid AND ad.adnum = a.attnum \
           LEFT JOIN pg_collation co ON co.oid = a.attcollation LEFT JOIN pg_namespace cn ON cn.oid = co.collnamespace \
           CROSS JOIN (SELECT datcollate, coalesce(to_jsonb(db) ->> 'datlocprovider', 'c') AS provider \
             FROM pg_database db WHERE datname = current_database()) d \
         WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attrelid = ANY ({}) ORDER BY a.attrelid, a.attnum",
        oid_array(tables.iter().copied())
    );
    let rows = session.rows(&sql).await.map_err(|error| fault::statement("reading columns", error))?;
    let mut columns = HashMap::<u32, Vec<Column>>::new();
    for row in rows {
        columns.entry(row.number(0)).or_default().push(Column {
            number: row.number(1),
            name: row.text(2),
            type_name: row.text(3),
            type_oid: row.number(4),
            not_null: row.flag(5),
            default: row.optional(6),
            identity: row.text(7),
            generated: row.text(8),
            collation_oid: row.number(9),
            collation: row.optional(10),
            collates_as_bytes: row.flag(11),
            comment: row.optional(12),
        });
    }
    Ok(columns)
}

/// All indexes, by table.
pub(super) async fn indexes(session: &Session, tables: &[u32]) -> Result<HashMap<u32, Vec<Index>>> {
    let sql = format!(
        "SELECT i.indrelid::text, c.relname::text, i.indkey::text, i.indcollation::text, i.indoption::text, \
           i.indnkeyatts::text, (am.amname = 'btree')::text, \
           (SELECT bool_and(o.opcdefault) FROM unnest(i.indclass::oid[]) AS k (class) \
              JOIN pg_opclass o ON o.oid = k.class)::text, \
           i.indisunique::text, i.indisprimary::text, (i.indisvalid AND i.indisready AND i.indislive)::text, \
           i.indimmediate::text, (i.indpred IS NOT NULL)::text, \
           coalesce(to_jsonb(i) ->> 'indnullsnotdistinct', 'false'), i.indisreplident::text, \
           EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x'))::text, \
           pg_get_indexdef(i.indexrelid) \
         FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am am ON am.oid = c.relam \
         WHERE i.indrelid = ANY ({}) ORDER BY i.indrelid, c.relname COLLATE \"C\"",
        oid_array(tables.iter().copied())
    );
    let rows = session.rows(&sql).await.map_err(|error| fault::statement("reading indexes", error))?;
    let mut indexes = HashMap::<u32, Vec<Index>>::new();
    for row in rows {
        let key_columns: usize = row.number(5);
        let mut columns: Vec<i16> = row.numbers(2);
        // INCLUDE columns are carried along, they are no part of the key.
        columns.truncate(key_columns);
        indexes.entry(row.number(0)).or_default().push(Index {
            name: row.text(1),
            columns,
            collations: row.numbers(3),
            options: row.numbers(4),
            is_btree: row.flag(6),
            has_default_classes: row.flag(7),
            is_unique: row.flag(8),
            is_primary: row.flag(9),
            is_valid: row.flag(10),
            is_immediate: row.flag(11),
            is_partial: row.flag(12),
            nulls_equal: row.flag(13),
            is_replica_identity: row.flag(14),
            is_constraint: row.flag(15),
            definition: row.text(16),
        });
    }
    Ok(indexes)
}

/// The key of a table: its primary key, else the replica identity, else the unique index with the
/// fewest columns and then the first name; else none. Only an index that holds for every row at
/// every moment qualifies, but for the primary key, which holds in every snapshot even when it may
/// be deferred.
pub(super) fn choose_key(columns: &[Column], indexes: &[Index]) -> Key {
    let usable = |index: &&Index| {
        let complete = index.columns.iter().all(|&number| {
            columns.iter().any(|column| column.number == number && column.not_null && column.is_stored())
        });
        index.is_unique
            && index.is_btree
            && index.is_valid
            && !index.is_partial
            && !index.nulls_equal
            && (index.is_immediate || index.is_primary)
            && complete
    };
    let rank = |index: &&Index| {
        (!index.is_primary, !index.is_replica_identity, index.columns.len(), index.name.clone())
    };
    let Some(index) = indexes.iter().filter(usable).min_by_key(rank) else {
        return Key { source: KeySource::Multiset, name: None, columns: Vec::new() };
    };
    let stored: Vec<_> = columns.iter().filter(|column| column.is_stored()).collect();
    let parts = index.columns.iter().filter_map(|number| {
        let position = stored.iter().position(|column| column.number == *number)?;
        Some(KeyColumn { column: u32::try_from(position).ok()?, encoding: stored[position].encoding() })
    });
    let source = if index.is_primary { KeySource::Primary } else { KeySource::Unique };
    Key { source, name: Some(index.name.clone()), columns: parts.collect() }
}

/// Whether some index hands out rows in the order of `key`, given by names and encodings: every
/// column ascending, in the index's order, each sorting as its key bytes do.
pub(super) fn delivers_order(
    columns: &[Column],
    indexes: &[Index],
    key: &[(&str, KeyEncoding)],
    text_is_utf8: bool,
) -> bool {
    let parts: Option<Vec<_>> = key
        .iter()
        .map(|(name, encoding)| {
            let column = columns.iter().find(|column| column.name == *name)?;
            (column.not_null && column.sorts_as_key(*encoding, text_is_utf8)).then_some(column)
        })
        .collect();
    let Some(parts) = parts else { return false };
    !parts.is_empty()
        && indexes.iter().any(|index| {
            index.is_btree
                && index.is_valid
                && !index.is_partial
                && index.has_default_classes
                && index.columns.iter().copied().eq(parts.iter().map(|column| column.number))
                && index
                    .collations
                    .iter()
                    .zip(&parts)
                    .all(|(collation, column)| *collation == column.collation_oid)
                && index.options.iter().take(parts.len()).all(|&option| option == 0)
        })
}
