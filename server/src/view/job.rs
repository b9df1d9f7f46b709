//! Jobs as pages show them.

use web::components::Problem;
use web::components::job::{Job, Kind, Progress, State};

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

/// What a job does.
pub fn kind(work: &Work) -> Kind {
    match work {
        Work::Backup { .. } => Kind::Backup,
        Work::Diff { .. } => Kind::Diff,
        Work::RestorePlan { .. } => Kind::RestorePlan,
        Work::RestoreApply { .. } => Kind::Restore,
        Work::Verify { .. } => Kind::Verify,
        Work::Prune { .. } => Kind::Prune,
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
