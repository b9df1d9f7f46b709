//! Restoring: where to, the plan, the confirmation, the proof.

use axum::Form;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use engine::restore::{Restored, Scope};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use web::pages::restore_new::{self, RestoreNew};
use web::pages::restore_plan::{self, Stage};
use web::pages::restore_result;
use web::pages::restores::{self as list, RestoreRow, Restores, Standing};
use web::urls;
use zeroize::Zeroizing;

use super::place::{Place, id};
use super::{again, html, restores_in_place, see_other, shell, shown};
use crate::app::App;
use crate::auth::{PageUser, Visitor};
use crate::error::{Problem, Result};
use crate::ids::RestoreId;
use crate::jobs::{ApplyOrder, Job};
use crate::meta::{JobState, PageRequest, RestoreMode};
use crate::service::restores::{FoundRestore, NewRestore, RestoreState};
use crate::service::{restores, snapshots};
use crate::view;
use crate::view::typed_url::TypedUrl;

/// Restores on a page of the list.
const ROWS: usize = 50;

/// What to restore, and where to.
#[derive(Deserialize)]
pub struct Target {
    url: Zeroizing<String>,
    /// Absent where only the whole can be restored.
    scope: Option<ScopeChosen>,
    /// The boxes that are ticked.
    #[serde(default)]
    collection: Vec<String>,
    /// Absent where there is only one way.
    mode: Option<RestoreMode>,
    /// The table that single records are of.
    of: Option<String>,
    #[serde(default)]
    record: Vec<String>,
}

/// A single record that was chosen in a list.
#[derive(Deserialize)]
pub struct Single {
    of: Option<String>,
    record: Option<String>,
}

/// What a form has chosen to restore.
#[derive(Clone, Default)]
struct Choice {
    collections: Option<Vec<String>>,
    records: Option<restore_new::Records>,
    mode: RestoreMode,
}

impl Choice {
    fn scope(&self) -> Scope {
        match (&self.records, &self.collections) {
            (Some(records), _) => Scope::Records([(records.of.clone(), records.ids.clone())].into()),
            (None, Some(names)) => Scope::Collections(names.clone()),
            (None, None) => Scope::All,
        }
    }
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum ScopeChosen {
    All,
    Chosen,
}

impl Target {
    /// The collections chosen; none where all are restored. The form holds their names as addresses do:
    /// of what stands in it plain, browsers send every line break as another.
    fn chosen(&self) -> Option<Vec<String>> {
        (self.scope == Some(ScopeChosen::Chosen))
            .then(|| self.collection.iter().map(|sent| name(sent)).collect())
    }

