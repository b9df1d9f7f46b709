//! Reading a whole database: its records, its schema, and what a manifest says of it. What is read is
//! stored wherever the output leads, and nothing is committed.

use std::collections::BTreeSet;
use std::sync::Arc;

use repo_format::catalog::{self, Descriptor, Layout, NaturalOrder};
use repo_format::id::ObjectId;
use repo_format::manifest::{Manifest, Missing, SchemaArchive, Source as SourceIdentity};
use repo_format::tree::Root;
use repo_format::value::ValueWriter;

use crate::backup::{self, Request};
use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::ingest::{Output, Tree, TreeWriter};
use crate::monitor::Steps;
use crate::reading::{Read, Target, read_database};
use crate::repo::{Repository, Snapshot};
use crate::source::{
    ArchiveOutcome, Collection, DatabaseUrl, Identity, Incomplete, Options, Source, missing_object,
};

/// Why a namespace of the snapshot before is neither read nor known to be gone.
const HIDDEN: &str = "it was in the snapshot before and is not shown to this user now: its right to read it may have been \
     taken away, or it was dropped. Give the right back, or leave it out for good by a URL that names one database";

/// One reading of a database.
pub(crate) struct Capture<'a> {
    pub repo: &'a Repository,
    pub request: &'a Request,
    pub url: DatabaseUrl,
    pub started_ms: i64,
    pub output: Output,
    /// The snapshot before: its schema archive is used again where the schema is the same.
    pub parent: Option<&'a Snapshot>,
    /// The layout that a collection is read with.
    pub layout: &'a (dyn Fn(&Collection) -> Layout + Send + Sync),
    pub ctx: Context,
    pub steps: Arc<Steps>,
}

impl Capture<'_> {
    /// Reads everything and says what was read. The manifest's `new_bytes` and end are the caller's to
    /// fill in, who knows when everything is stored.
    pub async fn run(&self) -> Result<Manifest> {
        self.steps.step("connecting");
        let (Read { source, trees }, archive) = self.read().await?;
        let manifest = self.describe(&source, source.collections(), &trees, archive).await?;
        source.close().await?;
        Ok(manifest)
    }

    /// What a manifest says of `collections` of a source that is still open, a tree of each.
    pub async fn describe(
        &self,
        source: &Source,
        collections: &[Collection],
        trees: &[Tree],
        archive: ArchiveOutcome,
    ) -> Result<Manifest> {
        let mut gaps = Gaps::default();
        gaps.add(&source.incomplete());
        gaps.add(&self.hidden(source).await?);
        let schema = self.store_archive(archive, &mut gaps).await?;
        // Sequences last: they are not part of any snapshot, and must not be behind the rows.
        let sequences = source.sequences().await?;
        let (identity, evidence) = (source.identity(), source.evidence());
        gaps.notes.extend(source.notes());
        let unfilled_views = source.unfilled_views();
        let described = collections.iter().zip(trees).map(|(collection, tree)| {
            let layout = (self.layout)(collection);
            catalog_record(collection, layout, tree.root, tree.natural_order.map(NaturalOrder::from))
        });
        let catalog = write_catalog(self.repo, &self.output, described.collect()).await?;
        Ok(Manifest {
            source: self.identity(identity),
            trigger: self.request.trigger,
            note: self.request.note.clone(),
            started_ms: self.started_ms,
            finished_ms: self.ctx.clock.now_ms(),
            evidence,
            parent: self.parent.map(|parent| parent.id),
            catalog_root: catalog.id,
            catalog_level: catalog.level,
            schema,
            sequences,
            collections: trees.len() as u64,
            records: trees.iter().map(|tree| tree.root.records).sum(),
            logical_bytes: trees.iter().map(|tree| tree.root.bytes).sum(),
            new_bytes: 0,
            missing: gaps.missing,
            notes: gaps.notes,
            unfilled_views,
        })
    }

    /// What the snapshot before had, or missed, of namespaces that the user is not shown now.
    async fn hidden(&self, source: &Source) -> Result<Vec<Incomplete>> {
        if !source.may_hide() {
            return Ok(Vec::new());
        }
        let before = backup::last_of_all(self.repo, self.request).await?;
        let Some(before) = before else { return Ok(Vec::new()) };
        let had = crate::catalog::collections(self.repo, &before).await?;
        let mut namespaces: BTreeSet<String> = had.into_iter().map(|found| found.namespace).collect();
        let missed = before.manifest.missing.iter().map(|missing| missing_object(&missing.name));
        namespaces.extend(missed.filter_map(|name| name.split('.').next()).map(str::to_owned));
        let hidden = source.hidden(namespaces.into_iter().collect()).await;
        Ok(hidden.into_iter().map(|name| Incomplete { name, reason: HIDDEN.to_owned() }).collect())
    }

    /// Reads the schema and the records. Begun anew when the database changes meanwhile: what
    /// was stored of the reading before is found again, so another one costs little but time.
    async fn read(&self) -> Result<(Read, ArchiveOutcome)> {
        let options = Options::new(self.ctx.workers, self.request.consistency);
        let target = |found: &Collection| Target { layout: (self.layout)(found), ..Target::from(found) };
        let choose = |source: &Source| Ok(source.collections().iter().map(target).collect());
        let output = &self.output;
        let read =
            read_database(&self.url, options, &choose, self.repo, output, "reading", &self.ctx).await?;
        let archive = read.source.schema_archive().await?;
        Ok((read, archive))
    }

    fn identity(&self, found: Identity) -> SourceIdentity {
        SourceIdentity {
            id: self.request.source_id.clone(),
            name: self.request.source_name.clone(),
            engine: self.url.engine().as_str().to_owned(),
            version: found.version,
            database: found.database,
            encoding: found.encoding,
            collation: found.collation,
            extensions: found.extensions,
            system_identifier: found.system_identifier,
        }
    }

    /// The schema archive: the parent's when the schema is the same, since two archives of one
    /// schema need not have the same bytes. A snapshot without one is incomplete: it can be compared
    /// but not restored.
    async fn store_archive(&self, archive: ArchiveOutcome, gaps: &mut Gaps) -> Result<Option<SchemaArchive>> {
        let archive = match archive {
            ArchiveOutcome::Written(archive) => archive,
            ArchiveOutcome::Unavailable { reason } => {
                gaps.missing.push(Missing { name: "schema archive".to_owned(), reason });
                return Ok(None);
            }
        };
        gaps.add(&archive.excluded);
        gaps.notes.extend(archive.notes);
        let text_hash = ObjectId(self.repo.keys().row().hash(&archive.normalised));
        if let Some(known) = self.parent.and_then(|parent| parent.manifest.schema.clone())
            && known.text_hash == text_hash
            && self.repo.may_rely_on_value(&known).await?
        {
            return Ok(Some(known));
        }
        let (keys, mut output) = (self.repo.keys().clone(), self.output.clone());
        let place = blocking(move || ValueWriter::new(&keys).write(&archive.bytes, &mut output)).await?;
        Ok(Some(SchemaArchive {
            root: place.root,
            depth: place.depth,
            len: place.len,
            tool: archive.tool,
            text_hash,
        }))
    }
}

