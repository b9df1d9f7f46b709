//! What differs between the two sides beside tables: views, functions, types, privileges and so on,
//! and where sequences stand.

use std::collections::{BTreeMap, BTreeSet};

use repo_format::manifest::SequenceState;

use super::definitions::{self, Definition, Name};
use super::{CollectionDiff, Side, Status};
use crate::error::Result;
use crate::repo::{Repository, Snapshot};
use crate::restore::schema_archive;
use crate::source::Engine;
use crate::target::postgres::pg_restore;

/// So many sequences are named: in a database that is in use most of them move.
const SEQUENCES_NAMED: usize = 100;

/// The changes, one line each; `None` when they cannot be told: a snapshot has no schema archive, or
/// is of a system that has no such objects.
pub(super) async fn changes(
    repo: &Repository,
    from: &Snapshot,
    to: Side<'_>,
    collections: &[CollectionDiff],
) -> Result<Option<Vec<String>>> {
    if [from, to.snapshot].iter().any(|side| side.manifest.source.engine != Engine::Postgres.as_str()) {
        return Ok(None);
    }
    let moved = moved_sequences(&from.manifest.sequences, &to.snapshot.manifest.sequences);
    let Some(mut lines) = definition_changes(repo, from, to, collections).await? else {
        let unknown = "whether other objects differ is not known: a side has no schema archive";
        let told = (!moved.is_empty()).then(|| moved.into_iter().chain([unknown.to_owned()]).collect());
        return Ok(told);
    };
    lines.extend(moved);
    Ok(Some(lines))
}

async fn definition_changes(
    repo: &Repository,
    from: &Snapshot,
    to: Side<'_>,
    collections: &[CollectionDiff],
) -> Result<Option<Vec<String>>> {
    let (Some(old), Some(new)) = (&from.manifest.schema, &to.snapshot.manifest.schema) else {
        return Ok(None);
    };
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
    let mut lines = compare(&definitions::read(&before), &definitions::read(&after), &told);
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

fn compare(
    before: &BTreeMap<Name<'_>, Definition<'_>>,
    after: &BTreeMap<Name<'_>, Definition<'_>>,
    told: &[&str],
) -> Vec<String> {
    let names: BTreeSet<&Name<'_>> = before.keys().chain(after.keys()).collect();
    let line = |name: &&Name<'_>| {
        let (old, new) = (before.get(*name), after.get(*name));
        let what = match (old, new) {
            (Some(old), Some(new)) if old == new => return None,
            (Some(_), Some(_)) => "changed",
            (Some(_), None) => "removed",
            (None, _) => "added",
        };
        let text = new.or(old).map_or("", |found| found.text.as_str());
        let is_told = told.iter().any(|table| name.belongs(text, table));
        (!is_told).then(|| format!("{name} {what}"))
    };
    names.iter().filter_map(line).collect()
}

/// Sequences in both that stand elsewhere. Those in one only are told of as objects.
fn moved_sequences(old: &[SequenceState], new: &[SequenceState]) -> Vec<String> {
    let before: BTreeMap<_, _> = old.iter().map(|state| ((&state.namespace, &state.name), state)).collect();
    let moved = |now: &SequenceState| {
        let was = before.get(&(&now.namespace, &now.name))?;
        let name = Engine::Postgres.display_name(&now.namespace, &now.name);
        if was.last_value == now.last_value && was.is_called != now.is_called {
            let value = now.last_value;
            return Some(match now.is_called {
                true => format!("sequence {name} has given {value}, which it was yet to give"),
                false => format!("sequence {name} is yet to give {value}, which it had given"),
            });
        }
        let (was, is) = (stands(was), stands(now));
        (was != is).then(|| format!("sequence {name} stands {is}, where it stood {was}"))
    };
    let mut lines: Vec<String> = new.iter().filter_map(moved).collect();
    let more = lines.len().saturating_sub(SEQUENCES_NAMED);
    if more > 0 {
        lines.truncate(SEQUENCES_NAMED);
        lines.push(format!("{more} more sequences stand elsewhere"));
    }
    lines
}

