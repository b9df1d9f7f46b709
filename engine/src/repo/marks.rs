//! Marks: what is said of a snapshot after it was committed.
//!
//! A mark holds everything that is said, and the newest counts. Who changes one creates the next number
//! and looks again: a number may have been used and removed since the listing, and then others have
//! gone on from it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use repo_format::files;
use repo_format::id::SnapshotId;
use repo_format::mark::Mark;
use repo_format::prune::moment;

use crate::clock::Clock;
use crate::defect::{Defect, is_planted};
use crate::error::{Error, Kind, Result};
use crate::repo::Repository;
use crate::store::Created;

/// Who finds a mark changed under its hands begins again, this often.
const ATTEMPTS: usize = 20;

/// The files of marks, as listed.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    /// Snapshots that are deleted.
    pub deleted: BTreeSet<SnapshotId>,
    /// The numbers of the marks of each snapshot.
    numbers: BTreeMap<SnapshotId, BTreeSet<u64>>,
}

impl Marks {
    /// The snapshots that there are marks of, but for their deletion.
    pub(super) fn of(&self) -> impl Iterator<Item = SnapshotId> {
        self.numbers.keys().copied()
    }

    /// Whether anything was said of a snapshot, its deletion included.
    pub fn is_known(&self, id: SnapshotId) -> bool {
        self.numbers.contains_key(&id) || self.deleted.contains(&id)
    }

    /// The number of the mark that counts.
    fn newest(&self, id: SnapshotId) -> Option<u64> {
        self.numbers.get(&id).and_then(|numbers| numbers.last()).copied()
    }
}

/// The marks that were read last: a mark never changes, so that each is read once.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<BTreeMap<SnapshotId, (u64, Mark)>>);

impl Known {
    fn get(&self, id: SnapshotId, n: u64) -> Option<Mark> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&id).filter(|(number, _)| *number == n).map(|(_, mark)| mark.clone())
    }

    fn set(&self, id: SnapshotId, n: u64, mark: Mark) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id, (n, mark));
    }
}

impl Repository {
    pub(crate) async fn list_marks(&self) -> Result<Marks> {
        let mut marks = Marks::default();
        for name in self.list_names(files::MARKS).await? {
            match files::parse_mark(&name) {
                Some((id, None)) => {
                    marks.deleted.insert(id);
                }
                Some((id, Some(n))) => {
                    marks.numbers.entry(id).or_default().insert(n);
                }
                None => {}
            }
        }
        Ok(marks)
    }

    /// What is said of a snapshot. Of a mark that cannot be read nothing is known, so that it is taken
    /// for one that pins: what may be pinned must not go.
    pub(crate) async fn mark_of(&self, id: SnapshotId, marks: &Marks) -> Result<Mark> {
        Ok(self.said_of(id, marks).await?.0)
    }

    /// As [`mark_of`](Self::mark_of), and whether that is what a mark says.
    async fn said_of(&self, id: SnapshotId, marks: &Marks) -> Result<(Mark, bool)> {
        match self.read_newest_mark(id, marks).await {
            Err(error) if error.kind() == Kind::Damaged => {
                tracing::error!(snapshot = %id, %error, "a mark is damaged; its snapshot counts as pinned");
                Ok((Mark { pinned: true, ..Mark::default() }, false))
            }
            read => Ok((read?, true)),
        }
    }

    /// As [`mark_of`](Self::mark_of), and [`Kind::Damaged`] for one that cannot be read, and where there is
    /// none: every snapshot has one from its commit on.
    pub(crate) async fn read_newest_mark(&self, id: SnapshotId, marks: &Marks) -> Result<Mark> {
        let mut newest = marks.newest(id);
        for _ in 0..ATTEMPTS {
            match newest {
                Some(0) => return Ok(Mark::default()),
                Some(n) => match self.read_mark(id, n).await {
                    Err(error) if error.kind() == Kind::NotFound => {}
                    read => return read,
                },
                // Whoever commits it is about to, or was cut off: who ends the session makes it then.
                None if self.store().has(&files::session(id)).await? => return Ok(Mark::default()),
                None => {}
            }
            let again = self.list_marks().await?.newest(id);
            if (newest, again) == (None, None) {
                return Err(Error::damaged(format!("the marks of snapshot {id} are missing")));
            }
            newest = again;
        }
        Err(unsettled())
    }

    async fn read_mark(&self, id: SnapshotId, n: u64) -> Result<Mark> {
        if let Some(mark) = self.known_marks().get(id, n) {
            return Ok(mark);
        }
        let name = files::mark(id, n);
        let plain = self.open_file(&name, &self.store().read(&name).await?)?;
        let mark = Mark::from_bytes(&plain)
            .map_err(|error| Error::damaged(format!("the stored file {name} is damaged: {error}")))?;
        self.known_marks().set(id, n, mark.clone());
        Ok(mark)
    }

    /// Says something else of a snapshot, and returns all that is said then. [`Kind::NotFound`] when
    /// there is no snapshot of that id, or it is deleted. `change` may be called several times.
    pub async fn mark(
        &self,
        id: SnapshotId,
        clock: &dyn Clock,
        change: &(dyn Fn(&mut Mark) + Sync),
    ) -> Result<Mark> {
        let absent = || Error::new(Kind::NotFound, format!("there is no snapshot {id}"));
        match self.manifest(id).await {
            Ok(None) if !self.is_missing(id).await? => return Err(absent()),
            Err(error) if error.kind() != Kind::Damaged => return Err(error),
            _ => {}
        }
        self.mark_all([id].into(), clock, change).await?.remove(&id).ok_or_else(absent)
    }

