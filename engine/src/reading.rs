//! Reading a database's collections into trees: what backups and proofs have in common.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::{FutureExt, StreamExt, stream};
use repo_format::catalog::{CollectionKind, Layout};
use tokio::sync::mpsc;

use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::ingest::{Ingested, Intake, Output, Tree, spawn_ingest};
use crate::monitor::Progress;
use crate::patch::patch;
use crate::repo::Repository;
use crate::source::mongodb::{self, RoundPart};
use crate::source::postgres;
use crate::source::{Collection, DatabaseUrl, Engine, Options, ScanOrder, ScanStats, Source};

/// Batches between a connection and its tree: enough to keep both busy.
const BATCHES: usize = 4;
/// Readings of a database in all, where one after the other cannot be read to its end.
const ATTEMPTS: u32 = 5;
/// How often progress is told.
const TICK: Duration = Duration::from_millis(250);

/// A collection to read, with the layout to read it with.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub namespace: String,
    pub name: String,
    pub layout: Layout,
    /// Larger ones are begun first, so that the last worker does not end long after the others.
    pub estimated_bytes: u64,
}

impl From<&Collection> for Target {
    fn from(collection: &Collection) -> Self {
        Self {
            namespace: collection.namespace.clone(),
            name: collection.name.clone(),
            layout: collection.layout.clone(),
            estimated_bytes: collection.estimated_bytes,
        }
    }
}

/// How far a reading is; shared by its workers.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    pub intake: Arc<Intake>,
    pub done: AtomicU64,
    /// Everything was read once, and what changes meanwhile is followed.
    follows: AtomicBool,
}

/// Which of a source's collections are to be read, and how. Asked for each attempt.
pub(crate) type Choice<'a> = &'a (dyn Fn(&Source) -> Result<Vec<Target>> + Send + Sync);

/// A database that was read: still open, and a tree per target in the order chosen.
pub(crate) struct Read {
    pub source: Source,
    pub trees: Vec<Tree>,
}

/// Opens a database and reads the collections chosen. A source that cannot stay at one moment for
/// long enough, or whose definitions change meanwhile, is opened and read anew, a few times; where the
/// source can tell which collections are concerned, only those.
pub(crate) async fn read_database(
    url: &DatabaseUrl,
    options: Options,
    choose: Choice<'_>,
    repo: &Repository,
    output: &Output,
    phase: &str,
    ctx: &Context,
) -> Result<Read> {
    let mut options = options;
    let mut attempts = Attempts::default();
    loop {
        // What follows is large, and on the heap: callers hold several of these on one stack.
        let mut source = Box::pin(Source::begin(url, &options, ctx)).await?;
        if let Err(error) = source.prepare(ctx).await {
            options = attempts.after(source, error, &options, ctx).await?;
            continue;
        }
        let mut parts = Parts::of(choose(&source)?);
        let error = loop {
            let error = match Box::pin(read_parts(&source, &mut parts, repo, output, phase, ctx)).await {
                Ok(trees) => return Ok(Read { source, trees }),
                Err(error) => error,
            };
            match source.renew(&error).await {
                Ok(Some(kept)) => parts = parts.renewed(choose(&source)?, kept),
                Ok(None) => break error,
                Err(error) => break error,
            }
        };
        options = attempts.after(source, error, &options, ctx).await?;
    }
}

/// What is to be read of a database, and the trees of what was.
struct Parts {
    targets: Vec<Target>,
    trees: Vec<Option<Tree>>,
}

impl Parts {
    fn of(targets: Vec<Target>) -> Self {
        let trees = vec![None; targets.len()];
        Self { targets, trees }
    }

    /// With other targets, and the trees of those whose records still count.
    fn renewed(self, targets: Vec<Target>, kept: Vec<(String, String)>) -> Self {
        let kept: HashSet<(String, String)> = kept.into_iter().collect();
        let read = self.targets.into_iter().zip(self.trees);
        let known: HashMap<(String, String), (Layout, Tree)> = read
            .filter_map(|(target, tree)| Some(((target.namespace, target.name), (target.layout, tree?))))
            .filter(|(name, _)| kept.contains(name))
            .collect();
        let tree_of = |target: &Target| {
            let (layout, tree) = known.get(&(target.namespace.clone(), target.name.clone()))?;
            (*layout == target.layout).then_some(*tree)
        };
        let trees = targets.iter().map(tree_of).collect();
        Self { targets, trees }
    }

    /// Those without a tree, the largest first.
    fn missing(&self) -> Vec<usize> {
        let mut missing: Vec<usize> = (0..self.trees.len()).filter(|&at| self.trees[at].is_none()).collect();
        missing.sort_by_key(|&at| std::cmp::Reverse(self.targets[at].estimated_bytes));
        missing
    }
}

/// Counts the readings of a database, so that one that changes all the time is given up.
#[derive(Debug, Default)]
struct Attempts {
    failed: u32,
}