/// Where a sequence stands: "at 5" after it gave 5, "before 5" when 5 is the first it will give.
pub(crate) fn stands(state: &SequenceState) -> String {
    format!("{} {}", if state.is_called { "at" } else { "before" }, state.last_value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "SET client_encoding = 'UTF8';\n\n--\n-- Name: v; Type: VIEW; Schema: public; Owner: o\n--\n\n\
        CREATE VIEW public.v AS SELECT 1;\n\n\nSET default_tablespace = '';\n\n\
        SET default_table_access_method = heap;\n\n--\n\
        -- Name: t; Type: TABLE; Schema: public; Owner: o\n--\n\nCREATE TABLE public.t (a int);\n\n";

    fn lines(old: &str, new: &str, told: &[&str]) -> Vec<String> {
        compare(&definitions::read(old), &definitions::read(new), told)
    }

    #[test]
    fn objects_are_told_by_name_and_tables_only_once() {
        let new = OLD.replace("SELECT 1", "SELECT 2").replace("a int", "a bigint")
            + "--\n-- Name: SCHEMA audit; Type: ACL; Schema: -; Owner: o\n--\n\nGRANT USAGE ON SCHEMA audit TO r;\n";
        assert_eq!(
            lines(OLD, &new, &["public.t"]),
            ["privileges on SCHEMA audit added", "view v in schema public changed"]
        );
        assert_eq!(lines(OLD, &new, &[])[1], "table t in schema public changed");
        assert_eq!(lines(&new, OLD, &["public.t"])[0], "privileges on SCHEMA audit removed");
        let given = OLD.replace(
            "Schema: public; Owner: o\n--\n\nCREATE VIEW",
            "Schema: public; Owner: p\n--\n\nCREATE VIEW",
        );
        assert_eq!(lines(OLD, &given, &[]), ["view v in schema public changed"], "another owner");
    }

    #[test]
    fn what_is_named_with_its_kind_is_not_told_it_twice() {
        let named = |kind: &str, name: &str| {
            format!("{OLD}--\n-- Name: {name}; Type: {kind}; Schema: -; Owner: o\n--\n\nCREATE;\n")
        };
        let told = |kind, name| lines(OLD, &named(kind, name), &[]);
        assert_eq!(told("USER MAPPING", "USER MAPPING app SERVER s"), ["user mapping app SERVER s added"]);
        assert_eq!(told("CAST", "CAST (a AS b)"), ["cast (a AS b) added"]);
        assert_eq!(told("SECURITY LABEL", "TABLE t"), ["security label on TABLE t added"]);
    }

    #[test]
    fn another_order_is_no_difference() {
        let (header, objects_of_old) = OLD.split_once("\n\n--\n").unwrap();
        let (view, table) = objects_of_old.split_once("SET default_tablespace").unwrap();
        let other = format!("{header}\n\nSET default_tablespace{table}--\n{view}");
        assert_eq!(lines(OLD, &other, &[]), Vec::<String>::new());
    }

    #[test]
    fn a_partitioned_table_has_no_access_method_of_another() {
        let root = "--\n-- Name: p; Type: TABLE; Schema: public; Owner: o\n--\n\nCREATE TABLE public.p (\n    a int\n)\n\
                    PARTITION BY LIST (a);\n\n\n";
        let (header, objects_of_old) = OLD.split_once("\n\n--\n").unwrap();
        let before = |table: &str| format!("{header}\n\n{table}--\n{objects_of_old}");
        assert_eq!(lines(&format!("{OLD}{root}"), &before(root), &[]), Vec::<String>::new());
        let plain = &root.replace("\nPARTITION BY LIST (a)", "");
        assert_eq!(lines(&format!("{OLD}{plain}"), &before(plain), &[]).len(), 1, "unlike one with rows");
    }

    #[test]
    fn sequences_that_moved_are_told_from_those_that_did_not() {
        let state = |name: &str, last_value, is_called| SequenceState {
            namespace: "public".to_owned(),
            name: name.to_owned(),
            last_value,
            is_called,
        };
        let old = [state("a", 1, false), state("b", 7, true), state("d", 1, false), state("gone", 1, true)];
        let new = [state("a", 1, true), state("b", 7, true), state("c", 3, true), state("d", 5, true)];
        let told = [
            "sequence public.a has given 1, which it was yet to give",
            "sequence public.d stands at 5, where it stood before 1",
        ];
        assert_eq!(moved_sequences(&old, &new), told);
        assert_eq!(
            moved_sequences(&new[..1], &old[..1]),
            ["sequence public.a is yet to give 1, which it had given"]
        );
        let many = |by: i64| (0..150i64).map(|n| state(&format!("s{n}"), n + by, true)).collect::<Vec<_>>();
        let lines = moved_sequences(&many(0), &many(1));
        assert_eq!((lines.len(), lines[100].as_str()), (101, "50 more sequences stand elsewhere"));
    }
}
