//! Restores in place: what they would change, row by row, and the way back.

use axum::Form;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use engine::diff::Filter;
use engine::restore::Restored;
use engine::rows;
use web::components::system::System;
use web::pages::changes::{self, ChangeList, Changes, Of};
use web::pages::restore_undo::{Before, Undo};
use web::pages::{restore_plan, restore_result};
use web::urls;

use super::diffs::{Choices, chosen, parse_kind, show};
use super::place::id;
use super::restores::{Confirmation, place, plan_view, restored, result_view, untyped};
use super::{again, html, see_other, shell, shown};
use crate::app::App;
use crate::auth::{PageUser, Visitor};
use crate::error::{Problem, Result};
use crate::ids::RestoreId;
use crate::meta::RestoreMode;
use crate::service::in_place;
use crate::service::restores::{self, FoundRestore, RestoreState};
use crate::view;
use crate::view::typed_url::TypedUrl;

/// Changes on a page.
const ROWS: usize = 50;

/// What a planned restore would change in one collection.
pub async fn changes(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    Path((restore, table)): Path<(String, String)>,
    Query(choices): Query<Choices>,
) -> Result<Response> {
    let found = restores::find(&app, visitor.user_id, id(RestoreId::parse, &restore)?).await?;
    let back = || Ok(see_other(&urls::restore(&restore)));
    let Some(plan) = &found.plan else { return back() };
    let known = plan.preview.collections.iter().find(|known| known.name == table);
    let known = view::diff::row(known.ok_or_else(Problem::not_found)?);
    let system = view::connection::system(&restores::engine_of(&app, &found).await?);
    let place = place(&app, &visitor, &found).await?;
    let (database, target) = (place.named(), found.restore.target.clone());
    let mut view = Changes {
        shell: shell(&app, &visitor),
        project: place.project,
        of: Of::Restore { id: restore.clone(), database, target },
        system,
        collection: table,
        counts: known.counts,
        schema_changes: Vec::new(),
        rekeyed: None,
        kind: chosen(choices.kind).map(|kind| parse_kind(&kind)).transpose()?,
        column: chosen(choices.column),
        columns: Vec::new(),
        all_columns: choices.show.as_deref() == Some("all"),
        changes: ChangeList::Rows(Vec::new()),
        cursor: chosen(choices.cursor),
        next_cursor: None,
        problem: None,
    };
    match fill(&app, &visitor, &found, &mut view).await {
        Ok(()) => Ok(html(changes::page(&view))),
        Err(problem) if problem.status.is_server_error() => Err(problem),
        // Its plan is there all the same, and says how much would change.
        Err(problem) if problem.status == StatusCode::GONE => back(),
        Err(problem) => {
            view.problem = Some(shown(&problem));
            Ok(again(&problem, changes::page(&view)))
        }
    }
}

async fn fill(app: &App, visitor: &Visitor, found: &FoundRestore, view: &mut Changes) -> Result<()> {
    let filter = Filter { kind: view.kind.map(view::diff::filter), column: view.column.clone() };
    let request = rows::PageRequest { cursor: view.cursor.clone(), from_key: None, limit: ROWS };
    let (user, id) = (visitor.user_id, found.restore.id);
    let page = in_place::changes(app, user, id, &view.collection, &filter, &request).await?;
    show(view, page);
    Ok(())
}

/// Takes a restore back.
pub async fn undo(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    Path(restore): Path<String>,
    Form(confirmation): Form<Confirmation>,
) -> Result<Response> {
    let id = id(RestoreId::parse, &restore)?;
    let (order, typed) = confirmation.order();
    let problem = match in_place::undo(&app, visitor.user_id, id, order).await {
        Ok(_) => return Ok(see_other(&urls::restore(&restore))),
        Err(problem) => problem,
    };
    let found = restores::find(&app, visitor.user_id, id).await?;
    if problem.status.is_server_error() || !in_place::is_undoable(&found) {
        return Err(problem);
    }
    let offer = |before: &mut Option<Before>| {
        if let Some(Before { undo: Undo::Offered { problem: offered, .. }, .. }) = before {
            *offered = Some(shown(&problem));
        }
    };
    if let Some(done) = restored(&found)? {
        let mut view = result_view(&app, &visitor, &found, done, typed).await?;
        offer(&mut view.before);
        return Ok(again(&problem, restore_result::page(&view)));
    }
    let mut view = plan_view(&app, &visitor, &found, untyped()).await?;
    view.before = before(&found, view.system, None, typed)?;
    offer(&mut view.before);
    Ok(again(&problem, restore_plan::page(&view)))
}

/// Whether a restore in place did not come to its end, and something may be there to take back.
pub(super) fn has_ended_early(found: &FoundRestore) -> bool {
    let has_result = found.apply_job.as_ref().is_some_and(|job| job.result.is_some());
    let was_taken_back = matches!(found.state, RestoreState::Undoing | RestoreState::Undone);
    !has_result && (was_taken_back || in_place::is_undoable(found))
}

/// What there is to say of what was there before, and of the way back. `done` is there once the restore
/// came to its end.
pub(super) fn before(
    found: &FoundRestore,
    system: System,
    done: Option<&Restored>,
    typed: TypedUrl,
) -> Result<Option<Before>> {
    if found.restore.mode == RestoreMode::New {
        return Ok(None);
    }
    let job = found.undo_job.as_ref();
    let undo = match (found.state, &found.plan) {
        (RestoreState::Undoing, _) => {
            let job = job.ok_or_else(Problem::not_found)?;
            Undo::Job(Box::new(view::job::job(job, None)))
        }
        (RestoreState::Undone, _) => {
            let result = job.and_then(|job| job.result.clone()).unwrap_or_default();
            let undone: Restored = serde_json::from_value(result).map_err(Problem::internal)?;
            let (conflicts, examples) = (undone.conflicts.count, undone.conflicts.examples);
            Undo::Done { records: undone.records, conflicts, examples }
        }
        (_, Some(plan)) if in_place::is_undoable(found) => Undo::Offered {
            confirm_phrase: plan.confirm_phrase.clone(),
            url_without_password: typed.shown,
            password_removed: typed.password_removed,
            // What the last attempt failed for.
            problem: job.and_then(|job| {
                let error = job.error.as_ref()?;
                Some(web::components::Problem::new(&error.title).with_fix(&error.detail))
            }),
        },
        _ => Undo::Nothing,
    };
    let (id, target) = (found.restore.id.to_string(), found.restore.target.clone());
    let safety_snapshot = match done {
        Some(done) => done.safety_snapshot.clone(),
        None => found.restore.safety_snapshot.clone(),
    };
    Ok(Some(Before { id, system, target, safety_snapshot, undo }))
}
