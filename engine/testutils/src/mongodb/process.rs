//! The server's process: started, killed and started again, ended.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::install::Installation;
use super::{Flavour, Options};
use crate::process::{end, free_port, read_log, watch};

/// Another process may take the port between our looking and the server's binding.
const PORT_ATTEMPTS: usize = 10;
const START_LIMIT: Duration = Duration::from_secs(60);
/// The data goes with the server, so there is nothing to wait for.
const STOP: &str = "-KILL";

/// A started server.
#[derive(Debug)]
pub(super) struct Running {
    pub port: u16,
    folder: PathBuf,
    server: Child,
    /// Holds the write end of the watcher's standard input; `None` once stopped.
    watcher: Option<Child>,
}

impl Running {
    pub fn start(installation: &Installation, folder: TempDir, options: &Options) -> Self {
        let mut failure = String::new();
        for _ in 0..PORT_ATTEMPTS {
            let port = if installation.flavour == Flavour::Mongod { free_port() } else { 0 };
            match try_start(installation, folder.path(), port, options) {
                Ok((port, server, watcher)) => {
                    return Self { port, folder: folder.keep(), server, watcher: Some(watcher) };
                }
                Err(log) if log.to_ascii_lowercase().contains("address already in use") => failure = log,
                Err(log) => panic!("{} did not start:\n{log}", installation.program.display()),
            }
        }
        panic!("no free port in {PORT_ATTEMPTS} attempts:\n{failure}");
    }

    pub fn pid(&self) -> u32 {
        self.server.id()
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Kills the server and starts it again over its data, on its port.
    pub fn restart(&mut self, installation: &Installation, options: &Options) {
        let watcher = self.watcher.as_mut().expect("because a stopped server has no data to start with");
        // The watcher would remove the folder, and knows the old process.
        end(watcher);
        end(&mut self.server);
        match try_start(installation, &self.folder, self.port, options) {
            Ok((_, server, watcher)) => (self.server, self.watcher) = (server, Some(watcher)),
            Err(log) => panic!("{} did not start again:\n{log}", installation.program.display()),
        }
    }

    /// Ends the watcher, then the server, and removes the folder. Does nothing the second time.
    pub fn stop(&mut self) {
        let Some(mut watcher) = self.watcher.take() else { return };
        // First the watcher: it must never signal a process id that somebody else got since.
        end(&mut watcher);
        end(&mut self.server);
        // What remains after a failure here is a folder below the temporary one.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Starts the server and waits until it takes connections: its port, itself, its watcher. Else its log.
fn try_start(
    installation: &Installation,
    folder: &Path,
    port: u16,
    options: &Options,
) -> Result<(u16, Child, Child), String> {
    let log = File::create(folder.join("log")).expect("because the folder is ours");
    let errors = log.try_clone().expect("because the file is open");
    let mut command = installation.command(folder, port, options);
    // A group of its own: Ctrl-C in the terminal ends this process first, the watcher the rest.
    command.process_group(0).stdin(Stdio::null()).stdout(log).stderr(errors);
    let mut server = command.spawn().expect("because the server was found");
    let mut watcher = watch(folder, server.id(), STOP);
    match await_port(installation.flavour, &mut server, port, folder) {
        Some(port) => Ok((port, server, watcher)),
        None => {
            end(&mut watcher);
            end(&mut server);
            Err(read_log(folder))
        }
    }
}

/// The server's port as soon as it takes connections; `None` when it ended or takes too long.
fn await_port(flavour: Flavour, server: &mut Child, port: u16, folder: &Path) -> Option<u16> {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        let listening = listens_on(flavour, port, &read_log(folder));
        let ended = server.try_wait().expect("because the child is ours");
        if listening.is_some() || ended.is_some() || Instant::now() > deadline {
            return listening;
        }
        sleep(Duration::from_millis(5));
    }
}

/// The port, once the log says that connections are taken.
fn listens_on(flavour: Flavour, port: u16, log: &str) -> Option<u16> {
    match flavour {
        Flavour::Mongod => log.contains("Waiting for connections").then_some(port),
        Flavour::SecantusDb => {
            let (line, _) = log.split_once("listening on ")?.1.split_once('\n')?;
            line.trim().parse::<SocketAddr>().ok().map(|address| address.port())
        }
    }
}
