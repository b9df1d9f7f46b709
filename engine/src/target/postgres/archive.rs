//! The schema archive: what it asks of the target, and restoring its two sections.

use std::collections::BTreeSet;
use std::process::Output;

use repo_format::manifest::ViewName;

use super::inspect::{TargetState, inspect};
use super::pg_restore::{self, Omit, Section};
use super::{Standing, Target};
use crate::error::{Error, Kind, Result};
use crate::source::postgres::archive::Tool;
use crate::target::Note;

const FAILED: &str = "pg_restore: error: could not execute query: ";
const ENTRY: &str = "pg_restore: from TOC entry ";
const IGNORED: &str = "pg_restore: warning: errors ignored on restore: ";
const COMMAND: &str = "Command was: ";

/// What an archive asks of its target beside tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// Roles that own something.
    pub(super) owners: BTreeSet<String>,
    /// Roles that are granted something.
    pub(super) grantees: BTreeSet<String>,
    /// Foreign data wrappers that servers are made of.
    pub(super) wrappers: BTreeSet<String>,
    /// Foreign data wrappers that are made.
    pub(super) made_wrappers: BTreeSet<String>,
    /// What is left out on purpose, by kind.
    pub(super) left_out: BTreeSet<&'static str>,
}

impl Needs {
    /// Reads `pg_restore -f -`: its comment above each statement, and its GRANT lines. The text
    /// only decides what is said and left out; it is never run.
    fn of(sql: &str) -> Self {
        let mut needs = Self::default();
        for line in sql.lines() {
            if line.starts_with("-- Name: ")
                && let Some((head, owner)) = line.rsplit_once("; Owner: ")
            {
                let (owner, tablespace) = owner.split_once("; Tablespace: ").unwrap_or((owner, ""));
                if !matches!(owner, "" | "-") {
                    needs.owners.insert(owner.to_owned());
                }
                if !tablespace.is_empty() {
                    needs.left_out.insert("tablespaces");
                }
                if head.contains("; Type: SUBSCRIPTION; ") {
                    needs.left_out.insert("subscriptions");
                }
            } else if let Some(server) = line.strip_prefix("CREATE SERVER ") {
                needs.wrappers.extend(server.rsplit_once(WRAPPER).and_then(|(_, name)| first_name(name)));
            } else if let Some(name) = line.strip_prefix("CREATE").and_then(|rest| rest.strip_prefix(WRAPPER))
            {
                needs.made_wrappers.extend(first_name(name));
            } else if line.starts_with("GRANT ") || line.starts_with("ALTER DEFAULT PRIVILEGES ") {
                needs.grantees.extend(grantee(line));
            }
        }
        needs
    }

    /// Owners are kept when every one exists and the user may give objects to it.
    pub(super) fn omit(&self, state: &TargetState) -> Omit {
        let gives = |role: &String| state.is_superuser || state.memberships.contains(role);
        Omit {
            owners: !self.owners.iter().all(|role| state.roles.contains(role) && gives(role)),
            privileges: !self.grantees.iter().all(|role| state.roles.contains(role)),
        }
    }

    /// What leaving things out means, in words.
    pub(super) fn notes(&self, omit: Omit, state: &TargetState) -> Vec<Note> {
        let names = |roles: &BTreeSet<String>, which: &dyn Fn(&String) -> bool| {
            roles.iter().filter(|role| which(role)).cloned().collect::<Vec<_>>().join(", ")
        };
        let mut notes = Vec::new();
        if omit.owners {
            let missing = names(&self.owners, &|role| !state.roles.contains(role));
            let why = if missing.is_empty() {
                format!(
                    "{} may not give objects to {}",
                    state.user,
                    names(&self.owners, &|role| *role != state.user)
                )
            } else {
                format!("the target has no role {missing}")
            };
            notes.push(Note::remark(format!("Everything belongs to {}: {why}.", state.user)));
        }
        if omit.privileges {
            let missing = names(&self.grantees, &|role| !state.roles.contains(role));
            notes.push(Note::remark(format!("No GRANT was restored: the target has no role {missing}.")));
        }
        notes.extend(self.left_out.iter().map(|kind| Note::remark(format!("{kind} are not restored"))));
        notes
    }
}

const WRAPPER: &str = " FOREIGN DATA WRAPPER ";

/// The name a text begins with, quotes off.
fn first_name(text: &str) -> Option<String> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', ';']).unwrap_or(text.len());
        return (end > 0).then(|| text[..end].to_owned());
    };
    let mut name = String::new();
    let mut letters = quoted.chars().peekable();
    while let Some(letter) = letters.next() {
        // Two quotes are one of the name, one ends it.
        if letter == '"' && letters.next_if_eq(&'"').is_none() {
            return Some(name);
        }
        name.push(letter);
    }
    None
}

