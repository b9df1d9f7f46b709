//! Whether a role can write, asked of the catalog rather than tried.
//!
//! A role may write through any role it is a member of, inherited or not (`SET ROLE`), so every
//! question is asked for all of them. `default_transaction_read_only` counts for nothing: the role
//! can switch it off. A setting of the role or of the URL may make a session begin as another role than
//! the one that logged in (`role`, `session_authorization`), which a statement undoes: so the questions
//! are asked for every role that the session can go back to.

use std::collections::BTreeSet;

use tokio_postgres::error::SqlState;

use super::fault;
use super::session::{Session, TextRow, ident, literal};
use super::settings::Server;
use crate::error::Result;

/// What was found. Empty privileges: nothing that writes.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings {
    /// Each in words: "table public.orders: INSERT, UPDATE".
    pub(super) privileges: Vec<String>,
    /// Abilities that write nothing of the user's, and ways that cannot be judged from here.
    pub(super) notes: Vec<String>,
    /// Statements that take the privileges away, where they are known.
    pub(super) fixes: Vec<String>,
}

/// So many objects are named; a superuser could write them all.
const NAMED_AT_MOST: usize = 50;

/// Looks for every privilege that could write. Needs a transaction, which is as before afterwards.
pub(super) async fn check(session: &Session, server: &Server) -> Result<Findings> {
    let mut findings = check_current(session, server).await?;
    for role in other_roles(session).await? {
        let found = check_as(session, server, &role).await?;
        findings.add(&role, found);
    }
    Ok(findings)
}

/// Whom the session belongs to, and who logged in, where they are not who asks.
async fn other_roles(session: &Session) -> Result<Vec<String>> {
    let sql = format!(
        "SELECT rolname::text FROM pg_roles WHERE rolname IN (session_user, {}) AND rolname <> current_user \
         ORDER BY 1",
        literal(session.login())
    );
    let asking = |error| fault::statement("checking privileges", error);
    Ok(session.rows(&sql).await.map_err(asking)?.iter().map(|row| row.text(0)).collect())
}

/// What the role can do, if the session may become it.
async fn check_as(session: &Session, server: &Server, role: &str) -> Result<Findings> {
    let asking = |error| fault::statement("checking privileges", error);
    session.run("SAVEPOINT as_another").await.map_err(asking)?;
    let become_it = format!("SET LOCAL SESSION AUTHORIZATION {}", ident(role));
    let findings = match session.run(&become_it).await {
        Ok(()) => check_current(session, server).await?,
        // The URL's user is known to a pooler only, which logged in as another role. Whoever did log
        // in may become itself.
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Findings::default(),
        Err(error) => return Err(asking(error)),
    };
    session.run("ROLLBACK TO SAVEPOINT as_another").await.map_err(asking)?;
    Ok(findings)
}

impl Findings {
    /// Adds what the session can do as another role.
    fn add(&mut self, role: &str, found: Self) {
        let as_role = |text: String| format!("{text} (as {role}, whose session it is)");
        self.privileges.extend(found.privileges.into_iter().map(as_role));
        for note in found.notes {
            if !self.notes.contains(&note) {
                self.notes.push(note);
            }
        }
        for fix in found.fixes {
            if !self.fixes.contains(&fix) {
                self.fixes.push(fix);
            }
        }
    }
}

