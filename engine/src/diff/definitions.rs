//! The definitions in the script of a schema archive, object by object.
//!
//! A script is cut at the comment above each object. A function's body may hold such a comment too:
//! its text is then told under another name, but no difference is lost.

use std::collections::BTreeMap;
use std::fmt;

use crate::source::Engine;

/// Kinds that a table's own schema changes tell of.
const OF_TABLES: &[&str] = &[
    "TABLE",
    "TABLE ATTACH",
    "CONSTRAINT",
    "FK CONSTRAINT",
    "CHECK CONSTRAINT",
    "INDEX",
    "DEFAULT",
    "TRIGGER",
    "POLICY",
    "ROW SECURITY",
    "RULE",
];

/// An object's kind, schema and name as the script has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name<'a> {
    pub(crate) kind: &'a str,
    schema: &'a str,
    name: &'a str,
}

impl Name<'_> {
    /// Whether it is what a database has before anything is restored into it, by whoever made the
    /// database or its extensions: a restore may not be allowed to make it as it was in the source.
    pub(crate) fn is_given(&self) -> bool {
        match self.kind {
            "SCHEMA" => self.name == "public",
            "COMMENT" => self.name.starts_with("EXTENSION "),
            _ => false,
        }
    }

    /// Its name as outsiders use it.
    pub(crate) fn display_name(&self) -> String {
        Engine::Postgres.display_name(self.schema, self.name)
    }

    /// Whether it is the sequence with this display name, or what is said of it.
    pub(crate) fn is_sequence(&self, sequence: &str) -> bool {
        self.kind.starts_with("SEQUENCE") && self.display_name() == sequence
    }

    /// Whether an object with this text is a part of the table with this display name, and told of there.
    pub(crate) fn belongs(&self, text: &str, table: &str) -> bool {
        if !OF_TABLES.contains(&self.kind) {
            return false;
        }
        let is_named = (self.name.match_indices(' ').map(|(at, _)| &self.name[..at]).chain([self.name]))
            .any(|first| Engine::Postgres.display_name(self.schema, first) == table);
        is_named || text.contains(&format!(" ON {table} ")) || text.contains(&format!(" ON ONLY {table} "))
    }

    /// Whether it makes a sequence a column's of this table, which it cannot do without the table.
    pub(crate) fn is_owned(&self, text: &str, table: &str) -> bool {
        self.kind == "SEQUENCE OWNED BY" && text.contains(&format!(" OWNED BY {table}."))
    }

    /// Whether it puts `index`, or a constraint's, into the index of a partitioned table.
    pub(crate) fn attaches(&self, index: &Name<'_>) -> bool {
        if self.kind != "INDEX ATTACH" || index.schema != self.schema {
            return false;
        }
        match index.kind {
            "INDEX" => index.name == self.name,
            "CONSTRAINT" => index.name.strip_suffix(self.name).is_some_and(|table| table.ends_with(' ')),
            _ => false,
        }
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, schema, name } = self;
        let kind = *kind;
        match kind {
            "ACL" => write!(f, "privileges on {name}"),
            "DEFAULT ACL" => write!(f, "default privileges: {name}"),
            "COMMENT" => write!(f, "comment on {name}"),
            "SECURITY LABEL" => write!(f, "security label on {name}"),
            // Named with their kind.
            "CAST" | "TRANSFORM" | "USER MAPPING" => {
                let rest = name.strip_prefix(kind).unwrap_or(name).trim_start();
                write!(f, "{} {rest}", kind.to_lowercase())
            }
            kind => write!(f, "{} {name}", kind.to_lowercase()),
        }?;
        if *schema == "-" { Ok(()) } else { write!(f, " in schema {schema}") }
    }
}

/// The statements that make one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Definition<'a> {
    /// The comment above them: the owner and the tablespace are in it.
    heading: &'a str,
    pub(crate) text: String,
}

impl Definition<'_> {
    /// A partitioned table has no rows and no access method: the one that stands before it is that of
    /// whichever table comes before, and another order of tables makes another of it.
    fn forget_foreign_access_method(&mut self) {
        if self.text.starts_with(ACCESS_METHOD) && self.text.contains("\nPARTITION BY ") {
            self.text.drain(..self.text.find('\n').unwrap_or_default());
        }
    }

    /// The statements but for the one that names the owner.
    pub(crate) fn body(&self) -> String {
        let owner = self.heading.rsplit_once("; Owner: ").map_or("", |(_, owner)| owner);
        let owner = owner.split_once("; Tablespace: ").map_or(owner, |(owner, _)| owner);
        let [plain, quoted] = [owner.to_owned(), format!("\"{}\"", owner.replace('"', "\"\""))]
            .map(|owner| format!(" OWNER TO {owner};"));
        let gives =
            |line: &&str| line.starts_with("ALTER ") && (line.ends_with(&plain) || line.ends_with(&quoted));
        self.text.lines().filter(|line| !gives(line)).collect::<Vec<_>>().join("\n")
    }
}

const ACCESS_METHOD: &str = "SET default_table_access_method";

/// The definitions in a script, by name.
pub(crate) fn read(script: &str) -> BTreeMap<Name<'_>, Definition<'_>> {
    let mut found: BTreeMap<Name<'_>, Definition<'_>> = BTreeMap::new();
    let (mut current, mut access_method) = (None, "");
    for line in script.lines() {
        if let Some(name) = heading(line) {
            let definition = found.entry(name).or_default();
            if name.kind == "TABLE" || name.kind == "MATERIALIZED VIEW" {
                definition.text.push_str(access_method);
            }
            if definition.heading.is_empty() {
                definition.heading = line;
            } else {
                definition.text.push_str(line);
            }
            current = Some(name);
        } else if line.starts_with(ACCESS_METHOD) {
            // Stands before the object it is meant for, and holds for those after it.
            access_method = line;
        } else if !is_noise(line)
            && let Some(definition) = current.and_then(|name| found.get_mut(&name))
        {
            definition.text.push('\n');
            definition.text.push_str(line);
        }
    }
    for definition in found.values_mut() {
        definition.forget_foreign_access_method();
    }
    found
}

/// What stands between objects and tells nothing of them.
fn is_noise(line: &str) -> bool {
    line.is_empty()
        || line == "--"
        || line == "-- PostgreSQL database dump complete"
        || line.starts_with("SET default_tablespace = ")
        || line.starts_with("\\restrict ")
        || line.starts_with("\\unrestrict ")
}

/// From "-- Name: orders; Type: TABLE; Schema: public; Owner: shop".
fn heading(line: &str) -> Option<Name<'_>> {
    let (name, rest) = line.strip_prefix("-- Name: ")?.split_once("; Type: ")?;
    let (kind, rest) = rest.split_once("; Schema: ")?;
    let (schema, _) = rest.split_once("; Owner: ")?;
    Some(Name { kind, schema, name })
}
