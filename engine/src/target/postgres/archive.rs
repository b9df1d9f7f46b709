//! The schema archive: what it asks of the target, and restoring its two sections.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Output;

use repo_format::manifest::ViewName;

use super::inspect::{TargetState, inspect};
use super::pg_restore::{self, Omit, Section};
use super::privileges::{Privileges, Stage};
use super::role_names::{self, RoleNames};
use super::{Standing, Target};
use crate::error::{Error, Kind, Result};
use crate::source::postgres::archive::Tool;
use crate::source::postgres::toc;
use crate::target::Note;

const FAILED: &str = "pg_restore: error: could not execute query: ";
const ENTRY: &str = "pg_restore: from TOC entry ";
const IGNORED: &str = "pg_restore: warning: errors ignored on restore: ";
const COMMAND: &str = "Command was: ";

/// What an archive asks of its target beside tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// Owners and privileges; none when the archive's format or encoding is not known.
    pub(super) privileges: Option<Privileges>,
    /// What else names roles.
    pub(super) role_names: RoleNames,
    /// Foreign data wrappers that servers are made of.
    pub(super) wrappers: BTreeSet<String>,
    /// Foreign data wrappers that are made.
    pub(super) made_wrappers: BTreeSet<String>,
    /// What is left out on purpose, by kind.
    pub(super) left_out: BTreeSet<&'static str>,
}

impl Needs {
    /// Reads `pg_restore -f -`: its comment above each statement. The text only decides what is said
    /// and left out; it is never run.
    fn of(sql: &str) -> Self {
        let mut needs = Self::default();
        for line in sql.lines() {
            if line.starts_with("-- Name: ")
                && let Some((head, owner)) = line.rsplit_once("; Owner: ")
            {
                if owner.contains("; Tablespace: ") {
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
            }
        }
        needs
    }

    /// What `pg_restore` is not to do.
    pub(super) fn omit(&self, state: &TargetState) -> Omit {
        Omit {
            owners: self.privileges.as_ref().is_some_and(|found| found.would_lock_out(state)),
            privileges: self.privileges.is_some(),
        }
    }

    /// What leaving things out means, in words.
    pub(super) fn notes(&self, state: &TargetState) -> Vec<Note> {
        let mut notes = match &self.privileges {
            Some(privileges) => privileges.left_out(state),
            None => vec![Note::remark(
                "Which roles the archive names is not known here. Where one privilege on an object cannot be \
                 restored, none on that object is.",
            )],
        };
        notes.extend(self.role_names.notes(&state.roles));
        notes.extend(self.left_out.iter().map(|kind| Note::remark(format!("{kind} are not restored"))));
        notes
    }
}

const WRAPPER: &str = " FOREIGN DATA WRAPPER ";

/// The name a text begins with, quotes off.
fn first_name(text: &str) -> Option<String> {
    role_names::name(text).map(|(name, _)| name)
}

/// The tool that reads `archive`, and what the archive needs.
pub(super) async fn read(archive: &[u8]) -> Result<(Tool, Needs)> {
    let (tool, sql) = pg_restore::read(archive).await?;
    let entries = toc::read(archive);
    let privileges = entries.as_deref().and_then(Privileges::of);
    let role_names = RoleNames::of(entries.as_deref().unwrap_or_default());
    Ok((tool, Needs { privileges, role_names, ..Needs::of(&sql) }))
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
        notes.extend(needs.notes(&state));
        let Standing { state, .. } = self.standing.get_or_init(|| Standing { omit, state });
        notes.extend(self.grant(&needs.privileges.unwrap_or_default(), Stage::Given).await?);
        let output = pg_restore::restore(&tool, &self.url, archive, Section::PreData, omit).await?;
        let mut outcome = outcome(&output, state)?;
        outcome.failures.retain(|failure| !needs.role_names.explain(failure, &state.roles));
        notes.extend(outcome.failures.iter().filter_map(Failure::note));
        notes.extend(outcome.notes);
        self.take_checks().await?;
        Ok(notes)
    }

