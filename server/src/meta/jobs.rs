//! Jobs and their queue. A job's state is written here before anybody hears of it, so that after
//! a crash nothing is running that is not, and nothing is queued twice.

use std::collections::HashSet;
use std::time::Duration;

use engine::monitor::Progress;
use redb::{ReadableTable, ReadableTableMetadata, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::rows::{self, JOBS, JOBS_BY_PROJECT, JOBS_BY_SUBJECT, JOBS_QUEUED, JOBS_RUNNING, Order};
use super::{Findings, Meta, Page, PageRequest, Result, Writing, audit, damage, databases, schedules};
use crate::audit::{Detail, Outcome, action};
use crate::ids::{DatabaseId, DiffId, JobId, ProjectId, RestoreId, UserId};
use crate::schedule::is_ahead;
use crate::server_key::Sealed;

/// How long a job waits before each further attempt, after a failure that may pass by itself.
/// Short: a database that restarts is back by then, and nobody waits long for one that is gone.
pub const RETRY_PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];

/// Where a job stands. The last five are final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    Queued,
    Running,
    Succeeded,
    /// A backup that could not read everything.
    Incomplete,
    Failed,
    /// Stopped by a user.
    Cancelled,
    /// Stopped by the server's end.
    Interrupted,
}

impl JobState {
    pub const ALL: [Self; 7] = [
        Self::Queued,
        Self::Running,
        Self::Succeeded,
        Self::Incomplete,
        Self::Failed,
        Self::Cancelled,
        Self::Interrupted,
    ];

    pub fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }

    /// How the audit log calls an end in this state.
    fn audited(self) -> Outcome {
        match self {
            Self::Queued | Self::Running | Self::Failed => Outcome::Failed,
            Self::Succeeded => Outcome::Succeeded,
            Self::Incomplete => Outcome::Incomplete,
            Self::Cancelled => Outcome::Cancelled,
            Self::Interrupted => Outcome::Interrupted,
        }
    }

    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Incomplete => "incomplete",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
        }
    }
}

/// How thorough a verification is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum VerifyMode {
    Structure,
    Sample,
    Full,
}

/// What a job has to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Work {
    Backup {
        database_id: DatabaseId,
        note: Option<String>,
        /// The due time that a schedule runs it for.
        #[serde(default)]
        due_ms: Option<i64>,
    },
    Diff {
        diff_id: DiffId,
    },
    /// Reads a database and compares a snapshot with it.
    LiveDiff {
        diff_id: DiffId,
        database_id: DatabaseId,
    },
    RestorePlan {
        restore_id: RestoreId,
    },
    /// The URL to write with is in memory only: without the process that took it, it cannot run.
    RestoreApply {
        restore_id: RestoreId,
        #[serde(default)]
        in_place: bool,
        /// In place, whether it writes in several transactions: an undo takes back what is left of it when
        /// it does not end.
        #[serde(default)]
        in_steps: bool,
    },
    /// Takes a restore in place back. As that, it takes a URL to write with.
    RestoreUndo {
        restore_id: RestoreId,
        #[serde(default)]
        in_steps: bool,
    },
    Verify {
        mode: VerifyMode,
    },
    Prune {
        dry_run: bool,
    },
    /// Counts what a snapshot costs.
    Cost {
        snapshot_id: String,
    },
}

impl Work {
    /// All the words of [`Work::kind`].
    pub const KINDS: [&'static str; 9] = [
        "backup",
        "diff",
        "live-diff",
        "restore-plan",
        "restore-apply",
        "restore-undo",
        "verify",
        "prune",
        "cost",
    ];

