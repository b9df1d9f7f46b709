//! Writing differences into collections that hold documents, in transactions.
//!
//! The caller knows what differs, and what every document concerned held when it was read. Here is what
//! stands around the collections ([`Surroundings`]), what their definitions do to documents
//! ([`Definition`]), how much one transaction takes ([`Portions`]), and how it is written ([`Writer`]): in
//! each transaction the documents are first read and held against what they held, then written, then read
//! again and held against what they are to be. So nothing is overwritten that somebody else has changed
//! meanwhile, and nothing is committed that is not as wanted.

mod commands;
mod definition;
mod fault;
mod portions;
#[cfg(test)]
mod scripted;
mod surroundings;
mod writer;

pub(crate) use definition::Definition;
pub(crate) use portions::{BYTES, Change, DOCUMENTS, Portion, Portions};
pub(crate) use surroundings::{NEEDED, Surroundings};
pub(crate) use writer::{Destination, Writer};
