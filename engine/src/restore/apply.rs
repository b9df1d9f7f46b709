//! Writing a snapshot into an empty database.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use repo_format::limits;
use repo_format::record::{Field, Fields, Writer as RecordWriter};
use repo_format::{tree, value};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::catalog::{self, Cataloged};
use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::monitor::{Progress, Steps};
use crate::repo::{ObjectReader, Repository, Session, Snapshot};
use crate::restore::plan::{Plan, Scope, TargetIdentity, schema_archive};
use crate::restore::prove::{Proof, prove_collections};
use crate::source::RecordBatch;
use crate::source::postgres::PostgresUrl;
use crate::target::postgres::{Target, preflight};
use crate::target::{Note, PreflightCheck};

/// Bytes of records handed over at a time.
const BATCH: usize = 256 << 10;
/// Batches between reading and loading.
const BATCHES: usize = 4;

/// How a restore ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// What reading the target anew showed.
    pub proof: Proof,
    /// Records written.
    pub records: u64,
    /// What was done another way than in the source, or could not be done.
    pub notes: Vec<Note>,
}

/// Restores as planned. `confirm` must be the plan's phrase and `url` its target, with the right
/// to write. After an error a database that this restore made is dropped again.
pub async fn apply(
    repo: &Repository,
    snapshot: &Snapshot,
    scope: &Scope,
    plan: &Plan,
    confirm: &str,
    url: &str,
    ctx: &Context,
) -> Result<Restored> {
    let Scope::All = scope;
    let url = PostgresUrl::parse(url)?;
    if confirm != plan.confirm_phrase {
        return Err(Error::new(Kind::Invalid, "the phrase typed is not the one asked for")
            .with_help(format!("Type {} to confirm.", plan.confirm_phrase)));
    }
    if TargetIdentity::of(&url) != plan.target {
        return Err(Error::new(Kind::Invalid, "the URL is of another server or database than the plan's")
            .with_help("Use the planned target, or plan again."));
    }
    let session = Session::begin(repo, ctx).await?;
    let ctx = Context { monitor: Arc::new(Steps::new(ctx.monitor.clone())), ..ctx.clone() };
    let restore = Restore { repo, snapshot, url, ctx, records: AtomicU64::new(0) };
    let restored = restore.run().await;
    session.close().await;
    restored
}

struct Restore<'a> {
    repo: &'a Repository,
    snapshot: &'a Snapshot,
    url: PostgresUrl,
    ctx: Context,
    records: AtomicU64,
}

