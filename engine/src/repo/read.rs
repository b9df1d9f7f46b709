//! Reading objects: found through the index cache, opened, and hashed before they are believed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use repo_format::files;
use repo_format::id::{ObjectId, ObjectKind};
use repo_format::tree::Lookup;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::cpu;
use crate::error::{Error, Kind, Result};
use crate::overlay::Overlay;
use crate::repo::{Place, Repository};

/// Bytes that may be on their way before they are asked for.
const LOOK_AHEAD: u64 = 64 << 20;
/// Reads on their way at a time: enough to hide a distant store's latency.
const READS: usize = 32;

/// Walks through trees at a time, in all repositories. Each holds a blocking thread and waits there
/// for file reads that need another: without a limit far below the number of blocking threads,
/// enough walks would wait for each other.
static READERS: Semaphore = Semaphore::const_new(64);

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadStats {
    /// Objects read from the store.
    pub objects: u64,
    /// Bytes of their frames.
    pub bytes: u64,
}

#[derive(Debug, Default)]
struct Counters {
    objects: AtomicU64,
    bytes: AtomicU64,
}

impl Repository {
    /// The plaintext of an object, proven to be what its id says.
    async fn load_counted(&self, kind: ObjectKind, id: ObjectId, counters: &Counters) -> Result<Vec<u8>> {
        let missing = || Error::damaged(format!("the object {id} is missing from the repository"));
        let place = match self.cache().place(&id)? {
            Some(place) => place,
            // The cache may have been left behind by another process, or deleted.
            None => {
                self.refresh_index().await?;
                self.cache().place(&id)?.ok_or_else(missing)?
            }
        };
        if place.kind != kind {
            return Err(missing());
        }
        let name = files::pack(place.pack);
        let frame = self.store().read_range(&name, place.offset.into(), place.len as usize).await;
        let frame = frame.map_err(|error| match error.kind() {
            Kind::NotFound => Error::damaged(format!("the pack {} of object {id} is missing", place.pack)),
            _ => error,
        })?;
        counters.objects.fetch_add(1, Ordering::Relaxed);
        counters.bytes.fetch_add(frame.len() as u64, Ordering::Relaxed);
        cpu::with_opener(self.id(), self.keys(), |opener| opener.open_object(kind, id, &frame)).map_err(
            |error| Error::damaged(format!("the object {id} in pack {} is damaged: {error}", place.pack)),
        )
    }

    /// Runs synchronous work over trees where it may block, with a reader to look objects up in.
    pub(crate) async fn with_reader<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut ObjectReader) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let _place = READERS.acquire().await.map_err(|_| Error::new(Kind::Internal, "reading was closed"))?;
        let mut reader = ObjectReader::new(self);
        let result = tokio::task::spawn_blocking(move || work(&mut reader)).await;
        result.map_err(|error| Error::new(Kind::Internal, "reading ended early").with_source(error))?
    }
}

/// A read that was begun.
type Load = JoinHandle<Result<Vec<u8>>>;

/// Looks objects up for a walk through trees. Only for blocking threads.
pub struct ObjectReader {
    repository: Repository,
    runtime: Handle,
    counters: Arc<Counters>,
    /// Objects on their way, and the bytes each will have.
    ahead: HashMap<ObjectId, (Load, u64)>,
    ahead_bytes: u64,
    overlay: Option<Overlay>,
}

impl ObjectReader {
    /// A reader with nothing on its way. Must be made on an async thread.
    pub fn new(repository: &Repository) -> Self {
        Self {
            repository: repository.clone(),
            runtime: Handle::current(),
            counters: Arc::default(),
            ahead: HashMap::new(),
            ahead_bytes: 0,
            overlay: None,
        }
    }

    /// Looks into `overlay` first from now on.
    pub(crate) fn lay_over(&mut self, overlay: Overlay) {
        self.overlay = Some(overlay);
    }

    /// As [`lay_over`](Self::lay_over), where there is an overlay.
    pub(crate) fn lay_over_if(&mut self, overlay: Option<&Overlay>) {
        self.overlay = overlay.cloned();
    }

    /// Where the index says an object is.
    pub(crate) fn place(&self, id: &ObjectId) -> Option<Place> {
        self.repository.cache().place(id).ok().flatten()
    }

    /// What was read so far, objects that turned out not to be needed included.
    pub fn stats(&self) -> ReadStats {
        ReadStats {
            objects: self.counters.objects.load(Ordering::Relaxed),
            bytes: self.counters.bytes.load(Ordering::Relaxed),
        }
    }
}

impl ObjectReader {
    /// Makes room: what was announced before and is not any more will hardly be asked for.
    fn forget_all_but(&mut self, wanted: &[(ObjectKind, ObjectId)]) {
        let still: HashSet<ObjectId> = wanted.iter().map(|(_, id)| *id).collect();
        let ahead_bytes = &mut self.ahead_bytes;
        self.ahead.retain(|id, (task, bytes)| {
            let keep = still.contains(id);
            if !keep {
                task.abort();
                *ahead_bytes -= *bytes;
            }
            keep
        });
    }
}

impl Lookup for ObjectReader {
    type Error = Error;

    fn load(&mut self, kind: ObjectKind, id: ObjectId) -> Result<Vec<u8>> {
        if let Some(overlay) = &self.overlay
            && let Some(plaintext) = overlay.load(kind, id)?
        {
            return Ok(plaintext);
        }
        if let Some((task, bytes)) = self.ahead.remove(&id) {
            self.ahead_bytes -= bytes;
            return match self.runtime.block_on(task) {
                Ok(loaded) => loaded,
                Err(error) => Err(Error::new(Kind::Internal, "a read ended early").with_source(error)),
            };
        }
        self.runtime.block_on(self.repository.load_counted(kind, id, &self.counters))
    }

    fn expect(&mut self, wanted: &[(ObjectKind, ObjectId)]) {
        if self.ahead.len() >= READS {
            self.forget_all_but(wanted);
        }
        for &(kind, id) in wanted {
            if self.ahead.len() >= READS || self.ahead_bytes >= LOOK_AHEAD {
                break;
            }
            if self.ahead.contains_key(&id) {
                continue;
            }
            let bytes = match self.repository.cache().place(&id) {
                Ok(Some(place)) => u64::from(place.plain_len),
                // The read itself will say what is wrong.
                _ => continue,
            };
            let (repository, counters) = (self.repository.clone(), self.counters.clone());
            let task = self.runtime.spawn(async move { repository.load_counted(kind, id, &counters).await });
            self.ahead.insert(id, (task, bytes));
            self.ahead_bytes += bytes;
        }
    }
}

impl Drop for ObjectReader {
    fn drop(&mut self) {
        self.ahead.values().for_each(|(task, _)| task.abort());
    }
}
