//! `/auth` and `/me`.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::extract::{From, Json};
use crate::app::App;
use crate::auth::{ApiUser, Tokens};
use crate::error::{Problem, Result};
use crate::ids::UserId;
use crate::service::accounts;

#[derive(Deserialize)]
pub struct Credentials {
    email: String,
    password: Zeroizing<String>,
}

#[derive(Deserialize)]
pub struct Refresh {
    refresh_token: Zeroizing<String>,
}

#[derive(Deserialize)]
pub struct PasswordChange {
    current_password: Zeroizing<String>,
    new_password: Zeroizing<String>,
}

#[derive(Serialize)]
pub struct Me {
    id: UserId,
    email: String,
}

pub async fn register(
    State(app): State<App>,
    From(address): From,
    Json(body): Json<Credentials>,
) -> Result<(StatusCode, axum::Json<Tokens>)> {
    let tokens = accounts::register(&app, &body.email, body.password, address).await?;
    Ok((StatusCode::CREATED, axum::Json(tokens)))
}

pub async fn login(
    State(app): State<App>,
    From(address): From,
    Json(body): Json<Credentials>,
) -> Result<axum::Json<Tokens>> {
    Ok(axum::Json(accounts::login(&app, &body.email, body.password, address).await?))
}

pub async fn refresh(State(app): State<App>, Json(body): Json<Refresh>) -> Result<axum::Json<Tokens>> {
    let tokens = accounts::refresh(&app, &body.refresh_token).await?;
    tokens.map(axum::Json).ok_or_else(Problem::unauthorized)
}

pub async fn logout(State(app): State<App>, ApiUser(visitor): ApiUser) -> Result<StatusCode> {
    accounts::logout(&app, &visitor).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn me(ApiUser(visitor): ApiUser) -> axum::Json<Me> {
    axum::Json(Me { id: visitor.user_id, email: visitor.email })
}

pub async fn change_password(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    From(address): From,
    Json(body): Json<PasswordChange>,
) -> Result<StatusCode> {
    accounts::change_password(&app, &visitor, body.current_password, body.new_password, address).await?;
    Ok(StatusCode::NO_CONTENT)
}
