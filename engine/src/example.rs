//! A small history that comes with the program: a made-up shop on two days. Whoever has no database at
//! hand sees with it what differences look like, made and read by what makes and reads all others.

use repo_format::catalog::{self, CollectionKind, Column, Descriptor, Key, KeyColumn, KeySource, Layout};
use repo_format::manifest::{Evidence, Grade, Manifest, Missing, Source, Trigger};
use repo_format::order::{KeyEncoding, postgres};
use repo_format::record::{Field, Writer as RecordWriter};
use serde_json::json;

use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::ingest::{Output, TreeWriter};
use crate::repo::{Repository, Session, Snapshot, Writer};
use crate::source::Engine;

/// The version of the rules that the schema texts here follow.
const SCHEMA_VERSION: u32 = 1;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// A column: its name, its type, and whether it takes no NULL.
type ColumnOf = (&'static str, &'static str, bool);

/// A table on one of the days. The first column is its primary key, an integer; rows are in its order.
struct Table {
    name: &'static str,
    columns: &'static [ColumnOf],
    rows: &'static [&'static [Option<&'static str>]],
}

/// A row of values that are there.
macro_rules! rows {
    ($([$($value:expr),+],)+) => { &[$(&[$($value),+]),+] };
}

const fn a(text: &'static str) -> Option<&'static str> {
    Some(text)
}

const CUSTOMERS: &[ColumnOf] = &[
    ("id", "integer", true),
    ("name", "text", true),
    ("city", "text", false),
    ("credit", "numeric(10,2)", true),
];
const ORDERS: &[ColumnOf] = &[
    ("id", "integer", true),
    ("customer_id", "integer", true),
    ("total", "numeric(10,2)", true),
    ("status", "text", true),
];
/// A day later there is one column more.
const ORDERS_LATER: &[ColumnOf] = &[
    ("id", "integer", true),
    ("customer_id", "integer", true),
    ("total", "numeric(10,2)", true),
    ("status", "text", true),
    ("shipped_on", "date", false),
];
const PRODUCTS: &[ColumnOf] =
    &[("id", "integer", true), ("name", "text", true), ("price", "numeric(10,2)", true)];

const ALL_PRODUCTS: &[&[Option<&str>]] = rows![
    [a("1"), a("Teapot"), a("24.00")],
    [a("2"), a("Cup"), a("6.50")],
    [a("3"), a("Kettle"), a("39.90")],
];

const FIRST_DAY: [Table; 3] = [
    Table {
        name: "customers",
        columns: CUSTOMERS,
        rows: rows![
            [a("1"), a("Ada Byron"), a("London"), a("120.00")],
            [a("2"), a("Carl Gauss"), a("Göttingen"), a("0.00")],
            [a("3"), a("Emmy Noether"), a("Erlangen"), a("35.50")],
            [a("4"), a("Leonhard Euler"), a("Basel"), a("80.00")],
            [a("5"), a("Sofia Kovalevskaya"), None, a("12.25")],
        ],
    },
    Table {
        name: "orders",
        columns: ORDERS,
        rows: rows![
            [a("101"), a("1"), a("48.00"), a("paid")],
            [a("102"), a("3"), a("6.50"), a("paid")],
            [a("103"), a("4"), a("39.90"), a("open")],
            [a("104"), a("5"), a("13.00"), a("open")],
        ],
    },
    Table { name: "products", columns: PRODUCTS, rows: ALL_PRODUCTS },
];

const SECOND_DAY: [Table; 3] = [
    Table {
        name: "customers",
        columns: CUSTOMERS,
        rows: rows![
            [a("1"), a("Ada Lovelace"), a("London"), a("72.00")],
            [a("3"), a("Emmy Noether"), a("Bryn Mawr"), a("35.50")],
            [a("4"), a("Leonhard Euler"), a("Basel"), a("80.00")],
            [a("5"), a("Sofia Kovalevskaya"), a("Stockholm"), a("12.25")],
            [a("6"), a("Alan Turing"), a("Wilmslow"), a("50.00")],
        ],
    },
    Table {
        name: "orders",
        columns: ORDERS_LATER,
        rows: rows![
            [a("101"), a("1"), a("48.00"), a("shipped"), a("2026-02-03")],
            [a("102"), a("3"), a("6.50"), a("paid"), None],
            [a("103"), a("4"), a("39.90"), a("cancelled"), None],
            [a("104"), a("5"), a("13.00"), a("open"), None],
            [a("105"), a("6"), a("24.00"), a("open"), None],
        ],
    },
    Table { name: "products", columns: PRODUCTS, rows: ALL_PRODUCTS },
];

/// Takes the two snapshots, the older one first. `source_id` is whose history they are.
pub async fn run(
    repo: &Repository,
    source_id: &str,
    source_name: &str,
    ctx: &Context,
) -> Result<[Snapshot; 2]> {
    let now_ms = ctx.clock.now_ms();
    let taking = Taking { repo, source_id, source_name, ctx };
    let first = taking.snapshot(&FIRST_DAY, None, now_ms - DAY_MS, "The shop as it was").await?;
    let second = taking.snapshot(&SECOND_DAY, Some(&first), now_ms, "A day of work later").await?;
    Ok([first, second])
}

struct Taking<'a> {
    repo: &'a Repository,
    source_id: &'a str,
    source_name: &'a str,
    ctx: &'a Context,
}

impl Taking<'_> {
    async fn snapshot(
        &self,
        tables: &'static [Table],
        parent: Option<&Snapshot>,
        at_ms: i64,
        note: &str,
    ) -> Result<Snapshot> {
        let session = Session::begin(self.repo, self.ctx).await?;
        let taken = async {
            let writer = Writer::new(self.repo);
            let (keys, output) = (self.repo.keys().clone(), Output::Repository(writer.clone()));
            let written = tokio::task::spawn_blocking(move || write(tables, &keys, &output)).await;
            let written = written.map_err(|error| {
                Error::new(Kind::Internal, "building the example ended early").with_source(error)
            })??;
            let new_bytes = writer.flush().await?.bytes;
            let manifest = Manifest { new_bytes, ..self.manifest(&written, parent, at_ms, note) };
            session.commit(manifest).await
        };
        let taken = taken.await;
        session.conclude(taken).await
    }

