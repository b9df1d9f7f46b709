//! The running program's parts, shared by every request and job.

use std::net::SocketAddr;
use std::ops::Deref;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use engine::clock::{Clock, Entropy, System};
use engine::kms::Kms;
use engine::repo::{Keyring, UnlockKey};
use engine::store::Storage;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::auth::{Origin, Passwords, Rotations, Throttle, TokenKeys};
use crate::config::Config;
use crate::error::causes;
use crate::jobs::Queue;
use crate::live_readings::{LiveReadings, Previews};
use crate::meta::{self, Meta};
use crate::metrics::Metrics;
use crate::repositories::Repositories;
use crate::server_key::{self, KeyFileError, Purpose, Sealer, ServerKey};
use crate::service::{self, audit::Readings};

const FIFTEEN_MINUTES_MS: u64 = 15 * 60 * 1000;

/// A handle to all of it; cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Parts>);

pub struct Parts {
    pub config: Config,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub meta: Meta,
    pub storage: Storage,
    pub repositories: Repositories,
    pub live_readings: LiveReadings,
    /// What planned restores in place would change.
    pub previews: Previews,
    pub queue: Queue,
    pub passwords: Passwords,
    pub token_keys: TokenKeys,
    /// Logins by account and address: slows the guessing of one password.
    pub logins: Throttle<(String, Origin)>,
    /// Failures by address: slows the trying of one password on many accounts.
    pub addresses: Throttle<Origin>,
    pub rotations: Rotations,
    pub credentials: Sealer,
    pub summaries: Sealer,
    pub sign_ins: Sealer,
    pub metrics: Metrics,
    pub readings: Readings,
    /// Cancelled once: no new jobs, running ones stop.
    pub stopping: CancellationToken,
    /// Cancelled when they have stopped: nothing more is to be told of them.
    pub drained: CancellationToken,
    /// Where it is reached; known once it listens.
    pub address: OnceLock<SocketAddr>,
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// Why the server does not start; `Display` says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    #[error("the data folder is in use by another dbsnap: stop it, or set DBSNAP_DATA_DIR")]
    InUse,
    #[error(
        "the server key is not the one this data folder was made with: point DBSNAP_SERVER_KEY_FILE at that one"
    )]
    OtherKey,
    #[error(
        "the metadata {path} cannot be opened: {error}. See that its folder is there, takes writes and has room"
    )]
    Metadata { path: String, error: meta::Error },
    #[error(transparent)]
    Meta(meta::Error),
    #[error("the storage {storage} cannot be used: {reason}")]
    Storage { storage: String, reason: String },
    #[error("starting failed: {0}")]
    Other(String),
}

impl StartError {
    fn opening(path: &Path, error: meta::Error) -> Self {
        match error {
            meta::Error::Store(store) if matches!(*store, redb::Error::DatabaseAlreadyOpen) => Self::InUse,
            error if error.is_io() => Self::Metadata { path: path.display().to_string(), error },
            other => Self::Meta(other),
        }
    }

    pub(crate) fn storage(config: &Config, error: &engine::Error) -> Self {
        let help = error.help().map(|help| format!(". {help}")).unwrap_or_default();
        Self::Storage { storage: config.storage.clone(), reason: format!("{}{help}", causes(error)) }
    }
}

impl App {
    /// Opens what `config` names, and puts in order what a crash left.
    pub async fn open(config: Config) -> Result<Self, StartError> {
        Self::open_with(config, Arc::new(System)).await
    }

    /// As [`App::open`], by a clock of one's own.
    pub async fn open_with(config: Config, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        let entropy: Arc<dyn Entropy> = Arc::new(System);
        let metadata = config.data_dir.join("meta.redb");
        let meta = open_meta(&metadata).await?;
        let kms = kms(&config).await;
        let server_key = unlock_meta(&config, &meta, kms.as_ref(), entropy.as_ref(), clock.now_ms()).await?;
        let server_id = meta.server_id(entropy.as_ref()).await.map_err(StartError::Meta)?;
        let storage =
            Storage::parse(&config.storage).map_err(|error| StartError::storage(&config, &error))?;
        let storage = storage.owned_by(server_id);
        let keyring = Keyring::new(UnlockKey::new(server_key.bytes()));
        let keyring = kms.into_iter().fold(keyring, Keyring::with_kms);
        let loaded = TokenKeys::load(&meta, &server_key, clock.as_ref(), entropy.as_ref()).await;
        let token_keys = loaded.map_err(|problem| StartError::Other(problem.describe()))?;
        let passwords = Passwords::new(Arc::clone(&entropy));
        let app = Self(Arc::new(Parts {
            repositories: Repositories::new(storage.clone(), keyring, config.data_dir.join("cache")),
            live_readings: LiveReadings::default(),
            previews: Previews::default(),
            queue: Queue::new(config.workers, config.data_dir.join("scratch")),
            passwords,
            token_keys,
            logins: Throttle::new(5, FIFTEEN_MINUTES_MS),
            addresses: Throttle::new(50, FIFTEEN_MINUTES_MS),
            rotations: Rotations::default(),
            credentials: server_key.sealer(Purpose::Credentials),
            summaries: server_key.sealer(Purpose::Summaries),
            sign_ins: server_key.sealer(Purpose::SignIn),
            metrics: Metrics::new(clock.elapsed_ms()),
            readings: Readings::default(),
            stopping: CancellationToken::new(),
            drained: CancellationToken::new(),
            address: OnceLock::new(),
            config,
            clock,
            entropy,
            meta,
            storage,
        }));
        app.recover().await?;
        Ok(app)
    }

