//! `/databases/{id}/schedule`.

use axum::extract::State;
use axum::http::StatusCode;
use engine::repo::Snapshot;
use engine::retention::{Keep, Reason};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, Type};

use super::extract::{Json, Path};
use super::{rfc3339, snapshots};
use crate::app::App;
use crate::auth::ApiUser;
use crate::error::{Problem, Result};
use crate::ids::DatabaseId;
use crate::meta::Schedule;
use crate::schedule::{Frequency, Weekday};
use crate::service::schedules::{self, NewSchedule};

/// How many snapshots stay for which reason; without any, all do.
#[derive(Clone, Copy, Default, Deserialize, Serialize, ToSchema)]
// A rule that is misspelt would keep less than was meant.
#[serde(deny_unknown_fields)]
#[schema(as = Keep)]
pub struct KeepBody {
    /// The newest.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 10_000)]
    last: Option<u32>,
    /// The newest of each of so many days that have one.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 10_000)]
    daily: Option<u32>,
    /// The same of weeks, from Monday on.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 10_000)]
    weekly: Option<u32>,
    /// The same of months.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 10_000)]
    monthly: Option<u32>,
}

impl From<KeepBody> for Keep {
    fn from(body: KeepBody) -> Self {
        let KeepBody { last, daily, weekly, monthly } = body;
        Self { last, daily, weekly, monthly }
    }
}

impl From<Keep> for KeepBody {
    fn from(keep: Keep) -> Self {
        let Keep { last, daily, weekly, monthly } = keep;
        Self { last, daily, weekly, monthly }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewScheduleBody {
    frequency: Frequency,
    /// Of a weekly schedule: its name, or its number from 1 for Monday to 7 for Sunday; 0 is Sunday, too.
    #[schema(schema_with = any_weekday, required = false)]
    weekday: Option<Weekday>,
    /// A time of day, `HH:MM`. One that a day does not have, because clocks go forward over it, is as
    /// much later as they go; one that it has twice is the first.
    #[schema(example = "02:00")]
    time: String,
    /// The name of a time zone in the IANA database.
    #[schema(example = "Europe/Berlin")]
    timezone: String,
    #[serde(default)]
    #[schema(required = false)]
    keep: KeepBody,
}

/// What is taken as a day of the week.
fn any_weekday() -> Schema {
    let names = Weekday::ALL.map(|day| day.name().to_lowercase());
    let named = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names));
    let numbered = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).maximum(Some(7));
    let none = ObjectBuilder::new().schema_type(Type::Null);
    OneOfBuilder::new().item(none).item(named).item(numbered).into()
}

impl From<NewScheduleBody> for NewSchedule {
    fn from(body: NewScheduleBody) -> Self {
        let NewScheduleBody { frequency, weekday, time, timezone, keep } = body;
        Self { frequency, weekday, time, timezone, keep: keep.into() }
    }
}

#[derive(Serialize, ToSchema)]
pub struct ScheduleBody {
    frequency: Frequency,
    #[schema(required)]
    weekday: Option<Weekday>,
    time: String,
    timezone: String,
    keep: KeepBody,
    /// Such as "every day at 02:00 Europe/Berlin".
    words: String,
    /// The next three due times.
    next_runs: Vec<String>,
    /// The same in the schedule's time zone, with the distance to UTC that it has then.
    #[schema(example = json!(["2026-03-29T03:30:00+02:00"]))]
    next_runs_local: Vec<String>,
    /// The last due time at which no backup began, or whose backup was cut off for good.
    #[schema(required)]
    last_missed: Option<String>,
    /// How many had been missed by then since the last complete backup.
    missed_runs: u32,
    /// Why the last was missed, in a sentence.
    #[schema(required)]
    missed_reason: Option<String>,
    /// What the rules would remove of the snapshots that are there now, newest first: it goes after the
    /// next scheduled backup. `POST /databases/{id}/schedule/preview` tells it of rules that are not set.
    would_remove: Vec<RemovedBody>,
    /// The bytes of objects that nothing else needs, as they are stored. What prunes free differs: packs that are
    /// mostly needed stay whole, and with packs go their own headers and lists. Null where that could not be counted within a few seconds.
    #[schema(required)]
    would_free_bytes: Option<u64>,
}

#[derive(Serialize, ToSchema)]
pub struct KeptBody {
    id: String,
    created_at: String,
    /// Why it stays, such as `newest-complete`, `daily`.
    #[schema(value_type = Vec<String>)]
    reasons: Vec<Reason>,
}

