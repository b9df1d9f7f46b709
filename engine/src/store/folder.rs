//! A folder as a store, with creation that is atomic, durable and never overwrites.

use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;

use crate::clock::{Entropy, System, random};
use crate::error::{Error, Kind, Result};
use crate::store::{Created, Listed, too_short};

/// Names of files that are being written begin with this; listings leave them out.
const TEMPORARY: &str = ".new-";
/// Nobody writes one file for so long.
const LEFTOVER: Duration = Duration::from_secs(24 * 60 * 60);

/// A block of most file systems.
const PROBE_BYTES: usize = 4096;

#[derive(Clone, Debug)]
pub(super) struct Folder {
    root: PathBuf,
}

impl Folder {
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Runs file work where it may block.
    async fn blocking<T: Send + 'static>(
        &self,
        doing: &'static str,
        name: &str,
        work: impl FnOnce(PathBuf) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let path = self.root.join(name);
        let shown = name.to_owned();
        let result = tokio::task::spawn_blocking(move || work(path)).await;
        let result =
            result.map_err(|error| Error::new(Kind::Internal, "file work ended early").with_source(error))?;
        result.map_err(|error| failed(doing, &shown, error))
    }

    /// Writes under a temporary name, makes it durable, and links it to its name, which fails if
    /// the name is taken. The folder is synced last: only then is the name durable too.
    pub async fn create(&self, name: &str, content: Bytes) -> Result<Created> {
        self.blocking("writing", name, move |path| {
            let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
            create_folder(&folder)?;
            let unique = u128::from_be_bytes(random(&System));
            let temporary = folder.join(format!("{TEMPORARY}{unique:032x}"));
            let written =
                write_new(&temporary, &content).and_then(|()| match std::fs::hard_link(&temporary, &path) {
                    Ok(()) => Ok(Created::New),
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Created::Taken),
                    Err(error) => Err(error),
                });
            let removed = std::fs::remove_file(&temporary);
            let created = written?;
            removed?;
            // Also when the name was taken: whoever took it may have failed just before this.
            sync_folder(&folder)?;
            Ok(created)
        })
        .await
    }

    pub async fn read(&self, name: &str) -> Result<Bytes> {
        self.blocking("reading", name, |path| std::fs::read(path).map(Bytes::from)).await
    }

    pub async fn read_range(&self, name: &str, offset: u64, len: usize) -> Result<Bytes> {
        let content = self
            .blocking("reading", name, move |path| {
                let mut file = std::fs::File::open(path)?;
                file.seek(SeekFrom::Start(offset))?;
                let mut content = vec![0; len];
                match file.read_exact(&mut content) {
                    Ok(()) => Ok(Some(Bytes::from(content))),
                    Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
                    Err(error) => Err(error),
                }
            })
            .await?;
        content.ok_or_else(|| too_short(name))
    }

    pub async fn list(&self, folder: &str) -> Result<Vec<Listed>> {
        let prefix = folder.to_owned();
        self.blocking("listing", folder, move |path| {
            let entries = match std::fs::read_dir(path) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
                entries => entries?,
            };
            let mut listed = Vec::new();
            for entry in entries {
                let entry = entry?;
                let Ok(name) = entry.file_name().into_string() else { continue };
                // A file deleted since the folder was read is as if it had not been listed.
                let Ok(metadata) = entry.metadata() else { continue };
                if metadata.is_file() && !name.starts_with(TEMPORARY) {
                    listed.push(Listed { name: format!("{prefix}{name}"), size_bytes: metadata.len() });
                }
            }
            Ok(listed)
        })
        .await
    }

    pub async fn delete(&self, name: &str) -> Result<()> {
        self.blocking("deleting", name, |path| match std::fs::remove_file(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            result => result,
        })
        .await
    }

    /// Removes files that a killed writer left half-written.
    pub async fn sweep(&self) -> Result<()> {
        self.blocking("sweeping", "", |root| {
            for entry in std::fs::read_dir(root)? {
                let folder = entry?.path();
                if !folder.is_dir() {
                    continue;
                }
                for entry in std::fs::read_dir(folder)? {
                    let entry = entry?;
                    if is_leftover(&entry)? {
                        std::fs::remove_file(entry.path())?;
                    }
                }
            }
            Ok(())
        })
        .await
    }

    /// Makes the folder if it is not there.
    pub async fn prepare(&self) -> Result<()> {
        self.blocking("making", "", |root| create_folder(&root)).await
    }

    /// Whether files can be made here, and there is room for what is in them. A folder that is gone is not
    /// made anew: it may be a lost mount.
    pub async fn check(&self) -> Result<()> {
        self.blocking("writing to", "", |root| {
            let probe = root.join(format!("{TEMPORARY}check-{}", std::process::id()));
            let written = write_probe(&probe);
            match std::fs::remove_file(&probe) {
                // Another check of this process was faster, or it was never there, which `written` says.
                Err(error) if error.kind() == ErrorKind::NotFound => written,
                removed => written.and(removed),
            }
        })
        .await
    }

    /// Removes the folder with all that is in it, leftovers of killed writers included.
    pub async fn remove(&self) -> Result<()> {
        self.blocking("deleting", "", |root| match std::fs::remove_dir_all(root) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            result => result,
        })
        .await
    }

    pub async fn has(&self, name: &str) -> Result<bool> {
        self.blocking("reading", name, |path| path.try_exists()).await
    }

    /// The names of the folders right below.
    pub async fn folders(&self) -> Result<Vec<String>> {
        self.blocking("listing", "", |path| {
            let entries = match std::fs::read_dir(path) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
                entries => entries?,
            };
            let mut names = Vec::new();
            for entry in entries {
                let entry = entry?;
                if entry.file_type()?.is_dir()
                    && let Ok(name) = entry.file_name().into_string()
                {
                    names.push(name);
                }
            }
            Ok(names)
        })
        .await
    }
}

