//! Sessions of browsers: the same tokens as the API's, in cookies that scripts cannot read.

use std::collections::HashMap;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use axum_extra::extract::cookie::{Cookie, CookieJar, SameSite};
use tokio::sync::Mutex;

use super::{ACCESS_SECONDS, REFRESH_SECONDS, Tokens, Visitor, hash_token};
use crate::app::App;
use crate::error::Result;
use crate::meta::TokenHash;
use crate::service::accounts;

/// How long the successor of a refresh token is given out again. A browser sends several requests
/// at once with the same cookie; only the first may rotate it, and the others are no theft.
const REPEAT_MS: u64 = 10_000;

/// Rotations of the last seconds, by the token that was traded in. One at a time.
#[derive(Default)]
pub struct Rotations(Mutex<HashMap<TokenHash, (Tokens, u64)>>);

impl Rotations {
    /// The successor of a browser's refresh token; none if it is not accepted.
    async fn successor(&self, app: &App, refresh_token: &str) -> Result<Option<Tokens>> {
        let mut recent = self.0.lock().await;
        let elapsed_ms = app.elapsed_ms();
        recent.retain(|_, (_, at_ms)| elapsed_ms.saturating_sub(*at_ms) < REPEAT_MS);
        let hash = hash_token(refresh_token);
        if let Some((tokens, _)) = recent.get(&hash) {
            return Ok(Some(tokens.clone()));
        }
        let tokens = accounts::refresh(app, refresh_token).await?;
        if let Some(tokens) = &tokens {
            recent.insert(hash, (tokens.clone(), elapsed_ms));
        }
        Ok(tokens)
    }
}

/// Finds out whose cookies came with a request, renews them when the access token has ended, and
/// clears them when they are worth nothing.
pub async fn carry_session(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let jar = CookieJar::from_headers(request.headers());
    let cookie = |kind| jar.get(&name(&app, kind)).map(|cookie| cookie.value().to_owned());
    let (access, refresh) = (cookie(Kind::Access), cookie(Kind::Refresh));
    if (access.is_none() && refresh.is_none()) || request.headers().contains_key(header::AUTHORIZATION) {
        return next.run(request).await;
    }
    match visitor(&app, access.as_deref(), refresh.as_deref()).await {
        Ok((visitor, renewed)) => {
            let known = visitor.is_some();
            if let Some(visitor) = visitor {
                request.extensions_mut().insert(visitor);
            }
            let mut response = next.run(request).await;
            // Signing in or out during this request has set cookies of its own.
            if !sets_session(&app, response.headers()) {
                match renewed {
                    Some(tokens) => set_cookies(&app, response.headers_mut(), &tokens),
                    None if !known => end_cookies(&app, response.headers_mut()),
                    None => {}
                }
            }
            response
        }
        Err(problem) => {
            // The store failed: the request goes on as nobody's, the cookies stay.
            problem.log();
            next.run(request).await
        }
    }
}

fn sets_session(app: &App, headers: &HeaderMap) -> bool {
    let access = name(app, Kind::Access);
    let mut set = headers.get_all(header::SET_COOKIE).iter();
    set.any(|value| value.to_str().is_ok_and(|value| value.starts_with(&access)))
}

async fn visitor(
    app: &App,
    access: Option<&str>,
    refresh: Option<&str>,
) -> Result<(Option<Visitor>, Option<Tokens>)> {
    if let Some(access) = access
        && let Some(visitor) = accounts::authenticate(app, access).await?
    {
        return Ok((Some(visitor), None));
    }
    let Some(refresh) = refresh else { return Ok((None, None)) };
    let Some(tokens) = app.rotations.successor(app, refresh).await? else { return Ok((None, None)) };
    let visitor = accounts::authenticate(app, &tokens.access_token).await?;
    Ok((visitor, Some(tokens)))
}

#[derive(Clone, Copy)]
enum Kind {
    Access,
    Refresh,
    /// An attempt to sign in with a provider.
    Attempt,
}

/// Behind https the prefix holds the cookie to this host alone.
fn name(app: &App, kind: Kind) -> String {
    let name = match kind {
        Kind::Access => "dbsnap_access",
        Kind::Refresh => "dbsnap_refresh",
        Kind::Attempt => "dbsnap_attempt",
    };
    if app.config.is_https() { format!("__Host-{name}") } else { name.to_owned() }
}

/// Signs a browser in.
pub fn set_cookies(app: &App, headers: &mut HeaderMap, tokens: &Tokens) {
    add(app, headers, Kind::Access, tokens.access_token.clone(), ACCESS_SECONDS);
    add(app, headers, Kind::Refresh, tokens.refresh_token.clone(), REFRESH_SECONDS);
}

/// Signs a browser out.
pub fn end_cookies(app: &App, headers: &mut HeaderMap) {
    add(app, headers, Kind::Access, String::new(), 0);
    add(app, headers, Kind::Refresh, String::new(), 0);
}

/// Lets a browser carry its attempt to sign in with a provider.
pub fn set_attempt(app: &App, headers: &mut HeaderMap, sealed: String, seconds: i64) {
    add(app, headers, Kind::Attempt, sealed, seconds);
}

/// The attempt ended.
pub fn end_attempt(app: &App, headers: &mut HeaderMap) {
    add(app, headers, Kind::Attempt, String::new(), 0);
}

/// The attempt a browser carries.
pub fn attempt(app: &App, headers: &HeaderMap) -> Option<String> {
    let jar = CookieJar::from_headers(headers);
    jar.get(&name(app, Kind::Attempt)).map(|cookie| cookie.value().to_owned())
}

fn add(app: &App, headers: &mut HeaderMap, kind: Kind, value: String, seconds: i64) {
    // Lax: a link from elsewhere arrives signed in, a form from elsewhere does not.
    let cookie = Cookie::build((name(app, kind), value))
        .path("/")
        .http_only(true)
        .secure(app.config.is_https())
        .same_site(SameSite::Lax)
        .build();
    let text = format!("{cookie}; Max-Age={seconds}");
    let value = HeaderValue::from_str(&text).expect("because tokens and names are plain ASCII");
    headers.append(header::SET_COOKIE, value);
}
