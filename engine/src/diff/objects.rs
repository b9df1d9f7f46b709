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
/// is of a system that has no such objects. What only a definition tells of a table is added to the
/// changes of its schema.
pub(super) async fn changes(
    repo: &Repository,
    from: &Snapshot,
    to: Side<'_>,
    collections: &mut [CollectionDiff],
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
    collections: &mut [CollectionDiff],
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
    let (before, after) = (definitions::read(&before), definitions::read(&after));
    let is_alike = old.tool == new.tool;
    let mut is_told_more = false;
    for collection in collections.iter_mut() {
        is_told_more |= add_unnamed(collection, &before, &after, is_alike);
    }
    let told: Vec<&str> =
        collections.iter().filter(|found| is_told(found)).map(|f| f.name.as_str()).collect();
    let mut lines = compare(&before, &after, &told);
    if !is_alike && (is_told_more || !lines.is_empty()) {
        lines.push(format!(
            "written by {} and {}: a definition may only be worded differently",
            old.tool, new.tool
        ));
    }
    Ok(Some(lines))
}

type Definitions<'a> = BTreeMap<Name<'a>, Definition<'a>>;

/// Adds to a table's changes what only its definition tells: another owner, and whatever else differs in
/// it and is not named; that may be the wording alone, where both are not written alike, and says nothing of
/// the table then. Returns whether there was any.
fn add_unnamed(
    collection: &mut CollectionDiff,
    before: &Definitions<'_>,
    after: &Definitions<'_>,
    is_alike: bool,
) -> bool {
    if matches!(collection.status, Status::Added | Status::Removed) {
        return false;
    }
    let (Some(old), Some(new)) = (of_table(before, &collection.name), of_table(after, &collection.name))
    else {
        return false;
    };
    let has_more = is_alike
        && match collection.schema_changes.is_empty() {
            true => !old.equals_but_for_owner(new),
            false => old.differs_unnamed(new),
        };
    let more = has_more.then(|| "other properties of the table changed".to_owned());
    let told: Vec<String> =
        owners(old, new).map(|of| format!("owner: {of}")).into_iter().chain(more).collect();
    let is_any = !told.is_empty();
    collection.schema_changes.extend(told);
    if is_any {
        collection.status = Status::Changed;
    }
    is_any
}

fn of_table<'a, 'n>(side: &'a Definitions<'n>, table: &str) -> Option<&'a Definition<'n>> {
    side.iter().find(|(name, _)| name.is_table(table)).map(|(_, found)| found)
}

/// "a → b" for what belongs to somebody else than it did.
fn owners(old: &Definition<'_>, new: &Definition<'_>) -> Option<String> {
    let (before, now) = (old.owner()?, new.owner()?);
    (before != now).then(|| format!("{before} → {now}"))
}

/// Whether the summary says of a table that its schema is another.
fn is_told(collection: &CollectionDiff) -> bool {
    matches!(collection.status, Status::Added | Status::Removed) || !collection.schema_changes.is_empty()
}

fn compare(before: &Definitions<'_>, after: &Definitions<'_>, told: &[&str]) -> Vec<String> {
    let names: BTreeSet<&Name<'_>> = before.keys().chain(after.keys()).collect();
    let mut lines = Vec::new();
    for name in names {
        let (old, new) = (before.get(name), after.get(name));
        let text = new.or(old).map_or("", |found| found.text.as_str());
        let is_told = told.iter().any(|table| name.belongs(text, table));
        let (what, owners) = match (old, new) {
            (Some(old), Some(new)) if is_told => {
                let has_more = name.kind != "TABLE" && old.differs_unnamed(new);
                (has_more.then_some("changed"), None)
            }
            (Some(old), Some(new)) => {
                ((!old.equals_but_for_owner(new)).then_some("changed"), owners(old, new))
            }
            _ if is_told => (None, None),
            (Some(_), None) => (Some("removed"), None),
            (None, _) => (Some("added"), None),
        };
        lines.extend(what.map(|what| format!("{name} {what}")));
        lines.extend(owners.map(|of| format!("{name}: owner {of}")));
    }
    lines
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
    }

    #[test]
    fn another_owner_is_told_as_one() {
        let of = |owner: &str, what: &str| {
            let heading = format!("-- Name: v; Type: VIEW; Schema: public; Owner: {owner}\n--\n\n");
            format!(
                "{heading}CREATE VIEW public.v AS SELECT {what};\n\nALTER VIEW public.v OWNER TO \"{owner}\";\n"
            )
        };
        let told = "view v in schema public: owner a → b c";
        assert_eq!(lines(&of("a", "1"), &of("b c", "1"), &[]), [told]);
        assert_eq!(lines(&of("a", "1"), &of("b c", "2"), &[]), ["view v in schema public changed", told]);
        // What has no owner of its own is headed with that of its table.
        let comment = |owner: &str| {
            of("a", "1") + &format!("-- Name: TABLE t; Type: COMMENT; Schema: public; Owner: {owner}\n")
        };
        assert_eq!(lines(&comment("a"), &comment("b"), &[]), Vec::<String>::new());
    }

    #[test]
    fn what_no_change_of_a_schema_names_is_not_hidden_behind_it() {
        let table = |owner: &str, columns: &str, more: &str| {
            format!(
                "-- Name: t; Type: TABLE; Schema: public; Owner: {owner}\n--\n\nCREATE TABLE public.t (\n{columns}\n)\n\
                 WITH (fillfactor='50');\n{more}\n\nALTER TABLE public.t OWNER TO {owner};\n"
            )
        };
        let changes = |old: &str, new: &str, known: &[&str]| {
            let known: Vec<String> = known.iter().map(|line| (*line).to_owned()).collect();
            let mut found = CollectionDiff {
                name: "public.t".to_owned(),
                status: if known.is_empty() { Status::Unchanged } else { Status::Changed },
                records: super::super::Counts::default(),
                schema_changes: known.clone(),
                rekeyed: None,
            };
            let is_more = add_unnamed(&mut found, &definitions::read(old), &definitions::read(new), true);
            assert_eq!(is_more, found.schema_changes != known);
            assert!(!is_more || found.status == Status::Changed);
            found.schema_changes.split_off(known.len())
        };
        let old = table("a", "    id integer,\n    \"b \"\"c\" text", "");
        let other = "other properties of the table changed";
        let more = table(
            "a",
            "    id bigint,\n    \"b \"\"c\" text",
            "ALTER TABLE ONLY public.t ALTER COLUMN id SET STATISTICS 7;",
        );
        assert_eq!(changes(&old, &old, &[]), Vec::<String>::new());
        assert_eq!(changes(&old, &more, &["column id: type integer → bigint"]), [other]);
        assert_eq!(changes(&old, &more, &[]), [other]);
        let quoted = table(
            "b",
            "    \"b \"\"c\" text",
            "ALTER TABLE ONLY public.t ALTER COLUMN \"b \"\"c\" SET STORAGE EXTERNAL;",
        );
        assert_eq!(changes(&old, &quoted, &["column id removed"]), ["owner: a → b", other]);
        // What is said of a column that came or went is told with it, and so is what has a name.
        let added = table(
            "a",
            "    id integer,\n    \"b \"\"c\" text,\n    d text",
            "ALTER TABLE ONLY public.t ALTER COLUMN d SET STORAGE EXTERNAL;\nALTER TABLE ONLY public.t REPLICA IDENTITY FULL;",
        );
        assert_eq!(changes(&old, &added, &["column d added"]), Vec::<String>::new());
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