    /// The word of the API.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Backup { .. } => "backup",
            Self::Diff { .. } => "diff",
            Self::LiveDiff { .. } => "live-diff",
            Self::RestorePlan { .. } => "restore-plan",
            Self::RestoreApply { .. } => "restore-apply",
            Self::RestoreUndo { .. } => "restore-undo",
            Self::Verify { .. } => "verify",
            Self::Prune { .. } => "prune",
            Self::Cost { .. } => "cost",
        }
    }

    /// What the audit log calls its beginning and its end; nothing of what only reads what is stored.
    pub fn actions(&self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Backup { .. } => Some((action::BACKUP_START, action::BACKUP_END)),
            Self::Diff { .. } | Self::Cost { .. } => None,
            Self::LiveDiff { .. } => Some((action::LIVE_DIFF_START, action::LIVE_DIFF_END)),
            Self::RestorePlan { .. } => Some((action::RESTORE_PLAN_START, action::RESTORE_PLAN_END)),
            Self::RestoreApply { .. } => Some((action::RESTORE_START, action::RESTORE_END)),
            Self::RestoreUndo { .. } => Some((action::RESTORE_UNDO_START, action::RESTORE_UNDO_END)),
            Self::Verify { .. } => Some((action::VERIFY_START, action::VERIFY_END)),
            Self::Prune { dry_run: true } => None,
            Self::Prune { dry_run: false } => Some((action::PRUNE_START, action::PRUNE_END)),
        }
    }

    /// Whether it can run in another process than the one that took it in.
    fn survives_restart(&self) -> bool {
        !self.writes_to_target()
    }

    /// Whether it may be done again after it failed half-way. Writing into somebody's database is
    /// theirs to repeat.
    pub fn is_repeatable(&self) -> bool {
        !self.writes_to_target()
    }

    /// Whether it writes into somebody's database.
    pub fn writes_to_target(&self) -> bool {
        matches!(self, Self::RestoreApply { .. } | Self::RestoreUndo { .. })
    }

    /// Whether all that it wrote is taken back when it does not come to its end.
    pub fn is_all_or_nothing(&self) -> bool {
        matches!(
            self,
            Self::RestoreApply { in_place: true, in_steps: false, .. }
                | Self::RestoreUndo { in_steps: false, .. }
        )
    }

    /// Whether what it wrote before it ended can be undone, however it ended.
    pub fn is_in_steps(&self) -> bool {
        matches!(self, Self::RestoreApply { in_steps: true, .. } | Self::RestoreUndo { in_steps: true, .. })
    }

    /// What it is about, if pages tell of the newest such job.
    fn subject(&self, project: ProjectId) -> Option<Subject> {
        match self {
            Self::Backup { database_id, .. } => Some(Subject::Backups(*database_id)),
            Self::Verify { .. } => Some(Subject::Verifications(project)),
            Self::Prune { dry_run: false } => Some(Subject::Prunes(project)),
            Self::Cost { snapshot_id } => Some(Subject::Costs(project, snapshot_id.clone())),
            _ => None,
        }
    }

    /// Jobs of one lane run one after the other; no lane, no order.
    fn lane(&self) -> String {
        match self {
            // A database is read by one job at a time.
            Self::Backup { database_id, .. } | Self::LiveDiff { database_id, .. } => {
                format!("backup/{database_id}")
            }
            Self::RestoreApply { restore_id, .. } | Self::RestoreUndo { restore_id, .. } => {
                format!("restore/{restore_id}")
            }
            Self::Diff { .. }
            | Self::RestorePlan { .. }
            | Self::Verify { .. }
            | Self::Prune { .. }
            | Self::Cost { .. } => String::new(),
        }
    }
}

/// What jobs are about. The newest of them are found however many others there were since.
#[derive(Clone, Debug)]
pub enum Subject {
    Backups(DatabaseId),
    Verifications(ProjectId),
    /// Those that delete.
    Prunes(ProjectId),
    /// Of a snapshot.
    Costs(ProjectId, String),
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Backups(database) => write!(f, "backup/{database}"),
            Self::Verifications(project) => write!(f, "verify/{project}"),
            Self::Prunes(project) => write!(f, "prune/{project}"),
            Self::Costs(project, snapshot) => write!(f, "cost/{project}/{snapshot}"),
        }
    }
}

