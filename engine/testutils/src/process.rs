//! What every private server needs: a free port, and an end that comes with the end of this process.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Waits for the end of its standard input, which is the end of the process that holds the other
/// end, however it came. Then ends the server, if the process of that id still has the folder in
/// its arguments (ids are given again), and removes the folder. `$1` is the server's process id,
/// `$2` the folder, `$3` the signal.
const WATCHER: &str = r#"
read -r _
is_ours() {
    if [ -r /proc/self/cmdline ]; then
        tr '\0' ' ' <"/proc/$1/cmdline"
    else
        ps -o args= -p "$1"
    fi 2>/dev/null | grep -qF -- "$2"
}
if is_ours "$1" "$2"; then
    kill "$3" "$1" 2>/dev/null
    tries=0
    while kill -0 "$1" 2>/dev/null && [ "$tries" -lt 200 ]; do
        sleep 0.05
        tries=$((tries + 1))
    done
fi
rm -rf -- "$2"
"#;

/// Starts the watcher of the server `pid`, whose arguments name `folder`. It acts when the pipe of
/// its standard input closes, so the returned child is to be kept, or ended before the server is.
pub(crate) fn watch(folder: &Path, pid: u32, signal: &str) -> Child {
    Command::new("sh")
        .args(["-c", WATCHER, "watcher", &pid.to_string()])
        .arg(folder)
        .arg(signal)
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("because every Unix has sh")
}

/// Kills a child of ours and collects it.
pub(crate) fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("because loopback has free ports");
    listener.local_addr().expect("because it is bound").port()
}

/// Ports that were free a moment ago, each of them another.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    let listeners: [TcpListener; N] = std::array::from_fn(|_| {
        TcpListener::bind(("127.0.0.1", 0)).expect("because loopback has free ports")
    });
    listeners.map(|listener| listener.local_addr().expect("because it is bound").port())
}

/// What the server of `folder` has printed so far.
pub(crate) fn read_log(folder: &Path) -> String {
    let bytes = std::fs::read(folder.join("log")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
