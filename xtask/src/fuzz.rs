//! A short run of every fuzz target: enough to see that they build and that the decoders stand a
//! few hundred thousand inputs. Finding more is a long run's job.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::cargo::{outside, workspace};
use crate::tally::{Outcome, Tally};
use crate::{group, needs, suite};

const SECONDS_EACH: u32 = 5;
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// Runs the targets in `fuzz/fuzz_targets`, each as a check of its own.
pub fn run(tally: &mut Tally) {
    let targets = targets();
    if targets.is_empty() {
        return suite::check(tally, "fuzz", || Outcome::Skipped("there is no fuzz target".to_owned()));
    }
    let tool = match needs::cargo_fuzz() {
        Ok(tool) => tool,
        Err(why) => return suite::check(tally, "fuzz", || Outcome::Failed(why)),
    };
    for target in targets {
        suite::check(tally, &format!("fuzz {target}"), || smoke(&tool, &target));
    }
}

/// With the compiler that builds the rest: coverage needs no other one, only leave to be asked for.
/// A sanitizer would; code without `unsafe` has little use for one.
fn smoke(tool: &Path, target: &str) -> Outcome {
    let mut fuzz = Command::new(tool);
    outside(&mut fuzz).args(["run", "--sanitizer", "none", target, "--"]);
    fuzz.arg(format!("-max_total_time={SECONDS_EACH}")).env("RUSTC_BOOTSTRAP", "1");
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
