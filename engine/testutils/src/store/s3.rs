//! S3 out of a folder, served by this process, with failures between it and its users on demand.
//!
//! Several writers that race for one name may all win here: the check and the rename are two steps.

use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::{ACCESS_KEY_ID, BUCKET, SECRET_ACCESS_KEY};

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing out of the ordinary.
    None,
    /// The store is not asked, and this status is answered without content.
    Status(u16),
    /// The answer comes this much later.
    Slow(Duration),
    /// The connection is closed before the store sees the request.
    Cut,
    /// The store does what it was asked, and the connection is closed instead of an answer.
    LoseAnswer,
    /// The answer ends after so many bytes of its content, and the connection is closed.
    CutAnswer(usize),
    /// A condition that was not met is answered as if it had been, as by a store that ignores it.
    IgnoreCondition,
    /// A listing is answered with nothing in it.
    EmptyListing,
}

/// A request, as far as faults are chosen by it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// `GET`, `PUT` ...
    pub method: String,
    /// The object's path with the bucket, or the bucket's.
    pub path: String,
    /// What follows the `?`.
    pub query: String,
}

impl Seen {
    /// Whether it asks for a page of a listing.
    pub fn is_listing(&self) -> bool {
        self.query.contains("list-type=")
    }
}

type Chooser = Box<dyn FnMut(&Seen) -> Fault + Send>;
type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, std::io::Error>;

/// A running store. It ends when it is dropped.
pub struct Server {
    port: u16,
    folder: TempDir,
    chooser: Arc<Mutex<Chooser>>,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Starts one on a port of its own, on the runtime this is called from.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("because tests need a writable temporary folder");
        std::fs::create_dir(folder.path().join(BUCKET)).expect("because the folder is new");
        let files = FileSystem::new(folder.path()).expect("because the folder is there");
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY_ID, SECRET_ACCESS_KEY));
        let service = builder.build();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("because loopback has free ports");
        let port = listener.local_addr().expect("because it is bound").port();
        let chooser: Arc<Mutex<Chooser>> = Arc::new(Mutex::new(Box::new(|_| Fault::None)));
        let accepting = tokio::spawn(accept(listener, service, chooser.clone()));
        Self { port, folder, chooser, accepting }
    }

    /// What `DBSNAP_STORAGE` would say for a place below `prefix`.
    pub fn url(&self, prefix: &str) -> String {
        super::url(self.port, prefix)
    }

    /// Asks `choose` about every request from now on.
    pub fn fail(&self, choose: impl FnMut(&Seen) -> Fault + Send + 'static) {
        *self.chooser.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(choose);
    }

    /// Lets every request pass again.
    pub fn heal(&self) {
        self.fail(|_| Fault::None);
    }

    /// The folder that holds the bucket's files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, service: S3Service, chooser: Arc<Mutex<Chooser>>) {
    while let Ok((connection, _)) = listener.accept().await {
        tokio::spawn(serve(connection, service.clone(), chooser.clone()));
    }
}

async fn serve(connection: TcpStream, service: S3Service, chooser: Arc<Mutex<Chooser>>) {
    // Answers are written in two pieces; without this each waits 40 ms for the other side.
    let _ = connection.set_nodelay(true);
    let answer = service_fn(move |request| answer(service.clone(), chooser.clone(), request));
    // A connection that was cut on purpose is no failure of the test.
    let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(connection), answer).await;
}

async fn answer(
    service: S3Service,
    chooser: Arc<Mutex<Chooser>>,
    request: Request<Incoming>,
) -> Result<Response<Body>, std::io::Error> {
    let cut = || std::io::Error::other("cut on purpose");
    let seen = Seen {
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or_default().to_owned(),
    };
    let fault = (chooser.lock().unwrap_or_else(PoisonError::into_inner))(&seen);
    match fault {
        Fault::Status(status) => {
            // All of it is read first: else the sender sees a broken connection and no answer.
            let _ = request.into_body().collect().await;
            let status = StatusCode::from_u16(status).expect("because tests name real statuses");
            return Ok(with_status(status));
        }
        Fault::Cut => return Err(cut()),
        Fault::Slow(time) => tokio::time::sleep(time).await,
        _ => {}
    }
    let answer = hyper::service::Service::call(&service, request).await;
    let answer = answer.map_err(|error| std::io::Error::other(format!("{error:?}")))?;
    let answer = answer.map(|body| body.map_err(std::io::Error::other).boxed_unsync());
    match fault {
        Fault::LoseAnswer => Err(cut()),
        Fault::IgnoreCondition if answer.status() == StatusCode::PRECONDITION_FAILED => {
            Ok(with_status(StatusCode::OK))
        }
        Fault::EmptyListing if seen.is_listing() => Ok(listing()),
        Fault::CutAnswer(after) => {
            let (parts, body) = answer.into_parts();
            let content = body.collect().await?.to_bytes();
            let kept = content.slice(..after.min(content.len()));
            let pieces = [Ok(Frame::data(kept)), Err(cut())];
            // hyper would wait with the first piece, and drop it when the second fails.
            let pieces = futures::stream::iter(pieces).then(async |piece| {
                if piece.is_err() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                piece
            });
            let mut answer = Response::from_parts(parts, StreamBody::new(pieces).boxed_unsync());
            answer.headers_mut().insert("content-length", content.len().into());
            Ok(answer)
        }
        _ => Ok(answer),
    }
}

fn with_status(status: StatusCode) -> Response<Body> {
    let mut answer = Response::new(empty());
    *answer.status_mut() = status;
    answer.headers_mut().insert("etag", http::HeaderValue::from_static("\"0\""));
    answer
}

fn listing() -> Response<Body> {
    let xml = format!(
        "<?xml version=\"1.0\"?><ListBucketResult><Name>{BUCKET}</Name><KeyCount>0</KeyCount>\
         <MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated></ListBucketResult>"
    );
    let body = http_body_util::Full::new(Bytes::from(xml));
    Response::new(body.map_err(|never: Infallible| match never {}).boxed_unsync())
}

fn empty() -> Body {
    http_body_util::Empty::new().map_err(|never: Infallible| match never {}).boxed_unsync()
}
