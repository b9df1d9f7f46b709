//! What passed, failed and was left out, and the closing lines that say so.

use std::fmt::Write;
use std::time::Duration;

/// Something that was not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skip {
    pub name: String,
    pub reason: String,
}

impl Skip {
    pub fn new(name: &str, reason: &str) -> Self {
        Self { name: name.to_owned(), reason: reason.to_owned() }
    }
}

/// How a check ended that is one thing, not many tests.
#[derive(Debug)]
pub enum Outcome {
    Passed,
    Failed(String),
    Skipped(String),
}

/// Everything seen in a run.
#[derive(Debug, Default)]
pub struct Tally {
    passed: u64,
    failed: u64,
    failures: Vec<String>,
    skips: Vec<Skip>,
    /// A line of the table: name, time, what to say.
    times: Vec<(String, Duration, String)>,
}

impl Tally {
    /// Counts a check as one.
    pub fn check(&mut self, name: &str, duration: Duration, outcome: Outcome) {
        let note = match outcome {
            Outcome::Passed => {
                self.passed += 1;
                String::new()
            }
            Outcome::Failed(why) => {
                self.fail(1, format!("{name}: {why}"));
                "failed".to_owned()
            }
            Outcome::Skipped(reason) => {
                self.skips.push(Skip::new(name, &reason));
                "skipped".to_owned()
            }
        };
        self.time(name, duration, note);
    }

    pub fn pass(&mut self, count: u64) {
        self.passed += count;
    }

    pub fn fail(&mut self, count: u64, what: String) {
        self.failed += count;
        self.failures.push(what);
    }

    pub fn skip(&mut self, skips: Vec<Skip>) {
        self.skips.extend(skips);
    }

    pub fn time(&mut self, name: &str, duration: Duration, note: String) {
        self.times.push((name.to_owned(), duration, note));
    }

    /// Turns skips that `allowed` does not name into failures.
    pub fn permit(&mut self, allowed: &Allowed) {
        let (permitted, refused) =
            std::mem::take(&mut self.skips).into_iter().partition(|s| allowed.permits(s));
        self.skips = permitted;
        for Skip { name, reason } in refused {
            self.fail(1, format!("{name}: skipped ({reason}), and .ci/allowed-skips does not name it"));
        }
    }

    /// A run in which nothing ran is no success.
    pub fn is_success(&self) -> bool {
        self.failed == 0 && self.passed > 0
    }

    /// The times, the skips, the failures, and as the last line the counts.
    pub fn closing(&self) -> String {
        let mut text = String::from("\n");
        let width = self.times.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
        for (name, duration, note) in &self.times {
            let line = format!("{name:width$}  {:>8.1} s  {note}", duration.as_secs_f64());
            text += line.trim_end();
            text.push('\n');
        }
        for Skip { name, reason } in &self.skips {
            writeln!(text, "skipped: {name}: {reason}").expect("because a String takes any text");
        }
        for failure in &self.failures {
            writeln!(text, "FAILED: {failure}").expect("because a String takes any text");
        }
        text + &format!("{} passed, {} failed, {} skipped", self.passed, self.failed, self.skips.len())
    }
}

/// The skips that CI accepts: `.ci/allowed-skips`, lines `name: why it is allowed`.
#[derive(Debug)]
pub struct Allowed(Vec<String>);

impl Allowed {
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let names = lines.filter_map(|line| line.split_once(": ")).map(|(name, _)| name.trim().to_owned());
        Self(names.collect())
    }

    fn permits(&self, skip: &Skip) -> bool {
        self.0.contains(&skip.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skipped(name: &str) -> Tally {
        let mut tally = Tally::default();
        tally.pass(7);
        tally.check(name, Duration::ZERO, Outcome::Skipped("not here".to_owned()));
        tally
    }

    #[test]
    fn a_skip_passes_ci_only_when_it_is_on_the_list() {
        let allowed = Allowed::parse("# why\nadvisories: CI has no network\n");
        let mut listed = skipped("advisories");
        listed.permit(&allowed);
        assert!(listed.is_success());
        assert!(listed.closing().ends_with("\n7 passed, 0 failed, 1 skipped"), "{}", listed.closing());
        assert!(listed.closing().contains("skipped: advisories: not here\n"));

        let mut other = skipped("browser");
        other.permit(&allowed);
        assert!(!other.is_success());
        assert!(other.closing().ends_with("\n7 passed, 1 failed, 0 skipped"), "{}", other.closing());
    }

    #[test]
    fn running_nothing_is_a_failure() {
        assert!(!Tally::default().is_success());
    }
}
