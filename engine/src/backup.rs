//! Taking a snapshot: read every collection of a database at one moment, store what is new, and
//! commit a manifest.

use std::sync::Arc;

use repo_format::manifest::Trigger;

use crate::capture::Capture;
use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::ingest::Output;
use crate::monitor::Steps;
use crate::repo::{Repository, Session, Snapshot, Writer};
use crate::source::{Collection, Consistency, DatabaseUrl};

/// What to back up.
#[derive(Clone)]
pub struct Request {
    /// Names the database for ever, whatever it is called or wherever it moves.
    pub source_id: String,
    /// What it is called now.
    pub source_name: String,
    /// Where it is, with read-only credentials.
    pub url: String,
    /// Whether records may be of different moments, where the server offers no better.
    pub consistency: Consistency,
    /// Why.
    pub trigger: Trigger,
    /// What the user says about it.
    pub note: Option<String>,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").field("source_id", &self.source_id).finish_non_exhaustive()
    }
}

/// Takes a snapshot. On any error no snapshot exists; what was stored is used by the next one.
pub async fn run(repo: &Repository, request: &Request, ctx: &Context) -> Result<Snapshot> {
    let url = DatabaseUrl::parse(&request.url)?.within(ctx.addresses);
    let started_ms = ctx.clock.now_ms();
    repo.check_there().await?;
    let session = Session::begin(repo, ctx).await?;
    let outcome = take(repo, request, url, started_ms, &session, ctx).await;
    session.conclude(outcome).await
}

async fn take(
    repo: &Repository,
    request: &Request,
    url: DatabaseUrl,
    started_ms: i64,
    session: &Session,
    ctx: &Context,
) -> Result<Snapshot> {
    let steps = Arc::new(Steps::new(ctx.monitor.clone()));
    let ctx = Context { monitor: steps.clone(), ..ctx.clone() };
    let parent = parent(repo, request).await?;
    let writer = Writer::new(repo);
    let capture = Capture {
        repo,
        request,
        url,
        started_ms,
        output: Output::Repository(writer.clone()),
        parent: parent.as_ref(),
        layout: &|found: &Collection| found.layout.clone(),
        ctx: ctx.clone(),
        steps: steps.clone(),
    };
    let mut manifest = capture.run().await?;
    steps.step("storing");
    ctx.check()?;
    manifest.new_bytes = writer.flush().await?.bytes;
    manifest.finished_ms = ctx.clock.now_ms();
    let snapshot = session.commit(manifest).await?;
    // Another server may have deleted the project, and what was written after that nothing opens. It stays:
    // a folder that is mounted again in this moment must not be taken for it.
    let Err(error) = repo.check_there().await else { return Ok(snapshot) };
    let message = "the repository was removed from its storage while the backup ran, so there is no snapshot";
    Err(Error::new(Kind::Ended, message)
        .with_help("Was the project deleted by another server, or the storage unmounted?")
        .with_source(error))
}

/// The newest snapshot of the same database.
pub(crate) async fn parent(repo: &Repository, request: &Request) -> Result<Option<Snapshot>> {
    newest(repo, request, |_| true).await
}

/// The newest snapshot of all of the same database: before a restore a part is kept, as seen by who writes.
pub(crate) async fn last_of_all(repo: &Repository, request: &Request) -> Result<Option<Snapshot>> {
    newest(repo, request, |snapshot| snapshot.manifest.trigger != Trigger::Safety).await
}

async fn newest(
    repo: &Repository,
    request: &Request,
    wanted: impl Fn(&Snapshot) -> bool,
) -> Result<Option<Snapshot>> {
    let of_source = |snapshot: &Snapshot| snapshot.manifest.source.id == request.source_id;
    let snapshots = repo.snapshots().await?;
    Ok(snapshots.into_iter().find(|snapshot| of_source(snapshot) && wanted(snapshot)))
}
