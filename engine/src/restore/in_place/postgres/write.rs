//! Writing the difference between what tables hold and what they are to hold.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use repo_format::tree::{Change, Counts, Diff, Root};
use tokio::sync::mpsc;

use crate::error::{Error, Kind, Result};
use crate::overlay::Overlay;
use crate::repo::{ObjectReader, Repository};
use crate::restore::in_place::delta::Delta;
use crate::restore::outgoing::{BATCHES, Outgoing, whole};
use crate::source::postgres;
use crate::target::postgres::in_place::{
    Pass, Stillness, Surroundings, TableName, TableWriter, failed, passes,
};

/// What a restore's own transaction needs beside the pins of a reading: XML values may be fragments, and
/// what fires or checks may read views.
const LIFTED: &str = "SET LOCAL xmloption = content; SELECT set_config(name, '', true) FROM pg_settings \
                      WHERE name = 'restrict_nonsystem_relation_kind'";

/// Whether rows with other values go and come back, all of them before any: so a unique value can move from
/// one to another, which no order of updates allows when they swap.
#[derive(Clone, Copy, Debug)]
struct Exchange(bool);

/// How many records a pass writes.
fn count(delta: &Delta, pass: Pass, exchange: Exchange) -> u64 {
    let Counts { added, removed, changed, .. } = delta.counts;
    match (pass, exchange) {
        (Pass::Delete, Exchange(false)) => removed,
        (Pass::Delete, Exchange(true)) => removed + changed,
        (Pass::Update, Exchange(false)) => changed,
        (Pass::Update, Exchange(true)) => 0,
        (Pass::Insert, Exchange(false)) => added,
        (Pass::Insert, Exchange(true)) => added + changed,
    }
}

/// Where differences are written.
pub(super) struct Target<'a> {
    pub repo: &'a Repository,
    pub snapshot: &'a postgres::Snapshot,
    pub around: &'a Surroundings,
    /// Where objects are that the repository need not have.
    pub overlay: &'a Overlay,
    /// Counts the records that were sent.
    pub sent: &'a Arc<AtomicU64>,
}

impl Target<'_> {
    /// Writes what differs. Everything that kept still meanwhile is as before afterwards, and all
    /// constraints were checked.
    pub async fn write(&self, deltas: &[Delta], tell: impl Fn(&str)) -> Result<()> {
        let session = self.snapshot.holder();
        session.run(LIFTED).await.map_err(|error| failed("preparing to write", error))?;
        let changed: Vec<&Delta> = deltas.iter().filter(|delta| !delta.is_empty()).collect();
        let names: Vec<TableName> = changed.iter().map(|delta| delta.member.name()).collect();
        let stillness = Stillness::begin(session, self.around, &names).await?;
        for (at, pass) in passes(&names, &self.around.foreign_keys, stillness.checked_at_end()) {
            let exchange = Exchange(
                stillness.checked_at_end()
                    && self.around.rivals.contains(&names[at])
                    && self.around.may_come_back(&names[at]),
            );
            if count(changed[at], pass, exchange) > 0 {
                tell(&format!("writing {}", changed[at].member.display_name()));
                self.pass(changed[at], &names[at], pass, exchange).await?;
            }
        }
        stillness.end(session).await
    }

    async fn pass(&self, delta: &Delta, name: &TableName, pass: Pass, exchange: Exchange) -> Result<()> {
        let facts = self.snapshot.table(&name.0, &name.1).ok_or_else(|| {
            let message = format!("{} is locked and not known", delta.member.display_name());
            Error::new(Kind::Internal, message)
        })?;
        let writer = TableWriter::new(self.snapshot.holder(), delta.member.layout(), name, facts).await?;
        let (sender, rows) = mpsc::channel(BATCHES);
        let (live, goal, sent) = (delta.live, delta.goal, self.sent.clone());
        let reading = self.repo.with_reader_over(Some(self.overlay), move |reader| {
            send(&live, &goal, (pass, exchange), Outgoing::new(&sender, &sent), reader)
        });
        let writing = writer.run(pass, count(delta, pass, exchange), rows);
        let (read, written) = tokio::join!(reading, writing);
        // Reading that fails ends the writing early; writing that fails makes the reader stop, without an
        // error of its own.
        read?;
        written.map(drop)
    }
}

/// Sends the records of one pass, long values moved back in: as they are to be, or as they were where they
/// go. Ends when nobody listens any more.
fn send(
    live: &Root,
    goal: &Root,
    how: (Pass, Exchange),
    mut outgoing: Outgoing<'_>,
    reader: &mut ObjectReader,
) -> Result<()> {
    let mut diff = Diff::new(live, goal, None);
    while let Some(change) = diff.next(reader)? {
        let (key, record) = match (how, change) {
            ((Pass::Delete, _), Change::Removed { key, old })
            | ((Pass::Delete, Exchange(true)), Change::Changed { key, old, .. }) => (key, old),
            ((Pass::Update, Exchange(false)), Change::Changed { key, new, .. })
            | ((Pass::Insert, Exchange(true)), Change::Changed { key, new, .. })
            | ((Pass::Insert, _), Change::Added { key, new }) => (key, new),
            _ => continue,
        };
        if !outgoing.push(&key, &whole(record, reader)?) {
            return Ok(());
        }
    }
    outgoing.finish();
    Ok(())
}
