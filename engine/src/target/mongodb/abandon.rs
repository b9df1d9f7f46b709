//! Giving up: what a restore made is taken away again, and nothing else.

use std::collections::BTreeSet;
use std::time::Duration;

use bson::doc;

use super::fault::{self, code};
use super::inspect::{list_collections, list_databases};
use super::made::Made;
use super::{Target, write_concern};
use crate::error::Result;
use crate::source::dotted_name;

/// How long inserts that were sent may take to end. One of them lasts seconds; longer waits are for
/// servers that do not answer any more.
const INSERTS_LIMIT: Duration = Duration::from_secs(60);
/// How long definitions may take to end once their collections are gone.
const DEFINITIONS_LIMIT: Duration = Duration::from_secs(30);

impl Target {
    /// Drops the collections that this restore made, and databases that were not there before, and
    /// says what is left behind. Anything else in them stays.
    pub async fn abandon(self) -> Result<String> {
        let inserts_ended = self.inserts.ended(INSERTS_LIMIT).await;
        self.drop_collections().await?;
        // An index that was being built ends with its collection; a collection that was being made
        // is there by now.
        let ended = self.definitions.ended(DEFINITIONS_LIMIT).await && inserts_ended;
        let doubtful = self.drop_collections().await?;
        let left = self.left_behind().await?;
        self.drop_databases().await?;
        let mut sentences = vec![match left.as_slice() {
            [] => "What the restore had made was dropped again.".to_owned(),
            left => format!("These collections of the restore are left: {}.", left.join(", ")),
        }];
        if !doubtful.is_empty() {
            let listed = doubtful.join(", ");
            sentences.push(format!(
                "Whether {listed} was made by the restore is not known, so it was left; drop it if it was."
            ));
        }
        if !ended {
            sentences.push(
                "The server has not answered every command yet, so some of it may appear again.".to_owned(),
            );
        }
        Ok(sentences.join(" "))
    }

    /// Drops what is known to be the restore's. Returns what may be.
    async fn drop_collections(&self) -> Result<Vec<String>> {
        let mut doubtful = Vec::new();
        for ((database, name), made) in self.made.all() {
            let shown = dotted_name(&database, &name);
            if made == Made::Asked {
                if list_collections(&self.client, &database).await?.contains(&name) {
                    doubtful.push(shown);
                }
                continue;
            }
            let command = doc! { "drop": &name, "writeConcern": write_concern() };
            match self.client.database(&database).run_command(command).await {
                Ok(_) => {}
                Err(error) if fault::code_of(&error) == Some(code::NAMESPACE_NOT_FOUND) => {}
                Err(error) => return Err(fault::command(&format!("dropping {shown}"), error)),
            }
        }
        Ok(doubtful)
    }

    /// The collections that are known to be the restore's and still there.
    async fn left_behind(&self) -> Result<Vec<String>> {
        let made: Vec<_> = self.made.all().into_iter().filter(|(_, made)| *made == Made::Confirmed).collect();
        let databases: BTreeSet<&String> = made.iter().map(|((database, _), _)| database).collect();
        let mut left = Vec::new();
        for database in databases {
            let there = list_collections(&self.client, database).await?;
            let ours = made.iter().filter(|((db, name), _)| db == database && there.contains(name));
            left.extend(ours.map(|((db, name), _)| dotted_name(db, name)));
        }
        Ok(left)
    }

    /// Drops databases that appeared with this restore and hold nothing any more: a server keeps
    /// some of its own collections in one. A user who may not is no failure, since nothing is in it.
    async fn drop_databases(&self) -> Result<()> {
        let there = list_databases(&self.client).await?.unwrap_or_default();
        for database in self.new_databases.iter().filter(|database| there.contains(*database)) {
            let names = list_collections(&self.client, database).await?;
            if names.iter().all(|name| name == "system.views" || name == "system.profile") {
                let command = doc! { "dropDatabase": 1, "writeConcern": write_concern() };
                match self.client.database(database).run_command(command).await {
                    Ok(_) => {}
                    Err(error) if fault::code_of(&error) == Some(code::UNAUTHORIZED) => {}
                    Err(error) => return Err(fault::command(&format!("dropping {database}"), error)),
                }
            }
        }
        Ok(())
    }
}
