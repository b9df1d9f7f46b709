//! Replacing the server key by a new one, with the server stopped.
//!
//! What it seals lies in two places: in the metadata, and in the key slots of repositories. The new
//! key is kept beside the old one first (`server.key.next`), then every repository gets a slot for
//! it, then one transaction seals the metadata anew: from there on the new key is the key. A crash
//! before leaves the old one in use, and the command goes on with the key that it left. A crash
//! after leaves the new one beside the old, and the next start puts it in its place.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::clock::{Clock, Entropy, System};
use engine::kms::Kms;
use engine::repo::{Keyring, SlotKind, UnlockKey};
use engine::store::Storage;

use super::{KeyFileError, ServerKey, folder_of, wrapped};
use crate::app::{StartError, kms, unlock_meta};
use crate::config::Config;
use crate::ids::ProjectId;
use crate::meta::Meta;
use crate::repositories::Repositories;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// Repositories that the old key opened, and now the new one does.
    pub repositories: usize,
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
    let mut opened_by_old = Vec::new();
    for project in meta.project_ids().await.map_err(StartError::Meta)? {
        if add_slot(&repositories, project, &old_ring, &new_ring).await.map_err(in_project(project))? {
            opened_by_old.push(project);
        }
    }
    meta.reseal(old, new, entropy).await.map_err(StartError::Meta)?;
    put_in_place(&config.server_key_file)?;
    for project in &opened_by_old {
        remove_slots(&repositories, *project, &old_ring, &new_ring).await.map_err(in_project(*project))?;
    }
    Ok(Rotated { repositories: opened_by_old.len() })
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

/// Gives a repository that the old key opens a slot for the new one. Says whether it does.
async fn add_slot(
    repositories: &Repositories,
    project: ProjectId,
    old: &Keyring,
    new: &Keyring,
) -> crate::error::Result<bool> {
    let repository = repositories.get(project).await?;
    let is_open = |slots: Vec<engine::repo::Slot>| slots.iter().any(|slot| slot.opens);
    if !is_open(repository.slots(old).await?) {
        return Ok(false);
    }
    if !is_open(repository.slots(new).await?) {
        repository.add_slot(SlotKind::Server, new).await?;
    }
    Ok(true)
}

async fn remove_slots(
    repositories: &Repositories,
    project: ProjectId,
    old: &Keyring,
    new: &Keyring,
) -> crate::error::Result<()> {
    let repository = repositories.get(project).await?;
    for slot in repository.slots(old).await?.into_iter().filter(|slot| slot.opens) {
        repository.remove_slot(slot.id, new).await?;
    }
    Ok(())
}

fn in_project(project: ProjectId) -> impl FnOnce(crate::error::Problem) -> StartError {
    move |problem| StartError::Other(format!("project {project}: {}", problem.describe()))
}
