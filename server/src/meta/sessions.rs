//! Sessions and their refresh tokens. A session is the family of tokens that began with one login:
//! a token that comes twice was copied, and ends the whole family.

use redb::{ReadableTable, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::rows::{self, Order, REFRESH_TOKENS, SESSIONS, SESSIONS_BY_USER, TOKENS_BY_SESSION};
use super::{Meta, PageRequest, Result};
use crate::ids::{SessionId, UserId};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Session {
    pub id: SessionId,
    pub user_id: UserId,
    pub created_ms: i64,
    /// When its newest refresh token ends.
    pub expires_ms: i64,
}

/// The hash a refresh token is known by; the token itself is never stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TokenHash(pub [u8; 32]);

impl std::fmt::Display for TokenHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[derive(Serialize, Deserialize)]
struct RefreshToken {
    session_id: SessionId,
    expires_ms: i64,
    used: bool,
}

/// What became of a refresh token that was presented.
#[derive(Clone, Debug)]
pub enum Rotation {
    /// It is dead, its successor lives.
    Rotated(Session),
    /// It was used before: its whole session is ended.
    Reused(Session),
    /// It never existed, ended, or its session did.
    Unknown,
}

impl Meta {
    /// Begins a session with its first refresh token.
    pub async fn begin_session(&self, session: Session, token: TokenHash) -> Result<()> {
        self.write(move |tx| {
            let id = session.id.to_string();
            rows::put(tx, SESSIONS, &id, &session)?;
            rows::link(tx, SESSIONS_BY_USER, &rows::below(session.user_id, &id), "")?;
            add_token(tx, &session, token)
        })
        .await
    }

    pub async fn session(&self, id: SessionId) -> Result<Option<Session>> {
        self.read(move |tx| rows::get(&tx.open_table(SESSIONS)?, &id.to_string())).await
    }

    /// Trades `old` for `new`, once.
    pub async fn rotate(
        &self,
        old: TokenHash,
        new: TokenHash,
        now_ms: i64,
        expires_ms: i64,
    ) -> Result<Rotation> {
        self.write(move |tx| {
            let found: Option<RefreshToken> = rows::get(&tx.open_table(REFRESH_TOKENS)?, &old.to_string())?;
            let Some(token) = found else { return Ok(Rotation::Unknown) };
            let session: Option<Session> =
                rows::get(&tx.open_table(SESSIONS)?, &token.session_id.to_string())?;
            let Some(session) = session else { return Ok(Rotation::Unknown) };
            if token.used {
                end(tx, &session)?;
                return Ok(Rotation::Reused(session));
            }
            if token.expires_ms <= now_ms {
                end(tx, &session)?;
                return Ok(Rotation::Unknown);
            }
            rows::put(tx, REFRESH_TOKENS, &old.to_string(), &RefreshToken { used: true, ..token })?;
            let session = Session { expires_ms, ..session };
            rows::put(tx, SESSIONS, &session.id.to_string(), &session)?;
            add_token(tx, &session, new)?;
            Ok(Rotation::Rotated(session))
        })
        .await
    }

    /// Ends a session: none of its tokens is accepted again.
    pub async fn end_session(&self, id: SessionId) -> Result<()> {
        self.write(move |tx| {
            let session: Option<Session> = rows::get(&tx.open_table(SESSIONS)?, &id.to_string())?;
            session.map_or(Ok(()), |session| end(tx, &session))
        })
        .await
    }

    /// Ends every session of `user` but `kept`.
    pub async fn end_sessions(&self, user: UserId, kept: Option<SessionId>) -> Result<()> {
        self.write(move |tx| end_all(tx, user, kept)).await
    }

    /// Removes sessions that ended by themselves; returns how many.
    pub async fn remove_expired_sessions(&self, now_ms: i64) -> Result<usize> {
        self.write(move |tx| {
            let mut expired = Vec::new();
            for entry in tx.open_table(SESSIONS)?.range::<&str>(..)? {
                let session: Session = serde_json::from_slice(entry?.1.value())?;
                if session.expires_ms <= now_ms {
                    expired.push(session);
                }
            }
            expired.iter().try_for_each(|session| end(tx, session))?;
            Ok(expired.len())
        })
        .await
    }
}

/// Ends every session of `user` but `kept`.
pub(super) fn end_all(tx: &WriteTransaction, user: UserId, kept: Option<SessionId>) -> Result<()> {
    let ids =
        rows::children(&tx.open_table(SESSIONS_BY_USER)?, user, Order::OldestFirst, &PageRequest::all())?;
    let kept = kept.map(|id| id.to_string());
    for id in ids.items.iter().filter(|id| Some(*id) != kept.as_ref()) {
        let session: Option<Session> = rows::get(&tx.open_table(SESSIONS)?, id)?;
        if let Some(session) = session {
            end(tx, &session)?;
        }
    }
    Ok(())
}

fn add_token(tx: &WriteTransaction, session: &Session, token: TokenHash) -> Result<()> {
    let row = RefreshToken { session_id: session.id, expires_ms: session.expires_ms, used: false };
    rows::put(tx, REFRESH_TOKENS, &token.to_string(), &row)?;
    rows::link(tx, TOKENS_BY_SESSION, &rows::below(session.id, token), "")
}

fn end(tx: &WriteTransaction, session: &Session) -> Result<()> {
    let tokens = rows::children(
        &tx.open_table(TOKENS_BY_SESSION)?,
        session.id,
        Order::OldestFirst,
        &PageRequest::all(),
    )?;
    for token in &tokens.items {
        rows::remove(tx, REFRESH_TOKENS, token)?;
        rows::unlink(tx, TOKENS_BY_SESSION, &rows::below(session.id, token))?;
    }
    let id = session.id.to_string();
    rows::unlink(tx, SESSIONS_BY_USER, &rows::below(session.user_id, &id))?;
    rows::remove(tx, SESSIONS, &id)
}
