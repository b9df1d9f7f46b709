//! The pages: forms in, redirects and markup out. Each function reads the request, asks
//! [`crate::service`], and fills a view model; `web` does the rest.

pub mod account;
pub mod account_settings;
pub mod assets;
pub mod audit;
pub mod database_settings;
pub mod databases;
pub mod diffs;
pub mod jobs;
pub mod keys;
mod place;
pub mod projects;
pub mod restores;
pub mod restores_in_place;
pub mod schedules;
pub mod snapshots;
pub mod usage;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Redirect, Response};
use maud::Markup;
use serde_json::Value;
use web::layout::Shell;
use web::pages::error::ErrorPage;
use web::urls;

use crate::app::App;
use crate::auth::{PageUser, Visitor};
use crate::error::Problem;

/// The largest body of a problem that is read back.
const MAX_PROBLEM_BYTES: usize = 64 * 1024;

/// The frame of a page for somebody signed in.
fn shell(app: &App, visitor: &Visitor) -> Shell {
    Shell { email: Some(visitor.email.clone()), now_ms: app.now_ms() }
}

/// A page.
fn html(page: Markup) -> Response {
    Html(page.into_string()).into_response()
}

/// After a form was accepted: a page that can be loaded again without sending it twice.
fn see_other(path: &str) -> Response {
    Redirect::to(path).into_response()
}

/// The page again, with what is wrong on it.
fn again(problem: &Problem, page: Markup) -> Response {
    problem.log();
    let mut response = (problem.status, html(page)).into_response();
    if let Some(seconds) = problem.retry_after() {
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    response
}

/// A problem as a form shows it.
fn shown(problem: &Problem) -> web::components::Problem {
    web::components::Problem::new(problem.title).with_fix(problem.detail.clone())
}

/// Gives people a page where programs would get a problem in JSON or a bare line of text.
pub async fn errors_as_pages(
    State(app): State<App>,
    visitor: Option<PageUser>,
    request: Request,
    next: Next,
) -> Response {
    let for_people = is_page(request.uri().path(), request.headers());
    let response = next.run(request).await;
    let status = response.status();
    let failed = status.is_client_error() || status.is_server_error();
    if !for_people || !failed || is_type(response.headers(), "text/html") {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let told =
        if is_type(&parts.headers, "application/problem+json") { read_problem(body).await } else { None };
    let Told { title, advice, link } = told.unwrap_or_else(|| in_general(status));
    let email = visitor.map(|PageUser(visitor)| visitor.email);
    let shell = Shell { email, now_ms: app.now_ms() };
    let page = web::pages::error::page(&ErrorPage { shell, status: status.as_u16(), title, advice, link });
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    Response::from_parts(parts, Body::from(page.into_string()))
}

/// Whether people go to this address; the others are for programs.
fn is_page(path: &str, headers: &HeaderMap) -> bool {
    // A sign-in with another site ends at an address of the API, in front of a person.
    let accepts_pages = || {
        let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
        accepted.is_some_and(|accepted| accepted.contains("text/html"))
    };
    if path.starts_with("/api/v1/auth/") && path.ends_with("/callback") {
        return accepts_pages();
    }
    !path.starts_with("/api/") && !matches!(path, "/healthz" | "/readyz" | "/metrics")
}

fn is_type(headers: &HeaderMap, expected: &str) -> bool {
    let found = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    found.is_some_and(|found| found.starts_with(expected))
}

/// What a page says of a problem.
struct Told {
    title: String,
    advice: String,
    /// Where the advice is followed: words and address.
    link: Option<(&'static str, &'static str)>,
}

async fn read_problem(body: Body) -> Option<Told> {
    let bytes = axum::body::to_bytes(body, MAX_PROBLEM_BYTES).await.ok()?;
    let problem: Value = serde_json::from_slice(&bytes).ok()?;
    let text = |field: &str| problem.get(field)?.as_str().map(str::to_owned);
    let link = (text("type")? == "locked").then_some(("Open existing storage", urls::STORAGE));
    Some(Told { title: text("title")?, advice: text("detail")?, link })
}

/// What the framework refuses before any of our code sees it.
fn in_general(status: StatusCode) -> Told {
    let (title, advice) = match status {
        StatusCode::METHOD_NOT_ALLOWED => {
            ("This address takes no such request", "Go back and use the page's own form.")
        }
        StatusCode::PAYLOAD_TOO_LARGE => ("Too much was sent", "Go back and send less."),
        _ if status.is_client_error() => {
            ("The form could not be read", "Go back, load the page again and fill it in anew.")
        }
        _ => ("Something went wrong", "Try again. If it stays, the server's log says more."),
    };
    Told { title: title.to_owned(), advice: advice.to_owned(), link: None }
}
