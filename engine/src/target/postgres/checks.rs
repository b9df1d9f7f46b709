//! CHECK constraints come after the rows, like all other constraints.
//!
//! `pg_dump` writes them into `CREATE TABLE`. There they would judge rows while others are missing
//! that a function in them reads, and by the clock, the collation and the search path of a restore.
//! So they are taken off the empty tables and put back over the whole. Rows that one refuses even
//! then are the source's own: it is put back NOT VALID, which holds for rows to come, and said.
//!
//! A domain whose values are inside arrays or composite types cannot be checked again by PostgreSQL.
//! Its constraints stay on, as long as rows can be loaded under them.

use std::collections::HashSet;

use tokio_postgres::error::SqlState;

use super::{Target, fault};
use crate::Kind;
use crate::error::{Error, Result};
use crate::source::postgres::session::{Session, ident, literal, qualified};
use crate::source::sql_name;
use crate::target::Note;

/// Constraints that no parent has. A parent's go and come with its children's, so that after one
/// round the next finds those of children that have a definition of their own. Of domains only
/// those that call a user's function.
const CHECKS: &str = "\
SELECT c.oid::text, 'TABLE', n.nspname::text, r.relname::text, c.conname::text, pg_get_constraintdef(c.oid), \
  obj_description(c.oid, 'pg_constraint') \
FROM pg_constraint c JOIN pg_class r ON r.oid = c.conrelid JOIN pg_namespace n ON n.oid = r.relnamespace \
WHERE c.contype = 'c' AND c.oid >= 16384 AND c.coninhcount = 0 AND r.relkind IN ('r', 'p', 'f') \
  AND r.relpersistence <> 't' AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.deptype = 'e' \
    AND d.classid = 'pg_class'::regclass AND d.objid = r.oid) \
UNION ALL SELECT c.oid::text, 'DOMAIN', n.nspname::text, t.typname::text, c.conname::text, \
  pg_get_constraintdef(c.oid), obj_description(c.oid, 'pg_constraint') \
FROM pg_constraint c JOIN pg_type t ON t.oid = c.contypid JOIN pg_namespace n ON n.oid = t.typnamespace \
WHERE c.contype = 'c' AND c.oid >= 16384 AND EXISTS (SELECT FROM pg_depend d \
    WHERE d.classid = 'pg_constraint'::regclass AND d.objid = c.oid AND d.deptype = 'n' \
    AND d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass)) \
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.deptype = 'e' AND d.classid = 'pg_type'::regclass AND d.objid = t.oid) \
ORDER BY 2, 3, 4, 5";

/// A constraint that was taken away, and all that puts it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    /// `TABLE` or `DOMAIN`.
    kind: String,
    namespace: String,
    owner: String,
    name: String,
    definition: String,
    comment: Option<String>,
    /// Why it could not stay on while rows were loaded, for one that cannot be checked again.
    unchecked: Option<String>,
}

/// Constraints of domains that cannot be checked again.
#[derive(Debug, Default)]
pub(super) struct Kept {
    checks: Vec<Check>,
    are_lifted: bool,
}

impl Check {
    fn is_of_table(&self) -> bool {
        self.kind == "TABLE"
    }

    /// `ALTER TABLE public.orders`
    fn alter(&self) -> String {
        format!("ALTER {} {}", self.kind, qualified(&self.namespace, &self.owner))
    }

    fn drop(&self) -> String {
        format!("{} DROP CONSTRAINT {}", self.alter(), ident(&self.name))
    }

    /// `ADD CONSTRAINT positive CHECK (price > 0)`
    fn add(&self) -> String {
        format!("ADD CONSTRAINT {} {}", ident(&self.name), self.definition)
    }

    fn comment(&self) -> Option<String> {
        let domain = if self.is_of_table() { "" } else { "DOMAIN " };
        let place = qualified(&self.namespace, &self.owner);
        self.comment.as_ref().map(|text| {
            format!("COMMENT ON CONSTRAINT {} ON {domain}{place} IS {};", ident(&self.name), literal(text))
        })
    }

