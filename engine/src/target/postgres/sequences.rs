//! Sequences' states.

use repo_format::manifest::SequenceState;

use super::{Target, fault};
use crate::error::Result;
use crate::source::postgres::session::{literal, qualified};
use crate::source::sql_name;

impl Target {
    /// Puts sequences where they were: the next value they give is the one they would have given.
    /// Every sequence must exist; `setval` cannot be undone, and in a database of this restore's
    /// own nothing has to be.
    pub async fn set_sequences(&self, states: &[SequenceState]) -> Result<()> {
        let session = self.connect().await?;
        let transaction = format!("BEGIN; {}", self.pins());
        session.run(&transaction).await.map_err(|error| fault::statement("setting sequences", error))?;
        for state in states {
            let SequenceState { namespace, name, last_value, is_called } = state;
            let sequence = literal(&qualified(namespace, name));
            let sql = format!(
                "SELECT pg_catalog.setval({sequence}::pg_catalog.regclass, {last_value}, {is_called})"
            );
            session.run(&sql).await.map_err(|error| {
                fault::statement(&format!("setting sequence {}", sql_name(namespace, name)), error)
            })?;
        }
        session.run("COMMIT").await.map_err(|error| fault::statement("setting sequences", error))
    }
}