/// A job as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JobRecord {
    pub id: JobId,
    pub project_id: ProjectId,
    pub user_id: UserId,
    pub work: Work,
    pub state: JobState,
    pub created_ms: i64,
    pub started_ms: Option<i64>,
    pub finished_ms: Option<i64>,
    /// Whether a schedule asked for it, and not its account.
    #[serde(default)]
    pub by_schedule: bool,
    /// How often it failed for a reason that may pass.
    #[serde(default)]
    pub retries: u32,
    /// A retry waits until then.
    #[serde(default)]
    pub not_before_ms: i64,
    /// Counters only: the phase names customers' tables.
    pub progress: Progress,
    /// Result and error: they name customers' tables, so they are sealed.
    pub outcome: Option<Sealed>,
}

impl JobRecord {
    /// Whether it waits for another attempt. A time further ahead than any pause is none of this clock's: the
    /// clock was ahead when the job failed, and was set right since.
    fn waits_at(&self, now_ms: i64) -> bool {
        let left_ms = self.not_before_ms.saturating_sub(now_ms);
        let longest_ms = RETRY_PAUSES.iter().map(Duration::as_millis).max();
        u128::try_from(left_ms).is_ok_and(|left_ms| left_ms > 0 && Some(left_ms) <= longest_ms)
    }
}

/// How a job ended.
#[derive(Clone, Debug)]
pub struct Finish {
    pub state: JobState,
    pub finished_ms: i64,
    pub progress: Progress,
    pub outcome: Option<Sealed>,
    /// What the audit log tells of it.
    pub audit: Detail,
    /// What a verification found that came to its end.
    pub findings: Option<Findings>,
}

impl Meta {
    /// Queues a job.
    pub async fn add_job(&self, job: JobRecord) -> Result<()> {
        self.write(move |tx| add(tx, &job)).await
    }

    /// Queues a verification, unless its project has one, queued since then, that reads as much and that
    /// waits, runs or came to its end. After one that found what was whole before there is another, to see
    /// what the backup since then has mended.
    pub async fn add_verify_unless_recent(&self, job: JobRecord, since_ms: i64) -> Result<bool> {
        self.write(move |tx| {
            let damage = damage::of(tx, job.project_id)?;
            let ids = {
                let links = tx.open_table(JOBS_BY_PROJECT)?;
                rows::children(&links, job.project_id, Order::NewestFirst, &PageRequest::all())?.items
            };
            for id in ids {
                let other: Option<JobRecord> = rows::get(&tx.open_table(JOBS)?, &id)?;
                match other {
                    Some(other) if other.created_ms < since_ms => break,
                    // By a clock that was ahead: nobody knows how long ago that was.
                    Some(other) if other.state.is_final() && is_ahead(other.created_ms, job.created_ms) => {}
                    Some(other) if stands_for(&other, &job) && !damage.is_new_of(other.id) => {
                        return Ok(false);
                    }
                    _ => {}
                }
            }
            add(tx, &job)?;
            Ok(true)
        })
        .await
    }

    /// The newest job's id, of those that are there.
    pub async fn newest_job(&self) -> Result<Option<JobId>> {
        self.read(|tx| {
            let jobs = tx.open_table(JOBS)?;
            let newest = jobs.last()?;
            Ok(newest.and_then(|(id, _)| JobId::parse(id.value())))
        })
        .await
    }

    pub async fn job(&self, id: JobId) -> Result<Option<JobRecord>> {
        self.read(move |tx| rows::get(&tx.open_table(JOBS)?, &id.to_string())).await
    }

    /// A project's jobs, newest first.
    pub async fn jobs_of(&self, project: ProjectId, page: PageRequest) -> Result<Page<JobRecord>> {
        self.read(move |tx| {
            let links = tx.open_table(JOBS_BY_PROJECT)?;
            rows::child_rows(&links, &tx.open_table(JOBS)?, project, Order::NewestFirst, &page)
        })
        .await
    }

