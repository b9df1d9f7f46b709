//! Objects that are compared and then forgotten: a database read for a proof, or for a comparison
//! with what it holds now.
//!
//! An overlay lies over a repository. It holds what the repository does not have, in an unlinked
//! file, sealed under a key that exists only in this process. So it is gone with the process, and
//! with the last of its clones before that.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use repo_format::frame::{Opener, Sealer, Subject};
use repo_format::id::{ObjectId, ObjectKind, RepositoryId};
use repo_format::keys::SealKey;

use crate::clock::{Entropy, random};
use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::repo::Repository;

/// Most bytes of differences kept: past this, two databases are not versions of each other.
pub(crate) const MOST_BYTES: u64 = 16 << 30;

/// An overlay. Cheap to clone; clones share everything.
#[derive(Clone)]
pub(crate) struct Overlay(Arc<Shared>);

struct Shared {
    repository: Repository,
    entropy: Arc<dyn Entropy>,
    most_bytes: u64,
    state: Mutex<State>,
}

struct State {
    file: File,
    end: u64,
    places: HashMap<ObjectId, (u64, usize)>,
    sealer: Sealer,
    opener: Opener,
}

impl Overlay {
    /// An empty overlay, with its file below the context's scratch folder. It takes `most_bytes`.
    pub fn new(repository: &Repository, most_bytes: u64, ctx: &Context) -> Result<Self> {
        let key = SealKey::ephemeral(random(ctx.entropy.as_ref()));
        let state = State {
            file: tempfile::tempfile_in(&ctx.scratch).map_err(failed)?,
            end: 0,
            places: HashMap::new(),
            sealer: Sealer::new(RepositoryId([0; 16]), 0, &key),
            opener: Opener::with_key(RepositoryId([0; 16]), &key),
        };
        Ok(Self(Arc::new(Shared {
            repository: repository.clone(),
            entropy: ctx.entropy.clone(),
            most_bytes,
            state: Mutex::new(state),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an object, unless the repository or the overlay has it.
    pub fn store(&self, kind: ObjectKind, id: ObjectId, plaintext: &[u8]) -> Result<()> {
        if self.0.repository.cache().may_rely_on(&id)? {
            return Ok(());
        }
        self.keep(kind, id, plaintext)
    }

    /// Keeps an object, whether the repository has it or not.
    pub fn keep(&self, kind: ObjectKind, id: ObjectId, plaintext: &[u8]) -> Result<()> {
        let mut state = self.state();
        if state.places.contains_key(&id) {
            return Ok(());
        }
        let mut frame = Vec::new();
        let nonce = random(self.0.entropy.as_ref());
        state.sealer.seal(Subject::Object(kind, id), plaintext, nonce, &mut frame)?;
        let start = state.end;
        let most = self.0.most_bytes;
        if start + frame.len() as u64 > most {
            let message = format!("the two sides differ in more than {} MiB of data", most >> 20);
            return Err(Error::new(Kind::Unsupported, message).with_help(
                "Take a snapshot of the database and compare with that, which has no such limit.",
            ));
        }
        state.file.seek(SeekFrom::Start(start)).map_err(failed)?;
        state.file.write_all(&frame).map_err(failed)?;
        state.end += frame.len() as u64;
        state.places.insert(id, (start, frame.len()));
        Ok(())
    }

    /// Whether it has an object.
    pub fn has(&self, id: &ObjectId) -> bool {
        self.state().places.contains_key(id)
    }

    /// Objects in it.
    pub fn objects(&self) -> u64 {
        self.state().places.len() as u64
    }

    /// Bytes of its file.
    pub fn size_bytes(&self) -> u64 {
        self.state().end
    }

    /// An object of the overlay; `None` when it has none of that id.
    pub fn load(&self, kind: ObjectKind, id: ObjectId) -> Result<Option<Vec<u8>>> {
        let mut state = self.state();
        let Some(&(start, len)) = state.places.get(&id) else { return Ok(None) };
        let mut frame = vec![0; len];
        state.file.seek(SeekFrom::Start(start)).map_err(failed)?;
        state.file.read_exact(&mut frame).map_err(failed)?;
        let plaintext = state.opener.open(Subject::Object(kind, id), &frame)?;
        if self.0.repository.keys().object_id(kind, &plaintext) != id {
            return Err(Error::new(Kind::Storage, "an object of a comparison was changed on disk"));
        }
        Ok(Some(plaintext))
    }
}

fn failed(error: std::io::Error) -> Error {
    Error::new(Kind::Storage, format!("keeping the differences failed: {error}"))
        .with_help("Comparing needs room for the differences in the data folder's scratch space.")
        .with_source(error)
}
