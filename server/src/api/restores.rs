//! `/restores`.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::StatusCode;
use engine::restore::Scope;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::diffs::{ChangeBody, ChangesQuery, SummaryBody};
use super::extract::{Json, ListQuery, Path, Query};
use super::openapi::ProblemBody;
use super::words::CheckBody;
use super::{Accepted, rfc3339};
use crate::app::App;
use crate::auth::ApiUser;
use crate::error::{JobError, Problem, Result};
use crate::ids::{JobId, ProjectId, RestoreId};
use crate::jobs::ApplyOrder;
use crate::meta::{Page, RestoreMode};
use crate::service::in_place;
use crate::service::restores::{self, FoundRestore, NewRestore, RestoreState};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPlan {
    snapshot: String,
    scope: ScopeBody,
    target: TargetBody,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ScopeBody {
    #[serde(default)]
    all: bool,
    collections: Option<Vec<String>>,
    /// Ids of records by collection, as lists of records and of changes give them. In place only.
    records: Option<BTreeMap<String, Vec<String>>>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TargetBody {
    #[schema(value_type = String)]
    url: Zeroizing<String>,
    #[serde(default)]
    mode: RestoreMode,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Confirmation {
    confirm: String,
    #[schema(value_type = String)]
    url: Zeroizing<String>,
}

#[derive(Serialize, ToSchema)]
pub struct Planned {
    id: RestoreId,
    job_id: JobId,
}

#[derive(Serialize, ToSchema)]
pub struct RestoreBody {
    id: RestoreId,
    project_id: ProjectId,
    snapshot: String,
    #[schema(value_type = Object)]
    scope: Value,
    target: String,
    mode: RestoreMode,
    #[schema(value_type = RestoreState)]
    state: &'static str,
    created_at: String,
    plan_job_id: JobId,
    #[schema(required)]
    apply_job_id: Option<JobId>,
    #[schema(required)]
    undo_job_id: Option<JobId>,
    #[schema(required)]
    preflight: Option<Vec<CheckBody>>,
    #[schema(required)]
    preview: Option<SummaryBody>,
    #[schema(required)]
    confirm_phrase: Option<String>,
    /// Of carrying it out: `proof`, `records`, `notes`, `safety_snapshot`.
    #[schema(required, value_type = Option<Object>)]
    result: Option<Value>,
    /// Of taking it back: the same, and `conflicts`.
    #[schema(required, value_type = Option<Object>)]
    undo_result: Option<Value>,
    /// In place: the snapshot of what was there before, as soon as it is there. A restore that fails or is cut
    /// off after that can be undone where its state allows it.
    #[schema(required)]
    safety_snapshot: Option<String>,
    #[schema(required)]
    error: Option<JobError>,
}

impl From<FoundRestore> for RestoreBody {
    fn from(found: FoundRestore) -> Self {
        let FoundRestore { restore, state, plan, plan_job, apply_job, undo_job, scope } = found;
        let safety_snapshot = in_place::safety_snapshot(&restore, apply_job.as_ref());
        let (preflight, preview, confirm_phrase) = match plan {
            Some(plan) => {
                let preflight = plan.preflight.into_iter().map(CheckBody::from).collect();
                (Some(preflight), Some(plan.preview.into()), Some(plan.confirm_phrase))
            }
            None => (None, None, None),
        };
        let (result, error) = match apply_job {
            Some(job) => (job.result, job.error),
            None => (None, plan_job.and_then(|job| job.error)),
        };
        let (undo_result, undo_error) = undo_job.map_or((None, None), |job| (job.result, job.error));
        let error = undo_error.or(error);
        Self {
            id: restore.id,
            project_id: restore.project_id,
            snapshot: restore.snapshot_id,
            scope: match scope {
                Scope::Collections(names) => serde_json::json!({ "collections": names }),
                Scope::Records(records) => serde_json::json!({ "records": records }),
                _ => serde_json::json!({ "all": true }),
            },
            target: restore.target,
            mode: restore.mode,
            state: state.as_str(),
            created_at: rfc3339(restore.created_ms),
            plan_job_id: restore.plan_job_id,
            apply_job_id: restore.apply_job_id,
            undo_job_id: restore.undo_job_id,
            preflight,
            preview,
            confirm_phrase,
            result,
            undo_result,
            safety_snapshot,
            error,
        }
    }
}

impl ScopeBody {
    fn scope(self) -> Result<Scope> {
        match (self.all, self.collections, self.records) {
            (true, None, None) => Ok(Scope::All),
            (false, Some(names), None) if !names.is_empty() => Ok(Scope::Collections(names)),
            (false, None, Some(records)) if !records.is_empty() => {
                if records.values().any(Vec::is_empty) {
                    return Err(Problem::invalid("scope", "Name at least one record of each collection."));
                }
                Ok(Scope::Records(records))
            }
            _ => Err(Problem::invalid("scope", "Give one of all: true, collections or records.")),
        }
    }
}

/// Plans a restore; nothing is written.
#[utoipa::path(
    post, path = "/restores/plan", tag = "restores",
    request_body = NewPlan,
    responses((status = 202, description = "Queued", body = Planned)),
)]
pub async fn plan(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Json(body): Json<NewPlan>,
) -> Result<(StatusCode, axum::Json<Planned>)> {
    let TargetBody { url, mode } = body.target;
    let new = NewRestore { snapshot: body.snapshot, scope: body.scope.scope()?, mode, url };
    let (id, job_id) = restores::plan(&app, visitor.user_id, new).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(Planned { id, job_id })))
}