/// Looks for every privilege of the role that asks.
async fn check_current(session: &Session, server: &Server) -> Result<Findings> {
    let asking = |error| fault::statement("checking privileges", error);
    let mut findings = Findings::default();
    let attributes = session.rows(ATTRIBUTES).await.map_err(asking)?;
    for row in &attributes {
        let (role, is_self, attribute) = (row.text(0), row.flag(1), row.text(2));
        findings.privileges.push(format!("role attribute {attribute}{}", through(&role, is_self)));
        if is_self && attribute != "SUPERUSER" {
            findings.fixes.push(format!("ALTER ROLE {} NO{attribute};", ident(&role)));
        }
    }
    let granted = session.rows(&granted(server)).await.map_err(asking)?;
    let revoke = |row: &TextRow| row.text(0);
    if findings.privileges.iter().any(|privilege| privilege == "role attribute SUPERUSER") {
        findings.fixes = vec!["A superuser cannot be made read-only: create a role of its own.".to_owned()];
        findings.fixes.extend(granted.iter().filter(|row| row.flag(1)).map(revoke));
        findings.privileges.truncate(1);
        return Ok(findings);
    }
    for row in session.rows(MEMBERSHIPS).await.map_err(asking)? {
        let (role, writes) = (row.text(0), row.flag(1));
        if writes {
            findings.privileges.push(format!("member of {role}"));
            findings.fixes.push(match role.as_str() {
                "pg_database_owner" => owner_advice(&row.text(2), &row.text(3), row.flag(4)),
                _ => format!("REVOKE {} FROM {};", ident(&role), ident(&row.text(2))),
            });
        } else {
            findings.notes.push(format!("is a member of {role}"));
        }
    }
    let rows = session.rows(&objects(server)).await.map_err(asking)?;
    let more = rows.len().saturating_sub(NAMED_AT_MOST);
    let mut all_owned = None;
    for (at, row) in rows.iter().enumerate() {
        let (kind, name, privileges) = (row.text(0), row.text(1), row.text(2));
        if at < NAMED_AT_MOST {
            let through = through(&row.text(3), row.flag(4));
            findings.privileges.push(format!("{kind} {name}: {privileges}{through}"));
        }
        if !row.flag(4) || privileges.split(", ").all(|privilege| privilege != "OWNER") {
            continue;
        }
        let has_own_statement = at < NAMED_AT_MOST || SUPERUSERS_ONLY.contains(&kind.as_str());
        if has_own_statement && kind != "extension" {
            findings.fixes.extend(give_away(&kind, &name, &row.text(5)));
        } else {
            // A column's sequence goes with its table.
            all_owned = all_owned.or_else(|| reassign(&row.text(3), &row.text(5)));
        }
    }
    findings.fixes.extend(all_owned);
    let others = attributes.iter().filter(|row| !row.flag(1)).map(|row| row.text(0));
    let others = others.chain(rows.iter().filter(|row| !row.flag(4)).map(|row| row.text(3)));
    findings.fixes.extend(memberships(session, others.collect()).await.map_err(asking)?);
    if more > 0 {
        let at_least = if rows.iter().filter(|row| row.text(0) == LARGE_OBJECT).count() >= LARGE_OBJECTS {
            "at least "
        } else {
            ""
        };
        findings.privileges.push(format!("and {at_least}{more} more"));
    }
    findings.fixes.extend(granted.iter().map(revoke));
    residual(session, server, &mut findings).await?;
    Ok(findings)
}

/// The statements that end the memberships through which the role may become any of these.
async fn memberships(
    session: &Session,
    roles: BTreeSet<String>,
) -> Result<Vec<String>, tokio_postgres::Error> {
    if roles.is_empty() {
        return Ok(Vec::new());
    }
    let roles: Vec<String> = roles.iter().map(|role| literal(role)).collect();
    let sql = format!(
        "SELECT DISTINCT direct.rolname::text, current_user::text FROM pg_auth_members m \
           JOIN pg_roles direct ON direct.oid = m.roleid, pg_roles r \
         WHERE m.member = (SELECT oid FROM pg_roles WHERE rolname = current_user) AND r.rolname IN ({}) \
           AND pg_has_role(direct.oid, r.oid, 'MEMBER') AND direct.rolname !~ '[[:cntrl:]]' ORDER BY 1",
        roles.join(", ")
    );
    let revoke = |row: &TextRow| format!("REVOKE {} FROM {};", ident(&row.text(0)), ident(&row.text(1)));
    Ok(session.rows(&sql).await?.iter().map(revoke).collect())
}

