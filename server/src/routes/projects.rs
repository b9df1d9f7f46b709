//! The dashboard, projects and their keys.

use axum::Form;
use axum::extract::{Path, State};
use axum::response::Response;
use engine::Kind;
use engine::repo::Snapshot;
use engine::verify::Report;
use serde::Deserialize;
use web::components::damage::Damage;
use web::components::tag::Thoroughness;
use web::pages::project::RemovedRow;
use web::pages::projects::{DatabaseRow, LastVerified, OpenBackup, ProjectCard, Projects, Trouble};
use web::pages::schedule::DueTime;
use web::pages::settings::{self, Settings};
use web::pages::{Named, project, projects as page};
use web::urls;

use super::place::{environment, id};
use super::{again, databases::backups_of, html, keys, see_other, shell, shown};
use crate::app::App;
use crate::auth::{PageUser, Visitor};
use crate::error::{Problem, Result};
use crate::ids::ProjectId;
use crate::jobs::{self, Job};
use crate::meta::{self, ConnectedDatabase, JobState, PageRequest, Project, Subject, VerifyMode, Work};
use crate::schedule::is_ahead;
use crate::service::usage::{self, DatabaseUsage};
use crate::service::{self, databases, diffs, example, existing, projects, schedules, snapshots};
use crate::view;

/// What a new project is called.
#[derive(Deserialize)]
pub struct Typed {
    name: String,
}

/// Whether a clean-up only looks.
#[derive(Deserialize)]
pub struct Pruning {
    dry_run: bool,
}

/// The dashboard.
pub async fn dashboard(State(app): State<App>, PageUser(visitor): PageUser) -> Result<Response> {
    let view = overview(&app, &visitor).await?;
    Ok(html(page::page(&view)))
}

/// Leads to differences that can be looked at before there is a database.
pub async fn example(State(app): State<App>, PageUser(visitor): PageUser) -> Result<Response> {
    let diff = example::show(&app, visitor.user_id).await?;
    Ok(see_other(&urls::diff(&diff.to_string())))
}

/// Makes a project, and goes on to connecting a database.
pub async fn create(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    Form(typed): Form<Typed>,
) -> Result<Response> {
    match projects::create(&app, visitor.user_id, &typed.name).await {
        Ok(project) => Ok(see_other(&urls::connect(&project.id.to_string()))),
        Err(problem) if problem.status.is_server_error() => Err(problem),
        Err(problem) => {
            let view = overview(&app, &visitor).await?;
            let view = Projects { name: typed.name, problem: Some(shown(&problem)), ..view };
            Ok(again(&problem, page::page(&view)))
        }
    }
}

/// One project.
pub async fn project_page(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    Path(project): Path<String>,
) -> Result<Response> {
    let project = find(&app, &visitor, &project).await?;
    let Verifications { last, open } = verifications(&app, project.id).await?;
    let trouble = trouble(&app, project.id, last.as_ref()).await?;
    let usage = usage::of_project(&app, visitor.user_id, project.id).await?;
    let view = project::Project {
        shell: shell(&app, &visitor),
        databases: rows(&app, &visitor, &project, last.as_ref()).await?,
        removed: usage.databases.into_iter().filter_map(removed).collect(),
        stored_bytes: usage.stored_bytes,
        verified: last.map(|found| LastVerified {
            at_ms: found.at_ms,
            job: Some(found.job),
            damaged: found.count > 0,
            expired: false,
            thoroughness: Some(found.thoroughness),
        }),
        verifying: open,
        trouble,
        has_recovery_key: project.has_recovery_key(),
        project: Named::new(project.id.to_string(), project.name),
    };
    Ok(html(project::page(&view)))
}

/// A project's keys.
pub async fn settings_page(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    Path(project): Path<String>,
) -> Result<Response> {
    let project = find(&app, &visitor, &project).await?;
    let view = keys::settings_view(&app, &visitor, project).await?;
    Ok(html(settings::page(&view)))
}

