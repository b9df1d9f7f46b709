//! Connecting a database, its history, and backing it up.

use axum::Form;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use engine::source::{Consistency, DatabaseUrl};
use serde::Deserialize;
use web::pages::connect::{self, Connect};
use web::pages::database::{self, Connection, Database};
use web::urls;
use zeroize::Zeroizing;

use super::place::{self, Place, id};
use super::{again, html, see_other, shell, shown};
use crate::app::App;
use crate::auth::{PageUser, Visitor};
use crate::error::{Problem, Result};
use crate::ids::{DatabaseId, ProjectId};
use crate::jobs::{self, Job};
use crate::meta::{ConnectedDatabase, Endpoint, Environment, JobState, PageRequest, Subject};
use crate::service::{damage, databases, snapshots};
use crate::view;

/// Snapshots on a page of the history.
const HISTORY_ROWS: usize = 50;

/// What the form for connecting sends.
#[derive(Deserialize)]
pub struct Typed {
    url: Zeroizing<String>,
    name: String,
    environment: Environment,
    /// Ticked, where the form offers it.
    best_effort: Option<String>,
    /// Ticked, where the form offers it.
    twin: Option<String>,
    action: Action,
}

/// Which of the form's buttons was pressed.
#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Action {
    Connect,
    Test,
}

/// Where a page of a list starts.
#[derive(Deserialize)]
pub struct Paging {
    cursor: Option<String>,
}

/// What is written beside a backup.
#[derive(Deserialize)]
pub struct BackupTyped {
    note: Option<String>,
}

/// The form for connecting a database.
pub async fn connect_form(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    Path(project): Path<String>,
) -> Result<Response> {
    let project = place::project(&app, &visitor, id(ProjectId::parse, &project)?).await?;
    let view = Connect {
        shell: shell(&app, &visitor),
        project,
        name: String::new(),
        url_without_password: String::new(),
        password_removed: false,
        environment: None,
        best_effort: None,
        twin: None,
        problem: None,
        tested: None,
    };
    Ok(html(connect::page(&view)))
}

