//! The program as its users run it: the built binary, an empty data folder, a port of its own.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// A running server. Dropping it kills it.
pub struct Server {
    _child: Child,
    _folder: tempfile::TempDir,
    /// `http://127.0.0.1:port`.
    pub base: String,
}

impl Server {
    /// Starts one and waits until it says where it listens.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("because the temporary folder takes files");
        let mut command = Command::new(env!("CARGO_BIN_EXE_dbsnap"));
        // Nothing of the machine's own settings.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("DBSNAP_"))
        {
            command.env_remove(name);
        }
        command.env("DBSNAP_LOG", "warn");
        command.env("DBSNAP_DATA_DIR", folder.path()).env("DBSNAP_LISTEN", "127.0.0.1:0");
        command.stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("because the binary was built");
        let mut lines = BufReader::new(child.stdout.take().expect("because it is piped")).lines();
        let listening = tokio::time::timeout(Duration::from_secs(30), async {
            while let Some(line) = lines.next_line().await.expect("because it is UTF-8") {
                if let Some(at) = line.find("http://") {
                    return line[at..].split_whitespace().next().expect("because it begins there").to_owned();
                }
            }
            panic!("the server ended without listening");
        });
        let base =
            listening.await.expect("because it starts in time").trim_end_matches(['/', '.']).to_owned();
        // Read on, or the pipe fills and the server waits.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { _child: child, _folder: folder, base }
    }
}
