//! Whether a target has all that a snapshot's schema archive makes: also what has no rows, as
//! foreign tables, servers, functions and views.

use std::collections::BTreeMap;

use crate::diff::definitions::{self, Definition, Name};
use crate::error::Result;
use crate::repo::{Repository, Snapshot};
use crate::restore::plan::schema_archive;
use crate::restore::prove::Schemas;
use crate::source::{ArchiveOutcome, Engine, Source};
use crate::target::postgres::pg_restore;

/// Left out of every restore, or told of with what a restore left out on purpose.
const NOT_COMPARED: &[&str] = &["SUBSCRIPTION", "ACL", "DEFAULT ACL"];

/// The differences, but for those that `told` tables are told of elsewhere. That nothing can be said
/// is said; owners and privileges are not compared, since a restore may give all to one role.
pub(super) async fn compare(
    repo: &Repository,
    snapshot: &Snapshot,
    source: &Source,
    told: &[String],
) -> Schemas {
    if snapshot.manifest.source.engine != Engine::Postgres.as_str() || snapshot.manifest.schema.is_none() {
        return Schemas::default();
    }
    compare_archives(repo, snapshot, source, told).await.unwrap_or_else(not_compared)
}

fn not_compared(why: impl std::fmt::Display) -> Schemas {
    let remark = format!("what has no rows (views, functions, types) was not compared: {why}");
    Schemas { differences: Vec::new(), remarks: vec![remark] }
}

async fn compare_archives(
    repo: &Repository,
    snapshot: &Snapshot,
    source: &Source,
    told: &[String],
) -> Result<Schemas> {
    let wanted = schema_archive(repo, snapshot).await?;
    let found = match source.schema_archive().await? {
        ArchiveOutcome::Written(found) => found,
        ArchiveOutcome::Unavailable { reason } => return Ok(not_compared(reason)),
    };
    let (wanted, target) = tokio::try_join!(pg_restore::read(&wanted), pg_restore::read(&found.bytes))?;
    let told: Vec<&str> =
        told.iter().chain(found.excluded.iter().map(|table| &table.name)).map(String::as_str).collect();
    // Servers of different majors word one definition differently.
    let is_same_major = major(&snapshot.manifest.source.version) == major(&source.identity().version);
    let (wanted, target) = (definitions::read(&wanted.1), definitions::read(&target.1));
    let differences = differing(&wanted, &target, &told, is_same_major);
    let remarks = found.excluded.iter().map(|table| format!("{}: {}", table.name, table.reason));
    Ok(Schemas { differences, remarks: remarks.collect() })
}

fn major(version: &str) -> &str {
    version.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default()
}

fn text<'d, 'n>(
    wanted: &'d BTreeMap<Name<'n>, Definition<'n>>,
    found: &'d BTreeMap<Name<'n>, Definition<'n>>,
    name: &Name<'n>,
) -> &'d str {
    wanted.get(name).or_else(|| found.get(name)).map_or("", |definition| definition.text.as_str())
}

fn differing<'n>(
    wanted: &BTreeMap<Name<'n>, Definition<'n>>,
    found: &BTreeMap<Name<'n>, Definition<'n>>,
    told: &[&str],
    is_same_major: bool,
) -> Vec<String> {
    let names: std::collections::BTreeSet<&Name<'_>> = wanted.keys().chain(found.keys()).collect();
    let text_of = |name: &Name<'n>| text(wanted, found, name);
    let line = |name: &&Name<'n>| {
        let what = match (wanted.get(*name), found.get(*name)) {
            (Some(_), None) => "is missing in the target",
            (None, Some(_)) => "is in the target only",
            (Some(wanted), Some(found)) if is_same_major && wanted.body() != found.body() => {
                "is another in the target"
            }
            _ => return None,
        };
        let text = text_of(name);
        let is_left_out = NOT_COMPARED.contains(&name.kind) || name.is_given();
        let is_told = |name: &Name<'n>, text: &str| {
            told.iter().any(|table| name.belongs(text, table) || name.is_owned(text, table))
        };
        let is_told = is_told(name, text)
            || names.iter().any(|index| name.attaches(index) && is_told(index, text_of(index)));
        (!is_left_out && !is_told).then(|| format!("{name} {what}"))
    };
    names.iter().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(owner: &str, view: &str) -> String {
        format!(
            "-- Name: v; Type: VIEW; Schema: public; Owner: {owner}\n--\n\nCREATE VIEW public.v AS {view};\n\n\
             ALTER VIEW public.v OWNER TO {owner};\n\n--\n\
             -- Name: far; Type: SERVER; Schema: -; Owner: {owner}\n--\n\nCREATE SERVER far FOREIGN DATA WRAPPER w;\n\n\
             --\n-- Name: TABLE t; Type: ACL; Schema: public; Owner: {owner}\n--\n\nGRANT SELECT ON TABLE public.t TO {owner};\n"
        )
    }

    #[test]
    fn another_owner_is_no_difference_and_a_missing_object_is() {
        let (one, other) = (script("a", "SELECT 1"), script("b", "SELECT 1"));
        let lines = |one: &str, other: &str, same| {
            differing(&definitions::read(one), &definitions::read(other), &[], same)
        };
        assert_eq!(lines(&one, &other, true), Vec::<String>::new());
        let changed = script("a", "SELECT 2");
        assert_eq!(lines(&one, &changed, true), ["view v in schema public is another in the target"]);
        assert_eq!(lines(&one, &changed, false), Vec::<String>::new());
        let given = "-- Name: public; Type: SCHEMA; Schema: -; Owner: a\n\nALTER SCHEMA public OWNER TO a;\n\
                     -- Name: EXTENSION hstore; Type: COMMENT; Schema: -; Owner: -\n\nCOMMENT ON EXTENSION hstore IS 'x';\n";
        assert_eq!(
            lines(&one, &format!("{given}{one}"), true),
            Vec::<String>::new(),
            "made with the database"
        );
        let (lacking, _) = one.split_once("-- Name: far;").unwrap();
        assert_eq!(lines(&one, lacking, false), ["server far is missing in the target"]);
        assert_eq!(lines(lacking, &one, true), ["server far is in the target only"]);
    }
}
