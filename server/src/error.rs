//! What a caller is told when something does not work: one type for the JSON API and the pages.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use engine::{Kind, shortened};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub type Result<T> = std::result::Result<T, Problem>;

/// A problem in the sense of RFC 9457. `slug` is what programs may rely on, `detail` says what to
/// do. A cause is for the log only.
#[derive(Debug)]
pub struct Problem {
    pub status: StatusCode,
    pub slug: &'static str,
    pub title: &'static str,
    pub detail: String,
    /// Fields of this kind of problem alone.
    pub fields: Map<String, Value>,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Problem {
    pub fn new(
        status: StatusCode,
        slug: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self { status, slug, title, detail: detail.into(), fields: Map::new(), cause: None }
    }

    /// Adds a field of its own.
    #[must_use]
    pub fn with(mut self, field: &str, value: impl Serialize) -> Self {
        self.fields.insert(field.to_owned(), json!(value));
        self
    }

    #[must_use]
    fn caused_by(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Nothing of that name, or nothing that is the caller's: the two look the same.
    pub fn not_found() -> Self {
        let detail = "There is nothing here that is yours. Check the address.";
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail)
    }

    /// A value in the request that cannot be used.
    pub fn invalid(field: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "The request cannot be used", detail)
            .with("field", field)
    }

    /// A list's cursor that is none.
    pub fn wrong_cursor() -> Self {
        Self::invalid("cursor", "Use the cursor as an earlier answer gave it.")
    }

    /// Nobody is signed in.
    pub fn unauthorized() -> Self {
        let detail = "Sign in, or send a valid access token.";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "Not signed in", detail)
    }

    /// The state of things does not allow it.
    pub fn conflict(slug: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, slug, title, detail)
    }

    /// A defect, or a machine in trouble.
    pub fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        let detail = "Try again. If it stays, the server's log says more.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Something went wrong", detail)
            .caused_by(cause)
    }

    /// Whether the reason may pass by itself, so that the same attempt may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self.slug, "unreachable" | "storage" | "metadata" | "source-changed")
    }

    /// Logs what the caller cannot mend. Called once, where the answer is made.
    pub fn log(&self) {
        if self.status.is_server_error() {
            let cause = self.cause.as_ref().map(|cause| causes(cause.as_ref())).unwrap_or_default();
            tracing::error!(slug = self.slug, detail = %self.detail, cause, "request failed");
        }
    }

    /// The problem and its cause in one line, for the operator.
    pub fn describe(&self) -> String {
        match &self.cause {
            Some(cause) => causes(cause.as_ref()),
            None => self.detail.clone(),
        }
    }

    /// The engine's kind of the error that it came from.
    pub fn kind(&self) -> Option<Kind> {
        self.cause.as_ref()?.downcast_ref::<engine::Error>().map(engine::Error::kind)
    }

    /// After how many seconds the same may be tried again.
    pub fn retry_after(&self) -> Option<HeaderValue> {
        self.fields.get("retry_after_seconds").and_then(Value::as_u64).map(HeaderValue::from)
    }

    /// Whether what it came from has a cause of its own.
    pub fn has_deeper_cause(&self) -> bool {
        self.cause.as_ref().is_some_and(|cause| cause.source().is_some())
    }

    /// The body of an answer.
    pub fn body(&self) -> Value {
        let mut body = self.fields.clone();
        body.insert("type".to_owned(), json!(self.slug));
        body.insert("title".to_owned(), json!(self.title));
        body.insert("detail".to_owned(), json!(self.detail));
        body.insert("status".to_owned(), json!(self.status.as_u16()));
        Value::Object(body)
    }
}

/// An error and what caused it, in one line for the log.
pub fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = shortened(error.to_string());
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = shortened(cause.to_string());
        // Some errors say what caused them themselves.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.log();
        let mut response = (self.status, axum::Json(self.body())).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}

impl From<crate::meta::Error> for Problem {
    fn from(error: crate::meta::Error) -> Self {
        if !error.is_io() {
            return Self::internal(error);
        }
        let detail = "The server cannot read or write its data folder; the disk may be full. Try again in a moment, \
                      and look whether what you did is there.";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, "metadata", "The server's records cannot be used", detail).caused_by(error)
    }
}

impl From<crate::server_key::SealBroken> for Problem {
    fn from(error: crate::server_key::SealBroken) -> Self {
        Self::internal(error)
    }
}