#[derive(Serialize, ToSchema)]
pub struct RemovedBody {
    id: String,
    created_at: String,
}

/// What rules would do now.
#[derive(Serialize, ToSchema)]
pub struct PreviewBody {
    /// Newest first.
    kept: Vec<KeptBody>,
    /// Newest first.
    removed: Vec<RemovedBody>,
    /// The bytes of objects that nothing else needs, as they are stored. What prunes free differs: packs that are
    /// mostly needed stay whole, and with packs go their own headers and lists. Null where that could not be counted within a few seconds.
    #[schema(required)]
    freed_bytes: Option<u64>,
}

async fn body(app: &App, schedule: Schedule) -> Result<ScheduleBody> {
    let going = schedules::would_remove(app, &schedule).await?;
    let next_runs = schedules::next_runs(app, &schedule);
    Ok(ScheduleBody {
        would_remove: going.snapshots.iter().map(RemovedBody::from).collect(),
        would_free_bytes: going.freed.map(|freed| freed.bytes),
        next_runs_local: next_runs.iter().map(|at_ms| schedule.timing.local_rfc3339(*at_ms)).collect(),
        next_runs: next_runs.into_iter().map(rfc3339).collect(),
        frequency: schedule.timing.frequency(),
        weekday: schedule.timing.weekday(),
        time: schedule.timing.time(),
        timezone: schedule.timing.timezone().to_owned(),
        keep: schedule.keep.into(),
        words: schedule.timing.to_string(),
        last_missed: schedule.last_missed_ms.map(rfc3339),
        missed_runs: schedule.missed_runs,
        missed_reason: schedules::missed_because(&schedule),
    })
}

impl From<&Snapshot> for RemovedBody {
    fn from(snapshot: &Snapshot) -> Self {
        Self { id: snapshot.id.to_string(), created_at: snapshots::created_at(&snapshot.manifest) }
    }
}

/// A database's schedule.
#[utoipa::path(
    get, path = "/databases/{id}/schedule", tag = "schedules",
    params(("id" = String, Path)),
    responses((status = 200, description = "The schedule; 404 if there is none", body = ScheduleBody)),
)]
pub async fn get(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(id): Path<DatabaseId>,
) -> Result<axum::Json<ScheduleBody>> {
    let found = schedules::find(&app, visitor.user_id, id).await?;
    let schedule = found.ok_or_else(Problem::not_found)?;
    Ok(axum::Json(body(&app, schedule).await?))
}

/// Sets a database's schedule, in place of the one before.
#[utoipa::path(
    put, path = "/databases/{id}/schedule", tag = "schedules",
    params(("id" = String, Path)),
    request_body = NewScheduleBody,
    responses((status = 200, description = "As it is now", body = ScheduleBody)),
)]
pub async fn set(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(id): Path<DatabaseId>,
    Json(new): Json<NewScheduleBody>,
) -> Result<axum::Json<ScheduleBody>> {
    let schedule = schedules::set(&app, visitor.user_id, id, new.into()).await?;
    Ok(axum::Json(body(&app, schedule).await?))
}

/// Removes a database's schedule. Its snapshots stay.
#[utoipa::path(
    delete, path = "/databases/{id}/schedule", tag = "schedules",
    params(("id" = String, Path)),
    responses((status = 204, description = "Gone")),
)]
pub async fn remove(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(id): Path<DatabaseId>,
) -> Result<StatusCode> {
    schedules::remove(&app, visitor.user_id, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a schedule's rules would keep and remove of the snapshots that are there. Changes nothing.
#[utoipa::path(
    post, path = "/databases/{id}/schedule/preview", tag = "schedules",
    params(("id" = String, Path)),
    request_body = NewScheduleBody,
    responses((status = 200, description = "What would stay and what would go", body = PreviewBody)),
)]
pub async fn preview(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(id): Path<DatabaseId>,
    Json(new): Json<NewScheduleBody>,
) -> Result<axum::Json<PreviewBody>> {
    let preview = schedules::preview(&app, visitor.user_id, id, &new.into()).await?;
    let freed = schedules::freed(&app, visitor.user_id, id, &preview).await?;
    let kept = preview.kept.into_iter().map(|(snapshot, reasons)| KeptBody {
        id: snapshot.id.to_string(),
        created_at: snapshots::created_at(&snapshot.manifest),
        reasons,
    });
    let removed = preview.removed.iter().map(RemovedBody::from).collect();
    Ok(axum::Json(PreviewBody { kept: kept.collect(), removed, freed_bytes: freed.map(|freed| freed.bytes) }))
}
