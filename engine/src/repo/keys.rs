//! The keys that open a repository, and the slots that are for them.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use repo_format::files;
use repo_format::id::{RepositoryId, SlotId};
use repo_format::keys::{KeySchedule, RootKey};
use repo_format::prune::moment;
use repo_format::slot::{self, Outline, SlotKind, UnlockKey};

use super::Repository;
use crate::clock::{Entropy, random};
use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::kms::{EncryptionContext, Kms};
use crate::store::{Created, Store};

/// The keys that somebody has, to open repositories and to make slots with. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    key: Option<UnlockKey>,
    kms: Option<Kms>,
}

impl Keyring {
    /// One key: a server's, or a recovery key.
    pub fn new(key: UnlockKey) -> Self {
        Self { key: Some(key), kms: None }
    }

    /// What KMS wraps, too. New repositories then get a slot of KMS instead of one of the key.
    #[must_use]
    pub fn with_kms(self, kms: Kms) -> Self {
        Self { kms: Some(kms), ..self }
    }

    /// The kind of slot that a new repository gets.
    fn preferred(&self) -> SlotKind {
        if self.kms.is_some() { SlotKind::Kms } else { SlotKind::Server }
    }

    /// Unwraps the root key, if this slot is for a key that is here.
    async fn unwrap(&self, repository: RepositoryId, id: SlotId, bytes: &[u8]) -> Result<Option<RootKey>> {
        let outline = slot::outline(repository, bytes)?;
        let key = match (outline.kms, &self.kms, &self.key) {
            (Some(wrapped), Some(kms), _) => {
                UnlockKey::new(*kms.unwrap(&wrapped, &kms_context(repository, id)).await?)
            }
            (None, _, Some(key)) => key.clone(),
            _ => return Ok(None),
        };
        match slot::unwrap(repository, id, bytes, &key) {
            Ok(root) => Ok(Some(root)),
            Err(repo_format::Error::WrongKey) => Ok(None),
            Err(error) => Err(Error::damaged(format!("the key slot {id} is damaged: {error}"))),
        }
    }
}

impl From<&UnlockKey> for Keyring {
    fn from(key: &UnlockKey) -> Self {
        Self::new(key.clone())
    }
}

impl From<&Keyring> for Keyring {
    fn from(keyring: &Keyring) -> Self {
        keyring.clone()
    }
}

fn kms_context(repository: RepositoryId, slot: SlotId) -> [(&'static str, String); 3] {
    [
        ("repository", repository.to_string()),
        ("slot", slot.to_string()),
        ("purpose", "dbsnap root key".to_owned()),
    ]
}

/// A slot, as lists show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its id.
    pub id: SlotId,
    /// What kind of key it is for; nothing where its file is damaged.
    pub kind: Option<SlotKind>,
    /// The name of the key in KMS.
    pub kms_key_id: Option<String>,
    /// Whether it was just opened with the keys that are here.
    pub opens: bool,
    /// Whether that could not be tried just now: it is whole, and one of KMS, which was not reached or refused.
    pub untried: bool,
}

/// A slot that was just made.
#[derive(Debug)]
pub struct NewSlot {
    /// Its id.
    pub id: SlotId,
    /// The text of the recovery key that opens it. It cannot be shown again.
    pub recovery_key: Option<String>,
}

impl Repository {
    /// The slots, by id. Each is tried with the keys that are here; one that KMS does not open just
    /// now shows as not opening.
    pub async fn slots(&self, keys: &Keyring) -> Result<Vec<Slot>> {
        let mut slots = Vec::new();
        let commitment = self.keys().root().commitment();
        for (id, bytes) in read_slots(self.store()).await? {
            let root = self.keys().root();
            if slot::is_foreign(self.id(), &bytes, root) {
                continue;
            }
            let whole = slot::prove(self.id(), id, &bytes, root);
            let outline = whole.and_then(|()| slot::outline(self.id(), &bytes)).ok();
            let opened = keys.unwrap(self.id(), id, &bytes).await;
            let opens = matches!(&opened, Ok(Some(root)) if root.commitment() == commitment);
            let untried = outline.is_some() && matches!(&opened, Err(error) if error.kind() != Kind::Damaged);
            if let Err(error) = opened {
                tracing::warn!(slot = %id, %error, "a key slot was not opened");
            }
            let kind = outline.as_ref().map(|outline| outline.kind);
            slots.push(Slot {
                id,
                kind,
                kms_key_id: outline.and_then(|o| o.kms).map(|kms| kms.key_id),
                opens,
                untried,
            });
        }
        Ok(slots)
    }

