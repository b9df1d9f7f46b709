//! What names roles in an archive beside owners and privileges: policies, user mappings, and routines
//! that run as another role.
//!
//! `CREATE POLICY` fails as a whole for one role that the target lacks. Without the policy the other
//! roles would see nothing, or too much where it restricts, so it is made for those that are there.

use std::collections::BTreeSet;

use super::Target;
use super::archive::Failure;
use super::create::listed;
use crate::error::{Kind as ErrorKind, Result};
use crate::source::postgres::session::ident;
use crate::source::postgres::toc::Entry;
use crate::source::sql_name;
use crate::target::Note;

/// Objects that are named of each kind and role.
const NAMED: usize = 10;

/// What a routine's setting must be called to make it run as another role.
const RUNS_AS: &[&str] = &["    SET role TO '", "    SET session_authorization TO '"];

/// Where the settings of a routine end and its body begins.
const BODIES: &[&str] = &["    AS ", "    BEGIN ATOMIC", "    RETURN "];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// With what stands before its roles and behind them.
    Policy {
        head: String,
        tail: String,
    },
    UserMapping,
    Routine,
}

/// One object that names roles.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Naming {
    kind: Kind,
    /// "own_orders on public.orders", "server far", "public.report(integer)"
    object: String,
    roles: Vec<String>,
    statement: String,
}

/// All objects of an archive that name roles, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RoleNames {
    found: Vec<Naming>,
}

impl Naming {
    fn of(entry: &Entry) -> Option<Self> {
        let text = entry.definition.as_str();
        let (kind, object, roles) = match entry.kind.as_str() {
            "POLICY" => policy(text)?,
            "USER MAPPING" => user_mapping(text)?,
            "FUNCTION" | "PROCEDURE" => {
                (Kind::Routine, sql_routine(&entry.namespace, &entry.tag), runs_as(text))
            }
            _ => return None,
        };
        (!roles.is_empty()).then(|| Self { kind, object, roles, statement: statement(text).to_owned() })
    }

    /// Whether one of its roles is not in the target.
    fn lacks_role(&self, roles: &BTreeSet<String>) -> bool {
        self.roles.iter().any(|role| !roles.contains(role))
    }

    /// Whether all that keeps it from being made is that roles are missing.
    fn is_cut(&self, roles: &BTreeSet<String>) -> bool {
        !matches!(self.kind, Kind::Routine) && self.lacks_role(roles)
    }

    /// The statement for the roles that are there, of a policy that has some.
    fn without_missing(&self, roles: &BTreeSet<String>) -> Option<String> {
        let Kind::Policy { head, tail } = &self.kind else { return None };
        // A policy whose text is not known to the letter is left out.
        let is_exact = !self.statement.contains(char::REPLACEMENT_CHARACTER);
        let present: Vec<String> =
            self.roles.iter().filter(|role| roles.contains(*role)).map(|role| ident(role)).collect();
        (is_exact && !present.is_empty()).then(|| format!("{head}{}{tail}", present.join(", ")))
    }
}

impl RoleNames {
    pub(super) fn of(entries: &[Entry]) -> Self {
        Self { found: entries.iter().filter_map(Naming::of).collect() }
    }

    /// Whether something is left out or does not work in this target.
    pub(super) fn are_missing(&self, roles: &BTreeSet<String>) -> bool {
        self.found.iter().any(|naming| naming.lacks_role(roles))
    }

    /// What is left out or made otherwise in this target, by role.
    pub(super) fn notes(&self, roles: &BTreeSet<String>) -> Vec<Note> {
        let named = self.found.iter().flat_map(|naming| &naming.roles);
        let missing: BTreeSet<&String> = named.filter(|role| !roles.contains(*role)).collect();
        missing.into_iter().map(|role| self.note(role, roles)).collect()
    }

