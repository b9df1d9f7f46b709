//! Deployments that no server here can be made into: they honour snapshot times, lose their
//! history, fail over, are sharded, older or newer. Each is played by a script over a small model of
//! what the deployment holds (`deployment.rs`); the whole pipeline reads it. Case numbers are those
//! of the list in `engine/tests/README.md`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod access;
mod catalog;
mod deployment;
mod failover;
mod hidden;
mod history;
mod keys;
mod kinds;
mod lag;
mod limits;
mod metadata;
mod moment;
mod play;
mod sharded;
#[path = "../support/mod.rs"]
mod support;