/// The owner of a database is a member of `pg_database_owner` by being it, which nothing revokes.
fn owner_advice(user: &str, owner: &str, is_direct_member: bool) -> String {
    if user == owner {
        return format!("{user} owns the database and cannot be made read-only: create a role of its own.");
    }
    if is_direct_member {
        return format!("REVOKE {} FROM {};", ident(owner), ident(user));
    }
    format!(
        "{user} is a member of the database's owner {owner} through another role: create a role of its own."
    )
}

/// The statement that gives an object of the role to the database's owner; that of a table gives its
/// own sequences too. A name with a line break or the like is left out, since statements are shown to be
/// copied line by line.
fn give_away(kind: &str, name: &str, new_owner: &str) -> Option<String> {
    let keyword = match kind {
        // Its owner is the one to give to.
        "database" => return None,
        // There its arguments are written in another way.
        "aggregate" => "ROUTINE".to_owned(),
        "composite type" => "TYPE".to_owned(),
        "statistics object" => "STATISTICS".to_owned(),
        "foreign-data wrapper" => "FOREIGN DATA WRAPPER".to_owned(),
        kind => kind.to_uppercase(),
    };
    let is_plain = !new_owner.is_empty() && !name.chars().any(char::is_control);
    is_plain.then(|| format!("ALTER {keyword} {name} OWNER TO {};", ident(new_owner)))
}

/// The statement that gives everything of the role to the database's owner, for extensions, of which none
/// is given alone, and for more than is named. What only a superuser may be given makes it fail, and so
/// has to be given before.
fn reassign(role: &str, new_owner: &str) -> Option<String> {
    let is_known = !new_owner.is_empty();
    is_known.then(|| format!("REASSIGN OWNED BY {} TO {};", ident(role), ident(new_owner)))
}

fn through(role: &str, is_self: bool) -> String {
    if is_self { String::new() } else { format!(" (through SET ROLE {role})") }
}

/// Attributes of the role and of every role it may become.
const ATTRIBUTES: &str = "\
    SELECT r.rolname::text, (r.rolname = current_user)::text, a FROM pg_roles r, \
      unnest(ARRAY[CASE WHEN rolsuper THEN 'SUPERUSER' END, CASE WHEN rolcreaterole THEN 'CREATEROLE' END, \
        CASE WHEN rolcreatedb THEN 'CREATEDB' END, CASE WHEN rolreplication THEN 'REPLICATION' END]) a \
    WHERE a IS NOT NULL AND pg_has_role(current_user, r.oid, 'MEMBER') \
    ORDER BY (r.rolname = current_user) DESC, a = 'SUPERUSER' DESC, 1, 3";

/// The predefined roles that write, or do more than read.
const MEMBERSHIPS: &str = "\
    SELECT r.rolname::text, (r.rolname IN ('pg_write_all_data', 'pg_execute_server_program', 'pg_write_server_files', \
      'pg_maintain', 'pg_create_subscription', 'pg_database_owner'))::text, current_user::text, \
      pg_get_userbyid(d.datdba)::text, EXISTS (SELECT FROM pg_auth_members m WHERE m.roleid = d.datdba \
        AND m.member = (SELECT oid FROM pg_roles WHERE rolname = current_user))::text \
    FROM pg_roles r JOIN pg_database d ON d.datname = current_database() WHERE r.rolname ~ '^pg_' AND pg_has_role(current_user, r.oid, 'MEMBER') \
      AND r.rolname NOT IN ('pg_read_all_data', 'pg_read_all_settings', 'pg_read_all_stats', 'pg_monitor', \
        'pg_stat_scan_tables') ORDER BY 1";