/// Deletes a project, once its name was typed.
pub async fn delete(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    Path(project): Path<String>,
    Form(typed): Form<Typed>,
) -> Result<Response> {
    let project = find(&app, &visitor, &project).await?;
    if typed.name.trim() != project.name {
        let problem = Problem::invalid("name", "Type the project's name as it is written at the top.");
        let problem = projects::not_confirmed(&app, visitor.user_id, &project, problem).await;
        let view = keys::settings_view(&app, &visitor, project).await?;
        let view = Settings { problem: Some(shown(&problem)), ..view };
        return Ok(again(&problem, settings::page(&view)));
    }
    projects::delete(&app, visitor.user_id, project.id).await?;
    Ok(see_other(urls::PROJECTS))
}

/// Starts a clean-up, or a look at what it would remove, and leads to its job.
pub async fn prune(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    Path(project): Path<String>,
    Form(wanted): Form<Pruning>,
) -> Result<Response> {
    let project = find(&app, &visitor, &project).await?;
    let job = projects::start_prune(&app, visitor.user_id, project.id, wanted.dry_run).await?;
    Ok(see_other(&urls::job(&job.to_string())))
}

/// What of the stored bytes to read.
#[derive(Deserialize)]
pub struct Verifying {
    mode: VerifyMode,
}

/// Starts a verification, and leads to its job.
pub async fn verify(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    Path(project): Path<String>,
    Form(wanted): Form<Verifying>,
) -> Result<Response> {
    let project = find(&app, &visitor, &project).await?;
    let job = projects::start_verify(&app, visitor.user_id, project.id, wanted.mode).await?;
    Ok(see_other(&urls::job(&job.to_string())))
}

async fn find(app: &App, visitor: &Visitor, project: &str) -> Result<Project> {
    projects::find(app, visitor.user_id, id(ProjectId::parse, project)?).await
}

async fn overview(app: &App, visitor: &Visitor) -> Result<Projects> {
    let (mut cards, mut has_compared, mut has_locked) = (Vec::new(), false, false);
    for project in projects::list(app, visitor.user_id, PageRequest::all()).await?.items {
        let one = PageRequest { after: None, limit: 1 };
        // Whoever has seen the example has not seen their own yet.
        has_compared = has_compared
            || (!project.is_example
                && !diffs::list(app, visitor.user_id, project.id, one).await?.items.is_empty());
        // One repository that is out of reach hides no other project.
        let last = verifications(app, project.id).await?.last;
        let trouble = trouble(app, project.id, last.as_ref()).await?;
        let (databases, problem) = match rows(app, visitor, &project, last.as_ref()).await {
            Ok(databases) => (databases, None),
            Err(problem) => {
                has_locked |= problem.kind() == Some(Kind::Locked);
                (Vec::new(), Some(shown(&problem)))
            }
        };
        let stored_bytes = match problem {
            None => usage::stored_bytes(app, project.id).await.ok(),
            Some(_) => None,
        };
        let is_example = project.is_example;
        let project = Named::new(project.id.to_string(), project.name);
        cards.push(ProjectCard { project, databases, stored_bytes, trouble, is_example, problem });
    }
    // Asked of the storage only where it matters: each look costs requests.
    let is_new = cards.iter().all(|card| card.is_example);
    let unclaimed = if is_new { existing::unclaimed(app).await?.len() } else { 0 };
    let name = if is_new { "My project".to_owned() } else { String::new() };
    let shell = shell(app, visitor);
    Ok(Projects { shell, projects: cards, unclaimed, has_locked, has_compared, name, problem: None })
}

async fn rows(
    app: &App,
    visitor: &Visitor,
    project: &Project,
    last: Option<&Verification>,
) -> Result<Vec<DatabaseRow>> {
    let mut rows = Vec::new();
    let damage = service::damage::of(app, project.id).await?;
    for database in databases::list(app, visitor.user_id, project.id, PageRequest::all()).await?.items {
        rows.push(row(app, visitor, database, last, &damage).await?);
    }
    Ok(rows)
}

