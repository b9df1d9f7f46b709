//! What deletes documents after a time. It comes last, once the restore is proven: from then on
//! the server takes away what is expired, which in an old snapshot may be everything.

use bson::{Bson, DateTime, Document, doc, rawdoc};

use super::archive::{self, Definition, Form};
use super::fault::{self, code};
use super::indexes::{Index, indexes};
use super::inspect::list_options;
use super::{Target, options, raw};
use crate::error::Result;
use crate::target::{Note, Restoring};

/// How long counting expired documents may take; there may be no index to help.
const COUNTING_LIMIT_MS: i32 = 60_000;

impl Target {
    /// Builds the indexes that delete, and says how many documents are expired already. What fails
    /// here is noted: the documents are there and proven.
    pub async fn finish(self, restoring: &Restoring<'_>) -> Result<Vec<Note>> {
        let mut notes = Vec::new();
        for definition in &archive::definitions(self.database.as_deref(), restoring)? {
            let (indexes, _) = indexes(definition)?;
            for index in indexes.iter().filter(|index| index.expires) {
                notes.extend(self.expire_by_index(definition, index).await);
            }
            if definition.form != Form::View {
                notes.extend(self.expire_collection(definition).await);
            }
        }
        Ok(notes)
    }

    async fn expire_by_index(&self, definition: &Definition, index: &Index) -> Vec<Note> {
        let named = format!("index {} of {}", index.name, definition.display_name());
        let expired = match expired_by(index) {
            Some(filter) => self.count(definition, filter).await,
            None => Some(0),
        };
        match self.build_index(definition, index, &format!("building {named}")).await {
            Err(error) => vec![Note::failed(format!(
                "{named}, which deletes expired documents, is not restored: {error}"
            ))],
            Ok(Some(note)) if note.failed => vec![note],
            Ok(note) => note.into_iter().chain(told(definition, expired)).collect(),
        }
    }

    /// Clustered collections and time series expire by an option of their own.
    async fn expire_collection(&self, definition: &Definition) -> Vec<Note> {
        let named = definition.display_name();
        let failed = |why: String| vec![Note::failed(format!("{named} keeps expired documents: {why}"))];
        let seconds = match options::divide(definition) {
            Ok(divided) => divided.expiry,
            Err(error) => return failed(error.to_string()),
        };
        let Some(seconds) = seconds else { return Vec::new() };
        let expired = match seconds.integer() {
            Some(after) => self.count(definition, older(&time_field(definition), after)).await,
            None => Some(0),
        };
        let command = options::command(&rawdoc! { "collMod": definition.name.as_str() }, [&seconds]);
        let doing = format!("setting when documents of {named} expire");
        let answer = match command {
            Ok(command) => self.define(&doing, &definition.database, command).await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(Ok(_)) if self.expires(definition).await => told(definition, expired).into_iter().collect(),
            Ok(Ok(_)) => failed("the target did not take the setting".to_owned()),
            Ok(Err(error)) => failed(fault::message_of(&error)),
            Err(error) => failed(error.to_string()),
        }
    }

    /// Whether the server lists the setting now.
    async fn expires(&self, definition: &Definition) -> bool {
        let options = list_options(&self.client, &definition.database, &definition.name).await;
        options.is_ok_and(|options| {
            options.is_some_and(|found| matches!(found.get("expireAfterSeconds"), Ok(Some(_))))
        })
    }

    /// How many documents match; `None` when counting takes too long or is not allowed.
    async fn count(&self, definition: &Definition, filter: Document) -> Option<u64> {
        let command = doc! { "aggregate": &definition.name, "cursor": {}, "maxTimeMS": COUNTING_LIMIT_MS,
        "pipeline": [{ "$match": filter }, { "$count": "n" }] };
        let answer = self.client.database(&definition.database).run_command(command).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                if fault::code_of(&error) != Some(code::MAX_TIME_EXPIRED) {
                    tracing::debug!(collection = definition.display_name(), %error, "expired documents are not counted");
                }
                return None;
            }
        };
        let batch = answer.get_document("cursor").ok()?.get_array("firstBatch").ok()?;
        let Some(counted) = batch.first() else { return Some(0) };
        match counted.as_document()?.get("n")? {
            Bson::Int32(n) => u64::try_from(*n).ok(),
            Bson::Int64(n) => u64::try_from(*n).ok(),
            _ => None,
        }
    }
}

/// What the documents are deleted for that an index deletes; `None` when there are none.
fn expired_by(index: &Index) -> Option<Document> {
    let specification = &index.specification;
    let after = raw::integer(specification, "expireAfterSeconds").ok()??;
    let key = raw::inner(specification, "key").ok()?;
    let field = String::from_utf8_lossy(raw::elements(&key).ok()?.first()?.name).into_owned();
    let mut filter = older(&field, after);
    if raw::find(specification, "partialFilterExpression").ok()?.is_some() {
        let partial = raw::inner(specification, "partialFilterExpression").ok()?;
        filter = doc! { "$and": [filter, Document::try_from(partial).ok()?] };
    }
    Some(filter)
}

/// Documents whose date is more than so many seconds ago.
fn older(field: &str, seconds: i64) -> Document {
    let limit = DateTime::now().timestamp_millis().saturating_sub(seconds.saturating_mul(1000));
    doc! { field: { "$lt": DateTime::from_millis(limit) } }
}

fn time_field(definition: &Definition) -> String {
    let field =
        raw::inner(&definition.options, "timeseries").and_then(|series| raw::text(&series, "timeField"));
    field.ok().filter(|field| !field.is_empty()).unwrap_or_else(|| "_id".to_owned())
}

fn told(definition: &Definition, expired: Option<u64>) -> Option<Note> {
    let name = definition.display_name();
    match expired {
        Some(0) => None,
        Some(1) => Some(Note::remark(format!("1 document of {name} is expired: the server deletes it soon"))),
        Some(n) => {
            Some(Note::remark(format!("{n} documents of {name} are expired: the server deletes them soon")))
        }
        None => Some(Note::remark(format!(
            "how many documents of {name} are expired is not known; the server deletes them soon"
        ))),
    }
}
