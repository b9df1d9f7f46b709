//! Rows into one table.

use bytes::Bytes;
use futures::SinkExt;
use repo_format::catalog::{CollectionKind, Layout};
use tokio::sync::mpsc::Receiver;

use super::{Target, copy_text, fault};
use crate::error::{Error, Kind, Result};
use crate::source::postgres::session::{Session, ident, literal, qualified};
use crate::source::{RecordBatch, sql_name};
use crate::target::Note;

/// The server judges rows as they come but tells only when a COPY ends, so one ends every so often.
const COPY_BYTES: usize = 64 << 20;
/// Bytes per message to the server. A longer row is a message of its own.
const MESSAGE_BYTES: usize = 256 << 10;

impl Target {
    /// Loads the records of one collection, values inline, and returns how many there were.
    /// All of them or none: the load is one transaction, and commits only when `expected` records
    /// came and the server counted as many. A partitioned table is loaded through its root.
    ///
    /// The sender ends the load by dropping its end; dropping it early fails it.
    pub async fn load(
        &self,
        layout: &Layout,
        namespace: &str,
        name: &str,
        expected: u64,
        rows: Receiver<RecordBatch>,
    ) -> Result<u64> {
        if layout.kind == CollectionKind::LargeObjects {
            return self.load_large_objects(layout, expected, rows).await;
        }
        let doing = format!("loading {}", sql_name(namespace, name));
        let failed = |error| fault::statement(&doing, error);
        let session = self.loader().await?;
        let guard = session.cancel_guard();
        session.run(&format!("BEGIN; {}", self.pins())).await.map_err(failed)?;
        if look(&session, namespace, name, &doing).await? {
            // Such a function may count on the search path that its author had.
            let path = format!("SET LOCAL search_path = {}, public", ident(namespace));
            session.run(&path).await.map_err(failed)?;
            self.load_notes.lock().await.push(Note::remark(format!(
                "{} has generated columns or a partition key made by functions of its own: these ran while the rows \
                 were loaded, with its schema in the search path, and generated values are not compared",
                sql_name(namespace, name)
            )));
        }
        let loaded = copy(&session, layout, (namespace, name), &doing, expected, rows).await?;
        session.run("COMMIT").await.map_err(failed)?;
        guard.disarm();
        self.keep(session).await;
        Ok(loaded)
    }
}

/// Copies all of `rows` into a table, in the session's transaction.
pub(super) async fn copy(
    session: &Session,
    layout: &Layout,
    (namespace, name): (&str, &str),
    doing: &str,
    expected: u64,
    rows: Receiver<RecordBatch>,
) -> Result<u64> {
    let load = Load { session, sql: statement(layout, namespace, name), doing };
    let loaded = load.run(layout.columns.len(), rows).await?;
    if loaded == expected {
        return Ok(loaded);
    }
    Err(Error::new(Kind::Internal, format!("{doing}: {loaded} rows came, {expected} were expected")))
}

/// Columns are named: their order in the target is its own business. Without columns there is no
/// list to write, and each line is empty.
fn statement(layout: &Layout, namespace: &str, name: &str) -> String {
    let columns: Vec<String> = layout.columns.iter().map(|column| ident(&column.name)).collect();
    let list = if columns.is_empty() { String::new() } else { format!(" ({})", columns.join(", ")) };
    format!("COPY {}{list} FROM STDIN", qualified(namespace, name))
}

/// Triggers come with the archive's last section. One that is there already would change or
/// multiply rows, and is refused. Whether loading calls functions of the snapshot: for generated
/// columns, or to find a row's partition.
async fn look(session: &Session, namespace: &str, name: &str, doing: &str) -> Result<bool> {
    let table = format!("pg_catalog.to_regclass({})", literal(&qualified(namespace, name)));
    let sql = format!(
        "WITH tree AS (SELECT relid::pg_catalog.oid FROM pg_catalog.pg_partition_tree({table}) \
           UNION SELECT {table}::pg_catalog.oid), \
         called AS (SELECT d.refobjid FROM pg_catalog.pg_depend d JOIN tree ON d.objid = relid \
             WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass \
           UNION SELECT d.refobjid FROM pg_catalog.pg_attrdef a JOIN tree ON a.adrelid = relid \
             JOIN pg_catalog.pg_attribute c ON c.attrelid = a.adrelid AND c.attnum = a.adnum AND c.attgenerated <> '' \
             JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND d.objid = a.oid \
               AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass) \
         SELECT (SELECT pg_catalog.count(*) FROM pg_catalog.pg_trigger \
             WHERE tgrelid = {table} AND NOT tgisinternal)::pg_catalog.text, \
           EXISTS (SELECT FROM called JOIN pg_catalog.pg_proc p ON p.oid = refobjid \
             JOIN pg_catalog.pg_language l ON l.oid = p.prolang WHERE p.oid >= 16384 AND l.lanname <> 'c')::pg_catalog.text"
    );
    let rows = session.rows(&sql).await.map_err(|error| fault::statement(doing, error))?;
    let found = rows.first();
    if found.is_none_or(|row| row.number::<u64>(0) == 0) {
        return Ok(found.is_some_and(|row| row.flag(1)));
    }
    Err(Error::new(Kind::Conflict, format!("{doing}: the table has triggers before its rows were loaded"))
        .with_help("Somebody else changes the target: restore into a new database."))
}

struct Load<'a> {
    session: &'a Session,
    sql: String,
    doing: &'a str,
}

impl Load<'_> {
    async fn run(&self, columns: usize, mut rows: Receiver<RecordBatch>) -> Result<u64> {
        let mut loaded = 0;
        let mut pending: Option<RecordBatch> = rows.recv().await;
        while let Some(first) = pending.take() {
            let (rows_in_copy, rest) = self.one_copy(columns, first, &mut rows).await?;
            loaded += rows_in_copy;
            pending = rest;
        }
        Ok(loaded)
    }

    /// One COPY of about [`COPY_BYTES`]. Returns its rows and the batch the next one begins with.
    async fn one_copy(
        &self,
        columns: usize,
        first: RecordBatch,
        rows: &mut Receiver<RecordBatch>,
    ) -> Result<(u64, Option<RecordBatch>)> {
        let failed = |error| fault::statement(self.doing, error);
        let sink = self.session.copy_in(&self.sql).await.map_err(failed)?;
        let mut sink = std::pin::pin!(sink);
        let (mut sent_rows, mut sent_bytes) = (0u64, 0usize);
        let mut message = Vec::with_capacity(MESSAGE_BYTES);
        let mut batch = Some(first);
        while let Some(records) = batch.take() {
            for (_, value) in records.iter() {
                copy_text::push_row(&mut message, value, columns)?;
                sent_rows += 1;
                if message.len() >= MESSAGE_BYTES {
                    sent_bytes += message.len();
                    sink.feed(take(&mut message)).await.map_err(failed)?;
                }
            }
            batch = rows.recv().await;
            if sent_bytes >= COPY_BYTES {
                break;
            }
        }
        if !message.is_empty() {
            sink.feed(take(&mut message)).await.map_err(failed)?;
        }
        let counted = sink.finish().await.map_err(failed)?;
        if counted != sent_rows {
            let message = format!("{}: {sent_rows} rows were sent and {counted} arrived", self.doing);
            return Err(Error::new(Kind::Refused, message));
        }
        Ok((sent_rows, batch))
    }
}

fn take(message: &mut Vec<u8>) -> Bytes {
    Bytes::from(std::mem::replace(message, Vec::with_capacity(MESSAGE_BYTES)))
}