/// The restores, newest first.
#[utoipa::path(
    get, path = "/restores", tag = "restores",
    params(ListQuery),
    responses((status = 200, description = "A page", body = Page<RestoreBody>)),
)]
pub async fn list(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Query(query): Query<ListQuery>,
) -> Result<axum::Json<Page<RestoreBody>>> {
    let page = restores::list(&app, visitor.user_id, query.page()?).await?;
    Ok(axum::Json(page.map(RestoreBody::from)))
}

/// A restore: its plan, and what came of it.
#[utoipa::path(
    get, path = "/restores/{id}", tag = "restores",
    params(("id" = String, Path)),
    responses((status = 200, description = "The restore", body = RestoreBody)),
)]
pub async fn get(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(id): Path<RestoreId>,
) -> Result<axum::Json<RestoreBody>> {
    Ok(axum::Json(restores::find(&app, visitor.user_id, id).await?.into()))
}

/// Carries a planned restore out.
#[utoipa::path(
    post, path = "/restores/{id}/apply", tag = "restores",
    params(("id" = String, Path)),
    request_body = Confirmation,
    responses((status = 202, description = "Queued", body = Accepted), (status = 409, description = "The target or the restore is not as planned; 422 where the phrase is wrong", body = ProblemBody)),
)]
pub async fn apply(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(id): Path<RestoreId>,
    Json(body): Json<Confirmation>,
) -> Result<(StatusCode, axum::Json<Accepted>)> {
    let order = ApplyOrder { url: body.url, confirm: body.confirm };
    let job_id = restores::apply(&app, visitor.user_id, id, order).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(Accepted { job_id })))
}

/// Takes a restore in place back: what it wrote becomes what it was, but for what changed since.
#[utoipa::path(
    post, path = "/restores/{id}/undo", tag = "restores",
    params(("id" = String, Path)),
    request_body = Confirmation,
    responses((status = 202, description = "Queued", body = Accepted), (status = 409, description = "There is nothing to take back; 422 where the phrase is wrong", body = ProblemBody)),
)]
pub async fn undo(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(id): Path<RestoreId>,
    Json(body): Json<Confirmation>,
) -> Result<(StatusCode, axum::Json<Accepted>)> {
    let order = ApplyOrder { url: body.url, confirm: body.confirm };
    let job_id = in_place::undo(&app, visitor.user_id, id, order).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(Accepted { job_id })))
}

/// The records that a planned restore in place would change in one collection, in key order: `old` is what is
/// there now.
#[utoipa::path(
    get, path = "/restores/{id}/collections/{name}/changes", tag = "restores",
    params(("id" = String, Path), ("name" = String, Path, description = "The collection's name, percent-encoded"), ChangesQuery),
    responses(
        (status = 200, description = "A page", body = Page<ChangeBody>),
        (status = 409, description = "`not-planned`: the target is still being read", body = ProblemBody),
        (status = 410, description = "`reading-gone`: what was read of the target is not kept any more", body = ProblemBody),
    ),
)]
pub async fn changes(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path((id, collection)): Path<(RestoreId, String)>,
    Query(query): Query<ChangesQuery>,
) -> Result<axum::Json<Page<ChangeBody>>> {
    let (filter, page) = query.parts()?;
    let page = in_place::changes(&app, visitor.user_id, id, &collection, &filter, &page).await?;
    let items = page.items.into_iter().map(ChangeBody::try_from).collect::<Result<_>>()?;
    Ok(axum::Json(Page { items, next_cursor: page.next_cursor }))
}
