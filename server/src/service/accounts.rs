//! Registering, signing in and out.

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::StatusCode;
use engine::clock::{Clock, Entropy};
use zeroize::Zeroizing;

use super::{audit, projects};
use crate::app::App;
use crate::audit::{Actor, Event, Outcome, action};
use crate::auth::{
    Attempt, Origin, Passwords, REFRESH_SECONDS, Refusal, Tokens, Visitor, hash_token, new_refresh_token,
    random_text,
};
use crate::config::Signup;
use crate::error::{Problem, Result};
use crate::ids::{SessionId, UserId};
use crate::meta::{Meta, PageRequest, PasswordOutcome, Registration, Rotation, Session, User};

/// No address that mail can be sent to is longer.
const MAX_EMAIL_BYTES: usize = 254;
const MIN_PASSWORD_CHARS: usize = 8;
const MAX_PASSWORD_BYTES: usize = 1024;

/// Makes an account, if the operator lets people in, and signs it in.
pub async fn register(app: &App, email: &str, password: Zeroizing<String>, from: IpAddr) -> Result<Tokens> {
    let email = parse_email(email)?;
    check_password(&password)?;
    let attempt = throttled(app.addresses.begin(&from.into(), app.elapsed_ms()).await)?;
    // Hashed first: whether the address is known shows in the answer alone, not in its time.
    let password_hash = app.passwords.hash(password).await?;
    let id = UserId::new(app.clock.as_ref(), app.entropy.as_ref());
    let user = User { id, email, password_hash: Some(password_hash), created_ms: app.now_ms() };
    match app.meta.register(user, app.config.signup).await? {
        Registration::Created => {
            attempt.take_back();
            let event = Event::new(action::REGISTER, audit::account(id)).with("from", from);
            audit::record(app, id, event, begin_session(app, id).await).await
        }
        Registration::Closed => Err(signup_closed()),
        Registration::EmailTaken => {
            let detail = "There is an account with this address. Sign in, or use another address.";
            Err(Problem::conflict("email-taken", "The address is taken", detail))
        }
        Registration::IdentityTaken => Err(Problem::internal("no identity was to be registered")),
    }
}

pub(super) fn signup_closed() -> Problem {
    let detail = "This server takes no new accounts. Ask its operator for one.";
    Problem::new(StatusCode::FORBIDDEN, "signup-closed", "Sign-up is closed", detail)
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
    let (app, email) = (app.clone(), email.to_owned());
    // Whoever hangs up meanwhile has attempted it all the same, and failed only if the password was wrong.
    let attempt = tokio::spawn(async move { try_login(&app, &email, password, from).await });
    attempt.await.map_err(Problem::internal)?
}

async fn try_login(app: &App, email: &str, password: Zeroizing<String>, from: IpAddr) -> Result<Tokens> {
    let wrong = || {
        let detail = "The address or the password is wrong. Check both and try again.";
        Problem::new(StatusCode::UNAUTHORIZED, "wrong-credentials", "Sign-in failed", detail)
    };
    let email = email.trim().to_lowercase();
    if email.len() > MAX_EMAIL_BYTES {
        let _failed = throttled(app.addresses.begin(&from.into(), app.elapsed_ms()).await)?;
        return Err(wrong());
    }
    let pair = (email.clone(), from.into());
    let (of_address, of_account) = match begin_attempt(app, &pair).await {
        Ok(attempts) => attempts,
        Err(refusal) => return refused(app, email, from, refusal).await,
    };
    if password.len() > MAX_PASSWORD_BYTES {
        return Err(wrong());
    }
    let user = app.meta.user_by_email(email).await?;
    let stored = user.as_ref().and_then(|user| user.password_hash.clone());
    let matches = app.passwords.verify(password, stored).await?;
    // An address that nobody has leaves an entry, too: it must not take less time.
    let known = user.as_ref().map(|user| user.id);
    let event = Event::new(action::SIGN_IN, known.map_or_else(|| "account".to_owned(), audit::account));
    let event = event.with("from", from);
    let Some(user) = user.filter(|_| matches) else {
        return audit::record_in(app, known, event.by(Actor::Unknown), Err(wrong())).await;
    };
    of_account.succeed();
    of_address.take_back();
    audit::record(app, user.id, event, begin_session(app, user.id).await).await
}

