//! Trees in memory, for the tests of this crate.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use std::collections::BTreeMap;

use repo_format::id::{ObjectId, ObjectKind};
use repo_format::keys::{KeySchedule, RootKey};
use repo_format::tree::{Builder, Lookup, Root, Sink};
use repo_format::{Error, Result};

/// Objects by id, with a count of what was read.
#[derive(Default)]
pub struct Memory {
    pub objects: BTreeMap<ObjectId, (ObjectKind, Vec<u8>)>,
    pub loads: usize,
}

impl Lookup for Memory {
    type Error = Error;

    fn load(&mut self, kind: ObjectKind, id: ObjectId) -> Result<Vec<u8>> {
        self.loads += 1;
        match self.objects.get(&id) {
            Some((stored, plaintext)) if *stored == kind => Ok(plaintext.clone()),
            _ => Err(Error::WrongContent),
        }
    }
}

impl Sink for Memory {
    type Error = Error;

    fn store(&mut self, kind: ObjectKind, id: ObjectId, plaintext: Vec<u8>) -> Result<()> {
        assert_eq!(keys().object_id(kind, &plaintext), id);
        self.objects.insert(id, (kind, plaintext));
        Ok(())
    }
}

pub fn keys() -> KeySchedule {
    KeySchedule::new(RootKey::new([0x5a; 32]))
}

pub type Map = BTreeMap<Vec<u8>, Vec<u8>>;

pub fn build(map: &Map, memory: &mut Memory) -> Root {
    let mut builder = Builder::new(&keys());
    for (key, value) in map {
        builder.push(key, value, memory).unwrap();
    }
    builder.finish(memory).unwrap()
}

pub fn read_all(root: &Root, start: Option<&[u8]>, memory: &mut Memory) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut cursor = repo_format::tree::Cursor::new(root, start);
    std::iter::from_fn(|| cursor.next(memory).unwrap()).collect()
}