impl Attempts {
    /// After a reading failed: how to begin another one, or why there is none. The source is let go
    /// of first, since what changed it may be waiting for the locks it holds.
    async fn after(
        &mut self,
        source: Source,
        error: Error,
        options: &Options,
        ctx: &Context,
    ) -> Result<Options> {
        self.failed += 1;
        let other = source.another_way(&error, options).filter(|_| !ctx.cancel.is_cancelled());
        let Some(other) = other else { return Err(error) };
        if self.failed == ATTEMPTS {
            let message = format!("not read to its end in {ATTEMPTS} attempts: {}", error.message());
            let help = error.help().unwrap_or("Try again.").to_owned();
            return Err(Error::new(error.kind(), message).with_help(help).with_source(error));
        }
        tracing::info!(failed = self.failed, error = %error, "a database is read anew");
        source.let_go().await;
        Ok(other)
    }
}

/// Reads tables one after the other on the connection that holds a snapshot, with what was written there,
/// and returns a tree of each, in the order given.
pub(crate) async fn read_own(
    snapshot: &postgres::Snapshot,
    targets: &[Target],
    repo: &Repository,
    output: &Output,
    ctx: &Context,
) -> Result<Vec<Tree>> {
    let intake = Arc::default();
    let reader = Reader { repo, output, intake: &intake, ctx };
    let mut trees = Vec::with_capacity(targets.len());
    for target in targets {
        let order = snapshot.order_of(&target.namespace, &target.name, &target.layout);
        trees.push(reader.sorted_if_need_be(Scan::Own(snapshot), target, order).await?);
    }
    Ok(trees)
}

/// Reads collections, several at a time, and returns a tree of each, in the order given.
pub(crate) async fn read_all(
    source: &Source,
    targets: &[Target],
    repo: &Repository,
    output: &Output,
    phase: &str,
    ctx: &Context,
) -> Result<Vec<Tree>> {
    Box::pin(read_parts(source, &mut Parts::of(targets.to_vec()), repo, output, phase, ctx)).await
}

/// Reads the collections that have no tree yet, several at a time, and brings all to one moment. Returns
/// a tree of each, in the order given. What was read before a failure stays in the parts.
async fn read_parts(
    source: &Source,
    parts: &mut Parts,
    repo: &Repository,
    output: &Output,
    phase: &str,
    ctx: &Context,
) -> Result<Vec<Tree>> {
    // Dropped when this returns: workers of the other collections stop when one fails.
    let stop = ctx.cancel.child_token();
    let _stop_guard = stop.clone().drop_guard();
    let ctx = Context { cancel: stop, ..ctx.clone() };
    let meter = Meter::default();
    let total = parts.targets.len() as u64;
    let reader = Reader { repo, output, intake: &meter.intake, ctx: &ctx };
    let tell = || ctx.monitor.progress(&progress(&meter, total, phase, output));
    let reading = async {
        reader.scan_missing(source, parts, &meter.done).await?;
        if let Source::MongoDb(snapshot) = source {
            meter.follows.store(snapshot.follows_changes(), Ordering::Relaxed);
            tell();
            reader.catch_up(snapshot, parts).await?;
        }
        let trees: Option<Vec<Tree>> = parts.trees.iter().copied().collect();
        trees.ok_or_else(|| Error::new(Kind::Internal, "a collection has no tree after it was read"))
    };
    tokio::pin!(reading);
    let mut tick = tokio::time::interval(TICK);
    let trees = loop {
        tokio::select! {
            biased;
            trees = &mut reading => break trees?,
            _ = tick.tick() => tell(),
        }
    };
    tell();
    Ok(trees)
}

fn progress(meter: &Meter, total: u64, phase: &str, output: &Output) -> Progress {
    Progress {
        phase: match meter.follows.load(Ordering::Relaxed) {
            true => "following changes".to_owned(),
            false => phase.to_owned(),
        },
        collections_done: meter.done.load(Ordering::Relaxed),
        collections_total: total,
        records: meter.intake.records.load(Ordering::Relaxed),
        bytes_read: meter.intake.bytes.load(Ordering::Relaxed),
        bytes_stored: match output {
            Output::Repository(writer) => writer.progress_bytes(),
            Output::Overlay(_) => 0,
        },
    }
}

/// Where records go, and who counts them.
struct Reader<'a> {
    repo: &'a Repository,
    output: &'a Output,
    intake: &'a Arc<Intake>,
    ctx: &'a Context,
}

