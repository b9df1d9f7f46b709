//! `/healthz`, `/readyz`, `/metrics`, and answers for addresses and methods that are not served.

use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::error::{Problem, Result, causes, sentences};
use crate::meta;
use crate::metrics::Gauges;
use crate::service::usage;

const READY_TIMEOUT: Duration = Duration::from_secs(5);

/// The process is alive.
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// Metadata can be written, the storage is reached and is the one that it was, and the server is not stopping.
pub async fn readyz(State(app): State<App>) -> Result<&'static str> {
    let not_ready = |what: &str, cause: String| {
        tracing::warn!(what, cause, "not ready");
        let detail = format!("The {what} cannot be used. The server's log says more.");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-ready", "Not ready", detail).with("failed", what)
    };
    if app.stopping.is_cancelled() {
        return Err(not_ready("server", "stopping".to_owned()));
    }
    app.meta.check().await.map_err(|error| not_ready("metadata", causes(&error)))?;
    let known = app.meta.ready_projects().await.map_err(|error| not_ready("metadata", causes(&error)))?;
    let storage = async {
        app.storage.check().await?;
        app.repositories.check_known(&known).await
    };
    match tokio::time::timeout(READY_TIMEOUT, storage).await {
        Ok(Ok(())) => Ok("ready\n"),
        Ok(Err(error)) => {
            let mut problem = not_ready("storage", causes(&error));
            problem.detail = sentences(error.message(), error.help());
            Err(problem)
        }
        Err(_) => Err(not_ready("storage", "no answer in time".to_owned())),
    }
}

/// Counters in Prometheus' text format. Whoever watches is answered while the metadata is out of reach, too,
/// without what only that knows.
pub async fn metrics(State(app): State<App>) -> Response {
    let unknown = |error: meta::Error| {
        tracing::warn!(error = causes(&error), "metrics leave out what is in the metadata")
    };
    let text = app.metrics.render(&Gauges {
        now_ms: app.now_ms(),
        elapsed_ms: app.elapsed_ms(),
        active: app.queue.active(),
        takes_writes: app.meta.check().await.is_ok(),
        protection: app.meta.protection().await.map_err(unknown).unwrap_or_default(),
        damage: app.meta.all_damage().await.map_err(unknown).unwrap_or_default(),
        snapshots: usage::snapshot_counts(&app),
        requests: app.storage.requests(),
    });
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// An address that nothing is at.
pub async fn not_found() -> Problem {
    Problem::not_found()
}

/// An address that does not take this method.
pub async fn wrong_method() -> Problem {
    let detail = "The address exists and does not take this method.";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "wrong-method", "Wrong method", detail)
}
