//! `cargo xtask test`: everything CI runs, counted.

use std::env;
use std::fs;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use crate::cargo::{cargo, workspace};
use crate::output::TestOutput;
use crate::tally::{Allowed, Outcome, Skip, Tally};
use crate::{checks, fuzz, group, needs};

/// A cold build of everything and its tests take a third of this on two cores.
const TESTS_LIMIT: Duration = Duration::from_secs(55 * 60);

/// How much to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    All,
    /// Without browser, network and the slow parts.
    Quick,
}

/// Runs it; the exit code says whether all is well.
pub fn run(extent: Extent) -> Result<ExitCode, String> {
    group::end_with_us()?;
    let started = Instant::now();
    let mut tally = Tally::default();
    needs::wants_seaweedfs()?;
    needs::components()?;
    needs::postgresql()?;
    if extent == Extent::All {
        needs::openssl()?;
        needs::browser()?;
        needs::mongodb()?;
        needs::object_stores()?;
        needs::api_programs()?;
    }
    tally.time("what is needed", started.elapsed(), String::new());

    check(&mut tally, "format", checks::format);
    check(&mut tally, "lints", checks::lints);
    check(&mut tally, "purity", checks::purity);
    match extent {
        Extent::Quick => {
            tests(&mut tally, "unit tests", &["--workspace", "--lib", "--bins"]);
            tests(&mut tally, "format and tidy tests", &["-p", "repo-format", "-p", "xtask", "--test", "*"]);
            let skipped = [
                "documentation",
                "purity-wasm",
                "dependencies",
                "advisories",
                "integration",
                "doctests",
                "demo",
                "fuzz",
            ];
            tally.skip(skipped.iter().map(|name| Skip::new(name, "--quick")).collect());
        }
        Extent::All => {
            check(&mut tally, "purity-wasm", checks::wasm);
            check(&mut tally, "documentation", checks::documentation);
            check(&mut tally, "dependencies", checks::dependencies);
            check(&mut tally, "advisories", checks::advisories);
            check(&mut tally, "test build", test_build);
            tests(&mut tally, "unit tests", &["--workspace", "--lib", "--bins"]);
            tests(&mut tally, "integration tests", &["--workspace", "--test", "*"]);
            tests(&mut tally, "doctests", &["--workspace", "--doc"]);
            check(&mut tally, "demo", demo);
            fuzz::run(&mut tally);
        }
    }
    tally.time("all", started.elapsed(), String::new());

    if env::var("CI").is_ok_and(|ci| ci == "true") {
        tally.permit(&allowed_skips()?);
    }
    println!("{}", tally.closing());
    Ok(if tally.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn allowed_skips() -> Result<Allowed, String> {
    let file = workspace().join(".ci/allowed-skips");
    let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(Allowed::parse(&text))
}

/// Runs one check and counts it.
pub fn check(tally: &mut Tally, name: &str, run: impl FnOnce() -> Outcome) {
    println!("\n== {name}");
    let started = Instant::now();
    let outcome = run();
    if let Outcome::Failed(why) | Outcome::Skipped(why) = &outcome {
        println!("{why}");
    }
    tally.check(name, started.elapsed(), outcome);
}

/// Apart from the tests, so that their times are theirs.
fn test_build() -> Outcome {
    let mut build = cargo(&["test", "--locked", "--workspace", "--no-run"]);
    match group::run(&mut build, TESTS_LIMIT, |_| ()) {
        Ok(status) if status.success() => Outcome::Passed,
        Ok(status) => Outcome::Failed(format!("{status}, see above")),
        Err(why) => Outcome::Failed(why),
    }
}

/// The other command does what it says, on the machine that runs this one.
fn demo() -> Outcome {
    let mut ready = false;
    // Not this process's own file: building the tests has replaced it.
    let arguments =
        ["run", "--quiet", "--locked", "-p", "xtask", "--", "demo", "--port", "0", "--exit-when-ready"];
    let mut demo = cargo(&arguments);
    match group::run(&mut demo, TESTS_LIMIT, |line| ready |= line.starts_with("ready http://")) {
        Ok(status) if status.success() && ready => Outcome::Passed,
        Ok(status) => Outcome::Failed(format!("{status}, see above")),
        Err(why) => Outcome::Failed(why),
    }
}

/// Runs test programs and counts their tests.
fn tests(tally: &mut Tally, name: &str, selection: &[&str]) {
    println!("\n== {name}");
    let started = Instant::now();
    let mut command: Command = cargo(&["test", "--locked", "--no-fail-fast"]);
    command.args(selection);
    let mut output = TestOutput::default();
    let status = group::run(&mut command, TESTS_LIMIT, |line| output.line(line));
    let failed_before: u64 = output.targets.iter().map(|target| target.failed).sum();
    tally.time(name, started.elapsed(), String::new());
    for target in output.targets.iter().filter(|target| target.passed + target.failed > 0) {
        let note = format!("{} passed, {} failed", target.passed, target.failed);
        tally.time(&format!("  {}", target.name), target.duration, note);
        tally.pass(target.passed);
    }
    for failure in &output.failures {
        tally.fail(1, failure.clone());
    }
    // A failure that has a count and no line of its own still counts.
    let unnamed = failed_before.saturating_sub(output.failures.len() as u64);
    if unnamed > 0 {
        tally.fail(unnamed, format!("{name}: {unnamed} failed without a name, see above"));
    }
    let unfinished: Vec<String> = output.unfinished().map(str::to_owned).collect();
    for target in &unfinished {
        tally.fail(1, format!("{target} did not end, see above"));
    }
    let explained = failed_before > 0 || !unfinished.is_empty();
    match status {
        Ok(status) if status.success() || explained => {}
        Ok(status) => tally.fail(1, format!("{name}: {status}, see above")),
        Err(why) => tally.fail(1, format!("{name}: {why}")),
    }
    tally.skip(output.skips);
}
