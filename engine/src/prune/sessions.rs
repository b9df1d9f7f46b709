//! Waiting for sessions, and ending those that are dead.

use std::collections::BTreeMap;

use repo_format::files;
use repo_format::id::SnapshotId;
use repo_format::session::{Beginning, Purpose, tombstone};

use crate::defect::{Defect, is_planted};
use crate::error::{Kind, Result};
use crate::prune::Prune;
use crate::repo::DEAD_MS;
use crate::store::Created;

/// Sessions are looked at so often: first soon, since most are short.
const FIRST_LOOK_MS: u64 = 250;
const LAST_LOOK_MS: u64 = 10_000;

/// What was last seen of a session.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// Its last sign of life; 0 is its beginning.
    beat: u64,
    /// How long it has been watched without another, by our own clock that never jumps. Time in which
    /// we ourselves were suspended is not watching.
    silent_ms: u64,
}

impl Prune<'_> {
    /// Waits until every session that is there now has ended. Sessions that begin later know of what
    /// is condemned.
    pub(super) async fn await_sessions(&self) -> Result<()> {
        let listed = self.list_sessions().await?;
        let new = |(id, beat): (&SnapshotId, &u64)| (*id, Seen { beat: *beat, silent_ms: 0 });
        let mut waiting: BTreeMap<SnapshotId, Seen> = listed.iter().map(new).collect();
        let mut look_ms = FIRST_LOOK_MS;
        let mut looked_ms = self.ctx.clock.elapsed_ms();
        while !waiting.is_empty() {
            self.ctx.check()?;
            self.steps.step(&format!("waiting for {} that began earlier", count(waiting.len())));
            self.ctx.clock.sleep(look_ms).await;
            let listed = self.list_sessions().await?;
            let now_ms = self.ctx.clock.elapsed_ms();
            let watched_ms = now_ms.saturating_sub(looked_ms).min(3 * look_ms);
            looked_ms = now_ms;
            look_ms = (look_ms * 2).min(LAST_LOOK_MS);
            waiting.retain(|id, _| listed.contains_key(id));
            let mut dead = Vec::new();
            for (id, seen) in &mut waiting {
                let beat = listed.get(id).copied().unwrap_or(seen.beat);
                let is_silent = beat == seen.beat;
                *seen = Seen { beat, silent_ms: if is_silent { seen.silent_ms + watched_ms } else { 0 } };
                if seen.silent_ms >= DEAD_MS {
                    dead.push(*id);
                }
            }
            for id in dead {
                if is_planted(Defect::SkipTombstone) || self.end_session(id).await? {
                    waiting.remove(&id);
                }
            }
        }
        Ok(())
    }

    /// The sessions that are there, each with its last sign of life.
    async fn list_sessions(&self) -> Result<BTreeMap<SnapshotId, u64>> {
        let mut sessions: BTreeMap<SnapshotId, (bool, u64)> = BTreeMap::new();
        for name in self.repo.list_names(files::SESSIONS).await? {
            let Some((id, beat)) = files::parse_session(&name) else { continue };
            let (is_there, last) = sessions.entry(id).or_default();
            *is_there |= beat == 0;
            *last = beat.max(*last);
        }
        // Signs of life without a session are what a session that ended has left.
        let there = sessions.into_iter().filter(|(_, (is_there, _))| *is_there);
        Ok(there.map(|(id, (_, last))| (id, last)).collect())
    }

    /// Makes the first mark of a snapshot whose process did not come to it.
    async fn mark_if_committed(&self, id: SnapshotId) -> Result<()> {
        let is_tombstone = match self.repo.manifest(id).await {
            Err(error) if error.kind() != Kind::Damaged => return Err(error),
            found => matches!(found, Ok(None)),
        };
        if is_tombstone || self.repo.list_marks().await?.is_known(id) {
            return Ok(());
        }
        self.repo.create_first_mark(id, self.ctx.clock.now_ms()).await
    }

    /// Ends a session for its process, which is dead or asleep: first its commit is made impossible,
    /// unless it has happened, and then nobody needs to wait for it any more.
    async fn end_session(&self, id: SnapshotId) -> Result<bool> {
        let name = files::session(id);
        let purpose = match self.repo.store().read(&name).await {
            Ok(sealed) => {
                let plain = self.repo.open_file(&name, &sealed);
                let beginning = plain.and_then(|plain| Ok(Beginning::parse(&plain)?));
                beginning.map_or(Purpose::Commit, |beginning| beginning.purpose)
            }
            Err(error) if error.kind() == Kind::NotFound => return Ok(true),
            Err(error) => return Err(error),
        };
        tracing::warn!(session = %id, "a session showed no sign of life for 15 minutes and is ended");
        if purpose == Purpose::Commit {
            let tombstone = tombstone(self.ctx.clock.now_ms());
            let (created, _) = self.repo.create_file(&files::snapshot(id), &tombstone).await?;
            if created == Created::Taken {
                self.mark_if_committed(id).await?;
            }
        }
        for left in self.repo.list_names(files::SESSIONS).await? {
            if files::parse_session(&left).is_some_and(|(of, beat)| of == id && beat > 0) {
                self.repo.store().delete(&left).await?;
            }
        }
        self.repo.store().delete(&name).await?;
        Ok(true)
    }
}

fn count(sessions: usize) -> String {
    if sessions == 1 { "one operation".to_owned() } else { format!("{sessions} operations") }
}
