//! MongoDB as a target: a new database, or an empty one.
//!
//! The order of a restore: [`preflight`], [`Target::create`], [`Target::pre_data`], one
//! [`Target::load`] per collection (several at a time), [`Target::post_data`], the caller's proof,
//! [`Target::finish`]; after any failure before that [`Target::abandon`]. Nothing here says that a
//! restore succeeded: only the proof does.
//!
//! Everything is sent as raw BSON, options and indexes as the source's server gave them. What would
//! change documents or refuse them comes late: validators after the documents, indexes that delete
//! what is expired after the proof.

mod abandon;
mod archive;
mod batch;
mod build;
mod create;
mod expiry;
mod fault;
mod features;
pub(crate) mod in_place;
mod indexes;
mod inspect;
mod load;
mod made;
mod options;
mod preflight;
mod privileges;
mod raw;
mod views;

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use bson::{Document, RawDocumentBuf, doc};
use mongodb::Client;

pub use preflight::preflight;

use crate::error::{Error, Kind, Result};
use crate::source::mongodb::MongoUrl;
use crate::source::mongodb::connect::client as connect;
use crate::target::Note;
use inspect::{Contents, Limits};
use made::{Commands, Journal};

/// How long a server may take to spread a write to most of its members. Without a limit a restore
/// into a set that lost them would wait for ever.
const WRITE_CONCERN_LIMIT_MS: i32 = 10 * 60 * 1000;

/// Databases that are being restored into. Holds write credentials in memory, in its client.
pub struct Target {
    client: Client,
    /// Where every collection goes; `None` when each keeps its database.
    database: Option<String>,
    limits: Limits,
    /// Databases that were not there before.
    new_databases: BTreeSet<String>,
    made: Arc<Journal>,
    /// Commands that insert, which are awaited before anything is dropped.
    inserts: Commands,
    /// Commands that define collections and indexes. Dropping the collection ends them.
    definitions: Commands,
    /// Whether the server has refused to be told that empty timestamps stay empty.
    fills_timestamps: AtomicBool,
    /// What was found while loading, told after it.
    notes: Mutex<Vec<Note>>,
}

/// Says in words what the databases that these collections would go to hold, if they hold anything.
pub async fn occupied(url: &MongoUrl, collections: &[(String, String)]) -> Result<Option<String>> {
    let client = connect(url).await?;
    let databases =
        collections.iter().map(|(namespace, _)| archive::placed(url.database(), namespace)).collect();
    let contents = inspect::contents(&client, &databases, None).await?;
    let sentences: Vec<String> = (contents.iter())
        .filter_map(|(database, contents)| match contents {
            Contents::Occupied { names, total } => {
                let (verb, listed) = ("holds", inspect::listed(names, *total));
                Some(format!("The database {database} {verb} {total} collections: {listed}."))
            }
            Contents::Absent | Contents::Empty => None,
        })
        .collect();
    Ok((!sentences.is_empty()).then(|| sentences.join(" ")))
}

/// Acknowledged by most members, and in their journals.
fn write_concern() -> Document {
    doc! { "w": "majority", "j": true, "wtimeout": WRITE_CONCERN_LIMIT_MS }
}

/// As [`write_concern`], for raw commands.
fn concern() -> Result<RawDocumentBuf> {
    RawDocumentBuf::try_from(write_concern())
        .map_err(|error| Error::new(Kind::Internal, "a write concern cannot be written").with_source(error))
}

impl Target {
    /// Runs a command that defines something, to its end. The outer error is the answer's own, or
    /// that most members did not follow; the inner one is the server's refusal.
    async fn define(
        &self,
        doing: &str,
        database: &str,
        command: RawDocumentBuf,
    ) -> Result<mongodb::error::Result<Document>> {
        let database = self.client.database(database);
        checked(doing, self.definitions.run(async move { database.run_raw_command(command).await }).await?)
    }

    /// Adds to what is told after loading.
    fn note(&self, note: Note) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).push(note);
    }

    /// What was found while loading.
    fn take_notes(&self) -> Vec<Note> {
        std::mem::take(&mut self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// An answer that most members have confirmed, or the server's refusal.
fn checked(
    doing: &str,
    answer: mongodb::error::Result<Document>,
) -> Result<mongodb::error::Result<Document>> {
    if let Ok(answer) = &answer {
        check_write_concern(doing, answer)?;
    }
    Ok(answer)
}

/// Fails when the write may be lost with the member that took it.
fn check_write_concern(doing: &str, answer: &Document) -> Result<()> {
    let Ok(error) = answer.get_document("writeConcernError") else { return Ok(()) };
    let (code, message) = fault::parts(error);
    Err(not_durable(doing, code, &message))
}

fn not_durable(doing: &str, code: i32, message: &str) -> Error {
    fault::answer(&format!("{doing}: most members of the target did not confirm"), code, message)
        .with_help("Wait until the replica set is well, then restore again.")
}
