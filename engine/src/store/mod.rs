//! Where a repository's files are. Whole files are created and never changed.
//!
//! The store is narrow on purpose: create, read, read a range, list, delete. Over S3 and memory it
//! is an OpenDAL operator. A folder is our own: OpenDAL's file service either writes in place,
//! which leaves torn files, or renames over whatever is there, which lets two writers both win.

mod folder;
mod probe;
mod s3;
mod transport;

use std::path::PathBuf;

use bytes::Bytes;
use opendal::{ErrorKind, Operator, services};
use repo_format::files;
use url::Url;

use crate::clock::Entropy;
use crate::error::{Error, Kind, Result};
use folder::Folder;
use s3::{Bucket, failed};

pub use s3::{Access, Credentials};
pub use transport::Requests;

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

/// Where all repositories of a server are. Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub struct Storage {
    place: Place,
    owner: Option<[u8; 16]>,
}

#[derive(Clone, Debug)]
enum Place {
    Folder(PathBuf),
    Memory(Operator),
    S3(Bucket),
}

impl Storage {
    /// Reads `fs:///path` or `s3://bucket/prefix?region=..&endpoint=..[&exclusive=true]`.
    pub fn parse(text: &str) -> Result<Self> {
        Self::parse_with(text, &Access::default())
    }

    /// As [`parse`](Self::parse), and says how S3 is reached.
    pub fn parse_with(text: &str, access: &Access) -> Result<Self> {
        let invalid = |message: String| {
            Error::new(Kind::Invalid, message)
                .with_help("Use fs:///absolute/path or s3://bucket/prefix?region=eu-central-1.")
        };
        if let Some(path) = text.strip_prefix("fs://") {
            if !path.starts_with('/') {
                return Err(invalid(format!("the storage {text:?} is not an absolute path")));
            }
            if path.contains('?') {
                return Err(invalid(format!("the storage {text:?} is a folder, which takes no parameters")));
            }
            return Ok(Self { place: Place::Folder(PathBuf::from(path)), owner: None });
        }
        let url =
            Url::parse(text).map_err(|error| invalid(format!("the storage {text:?} is no URL: {error}")))?;
        if url.scheme() != "s3" || url.host_str().is_none_or(str::is_empty) {
            return Err(invalid(format!("the storage {text:?} is neither fs:// nor s3://")));
        }
        Ok(Self { place: Place::S3(Bucket::parse(&url, access)?), owner: None })
    }

    /// Storage in memory, for tests: gone with the process.
    pub fn memory() -> Result<Self> {
        let operator = Operator::new(services::Memory::default()).map_err(failed("opening", "memory"))?;
        Ok(Self { place: Place::Memory(operator), owner: None })
    }

    /// Names the server that uses the storage, so that two do not share what only one may use.
    #[must_use]
    pub fn owned_by(self, server: [u8; 16]) -> Self {
        Self { owner: Some(server), ..self }
    }

    /// The store below `prefix`: one repository.
    pub fn store(&self, prefix: &str) -> Result<Store> {
        let backend = match &self.place {
            Place::Folder(root) => Backend::Folder(Folder::new(root.join(prefix))),
            Place::Memory(operator) => {
                Backend::Memory { operator: operator.clone(), prefix: format!("{prefix}/") }
            }
            Place::S3(bucket) => Backend::S3 { bucket: bucket.clone(), prefix: format!("{prefix}/") },
        };
        Ok(Store { backend, owner: self.owner })
    }

    /// Makes the folder that is not there yet, and checks as [`check`](Self::check) does: for a server's
    /// start. Later, a folder that is gone is lost.
    pub async fn prepare(&self) -> Result<()> {
        if let Place::Folder(root) = &self.place {
            Folder::new(root.clone()).prepare().await?;
        }
        self.check().await
    }

    /// Whether the storage can be reached and, for a folder, written: for readiness checks.
    pub async fn check(&self) -> Result<()> {
        match &self.place {
            Place::Folder(root) => Folder::new(root.clone()).check().await,
            Place::Memory(_) => Ok(()),
            Place::S3(bucket) => bucket.check().await,
        }
    }

    /// Requests sent so far, retries included; none where there is no network between.
    pub fn requests(&self) -> Requests {
        match &self.place {
            Place::S3(bucket) => bucket.requests(),
            Place::Folder(_) | Place::Memory(_) => Requests::default(),
        }
    }

