//! Row security that is forced on a table's owner, who restores it and must read all of it to prove it.
//!
//! Policies hold for everybody else from the moment they are there. FORCE holds for the owner alone, so
//! it is taken off while the owner proves the restore, and put back before it ends: nobody else sees a
//! row more meanwhile. A superuser is held by neither.

use super::{Target, fault};
use crate::error::{Kind, Result};
use crate::source::postgres::session::qualified;
use crate::target::Note;

const FORCED: &str = "\
SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text \
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
WHERE c.relforcerowsecurity AND c.relrowsecurity AND c.oid >= 16384 ORDER BY 1, 2";

impl Target {
    /// Takes FORCE off, and remembers where it was.
    pub(super) async fn lift_row_security(&self) -> Result<()> {
        if self.is_superuser() {
            return Ok(());
        }
        let session = self.connect().await?;
        let failed = |error| fault::statement("listing tables with row security", error);
        for row in session.rows(FORCED).await.map_err(failed)? {
            let table = qualified(&row.text(0), &row.text(1));
            match self.one(&session, "", &format!("ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")).await {
                Ok(()) => self.unforced.lock().await.push(table),
                // Not this user's: the proof tells what it cannot read.
                Err(error) if error.kind() == Kind::Denied => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Puts FORCE back where it was.
    pub(super) async fn force_row_security(&self) -> Result<Vec<Note>> {
        let tables = std::mem::take(&mut *self.unforced.lock().await);
        if tables.is_empty() {
            return Ok(Vec::new());
        }
        let session = self.connect().await?;
        let mut notes = Vec::new();
        for table in tables {
            let sql = format!("ALTER TABLE {table} FORCE ROW LEVEL SECURITY");
            match self.one(&session, "", &sql).await {
                Ok(()) => {}
                Err(error) if error.kind() == Kind::Unreachable => return Err(error),
                Err(error) => notes.push(Note::failed(error.message())),
            }
        }
        Ok(notes)
    }
}
