//! A job's page, its live updates, and stopping it.

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use engine::clock::{Clock, System};
use serde_json::Value;
use web::pages::job::{self, JobPage};
use web::urls;

use super::place::{self, Place, id};
use super::{html, see_other, shell};
use crate::app::App;
use crate::auth::{PageUser, Visitor};
use crate::error::Result;
use crate::events;
use crate::ids::JobId;
use crate::jobs::{self, Job};
use crate::meta::Work;
use crate::{service, view};

/// A job on a page of its own.
pub async fn page(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    Path(job): Path<String>,
) -> Result<Response> {
    let found = jobs::find(&app, visitor.user_id, id(JobId::parse, &job)?).await?;
    let database = match found.record.work {
        Work::Backup { database_id, .. } | Work::LiveDiff { database_id, .. } => {
            Some(Place::of(&app, &visitor, database_id).await?.named())
        }
        _ => None,
    };
    let view = JobPage {
        shell: shell(&app, &visitor),
        project: place::project(&app, &visitor, found.record.project_id).await?,
        database,
        job: view::job::job(&found, result(&found)),
        pruned: view::job::pruned(&found),
        verified: view::job::verified(&found),
    };
    Ok(html(job::page(&view)))
}

/// Asks a job to stop, and shows it.
pub async fn cancel(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    Path(job): Path<String>,
) -> Result<Response> {
    service::jobs::cancel(&app, visitor.user_id, id(JobId::parse, &job)?).await?;
    Ok(see_other(&urls::job(&job)))
}

/// The job's fragment at once and whenever it changes, until the job has ended.
pub async fn live(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    Path(job): Path<String>,
    headers: HeaderMap,
) -> Result<Response> {
    let found = find(&app, &visitor, &job).await?;
    Ok(events::follow(&app, visitor.session_id, found, &headers, |found| {
        job::fragment(&view::job::job(found, None), System.now_ms()).into_string()
    }))
}

async fn find(app: &App, visitor: &Visitor, job: &str) -> Result<Job> {
    jobs::find(app, visitor.user_id, id(JobId::parse, job)?).await
}

/// Where to see what came of a job: words and address.
pub fn result(job: &Job) -> Option<(String, String)> {
    if !job.state().is_final() {
        return None;
    }
    let text = |field: &str| job.result.as_ref()?.get(field).and_then(Value::as_str);
    match &job.record.work {
        Work::Backup { .. } => {
            text("snapshot_id").map(|id| ("Open the snapshot".to_owned(), urls::snapshot(id)))
        }
        Work::Diff { diff_id } | Work::LiveDiff { diff_id, .. } => {
            Some(("Open the comparison".to_owned(), urls::diff(&diff_id.to_string())))
        }
        Work::RestorePlan { restore_id }
        | Work::RestoreApply { restore_id, .. }
        | Work::RestoreUndo { restore_id, .. } => {
            Some(("Open the restore".to_owned(), urls::restore(&restore_id.to_string())))
        }
        Work::Cost { snapshot_id } => Some(("Open the snapshot".to_owned(), urls::snapshot(snapshot_id))),
        Work::Verify { .. } | Work::Prune { .. } => None,
    }
}
