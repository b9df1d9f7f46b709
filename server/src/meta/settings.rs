//! Facts about the store itself.

use engine::clock::Entropy;
use redb::{ReadTransaction, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::rows::{self, SETTINGS};
use super::{Meta, Result};
use crate::ids::ProjectId;
use crate::server_key::Sealed;

pub const VERSION: &str = "schema_version";
const KEY_FINGERPRINT: &str = "server_key_fingerprint";
const TOKEN_KEYS: &str = "token_keys";
const SERVER_ID: &str = "server_id";
const AUDIT_KEY: &str = "audit_key";
const AUDIT_UNSEALED: &str = "audit_unsealed";
const RETIRED_SLOTS: &str = "retired_slots";

/// A key slot for a server key that is not the key any more, until it is removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetiredSlot {
    pub project: ProjectId,
    /// The slot's id.
    pub slot: String,
}

/// The layout that a store was written in; none if it is new.
pub fn version(tx: &WriteTransaction) -> Result<Option<u32>> {
    rows::get(&tx.open_table(SETTINGS)?, VERSION)
}

/// Writes down the layout that a store has from now on.
pub fn set_version(tx: &WriteTransaction, version: u32) -> Result<()> {
    rows::put(tx, SETTINGS, VERSION, &version)
}

/// Says which server key seals this store from now on.
pub fn put_key_fingerprint(tx: &WriteTransaction, fingerprint: &str) -> Result<()> {
    rows::put(tx, SETTINGS, KEY_FINGERPRINT, &fingerprint)
}

/// The sealed key that seals entries of the audit log; none before the first start of a version that has one.
pub fn audit_key(tx: &ReadTransaction) -> Result<Option<Sealed>> {
    rows::get(&tx.open_table(SETTINGS)?, AUDIT_KEY)
}

pub fn put_audit_key(tx: &WriteTransaction, key: &Sealed) -> Result<()> {
    rows::put(tx, SETTINGS, AUDIT_KEY, key)
}

/// Remembers that a version that made no seals wrote the audit log, until it is sealed.
pub fn set_audit_unsealed(tx: &WriteTransaction) -> Result<()> {
    rows::put(tx, SETTINGS, AUDIT_UNSEALED, &true)
}

/// Whether that is remembered.
pub fn is_audit_unsealed(tx: &ReadTransaction) -> Result<bool> {
    Ok(tx.open_table(SETTINGS)?.get(AUDIT_UNSEALED)?.is_some())
}

/// Whether that was remembered; from here on it is not.
pub fn take_audit_unsealed(tx: &WriteTransaction) -> Result<bool> {
    Ok(tx.open_table(SETTINGS)?.remove(AUDIT_UNSEALED)?.is_some())
}

/// Changes the sealed key that seals entries of the audit log, if there is one yet.
pub fn change_audit_key(tx: &WriteTransaction, change: impl FnOnce(&mut Sealed) -> Result<()>) -> Result<()> {
    let found: Option<Sealed> = rows::get(&tx.open_table(SETTINGS)?, AUDIT_KEY)?;
    let Some(mut sealed) = found else { return Ok(()) };
    change(&mut sealed)?;
    rows::put(tx, SETTINGS, AUDIT_KEY, &sealed)
}

/// Gives up the keys that sign access tokens: the next start draws new ones.
pub fn forget_token_keys(tx: &WriteTransaction) -> Result<()> {
    rows::remove(tx, SETTINGS, TOKEN_KEYS)
}

/// Remembers key slots that are to be removed, beside those that are remembered already.
pub fn add_retired_slots(tx: &WriteTransaction, slots: Vec<RetiredSlot>) -> Result<()> {
    change_retired_slots(tx, |known| known.extend(slots))
}

fn change_retired_slots(tx: &WriteTransaction, change: impl FnOnce(&mut Vec<RetiredSlot>)) -> Result<()> {
    let known: Option<Vec<RetiredSlot>> = rows::get(&tx.open_table(SETTINGS)?, RETIRED_SLOTS)?;
    let mut slots = known.unwrap_or_default();
    change(&mut slots);
    rows::put(tx, SETTINGS, RETIRED_SLOTS, &slots)
}

impl Meta {
    /// The fingerprint of the server key this store was made with; none before the first start
    /// is over. Called at start, before there are async threads to spare.
    pub fn key_fingerprint(&self) -> Result<Option<String>> {
        self.store.read(|tx| rows::get(&tx.open_table(SETTINGS)?, KEY_FINGERPRINT))
    }

    /// Remembers which server key seals this store.
    pub async fn set_key_fingerprint(&self, fingerprint: String) -> Result<()> {
        self.write(move |tx| put_key_fingerprint(tx, &fingerprint)).await
    }

    /// What tells this server from others that use the same storage; drawn once.
    pub async fn server_id(&self, entropy: &dyn Entropy) -> Result<[u8; 16]> {
        let mut drawn = [0; 16];
        entropy.fill(&mut drawn);
        self.write(move |tx| {
            let known: Option<[u8; 16]> = rows::get(&tx.open_table(SETTINGS)?, SERVER_ID)?;
            match known {
                Some(known) => Ok(known),
                None => rows::put(tx, SETTINGS, SERVER_ID, &drawn).map(|()| drawn),
            }
        })
        .await
    }

    /// The key slots that are to be removed.
    pub async fn retired_slots(&self) -> Result<Vec<RetiredSlot>> {
        let known: Option<Vec<RetiredSlot>> =
            self.read(|tx| rows::get(&tx.open_table(SETTINGS)?, RETIRED_SLOTS)).await?;
        Ok(known.unwrap_or_default())
    }

    /// Forgets a key slot that was removed.
    pub async fn forget_retired_slot(&self, slot: RetiredSlot) -> Result<()> {
        self.write(move |tx| change_retired_slots(tx, |known| known.retain(|one| *one != slot))).await
    }

    /// The sealed keys that sign access tokens.
    pub async fn token_keys(&self) -> Result<Option<Sealed>> {
        self.read(|tx| rows::get(&tx.open_table(SETTINGS)?, TOKEN_KEYS)).await
    }

    /// Replaces the sealed keys that sign access tokens.
    pub async fn set_token_keys(&self, keys: Sealed) -> Result<()> {
        self.write(move |tx| rows::put(tx, SETTINGS, TOKEN_KEYS, &keys)).await
    }
}
