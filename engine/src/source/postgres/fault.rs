//! What the server's errors mean to the caller.

use tokio_postgres::error::SqlState;

use super::url::{PostgresUrl, SslMode};
use crate::error::{Error, Kind};

/// What [`login`] says of a server that takes no more connections.
const NO_ROOM: &str = "has no connection left";
/// How a failed handshake's message begins. The driver keeps its error kinds to itself.
const NO_TLS: &str = "no TLS with";

/// A failed login or TLS handshake.
pub(super) fn login(url: &PostgresUrl, error: &tokio_postgres::Error) -> Error {
    let (host, user, database) = (url.host(), url.user(), url.database());
    let Some(answer) = error.as_db_error() else { return handshake(url, error) };
    let message = answer.message();
    let failed = |kind, what: String, help: &str| Error::new(kind, what).with_help(help);
    match answer.code() {
        code if *code == SqlState::INVALID_PASSWORD => failed(
            Kind::Denied,
            format!("the server refused the password of user {user}"),
            "Check user and password. Special characters in a URL are percent-encoded: @ is %40, / is %2F.",
        ),
        code if *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            let help = if message.contains("no encryption") || message.contains("SSL off") {
                "The server takes this user only over TLS: add sslmode=require to the URL."
            } else if message.contains("no pg_hba.conf entry") {
                "Add a line for this user, database and address to pg_hba.conf, or allow this address at your provider."
            } else {
                "Check that the user exists and may log in."
            };
            failed(Kind::Denied, format!("the server refused user {user}: {message}"), help)
        }
        code if *code == SqlState::INVALID_CATALOG_NAME => failed(
            Kind::NotFound,
            format!("there is no database \"{database}\" on {host}"),
            if url.names_no_database() {
                "The URL names no database, so the user's name was taken. Write its name behind the host, as in postgres://user:password@host:5432/database."
            } else {
                "Check the last part of the URL."
            },
        ),
        code if *code == SqlState::INSUFFICIENT_PRIVILEGE => failed(
            Kind::Denied,
            format!("user {user} may not connect to database \"{database}\": {message}"),
            "GRANT CONNECT ON DATABASE to the user.",
        ),
        code if *code == SqlState::TOO_MANY_CONNECTIONS => failed(
            Kind::Unreachable,
            format!("{host} {NO_ROOM}: {message}"),
            "Raise max_connections or the user's connection limit, or try again later.",
        ),
        code if *code == SqlState::CANNOT_CONNECT_NOW => failed(
            Kind::Unreachable,
            format!("{host} is not ready: {message}"),
            "Try again when it has started.",
        ),
        code => Error::new(
            Kind::Unreachable,
            format!("{host} refused the connection: {message} ({})", code.code()),
        ),
    }
}

fn handshake(url: &PostgresUrl, error: &tokio_postgres::Error) -> Error {
    let mut why = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if !why.contains(&inner.to_string()) {
            why = format!("{why}: {inner}");
        }
        cause = inner.source();
    }
    if why.contains("password missing") {
        return Error::new(Kind::Denied, format!("the server asks for the password of user {}", url.user()))
            .with_help("Put it in the URL: postgres://user:password@host/database.");
    }
    if why.contains("TLS") || why.contains("certificate") {
        let help = match url.ssl_mode() {
            SslMode::VerifyFull | SslMode::VerifyCa => {
                "Check that the server's certificate is signed by an authority this machine knows and names this host."
            }
            _ => "If the server has no TLS, use sslmode=disable on a network you trust.",
        };
        return Error::new(Kind::Unreachable, format!("{NO_TLS} {}: {why}", url.host())).with_help(help);
    }
    Error::new(Kind::Unreachable, format!("the connection to {} failed: {why}", url.host()))
        .with_help("Check that the port belongs to PostgreSQL.")
}

/// Whether [`login`] failed before the user was asked for.
pub(super) fn failed_at_tls(error: &Error) -> bool {
    error.message().starts_with(NO_TLS)
}

/// Whether [`login`] was refused by a server that is there and has enough to do.
pub(super) fn has_no_room(error: &Error) -> bool {
    error.message().contains(NO_ROOM)
}

/// A failed statement. `doing` is what was tried ("reading public.orders").
pub(super) fn statement(doing: &str, error: tokio_postgres::Error) -> Error {
    let Some(answer) = error.as_db_error() else {
        let lost = Error::new(Kind::SourceChanged, format!("{doing}: the connection was lost"))
            .with_help("The snapshot cannot go on without it. Try again.");
        return lost.with_source(error);
    };
    let message = format!("{doing}: {}", answer.message());
    let (kind, help) = class(answer.code(), answer.message());
    let mapped = Error::new(kind, message);
    let mapped = match help {
        Some(help) => mapped.with_help(help),
        None => mapped,
    };
    mapped.with_source(error)
}

