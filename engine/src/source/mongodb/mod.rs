//! MongoDB, version 5.0 and later, read through a user that may only read.
//!
//! A [`Snapshot`] is of one moment, in one of two ways. Where the server honours a snapshot time,
//! every scan reads at it. Elsewhere, and when the server's history is too short, a change stream
//! is opened before the scans; what changed meanwhile is read again in rounds, the last of them in
//! one transaction, and all records then stand at that transaction's time. Of collections whose
//! definition changed meanwhile, only what is needed is read anew.

mod catalog;
mod catch_up;
mod certificate;
pub(crate) mod connect;
mod diagnose;
pub(crate) mod fault;
mod follow;
mod moment;
mod oplog;
mod pending;
mod proxy;
mod read;
mod readonly;
mod records;
mod renew;
mod repeat;
mod reread;
mod scan;
mod schema;
mod sessions;
mod snapshot;
mod stream;
mod test;
mod url;
mod user;
pub(crate) mod wire;

pub use readonly::read_only_setup;
pub use snapshot::{ChangedRecord, Options, Round, RoundPart, Snapshot};
pub use test::{refuse_writers, test};
pub use url::MongoUrl;

/// What is told of a server without a replica set.
pub(crate) const STANDALONE: &str = "the server is standalone, so there are no snapshots of one moment";
/// What to do about it.
pub(crate) const STANDALONE_HELP: &str = "Make it a replica set of one member: start mongod with --replSet rs0 (replication.replSetName in \
     mongod.conf) and run rs.initiate() once. Or allow snapshots that are not of one moment (best effort).";
