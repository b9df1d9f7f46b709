//! Changing a database's name, environment and connection, and removing it.

use axum::Form;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use engine::source::{Consistency, DatabaseUrl};
use serde::Deserialize;
use web::components::system::System;
use web::pages::database_settings::{self as page, DatabaseSettings};
use web::pages::schedule::DueTime;
use web::urls;
use zeroize::Zeroizing;

use super::place::{self, Place, id};
use super::{again, databases::consistency, html, see_other, shell, shown};
use crate::app::App;
use crate::auth::{PageUser, Visitor};
use crate::error::{Problem, Result};
use crate::ids::DatabaseId;
use crate::meta::{ConnectedDatabase, Environment};
use crate::service::databases::{self, DatabaseChange, Snapshots};
use crate::service::schedules;
use crate::view;

/// What the form sends.
#[derive(Deserialize)]
pub struct Typed {
    name: String,
    environment: Environment,
    /// Ticked, where the form has it.
    best_effort: Option<String>,
    url: Zeroizing<String>,
    /// Ticked, where the form has it.
    moved: Option<String>,
}

/// What confirms a removal.
#[derive(Deserialize)]
pub struct Removal {
    confirm: String,
    /// Ticked: its snapshots go, too.
    delete_snapshots: Option<String>,
}

/// The settings.
pub async fn form(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    Path(database): Path<String>,
) -> Result<Response> {
    let view = current(&app, &visitor, id(DatabaseId::parse, &database)?).await?;
    Ok(html(page::page(&view)))
}

/// Changes them. Another URL is tested like the first.
pub async fn save(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    Path(database): Path<String>,
    Form(typed): Form<Typed>,
) -> Result<Response> {
    let id = id(DatabaseId::parse, &database)?;
    let url = view::typed_url::without_password(&typed.url);
    let before = current(&app, &visitor, id).await?;
    let best_effort = before.best_effort.map(|_| typed.best_effort.is_some());
    let view = DatabaseSettings {
        name: typed.name.clone(),
        environment: place::environment(typed.environment),
        url_without_password: url.shown,
        password_removed: url.password_removed,
        best_effort,
        moved: typed.moved.as_ref().map(|_| true),
        ..before
    };
    let parsed = DatabaseUrl::parse(&typed.url).ok();
    let change = DatabaseChange {
        name: Some(typed.name),
        environment: Some(typed.environment),
        url: (!typed.url.trim().is_empty()).then_some(typed.url),
        consistency: best_effort.map(consistency),
        moved: typed.moved.is_some(),
    };
    match databases::change(&app, visitor.user_id, id, change).await {
        Ok(_) => Ok(see_other(&urls::database(&database))),
        Err(problem) if problem.status.is_server_error() => Err(problem),
        Err(problem) => {
            let tested = parsed.and_then(|url| view::connection::refused(&problem, &url));
            let problem_shown = tested.is_none().then(|| shown(&problem));
            let moved = view.moved.or((problem.slug == "other-database").then_some(false));
            let view = DatabaseSettings { tested, problem: problem_shown, moved, ..view };
            Ok(again(&problem, page::page(&view)))
        }
    }
}

/// Removes a database whose name was typed. Its snapshots stay, unless they are to go.
pub async fn remove(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    Path(database): Path<String>,
    Form(removal): Form<Removal>,
) -> Result<Response> {
    let id = id(DatabaseId::parse, &database)?;
    let place = Place::of(&app, &visitor, id).await?;
    if place.database.removed_ms.is_some() {
        return delete_rest(&app, &visitor, place, &removal).await;
    }
    let view = current(&app, &visitor, id).await?;
    if removal.confirm.trim() != view.database.name {
        let problem = Problem::invalid("confirm", format!("Type {} to remove it.", view.database.name));
        let problem = databases::not_confirmed(&app, visitor.user_id, &place.database, problem).await;
        let view = DatabaseSettings { problem: Some(shown(&problem)), ..view };
        return Ok(again(&problem, page::page(&view)));
    }
    let fate = if removal.delete_snapshots.is_some() { Snapshots::Delete } else { Snapshots::Keep };
    match databases::remove(&app, visitor.user_id, id, fate).await {
        Ok(()) => Ok(see_other(&urls::database(&database))),
        Err(problem) if problem.status == StatusCode::CONFLICT => {
            let view = DatabaseSettings { problem: Some(shown(&problem)), ..view };
            Ok(again(&problem, page::page(&view)))
        }
        Err(problem) => Err(problem),
    }
}

/// Deletes what was kept of a database that was removed before, once its name was typed.
async fn delete_rest(app: &App, visitor: &Visitor, place: Place, removal: &Removal) -> Result<Response> {
    let ConnectedDatabase { id, name, .. } = &place.database;
    let id = *id;
    let deleted = if removal.confirm.trim() == name {
        databases::remove(app, visitor.user_id, id, Snapshots::Delete).await
    } else {
        let problem = Problem::invalid("confirm", format!("Type {name} to delete its snapshots."));
        Err(databases::not_confirmed(app, visitor.user_id, &place.database, problem).await)
    };
    match deleted {
        Ok(()) => Ok(see_other(&urls::project(&place.project.id))),
        Err(problem) if matches!(problem.status, StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY) => {
            let view = super::databases::history_view(app, visitor, id, None).await?;
            let view = web::pages::database::Database { problem: Some(shown(&problem)), ..view };
            Ok(again(&problem, web::pages::database::page(&view)))
        }
        Err(problem) => Err(problem),
    }
}

async fn current(app: &App, visitor: &Visitor, id: DatabaseId) -> Result<DatabaseSettings> {
    let place = Place::of(app, visitor, id).await?;
    if place.database.removed_ms.is_some() {
        return Err(Problem::not_found());
    }
    let ConnectedDatabase { engine, endpoint, consistency, .. } = &place.database;
    // Only there can it make a difference.
    let has_choice = view::connection::system(engine) == System::MongoDb;
    let user = Some(&endpoint.user).filter(|user| !user.is_empty());
    let connection = user.map_or_else(|| endpoint.to_string(), |user| format!("{user} on {endpoint}"));
    let schedule = schedules::find(app, visitor.user_id, id).await?;
    let next_run =
        schedule.as_ref().and_then(|schedule| schedules::next_runs(app, schedule).first().copied());
    let words_and_due = schedule.zip(next_run).map(|(schedule, at_ms)| {
        (schedule.timing.to_string(), DueTime { at_ms, local: schedule.timing.local(at_ms) })
    });
    Ok(DatabaseSettings {
        shell: shell(app, visitor),
        schedule: words_and_due,
        database: place.named(),
        connection: (!place.database.lacks_credentials()).then_some(connection),
        best_effort: has_choice.then_some(*consistency == Consistency::BestEffort),
        name: place.database.name.clone(),
        environment: place.environment(),
        project: place.project,
        moved: None,
        url_without_password: String::new(),
        password_removed: false,
        problem: None,
        tested: None,
    })
}
