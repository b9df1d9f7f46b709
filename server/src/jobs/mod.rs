//! Jobs: queued durably, run a few at a time, watched while they run, ended exactly once.

mod feed;
mod restoring;
mod run;
mod work;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::verify::Report;
use repo_format::files;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::app::App;
use crate::audit::Detail;
use crate::error::{JobError, Problem, Result};
use crate::ids::{JobId, ProjectId, UserId};
use crate::meta::{
    self, DueRun, Findings, Finish, JobRecord, JobState, Page, PageRequest, Schedule, Subject, VerifyMode,
    Work,
};
use crate::schedule::Looks;

pub use run::{drain, recover, run};

use feed::Feed;

/// The fields of a job's result that its audit entry repeats.
const AUDITED_FIELDS: [&str; 12] = [
    "snapshot_id",
    "root",
    "records",
    "objects",
    "bytes",
    "safety_snapshot",
    "snapshots_removed",
    "objects_condemned",
    "bytes_condemned",
    "objects_removed",
    "bytes_freed",
    "bytes_kept",
];

/// A job as its owner sees it. While it runs, its progress is newer than what is stored.
#[derive(Clone, Debug)]
pub struct Job {
    pub record: JobRecord,
    pub result: Option<Value>,
    pub error: Option<JobError>,
}

impl Job {
    pub fn state(&self) -> JobState {
        self.record.state
    }
}

/// What a job left; sealed where it is stored.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Outcome {
    result: Option<Value>,
    error: Option<JobError>,
}

impl Outcome {
    /// What the audit log tells of it: ids, roots and counts. Names of tables and messages, which
    /// may quote the database, stay sealed.
    fn audited(&self) -> Detail {
        let mut detail = Detail::new();
        let mut tell = |name: &str, fact: Option<Value>| {
            if let Some(fact) = fact.filter(|fact| !fact.is_null()) {
                detail.insert(name.to_owned(), fact);
            }
        };
        let field = |name: &str| self.result.as_ref().and_then(|result| result.get(name));
        for name in AUDITED_FIELDS {
            tell(name, field(name).filter(|fact| !fact.is_array() && !fact.is_object()).cloned());
        }
        for name in ["incomplete", "damaged"] {
            tell(name, field(name).and_then(Value::as_array).map(|items| items.len().into()));
        }
        for name in ["matches", "differences"] {
            tell(name, field("proof").and_then(|proof| proof.get(name)).cloned());
        }
        tell("problem", self.error.as_ref().map(|error| error.slug.clone().into()));
        detail
    }
}

/// What a verification found whose result this is. A damaged mark hides a note or a pin: its snapshot can
/// be restored.
pub fn findings(work: &Work, result: Option<&Value>) -> Option<Findings> {
    let Work::Verify { .. } = work else { return None };
    let report = Report::deserialize(result?).ok()?;
    let count = report.damaged.len() as u64;
    let hurting = report.damaged.into_iter().filter(|damage| !damage.object.starts_with(files::MARKS));
    let hurt = hurting.flat_map(|damage| damage.snapshots).collect();
    Some(Findings { count, hurt, undamaged: report.undamaged.into_iter().collect() })
}

/// What it takes to write into a restore's target; lives as long as its job waits.
pub struct ApplyOrder {
    pub url: Zeroizing<String>,
    pub confirm: String,
}

/// The part of the queue that is in memory: who watches, who may be stopped.
pub struct Queue {
    permits: Arc<Semaphore>,
    workers: usize,
    wake: Notify,
    scratch_dir: PathBuf,
    /// How the clock was looked at; held while what is due is queued.
    pub looking: tokio::sync::Mutex<Looks>,
    /// Fires when the server ends and waits for no job any more.
    given_up: CancellationToken,
    /// The newest job's id.
    last_id: Mutex<Option<JobId>>,
    feeds: Mutex<HashMap<JobId, Feed>>,
    apply_orders: Mutex<HashMap<JobId, ApplyOrder>>,
}

