//! Commands in a process group of their own, which ends as a whole: with a time limit, and with us.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// The group that runs now, 0 when none does.
static CURRENT: AtomicU32 = AtomicU32::new(0);

/// From now on an interrupted xtask ends the group that it started, too.
pub fn end_with_us() -> Result<(), String> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(|e| format!("signals: {e}"))?;
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            end(CURRENT.load(Ordering::SeqCst));
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

/// Runs `command`, showing what it prints, and gives each line to `line`.
///
/// Standard output and standard error come through one pipe, so that they keep their order.
pub fn run(command: &mut Command, limit: Duration, mut line: impl FnMut(&str)) -> Result<ExitStatus, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", command_name(command));
    let (reader, writer) = std::io::pipe().map_err(failed)?;
    let errors = writer.try_clone().map_err(failed)?;
    command.process_group(0).stdin(Stdio::null()).stdout(writer).stderr(errors);
    let mut child = command.spawn().map_err(|error| format!("{}: {error}", command_name(command)))?;
    // The command holds write ends of the pipe: it would never close while they are open here.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    CURRENT.store(child.id(), Ordering::SeqCst);

    let (sender, lines) = channel();
    thread::spawn(move || {
        for bytes in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&bytes).into_owned()).is_err() {
                break;
            }
        }
    });
    let deadline = Instant::now() + limit;
    let mut late = false;
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(text) => {
                println!("{text}");
                line(&text);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                late = true;
                end(child.id());
                // Waited for below, whatever became of the others.
                let _ = child.kill();
                break;
            }
        }
    }
    let status = child.wait().map_err(|error| format!("{}: {error}", command_name(command)))?;
    CURRENT.store(0, Ordering::SeqCst);
    if late { Err(format!("not done in {} minutes", limit.as_secs() / 60)) } else { Ok(status) }
}

/// The last words of the command, which name it well enough.
fn command_name(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let first = command.get_args().next().unwrap_or_default().to_string_lossy();
    format!("{program} {first}")
}

fn end(group: u32) {
    if group != 0 {
        // By the shell: small systems have no program `kill`.
        let _ = Command::new("sh").args(["-c", &format!("kill -KILL -{group}")]).status();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_arrive_in_order_and_the_status_with_them() {
        let mut lines = Vec::new();
        let script = "echo one; echo two >&2; echo three; exit 3";
        let status = run(Command::new("sh").args(["-c", script]), Duration::from_secs(60), |line| {
            lines.push(line.to_owned());
        });
        assert_eq!(status.unwrap().code(), Some(3));
        assert_eq!(lines, ["one", "two", "three"]);
    }

    #[test]
    fn a_command_that_hangs_is_ended_with_its_children() {
        let mut pid = String::new();
        let script = "sleep 1000 & echo $!; wait";
        let done = run(Command::new("sh").args(["-c", script]), Duration::from_millis(500), |line| {
            pid = line.to_owned();
        });
        assert!(done.unwrap_err().starts_with("not done in"));
        // The orphan is somebody else's to collect; a zombie has ended.
        let ended = || match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(stat) => stat.contains(") Z "),
            Err(_) => true,
        };
        let since = Instant::now();
        while !ended() {
            assert!(since.elapsed() < Duration::from_secs(20), "process {pid} still runs");
            thread::sleep(Duration::from_millis(20));
        }
    }
}
