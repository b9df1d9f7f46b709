//! Taking a slot away, so that the last key stays, whoever else takes others away meanwhile.
//!
//! Who removes a slot says so first, in a file of its own, and only then looks for another slot that
//! opens and that nobody is removing. Of two who remove at the same time one sees the other, since each
//! says it before it looks; both may be refused, and never both succeed. Who dies in between leaves a
//! slot that is not relied on any more, which is safe, too.

use std::collections::BTreeSet;

use repo_format::files;
use repo_format::id::SlotId;

use super::Repository;
use super::keys::{Keyring, no_such_slot};
use crate::clock::random;
use crate::defect::{Defect, is_planted};
use crate::error::{Error, Kind, Result};

impl Repository {
    /// Removes a slot. [`Kind::Conflict`] where the keys that are here would then open no slot any
    /// more. It does not shut out who has copied the root key.
    pub async fn remove_slot(&self, id: SlotId, keys: &Keyring) -> Result<()> {
        let _one_at_a_time = self.0.removing_slot.lock().await;
        if !self.store().list(files::SLOTS).await?.iter().any(|file| file.name == files::slot(id)) {
            return Err(no_such_slot(id));
        }
        self.take_away(id, keys, None).await
    }

    /// Removes a slot, if another one is left: one that opens, or `new`, which was just made.
    pub(super) async fn take_away(&self, id: SlotId, keys: &Keyring, new: Option<SlotId>) -> Result<()> {
        let announcement = files::slot_removal(id, SlotId(random(self.entropy())));
        self.create_random(&announcement, &id.0).await?;
        if let Err(refused) = self.check_another_opens(id, keys, new).await {
            self.withdraw(&announcement).await;
            return Err(refused);
        }
        // When this fails the slot may go yet, and nobody is to rely on it: what was said stays.
        self.store().delete(&files::slot(id)).await?;
        self.withdraw(&announcement).await;
        Ok(())
    }

    async fn check_another_opens(&self, id: SlotId, keys: &Keyring, new: Option<SlotId>) -> Result<()> {
        let listed = self.store().list(files::SLOTS).await?;
        let going: BTreeSet<SlotId> =
            listed.iter().filter_map(|file| files::parse_slot_removal(&file.name)).collect();
        // Read after that listing: what somebody says of a slot is there for as long as the slot is.
        let slots = self.slots(keys).await?;
        let mut others = slots.iter().filter(|slot| slot.id != id && (slot.opens || Some(slot.id) == new));
        let is_relied_on =
            |other: SlotId| is_planted(Defect::RemoveSlotUnannounced) || !going.contains(&other);
        if others.clone().any(|slot| is_relied_on(slot.id)) {
            return Ok(());
        }
        Err(match others.next() {
            None => Error::new(
                Kind::Conflict,
                "this is the last key that this server can open the repository with",
            )
            .with_help("Add another key of the server or of KMS first."),
            Some(_) => Error::new(
                Kind::Conflict,
                "every other key that this server can open the repository with is being removed just now",
            )
            .with_help("Look at the keys that are left and try again. If this stays, add another key first."),
        })
    }

    /// A removal that is over. If its file stays, nobody relies on the slot, which is safe.
    async fn withdraw(&self, announcement: &str) {
        if let Err(error) = self.store().delete(announcement).await {
            tracing::warn!(file = announcement, %error, "the file of a slot's removal stays");
        }
    }
}