    /// Makes a slot of a kind, for a key that is here; for a recovery key, a new one is drawn.
    pub async fn add_slot(&self, kind: SlotKind, keys: &Keyring) -> Result<NewSlot> {
        self.check_there().await?;
        if kind == SlotKind::Recovery {
            let key = UnlockKey::new(random(self.entropy()));
            let id = SlotId(random(self.entropy()));
            self.write_slot(id, &kind.into(), &key).await?;
            return Ok(NewSlot { id, recovery_key: Some(key.to_recovery_text().to_string()) });
        }
        let id = write_slot(self.store(), kind, self.id(), self.keys(), keys, self.entropy()).await?;
        Ok(NewSlot { id, recovery_key: None })
    }

    /// Adds a slot with a new recovery key and returns the key's text. It cannot be shown again.
    pub async fn export_recovery_key(&self) -> Result<String> {
        let made = self.add_slot(SlotKind::Recovery, &Keyring::default()).await?;
        made.recovery_key
            .ok_or_else(|| Error::new(Kind::Internal, "a recovery slot was made without its key"))
    }

    /// Replaces a slot by a new one of its kind, with a fresh wrapping and for a recovery key a new
    /// key. The old one goes last.
    pub async fn rotate_slot(&self, id: SlotId, keys: &Keyring) -> Result<NewSlot> {
        let _one_at_a_time = self.0.removing_slot.lock().await;
        let slots = self.slots(keys).await?;
        let old = slots.iter().find(|slot| slot.id == id).ok_or_else(|| no_such_slot(id))?;
        let kind = old.kind.ok_or_else(|| Error::damaged(format!("the key slot {id} is damaged")))?;
        let made = self.add_slot(kind, keys).await?;
        self.take_away(id, keys, Some(made.id)).await?;
        Ok(made)
    }

    /// The epoch that frames are sealed under.
    pub fn epoch(&self) -> u32 {
        self.0.epoch.load(Ordering::Acquire)
    }

    /// Begins the next epoch. What is stored stays as it is, and readable.
    pub async fn begin_epoch(&self, ctx: &Context) -> Result<u32> {
        self.check_there().await?;
        self.refresh_epoch().await?;
        // If the name is taken, somebody else has begun the same epoch.
        self.create_epoch(self.epoch() + 1, ctx.clock.now_ms()).await?;
        self.refresh_epoch().await?;
        Ok(self.epoch())
    }

    /// Creates the file that an epoch begins with, which is sealed under that epoch itself.
    pub(crate) async fn create_epoch(&self, epoch: u32, now_ms: i64) -> Result<Created> {
        let name = files::epoch(epoch);
        let sealed = self.seal_file(&name, epoch, &moment(now_ms))?;
        self.store().create(&name, Bytes::from(sealed)).await
    }

    /// Takes up the newest epoch that somebody has begun. A file that does not open begins none.
    pub(super) async fn refresh_epoch(&self) -> Result<()> {
        let known = self.epoch();
        let listed = self.store().list(files::EPOCHS).await?;
        let newer = listed.iter().rev().filter_map(|file| files::parse_epoch(&file.name));
        for epoch in newer.take_while(|epoch| *epoch > known) {
            let name = files::epoch(epoch);
            match self.open_file(&name, &self.store().read(&name).await?) {
                Ok(_) => {
                    self.0.epoch.fetch_max(epoch, Ordering::AcqRel);
                    break;
                }
                Err(error) => tracing::error!(%error, "the beginning of a key epoch is damaged"),
            }
        }
        Ok(())
    }

