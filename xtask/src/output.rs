//! Reading what `cargo test` prints.
//!
//! The format is libtest's text, which has not changed in years: its machine-readable one is not
//! stable. A target whose result line is missing (a crash, a hang) counts as a failure, so a change
//! of the text cannot pass unseen.

use std::time::Duration;

use crate::tally::Skip;

/// One test program, or one crate's doctests.
#[derive(Debug, Default, PartialEq)]
pub struct Target {
    /// As cargo names it: `tests/tree.rs (repo_format)`, `doctests engine`.
    pub name: String,
    pub passed: u64,
    pub failed: u64,
    pub duration: Duration,
    /// It printed its result.
    pub finished: bool,
}

/// What has been read so far.
#[derive(Debug, Default)]
pub struct TestOutput {
    pub targets: Vec<Target>,
    pub skips: Vec<Skip>,
    pub failures: Vec<String>,
}

impl TestOutput {
    /// Takes the next line.
    pub fn line(&mut self, line: &str) {
        if let Some(name) = target_name(line) {
            self.targets.push(Target { name, ..Target::default() });
        } else if let Some(rest) = line.strip_prefix("test result: ") {
            self.result(rest);
        } else if let Some((name, outcome)) = line.strip_prefix("test ").and_then(|l| l.rsplit_once(" ... "))
        {
            self.test(name, outcome);
        }
    }

    fn test(&mut self, name: &str, outcome: &str) {
        let target = self.targets.last().map_or("", |target| target.name.as_str());
        if outcome == "FAILED" {
            self.failures.push(format!("{target}: {name}"));
        } else if let Some(reason) = outcome.strip_prefix("ignored") {
            let reason = reason.trim_start_matches([',', ' ']);
            let reason = if reason.is_empty() { "no reason given" } else { reason };
            self.skips.push(Skip::new(name, reason));
        }
    }

    /// Reads `ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.10s`.
    fn result(&mut self, rest: &str) {
        let Some(target) = self.targets.last_mut() else { return };
        let counts = rest.split_once(". ").map_or("", |(_, counts)| counts);
        for part in counts.split("; ") {
            match part.split_once(' ') {
                Some((count, "passed")) => target.passed += count.parse().unwrap_or(0),
                Some((count, "failed")) => target.failed += count.parse().unwrap_or(0),
                Some(("finished", time)) => target.duration += seconds(time),
                _ => {}
            }
        }
        target.finished = true;
    }

    /// Names of targets that began and never said how they ended.
    pub fn unfinished(&self) -> impl Iterator<Item = &str> {
        self.targets.iter().filter(|target| !target.finished).map(|target| target.name.as_str())
    }
}

fn seconds(time: &str) -> Duration {
    let number = time.trim_start_matches("in ").trim_end_matches('s').parse();
    Duration::try_from_secs_f64(number.unwrap_or(0.0)).unwrap_or_default()
}

fn target_name(line: &str) -> Option<String> {
    if let Some(name) = line.strip_prefix("   Doc-tests ") {
        return Some(format!("doctests {name}"));
    }
    let rest = line.strip_prefix("     Running ")?;
    let (source, program) = rest.rsplit_once(" (")?;
    let program = program.trim_end_matches(')').rsplit('/').next()?;
    let (crate_name, _) = program.rsplit_once('-')?;
    Some(match source.strip_prefix("unittests ") {
        Some(_) => format!("unit {crate_name}"),
        None => source.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
   Compiling engine v0.1.0 (/x/engine)
    Finished `test` profile [unoptimized] target(s) in 1.50s
     Running unittests src/lib.rs (target/debug/deps/repo_format-0f3a9c)

running 3 tests
test codec::tests::round_trip ... ok
test slow ... ignored, takes an hour
test frame::tests::damage ... FAILED

test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.25s

     Running tests/main_job.rs (/t/debug/deps/main_job-ab)

running 1 test
   Doc-tests engine

running 1 test
test engine/src/lib.rs - (line 3) ... ok

test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.50s

all doctests ran in 2.00s; merged doctests compilation took 0.5s
";

    #[test]
    fn targets_are_counted_and_a_crashed_one_is_noticed() {
        let mut output = TestOutput::default();
        OUTPUT.lines().for_each(|line| output.line(line));
        let seen: Vec<_> = output.targets.iter().map(|t| (t.name.as_str(), t.passed, t.failed)).collect();
        assert_eq!(
            seen,
            [("unit repo_format", 1, 1), ("tests/main_job.rs", 0, 0), ("doctests engine", 1, 0)]
        );
        assert_eq!(output.targets[0].duration, Duration::from_millis(250));
        assert_eq!(output.unfinished().collect::<Vec<_>>(), ["tests/main_job.rs"]);
        assert_eq!(output.failures, ["unit repo_format: frame::tests::damage"]);
        assert_eq!(output.skips, [Skip::new("slow", "takes an hour")]);
    }

    #[test]
    fn doctests_that_run_twice_add_up() {
        // Those that cannot be merged into one program get a second result line.
        let mut output = TestOutput::default();
        output.line("   Doc-tests engine");
        output.line("test result: ok. 2 passed; 0 failed; 0 ignored; finished in 0.50s");
        output.line("test result: ok. 1 passed; 0 failed; 0 ignored; finished in 0.25s");
        assert_eq!((output.targets[0].passed, output.targets[0].duration), (3, Duration::from_millis(750)));
    }
}
