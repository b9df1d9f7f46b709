//! What there is to read: relations, and whether they can be.
//!
//! Every question is asked once for all relations, so that 50,000 tables cost as many queries as
//! one does.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::fault;
use super::passing::PASSED;
use super::session::{Session, literal, qualified};
use super::settings::Server;
use crate::error::Result;
use crate::source::{Incomplete, partition_name, sql_name};

/// A relation as the catalog lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Relation {
    pub(super) oid: u32,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) kind: Kind,
    is_unlogged: bool,
    pub(super) is_partition: bool,
    may_use_schema: bool,
    may_select: bool,
    is_filtered: bool,
    extension: Option<Membership>,
    has_foreign_name: bool,
    /// Whether it was dropped since the transaction that lists it can see.
    pub(super) is_gone: bool,
    /// Whether it may be dropped at any moment; see [`Passing`](super::passing::Passing).
    pub(super) is_passing: bool,
}

/// The kinds that hold, or stand for, rows of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Table,
    Partitioned,
    Foreign,
    Sequence,
}

/// How a relation belongs to an extension.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Membership {
    /// Marked by `pg_extension_config_dump`: its rows are the user's.
    is_configuration: bool,
    /// The `WHERE` clause that tells the user's rows from the extension's, or nothing.
    condition: String,
}

impl Relation {
    pub(super) fn sql(&self) -> String {
        qualified(&self.namespace, &self.name)
    }

    #[cfg(test)]
    pub(super) fn named(oid: u32, name: &str) -> Self {
        Self {
            oid,
            namespace: "public".to_owned(),
            name: name.to_owned(),
            kind: Kind::Table,
            is_unlogged: false,
            is_partition: false,
            may_use_schema: true,
            may_select: true,
            is_filtered: false,
            extension: None,
            has_foreign_name: false,
            is_gone: false,
            is_passing: false,
        }
    }

    pub(super) fn display(&self) -> String {
        sql_name(&self.namespace, &self.name)
    }

    /// What is appended to a query for the rows that are the user's.
    pub(super) fn condition(&self) -> &str {
        self.extension.as_ref().map_or("", |membership| &membership.condition)
    }

    /// Rows that come with the extension are restored by creating it.
    pub(super) fn belongs_to_extension(&self) -> bool {
        self.extension.as_ref().is_some_and(|membership| !membership.is_configuration)
    }

    pub(super) fn has_rows(&self) -> bool {
        matches!(self.kind, Kind::Table | Kind::Partitioned)
    }

    /// Whether all there is of it in this database is in the schema archive.
    fn is_definition_only(&self) -> bool {
        self.kind == Kind::Foreign && !self.has_foreign_name
    }

    /// Whether `pg_dump` may lock it, and so describe it.
    fn is_dumpable(&self) -> bool {
        self.may_select && self.may_use_schema && !self.has_foreign_name && !self.is_passing
    }

    /// Why `pg_dump` cannot describe a table of [`Plan::undumpable`], and what would let it.
    pub(super) fn undumpable(&self, user: &str) -> String {
        let (sql, user) = (self.sql(), super::session::ident(user));
        if self.is_passing {
            return PASSED.to_owned();
        }
        let reason = "its definition cannot be kept: pg_dump may not lock it without SELECT on it";
        if self.has_foreign_name {
            return reason.to_owned();
        }
        let schema = super::session::ident(&self.namespace);
        let mut missing = Vec::new();
        if !self.may_use_schema {
            missing.push(format!("GRANT USAGE ON SCHEMA {schema} TO {user};"));
        }
        if !self.may_select {
            missing.push(format!("GRANT SELECT ON TABLE {sql} TO {user};"));
        }
        format!("{reason}. Run: {}", missing.join(" "))
    }

