//! The schema in `pg_dump`'s own format, to restore from, read in the same snapshot as the data.
//!
//! The archive of an unchanged schema never has the same bytes twice (it holds times and OIDs), so
//! a normalised text comes with it: equal texts mean that an earlier archive will do.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::dump_settings::DumpSettings;
use super::session::{Session, qualified};
use super::snapshot::Snapshot;
use super::url::{PostgresUrl, SslMode};
use super::{archive_header, fault, locks, toc};
use crate::error::{Error, Kind, Result};
use crate::source::{ArchiveOutcome, Incomplete, SchemaArchive};

/// Far above any schema's, far below what would hurt.
const ARCHIVE_MAX: u64 = 256 << 20;

/// How long `pg_dump` waits for a lock. Whoever is before it in the queue waits for the snapshot's
/// holder, and everybody else who uses the table waits with them: a new snapshot is better.
const DUMP_LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// Replaces the random key that newer `pg_dump`s put into every plain script.
const RESTRICT_KEY: &str = "dbsnap";

/// Would make the tool talk to another server, or as somebody else, than the arguments say.
const FOREIGN_VARIABLES: &[&str] = &[
    "PGHOST",
    "PGHOSTADDR",
    "PGPORT",
    "PGDATABASE",
    "PGUSER",
    "PGPASSWORD",
    "PGPASSFILE",
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGOPTIONS",
    "PGSSLMODE",
    "PGSSLCERT",
    "PGSSLKEY",
    "PGSSLROOTCERT",
    "PGSSLCRL",
    "PGREQUIRESSL",
    "PGREQUIREPEER",
    "PGCHANNELBINDING",
    "PGTARGETSESSIONATTRS",
    "PGCLIENTENCODING",
    "PGSYSCONFDIR",
    "PGTZ",
    "PGDATESTYLE",
    "PGGEQO",
    "PGAPPNAME",
    "PGCONNECT_TIMEOUT",
    "PG_COLOR",
];

