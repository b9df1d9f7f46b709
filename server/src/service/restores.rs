//! Restores: planned, confirmed, carried out, proven.

use axum::http::StatusCode;
use engine::catalog;
use engine::restore::{self, Plan, TargetIdentity};
use engine::source::{DatabaseUrl, Engine};
use engine::target::occupied;
use zeroize::Zeroizing;

use super::snapshots::FoundSnapshot;
use super::{addresses, audit, in_place, projects, snapshots};
use crate::app::App;
use crate::audit::{Event, action};
use crate::error::{self, Problem, Result};
use crate::ids::{JobId, RestoreId, UserId};
use crate::jobs::{self, ApplyOrder, Job};
use crate::meta::{JobState, Page, PageRequest, Restore, RestoreMode, Scope, Work};
use crate::view;

/// Where a restore stands, by the state of its jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, utoipa::ToSchema)]
#[schema(rename_all = "kebab-case")]
pub enum RestoreState {
    Planning,
    /// The plan is there to be read and confirmed.
    Planned,
    /// There is no plan: its job failed or was stopped.
    PlanFailed,
    Applying,
    /// Carried out, and the proof matches.
    Succeeded,
    /// Carried out, and the proof shows differences.
    Incomplete,
    Failed,
    Cancelled,
    Interrupted,
    /// Being taken back.
    Undoing,
    /// Taken back, but for what had changed since.
    Undone,
}

impl RestoreState {
    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Planning => "planning",
            Self::Planned => "planned",
            Self::PlanFailed => "plan-failed",
            Self::Applying => "applying",
            Self::Succeeded => "succeeded",
            Self::Incomplete => "incomplete",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
            Self::Undoing => "undoing",
            Self::Undone => "undone",
        }
    }

    fn of(plan: Option<&Job>, apply: Option<&Job>, undo: Option<&Job>) -> Self {
        match undo.map(Job::state) {
            Some(JobState::Queued | JobState::Running) => return Self::Undoing,
            Some(JobState::Succeeded | JobState::Incomplete) => return Self::Undone,
            // An attempt that failed took nothing back.
            _ => {}
        }
        match (plan.map(Job::state), apply.map(Job::state)) {
            (_, Some(JobState::Queued | JobState::Running)) => Self::Applying,
            (_, Some(JobState::Succeeded)) => Self::Succeeded,
            (_, Some(JobState::Incomplete)) => Self::Incomplete,
            (_, Some(JobState::Failed)) => Self::Failed,
            (_, Some(JobState::Cancelled)) => Self::Cancelled,
            (_, Some(JobState::Interrupted)) => Self::Interrupted,
            (Some(JobState::Queued | JobState::Running), None) => Self::Planning,
            (Some(JobState::Succeeded), None) => Self::Planned,
            (_, None) => Self::PlanFailed,
        }
    }
}

/// A restore as its owner sees it.
pub struct FoundRestore {
    pub restore: Restore,
    pub state: RestoreState,
    /// There once it is planned.
    pub plan: Option<Plan>,
    pub plan_job: Option<Job>,
    /// The newest attempt to carry it out.
    pub apply_job: Option<Job>,
    /// The newest attempt to take it back.
    pub undo_job: Option<Job>,
    pub scope: restore::Scope,
}

/// What to plan.
pub struct NewRestore {
    pub snapshot: String,
    pub scope: restore::Scope,
    pub mode: RestoreMode,
    pub url: Zeroizing<String>,
}

/// Plans a restore. The URL is sealed until the plan is made. That it was refused is told in the audit log;
/// else its job is.
pub async fn plan(app: &App, user: UserId, new: NewRestore) -> Result<(RestoreId, JobId)> {
    let event = Event::new(action::RESTORE_PLAN_START, format!("snapshot/{}", new.snapshot));
    match start_plan(app, user, new).await {
        Ok(started) => Ok(started),
        refused => audit::record(app, user, event, refused).await,
    }
}