/// Statements that take away what was granted to the role itself, and what every role holds because it
/// was granted to PUBLIC: a new role would hold it too, which is why the second column tells them
/// apart. A name with a line break or the like is left out, since the statements are shown to be
/// copied line by line.
fn granted(server: &Server) -> String {
    let parameters = if server.version_number >= PARAMETERS_SINCE {
        "UNION ALL SELECT 7, 'PARAMETER', parname, '', 10, paracl FROM pg_parameter_acl"
    } else {
        ""
    };
    format!(
        "WITH self AS (SELECT oid, quote_ident(rolname) AS name FROM pg_roles WHERE rolname = current_user), \
      ns AS (SELECT oid, nspname, nspowner, nspacl FROM pg_namespace \
        WHERE nspname !~ '^pg_'), \
      rel AS (SELECT c.oid, c.relacl, c.relowner, CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind, \
          quote_ident(ns.nspname) || '.' || quote_ident(c.relname) AS name \
        FROM pg_class c JOIN ns ON ns.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')), \
      large AS (SELECT m.oid, lomowner, lomacl FROM pg_largeobject_metadata m, self WHERE lomacl IS NOT NULL \
        AND EXISTS (SELECT FROM aclexplode(lomacl) WHERE grantee IN (0, self.oid) AND privilege_type = 'UPDATE') \
        LIMIT 50), \
      acl (place, kind, name, suffix, owner, items) AS ( \
        SELECT 1, 'DATABASE', quote_ident(datname), '', datdba, datacl FROM pg_database WHERE datname = current_database() \
        UNION ALL SELECT 2, 'TABLESPACE', quote_ident(spcname), '', spcowner, spcacl FROM pg_tablespace \
        UNION ALL SELECT 3, 'SCHEMA', quote_ident(nspname), '', nspowner, nspacl FROM ns \
        UNION ALL SELECT 4, kind, name, '', relowner, relacl FROM rel \
        UNION ALL SELECT 4, kind, name, ' (' || quote_ident(attname) || ')', relowner, attacl FROM rel \
          JOIN pg_attribute ON attrelid = rel.oid AND attacl IS NOT NULL AND NOT attisdropped \
        UNION ALL SELECT 5, 'LARGE OBJECT', oid::text, '', lomowner, lomacl FROM large \
        UNION ALL SELECT 6, 'FUNCTION', p.oid::regprocedure::text, '', proowner, proacl FROM pg_proc p WHERE {FILE_WRITERS} \
        {parameters}) \
    SELECT format('REVOKE %s ON %s %s FROM %s;', \
      string_agg(privilege_type || suffix, ', ' ORDER BY privilege_type, suffix), acl.kind, acl.name, \
      CASE grantee WHEN 0 THEN 'PUBLIC' ELSE self.name END), (grantee = 0)::text \
    FROM acl, self, aclexplode(items) \
    WHERE (grantee = 0 OR (grantee = self.oid AND owner <> self.oid)) AND acl.name || suffix !~ '[[:cntrl:]]' \
      AND (privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER', 'MAINTAIN', 'CREATE') \
        OR (privilege_type, kind) IN (('USAGE', 'SEQUENCE'), ('EXECUTE', 'FUNCTION'), ('ALTER SYSTEM', 'PARAMETER'))) \
    GROUP BY place, acl.kind, acl.name, grantee, self.name ORDER BY place, acl.name, grantee"
    )
}

/// Functions of the server and its extensions that write files on its machine. Who may call one was
/// granted that by name.
const FILE_WRITERS: &str = "p.proname IN ('lo_export', 'lo_import', 'pg_file_write', 'pg_file_rename', 'pg_file_unlink') \
    AND p.prolang IN (SELECT l.oid FROM pg_language l WHERE l.lanname IN ('internal', 'c'))";

/// The first version in which the right to change a setting of the server can be granted.
const PARAMETERS_SINCE: u32 = 150_000;

/// What a role is noted to own because the note is about it, and that it cannot write by.
const NOT_WRITING: &str = "'pg_user_mapping'::regclass, 'pg_default_acl'::regclass";

/// Kinds of objects that only superusers may be given.
const SUPERUSERS_ONLY: [&str; 3] = ["event trigger", "foreign-data wrapper", "subscription"];

