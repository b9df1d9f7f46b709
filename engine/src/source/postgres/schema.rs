//! The normalised schema text of a table: canonical JSON, members in alphabetical order, nothing
//! that differs between two databases of the same schema. Owners and privileges are not in it,
//! because a restore may give the tables to somebody else.

use std::collections::HashMap;

use serde::Serialize;

use super::catalog::{Inheritance, Kind, Relation, oid_array};
use super::columns::{Column, Index};
use super::fault;
use super::session::Session;
use crate::error::{Error, Kind as ErrorKind, Result};

/// Grows when the rules here change, so that texts of different rules are not compared as if the
/// schema had changed.
pub(super) const VERSION: u32 = 1;

#[derive(Debug, Serialize)]
struct TableSchema<'a> {
    columns: Vec<ColumnSchema<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    constraints: &'a [Named],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    indexes: Vec<NamedRef<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    inherits: Vec<&'a str>,
    kind: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    options: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    partition_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    partitions: Vec<Partition<'a>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    policies: &'a [Named],
    #[serde(skip_serializing_if = "Option::is_none")]
    replica_identity: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    row_security: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    rules: &'a [Named],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    triggers: &'a [Named],
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    unlogged: bool,
}

#[derive(Debug, Serialize)]
struct ColumnSchema<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    collation: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generated: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<&'static str>,
    name: &'a str,
    not_null: bool,
    #[serde(rename = "type")]
    type_name: &'a str,
}

#[derive(Debug, Serialize)]
struct Named {
    definition: String,
    /// Only for what can be switched off.
    #[serde(skip_serializing_if = "Option::is_none")]
    enabled: Option<String>,
    name: String,
}

#[derive(Debug, Serialize)]
struct NamedRef<'a> {
    definition: &'a str,
    name: &'a str,
}

#[derive(Debug, Serialize)]
struct Partition<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    bound: Option<&'a str>,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    partition_key: Option<&'a str>,
}

/// What the catalog says of a table beside columns and indexes.
#[derive(Debug, Default)]
struct Features {
    name: String,
    options: Vec<String>,
    comment: Option<String>,
    partition_key: Option<String>,
    bound: Option<String>,
    replica_identity: Option<String>,
    row_security: Option<String>,
    unlogged: bool,
    parents: Vec<String>,
}

type ByTable = HashMap<u32, Vec<Named>>;

/// The parts of the schema that are read once for all tables.
#[derive(Debug)]
pub(super) struct Schemas {
    features: HashMap<u32, Features>,
    constraints: ByTable,
    triggers: ByTable,
    policies: ByTable,
    rules: ByTable,
}

impl Schemas {
    /// Reads everything for `tables` and the relations below them.
    pub(super) async fn read(session: &Session, tables: &[u32], inheritance: &Inheritance) -> Result<Self> {
        let own = oid_array(tables.iter().copied());
        let below = tables.iter().flat_map(|&table| inheritance.descendants(table));
        let all = oid_array(tables.iter().copied().chain(below));
        Ok(Self {
            features: features(session, &all).await?,
            constraints: named(session, &format!(
                // NOT NULL has been a constraint of its own since 18, and is a column's here.
                "SELECT conrelid::text, conname::text, pg_get_constraintdef(oid) FROM pg_constraint \
                 WHERE conrelid = ANY ({own}) AND contype <> 'n'")).await?,
            triggers: named(session, &format!(
                "SELECT tgrelid::text, tgname::text, pg_get_triggerdef(oid), tgenabled::text FROM pg_trigger \
                 WHERE tgrelid = ANY ({own}) AND NOT tgisinternal")).await?,
            policies: named(session, &format!(
                "SELECT polrelid::text, polname::text, concat_ws(' ', \
                   CASE WHEN polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END, \
                   'FOR ' || CASE polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' \
                     WHEN 'd' THEN 'DELETE' ELSE 'ALL' END, \
                   'TO ' || (SELECT string_agg(CASE role WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(role)) END, \
                     ', ' ORDER BY pg_get_userbyid(role) COLLATE \"C\") FROM unnest(polroles) AS r (role)), \
                   'USING (' || pg_get_expr(polqual, polrelid) || ')', \
                   'WITH CHECK (' || pg_get_expr(polwithcheck, polrelid) || ')') \
                 FROM pg_policy WHERE polrelid = ANY ({own})")).await?,
            rules: named(session, &format!(
                "SELECT ev_class::text, rulename::text, pg_get_ruledef(oid), ev_enabled::text FROM pg_rewrite \
                 WHERE ev_class = ANY ({own}) AND rulename <> '_RETURN'")).await?,
        })
    }

