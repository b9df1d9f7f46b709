//! `/projects/{id}/keys` and `/storage`.

use axum::extract::State;
use axum::http::StatusCode;
use engine::repo::{NewSlot, SlotKind};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::extract::{Json, ListQuery, Path, Query};
use super::openapi::ProblemBody;
use crate::api::projects::ProjectBody;
use crate::app::App;
use crate::auth::ApiUser;
use crate::error::{Problem, Result};
use crate::ids::ProjectId;
use crate::service::{existing, keys};

/// What kind of key opens a slot.
#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = SlotKind)]
pub enum Kind {
    Server,
    Kms,
    Recovery,
}

impl From<SlotKind> for Kind {
    fn from(kind: SlotKind) -> Self {
        match kind {
            SlotKind::Server => Self::Server,
            SlotKind::Kms => Self::Kms,
            SlotKind::Recovery => Self::Recovery,
        }
    }
}

impl From<Kind> for SlotKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Server => Self::Server,
            Kind::Kms => Self::Kms,
            Kind::Recovery => Self::Recovery,
        }
    }
}

#[derive(Serialize, ToSchema)]
pub struct SlotBody {
    slot: String,
    /// Absent where the slot's file is damaged.
    kind: Option<Kind>,
    kms_key_id: Option<String>,
    /// Whether this server opened it just now.
    usable: bool,
}

#[derive(Serialize, ToSchema)]
pub struct Keys {
    items: Vec<SlotBody>,
    next_cursor: Option<String>,
    /// The data key that new records are sealed under.
    epoch: u32,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    kind: Kind,
}

#[derive(Serialize, ToSchema)]
pub struct MadeSlot {
    slot: String,
    /// Shown this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    recovery_key: Option<String>,
}

impl From<NewSlot> for MadeSlot {
    fn from(made: NewSlot) -> Self {
        Self { slot: made.id.to_string(), recovery_key: made.recovery_key }
    }
}

#[derive(Serialize, ToSchema)]
pub struct Epoch {
    epoch: u32,
}

#[derive(Serialize, ToSchema)]
pub struct Storage {
    /// Repositories that no project here is of.
    unclaimed: usize,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OpenStorage {
    /// Without one, this server's own keys are tried.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    recovery_key: Option<Zeroizing<String>>,
}

#[derive(Serialize, ToSchema)]
pub struct Opened {
    projects: Vec<ProjectBody>,
}

/// The slots that hold the root key, wrapped.
#[utoipa::path(
    get, path = "/projects/{id}/keys", tag = "keys",
    params(("id" = String, Path), ListQuery),
    responses((status = 200, description = "The slots that open the repository", body = Keys)),
)]
pub async fn list(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(id): Path<ProjectId>,
    Query(query): Query<ListQuery>,
) -> Result<axum::Json<Keys>> {
    let (limit, after) = query.limit_and_cursor()?;
    let keys::Keys { slots, epoch } = keys::list(&app, visitor.user_id, id).await?;
    let start = match after {
        None => 0,
        Some(after) => {
            let at = slots.iter().position(|slot| slot.id.to_string() == after);
            at.ok_or_else(Problem::wrong_cursor)? + 1
        }
    };
    let more = slots.len() - start > limit;
    let items = slots.into_iter().skip(start).take(limit).map(|slot| SlotBody {
        slot: slot.id.to_string(),
        kind: slot.kind.map(Kind::from),
        kms_key_id: slot.kms_key_id,
        usable: slot.opens,
    });
    let items: Vec<SlotBody> = items.collect();
    let next_cursor = if more { items.last().map(|slot| slot.slot.clone()) } else { None };
    Ok(axum::Json(Keys { items, next_cursor, epoch }))
}

/// Adds a slot.
#[utoipa::path(
    post, path = "/projects/{id}/keys", tag = "keys",
    params(("id" = String, Path)),
    request_body = NewKey,
    responses((status = 201, description = "Added", body = MadeSlot), (status = 422, description = "The server has no key of this kind", body = ProblemBody), (status = 503, description = "AWS KMS does not answer", body = ProblemBody)),
)]
pub async fn add(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(id): Path<ProjectId>,
    Json(body): Json<NewKey>,
) -> Result<(StatusCode, axum::Json<MadeSlot>)> {
    let made = keys::add(&app, visitor.user_id, id, body.kind.into()).await?;
    Ok((StatusCode::CREATED, axum::Json(made.into())))
}

/// Replaces a slot by a new one of its kind.
#[utoipa::path(
    post, path = "/projects/{id}/keys/{slot}/rotate", tag = "keys",
    params(("id" = String, Path), ("slot" = String, Path)),
    responses((status = 201, description = "Replaced", body = MadeSlot), (status = 404, description = "No such slot", body = ProblemBody), (status = 409, description = "Nothing else would open the repository", body = ProblemBody), (status = 422, description = "The server has no key of this kind", body = ProblemBody)),
)]
pub async fn rotate(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path((id, slot)): Path<(ProjectId, String)>,
) -> Result<(StatusCode, axum::Json<MadeSlot>)> {
    let made = keys::rotate(&app, visitor.user_id, id, &slot).await?;
    Ok((StatusCode::CREATED, axum::Json(made.into())))
}

/// Removes a slot.
#[utoipa::path(
    delete, path = "/projects/{id}/keys/{slot}", tag = "keys",
    params(("id" = String, Path), ("slot" = String, Path)),
    responses((status = 204, description = "Gone"), (status = 409, description = "Nothing else would open the repository", body = ProblemBody)),
)]
pub async fn remove(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path((id, slot)): Path<(ProjectId, String)>,
) -> Result<StatusCode> {
    keys::remove(&app, visitor.user_id, id, &slot).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Begins a new data key.
#[utoipa::path(
    post, path = "/projects/{id}/keys/epoch", tag = "keys",
    params(("id" = String, Path)),
    responses((status = 201, description = "New records are sealed under it", body = Epoch)),
)]
pub async fn begin_epoch(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(id): Path<ProjectId>,
) -> Result<(StatusCode, axum::Json<Epoch>)> {
    let epoch = keys::begin_epoch(&app, visitor.user_id, id).await?;
    Ok((StatusCode::CREATED, axum::Json(Epoch { epoch })))
}

/// What the storage holds that is of no project here.
#[utoipa::path(
    get, path = "/storage", tag = "keys",
    responses((status = 200, description = "What the storage holds that is of no project here", body = Storage)),
)]
pub async fn storage(State(app): State<App>, ApiUser(_): ApiUser) -> Result<axum::Json<Storage>> {
    Ok(axum::Json(Storage { unclaimed: existing::unclaimed(&app).await?.len() }))
}

/// Makes projects of what the storage holds.
#[utoipa::path(
    post, path = "/storage/open", tag = "keys",
    request_body = OpenStorage,
    responses((status = 200, description = "The projects made of it", body = Opened)),
)]
pub async fn open_storage(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Json(body): Json<OpenStorage>,
) -> Result<axum::Json<Opened>> {
    let key = body.recovery_key.as_ref().map(|key| key.as_str());
    let projects = existing::open(&app, visitor.user_id, key).await?;
    Ok(axum::Json(Opened { projects: projects.into_iter().map(ProjectBody::from).collect() }))
}
