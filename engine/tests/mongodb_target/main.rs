//! Restoring into real MongoDB servers.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod collections;
mod copier;
mod failing;
mod indexes;
mod preflight;
mod scripted;
mod values;
