//! Ephemeral database servers, object stores and generated databases for tests, the demo and benchmarks.
//!
//! ```no_run
//! # async fn example() {
//! use engine_testutils::postgres::Cluster;
//!
//! let cluster = Cluster::shared();
//! let database = cluster.fresh_database("shop").await;
//! cluster.execute(&database, "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
//! let url = cluster.create_read_only_role(&database, &format!("{database}_reader")).await;
//! # }
//! ```
//!
//! ```no_run
//! # async fn example() {
//! use bson::rawdoc;
//! use engine_testutils::mongodb::{Scope, Server};
//!
//! let server = Server::shared();
//! let database = server.fresh_database("shop");
//! server.insert_raw(&format!("{database}.orders"), &[rawdoc! { "_id": 1, "total": 9.5 }]).await;
//! let url = server.create_read_only_user(Scope::Database(&database), &format!("{database}_reader")).await;
//! # }
//! ```
//!
//! Everything here panics when it fails: a test cannot go on without its server.
#![deny(missing_docs)]

pub mod bench;
pub mod demo;
pub mod kms;
pub mod mongodb;
pub mod postgres;
mod process;
pub mod store;

/// `text` for a part of a URL: everything but letters, digits, `-`, `_`, `.` is escaped.
pub(crate) fn percent_encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
