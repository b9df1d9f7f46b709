//! Reading objects: found through the index cache, opened, and hashed before they are believed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use repo_format::files;
use repo_format::id::{ObjectId, ObjectKind};
use repo_format::manifest::SchemaArchive;
use repo_format::tree::Lookup;
use repo_format::value;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

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
    pub(crate) async fn load(&self, kind: ObjectKind, id: ObjectId) -> Result<Vec<u8>> {
        self.load_counted(kind, id, &Counters::default()).await
    }

    /// Tries every place the object is said to be at. The cache may have been left behind by another
    /// process, or the pack was just deleted after its objects were copied elsewhere: so before it
    /// is given up, the index is listed anew, and made anew for packs that no index file names.
    async fn load_counted(&self, kind: ObjectKind, id: ObjectId, counters: &Counters) -> Result<Vec<u8>> {
        match self.load_from_places(kind, id, counters).await {
            Err(error) if error.kind() == Kind::Damaged => {
                self.refresh_index().await?;
                match self.load_from_places(kind, id, counters).await {
                    Err(error) if error.kind() == Kind::Damaged && self.index_unindexed().await.is_ok() => {
                        self.load_from_places(kind, id, counters).await
                    }
                    loaded => loaded,
                }
            }
            loaded => loaded,
        }
    }

    async fn load_from_places(&self, kind: ObjectKind, id: ObjectId, counters: &Counters) -> Result<Vec<u8>> {
        let mut failure = Error::damaged(format!("the object {id} is missing from the repository"));
        for place in self.cache().places(&id)?.into_iter().filter(|place| place.kind == kind) {
            match self.load_from(&place, id, counters).await {
                Err(error) if error.kind() == Kind::Damaged => failure = error,
                loaded => return loaded,
            }
        }
        Err(failure)
    }

    async fn load_from(&self, place: &Place, id: ObjectId, counters: &Counters) -> Result<Vec<u8>> {
        let frame = self.read_frame(place, id).await?;
        counters.objects.fetch_add(1, Ordering::Relaxed);
        counters.bytes.fetch_add(frame.len() as u64, Ordering::Relaxed);
        self.open_frame(place, id, &frame)
    }

    /// The sealed frame of an object.
    pub(crate) async fn read_frame(&self, place: &Place, id: ObjectId) -> Result<Bytes> {
        let name = files::pack(place.pack);
        let frame = self.store().read_range(&name, place.offset.into(), place.len as usize).await;
        frame.map_err(|error| match error.kind() {
            Kind::NotFound => Error::damaged(format!("the pack {} of object {id} is missing", place.pack)),
            _ => error,
        })
    }

    /// Opens a frame, and proves that it holds the object.
    pub(crate) fn open_frame(&self, place: &Place, id: ObjectId, frame: &[u8]) -> Result<Vec<u8>> {
        let opened =
            cpu::with_opener(self.id(), self.keys(), |opener| opener.open_object(place.kind, id, frame));
        opened.map_err(|error| {
            Error::damaged(format!("the object {id} in pack {} is damaged: {error}", place.pack))
        })
    }

    /// Whether a writer may rely on every object of an archive that is there: each by itself, since
    /// one pack may be condemned where another is not.
    pub(crate) async fn may_rely_on_value(&self, archive: &SchemaArchive) -> Result<bool> {
        let (mut level, mut depth) = (vec![archive.root], archive.depth);
        loop {
            for id in &level {
                if !self.cache().may_rely_on(id)? {
                    return Ok(false);
                }
            }
            if depth == 0 {
                return Ok(true);
            }
            let mut below = Vec::new();
            for id in level {
                match self.load(ObjectKind::PieceList, id).await {
                    Ok(list) => below.extend(value::children(depth, &list)?.into_iter().map(|(_, id)| id)),
                    Err(error) if error.kind() == Kind::Damaged => return Ok(false),
                    Err(error) => return Err(error),
                }
            }
            (level, depth) = (below, depth - 1);
        }
    }

    /// Runs synchronous work over trees where it may block, with a reader to look objects up in.
    pub(crate) async fn with_reader<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut ObjectReader) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.with_reader_over(None, work).await
    }

    /// As [`with_reader`](Self::with_reader), and the reader looks into `overlay` first.
    pub(crate) async fn with_reader_over<T: Send + 'static>(
        &self,
        overlay: Option<&Overlay>,
        work: impl FnOnce(&mut ObjectReader) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let _place = READERS.acquire().await.map_err(|_| Error::new(Kind::Internal, "reading was closed"))?;
        let mut reader = ObjectReader::new(self);
        reader.lay_over_if(overlay);
        // Fires when nobody waits for this any more, as when the process ends.
        let _stop = reader.unwanted.clone().drop_guard();
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
    cancel: CancellationToken,
    unwanted: CancellationToken,
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
            cancel: CancellationToken::new(),
            unwanted: CancellationToken::new(),
        }
    }

    /// Reads nothing more from when `cancel` fires: walks that have no other place to stop end there.
    pub(crate) fn stop_with(&mut self, cancel: &CancellationToken) {
        self.cancel = cancel.clone();
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
    /// Waits for a read, but not when nobody wants it any more: a store that does not answer would hold
    /// the thread, and a runtime that ends would take its clock away from under it.
    fn wait<T>(&self, read: impl Future<Output = Result<T>>) -> Result<T> {
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.unwanted.cancelled() => Err(Error::cancelled()),
                () = self.cancel.cancelled() => Err(Error::cancelled()),
                done = read => done,
            }
        })
    }

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
        if self.cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        if let Some(overlay) = &self.overlay
            && let Some(plaintext) = overlay.load(kind, id)?
        {
            return Ok(plaintext);
        }
        if let Some((task, bytes)) = self.ahead.remove(&id) {
            self.ahead_bytes -= bytes;
            let ended = |error| Error::new(Kind::Internal, "a read ended early").with_source(error);
            return self.wait(async { task.await.map_err(ended)? });
        }
        self.wait(self.repository.load_counted(kind, id, &self.counters))
    }

    fn expect(&mut self, wanted: &[(ObjectKind, ObjectId)]) {
        if self.ahead.len() >= READS {
            self.forget_all_but(wanted);
        }
        for &(kind, id) in wanted {
            if self.ahead.len() >= READS || self.ahead_bytes >= LOOK_AHEAD {
                break;
            }
            let is_over = self.overlay.as_ref().is_some_and(|overlay| overlay.has(&id));
            if is_over || self.ahead.contains_key(&id) {
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