/// The role of `GRANT ... TO role;`, quotes off; none for PUBLIC.
fn grantee(line: &str) -> Option<String> {
    let line = line.strip_suffix(';')?;
    let line = line.strip_suffix(" WITH GRANT OPTION").unwrap_or(line);
    let (_, role) = line.rsplit_once(" TO ")?;
    if role == "PUBLIC" {
        return None;
    }
    let unquoted = role.strip_prefix('"').and_then(|role| role.strip_suffix('"'));
    Some(unquoted.map_or(role.to_owned(), |role| role.replace("\"\"", "\"")))
}

/// The tool that reads `archive`, and what the archive needs.
pub(super) async fn read(archive: &[u8]) -> Result<(Tool, Needs)> {
    let (tool, sql) = pg_restore::read(archive).await?;
    Ok((tool, Needs::of(&sql)))
}

impl Target {
    /// Types, functions, tables and views: everything that rows need, and no CHECK constraints.
    /// Statements that fail are noted, each with its error; a table that is missing for it fails its
    /// load.
    pub async fn pre_data(&self, archive: &[u8]) -> Result<Vec<Note>> {
        let (tool, needs) = read(archive).await?;
        let state = inspect(&self.url).await?;
        let omit = needs.omit(&state);
        let mut notes = self.notes.clone();
        notes.extend(needs.notes(omit, &state));
        let outcome =
            outcome(&pg_restore::restore(&tool, &self.url, archive, Section::PreData, omit).await?)?;
        notes.extend(outcome.failures.iter().filter_map(Failure::note));
        notes.extend(outcome.uncounted);
        let _ = self.standing.set(Standing { omit, is_superuser: state.is_superuser });
        self.take_checks().await?;
        Ok(notes)
    }

    /// Indexes, constraints, foreign keys, triggers and rules, then materialized views are filled,
    /// but for those that hold no data. CHECK constraints come last: the functions in them may need
    /// the indexes.
    pub async fn post_data(&self, archive: &[u8], unfilled: &[ViewName]) -> Result<Vec<Note>> {
        let (tool, _) = read(archive).await?;
        let Standing { omit, .. } = self.standing();
        let mut notes = std::mem::take(&mut *self.load_notes.lock().await);
        let outcome =
            outcome(&pg_restore::restore(&tool, &self.url, archive, Section::PostData, omit).await?)?;
        notes.extend(outcome.uncounted);
        notes.extend(self.complete_partitions().await?);
        notes.extend(self.try_again(&outcome.failures).await?);
        notes.extend(self.put_checks_back().await?);
        notes.extend(self.refresh(unfilled).await?);
        Ok(notes)
    }
}

/// What a run of `pg_restore` did not do.
struct Outcome {
    failures: Vec<Failure>,
    /// That it did not name as many as it counted.
    uncounted: Option<Note>,
}

