//! PostgreSQL as a target: a new database, or an empty one.
//!
//! The order of a restore: [`preflight`], [`Target::create`], [`Target::pre_data`], one
//! [`Target::load`] per collection (several at a time), [`Target::post_data`],
//! [`Target::set_sequences`], the caller's proof, [`Target::finish`]; after any failure
//! [`Target::abandon`]. Nothing here says that a restore succeeded: only the proof does.

mod again;
mod archive;
mod checks;
mod copy_text;
mod create;
mod fault;
pub(crate) mod in_place;
mod inspect;
mod large_objects;
mod load;
mod matviews;
mod partitions;
pub(crate) mod pg_restore;
mod preflight;
pub(crate) mod privileges;
mod role_names;
mod row_security;
mod sequences;
mod statement;
pub(crate) mod subset;

pub use inspect::{AvailableExtension, Contents, TargetState, inspect};
pub use preflight::{preflight, preflight_plan};

use std::collections::HashSet;
use std::sync::OnceLock;

use tokio::sync::Mutex;

use crate::error::Result;
use crate::source::postgres::PostgresUrl;
use crate::source::postgres::connect::Connector;
use crate::source::postgres::session::Session;
use crate::source::postgres::settings::Server;
use crate::target::Note;

/// A database that is being restored into. Holds write credentials in memory; every operation
/// has a connection to itself, so several can run at a time.
pub struct Target {
    url: PostgresUrl,
    connector: Connector,
    server: Server,
    /// Only a database made by this restore may be dropped by it.
    created: bool,
    /// What [`Target::create`] did differently from the source.
    notes: Vec<Note>,
    /// Connections whose load is done, for the next one: a database may have thousands of tables.
    idle: Mutex<Vec<Session>>,
    /// What decides how objects are made, known once the schema was restored.
    standing: OnceLock<Standing>,
    /// Constraints that are put back after the rows.
    checks: Mutex<Vec<checks::Check>>,
    /// Partitions made without the archive, which are to get what their roots get.
    partitions: Mutex<Vec<partitions::Made>>,
    /// Constraints that stay on while rows are loaded, if they can.
    kept_checks: Mutex<checks::Kept>,
    /// Tables whose FORCE ROW LEVEL SECURITY is put back after the proof.
    unforced: Mutex<Vec<String>>,
    /// What loading did differently.
    load_notes: Mutex<Vec<Note>>,
}

/// What decides how objects are made.
#[derive(Clone, Debug)]
struct Standing {
    omit: pg_restore::Omit,
    /// The target before anything was restored: its roles, and what the restoring user may do.
    state: TargetState,
}

impl Target {
    /// What was done differently when the database was made ("its collation is C, not de_DE").
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// Whether the database was made by this restore.
    pub fn is_new(&self) -> bool {
        self.created
    }

    /// Which of these relations the target has not, by (namespace, name).
    pub async fn absent(&self, names: &[(String, String)]) -> Result<Vec<(String, String)>> {
        let failed = |error| fault::statement("listing tables", error);
        let session = self.connect().await?;
        let sql = "SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text FROM pg_catalog.pg_class c \
                   JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'f', 'S')";
        let rows = session.rows(sql).await.map_err(failed)?;
        let found: HashSet<_> = rows.iter().map(|row| (row.text(0), row.text(1))).collect();
        Ok(names.iter().filter(|name| !found.contains(*name)).cloned().collect())
    }

    fn is_superuser(&self) -> bool {
        self.standing.get().is_some_and(|standing| standing.state.is_superuser)
    }

    /// Keeps the restored database's own event triggers from what a restore does after they are
    /// there. Only superusers can have made them, and only superusers can switch them off.
    fn quiet(&self) -> &'static str {
        if self.is_superuser() { "SET LOCAL session_replication_role = replica;" } else { "" }
    }

    async fn connect(&self) -> Result<Session> {
        self.connector.connect().await
    }

    /// A connection that is in no transaction.
    async fn loader(&self) -> Result<Session> {
        let idle = self.idle.lock().await.pop();
        match idle {
            Some(session) => Ok(session),
            None => self.connect().await,
        }
    }

    /// Keeps a connection whose transaction was committed.
    async fn keep(&self, session: Session) {
        self.idle.lock().await.push(session);
    }

    /// Pins the settings that a value's text depends on, for one transaction: values must be read
    /// back as they were printed. What only protects a reader from a hostile database is lifted:
    /// materialized views may read views.
    fn pins(&self) -> String {
        // XML values may be documents or fragments; which of them a column holds is not known.
        let also = "SET LOCAL xmloption = content; SELECT pg_catalog.set_config(name, '', true) \
                    FROM pg_catalog.pg_settings WHERE name = 'restrict_nonsystem_relation_kind';";
        format!("{} {also}", self.server.pins(LOCK_TIMEOUT))
    }
}

/// Nobody else works in a database that is being restored; a lock that is not free is a mistake.
const LOCK_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);
