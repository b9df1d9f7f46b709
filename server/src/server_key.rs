//! The server key: 32 random bytes in a file, and the sealing of what metadata must not show.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aes_gcm_siv::aead::{Aead, KeyInit, Payload};
use aes_gcm_siv::{Aes256GcmSiv, Nonce};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use engine::clock::{Entropy, System};
use engine::kms::Kms;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::private::{self, folder_of};

mod rotation;
mod wrapped;

pub use rotation::{Rotated, finish, read, remove_retired, rotate};

const NONCE_LEN: usize = 12;
/// What the names of key files begin with that are being written; sixteen hexadecimal digits follow.
const TEMPORARY: &str = ".server-key-";

/// Why the key file cannot be used; `Display` says what to do.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error(
        "the server key {path} can be read by others (mode {mode:03o}): run `chmod 600 {path}`, and replace the key \
         if somebody may have copied it"
    )]
    TooOpen { path: PathBuf, mode: u32 },
    #[error("the server key {path} holds {found} bytes instead of 32: restore it from your copy")]
    WrongSize { path: PathBuf, found: u64 },
    #[error(
        "the server key {path} is missing, but the data folder was made with one: restore it from your copy, or point \
         DBSNAP_SERVER_KEY_FILE at it. Without a copy, an empty data folder and the projects' recovery keys give the \
         snapshots back (docs/OPERATIONS.md)"
    )]
    Missing { path: PathBuf },
    #[error("the server key was wrapped by AWS KMS ({path}): set DBSNAP_KMS_KEY_ID")]
    Wrapped { path: PathBuf },
    #[error("the wrapped server key {path} is damaged: restore it from your copy")]
    Damaged { path: PathBuf },
    #[error("{0}")]
    Kms(String),
    #[error("the server key {path} cannot be used: {error}")]
    Io { path: PathBuf, error: io::Error },
}

/// The key everything else is derived from. Shared, wiped when the last owner goes.
#[derive(Clone)]
pub struct ServerKey(Arc<Zeroizing<[u8; 32]>>);

impl ServerKey {
    /// The key of the file `path`, wrapped by KMS where there is one.
    pub async fn load(
        path: &Path,
        kms: Option<&Kms>,
        may_create: bool,
        entropy: &dyn Entropy,
    ) -> Result<Self, KeyFileError> {
        match kms {
            None => Self::load_plain(path, may_create, entropy),
            Some(kms) => Self::load_wrapped(path, kms, may_create).await,
        }
    }

    /// As [`load`](Self::load), and nothing is made or wrapped.
    async fn read(path: &Path, kms: Option<&Kms>) -> Result<Self, KeyFileError> {
        let wrapped = match kms {
            Some(kms) => wrapped::load(path, kms).await?,
            None => None,
        };
        // Never made here.
        wrapped.map_or_else(|| Self::load_plain(path, false, &System), |key| Ok(Self(Arc::new(key))))
    }

