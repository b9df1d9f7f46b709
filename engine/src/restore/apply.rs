//! Writing a snapshot into an empty database.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use repo_format::catalog::{CollectionKind, NaturalOrder};
use repo_format::codec::Cursor;
use repo_format::limits;
use repo_format::manifest::SequenceState;
use repo_format::{tree, value};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::catalog::Cataloged;
use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::monitor::{Progress, Steps};
use crate::patch::numbered;
use crate::repo::{ObjectReader, Repository, Session, Snapshot};
use crate::restore::outgoing::{BATCHES, Outgoing, whole};
use crate::restore::plan::{Plan, Scope, TargetIdentity, names};
use crate::restore::prove::{Proof, prove_collections, prove_schemas};
use crate::restore::selection::Selection;
use crate::source::{DatabaseUrl, Engine};
use crate::target::{Described, Note, PreflightCheck, Restoring, Target, preflight};

/// How a restore ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// What reading the target anew showed.
    pub proof: Proof,
    /// Records written.
    pub records: u64,
    /// What was done another way than in the source, or could not be done.
    pub notes: Vec<Note>,
    /// The snapshot that was taken of what was there before, where something was.
    #[serde(default)]
    pub safety_snapshot: Option<String>,
    /// What taking a restore back left as it is, because it has changed since.
    #[serde(default)]
    pub conflicts: Conflicts,
}

/// Records that are not as a restore left them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflicts {
    /// How many.
    pub count: u64,
    /// The first of them, in words.
    pub examples: Vec<String>,
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
    let url = DatabaseUrl::parse(url)?.within(ctx.addresses);
    check_order(plan, confirm, &url)?;
    if plan.in_place.is_some() {
        return Err(Error::new(Kind::Invalid, "the plan is for a restore in place"));
    }
    let session = Session::begin_reading(repo, &[snapshot.id], ctx).await?;
    let ctx = Context { monitor: Arc::new(Steps::new(ctx.monitor.clone())), ..ctx.clone() };
    let restored = async {
        let selection = Selection::of(scope, repo, snapshot, &ctx).await?;
        let (records, sent) = (AtomicU64::new(0), Arc::default());
        let snapshot = &selection.snapshot;
        let restore = Restore { repo, snapshot, selection: &selection, url, ctx, records, sent };
        Box::pin(restore.run()).await
    };
    let restored = restored.await;
    session.conclude(restored).await
}

/// Whether the phrase is the plan's, and the URL leads to its target.
pub(super) fn check_order(plan: &Plan, confirm: &str, url: &DatabaseUrl) -> Result<()> {
    if confirm != plan.confirm_phrase {
        return Err(Error::new(Kind::Invalid, "the phrase typed is not the one asked for")
            .with_help(format!("Type {} to confirm.", plan.confirm_phrase)));
    }
    if TargetIdentity::of(url) != plan.target {
        return Err(Error::new(Kind::Invalid, "the URL is of another server or database than the plan's")
            .with_help("Use the planned target, or plan again."));
    }
    Ok(())
}

struct Restore<'a> {
    repo: &'a Repository,
    /// The selection's.
    snapshot: &'a Snapshot,
    selection: &'a Selection,
    url: DatabaseUrl,
    ctx: Context,
    records: AtomicU64,
    /// Records on their way, which is what can be told while a large collection is loaded.
    sent: Arc<AtomicU64>,
}

