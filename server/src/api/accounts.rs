//! `/auth` and `/me`.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::extract::{From, Json};
use super::openapi::ProblemBody;
use crate::app::App;
use crate::auth::{ApiUser, Tokens};
use crate::error::{Problem, Result};
use crate::ids::UserId;
use crate::service::accounts;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    email: String,
    #[schema(value_type = String)]
    password: Zeroizing<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Refresh {
    #[schema(value_type = String)]
    refresh_token: Zeroizing<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordChange {
    /// Left out where the account has none yet.
    #[schema(value_type = Option<String>)]
    current_password: Option<Zeroizing<String>>,
    #[schema(value_type = String)]
    new_password: Zeroizing<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountDeletion {
    /// The account's address.
    confirm: String,
    /// Left out where the account has none.
    #[schema(value_type = Option<String>)]
    password: Option<Zeroizing<String>>,
}

#[derive(Serialize, ToSchema)]
pub struct Me {
    id: UserId,
    email: String,
}

/// Makes an account and signs it in.
#[utoipa::path(
    post, path = "/auth/register", tag = "accounts",
    request_body = Credentials,
    responses((status = 201, description = "Signed in", body = Tokens), (status = 403, description = "`signup-closed`", body = ProblemBody), (status = 409, description = "`email-taken`", body = ProblemBody), (status = 429, description = "`too-many-attempts`", body = ProblemBody)),
    security(()),
)]
pub async fn register(
    State(app): State<App>,
    From(address): From,
    Json(body): Json<Credentials>,
) -> Result<(StatusCode, axum::Json<Tokens>)> {
    let tokens = accounts::register(&app, &body.email, body.password, address).await?;
    Ok((StatusCode::CREATED, axum::Json(tokens)))
}

/// Signs in.
#[utoipa::path(
    post, path = "/auth/login", tag = "accounts",
    request_body = Credentials,
    responses((status = 200, description = "Signed in", body = Tokens), (status = 401, description = "`wrong-credentials`", body = ProblemBody), (status = 429, description = "`too-many-attempts`", body = ProblemBody)),
    security(()),
)]
pub async fn login(
    State(app): State<App>,
    From(address): From,
    Json(body): Json<Credentials>,
) -> Result<axum::Json<Tokens>> {
    Ok(axum::Json(accounts::login(&app, &body.email, body.password, address).await?))
}

/// Trades a refresh token for its successor; one that comes twice ends its session.
#[utoipa::path(
    post, path = "/auth/refresh", tag = "accounts",
    request_body = Refresh,
    responses((status = 200, description = "Signed in; the old token is dead", body = Tokens), (status = 401, description = "`unauthorized`", body = ProblemBody)),
    security(()),
)]
pub async fn refresh(State(app): State<App>, Json(body): Json<Refresh>) -> Result<axum::Json<Tokens>> {
    let tokens = accounts::refresh(&app, &body.refresh_token).await?;
    tokens.map(axum::Json).ok_or_else(Problem::unauthorized)
}

/// Ends the session.
#[utoipa::path(
    post, path = "/auth/logout", tag = "accounts",
    responses((status = 204, description = "Signed out")),
)]
pub async fn logout(State(app): State<App>, ApiUser(visitor): ApiUser) -> Result<StatusCode> {
    accounts::logout(&app, &visitor).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Who is signed in.
#[utoipa::path(
    get, path = "/me", tag = "accounts",
    responses((status = 200, description = "The account", body = Me)),
)]
pub async fn me(ApiUser(visitor): ApiUser) -> axum::Json<Me> {
    axum::Json(Me { id: visitor.user_id, email: visitor.email })
}

/// Gives the account another password and signs out everywhere else.
#[utoipa::path(
    post, path = "/me/password", tag = "accounts",
    request_body = PasswordChange,
    responses((status = 204, description = "Changed; other sessions have ended"), (status = 429, description = "`too-many-attempts`", body = ProblemBody)),
)]
pub async fn change_password(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    From(address): From,
    Json(body): Json<PasswordChange>,
) -> Result<StatusCode> {
    accounts::change_password(&app, &visitor, body.current_password, body.new_password, address).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends every session of the account, this one too.
#[utoipa::path(
    post, path = "/me/sign-out-everywhere", tag = "accounts",
    responses((status = 204, description = "Signed out everywhere")),
)]
pub async fn sign_out_everywhere(State(app): State<App>, ApiUser(visitor): ApiUser) -> Result<StatusCode> {
    accounts::sign_out_everywhere(&app, &visitor).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Removes the account with all its projects and their snapshots.
#[utoipa::path(
    post, path = "/me/delete", tag = "accounts",
    request_body = AccountDeletion,
    responses(
        (status = 204, description = "Gone"),
        (status = 409, description = "`jobs-running`", body = ProblemBody),
        (status = 429, description = "`too-many-attempts`", body = ProblemBody),
    ),
)]
pub async fn delete(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    From(address): From,
    Json(body): Json<AccountDeletion>,
) -> Result<StatusCode> {
    accounts::delete(&app, &visitor, &body.confirm, body.password, address).await?;
    Ok(StatusCode::NO_CONTENT)
}
