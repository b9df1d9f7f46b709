//! What holds for every request: no state change on another site's behalf, headers that tell the
//! browser what this site never does, an end to every wait.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::error::{Problem, Result};

/// The largest body a request may have. Forms and JSON are far smaller.
pub const MAX_BODY_BYTES: usize = 256 * 1024;
/// How long a handler may take to begin its answer; a connection test's stages fit into it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Everything from here, nothing inline.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     font-src 'self'; connect-src 'self'; worker-src 'self'; form-action 'self'; base-uri 'none'; \
     frame-ancestors 'none'";

const HEADERS: [(HeaderName, &str); 8] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    // Not no-referrer: with it browsers send `Origin: null` with this site's own forms.
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
    (HeaderName::from_static("x-robots-tag"), "noindex"),
];

/// Adds the security headers to every answer. Pages and API answers are not to be stored; assets
/// say otherwise themselves.
pub async fn add_headers(State(app): State<App>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if app.config.is_https() {
        let year = HeaderValue::from_static("max-age=31536000");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, year);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Ends a request whose handler takes too long to begin an answer. Streams begin at once.
pub async fn limit_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(ANSWER_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let detail = "The answer took too long to make. Try again later.";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "timeout", "Timed out", detail).into_response()
        }
    }
}

/// Refuses state changes that another site asked the browser for. Browsers say who asked, by
/// `Sec-Fetch-Site` or `Origin`; a request with neither is not from a browser, so no cookie is
/// misused by it.
pub async fn refuse_cross_site(State(app): State<App>, request: Request, next: Next) -> Response {
    match check_site(&app, request.method(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn check_site(app: &App, method: &Method, headers: &HeaderMap) -> Result<()> {
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    check_origin(app, headers)
}

/// Refuses what another site asked the browser for, by whatever method.
pub fn check_origin(app: &App, headers: &HeaderMap) -> Result<()> {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let refused = || {
        let detail = "The request came from another site. Open this page directly and try again.";
        Err(Problem::new(StatusCode::FORBIDDEN, "cross-site", "Cross-site request refused", detail))
    };
    if let Some(site) = text(HeaderName::from_static("sec-fetch-site")) {
        return if matches!(site, "same-origin" | "none") { Ok(()) } else { refused() };
    }
    let Some(origin) = text(header::ORIGIN) else { return Ok(()) };
    let public = app.config.public_url.as_ref().map(|url| url.origin().ascii_serialization());
    if public.as_deref() == Some(origin) {
        return Ok(());
    }
    let host = text(header::HOST);
    let same = origin.split_once("://").is_some_and(|(_, authority)| Some(authority) == host);
    if same { Ok(()) } else { refused() }
}
