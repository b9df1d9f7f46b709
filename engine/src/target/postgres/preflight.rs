//! Everything that can be known to be in the way before anything is written.

use repo_format::manifest::Source;

use super::archive::{self, Needs};
use super::create::listed;
use super::inspect::{AvailableExtension, Contents, TargetState, inspect};
use crate::error::Result;
use crate::source::postgres::PostgresUrl;
use crate::source::postgres::archive::Tool;
use crate::source::postgres::session::ident;
use crate::target::PreflightCheck;

/// Checks the target of `url` for a restore of a snapshot of `source` with its schema `archive`.
/// Writes nothing. An error means that the target could not be looked at; what is in the way of
/// the restore is in the checks.
pub async fn preflight(url: &PostgresUrl, source: &Source, archive: &[u8]) -> Result<Vec<PreflightCheck>> {
    checks(url, source, archive, false).await
}

/// As [`preflight`], for a plan: its credentials may be read-only, since those that write are given
/// when it is carried out.
pub async fn preflight_plan(
    url: &PostgresUrl,
    source: &Source,
    archive: &[u8],
) -> Result<Vec<PreflightCheck>> {
    checks(url, source, archive, true).await
}

async fn checks(
    url: &PostgresUrl,
    source: &Source,
    archive: &[u8],
    others_write: bool,
) -> Result<Vec<PreflightCheck>> {
    let state = inspect(url).await?;
    let archive = archive::read(archive).await;
    Ok(vec![
        version(&state, source),
        database(&state, url),
        rights(&state, url, others_write),
        writing(&state, url, others_write),
        extensions(&state, source, url, others_write),
        foreign_servers(&state, url, &archive, others_write),
        encoding(&state, source),
        tool(&archive),
        roles(&state, &archive, others_write),
    ])
}

fn check(name: &str, ok: bool, detail: impl Into<String>) -> PreflightCheck {
    PreflightCheck { check: name.to_owned(), ok, warns: false, detail: detail.into() }
}

/// Types and statements of a newer major may be unknown to an older one.
fn version(state: &TargetState, source: &Source) -> PreflightCheck {
    let found = state.version_number / 10_000;
    let wanted = leading_number(&source.version);
    let detail = format!(
        "the target is PostgreSQL {}, the snapshot's source was {}",
        state.server_version, source.version
    );
    if found >= wanted {
        check("server version", true, detail)
    } else {
        check("server version", false, format!("{detail}: restore into PostgreSQL {wanted} or newer"))
    }
}

