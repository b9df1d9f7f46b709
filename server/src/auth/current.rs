//! Who is signed in, as handlers ask for it.

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::http::{Method, header, request::Parts};
use axum::response::{IntoResponse, Redirect, Response};

use crate::app::App;
use crate::error::Problem;
use crate::ids::{SessionId, UserId};
use crate::service::accounts;

/// Somebody with a living session. The session middleware puts it into requests whose cookies
/// stand for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visitor {
    pub user_id: UserId,
    pub session_id: SessionId,
    pub email: String,
}

/// The caller of the JSON API, by bearer token or session cookie. Without one: 401.
#[derive(Clone, Debug)]
pub struct ApiUser(pub Visitor);

/// The reader of a page, by session cookie. Without one: to the sign-in form and back.
#[derive(Clone, Debug)]
pub struct PageUser(pub Visitor);

/// The bearer token of a request, if it has one.
pub(super) fn bearer(parts: &Parts) -> Option<&str> {
    let value = parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

impl FromRequestParts<App> for ApiUser {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        if parts.headers.contains_key(header::AUTHORIZATION) {
            let token = bearer(parts).ok_or_else(Problem::unauthorized)?;
            let visitor = accounts::authenticate(app, token).await?;
            return visitor.map(Self).ok_or_else(Problem::unauthorized);
        }
        parts.extensions.get::<Visitor>().cloned().map(Self).ok_or_else(Problem::unauthorized)
    }
}

impl FromRequestParts<App> for PageUser {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Response> {
        match parts.extensions.get::<Visitor>() {
            Some(visitor) => Ok(Self(visitor.clone())),
            None => Err(to_login(parts).into_response()),
        }
    }
}

impl OptionalFromRequestParts<App> for PageUser {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Option<Self>, Self::Rejection> {
        Ok(parts.extensions.get::<Visitor>().cloned().map(Self))
    }
}

/// To the sign-in form, which leads back to the page asked for; a form's answer is not asked for
/// again, since what was typed is lost.
fn to_login(parts: &Parts) -> Redirect {
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    if parts.method != Method::GET || path == "/" {
        return Redirect::to("/login");
    }
    let next = percent_encoding::utf8_percent_encode(path, percent_encoding::NON_ALPHANUMERIC);
    Redirect::to(&format!("/login?next={next}"))
}
