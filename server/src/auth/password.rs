//! Passwords, hashed by argon2id.

use std::sync::Arc;

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use engine::clock::Entropy;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::error::{Problem, Result};

/// Hashes at a time: each takes 19 MiB and a core, and logins must not starve backups.
const CONCURRENT: usize = 2;

/// Hashes and checks passwords, off the async threads.
pub struct Passwords {
    permits: Semaphore,
    entropy: Arc<dyn Entropy>,
    /// Checked when there is no such account, so that the answer takes as long.
    nobody: String,
}

impl Passwords {
    pub fn new(entropy: Arc<dyn Entropy>) -> Self {
        let mut password = Zeroizing::new([0; 32]);
        entropy.fill(password.as_mut());
        let nobody = hash(password.as_slice(), entropy.as_ref());
        Self { permits: Semaphore::new(CONCURRENT), entropy, nobody }
    }

    /// The hash to store for a password.
    pub async fn hash(&self, password: Zeroizing<String>) -> Result<String> {
        let entropy = Arc::clone(&self.entropy);
        self.run(move || hash(password.as_bytes(), entropy.as_ref())).await
    }

    /// Whether `password` is the one behind `stored`; without a stored hash, no, just as slowly.
    pub async fn verify(&self, password: Zeroizing<String>, stored: Option<String>) -> Result<bool> {
        let exists = stored.is_some();
        let stored = stored.unwrap_or_else(|| self.nobody.clone());
        let matches = self.run(move || {
            let parsed = PasswordHash::new(&stored);
            parsed.is_ok_and(|parsed| argon2().verify_password(password.as_bytes(), &parsed).is_ok())
        });
        Ok(matches.await? && exists)
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let _permit = self.permits.acquire().await.map_err(Problem::internal)?;
        tokio::task::spawn_blocking(work).await.map_err(Problem::internal)
    }
}

fn argon2() -> Argon2<'static> {
    // OWASP's first choice for argon2id: 19 MiB, two passes.
    let params =
        Params::new(19 * 1024, 2, 1, None).expect("because these constants are within argon2's bounds");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn hash(password: &[u8], entropy: &dyn Entropy) -> String {
    let mut salt = [0; 16];
    entropy.fill(&mut salt);
    let salt = SaltString::encode_b64(&salt).expect("because 16 bytes are a valid salt");
    let hash = argon2().hash_password(password, &salt);
    hash.expect("because argon2 refuses only wrong parameters").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::clock::System;

    #[tokio::test]
    async fn only_the_right_password_of_an_account_passes() {
        let passwords = Passwords::new(Arc::new(System));
        let secret = |text: &str| Zeroizing::new(text.to_owned());
        let stored = passwords.hash(secret("correct horse")).await.unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(passwords.verify(secret("correct horse"), Some(stored.clone())).await.unwrap());
        assert!(!passwords.verify(secret("correct horsf"), Some(stored)).await.unwrap());
        assert!(!passwords.verify(secret("correct horse"), None).await.unwrap());
    }
}
