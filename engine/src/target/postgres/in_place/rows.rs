//! Rows of one table: removed, changed, added.
//!
//! Values travel as the texts that they were read as, and become values of the columns' types on the
//! server. Rows are found by their key, with the equality of the key's own index; where a table has no
//! key, by all of their values as the server prints them.

use std::collections::HashMap;

use repo_format::catalog::{KeySource, Layout};
use repo_format::record::{Field, Fields};
use tokio::sync::mpsc::Receiver;

use super::{Pass, TableName, failed};
use crate::error::{Error, Kind, Result};
use crate::source::postgres::TableFacts;
use crate::source::postgres::session::{Session, Text, ident, qualified};
use crate::source::{RecordBatch, sql_name};
use crate::target::postgres::load;

/// Writes rows of one table in its session's transaction.
pub(crate) struct TableWriter<'a> {
    session: &'a Session,
    layout: &'a Layout,
    table: &'a TableName,
    facts: TableFacts<'a>,
    /// Equality by key column, as SQL.
    equality: HashMap<String, String>,
}

impl<'a> TableWriter<'a> {
    pub(crate) async fn new(
        session: &'a Session,
        layout: &'a Layout,
        table: &'a TableName,
        facts: TableFacts<'a>,
    ) -> Result<Self> {
        let equality = equality(session, facts.oid).await?;
        Ok(Self { session, layout, table, facts, equality })
    }

    /// Carries out one pass over `expected` records, values inline. Every one of them must meet exactly
    /// one row.
    pub(crate) async fn run(
        &self,
        pass: Pass,
        expected: u64,
        mut rows: Receiver<RecordBatch>,
    ) -> Result<u64> {
        let doing = self.doing();
        let (namespace, name) = self.table;
        if pass == Pass::Insert {
            return load::copy(self.session, self.layout, (namespace, name), &doing, expected, rows).await;
        }
        let mut written = 0;
        while let Some(batch) = rows.recv().await {
            written += match pass {
                Pass::Delete if self.layout.key.source == KeySource::Multiset => {
                    self.delete_copies(&batch).await?
                }
                Pass::Delete => self.delete(&batch).await?,
                Pass::Update | Pass::Insert => self.update(&batch).await?,
            };
        }
        if written == expected {
            return Ok(written);
        }
        let message = format!("{doing}: {written} rows were written, {expected} were to be");
        Err(Error::new(Kind::Internal, message))
    }

    fn doing(&self) -> String {
        format!("writing {}", sql_name(&self.table.0, &self.table.1))
    }

    fn address(&self) -> String {
        format!("{}{}", self.facts.only, qualified(&self.table.0, &self.table.1))
    }

    async fn delete(&self, batch: &RecordBatch) -> Result<u64> {
        let key: Vec<usize> = self.layout.key.columns.iter().map(|part| part.column as usize).collect();
        let sql = format!(
            "WITH gone AS (DELETE FROM {} AS t USING {} WHERE {} RETURNING 1) SELECT count(*)::text FROM gone",
            self.address(),
            given(&key),
            self.meets(&key)?
        );
        self.write(&sql, &key, batch).await
    }

    async fn update(&self, batch: &RecordBatch) -> Result<u64> {
        let all: Vec<usize> = (0..self.layout.columns.len()).collect();
        let key: Vec<usize> = self.layout.key.columns.iter().map(|part| part.column as usize).collect();
        let mut set = Vec::new();
        for &at in &all {
            // A column that is always an identity takes no values but new ones. It is mostly the key, and
            // what else it holds is found by the proof.
            if self.column(at)?.identity != "a" {
                set.push(format!("{} = {}", ident(&self.layout.columns[at].name), self.value(at)?));
            }
        }
        let sql = format!(
            "WITH changed AS (UPDATE {} AS t SET {} FROM {} WHERE {} RETURNING 1) SELECT count(*)::text FROM changed",
            self.address(),
            set.join(", "),
            given(&all),
            self.meets(&key)?
        );
        self.write(&sql, &all, batch).await
    }

    /// Of equal rows, as many go as there are records. The server's own text of each value is compared:
    /// that is what was read.
    async fn delete_copies(&self, batch: &RecordBatch) -> Result<u64> {
        let all: Vec<usize> = (0..self.layout.columns.len()).collect();
        let printed = |at: &usize| {
            let column = ident(&self.layout.columns[*at].name);
            format!("CASE WHEN t.{column} IS NOT NULL THEN format('%s', t.{column}) COLLATE \"C\" END")
        };
        let printed: Vec<String> = all.iter().map(printed).collect();
        let wanted: Vec<String> = all.iter().map(|at| format!("v.c{at}")).collect();
        let sql = format!(
            "WITH wanted AS (SELECT ARRAY[{}]::text[] AS fields, count(*) AS copies FROM {} GROUP BY 1), \
             found AS (SELECT t.tableoid, t.ctid, ARRAY[{}]::text[] AS fields FROM {} AS t), \
             numbered AS (SELECT f.tableoid, f.ctid, w.copies, \
               row_number() OVER (PARTITION BY f.fields ORDER BY f.tableoid, f.ctid) AS number \
               FROM found AS f JOIN wanted AS w ON w.fields = f.fields), \
             gone AS (DELETE FROM {} AS t USING numbered AS n \
               WHERE t.tableoid = n.tableoid AND t.ctid = n.ctid AND n.number <= n.copies RETURNING 1) \
             SELECT count(*)::text FROM gone",
            wanted.join(", "),
            given(&all),
            printed.join(", "),
            self.address(),
            self.address()
        );
        self.write(&sql, &all, batch).await
    }

