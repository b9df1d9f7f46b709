//! Whether a target has all that a snapshot's schema archive makes: also what has no rows, as
//! foreign tables, servers, functions and views.

use std::collections::{BTreeMap, BTreeSet};

use crate::diff::definitions::{self, Definition, Name};
use crate::error::Result;
use crate::repo::{Repository, Snapshot};
use crate::restore::plan::schema_archive;
use crate::restore::privileges;
use crate::restore::prove::Schemas;
use crate::source::postgres::dump_settings::described;
use crate::source::{ArchiveOutcome, DatabaseUrl, Engine, Source};
use crate::target::postgres::privileges::Privileges;
use crate::target::postgres::{inspect, pg_restore};

/// Left out of every restore, or compared statement by statement.
const NOT_COMPARED: &[&str] = &["SUBSCRIPTION", "ACL", "DEFAULT ACL"];

/// The differences, but for those that `told` tables and sequences are told of elsewhere. That nothing
/// can be said is said.
pub(super) async fn compare(
    repo: &Repository,
    snapshot: &Snapshot,
    archive: Option<&[u8]>,
    source: &Source,
    url: &DatabaseUrl,
    told: &[String],
) -> Schemas {
    if snapshot.manifest.source.engine != Engine::Postgres.as_str() || snapshot.manifest.schema.is_none() {
        return Schemas::default();
    }
    let wanted = match archive {
        Some(archive) => Ok(archive.to_vec()),
        None => schema_archive(repo, snapshot).await,
    };
    let compared = match wanted {
        Ok(wanted) => compare_archives(wanted, snapshot, source, url, told).await,
        Err(error) => Err(error),
    };
    compared.unwrap_or_else(not_compared)
}

fn not_compared(why: impl std::fmt::Display) -> Schemas {
    let remark = format!("what has no rows (views, functions, types) was not compared: {why}");
    Schemas { differences: Vec::new(), remarks: vec![remark] }
}

async fn compare_archives(
    wanted: Vec<u8>,
    snapshot: &Snapshot,
    source: &Source,
    url: &DatabaseUrl,
    told: &[String],
) -> Result<Schemas> {
    let found = match source.schema_archive().await? {
        ArchiveOutcome::Written(found) => found,
        ArchiveOutcome::Unavailable { reason } => return Ok(not_compared(reason)),
    };
    let is_same_major = major(&snapshot.manifest.source.version) == major(&source.identity().version);
    let access = compare_access(&wanted, &found.bytes, url, is_same_major).await?;
    let (wanted, target) = tokio::try_join!(pg_restore::read(&wanted), pg_restore::read(&found.bytes))?;
    let told: Vec<&str> =
        told.iter().chain(found.excluded.iter().map(|table| &table.name)).map(String::as_str).collect();
    // Servers of different majors word one definition differently.
    let (wanted, target) = (definitions::read(&wanted.1), definitions::read(&target.1));
    let mut schemas = access;
    let tool = snapshot.manifest.schema.as_ref().map_or("", |schema| schema.tool.as_str());
    let is_same_wording = described(tool) == described(&found.tool);
    schemas.differences.splice(..0, differing(&wanted, &target, &told, is_same_major && is_same_wording));
    if !is_same_wording {
        schemas.remarks.push(format!(
            "definitions were compared by name only: those of the snapshot were written by {tool}, those of the \
             target by {}",
            found.tool
        ));
    }
    schemas.remarks.extend(found.excluded.iter().map(|table| format!("{}: {}", table.name, table.reason)));
    Ok(schemas)
}

/// Compares owners and privileges. Another major has other privileges to begin with.
async fn compare_access(
    wanted: &[u8],
    found: &[u8],
    url: &DatabaseUrl,
    is_same_major: bool,
) -> Result<Schemas> {
    let not_compared = |why: &str| {
        let remark = format!("owners and privileges were not compared: {why}");
        Ok(Schemas { differences: Vec::new(), remarks: vec![remark] })
    };
    let (DatabaseUrl::Postgres(url), true) = (url, is_same_major) else {
        return not_compared("the target is another major version of PostgreSQL");
    };
    let (Some(wanted), Some(found)) = (Privileges::read(wanted), Privileges::read(found)) else {
        return not_compared("the format of the schema archive, or its encoding, is not known");
    };
    Ok(privileges::compare(&wanted, &found, &inspect(url).await?))
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
    let names: BTreeSet<&Name<'n>> = wanted.keys().chain(found.keys()).collect();
    let text_of = |name: &Name<'n>| text(wanted, found, name);
    let what = |name: &Name<'n>| match (wanted.get(name), found.get(name)) {
        (Some(_), None) => Some("is missing in the target"),
        (None, Some(_)) => Some("is in the target only"),
        (Some(wanted), Some(found)) if is_same_major && wanted.body() != found.body() => {
            Some("is another in the target")
        }
        _ => None,
    };
    // A constraint of a domain is an object of its own when it is not valid.
    let domains: Vec<String> = (names.iter())
        .filter(|name| name.kind == "DOMAIN" && what(name).is_some())
        .map(|name| name.display_name())
        .collect();
    let told: Vec<&str> = told.iter().copied().chain(domains.iter().map(String::as_str)).collect();
    let line = |name: &&Name<'n>| {
        let what = what(name)?;
        let text = text_of(name);
        let is_left_out = NOT_COMPARED.contains(&name.kind) || name.is_given();
        let is_told = |name: &Name<'n>, text: &str| {
            told.iter()
                .any(|told| name.belongs(text, told) || name.is_sequence(told) || name.is_owned(text, told))
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

    #[test]
    fn what_is_told_elsewhere_is_told_once() {
        let script = |check: &str| {
            format!(
                "-- Name: d; Type: DOMAIN; Schema: public; Owner: a\n\nCREATE DOMAIN public.d AS integer{check};\n\n\
                 -- Name: s; Type: SEQUENCE; Schema: public; Owner: a\n\nCREATE SEQUENCE public.s;\n\n\
                 -- Name: s; Type: SEQUENCE OWNED BY; Schema: public; Owner: a\n\nALTER SEQUENCE public.s OWNED BY public.t.id;\n"
            )
        };
        let wanted = script("\n\tCONSTRAINT c CHECK (VALUE > 0)");
        let found = script("");
        let apart = "-- Name: d c; Type: CHECK CONSTRAINT; Schema: public; Owner: a\n\n\
                     ALTER DOMAIN public.d ADD CONSTRAINT c CHECK (VALUE > 0) NOT VALID;\n";
        let (found, _) = found.split_once("-- Name: s;").unwrap();
        let found = format!("{found}{apart}");
        assert_eq!(
            differing(&definitions::read(&wanted), &definitions::read(&found), &["public.s"], true),
            ["domain d in schema public is another in the target"]
        );
    }
}