/// An error that a run of `pg_restore` cannot be excused for by naming a statement fails the restore.
fn outcome(output: &Output) -> Result<Outcome> {
    let text = String::from_utf8_lossy(&output.stderr);
    let failures = failures(&text);
    let ignored = text.lines().find_map(|line| line.strip_prefix(IGNORED)?.trim().parse::<usize>().ok());
    if !output.status.success() && ignored.is_none() {
        let why =
            text.lines().last().unwrap_or_default().trim_start_matches("pg_restore: error: ").to_owned();
        return Err(Error::new(Kind::Refused, format!("pg_restore failed ({}): {why}", output.status)));
    }
    let uncounted = (ignored.unwrap_or(0) != failures.len()).then(|| {
        let counted =
            format!("pg_restore ignored {} errors and named {}", ignored.unwrap_or(0), failures.len());
        Note::failed(format!("{counted}: {}", text.trim()))
    });
    Ok(Outcome { failures, uncounted })
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Failure {
    /// The archive's entry: "TABLE orders shop". Empty where `pg_restore` does not say, as since 15.
    entry: String,
    error: String,
    pub(super) command: String,
}

/// The failed statements in what `pg_restore` printed.
fn failures(text: &str) -> Vec<Failure> {
    let (mut found, mut entry, mut is_open): (Vec<Failure>, String, bool) =
        (Vec::new(), String::new(), false);
    for line in text.lines() {
        if let Some(named) = line.strip_prefix(ENTRY) {
            // "215; 1259 16386 TABLE orders shop": the numbers tell a reader nothing.
            entry = named.splitn(4, ' ').nth(3).unwrap_or(named).to_owned();
            is_open = false;
        } else if let Some(error) = line.strip_prefix(FAILED) {
            let error = error.trim_start_matches("ERROR:").trim().to_owned();
            found.push(Failure { entry: entry.clone(), error, command: String::new() });
            is_open = true;
        } else if line.starts_with("pg_restore: ") {
            is_open = false;
        } else if is_open && let Some(failure) = found.last_mut() {
            match (line.strip_prefix(COMMAND), failure.command.is_empty()) {
                (Some(command), _) => failure.command = command.to_owned(),
                (None, true) => failure.error = format!("{} {}", failure.error, line.trim()),
                (None, false) => failure.command = format!("{}\n{line}", failure.command),
            }
        }
    }
    found
}

impl Failure {
    /// `None` for what is no difference: every new database has its schema `public`.
    pub(super) fn note(&self) -> Option<Note> {
        if self.error.starts_with("schema \"public\" already exists") {
            return None;
        }
        if let Some(extension) = self.command.strip_prefix("COMMENT ON EXTENSION ")
            && self.error.contains("must be owner")
        {
            let name = extension.split_once(" IS ").map_or(extension, |(name, _)| name);
            return Some(Note::remark(format!(
                "the comment on the extension {name} is the one it had: another role owns it in the target"
            )));
        }
        let command: String = self.command.trim().chars().take(200).collect();
        // A statement before the first entry, or a dropped comment, belongs to none.
        let entry = if self.entry.is_empty() { String::new() } else { format!("{}: ", self.entry) };
        let text = format!("{entry}{} (in: {command})", self.error.trim());
        // A setting of a newer pg_restore that the server does not know holds nothing of the snapshot.
        Some(if self.command.starts_with("SET ") { Note::remark(text) } else { Note::failed(text) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_read_from_the_listing() {
        let sql = "-- Name: orders; Type: TABLE; Schema: public; Owner: shop owner\n\
                   -- Name: big; Type: TABLE; Schema: public; Owner: dba; Tablespace: ssd\n\
                   -- Name: public; Type: SCHEMA; Schema: -; Owner: -\n\
                   GRANT SELECT ON TABLE public.orders TO \"Read \"\"er\";\nGRANT ALL ON TABLE public.orders TO PUBLIC;\n\
                   GRANT SELECT ON TABLE public.orders TO boss WITH GRANT OPTION;\n\
                   CREATE SERVER far TYPE 'a' FOREIGN DATA WRAPPER \"Odd \"\"one\" OPTIONS (\n\
                   CREATE SERVER near FOREIGN DATA WRAPPER postgres_fdw;\n\
                   CREATE FOREIGN DATA WRAPPER own;\n";
        let needs = Needs::of(sql);
        let set = |roles: &[&str]| roles.iter().map(|role| (*role).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(needs.owners, set(&["shop owner", "dba"]));
        assert_eq!(needs.grantees, set(&["Read \"er", "boss"]));
        assert!(needs.left_out.contains("tablespaces"));
        assert_eq!(needs.wrappers, set(&["Odd \"one", "postgres_fdw"]));
        assert_eq!(needs.made_wrappers, set(&["own"]));
    }

    #[test]
    fn every_failed_statement_is_found() {
        let text = "pg_restore: while PROCESSING TOC:\n\
                    pg_restore: from TOC entry 215; 1259 16386 TABLE orders shop\n\
                    pg_restore: error: could not execute query: ERROR:  type \"mood\" does not exist\n\
                    LINE 2:     m mood\n              ^\n\
                    Command was: CREATE TABLE public.orders (\n    m mood\n);\n\n\n\
                    pg_restore: from TOC entry 3; 2615 2200 SCHEMA public shop\n\
                    pg_restore: error: could not execute query: ERROR:  schema \"public\" already exists\n\
                    Command was: CREATE SCHEMA public;\n\n\n\
                    pg_restore: warning: errors ignored on restore: 2\n";
        let found = failures(text);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].entry, "TABLE orders shop");
        assert!(found[0].error.starts_with("type \"mood\" does not exist LINE 2:"), "{}", found[0].error);
        assert!(found[0].command.contains("m mood"));
        assert!(found[0].note().unwrap().failed);
        assert_eq!(found[1].note(), None);
    }

    #[test]
    fn a_comment_on_somebody_elses_extension_is_nothing_missing() {
        let text = "pg_restore: from TOC entry 3400; 0 0 COMMENT EXTENSION file_fdw \n\
                    pg_restore: error: could not execute query: ERROR:  must be owner of extension file_fdw\n\
                    Command was: COMMENT ON EXTENSION file_fdw IS 'flat files';\n\n\n";
        let note = failures(text)[0].note().unwrap();
        assert!(!note.failed);
        assert_eq!(
            note.text,
            "the comment on the extension file_fdw is the one it had: another role owns it in the target"
        );
    }

    #[test]
    fn a_failure_outside_of_every_entry_is_told_without_one() {
        let text = "pg_restore: error: could not execute query: ERROR:  permission denied to create extension \"hstore\"\n\
                    Command was: CREATE EXTENSION hstore;\n";
        let note = failures(text)[0].note().unwrap();
        assert_eq!(
            note.text,
            "permission denied to create extension \"hstore\" (in: CREATE EXTENSION hstore;)"
        );
    }
}
