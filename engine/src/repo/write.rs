//! Writing objects: each at most once, into packs that are uploaded while the next ones fill.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use repo_format::frame::Subject;
use repo_format::id::{ObjectId, ObjectKind, PackId};
use repo_format::index::IndexedPack;
use repo_format::pack::PackWriter;
use repo_format::{files, limits};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::clock::random;
use crate::cpu;
use crate::defect::{Defect, is_planted};
use crate::error::{Error, Kind, Result};
use crate::repo::Repository;
use crate::store::Created;

/// Packs uploaded at a time. Each holds up to 32 MiB, so this is also what bounds their memory.
const UPLOADS: usize = 1;
/// Objects after which an index file is written: what is known to it is no longer kept in memory.
const INDEX_EVERY: usize = 50_000;

/// What a writer did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteStats {
    /// Objects that were not in the repository.
    pub objects: u64,
    /// Bytes of the files they were written in.
    pub bytes: u64,
}

/// An object sealed and ready for a pack.
#[derive(Debug)]
pub struct SealedObject {
    kind: ObjectKind,
    id: ObjectId,
    plain_len: u32,
    frame: Vec<u8>,
}

/// Writes the objects of one session. Cheap to clone; clones share packs. Used from blocking
/// threads, which wait when uploads fall behind.
#[derive(Clone)]
pub struct Writer(Arc<Shared>);

struct Shared {
    repository: Repository,
    runtime: Handle,
    state: Mutex<State>,
    uploads: Arc<Semaphore>,
    /// Claims that were granted. Each must become an object before anything may be committed.
    claims: AtomicU64,
    objects: AtomicU64,
    /// Bytes of the frames added, whether or not their packs are stored yet.
    frame_bytes: AtomicU64,
    bytes: AtomicU64,
}

struct State {
    data: PackWriter,
    tree: PackWriter,
    /// Objects written or promised by this writer that the cache does not know yet.
    claimed: HashSet<ObjectId>,
    /// Packs that are stored but in no index file yet.
    unindexed: Vec<IndexedPack>,
    running: JoinSet<Result<IndexedPack>>,
}

