//! Restoring into collections that hold records: only what differs is written.
//!
//! Three trees are at work. What a collection holds, `live`, is read through the pipeline of a backup with
//! the snapshot's layout. The `goal` is what it is to hold: the snapshot's tree, or the live one with single
//! records exchanged, or with those put back that an earlier restore wrote. What is written is their
//! difference, and the proof is that the collection, read again, has the goal's root. So a restore of one
//! record proves of all the others that they are what they were, and taking a restore back is another
//! restore with another goal.
//!
//! What was read is committed as a snapshot of its own before anything is written. How it is written is each
//! engine's own: PostgreSQL's tables ([`postgres`]) are locked and written in one transaction, proof included;
//! MongoDB's collections ([`mongodb`]) in transactions that hold every document against what was read of it.

mod apply;
mod around;
mod checks;
mod delta;
mod fit;
mod goal;
mod goals;
mod mongodb;
mod plan;
mod postgres;
mod proof;
mod reached;
mod reversal;
mod safety;

use serde::{Deserialize, Serialize};

pub use apply::{Back, NoteDown, Order, Reached, apply_in_place, undo};
pub use plan::{Preview, is_as_planned, plan_in_place};

use crate::error::{Error, Kind, Result};
use crate::repo::Snapshot;
use crate::source::DatabaseUrl;

/// A schema or database and a name, unquoted.
type Name = (String, String);

/// What the collections in scope held when a restore in place was planned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Those that are written.
    pub tables: Vec<TableStanding>,
    /// Tables beside them whose rows foreign keys could change, as (schema, name). They are locked, and
    /// must come out as they were.
    pub bystanders: Vec<(String, String)>,
    /// Collections in scope that stay as they are, and why.
    pub left_out: Vec<(String, String)>,
}

/// What one collection held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableStanding {
    /// The schema or database it is in.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The root of what it held; of single records, a hash of them.
    pub root: String,
}

impl Standing {
    fn names(&self) -> Vec<Name> {
        self.tables.iter().map(|table| (table.namespace.clone(), table.name.clone())).collect()
    }
}

/// Fails when the target is of another system than the snapshot.
fn check_engine(url: &DatabaseUrl, snapshot: &Snapshot) -> Result<()> {
    let (source, target) = (&snapshot.manifest.source.engine, url.engine().as_str());
    if source == target {
        return Ok(());
    }
    Err(Error::new(Kind::Invalid, format!("the snapshot is of {source}, the target is {target}"))
        .with_help("Restore into a database of the same system."))
}
