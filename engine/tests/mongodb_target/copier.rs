//! Copies a database as a restore does, without a repository between: documents and definitions
//! are read with the driver, as raw BSON, and go straight into the target.

use bson::raw::cstr;
use bson::{RawArrayBuf, RawDocument, RawDocumentBuf, doc, rawdoc};
use engine::Result;
use engine::source::RecordBatch;
use engine::source::mongodb::MongoUrl;
use engine::target::mongodb::Target;
use engine::target::{Note, PreflightCheck, Restoring};
use engine_testutils::mongodb::Server;
use mongodb::Client;
use repo_format::catalog::{CollectionKind, Column, Key, KeySource, Layout};
use repo_format::manifest::Source;
use repo_format::record::{Field, Writer};
use tokio::sync::mpsc;

/// A read of a whole database.
pub struct Copy {
    pub source: Source,
    pub archive: Vec<u8>,
    pub collections: Vec<(String, String)>,
    pub documents: Vec<Vec<RawDocumentBuf>>,
    kinds: Vec<CollectionKind>,
}

pub fn source(version: &str) -> Source {
    Source {
        id: "source".into(),
        name: "Source".into(),
        engine: "mongodb".into(),
        version: version.into(),
        database: String::new(),
        encoding: String::new(),
        collation: String::new(),
        extensions: Vec::new(),
        system_identifier: None,
    }
}

/// The administrator's URL with that database; none for every collection's own.
pub fn url(server: &Server, database: Option<&str>) -> MongoUrl {
    let admin = server.admin_url();
    MongoUrl::parse(&admin.replace("/admin?", &format!("/{}?", database.unwrap_or_default()))).unwrap()
}

/// Every answer of a command with a cursor, as the server gave it.
async fn list(client: &Client, database: &str, command: RawDocumentBuf) -> Vec<RawDocumentBuf> {
    let mut cursor = client.database(database).run_raw_cursor_command(command).await.unwrap();
    let mut found = Vec::new();
    while cursor.advance().await.unwrap() {
        found.push(cursor.current().to_owned());
    }
    found
}

/// What `listIndexes` gives.
pub async fn list_indexes(client: &Client, database: &str, name: &str) -> Vec<RawDocumentBuf> {
    list(client, database, rawdoc! { "listIndexes": name }).await
}

/// Type and options of every collection but the server's own, by name.
pub async fn list_options(client: &Client, database: &str) -> Vec<(String, String, RawDocumentBuf)> {
    let mut found = Vec::new();
    for entry in list(client, database, rawdoc! { "listCollections": 1 }).await {
        let text = |field: &str| entry.get_str(field).unwrap().to_owned();
        let options = entry.get_document("options").map_or_else(|_| rawdoc! {}, RawDocument::to_owned);
        if !text("name").starts_with("system.") || text("name") == "system.js" {
            found.push((text("name"), text("type"), options));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

/// Documents in the order the server gives them.
pub async fn read(client: &Client, database: &str, name: &str) -> Vec<RawDocumentBuf> {
    let collection = client.database(database).collection::<RawDocumentBuf>(name);
    let mut cursor = collection.find(doc! {}).await.unwrap();
    let mut documents = Vec::new();
    while cursor.advance().await.unwrap() {
        documents.push(cursor.current().to_owned());
    }
    documents
}

/// The archive's document of one collection.
pub fn entry(
    database: &str,
    name: &str,
    kind: &str,
    options: &RawDocument,
    indexes: &[RawDocumentBuf],
) -> Vec<u8> {
    let mut specifications = RawArrayBuf::new();
    indexes.iter().for_each(|index| specifications.push(index.as_ref()));
    let mut entry = rawdoc! { "db": database, "name": name, "type": kind };
    entry.append(cstr!("options"), options);
    entry.append(cstr!("indexes"), specifications);
    entry.as_bytes().to_vec()
}

pub fn layout(kind: CollectionKind) -> Layout {
    Layout {
        kind,
        columns: vec![Column { name: "document".into(), type_name: "bson".into() }],
        key: Key { source: KeySource::Primary, name: None, columns: Vec::new() },
    }
}

pub fn batches(documents: &[RawDocumentBuf]) -> mpsc::Receiver<RecordBatch> {
    let (sender, receiver) = mpsc::channel(documents.len().max(1));
    for documents in documents.chunks(100) {
        let mut batch = RecordBatch::default();
        for document in documents {
            let mut record = Vec::new();
            let mut writer = Writer::new(&mut record);
            writer.push(Field::Inline(document.as_bytes()));
            writer.finish();
            batch.push(b"", &record);
        }
        sender.try_send(batch).unwrap();
    }
    receiver
}

impl Copy {
    pub async fn of(client: &Client, database: &str) -> Self {
        let mut copy = Self::empty();
        for (name, kind, options) in list_options(client, database).await {
            let is_view = kind == "view";
            let indexes = if is_view { Vec::new() } else { list_indexes(client, database, &name).await };
            let documents = if is_view { Vec::new() } else { read(client, database, &name).await };
            copy.add(database, &name, &kind, &options, &indexes, documents);
        }
        copy
    }

    pub fn empty() -> Self {
        Self {
            source: source("5.0.0"),
            archive: Vec::new(),
            collections: Vec::new(),
            documents: Vec::new(),
            kinds: Vec::new(),
        }
    }

    /// Adds a collection that may be in no database.
    pub fn add(
        &mut self,
        database: &str,
        name: &str,
        kind: &str,
        options: &RawDocument,
        indexes: &[RawDocumentBuf],
        documents: Vec<RawDocumentBuf>,
    ) {
        self.archive.extend(entry(database, name, kind, options, indexes));
        self.collections.push((database.to_owned(), name.to_owned()));
        self.documents.push(documents);
        self.kinds.push(match (kind, options.get_bool("capped")) {
            ("view", _) => CollectionKind::View,
            ("timeseries", _) => CollectionKind::TimeSeries,
            (_, Ok(true)) => CollectionKind::CappedCollection,
            _ => CollectionKind::Collection,
        });
    }

    pub fn restoring(&self) -> Restoring<'_> {
        Restoring {
            source: &self.source,
            archive: &self.archive,
            collections: &self.collections,
            unfilled_views: &[],
        }
    }

    pub async fn preflight(&self, url: &MongoUrl) -> Vec<PreflightCheck> {
        engine::target::mongodb::preflight(url, &self.restoring(), false).await.unwrap()
    }

    /// Everything up to the proof.
    pub async fn fill(&self, target: &Target) -> Result<Vec<Note>> {
        let mut notes = target.pre_data(&self.restoring()).await?;
        for ((place, documents), kind) in self.collections.iter().zip(&self.documents).zip(&self.kinds) {
            if *kind == CollectionKind::View {
                continue;
            }
            let expected = documents.len() as u64;
            let loaded =
                target.load(&layout(*kind), &place.0, &place.1, expected, batches(documents)).await?;
            assert_eq!(loaded, expected);
        }
        notes.extend(target.post_data(&self.restoring()).await?);
        Ok(notes)
    }

    /// A whole restore.
    pub async fn restore(&self, url: &MongoUrl) -> Vec<Note> {
        let checks = self.preflight(url).await;
        assert!(checks.iter().all(|check| check.ok), "{checks:#?}");
        let target = Target::create(url, &self.restoring()).await.unwrap();
        let mut notes = self.fill(&target).await.unwrap();
        notes.extend(target.finish(&self.restoring()).await.unwrap());
        notes
    }
}