/// Tests a connection, and connects the database if that was asked for and it can be backed up.
pub async fn connect(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    Path(project): Path<String>,
    Form(typed): Form<Typed>,
) -> Result<Response> {
    let project_id = id(ProjectId::parse, &project)?;
    let view = typed_view(&app, &visitor, project_id, &typed).await?;
    if typed.action == Action::Connect && typed.twin.is_none() {
        let twin = databases::twin(&app, visitor.user_id, project_id, &typed.name, &typed.url).await?;
        if let Some(problem) = twin {
            return refused(problem, Connect { twin: Some(false), ..view });
        }
    }
    let consistency = consistency(typed.best_effort.is_some());
    let report = match databases::test(&app, visitor.user_id, project_id, &typed.url, consistency).await {
        Ok(report) => report,
        Err(problem) => return refused(problem, view),
    };
    let tested = view::connection::tested(&report, &DatabaseUrl::parse(&typed.url)?);
    // Offered where it was the reason for refusing, and again as long as it is chosen.
    let offered = report.lacks_point_in_time.then_some(typed.best_effort.is_some());
    let view = Connect { best_effort: offered.or(view.best_effort), ..view };
    if !report.ok || typed.action == Action::Test {
        let status = if report.ok { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
        let page = connect::page(&Connect { tested: Some(tested), ..view });
        return Ok((status, html(page)).into_response());
    }
    let Typed { name, url, environment, .. } = typed;
    let new = databases::NewDatabase { name, url, environment, consistency };
    match databases::connect(&app, visitor.user_id, project_id, new).await {
        Ok(database) => Ok(see_other(&urls::database(&database.id.to_string()))),
        Err(problem) => refused(problem, Connect { tested: Some(tested), ..view }),
    }
}

/// The form as it was sent, without what is secret.
async fn typed_view(app: &App, visitor: &Visitor, project: ProjectId, typed: &Typed) -> Result<Connect> {
    let url = view::typed_url::without_password(&typed.url);
    Ok(Connect {
        shell: shell(app, visitor),
        project: place::project(app, visitor, project).await?,
        name: typed.name.clone(),
        url_without_password: url.shown,
        password_removed: url.password_removed,
        environment: Some(place::environment(typed.environment)),
        best_effort: typed.best_effort.as_ref().map(|_| true),
        twin: typed.twin.as_ref().map(|_| true),
        problem: None,
        tested: None,
    })
}

/// What a form's box stands for.
pub(super) fn consistency(best_effort: bool) -> Consistency {
    if best_effort { Consistency::BestEffort } else { Consistency::PointInTime }
}

fn refused(problem: Problem, view: Connect) -> Result<Response> {
    if problem.status.is_server_error() {
        return Err(problem);
    }
    let page = connect::page(&Connect { problem: Some(shown(&problem)), ..view });
    Ok(again(&problem, page))
}

/// A database's history.
pub async fn history(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    Path(database): Path<String>,
    Query(paging): Query<Paging>,
) -> Result<Response> {
    let view = history_view(&app, &visitor, id(DatabaseId::parse, &database)?, paging.cursor).await?;
    Ok(html(database::page(&view)))
}

/// Queues a backup; the history shows how it goes.
pub async fn back_up(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    Path(database): Path<String>,
    Form(typed): Form<BackupTyped>,
) -> Result<Response> {
    let id = id(DatabaseId::parse, &database)?;
    match databases::start_backup(&app, visitor.user_id, id, typed.note).await {
        Ok(_) => Ok(see_other(&urls::database(&database))),
        Err(problem) if problem.status == StatusCode::UNPROCESSABLE_ENTITY => {
            let view = history_view(&app, &visitor, id, None).await?;
            Ok(again(&problem, database::page(&Database { problem: Some(shown(&problem)), ..view })))
        }
        Err(problem) => Err(problem),
    }
}

pub(super) async fn history_view(
    app: &App,
    visitor: &Visitor,
    id: DatabaseId,
    cursor: Option<String>,
) -> Result<Database> {
    let place = Place::of(app, visitor, id).await?;
    let request = PageRequest { after: cursor.clone(), limit: HISTORY_ROWS };
    let page = snapshots::list(app, visitor.user_id, id, request).await?;
    let backups = backups_of(app, &place.database).await?;
    let damage = damage::of(app, place.database.project_id).await?;
    let damaged = if damage.snapshots.is_empty() {
        None
    } else {
        let all = snapshots::list(app, visitor.user_id, id, PageRequest::all()).await?.items;
        view::history::damaged(&all, &damage)
    };
    Ok(Database {
        shell: shell(app, visitor),
        database: place.named(),
        environment: place.environment(),
        connection: connection(&place.database),
        server: view::connection::server(&place.database.engine, &place.database.server_version),
        address: Some(&place.database.endpoint)
            .filter(|endpoint| endpoint.is_known())
            .map(Endpoint::to_string),
        damaged,
        snapshots: page.items.iter().map(|snapshot| view::history::row(snapshot, &damage)).collect(),
        paged: cursor.is_some(),
        next_cursor: page.next_cursor,
        running: backups.open.first().map(|job| view::job::job(job, None)),
        failed: backups.failed.map(|job| view::job::job(&job, None)),
        problem: None,
        project: place.project,
    })
}

fn connection(database: &ConnectedDatabase) -> Connection {
    match database.removed_ms {
        Some(_) => Connection::Removed,
        None if database.lacks_credentials() => Connection::Unknown,
        None => Connection::Known,
    }
}

/// What is to be said of a database's backups beside its snapshots.
pub(super) struct Backups {
    /// Those that run or wait, the oldest first.
    pub open: Vec<Job>,
    /// The last that ended, if it left no snapshot.
    pub failed: Option<Job>,
}

/// The newest backups of a database.
pub(super) async fn backups_of(app: &App, database: &ConnectedDatabase) -> Result<Backups> {
    let backups = jobs::about(app, Subject::Backups(database.id)).await?.into_iter();
    let (open, ended): (Vec<Job>, Vec<Job>) = backups.partition(|job| !job.state().is_final());
    let left_none =
        |job: &Job| matches!(job.state(), JobState::Failed | JobState::Interrupted | JobState::Cancelled);
    Ok(Backups { open: open.into_iter().rev().collect(), failed: ended.into_iter().next().filter(left_none) })
}
