//! Sealing everything anew, when the server key is replaced.

use std::sync::Arc;

use engine::clock::Entropy;
use redb::{ReadableTable, WriteTransaction};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::audit::SEAL_OWNER;
use super::rows::{self, DATABASES, DIFFS, JOBS, RESTORES, Rows};
use super::{ConnectedDatabase, Diff, JobRecord, Meta, Restore, Result, RetiredSlot, Scope, settings};
use crate::server_key::{Purpose, SealBroken, Sealed, ServerKey};

/// Opens with one key and seals with another.
struct Change {
    old: ServerKey,
    new: ServerKey,
    entropy: Arc<dyn Entropy>,
}

impl Change {
    fn reseal(&self, purpose: Purpose, owner: &str, sealed: &mut Sealed) -> Result<(), SealBroken> {
        let plain = self.old.sealer(purpose).open(owner, sealed)?;
        *sealed = self.new.sealer(purpose).seal(owner, &plain, self.entropy.as_ref());
        Ok(())
    }

    fn reseal_any(
        &self,
        purpose: Purpose,
        owner: &str,
        sealed: &mut Option<Sealed>,
    ) -> Result<(), SealBroken> {
        sealed.as_mut().map_or(Ok(()), |sealed| self.reseal(purpose, owner, sealed))
    }
}

impl Meta {
    /// Seals what the old server key had sealed by the new one, all of it or nothing. From then on the slots
    /// of the old one are `retired`. Keys that sign access tokens are not sealed anew: whoever has the old
    /// key and a copy of this store could go on signing.
    pub async fn reseal(
        &self,
        old: ServerKey,
        new: ServerKey,
        retired: Vec<RetiredSlot>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<()> {
        let change = Change { old, new, entropy };
        self.write(move |tx| {
            every(tx, DATABASES, |id, row: &mut ConnectedDatabase| {
                change.reseal_any(Purpose::Credentials, id, &mut row.url)
            })?;
            every(tx, RESTORES, |id, row: &mut Restore| {
                change.reseal_any(Purpose::Credentials, id, &mut row.target_url)?;
                if let Scope::Records(sealed) = &mut row.scope {
                    change.reseal(Purpose::Summaries, id, sealed)?;
                }
                change.reseal_any(Purpose::Summaries, id, &mut row.plan)
            })?;
            every(tx, DIFFS, |id, row: &mut Diff| {
                change.reseal_any(Purpose::Summaries, id, &mut row.summary)
            })?;
            every(tx, JOBS, |id, row: &mut JobRecord| {
                change.reseal_any(Purpose::Summaries, id, &mut row.outcome)
            })?;
            settings::forget_token_keys(tx)?;
            settings::add_retired_slots(tx, retired)?;
            settings::change_audit_key(tx, |key| {
                change.reseal(Purpose::Audit, SEAL_OWNER, key).map_err(Into::into)
            })?;
            settings::put_key_fingerprint(tx, &change.new.fingerprint())
        })
        .await
    }
}

/// Changes every row of a table.
fn every<T: Serialize + DeserializeOwned>(
    tx: &WriteTransaction,
    table: Rows,
    change: impl Fn(&str, &mut T) -> Result<(), SealBroken>,
) -> Result<()> {
    let ids: Vec<String> = {
        let table = tx.open_table(table)?;
        table.iter()?.map(|entry| Ok(entry?.0.value().to_owned())).collect::<Result<_>>()?
    };
    for id in ids {
        let found: Option<T> = rows::get(&tx.open_table(table)?, &id)?;
        let Some(mut row) = found else { continue };
        change(&id, &mut row)?;
        rows::put(tx, table, &id, &row)?;
    }
    Ok(())
}
