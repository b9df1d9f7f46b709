//! The commands behind the README.
//!
//! ```text
//! cargo xtask demo [--port N] [--exit-when-ready]
//! cargo xtask test [--quick]
//! ```
//!
//! Each installs what it lacks, so that a Rust toolchain is all a fresh machine needs.
#![allow(clippy::print_stdout, reason = "this program talks to whoever runs it")]

mod api;
mod cargo;
mod checks;
mod demo;
mod fuzz;
mod group;
mod needs;
mod output;
mod suite;
mod tally;

use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask demo [--port N] [--exit-when-ready]
    A private PostgreSQL with a demo database, and dbsnap with three snapshots of it.
    Runs until Ctrl-C, which removes everything again.
    --port N            dbsnap's port; without it 8080, or a free one if that is taken
    --exit-when-ready   stop as soon as it is ready

With DBSNAP_TEST_STORAGE=seaweedfs, the demo and the engine's tests of whole operations keep their repositories
in a private SeaweedFS instead of in folders.

cargo xtask test [--quick]
    Everything CI runs. The last line is `N passed, N failed, N skipped`.
    --quick             only what needs neither a browser nor the network
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.split_first() {
        Some((&"demo", rest)) => demo::Options::parse(rest).and_then(|options| demo::run(&options)),
        Some((&"test", [])) => suite::run(suite::Extent::All),
        Some((&"test", ["--quick"])) => suite::run(suite::Extent::Quick),
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(code) => code,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