    /// Whether there is a repository's config below `prefix`.
    pub async fn holds_repository(&self, prefix: &str) -> Result<bool> {
        self.store(prefix)?.holds_config().await
    }

    /// The prefixes right below which there is a repository's config, sorted.
    pub async fn repositories(&self) -> Result<Vec<String>> {
        let prefixes = match &self.place {
            Place::Folder(root) => Folder::new(root.clone()).folders().await?,
            Place::Memory(operator) => s3::folders(operator).await?,
            Place::S3(bucket) => s3::folders(bucket.operator()).await?,
        };
        let mut found = Vec::new();
        for prefix in prefixes {
            if self.holds_repository(&prefix).await? {
                found.push(prefix);
            }
        }
        found.sort();
        Ok(found)
    }
}

/// The files of one repository.
#[derive(Clone, Debug)]
pub struct Store {
    backend: Backend,
    owner: Option<[u8; 16]>,
}

#[derive(Clone, Debug)]
enum Backend {
    Folder(Folder),
    Memory {
        operator: Operator,
        prefix: String,
    },
    S3 {
        bucket: Bucket,
        prefix: String,
    },
    /// A store whose every call waits for a simulation's scheduler.
    #[cfg(test)]
    Simulated(crate::simulation::Disk),
    /// A store in memory that fails when told to.
    #[cfg(test)]
    Failing(crate::faults::Disk),
}

#[cfg(test)]
impl From<crate::simulation::Disk> for Store {
    fn from(disk: crate::simulation::Disk) -> Self {
        Self { backend: Backend::Simulated(disk), owner: None }
    }
}

#[cfg(test)]
impl From<crate::faults::Disk> for Store {
    fn from(disk: crate::faults::Disk) -> Self {
        Self { backend: Backend::Failing(disk), owner: None }
    }
}

impl Store {
    /// Creates a file, unless the name is taken. Once it returns [`Created::New`] the file is
    /// durable and whole; a crash before leaves nothing under the name.
    pub async fn create(&self, name: &str, content: Bytes) -> Result<Created> {
        match &self.backend {
            Backend::Folder(folder) => folder.create(name, content).await,
            Backend::S3 { bucket, .. } => bucket.create(&self.path(name), content).await,
            #[cfg(test)]
            Backend::Simulated(disk) => disk.create(name, content).await,
            #[cfg(test)]
            Backend::Failing(disk) => disk.create(name, content),
            Backend::Memory { operator, .. } => {
                match operator.write_with(&self.path(name), content).if_not_exists(true).await {
                    Ok(_) => Ok(Created::New),
                    Err(error) if error.kind() == ErrorKind::ConditionNotMatch => Ok(Created::Taken),
                    Err(error) => Err(failed("writing", name)(error)),
                }
            }
        }
    }

    /// A whole file. [`Kind::NotFound`] when there is none.
    pub async fn read(&self, name: &str) -> Result<Bytes> {
        #[cfg(test)]
        if let Backend::Simulated(disk) = &self.backend {
            return disk.read(name).await;
        }
        #[cfg(test)]
        if let Backend::Failing(disk) = &self.backend {
            return disk.read(name);
        }
        match self.operator() {
            Err(folder) => folder.read(name).await,
            Ok(operator) => {
                let content = operator.read(&self.path(name)).await;
                content.map(|content| content.to_bytes()).map_err(failed("reading", name))
            }
        }
    }

    /// `len` bytes of a file from `offset`. A file that is too short is [`Kind::Damaged`].
    pub async fn read_range(&self, name: &str, offset: u64, len: usize) -> Result<Bytes> {
        #[cfg(test)]
        if let Backend::Simulated(disk) = &self.backend {
            return disk.read_range(name, offset, len).await;
        }
        #[cfg(test)]
        if let Backend::Failing(disk) = &self.backend {
            return disk.read_range(name, offset, len);
        }
        match self.operator() {
            Err(folder) => folder.read_range(name, offset, len).await,
            Ok(operator) => s3::read_range(operator, &self.path(name), name, offset, len).await,
        }
    }