    /// The canonical text of one table.
    pub(super) fn text(
        &self,
        table: &Relation,
        columns: &[Column],
        indexes: &[Index],
        inheritance: &Inheritance,
    ) -> Result<String> {
        let none = Features::default();
        let features = self.features.get(&table.oid).unwrap_or(&none);
        let is_partitioned = table.kind == Kind::Partitioned;
        let schema = TableSchema {
            columns: columns.iter().map(column_schema).collect(),
            comment: features.comment.as_deref(),
            constraints: of_table(&self.constraints, table.oid),
            indexes: indexes
                .iter()
                .filter(|index| !index.is_constraint)
                .map(|index| NamedRef { definition: &index.definition, name: &index.name })
                .collect(),
            inherits: features.parents.iter().map(String::as_str).collect(),
            kind: if is_partitioned { "partitioned table" } else { "table" },
            options: features.options.iter().map(String::as_str).collect(),
            partition_key: features.partition_key.as_deref(),
            partitions: if is_partitioned { self.partitions(table.oid, inheritance) } else { Vec::new() },
            policies: of_table(&self.policies, table.oid),
            replica_identity: features.replica_identity.as_deref(),
            row_security: features.row_security.as_deref(),
            rules: of_table(&self.rules, table.oid),
            triggers: of_table(&self.triggers, table.oid),
            unlogged: features.unlogged,
        };
        serde_json::to_string(&schema).map_err(|error| {
            Error::new(ErrorKind::Internal, "a schema cannot be written as JSON").with_source(error)
        })
    }

    fn partitions(&self, root: u32, inheritance: &Inheritance) -> Vec<Partition<'_>> {
        let below = inheritance.descendants(root).into_iter().filter_map(|oid| self.features.get(&oid));
        let mut partitions: Vec<_> = below
            .map(|features| Partition {
                bound: features.bound.as_deref(),
                name: &features.name,
                partition_key: features.partition_key.as_deref(),
            })
            .collect();
        partitions.sort_by_key(|partition| partition.name);
        partitions
    }
}

fn of_table(map: &ByTable, table: u32) -> &[Named] {
    map.get(&table).map_or(&[], Vec::as_slice)
}

fn column_schema(column: &Column) -> ColumnSchema<'_> {
    let (default, generated) = if column.is_stored() {
        (column.default.as_deref(), None)
    } else {
        (None, column.default.as_deref())
    };
    ColumnSchema {
        collation: column.collation.as_deref(),
        comment: column.comment.as_deref(),
        default,
        generated,
        identity: match column.identity.as_str() {
            "a" => Some("always"),
            "d" => Some("by default"),
            _ => None,
        },
        name: &column.name,
        not_null: column.not_null,
        type_name: &column.type_name,
    }
}

async fn features(session: &Session, tables: &str) -> Result<HashMap<u32, Features>> {
    let sql = format!(
        "SELECT c.oid::text, quote_ident(n.nspname) || '.' || quote_ident(c.relname), array_to_json(c.reloptions)::text, \
           obj_description(c.oid, 'pg_class'), pg_get_partkeydef(c.oid), pg_get_expr(c.relpartbound, c.oid), \
           CASE c.relreplident WHEN 'n' THEN 'nothing' WHEN 'f' THEN 'full' WHEN 'i' THEN \
             (SELECT 'index ' || ic.relname FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid \
              WHERE i.indrelid = c.oid AND i.indisreplident) END, \
           CASE WHEN c.relforcerowsecurity THEN 'forced' WHEN c.relrowsecurity THEN 'enabled' END, \
           (c.relpersistence = 'u')::text, \
           (SELECT json_agg(quote_ident(pn.nspname) || '.' || quote_ident(p.relname) ORDER BY h.inhseqno) \
              FROM pg_inherits h JOIN pg_class p ON p.oid = h.inhparent JOIN pg_namespace pn ON pn.oid = p.relnamespace \
              WHERE h.inhrelid = c.oid AND NOT c.relispartition)::text \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY ({tables})"
    );
    let rows =
        session.rows(&sql).await.map_err(|error| fault::statement("reading table definitions", error))?;
    let list = |json: Option<String>| -> Vec<String> {
        json.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default()
    };
    let read = rows.iter().map(|row| {
        let mut options = list(row.optional(2));
        options.sort();
        let features = Features {
            name: row.text(1),
            options,
            comment: row.optional(3),
            partition_key: row.optional(4),
            bound: row.optional(5),
            replica_identity: row.optional(6),
            row_security: row.optional(7),
            unlogged: row.flag(8),
            parents: list(row.optional(9)),
        };
        (row.number(0), features)
    });
    Ok(read.collect())
}

/// Reads (table, name, definition[, enabled]) and sorts by name.
async fn named(session: &Session, sql: &str) -> Result<ByTable> {
    let has_state = sql.contains("enabled::text");
    let rows =
        session.rows(sql).await.map_err(|error| fault::statement("reading table definitions", error))?;
    let mut map = ByTable::new();
    for row in rows {
        let state = if has_state { row.text(3) } else { "O".to_owned() };
        let enabled = match state.as_str() {
            "D" => Some("disabled".to_owned()),
            "R" => Some("on replicas".to_owned()),
            "A" => Some("always".to_owned()),
            _ => None,
        };
        map.entry(row.number(0)).or_default().push(Named {
            definition: row.text(2),
            enabled,
            name: row.text(1),
        });
    }
    for list in map.values_mut() {
        list.sort_by(|a, b| a.name.cmp(&b.name));
    }
    Ok(map)
}
