//! Going on after collections were created, dropped, renamed, replaced or altered.
//!
//! A change of one collection's definition says nothing about the records of the others. So they are
//! kept, and so is the change stream, which goes on telling what is to be read of them again; only
//! what was not there, or is another collection now, is scanned. Definitions are of the new listing,
//! which is compared with one more after the last round, as that of the beginning would have been.

use std::sync::atomic::Ordering;

use super::catalog;
use super::moment;
use super::snapshot::{Mode, Snapshot, describe_all};
use crate::error::{Error, Kind, Result};

/// How often collections may be listed anew. Each time costs the scans of what changed, and one
/// round.
const RENEWALS: u32 = 16;

impl Snapshot {
    /// Whether [`renew`](Self::renew) may make up for a scan or a round that ended with this.
    pub fn may_renew(&self, failure: &Error) -> bool {
        matches!(self.mode, Mode::CatchUp(_))
            && failure.kind() == Kind::SourceChanged
            && self.reading.may_begin_again.load(Ordering::Relaxed)
            && !self.reading.ctx.cancel.is_cancelled()
    }

    /// Lists everything anew after reading failed, with no scan under way. Returns the collections, by
    /// namespace and name, whose records still count if they were read to their end; all others that
    /// there are now are to be scanned. `None` when only another snapshot can help: see
    /// [`another_way`](Self::another_way).
    ///
    /// # Errors
    /// [`SourceChanged`](Kind::SourceChanged) when definitions keep changing.
    pub async fn renew(&mut self, failure: &Error) -> Result<Option<Vec<(String, String)>>> {
        if !self.may_renew(failure) {
            return Ok(None);
        }
        let cancel = self.reading.ctx.cancel.clone();
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(Error::cancelled()),
            kept = self.list_anew(failure) => kept,
        }
    }

    async fn list_anew(&mut self, failure: &Error) -> Result<Option<Vec<(String, String)>>> {
        let Mode::CatchUp(catch_up) = &mut self.mode else { return Ok(None) };
        self.renewals += 1;
        if self.renewals > RENEWALS {
            self.reading.may_begin_again.store(false, Ordering::Relaxed);
            let message = format!("definitions changed {} times: {}", self.renewals, failure.message());
            return Err(Error::new(failure.kind(), message)
                .with_help(failure.help().unwrap_or("Take a new snapshot when none changes.")));
        }
        catch_up.follower.forget_definition();
        let listing = catalog::list(&self.reading.deployment, self.reading.only.as_deref()).await?;
        if moment::subject(&listing).is_none() {
            // Nothing is left to read at a time, or to begin a transaction with.
            return Ok(None);
        }
        let kept = catch_up.follow_listing(&self.reading, &listing).await?;
        let sizes = catalog::sizes(&self.reading.deployment, &listing.collections).await;
        self.collections = describe_all(&listing, &sizes)?;
        self.search_indexes = catalog::search_indexes(&self.reading.deployment, &listing.collections).await;
        self.reading.sizes = sizes;
        self.reading.listing = listing;
        self.reading.may_begin_again.store(false, Ordering::Relaxed);
        let listed = self.reading.listing.collections.iter().zip(&kept);
        let names = listed.filter(|(_, kept)| kept.is_some());
        let names: Vec<_> = names.map(|(it, _)| (it.database.clone(), it.name.clone())).collect();
        let (renewals, all) = (self.renewals, kept.len());
        tracing::info!(renewals, kept = names.len(), all, why = %failure, "collections are listed anew");
        Ok(Some(names))
    }
}