impl Queue {
    pub fn new(workers: usize, scratch_dir: PathBuf) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(workers)),
            workers,
            wake: Notify::new(),
            scratch_dir,
            looking: tokio::sync::Mutex::default(),
            given_up: CancellationToken::new(),
            last_id: Mutex::default(),
            feeds: Mutex::default(),
            apply_orders: Mutex::default(),
        }
    }

    /// New ids are greater than those of jobs that are there, whatever the clock says: which of two jobs
    /// came later is told by their ids.
    fn goes_on_after(&self, newest: Option<JobId>) {
        let mut last = self.last_id.lock().unwrap_or_else(PoisonError::into_inner);
        *last = (*last).max(newest);
    }

    fn feeds(&self) -> MutexGuard<'_, HashMap<JobId, Feed>> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn orders(&self) -> MutexGuard<'_, HashMap<JobId, ApplyOrder>> {
        self.apply_orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an apply job writes with. Given out once.
    fn take_order(&self, id: JobId) -> Option<ApplyOrder> {
        self.orders().remove(&id)
    }

    /// A folder for what an operation spills; whoever makes it removes it.
    fn scratch(&self, id: JobId) -> PathBuf {
        self.scratch_dir.join(id.to_string())
    }

    fn scratch_root(&self) -> &Path {
        &self.scratch_dir
    }

    /// Jobs that have not ended, by kind and state.
    pub fn active(&self) -> BTreeMap<(&'static str, &'static str), usize> {
        let mut active = BTreeMap::new();
        for job in self.feeds().values().map(Feed::job) {
            *active.entry((job.record.work.kind(), job.state().as_str())).or_default() += 1;
        }
        active
    }

    /// The jobs that this process runs.
    fn running(&self) -> HashSet<JobId> {
        let feeds = self.feeds();
        feeds.iter().filter(|(_, feed)| feed.state() == JobState::Running).map(|(id, _)| *id).collect()
    }

    /// Jobs that wait and jobs that run.
    pub fn counts(&self) -> (usize, usize) {
        let feeds = self.feeds();
        let running = feeds.values().filter(|feed| feed.state() == JobState::Running).count();
        (feeds.len() - running, running)
    }
}

/// What an operation needs that somebody waits for, and that is no job: it ends with the server. The folder
/// is its caller's to remove; what stays goes with the next start.
pub fn errand(app: &App) -> Result<(PathBuf, engine::Context)> {
    let scratch = app.queue.scratch(new_id(app));
    crate::private::create_folder(&scratch).map_err(Problem::internal)?;
    let context = engine::Context {
        cancel: app.stopping.child_token(),
        clock: Arc::clone(&app.clock),
        entropy: Arc::clone(&app.entropy),
        ..engine::Context::new(&scratch)
    };
    Ok((scratch, context))
}

/// An id for a job that is about to be queued, so that what it works on can name it before. Later ones
/// are greater, also within a millisecond: the queue is in the order of ids.
pub fn new_id(app: &App) -> JobId {
    let mut last = app.queue.last_id.lock().unwrap_or_else(PoisonError::into_inner);
    let drawn = JobId::new(app.clock.as_ref(), app.entropy.as_ref());
    let id = last.map_or(drawn, |last| drawn.max(last.next()));
    *last = Some(id);
    id
}

/// A job that waits.
pub fn new_record(app: &App, id: JobId, project_id: ProjectId, user_id: UserId, work: Work) -> JobRecord {
    JobRecord {
        id,
        project_id,
        user_id,
        work,
        state: JobState::Queued,
        created_ms: app.now_ms(),
        started_ms: None,
        finished_ms: None,
        by_schedule: false,
        retries: 0,
        not_before_ms: 0,
        progress: Default::default(),
        outcome: None,
    }
}

/// The clock was set: whoever waits for a time by it looks anew.
pub fn clock_was_set(app: &App) {
    app.queue.wake.notify_one();
}

/// Queues the backup of a due time, unless its schedule was changed meanwhile.
pub async fn enqueue_due(app: &App, seen: Schedule, run: DueRun) -> Result<()> {
    if app.stopping.is_cancelled() {
        return Ok(());
    }
    let job = run.job.clone();
    queue(app, &job, app.meta.queue_due(seen, run)).await
}

