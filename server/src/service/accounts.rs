//! Registering, signing in and out.

use std::net::IpAddr;

use axum::http::StatusCode;
use zeroize::Zeroizing;

use crate::app::App;
use crate::auth::{REFRESH_SECONDS, Tokens, Visitor, hash_token, new_refresh_token};
use crate::config::Signup;
use crate::error::{Problem, Result};
use crate::ids::{SessionId, UserId};
use crate::meta::{Registration, Rotation, Session, User};

const MIN_PASSWORD_CHARS: usize = 8;
const MAX_PASSWORD_BYTES: usize = 1024;

/// Makes an account, if the operator lets people in, and signs it in.
pub async fn register(app: &App, email: &str, password: Zeroizing<String>, from: IpAddr) -> Result<Tokens> {
    let email = parse_email(email)?;
    check_password(&password)?;
    throttled(app.addresses.begin(&from, app.now_ms()))?;
    // Hashed first: whether the address is known shows in the answer alone, not in its time.
    let password_hash = app.passwords.hash(password).await?;
    let id = UserId::new(app.clock.as_ref(), app.entropy.as_ref());
    let user = User { id, email, password_hash, created_ms: app.now_ms() };
    match app.meta.register(user, app.config.signup).await? {
        Registration::Created => {
            app.addresses.take_back(&from);
            begin_session(app, id).await
        }
        Registration::Closed => {
            let detail = "This server takes no new accounts. Ask its operator for one.";
            Err(Problem::new(StatusCode::FORBIDDEN, "signup-closed", "Sign-up is closed", detail))
        }
        Registration::EmailTaken => {
            let detail = "There is an account with this address. Sign in, or use another address.";
            Err(Problem::conflict("email-taken", "The address is taken", detail))
        }
    }
}

/// Whether a registration could succeed now, for pages that offer it.
pub async fn registration_is_open(app: &App) -> Result<bool> {
    Ok(match app.config.signup {
        Signup::Open => true,
        Signup::Closed => false,
        Signup::First => !app.meta.has_users().await?,
    })
}

/// Signs in. An unknown address and a wrong password look the same and take as long.
pub async fn login(app: &App, email: &str, password: Zeroizing<String>, from: IpAddr) -> Result<Tokens> {
    let email = email.trim().to_lowercase();
    let pair = (email.clone(), from);
    throttled(app.logins.begin(&pair, app.now_ms()))?;
    throttled(app.addresses.begin(&from, app.now_ms()))?;
    let wrong = || {
        let detail = "The address or the password is wrong. Check both and try again.";
        Problem::new(StatusCode::UNAUTHORIZED, "wrong-credentials", "Sign-in failed", detail)
    };
    if password.len() > MAX_PASSWORD_BYTES {
        return Err(wrong());
    }
    let user = app.meta.user_by_email(email).await?;
    let stored = user.as_ref().map(|user| user.password_hash.clone());
    let matches = app.passwords.verify(password, stored).await?;
    let user = user.filter(|_| matches).ok_or_else(wrong)?;
    app.logins.succeeded(&pair);
    app.addresses.take_back(&from);
    begin_session(app, user.id).await
}

/// Trades a refresh token for its successor; none if it is not accepted. One that comes twice
/// ends its session.
pub async fn refresh(app: &App, refresh_token: &str) -> Result<Option<Tokens>> {
    let (next, next_hash) = new_refresh_token(app.entropy.as_ref());
    let now_ms = app.now_ms();
    let rotation = app
        .meta
        .rotate(hash_token(refresh_token), next_hash, now_ms, now_ms + REFRESH_SECONDS * 1000)
        .await?;
    match rotation {
        Rotation::Rotated(session) => tokens(app, session.user_id, session.id, next).map(Some),
        Rotation::Reused(session) => {
            tracing::warn!(%session, "a refresh token came twice; its session is ended");
            Ok(None)
        }
        Rotation::Unknown => Ok(None),
    }
}

