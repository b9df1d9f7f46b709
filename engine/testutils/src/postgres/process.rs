//! The server's process: started with a copy of the template, and ended.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::install::{Installation, Template};
use crate::process::{end, free_port, read_log, watch};

/// Another process may take the port between our looking and the server's binding.
const PORT_ATTEMPTS: usize = 10;
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// The length of `sun_path` on Linux; a longer socket path cannot be bound.
const SOCKET_PATH_LIMIT: usize = 107;

/// Immediate shutdown: the data is removed anyway. The postmaster still frees its shared memory.
const STOP: &str = "-QUIT";

/// A started server.
#[derive(Debug)]
pub(super) struct Running {
    pub port: u16,
    folder: PathBuf,
    postmaster: Child,
    /// Holds the write end of the watcher's standard input; `None` once stopped.
    watcher: Option<Child>,
}

impl Running {
    pub fn start(installation: &Installation, template: &Template, settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("dbsnap-pg-")
            .tempdir()
            .expect("because tests need a writable temporary folder");
        installation.account.own(folder.path());
        let copied =
            Command::new("cp").arg("-a").arg(&template.folder).arg(folder.path().join("data")).status();
        assert!(copied.as_ref().is_ok_and(|status| status.success()), "copying the template: {copied:?}");

        let mut failure = String::new();
        for _ in 0..PORT_ATTEMPTS {
            let port = free_port();
            match Self::try_start(installation, folder.path(), port, settings) {
                Ok((postmaster, watcher)) => {
                    return Self { port, folder: folder.keep(), postmaster, watcher: Some(watcher) };
                }
                Err(log) if log.contains("could not bind") || log.contains("could not create any TCP/IP") => {
                    failure = log;
                }
                Err(log) => panic!("PostgreSQL did not start:\n{log}"),
            }
        }
        panic!("PostgreSQL found no free port in {PORT_ATTEMPTS} attempts:\n{failure}");
    }

    /// Starts the server on `port` and waits until it takes connections; else its log.
    fn try_start(
        installation: &Installation,
        folder: &Path,
        port: u16,
        settings: &[(&str, &str)],
    ) -> Result<(Child, Child), String> {
        let log = File::create(folder.join("log")).expect("because the folder is new");
        let errors = log.try_clone().expect("because the file is open");
        let mut command = Command::new(installation.binaries.join("postgres"));
        command.arg("-D").arg(folder.join("data"));
        for (name, value) in place_settings(folder, port).iter().map(|(name, value)| (*name, value.as_str()))
        {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        for (name, value) in settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        // A group of its own: Ctrl-C in the terminal ends this process first, the watcher the rest.
        command.current_dir(folder).process_group(0).stdin(Stdio::null()).stdout(log).stderr(errors);
        let mut postmaster =
            installation.account.run(&mut command).spawn().expect("because postgres was found");
        let mut watcher = watch(folder, postmaster.id(), STOP);
        let deadline = Instant::now() + START_LIMIT;
        while !is_ready(folder, postmaster.id()) {
            let ended = postmaster.try_wait().expect("because the child is ours");
            if ended.is_some() || Instant::now() > deadline {
                end(&mut watcher);
                end(&mut postmaster);
                return Err(read_log(folder));
            }
            sleep(Duration::from_millis(10));
        }
        Ok((postmaster, watcher))
    }

    pub fn pid(&self) -> u32 {
        self.postmaster.id()
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn log(&self) -> String {
        read_log(&self.folder)
    }

    /// Ends the server, then its watcher, and removes the folder. Does nothing the second time.
    pub fn stop(&mut self) {
        let Some(mut watcher) = self.watcher.take() else { return };
        // First the watcher: it must never signal a process id that somebody else got since.
        end(&mut watcher);
        signal(STOP, self.postmaster.id());
        let deadline = Instant::now() + STOP_LIMIT;
        while self.postmaster.try_wait().expect("because the child is ours").is_none() {
            if Instant::now() > deadline {
                end(&mut self.postmaster);
                break;
            }
            sleep(Duration::from_millis(5));
        }
        // What remains after a failure here is a folder below the temporary one.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The settings that tie a server to its folder and port.
fn place_settings(folder: &Path, port: u16) -> Vec<(&'static str, String)> {
    let socket = folder.join(format!(".s.PGSQL.{port}.lock"));
    let folder = folder.to_str().expect("because temporary folders have plain names");
    let sockets = if socket.as_os_str().len() <= SOCKET_PATH_LIMIT { folder } else { "" };
    vec![
        ("listen_addresses", "127.0.0.1".to_owned()),
        ("port", port.to_string()),
        ("unix_socket_directories", sockets.to_owned()),
    ]
}

/// Whether the folder's server is `pid` and takes connections. Asked of the lock file and not of
/// the port, where another server might answer.
fn is_ready(folder: &Path, pid: u32) -> bool {
    let Ok(text) = fs::read_to_string(folder.join("data/postmaster.pid")) else { return false };
    let mut lines = text.lines();
    lines.next() == Some(&pid.to_string()) && lines.nth(6).is_some_and(|status| status.trim() == "ready")
}

/// By the shell, which has `kill` in it: small systems have no program of that name.
fn signal(name: &str, pid: u32) {
    let script = format!("kill {name} {pid}");
    let sent = Command::new("sh").args(["-c", &script]).stderr(Stdio::null()).status();
    assert!(sent.is_ok(), "running sh: {sent:?}");
}
