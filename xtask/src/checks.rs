//! The checks that are one thing, not many tests.

use std::process::Command;
use std::time::Duration;

use crate::cargo::{cargo, outside};
use crate::tally::Outcome;
use crate::{group, needs};

const LIMIT: Duration = Duration::from_secs(40 * 60);

/// The one whose absence makes `repo-format` what it is: pure, and good for any runtime.
const IMPURE: [&str; 6] = ["tokio", "opendal", "redb", "getrandom", "rand", "reqwest"];

const WASM: &str = "wasm32-unknown-unknown";

pub fn format() -> Outcome {
    passes(&mut cargo(&["fmt", "--all", "--check"]))
}

pub fn lints() -> Outcome {
    passes(&mut cargo(&["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

pub fn documentation() -> Outcome {
    let mut doc = cargo(&["doc", "--locked", "--workspace", "--no-deps"]);
    passes(doc.env("RUSTDOCFLAGS", "-D warnings"))
}

/// Licences, bans and sources, which the lock file and the registry's index decide.
pub fn dependencies() -> Outcome {
    let deny = match needs::cargo_deny() {
        Ok(deny) => deny,
        Err(why) => return Outcome::Failed(why),
    };
    passes(outside(&mut Command::new(deny)).args([
        "--workspace",
        "--locked",
        "check",
        "bans",
        "licenses",
        "sources",
    ]))
}

/// Known vulnerabilities. Their database is a git repository on the internet.
pub fn advisories() -> Outcome {
    let deny = match needs::cargo_deny() {
        Ok(deny) => deny,
        Err(why) => return Outcome::Failed(why),
    };
    let mut fetch = Command::new(&deny);
    if !matches!(passes(outside(&mut fetch).args(["fetch", "db"])), Outcome::Passed) {
        return Outcome::Skipped("the advisory database cannot be reached from here".to_owned());
    }
    passes(outside(&mut Command::new(deny)).args(["--workspace", "check", "--disable-fetch", "advisories"]))
}

/// `repo-format` depends on nothing that does I/O, tells the time or rolls dice.
pub fn purity() -> Outcome {
    let mut tree = cargo(&["tree", "--locked", "-p", "repo-format", "-e", "normal", "--prefix", "none"]);
    let output = match tree.output() {
        Ok(output) if output.status.success() => output,
        other => return Outcome::Failed(format!("cargo tree: {other:?}")),
    };
    let tree = String::from_utf8_lossy(&output.stdout);
    let found = impure(&tree);
    if found.is_empty() && tree.starts_with("repo-format ") {
        Outcome::Passed
    } else {
        Outcome::Failed(format!("repo-format depends on {found:?}:\n{tree}"))
    }
}

/// Dependencies in a tree that a pure crate cannot have.
fn impure(tree: &str) -> Vec<&str> {
    let names = tree.lines().filter_map(|line| line.split(' ').next());
    names.filter(|name| IMPURE.contains(name)).collect()
}

/// A target without files, sockets and threads takes it.
pub fn wasm() -> Outcome {
    if !needs::has_target(WASM) {
        return Outcome::Skipped(format!("the toolchain has no {WASM}"));
    }
    passes(&mut cargo(&["check", "--locked", "-p", "repo-format", "--lib", "--target", WASM]))
}

fn passes(command: &mut Command) -> Outcome {
    match group::run(command, LIMIT, |_| ()) {
        Ok(status) if status.success() => Outcome::Passed,
        Ok(status) => Outcome::Failed(format!("{status}, see above")),
        Err(why) => Outcome::Failed(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_in_the_tree_is_named() {
        let tree = "repo-format v0.1.0 (/x/repo-format)\nblake3 v1.8.7\nredb v4.6.0\ntokio v1.54.1\nblake3 v1.8.7 (*)\n";
        assert_eq!(impure(tree), ["redb", "tokio"]);
        assert!(impure("repo-format v0.1.0\ntokio-postgres-free v1.0.0\n").is_empty());
    }
}
