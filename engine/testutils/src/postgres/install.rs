//! The installed PostgreSQL and one initialised data folder of it, copied for every cluster.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::SUPERUSER;

/// Bumped when the way a template is made changes, so that an older one is not taken.
const TEMPLATE_FORMAT: u32 = 1;

/// Where PostgreSQL is and as whom it runs.
#[derive(Clone, Debug)]
pub(super) struct Installation {
    pub binaries: PathBuf,
    pub version: String,
    pub account: Account,
}

/// The account the server runs as. PostgreSQL refuses to run as root.
#[derive(Clone, Copy, Debug)]
pub(super) struct Account {
    uid: u32,
    gid: u32,
    /// This process is root, so children have to change to the account.
    switch: bool,
}

impl Account {
    fn find() -> Self {
        let own = id(&["-u"]).expect("because `id -u` works on every Unix");
        if own != 0 {
            let gid = id(&["-g"]).expect("because `id -g` works on every Unix");
            return Self { uid: own, gid, switch: false };
        }
        match (id(&["-u", "postgres"]), id(&["-g", "postgres"])) {
            (Some(uid), Some(gid)) => Self { uid, gid, switch: true },
            _ => panic!(
                "PostgreSQL does not run as root, and there is no account `postgres` to run it as: \
                 install the package `postgresql`, or run the tests as another user"
            ),
        }
    }

    /// Makes `command` run as the account.
    pub fn run<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        if self.switch {
            command.gid(self.gid).uid(self.uid);
        }
        command
    }

    /// Gives `path` to the account.
    pub fn own(&self, path: &Path) {
        if self.switch {
            chown(path, Some(self.uid), Some(self.gid))
                .unwrap_or_else(|error| panic!("chown {}: {error}", path.display()));
        }
    }
}

fn id(arguments: &[&str]) -> Option<u32> {
    let output = Command::new("id").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    if output.status.success() { text.trim().parse().ok() } else { None }
}

impl Installation {
    /// The one in `PATH`, else the newest of the places packages put it.
    pub fn find() -> Self {
        static FOUND: OnceLock<Installation> = OnceLock::new();
        FOUND.get_or_init(Self::search).clone()
    }

    fn search() -> Self {
        for folder in folders() {
            // A link in PATH leads to the folder that has the rest. The Debian wrappers in /usr/bin
            // have no `postgres` and `initdb` beside them.
            let Ok(postgres) = folder.join("postgres").canonicalize() else { continue };
            let binaries = postgres.parent().unwrap_or(&folder).to_owned();
            let is_complete =
                ["initdb", "pg_dump", "pg_restore"].iter().all(|name| binaries.join(name).is_file());
            if is_complete && let Some(version) = version(&binaries) {
                return Self { binaries, version, account: Account::find() };
            }
        }
        panic!(
            "PostgreSQL is not installed: no folder in PATH and no /usr/lib/postgresql/*/bin has `postgres`, \
             `initdb`, `pg_dump` and `pg_restore`. On Debian and Ubuntu: apt-get install postgresql"
        );
    }
}

/// Candidates, best first.
fn folders() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let mut packaged: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    packaged.sort_unstable_by(|a, b| b.cmp(a));
    folders.extend(packaged.into_iter().map(|(_, folder)| folder));
    folders
}

/// "15.18" of "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)".
fn version(folder: &Path) -> Option<String> {
    let output = Command::new(folder.join("postgres")).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.split_whitespace().nth(2).map(str::to_owned)
}

/// An initialised data folder that is only ever copied.
pub(super) struct Template {
    pub folder: PathBuf,
    pub password: String,
}

impl Template {
    /// The template of this version and account, made at its first use on this machine.
    ///
    /// Safe from many processes at once: each makes its own and renames it into place; renaming
    /// onto a folder that holds files fails, and the loser takes the winner's.
    pub fn of(installation: &Installation) -> Self {
        static MADE: OnceLock<PathBuf> = OnceLock::new();
        let folder = MADE.get_or_init(|| {
            let name = format!(
                "dbsnap-postgres-template-{TEMPLATE_FORMAT}-{}-{}",
                installation.version, installation.account.uid
            );
            let place = std::env::temp_dir().join(name);
            if !place.join("password").is_file() {
                make_template(installation, &place);
            }
            place
        });
        let password = fs::read_to_string(folder.join("password"))
            .unwrap_or_else(|error| panic!("reading the password of {}: {error}", folder.display()));
        Self { folder: folder.join("data"), password }
    }
}

fn make_template(installation: &Installation, place: &Path) {
    let own = tempfile::Builder::new()
        .prefix("dbsnap-postgres-initdb-")
        .tempdir()
        .expect("because tests need a writable temporary folder");
    installation.account.own(own.path());
    let password_file = own.path().join("password");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&password_file)
        .expect("because the folder is new");
    file.write_all(random_hex().as_bytes()).expect("because the folder is writable");
    drop(file);
    installation.account.own(&password_file);

    let mut initdb = Command::new(installation.binaries.join("initdb"));
    initdb
        .args(["--no-sync", "--no-instructions", "--encoding=UTF8", "--locale=C.UTF-8"])
        .args(["--auth=scram-sha-256", "--username", SUPERUSER])
        .arg("--pwfile")
        .arg(&password_file)
        .arg("--pgdata")
        .arg(own.path().join("data"))
        .current_dir(own.path())
        .stdin(Stdio::null());
    let output = installation.account.run(&mut initdb).output().expect("because initdb was found");
    assert!(
        output.status.success(),
        "initdb failed ({}): {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let made = own.keep();
    if let Err(error) = fs::rename(&made, place) {
        let taken = place.join("password").is_file();
        let removed = fs::remove_dir_all(&made);
        assert!(taken, "renaming {} to {}: {error}", made.display(), place.display());
        removed.expect("because this process made the folder");
    }
}

/// 32 hexadecimal digits that nobody can guess, from the standard library's seeding of hash maps.
fn random_hex() -> String {
    format!("{:016x}{:016x}", RandomState::new().hash_one(0), RandomState::new().hash_one(1))
}
