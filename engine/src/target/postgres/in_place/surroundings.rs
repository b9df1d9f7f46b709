//! What stands around tables: who may write to them, and what else happens when somebody does.

use std::collections::{BTreeMap, BTreeSet};

use super::TableName;
use crate::error::Result;
use crate::source::postgres::PostgresUrl;
use crate::source::postgres::connect::Connector;
use crate::source::postgres::session::{Session, TextRow};
use crate::source::postgres::settings::Server;
use crate::source::sql_name;
use crate::target::postgres::fault;

const TABLES: &str = "\
SELECT n.nspname::text, c.relname::text, \
  (has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'UPDATE') \
   AND has_table_privilege(c.oid, 'DELETE') AND has_table_privilege(c.oid, 'SELECT'))::text, \
  (SELECT string_agg(r.rulename::text, ', ' ORDER BY r.rulename) FROM pg_rewrite r \
   WHERE r.ev_class = c.oid AND r.ev_type IN ('2', '3', '4') AND r.ev_enabled IN ('O', 'A')) \
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'";

/// Those that fire for rows that are written. The root of a partition tree stands for all of it.
const TRIGGERS: &str = "\
SELECT rn.nspname::text, r.relname::text, n.nspname::text, c.relname::text, t.tgname::text, t.tgenabled::text, \
  pg_has_role(c.relowner, 'USAGE')::text \
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
  JOIN pg_class r ON r.oid = coalesce(pg_partition_root(t.tgrelid)::oid, t.tgrelid) \
  JOIN pg_namespace rn ON rn.oid = r.relnamespace \
WHERE NOT t.tgisinternal AND t.tgenabled IN ('O', 'A') AND t.tgtype & 28 <> 0 AND c.relkind IN ('r', 'p') \
ORDER BY 1, 2, 3, 4, 5";

const FOREIGN_KEYS: &str = "\
SELECT cn.nspname::text, c.relname::text, pn.nspname::text, p.relname::text, tn.nspname::text, t.relname::text, \
  k.conname::text, (k.confdeltype IN ('c', 'n', 'd') OR k.confupdtype IN ('c', 'n', 'd'))::text, \
  (k.confdeltype = 'a' AND k.confupdtype = 'a')::text, k.condeferrable::text, pg_has_role(t.relowner, 'USAGE')::text \
FROM pg_constraint k JOIN pg_class t ON t.oid = k.conrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace \
  JOIN pg_class c ON c.oid = coalesce(pg_partition_root(k.conrelid)::oid, k.conrelid) \
  JOIN pg_namespace cn ON cn.oid = c.relnamespace \
  JOIN pg_class p ON p.oid = coalesce(pg_partition_root(k.confrelid)::oid, k.confrelid) \
  JOIN pg_namespace pn ON pn.oid = p.relnamespace \
WHERE k.contype = 'f' AND k.conparentid = 0 ORDER BY 1, 2, 7";

/// Tables with more than one unique index or exclusion constraint, partition trees by their roots.
const RIVALS: &str = "\
SELECT DISTINCT n.nspname::text, c.relname::text \
FROM (SELECT indrelid FROM pg_index WHERE indisunique OR indisexclusion GROUP BY indrelid HAVING count(*) > 1) i \
  JOIN pg_class c ON c.oid = coalesce(pg_partition_root(i.indrelid)::oid, i.indrelid) \
  JOIN pg_namespace n ON n.oid = c.relnamespace";

const SEQUENCES: &str = "\
SELECT n.nspname::text, c.relname::text, pg_has_role(c.relowner, 'USAGE')::text, \
  has_sequence_privilege(c.oid, 'UPDATE')::text, tn.nspname::text, t.relname::text \
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
  LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0 \
    AND d.deptype IN ('a', 'i') AND d.refclassid = 'pg_class'::regclass \
  LEFT JOIN pg_class t ON t.oid = d.refobjid LEFT JOIN pg_namespace tn ON tn.oid = t.relnamespace \
WHERE c.relkind = 'S'";

const FILLED_VIEWS: &str = "\
SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
WHERE c.relkind = 'm' AND c.relispopulated ORDER BY 1, 2";

/// A table, as far as its user's rights go.
#[derive(Clone, Debug)]
pub(crate) struct TableRights {
    /// Whether the user may read and write its rows.
    pub(crate) may_write: bool,
    /// Names of rewrite rules for writing.
    pub(crate) rules: Option<String>,
}

/// A trigger that fires when rows are written.
#[derive(Clone, Debug)]
pub(crate) struct Trigger {
    /// The table, or the root of its partition tree.
    pub(crate) table: TableName,
    /// The table or partition that it is on.
    pub(crate) relation: TableName,
    pub(crate) name: String,
    /// Whether it fires in a replica's sessions, too.
    pub(crate) fires_always: bool,
    /// Whether the user may switch it off.
    pub(crate) owns: bool,
}

/// A foreign key. Partition trees are named by their roots.
#[derive(Clone, Debug)]
pub(crate) struct ForeignKey {
    pub(crate) child: TableName,
    pub(crate) parent: TableName,
    /// The table or partition whose constraint it is.
    pub(crate) relation: TableName,
    pub(crate) name: String,
    /// Whether it changes rows of the child when one of the parent goes or gets another key.
    pub(crate) acts: bool,
    is_no_action: bool,
    pub(crate) is_deferrable: bool,
    /// Whether the user may alter it.
    pub(crate) owns: bool,
}