    /// The jobs about something, newest first.
    pub async fn jobs_about(&self, subject: Subject, page: PageRequest) -> Result<Page<JobRecord>> {
        self.read(move |tx| {
            let links = tx.open_table(JOBS_BY_SUBJECT)?;
            rows::child_rows(&links, &tx.open_table(JOBS)?, subject, Order::NewestFirst, &page)
        })
        .await
    }

    /// Takes the oldest queued job whose time has come and whose lane is free, and marks it running.
    pub async fn claim_job(&self, now_ms: i64) -> Result<Option<JobRecord>> {
        // Most calls find nothing, and a write transaction would make them wait for each other.
        if self.read(|tx| Ok(tx.open_table(JOBS_QUEUED)?.is_empty()?)).await? {
            return Ok(None);
        }
        self.write(move |tx| {
            let Some(id) = first_claimable(tx, now_ms)? else { return Ok(None) };
            let found: Option<JobRecord> = rows::get(&tx.open_table(JOBS)?, &id)?;
            rows::unlink(tx, JOBS_QUEUED, &id)?;
            let Some(mut job) = found else { return Ok(None) };
            job.state = JobState::Running;
            job.started_ms = Some(now_ms);
            rows::put(tx, JOBS, &id, &job)?;
            rows::link(tx, JOBS_RUNNING, &id, &job.work.lane())?;
            schedules::begun(tx, &job, now_ms)?;
            Ok(Some(job))
        })
        .await
    }

    /// Puts running jobs back into their places in the queue, but for those that really run: of the others
    /// nobody knows, because their claim failed and was written all the same. Says how many there were.
    pub async fn requeue_jobs_but(&self, running: HashSet<JobId>) -> Result<usize> {
        self.write(move |tx| {
            let mut requeued = 0;
            for job in active(tx)? {
                if job.state == JobState::Running && !running.contains(&job.id) {
                    let id = job.id.to_string();
                    let job = JobRecord { state: JobState::Queued, started_ms: None, ..job };
                    rows::put(tx, JOBS, &id, &job)?;
                    rows::unlink(tx, JOBS_RUNNING, &id)?;
                    rows::link(tx, JOBS_QUEUED, &id, &job.work.lane())?;
                    requeued += 1;
                }
            }
            Ok(requeued)
        })
        .await
    }

    /// Puts a running job back into its place in the queue, to be tried again at `not_before_ms`.
    /// `None` when it is not running any more.
    pub async fn retry_job(&self, id: JobId, not_before_ms: i64) -> Result<Option<JobRecord>> {
        self.write(move |tx| {
            let found: Option<JobRecord> = rows::get(&tx.open_table(JOBS)?, &id.to_string())?;
            let Some(job) = found.filter(|job| job.state == JobState::Running) else { return Ok(None) };
            let retries = job.retries + 1;
            let job = JobRecord { state: JobState::Queued, started_ms: None, retries, not_before_ms, ..job };
            rows::put(tx, JOBS, &id.to_string(), &job)?;
            rows::unlink(tx, JOBS_RUNNING, &id.to_string())?;
            rows::link(tx, JOBS_QUEUED, &id.to_string(), &job.work.lane())?;
            Ok(Some(job))
        })
        .await
    }

    /// Keeps the counters of a running job.
    pub async fn set_job_progress(&self, id: JobId, progress: Progress) -> Result<()> {
        self.write(move |tx| {
            let found: Option<JobRecord> = rows::get(&tx.open_table(JOBS)?, &id.to_string())?;
            match found {
                Some(job) if job.state == JobState::Running => {
                    rows::put(tx, JOBS, &id.to_string(), &JobRecord { progress: counters(progress), ..job })
                }
                _ => Ok(()),
            }
        })
        .await
    }

