//! A short run of every fuzz target: enough to see that they build and that the decoders stand a
//! few hundred thousand inputs. Finding more is a long run's job.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::cargo::{outside, workspace};
use crate::tally::{Outcome, Tally};
use crate::{group, needs, suite};

const SECONDS_EACH: u32 = 10;
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// Runs the targets in `fuzz/fuzz_targets`, each as a check of its own.
pub fn run(tally: &mut Tally) {
    let targets = targets();
    let skipped = |reason: &str| Outcome::Skipped(reason.to_owned());
    if targets.is_empty() {
        suite::check(tally, "fuzz", || skipped("there is no fuzz target"));
    } else if !needs::succeeds(cargo_fuzz().arg("--version")) {
        suite::check(tally, "fuzz", || skipped("a nightly toolchain with cargo-fuzz is not installed"));
    } else {
        for target in targets {
            suite::check(tally, &format!("fuzz {target}"), || smoke(&target));
        }
    }
}

/// cargo-fuzz needs a nightly compiler, whatever compiles the rest.
fn cargo_fuzz() -> Command {
    let mut command = Command::new("rustup");
    outside(&mut command).args(["run", "nightly", "cargo", "fuzz"]);
    command.env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN").env_remove("RUSTC");
    command
}

fn smoke(target: &str) -> Outcome {
    let mut fuzz = cargo_fuzz();
    fuzz.args(["run", target, "--"]).arg(format!("-max_total_time={SECONDS_EACH}"));
    match group::run(&mut fuzz, LIMIT, |_| ()) {
        Ok(status) if status.success() => Outcome::Passed,
        Ok(status) => Outcome::Failed(format!("{status}, the input is in fuzz/artifacts")),
        Err(why) => Outcome::Failed(why),
    }
}

fn targets() -> Vec<String> {
    let files = fs::read_dir(workspace().join("fuzz/fuzz_targets")).into_iter().flatten().flatten();
    let names = files.filter_map(|file| file.file_name().into_string().ok());
    let mut names: Vec<String> =
        names.filter_map(|name| name.strip_suffix(".rs").map(str::to_owned)).collect();
    names.sort_unstable();
    names
}
