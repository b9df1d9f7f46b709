//! A private MongoDB server on a loopback port.
//!
//! `mongod` where `PATH` has it, else [SecantusDB](https://github.com/jdrumgoole/SecantusDB), which
//! speaks the same protocol and is in a public registry. What the latter does not do is for
//! tests to know: [`Server::flavour`].

mod access;
mod content;
mod install;
mod process;
pub mod script;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

pub use access::Scope;
use install::Installation;
use process::Running;

/// The user with every right, where authentication is on.
pub const ADMIN: &str = "dbsnap_admin";

/// What to start.
#[derive(Clone, Debug)]
pub struct Options {
    /// Nobody gets in without a user; [`ADMIN`] exists.
    pub auth: bool,
    /// No replica set, so no change streams and no snapshots.
    pub standalone: bool,
    /// The oplog forgets what is older than this many entries. mongod counts megabytes instead
    /// and gets one for each thousand.
    pub oplog_max_entries: Option<u32>,
    /// What was acknowledged survives [`Server::restart`], which kills. mongod always does that for
    /// writes with `j: true`.
    pub durable: bool,
    /// TLS only, with a certificate of its own that the URLs name.
    pub tls: bool,
    /// `configureFailPoint` works. Fail points hold for everybody: not for a shared server.
    pub fail_points: bool,
}

impl Default for Options {
    /// A replica set of one member that asks who is there: what customers have.
    fn default() -> Self {
        Self {
            auth: true,
            standalone: false,
            oplog_max_entries: None,
            durable: false,
            tls: false,
            fail_points: false,
        }
    }
}

/// Whose program the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// MongoDB's own.
    Mongod,
    /// SecantusDB. Among other things it accepts `atClusterTime` without honouring it, and lists no
    /// privileges in `connectionStatus`.
    SecantusDb,
}

/// A MongoDB server of this process's own. Dropping it ends the server and removes its folder;
/// so does the death of this process, however it comes.
#[derive(Debug)]
pub struct Server {
    running: Running,
    installation: Installation,
    options: Options,
    password: String,
    names_given: AtomicU32,
}

impl Server {
    /// Starts a server. With `auth` it has one user, [`ADMIN`].
    ///
    /// # Panics
    /// When no server is installed or it does not start; the message says what was tried.
    pub fn start(options: Options) -> Self {
        let installation = Installation::find();
        let folder = tempfile::Builder::new()
            .prefix("dbsnap-mongo-")
            .tempdir()
            .expect("because tests need a writable temporary folder");
        if options.tls {
            install::make_certificate(folder.path());
        }
        let running = Running::start(&installation, folder, &options);
        let server = Self {
            running,
            installation,
            options,
            password: format!("{ADMIN}-password"),
            names_given: AtomicU32::new(0),
        };
        server.prepare();
        server
    }

    /// The server that the tests of one process share, with the default options. Use
    /// [`Server::fresh_database`] in it, and a user of [`Server::create_read_only_user`] where a
    /// customer would use one. Statics are never dropped: the watcher ends it when this process goes.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(Options::default()))
    }

    /// Whose program it is, for tests of what differs.
    pub fn flavour(&self) -> Flavour {
        self.installation.flavour
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.running.port
    }

    /// The server's process id.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// The folder with the server's data and log.
    pub fn folder(&self) -> &Path {
        self.running.folder()
    }

    /// What the server has printed since it was started last.
    pub fn log(&self) -> String {
        crate::process::read_log(self.folder())
    }

    /// The certificate (PEM) that TLS clients must trust.
    pub fn certificate(&self) -> PathBuf {
        install::certificate(self.folder())
    }

    /// A connection URL. Users are those of the database `admin`, as everywhere here.
    pub fn url(&self, user: &str, password: &str, database: &str) -> String {
        let part = |text: &str| crate::percent_encode(text);
        self.url_with(&format!("{}:{}@", part(user), part(password)), database, "?authSource=admin")
    }

    /// A connection URL without a user.
    pub fn anonymous_url(&self, database: &str) -> String {
        self.url_with("", database, "")
    }

    /// The URL of [`ADMIN`], or of anybody where authentication is off.
    pub fn admin_url(&self) -> String {
        if self.options.auth { self.url(ADMIN, &self.password, "admin") } else { self.anonymous_url("admin") }
    }

    fn url_with(&self, credentials: &str, database: &str, query: &str) -> String {
        let database = crate::percent_encode(database);
        let mut url = format!("mongodb://{credentials}127.0.0.1:{}/{database}{query}", self.port());
        if self.options.tls {
            let certificate = self.certificate();
            let path = certificate.to_str().expect("because temporary folders have plain names");
            url += if query.is_empty() { "?" } else { "&" };
            url += &format!("tls=true&tlsCAFile={}", crate::percent_encode(path));
        }
        url
    }

    /// The name, beginning with `prefix`, of a database that nobody uses. MongoDB makes databases
    /// with their first collection.
    pub fn fresh_database(&self, prefix: &str) -> String {
        format!("{prefix}_{}", self.names_given.fetch_add(1, Ordering::Relaxed))
    }

    /// Kills the server (as `kill -9` does) and starts it again over its data, on its port.
    ///
    /// # Panics
    /// When it does not come up, or was stopped.
    pub fn restart(&mut self) {
        self.running.restart(&self.installation, &self.options);
        self.await_primary();
    }

    /// Ends the server and removes its folder; returns when both are gone.
    pub fn stop(&mut self) {
        self.running.stop();
    }
}