/// Where certificate authorities are kept, for libpq, which before version 16 has no default.
const AUTHORITIES: &[&str] =
    &["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

impl Snapshot {
    /// The schema as `pg_dump` writes it in this snapshot. It is written when it is first asked for,
    /// which belongs before the records: `pg_dump` takes locks of its own, which nobody gets any more once
    /// somebody waits to change a table.
    ///
    /// # Errors
    /// [`SourceChanged`](Kind::SourceChanged) when it cannot get its locks or the snapshot is lost.
    pub async fn schema_archive(&self) -> Result<ArchiveOutcome> {
        self.archive.get_or_try_init(|| self.dump()).await.cloned()
    }

    async fn dump(&self) -> Result<ArchiveOutcome> {
        let major = self.server.version_number / 10_000;
        let tools = find_tools("pg_dump").await;
        let Some(tool) = tools.iter().filter(|tool| tool.major >= major).min_by_key(|tool| tool.major) else {
            return Ok(ArchiveOutcome::Unavailable { reason: no_tool(major, &tools) });
        };
        let worker = self.worker().await?;
        let withheld = Withheld::find(&worker).await?;
        let settings = DumpSettings::choose(&worker, &self.connector).await?;
        self.keep(worker).await;
        let child = start(self.dump_command(tool, &settings), &[], "pg_dump")?;
        let (id, application) = (child.id(), self.dump_application());
        let ended = finish(child, &[], "pg_dump");
        let written = match self.holder.process_answered(ended, id, &application).await? {
            Ok(written) => written,
            Err(error) if error.message().contains(locks::NO_ROOM) => {
                return Err(error.with_help(locks::advice(&self.worker().await?).await?));
            }
            Err(error) => return Err(error),
        };
        self.check_holder().await?;
        let mut bytes = match toc::without_mapping_options(&written.output) {
            Some(bytes) => bytes,
            None if withheld.user_mappings == 0 => written.output,
            None => return Ok(ArchiveOutcome::Unavailable { reason: unknown_archive(tool) }),
        };
        archive_header::forget_time(&mut bytes);
        let normalised = normalise(tool, &bytes).await?;
        let warnings = written.messages.lines().filter(|line| line.contains("warning:")).map(str::to_owned);
        Ok(ArchiveOutcome::Written(SchemaArchive {
            bytes,
            tool: settings.describe(&format!("pg_dump {}", tool.version)),
            normalised,
            excluded: self.excluded(),
            notes: withheld.notes().into_iter().chain(warnings).collect(),
        }))
    }

    fn dump_command(&self, tool: &Tool, settings: &DumpSettings) -> Command {
        let mut command = tool.command(self.connector.url());
        command.env("PGAPPNAME", self.dump_application());
        // The server that holds the snapshot, whatever else its name may mean by now.
        command.env("PGHOSTADDR", self.holder.address().ip().to_string());
        // Bounds and defaults are printed in it, and a database may have one of its own.
        command.env("PGTZ", "UTC");
        if let Some(options) = &settings.options {
            command.env("PGOPTIONS", options);
        }
        // A subscription's connection holds a password, which only a superuser's pg_dump would see.
        command.args(["--format=custom", "--schema-only", "--no-password", "--no-subscriptions"]);
        // The database's own, whatever is set for its clients.
        command.arg(format!("--encoding={}", self.server.encoding));
        command.arg(format!("--snapshot={}", self.evidence().snapshot_name));
        // pg_dump waits for its locks for ever if it is let.
        let lock_timeout = self.options.lock_timeout.min(DUMP_LOCK_TIMEOUT);
        command.arg(format!("--lock-wait-timeout={}", lock_timeout.as_millis()));
        for table in &self.undumpable {
            command.arg(format!("--exclude-table={}", qualified(&table.namespace, &table.name)));
        }
        command
    }

    /// No other connection has this name.
    fn dump_application(&self) -> String {
        format!("dbsnap pg_dump {}", self.evidence().snapshot_name)
    }

    fn excluded(&self) -> Vec<Incomplete> {
        let user = self.connector.url().user();
        let missing = |table: &super::catalog::Relation| Incomplete {
            name: table.display(),
            reason: table.undumpable(user),
        };
        self.undumpable.iter().map(missing).collect()
    }
}

/// How many things hold passwords. These are in no archive, whoever reads: one that a superuser's
/// `pg_dump` wrote is as one of a role that may only read.
struct Withheld {
    user_mappings: u64,
    subscriptions: u64,
}

impl Withheld {
    async fn find(worker: &Session) -> Result<Self> {
        let user_mappings = count(worker, "SELECT count(*)::text FROM pg_user_mappings").await?;
        let subscriptions = "SELECT count(subname)::text FROM pg_subscription \
             WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())";
        Ok(Self { user_mappings, subscriptions: count(worker, subscriptions).await? })
    }

    fn notes(&self) -> Vec<String> {
        let mappings = match self.user_mappings {
            0 => None,
            1 => Some(
                "options of 1 user mapping (the password of a foreign server) are not captured".to_owned(),
            ),
            many => Some(format!(
                "options of {many} user mappings (passwords of foreign servers) are not captured"
            )),
        };
        let subscriptions = match self.subscriptions {
            0 => None,
            1 => Some("1 subscription (with the password of its publisher) is not captured".to_owned()),
            many => {
                Some(format!("{many} subscriptions (with passwords of their publishers) are not captured"))
            }
        };
        mappings.into_iter().chain(subscriptions).collect()
    }
}

async fn count(worker: &Session, sql: &str) -> Result<u64> {
    let rows = worker.answered(worker.rows(sql)).await?;
    let rows = rows.map_err(|error| fault::statement("listing what holds passwords", error))?;
    Ok(rows.first().map_or(0, |row| row.number(0)))
}

fn no_tool(major: u32, tools: &[Tool]) -> String {
    let found: Vec<_> = tools.iter().map(|tool| tool.version.as_str()).collect();
    let found =
        if found.is_empty() { "none was found".to_owned() } else { format!("found: {}", found.join(", ")) };
    format!(
        "the schema is not restorable: it needs pg_dump {major} or later where DBSnap runs ({found}). \
         Install the postgresql-client-{major} package"
    )
}

fn unknown_archive(tool: &Tool) -> String {
    format!(
        "the schema is not restorable: the passwords of foreign servers cannot be left out of an archive of \
         pg_dump {}, whose format is not known",
        tool.version
    )
}

/// One of PostgreSQL's programs.
#[derive(Clone, Debug)]
pub(crate) struct Tool {
    pub(crate) program: PathBuf,
    /// "15.18"
    pub(crate) version: String,
    pub(crate) major: u32,
}

impl Tool {
    /// The program with the connection in its environment: arguments are visible to everybody on
    /// the machine, and a database name with a `=` in it would be read as more than a name.
    pub(crate) fn command(&self, url: &PostgresUrl) -> Command {
        let mut command = bare_command(&self.program);
        command
            .env("PGHOST", url.host())
            .env("PGPORT", url.port().to_string())
            .env("PGUSER", url.user())
            .env("PGDATABASE", url.database())
            .env("PGSSLMODE", url.ssl_mode().as_str())
            .env("PGAPPNAME", "dbsnap")
            .env("PGCONNECT_TIMEOUT", url.connect_timeout().as_secs().max(2).to_string());
        if let Some(password) = url.password() {
            command.env("PGPASSWORD", password);
        }
        if let Some(options) = url.options() {
            command.env("PGOPTIONS", options);
        }
        if matches!(url.ssl_mode(), SslMode::VerifyCa | SslMode::VerifyFull) {
            let bundle = AUTHORITIES.iter().find(|path| Path::new(path).exists());
            command.env("PGSSLROOTCERT", bundle.copied().unwrap_or("system"));
        }
        command
    }

    /// The program of this name that came with this one.
    pub(crate) fn sibling(&self, name: &str) -> PathBuf {
        self.program.with_file_name(name)
    }
}

fn bare_command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for variable in FOREIGN_VARIABLES {
        command.env_remove(variable);
    }
    command
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Every installed version of `name`: those in the folders packages use, then the one in the
/// search path, which on Debian is a wrapper that picks a version by rules of its own.
pub(crate) async fn find_tools(name: &str) -> Vec<Tool> {
    let mut programs = Vec::new();
    for parent in ["/usr/lib/postgresql", "/usr/local/lib/postgresql", "/opt/postgresql"] {
        let Ok(mut versions) = tokio::fs::read_dir(parent).await else { continue };
        while let Ok(Some(version)) = versions.next_entry().await {
            programs.push(version.path().join("bin").join(name));
        }
    }
    programs.extend((12..40).map(|major| PathBuf::from(format!("/usr/pgsql-{major}/bin/{name}"))));
    programs.retain(|program| program.exists());
    programs.sort();
    programs.push(PathBuf::from(name));
    let mut tools = Vec::new();
    for program in programs {
        if let Ok(answer) = run(version_command(&program), &[], name).await
            && let Some((version, major)) = parse_version(&String::from_utf8_lossy(&answer.output))
        {
            tools.push(Tool { program, version, major });
        }
    }
    tools
}

fn version_command(program: &Path) -> Command {
    let mut command = bare_command(program);
    command.arg("--version");
    command
}

/// From "pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", and from "17beta1".
fn parse_version(text: &str) -> Option<(String, u32)> {
    let version = text.split(')').nth(1)?.split_whitespace().next()?;
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    Some((version.to_owned(), digits.parse().ok()?))
}

pub(crate) struct Answer {
    pub(crate) output: Vec<u8>,
    pub(crate) messages: String,
}

/// Runs a program to its end, feeding it `input`. It is killed when the future is dropped.
pub(crate) async fn run(command: Command, input: &[u8], name: &str) -> Result<Answer> {
    finish(start(command, input, name)?, input, name).await
}

fn start(mut command: Command, input: &[u8], name: &str) -> Result<Child> {
    if !input.is_empty() {
        command.stdin(Stdio::piped());
    }
    command.spawn().map_err(|error| does_not_run(name, error))
}

fn does_not_run(name: &str, error: std::io::Error) -> Error {
    Error::new(Kind::Internal, format!("{name} does not run: {error}")).with_source(error)
}

async fn finish(mut child: Child, input: &[u8], name: &str) -> Result<Answer> {
    let failed = |error| does_not_run(name, error);
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async move {
        if let Some(mut stdin) = stdin {
            // A program that ends early says why by its exit.
            let _ = stdin.write_all(input).await;
        }
    };
    let (mut output, mut messages) = (Vec::new(), Vec::new());
    let read_output = async {
        match stdout {
            Some(stdout) => stdout.take(ARCHIVE_MAX + 1).read_to_end(&mut output).await,
            None => Ok(0),
        }
    };
    let read_messages = async {
        match stderr {
            Some(stderr) => stderr.take(1 << 20).read_to_end(&mut messages).await,
            None => Ok(0),
        }
    };
    let ((), read, read_too) = tokio::join!(feed, read_output, read_messages);
    read.and(read_too).map_err(failed)?;
    if output.len() as u64 > ARCHIVE_MAX {
        return Err(Error::new(
            Kind::Unsupported,
            format!("{name} wrote more than {} MiB", ARCHIVE_MAX >> 20),
        ));
    }
    let messages = String::from_utf8_lossy(&messages).into_owned();
    let status = child.wait().await.map_err(failed)?;
    if status.success() { Ok(Answer { output, messages }) } else { Err(tool_error(name, &messages)) }
}

fn tool_error(name: &str, messages: &str) -> Error {
    // pg_dump limits nothing but its waits for locks, and by a statement's time.
    if messages.contains("due to statement timeout") || messages.contains("due to lock timeout") {
        let query = messages.lines().find_map(|line| line.split_once("LOCK TABLE ")).map(|(_, rest)| rest);
        let table = query.and_then(|rest| rest.split(" IN ACCESS SHARE").next());
        let tables = table.map_or("a table".to_owned(), |table| table.chars().take(200).collect());
        let message = format!("{name} could not lock {tables}: something else locks it, or waits to");
        return Error::new(Kind::SourceChanged, message)
            .with_help("Try again when no migration or other change of the tables is running.")
            .with_source(messages.to_owned());
    }
    let relevant = messages.lines().find(|line| line.contains("error:")).unwrap_or(messages);
    let changed = [
        "canceling statement",
        "does not exist",
        "snapshot",
        "cache lookup failed",
        "could not open relation",
    ];
    // What libpq says of a connection that it does not get, or loses.
    let unreachable = [
        "timeout expired",
        "Connection refused",
        "Connection reset",
        "could not receive data from server",
        "could not send data to server",
        "server closed the connection unexpectedly",
    ];
    let kind = if unreachable.iter().any(|words| messages.contains(words)) {
        Kind::Unreachable
    } else if messages.contains(locks::NO_ROOM) {
        Kind::Unsupported
    } else if changed.iter().any(|word| messages.contains(word)) {
        Kind::SourceChanged
    } else if messages.contains("permission denied") {
        Kind::Denied
    } else {
        Kind::Internal
    };
    let shown: String = relevant.chars().take(500).collect();
    let error = Error::new(kind, format!("{name} failed: {shown}")).with_source(messages.to_owned());
    if messages.contains(fault::STANDBY_CONFLICT) { error.with_help(fault::STANDBY_HELP) } else { error }
}

/// The plain script of an archive, without what differs from run to run.
async fn normalise(tool: &Tool, archive: &[u8]) -> Result<Vec<u8>> {
    let program = tool.sibling("pg_restore");
    let mut help = bare_command(&program);
    help.arg("--help");
    let knows_key =
        String::from_utf8_lossy(&run(help, &[], "pg_restore").await?.output).contains("--restrict-key");
    let mut command = bare_command(&program);
    command.arg("--file=-");
    if knows_key {
        command.arg(format!("--restrict-key={RESTRICT_KEY}"));
    }
    Ok(strip_versions(&run(command, archive, "pg_restore").await?.output))
}

/// Drops the versions in the header and the random key, and nothing else: a function's body may
/// hold any comment.
fn strip_versions(script: &[u8]) -> Vec<u8> {
    let is_noise = |position: usize, line: &[u8]| {
        let in_header = position < 20;
        let version = line.starts_with(b"-- Dumped from database version")
            || line.starts_with(b"-- Dumped by pg_dump version");
        let key = line.starts_with(b"\\restrict ") || line.starts_with(b"\\unrestrict ");
        (in_header && version) || key
    };
    let lines = script.split_inclusive(|&byte| byte == b'\n').enumerate();
    lines.filter(|(position, line)| !is_noise(*position, line)).flat_map(|(_, line)| line).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_programs_print() {
        let read = |text| parse_version(text).unwrap();
        assert_eq!(read("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), ("15.18".to_owned(), 15));
        assert_eq!(read("pg_dump (PostgreSQL) 19beta2\n"), ("19beta2".to_owned(), 19));
        assert!(parse_version("nothing").is_none());
    }

    /// Such a failure may pass, and the job is tried again.
    #[test]
    fn a_connection_that_is_not_had_or_lost_is_no_fault_of_the_program() {
        for messages in [
            "pg_dump: error: connection to server at \"10.0.0.1\", port 5432 failed: timeout expired\n",
            "pg_dump: error: query failed: server closed the connection unexpectedly\n\tThis probably means\n",
        ] {
            let error = tool_error("pg_dump", messages);
            assert_eq!(error.kind(), Kind::Unreachable, "{error}");
            assert!(error.message().starts_with("pg_dump failed: pg_dump: error: "), "{error}");
        }
    }

    #[test]
    fn only_what_differs_from_run_to_run_is_stripped() {
        let script = b"--\n\\restrict abc\n-- Dumped from database version 15.18\n-- Dumped by pg_dump version 15.18\n-- Name: f\n";
        assert_eq!(strip_versions(script), b"--\n-- Name: f\n");
    }

    #[test]
    fn a_wait_for_a_lock_is_told_as_one() {
        let messages = "pg_dump: error: query failed: ERROR:  canceling statement due to statement timeout\n\
            pg_dump: detail: Query was: LOCK TABLE public.dst IN ACCESS SHARE MODE\n";
        let error = tool_error("pg_dump", messages);
        assert_eq!(error.kind(), Kind::SourceChanged);
        assert_eq!(
            error.message(),
            "pg_dump could not lock public.dst: something else locks it, or waits to"
        );
    }

    #[test]
    fn what_a_standby_replays_is_told() {
        let messages =
            "pg_dump: error: query failed: ERROR:  canceling statement due to conflict with recovery\n";
        let error = tool_error("pg_dump", messages);
        assert_eq!((error.kind(), error.help()), (Kind::SourceChanged, Some(fault::STANDBY_HELP)));
    }

    #[test]
    fn a_missing_tool_is_named_with_what_is_there() {
        let old = Tool { program: "pg_dump".into(), version: "13.4".to_owned(), major: 13 };
        let reason = no_tool(17, &[old]);
        assert!(reason.contains("pg_dump 17") && reason.contains("13.4"), "{reason}");
    }
}
