//! Checking that everything is there and is what it was when it was written.
//!
//! First the objects: each is read and hashed (all of them, a sample, or only those that lead to
//! others), and what each one refers to must be in the index. Packs that hold something damaged are
//! published as suspect, so that the next backup stores their objects anew; from then on every mode reads
//! them whole. Then the named files. Then the snapshots are walked to say whom it hurts what is wrong: that
//! reads the lists of collections in every mode, and so may find more that is damaged.

mod files;
mod packs;
mod walk;

use std::collections::{BTreeMap, BTreeSet};

use repo_format::files as names;
use repo_format::id::{ObjectId, PackId, SnapshotId};
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::{Kind, Result};
use crate::monitor::Progress;
use crate::repo::{Mark, Repository, Session, Snapshot};
use walk::Walk;

/// How much is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Everything that leads to other objects, and that every pack is there with its length.
    Structure,
    /// The structure, and one in twenty of the other objects: others in each turn, so that twenty turns in a
    /// row read all.
    Sample {
        /// How many samples were read before.
        turn: u64,
    },
    /// Every byte.
    Full,
}

/// Something that is wrong, and whom it hurts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// The object or file.
    pub object: String,
    /// Snapshots that need it, as ids; empty when none does.
    pub snapshots: Vec<String>,
    /// The collection it belongs to; empty when it belongs to none.
    pub collection: String,
    /// The keys that cannot be read, in words.
    pub key_range: String,
    /// What is wrong.
    pub reason: String,
}

/// What verifying found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Objects read and found to be what their ids say, damaged ones included in the count.
    pub objects: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Everything that is wrong; empty when nothing is.
    pub damaged: Vec<Damage>,
    /// Snapshots that were there when it began and that nothing wrong hurts, as ids.
    #[serde(default)]
    pub undamaged: Vec<String>,
}

/// What is wrong with an object that no index names, or whose pack is gone.
const ABSENT: &str = "it is missing: no index that can be read names it in a pack that is there";

/// Verifies a repository.
pub async fn run(repo: &Repository, mode: Mode, ctx: &Context) -> Result<Report> {
    // Before the index is listed: what a snapshot needs that is listed here is in it.
    let begun_with = repo.snapshot_ids().await?;
    if begun_with.is_empty() {
        // Else the session would be the first file of a place that lost its own.
        repo.check_there().await?;
    }
    let session = Session::begin_reading(repo, &[], ctx).await?;
    let report = async {
        repo.index_unindexed().await?;
        Verify::new(repo, mode, ctx).run(begun_with).await
    };
    let report = report.await;
    session.conclude(report).await
}

/// Remembers with the snapshots what a verification found: when nothing was wrong with them last.
pub async fn remember(repo: &Repository, report: &Report, mode: Mode, ctx: &Context) -> Result<()> {
    let ids = |ids: &[String]| -> BTreeSet<SnapshotId> {
        ids.iter().filter_map(|id| SnapshotId::parse(id)).collect()
    };
    let verified_ms = Some(ctx.clock.now_ms());
    let set = move |mark: &mut Mark| match mode {
        Mode::Structure => mark.structure_ms = verified_ms,
        Mode::Sample { .. } => mark.sample_ms = verified_ms,
        Mode::Full => mark.full_ms = verified_ms,
    };
    repo.mark_all(ids(&report.undamaged), ctx.clock.as_ref(), &set).await?;
    let hurt = report.damaged.iter().flat_map(|damage| ids(&damage.snapshots)).collect();
    let clear = |mark: &mut Mark| (mark.structure_ms, mark.sample_ms, mark.full_ms) = (None, None, None);
    repo.mark_all(hurt, ctx.clock.as_ref(), &clear).await.map(drop)
}

struct Verify<'a> {
    repo: &'a Repository,
    mode: Mode,
    ctx: &'a Context,
    progress: Progress,
    report: Report,
    /// Copies of objects that are damaged, and what is wrong with each.
    failed: BTreeMap<ObjectId, BTreeMap<PackId, String>>,
    /// Packs that hold something damaged.
    suspects: BTreeSet<PackId>,
    /// Objects of which there is no good copy, and what is wrong with them.
    bad: BTreeMap<ObjectId, String>,
    /// Whether all that prunes removed is known.
    are_prunes_whole: bool,
}

impl<'a> Verify<'a> {
    fn new(repo: &'a Repository, mode: Mode, ctx: &'a Context) -> Self {
        Self {
            repo,
            mode,
            ctx,
            progress: Progress::default(),
            report: Report::default(),
            failed: BTreeMap::new(),
            suspects: BTreeSet::new(),
            bad: BTreeMap::new(),
            are_prunes_whole: true,
        }
    }

