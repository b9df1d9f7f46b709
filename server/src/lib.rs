//! The `dbsnap` binary's parts: HTTP, accounts, metadata and jobs around the engine.
//!
//! A request goes from [`router`] through `api` (or the pages) to [`service`], which does what the
//! product does in its own words, with [`meta`] to remember and [`jobs`] to do what takes long.

pub mod api;
pub mod app;
pub mod audit;
pub mod auth;
pub mod config;
pub mod error;
pub mod events;
pub mod ids;
pub mod jobs;
pub mod live_readings;
pub mod meta;
pub mod metrics;
pub mod operate;
pub mod private;
pub mod proxies;
pub mod repositories;
pub mod router;
pub mod routes;
pub mod routing;
pub mod schedule;
pub mod security;
pub mod serve;
pub mod server_key;
pub mod service;
pub mod view;