fn is_leftover(entry: &std::fs::DirEntry) -> io::Result<bool> {
    if !entry.file_name().as_encoded_bytes().starts_with(TEMPORARY.as_bytes()) {
        return Ok(false);
    }
    let age = match entry.metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        metadata => metadata?.modified()?.elapsed(),
    };
    // One from the future has no age: a clock is wrong.
    Ok(age.is_ok_and(|age| age > LEFTOVER))
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Writes what takes room: an empty file needs none, and zeros none where they are compressed.
fn write_probe(path: &Path) -> io::Result<()> {
    let mut content = vec![0; PROBE_BYTES];
    System.fill(&mut content);
    let mut file = std::fs::File::create(path)?;
    file.write_all(&content)?;
    file.sync_all()
}

/// Makes a folder and those above it, each durable in its parent.
fn create_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        create_folder(parent)?;
        match std::fs::create_dir(folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => sync_folder(parent)?,
        }
    }
    Ok(())
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

fn failed(doing: &str, name: &str, error: io::Error) -> Error {
    let (kind, help) = match error.kind() {
        ErrorKind::NotFound if name.is_empty() => {
            (Kind::Storage, Some("Bring the folder back: mount it again, for example."))
        }
        ErrorKind::NotFound => (Kind::NotFound, None),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            (Kind::Storage, Some("Give the server's user the right to write to the storage folder."))
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            (Kind::Storage, Some("The disk is full: free some space and try again. Nothing was lost."))
        }
        ErrorKind::Unsupported => {
            (Kind::Storage, Some("The storage folder's file system has no hard links; choose another."))
        }
        _ => (Kind::Storage, None),
    };
    let shown = if name.is_empty() { "the storage folder" } else { name };
    let error_text = format!("{doing} {shown} failed: {error}");
    let error = Error::new(kind, error_text).with_source(error);
    match help {
        Some(help) => error.with_help(help),
        None => error,
    }
}