    /// Why `user` cannot read this relation whole, if so.
    fn obstacle(&self, server: &Server, user: &str) -> Option<String> {
        let (sql, user) = (self.sql(), super::session::ident(user));
        if self.is_passing {
            return Some(PASSED.to_owned());
        }
        if self.has_foreign_name {
            return Some("its name or a column's is not UTF-8, so it cannot be asked for".to_owned());
        }
        if self.kind == Kind::Foreign {
            return Some("it is a foreign table: its rows are on another server".to_owned());
        }
        if !self.may_use_schema {
            let schema = super::session::ident(&self.namespace);
            return Some(format!(
                "no privilege on its schema. Run: GRANT USAGE ON SCHEMA {schema} TO {user};"
            ));
        }
        if !self.may_select {
            let object = if self.kind == Kind::Sequence { "SEQUENCE" } else { "TABLE" };
            return Some(format!("no privilege to read it. Run: GRANT SELECT ON {object} {sql} TO {user};"));
        }
        if self.is_filtered {
            return Some(format!("row-level security would hide rows. Run: ALTER ROLE {user} BYPASSRLS;"));
        }
        if self.is_unlogged && server.is_standby {
            return Some("it is unlogged, and unlogged tables are not readable on a standby".to_owned());
        }
        None
    }
}

/// All relations of the database that are not the system's, by namespace and name.
pub(super) async fn relations(session: &Session, server: &Server) -> Result<Vec<Relation>> {
    let sql = "\
        SELECT c.oid::text, n.nspname::text, c.relname::text, c.relkind::text, (c.relpersistence = 'u')::text, \
          c.relispartition::text, has_schema_privilege(n.oid, 'USAGE')::text, \
          (CASE c.relkind WHEN 'S' THEN has_sequence_privilege(c.oid, 'SELECT') \
             ELSE has_table_privilege(c.oid, 'SELECT') END)::text, \
          (c.relrowsecurity AND row_security_active(c.oid))::text, x.extname::text, \
          (c.oid = ANY (x.extconfig))::text, x.extcondition[array_position(x.extconfig, c.oid)] \
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
          LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0 \
            AND d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass \
          LEFT JOIN pg_extension x ON x.oid = d.refobjid \
        WHERE c.relkind IN ('r', 'p', 'f', 'S') AND c.relpersistence <> 't' \
          AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
        ORDER BY n.nspname COLLATE \"C\", c.relname COLLATE \"C\"";
    let odd_columns =
        if server.is_sql_ascii() { relations_with_odd_columns(session).await? } else { HashSet::new() };
    let rows = session.rows(sql).await.map_err(|error| fault::statement("listing tables", error))?;
    let relations = rows.iter().map(|row| {
        let oid = row.number(0);
        Relation {
            oid,
            namespace: row.text(1),
            name: row.text(2),
            kind: match row.text(3).as_str() {
                "r" => Kind::Table,
                "p" => Kind::Partitioned,
                "f" => Kind::Foreign,
                _ => Kind::Sequence,
            },
            is_unlogged: row.flag(4),
            is_partition: row.flag(5),
            may_use_schema: row.flag(6),
            may_select: row.flag(7),
            is_filtered: row.flag(8),
            extension: row
                .optional(9)
                .map(|_| Membership { is_configuration: row.flag(10), condition: row.text(11) }),
            has_foreign_name: !row.is_utf8(1) || !row.is_utf8(2) || odd_columns.contains(&oid),
            // Privileges are asked of the present, and of nothing there is no answer.
            is_gone: row.optional(6).is_none() || row.optional(7).is_none(),
            is_passing: false,
        }
    });
    Ok(relations.collect())
}

/// In a database without an encoding a column's name may be any bytes.
async fn relations_with_odd_columns(session: &Session) -> Result<HashSet<u32>> {
    let sql = "SELECT attrelid::text, attname::text FROM pg_attribute \
               WHERE attnum > 0 AND NOT attisdropped AND octet_length(attname::text) > 0 AND attname::text ~ '[^ -~]'";
    let rows = session.rows(sql).await.map_err(|error| fault::statement("listing columns", error))?;
    Ok(rows.iter().filter(|row| !row.is_utf8(1)).map(|row| row.number(0)).collect())
}

