//! What to say when the server has no room for as many locks as a database has tables.

use super::fault;
use super::session::Session;
use crate::error::Result;

/// What the server says.
pub(super) const NO_ROOM: &str = "out of shared memory";

/// Locks for whoever else is there, in quarters of what a backup needs.
const OTHERS: u64 = 1;

/// The setting that makes room, with the number it takes: the snapshot's holder locks every table, and so
/// does `pg_dump` beside it. Needs a session that has not failed.
pub(super) async fn advice(session: &Session) -> Result<String> {
    let sql = "SELECT current_setting('max_locks_per_transaction'), \
         (current_setting('max_connections')::int + current_setting('max_prepared_transactions')::int)::text, \
         (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
          WHERE relkind IN ('r', 'p') AND nspname !~ '^pg_' AND nspname <> 'information_schema')::text";
    let rows = session.answered(session.rows(sql)).await?;
    let rows = rows.map_err(|error| fault::statement("reading settings", error))?;
    let row = rows.first();
    let number = |at: usize| row.map_or(0, |row| row.number::<u64>(at));
    let (now, transactions, tables) = (number(0), number(1), number(2));
    let setting = sufficient(tables, transactions).max((now + 1).next_power_of_two());
    Ok(format!(
        "The server has too few locks for {tables} tables, which a backup locks twice: set \
         max_locks_per_transaction to {setting} (it is {now}) and restart it."
    ))
}

/// The locks for each transaction of which there are enough in all.
fn sufficient(tables: u64, transactions: u64) -> u64 {
    let needed = tables * 2 + tables * 2 * OTHERS / 4;
    needed.div_ceil(transactions.max(1)).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_enough_for_both_and_others() {
        for (tables, transactions) in [(3500, 60), (8000, 60), (1, 100), (100_000, 100)] {
            let locks = sufficient(tables, transactions) * transactions;
            assert!(locks > tables * 2 && locks < tables * 5 + 2 * transactions, "{tables}: {locks}");
        }
        assert_eq!(sufficient(3500, 60), 256);
    }
}
