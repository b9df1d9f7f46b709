//! What verifications found damaged, by project: it counts until a later one finds nothing wrong there.

use std::collections::{BTreeMap, BTreeSet};

use redb::WriteTransaction;
use serde::{Deserialize, Serialize};

use super::rows::{self, DAMAGE};
use super::{JobRecord, Meta, Result, VerifyMode, Work};
use crate::ids::{JobId, ProjectId};
use crate::schedule::is_ahead;

/// What one verification found. Ids and a count: what is damaged names customers' tables, and is in the
/// job's sealed result.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// How much is wrong in all.
    pub count: u64,
    /// Snapshots of which something cannot be read.
    pub hurt: BTreeSet<String>,
    /// Snapshots that nothing wrong hurts.
    pub undamaged: BTreeSet<String>,
}

/// What is known to be damaged in a project.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// How much the last verification found wrong, snapshots or not.
    pub count: u64,
    /// The snapshots that cannot be restored whole.
    pub snapshots: BTreeMap<String, Finding>,
    /// How many samples were read to their end: each reads others than the one before.
    #[serde(default)]
    pub samples: u64,
}

/// When a snapshot was found damaged first since it was whole, and by which verification last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub since_ms: i64,
    pub found_ms: i64,
    pub job_id: JobId,
}

impl Damage {
    /// What was found of a snapshot, if it is damaged.
    pub fn of(&self, snapshot: &str) -> Option<&Finding> {
        self.snapshots.get(snapshot)
    }

    /// Whether a verification found a snapshot damaged that was not known to be.
    pub(super) fn is_new_of(&self, job: JobId) -> bool {
        self.snapshots.values().any(|found| found.job_id == job && found.since_ms == found.found_ms)
    }

    /// What is known once a verification ended that read from `began_ms` on. One that had begun before
    /// damage was found may have read what was whole then: it takes nothing back. Of snapshots that are
    /// gone nothing is kept.
    fn after(mut self, found: Findings, job_id: JobId, began_ms: i64, found_ms: i64) -> Self {
        self.snapshots.retain(|id, known| {
            let is_newer = known.found_ms > began_ms && !is_ahead(known.found_ms, found_ms);
            found.hurt.contains(id) || (is_newer && found.undamaged.contains(id))
        });
        for id in found.hurt {
            let since_ms = self.snapshots.get(&id).map_or(found_ms, |known| known.since_ms);
            self.snapshots.insert(id, Finding { since_ms, found_ms, job_id });
        }
        Self { count: found.count, ..self }
    }
}

impl Meta {
    /// What is known to be damaged in a project; none where no verification came to its end yet.
    pub async fn damage(&self, project: ProjectId) -> Result<Option<Damage>> {
        self.read(move |tx| rows::get(&tx.open_table(DAMAGE)?, &project.to_string())).await
    }

    /// As [`Meta::damage`], of every project.
    pub async fn all_damage(&self) -> Result<Vec<(String, Damage)>> {
        self.read(|tx| {
            let mut found = Vec::new();
            for entry in tx.open_table(DAMAGE)?.range::<&str>(..)? {
                let (project, damage) = entry?;
                found.push((project.value().to_owned(), serde_json::from_slice(damage.value())?));
            }
            Ok(found)
        })
        .await
    }

    /// A snapshot that was deleted is not damaged any more.
    pub async fn forget_damaged(&self, project: ProjectId, snapshot: String) -> Result<()> {
        // Most are not, and nothing has to be written for them.
        if self.damage(project).await?.is_none_or(|known| known.of(&snapshot).is_none()) {
            return Ok(());
        }
        self.write(move |tx| {
            let mut damage = of(tx, project)?;
            damage.snapshots.remove(&snapshot);
            rows::put(tx, DAMAGE, &project.to_string(), &damage)
        })
        .await
    }

    /// Takes in what a verification found whose end was written by a version that kept it in its job alone.
    pub async fn set_damage_if_unknown(&self, job: JobRecord, found: Findings) -> Result<()> {
        self.write(move |tx| {
            let known: Option<Damage> = rows::get(&tx.open_table(DAMAGE)?, &job.project_id.to_string())?;
            if known.is_some() { Ok(()) } else { verified(tx, &job, found) }
        })
        .await
    }
}

/// What is known to be damaged in a project.
pub(super) fn of(tx: &WriteTransaction, project: ProjectId) -> Result<Damage> {
    let known: Option<Damage> = rows::get(&tx.open_table(DAMAGE)?, &project.to_string())?;
    Ok(known.unwrap_or_default())
}

/// Keeps what a verification found that has just ended.
pub(super) fn verified(tx: &WriteTransaction, job: &JobRecord, found: Findings) -> Result<()> {
    let began_ms = job.started_ms.unwrap_or(job.created_ms);
    let found_ms = job.finished_ms.unwrap_or(began_ms);
    let mut damage = of(tx, job.project_id)?.after(found, job.id, began_ms, found_ms);
    damage.samples += u64::from(matches!(job.work, Work::Verify { mode: VerifyMode::Sample }));
    rows::put(tx, DAMAGE, &job.project_id.to_string(), &damage)
}

pub(super) fn remove_of_project(tx: &WriteTransaction, project: ProjectId) -> Result<()> {
    rows::remove(tx, DAMAGE, &project.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::clock::System;

    fn set(ids: &[&str]) -> BTreeSet<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    fn found(hurt: &[&str], undamaged: &[&str]) -> Findings {
        Findings { count: hurt.len() as u64, hurt: set(hurt), undamaged: set(undamaged) }
    }

    #[test]
    fn damage_counts_until_a_verification_that_began_later_finds_none() {
        let job = JobId::new(&System, &System);
        let known = Damage::default().after(found(&["a", "b"], &["c"]), job, 10, 20);
        assert_eq!(known.snapshots.keys().collect::<Vec<_>>(), ["a", "b"]);
        // One that ran meanwhile read a before it was damaged, or not: nobody knows.
        let meanwhile = known.clone().after(found(&[], &["a", "b", "c"]), job, 15, 30);
        assert_eq!((meanwhile.snapshots.len(), meanwhile.count), (2, 0));
        // Found again, it is damaged since the first time.
        let again = known.after(found(&["a"], &["b", "c"]), job, 25, 30);
        assert_eq!(again.of("a"), Some(&Finding { since_ms: 20, found_ms: 30, job_id: job }));
        assert_eq!((again.of("b"), again.of("c")), (None, None));
        // Deleted since: neither hurt nor undamaged.
        assert_eq!(again.clone().after(found(&[], &["b"]), job, 25, 40).snapshots.len(), 0);
        assert_eq!(again.after(found(&[], &["a", "b"]), job, 31, 40), Damage::default());
    }
}