impl Restore<'_> {
    async fn run(&self) -> Result<Restored> {
        self.tell("looking at the target", 0, 0);
        let Selection { archive, collections, .. } = self.selection;
        let restoring = Restoring {
            source: &self.snapshot.manifest.source,
            archive,
            collections: &names(collections),
            unfilled_views: &self.snapshot.manifest.unfilled_views,
        };
        let checks = preflight(&self.url, &restoring, false).await?;
        if let Some(PreflightCheck { detail, .. }) = checks.into_iter().find(|check| !check.ok) {
            return Err(Error::new(Kind::Conflict, format!("the target is not as it was planned: {detail}"))
                .with_help("Plan again once that is mended."));
        }
        let target = Target::create(&self.url, &restoring).await?;
        match self.fill(&target, &restoring, collections).await {
            Ok((mut notes, mut proof)) => {
                notes.extend(target.finish(&restoring).await?);
                let Self { repo, snapshot, url, ctx, .. } = self;
                let schemas =
                    prove_schemas(repo, snapshot, Some(archive), collections, &proof, url, ctx).await?;
                proof.add(schemas);
                // What was left out was told when it was.
                proof.remarks.retain(|remark| !notes.iter().any(|note| note.text == *remark));
                let records = self.records.load(Ordering::Relaxed);
                Ok(Restored { proof, records, notes, safety_snapshot: None, conflicts: Conflicts::default() })
            }
            Err(error) => Err(match target.abandon().await {
                Ok(left) => explained(error, &left),
                Err(second) => explained(
                    error,
                    &format!(
                        "Cleaning up failed too, so a part of the snapshot may be in the target: {second}. Drop it \
                         before you try again."
                    ),
                ),
            }),
        }
    }

    async fn fill(
        &self,
        target: &Target,
        restoring: &Restoring<'_>,
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
        notes.extend(self.selection.notes());
        notes.extend(self.unless_cancelled(target.pre_data(restoring)).await?);
        let described: Vec<Described<'_>> = collections.iter().map(described).collect();
        notes.extend(target.make_partitions(&described, &self.snapshot.manifest.missing).await?);
        let present = self.present(target, collections, &mut notes).await?;
        let loaded = self.unless_cancelled(self.load_all(target, &present)).await;
        loaded.map_err(|error| after(&notes, error))?;
        self.tell("building indexes and constraints", total, total);
        notes.extend(self.unless_cancelled(target.post_data(restoring)).await?);
        target.set_sequences(&self.sequences(target, &mut notes).await?).await?;
        self.tell("proving", total, total);
        let proof = prove_collections(
            self.repo,
            self.snapshot,
            collections,
            &self.selection.overlay,
            &self.url,
            &self.ctx,
        )
        .await?;
        Ok((notes, proof))
    }

    /// The collections that the target has a place for. A snapshot that lacks definitions restores
    /// without what needs them; of a complete one everything can be made, or nothing is.
    async fn present<'c>(
        &self,
        target: &Target,
        collections: &'c [Cataloged],
        notes: &mut Vec<Note>,
    ) -> Result<Vec<&'c Cataloged>> {
        let absent = target.absent(&names(collections)).await?;
        if absent.is_empty() {
            return Ok(collections.iter().collect());
        }
        let (lost, present): (Vec<_>, Vec<_>) = collections
            .iter()
            .partition(|found| absent.contains(&(found.namespace.clone(), found.name.clone())));
        if self.snapshot.manifest.is_complete() {
            let message = format!("{} could not be made", lost[0].display_name());
            return Err(after(notes, Error::new(Kind::Refused, message)));
        }
        notes.extend(lost.iter().map(|found| {
            let records = found.descriptor.records;
            Note::failed(format!(
                "{} with its {records} rows is not restored: it could not be made",
                found.display_name()
            ))
        }));
        Ok(present)
    }

    /// The states of the sequences that the target has; those of tables that could not be made are
    /// gone with them.
    async fn sequences(&self, target: &Target, notes: &mut Vec<Note>) -> Result<Vec<SequenceState>> {
        let states = &self.snapshot.manifest.sequences;
        let name = |state: &SequenceState| (state.namespace.clone(), state.name.clone());
        if self.snapshot.manifest.is_complete() || states.is_empty() {
            return Ok(states.clone());
        }
        let absent = target.absent(&states.iter().map(name).collect::<Vec<_>>()).await?;
        notes.extend(absent.iter().map(|(namespace, name)| {
            let name = Engine::Postgres.display_name(namespace, name);
            Note::failed(format!("the sequence {name} is not restored: it could not be made"))
        }));
        Ok(states.iter().filter(|state| !absent.contains(&name(state))).cloned().collect())
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
            records: self.sent.load(Ordering::Relaxed),
            ..Progress::default()
        });
    }

    async fn load_all(&self, target: &Target, collections: &[&Cataloged]) -> Result<()> {
        let done = AtomicU64::new(0);
        let mut order = collections.to_vec();
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
        if found.descriptor.layout.kind == CollectionKind::View {
            return Ok(());
        }
        let loaded = match self.load_once(target, found).await {
            // What was refused left nothing behind.
            Err(error) if error.kind() == Kind::Refused => {
                if !target.relax(&error).await? {
                    return Err(error);
                }
                self.load_once(target, found).await?
            }
            loaded => loaded?,
        };
        self.records.fetch_add(loaded, Ordering::Relaxed);
        Ok(())
    }

    async fn load_once(&self, target: &Target, found: &Cataloged) -> Result<u64> {
        let (sender, rows) = mpsc::channel(BATCHES);
        let Cataloged { namespace, name, descriptor, .. } = found;
        let (root, order) = (found.root(), descriptor.natural_order);
        let sent = self.sent.clone();
        let reading = self.repo.with_reader_over(Some(&self.selection.overlay), move |reader| {
            let outgoing = Outgoing::new(&sender, &sent);
            match order {
                None => send_all(&root, outgoing, reader),
                Some(order) => send_in_order(&root, order, outgoing, reader),
            }
        });
        let loading = target.load(&descriptor.layout, namespace, name, descriptor.records, rows);
        let (read, loaded) = tokio::join!(reading, loading);
        // Reading that fails ends the load early; a load that fails makes the reader stop, without
        // an error of its own.
        read?;
        loaded
    }
}