async fn start_plan(app: &App, user: UserId, new: NewRestore) -> Result<(RestoreId, JobId)> {
    let found = snapshots::find(app, user, &new.snapshot).await?;
    let collections = in_scope(&found, &new.scope).await?;
    let url = addresses::check_url(app, &new.url).await?;
    check_engine(&found, &url)?;
    if new.mode == RestoreMode::New
        && let Some(held) = occupied(&url, &collections).await?
    {
        let advice = match url.engine() {
            Engine::Postgres => "Name a database that does not exist yet, or an empty one.",
            Engine::MongoDb => "Name a database in the URL that does not exist yet, or an empty one.",
        };
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        let detail = error::sentences(&held, Some(advice));
        return Err(
            Problem::new(status, "target-not-empty", "The target is not empty", detail).with("field", "url")
        );
    }
    let id = RestoreId::new(app.clock.as_ref(), app.entropy.as_ref());
    let plan_job_id = jobs::new_id(app);
    let restore = Restore {
        id,
        project_id: found.project_id,
        user_id: user,
        snapshot_id: found.snapshot.id.to_string(),
        scope: sealed_scope(app, id, new.scope)?,
        mode: new.mode,
        target_url: Some(app.credentials.seal(
            &id.to_string(),
            new.url.trim().as_bytes(),
            app.entropy.as_ref(),
        )),
        target: shown(&TargetIdentity::of(&url)),
        plan: None,
        plan_job_id,
        apply_job_id: None,
        undo_job_id: None,
        safety_snapshot: None,
        written: None,
        created_ms: app.now_ms(),
    };
    app.meta.add_restore(restore).await?;
    let work = Work::RestorePlan { restore_id: id };
    jobs::enqueue(app, plan_job_id, found.project_id, user, work).await?;
    Ok((id, plan_job_id))
}

/// A user's restore. Somebody else's is not found.
pub async fn find(app: &App, user: UserId, id: RestoreId) -> Result<FoundRestore> {
    let restore = app.meta.restore(id).await?;
    let restore = restore.filter(|restore| restore.user_id == user).ok_or_else(Problem::not_found)?;
    projects::find(app, user, restore.project_id).await?;
    opened(app, restore).await
}

/// The word for the system that a restore's snapshot is of.
pub async fn engine_of(app: &App, found: &FoundRestore) -> Result<String> {
    let snapshot = snapshots::find(app, found.restore.user_id, &found.restore.snapshot_id).await?;
    Ok(snapshot.snapshot.manifest.source.engine)
}

/// A user's restores, newest first.
pub async fn list(app: &App, user: UserId, page: PageRequest) -> Result<Page<FoundRestore>> {
    let page = app.meta.restores_of(user, page).await?;
    let mut items = Vec::with_capacity(page.items.len());
    for restore in page.items {
        items.push(opened(app, restore).await?);
    }
    Ok(Page { items, next_cursor: page.next_cursor })
}

/// Carries a planned restore out. The URL with the right to write is kept in memory until the job
/// has used it.
pub async fn apply(app: &App, user: UserId, id: RestoreId, order: ApplyOrder) -> Result<JobId> {
    let found = find(app, user, id).await?;
    let plan = match (found.state, &found.plan) {
        (RestoreState::Applying, _) => return Err(already_applying()),
        (
            RestoreState::Succeeded | RestoreState::Incomplete | RestoreState::Undoing | RestoreState::Undone,
            _,
        ) => {
            let detail = "The restore was carried out. Plan another one to restore again.";
            return Err(Problem::conflict("already-applied", "Already carried out", detail));
        }
        (_, Some(plan)) => plan,
        (_, None) => {
            let detail = "The plan is not ready. Wait for its job, or plan again if it failed.";
            return Err(Problem::conflict("not-planned", "Not planned", detail));
        }
    };
    let engine = check_order(app, user, &found, plan, &order).await?;
    let job_id = jobs::new_id(app);
    let before = found.restore.apply_job_id;
    // Of several orders at once, a double click, one is carried out.
    if !app.meta.claim_restore(id, before, job_id).await? {
        return Err(already_applying());
    }
    let in_place = found.restore.mode == RestoreMode::InPlace;
    let in_steps = in_place && engine == Engine::MongoDb;
    let work = Work::RestoreApply { restore_id: id, in_place, in_steps };
    let queued = jobs::enqueue_apply(app, job_id, found.restore.project_id, user, work, order).await;
    if let Err(problem) = queued {
        app.meta.change_restore(id, move |restore| restore.apply_job_id = before).await?;
        return Err(problem);
    }
    Ok(job_id)
}

