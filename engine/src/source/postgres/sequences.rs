//! Where sequences stand.

use repo_format::manifest::SequenceState;

use super::fault;
use super::snapshot::Snapshot;
use crate::error::Result;

/// So many sequences are asked for in one statement.
const AT_ONCE: usize = 400;

pub(super) async fn read(snapshot: &Snapshot) -> Result<Vec<SequenceState>> {
    let worker = snapshot.worker().await?;
    let mut states = Vec::with_capacity(snapshot.sequences.len());
    for chunk in snapshot.sequences.chunks(AT_ONCE) {
        let select = |(position, sequence): (usize, &super::catalog::Relation)| {
            format!("SELECT {position}::text, last_value::text, is_called::text FROM {}", sequence.sql())
        };
        let sql = chunk.iter().enumerate().map(select).collect::<Vec<_>>().join(" UNION ALL ");
        let rows = worker.answered(worker.rows(&sql)).await?;
        let rows = rows.map_err(|error| fault::statement("reading sequences", error))?;
        states.extend(rows.iter().map(|row| {
            let sequence = &chunk[row.number::<usize>(0)];
            SequenceState {
                namespace: sequence.namespace.clone(),
                name: sequence.name.clone(),
                last_value: row.number(1),
                is_called: row.flag(2),
            }
        }));
    }
    snapshot.keep(worker).await;
    states.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    Ok(states)
}
