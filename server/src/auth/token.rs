//! Access tokens (signed, short) and refresh tokens (random, used once).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use engine::clock::{Clock, Entropy};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use super::ACCESS_SECONDS;
use crate::error::{Problem, Result};
use crate::ids::{SessionId, UserId};
use crate::meta::{Meta, TokenHash};
use crate::server_key::{Purpose, ServerKey};

const OWNER: &str = "token keys";

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
#[derive(Clone, Serialize)]
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
}

impl Drop for StoredKey {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

/// Signs and checks access tokens.
pub struct TokenKeys {
    signing: (String, EncodingKey),
    accepted: Vec<(String, DecodingKey)>,
}

impl TokenKeys {
    /// The keys kept in `meta`, made on the first start.
    pub async fn load(meta: &Meta, server_key: &ServerKey, entropy: &dyn Entropy) -> Result<Self> {
        let sealer = server_key.sealer(Purpose::TokenKeys);
        let keys: Vec<StoredKey> = match meta.token_keys().await? {
            Some(sealed) => {
                serde_json::from_slice(&sealer.open(OWNER, &sealed)?).map_err(Problem::internal)?
            }
            None => {
                let keys = vec![StoredKey { kid: random_text(entropy), secret: random_text(entropy) }];
                let plain = zeroize::Zeroizing::new(serde_json::to_vec(&keys).map_err(Problem::internal)?);
                meta.set_token_keys(sealer.seal(OWNER, &plain, entropy)).await?;
                keys
            }
        };
        let newest = keys.last().ok_or_else(|| Problem::internal("the list of token keys is empty"))?;
        Ok(Self {
            signing: (newest.kid.clone(), EncodingKey::from_secret(newest.secret.as_bytes())),
            accepted: keys
                .iter()
                .map(|key| (key.kid.clone(), DecodingKey::from_secret(key.secret.as_bytes())))
                .collect(),
        })
    }

    /// A token for a session, and its lifetime in seconds.
    pub fn issue(&self, user: UserId, session: SessionId, clock: &dyn Clock) -> Result<(String, i64)> {
        let iat = clock.now_ms() / 1000;
        let claims = Claims { sub: user, sid: session, iat, exp: iat + ACCESS_SECONDS };
        let header = Header { kid: Some(self.signing.0.clone()), ..Header::new(Algorithm::HS256) };
        let token = encode(&header, &claims, &self.signing.1).map_err(Problem::internal)?;
        Ok((token, ACCESS_SECONDS))
    }

    /// What a token says, if it is ours and in time.
    pub fn check(&self, token: &str, clock: &dyn Clock) -> Option<Claims> {
        let kid = decode_header(token).ok()?.kid?;
        let (_, key) = self.accepted.iter().find(|(accepted, _)| *accepted == kid)?;
        let mut validation = Validation::new(Algorithm::HS256);
        // Time is ours to check, by the clock that was passed in.
        validation.validate_exp = false;
        let claims = decode::<Claims>(token, key, &validation).ok()?.claims;
        (claims.exp > clock.now_ms() / 1000).then_some(claims)
    }
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

fn random_text(entropy: &dyn Entropy) -> String {
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
        let key = ServerKey::load(&folder.join("server.key"), true, &System).unwrap();
        let meta = Meta::open(&folder.join("meta.redb")).unwrap();
        TokenKeys::load(&meta, &key, &System).await.unwrap()
    }

    #[tokio::test]
    async fn a_token_lasts_fifteen_minutes_and_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let (user, session) = (UserId::new(&System, &System), SessionId::new(&System, &System));
        let issued = 1_700_000_000_000;
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
