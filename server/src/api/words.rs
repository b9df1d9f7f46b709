//! What the engine says, in the API's shape. The engine knows no API document: what it serialises
//! by itself is listed here as the document names it, and the tests hold answers against that.

use engine::diff::Counts;
use engine::history::CollectionSummary;
use engine::monitor::Progress;
use engine::source::{ConnectionReport, Stage, StageReport};
use engine::target::PreflightCheck;
use serde::Serialize;
use utoipa::ToSchema;

/// Whether records may be of different moments.
#[derive(ToSchema)]
#[schema(as = Consistency, rename_all = "snake_case")]
pub enum ConsistencyWord {
    PointInTime,
    BestEffort,
}

/// What became of a collection.
#[derive(ToSchema)]
#[schema(as = Status, rename_all = "snake_case")]
pub enum StatusWord {
    Added,
    Removed,
    Changed,
    Unchanged,
}

/// What happened to a record.
#[derive(ToSchema)]
#[schema(as = ChangeKind, rename_all = "snake_case")]
pub enum ChangeKindWord {
    Added,
    Removed,
    Changed,
}

/// Why a snapshot was taken.
#[derive(ToSchema)]
#[schema(as = Trigger, rename_all = "snake_case")]
pub enum TriggerWord {
    Manual,
    Schedule,
    Safety,
}

/// Whether a snapshot holds everything that it should.
#[derive(ToSchema)]
#[schema(as = SnapshotState, rename_all = "snake_case")]
pub enum SnapshotStateWord {
    Complete,
    Incomplete,
}

/// One stage of a connection test.
#[derive(ToSchema)]
#[schema(as = Stage, rename_all = "snake_case")]
pub enum StageWord {
    Resolve,
    Connect,
    Tls,
    Authenticate,
    List,
    Read,
    ReadOnly,
}

/// One operation of RFC 6902.
#[derive(ToSchema)]
#[schema(as = Operation)]
pub struct OperationBody {
    /// `add`, `remove` or `replace`.
    pub op: String,
    /// A JSON Pointer (RFC 6901).
    pub path: String,
    /// Absent where something is removed.
    #[schema(required = false)]
    pub value: serde_json::Value,
}

/// The result of a connection test. Stages after the first failure are absent.
#[derive(Serialize, ToSchema)]
#[schema(as = ConnectionReport)]
pub struct ConnectionBody {
    ok: bool,
    stages: Vec<StageBody>,
    /// `postgresql` or `mongodb`.
    engine: String,
    /// Empty when the server was not reached.
    server_version: String,
    collections: u64,
    size_bytes: u64,
    /// Every privilege found that could write.
    privileges: Vec<String>,
    notes: Vec<String>,
    /// Whether the server cannot show all records as of one moment.
    lacks_point_in_time: bool,
}

/// How one stage went.
#[derive(Serialize, ToSchema)]
#[schema(as = StageReport)]
pub struct StageBody {
    #[schema(value_type = StageWord)]
    stage: Stage,
    ok: bool,
    detail: String,
    /// What to do about it.
    #[schema(required)]
    fix: Option<String>,
}

impl From<ConnectionReport> for ConnectionBody {
    fn from(report: ConnectionReport) -> Self {
        Self {
            ok: report.ok,
            stages: report.stages.into_iter().map(StageBody::from).collect(),
            engine: report.engine,
            server_version: report.server_version,
            collections: report.collections,
            size_bytes: report.size_bytes,
            privileges: report.privileges,
            notes: report.notes,
            lacks_point_in_time: report.lacks_point_in_time,
        }
    }
}

impl From<StageReport> for StageBody {
    fn from(report: StageReport) -> Self {
        Self { stage: report.stage, ok: report.ok, detail: report.detail, fix: report.fix }
    }
}

/// How far a job is.
#[derive(Serialize, ToSchema)]
#[schema(as = Progress)]
pub struct ProgressBody {
    /// What is being done now, in words.
    phase: String,
    collections_done: u64,
    /// 0 until they are listed.
    collections_total: u64,
    records: u64,
    bytes_read: u64,
    bytes_stored: u64,
}

impl From<Progress> for ProgressBody {
    fn from(progress: Progress) -> Self {
        Self {
            phase: progress.phase,
            collections_done: progress.collections_done,
            collections_total: progress.collections_total,
            records: progress.records,
            bytes_read: progress.bytes_read,
            bytes_stored: progress.bytes_stored,
        }
    }
}

/// One collection of a snapshot. Equal roots mean equal data, within one project.
#[derive(Serialize, ToSchema)]
pub struct SnapshotCollection {
    name: String,
    kind: String,
    records: u64,
    logical_bytes: u64,
    root: String,
}

impl From<CollectionSummary> for SnapshotCollection {
    fn from(summary: CollectionSummary) -> Self {
        Self {
            name: summary.name,
            kind: summary.kind,
            records: summary.records,
            logical_bytes: summary.logical_bytes,
            root: summary.root,
        }
    }
}

/// How many records differ, exactly.
#[derive(Serialize, ToSchema)]
#[schema(as = Counts)]
pub struct CountsBody {
    added: u64,
    removed: u64,
    changed: u64,
    unchanged: u64,
    /// Of the changed ones, documents that differ in nothing but the order of their fields.
    order_only: u64,
}

impl From<Counts> for CountsBody {
    fn from(counts: Counts) -> Self {
        Self {
            added: counts.added,
            removed: counts.removed,
            changed: counts.changed,
            unchanged: counts.unchanged,
            order_only: counts.order_only,
        }
    }
}

/// One thing looked at before a restore.
#[derive(Serialize, ToSchema)]
#[schema(as = PreflightCheck)]
pub struct CheckBody {
    check: String,
    ok: bool,
    detail: String,
}

impl From<PreflightCheck> for CheckBody {
    fn from(check: PreflightCheck) -> Self {
        Self { check: check.check, ok: check.ok, detail: check.detail }
    }
}
