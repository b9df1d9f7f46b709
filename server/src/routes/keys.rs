//! The keys of a project, and opening storage that was there before.

use axum::Form;
use axum::extract::{Path, State};
use axum::response::Response;
use engine::repo::SlotKind;
use serde::Deserialize;
use web::pages::recovery_key::{self, RecoveryKey};
use web::pages::settings::{self, Key, KeyKind, Settings};
use web::pages::{Named, storage};
use web::urls;
use zeroize::Zeroizing;

use super::place::id;
use super::{again, html, see_other, shell, shown};
use crate::app::App;
use crate::auth::{PageUser, Visitor};
use crate::error::{Problem, Result};
use crate::ids::ProjectId;
use crate::meta::{PageRequest, Project};
use crate::service::{existing, keys, projects};

/// The kind of key to add.
#[derive(Deserialize)]
pub struct Wanted {
    kind: String,
}

/// What is typed to remove a key.
#[derive(Deserialize)]
pub struct Removal {
    confirm: String,
}

/// A key as somebody typed it; empty for this server's own.
#[derive(Deserialize)]
pub struct Typed {
    recovery_key: Zeroizing<String>,
}

/// Makes a recovery key and shows it. No redirect: it cannot be shown again.
pub async fn recovery_key(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    Path(project): Path<String>,
) -> Result<Response> {
    let project = find(&app, &visitor, &project).await?;
    let key = projects::export_recovery_key(&app, visitor.user_id, project.id).await?;
    Ok(show(&app, &visitor, project, key))
}

/// Adds a slot of this server's key, or of KMS.
pub async fn add(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    Path(project): Path<String>,
    Form(wanted): Form<Wanted>,
) -> Result<Response> {
    let project = find(&app, &visitor, &project).await?;
    let kind = match wanted.kind.as_str() {
        "server" => SlotKind::Server,
        "kms" => SlotKind::Kms,
        _ => return Err(Problem::invalid("kind", "Use the page's own buttons.")),
    };
    let added = keys::add(&app, visitor.user_id, project.id, kind).await.map(drop);
    settled(&app, &visitor, project, added).await
}

/// Replaces a slot. A new recovery key is shown.
pub async fn rotate(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    Path((project, slot)): Path<(String, String)>,
) -> Result<Response> {
    let project = find(&app, &visitor, &project).await?;
    match keys::rotate(&app, visitor.user_id, project.id, &slot).await {
        Ok(made) => match made.recovery_key {
            Some(key) => Ok(show(&app, &visitor, project, key)),
            None => Ok(see_other(&urls::settings(&project.id.to_string()))),
        },
        Err(problem) => settled(&app, &visitor, project, Err(problem)).await,
    }
}

/// Removes a slot.
pub async fn remove(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    Path((project, slot)): Path<(String, String)>,
    Form(removal): Form<Removal>,
) -> Result<Response> {
    let project = find(&app, &visitor, &project).await?;
    let wanted = Key::confirmation_of(&slot);
    let removed = if removal.confirm.trim() == wanted {
        keys::remove(&app, visitor.user_id, project.id, &slot).await
    } else {
        let problem = Problem::invalid("confirm", format!("Type {wanted} to remove the key."));
        Err(keys::not_confirmed(&app, visitor.user_id, project.id, &slot, problem).await)
    };
    settled(&app, &visitor, project, removed).await
}

/// Begins a new data key.
pub async fn begin_epoch(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    Path(project): Path<String>,
) -> Result<Response> {
    let project = find(&app, &visitor, &project).await?;
    let begun = keys::begin_epoch(&app, visitor.user_id, project.id).await.map(drop);
    settled(&app, &visitor, project, begun).await
}

/// The form that opens existing storage.
pub async fn storage_form(State(app): State<App>, PageUser(visitor): PageUser) -> Result<Response> {
    Ok(html(storage::page(&storage_view(&app, &visitor).await?)))
}

/// Opens what a key opens, and goes to the projects.
pub async fn open_storage(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    Form(typed): Form<Typed>,
) -> Result<Response> {
    let key = Some(typed.recovery_key.trim()).filter(|key| !key.is_empty());
    match existing::open(&app, visitor.user_id, key).await {
        Ok(_) => Ok(see_other(urls::PROJECTS)),
        Err(problem) if problem.status.is_server_error() => Err(problem),
        Err(problem) => {
            let view = storage_view(&app, &visitor).await?;
            let view = storage::Storage { problem: Some(shown(&problem)), ..view };
            Ok(again(&problem, storage::page(&view)))
        }
    }
}

async fn storage_view(app: &App, visitor: &Visitor) -> Result<storage::Storage> {
    let one = PageRequest { after: None, limit: 1 };
    Ok(storage::Storage {
        shell: shell(app, visitor),
        unclaimed: existing::unclaimed(app).await?.len(),
        locked: existing::locked(app, visitor.user_id)
            .await?
            .into_iter()
            .map(|project| project.name)
            .collect(),
        may_use_own_keys: projects::list(app, visitor.user_id, one).await?.items.is_empty(),
        problem: None,
    })
}

/// A project's settings.
pub async fn settings_view(app: &App, visitor: &Visitor, project: Project) -> Result<Settings> {
    let keys::Keys { slots, epoch } = keys::list(app, visitor.user_id, project.id).await?;
    let keys = slots.into_iter().map(|slot| Key {
        slot: slot.id.to_string(),
        kind: match slot.kind {
            Some(SlotKind::Server) => KeyKind::Server,
            Some(SlotKind::Kms) => KeyKind::Kms,
            Some(SlotKind::Recovery) => KeyKind::Recovery,
            None => KeyKind::Damaged,
        },
        kms_key_id: slot.kms_key_id,
        usable: slot.opens,
    });
    Ok(Settings {
        shell: shell(app, visitor),
        created_ms: project.created_ms,
        recovery_key_ms: project.recovery_key_ms,
        recovery_key_lost: project.recovery_key_lost,
        keys: keys.collect(),
        epoch,
        has_kms: app.config.kms.is_some(),
        problem: None,
        project: Named::new(project.id.to_string(), project.name),
    })
}

async fn find(app: &App, visitor: &Visitor, project: &str) -> Result<Project> {
    projects::find(app, visitor.user_id, id(ProjectId::parse, project)?).await
}

fn show(app: &App, visitor: &Visitor, project: Project, key: String) -> Response {
    let project = Named::new(project.id.to_string(), project.name);
    html(recovery_key::page(&RecoveryKey { shell: shell(app, visitor), project, key }))
}

/// The settings after something was done, or with why it was not.
async fn settled(app: &App, visitor: &Visitor, project: Project, done: Result<()>) -> Result<Response> {
    match done {
        Ok(()) => Ok(see_other(&urls::settings(&project.id.to_string()))),
        Err(problem) => {
            let view = settings_view(app, visitor, project).await?;
            Ok(again(&problem, settings::page(&Settings { problem: Some(shown(&problem)), ..view })))
        }
    }
}