    /// Ends a job. The first end stands: a final state never changes. Returns the job as it is now.
    pub async fn finish_job(&self, id: JobId, finish: Finish) -> Result<Option<JobRecord>> {
        self.write(move |tx| {
            let found: Option<JobRecord> = rows::get(&tx.open_table(JOBS)?, &id.to_string())?;
            found.map(|job| end(tx, job, finish)).transpose()
        })
        .await
    }

    /// Ends a job that nobody has begun; `None` when somebody has, or it is not there.
    pub async fn finish_queued_job(&self, id: JobId, finish: Finish) -> Result<Option<JobRecord>> {
        self.write(move |tx| {
            let found: Option<JobRecord> = rows::get(&tx.open_table(JOBS)?, &id.to_string())?;
            found.filter(|job| job.state == JobState::Queued).map(|job| end(tx, job, finish)).transpose()
        })
        .await
    }

    /// At start: what was running is interrupted, and so is what cannot run without the process
    /// that took it in. Returns the interrupted and the still queued jobs.
    pub async fn recover_jobs(&self, now_ms: i64) -> Result<(Vec<JobRecord>, Vec<JobRecord>)> {
        self.write(move |tx| {
            let (mut interrupted, mut queued) = (Vec::new(), Vec::new());
            for job in active(tx)? {
                if job.state == JobState::Queued && job.work.survives_restart() {
                    // What a retry waited for may have passed, and nobody is left to wake it.
                    let job = JobRecord { not_before_ms: 0, ..job };
                    rows::put(tx, JOBS, &job.id.to_string(), &job)?;
                    queued.push(job);
                    continue;
                }
                let progress = job.progress.clone();
                let finish = Finish {
                    state: JobState::Interrupted,
                    finished_ms: now_ms,
                    progress,
                    outcome: None,
                    audit: Detail::new(),
                    findings: None,
                };
                interrupted.push(end(tx, job, finish)?);
            }
            Ok((interrupted, queued))
        })
        .await
    }

    /// Jobs that are queued or running, oldest first.
    pub async fn active_jobs(&self) -> Result<Vec<JobRecord>> {
        self.write(|tx| active(tx)).await
    }
}

/// Whether a verification makes another one needless. One that failed or was stopped does not.
fn stands_for(other: &JobRecord, wanted: &JobRecord) -> bool {
    let (Work::Verify { mode: read }, Work::Verify { mode }) = (&other.work, &wanted.work) else {
        return false;
    };
    read >= mode && matches!(other.state, JobState::Queued | JobState::Running | JobState::Succeeded)
}

pub(super) fn add(tx: &Writing, job: &JobRecord) -> Result<()> {
    let id = job.id.to_string();
    rows::put(tx, JOBS, &id, job)?;
    rows::link(tx, JOBS_BY_PROJECT, &rows::below(job.project_id, &id), "")?;
    link_subject(tx, job)?;
    rows::link(tx, JOBS_QUEUED, &id, &job.work.lane())?;
    audit::job_begun(tx, job)
}

/// Lets a job be found by what it is about.
fn link_subject(tx: &WriteTransaction, job: &JobRecord) -> Result<()> {
    match job.work.subject(job.project_id) {
        Some(subject) => rows::link(tx, JOBS_BY_SUBJECT, &rows::below(subject, job.id), ""),
        None => Ok(()),
    }
}

fn counters(progress: Progress) -> Progress {
    Progress { phase: String::new(), ..progress }
}

fn first_claimable(tx: &WriteTransaction, now_ms: i64) -> Result<Option<String>> {
    let mut busy = std::collections::HashSet::new();
    for entry in tx.open_table(JOBS_RUNNING)?.range::<&str>(..)? {
        busy.insert(entry?.1.value().to_owned());
    }
    let jobs = tx.open_table(JOBS)?;
    for entry in tx.open_table(JOBS_QUEUED)?.range::<&str>(..)? {
        let (id, lane) = entry?;
        if !lane.value().is_empty() && busy.contains(lane.value()) {
            continue;
        }
        let job: Option<JobRecord> = rows::get(&jobs, id.value())?;
        if job.is_some_and(|job| job.waits_at(now_ms)) {
            // Its lane waits with it: what came later does not overtake it.
            if !lane.value().is_empty() {
                busy.insert(lane.value().to_owned());
            }
            continue;
        }
        return Ok(Some(id.value().to_owned()));
    }
    Ok(None)
}

