//! The loop that takes jobs from the queue, and the course of one job.

use std::sync::Arc;
use std::time::Duration;

use engine::Context;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::feed::{Feed, Gauge};
use super::{Job, Outcome, findings, work};
use crate::app::App;
use crate::error::{JobError, Problem, Result};
use crate::meta::{Finish, JobRecord, JobState, RETRY_PAUSES};
use crate::private;
use crate::service::addresses;

/// How often those who watch a job hear of its progress, and how many of these pass between two
/// writes of it.
const TICK: Duration = Duration::from_millis(250);
const TICKS_PER_WRITE: u32 = 8;
/// The queue is looked at this often even if nobody rang.
const PATROL: Duration = Duration::from_secs(30);
/// How often a server that stops tries to write a job's end, and the longest pause before trying again.
const LAST_ATTEMPTS: u32 = 5;
const END_PAUSE: Duration = Duration::from_secs(2);
/// How long running jobs may take to reach a safe point when the server stops.
const DRAIN: Duration = Duration::from_secs(20);

/// How long those that are given up then may take to notice.
const GIVEN_UP: Duration = Duration::from_secs(2);

/// Puts in order what the last process left: nothing of it runs any more, its spills are noise.
pub async fn recover(app: &App) -> Result<()> {
    match tokio::fs::remove_dir_all(app.queue.scratch_root()).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Problem::internal(error)),
        _ => {}
    }
    app.queue.goes_on_after(app.meta.newest_job().await?);
    let (interrupted, queued) = app.meta.recover_jobs(app.now_ms()).await?;
    for record in &interrupted {
        tracing::warn!(job = %record.id, kind = record.work.kind(), "interrupted by the server's last end");
        work::after(app, record).await?;
    }
    for record in queued {
        app.queue.feeds().insert(record.id, Feed::new(record, &app.stopping));
    }
    Ok(())
}

