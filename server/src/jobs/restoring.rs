//! What the jobs of a restore do: plan it, carry it out, take it back.

use engine::Context;
use engine::restore::{self, Back, Order, Plan, Reached, Restored};
use futures::future::BoxFuture;
use serde_json::json;

use super::ApplyOrder;
use super::work::{Done, opened, snapshot};
use crate::app::App;
use crate::error::{Problem, Result};
use crate::ids::RestoreId;
use crate::meta::{JobRecord, JobState, Restore, RestoreMode};
use crate::service::{addresses, in_place, restores};

pub async fn plan(app: &App, id: RestoreId, context: &Context) -> Result<Done> {
    let found = app.meta.restore(id).await?.ok_or_else(Problem::not_found)?;
    let sealed = found
        .target_url
        .as_ref()
        .ok_or_else(|| Problem::conflict("plan-ended", "The plan has ended", "Plan the restore again."))?;
    let url = opened(app, &id.to_string(), sealed)?;
    addresses::check_url(app, &url).await?;
    let repository = app.repositories.get(found.project_id).await?;
    let snapshot = snapshot(&repository, &found.snapshot_id).await?;
    let scope = restores::opened_scope(app, &found)?;
    let plan = match found.mode {
        RestoreMode::New => restore::plan(&repository, &snapshot, &scope, &url, context).await?,
        RestoreMode::InPlace => {
            let planned = restore::plan_in_place(&repository, &snapshot, &scope, &url, context).await?;
            let (plan, preview) = planned;
            app.previews.keep(id, found.project_id, found.snapshot_id, preview, app.now_ms());
            plan
        }
    };
    let plain = serde_json::to_vec(&plan).map_err(Problem::internal)?;
    let sealed = app.summaries.seal(&id.to_string(), &plain, app.entropy.as_ref());
    app.meta.change_restore(id, |restore| restore.plan = Some(sealed)).await?;
    Ok((JobState::Succeeded, json!({ "restore_id": id })))
}

pub async fn apply(app: &App, record: &JobRecord, id: RestoreId, context: &Context) -> Result<Done> {
    let Writing { found, order, plan, scope } = Writing::begin(app, record, id).await?;
    let repository = app.repositories.get(found.project_id).await?;
    let from = snapshot(&repository, &found.snapshot_id).await?;
    let restored = match found.mode {
        RestoreMode::New => {
            restore::apply(&repository, &from, &scope, &plan, &order.confirm, &order.url, context).await?
        }
        RestoreMode::InPlace => {
            let url = addresses::check_url(app, &order.url).await?;
            let request = in_place::safety_request(app, &found, &url, &order.url).await?;
            let note = noting(app, &found);
            let written = Order { confirm: &order.confirm, request: &request, note: &note };
            restore::apply_in_place(&repository, &from, &scope, &plan, &written, context).await?
        }
    };
    done(&restored)
}

pub async fn undo(app: &App, record: &JobRecord, id: RestoreId, context: &Context) -> Result<Done> {
    let Writing { found, order, plan, scope } = Writing::begin(app, record, id).await?;
    let repository = app.repositories.get(found.project_id).await?;
    let apply_job = match found.apply_job_id {
        Some(id) => super::get(app, id).await?,
        None => None,
    };
    let safety = in_place::safety_snapshot(&found, apply_job.as_ref());
    let safety = snapshot(&repository, &safety.ok_or_else(Problem::not_found)?).await?;
    let from = snapshot(&repository, &found.snapshot_id).await?;
    let url = addresses::check_url(app, &order.url).await?;
    let request = in_place::safety_request(app, &found, &url, &order.url).await?;
    // What it is taken back from is found by its id, and is not what a next attempt goes back to.
    let (app, project) = (app.clone(), found.project_id);
    let note = move |reached: Reached| -> BoxFuture<'static, engine::Result<()>> {
        app.repositories.saw(reached.safety, project);
        Box::pin(std::future::ready(Ok(())))
    };
    let written = Order { confirm: &order.confirm, request: &request, note: &note };
    let back = Back { safety: &safety, records: found.written };
    let undone = restore::undo(&repository, &from, &back, &scope, &plan, &written, context).await?;
    done(&undone)
}

/// What a job needs that writes into a target.
struct Writing {
    found: Restore,
    order: ApplyOrder,
    plan: Plan,
    scope: restore::Scope,
}

impl Writing {
    async fn begin(app: &App, record: &JobRecord, id: RestoreId) -> Result<Self> {
        let found = app.meta.restore(id).await?.ok_or_else(Problem::not_found)?;
        let order = app.queue.take_order(record.id).ok_or_else(|| {
            let detail = "The write credentials are gone with the process that took them. Apply again.";
            Problem::conflict("credentials-gone", "The credentials are gone", detail)
        })?;
        addresses::check_url(app, &order.url).await?;
        let sealed = found.plan.as_ref().ok_or_else(Problem::not_found)?;
        let plain = app.summaries.open(&id.to_string(), sealed)?;
        let plan = serde_json::from_slice(&plain).map_err(Problem::internal)?;
        let scope = restores::opened_scope(app, &found)?;
        Ok(Self { found, order, plan, scope })
    }
}

/// Notes down how far a restore comes before it takes effect: the safety snapshot is found by its id alone from
/// now on, and what a restore leaves that does not come to its end can be taken back.
fn noting(
    app: &App,
    restore: &Restore,
) -> impl Fn(Reached) -> BoxFuture<'static, engine::Result<()>> + use<> {
    let (app, id, project) = (app.clone(), restore.id, restore.project_id);
    move |Reached { safety, records }| {
        let app = app.clone();
        Box::pin(async move {
            app.repositories.saw(safety, project);
            let noted = app.meta.change_restore(id, move |restore| {
                restore.safety_snapshot = Some(safety.to_string());
                restore.written = Some(records);
            });
            noted.await.map_err(|error| {
                engine::Error::new(engine::Kind::Storage, "how far the restore comes could not be noted down")
                    .with_help("Look at the server's disk.")
                    .with_source(error)
            })
        })
    }
}

/// Finished is not the same as proven: only equal roots, with nothing left out and nothing left as it was,
/// are a success.
fn done(restored: &Restored) -> Result<Done> {
    let whole = restored.proof.matches
        && restored.notes.iter().all(|note| !note.failed)
        && restored.conflicts.count == 0;
    let state = if whole { JobState::Succeeded } else { JobState::Incomplete };
    Ok((state, serde_json::to_value(restored).map_err(Problem::internal)?))
}
