//! A snapshot and its records.

use axum::Form;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use engine::rows;
use serde::Deserialize;
use web::components::system::System;
use web::pages::Named;
use web::pages::records::{self, Records};
use web::pages::snapshot::{self, Snapshot};
use web::pages::unreadable::{self, Unreadable};
use web::urls;

use super::place::Place;
use super::{again, html, see_other, shell, shown};
use crate::app::App;
use crate::auth::{PageUser, Visitor};
use crate::error::{Problem, Result};
use crate::service::damage;
use crate::service::snapshots::{self, FoundSnapshot};
use crate::view;

/// Records on a page.
const ROWS: usize = 100;

/// Where a page of records starts.
#[derive(Deserialize)]
pub struct Paging {
    cursor: Option<String>,
    from_key: Option<String>,
}

/// A snapshot.
pub async fn page(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    Path(id): Path<String>,
) -> Result<Response> {
    match snapshots::find_with_parent(&app, visitor.user_id, &id).await {
        Ok(found) => Ok(html(snapshot::page(&snapshot_view(&app, &visitor, &found).await?))),
        Err(problem) => match unreadable_view(&app, &visitor, &id, &problem).await? {
            Some(view) => Ok(again(&problem, unreadable::page(&view))),
            None => Err(problem),
        },
    }
}

/// What is shown instead of a snapshot that should be there and cannot be read.
async fn unreadable_view(
    app: &App,
    visitor: &Visitor,
    id: &str,
    problem: &Problem,
) -> Result<Option<Unreadable>> {
    if !snapshots::may_be_unreadable(problem) {
        return Ok(None);
    }
    let found = snapshots::find_unreadable(app, visitor.user_id, id).await?;
    Ok(found.map(|found| Unreadable {
        shell: shell(app, visitor),
        project: Named::new(found.project.id.to_string(), found.project.name),
        id: id.to_owned(),
        why: found.why,
        pinned: found.pinned,
        problem: None,
    }))
}

async fn delete_unreadable(
    app: &App,
    visitor: &Visitor,
    view: Unreadable,
    confirm: &str,
) -> Result<Response> {
    let wanted = view.confirmation();
    if confirm.trim() != wanted {
        let problem = Problem::invalid("confirm", format!("Type {wanted} to delete it."));
        let problem = snapshots::unreadable_not_confirmed(app, visitor.user_id, &view.id, problem).await;
        let view = Unreadable { problem: Some(shown(&problem)), ..view };
        return Ok(again(&problem, unreadable::page(&view)));
    }
    snapshots::delete(app, visitor.user_id, &view.id).await?;
    Ok(see_other(&urls::project(&view.project.id)))
}

/// What is typed to delete a snapshot.
#[derive(Deserialize)]
pub struct Deletion {
    confirm: String,
}

/// What the forms send that change what is said of a snapshot: one of the two.
#[derive(Deserialize)]
pub struct Change {
    note: Option<String>,
    pinned: Option<bool>,
}

/// Gives a snapshot another note, pins or unpins it.
pub async fn change(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    Path(id): Path<String>,
    Form(Change { note, pinned }): Form<Change>,
) -> Result<Response> {
    let change = snapshots::SnapshotChange { note: note.clone().map(Some), pinned };
    match snapshots::change(&app, visitor.user_id, &id, change).await {
        Ok(_) => Ok(see_other(&urls::snapshot(&id))),
        Err(problem) if problem.status == StatusCode::UNPROCESSABLE_ENTITY => {
            let found = snapshots::find_with_parent(&app, visitor.user_id, &id).await?;
            let view = snapshot_view(&app, &visitor, &found).await?;
            let view = Snapshot { note, problem: Some(shown(&problem)), ..view };
            Ok(again(&problem, snapshot::page(&view)))
        }
        Err(problem) => Err(problem),
    }
}