    /// Runs a statement over a batch's values in these columns, and returns how many rows it wrote.
    async fn write(&self, sql: &str, columns: &[usize], batch: &RecordBatch) -> Result<u64> {
        let mut arrays = vec![Vec::with_capacity(batch.len()); columns.len() + 1];
        for (_, record) in batch.iter() {
            let fields = texts(record, self.layout.columns.len())?;
            for (array, &column) in arrays.iter_mut().zip(columns) {
                array.push(fields[column]);
            }
            // Rows need not have columns.
            arrays[columns.len()].push(None);
        }
        let rows = self.session.rows_of_texts(sql, &arrays).await;
        let rows = rows.map_err(|error| failed(&self.doing(), error))?;
        Ok(rows.first().map_or(0, |row| row.number(0)))
    }

    /// Whether a row `t` has the key that was given.
    fn meets(&self, key: &[usize]) -> Result<String> {
        let part = |at: &usize| {
            let name = &self.layout.columns[*at].name;
            let equals = self.equality.get(name).map_or("OPERATOR(pg_catalog.=)", String::as_str);
            Ok(format!("t.{} {equals} {}", ident(name), self.value(*at)?))
        };
        let parts = key.iter().map(part).collect::<Result<Vec<_>>>()?;
        Ok(parts.join(" AND "))
    }

    /// The value given for a column, as one of its type.
    fn value(&self, at: usize) -> Result<String> {
        Ok(format!("v.c{at}::{}", self.column(at)?.type_name))
    }

    fn column(&self, at: usize) -> Result<&crate::source::postgres::Column> {
        let name = &self.layout.columns[at].name;
        self.facts.columns.iter().find(|column| column.name == *name).ok_or_else(|| {
            Error::new(
                Kind::Conflict,
                format!("{} has no column {name}", sql_name(&self.table.0, &self.table.1)),
            )
        })
    }
}

/// The rows given: a column for each of `columns`, and one that is always there.
fn given(columns: &[usize]) -> String {
    let arrays: Vec<String> = (1..=columns.len() + 1).map(|n| format!("${n}::text[]")).collect();
    let names: Vec<String> =
        columns.iter().map(|at| format!("c{at}")).chain(["nothing".to_owned()]).collect();
    // Several arrays at once are the server's syntax, which knows the name only as it stands here.
    format!("unnest({}) AS v ({})", arrays.join(", "), names.join(", "))
}

/// A record's fields. Those that are not written are NULL.
fn texts(record: &[u8], columns: usize) -> Result<Vec<Option<Text<'_>>>> {
    let mut fields = Vec::with_capacity(columns);
    for field in Fields::new(record) {
        fields.push(match field? {
            Field::Null => None,
            Field::Inline(bytes) => Some(Text(bytes)),
            Field::Out(_) => {
                return Err(Error::new(Kind::Internal, "a moved-out value reached the target unresolved"));
            }
        });
    }
    if fields.len() > columns {
        return Err(Error::damaged("a record has more fields than its collection has columns"));
    }
    fields.resize(columns, None);
    Ok(fields)
}

/// The equality that the unique indexes of a table go by, for each of their columns. An extension's is not
/// found by its name alone.
async fn equality(session: &Session, table: u32) -> Result<HashMap<String, String>> {
    let sql = format!(
        "SELECT a.attname::text, n.nspname::text, o.oprname::text \
         FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey::int2[], i.indclass::oid[]) AS k (number, class) \
           JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number \
           JOIN pg_opclass c ON c.oid = k.class JOIN pg_am m ON m.oid = c.opcmethod AND m.amname = 'btree' \
           JOIN pg_amop e ON e.amopfamily = c.opcfamily AND e.amopstrategy = 3 \
             AND e.amoplefttype = c.opcintype AND e.amoprighttype = c.opcintype \
           JOIN pg_operator o ON o.oid = e.amopopr JOIN pg_namespace n ON n.oid = o.oprnamespace \
         WHERE i.indrelid = {table} AND i.indisunique AND i.indisvalid ORDER BY i.indisprimary"
    );
    let rows = session.rows(&sql).await.map_err(|error| failed("looking at a table's key", error))?;
    let operator = |namespace: String, name: String| format!("OPERATOR({}.{name})", ident(&namespace));
    Ok(rows.iter().map(|row| (row.text(0), operator(row.text(1), row.text(2)))).collect())
}
