//! Registering, signing in and out, in a browser.

use axum::Form;
use axum::extract::{Query, State};
use axum::response::{Redirect, Response};
use serde::Deserialize;
use web::layout::Shell;
use web::pages::account::{self, Account, Purpose, SignInLink};
use web::urls;
use zeroize::Zeroizing;

use super::{again, html, see_other, shown};
use crate::api::extract::From;
use crate::app::App;
use crate::auth::{PageUser, Tokens, end_cookies, set_cookies};
use crate::error::{Problem, Result};
use crate::service::accounts;

/// Where somebody wanted to go before signing in.
#[derive(Deserialize)]
pub struct Wanted {
    next: Option<String>,
}

/// What the two forms send.
#[derive(Deserialize)]
pub struct Typed {
    email: String,
    password: Zeroizing<String>,
    next: Option<String>,
}

/// The front door: to the projects, to the sign-in form, or on a new server to the first account.
pub async fn front(State(app): State<App>, visitor: Option<PageUser>) -> Result<Redirect> {
    Ok(Redirect::to(if visitor.is_some() {
        urls::PROJECTS
    } else if !app.meta.has_users().await? && accounts::registration_is_open(&app).await? {
        urls::REGISTER
    } else {
        urls::LOGIN
    }))
}

/// The sign-in form.
pub async fn login_form(
    State(app): State<App>,
    visitor: Option<PageUser>,
    Query(wanted): Query<Wanted>,
) -> Result<Response> {
    form(&app, visitor, Purpose::SignIn, wanted.next).await
}

/// The form for a new account.
pub async fn register_form(
    State(app): State<App>,
    visitor: Option<PageUser>,
    Query(wanted): Query<Wanted>,
) -> Result<Response> {
    form(&app, visitor, Purpose::Register, wanted.next).await
}

/// Signs in.
pub async fn login(
    State(app): State<App>,
    From(address): From,
    Form(typed): Form<Typed>,
) -> Result<Response> {
    let signed_in = accounts::login(&app, &typed.email, typed.password, address).await;
    enter(&app, Purpose::SignIn, signed_in, typed.email, typed.next).await
}

/// Makes an account and signs in.
pub async fn register(
    State(app): State<App>,
    From(address): From,
    Form(typed): Form<Typed>,
) -> Result<Response> {
    let registered = accounts::register(&app, &typed.email, typed.password, address).await;
    enter(&app, Purpose::Register, registered, typed.email, typed.next).await
}

/// Signs out.
pub async fn logout(State(app): State<App>, visitor: Option<PageUser>) -> Result<Response> {
    if let Some(PageUser(visitor)) = visitor {
        accounts::logout(&app, &visitor).await?;
    }
    let mut response = see_other(urls::LOGIN);
    end_cookies(&app, response.headers_mut());
    Ok(response)
}

async fn form(
    app: &App,
    visitor: Option<PageUser>,
    purpose: Purpose,
    next: Option<String>,
) -> Result<Response> {
    if visitor.is_some() {
        return Ok(see_other(destination(next.as_deref())));
    }
    let view = view(app, purpose, String::new(), next).await?;
    Ok(html(account::page(&view)))
}

async fn enter(
    app: &App,
    purpose: Purpose,
    tokens: Result<Tokens>,
    email: String,
    next: Option<String>,
) -> Result<Response> {
    let problem = match tokens {
        Ok(tokens) => {
            let mut response = see_other(destination(next.as_deref()));
            set_cookies(app, response.headers_mut(), &tokens);
            return Ok(response);
        }
        Err(problem) if problem.status.is_server_error() => return Err(problem),
        Err(problem) => problem,
    };
    let view = Account { problem: Some(shown(&problem)), ..view(app, purpose, email, next).await? };
    Ok(refused(&problem, &view))
}

/// A wrong password is no 401 to a browser: that would ask for another way of signing in.
fn refused(problem: &Problem, view: &Account) -> Response {
    let mut response = again(problem, account::page(view));
    if problem.status == axum::http::StatusCode::UNAUTHORIZED {
        *response.status_mut() = axum::http::StatusCode::UNPROCESSABLE_ENTITY;
    }
    response
}

async fn view(app: &App, purpose: Purpose, email: String, next: Option<String>) -> Result<Account> {
    Ok(Account {
        shell: Shell::signed_out(app.now_ms()),
        purpose,
        email,
        problem: None,
        signup_open: accounts::registration_is_open(app).await?,
        providers: providers(app, next.as_deref().filter(|next| local(next))),
        next: next.filter(|next| local(next)),
    })
}

/// The sites that this server takes sign-ins from.
pub(super) fn providers(app: &App, next: Option<&str>) -> Vec<SignInLink> {
    let all = app.config.providers.iter().map(|configured| configured.provider);
    all.map(|provider| SignInLink::new(provider.as_str(), provider.name(), next)).collect()
}

fn destination(next: Option<&str>) -> &str {
    next.filter(|next| local(next)).unwrap_or(urls::PROJECTS)
}

/// A path of this site. Browsers read `//host` and `/\host` as another site, and drop control
/// characters before looking.
pub(crate) fn local(next: &str) -> bool {
    next.starts_with('/')
        && !next[1..].starts_with(['/', '\\'])
        && next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_this_site_are_gone_to() {
        assert_eq!(destination(Some("/databases/d1?cursor=x")), "/databases/d1?cursor=x");
        for elsewhere in
            ["//evil.example", "/\\evil.example", "https://evil.example", "/\t/evil.example", "", "x"]
        {
            assert_eq!(destination(Some(elsewhere)), urls::PROJECTS, "{elsewhere:?}");
        }
    }
}
