//! Reading a database's collections into trees: what backups and proofs have in common.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use repo_format::catalog::Layout;
use repo_format::keys::KeySchedule;
use repo_format::tree::Root;
use tokio::sync::mpsc;

use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::ingest::{Ingested, Intake, Output, spawn_ingest};
use crate::monitor::Progress;
use crate::source::postgres::Snapshot as Source;
use crate::source::{Collection, ScanOrder, display_name};

/// Batches between a connection and its tree: enough to keep both busy.
const BATCHES: usize = 4;
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
}

/// Reads collections, several at a time, and returns the root of each, in the order given.
pub(crate) async fn read_all(
    source: &Source,
    targets: Vec<Target>,
    keys: &KeySchedule,
    output: &Output,
    phase: &str,
    ctx: &Context,
) -> Result<Vec<Root>> {
    // Dropped when this returns: workers of the other collections stop when one fails.
    let stop = ctx.cancel.child_token();
    let _stop_guard = stop.clone().drop_guard();
    let ctx = Context { cancel: stop, ..ctx.clone() };
    let meter = Meter::default();
    let mut order: Vec<usize> = (0..targets.len()).collect();
    order.sort_by_key(|&at| std::cmp::Reverse(targets[at].estimated_bytes));
    let total = targets.len() as u64;
    let (targets, meter_ref, ctx_ref) = (&targets, &meter, &ctx);
    let reading = stream::iter(order)
        .map(|at| async move {
            let root = read_one(source, &targets[at], keys, output, &meter_ref.intake, ctx_ref).await?;
            meter_ref.done.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Error>((at, root))
        })
        .buffer_unordered(ctx.workers.max(1))
        .try_collect::<Vec<_>>();
    let tell = || ctx.monitor.progress(&progress(&meter, total, phase, output));
    tokio::pin!(reading);
    let mut tick = tokio::time::interval(TICK);
    let mut roots = loop {
        tokio::select! {
            biased;
            roots = &mut reading => break roots?,
            _ = tick.tick() => tell(),
        }
    };
    tell();
    roots.sort_by_key(|(at, _)| *at);
    Ok(roots.into_iter().map(|(_, root)| root).collect())
}

fn progress(meter: &Meter, total: u64, phase: &str, output: &Output) -> Progress {
    Progress {
        phase: phase.to_owned(),
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

async fn read_one(
    source: &Source,
    target: &Target,
    keys: &KeySchedule,
    output: &Output,
    intake: &Arc<Intake>,
    ctx: &Context,
) -> Result<Root> {
    let Target { namespace, name, layout, .. } = target;
    let claimed = source.order_of(namespace, name, layout);
    if let Some(root) = attempt(source, target, claimed, keys, output, intake, ctx).await? {
        return Ok(root);
    }
    // Keys over the limit are in hash order, and collations can surprise: sort ourselves.
    let again = attempt(source, target, ScanOrder::Any, keys, output, intake, ctx).await?;
    again.ok_or_else(|| {
        let shown = display_name(namespace, name);
        Error::new(Kind::Internal, format!("sorted records of {shown} were not in order"))
    })
}

/// Reads a collection once. `None` when it was not in the order claimed.
async fn attempt(
    source: &Source,
    target: &Target,
    order: ScanOrder,
    keys: &KeySchedule,
    output: &Output,
    intake: &Arc<Intake>,
    ctx: &Context,
) -> Result<Option<Root>> {
    let Target { namespace, name, layout, .. } = target;
    let (sender, batches) = mpsc::channel(BATCHES);
    let building = spawn_ingest(keys.clone(), output.clone(), order, batches, intake.clone(), ctx.clone());
    let scanning = source.scan(layout, namespace, name, keys.row(), sender, &ctx.cancel);
    let (scanned, built) = tokio::join!(scanning, building);
    // Whichever failed first made the other fail: a tree that failed closes the channel under the
    // scan, a scan that failed ends the tree early, which then looks whole and is not.
    let built = built?;
    if matches!(built, Ingested::OutOfOrder) {
        return Ok(None);
    }
    let stats = scanned?;
    match built {
        Ingested::Whole(root) if root.records == stats.records => Ok(Some(root)),
        Ingested::Whole(root) => Err(Error::new(
            Kind::Internal,
            format!("{} records were read and {} are in the tree", stats.records, root.records),
        )),
        Ingested::OutOfOrder => Ok(None),
    }
}
