//! Keeping what a comparison leads to for as long as its pages are read.
//!
//! A database that was read to be compared shares objects with the repository. Those that the older
//! snapshot has stay for as long as that snapshot does, and without it there is no comparison. The
//! others are there for the sake of snapshots that nobody has to keep, and a prune may take them once
//! the session that read the database has ended. So whatever of the reading is not shared with the
//! older snapshot, at the same place of the same tree, is copied into the overlay before that. A page
//! opens nothing else of the reading: subtrees that are shared are passed, or are the older
//! snapshot's. What is copied is no more than what differs, so the overlay's limit is one of that.

use std::collections::HashMap;

use repo_format::id::{ObjectId, ObjectKind};
use repo_format::record::{Field, Fields, OutOfLine};
use repo_format::tree::{Change, Cursor, Diff, Lookup, Node, Root};
use repo_format::value;

use super::{Alignment, Pair};
use crate::catalog::Cataloged;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::overlay::Overlay;
use crate::repo::ObjectReader;

/// Walks over differences, and copies what it meets of the newer side into an overlay.
pub(crate) struct Keeper<'a> {
    reader: &'a mut ObjectReader,
    overlay: &'a Overlay,
    ctx: &'a Context,
    /// Objects of the newer tree that are not opened yet, and their levels.
    ours: HashMap<ObjectId, u8>,
}

impl<'a> Keeper<'a> {
    /// Into `overlay`, which `reader` looks into.
    pub fn new(reader: &'a mut ObjectReader, overlay: &'a Overlay, ctx: &'a Context) -> Self {
        Self { reader, overlay, ctx, ours: HashMap::new() }
    }

    /// Keeps what pages of a collection's changes are made of: of a re-keyed one there are none.
    pub(super) fn pair(&mut self, pair: &Pair) -> Result<()> {
        let Pair { old, new } = pair.clone().of_records();
        let Some(new) = new else { return Ok(()) };
        let is_rekeyed = |old: &Cataloged| {
            Alignment::new(&old.descriptor.layout, &new.descriptor.layout).rekeyed().is_some()
        };
        if old.as_ref().is_some_and(is_rekeyed) {
            return Ok(());
        }
        self.tree(old.map(|old| old.root()).as_ref(), &new.root())
    }

    /// Keeps what a tree has and an older one has not.
    pub fn tree(&mut self, old: Option<&Root>, new: &Root) -> Result<()> {
        self.ours = HashMap::from([(new.id, new.level)]);
        let Some(old) = old else {
            let mut cursor = Cursor::new(new, None);
            while let Some((_, record)) = cursor.next(self)? {
                self.values(&[], &record)?;
            }
            return Ok(());
        };
        let mut diff = Diff::new(old, new, None);
        while let Some(change) = diff.next(self)? {
            match change {
                Change::Added { new, .. } => self.values(&[], &new)?,
                Change::Changed { old, new, .. } => self.values(&old, &new)?,
                Change::Removed { .. } => {}
            }
        }
        Ok(())
    }

    /// Keeps the moved-out values of a record that the older one does not have.
    fn values(&mut self, old: &[u8], new: &[u8]) -> Result<()> {
        self.ctx.check()?;
        let mut known = Vec::new();
        for field in Fields::new(old) {
            if let Field::Out(place) = field? {
                known.push(place.root);
            }
        }
        for field in Fields::new(new) {
            if let Field::Out(place) = field?
                && !known.contains(&place.root)
            {
                self.value(&place)?;
            }
        }
        Ok(())
    }

    /// Keeps a moved-out value.
    pub fn value(&mut self, place: &OutOfLine) -> Result<()> {
        let kind = if place.depth == 0 { ObjectKind::Piece } else { ObjectKind::PieceList };
        let mut waiting = vec![(kind, place.root, place.depth)];
        while let Some((kind, id, depth)) = waiting.pop() {
            if depth == 0 && self.overlay.has(&id) {
                continue;
            }
            let plaintext = self.reader.load(kind, id)?;
            self.overlay.keep(kind, id, &plaintext)?;
            let below = value::children(depth, &plaintext)?.into_iter();
            waiting.extend(below.map(|(kind, id)| (kind, id, depth - 1)));
        }
        Ok(())
    }
}

impl Lookup for Keeper<'_> {
    type Error = Error;

    fn load(&mut self, kind: ObjectKind, id: ObjectId) -> Result<Vec<u8>> {
        let plaintext = self.reader.load(kind, id)?;
        if let Some(level) = self.ours.remove(&id) {
            self.overlay.keep(kind, id, &plaintext)?;
            if level > 0 {
                let entries = Node::parse(&plaintext, level)?.entries.into_iter();
                self.ours.extend(entries.map(|entry| (entry.child, level - 1)));
            }
        }
        Ok(plaintext)
    }

    fn expect(&mut self, wanted: &[(ObjectKind, ObjectId)]) {
        self.reader.expect(wanted);
    }
}