fn described(found: &Cataloged) -> Described<'_> {
    Described { namespace: &found.namespace, name: &found.name, schema: &found.schema }
}

/// Sends every record of a tree, long values moved back in. Ends when nobody listens any more.
fn send_all(root: &tree::Root, mut outgoing: Outgoing<'_>, reader: &mut ObjectReader) -> Result<()> {
    let mut cursor = tree::Cursor::new(root, None);
    while let Some((key, value)) = cursor.next(reader)? {
        if !outgoing.push(&key, &whole(value, reader)?) {
            return Ok(());
        }
    }
    outgoing.finish();
    Ok(())
}

/// As [`send_all`], in the order the collection had.
fn send_in_order(
    root: &tree::Root,
    order: NaturalOrder,
    mut outgoing: Outgoing<'_>,
    reader: &mut ObjectReader,
) -> Result<()> {
    let list = value::read(&order.into(), limits::RECORD as u64, reader)?;
    let mut keys = Cursor::new(&list, "natural order");
    let mut seen: HashMap<&[u8], u64> = HashMap::new();
    while !keys.is_empty() {
        let len = keys.bounded(limits::KEY)?;
        let key = keys.take(len)?;
        let ordinal = seen.entry(key).or_default();
        let numbered = numbered(key, *ordinal);
        *ordinal += 1;
        let record = tree::get(root, &numbered, reader)?.ok_or_else(|| {
            Error::damaged("the order of a collection names a record that it does not have")
        })?;
        if !outgoing.push(&numbered, &whole(record, reader)?) {
            return Ok(());
        }
    }
    outgoing.finish();
    Ok(())
}

/// An error of loading, with what had failed before it: a table that could not be made is missing.
fn after(notes: &[Note], error: Error) -> Error {
    match notes.iter().find(|note| note.failed) {
        Some(first) if error.kind() != Kind::Cancelled => explained(error, &format!("Before it: {first}.")),
        _ => error,
    }
}

/// The error, with what became of the target added to what to do.
fn explained(error: Error, left: &str) -> Error {
    let help = match error.help() {
        Some(help) => format!("{help} {left}"),
        None => left.to_owned(),
    };
    error.with_help(help)
}
