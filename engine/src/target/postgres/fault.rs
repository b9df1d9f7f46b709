//! What the server's errors mean to a restore.

use tokio_postgres::error::SqlState;

use crate::error::{Error, Kind};

/// A failed statement. `doing` is what was tried ("loading public.orders").
pub(super) fn statement(doing: &str, error: tokio_postgres::Error) -> Error {
    let Some(answer) = error.as_db_error() else {
        return Error::new(Kind::Unreachable, format!("{doing}: the connection to the target was lost"))
            .with_help("Check the target's log, then restore again.")
            .with_source(error);
    };
    let mut message = format!("{doing}: {}", answer.message());
    // For a refused row the detail is the row; for a value the context is the column and line.
    if let Some(more) = answer.detail().or_else(|| answer.where_()) {
        message.push_str(&format!(" ({})", shorten(more)));
    }
    let (kind, help) = match answer.code() {
        // A value of type regrole, or of an aclitem.
        code if *code == SqlState::UNDEFINED_OBJECT && answer.message().starts_with("role \"") => (
            Kind::Refused,
            Some("The target lacks a role that is named there: CREATE ROLE it, then restore again."),
        ),
        code => class(code),
    };
    let mapped = Error::new(kind, message);
    let mapped = match help {
        Some(help) => mapped.with_help(help),
        None => mapped,
    };
    mapped.with_source(error)
}

fn class(code: &SqlState) -> (Kind, Option<&'static str>) {
    let is = |candidates: &[SqlState]| candidates.contains(code);
    if is(&[SqlState::INSUFFICIENT_PRIVILEGE]) {
        return (Kind::Denied, Some("Restore as a user who may create databases, or as the target's owner."));
    }
    if is(&[SqlState::DISK_FULL, SqlState::OUT_OF_MEMORY, SqlState::CONFIGURATION_LIMIT_EXCEEDED]) {
        return (Kind::Storage, Some("The target server is out of room: give it more, then restore again."));
    }
    if is(&[SqlState::DUPLICATE_DATABASE, SqlState::OBJECT_IN_USE, SqlState::LOCK_NOT_AVAILABLE]) {
        return (Kind::Conflict, Some("Something else uses the target: make sure that nothing does."));
    }
    if is(&[SqlState::READ_ONLY_SQL_TRANSACTION]) {
        return (Kind::Denied, Some("The target is a standby or read-only: restore into the primary."));
    }
    if code.code().starts_with(BROKEN_RULE) {
        return (
            Kind::Refused,
            Some(
                "A row does not meet a rule of its own table. Rules that depend on the time, on other rows or on \
                  a collation can hold for a row when it is written and not later.",
            ),
        );
    }
    if is(&[
        SqlState::UNDEFINED_TABLE,
        SqlState::UNDEFINED_FUNCTION,
        SqlState::UNDEFINED_OBJECT,
        SqlState::INVALID_SCHEMA_NAME,
    ]) {
        return (
            Kind::Refused,
            Some(
                "Restores run with an empty search path, or one of the table's schema and public. If a function looks \
                  for something without naming its schema, give it one in the source (ALTER FUNCTION ... SET search_path = ...) and take a new snapshot.",
            ),
        );
    }
    if code.code().starts_with("57P") {
        return (Kind::Unreachable, Some("The target server ended the connection: see its log."));
    }
    (Kind::Refused, None)
}

/// The class of integrity constraint violations.
const BROKEN_RULE: &str = "23";

/// Whether a statement failed because rows do not meet a constraint.
pub(super) fn is_broken_rule(error: &Error) -> bool {
    let source =
        std::error::Error::source(error).and_then(|source| source.downcast_ref::<tokio_postgres::Error>());
    source.and_then(tokio_postgres::Error::code).is_some_and(|code| code.code().starts_with(BROKEN_RULE))
}

/// A row in an error message can be as long as any row.
fn shorten(text: &str) -> String {
    const LIMIT: usize = 300;
    let mut short: String = text.chars().take(LIMIT).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