impl Writer {
    /// A writer of `repository`, whose index must be up to date: call within a session.
    pub fn new(repository: &Repository) -> Self {
        let state = State {
            data: PackWriter::new(new_pack_id(repository)),
            tree: PackWriter::new(new_pack_id(repository)),
            claimed: HashSet::new(),
            unindexed: Vec::new(),
            running: JoinSet::new(),
        };
        Self(Arc::new(Shared {
            repository: repository.clone(),
            runtime: Handle::current(),
            state: Mutex::new(state),
            uploads: Arc::new(Semaphore::new(UPLOADS)),
            claims: AtomicU64::new(0),
            objects: AtomicU64::new(0),
            frame_bytes: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the caller is to write this object: nobody else has. Claim before compressing.
    pub fn claim(&self, id: ObjectId) -> Result<bool> {
        if self.0.repository.cache().may_rely_on(&id)? {
            return Ok(false);
        }
        let granted = self.state().claimed.insert(id);
        self.0.claims.fetch_add(u64::from(granted), Ordering::Relaxed);
        Ok(granted)
    }

    /// Compresses and seals a claimed object. Runs on any thread.
    pub fn seal(&self, kind: ObjectKind, id: ObjectId, plaintext: &[u8]) -> Result<SealedObject> {
        let repository = &self.0.repository;
        let nonce = random(repository.entropy());
        let mut frame = Vec::new();
        cpu::with_sealer(repository.id(), repository.epoch(), repository.keys(), |sealer| {
            sealer.seal(Subject::Object(kind, id), plaintext, nonce, &mut frame)
        })?;
        Ok(SealedObject { kind, id, plain_len: plaintext.len() as u32, frame })
    }

    /// Claims an object whose frame is sealed already, to be stored once more.
    pub(crate) fn claim_sealed(
        &self,
        kind: ObjectKind,
        id: ObjectId,
        plain_len: u32,
        frame: Vec<u8>,
    ) -> Option<SealedObject> {
        let granted = self.state().claimed.insert(id);
        self.0.claims.fetch_add(u64::from(granted), Ordering::Relaxed);
        granted.then_some(SealedObject { kind, id, plain_len, frame })
    }

    /// Adds a sealed object to a pack; waits while too many packs are being uploaded. Only for
    /// blocking threads.
    pub fn add(&self, object: &SealedObject) -> Result<()> {
        match self.push(object) {
            Some(pack) => self.0.runtime.clone().block_on(self.upload(pack)),
            None => Ok(()),
        }
    }

    /// As [`add`](Self::add), for async threads.
    pub(crate) async fn add_async(&self, object: &SealedObject) -> Result<()> {
        match self.push(object) {
            Some(pack) => self.upload(pack).await,
            None => Ok(()),
        }
    }

    /// Adds an object to its pack; returns the pack when it is full.
    fn push(&self, object: &SealedObject) -> Option<PackWriter> {
        let SealedObject { kind, id, plain_len, frame } = object;
        let full = {
            let mut state = self.state();
            let (pack, most) = if kind.is_tree() {
                (&mut state.tree, limits::TREE_PACK)
            } else {
                (&mut state.data, limits::DATA_PACK)
            };
            pack.push(*kind, *id, *plain_len, frame);
            if pack.len() >= most || pack.objects() >= limits::PACK_OBJECTS {
                let next = PackWriter::new(new_pack_id(&self.0.repository));
                Some(std::mem::replace(pack, next))
            } else {
                None
            }
        };
        self.0.objects.fetch_add(1, Ordering::Relaxed);
        self.0.frame_bytes.fetch_add(frame.len() as u64, Ordering::Relaxed);
        full
    }

    /// Claims, seals and adds in one go, on a blocking thread.
    pub fn store(&self, kind: ObjectKind, id: ObjectId, plaintext: &[u8]) -> Result<()> {
        if self.claim(id)? { self.add(&self.seal(kind, id, plaintext)?) } else { Ok(()) }
    }

    /// Starts an upload, once there is room for one, and takes in those that have ended.
    async fn upload(&self, pack: PackWriter) -> Result<()> {
        let permit = self.0.uploads.clone().acquire_owned().await;
        let permit = permit.map_err(|_| Error::new(Kind::Internal, "uploads were closed"))?;
        let writer = self.clone();
        let finished = {
            let mut state = self.state();
            state.running.spawn(async move {
                let stored = writer.store_pack(pack).await;
                drop(permit);
                stored
            });
            let mut finished = Vec::new();
            while let Some(ended) = state.running.try_join_next() {
                finished.push(ended);
            }
            finished
        };
        self.take_in(finished)?;
        let due = {
            let mut state = self.state();
            let objects: usize = state.unindexed.iter().map(|pack| pack.objects.len()).sum();
            if objects >= INDEX_EVERY { std::mem::take(&mut state.unindexed) } else { Vec::new() }
        };
        self.write_index(due).await
    }

    fn take_in(&self, finished: Vec<Result<Result<IndexedPack>, tokio::task::JoinError>>) -> Result<()> {
        for ended in finished {
            let pack = ended
                .map_err(|error| Error::new(Kind::Internal, "an upload ended early").with_source(error))??;
            self.state().unindexed.push(pack);
        }
        Ok(())
    }

    async fn store_pack(&self, pack: PackWriter) -> Result<IndexedPack> {
        let repository = self.0.repository.clone();
        let nonces = [random(repository.entropy()), random(repository.entropy())];
        let id = pack.id();
        let (bytes, objects) = cpu::run(move || {
            cpu::with_sealer(repository.id(), repository.epoch(), repository.keys(), |sealer| {
                pack.finish(sealer, nonces)
            })
        })
        .await??;
        let len = bytes.len() as u64;
        let (name, bytes) = (files::pack(id), Bytes::from(bytes));
        match self.0.repository.store().create(&name, bytes.clone()).await? {
            Created::New => {}
            // A request that was repeated says so of its first sending.
            Created::Taken if self.0.repository.store().read(&name).await? == bytes => {}
            Created::Taken => return Err(Error::new(Kind::Internal, "two random pack ids were equal")),
        }
        self.0.bytes.fetch_add(len, Ordering::Relaxed);
        Ok(IndexedPack { id, len, objects })
    }

    /// Writes index files for packs that are stored, and tells the cache.
    async fn write_index(&self, packs: Vec<IndexedPack>) -> Result<()> {
        let mut rest = packs.as_slice();
        while !rest.is_empty() {
            let mut objects = 0;
            let fits = rest.iter().take_while(|pack| {
                objects += pack.objects.len();
                objects <= limits::INDEX_ENTRIES
            });
            let (these, after) = rest.split_at(fits.count().max(1));
            let len = self.0.repository.add_index(these.to_vec()).await?;
            self.0.bytes.fetch_add(len, Ordering::Relaxed);
            let mut state = self.state();
            for object in these.iter().flat_map(|pack| &pack.objects) {
                state.claimed.remove(&object.id);
            }
            rest = after;
        }
        Ok(())
    }

    /// Stores what is still in memory, then the index that names it. After this every object
    /// added may be relied on by a manifest.
    pub async fn flush(&self) -> Result<WriteStats> {
        let (claims, objects) =
            (self.0.claims.load(Ordering::Relaxed), self.0.objects.load(Ordering::Relaxed));
        if claims != objects {
            let message = format!("{claims} objects were claimed and {objects} written");
            return Err(Error::new(Kind::Internal, message));
        }
        let open = {
            let mut state = self.state();
            let fresh = || PackWriter::new(new_pack_id(&self.0.repository));
            [std::mem::replace(&mut state.data, fresh()), std::mem::replace(&mut state.tree, fresh())]
        };
        for pack in open.into_iter().filter(|pack| !pack.is_empty()) {
            self.upload(pack).await?;
        }
        let mut running = std::mem::take(&mut self.state().running);
        while let Some(ended) = running.join_next().await {
            self.take_in(vec![ended])?;
        }
        let rest = std::mem::take(&mut self.state().unindexed);
        self.write_index(rest).await?;
        Ok(self.stats())
    }

    /// Bytes that are stored or on their way: what progress shows.
    pub fn progress_bytes(&self) -> u64 {
        self.0.frame_bytes.load(Ordering::Relaxed)
    }

    /// What was written so far.
    pub fn stats(&self) -> WriteStats {
        WriteStats {
            objects: self.0.objects.load(Ordering::Relaxed),
            bytes: self.0.bytes.load(Ordering::Relaxed),
        }
    }
}

fn new_pack_id(repository: &Repository) -> PackId {
    let reused = if is_planted(Defect::ReusePackName) { repository.cache().view().dead_pack() } else { None };
    reused.unwrap_or_else(|| PackId(random(repository.entropy())))
}
