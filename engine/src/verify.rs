//! Checking that everything is there and is what it was when it was written.
//!
//! First the objects: each is read and hashed (all of them, a sample, or only those that lead to
//! others), and what each one refers to must be in the index. Then, where anything was wrong, the
//! snapshots are walked to say whom it hurts.

use std::collections::{BTreeMap, BTreeSet};

use repo_format::catalog::parse_key;
use repo_format::id::{ObjectId, ObjectKind, PackId, SnapshotId};
use repo_format::record::{Field, Fields, OutOfLine};
use repo_format::tree::{Leaf, Lookup, Node};
use repo_format::{files, pack, value};
use serde::{Deserialize, Serialize};

use crate::catalog::{Cataloged, catalog_root};
use crate::context::Context;
use crate::cpu;
use crate::error::{Kind, Result};
use crate::monitor::Progress;
use crate::repo::{Mark, ObjectReader, Place, Repository, Session, Snapshot};
use crate::rows;
use crate::source::Engine;

/// How much is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Everything that leads to other objects, and that every pack is there with its length.
    Structure,
    /// The structure, and one in twenty of the other objects.
    Sample,
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

/// In a sample, one of so many objects is read.
const SAMPLE: u8 = 20;

/// Verifies a repository.
pub async fn run(repo: &Repository, mode: Mode, ctx: &Context) -> Result<Report> {
    // Before the index is listed: what a snapshot needs that is listed here is in it.
    let begun_with = repo.snapshot_ids().await?;
    let session = Session::begin_reading(repo, &[], ctx).await?;
    let (report, bad) = (Report::default(), BTreeMap::new());
    let report = Verify { repo, mode, ctx, begun_with, report, bad }.run().await;
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
        Mode::Sample => mark.sample_ms = verified_ms,
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
    begun_with: Vec<SnapshotId>,
    report: Report,
    /// What is wrong with which objects.
    bad: BTreeMap<ObjectId, String>,
}

/// The objects that one pack is said to hold.
type Contents = Vec<(ObjectId, Place)>;