/// The partitions below every partitioned table, at any depth, and the parents of inheritance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Inheritance {
    /// Children by parent, in the catalog's order.
    children: BTreeMap<u32, Vec<u32>>,
}

impl Inheritance {
    pub(super) async fn read(session: &Session) -> Result<Self> {
        let sql = "SELECT inhparent::text, inhrelid::text FROM pg_inherits ORDER BY inhparent, inhrelid";
        let rows = session.rows(sql).await.map_err(|error| fault::statement("listing partitions", error))?;
        let mut children = BTreeMap::<u32, Vec<u32>>::new();
        for row in rows {
            children.entry(row.number(0)).or_default().push(row.number(1));
        }
        Ok(Self { children })
    }

    /// Everything below `root`, without it.
    pub(super) fn descendants(&self, root: u32) -> Vec<u32> {
        let mut found = Vec::new();
        let mut pending = vec![root];
        while let Some(parent) = pending.pop() {
            let children = self.children.get(&parent).map_or(&[][..], Vec::as_slice);
            found.extend_from_slice(children);
            pending.extend_from_slice(children);
        }
        found
    }
}

/// A listing sorted by what can be done with it.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Tables and partition roots to be locked and read.
    pub(super) tables: Vec<Relation>,
    /// Sequences whose state can be read.
    pub(super) sequences: Vec<Relation>,
    /// What cannot be read.
    pub(super) incomplete: Vec<Incomplete>,
    /// What has no rows of its own to read, in words. Nothing of the database is missing for it.
    pub(super) notes: Vec<String>,
    /// Tables that `pg_dump` could not lock either.
    pub(super) undumpable: Vec<Relation>,
    /// For partition roots with parts that cannot be read: the parts that can.
    pub(super) readable_parts: HashMap<u32, Vec<Relation>>,
    /// For partition roots with parts that can be read each by itself: those that have rows.
    pub(super) leaves: HashMap<u32, Vec<Relation>>,
    /// For every partition root: all relations of its tree.
    pub(super) trees: HashMap<u32, HashSet<u32>>,
}

/// Decides what is read. Asked before locking, for what to lock, and of what the snapshot shows.
pub(super) fn plan(relations: &[Relation], inheritance: &Inheritance, server: &Server, user: &str) -> Plan {
    let mut plan = Plan::default();
    let by_oid: HashMap<u32, &Relation> = relations.iter().map(|relation| (relation.oid, relation)).collect();
    for relation in relations.iter().filter(|relation| !relation.belongs_to_extension()) {
        let obstacle = relation.obstacle(server, user);
        if relation.has_rows() && !relation.is_dumpable() {
            plan.undumpable.push(relation.clone());
        }
        if relation.is_partition {
            continue;
        }
        if relation.is_definition_only() {
            let name = relation.display();
            plan.notes.push(format!(
                "{name} is a foreign table: its definition is kept, and its rows are on another server"
            ));
            continue;
        }
        if let Some(reason) = obstacle {
            plan.incomplete.push(Incomplete { name: relation.display(), reason });
            continue;
        }
        match relation.kind {
            Kind::Sequence => plan.sequences.push(relation.clone()),
            Kind::Partitioned => {
                plan_parts(&mut plan, relation, inheritance, &by_oid, server, user);
                plan.tables.push(relation.clone());
            }
            Kind::Table | Kind::Foreign => plan.tables.push(relation.clone()),
        }
    }
    plan
}