/// The kind of objects that there may be millions of.
const LARGE_OBJECT: &str = "large object";
/// So many of them are looked for.
const LARGE_OBJECTS: usize = 1000;

/// Privileges and ownership, one row for each object and role. Whoever owns a function, a type or a large
/// object may replace it, and the server keeps a list of what every role owns.
fn objects(server: &Server) -> String {
    let maintain = if server.version_number >= 170_000 { ", 'MAINTAIN'" } else { "" };
    let parameters = if server.version_number >= PARAMETERS_SINCE {
        "UNION ALL SELECT 'parameter', parname, 'ALTER SYSTEM', role.oid, NULL FROM role, pg_parameter_acl \
         WHERE has_parameter_privilege(role.oid, parname, 'ALTER SYSTEM')"
    } else {
        ""
    };
    let superusers_only = SUPERUSERS_ONLY.map(literal).join(", ");
    format!(
        "WITH role AS (SELECT oid, rolname FROM pg_roles \
             WHERE pg_has_role(current_user, oid, 'MEMBER') AND rolname !~ '^pg_'), \
           ns AS (SELECT oid, nspname FROM pg_namespace WHERE nspname !~ '^pg_'), \
           rel AS (SELECT c.oid, c.relkind, c.relowner, quote_ident(ns.nspname) || '.' || quote_ident(c.relname) AS name \
             FROM pg_class c JOIN ns ON ns.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')), \
           owned AS (SELECT classid, objid, refobjid AS role FROM pg_shdepend JOIN role ON role.oid = refobjid \
             WHERE refclassid = 'pg_authid'::regclass AND deptype = 'o' \
               AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) \
               AND classid NOT IN ({NOT_WRITING})), \
           found (kind, name, privilege, role, relation) AS ( \
             SELECT 'table', name, p, role.oid, rel.oid FROM role, rel, \
               unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER'{maintain}]) p \
               WHERE relkind <> 'S' AND has_table_privilege(role.oid, rel.oid, p) \
             UNION ALL SELECT 'columns of', name, p, role.oid, rel.oid FROM role, rel, unnest(ARRAY['INSERT', 'UPDATE', 'REFERENCES']) p \
               WHERE relkind <> 'S' AND has_any_column_privilege(role.oid, rel.oid, p) \
                 AND NOT has_table_privilege(role.oid, rel.oid, p) \
             UNION ALL SELECT 'sequence', name, p, role.oid, rel.oid FROM role, rel, unnest(ARRAY['UPDATE', 'USAGE']) p \
               WHERE relkind = 'S' AND has_sequence_privilege(role.oid, rel.oid, p) \
             UNION ALL SELECT CASE relkind WHEN 'S' THEN 'sequence' ELSE 'table' END, name, 'OWNER', role.oid, rel.oid \
               FROM role JOIN rel ON rel.relowner = role.oid \
             UNION ALL SELECT 'schema', quote_ident(nspname), 'CREATE', role.oid, NULL FROM role, ns \
               WHERE has_schema_privilege(role.oid, ns.oid, 'CREATE') \
             UNION ALL SELECT 'database', quote_ident(datname), p, role.oid, NULL FROM role, pg_database d, \
               unnest(ARRAY['CREATE', 'OWNER']) p WHERE datname = current_database() \
                 AND CASE p WHEN 'OWNER' THEN d.datdba = role.oid ELSE has_database_privilege(role.oid, d.oid, p) END \
             UNION ALL SELECT 'tablespace', quote_ident(spcname), p, role.oid, NULL FROM role, pg_tablespace s, \
               unnest(ARRAY['CREATE', 'OWNER']) p \
               WHERE CASE p WHEN 'OWNER' THEN s.spcowner = role.oid ELSE has_tablespace_privilege(role.oid, s.oid, p) END \
             UNION ALL SELECT 'subscription', quote_ident(subname), 'OWNER', role.oid, NULL \
               FROM role JOIN pg_subscription ON subowner = role.oid \
               WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()) \
             UNION ALL SELECT 'function', p.oid::regprocedure::text, 'EXECUTE', role.oid, NULL FROM role, pg_proc p \
               WHERE {FILE_WRITERS} AND has_function_privilege(role.oid, p.oid, 'EXECUTE') \
             {parameters} \
             UNION ALL SELECT i.type, i.identity, 'OWNER', owned.role, NULL FROM owned, \
               LATERAL pg_identify_object(owned.classid, owned.objid, 0) i \
               WHERE i.identity IS NOT NULL AND owned.classid <> 'pg_largeobject'::regclass \
                 AND (owned.classid <> 'pg_class'::regclass OR i.type = 'composite type') \
             UNION ALL SELECT '{LARGE_OBJECT}', objid::text, p, role, NULL FROM ( \
               SELECT objid, 'OWNER' AS p, role FROM owned WHERE classid = 'pg_largeobject'::regclass \
               UNION ALL SELECT m.oid, 'UPDATE', role.oid FROM pg_largeobject_metadata m, aclexplode(lomacl) AS granted, role \
                 WHERE privilege_type = 'UPDATE' AND grantee IN (0, role.oid) AND lomowner <> role.oid \
               LIMIT {LARGE_OBJECTS}) AS large), \
           direct AS (SELECT found.*, role.rolname, role.rolname = current_user AS is_self \
             FROM found JOIN role ON role.oid = found.role) \
         SELECT kind, name, string_agg(privilege, ', ' ORDER BY privilege), rolname::text, is_self::text, \
           CASE WHEN kind IN ({superusers_only}) \
               THEN (SELECT rolname::text FROM pg_roles WHERE rolsuper ORDER BY oid LIMIT 1) \
             WHEN NOT EXISTS (SELECT FROM pg_depend d WHERE kind = 'sequence' AND d.classid = 'pg_class'::regclass \
                 AND d.objid = relation AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')) \
               THEN (SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = current_database() \
                 AND datdba <> direct.role) END \
         FROM direct \
         WHERE is_self OR NOT EXISTS (SELECT FROM direct own WHERE own.is_self \
           AND (own.kind, own.name, own.privilege) = (direct.kind, direct.name, direct.privilege)) \
         GROUP BY kind, name, role, relation, rolname, is_self ORDER BY is_self DESC, kind, name, rolname"
    )
}

