//! Comparing snapshots, with each other and with the live database.

use axum::Form;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use engine::diff::Filter;
use engine::rows;
use serde::Deserialize;
use web::components::change::ChangeKind;
use web::components::system::System;
use web::pages::Named;
use web::pages::changes::{self, ChangeList, Changes, Of};
use web::pages::diff::{self, Diff, Outcome, Shows, Side};
use web::urls;

use super::place::{self, Place, id};
use super::{again, html, see_other, shell, shown};
use crate::app::App;
use crate::auth::{PageUser, Visitor};
use crate::error::{Problem, Result};
use crate::ids::DiffId;
use crate::meta::ComparedWith;
use crate::service::diffs::FoundDiff;
use crate::service::{diffs, projects, snapshots};
use crate::view;

/// Changed records on a page.
const ROWS: usize = 100;

/// The snapshot chosen, and another one or a database to compare it with.
#[derive(Deserialize)]
pub struct Chosen {
    from: String,
    to: Option<String>,
    live: Option<String>,
}

/// What of a table's changes to show. An empty choice is none.
#[derive(Deserialize)]
pub struct Choices {
    pub kind: Option<String>,
    pub column: Option<String>,
    pub show: Option<String>,
    pub cursor: Option<String>,
}

/// Compares a snapshot.
pub async fn start(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    Form(chosen): Form<Chosen>,
) -> Result<Response> {
    let (id, _) = match (&chosen.to, &chosen.live) {
        (_, Some(database)) => diffs::start_live(&app, visitor.user_id, &chosen.from, database).await?,
        (Some(to), None) => diffs::start(&app, visitor.user_id, &chosen.from, to).await?,
        (None, None) => return Err(Problem::invalid("to", "Choose what to compare with.")),
    };
    Ok(see_other(&urls::diff(&id.to_string())))
}

/// A comparison: its summary, or the work on it.
pub async fn page(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    Path(diff): Path<String>,
) -> Result<Response> {
    let found = diffs::find(&app, visitor.user_id, id(DiffId::parse, &diff)?).await?;
    let (system, [from, to]) = sides(&app, &visitor, &found).await?;
    let project = projects::find(&app, visitor.user_id, found.diff.project_id).await?;
    let mut not_compared =
        found.summary.as_ref().map(|summary| summary.not_compared.clone()).unwrap_or_default();
    // An example has no schema archive, as there is no database behind it: its snapshots say so, and whoever
    // looks at differences for the first time is not met with what is not there.
    if project.is_example {
        not_compared.clear();
    }
    let reason = |name: &String| {
        let mut missing = found.read.as_ref()?.missing.iter();
        missing.find(|(missing, _)| missing == name).map(|(_, reason)| reason.clone())
    };
    let not_compared = not_compared.into_iter().map(|name| (name.clone(), reason(&name))).collect();
    let other_objects = found.summary.as_ref().and_then(|summary| summary.other_objects.clone());
    let outcome = match (&found.summary, &found.job) {
        (Some(summary), _) => Outcome::Summary(view::diff::rows(summary)),
        (None, Some(job)) => Outcome::Job(Box::new(view::job::job(job, None))),
        (None, None) => return Err(Problem::not_found()),
    };
    let project = Named::new(project.id.to_string(), project.name);
    let shell = shell(&app, &visitor);
    let has_pages = found.has_pages;
    let view =
        Diff { shell, project, id: diff, system, from, to, not_compared, has_pages, other_objects, outcome };
    Ok(html(diff::page(&view)))
}