    async fn recover(&self) -> Result<(), StartError> {
        let found = match self.meta.ready_projects().await.map_err(StartError::Meta)? {
            // Only a server that has nothing stored yet makes the folder.
            known if known.is_empty() => self.storage.prepare().await,
            known => match self.storage.check().await {
                Err(error) if takes_no_writes(&error) => {
                    tracing::warn!(
                        %error,
                        "the storage takes no writes: what snapshots hold can be looked at, and no more"
                    );
                    self.repositories.check_known(&known).await
                }
                Err(error) => Err(error),
                Ok(()) => self.repositories.check_known(&known).await,
            },
        };
        found.map_err(|error| StartError::storage(&self.config, &error))?;
        let other = |problem: crate::error::Problem| StartError::Other(problem.describe());
        crate::jobs::recover(self).await.map_err(other)?;
        if let Err(problem) = service::damage::recall(self).await {
            // The next verification finds it again.
            problem.log();
        }
        service::projects::remove_unready(self).await.map_err(other)?;
        // What a rotation that was cut off left.
        let removed = server_key::remove_retired(&self.meta, &self.repositories, self.repositories.keyring());
        removed.await.map(drop).map_err(StartError::Meta)
    }

    /// The address browsers use: as the operator says, or as the server listens.
    pub fn public_url(&self) -> Url {
        if let Some(url) = &self.config.public_url {
            return url.clone();
        }
        let address = self.address.get().copied().unwrap_or(self.config.listen);
        let text = match address.ip().is_unspecified() {
            true => format!("http://localhost:{}", address.port()),
            false => format!("http://{address}"),
        };
        Url::parse(&text).expect("because an address and a port make a URL")
    }

    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// Milliseconds that have passed in this process, whatever the calendar was set to meanwhile.
    pub fn elapsed_ms(&self) -> u64 {
        self.clock.elapsed_ms()
    }
}

/// Whether the file system takes no writes, as that of a copy, of a disk in trouble or of a full one.
fn takes_no_writes(error: &engine::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    source.is_some_and(|source| matches!(source.kind(), ReadOnlyFilesystem | StorageFull | QuotaExceeded))
}

pub(crate) async fn open_meta(path: &Path) -> Result<Meta, StartError> {
    patiently(path, Meta::open).await
}

/// Opens the metadata. Whoever has it open may be about to end: a server that is replaced, or what was started
/// from here and has yet to become its own program.
async fn patiently(path: &Path, open: impl Fn(&Path) -> meta::Result<Meta>) -> Result<Meta, StartError> {
    for _ in 0..20 {
        match open(path).map_err(|error| StartError::opening(path, error)) {
            Err(StartError::InUse) => tokio::time::sleep(Duration::from_millis(50)).await,
            opened => return opened,
        }
    }
    Err(StartError::InUse)
}

/// AWS KMS, where it wraps keys.
pub(crate) async fn kms(config: &Config) -> Option<Kms> {
    let kms = config.kms.as_ref()?;
    Some(Kms::new(&kms.key_id, kms.endpoint.as_deref(), None).await)
}

/// The server key that seals `meta`; made on a data folder's first start.
pub(crate) async fn unlock_meta(
    config: &Config,
    meta: &Meta,
    kms: Option<&Kms>,
    entropy: &dyn Entropy,
    now_ms: i64,
) -> Result<ServerKey, StartError> {
    let (file, known) = (&config.server_key_file, meta.key_fingerprint().map_err(StartError::Meta)?);
    server_key::sweep(file);
    // A store without a fingerprint never sealed anything, so a new key harms nothing.
    let key = ServerKey::load(file, kms, known.is_none(), entropy).await?;
    let key = match known {
        None => {
            meta.set_key_fingerprint(key.fingerprint()).await.map_err(StartError::Meta)?;
            key
        }
        Some(known) if known == key.fingerprint() => key,
        Some(known) => server_key::finish(file, kms, &known).await?.ok_or(StartError::OtherKey)?,
    };
    meta.unlock_audit(&key, entropy, now_ms).await.map_err(StartError::Meta)?;
    Ok(key)
}

/// The metadata, for whoever only checks its audit log: neither it nor the server key's file is changed.
pub(crate) async fn read_meta(config: &Config, path: &Path) -> Result<Meta, StartError> {
    let meta = patiently(path, Meta::open_to_read).await?;
    let (file, known) = (&config.server_key_file, meta.key_fingerprint().map_err(StartError::Meta)?);
    let key = server_key::read(file, kms(config).await.as_ref(), known.as_deref()).await?;
    let key = key.ok_or(StartError::OtherKey)?;
    meta.unlock_audit_to_read(&key).await.map_err(StartError::Meta)?;
    Ok(meta)
}
