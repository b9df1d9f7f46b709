//! What the server's errors mean while documents are changed in place.

use mongodb::error::{Error as DriverError, TRANSIENT_TRANSACTION_ERROR};

use crate::error::{Error, Kind};
use crate::target::mongodb::fault::{self, code};

/// Somebody else writes to the same document in a transaction.
const WRITE_CONFLICT: i32 = 112;

/// Why a transaction did not come to its end.
#[derive(Debug)]
pub(super) enum Failure {
    /// It is gone, and may succeed when it is begun anew.
    Again(Error),
    /// It would fail again.
    Final(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

/// A failed command. `doing` is what was tried ("writing shop.orders").
pub(super) fn command(doing: &str, error: DriverError) -> Failure {
    let is_transient = error.contains_label(TRANSIENT_TRANSACTION_ERROR);
    let number = fault::code_of(&error);
    let mapped = explained(number, fault::command(doing, error));
    if is_transient || number == Some(WRITE_CONFLICT) {
        return Failure::Again(conflicting(number, mapped));
    }
    Failure::Final(mapped)
}

/// An error of that number inside an answer that is none as a whole.
pub(super) fn answer(doing: &str, number: i32, message: &str) -> Failure {
    let mapped = explained(Some(number), fault::answer(doing, number, message));
    match number {
        WRITE_CONFLICT => Failure::Again(conflicting(Some(number), mapped)),
        _ => Failure::Final(mapped),
    }
}

fn conflicting(number: Option<i32>, error: Error) -> Error {
    if number != Some(WRITE_CONFLICT) {
        return error;
    }
    let message = format!("{}: another transaction keeps writing to the same documents", error.message());
    Error::new(Kind::Refused, message).with_help("Try again when that is done.").with_source(error)
}

fn explained(number: Option<i32>, error: Error) -> Error {
    let (kind, help) = match number {
        Some(code::DUPLICATE_KEY) => (
            Kind::Refused,
            "A value that a unique index allows once is in another document. Restore that document, too, or the whole \
             collection.",
        ),
        Some(code::DOCUMENT_VALIDATION) => (
            Kind::Refused,
            "The collection's validator refuses it. Use a user with the role dbAdmin, too, which lets documents by.",
        ),
        Some(code::UNAUTHORIZED) => (Kind::Denied, "Restore as a user with the role readWrite."),
        // A server without replication says so.
        Some(code::ILLEGAL_OPERATION) => (
            Kind::Unsupported,
            "The server has no transactions. Restore into a new database, and copy from there what is needed.",
        ),
        _ => return error,
    };
    Error::new(kind, error.message().to_owned()).with_help(help).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conflict_is_tried_again_and_what_the_server_refuses_is_not() {
        assert!(matches!(answer("writing", WRITE_CONFLICT, "WriteConflict"), Failure::Again(_)));
        for (number, kind) in [
            (code::DUPLICATE_KEY, Kind::Refused),
            (code::DOCUMENT_VALIDATION, Kind::Refused),
            (code::UNAUTHORIZED, Kind::Denied),
        ] {
            let Failure::Final(error) = answer("writing", number, "no") else { panic!("{number}") };
            assert!(error.kind() == kind && error.help().is_some(), "{number}");
        }
    }
}
