//! Jobs as pages show them.

use engine::prune::Stats;
use engine::verify::Report;
use web::components::Problem;
use web::components::job::{Job, Kind, Progress, State};
use web::pages::job::{Damaged, Pruned, Verified};

use crate::jobs;
use crate::meta::{JobState, Work};

/// How a job stands whose record is gone: its process ended before it was written.
pub const INTERRUPTED: State = State::Interrupted;

/// A job; `result` is where its outcome is to be seen: words and address.
pub fn job(job: &jobs::Job, result: Option<(String, String)>) -> Job {
    let record = &job.record;
    let progress = &record.progress;
    Job {
        id: record.id.to_string(),
        kind: kind(&record.work),
        state: state(record.state),
        created_ms: record.created_ms,
        started_ms: record.started_ms,
        finished_ms: record.finished_ms,
        progress: Progress {
            phase: progress.phase.clone(),
            collections_done: progress.collections_done,
            collections_total: progress.collections_total,
            records: progress.records,
            bytes_read: progress.bytes_read,
            bytes_stored: progress.bytes_stored,
        },
        problem: job.error.as_ref().map(|error| Problem::new(&error.title).with_fix(&error.detail)),
        result,
    }
}

/// What a clean-up found, once it has ended.
pub fn pruned(job: &jobs::Job) -> Option<Pruned> {
    let Work::Prune { dry_run } = job.record.work else { return None };
    let stats: Stats = serde_json::from_value(job.result.clone()?).ok()?;
    let (objects, bytes) = if dry_run {
        (stats.objects_condemned, stats.bytes_condemned)
    } else {
        (stats.objects_removed, stats.bytes_freed)
    };
    Some(Pruned {
        dry_run,
        snapshots: stats.snapshots_removed,
        objects,
        bytes,
        bytes_kept: stats.bytes_kept,
        is_waiting: stats.is_waiting,
    })
}

/// Wrong objects on a page.
const DAMAGED_ROWS: usize = 200;

/// What a verification found, once it has ended.
pub fn verified(job: &jobs::Job) -> Option<Verified> {
    let Work::Verify { mode } = job.record.work else { return None };
    let report: Report = serde_json::from_value(job.result.clone()?).ok()?;
    let damaged_total = report.damaged.len() as u64;
    let damaged = report.damaged.into_iter().take(DAMAGED_ROWS).map(|damage| Damaged {
        object: damage.object,
        collection: damage.collection,
        key_range: damage.key_range,
        reason: damage.reason,
        snapshots: damage.snapshots,
    });
    Some(Verified {
        thoroughness: super::history::thoroughness(mode),
        objects: report.objects,
        bytes: report.bytes,
        undamaged: report.undamaged.len() as u64,
        damaged: damaged.collect(),
        damaged_total,
    })
}

/// What a job does.
pub fn kind(work: &Work) -> Kind {
    match work {
        Work::Backup { .. } => Kind::Backup,
        Work::Diff { .. } => Kind::Diff,
        Work::LiveDiff { .. } => Kind::LiveDiff,
        Work::RestorePlan { .. } => Kind::RestorePlan,
        Work::RestoreApply { .. } => Kind::Restore,
        Work::RestoreUndo { .. } => Kind::RestoreUndo,
        Work::Verify { .. } => Kind::Verify,
        Work::Prune { .. } => Kind::Prune,
        Work::Cost { .. } => Kind::Cost,
    }
}

/// Where a job stands.
pub fn state(state: JobState) -> State {
    match state {
        JobState::Queued => State::Queued,
        JobState::Running => State::Running,
        JobState::Succeeded => State::Succeeded,
        JobState::Incomplete => State::Incomplete,
        JobState::Failed => State::Failed,
        JobState::Cancelled => State::Cancelled,
        JobState::Interrupted => State::Interrupted,
    }
}