/// Whose access token this is, if it and its session live.
pub async fn authenticate(app: &App, access_token: &str) -> Result<Option<Visitor>> {
    let Some(claims) = app.token_keys.check(access_token, app.clock.as_ref()) else { return Ok(None) };
    let session = app.meta.session(claims.sid).await?;
    if session.is_none_or(|session| session.user_id != claims.sub) {
        return Ok(None);
    }
    let user = app.meta.user(claims.sub).await?;
    Ok(user.map(|user| Visitor { user_id: user.id, session_id: claims.sid, email: user.email }))
}

/// Ends the caller's session.
pub async fn logout(app: &App, visitor: &Visitor) -> Result<()> {
    Ok(app.meta.end_session(visitor.session_id).await?)
}

/// Gives the caller another password and signs out everywhere else.
pub async fn change_password(
    app: &App,
    visitor: &Visitor,
    current: Zeroizing<String>,
    new: Zeroizing<String>,
    from: IpAddr,
) -> Result<()> {
    check_password(&new)?;
    let pair = (visitor.email.clone(), from);
    throttled(app.logins.begin(&pair, app.now_ms()))?;
    let user = app.meta.user(visitor.user_id).await?.ok_or_else(Problem::unauthorized)?;
    if current.len() > MAX_PASSWORD_BYTES || !app.passwords.verify(current, Some(user.password_hash)).await? {
        return Err(Problem::invalid("current_password", "The current password is wrong."));
    }
    app.logins.succeeded(&pair);
    let hash = app.passwords.hash(new).await?;
    app.meta.set_password_hash(visitor.user_id, hash).await?;
    Ok(app.meta.end_other_sessions(visitor.user_id, visitor.session_id).await?)
}

async fn begin_session(app: &App, user_id: UserId) -> Result<Tokens> {
    let id = SessionId::new(app.clock.as_ref(), app.entropy.as_ref());
    let created_ms = app.now_ms();
    let session = Session { id, user_id, created_ms, expires_ms: created_ms + REFRESH_SECONDS * 1000 };
    let (refresh_token, hash) = new_refresh_token(app.entropy.as_ref());
    app.meta.begin_session(session, hash).await?;
    tokens(app, user_id, id, refresh_token)
}

fn tokens(app: &App, user: UserId, session: SessionId, refresh_token: String) -> Result<Tokens> {
    let (access_token, expires_in) = app.token_keys.issue(user, session, app.clock.as_ref())?;
    Ok(Tokens { access_token, refresh_token, expires_in })
}

fn throttled(attempt: std::result::Result<(), u64>) -> Result<()> {
    attempt.map_err(|seconds| {
        let detail = format!("There were too many failed attempts. Try again in {seconds} seconds.");
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-attempts", "Too many attempts", detail)
            .with("retry_after_seconds", seconds)
    })
}

fn parse_email(email: &str) -> Result<String> {
    let email = email.trim().to_lowercase();
    let plausible = email.len() <= 254
        && !email.contains(|c: char| c.is_whitespace() || c.is_control())
        && email
            .split_once('@')
            .is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty() && !domain.contains('@'));
    if plausible {
        Ok(email)
    } else {
        Err(Problem::invalid("email", "Give an e-mail address such as name@example.com."))
    }
}

fn check_password(password: &str) -> Result<()> {
    if password.chars().count() < MIN_PASSWORD_CHARS {
        return Err(Problem::invalid("password", format!("Use at least {MIN_PASSWORD_CHARS} characters.")));
    }
    if password.len() > MAX_PASSWORD_BYTES {
        return Err(Problem::invalid("password", format!("Use at most {MAX_PASSWORD_BYTES} bytes.")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_compared_in_lower_case_and_must_look_like_one() {
        assert_eq!(parse_email(" Ada@Example.COM ").unwrap(), "ada@example.com");
        for bad in ["", "ada", "@example.com", "ada@", "a b@example.com", "a@b@c"] {
            assert!(parse_email(bad).is_err(), "{bad}");
        }
    }
}