fn already_applying() -> Problem {
    let detail = "The restore is being carried out. Wait for its job to end.";
    Problem::conflict("already-applying", "Already being carried out", detail)
}

/// Whether an order fits its plan, as far as a look at the target shows; the job looks again. Which system
/// the target is of.
async fn check_order(
    app: &App,
    user: UserId,
    found: &FoundRestore,
    plan: &Plan,
    order: &ApplyOrder,
) -> Result<Engine> {
    check_phrase(app, user, &found.restore, plan, order, action::RESTORE_START).await?;
    if let Some(check) = plan.preflight.iter().find(|check| !check.ok) {
        let found = error::sentences(&check.detail, Some("Mend it and plan again."));
        let detail = format!("The plan found something in the way. {found}");
        return Err(Problem::conflict("preflight-failed", "The restore cannot go on", detail));
    }
    let url = check_target(app, plan, order).await?;
    let snapshot = snapshots::find(app, user, &found.restore.snapshot_id).await?;
    check_engine(&snapshot, &url)?;
    if found.restore.mode == RestoreMode::InPlace {
        in_place::check_unchanged(app, &snapshot, &found.scope, plan, &order.url).await?;
        return Ok(url.engine());
    }
    match occupied(&url, &in_scope(&snapshot, &found.scope).await?).await? {
        Some(held) => {
            let advice = "There was none of it when the restore was planned. Plan again.";
            let detail = error::sentences(&held, Some(advice));
            Err(Problem::conflict("target-changed", "The target changed", detail))
        }
        None => Ok(url.engine()),
    }
}

/// Whether an order has its plan's phrase. One that has another is told in the audit log, as `action`.
pub(super) async fn check_phrase(
    app: &App,
    user: UserId,
    restore: &Restore,
    plan: &Plan,
    order: &ApplyOrder,
    action: &'static str,
) -> Result<()> {
    if order.confirm == plan.confirm_phrase {
        return Ok(());
    }
    let detail = format!("Type {} exactly as it stands here.", plan.confirm_phrase);
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    let problem = Problem::new(status, "wrong-phrase", "The phrase is not the one asked for", detail);
    let event = Event::new(action, format!("restore/{}", restore.id))
        .with("snapshot_id", &restore.snapshot_id)
        .with("into", &restore.target);
    Err(audit::not_confirmed(app, user, event, problem.with("field", "confirm")).await)
}

/// Whether an order leads to its plan's target.
pub(super) async fn check_target(app: &App, plan: &Plan, order: &ApplyOrder) -> Result<DatabaseUrl> {
    let url = addresses::check_url(app, &order.url).await?;
    if TargetIdentity::of(&url) != plan.target {
        let detail = format!("The plan is for {}. Use that target, or plan again.", shown(&plan.target));
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        return Err(
            Problem::new(status, "other-target", "Another target than planned", detail).with("field", "url")
        );
    }
    Ok(url)
}

/// A scope as it is stored: ids of records hold their keys.
fn sealed_scope(app: &App, id: RestoreId, scope: restore::Scope) -> Result<Scope> {
    Ok(match scope {
        restore::Scope::All => Scope::All,
        restore::Scope::Collections(names) => Scope::Collections(names),
        restore::Scope::Records(records) => {
            let plain = serde_json::to_vec(&records).map_err(Problem::internal)?;
            Scope::Records(app.summaries.seal(&id.to_string(), &plain, app.entropy.as_ref()))
        }
        _ => return Err(Problem::invalid("scope", "This version does not restore such a scope.")),
    })
}