/// An attempt to sign in counts for where it comes from, then for the account as well. What an origin
/// that has used up its attempts names is not remembered, for it may name without end.
async fn begin_attempt<'a>(
    app: &'a App,
    pair: &(String, Origin),
) -> std::result::Result<(Attempt<'a, Origin>, Attempt<'a, (String, Origin)>), Refusal> {
    let of_address = app.addresses.begin(&pair.1, app.elapsed_ms()).await?;
    match app.logins.begin(pair, app.elapsed_ms()).await {
        Ok(of_account) => Ok((of_address, of_account)),
        Err(refusal) => {
            of_address.take_back();
            Err(refusal)
        }
    }
}

/// A sign-in that comes too soon. The first of a window is told in the audit log.
async fn refused(app: &App, email: String, from: IpAddr, refusal: Refusal) -> Result<Tokens> {
    let refused = Err(too_many_attempts(refusal));
    if !refusal.is_first {
        return refused;
    }
    let known = app.meta.user_by_email(email).await?.map(|user| user.id);
    let target = known.map_or_else(|| "account".to_owned(), audit::account);
    let event = Event::new(action::SIGN_IN, target).with("from", from).by(Actor::Unknown);
    audit::record_in(app, known, event, refused).await
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
            tracing::warn!(session = %session.id, "a refresh token came twice; its session is ended");
            audit::token_reused(app, session.user_id, session.id.to_string()).await?;
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
    app.meta.end_session(visitor.session_id).await?;
    let event = Event::new(action::SIGN_OUT, audit::account(visitor.user_id));
    audit::record(app, visitor.user_id, event, Ok(())).await
}

/// Gives the caller another password, or a first one, and signs out everywhere else.
pub async fn change_password(
    app: &App,
    visitor: &Visitor,
    current: Option<Zeroizing<String>>,
    new: Zeroizing<String>,
    from: IpAddr,
) -> Result<()> {
    let event = Event::new(action::PASSWORD_CHANGE, audit::account(visitor.user_id)).with("from", from);
    let done = set_password(app, visitor, current, new, from).await;
    audit::record(app, visitor.user_id, event, done).await
}

async fn set_password(
    app: &App,
    visitor: &Visitor,
    current: Option<Zeroizing<String>>,
    new: Zeroizing<String>,
    from: IpAddr,
) -> Result<()> {
    check_password(&new)?;
    check_current(app, visitor, current, "current_password", from).await?;
    let hash = app.passwords.hash(new).await?;
    match app.meta.set_password_hash(visitor.user_id, hash).await? {
        PasswordOutcome::Set => Ok(app.meta.end_sessions(visitor.user_id, Some(visitor.session_id)).await?),
        PasswordOutcome::EmailTaken => {
            let detail = "Another account signs in by this address and a password, so this one cannot. Go on \
                          signing in as you did.";
            Err(Problem::conflict("email-taken", "The address is taken", detail))
        }
        PasswordOutcome::NoSuchUser => Err(Problem::unauthorized()),
    }
}

/// Ends every session of the caller, this one too.
pub async fn sign_out_everywhere(app: &App, visitor: &Visitor) -> Result<()> {
    app.meta.end_sessions(visitor.user_id, None).await?;
    let event = Event::new(action::SIGN_OUT_EVERYWHERE, audit::account(visitor.user_id));
    audit::record(app, visitor.user_id, event, Ok(())).await
}

