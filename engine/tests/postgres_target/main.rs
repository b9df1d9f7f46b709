//! Restoring into real PostgreSQL servers.

mod copier;
mod creating;
mod loading;
mod preflight;
mod whole;
