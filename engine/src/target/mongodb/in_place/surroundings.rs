//! What stands around collections: the server, its user, and what cannot be written.

use std::collections::BTreeMap;

use bson::doc;
use futures::{StreamExt, TryStreamExt, stream};
use mongodb::options::{ReadPreference, SelectionCriteria};

use crate::error::Result;
use crate::source::mongodb::MongoUrl;
use crate::target::mongodb::connect;
use crate::target::mongodb::fault::{self, code};
use crate::target::mongodb::inspect::{Topology, inspect};
use crate::target::mongodb::privileges::Privileges;

/// What a restore in place does to a collection.
pub(crate) const NEEDED: [&str; 4] = ["find", "insert", "update", "remove"];
/// Writing documents that a validator refuses.
const BYPASS: &str = "bypassDocumentValidation";
/// Collections asked about at a time.
const ASKED_AT_ONCE: usize = 8;

/// A database and the name of a collection.
type Name = (String, String);

/// What a server tells.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    /// As the server prints it.
    pub(crate) version: String,
    /// Whether there are transactions, and moments to read at.
    pub(crate) is_replicated: bool,
    /// Whether the member that answered takes writes.
    pub(crate) takes_writes: bool,
    /// Whether the URL lets members be read that may be behind.
    pub(crate) reads_others: bool,
    /// Collections that are spread over shards, and why that keeps them from being written.
    pub(crate) barred: BTreeMap<Name, String>,
    privileges: Privileges,
}

impl Surroundings {
    /// Looks at the server and at these collections. Any user who can log in may do it.
    pub(crate) async fn look(url: &MongoUrl, collections: &[Name]) -> Result<Self> {
        let client = connect(url).await?;
        let state = inspect(&client, &Default::default()).await?;
        let mut barred = BTreeMap::new();
        if state.topology == Topology::Sharded {
            let asked = stream::iter(collections)
                .map(|name| async { Ok((name.clone(), sharding(&client, name).await?)) })
                .buffered(ASKED_AT_ONCE)
                .try_collect::<Vec<_>>();
            let found: Result<_> = asked.await;
            barred = found?.into_iter().filter_map(|(name, why)| Some((name, why?))).collect();
        }
        let primary = SelectionCriteria::ReadPreference(ReadPreference::Primary);
        let reads_others = client.selection_criteria().is_some_and(|criteria| *criteria != primary);
        client.shutdown().await;
        Ok(Self {
            version: state.version,
            is_replicated: state.topology != Topology::Standalone,
            takes_writes: state.takes_writes,
            reads_others,
            barred,
            privileges: state.privileges,
        })
    }

    /// Those of the needed actions that the user lacks on a collection, as far as the server tells.
    pub(crate) fn lacking(&self, (database, name): &Name) -> Vec<&'static str> {
        self.privileges.missing(database, name, &NEEDED)
    }

    /// Who is logged in; nobody where the server lets anybody do anything, or does not tell.
    pub(crate) fn user(&self) -> Option<&str> {
        match &self.privileges {
            Privileges::Unrestricted => None,
            Privileges::Unknown { user } | Privileges::Known { user, .. } => Some(user),
        }
    }

    /// Whether the server tells what the user may do.
    pub(crate) fn tells_rights(&self) -> bool {
        !matches!(self.privileges, Privileges::Unknown { .. })
    }

    /// Whether the user is known to be allowed to pass validators by.
    pub(crate) fn may_bypass(&self, (database, name): &Name) -> bool {
        self.tells_rights() && self.privileges.missing(database, name, &[BYPASS]).is_empty()
    }
}

/// Why a collection behind a router is not written. `_id` need not tell the documents of a sharded one
/// apart.
async fn sharding(client: &mongodb::Client, (database, name): &Name) -> Result<Option<String>> {
    let asked = client.database(database).run_command(doc! { "collStats": name }).await;
    match asked {
        Ok(stats) if stats.get_bool("sharded").unwrap_or(false) => {
            Ok(Some("it is sharded: restore it into a new database".to_owned()))
        }
        // One that is not there is told elsewhere.
        Ok(_) => Ok(None),
        Err(error) if fault::code_of(&error) == Some(code::UNAUTHORIZED) => {
            Ok(Some("the user may not ask whether it is sharded (collStats)".to_owned()))
        }
        // A view, which is told elsewhere, too.
        Err(error) if fault::code_of(&error).is_some() => Ok(None),
        Err(error) => Err(fault::command("asking whether collections are sharded", error)),
    }
}