fn leading_number(version: &str) -> u32 {
    version.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

fn database(state: &TargetState, url: &PostgresUrl) -> PreflightCheck {
    let name = url.database();
    match &state.contents {
        Contents::Absent => {
            check("target database", true, format!("\"{name}\" does not exist and will be created"))
        }
        // Every server has it, for tools to connect to.
        Contents::Empty if name == "postgres" => PreflightCheck {
            warns: true,
            ..check(
                "target database",
                true,
                "\"postgres\" is the server's own database for maintenance, and empty. A database with a name of \
                 its own is easier to drop again",
            )
        },
        Contents::Empty => check("target database", true, format!("\"{name}\" exists and is empty")),
        Contents::Occupied { objects, total } => check(
            "target database",
            false,
            format!(
                "\"{name}\" is not empty: it holds {}. Name a database that does not exist yet",
                listed(objects, *total)
            ),
        ),
    }
}

fn rights(state: &TargetState, url: &PostgresUrl, others_write: bool) -> PreflightCheck {
    let (user, name) = (&state.user, url.database());
    if state.is_standby {
        return check(
            "right to create",
            false,
            "the server is a standby and takes no writes: name the primary",
        );
    }
    if others_write && !state.can_create_objects {
        let detail = format!(
            "{user} may not create anything here, which is enough to plan: carrying the plan out takes a user who may"
        );
        return check("right to create", true, detail);
    }
    match (&state.contents, state.can_create_objects) {
        (Contents::Absent, true) => check("right to create", true, format!("{user} may create databases")),
        (Contents::Absent, false) => check(
            "right to create",
            false,
            format!(
                "{user} may not create databases. Create \"{name}\" with {user} as its owner, or ALTER ROLE ... CREATEDB"
            ),
        ),
        (_, true) => {
            check("right to create", true, format!("{user} may create schemas and tables in \"{name}\""))
        }
        (_, false) => check(
            "right to create",
            false,
            format!("{user} may not create schemas and tables in \"{name}\": use its owner"),
        ),
    }
}

/// Somebody made transactions read-only for a reason, so a restore does not overrule it: it says how.
fn writing(state: &TargetState, url: &PostgresUrl, others_write: bool) -> PreflightCheck {
    let name = "right to write";
    let (user, database) = (&state.user, url.database());
    let Some(by) = state.read_only_by.as_deref() else {
        return check(name, true, "transactions may write");
    };
    let is_users_own = matches!(by, "user" | "database user" | "client");
    if others_write && !state.can_create_objects && is_users_own {
        let detail = format!("transactions of {user} are read-only, which is enough to plan");
        return check(name, true, detail);
    }
    let for_once = "For this restore alone, add options=-c%20default_transaction_read_only%3Doff to the URL";
    let role = ident(user);
    let mend = match by {
        "user" => format!("{for_once}, or run: ALTER ROLE {role} RESET default_transaction_read_only;"),
        "database user" => format!(
            "{for_once}, or run: ALTER ROLE {role} IN DATABASE {} RESET default_transaction_read_only;",
            ident(database)
        ),
        "database" if state.contents == Contents::Absent => {
            format!("{for_once}, or make the empty database \"{database}\" yourself first")
        }
        "database" => format!(
            "{for_once}, or run: ALTER DATABASE {} RESET default_transaction_read_only;",
            ident(database)
        ),
        "client" => "Take default_transaction_read_only out of the URL's options".to_owned(),
        _ => format!("{for_once}, or have it taken out of the server's configuration"),
    };
    let detail = format!(
        "default_transaction_read_only is on (set by: {by}), so nothing can be written. If that is not meant for \
         this database: {mend}"
    );
    // Whoever carries the plan out may have a setting of their own.
    let is_somebody_elses = others_write && !state.can_create_objects;
    PreflightCheck { warns: is_somebody_elses, ..check(name, is_somebody_elses, detail) }
}

fn extensions(state: &TargetState, source: &Source, url: &PostgresUrl, others_write: bool) -> PreflightCheck {
    let which = |found: &dyn Fn(Option<&AvailableExtension>) -> bool| {
        let names = source.extensions.iter().map(|extension| extension.name.as_str());
        names.filter(|name| found(state.extensions.get(*name))).collect::<Vec<_>>()
    };
    let missing = which(&|found| found.is_none());
    if !missing.is_empty() {
        let detail = format!("not installed on the target server: {}", missing.join(", "));
        return check("extensions", false, detail);
    }
    let refused = which(&|found| found.is_some_and(|found| !found.can_have));
    if refused.is_empty() {
        let available = which(&|_| true);
        return check("extensions", true, format!("available: {}", available.join(", ")));
    }
    let (user, names) = (&state.user, refused.join(", "));
    if others_write && !state.can_create_objects {
        let detail = format!("{user} may not create {names}: carrying the plan out takes a user who may");
        return check("extensions", true, detail);
    }
    let statements: Vec<_> =
        refused.iter().map(|name| format!("CREATE EXTENSION {};", ident(name))).collect();
    let detail = format!(
        "{user} may not create {names}, which takes a superuser here. Restore as a superuser, or have one make \
         the empty database \"{}\" first and run in it: {}",
        url.database(),
        statements.join(" ")
    );
    check("extensions", false, detail)
}

/// Never in the way: a foreign server and its tables are definitions, and all rows can be restored
/// without. Extensions that bring a wrapper do not bring the right to use it.
fn foreign_servers(
    state: &TargetState,
    url: &PostgresUrl,
    archive: &Result<(Tool, Needs)>,
    others_write: bool,
) -> PreflightCheck {
    let name = "foreign servers";
    let Ok((_, needs)) = archive else {
        return check(name, true, "not known without the schema archive");
    };
    if needs.wrappers.is_empty() && needs.made_wrappers.is_empty() {
        return check(name, true, "the snapshot has none");
    }
    if state.is_superuser {
        return check(name, true, format!("{} may create them", state.user));
    }
    let user = &state.user;
    if others_write && !state.can_create_objects {
        let detail = "the snapshot has some: they take a user who may create them, as a superuser may";
        return check(name, true, detail);
    }
    let mut details = Vec::new();
    if !needs.made_wrappers.is_empty() {
        let names: Vec<&str> = needs.made_wrappers.iter().map(String::as_str).collect();
        details.push(format!(
            "only a superuser may create the foreign data wrapper {}: restored by {user}, it and what depends on it \
             will be missing",
            names.join(", ")
        ));
    }
    let refused: Vec<&String> = (needs.wrappers.iter())
        .filter(|wrapper| !needs.made_wrappers.contains(*wrapper))
        .filter(|wrapper| state.wrappers.get(*wrapper) != Some(&true))
        .collect();
    if !refused.is_empty() {
        let names: Vec<&str> = refused.iter().map(|wrapper| wrapper.as_str()).collect();
        let grants: Vec<String> = (refused.iter())
            .map(|wrapper| {
                format!("GRANT USAGE ON FOREIGN DATA WRAPPER {} TO {};", ident(wrapper), ident(user))
            })
            .collect();
        details.push(format!(
            "{user} may not use {}, so foreign servers and their tables will be missing. Have a superuser or the \
             wrapper's owner run in \"{}\" first: {}",
            names.join(", "),
            url.database(),
            grants.join(" ")
        ));
    }
    if details.is_empty() {
        return check(name, true, format!("{user} may create them"));
    }
    PreflightCheck { warns: true, ..check(name, true, details.join(". ")) }
}

/// A new database gets the source's encoding. In one that is there, values must be representable.
fn encoding(state: &TargetState, source: &Source) -> PreflightCheck {
    let Some(found) = &state.encoding else {
        return check(
            "encoding",
            true,
            format!("the database will be {}, as the source is", source.encoding),
        );
    };
    let detail = format!("the target is {found}, the source is {}", source.encoding);
    let holds = *found == source.encoding || (found == "UTF8" && source.encoding != "SQL_ASCII");
    if holds {
        check("encoding", true, detail)
    } else {
        check(
            "encoding",
            false,
            format!("{detail}: it may not be able to hold every value. Name a new database"),
        )
    }
}

fn tool(archive: &Result<(Tool, Needs)>) -> PreflightCheck {
    match archive {
        Ok((tool, _)) => {
            check("pg_restore", true, format!("pg_restore {} reads the schema archive", tool.version))
        }
        Err(error) => check("pg_restore", false, format!("{error}. {}", error.help().unwrap_or_default())),
    }
}

/// Never in the way: what cannot be given to its role belongs to the restoring user, and what names a
/// role that is not there is left out.
fn roles(state: &TargetState, archive: &Result<(Tool, Needs)>, others_write: bool) -> PreflightCheck {
    let Ok((_, needs)) = archive else { return check("roles", true, "not known without the schema archive") };
    let mut state = state.clone();
    if others_write && !state.can_create_objects {
        // What the one who carries the plan out may give to whom is not known: only roles are.
        (state.is_superuser, state.owns_public) = (true, true);
        state.user = "the restoring user".to_owned();
    }
    let state = &state;
    let notes = needs.notes(state);
    if notes.is_empty() {
        return check(
            "roles",
            true,
            "every owner, every grantee and every other role that is named exists on the target",
        );
    }
    let texts: Vec<String> = notes.iter().map(ToString::to_string).collect();
    let warns = needs.privileges.as_ref().is_none_or(|privileges| privileges.is_cut(state))
        || needs.role_names.are_missing(&state.roles);
    PreflightCheck { warns, ..check("roles", true, texts.join(" ")) }
}
