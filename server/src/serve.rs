//! The accept loop and the server's end.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::ServiceExt;

use crate::api::extract::Peer;
use crate::app::App;
use crate::service::{existing, schedules};
use crate::{jobs, router};

/// How long a client may take to send a request's headers, from when it connects or was answered.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
const MAX_HEADER_BYTES: usize = 64 * 1024;
const MAX_CONNECTIONS: usize = 2048;
/// How long open requests may take to end when the server stops.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often what has ended by itself is removed.
const HOUSEKEEPING: Duration = Duration::from_secs(60 * 60);

/// How often the clock is looked at for backups that are due.
const CLOCK_LOOK: Duration = Duration::from_secs(10);

/// Serves until `app.stopping` is cancelled, then ends in order: no new connections and jobs,
/// running jobs stop at a safe point, open requests finish.
pub async fn serve(app: App, listener: TcpListener) {
    if let Ok(address) = listener.local_addr() {
        app.address.get_or_init(|| address);
    }
    let service = router::router(app.clone());
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let queue = tokio::spawn(jobs::run(app.clone()));
    let housekeeping = tokio::spawn(keep_house(app.clone()));
    let looking = tokio::spawn(find_databases(app.clone()));
    let scheduling = tokio::spawn(keep_schedules(app.clone()));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = app.stopping.cancelled() => break,
        };
        match accepted {
            Ok((stream, address)) => {
                connection(&app, stream, address.ip(), service.clone(), &graceful, place);
            }
            // Out of file descriptors, mostly: the pause lets some go.
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    housekeeping.abort();
    looking.abort();
    jobs::drain(&app).await;
    app.drained.cancel();
    if tokio::time::timeout(CLOSE_TIMEOUT, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests did not end in time");
    }
    for (name, task) in [("queue", queue), ("scheduler", scheduling)] {
        if let Err(error) = task.await {
            tracing::error!(name, %error, "a loop ended badly");
        }
    }
}

fn connection(
    app: &App,
    stream: TcpStream,
    peer: IpAddr,
    service: Router,
    graceful: &GracefulShutdown,
    place: OwnedSemaphorePermit,
) {
    let proxies = app.config.trusted_proxies.clone();
    let service = service.map_request(move |mut request: hyper::Request<Incoming>| {
        let client = proxies.client(peer, request.headers());
        request.extensions_mut().insert(Peer(client));
        request.map(axum::body::Body::new)
    });
    // Only one version of HTTP: while it finds out which one is spoken, no time limit applies. HTTP/2 is
    // what the proxy in front that ends TLS speaks with browsers.
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let connection = graceful.watch(connection.into_owned());
    tokio::spawn(async move {
        // Errors here are clients that went away.
        if let Err(error) = connection.await {
            tracing::debug!(error, "a connection ended early");
        }
        drop(place);
    });
}

/// Looks at the clock now and then, for what is due and for what was kept long enough. It is the
/// schedules that say what is due: a look that comes late, or twice, changes nothing but the delay.
async fn keep_schedules(app: App) {
    let mut ticks = tokio::time::interval(CLOCK_LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = app.stopping.cancelled() => return,
        }
        app.live_readings.forget_unused(app.now_ms());
        app.previews.forget_unused(app.now_ms());
        if let Err(problem) = schedules::queue_due(&app).await {
            tracing::error!(
                cause = problem.describe(),
                "what is due could not be queued, and is tried again"
            );
        }
    }
}

async fn find_databases(app: App) {
    if let Err(problem) = existing::find_all_databases(&app).await {
        problem.log();
    }
}

async fn keep_house(app: App) {
    loop {
        match app.meta.remove_expired_sessions(app.now_ms()).await {
            Ok(removed) => tracing::debug!(removed, "removed expired sessions"),
            Err(error) => tracing::warn!(%error, "expired sessions stay"),
        }
        match app.token_keys.rotate(&app.meta, app.clock.as_ref(), app.entropy.as_ref()).await {
            Ok(false) => {}
            Ok(true) => tracing::info!("access tokens are signed by a new key, or an old one went"),
            Err(problem) => problem.log(),
        }
        tokio::time::sleep(HOUSEKEEPING).await;
    }
}