impl Verify<'_> {
    async fn run(mut self) -> Result<Report> {
        let mut packs: BTreeMap<PackId, Contents> = BTreeMap::new();
        self.repo.cache().for_each(|id, places| {
            for place in places {
                packs.entry(place.pack).or_default().push((id, *place));
            }
            Ok(())
        })?;
        let lengths: BTreeMap<String, u64> = (self.repo.store().list(files::PACKS).await?)
            .into_iter()
            .map(|file| (file.name, file.size_bytes))
            .collect();
        let mut progress = Progress {
            phase: "reading packs".to_owned(),
            collections_total: packs.len() as u64,
            ..Progress::default()
        };
        for (id, contents) in packs {
            self.ctx.check()?;
            self.pack(id, contents, lengths.get(&files::pack(id)).copied()).await?;
            progress.collections_done += 1;
            progress.records = self.report.objects;
            progress.bytes_read = self.report.bytes;
            self.ctx.monitor.progress(&progress);
        }
        self.index_files().await?;
        progress.phase = "walking snapshots".to_owned();
        self.ctx.monitor.progress(&progress);
        self.attribute().await?;
        let there = self.marks().await?;
        let hurt: BTreeSet<&String> =
            self.report.damaged.iter().flat_map(|damage| &damage.snapshots).collect();
        let whole = self.begun_with.iter().filter(|id| there.contains(id)).map(SnapshotId::to_string);
        self.report.undamaged = whole.filter(|id| !hurt.contains(id)).collect();
        Ok(self.report)
    }

    /// Names the marks that cannot be read; returns the snapshots that are there.
    async fn marks(&mut self) -> Result<BTreeSet<SnapshotId>> {
        let (ids, marks) = self.repo.listed().await?;
        for id in &ids {
            match self.repo.read_newest_mark(*id, &marks).await {
                Err(error) if error.kind() == Kind::Damaged => self.report.damaged.push(Damage {
                    object: files::MARKS.to_owned() + &id.to_string(),
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

    /// An index file that cannot be read makes absent what only it names.
    async fn index_files(&mut self) -> Result<()> {
        for file in self.repo.store().list(files::INDEX).await? {
            match self.repo.read_index(&file.name).await {
                Ok(_) => {}
                Err(error) if error.kind() == Kind::Damaged => self.report.damaged.push(Damage {
                    object: file.name,
                    snapshots: Vec::new(),
                    collection: String::new(),
                    key_range: String::new(),
                    reason: error.to_string(),
                }),
                Err(error) if error.kind() == Kind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn pack(&mut self, id: PackId, mut contents: Contents, len: Option<u64>) -> Result<()> {
        let name = files::pack(id);
        let Some(len) = len else {
            let why = format!("its pack {id} is missing");
            self.bad.extend(contents.into_iter().map(|(object, _)| (object, why.clone())));
            return Ok(());
        };
        contents.sort_by_key(|(_, place)| place.offset);
        let end = contents.last().map_or(0, |(_, place)| u64::from(place.offset) + u64::from(place.len));
        if end > len {
            let why = format!("its pack {id} is shorter than its index says");
            let short =
                |(_, place): &&(ObjectId, Place)| u64::from(place.offset) + u64::from(place.len) > len;
            self.bad.extend(contents.iter().filter(short).map(|(object, _)| (*object, why.clone())));
            contents.retain(|(object, _)| !self.bad.contains_key(object));
        }
        let wanted: Contents = contents.into_iter().filter(|(id, place)| self.is_wanted(id, place)).collect();
        if self.mode == Mode::Full {
            let bytes = self.repo.store().read(&name).await?;
            self.report.bytes += bytes.len() as u64;
            let repo = self.repo.clone();
            let found = cpu::run(move || check_pack(&repo, id, &bytes, &wanted)).await?;
            self.take_in(found)?;
        } else {
            for (object, place) in wanted {
                let frame =
                    self.repo.store().read_range(&name, place.offset.into(), place.len as usize).await?;
                self.report.bytes += frame.len() as u64;
                let checked = check_object(self.repo, object, &place, &frame);
                self.take_in(vec![(object, checked)])?;
            }
        }
        Ok(())
    }

    fn is_wanted(&self, id: &ObjectId, place: &Place) -> bool {
        match self.mode {
            Mode::Full => true,
            Mode::Sample => place.kind.is_tree() || id.0[0].is_multiple_of(SAMPLE),
            Mode::Structure => place.kind.is_tree(),
        }
    }

    fn take_in(&mut self, checked: Vec<(ObjectId, Checked)>) -> Result<()> {
        for (id, checked) in checked {
            self.report.objects += 1;
            match checked {
                Err(why) => {
                    self.bad.insert(id, why);
                }
                Ok(children) => {
                    for (kinds, child) in children {
                        let there =
                            self.repo.cache().place(&child)?.is_some_and(|place| kinds.contains(&place.kind));
                        if !there {
                            self.bad.entry(child).or_insert_with(|| ABSENT.to_owned());
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Says which snapshots, collections and keys the bad objects hurt.
    async fn attribute(&mut self) -> Result<()> {
        let mut hurt: BTreeMap<(ObjectId, String, String), BTreeSet<String>> = BTreeMap::new();
        let ids = self.repo.snapshot_ids().await?;
        // Some may have been committed since this began; what they need is in the index by now.
        self.repo.refresh_index().await?;
        for id in ids {
            self.ctx.check()?;
            let snapshot = match self.repo.snapshot(id).await {
                Ok(snapshot) => snapshot,
                Err(error) if error.kind() == Kind::Damaged => {
                    self.report.damaged.push(Damage {
                        object: files::snapshot(id),
                        snapshots: vec![id.to_string()],
                        collection: String::new(),
                        key_range: String::new(),
                        reason: error.to_string(),
                    });
                    continue;
                }
                Err(error) if error.kind() == Kind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let bad = std::mem::take(&mut self.bad);
            let (bad, found) = self
                .repo
                .with_reader(move |reader| {
                    let mut walk = Walk { bad, found: Vec::new(), look_into_leaves: false };
                    walk.look_into_leaves = walk.bad_pieces(reader);
                    walk.snapshot(&snapshot, reader)?;
                    Ok((walk.bad, walk.found))
                })
                .await?;
            self.bad = bad;
            for (object, collection, key_range) in found {
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
        let unneeded = self.bad.iter().filter(|(object, _)| !named.contains(object));
        self.report.damaged.extend(unneeded.map(|(object, why)| Damage {
            object: object.to_string(),
            snapshots: Vec::new(),
            collection: String::new(),
            key_range: String::new(),
            reason: why.clone(),
        }));
        Ok(())
    }
}

/// What an object refers to, or what is wrong with it.
type Checked = Result<Vec<Child>, String>;

/// An object that is referred to, and what it may be.
type Child = (&'static [ObjectKind], ObjectId);

fn check_pack(repo: &Repository, id: PackId, bytes: &[u8], wanted: &Contents) -> Vec<(ObjectId, Checked)> {
    let directory =
        cpu::with_opener(repo.id(), repo.keys(), |opener| pack::read_directory(id, bytes, opener));
    let mut found: Vec<(ObjectId, Checked)> = (wanted.iter())
        .map(|(object, place)| {
            let start = place.offset as usize;
            let frame = bytes.get(start..start + place.len as usize).unwrap_or_default();
            (*object, check_object(repo, *object, place, frame))
        })
        .collect();
    // A pack whose directory is gone could not be found again if the index were lost.
    if let Err(error) = directory
        && found.iter().all(|(_, checked)| checked.is_ok())
        && let Some((_, first)) = found.first_mut()
    {
        *first = Err(format!("the directory of its pack {id} is damaged: {error}"));
    }
    found
}

fn check_object(repo: &Repository, id: ObjectId, place: &Place, frame: &[u8]) -> Checked {
    let opened = cpu::with_opener(repo.id(), repo.keys(), |opener| opener.open_object(place.kind, id, frame));
    let plaintext = opened.map_err(|error| error.to_string())?;
    children(place.kind, plaintext).map_err(|error| error.to_string())
}

fn children(kind: ObjectKind, plaintext: Vec<u8>) -> repo_format::Result<Vec<Child>> {
    Ok(match kind {
        ObjectKind::Piece => Vec::new(),
        // Which of the two its entries are is said by the depth above, which is not known here.
        ObjectKind::PieceList => {
            let below: &[ObjectKind] = &[ObjectKind::Piece, ObjectKind::PieceList];
            value::parse_list(&plaintext)?.into_iter().map(|piece| (below, piece.id)).collect()
        }
        ObjectKind::Node => {
            let level = plaintext.first().copied().unwrap_or_default();
            let node = Node::parse(&plaintext, level)?;
            let below: &[ObjectKind] = if level == 1 { &[ObjectKind::Leaf] } else { &[ObjectKind::Node] };
            node.entries.iter().map(|entry| (below, entry.child)).collect()
        }
        ObjectKind::Leaf => {
            let leaf = Leaf::parse(plaintext)?;
            let mut children = Vec::new();
            for (_, record) in leaf.records() {
                for field in Fields::new(record) {
                    if let Field::Out(place) = field? {
                        let below: &[ObjectKind] =
                            if place.depth == 0 { &[ObjectKind::Piece] } else { &[ObjectKind::PieceList] };
                        children.push((below, place.root));
                    }
                }
            }
            children
        }
    })
}

/// Takes a record, as (key, value).
type Each<'a> = dyn FnMut(&[u8], &[u8], &mut ObjectReader) -> Result<()> + 'a;

/// Where a damaged schema text or descriptor is, in words.
const DESCRIPTION: &str = "the collection's description";

/// A walk over one snapshot that looks for bad objects without reading what is good.
struct Walk {
    bad: BTreeMap<ObjectId, String>,
    /// (object, collection, keys in words).
    found: Vec<(ObjectId, String, String)>,
    /// Bad pieces can only be found from the records they belong to.
    look_into_leaves: bool,
}

impl Walk {
    /// Whether anything bad may be a piece, a list, or an object of no known kind.
    fn bad_pieces(&self, reader: &mut ObjectReader) -> bool {
        self.bad.keys().any(|id| {
            !matches!(reader.place(id), Some(place) if matches!(place.kind, ObjectKind::Leaf | ObjectKind::Node))
        })
    }

    /// Whether an object was found bad, or is missing: roots are named by manifests and catalogs
    /// only, and no object that was read refers to them.
    fn is_bad(&mut self, id: ObjectId, reader: &ObjectReader) -> bool {
        if reader.place(&id).is_none() {
            self.bad.entry(id).or_insert_with(|| ABSENT.to_owned());
        }
        self.bad.contains_key(&id)
    }

    fn snapshot(&mut self, snapshot: &Snapshot, reader: &mut ObjectReader) -> Result<()> {
        if let Some(schema) = &snapshot.manifest.schema {
            let place = OutOfLine { len: schema.len, depth: schema.depth, root: schema.root };
            self.value(&place, "", "the schema archive", reader)?;
        }
        let engine = Engine::parse(&snapshot.manifest.source.engine);
        let root = catalog_root(snapshot);
        let mut catalogs = Vec::new();
        self.tree(root.level, root.id, &mut Range::catalog(), reader, &mut |key, record, reader| {
            catalogs.push((key.to_vec(), record.to_vec(), Cataloged::parse(key, record, reader)));
            Ok(())
        })?;
        for (key, record, parsed) in catalogs {
            let cataloged = match parsed {
                Ok(cataloged) => cataloged,
                // A long schema text that is damaged hides its collection: say which.
                Err(error) if error.kind() == Kind::Damaged => {
                    self.catalog_record(engine, &key, &record, reader)?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let root = cataloged.root();
            if let Some(order) = cataloged.descriptor.natural_order {
                self.value(&order.into(), &cataloged.display_name(), "the order of its records", reader)?;
            }
            let mut range = Range::of(cataloged);
            let look_into_leaves = self.look_into_leaves;
            let mut places = Vec::new();
            self.tree(root.level, root.id, &mut range, reader, &mut |key, record, _| {
                for field in Fields::new(record) {
                    if let Field::Out(place) = field? {
                        places.push((key.to_vec(), place));
                    }
                }
                Ok(())
            })?;
            if look_into_leaves {
                for (key, place) in places {
                    let keys = range.words(&key, reader);
                    self.value(&place, &range.name, &keys, reader)?;
                }
            }
        }
        Ok(())
    }

    /// Looks into the description of a collection, of which no more than the name may be readable.
    fn catalog_record(
        &mut self,
        engine: Option<Engine>,
        key: &[u8],
        record: &[u8],
        reader: &mut ObjectReader,
    ) -> Result<()> {
        let (namespace, name) = parse_key(key)?;
        let name = engine
            .map_or_else(|| format!("{namespace}.{name}"), |engine| engine.display_name(&namespace, &name));
        for field in Fields::new(record) {
            if let Field::Out(place) = field? {
                self.value(&place, &name, DESCRIPTION, reader)?;
            }
        }
        Ok(())
    }

    /// An object that the walk needs. `None` when it is damaged, which is then a finding.
    fn load(
        &mut self,
        kind: ObjectKind,
        id: ObjectId,
        found: (&str, &str),
        reader: &mut ObjectReader,
    ) -> Result<Option<Vec<u8>>> {
        match reader.load(kind, id) {
            Ok(plaintext) => Ok(Some(plaintext)),
            Err(error) if error.kind() == Kind::Damaged => {
                self.bad.entry(id).or_insert_with(|| error.to_string());
                self.found.push((id, found.0.to_owned(), found.1.to_owned()));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Walks one tree; hands the records of leaves to `each` where leaves are looked into.
    fn tree(
        &mut self,
        level: u8,
        id: ObjectId,
        range: &mut Range,
        reader: &mut ObjectReader,
        each: &mut Each<'_>,
    ) -> Result<()> {
        if self.is_bad(id, reader) {
            self.found.push((id, range.name.clone(), range.shown(reader)));
            return Ok(());
        }
        if level > 0 {
            let shown = range.shown(reader);
            let name = range.name.clone();
            let Some(plaintext) = self.load(ObjectKind::Node, id, (&name, &shown), reader)? else {
                return Ok(());
            };
            let node = Node::parse(&plaintext, level)?;
            let upper = range.upper.take();
            let last = node.entries.len() - 1;
            for (at, entry) in node.entries.into_iter().enumerate() {
                range.upper = if at == last {
                    upper.clone().or(Some(entry.last_key.clone()))
                } else {
                    Some(entry.last_key.clone())
                };
                self.tree(level - 1, entry.child, range, reader, each)?;
                range.lower = Some(entry.last_key);
            }
            range.upper = upper;
        } else if self.look_into_leaves || range.is_catalog() {
            let shown = range.shown(reader);
            let name = range.name.clone();
            let Some(plaintext) = self.load(ObjectKind::Leaf, id, (&name, &shown), reader)? else {
                return Ok(());
            };
            let leaf = Leaf::parse(plaintext)?;
            for (key, record) in leaf.records() {
                each(key, record, reader)?;
            }
        }
        Ok(())
    }

    fn value(&mut self, place: &OutOfLine, name: &str, keys: &str, reader: &mut ObjectReader) -> Result<()> {
        let mut waiting = vec![(place.depth, place.root)];
        while let Some((depth, id)) = waiting.pop() {
            if self.is_bad(id, reader) {
                self.found.push((id, name.to_owned(), keys.to_owned()));
            } else if depth == 0 && keys == DESCRIPTION {
                // Known to be unreadable, so each of its pieces is looked at.
                self.load(ObjectKind::Piece, id, (name, keys), reader)?;
            } else if depth > 0
                && let Some(list) = self.load(ObjectKind::PieceList, id, (name, keys), reader)?
            {
                waiting
                    .extend(value::children(depth, &list)?.into_iter().map(|(_, child)| (depth - 1, child)));
            }
        }
        Ok(())
    }
}

/// The keys below a subtree: after `lower`, up to `upper`.
struct Range {
    name: String,
    cataloged: Option<Cataloged>,
    lower: Option<Vec<u8>>,
    upper: Option<Vec<u8>>,
}

impl Range {
    fn catalog() -> Self {
        Self { name: String::new(), cataloged: None, lower: None, upper: None }
    }

    fn of(cataloged: Cataloged) -> Self {
        Self { name: cataloged.display_name(), cataloged: Some(cataloged), lower: None, upper: None }
    }

    fn is_catalog(&self) -> bool {
        self.cataloged.is_none()
    }

    fn shown(&self, reader: &mut ObjectReader) -> String {
        if self.is_catalog() {
            return "the list of collections".to_owned();
        }
        match (&self.lower, &self.upper) {
            (None, None) => "all keys".to_owned(),
            (Some(lower), None) => format!("after {}", self.words(lower, reader)),
            (None, Some(upper)) => format!("up to {}", self.words(upper, reader)),
            (Some(lower), Some(upper)) => {
                format!("after {} up to {}", self.words(lower, reader), self.words(upper, reader))
            }
        }
    }

    /// A key in words, where its record can be read.
    fn words(&self, key: &[u8], reader: &mut ObjectReader) -> String {
        let Some(cataloged) = &self.cataloged else { return rows::encode_id(key) };
        let found = repo_format::tree::get(&cataloged.root(), key, reader).ok().flatten();
        let layout = &cataloged.descriptor.layout;
        match found.and_then(|record| rows::shown(layout, key, &record, reader).ok()) {
            Some(shown) => shown.key,
            None => rows::encode_id(key),
        }
    }
}
