//! `/projects/{id}/keys` and `/storage`.

use axum::extract::State;
use axum::http::StatusCode;
use engine::repo::{NewSlot, SlotKind};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::extract::{Json, Path};
use crate::api::projects::ProjectBody;
use crate::app::App;
use crate::auth::ApiUser;
use crate::error::Result;
use crate::ids::ProjectId;
use crate::service::{existing, keys};

/// What kind of key opens a slot.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
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

#[derive(Serialize)]
pub struct SlotBody {
    slot: String,
    /// Absent where the slot's file is damaged.
    kind: Option<Kind>,
    kms_key_id: Option<String>,
    /// Whether this server opened it just now.
    usable: bool,
}

#[derive(Serialize)]
pub struct Keys {
    items: Vec<SlotBody>,
    next_cursor: Option<String>,
    /// The data key that new records are sealed under.
    epoch: u32,
}

#[derive(Deserialize)]
pub struct NewKey {
    kind: Kind,
}

#[derive(Serialize)]
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

#[derive(Serialize)]
pub struct Epoch {
    epoch: u32,
}

#[derive(Serialize)]
pub struct Storage {
    /// Repositories that no project here is of.
    unclaimed: usize,
}

#[derive(Deserialize)]
pub struct OpenStorage {
    /// Without one, this server's own keys are tried.
    #[serde(default)]
    recovery_key: Option<Zeroizing<String>>,
}

#[derive(Serialize)]
pub struct Opened {
    projects: Vec<ProjectBody>,
}

pub async fn list(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(id): Path<ProjectId>,
) -> Result<axum::Json<Keys>> {
    let keys::Keys { slots, epoch } = keys::list(&app, visitor.user_id, id).await?;
    let items = slots.into_iter().map(|slot| SlotBody {
        slot: slot.id.to_string(),
        kind: slot.kind.map(Kind::from),
        kms_key_id: slot.kms_key_id,
        usable: slot.opens,
    });
    Ok(axum::Json(Keys { items: items.collect(), next_cursor: None, epoch }))
}

pub async fn add(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(id): Path<ProjectId>,
    Json(body): Json<NewKey>,
) -> Result<(StatusCode, axum::Json<MadeSlot>)> {
    let made = keys::add(&app, visitor.user_id, id, body.kind.into()).await?;
    Ok((StatusCode::CREATED, axum::Json(made.into())))
}

pub async fn rotate(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path((id, slot)): Path<(ProjectId, String)>,
) -> Result<(StatusCode, axum::Json<MadeSlot>)> {
    let made = keys::rotate(&app, visitor.user_id, id, &slot).await?;
    Ok((StatusCode::CREATED, axum::Json(made.into())))
}

pub async fn remove(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path((id, slot)): Path<(ProjectId, String)>,
) -> Result<StatusCode> {
    keys::remove(&app, visitor.user_id, id, &slot).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn begin_epoch(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(id): Path<ProjectId>,
) -> Result<(StatusCode, axum::Json<Epoch>)> {
    let epoch = keys::begin_epoch(&app, visitor.user_id, id).await?;
    Ok((StatusCode::CREATED, axum::Json(Epoch { epoch })))
}

pub async fn storage(State(app): State<App>, ApiUser(_): ApiUser) -> Result<axum::Json<Storage>> {
    Ok(axum::Json(Storage { unclaimed: existing::unclaimed(&app).await?.len() }))
}

pub async fn open_storage(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Json(body): Json<OpenStorage>,
) -> Result<axum::Json<Opened>> {
    let key = body.recovery_key.as_ref().map(|key| key.as_str());
    let projects = existing::open(&app, visitor.user_id, key).await?;
    Ok(axum::Json(Opened { projects: projects.into_iter().map(ProjectBody::from).collect() }))
}
