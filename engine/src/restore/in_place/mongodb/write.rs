//! Writing the difference between what collections hold and what they are to hold.

use std::sync::atomic::{AtomicU64, Ordering};

use repo_format::id::SnapshotId;
use repo_format::record::logical_len;
use repo_format::tree::{Change, Diff};
use tokio::sync::mpsc;

use super::Guarding;
use crate::error::{Error, Kind, Result};
use crate::overlay::Overlay;
use crate::repo::ObjectReader;
use crate::restore::apply::Conflicts;
use crate::restore::in_place::Reached;
use crate::restore::in_place::delta::Delta;
use crate::restore::in_place::reached::{PASSES, Pass};
use crate::restore::outgoing::whole;
use crate::source::mongodb::connect;
use crate::target::mongodb::in_place::{self as target, Definition, Destination, Portion, Portions, Writer};

/// How far writing came.
#[derive(Clone, Copy, Debug, Default)]
struct Written {
    documents: u64,
    transactions: u64,
}

impl Guarding<'_> {
    /// Writes what differs, and notes down how far it comes: what a transaction writes before it is committed,
    /// since nobody may be there to do it afterwards. After an error it says what was written.
    pub(super) async fn write(
        &self,
        deltas: &[Delta],
        conflicts: &Conflicts,
        overlay: &Overlay,
        safety: SnapshotId,
    ) -> Result<()> {
        let attempt = self.attempt;
        attempt.tell("writing");
        let destination = |delta: &Delta| {
            let (database, name) = delta.member.name();
            let definition = Definition::of(&delta.member.found.schema);
            let bypasses = definition.validates && self.around.may_bypass(&delta.member.name());
            Destination { database, name, bypasses, replaces: !definition.has_unique_values }
        };
        let destinations = deltas.iter().map(destination).collect();
        let client = connect::client(self.address).await?;
        let mut writer = Writer::open(client, destinations, attempt.ctx.cancel.clone()).await?;
        let (sender, portions) = mpsc::channel::<Portion>(1);
        let sent = deltas.to_vec();
        let reading =
            attempt.repo.with_reader_over(Some(overlay), move |reader| send(&sent, &sender, reader));
        let mut written = Written::default();
        let noted = AtomicU64::new(0);
        let note = |records| {
            noted.store(records, Ordering::Relaxed);
            (attempt.order.note)(Reached { safety, records })
        };
        let writing = async {
            // Gone with this, so that the reader hears of a failure.
            let mut portions = portions;
            while let Some(portion) = portions.recv().await {
                let documents = written.documents + portion.len() as u64;
                writer.write(&portion, &|| note(documents)).await?;
                written = Written { documents, transactions: written.transactions + 1 };
                attempt.sent.fetch_add(portion.len() as u64, Ordering::Relaxed);
                attempt.tell("writing");
            }
            Ok::<_, Error>(())
        };
        let (read, wrote) = tokio::join!(reading, writing);
        let is_unsettled = writer.is_unsettled();
        writer.close().await;
        if !is_unsettled && noted.load(Ordering::Relaxed) != written.documents {
            // What the last transaction was to write is not there, and is not taken back.
            if let Err(error) = note(written.documents).await {
                tracing::warn!(%error, "how far a restore came could not be noted down");
            }
        }
        // Reading that fails ends the writing early; writing that fails makes the reader stop, without an
        // error of its own.
        let total = deltas.iter().map(Delta::differing).sum();
        read.and(wrote)
            .map_err(|error| self.told(attempt.beside(conflicts, error), written, total, is_unsettled))
    }

    /// The error, with what was written before it.
    fn told(&self, error: Error, written: Written, total: u64, is_unsettled: bool) -> Error {
        let Written { documents, transactions } = written;
        let again = match self.attempt.back {
            None => "Undo the restore to take back what was written.",
            Some(_) => "Undo the restore again once that is mended.",
        };
        let help = match (is_unsettled, transactions) {
            (true, _) => again.to_owned(),
            (false, 0) => match (error.help(), error.kind()) {
                (Some(help), _) => format!("Nothing was changed. {help}"),
                (None, Kind::Conflict) => {
                    "Nothing was changed. Plan again, and look at what changed.".to_owned()
                }
                (None, _) => "Nothing was changed.".to_owned(),
            },
            (false, _) => format!("What was written stays. {again}"),
        };
        let message = match transactions {
            0 => error.message().to_owned(),
            _ => format!("{}; {documents} of {total} documents had been written by then", error.message()),
        };
        Error::new(error.kind(), message).with_help(help).with_source(error)
    }
}

/// Sends what differs in portions, long values moved back in. Ends when nobody listens any more.
fn send(deltas: &[Delta], sender: &mpsc::Sender<Portion>, reader: &mut ObjectReader) -> Result<()> {
    let (mut portion, mut portions) = (Portion::new(), Portions::default());
    let ended = walk(deltas, reader, |at, change, reader| {
        if portions.add(size_of(&change)?) && !portion.is_empty() {
            // Nobody listening is the writer's failure, and its to tell.
            if sender.blocking_send(std::mem::take(&mut portion)).is_err() {
                return Ok(false);
            }
        }
        let (old, new) = sides(change);
        let old = old.map(|record| whole(record, reader)).transpose()?;
        let new = new.map(|record| whole(record, reader)).transpose()?;
        portion.push(target::Change::between(at, old.as_deref(), new.as_deref())?);
        Ok(true)
    })?;
    if ended && !portion.is_empty() {
        drop(sender.blocking_send(portion));
    }
    Ok(())
}

/// Into how many portions the differences go.
pub(super) fn portions(deltas: &[Delta], reader: &mut ObjectReader) -> Result<u64> {
    let mut portions = Portions::default();
    walk(deltas, reader, |_, change, _| {
        portions.add(size_of(&change)?);
        Ok(true)
    })?;
    Ok(portions.count())
}

/// Visits the differences in the order in which they are written, until there are no more or `visit` says
/// so. Whether it came to the end.
fn walk(
    deltas: &[Delta],
    reader: &mut ObjectReader,
    mut visit: impl FnMut(usize, Change, &mut ObjectReader) -> Result<bool>,
) -> Result<bool> {
    for pass in PASSES {
        for (at, delta) in deltas.iter().enumerate().filter(|(_, delta)| !delta.is_empty()) {
            let mut diff = Diff::new(&delta.live, &delta.goal, None);
            while let Some(change) = diff.next(reader)? {
                if Pass::of(&change) == pass && !visit(at, change, reader)? {
                    return Ok(false);
                }
            }
        }
    }
    Ok(true)
}

fn sides(change: Change) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    match change {
        Change::Added { new, .. } => (None, Some(new)),
        Change::Removed { old, .. } => (Some(old), None),
        Change::Changed { old, new, .. } => (Some(old), Some(new)),
    }
}

/// Bytes of what was there and of what is to be.
fn size_of(change: &Change) -> Result<u64> {
    let (old, new): (Option<&[u8]>, Option<&[u8]>) = match change {
        Change::Added { new, .. } => (None, Some(new)),
        Change::Removed { old, .. } => (Some(old), None),
        Change::Changed { old, new, .. } => (Some(old), Some(new)),
    };
    let mut size_bytes = 0;
    for record in old.into_iter().chain(new) {
        size_bytes += logical_len(record)?;
    }
    Ok(size_bytes)
}
