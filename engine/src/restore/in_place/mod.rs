//! Restoring into tables that hold rows: only what differs is written, in one transaction.
//!
//! Three trees are at work. What a table holds, `live`, is read through the pipeline of a backup with the
//! snapshot's layout. The `goal` is what it is to hold: the snapshot's tree, or the live one with single
//! records exchanged, or with those put back that an earlier restore wrote. What is written is their
//! difference, and the proof is that the table, read again on the connection that wrote, has the goal's
//! root. So a restore of one record proves of all the others that they are what they were, and taking a
//! restore back is another restore with another goal.
//!
//! Before anything is written the transaction locks the tables against writers and reads them, and what it
//! read is committed as a snapshot of its own. Whatever fails after that, the transaction is taken back.

mod apply;
mod checks;
mod fit;
mod goal;
mod held;
mod plan;
mod proof;
mod reversal;
mod safety;
mod write;

use serde::{Deserialize, Serialize};

pub use apply::{Order, apply_in_place, undo};
pub use plan::{Preview, is_as_planned, plan_in_place};

use crate::error::{Error, Kind, Result};
use crate::repo::Snapshot;
use crate::source::DatabaseUrl;
use crate::source::postgres::PostgresUrl;

/// What the tables in scope held when a restore in place was planned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Those that are written.
    pub tables: Vec<TableStanding>,
    /// Tables beside them whose rows foreign keys could change, as (schema, name). They are locked, and
    /// must come out as they were.
    pub bystanders: Vec<(String, String)>,
    /// Tables in scope that stay as they are, and why.
    pub left_out: Vec<(String, String)>,
}

/// What one table held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableStanding {
    /// The schema it is in.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The root of what it held; of single records, a hash of them.
    pub root: String,
}

impl Standing {
    fn names(&self) -> Vec<(String, String)> {
        self.tables.iter().map(|table| (table.namespace.clone(), table.name.clone())).collect()
    }
}

/// The target, if it is of a kind that is restored in place, and of the snapshot's.
fn postgres<'u>(url: &'u DatabaseUrl, snapshot: &Snapshot) -> Result<&'u PostgresUrl> {
    let source = &snapshot.manifest.source.engine;
    if *source != url.engine().as_str() {
        let message = format!("the snapshot is of {source}, the target is {}", url.engine().as_str());
        return Err(
            Error::new(Kind::Invalid, message).with_help("Restore into a database of the same system.")
        );
    }
    match url {
        DatabaseUrl::Postgres(url) => Ok(url),
        DatabaseUrl::MongoDb(_) => {
            Err(Error::new(Kind::Unsupported, "MongoDB databases are not restored in place")
                .with_help("Restore into a new database, and copy from there what is needed."))
        }
    }
}