/// The one place where the engine's kinds become statuses.
fn of_kind(kind: Kind) -> (StatusCode, &'static str, &'static str) {
    match kind {
        Kind::Invalid => (StatusCode::UNPROCESSABLE_ENTITY, "invalid", "The request cannot be used"),
        Kind::NotFound => (StatusCode::NOT_FOUND, "not-found", "Not found"),
        Kind::Unreachable => {
            (StatusCode::UNPROCESSABLE_ENTITY, "unreachable", "The database cannot be reached")
        }
        Kind::Denied => (StatusCode::UNPROCESSABLE_ENTITY, "denied", "The database refused the credentials"),
        Kind::NotReadOnly => (StatusCode::UNPROCESSABLE_ENTITY, "not-read-only", "The credentials can write"),
        Kind::Conflict => (StatusCode::CONFLICT, "target-changed", "The target is not as planned"),
        Kind::Ended => (StatusCode::CONFLICT, "ended", "Another process ended it"),
        Kind::InUse => (StatusCode::SERVICE_UNAVAILABLE, "in-use", "Another server uses the repository"),
        Kind::Locked => (StatusCode::SERVICE_UNAVAILABLE, "locked", "No key here opens the repository"),
        Kind::SourceChanged => (StatusCode::CONFLICT, "source-changed", "The database changed meanwhile"),
        Kind::Damaged => (StatusCode::INTERNAL_SERVER_ERROR, "damaged", "Stored bytes are damaged"),
        Kind::Storage => (StatusCode::SERVICE_UNAVAILABLE, "storage", "The storage does not work"),
        Kind::Keys => (StatusCode::SERVICE_UNAVAILABLE, "keys", "The key service does not work"),
        Kind::Refused => {
            (StatusCode::UNPROCESSABLE_ENTITY, "target-refused", "The target refused the snapshot")
        }
        Kind::Unsupported => (StatusCode::UNPROCESSABLE_ENTITY, "unsupported", "Not supported"),
        Kind::Cancelled => (StatusCode::CONFLICT, "cancelled", "Cancelled"),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "Something went wrong"),
    }
}

/// The engine's message as a sentence, and what to do about it.
pub fn sentences(message: &str, help: Option<&str>) -> String {
    let message = message.trim_end();
    let mut text = if begins_with_a_word(message) { capitalised(message) } else { message.to_owned() };
    if !text.ends_with(['.', '!', '?', ';']) {
        text.push('.');
    }
    match help {
        Some(help) => format!("{text} {help}"),
        None => text,
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect()
}

/// Whether a text begins with a word of the language, and not with the name of a table or a parameter.
fn begins_with_a_word(text: &str) -> bool {
    let first = text.split_whitespace().next().unwrap_or_default();
    let first = first.trim_end_matches([',', ':', ';', '.']);
    !first.is_empty() && first.chars().all(|letter| letter.is_alphabetic() || matches!(letter, '-' | '\''))
}

impl From<engine::Error> for Problem {
    fn from(error: engine::Error) -> Self {
        let (status, slug, title) = of_kind(error.kind());
        if slug == "internal" {
            let help = error.help().map(str::to_owned);
            let mut problem = Self::internal(error);
            // What an operation left behind is told even where the reason is for the log.
            if let Some(help) = help {
                problem.detail = format!("{help} {}", problem.detail);
            }
            return problem;
        }
        Self::new(status, slug, title, sentences(error.message(), error.help())).caused_by(error)
    }
}

/// A problem as a job keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct JobError {
    #[serde(rename = "type")]
    pub slug: String,
    pub title: String,
    pub detail: String,
}

impl From<&Problem> for JobError {
    fn from(problem: &Problem) -> Self {
        Self {
            slug: problem.slug.to_owned(),
            title: problem.title.to_owned(),
            detail: problem.detail.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_error_says_what_to_do() {
        let error = engine::Error::new(Kind::Storage, "the disk is full").with_help("Free some space.");
        let problem = Problem::from(error);
        assert_eq!((problem.status.as_u16(), problem.slug), (503, "storage"));
        assert_eq!(problem.detail, "The disk is full. Free some space.");
    }

    #[test]
    fn message_and_help_are_sentences_and_names_stay_as_they_are() {
        let cases = [
            (
                "the role can write: table public.t: INSERT",
                "The role can write: table public.t: INSERT. Help.",
            ),
            ("password refused of user rw", "Password refused of user rw. Help."),
            ("public.orders cannot be read", "public.orders cannot be read. Help."),
            ("\"Orders\" is gone", "\"Orders\" is gone. Help."),
            ("connect_timeout is not a number", "connect_timeout is not a number. Help."),
            ("Is it there?", "Is it there? Help."),
        ];
        for (message, whole) in cases {
            assert_eq!(sentences(message, Some("Help.")), whole);
        }
        assert_eq!(sentences("no more", None), "No more.");
    }

    #[test]
    fn an_internal_error_keeps_its_cause_to_the_log() {
        let problem = Problem::from(engine::Error::new(Kind::Internal, "secret state"));
        assert!(!problem.body().to_string().contains("secret state"));
        let left = engine::Error::new(Kind::Internal, "secret state").with_help("Drop the database x.");
        let detail = Problem::from(left).detail;
        assert!(detail.starts_with("Drop the database x. Try again."), "{detail}");
        assert_eq!(problem.status, StatusCode::INTERNAL_SERVER_ERROR);
    }
}
