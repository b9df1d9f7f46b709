//! A bucket of S3, or of what speaks its protocol.
//!
//! Every request has a time limit and is repeated with growing pauses when its failure may pass.
//! That makes creation ambiguous: a request whose answer was lost may have succeeded, and its
//! repetition then finds the name taken, by itself. What is there decides.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use opendal::layers::{ConcurrentLimitLayer, RetryEvent, RetryLayer, TimeoutLayer};
use opendal::{ErrorKind, HttpTransporter, OperationContext, Operator, services};
use tokio::sync::OnceCell;
use url::Url;

use super::transport::{Counters, Requests, Transport, UNREACHABLE};
use super::{Created, Listed, too_short};
use crate::error::{Error, Kind, Result};

/// Operations at a time, of all repositories in the bucket. The others wait.
const CONCURRENT: usize = 64;
/// The longest pause before a request is repeated.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Longer files are sent in parts, so that a cut line costs a part and not a pack.
const PART_BYTES: usize = 8 << 20;
/// Parts of one file that are sent at a time.
const PARTS: usize = 2;
/// Times that a file is sent as a whole, when its parts could not be put together.
const ATTEMPTS: usize = 3;

/// How a bucket is reached. What is not said here or in the URL comes from the usual `AWS_*`
/// variables and the places that AWS's programs look at, read by OpenDAL.
#[derive(Clone, Debug)]
pub struct Access {
    /// What requests are signed with.
    pub credentials: Option<Credentials>,
    /// How often a request is repeated whose failure may pass.
    pub retries: usize,
    /// The pause before the first repetition; each further one is twice as long, up to 10 s.
    pub pause: Duration,
    /// For one request. The longest sends 16 MiB.
    pub timeout: Duration,
}

impl Default for Access {
    /// Pauses for some 15 seconds in all before it gives up. A store that answers nothing is waited for as long as
    /// that, and for the timeout of each of the seven requests.
    fn default() -> Self {
        Self {
            credentials: None,
            retries: 6,
            pause: Duration::from_millis(200),
            timeout: Duration::from_secs(60),
        }
    }
}

/// A key of an account with a store.
#[derive(Clone)]
pub struct Credentials {
    /// Its public half.
    pub access_key_id: String,
    /// Its secret half.
    pub secret_access_key: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

/// A bucket, below a prefix.
#[derive(Clone, Debug)]
pub(super) struct Bucket(Arc<Inner>);

struct Inner {
    name: String,
    /// One server only, since the store cannot create without overwriting.
    exclusive: bool,
    /// With time limits.
    once: Operator,
    /// With time limits, repetition and a bound on what is done at a time.
    retrying: Operator,
    limit: ConcurrentLimitLayer,
    retry: RetryLayer,
    counters: Arc<Counters>,
    /// Filled once the store has shown that it does what the protocol relies on.
    probed: OnceCell<()>,
    /// Names that are being created, where this process alone keeps them apart.
    creating: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bucket").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Bucket {
    /// Reads `s3://bucket/prefix?region=..&endpoint=..&exclusive=true`.
    pub fn parse(url: &Url, access: &Access) -> Result<Self> {
        let name = url.host_str().unwrap_or_default();
        let prefix = url.path().trim_matches('/');
        let mut builder = services::S3::default().bucket(name).root(&format!("/{prefix}"));
        let mut exclusive = false;
        for (setting, value) in url.query_pairs() {
            builder = match (setting.as_ref(), value.as_ref()) {
                ("region", region) => builder.region(region),
                ("endpoint", endpoint) if is_address(endpoint) => builder.endpoint(endpoint),
                ("endpoint", endpoint) => {
                    let message = format!("the storage's endpoint {endpoint:?} is no URL");
                    let help =
                        "Give the endpoint's scheme, too, as in &endpoint=https://s3.example.com:9000.";
                    return Err(Error::new(Kind::Invalid, message).with_help(help));
                }
                ("exclusive", "true" | "false") => {
                    exclusive = value == "true";
                    builder
                }
                ("exclusive", _) => return Err(invalid("the storage's exclusive is neither true nor false")),
                (other, _) => {
                    return Err(invalid(format!("the storage has an unknown setting {other:?}")));
                }
            };
        }
        if let Some(credentials) = &access.credentials {
            builder = builder
                .access_key_id(&credentials.access_key_id)
                .secret_access_key(&credentials.secret_access_key);
        }
        let operator = Operator::new(builder).map_err(|error| {
            let help = "Name the region, as in s3://bucket/prefix?region=eu-central-1, or set AWS_REGION.";
            Error::new(Kind::Invalid, format!("the bucket {name} cannot be used: {}", error.message()))
                .with_help(help)
                .with_source(error)
        })?;
        let counters = Arc::new(Counters::default());
        let transport = HttpTransporter::new(Transport::new(counters.clone())?);
        let operator = operator
            .with_context(OperationContext::new().with_http_transport(transport))
            .layer(TimeoutLayer::new().with_timeout(access.timeout).with_io_timeout(access.timeout));
        let limit = ConcurrentLimitLayer::new(CONCURRENT);
        let retry = RetryLayer::new().with_max_times(access.retries).with_min_delay(access.pause);
        let retry = retry.with_max_delay(LONGEST_PAUSE).with_jitter();
        let retrying = operator.clone().layer(retry.clone().with_notify(told)).layer(limit.clone());
        Ok(Self(Arc::new(Inner {
            name: name.to_owned(),
            exclusive,
            once: operator,
            retrying,
            limit,
            retry,
            counters,
            probed: OnceCell::new(),
            creating: Mutex::default(),
        })))
    }

