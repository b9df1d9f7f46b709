//! The keys that open a project's repository.

use engine::repo::{Keyring, NewSlot, Slot, SlotKind};
use repo_format::id::SlotId;

use super::{audit, projects};
use crate::app::App;
use crate::audit::{Event, action};
use crate::error::{Problem, Result};
use crate::ids::{ProjectId, UserId};

/// A project's slots and the epoch that it is in.
pub struct Keys {
    pub slots: Vec<Slot>,
    pub epoch: u32,
}

/// The slots. Each was just tried with this server's keys.
pub async fn list(app: &App, user: UserId, id: ProjectId) -> Result<Keys> {
    projects::find(app, user, id).await?;
    let repository = app.repositories.get(id).await?;
    Ok(Keys { slots: repository.slots(app.repositories.keyring()).await?, epoch: repository.epoch() })
}

/// Adds a slot. The text of a recovery key is in the answer and nowhere else.
pub async fn add(app: &App, user: UserId, id: ProjectId, kind: SlotKind) -> Result<NewSlot> {
    projects::find(app, user, id).await?;
    let made = app.repositories.get(id).await?.add_slot(kind, app.repositories.keyring()).await;
    told(app, user, id, action::KEY_ADD, made.map_err(Problem::from)).await
}

/// Records that a slot was made, and remembers a recovery key that came of it.
async fn told(
    app: &App,
    user: UserId,
    id: ProjectId,
    action: &'static str,
    made: Result<NewSlot>,
) -> Result<NewSlot> {
    let mut event = Event::new(action, audit::project(id));
    if let Ok(made) = &made {
        if made.recovery_key.is_some() {
            app.meta.set_recovery_key_made(id, Some(app.now_ms())).await?;
        }
        event = event.with("slot", made.id.to_string()).with("recovery", made.recovery_key.is_some());
    }
    audit::record(app, user, event, made).await
}

/// Replaces a slot by a new one of its kind.
pub async fn rotate(app: &App, user: UserId, id: ProjectId, slot: &str) -> Result<NewSlot> {
    projects::find(app, user, id).await?;
    let slot = SlotId::parse(slot).ok_or_else(Problem::not_found)?;
    let made = app.repositories.get(id).await?.rotate_slot(slot, app.repositories.keyring()).await;
    told(app, user, id, action::KEY_REPLACE, made.map_err(problem)).await
}

/// Removes a slot, unless this server could then not open the repository any more.
pub async fn remove(app: &App, user: UserId, id: ProjectId, slot: &str) -> Result<()> {
    projects::find(app, user, id).await?;
    let slot = SlotId::parse(slot).ok_or_else(Problem::not_found)?;
    let event = Event::new(action::KEY_REMOVE, audit::project(id)).with("slot", slot.to_string());
    audit::record(app, user, event, remove_slot(app, id, slot).await).await
}

/// Records that a slot's removal was asked for with something else typed than what confirms it.
pub async fn not_confirmed(app: &App, user: UserId, id: ProjectId, slot: &str, problem: Problem) -> Problem {
    let slot = SlotId::parse(slot).map(|slot| slot.to_string());
    let event = Event::new(action::KEY_REMOVE, audit::project(id)).with("slot", slot);
    audit::not_confirmed(app, user, event, problem).await
}

async fn remove_slot(app: &App, id: ProjectId, slot: SlotId) -> Result<()> {
    let repository = app.repositories.get(id).await?;
    repository.remove_slot(slot, app.repositories.keyring()).await.map_err(problem)?;
    look_for_recovery_key(app, id).await
}

/// Asks again for a recovery key where the slot of the one that was made is gone or damaged.
pub async fn look_for_recovery_key(app: &App, id: ProjectId) -> Result<()> {
    let slots = app.repositories.get(id).await?.slots(&Keyring::default()).await?;
    if !slots.iter().any(|slot| slot.kind == Some(SlotKind::Recovery)) {
        app.meta.set_recovery_key_made(id, None).await?;
    }
    Ok(())
}

/// What removing a slot failed with.
fn problem(error: engine::Error) -> Problem {
    match error.kind() {
        engine::Kind::Conflict => Problem::conflict(
            "last-key",
            "The last key stays",
            crate::error::sentences(error.message(), error.help()),
        ),
        _ => error.into(),
    }
}

/// Begins a new epoch: what is stored from now on is sealed under a new data key.
pub async fn begin_epoch(app: &App, user: UserId, id: ProjectId) -> Result<u32> {
    projects::find(app, user, id).await?;
    let repository = app.repositories.get(id).await?;
    let context = engine::Context::new(&app.config.data_dir);
    let begun = repository.begin_epoch(&context).await.map_err(Problem::from);
    let event = Event::new(action::KEY_EPOCH, audit::project(id)).with("epoch", begun.as_ref().ok());
    audit::record(app, user, event, begun).await
}