/// A collection as a catalog lists it: key and value.
pub(crate) fn catalog_record(
    collection: &Collection,
    layout: Layout,
    root: Root,
    natural_order: Option<NaturalOrder>,
) -> (Vec<u8>, Vec<u8>) {
    let descriptor = Descriptor {
        layout,
        data_root: root.id,
        level: root.level,
        records: root.records,
        logical_bytes: root.bytes,
        schema_version: collection.schema_version,
        natural_order,
    };
    let key = catalog::key(&collection.namespace, &collection.name);
    (key, catalog::encode_value(&descriptor, &collection.schema))
}

/// Writes a catalog tree.
pub(crate) async fn write_catalog(
    repo: &Repository,
    output: &Output,
    mut records: Vec<(Vec<u8>, Vec<u8>)>,
) -> Result<Root> {
    records.sort();
    let (keys, output) = (repo.keys().clone(), output.clone());
    blocking(move || {
        let mut tree = TreeWriter::new(&keys, output);
        for (key, value) in &records {
            tree.push_sorted(key, value)?;
        }
        tree.finish().map(|tree| tree.root)
    })
    .await
}

/// What is not in the snapshot, by accident or by nature.
#[derive(Default)]
struct Gaps {
    missing: Vec<Missing>,
    notes: Vec<String>,
}

impl Gaps {
    /// Adds what is not there yet: a table that cannot be read cannot be described either, and is
    /// named once.
    fn add(&mut self, found: &[Incomplete]) {
        for Incomplete { name, reason } in found {
            if !self.missing.iter().any(|known| known.name == *name) {
                self.missing.push(Missing { name: name.clone(), reason: reason.clone() });
            }
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.map_err(|error| Error::new(Kind::Internal, "building a tree ended early").with_source(error))?
}