    /// Indexes, constraints, foreign keys, triggers and rules, then materialized views are filled,
    /// but for those that hold no data. CHECK constraints come last: the functions in them may need
    /// the indexes. Privileges come first, since an index or a view is built with its owner's.
    pub async fn post_data(&self, archive: &[u8], unfilled: &[ViewName]) -> Result<Vec<Note>> {
        let (tool, needs) = read(archive).await?;
        let Some(Standing { omit, state }) = self.standing.get() else {
            return Err(Error::new(Kind::Internal, "the end of a schema comes before its beginning"));
        };
        let privileges = needs.privileges.unwrap_or_default();
        let mut notes = std::mem::take(&mut *self.load_notes.lock().await);
        notes.extend(self.grant(&privileges, Stage::PreData).await?);
        let output = pg_restore::restore(&tool, &self.url, archive, Section::PostData, *omit).await?;
        let mut outcome = outcome(&output, state)?;
        outcome.failures.retain(|failure| !needs.role_names.explain(failure, &state.roles));
        notes.extend(outcome.notes);
        notes.extend(self.make_cut_policies(&needs.role_names, &state.roles).await?);
        notes.extend(self.complete_partitions().await?);
        notes.extend(self.try_again(&outcome.failures).await?);
        notes.extend(self.grant(&privileges, Stage::PostData).await?);
        notes.extend(self.put_checks_back().await?);
        notes.extend(self.refresh(unfilled).await?);
        self.lift_row_security().await?;
        Ok(notes)
    }
}

/// What a run of `pg_restore` did not do.
struct Outcome {
    /// Statements that failed, but for those that give an object to its owner.
    failures: Vec<Failure>,
    notes: Vec<Note>,
}

/// An error that a run of `pg_restore` cannot be excused for by naming a statement fails the restore.
fn outcome(output: &Output, state: &TargetState) -> Result<Outcome> {
    let text = String::from_utf8_lossy(&output.stderr);
    let failures = failures(&text);
    let ignored = text.lines().find_map(|line| line.strip_prefix(IGNORED)?.trim().parse::<usize>().ok());
    if !output.status.success() && ignored.is_none() {
        let why =
            text.lines().last().unwrap_or_default().trim_start_matches("pg_restore: error: ").to_owned();
        return Err(Error::new(Kind::Refused, format!("pg_restore failed ({}): {why}", output.status)));
    }
    let named = failures.len();
    let (of_owners, failures): (Vec<_>, Vec<_>) =
        failures.into_iter().partition(|failure| failure.refused_owner().is_some());
    let mut notes = not_given(&of_owners, state);
    if ignored.unwrap_or(0) != named {
        let counted = format!("pg_restore ignored {} errors and named {named}", ignored.unwrap_or(0));
        notes.push(Note::failed(format!("{counted}: {}", text.trim())));
    }
    Ok(Outcome { failures, notes })
}

/// Objects that stay the restoring user's for a reason that was not known before, by role.
fn not_given(failures: &[Failure], state: &TargetState) -> Vec<Note> {
    let mut by_role: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for failure in failures {
        let role = failure.refused_owner().unwrap_or_default();
        if state.can_give_to(&role) {
            by_role.entry(role).or_default().push(&failure.error);
        }
    }
    let note = |(role, errors): (String, Vec<&str>)| {
        let (user, count) = (&state.user, errors.len());
        Note::remark(format!("{user} keeps what belonged to {role}, {count} in number: {}", errors[0]))
    };
    by_role.into_iter().map(note).collect()
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Failure {
    /// The archive's entry: "TABLE orders shop". Empty where `pg_restore` does not say, as since 15.
    pub(super) entry: String,
    pub(super) error: String,
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
    /// The role that an object could not be given to, if that is what failed.
    fn refused_owner(&self) -> Option<String> {
        let (_, role) = self.command.trim().strip_prefix("ALTER ")?.rsplit_once(" OWNER TO ")?;
        first_name(role)
    }

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
    fn what_is_left_out_and_wrappers_are_read_from_the_script() {
        let sql = "-- Name: orders; Type: TABLE; Schema: public; Owner: shop owner\n\
                   -- Name: big; Type: TABLE; Schema: public; Owner: dba; Tablespace: ssd\n\
                   -- Name: public; Type: SCHEMA; Schema: -; Owner: -\n\
                   CREATE SERVER far TYPE 'a' FOREIGN DATA WRAPPER \"Odd \"\"one\" OPTIONS (\n\
                   CREATE SERVER near FOREIGN DATA WRAPPER postgres_fdw;\n\
                   CREATE FOREIGN DATA WRAPPER own;\n";
        let needs = Needs::of(sql);
        let set = |roles: &[&str]| roles.iter().map(|role| (*role).to_owned()).collect::<BTreeSet<_>>();
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
    fn an_object_that_cannot_be_given_away_is_told_by_its_role() {
        let text = "pg_restore: from TOC entry 215; 1259 16386 TABLE orders Shop\n\
                    pg_restore: error: could not execute query: ERROR:  permission denied for schema public\n\
                    Command was: ALTER TABLE public.\" OWNER TO x\" OWNER TO \"Shop\";\n\n\n";
        let found = failures(text);
        assert_eq!(found[0].refused_owner().as_deref(), Some("Shop"));
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
