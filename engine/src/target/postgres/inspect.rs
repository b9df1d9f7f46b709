//! What a target is before anything is written: read only, with whatever credentials there are.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::fault;
use crate::error::{Error, Kind, Result};
use crate::source::postgres::PostgresUrl;
use crate::source::postgres::connect::Connector;
use crate::source::postgres::session::{Session, TextRow};
use crate::source::postgres::settings::Server;
use crate::source::sql_name;

/// Databases that are there on every server, to ask about one that is not.
const MAINTENANCE: [&str; 2] = ["postgres", "template1"];
/// It takes no connections, so it cannot be asked.
const NEVER_A_TARGET: &str = "template0";
/// Trusted extensions, which the owner of a database may create, begin with PostgreSQL 13.
const TRUSTED_SINCE: u32 = 130_000;
/// The schema `public` of a new database belongs to its owner.
const OWNS_PUBLIC_SINCE: u32 = 150_000;
/// From PostgreSQL 16 on, members of a role need not be allowed to become it.
const SET_SINCE: u32 = 160_000;
/// User objects named when a database is not empty.
const NAMED: usize = 10;

/// Everything a user could have made in a database, extensions' own objects apart.
const USER_OBJECTS: &str = "\
WITH own AS (SELECT classid, objid FROM pg_catalog.pg_depend WHERE deptype = 'e'), \
object AS ( \
  SELECT CASE relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence' \
         WHEN 'f' THEN 'foreign table' WHEN 'c' THEN 'type' ELSE 'table' END AS kind, relnamespace AS namespace, relname AS name \
  FROM pg_catalog.pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'c') AND oid >= 16384 \
    AND NOT EXISTS (SELECT FROM own WHERE classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND objid = pg_class.oid) \
  UNION ALL SELECT 'function', pronamespace, proname FROM pg_catalog.pg_proc WHERE oid >= 16384 \
    AND NOT EXISTS (SELECT FROM own WHERE classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND objid = pg_proc.oid) \
  UNION ALL SELECT 'type', typnamespace, typname FROM pg_catalog.pg_type WHERE oid >= 16384 AND typrelid = 0 AND typelem = 0 \
    AND typtype IN ('b', 'd', 'e', 'r') \
    AND NOT EXISTS (SELECT FROM own WHERE classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND objid = pg_type.oid) \
) \
SELECT kind, nspname::pg_catalog.text, name::pg_catalog.text FROM object JOIN pg_catalog.pg_namespace n ON n.oid = namespace \
WHERE nspname NOT LIKE 'pg\\_toast%' AND nspname NOT LIKE 'pg\\_temp\\_%' \
UNION ALL SELECT 'schema', nspname::pg_catalog.text, NULL FROM pg_catalog.pg_namespace WHERE oid >= 16384 AND nspname <> 'public' \
  AND nspname NOT LIKE 'pg\\_toast%' AND nspname NOT LIKE 'pg\\_temp\\_%' \
  AND NOT EXISTS (SELECT FROM own WHERE classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND objid = pg_namespace.oid) \
UNION ALL SELECT 'large object', oid::pg_catalog.text, NULL FROM pg_catalog.pg_largeobject_metadata \
ORDER BY 1 DESC, 2, 3";

/// The user, the server and what may be done there.
const ABILITIES: &str = "\
SELECT r.rolname::pg_catalog.text, r.rolsuper::pg_catalog.text, (r.rolsuper OR r.rolcreatedb)::pg_catalog.text, \
  pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')::pg_catalog.text, \
  (SELECT pg_catalog.bool_and(pg_catalog.has_schema_privilege(oid, 'CREATE')) FROM pg_catalog.pg_namespace \
   WHERE nspname = 'public')::pg_catalog.text, \
  (SELECT pg_catalog.bool_and(pg_catalog.pg_has_role(nspowner, 'USAGE')) FROM pg_catalog.pg_namespace \
   WHERE nspname = 'public')::pg_catalog.text, \
  (SELECT datistemplate FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())::pg_catalog.text, \
  (SELECT source FROM pg_catalog.pg_settings WHERE name = 'default_transaction_read_only' AND setting = 'on') \
FROM pg_catalog.pg_roles r WHERE r.rolname = CURRENT_USER";

