//! Signing in with GitHub or Google. No mail is ever sent, so an address proves nothing: an
//! identity opens the account it made or was linked to, whatever address it comes with.

use std::net::IpAddr;

use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use url::Url;
use zeroize::Zeroizing;

use super::{accounts, audit};
use crate::app::App;
use crate::audit::{Event, action};
use crate::auth::oauth::{self, Person, Secrets};
use crate::auth::{Tokens, Visitor, random_text};
use crate::config::SignInProvider;
use crate::error::{Problem, Result};
use crate::ids::{SessionId, UserId};
use crate::meta::{Identity, LinkOutcome, Provider, Registration, UnlinkOutcome, User};
use crate::server_key::Sealed;

/// How long somebody may take at the provider.
pub const ATTEMPT_SECONDS: i64 = 10 * 60;

/// What a browser carries from the start to the callback.
#[derive(Serialize, Deserialize)]
struct Attempt {
    secrets: Secrets,
    /// The session it was begun in: then the identity is linked to that session's account.
    session: Option<SessionId>,
    next: Option<String>,
    expires_ms: i64,
}

/// What the provider sent the browser back with.
#[derive(Deserialize)]
pub struct Returned {
    pub code: Option<String>,
    pub state: Option<String>,
    pub error: Option<String>,
}

/// How an attempt ended well.
pub enum SignedIn {
    /// By an account's identity, or one that made an account now.
    As(Tokens),
    /// The account that was signed in has one more way in.
    Linked,
}

fn configured(app: &App, provider: Provider) -> Result<&SignInProvider> {
    let found = app.config.providers.iter().find(|found| found.provider == provider);
    found.ok_or_else(|| {
        let detail = format!("This server is not set up for signing in with {}.", provider.name());
        Problem::new(StatusCode::NOT_FOUND, "provider-not-configured", "Not set up", detail)
    })
}

/// Where the provider sends the browser back to.
fn callback(app: &App, provider: Provider) -> Result<Url> {
    let path = format!("/api/v1/auth/{}/callback", provider.as_str());
    app.public_url().join(&path).map_err(Problem::internal)
}

/// Begins an attempt: where the browser goes, and what it carries.
pub fn start(
    app: &App,
    provider: Provider,
    visitor: Option<&Visitor>,
    next: Option<String>,
) -> Result<(Url, String)> {
    let configured = configured(app, provider)?;
    let random = || random_text(app.entropy.as_ref());
    let secrets = Secrets { state: random(), nonce: random(), verifier: Zeroizing::new(random()) };
    let url = oauth::authorize_url(configured, &callback(app, provider)?, &secrets);
    let expires_ms = app.now_ms() + ATTEMPT_SECONDS * 1000;
    let session = visitor.map(|visitor| visitor.session_id);
    let attempt = Attempt { secrets, session, next, expires_ms };
    let plain = Zeroizing::new(serde_json::to_vec(&attempt).map_err(Problem::internal)?);
    let sealed = app.sign_ins.seal(provider.as_str(), &plain, app.entropy.as_ref());
    Ok((url, URL_SAFE_NO_PAD.encode(String::from(sealed))))
}

/// Ends an attempt. `carried` is what [`start`] gave the browser; `visitor` is who is signed in
/// now. Returns where the browser wanted to go, too.
pub async fn finish(
    app: &App,
    provider: Provider,
    carried: Option<String>,
    returned: Returned,
    visitor: Option<Visitor>,
    from: IpAddr,
) -> Result<(SignedIn, Option<String>)> {
    let configured = configured(app, provider)?;
    let attempt = carried.and_then(|carried| open(app, provider, &carried)).ok_or_else(stale)?;
    let state = returned.state.as_deref().unwrap_or_default();
    if attempt.expires_ms <= app.now_ms() || !oauth::equal(state, &attempt.secrets.state) {
        return Err(stale());
    }
    let Some(code) = returned.code.filter(|_| returned.error.is_none()) else {
        let detail = format!("{} was not allowed to say who you are. Sign in again.", provider.name());
        return Err(Problem::new(StatusCode::FORBIDDEN, "sign-in-denied", "The sign-in was denied", detail));
    };
    let counted = accounts::throttled(app.addresses.begin(&from.into(), app.elapsed_ms()).await)?;
    let redirect = callback(app, provider)?;
    let person = oauth::identify(configured, &redirect, &attempt.secrets, code, app.now_ms()).await?;
    counted.take_back();
    let done = match attempt.session {
        Some(session) => {
            // Begun by somebody signed in: then by nobody else is it ended.
            let same = visitor.filter(|visitor| visitor.session_id == session).ok_or_else(stale)?;
            let event =
                Event::new(action::IDENTITY_LINK, audit::account(same.user_id)).with("provider", provider);
            let done = link(app, provider, &same, person).await;
            audit::record(app, same.user_id, event, done).await?;
            SignedIn::Linked
        }
        None => SignedIn::As(enter(app, provider, person).await?),
    };
    Ok((done, attempt.next))
}

