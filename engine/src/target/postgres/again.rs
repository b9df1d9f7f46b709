//! A second attempt at what `pg_restore` could not make after the rows.

use super::Target;
use super::archive::Failure;
use crate::error::{Kind, Result};
use crate::source::postgres::session::ident;
use crate::target::Note;

/// What stands before the table's name in a statement.
const BEFORE_TABLE: &[&str] = &["ALTER TABLE ONLY ", "ALTER TABLE ", " ON ONLY ", " ON "];

impl Target {
    /// Tries the statements that failed once more, each with the search path that its author would
    /// have had: they failed for a name that a function does not find, or for an index that has come to
    /// be since. Those that fail again are told with their first error.
    pub(super) async fn try_again(&self, failures: &[Failure]) -> Result<Vec<Note>> {
        let mut notes = Vec::new();
        let mut session = None;
        for failure in failures {
            let Some(told) = failure.note() else { continue };
            let command = failure.command.trim().trim_end_matches(';');
            // Settings and comments on what is not the user's are remarks, and mend nothing.
            if !told.failed || command.is_empty() {
                notes.push(told);
                continue;
            }
            let session = match &mut session {
                Some(session) => session,
                absent => absent.insert(self.connect().await?),
            };
            let schema = schema_of(&failure.command).map(|schema| format!("{}, ", ident(&schema)));
            let path = format!("SET LOCAL search_path = {}public;", schema.unwrap_or_default());
            match self.one(session, &path, command).await {
                Ok(()) => notes.push(Note::remark(format!(
                    "made in a second attempt, with its own schema in the search path, after {}",
                    told.text
                ))),
                Err(error) if error.kind() == Kind::Unreachable => return Err(error),
                Err(_) => notes.push(told),
            }
        }
        Ok(notes)
    }
}

/// The schema of the table that a statement is about.
fn schema_of(command: &str) -> Option<String> {
    let found = BEFORE_TABLE.iter().filter_map(|before| {
        let at = command.find(before)?;
        Some((at, &command[at + before.len()..]))
    });
    // Of two that begin at one place the longer one comes first.
    let (_, name) = found.min_by_key(|(at, _)| *at)?;
    let (schema, rest) = match name.strip_prefix('"') {
        None => {
            let end = name.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$'))?;
            (name[..end].to_owned(), &name[end..])
        }
        Some(quoted) => {
            let end = (quoted.match_indices('"').map(|(at, _)| at)).find(|at| {
                let quotes = quoted[..*at].bytes().rev().take_while(|byte| *byte == b'"').count();
                quotes % 2 == 0 && !quoted[at + 1..].starts_with('"')
            })?;
            (quoted[..end].replace("\"\"", "\""), &quoted[end + 1..])
        }
    };
    rest.starts_with('.').then_some(schema)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_of_a_statement_is_found() {
        for (command, schema) in [
            ("CREATE INDEX i ON public.t USING btree (f(a));", Some("public")),
            ("CREATE UNIQUE INDEX \"a ON b\" ON ONLY shop.t USING btree (a)", None),
            ("CREATE INDEX i ON ONLY shop.t USING btree (a)", Some("shop")),
            (
                "ALTER TABLE ONLY \"My \"\"shop\"\"\".t\n    ADD CONSTRAINT c EXCLUDE USING gist (a WITH =);",
                Some("My \"shop\""),
            ),
            ("ALTER TABLE \"x\".t ADD CONSTRAINT c FOREIGN KEY (a) REFERENCES b.t(a);", Some("x")),
            ("CREATE TRIGGER t BEFORE INSERT ON a.b FOR EACH ROW EXECUTE FUNCTION c.d();", Some("a")),
            ("SELECT 1", None),
        ] {
            assert_eq!(schema_of(command).as_deref(), schema, "{command}");
        }
    }
}