    /// The files whose names begin with `folder`, which ends in a slash, sorted by name.
    pub async fn list(&self, folder: &str) -> Result<Vec<Listed>> {
        #[cfg(test)]
        if let Backend::Simulated(disk) = &self.backend {
            return disk.list(folder).await;
        }
        #[cfg(test)]
        if let Backend::Failing(disk) = &self.backend {
            return disk.list(folder);
        }
        let mut listed = match self.operator() {
            Err(inner) => inner.list(folder).await?,
            Ok(operator) => s3::list(operator, &self.path(""), folder).await?,
        };
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    /// Removes a file; one that is not there is no error.
    pub async fn delete(&self, name: &str) -> Result<()> {
        #[cfg(test)]
        if let Backend::Simulated(disk) = &self.backend {
            return disk.delete(name).await;
        }
        #[cfg(test)]
        if let Backend::Failing(disk) = &self.backend {
            return disk.delete(name);
        }
        match self.operator() {
            Err(folder) => folder.delete(name).await,
            Ok(operator) => operator.delete(&self.path(name)).await.map_err(failed("deleting", name)),
        }
    }

    /// Removes everything, the keys first: without them the rest is noise.
    pub async fn delete_all(&self) -> Result<()> {
        for slot in self.list(files::SLOTS).await? {
            self.delete(&slot.name).await?;
        }
        match self.operator() {
            Err(folder) => folder.remove().await,
            Ok(operator) => s3::delete_below(operator, &self.path("")).await,
        }
    }

    /// Removes what killed writers left half-written, where a store shows such things.
    pub(crate) async fn sweep(&self) -> Result<()> {
        match &self.backend {
            Backend::Folder(folder) => folder.sweep().await,
            _ => Ok(()),
        }
    }

    /// Whether only one server may use this store.
    pub(crate) fn is_exclusive(&self) -> bool {
        matches!(&self.backend, Backend::S3 { bucket, .. } if bucket.is_exclusive())
    }

    /// The server that uses it, where that was told.
    pub(crate) fn owner(&self) -> Option<[u8; 16]> {
        self.owner
    }

    /// Finds out whether the store keeps several writers apart. [`Kind::Unsupported`] when not.
    pub(crate) async fn probe(&self, entropy: &dyn Entropy) -> Result<()> {
        match &self.backend {
            Backend::S3 { bucket, .. } => bucket.probe(self, entropy).await,
            // Ours, and OpenDAL's behind a lock.
            Backend::Folder(_) | Backend::Memory { .. } => Ok(()),
            #[cfg(test)]
            Backend::Simulated(_) | Backend::Failing(_) => Ok(()),
        }
    }

    /// Whether there is a repository's config, or the copy of one that is lost.
    pub(crate) async fn holds_config(&self) -> Result<bool> {
        Ok(self.has(files::CONFIG).await? || self.has(files::CONFIG_COPY).await?)
    }

    pub(crate) async fn has(&self, name: &str) -> Result<bool> {
        #[cfg(test)]
        if let Backend::Simulated(_) | Backend::Failing(_) = &self.backend {
            return match self.read(name).await {
                Ok(_) => Ok(true),
                Err(error) if error.kind() == Kind::NotFound => Ok(false),
                Err(error) => Err(error),
            };
        }
        let found = match self.operator() {
            Err(folder) => return folder.has(name).await,
            Ok(operator) => operator.exists(&self.path(name)).await,
        };
        found.map_err(failed("reading", name))
    }

    /// OpenDAL's operator, or the folder where there is none.
    fn operator(&self) -> Result<&Operator, &Folder> {
        match &self.backend {
            Backend::Folder(folder) => Err(folder),
            Backend::Memory { operator, .. } => Ok(operator),
            Backend::S3 { bucket, .. } => Ok(bucket.operator()),
            #[cfg(test)]
            Backend::Simulated(_) | Backend::Failing(_) => unreachable!("it answers by itself"),
        }
    }

    /// What the operator calls a file.
    fn path(&self, name: &str) -> String {
        match &self.backend {
            Backend::Folder(_) => name.to_owned(),
            #[cfg(test)]
            Backend::Simulated(_) | Backend::Failing(_) => name.to_owned(),
            Backend::Memory { prefix, .. } | Backend::S3 { prefix, .. } => format!("{prefix}{name}"),
        }
    }
}

fn too_short(name: &str) -> Error {
    Error::damaged(format!("the stored file {name} is shorter than its index says"))
}
