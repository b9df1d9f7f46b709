//! What every operation is given beside its own arguments.

use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Entropy, System};
use crate::error::{Error, Result};
use crate::monitor::{Monitor, Silent};
use crate::source::AddressPolicy;

/// The surroundings of one operation: who listens, who may stop it, and where it may spill.
#[derive(Clone)]
pub struct Context {
    /// Receives progress.
    pub monitor: Arc<dyn Monitor>,
    /// Ends the operation at its next safe point.
    pub cancel: CancellationToken,
    /// Wall-clock time.
    pub clock: Arc<dyn Clock>,
    /// Nonces, names and keys.
    pub entropy: Arc<dyn Entropy>,
    /// A folder of this operation's own for sealed sort spills; removed by the caller afterwards.
    pub scratch: PathBuf,
    /// Connections read in parallel.
    pub workers: usize,
    /// Where databases may be.
    pub addresses: AddressPolicy,
}

impl Context {
    /// System clock and randomness, no listener, two workers, spills below `scratch`.
    pub fn new(scratch: impl Into<PathBuf>) -> Self {
        Self {
            monitor: Arc::new(Silent),
            cancel: CancellationToken::new(),
            clock: Arc::new(System),
            entropy: Arc::new(System),
            scratch: scratch.into(),
            workers: 2,
            addresses: AddressPolicy::default(),
        }
    }

    /// Fails with [`Kind::Cancelled`](crate::error::Kind::Cancelled) once cancelled.
    pub fn check(&self) -> Result<()> {
        if self.cancel.is_cancelled() { Err(Error::cancelled()) } else { Ok(()) }
    }
}
