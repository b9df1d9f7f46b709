//! Replacing the server key by a new one, with the server stopped.
//!
//! What it seals lies in two places: in the metadata, and in the key slots of repositories. The new
//! key is kept beside the old one first (`server.key.next`), then every repository gets a slot for
//! it, then one transaction seals the metadata anew: from there on the new key is the key. A crash
//! before leaves the old one in use, and the command goes on with the key that it left. A crash
//! after leaves the new one beside the old, and the next start puts it in its place.
//!
//! The old key's slots go last. Which they are is written down in that transaction, because nobody could tell
//! them from another server's later; what is still on that list is removed by the next start or rotation.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::clock::{Clock, Entropy, System};
use engine::kms::Kms;
use engine::repo::{Keyring, SlotKind, UnlockKey};
use engine::store::Storage;
use repo_format::id::SlotId;

use super::{KeyFileError, ServerKey, wrapped};
use crate::app::{StartError, kms, unlock_meta};
use crate::config::Config;
use crate::ids::ProjectId;
use crate::meta::{self, Meta, RetiredSlot};
use crate::private::folder_of;
use crate::repositories::Repositories;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// Repositories that the old key opened, and now the new one does.
    pub repositories: usize,
    /// Slots of old keys that could not be removed yet.
    pub slots_left: usize,
}

/// Draws a new server key and puts it in the old one's place.
pub async fn rotate(config: &Config, meta: &Meta) -> Result<Rotated, StartError> {
    let entropy: Arc<dyn Entropy> = Arc::new(System);
    let kms = kms(config).await;
    let old = unlock_meta(config, meta, kms.as_ref(), entropy.as_ref(), System.now_ms()).await?;
    let next_file = next(&config.server_key_file);
    let new = ServerKey::load(&next_file, kms.as_ref(), true, entropy.as_ref()).await?;

    let server_id = meta.server_id(entropy.as_ref()).await.map_err(StartError::Meta)?;
    let storage = Storage::parse(&config.storage).map_err(|error| StartError::storage(config, &error))?;
    let (old_ring, new_ring) = (keyring(&old), keyring(&new));
    let all = kms.into_iter().fold(old_ring.clone(), Keyring::with_kms);
    let repositories = Repositories::new(storage.owned_by(server_id), all, config.data_dir.join("cache"));
    let (mut opened_by_old, mut retired) = (0, Vec::new());
    for project in meta.project_ids().await.map_err(StartError::Meta)? {
        let slots = add_slot(&repositories, project, &old_ring, &new_ring).await;
        let slots = slots.map_err(in_project(project))?;
        opened_by_old += usize::from(!slots.is_empty());
        retired.extend(slots.into_iter().map(|slot| RetiredSlot { project, slot: slot.to_string() }));
    }
    meta.reseal(old, new, retired, entropy).await.map_err(StartError::Meta)?;
    put_in_place(&config.server_key_file)?;
    let slots_left = remove_retired(meta, &repositories, &new_ring).await.map_err(StartError::Meta)?;
    Ok(Rotated { repositories: opened_by_old, slots_left })
}

/// Where the next key is kept until it is the key.
pub(super) fn next(key_file: &Path) -> PathBuf {
    let mut name = OsString::from(key_file);
    name.push(".next");
    PathBuf::from(name)
}

/// Ends a rotation that was interrupted when the metadata was sealed by the next key already: the
/// key, if it is the one with this fingerprint, is put in its place.
pub async fn finish(
    key_file: &Path,
    kms: Option<&Kms>,
    fingerprint: &str,
) -> Result<Option<ServerKey>, KeyFileError> {
    let key = match ServerKey::load(&next(key_file), kms, false, &System).await {
        Ok(key) => key,
        Err(KeyFileError::Missing { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    if key.fingerprint() != fingerprint {
        return Ok(None);
    }
    put_in_place(key_file)?;
    tracing::warn!("an interrupted rotation of the server key was brought to its end");
    Ok(Some(key))
}

/// The server key, for whoever leaves its files as they are: the one with this fingerprint where there is
/// one, also if a rotation was interrupted when it was beside the old one. None if it is another.
pub async fn read(
    key_file: &Path,
    kms: Option<&Kms>,
    fingerprint: Option<&str>,
) -> Result<Option<ServerKey>, KeyFileError> {
    let is_meant = |key: &ServerKey| fingerprint.is_none_or(|known| key.fingerprint() == known);
    let key = ServerKey::read(key_file, kms).await?;
    if is_meant(&key) {
        return Ok(Some(key));
    }
    match ServerKey::read(&next(key_file), kms).await {
        Ok(key) => Ok(Some(key).filter(is_meant)),
        Err(KeyFileError::Missing { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn put_in_place(key_file: &Path) -> Result<(), KeyFileError> {
    let next = next(key_file);
    let io_error = |error| KeyFileError::Io { path: key_file.to_owned(), error };
    for (from, to) in [(next.clone(), key_file.to_owned()), (wrapped::path(&next), wrapped::path(key_file))] {
        match std::fs::rename(from, to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error(error)),
            _ => {}
        }
    }
    File::open(folder_of(key_file)).and_then(|folder| folder.sync_all()).map_err(io_error)
}

fn keyring(key: &ServerKey) -> Keyring {
    Keyring::new(UnlockKey::new(key.bytes()))
}

/// Gives a repository that the old key opens a slot for the new one. Returns the slots of the old one.
async fn add_slot(
    repositories: &Repositories,
    project: ProjectId,
    old: &Keyring,
    new: &Keyring,
) -> crate::error::Result<Vec<SlotId>> {
    let repository = repositories.get(project).await?;
    let slots = repository.slots(old).await?.into_iter();
    let of_old: Vec<SlotId> = slots.filter(|slot| slot.opens).map(|slot| slot.id).collect();
    if !of_old.is_empty() && !repository.slots(new).await?.iter().any(|slot| slot.opens) {
        repository.add_slot(SlotKind::Server, new).await?;
    }
    Ok(of_old)
}

/// Removes the slots of keys that were replaced. One that cannot be removed now is tried again at the next
/// start; says how many these are.
pub async fn remove_retired(meta: &Meta, repositories: &Repositories, keys: &Keyring) -> meta::Result<usize> {
    let (projects, mut left) = (meta.project_ids().await?, 0);
    for retired in meta.retired_slots().await? {
        // A project that is gone has no slots.
        if projects.contains(&retired.project)
            && let Err(problem) = remove_slot(repositories, &retired, keys).await
        {
            let RetiredSlot { project, slot } = &retired;
            let cause = problem.describe();
            tracing::warn!(%project, slot, cause, "the slot of a server key that was replaced stays");
            left += 1;
            continue;
        }
        meta.forget_retired_slot(retired).await?;
    }
    Ok(left)
}

async fn remove_slot(
    repositories: &Repositories,
    retired: &RetiredSlot,
    keys: &Keyring,
) -> crate::error::Result<()> {
    let repository = repositories.get(retired.project).await?;
    let slots = repository.slots(keys).await?.into_iter();
    // One that opens is for a key that counts.
    for slot in slots.filter(|slot| slot.id.to_string() == retired.slot && !slot.opens) {
        repository.remove_slot(slot.id, keys).await?;
    }
    Ok(())
}

fn in_project(project: ProjectId) -> impl FnOnce(crate::error::Problem) -> StartError {
    move |problem| StartError::Other(format!("project {project}: {}", problem.describe()))
}