/// How a collection's records are asked for.
#[derive(Clone, Copy)]
enum Scan<'a> {
    /// As the first reading of it.
    Whole(&'a Source),
    /// On the connection that holds the snapshot.
    Own(&'a postgres::Snapshot),
    /// Once more, in a round of catching up.
    Again(&'a mongodb::Snapshot, &'a RoundPart),
}

impl Reader<'_> {
    /// Reads what has no tree yet. A collection that changed so that it must be read anew does not end
    /// the scans of the others: their trees will be needed.
    async fn scan_missing(&self, source: &Source, parts: &mut Parts, done: &AtomicU64) -> Result<()> {
        let missing = parts.missing();
        done.store((parts.targets.len() - missing.len()) as u64, Ordering::Relaxed);
        let Parts { targets, trees } = parts;
        let mut scans = stream::iter(missing)
            .map(|at| {
                let target = &targets[at];
                async move { (at, self.read_one(source, target).await) }.boxed()
            })
            .buffer_unordered(self.ctx.workers.max(1));
        let mut failure = None;
        while let Some((at, read)) = scans.next().await {
            match read {
                Ok(tree) => {
                    trees[at] = Some(tree);
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) if source.may_renew(&error) => drop(failure.get_or_insert(error)),
                Err(error) => return Err(error),
            }
        }
        failure.map_or(Ok(()), Err)
    }

    async fn read_one(&self, source: &Source, target: &Target) -> Result<Tree> {
        let Target { namespace, name, layout, .. } = target;
        self.sorted_if_need_be(Scan::Whole(source), target, source.order_of(namespace, name, layout)).await
    }

    async fn sorted_if_need_be(&self, scan: Scan<'_>, target: &Target, claimed: ScanOrder) -> Result<Tree> {
        if let Some(tree) = self.attempt(scan, target, claimed).await? {
            return Ok(tree);
        }
        // Keys over the limit are in hash order, and collations can surprise: sort ourselves.
        let again = self.attempt(scan, target, ScanOrder::Any).await?;
        again.ok_or_else(|| {
            let shown = Engine::of(&target.layout).display_name(&target.namespace, &target.name);
            Error::new(Kind::Internal, format!("sorted records of {shown} were not in order"))
        })
    }

    /// Reads a collection once. `None` when it was not in the order claimed.
    async fn attempt(&self, scan: Scan<'_>, target: &Target, order: ScanOrder) -> Result<Option<Tree>> {
        let (sender, batches) = mpsc::channel(BATCHES);
        let keys = self.repo.keys().clone();
        let row_key = keys.row().clone();
        let (output, intake) = (self.output.clone(), self.intake.clone());
        let building = spawn_ingest(keys, output, order, batches, intake, self.ctx.clone());
        let scanning = async {
            let Target { namespace, name, layout, .. } = target;
            let cancel = &self.ctx.cancel;
            match scan {
                Scan::Whole(source) => source.scan(layout, namespace, name, &row_key, sender, cancel).await,
                Scan::Own(snapshot) => {
                    snapshot.scan_own(layout, namespace, name, &row_key, sender, cancel).await
                }
                Scan::Again(snapshot, part) => snapshot.rescan(part, layout, &row_key, sender, cancel).await,
            }
        };
        let (scanned, built) = tokio::join!(scanning, building);
        // Whichever failed first made the other fail: a tree that failed closes the channel under the
        // scan, a scan that failed ends the tree early, which then looks whole and is not.
        let tree = match built? {
            Ingested::OutOfOrder => return Ok(None),
            Ingested::Whole(tree) => tree,
        };
        let ScanStats { records, .. } = scanned?;
        if tree.root.records == records {
            return Ok(Some(tree));
        }
        let message = format!("{records} records were read and {} are in the tree", tree.root.records);
        Err(Error::new(Kind::Internal, message))
    }

    /// Reads again what changed while the scans ran, until all trees are of one moment.
    async fn catch_up(&self, snapshot: &mongodb::Snapshot, parts: &mut Parts) -> Result<()> {
        let Parts { targets, trees } = parts;
        while let Some(round) = snapshot.next_round(&self.ctx.cancel).await? {
            let mut failed = None;
            for part in &round.parts {
                let is_it = |target: &Target| target.namespace == part.namespace && target.name == part.name;
                let Some(at) = targets.iter().position(is_it) else { continue };
                let Some(tree) = trees[at] else { continue };
                match self.read_again(snapshot, part, &targets[at], tree).await {
                    Ok(tree) => trees[at] = Some(tree),
                    Err(error) => {
                        failed = Some((at, error));
                        break;
                    }
                }
            }
            let (at, failure) = failed.unzip();
            let ended = snapshot.end_round(round, failure).await;
            if let (Some(at), Err(_)) = (at, &ended) {
                // Its changes may have been read and are in no tree: nobody tells of them once more.
                trees[at] = None;
            }
            ended?;
        }
        Ok(())
    }

    async fn read_again(
        &self,
        snapshot: &mongodb::Snapshot,
        part: &RoundPart,
        target: &Target,
        tree: Tree,
    ) -> Result<Tree> {
        if part.whole {
            let order = match target.layout.kind {
                CollectionKind::CappedCollection => ScanOrder::Natural,
                _ => ScanOrder::Any,
            };
            return self.sorted_if_need_be(Scan::Again(snapshot, part), target, order).await;
        }
        self.output.settle().await?;
        let (sender, changes) = mpsc::channel(BATCHES);
        let patching = patch(self.repo, tree, self.output.clone(), changes, self.ctx);
        let row_key = self.repo.keys().row();
        let reading = snapshot.reread(part, &target.layout, row_key, sender, &self.ctx.cancel);
        let (read, patched) = tokio::join!(reading, patching);
        // A read that failed ends the changes early; a tree that failed closes the channel.
        let patched = patched?;
        let ScanStats { bytes_read, .. } = read?;
        self.intake.bytes.fetch_add(bytes_read, Ordering::Relaxed);
        Ok(patched)
    }
}
