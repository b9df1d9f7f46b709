//! MongoDB, version 5.0 and later, read through a user that may only read.
//!
//! A [`Snapshot`] is of one moment, in one of two ways. Where the server honours a snapshot time,
//! every scan reads at it. Elsewhere, and when the server's history is too short, a change stream
//! is opened before the scans; what changed meanwhile is read again in rounds, the last of them in
//! one transaction, and all records then stand at that transaction's time.

mod snapshot;
mod test;
mod url;

pub use snapshot::{ChangedRecord, Options, Round, RoundPart, Snapshot};
pub use test::test;
pub use url::MongoUrl;
