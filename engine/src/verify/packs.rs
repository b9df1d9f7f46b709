//! Reading packs: each object is opened and hashed, and what it refers to must be somewhere.

use std::collections::BTreeMap;

use repo_format::id::{ObjectId, ObjectKind, PackId};
use repo_format::prune::moment;
use repo_format::record::{Field, Fields};
use repo_format::tree::{Leaf, Node};
use repo_format::{files, pack, value};

use crate::cpu;
use crate::error::{Kind, Result};
use crate::repo::{Place, Repository, Standing};
use crate::verify::{ABSENT, Mode, Verify};

/// In a sample, one of so many objects is read.
const SAMPLE: u64 = 20;

/// The objects that one pack is said to hold.
type Contents = Vec<(ObjectId, Place)>;

/// What an object refers to, or what is wrong with it.
type Checked = Result<Vec<Child>, String>;

/// An object that is referred to, and what it may be.
type Child = (&'static [ObjectKind], ObjectId);

impl Verify<'_> {
    /// Reads what is said to be in packs.
    pub(super) async fn packs(&mut self) -> Result<()> {
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
        self.progress.collections_total = packs.len() as u64;
        self.step("reading packs");
        for (id, contents) in packs {
            self.ctx.check()?;
            self.pack(id, contents, lengths.get(&files::pack(id)).copied()).await?;
            self.progress.collections_done += 1;
            self.progress.records = self.report.objects;
            self.progress.bytes_read = self.report.bytes;
            self.ctx.monitor.progress(&self.progress);
        }
        Ok(())
    }

    async fn pack(&mut self, id: PackId, mut contents: Contents, len: Option<u64>) -> Result<()> {
        let name = files::pack(id);
        let Some(len) = len else {
            let why = format!("its pack {id} is missing");
            contents.iter().for_each(|(object, _)| self.fail(*object, id, why.clone()));
            return Ok(());
        };
        contents.sort_by_key(|(_, place)| place.offset);
        let is_inside = |place: &Place| u64::from(place.offset) + u64::from(place.len) <= len;
        let (contents, outside): (Contents, Contents) =
            contents.into_iter().partition(|(_, place)| is_inside(place));
        if !outside.is_empty() {
            self.suspects.insert(id);
            let why = format!("its pack {id} is shorter than its index says");
            outside.iter().for_each(|(object, _)| self.fail(*object, id, why.clone()));
        }
        let all = contents.len();
        // Whoever reads less than the verification that found it damaged must not find it whole.
        let is_suspect = self.repo.cache().view().is_suspect(id);
        let is_wanted = |(id, place): &(ObjectId, Place)| is_suspect || self.is_wanted(id, place);
        let wanted: Contents = contents.into_iter().filter(is_wanted).collect();
        // Nodes have packs of their own: one request, where each would be one.
        if self.mode == Mode::Full || wanted.len() == all {
            return self.whole_pack(id, wanted).await;
        }
        for (object, place) in wanted {
            let frame = self.repo.store().read_range(&name, place.offset.into(), place.len as usize).await?;
            self.report.bytes += frame.len() as u64;
            let checked = check_object(self.repo, object, &place, &frame);
            self.take_in(object, &place, checked).await?;
        }
        Ok(())
    }

    async fn whole_pack(&mut self, id: PackId, wanted: Contents) -> Result<()> {
        let bytes = self.repo.store().read(&files::pack(id)).await?;
        self.report.bytes += bytes.len() as u64;
        let repo = self.repo.clone();
        let (directory, found) = cpu::run(move || check_pack(&repo, id, &bytes, wanted)).await?;
        let objects: Vec<ObjectId> = found.iter().map(|(object, ..)| *object).collect();
        for (object, place, checked) in found {
            self.take_in(object, &place, checked).await?;
        }
        // A pack whose directory is gone could not be found again if the index were lost.
        if let Err(why) = directory
            && !self.suspects.contains(&id)
        {
            self.suspects.insert(id);
            let why = format!("the directory of its pack {id} is damaged: {why}");
            for object in objects {
                if self.is_only_in(&object, id)? {
                    self.fail(object, id, why);
                    break;
                }
            }
        }
        Ok(())
    }

    fn fail(&mut self, object: ObjectId, pack: PackId, why: String) {
        self.failed.entry(object).or_default().insert(pack, why);
    }

    /// Whether an object is in no other pack that is not known to be damaged.
    fn is_only_in(&self, object: &ObjectId, pack: PackId) -> Result<bool> {
        let places = self.repo.cache().places(object)?;
        let view = self.repo.cache().view();
        let is_sound = |place: &Place| view.standing(place.pack) < Some(Standing::Suspect);
        Ok(!places.iter().any(|place| place.pack != pack && is_sound(place)))
    }

    fn is_wanted(&self, id: &ObjectId, place: &Place) -> bool {
        match self.mode {
            Mode::Full => true,
            Mode::Sample { turn } => place.kind.is_tree() || share(id) == turn % SAMPLE,
            Mode::Structure => place.kind.is_tree(),
        }
    }

    async fn take_in(&mut self, id: ObjectId, place: &Place, checked: Checked) -> Result<()> {
        self.report.objects += 1;
        let checked = match checked {
            // What came garbled once may be whole.
            Err(why) => self.check_again(id, place).await?.map_err(|_| why),
            checked => checked,
        };
        match checked {
            Err(why) => {
                self.suspects.insert(place.pack);
                self.fail(id, place.pack, why);
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
        Ok(())
    }

    async fn check_again(&self, id: ObjectId, place: &Place) -> Result<Checked> {
        match self.repo.read_frame(place, id).await {
            Ok(frame) => Ok(check_object(self.repo, id, place, &frame)),
            Err(error) if error.kind() == Kind::Damaged => Ok(Err(error.to_string())),
            Err(error) => Err(error),
        }
    }

    /// An object that is damaged in one pack and whole in another is not lost.
    pub(super) async fn look_elsewhere(&mut self) -> Result<()> {
        for (id, failed) in std::mem::take(&mut self.failed) {
            self.ctx.check()?;
            let mut is_whole = false;
            for place in self.repo.cache().places(&id)? {
                is_whole = !failed.contains_key(&place.pack) && self.check_again(id, &place).await?.is_ok();
                if is_whole {
                    break;
                }
            }
            if let Some(why) = failed.into_values().next().filter(|_| !is_whole) {
                self.bad.entry(id).or_insert(why);
            }
        }
        Ok(())
    }

    /// Says which packs are damaged, so that no backup relies on them any more.
    pub(super) async fn publish_suspects(&self) -> Result<()> {
        for pack in &self.suspects {
            if !self.repo.cache().view().is_suspect(*pack) {
                let now_ms = self.ctx.clock.now_ms();
                self.repo.create_file(&files::suspect(*pack), &moment(now_ms)).await?;
            }
        }
        Ok(())
    }
}

/// The turn of twenty in which an object is read.
fn share(id: &ObjectId) -> u64 {
    u64::from(u16::from_be_bytes([id.0[0], id.0[1]])) % SAMPLE
}

/// What is wrong with the pack's directory, and with its objects.
type PackChecked = (Result<(), String>, Vec<(ObjectId, Place, Checked)>);

fn check_pack(repo: &Repository, id: PackId, bytes: &[u8], wanted: Contents) -> PackChecked {
    let directory =
        cpu::with_opener(repo.id(), repo.keys(), |opener| pack::read_directory(id, bytes, opener));
    let found = wanted.into_iter().map(|(object, place)| {
        let start = place.offset as usize;
        let frame = bytes.get(start..start + place.len as usize).unwrap_or_default();
        (object, place, check_object(repo, object, &place, frame))
    });
    (directory.map(drop).map_err(|error| error.to_string()), found.collect())
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