/// Runs jobs until the server stops.
pub async fn run(app: App) {
    // Whether a claim failed that may have been written all the same.
    let mut in_doubt = false;
    loop {
        let permit = tokio::select! {
            permit = Arc::clone(&app.queue.permits).acquire_owned() => permit,
            () = app.stopping.cancelled() => return,
        };
        let Ok(permit) = permit else { return };
        match claim(&app, in_doubt).await {
            Ok(claimed) => {
                in_doubt = false;
                match claimed {
                    Some(record) => start(&app, record, permit),
                    None => {
                        drop(permit);
                        wait(&app).await;
                    }
                }
            }
            Err(problem) => {
                problem.log();
                in_doubt = true;
                drop(permit);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        if app.stopping.is_cancelled() {
            return;
        }
    }
}

/// From here on the job counts as one that this process runs.
fn start(app: &App, record: JobRecord, permit: OwnedSemaphorePermit) {
    let feed = {
        let mut feeds = app.queue.feeds();
        feeds.entry(record.id).or_insert_with(|| Feed::new(record.clone(), &app.stopping)).clone()
    };
    feed.publish(Job { record: record.clone(), result: None, error: None });
    tokio::spawn(course(app.clone(), record, feed, permit));
}

async fn claim(app: &App, in_doubt: bool) -> Result<Option<JobRecord>> {
    if app.stopping.is_cancelled() {
        return Ok(None);
    }
    if in_doubt {
        let requeued = app.meta.requeue_jobs_but(app.queue.running()).await?;
        tracing::warn!(requeued, "claiming jobs works again");
    }
    Ok(app.meta.claim_job(app.now_ms()).await?)
}

async fn wait(app: &App) {
    tokio::select! {
        () = app.queue.wake.notified() => {}
        () = app.stopping.cancelled() => {}
        () = tokio::time::sleep(PATROL) => {}
    }
}

/// Waits until running jobs have stopped; what does not stop in time is marked interrupted.
pub async fn drain(app: &App) {
    let all = u32::try_from(app.queue.workers).unwrap_or(u32::MAX);
    let ended = async {
        let _none_begins = app.queue.permits.acquire_many(all).await;
        // One that waits for others has no permit.
        while !app.queue.running().is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    if tokio::time::timeout(DRAIN, ended).await.is_ok() {
        return;
    }
    let feeds: Vec<Feed> = app.queue.feeds().values().cloned().collect();
    for feed in feeds.iter().filter(|feed| feed.state() == JobState::Running) {
        let record = feed.job().record;
        tracing::warn!(job = %record.id, "did not stop in time");
        finish(app, &record, feed, JobState::Interrupted, Outcome::default()).await;
    }
    // While there is a clock: what they wait for would else be gone from under them.
    app.queue.given_up.cancel();
    let ended = async { drop(app.queue.permits.acquire_many(all).await) };
    if tokio::time::timeout(GIVEN_UP, ended).await.is_err() {
        tracing::warn!("some jobs are still busy, and end with the process");
    }
}

/// One job from its claim to its end.
async fn course(app: App, record: JobRecord, feed: Feed, permit: OwnedSemaphorePermit) {
    tracing::info!(job = %record.id, kind = record.work.kind(), "started");
    let gauge = Arc::new(Gauge::new(Arc::clone(&app.queue.permits), permit));
    let context = Context {
        monitor: Arc::clone(&gauge) as Arc<dyn engine::monitor::Monitor>,
        cancel: feed.token(),
        clock: Arc::clone(&app.clock),
        entropy: Arc::clone(&app.entropy),
        addresses: addresses::policy(&app),
        ..Context::new(app.queue.scratch(record.id))
    };
    let ticking = tokio::spawn(tick(app.clone(), feed.clone(), Arc::clone(&gauge)));
    let end = carry_out(&app, &record, &feed, context).await;
    ticking.abort();
    feed.publish_progress(gauge.read());
    match end {
        End::Final(state, outcome) => finish(&app, &record, &feed, state, outcome).await,
        End::Transient(problem) => try_again(&app, &record, &feed, problem).await,
    }
    gauge.leave();
    // Its lane is free: a job that waited behind it may go.
    app.queue.wake.notify_one();
}

/// How one attempt at a job ended.
enum End {
    Final(JobState, Outcome),
    /// It failed for a reason that may pass by itself.
    Transient(Problem),
}

/// Puts a job back into the queue, to be tried again after a pause.
async fn try_again(app: &App, record: &JobRecord, feed: &Feed, problem: Problem) {
    let pause = RETRY_PAUSES[record.retries as usize];
    let not_before_ms = app.now_ms() + i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
    match app.meta.retry_job(record.id, not_before_ms).await {
        Ok(Some(queued)) => {
            let cause = problem.describe();
            tracing::warn!(job = %record.id, slug = problem.slug, cause, ?pause, "failed, and is tried again");
            feed.publish(Job { record: queued, result: None, error: None });
            let waker = app.clone();
            tokio::spawn(async move {
                tokio::time::sleep(pause).await;
                waker.queue.wake.notify_one();
            });
            // Asked to stop since it failed: nobody runs it now who would hear of it.
            if feed.stopped_as() == Some(JobState::Cancelled)
                && let Err(problem) = super::cancel(app, record.id).await
            {
                problem.log();
            }
        }
        Ok(None) => {}
        Err(error) => {
            tracing::error!(job = %record.id, %error, "it cannot be queued again");
            let (state, outcome) = failed(record, problem);
            finish(app, record, feed, state, outcome).await;
        }
    }
}

async fn carry_out(app: &App, record: &JobRecord, feed: &Feed, context: Context) -> End {
    let scratch = context.scratch.clone();
    if let Err(error) = private::create_folder(&scratch) {
        let (state, outcome) = failed(record, Problem::internal(error));
        return End::Final(state, outcome);
    }
    // A thread of its own: a panic ends this job alone, and what a job computes between two
    // awaits holds up no request.
    let (inner, job) = (app.clone(), record.clone());
    let runtime = tokio::runtime::Handle::current();
    // What the engine logs meanwhile has the job's id, too.
    let span = tracing::info_span!("job", job = %record.id, kind = record.work.kind());
    // Fires when nobody waits for the job any more: the process ends, and takes away the clock that the
    // job's waits go by.
    let abandoned = app.queue.given_up.child_token();
    let _guard = abandoned.clone().drop_guard();
    let overstayed = overstayed(feed.token(), record.work.writes_to_target());
    let work = move || {
        runtime.block_on(async {
            tokio::select! {
                biased;
                () = overstayed => Err(Problem::internal("it did not stop by itself")),
                () = abandoned.cancelled() => Err(Problem::internal("the process ended before the job")),
                done = work::run(inner, job, context).instrument(span) => done,
            }
        })
    };
    let task = tokio::task::spawn_blocking(work);
    let done = task.await.unwrap_or_else(|panic| Err(Problem::internal(panic)));
    if let Err(error) = tokio::fs::remove_dir_all(&scratch).await {
        tracing::warn!(job = %record.id, %error, "its scratch folder stays until the next start");
    }
    match (done, feed.stopped_as()) {
        (Ok((state, result)), _) => End::Final(state, Outcome { result: Some(result), error: None }),
        // Whatever a stopped job reports, it is for having been stopped.
        (Err(problem), Some(state)) => End::Final(state, stopped(record, &problem)),
        (Err(problem), None) if may_pass(record, &problem) => End::Transient(problem),
        (Err(problem), None) => {
            let (state, outcome) = failed(record, problem);
            End::Final(state, outcome)
        }
    }
}

/// How long a job that was asked to stop may take to.
const STOP_GRACE: Duration = Duration::from_secs(30);

/// Ends when a job that was asked to stop has had its time to: its storage answers nothing, for example. It ends
/// like one that was killed then. One that writes to a database is waited for, to say what it left there.
async fn overstayed(asked_to_stop: CancellationToken, writes_to_target: bool) {
    if writes_to_target {
        std::future::pending::<()>().await;
    }
    asked_to_stop.cancelled().await;
    tokio::time::sleep(STOP_GRACE).await;
}

/// Whether a failed job is worth another attempt: the reason may pass, and there is one left.
fn may_pass(record: &JobRecord, problem: &Problem) -> bool {
    problem.is_transient() && record.work.is_repeatable() && (record.retries as usize) < RETRY_PAUSES.len()
}

fn failed(record: &JobRecord, problem: Problem) -> (JobState, Outcome) {
    let kind = record.work.kind();
    tracing::warn!(job = %record.id, kind, slug = problem.slug, cause = problem.describe(), "failed");
    let error = Some(JobError::from(&problem));
    (JobState::Failed, Outcome { result: None::<Value>, error })
}

/// What there is to say of a job that was stopped: nothing but what a restore left in its target.
fn stopped(record: &JobRecord, problem: &Problem) -> Outcome {
    let error = record.work.writes_to_target().then(|| JobError {
        slug: "stopped".to_owned(),
        title: "The restore was stopped before its proof".to_owned(),
        detail: problem.detail.clone(),
    });
    Outcome { result: None, error }
}

async fn tick(app: App, feed: Feed, gauge: Arc<Gauge>) {
    let id = feed.job().record.id;
    let mut ticks = 0_u32;
    let (mut unwritten, mut records_written) = (false, 0);
    loop {
        tokio::time::sleep(TICK).await;
        ticks = ticks.wrapping_add(1);
        let progress = gauge.read();
        unwritten |= feed.publish_progress(progress.clone());
        // The first records count at once: of a process that is killed only what is written is left.
        let is_first = records_written == 0 && progress.records > 0;
        if unwritten && (is_first || ticks.is_multiple_of(TICKS_PER_WRITE)) {
            (unwritten, records_written) = (false, progress.records);
            if let Err(error) = app.meta.set_job_progress(id, progress).await {
                tracing::warn!(job = %id, %error, "its progress is not written");
            }
        }
    }
}

/// Writes a job's end, then tells those who watch. Tries until the store takes it, because a job whose
/// end is not written would run for ever in its owner's eyes and keep others of its lane waiting. Only a
/// server that stops gives up: the next start says that the job was interrupted.
async fn finish(app: &App, record: &JobRecord, feed: &Feed, state: JobState, outcome: Outcome) {
    let sealed = serde_json::to_vec(&outcome)
        .map(|plain| app.summaries.seal(&record.id.to_string(), &plain, app.entropy.as_ref()));
    let progress = feed.job().record.progress;
    let (audit, findings) = (outcome.audited(), findings(&record.work, outcome.result.as_ref()));
    let finish = Finish { state, finished_ms: app.now_ms(), progress, outcome: sealed.ok(), audit, findings };
    for attempt in 1_u32.. {
        match app.meta.finish_job(record.id, finish.clone()).await {
            Ok(Some(record)) => {
                tracing::info!(job = %record.id, state = record.state.as_str(), "ended");
                return ended(app, &record, outcome).await;
            }
            // Its project was removed meanwhile.
            Ok(None) => return ended(app, record, outcome).await,
            Err(error) => tracing::error!(job = %record.id, attempt, %error, "its end is not written"),
        }
        if attempt >= LAST_ATTEMPTS && app.stopping.is_cancelled() {
            break;
        }
        tokio::time::sleep((Duration::from_millis(200) * attempt).min(END_PAUSE)).await;
    }
    ended(app, record, outcome).await;
}

/// After a job's end is written: secrets go, watchers hear the last state, metrics count.
pub(super) async fn ended(app: &App, record: &JobRecord, outcome: Outcome) {
    if let Err(problem) = work::after(app, record).await {
        problem.log();
    }
    app.queue.orders().remove(&record.id);
    app.metrics.job_ended(record);
    if let Some(feed) = app.queue.feeds().remove(&record.id) {
        // The stored counters have no phase, and a job that ended has none either.
        feed.publish(Job { record: record.clone(), result: outcome.result, error: outcome.error });
    }
}