    /// The key in `path`. A missing file is made if `may_create`: on a data folder's first start
    /// only, since later a new key would open nothing that is stored.
    fn load_plain(path: &Path, may_create: bool, entropy: &dyn Entropy) -> Result<Self, KeyFileError> {
        let io_error = |error| KeyFileError::Io { path: path.to_owned(), error };
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound && wrapped::path(path).exists() => {
                return Err(KeyFileError::Wrapped { path: wrapped::path(path) });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && may_create => {
                create(path, entropy).map_err(io_error)?;
                File::open(path).map_err(io_error)?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(KeyFileError::Missing { path: path.to_owned() });
            }
            Err(error) => return Err(io_error(error)),
        };
        let metadata = file.metadata().map_err(io_error)?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyFileError::TooOpen { path: path.to_owned(), mode });
        }
        if metadata.len() != 32 {
            return Err(KeyFileError::WrongSize { path: path.to_owned(), found: metadata.len() });
        }
        let mut key = Zeroizing::new([0; 32]);
        file.read_exact(key.as_mut()).map_err(io_error)?;
        Ok(Self(Arc::new(key)))
    }

    /// The key that AWS KMS wraps, from the file beside `path`. A missing file is made if
    /// `may_create`. A key that is in `path` itself, from before KMS was used, stays the key and is
    /// wrapped.
    async fn load_wrapped(path: &Path, kms: &Kms, may_create: bool) -> Result<Self, KeyFileError> {
        if let Some(key) = wrapped::load(path, kms).await? {
            return Ok(Self(Arc::new(key)));
        }
        if path.exists() {
            // Never made here: it is there.
            let plain = Self::load_plain(path, false, &System)?;
            wrapped::store(path, kms, Some(&plain.bytes())).await?;
            tracing::warn!(path = %path.display(), "the server key is wrapped by KMS now; delete the plain file");
            return Ok(plain);
        }
        if may_create {
            return Ok(Self(Arc::new(wrapped::store(path, kms, None).await?)));
        }
        Err(KeyFileError::Missing { path: path.to_owned() })
    }

    /// The bytes, for the engine's key slots.
    pub fn bytes(&self) -> [u8; 32] {
        **self.0
    }

    /// A value that shows whether a data folder was made with this key, and nothing else of it.
    pub fn fingerprint(&self) -> String {
        let hash = blake3::derive_key("dbsnap 2026-01 server key fingerprint", self.0.as_slice());
        STANDARD_NO_PAD.encode(&hash[..12])
    }

    /// The sealing key for one purpose.
    pub fn sealer(&self, purpose: Purpose) -> Sealer {
        let mut key = blake3::derive_key(purpose.context(), self.0.as_slice());
        let cipher = Aes256GcmSiv::new(&key.into());
        key.zeroize();
        Sealer(cipher)
    }
}

fn create(path: &Path, entropy: &dyn Entropy) -> io::Result<()> {
    let mut key = Zeroizing::new([0; 32]);
    entropy.fill(key.as_mut());
    create_file(path, key.as_slice(), entropy)
}

/// Creates the file whole or not at all: a crash leaves a temporary name, never a short key.
fn create_file(path: &Path, content: &[u8], entropy: &dyn Entropy) -> io::Result<()> {
    let folder = folder_of(path);
    let mut suffix = [0; 8];
    entropy.fill(&mut suffix);
    let temporary = folder.join(format!("{TEMPORARY}{:016x}", u64::from_be_bytes(suffix)));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    let linked = written.and_then(|()| std::fs::hard_link(&temporary, path));
    std::fs::remove_file(&temporary)?;
    linked?;
    File::open(folder)?.sync_all()
}

/// Removes what a program that was killed while it made a key left beside it, which may be a copy of the key.
/// Only for whoever has the data folder to itself.
pub fn sweep(key_file: &Path) {
    private::sweep(folder_of(key_file), |name| {
        let digits = name.strip_prefix(TEMPORARY);
        digits.is_some_and(|digits| digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
    });
}

/// What a sealed value is; values of one purpose never open as another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Database URLs.
    Credentials,
    /// Summaries of customers' data: diff summaries, restore plans.
    Summaries,
    /// Keys that sign access tokens.
    TokenKeys,
    /// What a browser carries while it signs in with a provider.
    SignIn,
    /// The key that seals entries of the audit log.
    Audit,
}

impl Purpose {
    fn context(self) -> &'static str {
        match self {
            Self::Credentials => "dbsnap 2026-01 sealed credentials",
            Self::Summaries => "dbsnap 2026-01 sealed summaries",
            Self::TokenKeys => "dbsnap 2026-01 sealed token keys",
            Self::SignIn => "dbsnap 2026-01 sealed sign-in",
            Self::Audit => "dbsnap 2026-01 sealed audit key",
        }
    }
}

/// A sealed value as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sealed(Vec<u8>);

impl From<Sealed> for String {
    fn from(sealed: Sealed) -> Self {
        STANDARD_NO_PAD.encode(&sealed.0)
    }
}

impl TryFrom<String> for Sealed {
    type Error = base64::DecodeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        STANDARD_NO_PAD.decode(text).map(Self)
    }
}

