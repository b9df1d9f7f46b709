//! The definitions in the script of a schema archive, object by object.
//!
//! A script is cut at the comment above each object. A function's body may hold such a comment too:
//! its text is then told under another name, but no difference is lost.

use std::collections::{BTreeMap, HashSet};
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

    /// Whether it is the table with this display name itself.
    pub(super) fn is_table(&self, table: &str) -> bool {
        self.kind == "TABLE" && self.display_name() == table
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
        let gives = self.gives();
        self.text.lines().filter(|line| !gives(line)).collect::<Vec<_>>().join("\n")
    }

    /// The owner, of what has one of its own.
    pub(super) fn owner(&self) -> Option<&str> {
        let gives = self.gives();
        self.text.lines().any(|line| gives(&line)).then(|| self.headed_owner().0)
    }

    /// Whether only their owners differ, or nothing does.
    pub(super) fn equals_but_for_owner(&self, other: &Self) -> bool {
        self.headed_owner().1 == other.headed_owner().1 && self.body() == other.body()
    }

    /// The owner and the tablespace that the heading names.
    fn headed_owner(&self) -> (&str, &str) {
        let owner = self.heading.rsplit_once("; Owner: ").map_or("", |(_, owner)| owner);
        owner.split_once("; Tablespace: ").unwrap_or((owner, ""))
    }

    /// Whether a line is the statement that names the owner.
    fn gives(&self) -> impl Fn(&&str) -> bool + use<> {
        let (owner, _) = self.headed_owner();
        let [plain, quoted] = [owner.to_owned(), format!("\"{}\"", owner.replace('"', "\"\""))]
            .map(|owner| format!(" OWNER TO {owner};"));
        move |line| line.starts_with("ALTER ") && (line.ends_with(&plain) || line.ends_with(&quoted))
    }

    /// Whether two definitions of a table, or of its index or constraint, differ in what the changes of
    /// the table's schema do not name: where and how values are stored, what is gathered of them, what
    /// the rows are sorted by.
    pub(super) fn differs_unnamed(&self, other: &Self) -> bool {
        let columns = [self, other].map(|side| side.columns().collect::<HashSet<&str>>());
        let unnamed = |side: &Self| {
            let is_in_both = |line: &str| match altered_column(line) {
                Some(column) => columns.iter().all(|known| known.contains(column)),
                None => true,
            };
            let body = side.body();
            let lines = outside_parentheses(&body).filter(|line| is_unnamed(line) && is_in_both(line));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        self.headed_owner().1 != other.headed_owner().1 || unnamed(self) != unnamed(other)
    }

    /// The names of a table's columns, as they are written.
    fn columns(&self) -> impl Iterator<Item = &str> {
        let lines = self.text.lines().filter_map(|line| line.strip_prefix("    "));
        lines.filter_map(first_identifier)
    }
}

/// The lines of a definition but for what a table is made of.
fn outside_parentheses(text: &str) -> impl Iterator<Item = &str> {
    let mut is_inside = false;
    text.lines().filter(move |line| {
        if is_inside {
            is_inside = !line.starts_with(')');
            return false;
        }
        is_inside = line.starts_with("CREATE ") && line.ends_with('(');
        true
    })
}

/// Whether a line says what no change of a table's schema does.
fn is_unnamed(line: &str) -> bool {
    let is_of_type = line.starts_with("CREATE ") && line.contains(" OF ");
    let is_altered = line.starts_with("ALTER ")
        && (line.contains(" ALTER COLUMN ") || line.contains(" CLUSTER ON ") || line.contains(" OPTIONS ("));
    is_of_type || is_altered || line.starts_with(ACCESS_METHOD)
}

/// The column that a statement is about, as it is written.
fn altered_column(line: &str) -> Option<&str> {
    if !line.starts_with("ALTER TABLE ") && !line.starts_with("ALTER FOREIGN TABLE ") {
        return None;
    }
    first_identifier(line.split_once(" ALTER COLUMN ")?.1)
}

/// The name that a text begins with, in its quotes.
fn first_identifier(text: &str) -> Option<&str> {
    let end = match text.strip_prefix('"') {
        Some(quoted) => quoted.replace("\"\"", "__").find('"')? + 2,
        None => text.find(' ').unwrap_or(text.len()),
    };
    text.get(..end)
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
