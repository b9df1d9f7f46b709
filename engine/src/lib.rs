//! Backup, diff, restore, verify and prune over the DBSnap repository format.
//!
//! An operation takes a [`repo::Repository`], what it is about, and a [`Context`]: who listens, who
//! may stop it, where it may spill. It returns what it did, and prints nothing.
//!
//! ```
//! use engine::repo::{Repository, UnlockKey};
//! use engine::store::Storage;
//! use engine::verify::{self, Mode};
//! use engine::Context;
//!
//! # #[tokio::main]
//! # async fn main() -> engine::Result<()> {
//! let scratch = tempfile::tempdir().expect("a temporary folder");
//! let ctx = Context::new(scratch.path());
//! let store = Storage::memory()?.store("project")?;
//! let key = UnlockKey::new([7; 32]);
//! let repo = Repository::create(store, &key, &scratch.path().join("cache.redb"), &ctx).await?;
//! // With a database: backup::run(&repo, &request, &ctx).await?
//! assert!(repo.snapshots().await?.is_empty());
//! assert!(verify::run(&repo, Mode::Full, &ctx).await?.damaged.is_empty());
//! # Ok(())
//! # }
//! ```
#![deny(missing_docs)]

pub mod backup;
mod capture;
pub mod catalog;
pub mod clock;
pub mod context;
pub mod cost;
mod cpu;
mod defect;
pub mod diff;
pub mod document;
pub mod error;
pub mod example;
#[cfg(test)]
mod faults;
pub mod history;
mod ingest;
pub mod kms;
pub mod live;
pub mod monitor;
mod overlay;
mod patch;
pub mod prune;
mod reading;
pub mod repo;
pub mod restore;
pub mod retention;
pub mod rows;
#[cfg(test)]
mod scale;
#[cfg(test)]
mod simulation;
mod sort;
pub mod source;
pub mod store;
pub mod target;
pub mod verify;

pub use context::Context;
pub use error::{Error, Kind, Result, shortened};
