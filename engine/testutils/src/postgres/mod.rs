//! A private PostgreSQL server on a loopback port.

mod install;
mod process;
mod sql;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use install::{Installation, Template};
use process::Running;
pub use sql::{quote_identifier, quote_literal};

/// The superuser every cluster is made with.
pub const SUPERUSER: &str = "dbsnap_test";

/// Settings that trade safety for speed. A cluster lives for one run, so nothing has to survive a
/// power cut. A later setting of the same name wins.
const FAST: &[(&str, &str)] = &[
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("synchronous_commit", "off"),
    ("max_connections", "200"),
    ("max_wal_size", "4GB"),
    ("shared_buffers", "128MB"),
];

/// A PostgreSQL server of this process's own. Dropping it ends the server and removes its folder;
/// so does the death of this process, however it comes.
#[derive(Debug)]
pub struct Cluster {
    running: Running,
    password: String,
    binaries: PathBuf,
    version: String,
    databases_made: AtomicU32,
}

impl Cluster {
    /// Starts a server with the settings that suit tests.
    ///
    /// # Panics
    /// When PostgreSQL is not installed or does not start; the message says what was tried.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with further `settings` (name, value), which win over the defaults.
    ///
    /// # Panics
    /// As [`Cluster::start`].
    pub fn start_with(settings: &[(&str, &str)]) -> Self {
        let installation = Installation::find();
        let template = Template::of(&installation);
        let settings: Vec<(&str, &str)> = FAST.iter().chain(settings).copied().collect();
        let running = Running::start(&installation, &template, &settings);
        Self {
            running,
            password: template.password,
            binaries: installation.binaries,
            version: installation.version,
            databases_made: AtomicU32::new(0),
        }
    }

    /// The cluster that the tests of one process share; use [`Cluster::fresh_database`] in it.
    /// Statics are never dropped: the watcher ends it when this process goes.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.running.port
    }

    /// The superuser's password.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The folder with `pg_dump`, `pg_restore`, `pgbench` of the server's version.
    pub fn binaries(&self) -> &Path {
        &self.binaries
    }

    /// As `postgres --version` prints it, the number only ("15.18").
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The major version ("15").
    pub fn major(&self) -> u32 {
        let digits = self.version.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        digits.parse().expect("because postgres --version begins with its major version")
    }

    /// The postmaster's process id.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// The folder with the server's data, log and socket.
    pub fn folder(&self) -> &Path {
        self.running.folder()
    }

    /// What the server has logged so far.
    pub fn log(&self) -> String {
        self.running.log()
    }

    /// A connection URL over TCP.
    pub fn url(&self, user: &str, password: &str, database: &str) -> String {
        let part = |text: &str| crate::percent_encode(text);
        format!("postgresql://{}:{}@127.0.0.1:{}/{}", part(user), part(password), self.port(), part(database))
    }

    /// The superuser's connection URL.
    pub fn superuser_url(&self, database: &str) -> String {
        self.url(SUPERUSER, &self.password, database)
    }

    /// Ends the server and removes its folder; returns when both are gone.
    pub fn stop(&mut self) {
        self.running.stop();
    }

    /// A name that no other call of this process got, beginning with `prefix`.
    fn unique_name(&self, prefix: &str) -> String {
        format!("{prefix}_{}", self.databases_made.fetch_add(1, Ordering::Relaxed))
    }
}