impl ForeignKey {
    /// Whether all of its checks can be put off to the end of a transaction.
    pub(crate) fn waits(&self) -> bool {
        self.is_no_action
    }

    #[cfg(test)]
    pub(super) fn sample(child: TableName, parent: TableName, acts: bool) -> Self {
        let (relation, name) = (child.clone(), "fk".to_owned());
        let (is_no_action, is_deferrable, owns) = (!acts, false, true);
        Self { child, parent, relation, name, acts, is_no_action, is_deferrable, owns }
    }
}

/// A sequence, as far as its user's rights go.
#[derive(Clone, Debug)]
pub(crate) struct SequenceRights {
    pub(crate) owns: bool,
    pub(crate) may_set: bool,
    /// The table that it belongs to.
    pub(crate) table: Option<TableName>,
}

/// What stands around a database's tables.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    pub(crate) user: String,
    pub(crate) server_version: String,
    pub(crate) is_standby: bool,
    pub(crate) tables: BTreeMap<TableName, TableRights>,
    /// Tables in which a row can be in the way of another one's other values.
    pub(crate) rivals: BTreeSet<TableName>,
    pub(crate) triggers: Vec<Trigger>,
    pub(crate) foreign_keys: Vec<ForeignKey>,
    pub(crate) sequences: BTreeMap<TableName, SequenceRights>,
    /// Materialized views that hold data, which writing to tables does not change.
    pub(crate) filled_views: Vec<String>,
}

impl Surroundings {
    /// Reads them on a connection of their own. Any user who can log in may do it.
    pub(crate) async fn look(url: &PostgresUrl) -> Result<Self> {
        let session = Connector::new(url)?.connect().await?;
        let failed = |error| fault::statement("looking at the target", error);
        session.run("BEGIN READ ONLY; SET LOCAL search_path = ''").await.map_err(failed)?;
        let around = Self::read(&session).await?;
        session.run("COMMIT").await.map_err(failed)?;
        Ok(around)
    }

    /// Reads them in the session's transaction, whose search path is empty.
    pub(crate) async fn read(session: &Session) -> Result<Self> {
        let server = Server::read(session).await?;
        let list = |what: &'static str, sql: &'static str| async move {
            session.rows(sql).await.map_err(|error| fault::statement(what, error))
        };
        let name = |row: &TextRow, at: usize| (row.text(at), row.text(at + 1));
        let table =
            |row: &TextRow| (name(row, 0), TableRights { may_write: row.flag(2), rules: row.optional(3) });
        let trigger = |row: &TextRow| Trigger {
            table: name(row, 0),
            relation: name(row, 2),
            name: row.text(4),
            fires_always: row.text(5) == "A",
            owns: row.flag(6),
        };
        let foreign_key = |row: &TextRow| ForeignKey {
            child: name(row, 0),
            parent: name(row, 2),
            relation: name(row, 4),
            name: row.text(6),
            acts: row.flag(7),
            is_no_action: row.flag(8),
            is_deferrable: row.flag(9),
            owns: row.flag(10),
        };
        let sequence = |row: &TextRow| {
            let table = row.optional(5).map(|_| name(row, 4));
            (name(row, 0), SequenceRights { owns: row.flag(2), may_set: row.flag(3), table })
        };
        let user = list("asking who is logged in", "SELECT CURRENT_USER::text").await?;
        Ok(Self {
            user: user.first().map(|row| row.text(0)).unwrap_or_default(),
            server_version: server.version.clone(),
            is_standby: server.is_standby,
            tables: list("listing tables", TABLES).await?.iter().map(table).collect(),
            rivals: list("listing unique indexes", RIVALS).await?.iter().map(|row| name(row, 0)).collect(),
            triggers: list("listing triggers", TRIGGERS).await?.iter().map(trigger).collect(),
            foreign_keys: list("listing foreign keys", FOREIGN_KEYS).await?.iter().map(foreign_key).collect(),
            sequences: list("listing sequences", SEQUENCES).await?.iter().map(sequence).collect(),
            filled_views: (list("listing views", FILLED_VIEWS).await?.iter())
                .map(|row| sql_name(&row.text(0), &row.text(1)))
                .collect(),
        })
    }

    /// Whether a row of the table can go and come back with other values without anything noticing, where
    /// foreign keys are checked at the end: none acts on what refers to it.
    pub(crate) fn may_come_back(&self, table: &TableName) -> bool {
        self.foreign_keys.iter().all(|key| key.parent != *table || key.waits())
    }

    /// Tables beside these whose rows foreign keys change when these are written.
    pub(crate) fn bystanders(&self, tables: &[TableName]) -> Vec<TableName> {
        let written: BTreeSet<&TableName> = tables.iter().collect();
        let (mut found, mut pending) = (BTreeSet::new(), tables.iter().collect::<Vec<_>>());
        while let Some(parent) = pending.pop() {
            let children = self.foreign_keys.iter().filter(|key| key.acts && key.parent == *parent);
            for key in children {
                if !written.contains(&key.child) && found.insert(&key.child) {
                    pending.push(&key.child);
                }
            }
        }
        found.into_iter().cloned().collect()
    }
}
