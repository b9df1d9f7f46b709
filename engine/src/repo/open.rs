//! Making a repository, and opening one.

use std::path::Path;

use bytes::Bytes;
use repo_format::config::{self, Settings};
use repo_format::files;
use repo_format::id::{ObjectId, RepositoryId};
use repo_format::keys::{KeySchedule, RootKey};

use super::keys::{Keyring, first_slot, unlock};
use super::{FIRST_EPOCH, Repository};
use crate::clock::random;
use crate::context::Context;
use crate::cpu;
use crate::error::{Error, Kind, Result};
use crate::store::{Created, Store};

impl Repository {
    /// Fails if the repository is no longer in its storage, as when a folder was a mount and is none
    /// any more: what would be written there could be opened by nobody.
    pub async fn check_there(&self) -> Result<()> {
        if self.store().holds_config().await? {
            return Ok(());
        }
        Err(Error::new(Kind::Storage, "the repository is no longer in its storage: its config is gone")
            .with_help(
                "Nothing was written there. Bring the storage back: mount the folder again, for example.",
            ))
    }

    /// Makes a new repository in an empty store, with one slot for a key of `keys`. A store that
    /// cannot keep several writers apart is refused. The slot is written before the config: a crash
    /// between leaves no repository rather than one that nothing opens.
    pub async fn create(store: Store, keys: impl Into<Keyring>, cache: &Path, ctx: &Context) -> Result<Self> {
        let keyring = keys.into();
        if store.holds_config().await? {
            return Err(taken());
        }
        let entropy = ctx.entropy.as_ref();
        store.probe(entropy).await?;
        let root = RootKey::new(random(entropy));
        let id = RepositoryId(random(entropy));
        let keys = KeySchedule::new(root);
        let slot = first_slot(&store, id, &keys, &keyring, entropy).await?;
        let commitment = ObjectId(keys.root().commitment());
        let settings = Settings {
            repository: id,
            commitment,
            created_ms: ctx.clock.now_ms(),
            reader_features: Vec::new(),
            writer_features: Vec::new(),
            deleter_features: Vec::new(),
            exclusive: store.is_exclusive(),
        };
        let nonce = random(entropy);
        let bytes =
            cpu::with_sealer(id, FIRST_EPOCH, &keys, |sealer| config::encode(&settings, sealer, nonce))?;
        let bytes = Bytes::from(bytes);
        match store.create(files::CONFIG, bytes.clone()).await? {
            Created::New => {
                // Later than the config, of which there is one only, whoever else makes one just now.
                store.create(files::CONFIG_COPY, bytes).await?;
                let repository = Self::with_keys(store, id, keys, cache, ctx).await?;
                repository.claim(ctx).await?;
                Ok(repository)
            }
            Created::Taken => {
                store.delete(&files::slot(slot)).await?;
                Err(taken())
            }
        }
    }

    /// Opens a repository with a key that one of its slots is for, and takes up its newest epoch. Where
    /// its config is missing or damaged, the copy counts.
    pub async fn open(store: Store, keys: impl Into<Keyring>, cache: &Path, ctx: &Context) -> Result<Self> {
        let keyring = keys.into();
        let (settings, keys) = match read_config(&store, files::CONFIG, &keyring).await {
            Err(error) if DAMAGES.contains(&error.kind()) => {
                let Ok(read) = read_config(&store, files::CONFIG_COPY, &keyring).await else {
                    return Err(error);
                };
                tracing::warn!(repository = %read.0.repository, %error, "the config is lost, its copy is used");
                read
            }
            read => read?,
        };
        check_exclusive(settings.exclusive, store.is_exclusive())?;
        let repository = Self::with_keys(store, settings.repository, keys, cache, ctx).await?;
        repository.claim(ctx).await?;
        repository.refresh_epoch().await?;
        // What the cache kept may be older than the last kill.
        repository.refresh_index().await?;
        Ok(repository)
    }

    /// In a repository for one server only: says that this one uses it, and refuses if another has
    /// said so. Two that begin in the same moment may both be refused, and never both be let in.
    async fn claim(&self, ctx: &Context) -> Result<()> {
        let store = self.store();
        let Some(owner) = store.owner().filter(|_| store.is_exclusive()) else { return Ok(()) };
        let own = files::owner(owner);
        let others = async || -> Result<Option<String>> {
            let listed = store.list(files::OWNERS).await?;
            Ok(listed.into_iter().map(|file| file.name).find(|name| *name != own))
        };
        if let Some(other) = others().await? {
            return Err(in_use(&other));
        }
        let now_ms = ctx.clock.now_ms().to_le_bytes();
        if self.create_file(&own, &now_ms).await?.0 == Created::New
            && let Some(other) = others().await?
        {
            store.delete(&own).await?;
            return Err(in_use(&other));
        }
        Ok(())
    }
}

/// How a config that is missing or damaged shows; with another id in it, no slot opens.
const DAMAGES: [Kind; 3] = [Kind::NotFound, Kind::Damaged, Kind::Locked];

/// Reads the config or its copy, and opens the repository's keys.
async fn read_config(store: &Store, name: &str, keyring: &Keyring) -> Result<(Settings, KeySchedule)> {
    let bytes = store.read(name).await.map_err(|error| match error.kind() {
        Kind::NotFound => Error::new(Kind::NotFound, "there is no repository at this place"),
        _ => error,
    })?;
    let (preamble, sealed) = config::parse_preamble(&bytes)?;
    let keys = KeySchedule::new(unlock(store, preamble.repository, keyring).await?);
    if keys.root().commitment() != preamble.commitment {
        return Err(Error::damaged("the repository's config is of another repository than its slots"));
    }
    let settings = cpu::with_opener(preamble.repository, &keys, |opener| {
        config::open_settings(&preamble, sealed, opener)
    })?;
    Ok((settings, keys))
}

/// Whether config and URL agree on how many servers there may be.
fn check_exclusive(of_repository: bool, of_storage: bool) -> Result<()> {
    let (message, help) = match (of_repository, of_storage) {
        (true, false) => (
            "the repository was made for one server only, and the storage is not marked so",
            "Add exclusive=true to DBSNAP_STORAGE, and make sure that no other server uses it.",
        ),
        (false, true) => (
            "the repository was made for several servers, and the storage is marked for one",
            "Take exclusive=true out of DBSNAP_STORAGE.",
        ),
        _ => return Ok(()),
    };
    Err(Error::new(Kind::InUse, message).with_help(help))
}

fn in_use(owner: &str) -> Error {
    Error::new(Kind::InUse, format!("another server uses this repository, which is for one only ({owner})"))
        .with_help(format!("Stop the other server for good, then delete the file {owner} from the storage."))
}

fn taken() -> Error {
    Error::new(Kind::Conflict, "there is a repository at this place already")
        .with_help("Open it, or choose another place.")
}
