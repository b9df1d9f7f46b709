//! What differs between two schemas beside tables: views, functions, types, privileges and so on.
//!
//! The scripts of both archives are cut at the comment above each object. A function's body may hold
//! such a comment too: its text is then told under another name, but no difference is lost.

use std::collections::BTreeMap;

use super::{CollectionDiff, Status};
use crate::error::Result;
use crate::repo::{Repository, Snapshot};
use crate::restore::schema_archive;
use crate::source::Engine;
use crate::target::postgres::pg_restore;

/// Kinds that a table's own schema changes tell of.
const OF_TABLES: &[&str] = &[
    "TABLE",
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

/// The changes, one line each; `None` when they cannot be told: a snapshot has no schema archive, or
/// is of a system that has no such objects.
pub(super) async fn changes(
    repo: &Repository,
    from: &Snapshot,
    to: &Snapshot,
    collections: &[CollectionDiff],
) -> Result<Option<Vec<String>>> {
    if [from, to].iter().any(|side| side.manifest.source.engine != Engine::Postgres.as_str()) {
        return Ok(None);
    }
    let (Some(old), Some(new)) = (&from.manifest.schema, &to.manifest.schema) else { return Ok(None) };
    if old.text_hash == new.text_hash {
        return Ok(Some(Vec::new()));
    }
    let archives = [schema_archive(repo, from).await?, schema_archive(repo, to).await?];
    let (before, after) =
        match tokio::try_join!(pg_restore::read(&archives[0]), pg_restore::read(&archives[1])) {
            Ok(((_, before), (_, after))) => (before, after),
            Err(error) => return Ok(Some(vec![format!("they differ, but cannot be named: {error}")])),
        };
    let told: Vec<&str> =
        collections.iter().filter(|found| is_told(found)).map(|f| f.name.as_str()).collect();
    let mut lines = compare(&objects(&before), &objects(&after), &told);
    if old.tool != new.tool && !lines.is_empty() {
        lines.push(format!(
            "written by {} and {}: a definition may only be worded differently",
            old.tool, new.tool
        ));
    }
    Ok(Some(lines))
}

/// Whether the summary says of a table that its schema is another.
fn is_told(collection: &CollectionDiff) -> bool {
    matches!(collection.status, Status::Added | Status::Removed) || !collection.schema_changes.is_empty()
}

/// An object's kind, schema and name as the script has them.
type Name<'a> = (&'a str, &'a str, &'a str);

/// The statements of each object, by its name.
fn objects(script: &str) -> BTreeMap<Name<'_>, String> {
    let mut objects: BTreeMap<Name<'_>, String> = BTreeMap::new();
    let (mut current, mut access_method) = (None, "");
    for line in script.lines() {
        if let Some(name) = heading(line) {
            let text = objects.entry(name).or_default();
            if name.0 == "TABLE" || name.0 == "MATERIALIZED VIEW" {
                text.push_str(access_method);
            }
            // The owner and the tablespace are in it.
            text.push_str(line);
            current = Some(name);
        } else if line.starts_with("SET default_table_access_method") {
            // Stands before the object it is meant for, and holds for those after it.
            access_method = line;
        } else if !is_noise(line)
            && let Some(text) = current.and_then(|name| objects.get_mut(&name))
        {
            text.push('\n');
            text.push_str(line);
        }
    }
    objects
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
    Some((kind, schema, name))
}

fn compare(
    before: &BTreeMap<Name<'_>, String>,
    after: &BTreeMap<Name<'_>, String>,
    told: &[&str],
) -> Vec<String> {
    let names: std::collections::BTreeSet<&Name<'_>> = before.keys().chain(after.keys()).collect();
    let line = |name: &&Name<'_>| {
        let (old, new) = (before.get(*name), after.get(*name));
        let what = match (old, new) {
            (Some(old), Some(new)) if old == new => return None,
            (Some(_), Some(_)) => "changed",
            (Some(_), None) => "removed",
            (None, _) => "added",
        };
        let is_told = told.iter().any(|table| belongs(name, new.or(old).map_or("", String::as_str), table));
        (!is_told).then(|| format!("{} {what}", shown(name)))
    };
    names.iter().filter_map(line).collect()
}

/// Whether an object is a part of the table with this display name, and told of there.
fn belongs((kind, schema, name): &Name<'_>, text: &str, table: &str) -> bool {
    if !OF_TABLES.contains(kind) {
        return false;
    }
    let is_named = (name.match_indices(' ').map(|(at, _)| &name[..at]).chain([*name]))
        .any(|first| Engine::Postgres.display_name(schema, first) == table);
    is_named || text.contains(&format!(" ON {table} ")) || text.contains(&format!(" ON ONLY {table} "))
}

fn shown((kind, schema, name): &Name<'_>) -> String {
    let kind = match *kind {
        "ACL" => "privileges on".to_owned(),
        "DEFAULT ACL" => "default privileges:".to_owned(),
        "COMMENT" => "comment on".to_owned(),
        kind => kind.to_lowercase(),
    };
    if *schema == "-" { format!("{kind} {name}") } else { format!("{kind} {name} in schema {schema}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "SET client_encoding = 'UTF8';\n\n--\n-- Name: v; Type: VIEW; Schema: public; Owner: o\n--\n\n\
        CREATE VIEW public.v AS SELECT 1;\n\n\nSET default_tablespace = '';\n\n\
        SET default_table_access_method = heap;\n\n--\n\
        -- Name: t; Type: TABLE; Schema: public; Owner: o\n--\n\nCREATE TABLE public.t (a int);\n\n";

    #[test]
    fn objects_are_told_by_name_and_tables_only_once() {
        let new = OLD.replace("SELECT 1", "SELECT 2").replace("a int", "a bigint")
            + "--\n-- Name: SCHEMA audit; Type: ACL; Schema: -; Owner: o\n--\n\nGRANT USAGE ON SCHEMA audit TO r;\n";
        let lines = |told: &[&str]| compare(&objects(OLD), &objects(&new), told);
        assert_eq!(
            lines(&["public.t"]),
            ["privileges on SCHEMA audit added", "view v in schema public changed"]
        );
        assert_eq!(lines(&[])[1], "table t in schema public changed");
        let gone = compare(&objects(&new), &objects(OLD), &["public.t"]);
        assert_eq!(gone[0], "privileges on SCHEMA audit removed");
    }

    #[test]
    fn another_order_is_no_difference() {
        let (header, objects_of_old) = OLD.split_once("\n\n--\n").unwrap();
        let (view, table) = objects_of_old.split_once("SET default_tablespace").unwrap();
        let other = format!("{header}\n\nSET default_tablespace{table}--\n{view}");
        assert_eq!(compare(&objects(OLD), &objects(&other), &[]), Vec::<String>::new());
    }
}
