//! Which server is there, and how it is told what a test wants of it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::{Flavour, Options};

/// The name of mongod's replica set, which SecantusDB cannot be told.
pub(super) const REPLICA_SET: &str = "dbsnap";

/// The server program.
#[derive(Clone, Debug)]
pub(super) struct Installation {
    pub program: PathBuf,
    pub flavour: Flavour,
}

impl Installation {
    /// mongod in `PATH`; else SecantusDB, in `PATH` or where `cargo xtask test` installs it.
    pub fn find() -> Self {
        static FOUND: OnceLock<Installation> = OnceLock::new();
        FOUND.get_or_init(Self::search).clone()
    }

    fn search() -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let tools = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/dbsnap/tools/bin"));
        let folders: Vec<PathBuf> = std::env::split_paths(&path).chain(tools).collect();
        let programs = [("mongod", Flavour::Mongod), ("secantusd-rs", Flavour::SecantusDb)];
        programs
            .into_iter()
            .find_map(|(name, flavour)| {
                let program = folders.iter().map(|folder| folder.join(name)).find(|file| file.is_file())?;
                Some(Self { program, flavour })
            })
            .unwrap_or_else(|| {
                panic!(
                    "no MongoDB server is installed: no folder in PATH has `mongod`, and `secantusd-rs` is \
                     neither there nor in ~/.cache/dbsnap/tools/bin. `cargo xtask test` installs the latter"
                )
            })
    }

    /// The command that serves `folder` on `port`; SecantusDB takes 0 and says which port it got.
    pub fn command(&self, folder: &Path, port: u16, options: &Options) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(folder);
        match self.flavour {
            Flavour::Mongod => mongod(&mut command, folder, options),
            Flavour::SecantusDb => secantus(&mut command, folder, options),
        }
        command.args(["--port", &port.to_string()]);
        command
    }
}

fn secantus(command: &mut Command, folder: &Path, options: &Options) {
    // An empty configuration, so that none of the user's is read.
    let configuration = folder.join("secantusd.toml");
    fs::write(&configuration, "").expect("because the folder is writable");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SECANTUS_")) {
        command.env_remove(name);
    }
    command.arg("--config").arg(configuration).arg("--storage-path").arg(folder.join("data"));
    command.args(["--host", "127.0.0.1", "--cache-size", "256M", "--log-file-max", "16MB"]);
    let flags = [
        (options.auth, "--auth"),
        (options.standalone, "--standalone"),
        (options.durable, "--sync-on-commit"),
        (options.fail_points, "--enable-test-commands"),
    ];
    command.args(flags.iter().filter(|(is_wanted, _)| *is_wanted).map(|(_, flag)| flag));
    if let Some(entries) = options.oplog_max_entries {
        command.args(["--oplog-max-entries", &entries.to_string()]);
    }
    if options.tls {
        let [certificate, key] = [certificate(folder), folder.join("key.pem")];
        command.arg("--tls-cert-file").arg(certificate).arg("--tls-key-file").arg(key);
    }
}

fn mongod(command: &mut Command, folder: &Path, options: &Options) {
    let data = folder.join("data");
    fs::create_dir_all(&data).expect("because the folder is writable");
    command.arg("--dbpath").arg(data);
    command.args(["--bind_ip", "127.0.0.1", "--nounixsocket", "--wiredTigerCacheSizeGB", "0.25"]);
    command.args(["--setParameter", "diagnosticDataCollectionEnabled=false"]);
    if options.auth {
        command.arg("--auth");
    }
    if !options.standalone {
        command.args(["--replSet", REPLICA_SET]);
        // Members authenticate to each other, even where there is one.
        if options.auth {
            let key = folder.join("keyfile");
            fs::write(&key, "UmVwbGljYSBzZXQgb2Ygb25l\n").expect("because the folder is writable");
            fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("because it is ours");
            command.arg("--keyFile").arg(key);
        }
        // In megabytes. It cannot be made smaller, and does not count entries.
        if let Some(entries) = options.oplog_max_entries {
            command.args(["--oplogSize", &(entries / 1_000).clamp(1, 2_000).to_string()]);
        }
    }
    if options.fail_points {
        command.args(["--setParameter", "enableTestCommands=1"]);
    }
    if options.tls {
        let both = folder.join("both.pem");
        let read = |file: PathBuf| fs::read_to_string(file).expect("because openssl wrote it");
        let text = read(certificate(folder)) + &read(folder.join("key.pem"));
        fs::write(&both, text).expect("because the folder is writable");
        command.args(["--tlsMode", "requireTLS", "--tlsAllowConnectionsWithoutCertificates"]);
        command.arg("--tlsCertificateKeyFile").arg(both).arg("--tlsCAFile").arg(certificate(folder));
    }
}

/// Where the certificate of the server in `folder` is.
pub(super) fn certificate(folder: &Path) -> PathBuf {
    folder.join("certificate.pem")
}

/// Makes a certificate for 127.0.0.1 and localhost that signs itself, and its key.
///
/// It says that it is no authority: rustls takes none for a server's own.
pub(super) fn make_certificate(folder: &Path) {
    let mut openssl = Command::new("openssl");
    openssl.args("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost".split(' '));
    openssl.args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]);
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    openssl.args([OsStr::new("-keyout"), folder.join("key.pem").as_os_str()]);
    openssl.args([OsStr::new("-out"), certificate(folder).as_os_str()]);
    let output = openssl.output().expect("because a test of TLS needs the program `openssl`");
    assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
}
