//! What a snapshot costs: how much it holds, how much of that is its own, and how much would come free
//! without it.
//!
//! Snapshots share what is equal in them, so none has a size of its own. What it brought is what no
//! older snapshot needs; what would come free is what no other one needs, older or newer. Both follow
//! from the snapshots there are now, and change when others are taken or deleted.

use repo_format::id::{ObjectId, SnapshotId};
use serde::{Deserialize, Serialize};

use crate::catalog;
use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::monitor::Steps;
use crate::prune::needed::Needed;
use crate::prune::reach::{Reach, Task};
use crate::repo::{Repository, Session, Snapshot};

/// A part of a snapshot's cost. Bytes are of objects as stored: compressed, sealed, each once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Objects that no older snapshot needs.
    pub new_objects: u64,
    /// Their bytes.
    pub new_bytes: u64,
    /// Of these, the ones that no other snapshot needs.
    pub freed_objects: u64,
    /// Their bytes: what comes free when the snapshot is deleted. A prune returns them to the storage
    /// once enough of a pack is free.
    pub freed_bytes: u64,
}

impl std::ops::AddAssign for Share {
    fn add_assign(&mut self, other: Self) {
        self.new_objects += other.new_objects;
        self.new_bytes += other.new_bytes;
        self.freed_objects += other.freed_objects;
        self.freed_bytes += other.freed_bytes;
    }
}

/// The cost of one collection of a snapshot. What several collections of it share counts in the first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectionCost {
    /// `schema.table`, quoted as in SQL where needed, or `database.collection`.
    pub name: String,
    /// Logical bytes of its records.
    pub logical_bytes: u64,
    /// What is its own.
    #[serde(flatten)]
    pub share: Share,
}

/// The cost of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Logical bytes of all records.
    pub logical_bytes: u64,
    /// Bytes of the files that its backup wrote, at that time.
    pub written_bytes: u64,
    /// What is the snapshot's own, of all its collections and beside them.
    #[serde(flatten)]
    pub share: Share,
    /// The list of collections with their descriptions, and the schema archive.
    pub descriptions: Share,
    /// Collections by name.
    pub collections: Vec<CollectionCost>,
}

/// Counts what a snapshot costs. [`Kind::NotFound`] when there is no such snapshot; [`Kind::Damaged`]
/// when something that is needed to count cannot be read.
///
/// Reads the nodes of all snapshots, each once; where records have moved-out values, every leaf as
/// well. So the work is that of a prune's dry run, and needs as much scratch space.
pub async fn run(repo: &Repository, id: SnapshotId, ctx: &Context) -> Result<Cost> {
    let session = Session::begin_reading(repo, &[id], ctx).await?;
    let cost = count(repo, id, ctx).await;
    session.conclude(cost).await
}

async fn count(repo: &Repository, id: SnapshotId, ctx: &Context) -> Result<Cost> {
    let mut snapshots = Vec::new();
    for id in repo.snapshot_ids().await? {
        // Also what cannot be read needs objects: without it the answer would be wrong.
        snapshots.extend(repo.manifest(id).await?);
    }
    snapshots.sort_by_key(|snapshot| (snapshot.manifest.finished_ms, snapshot.id));
    let at = snapshots.iter().position(|snapshot| snapshot.id == id);
    let at = at.ok_or_else(|| Error::new(Kind::NotFound, format!("there is no snapshot {id}")))?;
    let (older, rest) = snapshots.split_at(at);
    let (snapshot, newer) = (&rest[0], &rest[1..]);
    let steps = Steps::new(ctx.monitor.clone());
    steps.step("counting what older snapshots need");
    let mut reach = Reach::new(repo, ctx)?;
    for one in older {
        reach.add(one).await?;
    }
    let older = reach.finish().await?;
    steps.step("counting what newer snapshots need");
    let mut reach = Reach::new(repo, ctx)?.beside(&older);
    for one in newer {
        reach.add(one).await?;
    }
    let newer = reach.finish().await?;
    steps.step("counting what the snapshot needs");
    Counting { repo, ctx, older: &older, newer: &newer }.snapshot(snapshot).await
}

