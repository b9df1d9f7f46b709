//! Large objects: one record per page, and one (page -1, no bytes) for the object itself, since an
//! empty one has no page. `pg_dump` tells owners, privileges and comments of large objects together
//! with their bytes or not at all, so they are kept here, with the object itself.

use repo_format::catalog::{CollectionKind, Column, Key, KeySource, Layout};
use repo_format::order::KeyEncoding;

use super::session::Session;
use super::settings::Server;
use super::snapshot::key_columns;
use super::{fault, schema};
use crate::error::Result;
use crate::source::{Collection, Incomplete, sql_name};

/// The namespace large objects are listed under.
pub const NAMESPACE: &str = "pg_catalog";
/// The name large objects are listed under.
pub const NAME: &str = "pg_largeobject";

/// How large objects are read: pages of the table they are kept in, or through functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// The only way that `pg_read_all_data` allows on every version.
    Table,
    /// The only way for a role that owns them, or was granted each, and is no superuser. Functions
    /// do not tell pages that are not there from pages of zeros.
    Functions,
}

impl Access {
    /// The query for all objects and pages, with the columns of a layout: older ones have fewer.
    pub(super) fn select(self, columns: &str) -> String {
        let pages = match self {
            Self::Table => "SELECT loid, pageno, data, NULL, NULL, NULL FROM pg_largeobject",
            Self::Functions => PAGES_BY_FUNCTIONS,
        };
        format!("SELECT {columns} FROM ({OBJECTS} UNION ALL {pages}) AS objects")
    }
}

/// Privileges as JSON, sorted, so that equal ones are equal texts. NULL: the owner's alone, which is
/// what a new object has. A grantee that is null is PUBLIC.
const OBJECTS: &str = "\
    SELECT m.oid AS loid, -1 AS pageno, NULL::bytea AS data, pg_get_userbyid(lomowner)::text AS owner, \
      CASE WHEN lomacl IS NOT NULL THEN (SELECT coalesce(json_agg(json_build_object( \
          'grantee', CASE WHEN a.grantee <> 0 THEN pg_get_userbyid(a.grantee) END, \
          'privilege', a.privilege_type, 'grantable', a.is_grantable) \
          ORDER BY CASE WHEN a.grantee <> 0 THEN pg_get_userbyid(a.grantee)::text END COLLATE \"C\" NULLS FIRST, \
            a.privilege_type COLLATE \"C\", a.is_grantable), '[]') FROM aclexplode(lomacl) a)::text END AS privileges, \
      d.description AS comment \
    FROM pg_largeobject_metadata m LEFT JOIN pg_description d \
      ON d.classoid = 'pg_largeobject'::regclass AND d.objoid = m.oid AND d.objsubid = 0";

/// 262144 opens an object for reading, and 2 seeks from its end. The size is asked for before the
/// object is closed again: `OFFSET 0` keeps the planner from merging the steps.
const PAGES_BY_FUNCTIONS: &str = "\
    SELECT loid, pageno::integer, lo_get(loid, pageno * page, page), NULL, NULL, NULL FROM ( \
      SELECT loid, page, size, lo_close(fd) AS closed FROM ( \
        SELECT loid, fd, lo_lseek64(fd, 0, 2) AS size, current_setting('block_size')::integer / 4 AS page FROM ( \
          SELECT oid AS loid, lo_open(oid, 262144) AS fd FROM pg_largeobject_metadata OFFSET 0) AS opened \
        OFFSET 0) AS measured \
      OFFSET 0) AS large, generate_series(0, (size - 1) / page) AS pageno \
    WHERE closed = 0 AND size > 0";

pub(super) enum Finding {
    None,
    Readable(Collection, Access),
    Unreadable(Incomplete),
}

/// Whether the role may read a large object by its own privileges or through PUBLIC.
const GRANTED: &str = "\
    pg_has_role(lomowner, 'USAGE') OR EXISTS (SELECT FROM aclexplode(lomacl) AS granted \
      WHERE privilege_type = 'SELECT' AND (grantee = 0 OR pg_has_role(grantee, 'USAGE')))";

/// Looks whether there are any.
pub(super) async fn find(holder: &Session, server: &Server) -> Result<Finding> {
    let sql = format!(
        "SELECT count(*)::text, has_table_privilege('pg_largeobject', 'SELECT')::text, \
         pg_table_size('pg_largeobject')::text, coalesce(bool_and({GRANTED}), true)::text FROM pg_largeobject_metadata"
    );
    let rows = holder.rows(&sql).await.map_err(|error| fault::statement("counting large objects", error))?;
    let Some(row) = rows.first() else { return Ok(Finding::None) };
    let (count, size): (u64, u64) = (row.number(0), row.number(2));
    if count == 0 {
        return Ok(Finding::None);
    }
    let access = match (row.flag(1), row.flag(3)) {
        (true, _) => Some(Access::Table),
        (false, true) => Some(Access::Functions),
        (false, false) => None,
    };
    let Some(access) = access else {
        let grant = if server.version_number >= 140_000 {
            "GRANT pg_read_all_data TO"
        } else {
            "GRANT SELECT ON pg_largeobject TO"
        };
        return Ok(Finding::Unreadable(Incomplete {
            name: sql_name(NAMESPACE, NAME),
            reason: format!("{count} large objects cannot be read. Run: {grant} the user;"),
        }));
    };
    let collection = Collection {
        namespace: NAMESPACE.to_owned(),
        name: NAME.to_owned(),
        layout: layout(),
        schema: "{\"kind\":\"large objects\"}".to_owned(),
        schema_version: schema::VERSION,
        estimated_rows: count,
        estimated_bytes: size,
    };
    Ok(Finding::Readable(collection, access))
}

/// The last three are of objects, and NULL of pages.
const COLUMNS: [(&str, &str); 6] = [
    ("loid", "oid"),
    ("pageno", "integer"),
    ("data", "bytea"),
    ("owner", "text"),
    ("privileges", "text"),
    ("comment", "text"),
];

fn layout() -> Layout {
    let column =
        |(name, type_name): (&str, &str)| Column { name: name.to_owned(), type_name: type_name.to_owned() };
    Layout {
        kind: CollectionKind::LargeObjects,
        columns: COLUMNS.map(column).into(),
        key: Key {
            source: KeySource::Primary,
            name: Some("pg_largeobject_loid_pn_index".to_owned()),
            columns: key_columns(&[KeyEncoding::Integer, KeyEncoding::Integer]),
        },
    }
}
