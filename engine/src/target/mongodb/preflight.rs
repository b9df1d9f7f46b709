//! Everything that can be known to be in the way before anything is written.

use std::collections::BTreeSet;

use super::archive::{self, Definition, Form};
use super::features::{gone, is_queryably_encrypted, lacking, of_form};
use super::indexes::indexes;
use super::inspect::{Contents, Release, TargetState, Topology, inspect, listed};
use super::options;
use super::privileges::{NEEDED, Privileges};
use super::{connect, views};
use crate::error::Result;
use crate::source::mongodb::MongoUrl;
use crate::target::{PreflightCheck, Restoring};

/// The oldest release that is written to.
const OLDEST: Release = Release(5, 0);
/// Databases that belong to the server.
const RESERVED: [&str; 3] = ["admin", "local", "config"];
/// Characters that no database's name has anywhere.
const FORBIDDEN: [char; 6] = ['/', '\\', '.', ' ', '"', '$'];
/// Bytes a database's name may have, and one with a collection's behind it.
const LONGEST_DATABASE: usize = 63;
const LONGEST_NAMESPACE: usize = 255;
/// Names that one sentence lists.
const NAMED: usize = 10;

/// Checks the target for a restore. Writes nothing. An error means that the target could not be
/// looked at; what is in the way of the restore is in the checks.
pub async fn preflight(
    url: &MongoUrl,
    restoring: &Restoring<'_>,
    others_write: bool,
) -> Result<Vec<PreflightCheck>> {
    let definitions = archive::definitions(url.database(), restoring)?;
    let databases: BTreeSet<&str> = definitions.iter().map(|found| found.database.as_str()).collect();
    let state = inspect(&connect(url).await?, &databases).await?;
    let mut checks = vec![version(&state, &restoring.source.version, &definitions)?, topology(&state)];
    checks.extend(state.contents.iter().map(|(name, contents)| database(&state, name, contents)));
    checks.push(names(&definitions));
    checks.push(rights(&state, &definitions, others_write));
    checks.push(collections(&definitions)?);
    checks.push(index_kinds(&state, &definitions)?);
    checks.push(judging(&definitions)?);
    checks.push(expiring(&definitions)?);
    checks.push(documents(&state));
    Ok(checks)
}

fn check(name: &str, ok: bool, detail: impl Into<String>) -> PreflightCheck {
    PreflightCheck { check: name.to_owned(), ok, warns: false, detail: detail.into() }
}

fn enumerated(names: &[String]) -> String {
    listed(&names[..names.len().min(NAMED)], names.len())
}

/// An older server may do, if it has everything that the collections ask for.
fn version(state: &TargetState, source: &str, definitions: &[Definition]) -> Result<PreflightCheck> {
    const NAME: &str = "server version";
    let (found, wanted) = (state.release(), Release::of(source));
    let held_back = match state.compatibility {
        Some(release) if release != Release::of(&state.version) => {
            format!(" with the features of {release}")
        }
        _ => String::new(),
    };
    let detail =
        format!("the target is MongoDB {}{held_back}, the snapshot's source was {source}", state.version);
    if found < OLDEST {
        return Ok(check(NAME, false, format!("{detail}: restore into MongoDB {OLDEST} or newer")));
    }
    if found >= wanted {
        return Ok(check(NAME, true, detail));
    }
    let mut missing = Vec::new();
    for definition in definitions {
        missing.extend(lacking(definition, found)?);
    }
    Ok(if missing.is_empty() {
        check(NAME, true, format!("{detail}; the collections use nothing that it lacks"))
    } else {
        let detail = format!("{detail}, and the target lacks {}", enumerated(&missing));
        check(NAME, false, format!("{detail}: restore into MongoDB {wanted} or newer"))
    })
}

fn topology(state: &TargetState) -> PreflightCheck {
    const NAME: &str = "deployment";
    if !state.takes_writes {
        let detail = "the member that answers is not the primary and takes no writes: name the primary, \
                      or the whole replica set";
        return check(NAME, false, detail);
    }
    match state.topology {
        Topology::ReplicaSet => check(NAME, true, "a replica set; every write waits for most members"),
        Topology::Standalone => {
            check(NAME, true, "a server without replication; every write waits for its journal")
        }
        Topology::Sharded => {
            check(NAME, true, "a sharded cluster; collections are made unsharded, shard them afterwards")
        }
    }
}

fn database(state: &TargetState, name: &str, contents: &Contents) -> PreflightCheck {
    const NAME: &str = "target database";
    if RESERVED.contains(&name) {
        return check(
            NAME,
            false,
            format!("\"{name}\" belongs to the server: name another database in the URL"),
        );
    }
    if name.is_empty() || name.len() > LONGEST_DATABASE || name.contains(FORBIDDEN) {
        return check(
            NAME,
            false,
            format!("\"{name}\" cannot be a database's name: name another one in the URL"),
        );
    }
    let same = |other: &&String| *other != name && other.to_lowercase() == name.to_lowercase();
    if let Some(other) = state.databases.as_ref().and_then(|all| all.iter().find(same)) {
        let detail =
            format!("\"{name}\" differs only in case from \"{other}\", which the server does not allow");
        return check(NAME, false, format!("{detail}: name another database in the URL"));
    }
    match contents {
        Contents::Absent => check(NAME, true, format!("\"{name}\" does not exist and will be created")),
        Contents::Empty => check(NAME, true, format!("\"{name}\" is empty")),
        Contents::Occupied { names, total } => {
            let holds = listed(names, *total);
            check(
                NAME,
                false,
                format!("\"{name}\" is not empty: it holds {holds}. Name a database that does not exist yet"),
            )
        }
    }
}

