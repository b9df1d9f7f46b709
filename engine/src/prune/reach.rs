//! What snapshots need: every object that can be reached from their manifests.
//!
//! Leaves are not read as long as they need not be: only they refer to moved-out values, so they
//! are read when there are pieces that nothing else explains.

use futures::{StreamExt, TryStreamExt, stream};
use repo_format::catalog::{self, Descriptor};
use repo_format::id::{ObjectId, ObjectKind};
use repo_format::record::{Field, Fields, OutOfLine};
use repo_format::tree::{Leaf, Node, kind_of_level};
use repo_format::{limits, value};

use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::prune::needed::{Added, Met, Needed};
use crate::repo::{Repository, Snapshot};

/// Objects read at a time.
const READS: usize = 32;

/// An object to be looked into.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task {
    kind: ObjectKind,
    id: ObjectId,
    is_catalog: bool,
    /// The level of a node, the depth of a list.
    height: u8,
}

impl Task {
    pub fn tree(id: ObjectId, level: u8, is_catalog: bool) -> Self {
        Self { kind: kind_of_level(level), id, is_catalog, height: level }
    }

    pub fn value(place: &OutOfLine) -> Self {
        let kind = if place.depth == 0 { ObjectKind::Piece } else { ObjectKind::PieceList };
        Self { kind, id: place.root, is_catalog: false, height: place.depth }
    }

    /// What a snapshot leads to.
    pub fn snapshot(snapshot: &Snapshot) -> Vec<Self> {
        let manifest = &snapshot.manifest;
        let mut tasks = vec![Self::tree(manifest.catalog_root, manifest.catalog_level, true)];
        if let Some(schema) = &manifest.schema {
            let place = OutOfLine { len: schema.len, depth: schema.depth, root: schema.root };
            tasks.push(Self::value(&place));
        }
        tasks
    }

    fn met(&self) -> Met {
        Met { kind: self.kind, id: self.id, is_catalog: self.is_catalog }
    }
}

/// Told of objects when they are met for the first time.
pub(crate) type OnFirst<'a> = &'a mut (dyn FnMut(&[ObjectId]) -> Result<()> + Send);

/// Counts what snapshots need.
pub(crate) struct Reach<'a> {
    repo: &'a Repository,
    ctx: &'a Context,
    needed: Needed,
    /// What it leads to is left out: it was counted elsewhere.
    beside: Option<&'a Needed>,
    /// Leaves are read as soon as they are met.
    reads_leaves: bool,
}

impl<'a> Reach<'a> {
    /// Nothing is needed yet.
    pub fn new(repo: &'a Repository, ctx: &'a Context) -> Result<Self> {
        Ok(Self { repo, ctx, needed: Needed::new(ctx)?, beside: None, reads_leaves: false })
    }

    /// Leaves out what is in `beside`, which must be a whole count.
    pub fn beside(mut self, beside: &'a Needed) -> Self {
        self.beside = Some(beside);
        self
    }

    /// Reads every leaf when it is met, if records have moved-out values that are not in `beside`.
    pub fn reading_leaves(mut self) -> Result<Self> {
        self.reads_leaves = self.explained_pieces() < stored_pieces(self.repo)?;
        Ok(self)
    }

    /// Adds what a snapshot needs, but for moved-out values of its records.
    pub async fn add(&mut self, snapshot: &Snapshot) -> Result<()> {
        self.add_all(Task::snapshot(snapshot), &mut |_| Ok(())).await
    }

    /// Adds objects and what they lead to, but for moved-out values of records unless leaves are
    /// read.
    pub async fn add_all(&mut self, tasks: Vec<Task>, on_first: OnFirst<'_>) -> Result<()> {
        let tasks = self.new_among(tasks, on_first)?;
        self.walk(tasks, on_first).await
    }

    /// Pieces and lists of which it is known who needs them.
    fn explained_pieces(&self) -> u64 {
        self.needed.pieces() + self.beside.map_or(0, Needed::pieces)
    }

    /// Whether it leads to other objects that are not known without reading it.
    fn is_read(&self, task: &Task) -> bool {
        match task.kind {
            ObjectKind::Node | ObjectKind::PieceList => true,
            ObjectKind::Leaf => task.is_catalog || self.reads_leaves,
            ObjectKind::Piece => false,
        }
    }

    /// Adds the moved-out values of all records, and returns the whole count.
    pub async fn finish(mut self) -> Result<Needed> {
        let pieces = stored_pieces(self.repo)?;
        let mut last = None;
        while self.explained_pieces() < pieces {
            self.ctx.check()?;
            let leaves = self.needed.leaves_after(last, 8 * READS)?;
            let Some(end) = leaves.last().copied() else { break };
            last = Some(end);
            let leaf = |id| Task { kind: ObjectKind::Leaf, id, is_catalog: false, height: 0 };
            let found = self.read(leaves.into_iter().map(leaf).collect()).await?;
            self.add_all(found, &mut |_| Ok(())).await?;
        }
        Ok(self.needed)
    }