    async fn write_slot(&self, id: SlotId, outline: &Outline, key: &UnlockKey) -> Result<()> {
        store_slot(self.store(), id, outline, self.id(), self.keys(), key, self.entropy()).await
    }
}

pub(super) fn no_such_slot(id: SlotId) -> Error {
    Error::new(Kind::NotFound, format!("there is no key slot {id}"))
}

/// Makes a slot for a key of `keys`: the preferred kind for a new repository.
pub(super) async fn first_slot(
    store: &Store,
    repository: RepositoryId,
    keys: &KeySchedule,
    keyring: &Keyring,
    entropy: &dyn Entropy,
) -> Result<SlotId> {
    write_slot(store, keyring.preferred(), repository, keys, keyring, entropy).await
}

async fn write_slot(
    store: &Store,
    kind: SlotKind,
    repository: RepositoryId,
    keys: &KeySchedule,
    keyring: &Keyring,
    entropy: &dyn Entropy,
) -> Result<SlotId> {
    let id = SlotId(random(entropy));
    let (outline, key) = match (kind, &keyring.kms, &keyring.key) {
        (SlotKind::Kms, Some(kms), _) => {
            let context: &EncryptionContext = &kms_context(repository, id);
            let (key, wrapped) = kms.generate(context).await?;
            (Outline { kind, kms: Some(wrapped) }, UnlockKey::new(*key))
        }
        (SlotKind::Kms, None, _) => {
            return Err(Error::new(Kind::Invalid, "this server uses no key of AWS KMS")
                .with_help("Set DBSNAP_KMS_KEY_ID and start the server again."));
        }
        (_, _, Some(key)) => (kind.into(), key.clone()),
        (_, _, None) => return Err(Error::new(Kind::Invalid, "there is no key to make a slot for")),
    };
    store_slot(store, id, &outline, repository, keys, &key, entropy).await?;
    Ok(id)
}

async fn store_slot(
    store: &Store,
    id: SlotId,
    outline: &Outline,
    repository: RepositoryId,
    keys: &KeySchedule,
    key: &UnlockKey,
    entropy: &dyn Entropy,
) -> Result<()> {
    let bytes = slot::wrap(outline, repository, id, keys.root(), key, random(entropy))?;
    match store.create(&files::slot(id), bytes.into()).await? {
        Created::New => Ok(()),
        Created::Taken => Err(Error::new(Kind::Internal, "two random slot ids were equal")),
    }
}

async fn read_slots(store: &Store) -> Result<Vec<(SlotId, Bytes)>> {
    let mut slots = Vec::new();
    for file in store.list(files::SLOTS).await? {
        let Some(id) = file.name.strip_prefix(files::SLOTS).and_then(SlotId::parse) else { continue };
        match store.read(&file.name).await {
            Ok(bytes) => slots.push((id, bytes)),
            // Removed since it was listed.
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(slots)
}

/// Tries every slot, those of KMS last: they cost a request to it. What went wrong with one is told
/// only when no other opens.
pub(super) async fn unlock(store: &Store, repository: RepositoryId, keyring: &Keyring) -> Result<RootKey> {
    let mut slots = read_slots(store).await?;
    slots.sort_by_key(|(_, bytes)| {
        slot::outline(repository, bytes).is_ok_and(|outline| outline.kms.is_some())
    });
    let (mut failed, mut damaged) = (None, None);
    for (id, bytes) in slots {
        match keyring.unwrap(repository, id, &bytes).await {
            Ok(Some(root)) => return Ok(root),
            Ok(None) => {}
            Err(error) if error.kind() == Kind::Damaged => damaged = Some((id, error)),
            Err(error) => failed = Some(error),
        }
    }
    if let Some(error) = failed {
        return Err(error);
    }
    // Another key may open it all the same.
    let locked = |message: String| {
        Error::new(Kind::Locked, message)
            .with_help("Use the server key file it was made with, the key in KMS, or its recovery key.")
    };
    let none = "no key slot of the repository opens with this key";
    Err(match damaged {
        Some((id, error)) => locked(format!("{none}, and the slot {id} is damaged")).with_source(error),
        None => locked(none.to_owned()),
    })
}
