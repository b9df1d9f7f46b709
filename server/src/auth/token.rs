//! Access tokens (signed, short) and refresh tokens (random, used once).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use engine::clock::{Clock, Entropy};
use std::sync::{PoisonError, RwLock};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::ACCESS_SECONDS;
use crate::error::{Problem, Result};
use crate::ids::{SessionId, UserId};
use crate::meta::{Meta, TokenHash};
use crate::server_key::{Purpose, Sealer, ServerKey};

/// What the sealed list of keys is bound to.
const TOKEN_KEYS_OWNER: &str = "token keys";
/// How long a key signs before another takes its place.
const SIGNS_FOR_MS: i64 = 30 * 24 * 60 * 60 * 1000;

/// What an access token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    pub sub: UserId,
    /// The session it belongs to: a token is worth nothing once its session ended.
    pub sid: SessionId,
    /// Seconds since 1970.
    pub iat: i64,
    pub exp: i64,
}

/// What a client gets from registering, logging in and refreshing.
#[derive(Clone, Serialize, utoipa::ToSchema)]
pub struct Tokens {
    pub access_token: String,
    pub refresh_token: String,
    /// Seconds until the access token ends.
    pub expires_in: i64,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("expires_in", &self.expires_in).finish_non_exhaustive()
    }
}

/// A key of the sealed list, oldest first; the last one signs.
#[derive(Serialize, Deserialize)]
struct StoredKey {
    kid: String,
    secret: String,
    #[serde(default)]
    created_ms: i64,
}

impl StoredKey {
    fn new(clock: &dyn Clock, entropy: &dyn Entropy) -> Self {
        Self { kid: random_text(entropy), secret: random_text(entropy), created_ms: clock.now_ms() }
    }
}

impl Drop for StoredKey {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

/// Signs and checks access tokens.
pub struct TokenKeys {
    sealer: Sealer,
    ring: RwLock<Ring>,
}

struct Ring {
    signing: (String, EncodingKey),
    accepted: Vec<(String, DecodingKey)>,
}

impl TokenKeys {
    /// The keys kept in `meta`, made on the first start.
    pub async fn load(
        meta: &Meta,
        server_key: &ServerKey,
        clock: &dyn Clock,
        entropy: &dyn Entropy,
    ) -> Result<Self> {
        let sealer = server_key.sealer(Purpose::TokenKeys);
        let keys = match stored(meta, &sealer).await? {
            Some(keys) => keys,
            None => {
                let keys = vec![StoredKey::new(clock, entropy)];
                store(meta, &sealer, &keys, entropy).await?;
                keys
            }
        };
        let ring = RwLock::new(Ring::of(&keys)?);
        let loaded = Self { sealer, ring };
        loaded.rotate(meta, clock, entropy).await?;
        Ok(loaded)
    }

    /// Begins to sign with a new key when the newest has signed for long enough, and forgets those
    /// whose last tokens have ended. Says whether anything changed.
    pub async fn rotate(&self, meta: &Meta, clock: &dyn Clock, entropy: &dyn Entropy) -> Result<bool> {
        let Some(mut keys) = stored(meta, &self.sealer).await? else { return Ok(false) };
        let (now_ms, before) = (clock.now_ms(), keys.len());
        let is_due = keys.last().is_none_or(|newest| now_ms - newest.created_ms >= SIGNS_FOR_MS);
        if is_due {
            keys.push(StoredKey::new(clock, entropy));
        }
        // A key's last token was signed when its successor was made.
        let retired: Vec<i64> = keys.iter().skip(1).map(|next| next.created_ms).collect();
        let mut retired = retired.into_iter().map(Some).chain([None]);
        keys.retain(|_| match retired.next().flatten() {
            Some(at_ms) => now_ms - at_ms < ACCESS_SECONDS * 1000,
            None => true,
        });
        if !is_due && keys.len() == before {
            return Ok(false);
        }
        // Written before it signs: a token must outlive a crash of its server.
        store(meta, &self.sealer, &keys, entropy).await?;
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = Ring::of(&keys)?;
        Ok(true)
    }

    /// A token for a session, and its lifetime in seconds.
    pub fn issue(&self, user: UserId, session: SessionId, clock: &dyn Clock) -> Result<(String, i64)> {
        let iat = clock.now_ms() / 1000;
        let claims = Claims { sub: user, sid: session, iat, exp: iat + ACCESS_SECONDS };
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        let header = Header { kid: Some(ring.signing.0.clone()), ..Header::new(Algorithm::HS256) };
        let token = encode(&header, &claims, &ring.signing.1).map_err(Problem::internal)?;
        Ok((token, ACCESS_SECONDS))
    }

