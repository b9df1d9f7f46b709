//! Taking a snapshot: read every collection of a database at one moment, store what is new, and
//! commit a manifest.

use std::sync::Arc;

use repo_format::catalog::{self, Descriptor, NaturalOrder};
use repo_format::id::ObjectId;
use repo_format::manifest::{Manifest, Missing, SchemaArchive, Source as SourceIdentity, Trigger};
use repo_format::tree::Root;
use repo_format::value::ValueWriter;

use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::ingest::{Output, Tree, TreeWriter};
use crate::monitor::Steps;
use crate::reading::{Attempts, Read, Target, read_database};
use crate::repo::{Repository, Session, Snapshot, Writer};
use crate::source::{
    ArchiveOutcome, Collection, Consistency, DatabaseUrl, Engine, Identity, Incomplete, Options, Source,
};

/// What to back up.
#[derive(Clone)]
pub struct Request {
    /// Names the database for ever, whatever it is called or wherever it moves.
    pub source_id: String,
    /// What it is called now.
    pub source_name: String,
    /// Where it is, with read-only credentials.
    pub url: String,
    /// Whether records may be of different moments, where the server offers no better.
    pub consistency: Consistency,
    /// Why.
    pub trigger: Trigger,
    /// What the user says about it.
    pub note: Option<String>,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").field("source_id", &self.source_id).finish_non_exhaustive()
    }
}

/// Takes a snapshot. On any error no snapshot exists; what was stored is used by the next one.
pub async fn run(repo: &Repository, request: &Request, ctx: &Context) -> Result<Snapshot> {
    let url = DatabaseUrl::parse(&request.url)?.within(ctx.addresses);
    let started_ms = ctx.clock.now_ms();
    repo.check_there().await?;
    let session = Session::begin(repo, ctx).await?;
    let steps = Arc::new(Steps::new(ctx.monitor.clone()));
    let ctx = Context { monitor: steps.clone(), ..ctx.clone() };
    let outcome = Backup { repo, request, url, started_ms, session: &session, ctx, steps }.run().await;
    session.conclude(outcome).await
}

struct Backup<'a> {
    repo: &'a Repository,
    request: &'a Request,
    url: DatabaseUrl,
    started_ms: i64,
    session: &'a Session,
    ctx: Context,
    steps: Arc<Steps>,
}

impl Backup<'_> {
    async fn run(&self) -> Result<Snapshot> {
        let parent = self.parent().await?;
        self.steps.step("connecting");
        let writer = Writer::new(self.repo);
        let output = Output::Repository(writer.clone());
        let (Read { source, trees }, archive) = self.read(&output).await?;
        let mut gaps = Gaps::default();
        gaps.add(&source.incomplete());
        let schema = self.store_archive(archive, parent.as_ref(), &output, &mut gaps).await?;
        // Sequences last: they are not part of any snapshot, and must not be behind the rows.
        let sequences = source.sequences().await?;
        let (identity, evidence) = (source.identity(), source.evidence());
        gaps.notes.extend(source.notes());
        let unfilled_views = source.unfilled_views();
        let catalog = self.write_catalog(source.collections(), &trees, &output).await?;
        source.close().await?;

        self.steps.step("storing");
        self.ctx.check()?;
        let stats = writer.flush().await?;
        let manifest = Manifest {
            source: self.identity(self.url.engine(), identity),
            trigger: self.request.trigger,
            note: self.request.note.clone(),
            started_ms: self.started_ms,
            finished_ms: self.ctx.clock.now_ms(),
            evidence,
            parent: parent.map(|parent| parent.id),
            catalog_root: catalog.id,
            catalog_level: catalog.level,
            schema,
            sequences,
            collections: trees.len() as u64,
            records: trees.iter().map(|tree| tree.root.records).sum(),
            logical_bytes: trees.iter().map(|tree| tree.root.bytes).sum(),
            new_bytes: stats.bytes,
            missing: gaps.missing,
            notes: gaps.notes,
            unfilled_views,
        };
        self.session.commit(manifest).await
    }

    /// Reads the records and then the schema. Begun anew when the database changes meanwhile: what
    /// was stored of the reading before is found again, so another one costs little but time.
    async fn read(&self, output: &Output) -> Result<(Read, ArchiveOutcome)> {
        let mut options = Options::new(self.ctx.workers, self.request.consistency);
        let choose = |source: &Source| Ok(source.collections().iter().map(Target::from).collect());
        let mut attempts = Attempts::default();
        loop {
            let read = read_database(&self.url, options, &choose, self.repo, output, "reading", &self.ctx);
            let read = read.await?;
            self.steps.step("reading the schema");
            match read.source.schema_archive().await {
                Ok(archive) => return Ok((read, archive)),
                Err(error) => options = attempts.after(read.source, error, &options, &self.ctx).await?,
            }
        }
    }

    /// The newest snapshot of the same database.
    async fn parent(&self) -> Result<Option<Snapshot>> {
        let snapshots = self.repo.snapshots().await?;
        Ok(snapshots.into_iter().find(|snapshot| snapshot.manifest.source.id == self.request.source_id))
    }

    fn identity(&self, engine: Engine, found: Identity) -> SourceIdentity {
        SourceIdentity {
            id: self.request.source_id.clone(),
            name: self.request.source_name.clone(),
            engine: engine.as_str().to_owned(),
            version: found.version,
            database: found.database,
            encoding: found.encoding,
            collation: found.collation,
            extensions: found.extensions,
            system_identifier: found.system_identifier,
        }
    }

    async fn write_catalog(
        &self,
        collections: &[Collection],
        trees: &[Tree],
        output: &Output,
    ) -> Result<Root> {
        let mut records: Vec<(Vec<u8>, Vec<u8>)> = (collections.iter().zip(trees))
            .map(|(collection, Tree { root, natural_order, .. })| {
                let descriptor = Descriptor {
                    layout: collection.layout.clone(),
                    data_root: root.id,
                    level: root.level,
                    records: root.records,
                    logical_bytes: root.bytes,
                    schema_version: collection.schema_version,
                    natural_order: natural_order.map(NaturalOrder::from),
                };
                let key = catalog::key(&collection.namespace, &collection.name);
                (key, catalog::encode_value(&descriptor, &collection.schema))
            })
            .collect();
        records.sort();
        let (keys, output) = (self.repo.keys().clone(), output.clone());
        blocking(move || {
            let mut tree = TreeWriter::new(&keys, output);
            for (key, value) in &records {
                tree.push_sorted(key, value)?;
            }
            tree.finish().map(|tree| tree.root)
        })
        .await
    }

    /// The schema archive: the parent's when the schema is the same, since two archives of one
    /// schema need not have the same bytes. A snapshot without one is incomplete: it can be compared
    /// but not restored.
    async fn store_archive(
        &self,
        archive: ArchiveOutcome,
        parent: Option<&Snapshot>,
        output: &Output,
        gaps: &mut Gaps,
    ) -> Result<Option<SchemaArchive>> {
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
        if let Some(known) = parent.and_then(|parent| parent.manifest.schema.clone())
            && known.text_hash == text_hash
            && self.repo.may_rely_on_value(&known).await?
        {
            return Ok(Some(known));
        }
        let (keys, mut output) = (self.repo.keys().clone(), output.clone());
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
