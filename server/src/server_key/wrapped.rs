//! The server key as AWS KMS wraps it: the plain key is in memory only.

use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use engine::clock::System;
use engine::kms::{EncryptionContext, Kms};
use repo_format::slot::KmsKey;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{KeyFileError, create_file};
use crate::error::causes;

/// The file's content.
#[derive(Serialize, Deserialize)]
struct Wrapped {
    kms_key_id: String,
    /// Base64.
    ciphertext: String,
}

fn context() -> [(&'static str, String); 1] {
    [("purpose", "dbsnap server key".to_owned())]
}

/// Where the wrapped key of a key file is: `server.key.kms` beside `server.key`.
pub fn path(key_file: &Path) -> PathBuf {
    let mut name = key_file.as_os_str().to_owned();
    name.push(".kms");
    PathBuf::from(name)
}

/// Unwraps the key, if there is one.
pub async fn load(key_file: &Path, kms: &Kms) -> Result<Option<Zeroizing<[u8; 32]>>, KeyFileError> {
    let path = path(key_file);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(KeyFileError::Io { path, error }),
    };
    let parsed = serde_json::from_slice::<Wrapped>(&text).ok();
    let parsed = parsed.and_then(|file| Some((file.kms_key_id, STANDARD.decode(file.ciphertext).ok()?)));
    let Some((key_id, ciphertext)) = parsed else { return Err(KeyFileError::Damaged { path }) };
    let context: &EncryptionContext = &context();
    kms.unwrap(&KmsKey { key_id, ciphertext }, context).await.map(Some).map_err(|error| refused(&error))
}

/// Wraps a key, or a new one that KMS draws, and keeps it.
pub async fn store(
    key_file: &Path,
    kms: &Kms,
    key: Option<&[u8; 32]>,
) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
    let context: &EncryptionContext = &context();
    let made = match key {
        Some(key) => kms.wrap(key, context).await.map(|wrapped| (Zeroizing::new(*key), wrapped)),
        None => kms.generate(context).await,
    };
    let (key, wrapped) = made.map_err(|error| refused(&error))?;
    let file = Wrapped { kms_key_id: wrapped.key_id, ciphertext: STANDARD.encode(wrapped.ciphertext) };
    let text = serde_json::to_vec_pretty(&file).expect("because two strings are JSON");
    let path = path(key_file);
    create_file(&path, &text, &System).map_err(|error| KeyFileError::Io { path, error })?;
    Ok(key)
}

fn refused(error: &engine::Error) -> KeyFileError {
    KeyFileError::Kms(format!("{}. {}", causes(error), error.help().unwrap_or_default()))
}