    /// The path its author would have had.
    fn path(&self) -> String {
        format!("SET LOCAL search_path = {}, public;", ident(&self.namespace))
    }

    fn shown(&self) -> String {
        format!("the constraint {} of {}", ident(&self.name), sql_name(&self.namespace, &self.owner))
    }
}

impl Target {
    /// Takes the constraints off the empty tables, and remembers them.
    pub(super) async fn take_checks(&self) -> Result<()> {
        let session = self.connect().await?;
        let mut tried = HashSet::new();
        loop {
            let found: Vec<(u32, Check)> = self.checks_of(&session).await?;
            let fresh: Vec<_> = found.into_iter().filter(|(oid, _)| tried.insert(*oid)).collect();
            if fresh.is_empty() {
                return Ok(());
            }
            for (_, check) in fresh {
                if !check.is_of_table() && !self.can_be_checked_again(&session, &check).await? {
                    self.kept_checks.lock().await.checks.push(check);
                    continue;
                }
                match self.one(&session, "", &check.drop()).await {
                    Ok(()) => self.checks.lock().await.push(check),
                    // Of a table that this user could not even alter: rows are loaded under it.
                    Err(error) if error.kind() == Kind::Denied => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Whether PostgreSQL would put another constraint on the domain: it refuses to where a table has
    /// the domain inside an array or a composite type.
    async fn can_be_checked_again(&self, session: &Session, check: &Check) -> Result<bool> {
        let sql = format!("BEGIN; {} {} {} ADD CHECK (true)", self.pins(), self.quiet(), check.alter());
        let tried = session.run(&sql).await;
        session.run("ROLLBACK").await.map_err(|error| fault::statement("rolling back", error))?;
        // Whatever else is wrong shows when the constraint is taken off.
        let is_refused =
            |error: tokio_postgres::Error| error.code() == Some(&SqlState::FEATURE_NOT_SUPPORTED);
        Ok(!tried.is_err_and(is_refused))
    }

    /// Takes the constraints of domains off that stayed on, after a load failed, maybe by one of them.
    /// Whether there are any, so that the load may succeed when it is tried again.
    pub async fn lift_domain_checks(&self, failed: &Error) -> Result<bool> {
        let mut kept = self.kept_checks.lock().await;
        if !kept.are_lifted && !kept.checks.is_empty() {
            let session = self.connect().await?;
            for check in &kept.checks {
                self.one(&session, "", &check.drop()).await?;
                let unchecked = Some(failed.message().to_owned());
                self.checks.lock().await.push(Check { unchecked, ..check.clone() });
            }
            kept.are_lifted = true;
        }
        Ok(kept.are_lifted)
    }

    async fn checks_of(&self, session: &Session) -> Result<Vec<(u32, Check)>> {
        let failed = |error| fault::statement("listing constraints", error);
        // An empty search path, so that every name in a definition has its schema.
        session.run(&format!("BEGIN READ ONLY; {}", self.pins())).await.map_err(failed)?;
        let rows = session.rows(CHECKS).await.map_err(failed)?;
        session.run("COMMIT").await.map_err(failed)?;
        let check = |row: &crate::source::postgres::session::TextRow| Check {
            kind: row.text(1),
            namespace: row.text(2),
            owner: row.text(3),
            name: row.text(4),
            definition: row.text(5),
            comment: row.optional(6),
            unchecked: None,
        };
        Ok(rows.iter().map(|row| (row.number(0), check(row))).collect())
    }

    /// Puts the constraints back over the loaded rows, parents first.
    pub(super) async fn put_checks_back(&self) -> Result<Vec<Note>> {
        let checks = std::mem::take(&mut *self.checks.lock().await);
        if checks.is_empty() {
            return Ok(Vec::new());
        }
        let session = self.connect().await?;
        let guard = session.cancel_guard();
        let mut notes = Vec::new();
        for group in checks.chunk_by(|a, b| a.is_of_table() && a.alter() == b.alter()) {
            if let Some(why) = &group[0].unchecked {
                let why = format!(
                    "Rows of the snapshot could not be loaded under it ({why}), and PostgreSQL does not check again \
                     what is inside arrays and composite types"
                );
                notes.push(self.put_back_unchecked(&session, &group[0], &why).await?);
            } else {
                notes.extend(self.put_back_checked(&session, group).await?);
            }
            for comment in group.iter().filter_map(Check::comment) {
                if let Err(error) = self.one(&session, "", &comment).await {
                    notes.push(Note::failed(error.message()));
                }
            }
        }
        guard.disarm();
        Ok(notes)
    }

    /// Puts constraints of one table back, or one of a domain.
    async fn put_back_checked(&self, session: &Session, group: &[Check]) -> Result<Vec<Note>> {
        // One statement reads the table once for all its constraints.
        let added: Vec<String> = group.iter().map(Check::add).collect();
        let whole = self.one(session, "", &format!("{} {}", group[0].alter(), added.join(", "))).await;
        match whole {
            Ok(()) => Ok(Vec::new()),
            Err(error) if error.kind() == Kind::Unreachable => Err(error),
            Err(error) if group.len() == 1 => {
                Ok(self.put_back(session, &group[0], error).await?.into_iter().collect())
            }
            Err(_) => {
                let mut notes = Vec::new();
                for check in group {
                    let sql = format!("{} {}", check.alter(), check.add());
                    if let Err(error) = self.one(session, "", &sql).await {
                        notes.extend(self.put_back(session, check, error).await?);
                    }
                }
                Ok(notes)
            }
        }
    }

    /// One that could not be put back as the others: with the search path that its function may
    /// count on, unless it is rows that it refuses; then without looking at rows.
    async fn put_back(&self, session: &Session, check: &Check, first: Error) -> Result<Option<Note>> {
        if first.kind() == Kind::Unreachable {
            return Err(first);
        }
        let (sql, shown) = (format!("{} {}", check.alter(), check.add()), check.shown());
        let mut why = first;
        if !fault::is_broken_rule(&why) {
            match self.one(session, &check.path(), &sql).await {
                Ok(()) => {
                    let text = format!(
                        "{shown} was checked with its own schema in the search path: {}",
                        why.message()
                    );
                    return Ok(Some(Note::remark(text)));
                }
                Err(error) if fault::is_broken_rule(&error) => why = error,
                Err(_) => {}
            }
        }
        let why = format!("It does not hold for all that the snapshot has ({})", why.message());
        self.put_back_unchecked(session, check, &why).await.map(Some)
    }

    async fn put_back_unchecked(&self, session: &Session, check: &Check, why: &str) -> Result<Note> {
        let (sql, shown) = (format!("{} {} NOT VALID", check.alter(), check.add()), check.shown());
        match self.one(session, "", &sql).await {
            Ok(()) => Ok(Note::remark(format!("{shown} is NOT VALID: it holds for new rows. {why}"))),
            Err(error) if error.kind() == Kind::Unreachable => Err(error),
            Err(error) => Ok(Note::failed(format!("{shown} is missing: {}", error.message()))),
        }
    }

    /// One statement in a transaction of its own.
    pub(super) async fn one(&self, session: &Session, path: &str, sql: &str) -> Result<()> {
        let doing = sql.chars().take(80).collect::<String>();
        let whole = format!("BEGIN; {} {} {path} {sql}; COMMIT", self.pins(), self.quiet());
        match session.run(&whole).await {
            Ok(()) => Ok(()),
            Err(error) => {
                let error = fault::statement(&doing, error);
                if error.kind() != Kind::Unreachable {
                    session.run("ROLLBACK").await.map_err(|error| fault::statement("rolling back", error))?;
                }
                Err(error)
            }
        }
    }
}
