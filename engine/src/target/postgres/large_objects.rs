//! Large objects: made anew under their own numbers, page by page, then given to their owners.

use repo_format::catalog::Layout;
use tokio::sync::mpsc::Receiver;

use super::{Target, fault};
use crate::error::Result;
use crate::source::RecordBatch;
use crate::source::postgres::session::Session;
use crate::target::Note;

/// Rows go through a table of the session's own: one statement then makes all objects.
const STAGING: &str = "CREATE TEMPORARY TABLE dbsnap_pages \
    (loid oid, pageno integer, data bytea, owner text, privileges text, comment text)";
pub(super) const STAGING_NAME: (&str, &str) = ("pg_temp", "dbsnap_pages");
/// Page -1 stands for the object itself, which may have no pages.
const MAKE: &str = "SELECT pg_catalog.lo_create(loid) FROM pg_temp.dbsnap_pages WHERE pageno = -1";
/// A page holds a quarter of the server's block.
const FILL: &str = "SELECT pg_catalog.lo_put(loid, \
    pageno::bigint * (pg_catalog.current_setting('block_size')::bigint / 4), data) \
    FROM pg_temp.dbsnap_pages WHERE pageno >= 0 ORDER BY loid, pageno";
/// What is left of the staging table is the objects themselves.
const FORGET_PAGES: &str = "DELETE FROM pg_temp.dbsnap_pages WHERE pageno >= 0; \
    CREATE INDEX ON pg_temp.dbsnap_pages (loid)";

/// Objects whose owner, privileges and comment are set in one transaction: each is a lock until it
/// ends, and a server has few.
const AT_ONCE: u32 = 500;
/// Whether objects may be given to the role `owner`.
const GIVES: &str = "(EXISTS (SELECT FROM pg_roles r WHERE r.rolname = owner \
    AND pg_has_role(r.oid, 'MEMBER') AND pg_has_role(r.oid, 'USAGE')))";
const GRANTS: &str = "\
    (SELECT string_agg(format('GRANT %s ON LARGE OBJECT %s TO %s%s;', g.privilege, loid, \
        coalesce(quote_ident(g.grantee), 'PUBLIC'), CASE WHEN g.grantable THEN ' WITH GRANT OPTION' ELSE '' END), ' ') \
     FROM json_to_recordset(privileges::json) AS g (grantee text, privilege text, grantable boolean) \
     WHERE g.privilege IN ('SELECT', 'UPDATE') AND g.grantee IS DISTINCT FROM owner \
       AND (g.grantee IS NULL OR EXISTS (SELECT FROM pg_roles r WHERE r.rolname = g.grantee)))";
const COMMENT: &str =
    "CASE WHEN comment <> '' THEN format('COMMENT ON LARGE OBJECT %s IS %L;', loid, comment) END";
/// An owner may have given privileges up.
const REVOKES: &str = "\
    (SELECT string_agg(format('REVOKE %s ON LARGE OBJECT %s FROM %I;', p, loid, owner), ' ') \
     FROM unnest(ARRAY['SELECT', 'UPDATE']) AS p WHERE privileges IS NOT NULL AND NOT EXISTS ( \
       SELECT FROM json_to_recordset(privileges::json) AS g (grantee text, privilege text) \
       WHERE g.grantee = owner AND g.privilege = p))";

impl Target {
    /// Loads the large objects' records, as the source gives them.
    pub(super) async fn load_large_objects(
        &self,
        layout: &Layout,
        expected: u64,
        rows: Receiver<RecordBatch>,
    ) -> Result<u64> {
        let doing = "loading large objects";
        let failed = |error| fault::statement(doing, error);
        let session = self.connect().await?;
        let guard = session.cancel_guard();
        session.run(&format!("BEGIN; {} {STAGING}", self.pins())).await.map_err(failed)?;
        let loaded = super::load::copy(&session, layout, STAGING_NAME, doing, expected, rows).await?;
        session.run(MAKE).await.map_err(failed)?;
        session.run(FILL).await.map_err(failed)?;
        session.run(FORGET_PAGES).await.map_err(failed)?;
        session.run("COMMIT").await.map_err(failed)?;
        let notes = self.describe_large_objects(&session).await?;
        self.load_notes.lock().await.extend(notes);
        guard.disarm();
        Ok(loaded)
    }

    /// Gives the objects to their owners, and then their privileges and comments.
    async fn describe_large_objects(&self, session: &Session) -> Result<Vec<Note>> {
        let failed = |error| fault::statement("giving large objects to their owners", error);
        let owner = format!(
            "CASE WHEN {GIVES} THEN concat_ws(' ', CASE WHEN owner <> CURRENT_USER \
               THEN format('ALTER LARGE OBJECT %s OWNER TO %I;', loid, owner) END, {REVOKES}) END"
        );
        let statements = format!("{owner}, {GRANTS}, {COMMENT}");
        let (mut notes, mut last) = (Vec::new(), 0u32);
        loop {
            session.run(&format!("BEGIN; {}", self.pins())).await.map_err(failed)?;
            let sql = format!(
                "SELECT loid::text, concat_ws(' ', {statements}) FROM pg_temp.dbsnap_pages \
                 WHERE loid > {last}::oid ORDER BY loid LIMIT {AT_ONCE}"
            );
            let rows = session.rows(&sql).await.map_err(failed)?;
            let Some(end) = rows.last() else { break };
            last = end.number(0);
            let batch: String = rows.iter().map(|row| row.text(1)).collect();
            if let Err(error) = session.run(&format!("{batch} COMMIT")).await.map_err(failed) {
                session.run("ROLLBACK").await.map_err(failed)?;
                let text = format!("{} large objects from {} on: {error}", rows.len(), rows[0].text(0));
                notes.push(Note::failed(text));
            }
        }
        notes.extend(self.large_object_notes(session).await.map_err(failed)?);
        session.run("COMMIT").await.map_err(failed)?;
        Ok(notes)
    }

    /// What could not be given to whom.
    async fn large_object_notes(&self, session: &Session) -> Result<Vec<Note>, tokio_postgres::Error> {
        let mut notes = Vec::new();
        let sql = format!(
            "SELECT owner, count(*)::text, CURRENT_USER::text, \
               EXISTS (SELECT FROM pg_roles r WHERE r.rolname = owner)::text \
             FROM pg_temp.dbsnap_pages WHERE owner IS NOT NULL AND NOT {GIVES} GROUP BY owner ORDER BY owner"
        );
        for row in session.rows(&sql).await? {
            let (owner, count, user) = (row.text(0), row.text(1), row.text(2));
            let why = if row.flag(3) {
                format!("{user} may not give objects to {owner}")
            } else {
                format!("the target has no role {owner}")
            };
            notes.push(Note::remark(format!("{count} large objects belong to {user}: {why}.")));
        }
        let sql = "SELECT g.grantee, count(DISTINCT loid)::text FROM pg_temp.dbsnap_pages, \
            json_to_recordset(privileges::json) AS g (grantee text) WHERE g.grantee <> owner \
            AND NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = g.grantee) GROUP BY 1 ORDER BY 1";
        for row in session.rows(sql).await? {
            let (grantee, count) = (row.text(0), row.text(1));
            notes.push(Note::remark(format!(
                "{count} large objects lack their grants to {grantee}: the target has no such role."
            )));
        }
        Ok(notes)
    }
}
