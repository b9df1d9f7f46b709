//! The JSON API over real HTTP, against a real PostgreSQL and a real MongoDB.

#![expect(clippy::unwrap_used, reason = "a test ends where what it needs is missing")]

mod accounts;
mod audit;
mod backed_up;
mod chosen;
mod connecting;
mod contract;
mod damage;
mod disk_full;
mod example;
mod foreign;
mod harness;
mod in_place;
mod journey;
mod keys;
mod late_runs;
mod live;
mod lost_storage;
mod marks;
mod mongodb;
mod mongodb_in_place;
#[path = "../pages/mongodb_shop.rs"]
mod mongodb_shop;
mod object_storage;
mod process;
mod prune;
mod queue;
mod rekeyed;
mod schedules;
mod schemathesis;
mod secrets;
mod security;
mod server_key;
mod set_clocks;
mod sign_in;