/// What a standby says when what it replays would change what a snapshot shows.
pub(super) const STANDBY_CONFLICT: &str = "conflict with recovery";
/// What helps then.
pub(super) const STANDBY_HELP: &str = "The server is a standby, and what it replayed from its primary removes rows that the \
    snapshot shows: set hot_standby_feedback = on there, or raise its max_standby_streaming_delay, or back up the primary.";

fn class(code: &SqlState, message: &str) -> (Kind, Option<&'static str>) {
    if message.contains(STANDBY_CONFLICT) {
        return (Kind::SourceChanged, Some(STANDBY_HELP));
    }
    if message.contains("row-level security") {
        return (Kind::Denied, Some("ALTER ROLE ... BYPASSRLS lets the user read every row."));
    }
    match code {
        code if *code == SqlState::INSUFFICIENT_PRIVILEGE => {
            (Kind::Denied, Some("GRANT SELECT on it to the user."))
        }
        code if *code == SqlState::LOCK_NOT_AVAILABLE => (
            Kind::SourceChanged,
            Some("Something else locks the table, or waits to: try again when that is done."),
        ),
        code if *code == SqlState::OUT_OF_MEMORY && message.contains("shared memory") => (
            Kind::Unsupported,
            Some(
                "The server has too few locks for this many tables: raise max_locks_per_transaction and restart it.",
            ),
        ),
        code if *code == SqlState::DUPLICATE_PSTATEMENT || *code == SqlState::INVALID_SQL_STATEMENT_NAME => (
            Kind::Unsupported,
            Some(
                "A pooler in transaction mode stands between: connect to the server itself, or to its session pool.",
            ),
        ),
        code if is_change(code, message) => {
            (Kind::SourceChanged, Some("The database changed meanwhile. Try again."))
        }
        code if *code == SqlState::UNDEFINED_FUNCTION => (
            Kind::Unsupported,
            Some(
                "A function that an index of the table calls names another one without its schema: \
                 ALTER FUNCTION ... SET search_path = ... mends that.",
            ),
        ),
        _ => (Kind::Unsupported, Some("PostgreSQL refuses to read it. Mend what it names, and try again.")),
    }
}

/// Whether the statement failed because the database changed or went away under the snapshot, so
/// that starting over may help.
fn is_change(code: &SqlState, message: &str) -> bool {
    let changed = [
        SqlState::UNDEFINED_TABLE,
        SqlState::UNDEFINED_COLUMN,
        SqlState::UNDEFINED_OBJECT,
        SqlState::INVALID_SCHEMA_NAME,
        SqlState::WRONG_OBJECT_TYPE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::QUERY_CANCELED,
        SqlState::SNAPSHOT_TOO_OLD,
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        SqlState::IN_FAILED_SQL_TRANSACTION,
    ];
    changed.contains(code)
        || message.contains("cache lookup failed")
        || message.contains("could not open relation with OID")
        || message.contains("snapshot")
}

/// Whether locking and listing again may succeed where this failed.
pub(super) fn is_restartable(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|answer| {
        is_change(answer.code(), answer.message()) || *answer.code() == SqlState::LOCK_NOT_AVAILABLE
            // Listed as readable a moment ago.
            || *answer.code() == SqlState::INSUFFICIENT_PRIVILEGE
    })
}

/// Whether somebody else has a lock, or waits for one.
pub(super) fn is_locked(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE)
}

/// Whether what the statement names is not there any more.
pub(super) fn is_gone(error: &tokio_postgres::Error) -> bool {
    let gone = [SqlState::UNDEFINED_TABLE, SqlState::INVALID_SCHEMA_NAME];
    error.as_db_error().is_some_and(|answer| {
        gone.contains(answer.code()) || answer.message().contains("could not open relation with OID")
    })
}

/// Whether a function that planning a query calls failed, or SQL in it.
pub(super) fn is_of_function(error: &tokio_postgres::Error) -> bool {
    const CLASSES: [&str; 7] = ["22", "2F", "38", "39", "3F", "42", "P0"];
    error.code().is_some_and(|code| {
        *code != SqlState::INSUFFICIENT_PRIVILEGE
            && CLASSES.iter().any(|class| code.code().starts_with(class))
    })
}

/// Whether the server could not print a row in one piece.
pub(super) fn is_oversize(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|answer| {
        let message = answer.message();
        message.contains("invalid memory alloc request size")
            || message.contains("cannot enlarge string buffer")
            || message == "out of memory"
            || *answer.code() == SqlState::PROGRAM_LIMIT_EXCEEDED
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standby_that_goes_on_is_told_as_one() {
        for message in [
            "canceling statement due to conflict with recovery",
            "terminating connection due to conflict with recovery",
        ] {
            let (kind, help) = class(&SqlState::T_R_SERIALIZATION_FAILURE, message);
            assert_eq!(kind, Kind::SourceChanged);
            assert!(
                help.unwrap().contains("standby") && help.unwrap().contains("max_standby_streaming_delay")
            );
        }
    }
}
