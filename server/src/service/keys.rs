//! The keys that open a project's repository.

use engine::repo::{Keyring, NewSlot, Repository, Slot, SlotKind};
use engine::verify::Damage;
use repo_format::files;
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
    repository.check_there().await?;
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
    let before = repository.slots(&Keyring::default()).await?;
    repository.remove_slot(slot, app.repositories.keyring()).await.map_err(problem)?;
    let was_recovery = before.iter().any(|one| one.id == slot && is_recovery(one));
    if was_recovery && !has_recovery_slot(&repository).await? {
        // Given up, and not lost.
        app.meta.set_recovery_key_made(id, None).await?;
    }
    Ok(())
}

fn is_recovery(slot: &Slot) -> bool {
    slot.kind == Some(SlotKind::Recovery)
}

/// Whether a recovery key opens the repository, for all that a slot's outside tells.
pub async fn has_recovery_slot(repository: &Repository) -> Result<bool> {
    Ok(repository.slots(&Keyring::default()).await?.iter().any(is_recovery))
}

/// Makes a slot for this server's keys where they open none, and says whether it did.
pub async fn ensure_own_slot(app: &App, repository: &Repository) -> Result<bool> {
    let keyring = app.repositories.keyring();
    if repository.slots(keyring).await?.iter().any(|slot| slot.opens) {
        return Ok(false);
    }
    let kind = if app.config.kms.is_some() { SlotKind::Kms } else { SlotKind::Server };
    repository.add_slot(kind, keyring).await?;
    Ok(true)
}

/// As [`ensure_own_slot`], for a repository that these keys opened: without it, it would be locked from the
/// next start on. A slot of KMS that cannot be tried just now is not a lost one.
async fn replace_lost_slot(app: &App, repository: &Repository) -> Result<bool> {
    // The first file in the place of a lost mount would make it look like the storage.
    repository.check_there().await?;
    let slots = repository.slots(app.repositories.keyring()).await?;
    if slots.iter().any(|slot| slot.untried) && !slots.iter().any(|slot| slot.opens) {
        tracing::warn!(repository = %repository.id(), "whether a key slot opens cannot be told without AWS KMS");
        return Ok(false);
    }
    ensure_own_slot(app, repository).await
}

/// After a backup: what it stored is to open at the next start, too. No reason for it to fail.
pub async fn check_own_slot(app: &App, project: ProjectId, repository: &Repository) {
    match replace_lost_slot(app, repository).await {
        Ok(false) => {}
        Ok(true) => tracing::error!(%project, "{SLOT_MADE_ANEW}"),
        Err(problem) => {
            tracing::error!(%project, cause = problem.describe(), "no key slot is known to open the repository");
        }
    }
}

/// What of the keys is lost, for a verification's report. A slot of this server's is made anew.
pub async fn lost(app: &App, id: ProjectId, repository: &Repository) -> Result<Vec<Damage>> {
    let own = match replace_lost_slot(app, repository).await {
        Ok(false) => None,
        Ok(true) => Some(SLOT_MADE_ANEW.to_owned()),
        Err(problem) if problem.kind() == Some(engine::Kind::Keys) => Some(format!(
            "no key slot opens with this server's key, and none could be made: {}",
            problem.describe()
        )),
        Err(problem) => return Err(problem),
    };
    let recovery = is_recovery_key_lost(app, id, repository).await?.then(|| RECOVERY_KEY_LOST.to_owned());
    let damage = |reason| Damage {
        object: files::SLOTS.to_owned(),
        snapshots: Vec::new(),
        collection: String::new(),
        key_range: String::new(),
        reason,
    };
    Ok(own.into_iter().chain(recovery).map(damage).collect())
}

const SLOT_MADE_ANEW: &str = "no key slot opened with this server's key; one was made anew";
const RECOVERY_KEY_LOST: &str =
    "the recovery key that was written down opens nothing any more: make a new one";

/// Whether a recovery key was made whose slot is gone or damaged. It is remembered, so that pages ask for
/// another.
async fn is_recovery_key_lost(app: &App, id: ProjectId, repository: &Repository) -> Result<bool> {
    let project = app.meta.project(id).await?;
    let Some(made_ms) = project.and_then(|project| project.recovery_key_ms) else { return Ok(false) };
    let is_lost = !has_recovery_slot(repository).await?;
    app.meta.set_recovery_key_lost(id, made_ms, is_lost).await?;
    Ok(is_lost)
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
