//! Partitions whose definition the archive lacks, because `pg_dump` was not allowed to lock them.
//! Their rows were read through their root and need a place; what is known of them is where they
//! belong, which the root's own description tells.

use repo_format::manifest::Missing;
use serde::Deserialize;

use super::{Target, fault};
use crate::error::Result;
use crate::source::postgres::session::{Session, literal, qualified};
use crate::target::{Described, Note};

/// What a table's schema text says of its partitions.
#[derive(Debug, Default, Deserialize)]
struct Tree {
    #[serde(default)]
    partitions: Vec<Listed>,
}

/// A partition as its root lists it. Texts are SQL.
#[derive(Debug, Deserialize)]
struct Listed {
    name: String,
    bound: Option<String>,
    partition_key: Option<String>,
}

/// A partition that was made anew.
#[derive(Clone, Debug)]
pub(super) struct Made {
    root: String,
    name: String,
    bound: String,
}

impl Target {
    /// Makes the partitions that `missing` names and the target has not. Where a tree has several
    /// levels, nothing says to which of them a partition belongs, and a backup has read no rows of it.
    pub async fn make_partitions(
        &self,
        collections: &[Described<'_>],
        missing: &[Missing],
    ) -> Result<Vec<Note>> {
        let mut wanted = Vec::new();
        for collection in collections {
            let tree: Tree = serde_json::from_str(collection.schema).unwrap_or_default();
            if tree.partitions.iter().any(|listed| listed.partition_key.is_some()) {
                continue;
            }
            let root = qualified(collection.namespace, collection.name);
            wanted.extend(tree.partitions.into_iter().filter_map(|Listed { name, bound, .. }| {
                Some(Made { root: root.clone(), name, bound: bound? })
            }));
        }
        if missing.is_empty() || wanted.is_empty() {
            return Ok(Vec::new());
        }
        let session = self.connect().await?;
        let mut notes = Vec::new();
        for made in self.without_place(&session, wanted).await? {
            let Made { root, name, bound } = &made;
            let sql = format!("CREATE TABLE {name} PARTITION OF {root} {bound}");
            match self.one(&session, "", &sql).await {
                Ok(()) => {
                    notes.push(Note::remark(format!(
                        "{name} was made from its place in {root} alone: what else it had of its own (indexes, \
                         constraints, triggers, comments, privileges) is not in the snapshot"
                    )));
                    self.partitions.lock().await.push(made);
                }
                Err(error) => {
                    notes.push(Note::failed(format!("{name} could not be made: {}", error.message())))
                }
            }
        }
        Ok(notes)
    }

    /// Those that no table of the target has the name of.
    async fn without_place(&self, session: &Session, wanted: Vec<Made>) -> Result<Vec<Made>> {
        let failed = |error| fault::statement("listing partitions", error);
        let names: Vec<String> = wanted.iter().map(|made| literal(&made.name)).collect();
        let sql = format!(
            "SELECT name FROM unnest(ARRAY[{}]::text[]) AS listed (name) WHERE to_regclass(name) IS NULL",
            names.join(", ")
        );
        session.run(&format!("BEGIN READ ONLY; {}", self.pins())).await.map_err(failed)?;
        let rows = session.rows(&sql).await.map_err(failed)?;
        session.run("COMMIT").await.map_err(failed)?;
        let absent: std::collections::HashSet<String> = rows.iter().map(|row| row.text(0)).collect();
        Ok(wanted.into_iter().filter(|made| absent.contains(&made.name)).collect())
    }

    /// Gives the partitions made anew what their roots have got since. The archive makes an index of
    /// a root for the root alone and attaches those of the partitions it knows, so that the root's is
    /// of no use until the others have one: attaching a table as a partition makes them.
    pub(super) async fn complete_partitions(&self) -> Result<Vec<Note>> {
        let made = std::mem::take(&mut *self.partitions.lock().await);
        if made.is_empty() {
            return Ok(Vec::new());
        }
        let session = self.connect().await?;
        let mut notes = Vec::new();
        for Made { root, name, bound } in &made {
            let sql = format!(
                "ALTER TABLE {root} DETACH PARTITION {name}; ALTER TABLE {root} ATTACH PARTITION {name} {bound}"
            );
            let completed = match self.one(&session, "", &sql).await {
                Ok(()) => self.attach_indexes(&session, name).await,
                Err(error) => Err(error),
            };
            if let Err(error) = completed {
                notes.push(Note::failed(format!(
                    "{name} lacks indexes and triggers that {root} has: {}",
                    error.message()
                )));
            }
        }
        Ok(notes)
    }

    /// The server looks whether a root's index is whole when one of a partition is attached to it,
    /// also if that is attached already.
    async fn attach_indexes(&self, session: &Session, partition: &str) -> Result<()> {
        let failed = |error| fault::statement("listing indexes", error);
        let sql = format!(
            "SELECT h.inhparent::regclass::text, h.inhrelid::regclass::text FROM pg_inherits h \
             JOIN pg_index own ON own.indexrelid = h.inhrelid JOIN pg_index whole ON whole.indexrelid = h.inhparent \
             WHERE own.indrelid = to_regclass({}) AND NOT whole.indisvalid",
            literal(partition)
        );
        session.run(&format!("BEGIN READ ONLY; {}", self.pins())).await.map_err(failed)?;
        let rows = session.rows(&sql).await.map_err(failed)?;
        session.run("COMMIT").await.map_err(failed)?;
        for row in rows {
            let attach = format!("ALTER INDEX {} ATTACH PARTITION {}", row.text(0), row.text(1));
            self.one(session, "", &attach).await?;
        }
        Ok(())
    }
}
