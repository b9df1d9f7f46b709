//! Where a repository's files are. Whole files are created and never changed.
//!
//! The store is narrow on purpose: create, read, read a range, list, delete. Over S3 and memory it
//! is an OpenDAL operator. A folder is our own: OpenDAL's file service either writes in place,
//! which leaves torn files, or renames over whatever is there, which lets two writers both win.

mod folder;

use std::path::PathBuf;

use bytes::Bytes;
use opendal::{ErrorKind, Operator, services};
use url::Url;

use crate::error::{Error, Kind, Result};
use folder::Folder;

/// Whether a file was created by this call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// It is there now, with the bytes given.
    New,
    /// The name was taken; nothing was written.
    Taken,
}

/// A file as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name, relative to the store.
    pub name: String,
    /// Its length.
    pub size_bytes: u64,
}

/// Where all repositories of a server are.
#[derive(Clone, Debug)]
pub enum Storage {
    /// Below a folder.
    Folder(PathBuf),
    /// In this process's memory; gone with it. For tests.
    Memory(Operator),
    /// Below a prefix of an S3 bucket.
    S3(Box<S3>),
}

/// An S3 bucket. Credentials come from the usual `AWS_*` variables, read by OpenDAL.
#[derive(Clone, Debug)]
pub struct S3 {
    bucket: String,
    prefix: String,
    region: Option<String>,
    endpoint: Option<String>,
}

impl Storage {
    /// Reads `fs:///path` or `s3://bucket/prefix?region=..&endpoint=..`.
    pub fn parse(text: &str) -> Result<Self> {
        let invalid = |message: String| {
            Error::new(Kind::Invalid, message)
                .with_help("Use fs:///absolute/path or s3://bucket/prefix?region=eu-central-1.")
        };
        if let Some(path) = text.strip_prefix("fs://") {
            return if path.starts_with('/') {
                Ok(Self::Folder(PathBuf::from(path)))
            } else {
                Err(invalid(format!("the storage {text:?} is not an absolute path")))
            };
        }
        let url =
            Url::parse(text).map_err(|error| invalid(format!("the storage {text:?} is no URL: {error}")))?;
        let bucket = url.host_str().unwrap_or_default();
        if url.scheme() != "s3" || bucket.is_empty() {
            return Err(invalid(format!("the storage {text:?} is neither fs:// nor s3://")));
        }
        let mut s3 = S3 {
            bucket: bucket.to_owned(),
            prefix: url.path().trim_matches('/').to_owned(),
            region: None,
            endpoint: None,
        };
        for (name, value) in url.query_pairs() {
            match name.as_ref() {
                "region" => s3.region = Some(value.into_owned()),
                "endpoint" => s3.endpoint = Some(value.into_owned()),
                other => return Err(invalid(format!("the storage has an unknown setting {other:?}"))),
            }
        }
        Ok(Self::S3(Box::new(s3)))
    }

    /// Storage in memory, for tests.
    pub fn memory() -> Result<Self> {
        Ok(Self::Memory(Operator::new(services::Memory::default()).map_err(failed("opening", "memory"))?))
    }

    /// The store below `prefix`: one repository.
    pub fn store(&self, prefix: &str) -> Result<Store> {
        Ok(match self {
            Self::Folder(root) => Store(Backend::Folder(Folder::new(root.join(prefix)))),
            Self::Memory(operator) => {
                Store(Backend::Operator { operator: operator.clone(), prefix: format!("{prefix}/") })
            }
            Self::S3(s3) => {
                let mut builder =
                    services::S3::default().bucket(&s3.bucket).root(&format!("/{}/{prefix}", s3.prefix));
                if let Some(region) = &s3.region {
                    builder = builder.region(region);
                }
                if let Some(endpoint) = &s3.endpoint {
                    builder = builder.endpoint(endpoint);
                }
                let operator = Operator::new(builder).map_err(failed("opening", &s3.bucket))?;
                Store(Backend::Operator { operator, prefix: String::new() })
            }
        })
    }

    /// Whether the storage can be reached and, for a folder, written: for readiness checks.
    pub async fn check(&self) -> Result<()> {
        match self {
            Self::Folder(root) => Folder::new(root.clone()).check().await,
            Self::Memory(_) => Ok(()),
            Self::S3(_) => self.store("")?.list("config").await.map(drop),
        }
    }
}

