//! The crate reaches nothing: neither it nor what it depends on can do I/O, wait, or draw random
//! numbers by itself. Clippy's bans (clippy.toml) hold for its own code, this for its dependencies.

use std::process::Command;

/// What brings the world in. `getrandom` is how randomness would come, `mio` and `socket2` how any
/// asynchronous runtime would.
const BANNED: &[&str] = &[
    "async-std",
    "chrono",
    "fs-err",
    "futures",
    "getrandom",
    "hyper",
    "jiff",
    "log",
    "memmap2",
    "mio",
    "opendal",
    "rand",
    "rayon",
    "redb",
    "reqwest",
    "smol",
    "socket2",
    "tempfile",
    "time",
    "tokio",
    "tracing",
    "walkdir",
];

#[test]
fn no_dependency_reaches_the_world() {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--package",
            "repo-format",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .args(["--target", "all", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    let names: Vec<_> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(names.contains(&"blake3"), "not the tree that was asked for: {tree}");
    for banned in BANNED {
        assert!(!names.contains(banned), "repo-format depends on {banned}:\n{tree}");
    }
}
