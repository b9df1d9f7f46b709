//! The DBSnap repository format: bytes in, values out.
//!
//! Two versions of a table are built as trees, and compared. The objects go to a map here; the
//! caller decides where they go and how they come back, because this crate does no I/O.
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use repo_format::id::{ObjectId, ObjectKind};
//! use repo_format::keys::{KeySchedule, RootKey};
//! use repo_format::order::{KeyEncoding, postgres::push_key};
//! use repo_format::record::{Field, Writer};
//! use repo_format::tree::{Builder, Change, Diff, Lookup, Root, Sink, get};
//! use repo_format::{Error, Result};
//!
//! #[derive(Default)]
//! struct Memory(BTreeMap<ObjectId, Vec<u8>>);
//!
//! impl Sink for Memory {
//!     type Error = Error;
//!     fn store(&mut self, _: ObjectKind, id: ObjectId, plaintext: Vec<u8>) -> Result<()> {
//!         self.0.insert(id, plaintext);
//!         Ok(())
//!     }
//! }
//!
//! impl Lookup for Memory {
//!     type Error = Error;
//!     fn load(&mut self, _: ObjectKind, id: ObjectId) -> Result<Vec<u8>> {
//!         self.0.get(&id).cloned().ok_or(Error::WrongContent)
//!     }
//! }
//!
//! /// Builds the tree of rows of (id, name), which come in the order of their ids.
//! fn build(keys: &KeySchedule, rows: &[(&str, &str)], memory: &mut Memory) -> Result<Root> {
//!     let mut tree = Builder::new(keys);
//!     for (id, name) in rows {
//!         let (mut key, mut value) = (Vec::new(), Vec::new());
//!         push_key(&mut key, KeyEncoding::Integer, id.as_bytes())?;
//!         let mut record = Writer::new(&mut value);
//!         record.push(Field::Inline(id.as_bytes()));
//!         record.push(Field::Inline(name.as_bytes()));
//!         record.finish();
//!         tree.push(&key, &value, memory)?;
//!     }
//!     tree.finish(memory)
//! }
//!
//! # fn main() -> Result<()> {
//! let keys = KeySchedule::new(RootKey::new([7; 32]));
//! let mut memory = Memory::default();
//! let old = build(&keys, &[("1", "apple"), ("2", "pear")], &mut memory)?;
//! let new = build(&keys, &[("1", "apple"), ("2", "quince"), ("10", "plum")], &mut memory)?;
//! assert_eq!(new.records, 3);
//!
//! // One record, by its key.
//! let mut key = Vec::new();
//! push_key(&mut key, KeyEncoding::Integer, b"10")?;
//! assert_eq!(get(&new, &key, &mut memory)?.as_deref(), Some(&b"\x0410\x06plum"[..]));
//!
//! // What changed, in the order of keys. Subtrees that are equal are never read.
//! let mut diff = Diff::new(&old, &new, None);
//! assert!(matches!(diff.next(&mut memory)?, Some(Change::Changed { .. })));
//! assert!(matches!(diff.next(&mut memory)?, Some(Change::Added { .. })));
//! assert_eq!(diff.next(&mut memory)?, None);
//!
//! // Equal content has an equal root, however it came about.
//! let again = build(&keys, &[("1", "apple"), ("2", "pear")], &mut memory)?;
//! assert_eq!(again.id, old.id);
//! # Ok(())
//! # }
//! ```
//!
//! | layer | modules |
//! |---|---|
//! | identity and secrecy | [`id`], [`keys`], [`slot`], [`frame`] |
//! | records | [`record`], [`bson`], [`order`], [`value`] |
//! | trees of records | [`tree`], [`chunker`] |
//! | files | [`files`], [`config`], [`pack`], [`index`], [`catalog`], [`manifest`], [`mark`], [`session`], [`prune`] |
//!
//! Bytes that come in are not believed: lengths are checked before they are used, structures have
//! one spelling and every other is refused, and no input makes a decoder panic. Nothing here knows
//! the time, draws a random number, or opens a file: nonces and times are arguments. The bytes are
//! specified in `docs/FORMAT.md`.
#![deny(missing_docs)]

pub mod bson;
pub mod catalog;
pub mod chunker;
pub mod codec;
pub mod config;
pub mod error;
pub mod files;
pub mod frame;
pub mod id;
pub mod index;
pub mod keys;
pub mod limits;
pub mod manifest;
pub mod mark;
pub mod order;
pub mod pack;
pub mod prune;
pub mod record;
pub mod session;
pub mod slot;
pub mod tree;
pub mod value;

pub use error::{Error, Result};
