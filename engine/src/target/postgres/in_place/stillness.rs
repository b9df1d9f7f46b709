//! What would act or judge while rows are written, and keeps still until they are.
//!
//! Triggers of users would alter what is written, or do again what the rows already show: they are off
//! meanwhile, where the user may switch them off. Foreign keys stay on, and are checked at the end.
//! `session_replication_role = replica` would switch off both. It all happens in the transaction that
//! writes, under locks that keep everybody else from writing, so nobody sees it; and it is put back before
//! the proof, so that the proof sees what putting it back does.

use super::surroundings::Trigger;
use super::{ForeignKey, Surroundings, TableName, failed};
use crate::error::Result;
use crate::source::postgres::session::{Session, ident, qualified};

/// Triggers that are off and foreign keys that wait.
#[derive(Debug, Default)]
pub(crate) struct Stillness {
    put_back: Vec<String>,
    checked_at_end: bool,
}

impl Stillness {
    /// Stills what belongs to `tables`, which are locked.
    pub(crate) async fn begin(
        session: &Session,
        around: &Surroundings,
        tables: &[TableName],
    ) -> Result<Self> {
        let mut stillness = Self::default();
        for trigger in around.triggers.iter().filter(|found| found.owns && tables.contains(&found.table)) {
            let [off, on] = switches(trigger);
            stillness.run(session, &off, on).await?;
        }
        let concerned = |key: &&ForeignKey| tables.contains(&key.child) || tables.contains(&key.parent);
        let mut strict = around.foreign_keys.iter().filter(concerned).filter(|key| !key.is_deferrable);
        stillness.checked_at_end = strict.clone().all(|key| key.owns);
        if stillness.checked_at_end {
            for key in strict.by_ref() {
                let alter = |how| {
                    let table = qualified(&key.relation.0, &key.relation.1);
                    format!("ALTER TABLE {table} ALTER CONSTRAINT {} {how}", ident(&key.name))
                };
                stillness
                    .run(session, &alter("DEFERRABLE INITIALLY DEFERRED"), alter("NOT DEFERRABLE"))
                    .await?;
            }
        }
        let defer = "SET CONSTRAINTS ALL DEFERRED";
        session.run(defer).await.map_err(|error| failed("putting off the constraints", error))?;
        Ok(stillness)
    }

    async fn run(&mut self, session: &Session, sql: &str, put_back: String) -> Result<()> {
        session.run(sql).await.map_err(|error| failed("switching off triggers and checks", error))?;
        self.put_back.push(put_back);
        Ok(())
    }

    /// Whether all foreign keys are checked when the stillness ends, and not at once.
    pub(crate) fn checked_at_end(&self) -> bool {
        self.checked_at_end
    }

    /// Checks what waited, and puts everything back as it was.
    pub(crate) async fn end(self, session: &Session) -> Result<()> {
        let check = session.run("SET CONSTRAINTS ALL IMMEDIATE").await;
        check.map_err(|error| failed("checking the constraints", error))?;
        for sql in self.put_back.into_iter().rev() {
            session
                .run(&sql)
                .await
                .map_err(|error| failed("switching triggers and checks on again", error))?;
        }
        Ok(())
    }
}

/// Off, and back to what it was. Partitions have their own copies of a root's triggers.
fn switches(trigger: &Trigger) -> [String; 2] {
    let (table, name) = (qualified(&trigger.relation.0, &trigger.relation.1), ident(&trigger.name));
    let on = if trigger.fires_always { "ENABLE ALWAYS" } else { "ENABLE" };
    ["DISABLE", on].map(|how| format!("ALTER TABLE ONLY {table} {how} TRIGGER {name}"))
}
