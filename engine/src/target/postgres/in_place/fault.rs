//! What the server's errors mean while rows are changed in place.

use tokio_postgres::error::SqlState;

use crate::error::Error;
use crate::target::postgres::fault;

/// A failed statement. `doing` is what was tried ("writing public.orders").
pub(crate) fn statement(doing: &str, error: tokio_postgres::Error) -> Error {
    let help = error.code().and_then(help);
    let mapped = fault::statement(doing, error);
    match help {
        Some(help) => mapped.with_help(help),
        None => mapped,
    }
}

fn help(code: &SqlState) -> Option<&'static str> {
    let is = |candidate: &SqlState| code == candidate;
    if is(&SqlState::FOREIGN_KEY_VIOLATION) {
        return Some(
            "Nothing was changed. Rows of another table refer to rows that the restore would remove, or the other way \
             round: restore both tables together.",
        );
    }
    if is(&SqlState::UNIQUE_VIOLATION) || is(&SqlState::EXCLUSION_VIOLATION) {
        return Some(
            "Nothing was changed. A value that has to be unique would be moved from one row to another: restore all \
             rows concerned, or the whole table, into a new database, or remove the row that holds it first.",
        );
    }
    if is(&SqlState::INSUFFICIENT_PRIVILEGE) {
        return Some("Nothing was changed. Restore as the owner of the tables.");
    }
    if is(&SqlState::LOCK_NOT_AVAILABLE) || is(&SqlState::T_R_DEADLOCK_DETECTED) {
        return Some("Nothing was changed. Something else locks the tables: try again when that is done.");
    }
    None
}
