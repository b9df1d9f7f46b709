//! Restoring into real PostgreSQL servers.

mod checks;
mod copier;
mod creating;
mod large_objects;
mod loading;
mod preflight;
mod privileges;
mod role_names;
mod whole;