/// The files of one repository.
#[derive(Clone, Debug)]
pub struct Store(Backend);

#[derive(Clone, Debug)]
enum Backend {
    Folder(Folder),
    Operator { operator: Operator, prefix: String },
}

impl Store {
    /// Creates a file, unless the name is taken. Once it returns [`Created::New`] the file is
    /// durable and whole; a crash before leaves nothing under the name.
    pub async fn create(&self, name: &str, content: Bytes) -> Result<Created> {
        match &self.0 {
            Backend::Folder(folder) => folder.create(name, content).await,
            Backend::Operator { operator, prefix } => {
                let path = format!("{prefix}{name}");
                match operator.write_with(&path, content).if_not_exists(true).await {
                    Ok(_) => Ok(Created::New),
                    Err(error) if error.kind() == ErrorKind::ConditionNotMatch => Ok(Created::Taken),
                    Err(error) => Err(failed("writing", name)(error)),
                }
            }
        }
    }

    /// A whole file. [`Kind::NotFound`] when there is none.
    pub async fn read(&self, name: &str) -> Result<Bytes> {
        match &self.0 {
            Backend::Folder(folder) => folder.read(name).await,
            Backend::Operator { operator, prefix } => {
                let content = operator.read(&format!("{prefix}{name}")).await;
                content.map(|content| content.to_bytes()).map_err(failed("reading", name))
            }
        }
    }

    /// `len` bytes of a file from `offset`. A file that is too short is [`Kind::Damaged`].
    pub async fn read_range(&self, name: &str, offset: u64, len: usize) -> Result<Bytes> {
        let content = match &self.0 {
            Backend::Folder(folder) => return folder.read_range(name, offset, len).await,
            Backend::Operator { operator, prefix } => {
                let range = offset..offset + len as u64;
                let content = operator.read_with(&format!("{prefix}{name}")).range(range).await;
                content.map(|content| content.to_bytes()).map_err(|error| match error.kind() {
                    ErrorKind::RangeNotSatisfied => too_short(name),
                    _ => failed("reading", name)(error),
                })?
            }
        };
        if content.len() == len { Ok(content) } else { Err(too_short(name)) }
    }

    /// The files whose names begin with `folder`, which ends in a slash, sorted by name.
    pub async fn list(&self, folder: &str) -> Result<Vec<Listed>> {
        let mut listed = match &self.0 {
            Backend::Folder(inner) => inner.list(folder).await?,
            Backend::Operator { operator, prefix } => {
                let entries = operator.list(&format!("{prefix}{folder}")).await;
                let entries = entries.map_err(failed("listing", folder))?;
                let files = entries.into_iter().filter(|entry| entry.metadata().is_file());
                files
                    .filter_map(|entry| {
                        let name = entry.path().strip_prefix(prefix.as_str())?.to_owned();
                        Some(Listed { name, size_bytes: entry.metadata().content_length() })
                    })
                    .collect()
            }
        };
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    /// Removes a file; one that is not there is no error.
    pub async fn delete(&self, name: &str) -> Result<()> {
        match &self.0 {
            Backend::Folder(folder) => folder.delete(name).await,
            Backend::Operator { operator, prefix } => {
                operator.delete(&format!("{prefix}{name}")).await.map_err(failed("deleting", name))
            }
        }
    }

    /// Removes everything, the keys first: without them the rest is noise.
    pub async fn delete_all(&self) -> Result<()> {
        for folder in ["slots/", "snapshots/", "sessions/", "index/", "packs/"] {
            for file in self.list(folder).await? {
                self.delete(&file.name).await?;
            }
        }
        self.delete("config").await?;
        if let Backend::Folder(folder) = &self.0 {
            folder.remove_empty().await?;
        }
        Ok(())
    }
}

fn too_short(name: &str) -> Error {
    Error::damaged(format!("the stored file {name} is shorter than its index says"))
}

fn failed<'a>(doing: &'a str, name: &'a str) -> impl Fn(opendal::Error) -> Error + 'a {
    move |error| {
        let kind = match error.kind() {
            ErrorKind::NotFound => Kind::NotFound,
            ErrorKind::PermissionDenied => Kind::Denied,
            ErrorKind::ConfigInvalid => Kind::Invalid,
            _ => Kind::Storage,
        };
        Error::new(kind, format!("{doing} {name} in the storage failed: {}", error.kind())).with_source(error)
    }
}