/// A removed database whose snapshots are kept.
fn removed(usage: DatabaseUsage) -> Option<RemovedRow> {
    let newest = usage.snapshots.first()?;
    Some(RemovedRow {
        removed_ms: usage.database.removed_ms?,
        newest_ms: newest.manifest.started_ms,
        snapshots: usage.snapshots.len() as u64,
        added_bytes: usage.new_bytes(),
        environment: environment(usage.database.environment),
        database: Named::new(usage.database.id.to_string(), usage.database.name),
    })
}

/// The verifications of a project that matter now.
struct Verifications {
    /// The last that ended.
    last: Option<Verification>,
    /// One that waits or runs: its job.
    open: Option<String>,
}

struct Verification {
    job: String,
    started_ms: i64,
    at_ms: i64,
    /// How much it found wrong.
    count: u64,
    thoroughness: Thoroughness,
}

async fn verifications(app: &App, project: ProjectId) -> Result<Verifications> {
    let mut jobs = jobs::about(app, Subject::Verifications(project)).await?.into_iter().peekable();
    let open = jobs.peek().filter(|job| !job.state().is_final()).map(|job| job.record.id.to_string());
    let last = jobs.find(|job| job.state() == JobState::Succeeded).and_then(|job| {
        let report: Report = serde_json::from_value(job.result?).ok()?;
        Some(Verification {
            job: job.record.id.to_string(),
            started_ms: job.record.started_ms.unwrap_or(job.record.created_ms),
            at_ms: job.record.finished_ms.unwrap_or(job.record.created_ms),
            count: report.damaged.len() as u64,
            thoroughness: view::history::thoroughness(mode_of(&job.record.work)?),
        })
    });
    Ok(Verifications { last, open })
}

fn mode_of(work: &Work) -> Option<VerifyMode> {
    match work {
        Work::Verify { mode } => Some(*mode),
        _ => None,
    }
}

/// What went wrong in a project's storage beside what its databases' rows tell.
async fn trouble(app: &App, project: ProjectId, last: Option<&Verification>) -> Result<Trouble> {
    let damage = service::damage::of(app, project).await?;
    let damaged = last.filter(|last| last.count > 0);
    // Of a snapshot whose file is lost there is no row that could tell. The storage is asked only then.
    let unlisted = match damaged {
        Some(last) if damage.snapshots.is_empty() || lacks_any_of(app, project, &damage).await => Some(last),
        _ => None,
    };
    let mut prunes = jobs::about(app, Subject::Prunes(project)).await?.into_iter();
    let pruned = prunes.find(|job| job.state().is_final());
    let failed = pruned.filter(|job| job.state() == JobState::Failed);
    Ok(Trouble {
        unlisted_damage: unlisted.map(|last| (last.count, last.job.clone())),
        failed_prune: failed.map(failure),
    })
}

/// Whether a damaged snapshot is not there any more. A storage that is out of reach is told elsewhere.
async fn lacks_any_of(app: &App, project: ProjectId, damage: &meta::Damage) -> bool {
    let Ok(repository) = app.repositories.get(project).await else { return false };
    let Ok(there) = repository.snapshots().await else { return false };
    let is_there = |id: &String| there.iter().any(|snapshot| snapshot.id.to_string() == *id);
    !damage.snapshots.keys().all(is_there)
}

/// A job that failed, and why.
fn failure(job: Job) -> (String, String) {
    let message = job.error.map(|error| error.detail);
    (job.record.id.to_string(), message.unwrap_or_else(|| job.record.state.as_str().to_owned()))
}

