//! A store in memory whose calls fail when told to, and whose files can be damaged.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::error::{Error, Kind, Result};
use crate::store::{Created, Listed};

/// Files by name.
pub(crate) type Files = BTreeMap<String, Bytes>;

/// How calls fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// One call does nothing.
    Refused,
    /// One call does what it was asked, and says that it failed.
    AnswerLost,
    /// From one call on, there is no room for new files.
    Full,
    /// From one call on, nothing can be reached.
    Gone,
}

#[derive(Debug, Default)]
struct State {
    files: Files,
    calls: u64,
    /// Which call is met first.
    fault: Option<(u64, Fault)>,
    failures: u64,
}

/// The store. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

impl Disk {
    pub fn new(files: Files) -> Self {
        Self(Arc::new(Mutex::new(State { files, ..State::default() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn files(&self) -> Files {
        self.state().files.clone()
    }

    /// Lets the n-th call from now on meet a fault.
    pub(super) fn fail(&self, n: u64, fault: Fault) {
        let mut state = self.state();
        (state.calls, state.failures, state.fault) = (0, 0, Some((n, fault)));
    }

    /// No call fails any more. Says how many did.
    pub fn heal(&self) -> u64 {
        let mut state = self.state();
        state.fault = None;
        state.failures
    }

    fn call<T>(&self, is_creation: bool, work: impl FnOnce(&mut Files) -> Result<T>) -> Result<T> {
        let mut state = self.state();
        state.calls += 1;
        let Some((n, fault)) = state.fault else { return work(&mut state.files) };
        let is_met = match fault {
            Fault::Refused | Fault::AnswerLost => state.calls == n,
            Fault::Full => state.calls >= n && is_creation,
            Fault::Gone => state.calls >= n,
        };
        if !is_met {
            return work(&mut state.files);
        }
        state.failures += 1;
        if fault == Fault::AnswerLost {
            drop(work(&mut state.files));
        }
        Err(Error::new(Kind::Storage, format!("a call failed on purpose: {fault:?}")))
    }

    pub fn create(&self, name: &str, content: Bytes) -> Result<Created> {
        self.call(true, |files| {
            if files.contains_key(name) {
                return Ok(Created::Taken);
            }
            files.insert(name.to_owned(), content);
            Ok(Created::New)
        })
    }

    pub fn read(&self, name: &str) -> Result<Bytes> {
        self.call(false, |files| files.get(name).cloned().ok_or_else(|| not_found(name)))
    }

    pub fn read_range(&self, name: &str, offset: u64, len: usize) -> Result<Bytes> {
        self.call(false, |files| {
            let content = files.get(name).ok_or_else(|| not_found(name))?;
            let (start, end) = (offset as usize, offset as usize + len);
            if end > content.len() {
                return Err(Error::damaged(format!("the stored file {name} is too short")));
            }
            Ok(content.slice(start..end))
        })
    }

    pub fn list(&self, folder: &str) -> Result<Vec<Listed>> {
        self.call(false, |files| {
            let below = files.range(folder.to_owned()..).take_while(|(name, _)| name.starts_with(folder));
            let listed = |(name, content): (&String, &Bytes)| Listed {
                name: name.clone(),
                size_bytes: content.len() as u64,
            };
            Ok(below.map(listed).collect())
        })
    }

    pub fn delete(&self, name: &str) -> Result<()> {
        self.call(false, |files| {
            files.remove(name);
            Ok(())
        })
    }
}

fn not_found(name: &str) -> Error {
    Error::new(Kind::NotFound, format!("there is no {name}"))
}
