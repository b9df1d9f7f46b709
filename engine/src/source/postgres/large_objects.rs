//! Large objects: one record per page, and one (page -1, no bytes) for the object itself, since an
//! empty one has no page. Owners, privileges and comments of large objects are not kept.

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

/// The only way to read them that `pg_read_all_data` allows on every version.
pub(super) const SELECT: &str = "\
    SELECT oid AS loid, -1 AS pageno, NULL::bytea AS data FROM pg_largeobject_metadata \
    UNION ALL SELECT loid, pageno, data FROM pg_largeobject";

pub(super) enum Finding {
    None,
    Readable(Collection),
    Unreadable(Incomplete),
}

/// Looks whether there are any.
pub(super) async fn find(holder: &Session, server: &Server) -> Result<Finding> {
    let sql = "SELECT count(*)::text, has_table_privilege('pg_largeobject', 'SELECT')::text, \
               pg_table_size('pg_largeobject')::text FROM pg_largeobject_metadata";
    let rows = holder.rows(sql).await.map_err(|error| fault::statement("counting large objects", error))?;
    let (count, readable, size): (u64, bool, u64) =
        rows.first().map_or((0, false, 0), |row| (row.number(0), row.flag(1), row.number(2)));
    if count == 0 {
        return Ok(Finding::None);
    }
    if !readable {
        let grant = if server.version_number >= 140_000 {
            "GRANT pg_read_all_data TO"
        } else {
            "GRANT SELECT ON pg_largeobject TO"
        };
        return Ok(Finding::Unreadable(Incomplete {
            name: sql_name(NAMESPACE, NAME),
            reason: format!("{count} large objects cannot be read. Run: {grant} the user;"),
        }));
    }
    Ok(Finding::Readable(Collection {
        namespace: NAMESPACE.to_owned(),
        name: NAME.to_owned(),
        layout: layout(),
        schema: "{\"kind\":\"large objects\"}".to_owned(),
        schema_version: schema::VERSION,
        estimated_rows: count,
        estimated_bytes: size,
    }))
}

fn layout() -> Layout {
    let column =
        |(name, type_name): (&str, &str)| Column { name: name.to_owned(), type_name: type_name.to_owned() };
    Layout {
        kind: CollectionKind::LargeObjects,
        columns: [("loid", "oid"), ("pageno", "integer"), ("data", "bytea")].map(column).into(),
        key: Key {
            source: KeySource::Primary,
            name: Some("pg_largeobject_loid_pn_index".to_owned()),
            columns: key_columns(&[KeyEncoding::Integer, KeyEncoding::Integer]),
        },
    }
}