fn active(tx: &WriteTransaction) -> Result<Vec<JobRecord>> {
    let mut ids = std::collections::BTreeSet::new();
    for links in [JOBS_QUEUED, JOBS_RUNNING] {
        for entry in tx.open_table(links)?.range::<&str>(..)? {
            ids.insert(entry?.0.value().to_owned());
        }
    }
    let jobs = tx.open_table(JOBS)?;
    ids.iter().filter_map(|id| rows::get(&jobs, id).transpose()).collect()
}

/// The backup of a database that its schedule asked for and that runs or waits, but for the job `except`.
pub(super) fn open_run(
    tx: &WriteTransaction,
    database: DatabaseId,
    except: Option<JobId>,
) -> Result<Option<JobRecord>> {
    let is_it = |job: &JobRecord| match job.work {
        Work::Backup { database_id, due_ms: Some(_), .. } => {
            database_id == database && Some(job.id) != except
        }
        _ => false,
    };
    let mut open = active(tx)?.into_iter().filter(is_it);
    Ok(open.next())
}

fn end(tx: &Writing, mut job: JobRecord, finish: Finish) -> Result<JobRecord> {
    if !job.state.is_final() {
        job.state = finish.state;
        job.finished_ms = Some(finish.finished_ms);
        job.progress = counters(finish.progress);
        job.outcome = finish.outcome;
        rows::put(tx, JOBS, &job.id.to_string(), &job)?;
        let result = match &finish.findings {
            // It did what it was to do, and what it looked at is not as it should be.
            Some(found) if found.count > 0 && job.state == JobState::Succeeded => Outcome::Incomplete,
            _ => job.state.audited(),
        };
        audit::job_ended(tx, &job, result, finish.audit)?;
        if let Some(found) = finish.findings {
            damage::verified(tx, &job, found)?;
        }
        let began_ms = job.started_ms.unwrap_or(job.created_ms);
        match (&job.work, job.state) {
            (Work::Backup { database_id, .. }, JobState::Succeeded) => {
                databases::backed_up(tx, *database_id, began_ms)?;
                schedules::backed_up(tx, *database_id, finish.finished_ms)?;
            }
            (Work::Backup { database_id, due_ms: Some(due_ms), .. }, JobState::Interrupted) => {
                schedules::interrupted(tx, job.id, *database_id, *due_ms, finish.finished_ms)?;
            }
            _ => {}
        }
    }
    rows::unlink(tx, JOBS_QUEUED, &job.id.to_string())?;
    rows::unlink(tx, JOBS_RUNNING, &job.id.to_string())?;
    Ok(job)
}

pub(super) fn remove_of_project(tx: &WriteTransaction, project: ProjectId) -> Result<()> {
    let links =
        rows::children(&tx.open_table(JOBS_BY_PROJECT)?, project, Order::OldestFirst, &PageRequest::all())?;
    for id in &links.items {
        rows::unlink(tx, JOBS_QUEUED, id)?;
        rows::unlink(tx, JOBS_RUNNING, id)?;
        let job: Option<JobRecord> = rows::get(&tx.open_table(JOBS)?, id)?;
        if let Some(subject) = job.and_then(|job| job.work.subject(project)) {
            rows::unlink(tx, JOBS_BY_SUBJECT, &rows::below(subject, id))?;
        }
        rows::remove(tx, JOBS, id)?;
        rows::unlink(tx, JOBS_BY_PROJECT, &rows::below(project, id))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