    pub fn is_exclusive(&self) -> bool {
        self.0.exclusive
    }

    pub fn requests(&self) -> Requests {
        self.0.counters.sum()
    }

    /// Whether the probe was passed before; filled by whoever passes it.
    pub fn probed(&self) -> &OnceCell<()> {
        &self.0.probed
    }

    /// For what may be done twice without harm.
    pub fn operator(&self) -> &Operator {
        &self.0.retrying
    }

    pub async fn create(&self, path: &str, content: Bytes) -> Result<Created> {
        if self.0.exclusive {
            return self.create_alone(path, content).await;
        }
        let mut outcome = self.try_create(path, &content, PART_BYTES * 2, PART_BYTES).await;
        for _ in 1..ATTEMPTS {
            match outcome {
                Ok(Some(created)) => return Ok(created),
                Ok(None) => outcome = self.try_create(path, &content, PART_BYTES * 2, PART_BYTES).await,
                Err(error) => return Err(error),
            }
        }
        outcome?.ok_or_else(|| {
            Error::new(Kind::Storage, format!("writing {path} in the storage was disturbed each time"))
                .with_help("Try again; nothing was lost.")
        })
    }

    /// As [`create`](Self::create), once, and in parts if longer than `whole_bytes`. Nothing when the
    /// parts were taken in and their end was not, so that all of it must be sent again.
    pub async fn try_create(
        &self,
        path: &str,
        content: &Bytes,
        whole_bytes: usize,
        part_bytes: usize,
    ) -> Result<Option<Created>> {
        let repeated = Arc::new(AtomicBool::new(false));
        let note = {
            let repeated = repeated.clone();
            move |event: RetryEvent<'_>| {
                repeated.store(true, Ordering::Relaxed);
                told(event);
            }
        };
        let operator = self.0.once.clone().layer(self.0.retry.clone().with_notify(note));
        let operator = operator.layer(self.0.limit.clone());
        let in_parts = content.len() > whole_bytes;
        let part_bytes = in_parts.then_some(part_bytes);
        let error = match write(&operator, path, content.clone(), part_bytes, true).await {
            Ok(()) => return Ok(Some(Created::New)),
            Err(error) => error,
        };
        let is_repeated = repeated.load(Ordering::Relaxed);
        match error.kind() {
            ErrorKind::ConditionNotMatch if !is_repeated => return Ok(Some(Created::Taken)),
            // A repeated end of an upload is refused in many ways, because the upload is no more.
            ErrorKind::PermissionDenied | ErrorKind::ConfigInvalid | ErrorKind::Unsupported
                if !is_repeated =>
            {
                return Err(failed("writing", path)(error));
            }
            _ => {}
        }
        match self.operator().read(path).await {
            Ok(found) if found.to_bytes() == *content => Ok(Some(Created::New)),
            Ok(_) => Ok(Some(Created::Taken)),
            // Somebody was about to take the name and did not, or this upload's end went missing.
            Err(absent) if absent.kind() == ErrorKind::NotFound && in_parts => {
                tracing::warn!(path, %error, "an upload in parts was not completed");
                Ok(None)
            }
            Err(_) => Err(failed("writing", path)(error)),
        }
    }