/// Has a job written to the queue, which says whether it was. Who watches it can do so before it runs.
async fn queue(app: &App, job: &JobRecord, write: impl Future<Output = meta::Result<bool>>) -> Result<()> {
    app.queue.feeds().insert(job.id, Feed::new(job.clone(), &app.stopping));
    let queued = write.await;
    if !matches!(queued, Ok(true)) {
        app.queue.feeds().remove(&job.id);
    }
    queued?;
    app.queue.wake.notify_one();
    Ok(())
}

/// Queues work. It runs when a worker is free, in this process or the next.
pub async fn enqueue(app: &App, id: JobId, project_id: ProjectId, user_id: UserId, work: Work) -> Result<()> {
    enqueue_record(app, new_record(app, id, project_id, user_id, work)).await
}

/// Queues work that a schedule calls for.
pub async fn enqueue_by_schedule(
    app: &App,
    project_id: ProjectId,
    user_id: UserId,
    work: Work,
) -> Result<()> {
    enqueue_record(app, scheduled_record(app, project_id, user_id, work)).await
}

/// A job of a schedule that waits.
pub fn scheduled_record(app: &App, project_id: ProjectId, user_id: UserId, work: Work) -> JobRecord {
    JobRecord { by_schedule: true, ..new_record(app, new_id(app), project_id, user_id, work) }
}

async fn enqueue_record(app: &App, record: JobRecord) -> Result<()> {
    if app.stopping.is_cancelled() {
        let detail = "The server is stopping. Try again in a moment.";
        let status = axum::http::StatusCode::SERVICE_UNAVAILABLE;
        return Err(Problem::new(status, "stopping", "The server is stopping", detail));
    }
    let write = async { app.meta.add_job(record.clone()).await.map(|()| true) };
    let queued = queue(app, &record, write).await;
    if queued.is_err() {
        app.queue.orders().remove(&record.id);
    }
    queued
}

/// Queues a verification that a schedule calls for, unless its project had one since then.
pub async fn enqueue_verify_unless_recent(
    app: &App,
    project_id: ProjectId,
    user_id: UserId,
    mode: VerifyMode,
    since_ms: i64,
) -> Result<()> {
    if app.stopping.is_cancelled() {
        return Ok(());
    }
    let record = scheduled_record(app, project_id, user_id, Work::Verify { mode });
    queue(app, &record, app.meta.add_verify_unless_recent(record.clone(), since_ms)).await
}

/// Queues a restore's apply job with what it needs and nobody may keep.
pub async fn enqueue_apply(
    app: &App,
    id: JobId,
    project_id: ProjectId,
    user_id: UserId,
    work: Work,
    order: ApplyOrder,
) -> Result<()> {
    app.queue.orders().insert(id, order);
    enqueue(app, id, project_id, user_id, work).await
}

/// A user's job. Somebody else's is not found.
pub async fn find(app: &App, user: UserId, id: JobId) -> Result<Job> {
    match get(app, id).await? {
        Some(job) if job.record.user_id == user => Ok(job),
        _ => Err(Problem::not_found()),
    }
}

/// A job as it is now.
pub async fn get(app: &App, id: JobId) -> Result<Option<Job>> {
    let live = app.queue.feeds().get(&id).map(Feed::job);
    match live {
        Some(job) => Ok(Some(job)),
        None => app.meta.job(id).await?.map(|record| opened(app, record)).transpose(),
    }
}

/// A project's jobs, newest first.
pub async fn list(app: &App, project: ProjectId, page: PageRequest) -> Result<Page<Job>> {
    shown(app, app.meta.jobs_of(project, page).await?)
}

/// How many of them are looked at.
const RECENT: usize = 50;

/// The newest jobs about something, newest first.
pub async fn about(app: &App, subject: Subject) -> Result<Vec<Job>> {
    let page = PageRequest { after: None, limit: RECENT };
    Ok(shown(app, app.meta.jobs_about(subject, page).await?)?.items)
}

