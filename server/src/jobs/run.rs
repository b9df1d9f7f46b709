//! The loop that takes jobs from the queue, and the course of one job.

use std::sync::Arc;
use std::time::Duration;

use engine::Context;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;

use super::feed::{Feed, Gauge};
use super::{Job, Outcome, work};
use crate::app::App;
use crate::error::{JobError, Problem, Result};
use crate::meta::{Finish, JobRecord, JobState};
use crate::private;

/// How often those who watch a job hear of its progress, and how many of these pass between two
/// writes of it.
const TICK: Duration = Duration::from_millis(250);
const TICKS_PER_WRITE: u32 = 8;
/// The queue is looked at this often even if nobody rang.
const PATROL: Duration = Duration::from_secs(30);
/// How long running jobs may take to reach a safe point when the server stops.
const DRAIN: Duration = Duration::from_secs(20);

/// Puts in order what the last process left: nothing of it runs any more, its spills are noise.
pub async fn recover(app: &App) -> Result<()> {
    match tokio::fs::remove_dir_all(app.queue.scratch_root()).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Problem::internal(error)),
        _ => {}
    }
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
    loop {
        let permit = tokio::select! {
            permit = Arc::clone(&app.queue.permits).acquire_owned() => permit,
            () = app.stopping.cancelled() => return,
        };
        let Ok(permit) = permit else { return };
        match claim(&app).await {
            Ok(Some(record)) => {
                tokio::spawn(course(app.clone(), record, permit));
            }
            Ok(None) => {
                drop(permit);
                wait(&app).await;
            }
            Err(problem) => {
                problem.log();
                drop(permit);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        if app.stopping.is_cancelled() {
            return;
        }
    }
}

async fn claim(app: &App) -> Result<Option<JobRecord>> {
    if app.stopping.is_cancelled() {
        return Ok(None);
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
    if tokio::time::timeout(DRAIN, app.queue.permits.acquire_many(all)).await.is_ok() {
        return;
    }
    let feeds: Vec<Feed> = app.queue.feeds().values().cloned().collect();
    for feed in feeds.iter().filter(|feed| feed.state() == JobState::Running) {
        let record = feed.job().record;
        tracing::warn!(job = %record.id, "did not stop in time");
        finish(app, &record, feed, JobState::Interrupted, Outcome::default()).await;
    }
}

/// One job from its claim to its end.
async fn course(app: App, record: JobRecord, permit: OwnedSemaphorePermit) {
    let feed = {
        let mut feeds = app.queue.feeds();
        feeds.entry(record.id).or_insert_with(|| Feed::new(record.clone(), &app.stopping)).clone()
    };
    feed.publish(Job { record: record.clone(), result: None, error: None });
    tracing::info!(job = %record.id, kind = record.work.kind(), "started");
    let gauge = Arc::new(Gauge::default());
    let context = Context {
        monitor: Arc::clone(&gauge) as Arc<dyn engine::monitor::Monitor>,
        cancel: feed.token(),
        clock: Arc::clone(&app.clock),
        entropy: Arc::clone(&app.entropy),
        ..Context::new(app.queue.scratch(record.id))
    };
    let ticking = tokio::spawn(tick(app.clone(), feed.clone(), Arc::clone(&gauge)));
    let (state, outcome) = carry_out(&app, &record, &feed, context).await;
    ticking.abort();
    feed.publish_progress(gauge.read());
    finish(&app, &record, &feed, state, outcome).await;
    drop(permit);
    // Its lane is free: a job that waited behind it may go.
    app.queue.wake.notify_one();
}

async fn carry_out(app: &App, record: &JobRecord, feed: &Feed, context: Context) -> (JobState, Outcome) {
    let scratch = context.scratch.clone();
    if let Err(error) = private::create_folder(&scratch) {
        return failed(record, Problem::internal(error));
    }
    // A thread of its own: a panic ends this job alone, and what a job computes between two
    // awaits holds up no request.
    let (inner, job) = (app.clone(), record.clone());
    let runtime = tokio::runtime::Handle::current();
    let task = tokio::task::spawn_blocking(move || runtime.block_on(work::run(inner, job, context)));
    let done = task.await.unwrap_or_else(|panic| Err(Problem::internal(panic)));
    if let Err(error) = tokio::fs::remove_dir_all(&scratch).await {
        tracing::warn!(job = %record.id, %error, "its scratch folder stays until the next start");
    }
    match (done, feed.stopped_as()) {
        (Ok((state, result)), _) => (state, Outcome { result: Some(result), error: None }),
        // Whatever a stopped job reports, it is for having been stopped.
        (Err(_), Some(state)) => (state, Outcome::default()),
        (Err(problem), None) => failed(record, problem),
    }
}

fn failed(record: &JobRecord, problem: Problem) -> (JobState, Outcome) {
    let kind = record.work.kind();
    tracing::warn!(job = %record.id, kind, slug = problem.slug, cause = problem.describe(), "failed");
    let error = Some(JobError::from(&problem));
    (JobState::Failed, Outcome { result: None::<Value>, error })
}

async fn tick(app: App, feed: Feed, gauge: Arc<Gauge>) {
    let id = feed.job().record.id;
    let mut ticks = 0_u32;
    let mut unwritten = false;
    loop {
        tokio::time::sleep(TICK).await;
        ticks = ticks.wrapping_add(1);
        unwritten |= feed.publish_progress(gauge.read());
        if unwritten && ticks.is_multiple_of(TICKS_PER_WRITE) {
            unwritten = false;
            if let Err(error) = app.meta.set_job_progress(id, gauge.read()).await {
                tracing::warn!(job = %id, %error, "its progress is not written");
            }
        }
    }
}

/// Writes a job's end, then tells those who watch. Tries until the store takes it: a job whose end
/// is not written would run for ever in its owner's eyes.
async fn finish(app: &App, record: &JobRecord, feed: &Feed, state: JobState, outcome: Outcome) {
    let sealed = serde_json::to_vec(&outcome)
        .map(|plain| app.summaries.seal(&record.id.to_string(), &plain, app.entropy.as_ref()));
    let progress = feed.job().record.progress;
    let finish = Finish { state, finished_ms: app.now_ms(), progress, outcome: sealed.ok() };
    for attempt in 1_u32..=5 {
        match app.meta.finish_job(record.id, finish.clone()).await {
            Ok(Some(record)) => {
                tracing::info!(job = %record.id, state = record.state.as_str(), "ended");
                return ended(app, &record, outcome).await;
            }
            // Its project was removed meanwhile.
            Ok(None) => return ended(app, record, outcome).await,
            Err(error) => tracing::error!(job = %record.id, attempt, %error, "its end is not written"),
        }
        tokio::time::sleep(Duration::from_millis(200) * attempt).await;
    }
    ended(app, record, outcome).await;
}

/// After a job's end is written: secrets go, watchers hear the last state, metrics count.
pub(super) async fn ended(app: &App, record: &JobRecord, outcome: Outcome) {
    if let Err(problem) = work::after(app, record).await {
        problem.log();
    }
    app.queue.orders().remove(&record.id);
    app.metrics.job_ended(record.state);
    if let Some(feed) = app.queue.feeds().remove(&record.id) {
        // The stored counters have no phase, and a job that ended has none either.
        feed.publish(Job { record: record.clone(), result: outcome.result, error: outcome.error });
    }
}
