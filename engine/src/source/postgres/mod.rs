//! PostgreSQL, version 12 and later, read through a role that may only read.
//!
//! ```no_run
//! # async fn example() -> engine::Result<()> {
//! use engine::source::postgres::{Options, PostgresUrl, Snapshot};
//! use tokio_util::sync::CancellationToken;
//!
//! let url = PostgresUrl::parse("postgres://reader:secret@db.example.com/shop")?;
//! let cancel = CancellationToken::new();
//! let snapshot = Snapshot::begin(&url, &Options::default(), &cancel).await?;
//! for collection in snapshot.collections() {
//!     let (sender, mut batches) = tokio::sync::mpsc::channel(4);
//!     let row_key = repo_format::keys::RowKey::new([0; 32]);
//!     let scan = snapshot.scan(&collection.layout, &collection.namespace, &collection.name, &row_key, sender, &cancel);
//!     let read = async { while let Some(batch) = batches.recv().await { assert!(!batch.is_empty()) } };
//!     let (stats, ()) = tokio::join!(scan, read);
//!     assert!(stats?.bytes_read > 0);
//! }
//! snapshot.close().await
//! # }
//! ```

pub(crate) mod archive;
mod archive_header;
mod catalog;
mod columns;
pub(crate) mod connect;
mod counted;
mod dependents;
pub(crate) mod dump_settings;
mod fault;
pub mod large_objects;
mod locks;
mod parameters;
mod passing;
mod readonly;
mod rows;
mod scan;
mod schema;
mod sequences;
pub(crate) mod session;
pub(crate) mod settings;
mod silence;
mod snapshot;
mod test;
pub(crate) mod toc;
mod unprintable;
mod url;

pub(crate) use columns::Column;
pub use readonly::{ReadOnlySetup, read_only_setup_sql};
pub(crate) use snapshot::TableFacts;
pub use snapshot::{Evidence, Options, Snapshot};
pub use test::{refuse_writers, test};
pub use url::{PostgresUrl, SslMode};