/// The changed records of one table.
pub async fn changes(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    Path((diff, collection)): Path<(String, String)>,
    Query(choices): Query<Choices>,
) -> Result<Response> {
    let found = diffs::find(&app, visitor.user_id, id(DiffId::parse, &diff)?).await?;
    let Some(summary) = &found.summary else { return Ok(see_other(&urls::diff(&diff))) };
    let known = summary.collections.iter().find(|known| known.name == collection);
    let known = view::diff::row(known.ok_or_else(Problem::not_found)?);
    let (system, [from, to]) = sides(&app, &visitor, &found).await?;
    let mut view = Changes {
        shell: shell(&app, &visitor),
        project: place::project(&app, &visitor, found.diff.project_id).await?,
        of: Of::Comparison { id: diff.clone(), from, to },
        system,
        collection,
        counts: known.counts,
        schema_changes: known.schema_changes,
        rekeyed: known.rekeyed,
        kind: chosen(choices.kind).map(|kind| parse_kind(&kind)).transpose()?,
        column: chosen(choices.column),
        columns: Vec::new(),
        all_columns: choices.show.as_deref() == Some("all"),
        changes: ChangeList::Rows(Vec::new()),
        cursor: chosen(choices.cursor),
        next_cursor: None,
        problem: None,
    };
    match fill(&app, &visitor, found.diff.id, &mut view).await {
        Ok(()) => Ok(html(changes::page(&view))),
        Err(problem) if problem.status.is_server_error() => Err(problem),
        // The comparison's own page says so, and how to come by another one.
        Err(problem) if problem.status == StatusCode::GONE => Ok(see_other(&urls::diff(&diff))),
        Err(problem) => {
            view.problem = Some(shown(&problem));
            Ok(again(&problem, changes::page(&view)))
        }
    }
}

async fn fill(app: &App, visitor: &Visitor, id: DiffId, view: &mut Changes) -> Result<()> {
    if view.rekeyed.is_some() {
        return Ok(());
    }
    let filter = Filter { kind: view.kind.map(view::diff::filter), column: view.column.clone() };
    let request = rows::PageRequest { cursor: view.cursor.clone(), from_key: None, limit: ROWS };
    let page = diffs::changes(app, visitor.user_id, id, &view.collection, &filter, &request).await?;
    show(view, page);
    Ok(())
}

/// Puts a page of changes into its view.
pub(super) fn show(view: &mut Changes, page: rows::Page<engine::diff::Change>) {
    view.changes = view::diff::changes(page.items);
    view.next_cursor = page.next_cursor;
    view.columns = columns(view);
}

/// The columns one can filter by: those of the records shown, in the table's order, and the one that
/// is chosen even when nothing matches it. Of documents the fields that differ in one of them.
fn columns(view: &Changes) -> Vec<String> {
    let mut columns: Vec<String> = Vec::new();
    let shown: Vec<&String> = match &view.changes {
        ChangeList::Rows(rows) => {
            let cells = rows.iter().flat_map(|change| change.new.iter().chain(&change.old).flatten());
            cells.map(|(name, _)| name).collect()
        }
        ChangeList::Documents(documents) => documents.iter().flat_map(|change| &change.fields).collect(),
    };
    for name in shown.into_iter().chain(&view.column) {
        if !columns.contains(name) {
            columns.push(name.clone());
        }
    }
    columns
}

pub(super) fn chosen(value: Option<String>) -> Option<String> {
    value.filter(|value| !value.is_empty())
}

pub(super) fn parse_kind(text: &str) -> Result<ChangeKind> {
    let kind = ChangeKind::ALL.into_iter().find(|kind| kind.as_str() == text);
    kind.ok_or_else(|| Problem::invalid("kind", "Choose added, changed or removed."))
}

/// Both sides, and of which system they are.
async fn sides(app: &App, visitor: &Visitor, found: &FoundDiff) -> Result<(System, [Side; 2])> {
    let (system, from) = side(app, visitor, &found.diff.from).await?;
    let to = match &found.diff.to {
        ComparedWith::Snapshot(to) => side(app, visitor, to).await?.1,
        ComparedWith::Live { database_id } => {
            let place = Place::of(app, visitor, *database_id).await?;
            Side {
                shows: Shows::Live(found.read.as_ref().map(|read| read.at_ms)),
                database: place.named(),
                environment: place.environment(),
                note: None,
                point_in_time: found.read.as_ref().is_none_or(|read| read.point_in_time),
            }
        }
    };
    Ok((system, [from, to]))
}

async fn side(app: &App, visitor: &Visitor, id: &str) -> Result<(System, Side)> {
    let found = snapshots::find(app, visitor.user_id, id).await?;
    let place = Place::of_snapshot(app, visitor, &found).await?;
    let manifest = &found.snapshot.manifest;
    let side = Side {
        shows: Shows::Snapshot(id.to_owned(), manifest.started_ms),
        database: place.named(),
        environment: place.environment(),
        note: found.snapshot.note().map(str::to_owned),
        point_in_time: view::history::point_in_time(manifest),
    };
    Ok((view::connection::system(&manifest.source.engine), side))
}