/// What comes free when some snapshots are deleted together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freed {
    /// Objects that none of the snapshots that stay needs.
    pub objects: u64,
    /// Their bytes as stored. A prune returns them to the storage once enough of a pack is free.
    pub bytes: u64,
}

/// Counts what would come free without `ids`: more than without each of them alone, where they share
/// something. Fails as [`run`] does, and reads what that reads.
pub async fn freed(repo: &Repository, ids: &[SnapshotId], ctx: &Context) -> Result<Freed> {
    let session = Session::begin_reading(repo, ids, ctx).await?;
    let freed = count_freed(repo, ids, ctx).await;
    session.conclude(freed).await
}

async fn count_freed(repo: &Repository, ids: &[SnapshotId], ctx: &Context) -> Result<Freed> {
    let (mut going, mut staying) = (Vec::new(), Reach::new(repo, ctx)?);
    for id in repo.snapshot_ids().await? {
        let Some(snapshot) = repo.manifest(id).await? else { continue };
        if ids.contains(&id) {
            going.push(snapshot);
        } else {
            staying.add(&snapshot).await?;
        }
    }
    let staying = staying.finish().await?;
    let mut reach = Reach::new(repo, ctx)?.beside(&staying).reading_leaves()?;
    let mut freed = Freed::default();
    for snapshot in &going {
        let mut add = |met: &[ObjectId]| -> Result<()> {
            for id in met {
                freed.objects += 1;
                freed.bytes += stored_bytes(repo, id)?;
            }
            Ok(())
        };
        reach.add_all(Task::snapshot(snapshot), &mut add).await?;
    }
    Ok(freed)
}

/// How long an object is as stored. One that is missing has no length; verify says whom that hurts.
fn stored_bytes(repo: &Repository, id: &ObjectId) -> Result<u64> {
    Ok(repo.cache().place(id)?.map_or(0, |place| u64::from(place.len)))
}

struct Counting<'a> {
    repo: &'a Repository,
    ctx: &'a Context,
    older: &'a Needed,
    /// Without what older ones need.
    newer: &'a Needed,
}

impl Counting<'_> {
    async fn snapshot(&self, snapshot: &Snapshot) -> Result<Cost> {
        let mut reach = Reach::new(self.repo, self.ctx)?.beside(self.older).reading_leaves()?;
        let mut cost = Cost {
            logical_bytes: snapshot.manifest.logical_bytes,
            written_bytes: snapshot.manifest.new_bytes,
            share: Share::default(),
            descriptions: Share::default(),
            collections: Vec::new(),
        };
        for found in catalog::collections(self.repo, snapshot).await? {
            let root = found.root();
            let mut tasks = vec![Task::tree(root.id, root.level, false)];
            tasks.extend(found.descriptor.natural_order.map(|order| Task::value(&order.into())));
            let share = self.share(&mut reach, tasks).await?;
            cost.share += share;
            let (name, logical_bytes) = (found.display_name(), root.bytes);
            cost.collections.push(CollectionCost { name, logical_bytes, share });
        }
        // What is below the collections is known by now.
        cost.descriptions = self.share(&mut reach, Task::snapshot(snapshot)).await?;
        cost.share += cost.descriptions;
        Ok(cost)
    }

    /// What these objects lead to and was not met before.
    async fn share(&self, reach: &mut Reach<'_>, tasks: Vec<Task>) -> Result<Share> {
        let mut share = Share::default();
        reach.add_all(tasks, &mut |met| self.add_to(&mut share, met)).await?;
        Ok(share)
    }

    fn add_to(&self, share: &mut Share, met: &[ObjectId]) -> Result<()> {
        let older = self.older.contains(met)?;
        let newer = self.newer.contains(met)?;
        for ((id, in_older), in_newer) in met.iter().zip(older).zip(newer) {
            if in_older {
                continue;
            }
            let bytes = stored_bytes(self.repo, id)?;
            share.new_objects += 1;
            share.new_bytes += bytes;
            if !in_newer {
                share.freed_objects += 1;
                share.freed_bytes += bytes;
            }
        }
        Ok(())
    }
}
