//! Ephemeral database servers and generated databases for tests, the demo and benchmarks.
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
//! Everything here panics when it fails: a test cannot go on without its server.
#![deny(missing_docs)]

pub mod bench;
pub mod demo;
pub mod postgres;
