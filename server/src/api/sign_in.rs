//! `/auth/{provider}` and `/me/identities`: signing in with GitHub and Google.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use web::urls;

use super::extract::{From, ListQuery, OpenQuery, Path, Query};
use super::openapi::ProblemBody;
use super::rfc3339;
use crate::app::App;
use crate::auth::{ApiUser, PageUser, attempt, end_attempt, set_attempt, set_cookies};
use crate::error::Result;
use crate::meta::{Identity, Page, Provider};
use crate::routes::account::local;
use crate::security::check_origin;
use crate::service::sign_in::{self, Returned, SignedIn};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Start {
    /// An address of this site to go to afterwards.
    #[param(value_type = String, required = false)]
    next: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct IdentityBody {
    provider: Provider,
    /// What the provider calls the person.
    name: String,
    linked_at: String,
}

impl std::convert::From<Identity> for IdentityBody {
    fn from(identity: Identity) -> Self {
        Self { provider: identity.provider, name: identity.name, linked_at: rfc3339(identity.linked_ms) }
    }
}

/// Sends a browser to GitHub or Google. Signed in, it links what it finds there to the account.
#[utoipa::path(
    get, path = "/auth/{provider}/start", tag = "accounts",
    params(("provider" = Provider, Path), Start),
    responses((status = 303, description = "To the provider"), (status = 403, description = "`cross-site`", body = ProblemBody), (status = 404, description = "`provider-not-configured`", body = ProblemBody)),
    security(()),
)]
pub async fn start(
    State(app): State<App>,
    visitor: Option<PageUser>,
    Path(provider): Path<Provider>,
    OpenQuery(query): OpenQuery<Start>,
    headers: HeaderMap,
) -> Result<Response> {
    if visitor.is_some() {
        // An identity is linked because its owner wants it, not because another site sent the browser here.
        check_origin(&app, &headers)?;
    }
    let visitor = visitor.as_ref().map(|PageUser(visitor)| visitor);
    let (url, sealed) = sign_in::start(&app, provider, visitor, query.next.filter(|next| local(next)))?;
    let mut response = Redirect::to(url.as_str()).into_response();
    set_attempt(&app, response.headers_mut(), sealed, sign_in::ATTEMPT_SECONDS);
    Ok(response)
}

/// Takes a browser back from GitHub or Google and signs it in by cookies.
#[utoipa::path(
    get, path = "/auth/{provider}/callback", tag = "accounts",
    params(
        ("provider" = Provider, Path),
        ("code" = Option<String>, Query),
        ("state" = Option<String>, Query),
        ("error" = Option<String>, Query, description = "Why there is no code"),
    ),
    responses(
        (status = 303, description = "Signed in or linked; to the pages"),
        (status = 400, description = "`stale-sign-in`", body = ProblemBody),
        (status = 403, description = "`signup-closed` or `sign-in-denied`", body = ProblemBody),
        (status = 409, description = "`identity-taken` or `other-identity-linked`", body = ProblemBody),
        (status = 429, description = "`too-many-attempts`", body = ProblemBody),
    ),
    security(()),
)]
pub async fn callback(
    State(app): State<App>,
    visitor: Option<PageUser>,
    From(address): From,
    Path(provider): Path<Provider>,
    OpenQuery(returned): OpenQuery<Returned>,
    headers: HeaderMap,
) -> Response {
    let visitor = visitor.map(|PageUser(visitor)| visitor);
    let carried = attempt(&app, &headers);
    let ended = sign_in::finish(&app, provider, carried, returned, visitor, address).await;
    let mut response = match ended {
        Ok((SignedIn::As(tokens), next)) => {
            let mut response = Redirect::to(next.as_deref().unwrap_or(urls::PROJECTS)).into_response();
            set_cookies(&app, response.headers_mut(), &tokens);
            response
        }
        Ok((SignedIn::Linked, next)) => {
            Redirect::to(next.as_deref().unwrap_or(urls::ACCOUNT)).into_response()
        }
        Err(problem) => problem.into_response(),
    };
    // However it ended, it did.
    end_attempt(&app, response.headers_mut());
    response
}

/// The identities that open the account.
#[utoipa::path(
    get, path = "/me/identities", tag = "accounts",
    params(ListQuery),
    responses((status = 200, description = "All of them", body = Page<IdentityBody>)),
)]
pub async fn identities(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Query(query): Query<ListQuery>,
) -> Result<axum::Json<Page<IdentityBody>>> {
    let (limit, cursor) = query.limit_and_cursor()?;
    let mut all = sign_in::identities(&app, &visitor).await?;
    // There is at most one of each provider, so its word is the key.
    all.retain(|identity| cursor.as_deref().is_none_or(|after| identity.provider.as_str() > after));
    let more = all.len() > limit;
    all.truncate(limit);
    let next_cursor = all.last().filter(|_| more).map(|last| last.provider.as_str().to_owned());
    Ok(axum::Json(Page { items: all.into_iter().map(IdentityBody::from).collect(), next_cursor }))
}

/// Takes an identity away from the account, unless it is the only way in.
#[utoipa::path(
    delete, path = "/me/identities/{provider}", tag = "accounts",
    params(("provider" = Provider, Path)),
    responses((status = 204, description = "Unlinked"), (status = 409, description = "`last-way-in`", body = ProblemBody)),
)]
pub async fn unlink(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(provider): Path<Provider>,
) -> Result<StatusCode> {
    sign_in::unlink(&app, &visitor, provider).await?;
    Ok(StatusCode::NO_CONTENT)
}