    async fn walk(&mut self, mut waiting: Vec<Task>, on_first: OnFirst<'_>) -> Result<()> {
        while !waiting.is_empty() {
            self.ctx.check()?;
            let some = waiting.split_off(waiting.len().saturating_sub(READS));
            let found = self.read(some).await?;
            waiting.extend(self.new_among(found, on_first)?);
        }
        Ok(())
    }

    /// Adds objects, and returns those that are new and lead on.
    fn new_among(&mut self, mut tasks: Vec<Task>, on_first: OnFirst<'_>) -> Result<Vec<Task>> {
        if let Some(beside) = self.beside {
            let met: Vec<Met> = tasks.iter().map(Task::met).collect();
            let mut lacks = beside.lacks(&met)?.into_iter();
            tasks.retain(|_| lacks.next().unwrap_or_default());
        }
        let added = self.needed.add(&tasks.iter().map(Task::met).collect::<Vec<_>>())?;
        let first = tasks.iter().zip(&added).filter(|(_, added)| **added == Added::First);
        on_first(&first.map(|(task, _)| task.id).collect::<Vec<_>>())?;
        let leads_on =
            tasks.into_iter().zip(added).filter(|(task, added)| *added != Added::Known && self.is_read(task));
        Ok(leads_on.map(|(task, _)| task).collect())
    }

    async fn read(&self, tasks: Vec<Task>) -> Result<Vec<Task>> {
        let repo = self.repo;
        let reads = tasks.into_iter().map(|task| async move {
            let plaintext = repo.load(task.kind, task.id).await?;
            below(repo, task, plaintext).await
        });
        let found: Vec<Vec<Task>> = stream::iter(reads).buffered(READS).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }
}

/// Pieces and lists that are in the repository.
fn stored_pieces(repo: &Repository) -> Result<u64> {
    let mut pieces = 0;
    repo.cache().for_each(|_, places| {
        let kind = places.first().map(|place| place.kind);
        pieces += u64::from(matches!(kind, Some(ObjectKind::Piece | ObjectKind::PieceList)));
        Ok(())
    })?;
    Ok(pieces)
}

/// What an object refers to.
async fn below(repo: &Repository, task: Task, plaintext: Vec<u8>) -> Result<Vec<Task>> {
    match task.kind {
        ObjectKind::Piece => Ok(Vec::new()),
        ObjectKind::PieceList => {
            let depth = task.height.checked_sub(1).ok_or_else(no_depth)?;
            let children = value::children(task.height, &plaintext)?.into_iter();
            Ok(children.map(|(kind, id)| Task { kind, id, is_catalog: false, height: depth }).collect())
        }
        ObjectKind::Node => {
            let level = task.height;
            let entries = Node::parse(&plaintext, level)?.entries.into_iter();
            Ok(entries.map(|entry| Task::tree(entry.child, level - 1, task.is_catalog)).collect())
        }
        ObjectKind::Leaf => {
            let leaf = Leaf::parse(plaintext)?;
            let mut found = Vec::new();
            for (_, record) in leaf.records() {
                for field in Fields::new(record) {
                    if let Field::Out(place) = field? {
                        found.push(Task::value(&place));
                    }
                }
            }
            if task.is_catalog {
                for (_, record) in leaf.records() {
                    let descriptor = descriptor(repo, record).await?;
                    found.push(Task::tree(descriptor.data_root, descriptor.level, false));
                    let order = descriptor.natural_order.map(OutOfLine::from);
                    found.extend(order.map(|place| Task::value(&place)));
                }
            }
            Ok(found)
        }
    }
}

fn no_depth() -> Error {
    Error::damaged("a list of pieces stands where a piece should")
}

async fn descriptor(repo: &Repository, record: &[u8]) -> Result<Descriptor> {
    let place = match catalog::parse_value(record)?.0 {
        Field::Inline(bytes) => return Ok(Descriptor::from_bytes(bytes)?),
        Field::Null => return Err(Error::damaged("a collection without a description")),
        Field::Out(place) => place,
    };
    if place.len > limits::FRAME as u64 {
        return Err(Error::damaged("a collection's description is too long to be one"));
    }
    Ok(Descriptor::from_bytes(&load_value(repo, &place).await?)?)
}

/// A whole moved-out value.
pub(crate) async fn load_value(repo: &Repository, place: &OutOfLine) -> Result<Vec<u8>> {
    let (mut level, mut depth) = (vec![place.root], place.depth);
    while depth > 0 {
        let mut next = Vec::new();
        for id in level {
            let list = repo.load(ObjectKind::PieceList, id).await?;
            next.extend(value::children(depth, &list)?.into_iter().map(|(_, id)| id));
        }
        (level, depth) = (next, depth - 1);
    }
    let mut bytes = Vec::new();
    for id in level {
        bytes.extend(repo.load(ObjectKind::Piece, id).await?);
    }
    if bytes.len() as u64 == place.len {
        Ok(bytes)
    } else {
        Err(Error::new(Kind::Damaged, "a moved-out value has another length than its record says"))
    }
}
