//! Sequences, in the transaction that writes the rows.

use repo_format::manifest::SequenceState;

use super::{Surroundings, failed};
use crate::error::{Error, Kind, Result};
use crate::source::postgres::session::{Session, literal, qualified};
use crate::source::sql_name;

/// Puts sequences where they are wanted, and returns those that stay where they are, and why. A state that
/// is set is taken back with the transaction: `setval` alone would outlive it, so the sequence is begun
/// anew first, which is a change that the transaction owns. That takes the owner.
pub(crate) async fn set_sequences(
    session: &Session,
    around: &Surroundings,
    wanted: &[SequenceState],
) -> Result<Vec<String>> {
    let mut left = Vec::new();
    for state in wanted {
        let SequenceState { namespace, name, last_value, is_called } = state;
        let shown = sql_name(namespace, name);
        let rights = around.sequences.get(&(namespace.clone(), name.clone()));
        if !rights.is_some_and(|rights| rights.owns && rights.may_set) {
            left.push(format!("sequence {shown} stays where it stands: {} does not own it", around.user));
            continue;
        }
        let sequence = qualified(namespace, name);
        let sql = format!(
            "ALTER SEQUENCE {sequence} RESTART; SELECT setval({}::regclass, {last_value}, {is_called})",
            literal(&sequence)
        );
        let doing = format!("setting sequence {shown}");
        session.run(&sql).await.map_err(|error| failed(&doing, error))?;
        let sql = format!("SELECT last_value::text, is_called::text FROM {sequence}");
        let rows = session.rows(&sql).await.map_err(|error| failed(&doing, error))?;
        let stands = rows.first().map(|row| (row.number::<i64>(0), row.flag(1)));
        if stands != Some((*last_value, *is_called)) {
            let message =
                format!("{doing}: it stands elsewhere after it was set, so everything was taken back");
            return Err(Error::new(Kind::Refused, message).with_help("Nothing was changed."));
        }
    }
    Ok(left)
}