fn open(app: &App, provider: Provider, carried: &str) -> Option<Attempt> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(carried).ok()?).ok()?;
    let plain = app.sign_ins.open(provider.as_str(), &Sealed::try_from(text).ok()?).ok()?;
    serde_json::from_slice(&plain).ok()
}

fn stale() -> Problem {
    let detail = "The sign-in was not begun in this browser, or too long ago. Begin it again.";
    Problem::new(StatusCode::BAD_REQUEST, "stale-sign-in", "The sign-in is not this browser's", detail)
}

async fn link(app: &App, provider: Provider, visitor: &Visitor, person: Person) -> Result<()> {
    let name = provider.name();
    match app.meta.link_identity(identity(app, provider, visitor.user_id, &person)).await? {
        LinkOutcome::Linked => Ok(()),
        LinkOutcome::OpensAnother => {
            let detail = format!("This {name} identity opens another account. Unlink it there first.");
            Err(Problem::conflict("identity-taken", "The identity is taken", detail))
        }
        LinkOutcome::HasAnother => {
            let detail = format!("The account has another {name} identity. Unlink that one first.");
            Err(Problem::conflict("other-identity-linked", "Another identity is linked", detail))
        }
    }
}

/// Signs in by an identity, or makes the account it will open.
async fn enter(app: &App, provider: Provider, person: Person) -> Result<Tokens> {
    if let Some(known) = app.meta.identity(provider, person.subject.clone()).await? {
        let event = Event::new(action::SIGN_IN, audit::account(known.user_id)).with("provider", provider);
        let done = accounts::begin_session(app, known.user_id).await;
        return audit::record(app, known.user_id, event, done).await;
    }
    let id = UserId::new(app.clock.as_ref(), app.entropy.as_ref());
    let email = accounts::parse_email(&person.email)?;
    let user = User { id, email, password_hash: None, created_ms: app.now_ms() };
    let made = app.meta.register_with_identity(user, identity(app, provider, id, &person), app.config.signup);
    match made.await? {
        Registration::Created => {
            let event = Event::new(action::REGISTER, audit::account(id)).with("provider", provider);
            audit::record(app, id, event, accounts::begin_session(app, id).await).await
        }
        Registration::Closed => Err(accounts::signup_closed()),
        Registration::EmailTaken | Registration::IdentityTaken => Err(stale()),
    }
}

fn identity(app: &App, provider: Provider, user_id: UserId, person: &Person) -> Identity {
    Identity {
        provider,
        subject: person.subject.clone(),
        user_id,
        name: person.name.clone(),
        linked_ms: app.now_ms(),
    }
}

/// The identities that open the caller's account.
pub async fn identities(app: &App, visitor: &Visitor) -> Result<Vec<Identity>> {
    Ok(app.meta.identities_of(visitor.user_id).await?)
}

/// Takes an identity away from the caller's account.
pub async fn unlink(app: &App, visitor: &Visitor, provider: Provider) -> Result<()> {
    let done = match app.meta.unlink_identity(visitor.user_id, provider).await? {
        UnlinkOutcome::Unlinked => Ok(()),
        UnlinkOutcome::NotLinked => Err(Problem::not_found()),
        UnlinkOutcome::LastWayIn => {
            let detail = "It is the only way into the account. Set a password or link another one first.";
            Err(Problem::conflict("last-way-in", "Nothing else opens the account", detail))
        }
    };
    let event =
        Event::new(action::IDENTITY_UNLINK, audit::account(visitor.user_id)).with("provider", provider);
    audit::record(app, visitor.user_id, event, done).await
}