/// Whether the database is there, and whether it holds anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Contents {
    /// There is no database of that name.
    Absent,
    /// It is there and holds nothing a user made.
    Empty,
    /// It holds user objects.
    Occupied {
        /// The first few, as "table public.orders".
        objects: Vec<String>,
        /// How many there are.
        total: u64,
    },
}

/// An extension that the target's server has files for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AvailableExtension {
    /// The version that would be installed.
    pub version: String,
    /// Whether it is in the database already, or the user may create it there.
    pub can_have: bool,
}

/// What is known of a target without writing to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetState {
    /// Whether the database is there, and whether it holds anything.
    pub contents: Contents,
    /// As the server prints it.
    pub server_version: String,
    /// As `server_version_num` has it (150018).
    pub version_number: u32,
    /// The user these credentials log in as.
    pub user: String,
    /// Whether that user is a superuser.
    pub is_superuser: bool,
    /// Whether that user may create databases.
    pub can_create_database: bool,
    /// Whether that user may create schemas, and tables in `public`, in the database; for an
    /// absent one, whether it could be created.
    pub can_create_objects: bool,
    /// Whether that user has the rights of the owner of the schema `public`; for an absent database,
    /// whether it would have.
    pub owns_public: bool,
    /// Roles of the server.
    pub roles: BTreeSet<String>,
    /// Those that the user may give objects to and act for.
    pub memberships: BTreeSet<String>,
    /// Those whose rights the user has without doing anything for it.
    pub inherited: BTreeSet<String>,
    /// Extensions that the server could install, by name.
    pub extensions: BTreeMap<String, AvailableExtension>,
    /// Foreign data wrappers of the database, and whether the user may make servers of them.
    pub wrappers: BTreeMap<String, bool>,
    /// The database's encoding; none while it is absent.
    pub encoding: Option<String>,
    /// Whether the server is a standby, which takes no writes.
    pub is_standby: bool,
    /// What makes the user's transactions read-only unless they ask for more, as `pg_settings.source`
    /// has it ("user", "database", "configuration file"), if anything does.
    pub read_only_by: Option<String>,
}

/// Looks at the target of `url`. Reads only, and any user who can log in may do it.
///
/// # Errors
/// [`Kind::Invalid`] for a template: new databases would begin with what is restored into it.
pub async fn inspect(url: &PostgresUrl) -> Result<TargetState> {
    if url.database() == NEVER_A_TARGET {
        return Err(not_a_target("template0 is what new databases are made of"));
    }
    match Connector::new(url)?.connect().await {
        Ok(session) => state(&session, true).await,
        Err(error) if error.kind() == Kind::NotFound => state(&maintenance(url).await?, false).await,
        Err(error) => Err(error),
    }
}

fn not_a_target(why: &str) -> Error {
    let message = format!("nothing is restored into a template: {why}");
    Error::new(Kind::Invalid, message).with_help("Name a database that does not exist yet.")
}