    /// Creation where the store cannot refuse to overwrite: looks first, and keeps apart those who
    /// create the same name in this process. Another process is not kept apart.
    async fn create_alone(&self, path: &str, content: Bytes) -> Result<Created> {
        let turn = {
            let mut creating = self.0.creating.lock().unwrap_or_else(PoisonError::into_inner);
            creating.retain(|_, turn| turn.strong_count() > 0);
            let turn = creating.get(path).and_then(Weak::upgrade).unwrap_or_default();
            creating.insert(path.to_owned(), Arc::downgrade(&turn));
            turn
        };
        let _turn = turn.lock().await;
        match self.operator().stat(path).await {
            Ok(_) => return Ok(Created::Taken),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed("writing", path)(error)),
        }
        let part_bytes = (content.len() > PART_BYTES * 2).then_some(PART_BYTES);
        match write(self.operator(), path, content, part_bytes, false).await {
            Ok(()) => Ok(Created::New),
            Err(error) => Err(failed("writing", path)(error)),
        }
    }

    /// Whether the bucket answers and is there.
    pub async fn check(&self) -> Result<()> {
        let listed = async { self.operator().lister_with("/").limit(1).await?.try_next().await };
        match listed.await {
            Ok(_) => Ok(()),
            Err(error) => Err(failed("listing", &self.0.name)(error)),
        }
    }
}

fn told(event: RetryEvent<'_>) {
    let pause_ms = event.retry_after.as_millis() as u64;
    tracing::warn!(operation = %event.op, error = %event.err, pause_ms, "a request to the storage is repeated");
}

/// Sends a file, in parts if that is wanted. What was sent of one that failed is given up.
async fn write(
    operator: &Operator,
    path: &str,
    content: Bytes,
    part_bytes: Option<usize>,
    is_new: bool,
) -> opendal::Result<()> {
    let Some(part_bytes) = part_bytes else {
        return operator.write_with(path, content).if_not_exists(is_new).await.map(drop);
    };
    let mut writer =
        operator.writer_with(path).if_not_exists(is_new).chunk(part_bytes).concurrent(PARTS).await?;
    let written = async {
        writer.write(content).await?;
        writer.close().await
    };
    let written = written.await;
    match written {
        Ok(_) => Ok(()),
        Err(error) => {
            if let Err(error) = writer.abort().await {
                tracing::debug!(path, %error, "parts of an upload stay until the store removes them");
            }
            Err(error)
        }
    }
}

/// Every file below `prefix`, with the prefix taken off.
pub(super) async fn list(operator: &Operator, prefix: &str, folder: &str) -> Result<Vec<Listed>> {
    let entries = operator.list(&format!("{prefix}{folder}")).await.map_err(failed("listing", folder))?;
    let files = entries.into_iter().filter(|entry| entry.metadata().is_file());
    let listed = files.filter_map(|entry| {
        let name = entry.path().strip_prefix(prefix)?.to_owned();
        Some(Listed { name, size_bytes: entry.metadata().content_length() })
    });
    Ok(listed.collect())
}

