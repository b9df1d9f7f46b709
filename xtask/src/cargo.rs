//! Calling the cargo that called us.

use std::env;
use std::path::PathBuf;
use std::process::Command;

/// The workspace's folder.
pub fn workspace() -> PathBuf {
    let xtask = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().expect("because xtask is a folder of the workspace").to_owned()
}

/// Where tools that are no part of the toolchain are installed, shared by all checkouts.
pub fn tools() -> Result<PathBuf, String> {
    let home = env::var_os("HOME").ok_or("HOME is not set, so there is no place for tools")?;
    Ok(PathBuf::from(home).join(".cache/dbsnap/tools"))
}

/// A cargo command in the workspace.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments);
    outside(&mut command);
    command
}

/// Makes `command` run in the workspace as if the user had typed it there.
///
/// `cargo run` describes xtask to xtask in variables. Build scripts that watch them (ring's does)
/// would be built anew each time they come and go.
pub fn outside(command: &mut Command) -> &mut Command {
    const OURS: [&str; 5] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| OURS.iter().any(|ours| name.starts_with(ours))) {
            command.env_remove(&name);
        }
    }
    command.current_dir(workspace())
}
