//! A job: what it does, where it stands, and how it ended.

use maud::{Markup, html};

use super::{Problem, alert, icons};
use crate::{format, urls};

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Takes a snapshot.
    Backup,
    /// Compares two snapshots.
    Diff,
    /// Reads a database and compares a snapshot with it.
    LiveDiff,
    /// Looks at a restore's target and works out what would be written.
    RestorePlan,
    /// Carries a restore out.
    Restore,
    /// Takes a restore back.
    RestoreUndo,
    /// Checks stored objects.
    Verify,
    /// Removes what no snapshot needs.
    Prune,
    /// Counts what a snapshot costs.
    Cost,
}

impl Kind {
    /// For headings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Backup => "Backup",
            Self::Diff => "Comparison",
            Self::LiveDiff => "Comparison with the live database",
            Self::RestorePlan => "Restore plan",
            Self::Restore => "Restore",
            Self::RestoreUndo => "Undoing a restore",
            Self::Verify => "Verification",
            Self::Prune => "Clean-up",
            Self::Cost => "Cost of a snapshot",
        }
    }
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It waits for a worker or for the job before it.
    Queued,
    /// It is being done.
    Running,
    /// Done.
    Succeeded,
    /// Done, but something could not be read.
    Incomplete,
    /// Not done.
    Failed,
    /// Somebody stopped it.
    Cancelled,
    /// The server stopped.
    Interrupted,
}

impl State {
    /// Whether it will still change.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Queued | Self::Running)
    }

    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "Queued",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Incomplete => "Incomplete",
            Self::Failed => "Failed",
            Self::Cancelled => "Cancelled",
            Self::Interrupted => "Interrupted",
        }
    }
}

/// How far a job is.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// What is being done now.
    pub phase: String,
    /// Tables finished.
    pub collections_done: u64,
    /// Tables in all; 0 until known.
    pub collections_total: u64,
    /// Records processed.
    pub records: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Bytes added to the repository.
    pub bytes_stored: u64,
}

/// A job as its page and the pages that wait for it show it.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its id.
    pub id: String,
    /// What it does.
    pub kind: Kind,
    /// Where it stands.
    pub state: State,
    /// When it was asked for.
    pub created_ms: i64,
    /// When it began.
    pub started_ms: Option<i64>,
    /// When it ended.
    pub finished_ms: Option<i64>,
    /// How far it is.
    pub progress: Progress,
    /// Why it failed.
    pub problem: Option<Problem>,
    /// Where its result is: words and address.
    pub result: Option<(String, String)>,
}

impl Job {
    /// A backup under way.
    pub fn sample() -> Self {
        let now = crate::samples::NOW_MS;
        Self {
            id: "j42".to_owned(),
            kind: Kind::Backup,
            state: State::Running,
            created_ms: now - 42_000,
            started_ms: Some(now - 41_000),
            finished_ms: None,
            progress: Progress {
                phase: "reading public.order_items".to_owned(),
                collections_done: 9,
                collections_total: 14,
                records: 128_400,
                bytes_read: 61_400_000,
                bytes_stored: 18_200_000,
            },
            problem: None,
            result: None,
        }
    }

    /// A comparison that waits.
    pub fn sample_queued() -> Self {
        Self {
            kind: Kind::Diff,
            state: State::Queued,
            started_ms: None,
            progress: Progress::default(),
            ..Self::sample()
        }
    }

    /// A backup that the server's end cut off.
    pub fn sample_interrupted() -> Self {
        let problem = Problem::new("The server stopped during this backup")
            .with_fix("Earlier snapshots are not affected. Another backup can be started.");
        Self { state: State::Interrupted, problem: Some(problem), ..Self::sample_failed() }
    }

    /// A backup that failed.
    pub fn sample_failed() -> Self {
        Self {
            state: State::Failed,
            finished_ms: Some(crate::samples::NOW_MS - 1_000),
            problem: Some(
                Problem::new("The connection to db.internal:5432 was lost while reading public.order_items")
                    .with_fix("Check that the database is up, then back up again. Earlier snapshots are not affected."),
            ),
            ..Self::sample()
        }
    }
}

/// The part of a job that changes while it runs. `now_ms` measures a running one.
pub fn progress(job: &Job, now_ms: i64) -> Markup {
    html! {
        div.job {
            p.job-state { (state(job.state)) (timing(job, now_ms)) }
            @if job.state == State::Queued {
                p.muted { "It starts when a worker is free and earlier jobs of this database are done." }
            } @else {
                (bar(job))
                (figures(job))
            }
            @if let Some(problem) = &job.problem { (alert(problem)) }
            @if let Some((words, url)) = &job.result {
                p { a.button.primary href=(url) { (words) } }
            }
        }
    }
}

/// A sign and the word.
pub fn state(state: State) -> Markup {
    let (icon, class) = match state {
        State::Queued => (icons::waiting(), "calm"),
        State::Running => (icons::running(), "calm"),
        State::Succeeded => (icons::ok(), "good"),
        State::Incomplete | State::Cancelled | State::Interrupted => (icons::warning(), "warn"),
        State::Failed => (icons::failed(), "bad"),
    };
    html! { span.state.(class) { (icon) (state.name()) } }
}

fn timing(job: &Job, now_ms: i64) -> Markup {
    let elapsed = job.started_ms.map(|start| job.finished_ms.unwrap_or(now_ms) - start);
    html! {
        span.muted {
            @match (elapsed, job.finished_ms) {
                (Some(ms), None) => { "for " (format::duration(ms)) }
                (Some(ms), Some(at)) => { "after " (format::duration(ms)) " · " (format::time(at, now_ms)) }
                (None, _) => { "since " (format::time(job.created_ms, now_ms)) }
            }
        }
    }
}

fn bar(job: &Job) -> Markup {
    let progress = &job.progress;
    html! {
        @if job.state == State::Running {
            div.bar {
                @if progress.collections_total > 0 {
                    progress aria-label="Done" max=(progress.collections_total)
                        value=(progress.collections_done) {}
                    span { (format::count(progress.collections_done)) " of " (format::count(progress.collections_total)) " done" }
                } @else {
                    progress aria-label="Preparing" {}
                    span { "preparing" }
                }
            }
            @if !progress.phase.is_empty() { p.phase { (progress.phase) } }
        }
    }
}

fn figures(job: &Job) -> Markup {
    let progress = &job.progress;
    let stored = matches!(job.kind, Kind::Backup);
    if matches!(job.kind, Kind::Prune | Kind::Cost) {
        return html! {};
    }
    html! {
        dl.figures {
            @let read = if job.kind == Kind::Verify { "Objects" } else { "Records" };
            (super::fact(read, &html! { (format::count(progress.records)) }))
            (super::fact("Read", &html! { (format::bytes(progress.bytes_read)) }))
            @if stored { (super::fact("New bytes stored", &html! { (format::bytes(progress.bytes_stored)) })) }
        }
    }
}

/// The fragment in a region that live updates refill, with the button to stop it beside it: a swap
/// must not take the focus off that button. `done_url` is loaded when the job has ended.
pub fn live(job: &Job, now_ms: i64, done_url: &str) -> Markup {
    let open = job.state.is_open();
    html! {
        div.live {
            div data-live=[open.then(|| urls::job_live(&job.id))] data-done=[open.then_some(done_url)] {
                (progress(job, now_ms))
            }
            p.visually-hidden role="status" data-live-status {}
            @if open {
                div.actions {
                    (super::form::post_button(&urls::job_cancel(&job.id), "Stop", "danger-quiet"))
                    span.muted { "You can close this tab: the work goes on." }
                }
            }
        }
    }
}