/// A stored scope as the engine takes it.
pub fn opened_scope(app: &App, restore: &Restore) -> Result<restore::Scope> {
    Ok(match &restore.scope {
        Scope::All => restore::Scope::All,
        Scope::Collections(names) => restore::Scope::Collections(names.clone()),
        Scope::Records(sealed) => {
            let plain = app.summaries.open(&restore.id.to_string(), sealed)?;
            restore::Scope::Records(serde_json::from_slice(&plain).map_err(Problem::internal)?)
        }
    })
}

/// The collections in scope, as (namespace, name) in the source.
async fn in_scope(found: &FoundSnapshot, scope: &restore::Scope) -> Result<Vec<(String, String)>> {
    let all = catalog::collections(&found.repository, &found.snapshot).await?;
    let pair = |found: catalog::Cataloged| (found.namespace, found.name);
    let names: Vec<&String> = match scope {
        restore::Scope::Collections(names) => names.iter().collect(),
        restore::Scope::Records(records) => records.keys().collect(),
        _ => return Ok(all.into_iter().map(pair).collect()),
    };
    if names.is_empty() {
        return Err(Problem::invalid("scope", "Choose at least one collection, or all of the snapshot."));
    }
    if let Some(unknown) = names.iter().find(|name| !all.iter().any(|found| found.display_name() == ***name))
    {
        let detail = format!("The snapshot has no collection {unknown}. Name those that it lists.");
        return Err(Problem::invalid("scope", detail));
    }
    Ok(all.into_iter().filter(|found| names.contains(&&found.display_name())).map(pair).collect())
}

/// A snapshot goes back into the kind of database it came from.
fn check_engine(found: &FoundSnapshot, url: &DatabaseUrl) -> Result<()> {
    let source = &found.snapshot.manifest.source.engine;
    if *source == url.engine().as_str() {
        return Ok(());
    }
    let name = |engine: &str| view::connection::engine_name(engine).to_owned();
    let (from, to) = (name(source), name(url.engine().as_str()));
    let detail = format!("The snapshot is of {from} and the target is {to}. Use a target of {from}.");
    Err(Problem::invalid("url", detail))
}

/// A target in words: where each collection keeps its database, only the address.
pub(super) fn shown(target: &TargetIdentity) -> String {
    match &target.database {
        Some(database) => format!("{}/{database}", target.address),
        None => target.address.clone(),
    }
}

async fn opened(app: &App, mut restore: Restore) -> Result<FoundRestore> {
    let plan_job = jobs::get(app, restore.plan_job_id).await?;
    // The job wrote its plan before it ended, and maybe after the row was read.
    if restore.plan.is_none() && plan_job.as_ref().is_some_and(|job| job.state().is_final()) {
        restore = app.meta.restore(restore.id).await?.ok_or_else(Problem::not_found)?;
    }
    let apply_job = job(app, restore.apply_job_id).await?;
    let undo_job = job(app, restore.undo_job_id).await?;
    let plan = match &restore.plan {
        Some(sealed) => {
            let plain = app.summaries.open(&restore.id.to_string(), sealed)?;
            // One that an older version made and this one cannot read is planned again.
            serde_json::from_slice(&plain).ok()
        }
        None => None,
    };
    let state = RestoreState::of(plan_job.as_ref(), apply_job.as_ref(), undo_job.as_ref());
    let scope = opened_scope(app, &restore)?;
    Ok(FoundRestore { restore, state, plan, plan_job, apply_job, undo_job, scope })
}

async fn job(app: &App, id: Option<JobId>) -> Result<Option<Job>> {
    match id {
        Some(id) => jobs::get(app, id).await,
        None => Ok(None),
    }
}