/// What remains possible for nearly every role, and is said rather than refused.
async fn residual(session: &Session, server: &Server, findings: &mut Findings) -> Result<()> {
    let asking = |error| fault::statement("checking privileges", error);
    let temporary = "SELECT has_database_privilege(current_database(), 'TEMPORARY')::text";
    if session.rows(temporary).await.map_err(asking)?.first().is_some_and(|row| row.flag(0)) {
        findings.notes.push("may create temporary tables".to_owned());
    }
    if server.version_number < 160_000 {
        findings.notes.push("may create large objects, which this version allows to everybody".to_owned());
    }
    let definers = "SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace \
        WHERE p.prosecdef AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
          AND has_function_privilege(p.oid, 'EXECUTE') ORDER BY 1 LIMIT 10";
    for row in session.rows(definers).await.map_err(asking)? {
        findings
            .notes
            .push(format!("may call {}, which runs with its owner's privileges and may write", row.text(0)));
    }
    Ok(())
}

/// What [`read_only_setup_sql`] writes statements for.
#[derive(Clone, Debug)]
pub struct ReadOnlySetup<'a> {
    /// The role to create.
    pub role: &'a str,
    /// The database it may read.
    pub database: &'a str,
    /// As `server_version_num`; before a server was reached, take 150000.
    pub server_version_number: u32,
    /// Schemas to grant on where the server has no `pg_read_all_data` (before 14).
    pub schemas: &'a [&'a str],
    /// Whether some table has row-level security.
    pub has_row_security: bool,
}

