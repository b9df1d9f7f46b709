//! Server-sent events of a job: its state at once, then every change until its end.

use std::convert::Infallible;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, Stream, StreamExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::ids::SessionId;
use crate::jobs::{self, Job};
use crate::meta::JobState;

const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How often is asked whether the session goes on.
const SESSION_LOOK: Duration = Duration::from_secs(3);
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// The id of the event that ends a stream. A browser that comes back with it is told to stay away.
const LAST: &str = "end";

/// What is written of a job.
pub type Render = fn(&Job) -> String;

/// Where a stream is.
enum Next {
    First(Box<Job>, Option<watch::Receiver<Job>>),
    Change(watch::Receiver<Job>, JobState, u64),
    Nothing,
}

/// Follows `job` until it ends, or the session of whoever follows it does. Events are `state` when it
/// begins or its state changed, else `progress`; `render` makes their data, so that pages can send
/// fragments where the API sends JSON.
pub fn follow(app: &App, session: SessionId, job: Job, headers: &HeaderMap, render: Render) -> Response {
    let last_seen = headers.get("last-event-id").and_then(|value| value.to_str().ok());
    if last_seen == Some(LAST) && job.state().is_final() {
        return StatusCode::NO_CONTENT.into_response();
    }
    let receiver = jobs::watch(app, job.record.id);
    let events = changes(Next::First(Box::new(job), receiver), render, app.drained.clone());
    let events = events.take_until(Box::pin(over(app.clone(), session)));
    let answer = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    // A proxy that collects what it passes on would tell all of it at the end.
    ([(header::CACHE_CONTROL, "no-store"), (ACCEL_BUFFERING, "no")], answer).into_response()
}

/// Waits until a session is ended.
async fn over(app: App, session: SessionId) {
    loop {
        tokio::time::sleep(SESSION_LOOK).await;
        if matches!(app.meta.session(session).await, Ok(None)) {
            return;
        }
    }
}

/// Ends with the job, or when no job goes on here any more.
fn changes(
    first: Next,
    render: Render,
    drained: CancellationToken,
) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold((first, drained), move |(next, drained)| async move {
        match next {
            Next::First(job, receiver) => {
                // The receiver's state is newer than what was looked up before.
                let (job, receiver) = match receiver {
                    Some(mut receiver) => {
                        let newest = receiver.borrow_and_update().clone();
                        (newest, Some(receiver))
                    }
                    None => (*job, None),
                };
                let state = job.state();
                let next = match receiver {
                    Some(receiver) if !state.is_final() => Next::Change(receiver, state, 1),
                    _ => Next::Nothing,
                };
                Some((Ok(event(&job, "state", 0, render)), (next, drained)))
            }
            Next::Change(mut receiver, before, number) => {
                // How a job was interrupted is told before its stream ends.
                tokio::select! {
                    biased;
                    changed = receiver.changed() => changed.ok()?,
                    () = drained.cancelled() => return None,
                }
                let job = receiver.borrow_and_update().clone();
                let state = job.state();
                let name = if state == before { "progress" } else { "state" };
                let event = event(&job, name, number, render);
                let next =
                    if state.is_final() { Next::Nothing } else { Next::Change(receiver, state, number + 1) };
                Some((Ok(event), (next, drained)))
            }
            Next::Nothing => None,
        }
    })
}

fn event(job: &Job, name: &str, number: u64, render: Render) -> Event {
    let id = if job.state().is_final() { LAST.to_owned() } else { number.to_string() };
    Event::default().event(name).id(id).data(render(job))
}
