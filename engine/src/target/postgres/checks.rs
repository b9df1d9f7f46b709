//! CHECK constraints come after the rows, like all other constraints.
//!
//! `pg_dump` writes them into `CREATE TABLE`. There they would judge rows while others are missing
//! that a function in them reads, and by the clock, the collation and the search path of a restore.
//! So they are taken off the empty tables and put back over the whole. Rows that one refuses even
//! then are the source's own: it is put back NOT VALID, which holds for rows to come, and said.

use std::collections::HashSet;

use super::{Target, fault};
use crate::Kind;
use crate::error::{Error, Result};
use crate::source::postgres::session::{Session, ident, literal, qualified};
use crate::source::sql_name;
use crate::target::Note;

/// Constraints that no parent has. A parent's go and come with its children's, so that after one
/// round the next finds those of children that have a definition of their own. Of domains only
/// those that call a user's function: a domain inside an array or a composite type cannot be
/// checked again.
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
                match self.one(&session, "", &check.drop()).await {
                    Ok(()) => self.checks.lock().await.push(check),
                    // Of a table that this user could not even alter: rows are loaded under it.
                    Err(error) if error.kind() == Kind::Denied => {}
                    Err(error) => return Err(error),
                }
            }
        }
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
            // One statement reads the table once for all its constraints.
            let added: Vec<String> = group.iter().map(Check::add).collect();
            let whole = self.one(&session, "", &format!("{} {}", group[0].alter(), added.join(", "))).await;
            match whole {
                Ok(()) => {}
                Err(error) if error.kind() == Kind::Unreachable => return Err(error),
                Err(error) if group.len() == 1 => {
                    notes.extend(self.put_back(&session, &group[0], error).await?);
                }
                Err(_) => {
                    for check in group {
                        let sql = format!("{} {}", check.alter(), check.add());
                        if let Err(error) = self.one(&session, "", &sql).await {
                            notes.extend(self.put_back(&session, check, error).await?);
                        }
                    }
                }
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
        match self.one(session, "", &format!("{sql} NOT VALID")).await {
            Ok(()) => Ok(Some(Note::remark(format!(
                "{shown} is NOT VALID: it holds for new rows, and not for all that the snapshot has ({})",
                why.message()
            )))),
            Err(error) if error.kind() == Kind::Unreachable => Err(error),
            Err(error) => Ok(Some(Note::failed(format!("{shown} is missing: {}", error.message())))),
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