    fn note(&self, role: &String, roles: &BTreeSet<String>) -> Note {
        let naming = || self.found.iter().filter(|naming| naming.roles.contains(role));
        let objects = |is_meant: &dyn Fn(&Naming) -> bool| -> Vec<String> {
            naming().filter(|naming| is_meant(naming)).map(|naming| naming.object.clone()).collect()
        };
        let is_policy = |naming: &Naming| matches!(naming.kind, Kind::Policy { .. });
        let is_made = |naming: &Naming| naming.without_missing(roles).is_some();
        let parts = [
            (
                objects(&|naming| is_policy(naming) && is_made(naming)),
                ["policy is made for its other roles only", "policies are made for their other roles only"],
            ),
            (
                objects(&|naming| is_policy(naming) && !is_made(naming)),
                [
                    "policy for it, and for no role that is there, is left out",
                    "policies for it, and for no role that is there, are left out",
                ],
            ),
            (
                objects(&|naming| naming.kind == Kind::UserMapping),
                ["user mapping of it is left out", "user mappings of it are left out"],
            ),
            (
                objects(&|naming| naming.kind == Kind::Routine),
                ["routine that runs as it will fail", "routines that run as it will fail"],
            ),
        ];
        let told: Vec<String> = (parts.iter())
            .filter(|(objects, _)| !objects.is_empty())
            .map(|(objects, [one, more])| {
                let (count, what) = (objects.len(), if objects.len() == 1 { one } else { more });
                format!("{count} {what} ({})", listed(&objects[..count.min(NAMED)], count as u64))
            })
            .collect();
        let is_lost = naming().any(|naming| naming.is_cut(roles) && !is_made(naming));
        Note { failed: is_lost, text: format!("The target has no role {role}: {}.", told.join(", ")) }
    }

    /// Whether a statement failed for a role that the target lacks, which was told.
    pub(super) fn explain(&self, failure: &Failure, roles: &BTreeSet<String>) -> bool {
        let failed = statement(&failure.command);
        self.found.iter().any(|naming| naming.is_cut(roles) && naming.statement == failed)
    }
}

impl Target {
    /// Makes the policies that lack some of their roles for the others.
    pub(super) async fn make_cut_policies(
        &self,
        names: &RoleNames,
        roles: &BTreeSet<String>,
    ) -> Result<Vec<Note>> {
        let cut: Vec<_> = (names.found.iter())
            .filter(|naming| naming.is_cut(roles))
            .filter_map(|naming| Some((naming, naming.without_missing(roles)?)))
            .collect();
        if cut.is_empty() {
            return Ok(Vec::new());
        }
        let session = self.connect().await?;
        let mut notes = Vec::new();
        for (naming, sql) in cut {
            match self.one(&session, "", &sql).await {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Unreachable => return Err(error),
                Err(error) => {
                    notes.push(Note::failed(format!("policy {}: {}", naming.object, error.message())));
                }
            }
        }
        Ok(notes)
    }
}

/// A statement without what ends it.
fn statement(text: &str) -> &str {
    text.trim().trim_end_matches(';').trim_end()
}

/// `report(integer)` with its schema.
fn sql_routine(namespace: &str, tag: &str) -> String {
    match tag.split_once('(') {
        Some((name, arguments)) => format!("{}({arguments}", sql_name(namespace, name)),
        None => sql_name(namespace, tag),
    }
}

/// The name a text begins with, quotes off, and what stands behind it.
pub(super) fn name(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let is_of_word = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '$');
        let end = text.find(|letter| !is_of_word(letter)).unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let mut name = String::new();
    let mut letters = quoted.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        // Two quotes are one of the name, one ends it.
        if letter == '"' && letters.next_if(|(_, next)| *next == '"').is_none() {
            return Some((name, &quoted[at + 1..]));
        }
        name.push(letter);
    }
    None
}

/// From `CREATE POLICY p ON s.t AS RESTRICTIVE FOR SELECT TO a, "b" USING (true);`. One for everybody
/// names no role.
fn policy(text: &str) -> Option<(Kind, String, Vec<String>)> {
    let text = statement(text);
    let (policy, rest) = name(text.strip_prefix("CREATE POLICY ")?)?;
    let (schema, rest) = name(rest.strip_prefix(" ON ")?)?;
    let (table, mut rest) = name(rest.strip_prefix('.')?)?;
    rest = rest.strip_prefix(" AS RESTRICTIVE").unwrap_or(rest);
    if let Some(command) = rest.strip_prefix(" FOR ") {
        (_, rest) = name(command)?;
    }
    rest = rest.strip_prefix(" TO ")?;
    let head = text[..text.len() - rest.len()].to_owned();
    let mut roles = Vec::new();
    loop {
        let (role, behind) = name(rest)?;
        roles.push(role);
        rest = behind;
        match rest.strip_prefix(", ") {
            Some(next) => rest = next,
            None => break,
        }
    }
    let object = format!("{policy} on {}", sql_name(&schema, &table));
    Some((Kind::Policy { head, tail: rest.to_owned() }, object, roles))
}