/// SQL that creates a role which may read everything in a database and write nothing, to be copied
/// and run while connected to that database. Its first line says who can run it.
pub fn read_only_setup_sql(setup: &ReadOnlySetup<'_>) -> String {
    let (role, database) = (ident(setup.role), ident(setup.database));
    let runner = if setup.server_version_number >= 140_000 {
        "a superuser, or a role with CREATEROLE and ADMIN on pg_read_all_data"
    } else {
        "a superuser, or a role with CREATEROLE that owns the database and its tables"
    };
    let mut sql = format!(
        "-- Run as {runner},\n\
         -- while connected to the database. Choose a password of your own.\n\
         CREATE ROLE {role} LOGIN PASSWORD {};\n\
         ALTER ROLE {role} SET default_transaction_read_only = on;\n\
         GRANT CONNECT ON DATABASE {database} TO {role};\n",
        literal("choose-a-long-password")
    );
    if setup.server_version_number >= 140_000 {
        sql.push_str(&format!("GRANT pg_read_all_data TO {role};\n"));
    } else {
        sql.push_str("-- For every schema, as the owner of its tables:\n");
        for schema in setup.schemas.iter().map(|schema| ident(schema)) {
            sql.push_str(&format!(
                "GRANT USAGE ON SCHEMA {schema} TO {role};\n\
                 GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role};\n\
                 GRANT SELECT ON ALL SEQUENCES IN SCHEMA {schema} TO {role};\n\
                 ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT ON TABLES TO {role};\n\
                 ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT ON SEQUENCES TO {role};\n"
            ));
        }
    }
    if setup.server_version_number < 150_000 {
        sql.push_str(
            "-- Before version 15 everybody may create tables in the schema public. This takes it from every\n\
             -- role, not only the new one, and must be run by the schema's owner or a superuser:\n",
        );
        sql.push_str("REVOKE CREATE ON SCHEMA public FROM PUBLIC;\n");
    }
    if setup.has_row_security {
        sql.push_str("-- Row-level security would hide rows from the role.\n");
        sql.push_str(&format!("ALTER ROLE {role} BYPASSRLS;\n"));
    }
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_the_setup_are_quoted() {
        let setup = ReadOnlySetup {
            role: "a\"b",
            database: "x; DROP TABLE y",
            server_version_number: 130_000,
            schemas: &["public", "It's"],
            has_row_security: true,
        };
        let sql = read_only_setup_sql(&setup);
        assert!(sql.contains("CREATE ROLE \"a\"\"b\" LOGIN"));
        assert!(sql.contains("GRANT CONNECT ON DATABASE \"x; DROP TABLE y\" TO"));
        assert!(sql.contains("GRANT USAGE ON SCHEMA \"It's\" TO"));
        assert!(sql.contains("BYPASSRLS") && !sql.contains("pg_read_all_data"));
        assert!(sql.contains("owner or a superuser:\nREVOKE CREATE ON SCHEMA public FROM PUBLIC;"));
    }

    #[test]
    fn ownership_is_not_revoked_and_a_membership_is() {
        assert!(owner_advice("shop", "shop", false).contains("shop owns the database"));
        assert_eq!(owner_advice("app", "shop owner", true), "REVOKE \"shop owner\" FROM \"app\";");
        assert!(owner_advice("app", "shop", false).contains("through another role"));
    }

    #[test]
    fn the_setup_says_first_who_can_run_it() {
        let setup = ReadOnlySetup {
            role: "ro",
            database: "shop",
            server_version_number: 150_000,
            schemas: &[],
            has_row_security: false,
        };
        let sql = read_only_setup_sql(&setup);
        let first = sql.lines().next().unwrap();
        assert_eq!(first, "-- Run as a superuser, or a role with CREATEROLE and ADMIN on pg_read_all_data,");
        assert!(!sql.contains("REVOKE"));
    }
}
