//! The account's own page: password, other ways in, signing out everywhere, deletion.

use axum::Form;
use axum::extract::{Query, State};
use axum::response::Response;
use serde::Deserialize;
use web::pages::account_settings::{self as page_of, AccountSettings, Linked, Outcome};
use web::urls;
use zeroize::Zeroizing;

use super::account::providers;
use super::{again, html, see_other, shell, shown};
use crate::api::extract::From;
use crate::app::App;
use crate::auth::{PageUser, Visitor, end_cookies};
use crate::error::{Problem, Result};
use crate::meta::Provider;
use crate::service::{accounts, sign_in};

/// What was just done, carried by the address.
#[derive(Deserialize)]
pub struct Done {
    done: Option<String>,
}

#[derive(Deserialize)]
pub struct PasswordTyped {
    current_password: Option<Zeroizing<String>>,
    new_password: Zeroizing<String>,
}

#[derive(Deserialize)]
pub struct Unlinked {
    provider: Provider,
}

#[derive(Deserialize)]
pub struct DeletionTyped {
    confirm: String,
    password: Option<Zeroizing<String>>,
}

/// The page.
pub async fn page(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    Query(done): Query<Done>,
) -> Result<Response> {
    let outcome = match done.done.as_deref() {
        Some("password") => Outcome::PasswordChanged,
        _ => Outcome::None,
    };
    Ok(html(page_of::page(&view(&app, &visitor, outcome).await?)))
}

/// Changes the password, or sets the first.
pub async fn change_password(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    From(address): From,
    Form(typed): Form<PasswordTyped>,
) -> Result<Response> {
    let PasswordTyped { current_password, new_password } = typed;
    match accounts::change_password(&app, &visitor, current_password, new_password, address).await {
        Ok(()) => Ok(see_other(&format!("{}?done=password", urls::ACCOUNT))),
        Err(problem) => refused(&app, &visitor, problem).await,
    }
}

/// Ends every session of the account.
pub async fn sign_out_everywhere(State(app): State<App>, PageUser(visitor): PageUser) -> Result<Response> {
    accounts::sign_out_everywhere(&app, &visitor).await?;
    Ok(signed_out(&app))
}

/// Takes an identity away.
pub async fn unlink(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    Form(typed): Form<Unlinked>,
) -> Result<Response> {
    match sign_in::unlink(&app, &visitor, typed.provider).await {
        Ok(()) => Ok(see_other(urls::ACCOUNT)),
        Err(problem) => refused(&app, &visitor, problem).await,
    }
}

/// Deletes the account.
pub async fn delete(
    State(app): State<App>,
    PageUser(visitor): PageUser,
    From(address): From,
    Form(typed): Form<DeletionTyped>,
) -> Result<Response> {
    match accounts::delete(&app, &visitor, &typed.confirm, typed.password, address).await {
        Ok(()) => Ok(signed_out(&app)),
        Err(problem) => refused(&app, &visitor, problem).await,
    }
}

fn signed_out(app: &App) -> Response {
    let mut response = see_other(urls::LOGIN);
    end_cookies(app, response.headers_mut());
    response
}

async fn refused(app: &App, visitor: &Visitor, problem: Problem) -> Result<Response> {
    if problem.status.is_server_error() {
        return Err(problem);
    }
    let view = view(app, visitor, Outcome::Refused(shown(&problem))).await?;
    Ok(again(&problem, page_of::page(&view)))
}

async fn view(app: &App, visitor: &Visitor, outcome: Outcome) -> Result<AccountSettings> {
    let linked = sign_in::identities(app, visitor).await?;
    let mut linkable = providers(app, Some(urls::ACCOUNT));
    linkable.retain(|link| linked.iter().all(|linked| linked.provider.name() != link.name));
    Ok(AccountSettings {
        shell: shell(app, visitor),
        email: visitor.email.clone(),
        has_password: accounts::has_password(app, visitor).await?,
        linked: linked
            .into_iter()
            .map(|identity| Linked {
                provider: identity.provider.as_str().to_owned(),
                provider_name: identity.provider.name().to_owned(),
                name: identity.name,
                linked_ms: identity.linked_ms,
            })
            .collect(),
        linkable,
        outcome,
    })
}