/// The names of the folders right below the operator's root.
pub(super) async fn folders(operator: &Operator) -> Result<Vec<String>> {
    let entries = operator.list("/").await.map_err(failed("listing", ""))?;
    let folders = entries.iter().filter(|entry| entry.metadata().is_dir());
    let names = folders.map(|entry| entry.path().trim_matches('/').to_owned());
    Ok(names.filter(|name| !name.is_empty()).collect())
}

/// Deletes every file below `prefix`, up to a thousand with one request.
pub(super) async fn delete_below(operator: &Operator, prefix: &str) -> Result<()> {
    let failed = failed("deleting", "");
    let files = operator.list_with(prefix).recursive(true).await.map_err(&failed)?;
    operator.delete_iter(files.into_iter().map(|entry| entry.path().to_owned())).await.map_err(&failed)
}

pub(super) async fn read_range(
    operator: &Operator,
    path: &str,
    name: &str,
    offset: u64,
    len: usize,
) -> Result<Bytes> {
    let end = offset + len as u64;
    match operator.read_with(path).range(offset..end).await {
        Ok(content) if content.len() == len => Ok(content.to_bytes()),
        Ok(_) => Err(too_short(name)),
        Err(error) => {
            // A short answer may be a short file or a cut line: the file's length tells.
            let found = operator.stat(path).await;
            let is_short = found.is_ok_and(|found| found.content_length() < end);
            Err(if is_short { too_short(name) } else { failed("reading", name)(error) })
        }
    }
}

/// Whether an endpoint is an address that requests can be sent to.
fn is_address(endpoint: &str) -> bool {
    Url::parse(endpoint).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Kind::Invalid, message)
        .with_help("Use s3://bucket/prefix?region=..&endpoint=..[&exclusive=true].")
}

/// Says what a failure means to whoever runs the server.
pub(super) fn failed<'a>(doing: &'a str, name: &'a str) -> impl Fn(opendal::Error) -> Error + 'a {
    move |error| {
        let (kind, why, help) = match error.kind() {
            ErrorKind::NotFound => (Kind::NotFound, "it is not there".to_owned(), None),
            ErrorKind::PermissionDenied => (
                Kind::Storage,
                "the credentials are refused".to_owned(),
                Some(
                    "Check the AWS_* variables, and that they may list, read, write and delete in the bucket.",
                ),
            ),
            ErrorKind::ConfigInvalid => (
                Kind::Storage,
                "there is no such bucket".to_owned(),
                Some("Make the bucket, or correct DBSNAP_STORAGE."),
            ),
            ErrorKind::RateLimited => {
                (Kind::Storage, "the store asks for fewer requests".to_owned(), Some("Try again later."))
            }
            _ if error.message() == UNREACHABLE => (
                Kind::Storage,
                UNREACHABLE.to_owned(),
                Some("Check the endpoint in DBSNAP_STORAGE, and that the store runs."),
            ),
            _ => {
                (Kind::Storage, why(&error), Some("Nothing was lost: try again once the store works again."))
            }
        };
        let shown = if name.is_empty() { "the storage" } else { name };
        let failure = Error::new(kind, format!("{doing} {shown} in the storage failed: {why}"));
        let failure = failure.with_source(error);
        match help {
            Some(help) => failure.with_help(help),
            None => failure,
        }
    }
}

/// The store's own code where it gave one; what it sent beside may be long.
fn why(error: &opendal::Error) -> String {
    let message = error.message();
    let code = message.split_once("code: \"").and_then(|(_, rest)| rest.split_once('"'));
    match code {
        Some((code, _)) if !code.is_empty() => format!("it answered {code}"),
        _ if message.is_empty() => "it answered with an error and no explanation".to_owned(),
        _ if error.kind() == ErrorKind::Unexpected => {
            message.chars().take_while(|c| *c != '\n').take(200).collect()
        }
        _ => error.kind().to_string(),
    }
}
