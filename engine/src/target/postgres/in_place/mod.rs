//! Writing differences into tables that hold rows, in one transaction.
//!
//! The caller holds the transaction and its locks ([`source::postgres::Snapshot`]), knows what differs,
//! and proves what came of it. Here is what stands around the tables ([`Surroundings`]), what of it has to
//! keep still meanwhile ([`Stillness`]), in which order tables are written ([`passes`]), and how
//! ([`TableWriter`]).
//!
//! [`source::postgres::Snapshot`]: crate::source::postgres::Snapshot

mod fault;
mod order;
mod rows;
mod sequences;
mod stillness;
mod surroundings;

pub(crate) use fault::statement as failed;
pub(crate) use order::{Pass, passes};
pub(crate) use rows::TableWriter;
pub(crate) use sequences::set_sequences;
pub(crate) use stillness::Stillness;
pub(crate) use surroundings::{ForeignKey, Surroundings};

/// A schema and a name, unquoted.
pub(crate) type TableName = (String, String);