/// Deletes a snapshot whose id was begun to be typed, and leads to its database.
pub async fn delete(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    Path(id): Path<String>,
    Form(deletion): Form<Deletion>,
) -> Result<Response> {
    let found = match snapshots::find_with_parent(&app, visitor.user_id, &id).await {
        Ok(found) => found,
        Err(problem) => match unreadable_view(&app, &visitor, &id, &problem).await? {
            Some(view) => return delete_unreadable(&app, &visitor, view, &deletion.confirm).await,
            None => return Err(problem),
        },
    };
    let view = snapshot_view(&app, &visitor, &found).await?;
    let wanted = view.confirmation().to_owned();
    if deletion.confirm.trim() != wanted {
        let problem = Problem::invalid("confirm", format!("Type {wanted} to delete it."));
        let problem = snapshots::not_confirmed(&app, visitor.user_id, &found.snapshot, problem).await;
        let view = Snapshot { problem: Some(shown(&problem)), ..view };
        return Ok(again(&problem, snapshot::page(&view)));
    }
    match snapshots::delete(&app, visitor.user_id, &id).await {
        Ok(()) => Ok(see_other(&urls::database(&view.database.id))),
        Err(problem) if problem.status == StatusCode::CONFLICT => {
            let view = Snapshot { problem: Some(shown(&problem)), ..view };
            Ok(again(&problem, snapshot::page(&view)))
        }
        Err(problem) => Err(problem),
    }
}

async fn snapshot_view(app: &App, visitor: &Visitor, found: &FoundSnapshot) -> Result<Snapshot> {
    let place = Place::of_snapshot(app, visitor, found).await?;
    let collections = snapshots::collections(found).await?;
    let (manifest, mark) = (&found.snapshot.manifest, &found.snapshot.mark);
    let damage = damage::of(app, found.project_id).await?;
    Ok(Snapshot {
        shell: shell(app, visitor),
        database: place.named(),
        environment: place.environment(),
        id: found.snapshot.id.to_string(),
        at_ms: manifest.started_ms,
        took_ms: manifest.finished_ms - manifest.started_ms,
        trigger: view::history::trigger(manifest.trigger),
        system: view::connection::system(&manifest.source.engine),
        point_in_time: view::history::point_in_time(manifest),
        method: manifest.evidence.method.clone(),
        server: view::connection::server(&manifest.source.engine, &manifest.source.version),
        note: found.snapshot.note().map(str::to_owned),
        pinned: mark.pinned,
        verified: snapshots::verified(mark).map(|(mode, at_ms)| (at_ms, view::history::thoroughness(mode))),
        fully_verified_ms: mark.full_ms,
        damaged: damage.of(&found.snapshot.id.to_string()).map(view::history::found),
        records: manifest.records,
        logical_bytes: manifest.logical_bytes,
        new_bytes: manifest.new_bytes,
        collections: collections.into_iter().map(view::history::collection).collect(),
        missing: view::history::missing(manifest),
        notes: manifest.notes.clone(),
        costs: super::usage::costs(app, visitor, found).await?,
        parent: manifest.parent.map(|parent| parent.to_string()),
        connected: place.database.url.is_some(),
        project: place.project,
        problem: None,
    })
}

/// The records of a collection as a snapshot holds them.
pub async fn records(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    Path((id, collection)): Path<(String, String)>,
    Query(paging): Query<Paging>,
) -> Result<Response> {
    let found = snapshots::find(&app, visitor.user_id, &id).await?;
    let place = Place::of_snapshot(&app, &visitor, &found).await?;
    let all = snapshots::collections(&found).await?;
    let known = all.iter().find(|known| known.name == collection).ok_or_else(Problem::not_found)?;
    let total = known.records;
    let system = view::connection::system(&found.snapshot.manifest.source.engine);
    // Of the other kinds of MongoDB no document is written alone.
    let may_restore = system == System::PostgreSql || known.kind == System::MongoDb.collection();
    let from_key = paging.from_key.unwrap_or_default().trim().to_owned();
    let paged = paging.cursor.is_some() || !from_key.is_empty();
    let request = rows::PageRequest {
        cursor: paging.cursor,
        from_key: (!from_key.is_empty()).then(|| from_key.clone()),
        limit: ROWS,
    };
    let mut view = Records {
        shell: shell(&app, &visitor),
        database: place.named(),
        project: place.project,
        snapshot: id,
        at_ms: found.snapshot.manifest.started_ms,
        collection,
        total,
        records: Vec::new(),
        from_key,
        paged,
        may_restore,
        next_cursor: None,
        problem: None,
    };
    match snapshots::records(&app, visitor.user_id, &found, &view.collection, &request).await {
        Ok(page) => {
            view.records = page.items.into_iter().map(view::history::record).collect();
            view.next_cursor = page.next_cursor;
            Ok(html(records::page(&view)))
        }
        Err(problem) if problem.status.is_server_error() => Err(problem),
        Err(problem) => {
            view.problem = Some(shown(&problem));
            Ok(again(&problem, records::page(&view)))
        }
    }
}