    fn manifest(&self, written: &Written, parent: Option<&Snapshot>, at_ms: i64, note: &str) -> Manifest {
        Manifest {
            source: Source {
                id: self.source_id.to_owned(),
                name: self.source_name.to_owned(),
                engine: Engine::Postgres.as_str().to_owned(),
                version: String::new(),
                database: "shop".to_owned(),
                encoding: "UTF8".to_owned(),
                collation: "C".to_owned(),
                extensions: Vec::new(),
                system_identifier: None,
            },
            trigger: Trigger::Manual,
            note: Some(note.to_owned()),
            started_ms: at_ms,
            finished_ms: at_ms,
            evidence: Evidence {
                method: "an example that comes with the program".to_owned(),
                snapshot: String::new(),
                log_position: None,
                server_time: String::new(),
                standby: false,
                grade: Grade::PointInTime,
            },
            parent: parent.map(|parent| parent.id),
            catalog_root: written.catalog.id,
            catalog_level: written.catalog.level,
            schema: None,
            sequences: Vec::new(),
            unfilled_views: Vec::new(),
            collections: written.collections,
            records: written.records,
            logical_bytes: written.logical_bytes,
            new_bytes: 0,
            missing: vec![Missing {
                name: "schema archive".to_owned(),
                reason: "This is an example: there is no database behind it, so it can be looked at and compared, \
                         and not restored."
                    .to_owned(),
            }],
            notes: Vec::new(),
        }
    }
}

/// What was written of a snapshot.
struct Written {
    catalog: repo_format::tree::Root,
    collections: u64,
    records: u64,
    logical_bytes: u64,
}