/// A partition that is a foreign table would have the server fetch rows from elsewhere, and is
/// refused: the other partitions are then read one by one. So are those of a tree of several levels
/// that has a definition missing: a restore makes a partition anew where its parent can only be the
/// root, and elsewhere its rows would have no place.
fn plan_parts(
    plan: &mut Plan,
    root: &Relation,
    inheritance: &Inheritance,
    by_oid: &HashMap<u32, &Relation>,
    server: &Server,
    user: &str,
) {
    let descendants = inheritance.descendants(root.oid);
    let parts = || descendants.iter().filter_map(|oid| by_oid.get(oid).copied());
    plan.trees.insert(root.oid, descendants.iter().copied().chain([root.oid]).collect());
    let has_levels = parts().any(|part| part.kind == Kind::Partitioned);
    let is_lost = |part: &Relation| {
        part.kind == Kind::Foreign
            || (part.is_unlogged && server.is_standby)
            || (has_levels && !part.is_dumpable())
    };
    if !parts().any(is_lost) {
        let leaves: Vec<_> = parts().filter(|part| part.kind != Kind::Partitioned).cloned().collect();
        if leaves.iter().all(|leaf| leaf.obstacle(server, user).is_none()) {
            plan.leaves.insert(root.oid, leaves);
        }
        return;
    }
    let mut orphans = HashMap::new();
    for lost in parts().filter(|part| part.kind == Kind::Partitioned && !part.is_dumpable()) {
        orphans.extend(inheritance.descendants(lost.oid).into_iter().map(|orphan| (orphan, lost)));
    }
    let obstacle = |part: &Relation| {
        part.obstacle(server, user).or_else(|| orphans.get(&part.oid).map(|lost| needs(&lost.display())))
    };
    let mut readable = Vec::new();
    for part in parts().filter(|part| part.kind != Kind::Partitioned) {
        match obstacle(part) {
            Some(reason) => {
                let name = partition_name(&part.display(), &root.display());
                plan.incomplete.push(Incomplete { name, reason });
            }
            None => readable.push(part.clone()),
        }
    }
    readable.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    plan.readable_parts.insert(root.oid, readable);
}

/// Why the definition of something is of no use without another's.
pub(super) fn needs(other: &str) -> String {
    format!("it cannot be restored: it needs {other}, whose definition cannot be kept")
}

/// The statement that locks every table against being dropped, rewritten or truncated. A partition
/// root brings its partitions; an inheritance parent must not bring its children.
pub(super) fn lock_statement(tables: &[Relation], mode: &str, nowait: bool) -> Option<String> {
    if tables.is_empty() {
        return None;
    }
    let names: Vec<_> = tables.iter().map(|table| format!("{}{}", only(table), table.sql())).collect();
    let nowait = if nowait { " NOWAIT" } else { "" };
    Some(format!("LOCK TABLE {} IN {mode} MODE{nowait}", names.join(", ")))
}

/// `ONLY `, except where it would leave out the partitions.
pub(super) fn only(table: &Relation) -> &'static str {
    if table.kind == Kind::Partitioned { "" } else { "ONLY " }
}

/// OIDs of the relations this session's transaction holds locks on.
pub(super) async fn locked(session: &Session) -> Result<Vec<(u32, String)>> {
    let sql = "SELECT l.relation::text, coalesce(c.relkind::text, '') FROM pg_locks l \
               LEFT JOIN pg_class c ON c.oid = l.relation \
               WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND l.granted \
                 AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
                 AND coalesce(c.relnamespace::regnamespace::text, '') NOT IN ('pg_catalog', 'pg_toast')";
    let rows = session.rows(sql).await.map_err(|error| fault::statement("checking locks", error))?;
    Ok(rows.iter().map(|row| (row.number(0), row.text(1))).collect())
}

/// `'{1,2,3}'::oid[]`.
pub(super) fn oid_array(oids: impl Iterator<Item = u32>) -> String {
    let oids: Vec<_> = oids.map(|oid| oid.to_string()).collect();
    format!("{}::oid[]", literal(&format!("{{{}}}", oids.join(","))))
}
