//! What the server's errors mean to a restore.

use bson::Document;
use mongodb::error::{Error as DriverError, ErrorKind};

use crate::error::{Error, Kind};

/// The numbers that MongoDB gives to errors.
pub(super) mod code {
    pub const BAD_VALUE: i32 = 2;
    pub const NO_SUCH_KEY: i32 = 4;
    pub const FAILED_TO_PARSE: i32 = 9;
    pub const UNAUTHORIZED: i32 = 13;
    pub const TYPE_MISMATCH: i32 = 14;
    pub const ILLEGAL_OPERATION: i32 = 20;
    pub const NAMESPACE_NOT_FOUND: i32 = 26;
    pub const NAMESPACE_EXISTS: i32 = 48;
    pub const MAX_TIME_EXPIRED: i32 = 50;
    pub const COMMAND_NOT_FOUND: i32 = 59;
    pub const CANNOT_CREATE_INDEX: i32 = 67;
    pub const INVALID_OPTIONS: i32 = 72;
    pub const INVALID_NAMESPACE: i32 = 73;
    pub const SHUTDOWN_IN_PROGRESS: i32 = 91;
    pub const COMMAND_NOT_SUPPORTED: i32 = 115;
    pub const DOCUMENT_VALIDATION: i32 = 121;
    pub const PRIMARY_STEPPED_DOWN: i32 = 189;
    pub const INVALID_INDEX_OPTION: i32 = 197;
    pub const COMMAND_NOT_SUPPORTED_ON_VIEW: i32 = 166;
    pub const NOT_WRITABLE_PRIMARY: i32 = 10_107;
    pub const DUPLICATE_KEY: i32 = 11_000;
    pub const INTERRUPTED_AT_SHUTDOWN: i32 = 11_600;
    pub const INTERRUPTED_BY_STEP_DOWN: i32 = 11_602;
    pub const DATABASE_DIFFERS_IN_CASE: i32 = 13_297;
    pub const NOT_PRIMARY_NO_SECONDARY_OK: i32 = 13_435;
    pub const NOT_PRIMARY_OR_SECONDARY: i32 = 13_436;
    pub const OUT_OF_DISK_SPACE: i32 = 14_031;
    pub const UNKNOWN_FIELD: i32 = 40_415;
}

use code::*;

/// The error's number, when a server gave it.
pub(super) fn code_of(error: &DriverError) -> Option<i32> {
    match error.kind.as_ref() {
        ErrorKind::Command(failure) => Some(failure.code),
        _ => None,
    }
}

/// Whether the connection or the primary was lost, so that a write may or may not have happened.
pub(super) fn is_lost(error: &DriverError) -> bool {
    match error.kind.as_ref() {
        ErrorKind::Io(_) | ErrorKind::ConnectionPoolCleared { .. } => true,
        ErrorKind::Command(failure) => is_lost_code(failure.code),
        _ => false,
    }
}

/// As [`is_lost`], of an answer's number.
pub(super) fn is_lost_code(code: i32) -> bool {
    const LOST: [i32; 7] = [
        SHUTDOWN_IN_PROGRESS,
        PRIMARY_STEPPED_DOWN,
        NOT_WRITABLE_PRIMARY,
        INTERRUPTED_AT_SHUTDOWN,
        INTERRUPTED_BY_STEP_DOWN,
        NOT_PRIMARY_NO_SECONDARY_OK,
        NOT_PRIMARY_OR_SECONDARY,
    ];
    LOST.contains(&code)
}

/// Whether the server refused a definition because it does not know or allow something in it:
/// another definition may pass.
pub(super) fn is_refusal(error: &DriverError) -> bool {
    const REFUSALS: [i32; 12] = [
        BAD_VALUE,
        NO_SUCH_KEY,
        FAILED_TO_PARSE,
        TYPE_MISMATCH,
        ILLEGAL_OPERATION,
        CANNOT_CREATE_INDEX,
        INVALID_OPTIONS,
        COMMAND_NOT_SUPPORTED,
        INVALID_INDEX_OPTION,
        COMMAND_NOT_SUPPORTED_ON_VIEW,
        COMMAND_NOT_FOUND,
        UNKNOWN_FIELD,
    ];
    // Assertions in the server's parsers have numbers of five digits and more, and no place in a list.
    code_of(error).is_some_and(|code| REFUSALS.contains(&code) || (code > 15_000 && !is_lost_code(code)))
}

/// What a server said, or what became of the connection.
pub(super) fn message_of(error: &DriverError) -> String {
    match error.kind.as_ref() {
        ErrorKind::Command(failure) => shorten(&failure.message),
        _ => crate::source::mongodb::fault::connection(error),
    }
}

/// A failed command. `doing` is what was tried ("loading shop.orders").
pub(super) fn command(doing: &str, error: DriverError) -> Error {
    let (kind, help) = match error.kind.as_ref() {
        ErrorKind::Command(failure) => class(failure.code),
        ErrorKind::Authentication { .. } => {
            (Kind::Denied, Some("Check user, password and authSource of the target's URL."))
        }
        ErrorKind::Io(_)
        | ErrorKind::ConnectionPoolCleared { .. }
        | ErrorKind::ServerSelection { .. }
        | ErrorKind::DnsResolve { .. } => {
            (Kind::Unreachable, Some("Check the target's address and its log, then restore again."))
        }
        ErrorKind::InvalidArgument { .. } | ErrorKind::InvalidTlsConfig { .. } => (Kind::Invalid, None),
        _ => (Kind::Internal, None),
    };
    // The driver's own error is not passed on: its text repeats whole replies.
    with_help(Error::new(kind, format!("{doing}: {}", message_of(&error))), help)
}

/// An error of that number inside an answer that is none as a whole.
pub(super) fn answer(doing: &str, code: i32, message: &str) -> Error {
    let (kind, help) = class(code);
    with_help(Error::new(kind, format!("{doing}: {}", shorten(message))), help)
}

fn with_help(error: Error, help: Option<&str>) -> Error {
    match help {
        Some(help) => error.with_help(help),
        None => error,
    }
}

fn class(code: i32) -> (Kind, Option<&'static str>) {
    match code {
        UNAUTHORIZED => (Kind::Denied, Some("Restore as a user with the roles readWrite and dbAdmin.")),
        NAMESPACE_EXISTS | DATABASE_DIFFERS_IN_CASE => {
            (Kind::Conflict, Some("Something else uses the target: restore into a new database."))
        }
        OUT_OF_DISK_SPACE => {
            (Kind::Storage, Some("The target server is out of room: give it more, then restore again."))
        }
        DUPLICATE_KEY => (
            Kind::Unsupported,
            Some("Two documents have the same key under a unique index, as they may in a sharded source."),
        ),
        DOCUMENT_VALIDATION => (
            Kind::Conflict,
            Some("Somebody else changes the target: collections have no validators while they are loaded."),
        ),
        INVALID_NAMESPACE => {
            (Kind::Unsupported, Some("Name another database, with a shorter or plainer name."))
        }
        code if is_lost_code(code) => {
            (Kind::Unreachable, Some("The target has another primary now or is stopping: restore again."))
        }
        _ => (Kind::Refused, None),
    }
}

/// The number and the message of an error document.
pub(super) fn parts(error: &Document) -> (i32, String) {
    (error.get_i32("code").unwrap_or_default(), error.get_str("errmsg").unwrap_or_default().to_owned())
}

/// A message can quote a document as long as any.
pub(super) fn shorten(text: &str) -> String {
    const LIMIT: usize = 400;
    let mut short: String = text.chars().take(LIMIT).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
