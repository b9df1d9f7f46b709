//! From the engine's answers to the pages' view models; no requests, no storage.

pub mod connection;
pub mod diff;
pub mod document;
pub mod history;
pub mod job;
pub mod restore;
pub mod typed_url;