    /// Says something else of several snapshots. Those that are deleted are left out, and what is said
    /// then of the others is returned.
    pub(crate) async fn mark_all(
        &self,
        mut ids: BTreeSet<SnapshotId>,
        clock: &dyn Clock,
        change: &(dyn Fn(&mut Mark) + Sync),
    ) -> Result<BTreeMap<SnapshotId, Mark>> {
        let mut settled = BTreeMap::new();
        for _ in 0..ATTEMPTS {
            let before = self.list_marks().await?;
            ids.retain(|id| !before.deleted.contains(id));
            let mut made = BTreeMap::new();
            for id in ids.clone() {
                let (said, is_there) = self.said_of(id, &before).await?;
                // Another one deleted it meanwhile, and a prune removed it with its marks.
                if !is_there && matches!(self.manifest(id).await, Ok(None)) && !self.is_missing(id).await? {
                    ids.remove(&id);
                    continue;
                }
                if said.deleting_ms.is_some() {
                    // Who decided it may have stopped there.
                    self.create_file(&files::deletion(id), &moment(clock.now_ms())).await?;
                    ids.remove(&id);
                    continue;
                }
                let mut mark = said.clone();
                change(&mut mark);
                if mark == said && is_there {
                    ids.remove(&id);
                    settled.insert(id, said);
                    continue;
                }
                mark.at_ms = clock.now_ms();
                let n = before.newest(id).unwrap_or(0) + 1;
                if self.create_mark(id, n, &mark).await? {
                    made.insert(id, (n, mark));
                }
            }
            if !made.is_empty() {
                let after = self.list_marks().await?;
                for (id, (n, mark)) in made {
                    // A greater one went on from others than ours.
                    if !after.deleted.contains(&id) && after.newest(id) <= Some(n) {
                        self.remove_marks_before(id, n, &after).await;
                        self.known_marks().set(id, n, mark.clone());
                        ids.remove(&id);
                        settled.insert(id, mark);
                    }
                }
            }
            if ids.is_empty() {
                return Ok(settled);
            }
        }
        Err(unsettled())
    }

    /// Deletes a snapshot. Nobody sees it from now on; what only it needed goes with the next prune.
    /// [`Kind::Conflict`] when it is pinned.
    pub async fn delete_snapshot(&self, id: SnapshotId, clock: &dyn Clock) -> Result<()> {
        let is_all_lost = match self.snapshot(id).await {
            Ok(_) => false,
            // A damaged one can be deleted, too: it may be what stands in the way of a prune.
            Err(error) if error.kind() == Kind::Damaged => false,
            // So can one whose manifest was lost. If its marks were lost, too, nothing is left to be kept.
            Err(error) if error.kind() == Kind::NotFound && self.is_missing(id).await? => {
                self.list_marks().await?.newest(id).is_none()
            }
            Err(error) => return Err(error),
        };
        // A pin and a deletion are marks of one row of numbers: whichever is first is seen by the other.
        let at_ms = clock.now_ms();
        let decide = |mark: &mut Mark| {
            if is_all_lost || !mark.pinned {
                mark.deleting_ms = Some(at_ms);
            }
        };
        let said = if is_planted(Defect::DeleteBesideMarks) {
            Some(self.snapshot(id).await?.mark).filter(|mark| mark.pinned)
        } else {
            self.mark_all([id].into(), clock, &decide).await?.remove(&id)
        };
        if said.is_some_and(|mark| mark.deleting_ms.is_none()) {
            return Err(Error::new(Kind::Conflict, "the snapshot is pinned")
                .with_help("Unpin it first, if it is to go."));
        }
        self.create_file(&files::deletion(id), &moment(at_ms)).await.map(drop)
    }

    /// Creates the mark that says nothing. By it a manifest that is lost is missed, also the newest one, which
    /// no other snapshot names; and by its absence it is known that marks were lost.
    pub(crate) async fn create_first_mark(&self, id: SnapshotId, now_ms: i64) -> Result<()> {
        let mark = Mark { at_ms: now_ms, ..Mark::default() };
        self.create_file(&files::mark(id, 0), &mark.to_bytes()).await.map(drop)
    }

    /// Creates a mark, unless another has its number.
    async fn create_mark(&self, id: SnapshotId, n: u64, mark: &Mark) -> Result<bool> {
        let (name, plain) = (files::mark(id, n), mark.to_bytes());
        match self.create_file(&name, &plain).await?.0 {
            Created::New => Ok(true),
            // A request that was repeated says so of its first sending.
            Created::Taken => match self.store().read(&name).await {
                Ok(sealed) => Ok(self.open_file(&name, &sealed).is_ok_and(|found| found == plain)),
                Err(error) if error.kind() == Kind::NotFound => Ok(false),
                Err(error) => Err(error),
            },
        }
    }

    /// Marks that do not count any more. One that stays is removed with the next.
    async fn remove_marks_before(&self, id: SnapshotId, n: u64, marks: &Marks) {
        let numbers = marks.numbers.get(&id).into_iter().flatten();
        for older in numbers.filter(|older| **older < n) {
            if let Err(error) = self.store().delete(&files::mark(id, *older)).await {
                tracing::warn!(snapshot = %id, %error, "an old mark could not be removed");
            }
        }
    }
}

fn unsettled() -> Error {
    Error::new(Kind::Storage, "what is said of a snapshot keeps changing").with_help("Try again.")
}

#[cfg(test)]
mod tests;