    fn choice(&self) -> Choice {
        let records =
            self.of.as_ref().map(|of| restore_new::Records { of: name(of), ids: self.record.clone() });
        Choice { collections: self.chosen(), records, mode: self.mode.unwrap_or_default() }
    }
}

fn name(sent: &str) -> String {
    percent_decode_str(sent).decode_utf8_lossy().into_owned()
}

/// What confirms a plan, or the way back.
#[derive(Deserialize)]
pub struct Confirmation {
    url: Zeroizing<String>,
    confirm: String,
}

impl Confirmation {
    /// The order, and the URL as it may be shown again.
    pub(super) fn order(self) -> (ApplyOrder, TypedUrl) {
        let typed = view::typed_url::without_password(&self.url);
        (ApplyOrder { url: self.url, confirm: self.confirm.trim().to_owned() }, typed)
    }
}

/// Nothing was typed yet.
pub(super) fn untyped() -> TypedUrl {
    TypedUrl { shown: String::new(), password_removed: false }
}

/// Where a page of the list starts.
#[derive(Deserialize)]
pub struct Paging {
    cursor: Option<String>,
}

/// All restores.
pub async fn index(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    Query(paging): Query<Paging>,
) -> Result<Response> {
    let request = PageRequest { after: paging.cursor, limit: ROWS };
    let page = restores::list(&app, visitor.user_id, request).await?;
    let mut rows = Vec::with_capacity(page.items.len());
    for found in page.items {
        rows.push(row(&app, &visitor, &found).await?);
    }
    let next_url = page.next_cursor.map(|cursor| urls::restores_page(&cursor));
    let view = Restores { shell: shell(&app, &visitor), restores: rows, next_url };
    Ok(html(list::page(&view)))
}

async fn row(app: &App, visitor: &Visitor, found: &FoundRestore) -> Result<RestoreRow> {
    let place = place(app, visitor, found).await?;
    Ok(RestoreRow {
        id: found.restore.id.to_string(),
        database: place.named(),
        target: found.restore.target.clone(),
        at_ms: found.restore.created_ms,
        standing: match (restored(found)?, found.state) {
            (_, RestoreState::Undone) => Standing::Undone,
            (_, RestoreState::Undoing) => Standing::Job(view::job::state(JobState::Running)),
            // The proof matches, and something that the snapshot should hold is missing.
            (Some(restored), RestoreState::Incomplete) if restored.proof.matches => {
                Standing::Job(view::job::state(JobState::Incomplete))
            }
            (Some(restored), _) => {
                Standing::Done { matches: restored.proof.matches, differences: restored.proof.differences }
            }
            (None, RestoreState::Planned) => Standing::Planned,
            (None, _) => Standing::Job(
                current_job(found).map_or(view::job::INTERRUPTED, |job| view::job::state(job.state())),
            ),
        },
    })
}

/// The form that asks where to restore to.
pub async fn new_form(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    Path(snapshot): Path<String>,
    Query(single): Query<Single>,
) -> Result<Response> {
    let records = single.of.zip(single.record);
    let records = records.map(|(of, record)| restore_new::Records { of, ids: vec![record] });
    // Who looks at a record mostly wants it back where it was.
    let mode = if records.is_some() { RestoreMode::InPlace } else { RestoreMode::New };
    let choice = Choice { records, mode, ..Choice::default() };
    let view = new_view(&app, &visitor, &snapshot, untyped(), choice).await?;
    Ok(html(restore_new::page(&view)))
}

/// Plans a restore.
pub async fn plan(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    Path(snapshot): Path<String>,
    // Boxes of one name come several times, which axum's own form does not take.
    axum_extra::extract::Form(target): axum_extra::extract::Form<Target>,
) -> Result<Response> {
    let typed = view::typed_url::without_password(&target.url);
    let choice = target.choice();
    let (scope, mode) = (choice.scope(), choice.mode);
    let new = NewRestore { snapshot: snapshot.clone(), scope, mode, url: target.url };
    match restores::plan(&app, visitor.user_id, new).await {
        Ok((id, _)) => Ok(see_other(&urls::restore(&id.to_string()))),
        Err(problem) if problem.status.is_server_error() => Err(problem),
        Err(problem) => {
            let view = new_view(&app, &visitor, &snapshot, typed, choice).await?;
            Ok(again(&problem, restore_new::page(&RestoreNew { problem: Some(shown(&problem)), ..view })))
        }
    }
}

async fn new_view(
    app: &App,
    visitor: &Visitor,
    snapshot: &str,
    typed: TypedUrl,
    choice: Choice,
) -> Result<RestoreNew> {
    let found = snapshots::find(app, visitor.user_id, snapshot).await?;
    let place = Place::of_snapshot(app, visitor, &found).await?;
    let manifest = &found.snapshot.manifest;
    let system = view::connection::system(&manifest.source.engine);
    let chosen = choice.collections.as_deref();
    let is_chosen = |name: &str| chosen.unwrap_or_default().iter().any(|known| known == name);
    let collections = snapshots::collections(&found).await?;
    let choices = collections.into_iter().map(|found| view::restore::choice(found, is_chosen)).collect();
    Ok(RestoreNew {
        shell: shell(app, visitor),
        database: place.named(),
        environment: place.environment(),
        project: place.project,
        snapshot: snapshot.to_owned(),
        at_ms: manifest.started_ms,
        record_count: manifest.records,
        collections: manifest.collections,
        missing: manifest.missing.len() as u64,
        system,
        choices,
        only_chosen: chosen.is_some(),
        in_place: choice.mode == RestoreMode::InPlace,
        records: choice.records,
        url_without_password: typed.shown,
        password_removed: typed.password_removed,
        problem: None,
    })
}

/// A restore: its plan, the work on it, or its proof.
pub async fn page(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    Path(restore): Path<String>,
) -> Result<Response> {
    let found = restores::find(&app, visitor.user_id, id(RestoreId::parse, &restore)?).await?;
    if let Some(restored) = restored(&found)? {
        let view = result_view(&app, &visitor, &found, restored, untyped()).await?;
        return Ok(html(restore_result::page(&view)));
    }
    let view = plan_view(&app, &visitor, &found, untyped()).await?;
    Ok(html(restore_plan::page(&view)))
}

/// Carries a planned restore out.
pub async fn apply(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    Path(restore): Path<String>,
    Form(confirmation): Form<Confirmation>,
) -> Result<Response> {
    let id = id(RestoreId::parse, &restore)?;
    let (order, typed) = confirmation.order();
    let problem = match restores::apply(&app, visitor.user_id, id, order).await {
        Ok(_) => return Ok(see_other(&urls::restore(&restore))),
        Err(problem) => problem,
    };
    let found = restores::find(&app, visitor.user_id, id).await?;
    if problem.status.is_server_error() || found.state != RestoreState::Planned {
        return Err(problem);
    }
    let mut view = plan_view(&app, &visitor, &found, typed).await?;
    if let Stage::Planned(plan) = &mut view.stage {
        plan.problem = Some(shown(&problem));
    }
    Ok(again(&problem, restore_plan::page(&view)))
}

pub(super) async fn plan_view(
    app: &App,
    visitor: &Visitor,
    found: &FoundRestore,
    typed: TypedUrl,
) -> Result<restore_plan::Restore> {
    let snapshot = snapshots::find(app, visitor.user_id, &found.restore.snapshot_id).await?;
    let place = Place::of_snapshot(app, visitor, &snapshot).await?;
    let system = view::connection::system(&snapshot.snapshot.manifest.source.engine);
    let stage = match (&found.plan, found.state) {
        (Some(plan), RestoreState::Planned) => Stage::Planned(restore_plan::Plan {
            preflight: plan.preflight.iter().map(view::restore::check).collect(),
            preview: view::diff::rows(&plan.preview),
            has_pages: app.previews.has(found.restore.id, app.now_ms()),
            confirm_phrase: plan.confirm_phrase.clone(),
            url_without_password: typed.shown,
            password_removed: typed.password_removed,
            problem: None,
        }),
        _ => {
            let job = current_job(found).ok_or_else(Problem::not_found)?;
            Stage::Job(Box::new(view::job::job(job, None)))
        }
    };
    // One that wrote and did not come to its end.
    let before = match restores_in_place::has_ended_early(found) {
        true => restores_in_place::before(found, system, None, untyped())?,
        false => None,
    };
    Ok(restore_plan::Restore {
        shell: shell(app, visitor),
        id: found.restore.id.to_string(),
        database: place.named(),
        environment: place.environment(),
        project: place.project,
        snapshot: found.restore.snapshot_id.clone(),
        at_ms: snapshot.snapshot.manifest.started_ms,
        system,
        target: found.restore.target.clone(),
        in_place: found.restore.mode == RestoreMode::InPlace,
        placement: found.plan.as_ref().and_then(|plan| view::restore::placement(system, plan)),
        stage,
        before,
    })
}

pub(super) async fn result_view(
    app: &App,
    visitor: &Visitor,
    found: &FoundRestore,
    restored: Restored,
    typed: TypedUrl,
) -> Result<restore_result::Result> {
    let snapshot = snapshots::find(app, visitor.user_id, &found.restore.snapshot_id).await?;
    let place = Place::of_snapshot(app, visitor, &snapshot).await?;
    let manifest = &snapshot.snapshot.manifest;
    let record = found.apply_job.as_ref().map(|job| &job.record).ok_or_else(Problem::not_found)?;
    let system = view::connection::system(&manifest.source.engine);
    let finished_ms = record.finished_ms.unwrap_or_else(|| app.now_ms());
    Ok(restore_result::Result {
        shell: shell(app, visitor),
        database: place.named(),
        project: place.project,
        snapshot: found.restore.snapshot_id.clone(),
        system,
        at_ms: manifest.started_ms,
        target: found.restore.target.clone(),
        finished_ms,
        took_ms: finished_ms - record.started_ms.unwrap_or(record.created_ms),
        records: restored.records,
        matches: restored.proof.matches,
        differences: restored.proof.differences,
        collections: view::restore::proofs(&restored.proof),
        sequence_differences: restored.proof.sequence_differences.clone(),
        schema_differences: restored.proof.schema_differences.clone(),
        remarks: restored.proof.remarks.clone(),
        notes: view::restore::notes(&restored.notes),
        before: restores_in_place::before(found, system, Some(&restored), typed)?,
    })
}

/// The job that says where a restore stands.
fn current_job(found: &FoundRestore) -> Option<&Job> {
    found.apply_job.as_ref().or(found.plan_job.as_ref())
}

/// What a restore that was carried out left behind.
pub(super) fn restored(found: &FoundRestore) -> Result<Option<Restored>> {
    let result = found.apply_job.as_ref().and_then(|job| job.result.clone());
    result.map(serde_json::from_value).transpose().map_err(Problem::internal)
}

pub(super) async fn place(app: &App, visitor: &Visitor, found: &FoundRestore) -> Result<Place> {
    let snapshot = snapshots::find(app, visitor.user_id, &found.restore.snapshot_id).await?;
    Place::of_snapshot(app, visitor, &snapshot).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_comes_back_from_the_form() {
        for name in ["shop.orders", "odd.new\nline", "odd.100%25", "odd.a+b&c=d/\u{e9}"] {
            let sent = urls::form_value(name);
            assert!(!sent.contains(char::is_control), "{sent}");
            let form = serde_json::json!({ "url": "", "scope": "chosen", "collection": [sent] });
            let target: Target = serde_json::from_value(form).unwrap();
            assert_eq!(target.chosen(), Some(vec![name.to_owned()]));
        }
    }
}