    async fn run(mut self, begun_with: Vec<SnapshotId>) -> Result<Report> {
        self.packs().await?;
        self.look_elsewhere().await?;
        self.publish_suspects().await?;
        self.step("reading other files");
        self.named_files().await?;
        self.prunes().await?;
        self.step("walking snapshots");
        // Some snapshots may have been committed since this began; what they need is in the index by
        // now.
        let ids = self.repo.snapshot_ids().await?;
        self.repo.refresh_index().await?;
        // What a damaged index file named is found by its packs.
        self.repo.index_unindexed().await?;
        let parents = self.attribute(ids).await?;
        self.publish_suspects().await?;
        if self.are_prunes_whole {
            self.missing_snapshots(parents).await?;
        }
        let there = self.marks().await?;
        let hurt: BTreeSet<&String> =
            self.report.damaged.iter().flat_map(|damage| &damage.snapshots).collect();
        let whole = begun_with.iter().filter(|id| there.contains(id)).map(SnapshotId::to_string);
        self.report.undamaged = whole.filter(|id| !hurt.contains(id)).collect();
        Ok(self.report)
    }

    /// Names the marks that cannot be read; returns the snapshots that are there.
    async fn marks(&mut self) -> Result<BTreeSet<SnapshotId>> {
        let (ids, marks) = self.repo.listed().await?;
        for id in &ids {
            match self.repo.read_newest_mark(*id, &marks).await {
                // A tombstone has no marks.
                Err(error)
                    if error.kind() == Kind::Damaged && matches!(self.repo.manifest(*id).await, Ok(None)) => {
                }
                Err(error) if error.kind() == Kind::Damaged => self.report.damaged.push(Damage {
                    object: names::MARKS.to_owned() + &id.to_string(),
                    snapshots: vec![id.to_string()],
                    collection: String::new(),
                    key_range: "its note, its pin and when it was verified".to_owned(),
                    reason: error.to_string(),
                }),
                Err(error) => return Err(error),
                Ok(_) => {}
            }
        }
        Ok(ids.into_iter().collect())
    }

    fn step(&mut self, phase: &str) {
        phase.clone_into(&mut self.progress.phase);
        self.ctx.monitor.progress(&self.progress);
    }

    /// Something wrong with a file as a whole.
    fn damaged_file(&mut self, name: String, snapshots: Vec<String>, reason: String) {
        let (collection, key_range) = (String::new(), String::new());
        self.report.damaged.push(Damage { object: name, snapshots, collection, key_range, reason });
    }

    /// Says which snapshots, collections and keys the bad objects hurt. Returns which snapshot each
    /// one was made after.
    async fn attribute(&mut self, ids: Vec<SnapshotId>) -> Result<Vec<(SnapshotId, SnapshotId)>> {
        let mut hurt: BTreeMap<(ObjectId, String, String), BTreeSet<String>> = BTreeMap::new();
        let mut parents = Vec::new();
        for id in ids {
            self.ctx.check()?;
            let snapshot = match self.repo.snapshot(id).await {
                Ok(snapshot) => snapshot,
                Err(error) if error.kind() == Kind::Damaged => {
                    self.damaged_file(names::snapshot(id), vec![id.to_string()], error.to_string());
                    continue;
                }
                Err(error) if error.kind() == Kind::NotFound => continue,
                Err(error) => return Err(error),
            };
            parents.extend(snapshot.manifest.parent.map(|parent| (id, parent)));
            for (object, collection, key_range) in self.walk(snapshot).await? {
                hurt.entry((object, collection, key_range)).or_default().insert(id.to_string());
            }
        }
        let named: BTreeSet<ObjectId> = hurt.keys().map(|(object, ..)| *object).collect();
        for ((object, collection, key_range), snapshots) in hurt {
            self.report.damaged.push(Damage {
                object: object.to_string(),
                snapshots: snapshots.into_iter().collect(),
                collection,
                key_range,
                reason: self.bad.get(&object).cloned().unwrap_or_default(),
            });
        }
        // What is absent and nobody needs was never stored: a backup stopped before it came to it.
        let is_damage = |(object, why): &(ObjectId, String)| !named.contains(object) && why != ABSENT;
        let unneeded: Vec<(ObjectId, String)> =
            std::mem::take(&mut self.bad).into_iter().filter(is_damage).collect();
        for (object, why) in unneeded {
            self.damaged_file(object.to_string(), Vec::new(), why);
        }
        Ok(parents)
    }

    async fn walk(&mut self, snapshot: Snapshot) -> Result<Vec<walk::Found>> {
        let bad = std::mem::take(&mut self.bad);
        let cancel = self.ctx.cancel.clone();
        let walked = self.repo.with_reader(move |reader| {
            reader.stop_with(&cancel);
            let mut walk = Walk::new(bad, reader);
            walk.snapshot(&snapshot, reader)?;
            Ok((walk.bad, walk.found, walk.unreadable))
        });
        let (bad, found, unreadable) = walked.await?;
        self.bad = bad;
        for (kind, id) in unreadable {
            // It was tried in all of them, twice.
            let places = self.repo.cache().places(&id)?.into_iter().filter(|place| place.kind == kind);
            self.suspects.extend(places.map(|place| place.pack));
        }
        Ok(found)
    }

    /// A snapshot that there are marks of, or that another was made after, must be there unless somebody
    /// deleted it.
    async fn missing_snapshots(&mut self, parents: Vec<(SnapshotId, SnapshotId)>) -> Result<()> {
        for (id, why) in self.repo.missing_snapshots(&parents).await? {
            let reason = format!("it is missing: {why}, and no prune removed it");
            self.damaged_file(names::snapshot(id), vec![id.to_string()], reason);
        }
        Ok(())
    }
}
