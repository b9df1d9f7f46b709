//! MongoDB as a target: a new database, or an empty one.

use repo_format::catalog::Layout;
use tokio::sync::mpsc::Receiver;

use crate::error::Result;
use crate::source::RecordBatch;
use crate::source::mongodb::MongoUrl;
use crate::target::{Note, PreflightCheck, Restoring};

/// Says in words what the databases that these collections would go to hold, if they hold anything.
pub async fn occupied(url: &MongoUrl, collections: &[(String, String)]) -> Result<Option<String>> {
    unimplemented!("{url:?} {collections:?}")
}

/// Checks the target for a restore. Writes nothing.
pub async fn preflight(
    url: &MongoUrl,
    restoring: &Restoring<'_>,
    others_write: bool,
) -> Result<Vec<PreflightCheck>> {
    unimplemented!("{url:?} {restoring:?} {others_write}")
}

/// Databases that are being restored into.
pub struct Target {}

impl Target {
    /// Takes the empty databases that the collections in scope go to.
    pub async fn create(url: &MongoUrl, restoring: &Restoring<'_>) -> Result<Self> {
        unimplemented!("{url:?} {restoring:?}")
    }

    /// Makes the collections, without validators and indexes.
    pub async fn pre_data(&self, restoring: &Restoring<'_>) -> Result<Vec<Note>> {
        unimplemented!("{restoring:?}")
    }

    /// Inserts the documents of one collection as they are, and returns how many there were.
    pub async fn load(
        &self,
        layout: &Layout,
        namespace: &str,
        name: &str,
        expected: u64,
        rows: Receiver<RecordBatch>,
    ) -> Result<u64> {
        unimplemented!("{layout:?} {namespace} {name} {expected} {rows:?}")
    }

    /// Builds indexes, then sets validators and makes views.
    pub async fn post_data(&self, restoring: &Restoring<'_>) -> Result<Vec<Note>> {
        unimplemented!("{restoring:?}")
    }

    /// Builds the TTL indexes: from then on the server deletes what is expired.
    pub async fn finish(self, restoring: &Restoring<'_>) -> Result<Vec<Note>> {
        unimplemented!("{restoring:?}")
    }

    /// Drops what this restore made, and says what is left.
    pub async fn abandon(self) -> Result<String> {
        unimplemented!()
    }
}
