//! HTTP to an object store: over this program's own TLS, and with every request counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opendal::{Buffer, ErrorKind, HttpBody, HttpTransport};
use rustls::{ClientConfig, RootCertStore};

use crate::error::{Error, Kind, Result};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections kept for the next request.
const IDLE_CONNECTIONS: usize = 32;

/// Requests that were sent to a store, retries included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Files written, parts of them, and requests that begin or end a file in parts.
    pub writes: u64,
    /// Files and ranges read, and files asked for by name only.
    pub reads: u64,
    /// Pages of listings.
    pub lists: u64,
    /// Files deleted, alone or together.
    pub deletes: u64,
}

impl Requests {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.writes + self.reads + self.lists + self.deletes
    }
}

/// Where requests are counted.
#[derive(Debug, Default)]
pub(super) struct Counters {
    writes: AtomicU64,
    reads: AtomicU64,
    lists: AtomicU64,
    deletes: AtomicU64,
}

impl Counters {
    fn count<T>(&self, request: &Request<T>) {
        let query = request.uri().query().unwrap_or_default();
        let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
        let counter = match *request.method() {
            Method::GET if has("list-type") => &self.lists,
            Method::GET | Method::HEAD => &self.reads,
            Method::DELETE if !has("uploadId") => &self.deletes,
            Method::POST if has("delete") => &self.deletes,
            _ => &self.writes,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub fn sum(&self) -> Requests {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Requests {
            writes: load(&self.writes),
            reads: load(&self.reads),
            lists: load(&self.lists),
            deletes: load(&self.deletes),
        }
    }
}

/// Sends OpenDAL's requests. A client of hyper's, since it takes the TLS that the rest of this
/// program uses; OpenDAL's own transports bring another.
pub(super) struct Transport {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    counters: Arc<Counters>,
}

impl Transport {
    pub fn new(counters: Arc<Counters>) -> Result<Self> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls()?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .pool_timer(hyper_util::rt::TokioTimer::new())
            .build(connector);
        Ok(Self { client, counters })
    }
}

/// Certificates are checked against those the system trusts.
fn tls() -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder =
        builder.map_err(|error| Error::new(Kind::Internal, "TLS cannot be set up").with_source(error))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

impl HttpTransport for Transport {
    async fn fetch(&self, request: Request<Buffer>) -> opendal::Result<Response<HttpBody>> {
        self.counters.count(&request);
        let has_body = request.method() != Method::HEAD;
        let uri = request.uri().clone();
        let request = request.map(|body| Full::new(body.to_bytes()));
        let response = self.client.request(request).await.map_err(|error| {
            let kind = if error.is_connect() { UNREACHABLE } else { "the request was cut off" };
            opendal::Error::new(ErrorKind::Unexpected, kind).set_temporary().set_source(error)
        })?;
        let (parts, body) = response.into_parts();
        let length = parts.headers.get(header::CONTENT_LENGTH).filter(|_| has_body);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        let content = body.into_data_stream().map_ok(Buffer::from).map_err(|error| {
            opendal::Error::new(ErrorKind::Unexpected, "the answer was cut off")
                .set_temporary()
                .set_source(error)
        });
        let mut response = Response::from_parts(parts, HttpBody::new(content, length));
        // Where OpenDAL looks for it when it reports an error.
        response.extensions_mut().insert(uri);
        Ok(response)
    }
}

/// The message of an error that says that nobody answered.
pub(super) const UNREACHABLE: &str = "no connection could be made";