/// A sealed value that does not open: it was changed, or sealed by another key or for another owner.
#[derive(Debug, thiserror::Error)]
#[error("a sealed value does not open with this server key")]
pub struct SealBroken;

/// Seals and opens values of one purpose. Each is bound to its owner's id.
#[derive(Clone)]
pub struct Sealer(Aes256GcmSiv);

impl Sealer {
    /// Seals `plain` for `owner`.
    pub fn seal(&self, owner: &str, plain: &[u8], entropy: &dyn Entropy) -> Sealed {
        let mut sealed = vec![0; NONCE_LEN];
        entropy.fill(&mut sealed);
        let nonce = Nonce::try_from(&sealed[..]).expect("because the buffer has a nonce's length");
        let payload = Payload { msg: plain, aad: owner.as_bytes() };
        let body =
            self.0.encrypt(&nonce, payload).expect("because values are far below the cipher's 64 GiB limit");
        sealed.extend_from_slice(&body);
        Sealed(sealed)
    }

    /// Opens what was sealed for `owner`.
    pub fn open(&self, owner: &str, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, SealBroken> {
        let (nonce, body) = sealed.0.split_at_checked(NONCE_LEN).ok_or(SealBroken)?;
        let nonce = Nonce::try_from(nonce).map_err(|_| SealBroken)?;
        let payload = Payload { msg: body, aad: owner.as_bytes() };
        self.0.decrypt(&nonce, payload).map(Zeroizing::new).map_err(|_| SealBroken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::clock::System;

    #[test]
    fn a_key_is_made_once_with_mode_0600() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.key");
        let made = ServerKey::load_plain(&path, true, &System).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
        let again = ServerKey::load_plain(&path, true, &System).unwrap();
        assert_eq!(made.bytes(), again.bytes());
        assert_ne!(made.bytes(), [0; 32]);
    }

    #[test]
    fn what_a_killed_program_left_of_a_key_goes_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.key");
        let names = [
            ".server-key-0123456789abcdef",
            ".server-key-0123",
            ".server-key-0123456789abcdeg",
            "server.key",
        ];
        for name in names {
            std::fs::write(folder.path().join(name), [1; 32]).unwrap();
        }
        sweep(&path);
        let left = names.map(|name| folder.path().join(name).exists());
        assert_eq!(left, [false, true, true, true]);
        sweep(&folder.path().join("no-such-folder").join("server.key"));
    }

    #[test]
    fn an_open_short_or_missing_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.key");
        assert!(matches!(ServerKey::load_plain(&path, false, &System), Err(KeyFileError::Missing { .. })));
        std::fs::write(&path, [1; 31]).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(
            ServerKey::load_plain(&path, true, &System),
            Err(KeyFileError::WrongSize { found: 31, .. })
        ));
        std::fs::write(&path, [1; 32]).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            ServerKey::load_plain(&path, true, &System),
            Err(KeyFileError::TooOpen { mode: 0o640, .. })
        ));
    }

    #[test]
    fn a_sealed_value_opens_only_for_its_owner_and_purpose() {
        let folder = tempfile::tempdir().unwrap();
        let key = ServerKey::load_plain(&folder.path().join("k"), true, &System).unwrap();
        let sealer = key.sealer(Purpose::Credentials);
        let sealed = sealer.seal("database 1", b"postgres://u:p@h/d", &System);
        let stored = serde_json::to_string(&sealed).unwrap();
        assert!(!stored.contains("postgres"));
        let sealed: Sealed = serde_json::from_str(&stored).unwrap();
        assert_eq!(sealer.open("database 1", &sealed).unwrap().as_slice(), b"postgres://u:p@h/d");
        assert!(sealer.open("database 2", &sealed).is_err());
        assert!(key.sealer(Purpose::Summaries).open("database 1", &sealed).is_err());
        let mut changed = sealed.clone();
        *changed.0.last_mut().unwrap() ^= 1;
        assert!(sealer.open("database 1", &changed).is_err());
        assert!(sealer.open("database 1", &Sealed(vec![0; 5])).is_err());
    }
}