fn shown(app: &App, page: Page<JobRecord>) -> Result<Page<Job>> {
    let live = |record: JobRecord| match app.queue.feeds().get(&record.id).map(Feed::job) {
        Some(job) => Ok(job),
        None => opened(app, record),
    };
    let items = page.items.into_iter().map(live).collect::<Result<_>>()?;
    Ok(Page { items, next_cursor: page.next_cursor })
}

/// Follows a job that has not ended: its newest state at once and whenever it changes, a few
/// times a second, until the sender is gone. `None` once it ended.
pub fn watch(app: &App, id: JobId) -> Option<watch::Receiver<Job>> {
    app.queue.feeds().get(&id).map(Feed::watch)
}

/// Asks a job to stop. One that waits ends at once, one that runs at its next safe point; one
/// that ended is left as it is.
pub async fn cancel(app: &App, id: JobId) -> Result<()> {
    let finish = Finish {
        state: JobState::Cancelled,
        finished_ms: app.now_ms(),
        progress: Default::default(),
        outcome: None,
        audit: Default::default(),
        findings: None,
    };
    if let Some(record) = app.meta.finish_queued_job(id, finish).await? {
        run::ended(app, &record, Outcome::default()).await;
    } else if let Some(feed) = app.queue.feeds().get(&id) {
        feed.cancel();
    }
    Ok(())
}

/// Stops a project's jobs and waits until none is left.
pub async fn stop_all_of(app: &App, project: ProjectId) -> Result<()> {
    for record in app.meta.active_jobs().await? {
        if record.project_id != project {
            continue;
        }
        let watched = watch(app, record.id);
        cancel(app, record.id).await?;
        if let Some(mut watched) = watched {
            let ended = watched.wait_for(|job| job.state().is_final());
            // A job that does not stop in time is in the way, and said to be.
            if tokio::time::timeout(std::time::Duration::from_secs(20), ended).await.is_err() {
                let detail = "A job of the project is still stopping. Try again in a minute.";
                return Err(Problem::conflict("jobs-running", "Jobs are running", detail));
            }
        }
    }
    Ok(())
}

fn opened(app: &App, record: JobRecord) -> Result<Job> {
    let outcome: Outcome = match &record.outcome {
        Some(sealed) => {
            let plain = app.summaries.open(&record.id.to_string(), sealed)?;
            serde_json::from_slice(&plain).map_err(Problem::internal)?
        }
        None => Outcome::default(),
    };
    let error = outcome.error.or_else(|| cut_off(&record));
    Ok(Job { record, result: outcome.result, error })
}

/// What there is to say of a job that its process did not live to end. Nothing of it is known but that it
/// had begun: a backup may even have left its snapshot.
fn cut_off(record: &JobRecord) -> Option<JobError> {
    if record.state != JobState::Interrupted {
        return None;
    }
    let (title, detail) = match &record.work {
        Work::Backup { .. } => (
            "The server stopped during this backup",
            "The database and its connection had no part in it, and earlier snapshots are not affected. Another backup \
             can be started.",
        ),
        work if work.writes_to_target() => ("The server ended during this restore", left_behind(work)),
        _ => return None,
    };
    let slug = "interrupted".to_owned();
    Some(JobError { slug, title: title.to_owned(), detail: detail.to_owned() })
}

/// What a restore may have left in its target.
fn left_behind(work: &Work) -> &'static str {
    if work.is_all_or_nothing() {
        "It writes in one transaction, which the database takes back when its connection ends: either all of it is \
         there or nothing. Compare the database with the snapshot to see which. If a safety snapshot was taken, it is \
         in the database's history."
    } else if work.is_in_steps() {
        "It writes in transactions, one after the other: what was committed by then stays. Undo the restore to take it \
         back. If there is nothing to undo, nothing was written."
    } else {
        "A part of the snapshot may be in the target, unproven, and nothing of it was removed. Drop the \
         target database, or what the restore made in it, and restore again. A PostgreSQL database that was made for \
         the restore has the comment \"unfinished DBSnap restore\"."
    }
}