/// What is known of a database's snapshots: that one is damaged, or when one of them was verified last, or
/// one that has gone since.
fn last_verified(
    all: &[Snapshot],
    last: Option<&Verification>,
    damaged: Option<&Damage>,
    remembered_ms: Option<i64>,
    now_ms: i64,
) -> Option<LastVerified> {
    if let Some(found) = damaged {
        let job = Some(found.job.clone());
        let (at_ms, damaged) = (found.found_ms, true);
        return Some(LastVerified { at_ms, job, damaged, expired: false, thoroughness: None });
    }
    let times = all.iter().filter_map(|snapshot| snapshots::verified(&snapshot.mark));
    // Of a wrong clock's time it is not known how old it is.
    let there = times.max_by_key(|(_, at_ms)| (!is_ahead(*at_ms, now_ms), *at_ms));
    let at_ms = there.map(|(_, at_ms)| at_ms).or(remembered_ms)?;
    let thoroughness = there.map(|(mode, _)| view::history::thoroughness(mode));
    let job = last.filter(|last| at_ms >= last.started_ms).map(|last| last.job.clone());
    Some(LastVerified { at_ms, job, damaged: false, expired: there.is_none(), thoroughness })
}

/// A database in an overview. What is said of its snapshots is read from those that exist.
async fn row(
    app: &App,
    visitor: &Visitor,
    database: ConnectedDatabase,
    last: Option<&Verification>,
    damage: &meta::Damage,
) -> Result<DatabaseRow> {
    let all = snapshots::list(app, visitor.user_id, database.id, PageRequest::all()).await?.items;
    let backups = backups_of(app, &database).await?;
    let schedule = schedules::find(app, visitor.user_id, database.id).await?;
    let place = |snapshot: &Snapshot| (snapshot.id.to_string(), snapshot.manifest.started_ms);
    let damaged = view::history::damaged(&all, damage);
    // What a verification found damaged may not be there whole when it is needed.
    let is_recoverable = |snapshot: &&Snapshot| {
        snapshot.manifest.is_complete() && damage.of(&snapshot.id.to_string()).is_none()
    };
    // What is dated later than now was taken by a wrong clock: it counts where there is nothing else.
    let (ahead, dated): (Vec<&Snapshot>, Vec<&Snapshot>) =
        all.iter().partition(|snapshot| is_ahead(snapshot.manifest.started_ms, app.now_ms()));
    let newest = dated.iter().chain(&ahead).copied().find(is_recoverable).map(place);
    let latest = dated.first().or(ahead.first());
    let newer_incomplete =
        latest.filter(|snapshot| !snapshot.manifest.is_complete()).map(|snapshot| place(snapshot));
    let lacks_credentials = database.lacks_credentials();
    Ok(DatabaseRow {
        missed: schedule
            .as_ref()
            .and_then(|found| schedules::missed(found, &database, app.now_ms()))
            .map(|missed| super::schedules::missed(missed, &backups)),
        database: Named::new(database.id.to_string(), database.name),
        environment: environment(database.environment),
        has_credentials: !lacks_credentials,
        engine: view::connection::engine_name(&database.engine).to_owned(),
        newest,
        newer_incomplete,
        schedule: schedule.and_then(|found| {
            let next_ms = schedules::next_runs(app, &found).first().copied()?;
            Some((found.timing.to_string(), DueTime { at_ms: next_ms, local: found.timing.local(next_ms) }))
        }),
        verified: last_verified(
            &all,
            last,
            damaged.as_ref().map(|(_, found)| found),
            database.last_verified_ms,
            app.now_ms(),
        ),
        damaged,
        snapshots: all.len() as u64,
        added_bytes: all.iter().map(|snapshot| snapshot.manifest.new_bytes).sum(),
        open: backups.open.first().map(|job| OpenBackup {
            job: job.record.id.to_string(),
            waits: job.state() == JobState::Queued,
            since_ms: job.record.started_ms.unwrap_or(job.record.created_ms),
        }),
        failed: backups.failed.map(failure),
    })
}
