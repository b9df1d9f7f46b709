//! What cannot be made without a table whose definition is missing.

use std::collections::HashMap;

use super::catalog::{Relation, oid_array};
use super::fault;
use super::session::Session;
use crate::error::Result;

/// Follows what has to be there before a table can be: the types of its columns and the tables whose
/// rows they are, the tables it inherits from, and the functions in its defaults, checks and
/// partition key. What is made after the tables (keys, indexes, triggers) is missing by itself.
const DEPENDENTS: &str = "\
    WITH RECURSIVE needs (classid, objid, refclassid, refobjid) AS ( \
      SELECT d.classid, d.objid, d.refclassid, d.refobjid FROM pg_depend d \
        LEFT JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid \
        WHERE d.deptype IN ('n', 'i') AND (d.classid IN ('pg_type'::regclass, 'pg_proc'::regclass) \
          OR c.relkind IN ('r', 'p', 'f', 'c', 'S')) \
      UNION ALL SELECT 'pg_type'::regclass, reltype, 'pg_class'::regclass, oid FROM pg_class WHERE relkind = 'c' \
      UNION ALL SELECT 'pg_class'::regclass, a.adrelid, d.refclassid, d.refobjid FROM pg_attrdef a \
        JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = a.oid AND d.deptype = 'n' \
      UNION ALL SELECT CASE conrelid WHEN 0 THEN 'pg_type'::regclass ELSE 'pg_class'::regclass END, \
          greatest(conrelid, contypid), d.refclassid, d.refobjid FROM pg_constraint k \
        JOIN pg_depend d ON d.classid = 'pg_constraint'::regclass AND d.objid = k.oid AND d.deptype = 'n' \
        WHERE contype = 'c'), \
    lost (classid, objid, cause) AS ( \
      SELECT 'pg_class'::regclass::oid, cause, cause FROM unnest($MISSING) AS missing (cause) \
      UNION SELECT needs.classid, needs.objid, cause FROM lost \
        JOIN needs ON (refclassid, refobjid) = (lost.classid, lost.objid)) \
    SELECT objid::text, min(cause)::text FROM lost \
    WHERE classid = 'pg_class'::regclass AND objid <> ALL ($MISSING) GROUP BY objid";

/// Tables and sequences that cannot be made without `missing`, with the name of what each lacks.
pub(super) async fn dependents(session: &Session, missing: &[Relation]) -> Result<HashMap<u32, String>> {
    if missing.is_empty() {
        return Ok(HashMap::new());
    }
    let sql = DEPENDENTS.replace("$MISSING", &oid_array(missing.iter().map(|table| table.oid)));
    let rows = session.rows(&sql).await.map_err(|error| fault::statement("listing dependencies", error))?;
    let names: HashMap<u32, String> = missing.iter().map(|table| (table.oid, table.display())).collect();
    let found = rows.iter().map(|row| {
        let cause: u32 = row.number(1);
        (row.number(0), names.get(&cause).cloned().unwrap_or_default())
    });
    Ok(found.collect())
}