/// From `CREATE USER MAPPING FOR a SERVER far OPTIONS (..);`
fn user_mapping(text: &str) -> Option<(Kind, String, Vec<String>)> {
    let rest = text.trim_start().strip_prefix("CREATE USER MAPPING FOR ")?;
    let is_everybody = rest.starts_with("public ");
    let (role, rest) = name(rest)?;
    let (server, _) = name(rest.strip_prefix(" SERVER ")?)?;
    Some((Kind::UserMapping, format!("server {server}"), if is_everybody { Vec::new() } else { vec![role] }))
}

/// The roles that a routine's own settings make it run as.
fn runs_as(text: &str) -> Vec<String> {
    let settings = text.lines().take_while(|line| !BODIES.iter().any(|body| line.starts_with(body)));
    let role = |line: &str| {
        let value = RUNS_AS.iter().find_map(|setting| line.strip_prefix(setting))?;
        Some(value.strip_suffix('\'')?.replace("''", "'"))
    };
    settings.filter_map(role).filter(|role| role != "none" && role != "default").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: &str, tag: &str, definition: &str) -> Entry {
        Entry {
            kind: kind.to_owned(),
            tag: tag.to_owned(),
            namespace: "public".to_owned(),
            definition: definition.to_owned(),
            ..Entry::default()
        }
    }

    #[test]
    fn roles_are_found_wherever_pg_dump_writes_them() {
        let roles = |kind, definition| {
            Naming::of(&entry(kind, "f(integer)", definition)).map(|naming| (naming.object, naming.roles))
        };
        let found = |object: &str, roles: &[&str]| {
            Some((object.to_owned(), roles.iter().map(|role| (*role).to_owned()).collect::<Vec<_>>()))
        };
        assert_eq!(
            roles(
                "POLICY",
                "CREATE POLICY \"p TO x\" ON public.\"t a\" AS RESTRICTIVE FOR SELECT TO reporting, \"Odd, \"\"x\" \
                 USING ((v <> ' TO other'::text));\n"
            ),
            found("p TO x on public.\"t a\"", &["reporting", "Odd, \"x"])
        );
        assert_eq!(roles("POLICY", "CREATE POLICY q ON s.t TO clerk;\n"), found("q on s.t", &["clerk"]));
        assert_eq!(roles("POLICY", "CREATE POLICY q ON s.t FOR ALL USING (true);\n"), None);
        assert_eq!(
            roles(
                "USER MAPPING",
                "CREATE USER MAPPING FOR \"public\" SERVER far OPTIONS (\n    \"user\" 'a'\n);\n"
            ),
            found("server far", &["public"])
        );
        assert_eq!(roles("USER MAPPING", "CREATE USER MAPPING FOR public SERVER far;\n"), None);
        assert_eq!(
            roles(
                "FUNCTION",
                "CREATE FUNCTION public.f(integer) RETURNS integer\n    LANGUAGE sql\n    SET role TO 'bo''ss'\n    \
                 AS $$\n    SET role TO 'other'\n$$;\n"
            ),
            found("public.f(integer)", &["bo'ss"])
        );
    }

    #[test]
    fn a_policy_is_cut_to_the_roles_that_are_there() {
        let sql = "CREATE POLICY p ON s.t TO gone, \"He re\", clerk WITH CHECK ((a = 'TO gone'::text));\n";
        let (kind, object, roles) = policy(sql).unwrap();
        let naming = Naming { kind, object, roles, statement: statement(sql).to_owned() };
        let present =
            |roles: &[&str]| roles.iter().map(|role| (*role).to_owned()).collect::<BTreeSet<String>>();
        assert_eq!(
            naming.without_missing(&present(&["He re", "clerk"])).unwrap(),
            "CREATE POLICY p ON s.t TO \"He re\", \"clerk\" WITH CHECK ((a = 'TO gone'::text))"
        );
        assert_eq!(naming.without_missing(&present(&["other"])), None);
        assert!(!naming.is_cut(&present(&["gone", "He re", "clerk"])));
        let names = RoleNames { found: vec![naming] };
        let failed = Failure { command: format!("{sql}\n\n"), ..Failure::default() };
        assert!(names.explain(&failed, &present(&["clerk"])));
        assert!(!names.explain(&failed, &present(&["gone", "He re", "clerk"])));
    }
}