    /// What a token says, if it is ours and in time.
    pub fn check(&self, token: &str, clock: &dyn Clock) -> Option<Claims> {
        let kid = decode_header(token).ok()?.kid?;
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        let (_, key) = ring.accepted.iter().find(|(accepted, _)| *accepted == kid)?;
        let mut validation = Validation::new(Algorithm::HS256);
        // Time is ours to check, by the clock that was passed in.
        validation.validate_exp = false;
        let claims = decode::<Claims>(token, key, &validation).ok()?.claims;
        (claims.exp > clock.now_ms() / 1000).then_some(claims)
    }
}

impl Ring {
    fn of(keys: &[StoredKey]) -> Result<Self> {
        let newest = keys.last().ok_or_else(|| Problem::internal("the list of token keys is empty"))?;
        let accepts = |key: &StoredKey| (key.kid.clone(), DecodingKey::from_secret(key.secret.as_bytes()));
        Ok(Self {
            signing: (newest.kid.clone(), EncodingKey::from_secret(newest.secret.as_bytes())),
            accepted: keys.iter().map(accepts).collect(),
        })
    }
}

async fn stored(meta: &Meta, sealer: &Sealer) -> Result<Option<Vec<StoredKey>>> {
    let Some(sealed) = meta.token_keys().await? else { return Ok(None) };
    serde_json::from_slice(&sealer.open(TOKEN_KEYS_OWNER, &sealed)?).map_err(Problem::internal).map(Some)
}

async fn store(meta: &Meta, sealer: &Sealer, keys: &[StoredKey], entropy: &dyn Entropy) -> Result<()> {
    let plain = Zeroizing::new(serde_json::to_vec(keys).map_err(Problem::internal)?);
    Ok(meta.set_token_keys(sealer.seal(TOKEN_KEYS_OWNER, &plain, entropy)).await?)
}

/// A fresh refresh token and the hash to store for it.
pub fn new_refresh_token(entropy: &dyn Entropy) -> (String, TokenHash) {
    let token = random_text(entropy);
    let hash = hash(&token);
    (token, hash)
}

/// The hash a refresh token is stored under. Tokens have 256 random bits, so no salt is needed.
pub fn hash(token: &str) -> TokenHash {
    TokenHash(blake3::derive_key("dbsnap 2026-01 refresh token", token.as_bytes()))
}

pub(crate) fn random_text(entropy: &dyn Entropy) -> String {
    let mut bytes = [0; 32];
    entropy.fill(&mut bytes);
    let text = URL_SAFE_NO_PAD.encode(bytes);
    bytes.zeroize();
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::clock::System;

    struct At(i64);

    impl Clock for At {
        fn now_ms(&self) -> i64 {
            self.0
        }
    }

    async fn keys(folder: &std::path::Path) -> TokenKeys {
        let key = ServerKey::load(&folder.join("server.key"), None, true, &System).await.unwrap();
        let meta = Meta::open(&folder.join("meta.redb")).unwrap();
        TokenKeys::load(&meta, &key, &At(MADE_MS), &System).await.unwrap()
    }

    /// When the first key was made.
    const MADE_MS: i64 = 1_700_000_000_000;

    #[tokio::test]
    async fn another_key_signs_after_a_month_and_the_old_one_goes_with_its_last_token() {
        let folder = tempfile::tempdir().unwrap();
        let key = ServerKey::load(&folder.path().join("server.key"), None, true, &System).await.unwrap();
        let meta = Meta::open(&folder.path().join("meta.redb")).unwrap();
        let keys = TokenKeys::load(&meta, &key, &At(MADE_MS), &System).await.unwrap();
        let (user, session) = (UserId::new(&System, &System), SessionId::new(&System, &System));
        let due = MADE_MS + SIGNS_FOR_MS;
        let kid = |token: &str| decode_header(token).unwrap().kid;
        assert!(!keys.rotate(&meta, &At(due - 1), &System).await.unwrap());
        let (old, _) = keys.issue(user, session, &At(due - 1)).unwrap();
        assert!(keys.rotate(&meta, &At(due), &System).await.unwrap());
        let (new, _) = keys.issue(user, session, &At(due)).unwrap();
        assert_ne!(kid(&old), kid(&new));
        for token in [&old, &new] {
            assert!(keys.check(token, &At(due + 1000)).is_some());
        }
        assert!(!keys.rotate(&meta, &At(due + 1000), &System).await.unwrap(), "its tokens still live");
        let later = due + ACCESS_SECONDS * 1000;
        assert!(keys.rotate(&meta, &At(later), &System).await.unwrap());
        assert_eq!(stored(&meta, &keys.sealer).await.unwrap().unwrap().len(), 1);
        // Not even a clock that went back brings the old key's tokens to life.
        assert_eq!(keys.check(&old, &At(due)), None);
        assert!(keys.check(&new, &At(due + 1000)).is_some());
    }

    #[tokio::test]
    async fn a_token_lasts_fifteen_minutes_and_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let (user, session) = (UserId::new(&System, &System), SessionId::new(&System, &System));
        let issued = MADE_MS;
        let (token, lasts) = keys(folder.path()).await.issue(user, session, &At(issued)).unwrap();
        assert_eq!(lasts, 900);
        let again = keys(folder.path()).await;
        assert_eq!(again.check(&token, &At(issued + 899_000)).unwrap().sid, session);
        assert_eq!(again.check(&token, &At(issued + 900_000)), None);
    }

    #[tokio::test]
    async fn a_forged_token_is_refused() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (keys, others) = (keys(folder.path()).await, keys(other.path()).await);
        let (user, session) = (UserId::new(&System, &System), SessionId::new(&System, &System));
        let (foreign, _) = others.issue(user, session, &System).unwrap();
        assert_eq!(keys.check(&foreign, &System), None);
        let (token, _) = keys.issue(user, session, &System).unwrap();
        let (head, rest) = token.split_once('.').unwrap();
        let (claims, _) = rest.split_once('.').unwrap();
        let none = URL_SAFE_NO_PAD.encode(br#"{"alg":"none","typ":"JWT"}"#);
        assert_eq!(keys.check(&format!("{none}.{claims}."), &System), None);
        assert_eq!(keys.check(&format!("{head}.{claims}.AAAA"), &System), None);
        assert_eq!(keys.check("", &System), None);
    }
}
