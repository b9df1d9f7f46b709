//! The program `pg_restore`: which one, how it is run, and what it says.
//!
//! The archive comes from a database that others could write to, so its SQL goes to the server
//! through `pg_restore -d` and never to psql, which runs programs of this machine when a script
//! says so. The password is in the child's environment, never in its arguments.

use std::process::{Output, Stdio};

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::error::{Error, Kind, Result};
use crate::source::postgres::PostgresUrl;
use crate::source::postgres::archive::{Tool, find_tools};
use crate::source::postgres::connect::Connector;

/// A part of an archive. Rows are not in it: they come from the repository.
#[derive(Clone, Copy, Debug)]
pub(super) enum Section {
    PreData,
    PostData,
}

/// What the tool leaves out: owners that the target cannot have, and privileges, which are restored
/// statement by statement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Omit {
    pub(super) owners: bool,
    pub(super) privileges: bool,
}

/// The archive as SQL, by the oldest installed tool that can read it: a newer one may send settings
/// that the target does not know.
pub(crate) async fn read(archive: &[u8]) -> Result<(Tool, String)> {
    let mut tools = find_tools("pg_restore").await;
    tools.sort_by_key(|tool| tool.major);
    tools.dedup_by_key(|tool| tool.major);
    if tools.is_empty() {
        return Err(Error::new(Kind::Unsupported, "pg_restore is not installed where DBSnap runs")
            .with_help("Install PostgreSQL's client programs (on Debian and Ubuntu: apt-get install postgresql-client)."));
    }
    let mut why = String::new();
    for tool in &tools {
        let output = run(Command::new(&tool.program).env("LC_ALL", "C").args(["-f", "-"]), archive).await?;
        if output.status.success() {
            return Ok((tool.clone(), String::from_utf8_lossy(&output.stdout).into_owned()));
        }
        why = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    }
    let newest = tools.last().map_or("", |tool| tool.version.as_str());
    Err(Error::new(
        Kind::Unsupported,
        format!("no installed pg_restore (the newest is {newest}) reads the schema archive: {why}"),
    )
    .with_help(
        "Install the PostgreSQL client programs of the version the snapshot was taken with, or newer.",
    ))
}

/// Restores one section. Statements that fail do not end it; the output names each.
pub(super) async fn restore(
    tool: &Tool,
    url: &PostgresUrl,
    archive: &[u8],
    section: Section,
    omit: Omit,
) -> Result<Output> {
    let mut command = tool.command(url);
    // It looks no name up: the address was checked, and is one that answers.
    let session = Connector::new(url)?.connect().await?;
    command.env("PGHOSTADDR", session.address().ip().to_string());
    drop(session);
    // Without a database it would only print. Quoted, because a name with a `=` in it would be
    // read as more than a name.
    let database = url.database().replace('\\', "\\\\").replace('\'', "\\'");
    command.arg(format!("--dbname=dbname='{database}'"));
    command.arg(match section {
        Section::PreData => "--section=pre-data",
        Section::PostData => "--section=post-data",
    });
    // Tablespaces and subscriptions belong to the server the snapshot was taken from: a second
    // subscriber would take over its replication slot.
    command.args(["--no-password", "--no-tablespaces", "--no-subscriptions"]);
    if omit.owners {
        command.arg("--no-owner");
    }
    if omit.privileges {
        command.arg("--no-acl");
    }
    run(&mut command, archive).await
}

/// Runs the tool with the archive on its standard input: it never touches the disk here.
async fn run(command: &mut Command, archive: &[u8]) -> Result<Output> {
    let failed = |error: std::io::Error| {
        Error::new(Kind::Internal, format!("pg_restore cannot be run: {error}")).with_source(error)
    };
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(failed)?;
    let mut input =
        child.stdin.take().ok_or_else(|| Error::new(Kind::Internal, "pg_restore has no input"))?;
    let feed = async {
        // A tool that stops reading has said why on its standard error.
        let _ = input.write_all(archive).await;
        drop(input);
    };
    let ((), output) = tokio::join!(feed, child.wait_with_output());
    output.map_err(failed)
}
