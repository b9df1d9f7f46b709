//! What cannot be made without a table whose definition is missing.

use std::collections::HashMap;

use super::catalog::{Relation, needs, oid_array};
use super::fault;
use super::session::Session;
use crate::error::Result;
use crate::source::{Incomplete, dependent_name};

/// Follows what has to be there before something can be: the types of a table's columns and the tables
/// whose rows they are, the tables it inherits from, the functions in its defaults, checks and partition
/// key; what a view reads; what keys, policies and triggers name. What is a part of something that is
/// lost goes with it and is not told by itself, and neither is what a foreign key has for each partition.
/// OIDs are followed to `$MISSING`.
const DEPENDENTS: &str = "\
    WITH RECURSIVE needs (classid, objid, refclassid, refobjid) AS ( \
      SELECT classid, objid, refclassid, refobjid FROM pg_depend WHERE deptype IN ('n', 'i') \
      UNION ALL SELECT 'pg_type'::regclass, reltype, 'pg_class'::regclass, oid FROM pg_class WHERE relkind = 'c' \
      UNION ALL SELECT 'pg_class'::regclass, a.adrelid, d.refclassid, d.refobjid FROM pg_attrdef a \
        JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = a.oid AND d.deptype = 'n' \
      UNION ALL SELECT 'pg_class'::regclass, r.ev_class, d.refclassid, d.refobjid FROM pg_rewrite r \
        JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.deptype = 'n' \
        WHERE r.rulename = '_RETURN' AND d.refobjid <> r.ev_class \
      UNION ALL SELECT CASE conrelid WHEN 0 THEN 'pg_type'::regclass ELSE 'pg_class'::regclass END, \
          greatest(conrelid, contypid), d.refclassid, d.refobjid FROM pg_constraint k \
        JOIN pg_depend d ON d.classid = 'pg_constraint'::regclass AND d.objid = k.oid AND d.deptype = 'n' \
        WHERE contype = 'c'), \
    lost (classid, objid, cause) AS ( \
      SELECT 'pg_class'::regclass::oid, cause, cause FROM unnest($MISSING) AS missing (cause) \
      UNION SELECT needs.classid, needs.objid, cause FROM lost \
        JOIN needs ON (refclassid, refobjid) = (lost.classid, lost.objid)), \
    found (classid, objid, cause) AS (SELECT classid, objid, min(cause) FROM lost GROUP BY classid, objid) \
    SELECT f.objid::text, f.cause::text, c.relkind::text, \
      EXISTS (SELECT FROM pg_depend part LEFT JOIN found whole \
          ON (part.refclassid, part.refobjid) = (whole.classid, whole.objid) AND part.deptype IN ('a', 'i') \
        WHERE (part.classid, part.objid) = (f.classid, f.objid) \
          AND (whole.objid IS NOT NULL OR part.deptype = 'P'))::text, \
      o.type, o.identity \
    FROM found f LEFT JOIN pg_class c ON f.classid = 'pg_class'::regclass AND c.oid = f.objid \
      CROSS JOIN LATERAL pg_identify_object(f.classid, f.objid, 0) AS o \
    WHERE NOT (f.classid = 'pg_class'::regclass AND f.objid = ANY ($MISSING)) \
      AND NOT EXISTS (SELECT FROM pg_constraint k \
        WHERE f.classid = 'pg_constraint'::regclass AND k.oid = f.objid AND k.conparentid <> 0) \
    ORDER BY o.type, o.identity";

/// What cannot be made without tables that are not described.
#[derive(Default)]
pub(super) struct Dependents {
    /// Tables and sequences, with the name of what each lacks.
    pub(super) relations: HashMap<u32, String>,
    /// Views, functions, types, foreign keys, policies and so on.
    pub(super) others: Vec<Incomplete>,
}

/// Finds what cannot be made without `missing`.
pub(super) async fn dependents(session: &Session, missing: &[Relation]) -> Result<Dependents> {
    let mut dependents = Dependents::default();
    if missing.is_empty() {
        return Ok(dependents);
    }
    let sql = DEPENDENTS.replace("$MISSING", &oid_array(missing.iter().map(|table| table.oid)));
    let rows = session.rows(&sql).await.map_err(|error| fault::statement("listing dependencies", error))?;
    let names: HashMap<u32, String> = missing.iter().map(|table| (table.oid, table.display())).collect();
    for row in rows {
        let cause = names.get(&row.number(1)).cloned().unwrap_or_default();
        let is_relation = matches!(row.text(2).as_str(), "r" | "p" | "f" | "S");
        if is_relation {
            dependents.relations.insert(row.number(0), cause);
        // What is gone since has no name.
        } else if !row.flag(3) && !row.text(5).is_empty() {
            let (kind, identity) = (row.text(4), row.text(5));
            let object = format!("{} {identity}", kind.trim_start_matches("table "));
            let reason = needs(&cause);
            dependents.others.push(Incomplete { name: dependent_name(&object, &cause), reason });
        }
    }
    Ok(dependents)
}