/// Names that are too long only now, because the database's is another.
fn names(definitions: &[Definition]) -> PreflightCheck {
    let len = |found: &&Definition| found.database.len() + 1 + found.name.len();
    let long: Vec<String> = definitions
        .iter()
        .filter(|found| len(found) > LONGEST_NAMESPACE)
        .map(Definition::display_name)
        .collect();
    if long.is_empty() {
        return check("names", true, "every collection's name fits");
    }
    let detail = format!("too long together with the database's: {}", enumerated(&long));
    check("names", false, format!("{detail}. Name a database with a shorter name"))
}

fn rights(state: &TargetState, definitions: &[Definition], others_write: bool) -> PreflightCheck {
    const NAME: &str = "right to write";
    let user = match &state.privileges {
        Privileges::Unrestricted => {
            return check(NAME, true, "the server lets anybody write: nobody has to log in");
        }
        Privileges::Unknown { user } => {
            let detail =
                format!("the server does not tell what {user} may do, so that shows when it is tried");
            return check(NAME, true, detail);
        }
        Privileges::Known { user, .. } => user,
    };
    let lacking = definitions.iter().find_map(|found| {
        let missing = state.privileges.missing(&found.database, &found.name, &NEEDED);
        (!missing.is_empty()).then(|| (found, missing.join(", ")))
    });
    match lacking {
        None => check(NAME, true, format!("{user} may make, fill and drop the collections")),
        Some((found, missing)) if others_write => {
            let detail =
                format!("{user} lacks {missing} on {}, which is enough to plan", found.display_name());
            check(NAME, true, format!("{detail}: carrying the plan out takes a user who may"))
        }
        Some((found, missing)) => check(
            NAME,
            false,
            format!(
                "{user} lacks {missing} on {}: use a user with the roles readWrite and dbAdmin on \"{}\"",
                found.display_name(),
                found.database
            ),
        ),
    }
}

/// What cannot be as it was, or not at all.
fn collections(definitions: &[Definition]) -> Result<PreflightCheck> {
    const NAME: &str = "collections";
    let mut encrypted = Vec::new();
    let mut remarks = Vec::new();
    for definition in definitions {
        let name = definition.display_name();
        if is_queryably_encrypted(definition)? {
            encrypted.push(name.clone());
        }
        for option in options::divide(definition)?.left_out {
            remarks.push(format!("{name} is made without {option}"));
        }
        if definition.form == Form::View {
            let base = views::made_on(definition)?;
            let is_there = |found: &Definition| found.database == definition.database && found.name == base;
            if !definitions.iter().any(is_there) {
                remarks.push(format!("the view {name} shows nothing, since {base} is not restored with it"));
            }
        }
    }
    if !encrypted.is_empty() {
        let detail = format!("Queryable Encryption cannot be restored: {}", enumerated(&encrypted));
        return Ok(check(NAME, false, format!("{detail}. Leave them out of the restore")));
    }
    let series = of_form(definitions, Form::TimeSeries);
    if !series.is_empty() {
        remarks.push(format!(
            "time series get their measurements anew, in which a server may order fields otherwise: {}",
            enumerated(&series)
        ));
    }
    Ok(check(
        NAME,
        true,
        if remarks.is_empty() { "all can be made as they were".to_owned() } else { remarks.join("; ") },
    ))
}

/// Never in the way: an index that cannot be had is missing, not a document.
fn index_kinds(state: &TargetState, definitions: &[Definition]) -> Result<PreflightCheck> {
    let (mut missing, mut search) = (Vec::new(), Vec::new());
    for definition in definitions {
        missing.extend(gone(definition, state.release())?);
        let of = definition.display_name();
        search.extend(definition.search_indexes.iter().map(|name| format!("{name} of {of} (search index)")));
    }
    missing.extend(search);
    Ok(if missing.is_empty() {
        check("indexes", true, "the target knows every kind of index; what it refuses is named at the end")
    } else {
        check("indexes", true, format!("these will not be restored: {}", enumerated(&missing)))
    })
}

fn judging(definitions: &[Definition]) -> Result<PreflightCheck> {
    let mut named = Vec::new();
    for definition in definitions {
        if !options::divide(definition)?.validation.is_empty() {
            named.push(definition.display_name());
        }
    }
    Ok(check(
        "validators",
        true,
        if named.is_empty() {
            "no collection has one".to_owned()
        } else {
            format!(
                "set after the documents, so that those which break one are restored, too: {}",
                enumerated(&named)
            )
        },
    ))
}

fn expiring(definitions: &[Definition]) -> Result<PreflightCheck> {
    let mut named = Vec::new();
    for definition in definitions {
        let by_index = indexes(definition)?.0.iter().any(|index| index.expires);
        if by_index || (definition.form != Form::View && options::divide(definition)?.expiry.is_some()) {
            named.push(definition.display_name());
        }
    }
    Ok(check(
        "expiry",
        true,
        if named.is_empty() {
            "no collection deletes documents after a time".to_owned()
        } else {
            format!(
                "these delete documents after a time, which begins once the restore is proven: {}",
                enumerated(&named)
            )
        },
    ))
}

fn documents(state: &TargetState) -> PreflightCheck {
    let most = state.limits.document_bytes >> 20;
    check("documents", true, format!("the target takes documents of up to {most} MiB"))
}