fn write(tables: &[Table], keys: &repo_format::keys::KeySchedule, output: &Output) -> Result<Written> {
    let mut catalog = TreeWriter::new(keys, output.clone());
    let (mut records, mut logical_bytes) = (0, 0);
    // Tables are in the order of their names, which is the catalog's.
    for table in tables {
        let mut tree = TreeWriter::new(keys, output.clone());
        for row in table.rows {
            let mut key = Vec::new();
            let id = row.first().copied().flatten().unwrap_or_default();
            postgres::push_key(&mut key, KeyEncoding::Integer, id.as_bytes())?;
            tree.push_sorted(&key, &record(row))?;
        }
        let root = tree.finish()?.root;
        records += root.records;
        logical_bytes += root.bytes;
        let descriptor = Descriptor {
            layout: table.layout(),
            data_root: root.id,
            level: root.level,
            records: root.records,
            logical_bytes: root.bytes,
            schema_version: SCHEMA_VERSION,
            natural_order: None,
        };
        let value = catalog::encode_value(&descriptor, &table.schema());
        catalog.push_sorted(&catalog::key("public", table.name), &value)?;
    }
    let catalog = catalog.finish()?.root;
    Ok(Written { catalog, collections: tables.len() as u64, records, logical_bytes })
}

fn record(row: &[Option<&str>]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = RecordWriter::new(&mut out);
    for value in row {
        writer.push(value.map_or(Field::Null, |text| Field::Inline(text.as_bytes())));
    }
    writer.finish();
    out
}

impl Table {
    fn layout(&self) -> Layout {
        let column = |(name, type_name, _): &ColumnOf| Column {
            name: (*name).to_owned(),
            type_name: (*type_name).to_owned(),
        };
        Layout {
            kind: CollectionKind::Table,
            columns: self.columns.iter().map(column).collect(),
            key: Key {
                source: KeySource::Primary,
                name: Some(format!("{}_pkey", self.name)),
                columns: vec![KeyColumn { column: 0, encoding: KeyEncoding::Integer }],
            },
        }
    }

    /// As the schema text of a table that was read from PostgreSQL.
    fn schema(&self) -> String {
        let column = |(name, type_name, not_null): &ColumnOf| json!({ "name": name, "not_null": not_null, "type": type_name });
        let columns: Vec<_> = self.columns.iter().map(column).collect();
        let name = format!("{}_pkey", self.name);
        json!({
            "columns": columns,
            "constraints": [{ "definition": "PRIMARY KEY (id)", "name": name }],
            "kind": "table",
        })
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diff::{self, Filter};
    use crate::repo::UnlockKey;
    use crate::rows::PageRequest;
    use crate::store::Storage;
    use crate::verify::{self, Mode};

    #[tokio::test]
    async fn the_example_is_a_history_like_any_other() {
        let scratch = tempfile::tempdir().unwrap();
        let ctx = Context::new(scratch.path());
        let store = Storage::memory().unwrap().store("project").unwrap();
        let (key, cache) = (UnlockKey::new([7; 32]), scratch.path().join("cache.redb"));
        let repo = Repository::create(store, &key, &cache, &ctx).await.unwrap();
        let [first, second] = run(&repo, "example", "Example shop", &ctx).await.unwrap();
        assert_eq!(repo.snapshots().await.unwrap().len(), 2);
        assert_eq!((first.manifest.records, second.manifest.records), (12, 13));
        assert_eq!(second.manifest.parent, Some(first.id));
        let report = verify::run(&repo, Mode::Full, &ctx).await.unwrap();
        assert!(report.damaged.is_empty(), "{report:?}");

        let summary = diff::summary(&repo, &first, &second, &ctx).await.unwrap();
        let counts: Vec<_> = (summary.collections.iter())
            .map(|found| {
                let records = &found.records;
                (found.name.as_str(), records.added, records.removed, records.changed, records.unchanged)
            })
            .collect();
        assert_eq!(
            counts,
            [
                ("public.customers", 1, 1, 3, 1),
                ("public.orders", 1, 0, 2, 2),
                ("public.products", 0, 0, 0, 3)
            ]
        );
        let orders = &summary.collections[1];
        assert_eq!(orders.schema_changes.len(), 1, "{:?}", orders.schema_changes);
        let request = PageRequest { cursor: None, from_key: None, limit: 10 };
        let filter = Filter::default();
        let changes = diff::changes(&repo, &first, &second, "public.customers", &filter, &request);
        assert_eq!(changes.await.unwrap().items.len(), 5);
    }
}