impl Restore<'_> {
    async fn run(&self) -> Result<Restored> {
        self.tell("looking at the target", 0, 0);
        let archive = schema_archive(self.repo, self.snapshot).await?;
        let checks = preflight(&self.url, &self.snapshot.manifest.source, &archive).await?;
        if let Some(PreflightCheck { detail, .. }) = checks.into_iter().find(|check| !check.ok) {
            return Err(Error::new(Kind::Conflict, format!("the target is not as it was planned: {detail}"))
                .with_help("Plan again once that is mended."));
        }
        let collections = catalog::collections(self.repo, self.snapshot).await?;
        let target = Target::create(&self.url, &self.snapshot.manifest.source).await?;
        match self.fill(&target, &archive, &collections).await {
            Ok((notes, proof)) => {
                target.finish().await?;
                Ok(Restored { proof, records: self.records.load(Ordering::Relaxed), notes })
            }
            Err(error) => Err(match target.abandon().await {
                Ok(left) => explained(error, &left),
                Err(second) => explained(error, &format!("Cleaning up failed too: {second}.")),
            }),
        }
    }

    async fn fill(
        &self,
        target: &Target,
        archive: &[u8],
        collections: &[Cataloged],
    ) -> Result<(Vec<Note>, Proof)> {
        let total = collections.len() as u64;
        self.tell("restoring the schema", 0, total);
        let missing = self.snapshot.manifest.missing.iter();
        let mut notes: Vec<Note> = missing
            .map(|missing| {
                Note::failed(format!("{} is not in the snapshot: {}", missing.name, missing.reason))
            })
            .collect();
        notes.extend(self.unless_cancelled(target.pre_data(archive)).await?);
        self.unless_cancelled(self.load_all(target, collections)).await?;
        self.tell("building indexes and constraints", total, total);
        notes.extend(self.unless_cancelled(target.post_data(archive, &[])).await?);
        target.set_sequences(&self.snapshot.manifest.sequences).await?;
        self.tell("proving", total, total);
        let proof = prove_collections(self.repo, self.snapshot, collections, &self.url, &self.ctx).await?;
        Ok((notes, proof))
    }

    async fn unless_cancelled<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            () = self.ctx.cancel.cancelled() => Err(Error::cancelled()),
            result = work => result,
        }
    }

    fn tell(&self, phase: &str, done: u64, total: u64) {
        self.ctx.monitor.progress(&Progress {
            phase: phase.to_owned(),
            collections_done: done,
            collections_total: total,
            records: self.records.load(Ordering::Relaxed),
            ..Progress::default()
        });
    }

    async fn load_all(&self, target: &Target, collections: &[Cataloged]) -> Result<()> {
        let done = AtomicU64::new(0);
        let mut order: Vec<&Cataloged> = collections.iter().collect();
        order.sort_by_key(|found| std::cmp::Reverse(found.descriptor.logical_bytes));
        let loading = stream::iter(order)
            .map(|found| {
                let done = &done;
                async move {
                    self.load(target, found).await?;
                    done.fetch_add(1, Ordering::Relaxed);
                    Ok::<_, Error>(())
                }
            })
            .buffer_unordered(self.ctx.workers.max(1))
            .try_collect::<Vec<()>>();
        tokio::pin!(loading);
        let mut tick = tokio::time::interval(Duration::from_millis(250));
        loop {
            tokio::select! {
                biased;
                loaded = &mut loading => return loaded.map(drop),
                _ = tick.tick() => {
                    self.tell("loading", done.load(Ordering::Relaxed), collections.len() as u64);
                }
            }
        }
    }

    async fn load(&self, target: &Target, found: &Cataloged) -> Result<()> {
        let (sender, rows) = mpsc::channel(BATCHES);
        let Cataloged { namespace, name, descriptor, .. } = found;
        let root = found.root();
        let reading = self.repo.with_reader(move |reader| send_all(&root, &sender, reader));
        let loading = target.load(&descriptor.layout, namespace, name, descriptor.records, rows);
        let (read, loaded) = tokio::join!(reading, loading);
        // Reading that fails ends the load early; a load that fails makes the reader stop, without
        // an error of its own.
        read?;
        let loaded = loaded?;
        self.records.fetch_add(loaded, Ordering::Relaxed);
        Ok(())
    }
}

/// Sends every record of a tree, long values moved back in. Ends when nobody listens any more.
fn send_all(root: &tree::Root, sender: &mpsc::Sender<RecordBatch>, reader: &mut ObjectReader) -> Result<()> {
    let mut cursor = tree::Cursor::new(root, None);
    let mut batch = RecordBatch::with_capacity(BATCH);
    while let Some((key, value)) = cursor.next(reader)? {
        batch.push(&key, &whole(value, reader)?);
        if batch.size_bytes() >= BATCH {
            let full = std::mem::replace(&mut batch, RecordBatch::with_capacity(BATCH));
            if sender.blocking_send(full).is_err() {
                return Ok(());
            }
        }
    }
    if !batch.is_empty() {
        // Nobody listening is the loader's failure, and the loader's to tell.
        let _ = sender.blocking_send(batch);
    }
    Ok(())
}

/// The record with all its fields inline.
fn whole(record: Vec<u8>, reader: &mut ObjectReader) -> Result<Vec<u8>> {
    if !Fields::new(&record).any(|field| matches!(field, Ok(Field::Out(_)))) {
        return Ok(record);
    }
    let mut out = Vec::new();
    let mut writer = RecordWriter::new(&mut out);
    for field in Fields::new(&record) {
        match field? {
            Field::Out(place) => {
                let bytes = value::read(&place, limits::RECORD as u64, reader)?;
                writer.push(Field::Inline(&bytes));
            }
            other => writer.push(other),
        }
    }
    writer.finish();
    Ok(out)
}

/// The error, with what became of the target added to what to do.
fn explained(error: Error, left: &str) -> Error {
    let help = match error.help() {
        Some(help) => format!("{help} {left}"),
        None => left.to_owned(),
    };
    error.with_help(help)
}
