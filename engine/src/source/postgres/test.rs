//! A connection test that says at which step it failed and what to do there.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::catalog::{self, Inheritance, Plan};
use super::connect::Connector;
use super::fault;
use super::readonly;
use super::session::{Session, ident};
use super::settings::Server;
use super::snapshot::system_identifier;
use super::url::{PostgresUrl, SslMode};
use crate::error::{Error, Kind, Result};
use crate::source::test::bounded;
use crate::source::{ConnectionReport, Stage, StageReport};

/// So many tables are read from for real; the catalog answers for the rest.
const TRIED: usize = 20;
/// So many that cannot be read are named.
const NAMED_AT_MOST: usize = 20;
/// The first version with the role `pg_read_all_data`.
const READ_ALL_SINCE: u32 = 140_000;
/// A lock held by somebody else is no fault of the credentials.
const TRIAL_LOCK_TIMEOUT: Duration = Duration::from_millis(500);

/// Tries a URL step by step: name, port, TLS, login, listing, reading, and that nothing can be
/// written. Reads at most a row of a few tables. Tables that cannot be read fail the step but not
/// the test, unless nothing can be read: a backup names them and goes on.
pub async fn test(url: &PostgresUrl) -> ConnectionReport {
    let mut report = ConnectionReport::new("postgresql");
    let ignored = url.ignored_parameters();
    if !ignored.is_empty() {
        report.notes.push(format!("parameters of the URL without effect here: {}", ignored.join(", ")));
    }
    if let Some(session) = reach(url, &mut report).await {
        report.ok = examine(url, &session, &mut report).await;
    }
    report
}

/// Fails when the role can write, as [`test()`] does: privileges may have been granted since.
///
/// # Errors
/// [`NotReadOnly`](Kind::NotReadOnly) with the privileges found and what takes them away.
pub async fn refuse_writers(url: &PostgresUrl) -> Result<()> {
    let session = Connector::new(url)?.connect().await?;
    let guard = session.cancel_guard();
    let findings = session.answered(async {
        let server = Server::read(&session).await?;
        begin(&session, &server).await?;
        let noted = session.note_backend().await;
        noted.map_err(|error| fault::statement("beginning a transaction", error))?;
        let findings = readonly::check(&session, &server).await?;
        end(&session).await?;
        Ok::<_, Error>(findings)
    });
    let findings = findings.await??;
    guard.disarm();
    if findings.privileges.is_empty() {
        return Ok(());
    }
    let message = format!("the role {} can write by now: {}", url.user(), findings.privileges.join("; "));
    let help = "No snapshot is taken with it. Take these privileges away, or give the URL of a role that can only \
                read in the database's settings.";
    let help = [&[help.to_owned()][..], &findings.fixes].concat().join("\n");
    Err(Error::new(Kind::NotReadOnly, message).with_help(help))
}

fn counted(tables: u64) -> String {
    format!("{tables} {}", if tables == 1 { "table" } else { "tables" })
}

/// The steps up to a session.
async fn reach(url: &PostgresUrl, report: &mut ConnectionReport) -> Option<Session> {
    let connector = report.reached(Stage::Tls, Connector::new(url))?;
    let addresses = report.reached(Stage::Resolve, connector.resolve().await)?;
    let listed: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
    report.pass(Stage::Resolve, format!("{} is {}", url.host(), listed.join(", ")));
    let stream = report.reached(Stage::Connect, connector.open(&addresses).await)?;
    report.pass(Stage::Connect, format!("port {} answers", url.port()));
    let has_tls = AtomicBool::new(false);
    let session = connector.login_noting(stream, &has_tls).await;
    let has_tls = has_tls.into_inner();
    let may_lack_tls = matches!(url.ssl_mode(), SslMode::Disable | SslMode::Prefer);
    if let Err(error) = &session
        && (fault::failed_at_tls(error) || !(has_tls || may_lack_tls))
    {
        report.fail(Stage::Tls, error);
        return None;
    }
    report.pass(Stage::Tls, tls_in_words(url.ssl_mode(), has_tls));
    let session = report.reached(Stage::Authenticate, session)?;
    report.pass(Stage::Authenticate, format!("logged in as {} to {}", url.user(), url.database()));
    Some(session)
}

/// Who may read along, and who the server may be.
fn tls_in_words(mode: SslMode, has_tls: bool) -> String {
    let words = match (has_tls, mode) {
        (false, SslMode::Disable) => {
            "not encrypted: anybody between here and the server can read along; sslmode=require asks for encryption"
        }
        (false, _) => {
            "not encrypted: the server did not agree to TLS, and sslmode=prefer goes on without; sslmode=require does not"
        }
        (true, SslMode::VerifyFull) => "encrypted, with a certificate that was checked",
        (true, SslMode::VerifyCa) => "encrypted, with a certificate that was checked but for the host's name",
        (true, _) => "encrypted; the certificate is not checked, which sslmode=verify-full asks for",
    };
    words.to_owned()
}

/// The steps within a session. Whether a backup with it can be.
async fn examine(url: &PostgresUrl, session: &Session, report: &mut ConnectionReport) -> bool {
    let guard = session.cancel_guard();
    let listed = list(url, session, report).await;
    let Some((server, plan)) = report.reached(Stage::List, listed) else { return false };
    report.pass(Stage::List, counted(report.collections));
    let some_readable = read(session, &server, url.user(), &plan, report).await;
    let read_only = judge(session, &server, report).await;
    guard.disarm();
    some_readable && read_only
}