/// Removes the caller's account with all its projects and their snapshots. `confirm` is the
/// account's address, typed; the password is asked for where there is one.
pub async fn delete(
    app: &App,
    visitor: &Visitor,
    confirm: &str,
    password: Option<Zeroizing<String>>,
    from: IpAddr,
) -> Result<()> {
    let event = Event::new(action::ACCOUNT_DELETE, audit::account(visitor.user_id)).with("from", from);
    if confirm.trim().to_lowercase() != visitor.email {
        let problem = Problem::invalid("confirm", format!("Type {} to confirm.", visitor.email));
        return Err(audit::not_confirmed(app, visitor.user_id, event, problem).await);
    }
    let checked = check_current(app, visitor, password, "password", from).await;
    if checked.is_err() {
        return audit::record(app, visitor.user_id, event, checked).await;
    }
    let (app, user) = (app.clone(), visitor.user_id);
    // A task of its own: who asked may go away, and half an account is none.
    let removal = tokio::spawn(async move {
        for project in projects::list(&app, user, PageRequest::all()).await?.items {
            projects::delete(&app, user, project.id).await?;
        }
        // Before the account goes: its address is not known afterwards.
        audit::record(&app, user, event, Ok(())).await?;
        Ok::<_, Problem>(app.meta.remove_user(user).await?)
    });
    removal.await.map_err(Problem::internal)?
}

/// Whether the account has a password, for pages that ask for it.
pub async fn has_password(app: &App, visitor: &Visitor) -> Result<bool> {
    let user = app.meta.user(visitor.user_id).await?.ok_or_else(Problem::unauthorized)?;
    Ok(user.password_hash.is_some())
}

/// A stolen session is not enough for what cannot be undone: the password is asked for, too.
async fn check_current(
    app: &App,
    visitor: &Visitor,
    password: Option<Zeroizing<String>>,
    field: &str,
    from: IpAddr,
) -> Result<()> {
    let user = app.meta.user(visitor.user_id).await?.ok_or_else(Problem::unauthorized)?;
    let Some(stored) = user.password_hash else { return Ok(()) };
    let pair = (visitor.email.clone(), from.into());
    let attempt = throttled(app.logins.begin(&pair, app.elapsed_ms()).await)?;
    let password = password.unwrap_or_default();
    let fits = password.len() <= MAX_PASSWORD_BYTES;
    if !fits || !app.passwords.verify(password, Some(stored)).await? {
        return Err(Problem::invalid(field, "This is not the account's password. Type it again."));
    }
    attempt.succeed();
    Ok(())
}

/// Gives the account that signs in by `email` a new password, which is returned, and ends its
/// sessions. For the operator, who has nothing to prove here.
pub async fn reset_password(
    meta: &Meta,
    clock: &dyn Clock,
    entropy: Arc<dyn Entropy>,
    email: &str,
) -> Result<Option<String>> {
    let Some(user) = meta.user_by_email(email.trim().to_lowercase()).await? else { return Ok(None) };
    let password = random_text(entropy.as_ref());
    let hash = Passwords::new(entropy).hash(Zeroizing::new(password.clone())).await?;
    meta.set_password_hash(user.id, hash).await?;
    meta.end_sessions(user.id, None).await?;
    let event = Event::new(action::PASSWORD_RESET, audit::account(user.id)).by(Actor::Operator);
    meta.append_audit(Some(user.id), clock.now_ms(), event, Outcome::Succeeded).await?;
    Ok(Some(password))
}

pub(super) async fn begin_session(app: &App, user_id: UserId) -> Result<Tokens> {
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

pub(super) fn throttled<T>(attempt: std::result::Result<T, Refusal>) -> Result<T> {
    attempt.map_err(too_many_attempts)
}

fn too_many_attempts(Refusal { seconds, .. }: Refusal) -> Problem {
    let detail = format!("There were too many failed attempts. Try again in {seconds} seconds.");
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-attempts", "Too many attempts", detail)
        .with("retry_after_seconds", seconds)
}

pub(super) fn parse_email(email: &str) -> Result<String> {
    let email = email.trim().to_lowercase();
    let plausible = email.len() <= MAX_EMAIL_BYTES
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