/// A session in a database that every server has.
pub(super) async fn maintenance(url: &PostgresUrl) -> Result<Session> {
    let mut failure = None;
    for database in MAINTENANCE {
        match Connector::new(&url.with_database(database))?.connect().await {
            Ok(session) => return Ok(session),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    Err(failure.unwrap_or_else(|| Error::new(Kind::Internal, "no maintenance database was tried")))
}

async fn state(session: &Session, exists: bool) -> Result<TargetState> {
    let failed = |error| fault::statement("looking at the target", error);
    let server = Server::read(session).await?;
    session.run("BEGIN READ ONLY; SET LOCAL search_path = ''").await.map_err(failed)?;
    let abilities = session.rows(ABILITIES).await.map_err(failed)?;
    let abilities = abilities
        .first()
        .ok_or_else(|| Error::new(Kind::Internal, "the target does not know its own user"))?;
    if exists && abilities.flag(6) {
        return Err(not_a_target("the database is a template"));
    }
    let contents = if exists { contents(session).await? } else { Contents::Absent };
    let (roles, memberships, inherited) = roles(session, &server).await?;
    let can_create_database = abilities.flag(2);
    let may_extend = if exists { abilities.flag(3) } else { can_create_database };
    let wrappers = if exists { wrappers(session).await? } else { BTreeMap::new() };
    let extensions = extensions(session, &server, abilities.flag(1), may_extend, exists).await?;
    session.run("COMMIT").await.map_err(failed)?;
    Ok(TargetState {
        contents,
        server_version: server.version.clone(),
        version_number: server.version_number,
        user: abilities.text(0),
        is_superuser: abilities.flag(1),
        can_create_database,
        // Without a schema `public` there is no privilege on it to lack.
        can_create_objects: if exists {
            abilities.flag(3) && abilities.optional(4).is_none_or(|may| may == "true")
        } else {
            can_create_database
        },
        // Before PostgreSQL 15 it is the server's, and not the owner's of the database.
        owns_public: match exists {
            true => abilities.optional(5).is_none_or(|owns| owns == "true"),
            false => abilities.flag(1) || server.version_number >= OWNS_PUBLIC_SINCE,
        },
        roles,
        memberships,
        inherited,
        extensions,
        wrappers,
        encoding: exists.then(|| server.encoding.clone()),
        is_standby: server.is_standby,
        read_only_by: abilities.optional(7),
    })
}

/// A new database has those of `template0`, which is `plpgsql` alone. `may_extend`: whether the user
/// has the right to create in the database, which trusted extensions ask for.
async fn extensions(
    session: &Session,
    server: &Server,
    is_superuser: bool,
    may_extend: bool,
    exists: bool,
) -> Result<BTreeMap<String, AvailableExtension>> {
    let trusted = if server.version_number >= TRUSTED_SINCE { "v.trusted" } else { "false" };
    let installed = if exists { "e.installed_version IS NOT NULL" } else { "e.name = 'plpgsql'" };
    let sql = format!(
        "SELECT e.name::pg_catalog.text, e.default_version, ({installed})::pg_catalog.text, \
           coalesce(v.superuser AND NOT {trusted}, true)::pg_catalog.text \
         FROM pg_catalog.pg_available_extensions e \
         LEFT JOIN pg_catalog.pg_available_extension_versions v ON v.name = e.name AND v.version = e.default_version"
    );
    let rows = session.rows(&sql).await.map_err(|error| fault::statement("listing extensions", error))?;
    let of_row = |row: &TextRow| {
        let (is_installed, needs_superuser) = (row.flag(2), row.flag(3));
        let can_have = is_superuser || is_installed || (may_extend && !needs_superuser);
        (row.text(0), AvailableExtension { version: row.text(1), can_have })
    };
    Ok(rows.iter().map(of_row).collect())
}

async fn wrappers(session: &Session) -> Result<BTreeMap<String, bool>> {
    let sql = "SELECT fdwname::pg_catalog.text, \
               pg_catalog.has_foreign_data_wrapper_privilege(oid, 'USAGE')::pg_catalog.text \
               FROM pg_catalog.pg_foreign_data_wrapper";
    let failed = |error| fault::statement("listing foreign data wrappers", error);
    let rows = session.rows(sql).await.map_err(failed)?;
    Ok(rows.iter().map(|row| (row.text(0), row.flag(1))).collect())
}

async fn contents(session: &Session) -> Result<Contents> {
    let rows =
        session.rows(USER_OBJECTS).await.map_err(|error| fault::statement("listing the target", error))?;
    if rows.is_empty() {
        return Ok(Contents::Empty);
    }
    let name = |kind: String, namespace: String, name: Option<String>| match name {
        Some(name) => format!("{kind} {}", sql_name(&namespace, &name)),
        None => format!("{kind} {namespace}"),
    };
    let objects =
        rows.iter().take(NAMED).map(|row| name(row.text(0), row.text(1), row.optional(2))).collect();
    Ok(Contents::Occupied { objects, total: rows.len() as u64 })
}

/// All roles, those the user may become, and those whose rights it has.
async fn roles(
    session: &Session,
    server: &Server,
) -> Result<(BTreeSet<String>, BTreeSet<String>, BTreeSet<String>)> {
    let becomes = if server.version_number >= SET_SINCE { "SET" } else { "MEMBER" };
    let sql = format!(
        "SELECT rolname::pg_catalog.text, pg_catalog.pg_has_role(oid, '{becomes}')::pg_catalog.text, \
         pg_catalog.pg_has_role(oid, 'USAGE')::pg_catalog.text FROM pg_catalog.pg_roles"
    );
    let rows = session.rows(&sql).await.map_err(|error| fault::statement("listing roles", error))?;
    let with = |column: usize| rows.iter().filter(|row| row.flag(column)).map(|row| row.text(0)).collect();
    Ok((rows.iter().map(|row| row.text(0)).collect(), with(1), with(2)))
}
