//! Tables with a row that is larger than the server can print.
//!
//! That is seen only when the row is reached. Nothing about the snapshot is wrong, so the table is left
//! out of it, with the reason, and all others are read to their end.

use std::sync::PoisonError;

use super::snapshot::Snapshot;
use crate::error::{Error, Kind, Result};
use crate::source::{Incomplete, sql_name};

/// A table that was not read to its end.
#[derive(Debug)]
pub(super) struct Unprintable {
    namespace: String,
    name: String,
    reason: String,
}

impl Snapshot {
    /// Notes why a scan of a table fails.
    pub(super) fn note_unprintable(&self, namespace: &str, name: &str, reason: String) {
        let noted = Unprintable { namespace: namespace.to_owned(), name: name.to_owned(), reason };
        self.unprintable.lock().unwrap_or_else(PoisonError::into_inner).push(noted);
    }

    /// Whether [`renew`](Self::renew) may make up for a scan that ended with this.
    pub fn may_renew(&self, failure: &Error) -> bool {
        let noted = self.unprintable.lock().unwrap_or_else(PoisonError::into_inner);
        failure.kind() == Kind::Unsupported && !noted.is_empty()
    }

    /// Counts tables whose rows cannot be printed among what cannot be read. Returns the collections that are
    /// left, by namespace and name, whose records still count; `None` when there was no such table.
    ///
    /// # Errors
    /// [`SourceChanged`](Kind::SourceChanged) when the snapshot did not outlive it, as when its holder read
    /// the table.
    pub async fn renew(&mut self, failure: &Error) -> Result<Option<Vec<(String, String)>>> {
        if !self.may_renew(failure) {
            return Ok(None);
        }
        self.check_holder().await?;
        let noted = std::mem::take(self.unprintable.get_mut().unwrap_or_else(PoisonError::into_inner));
        for Unprintable { namespace, name, reason } in noted {
            self.collections.retain(|found| found.namespace != namespace || found.name != name);
            self.incomplete.push(Incomplete { name: sql_name(&namespace, &name), reason });
        }
        let left = self.collections.iter();
        Ok(Some(left.map(|found| (found.namespace.clone(), found.name.clone())).collect()))
    }
}