async fn list(url: &PostgresUrl, session: &Session, report: &mut ConnectionReport) -> Result<(Server, Plan)> {
    let server = bounded(Server::read(session)).await?;
    report.server_version.clone_from(&server.version);
    begin(session, &server).await?;
    let relations = bounded(catalog::relations(session, &server)).await?;
    let inheritance = bounded(Inheritance::read(session)).await?;
    let plan = catalog::plan(&relations, &inheritance, &server, url.user());
    let unreadable = relations.iter().filter(|relation| {
        relation.has_rows()
            && !relation.is_partition
            && !relation.belongs_to_extension()
            && !plan.tables.iter().any(|table| table.oid == relation.oid)
    });
    report.notes.extend(plan.notes.iter().cloned());
    report.collections = (plan.tables.len() + unreadable.count()) as u64;
    let size = "SELECT pg_database_size(current_database())::text";
    let rows = bounded(async {
        session.rows(size).await.map_err(|error| fault::statement("asking for the database's size", error))
    });
    report.size_bytes = rows.await?.first().map_or(0, |row| row.number(0));
    report.system_identifier = bounded(system_identifier(session)).await?;
    end(session).await?;
    Ok((server, plan))
}

async fn read(
    session: &Session,
    server: &Server,
    user: &str,
    plan: &Plan,
    report: &mut ConnectionReport,
) -> bool {
    let mut gaps = Gaps::default();
    plan.incomplete.iter().for_each(|found| gaps.add(&found.name, &found.reason));
    for part in plan.undumpable.iter().filter(|table| table.is_partition) {
        gaps.add(&part.display(), &part.undumpable(user));
    }
    for table in plan.tables.iter().filter(|table| !plan.readable_parts.contains_key(&table.oid)).take(TRIED)
    {
        if let Err(error) = try_table(session, server, table).await {
            gaps.unreadable.push(error.message().to_owned());
        }
    }
    if gaps.unreadable.is_empty() {
        report.pass(Stage::Read, format!("{} can be read", counted(report.collections)));
        return true;
    }
    report.stages.push(gaps.stage(server, user));
    !plan.tables.is_empty()
}

/// What cannot be read: why, and the statements that would allow it.
#[derive(Default)]
struct Gaps {
    unreadable: Vec<String>,
    statements: Vec<String>,
}

impl Gaps {
    /// Takes a reason apart: "no privilege to read it. Run: GRANT SELECT ...;".
    fn add(&mut self, name: &str, reason: &str) {
        let (why, statement) = reason.split_once(" Run: ").unwrap_or((reason, ""));
        self.unreadable.push(format!("{name}: {}", why.trim_end_matches('.')));
        if !statement.is_empty() && !self.statements.iter().any(|known| known == statement) {
            self.statements.push(statement.to_owned());
        }
    }

    fn stage(mut self, server: &Server, user: &str) -> StageReport {
        let more = self.unreadable.len().saturating_sub(NAMED_AT_MOST);
        self.unreadable.truncate(NAMED_AT_MOST);
        if more > 0 {
            self.unreadable.push(format!("and {more} more"));
        }
        let mut advice = "Back up without these, and the snapshot will say so".to_owned();
        advice.push_str(if self.statements.is_empty() { "." } else { ", or run the statements below." });
        let grants = self.statements.iter().filter(|statement| statement.starts_with("GRANT ")).count();
        if grants > 1 && server.version_number >= READ_ALL_SINCE {
            let user = ident(user);
            advice.push_str(&format!(
                " In place of the grants, one does for all tables: GRANT pg_read_all_data TO {user}"
            ));
        }
        StageReport {
            stage: Stage::Read,
            ok: false,
            detail: self.unreadable.join("\n"),
            fix: Some([&[advice][..], &self.statements].concat().join("\n")),
        }
    }
}

async fn try_table(session: &Session, server: &Server, table: &catalog::Relation) -> Result<()> {
    begin(session, server).await?;
    let sql = format!("SELECT ''::text FROM {}{} LIMIT 1", catalog::only(table), table.sql());
    let tried = bounded(async {
        match session.rows(&sql).await {
            Ok(_) => Ok(()),
            // A backup then reads without planning a query.
            Err(error) if fault::is_of_function(&error) => Ok(()),
            Err(error) => Err(fault::statement(&table.display(), error)),
        }
    });
    let tried = tried.await;
    end(session).await?;
    match tried {
        // Locked by somebody: the catalog has already said that it may be read.
        Err(error) if error.kind() == Kind::SourceChanged => Ok(()),
        other => other,
    }
}

async fn judge(session: &Session, server: &Server, report: &mut ConnectionReport) -> bool {
    let findings = async {
        begin(session, server).await?;
        let findings = bounded(readonly::check(session, server)).await?;
        end(session).await?;
        Ok(findings)
    };
    let Some(findings) = report.reached(Stage::ReadOnly, findings.await) else { return false };
    report.notes.extend(findings.notes);
    report.privileges = findings.privileges;
    if report.privileges.is_empty() {
        report.pass(Stage::ReadOnly, "no privilege to write was found");
        return true;
    }
    let fix = "Create a role that can only read, and connect with it.";
    report.stages.push(StageReport {
        stage: Stage::ReadOnly,
        ok: false,
        detail: format!("the role can write: {}", report.privileges.join("; ")),
        fix: Some([&[fix.to_owned()][..], &findings.fixes].concat().join("\n")),
    });
    false
}

async fn begin(session: &Session, server: &Server) -> Result<()> {
    let sql = format!("BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; {}", server.pins(TRIAL_LOCK_TIMEOUT));
    session.run(&sql).await.map_err(|error| fault::statement("beginning a transaction", error))
}

async fn end(session: &Session) -> Result<()> {
    session.run("ROLLBACK").await.map_err(|error| fault::statement("ending a transaction", error))
}
