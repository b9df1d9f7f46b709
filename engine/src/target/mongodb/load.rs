//! Documents into one collection, byte for byte.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bson::{Document, RawDocumentBuf, rawdoc};
use mongodb::error::ErrorKind;
use mongodb::options::{Acknowledgment, WriteConcern};
use repo_format::bson::kind;
use repo_format::catalog::Layout;
use repo_format::record::{Field, Fields};
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::archive::placed;
use super::batch::{Batch, Traits, Way, shown_id};
use super::fault::{self, code};
use super::raw::{self, Builder};
use super::{Target, WRITE_CONCERN_LIMIT_MS, check_write_concern, concern, not_durable};
use crate::error::{Error, Kind, Result};
use crate::source::{RecordBatch, dotted_name};
use crate::target::Note;

/// Bytes of documents per command, if there are so many. A command that holds its documents must
/// stay below 16 MB, and every collection that is being loaded has a few batches in memory.
const BATCH_BYTES: usize = 4 << 20;
/// Documents per command: each has a statement of its own where timestamps are put right.
const BATCH_DOCUMENTS: usize = 20_000;

impl Target {
    /// Inserts the documents of one collection in the order they come, and returns how many there
    /// were: `expected`, or the load fails, as it does with the first document that is refused or
    /// not confirmed by most members.
    pub async fn load(
        &self,
        layout: &Layout,
        namespace: &str,
        name: &str,
        expected: u64,
        rows: Receiver<RecordBatch>,
    ) -> Result<u64> {
        let database = placed(self.database.as_deref(), namespace);
        let doing = format!("loading {}", dotted_name(database, name));
        if !layout.is_documents() {
            return Err(Error::damaged(format!("{doing}: its records are no documents")));
        }
        let load = Load { target: self, database, name, doing: &doing };
        let (sender, batches) = mpsc::channel(1);
        let (loaded, ()) = tokio::try_join!(load.insert_all(batches), load.assemble(rows, sender))?;
        if loaded == expected {
            return Ok(loaded);
        }
        let message = format!("{doing}: {loaded} documents came, {expected} were expected");
        Err(Error::new(Kind::Internal, message))
    }
}

struct Load<'a> {
    target: &'a Target,
    database: &'a str,
    name: &'a str,
    doing: &'a str,
}

impl Load<'_> {
    /// Makes batches of records while the batch before is on its way.
    async fn assemble(&self, mut rows: Receiver<RecordBatch>, batches: Sender<Batch>) -> Result<()> {
        let limits = self.target.limits;
        let most_documents = BATCH_DOCUMENTS.min(limits.batch_documents);
        let most_bytes = BATCH_BYTES.min(limits.message_bytes / 2);
        let mut batch = Batch::new(Way::Driver);
        let mut odd_ids = OddIds::default();
        while let Some(records) = rows.recv().await {
            for (_, record) in records.iter() {
                let document = document_of(record)?;
                let traits = Traits::of(document)?;
                let way = if traits.suits_the_driver() { Way::Driver } else { Way::Command };
                let is_full = batch.documents.len() >= most_documents
                    || batch.size_bytes + document.len() > most_bytes
                    || batch.way != way;
                if is_full {
                    let full = std::mem::replace(&mut batch, Batch::new(way));
                    // Nobody listening means that inserting failed, which is told there.
                    if !full.is_empty() && batches.send(full).await.is_err() {
                        return Ok(());
                    }
                }
                self.check_size(document)?;
                odd_ids.count(traits);
                batch.push(document, traits)?;
            }
        }
        if !batch.is_empty() {
            let _ = batches.send(batch).await;
        }
        odd_ids.note(self);
        Ok(())
    }

    fn check_size(&self, document: &[u8]) -> Result<()> {
        let most = self.target.limits.document_bytes;
        if document.len() <= most {
            return Ok(());
        }
        let id = shown_id(&raw::document(document.to_vec())?);
        let len = document.len();
        let message = format!("{}: {id} has {len} bytes, the target takes {most}", self.doing);
        Err(Error::new(Kind::Unsupported, message).with_help("Leave this collection out of the restore."))
    }

    async fn insert_all(&self, mut batches: Receiver<Batch>) -> Result<u64> {
        let mut loaded = 0;
        while let Some(batch) = batches.recv().await {
            loaded += match batch.way {
                Way::Driver => self.insert_by_driver(batch).await?,
                Way::Command => self.insert_by_command(batch).await?,
            };
        }
        Ok(loaded)
    }

    async fn insert_by_driver(&self, batch: Batch) -> Result<u64> {
        let collection = self.target.client.database(self.database).collection::<RawDocumentBuf>(self.name);
        let concern = WriteConcern::builder()
            .w(Acknowledgment::Majority)
            .journal(true)
            .w_timeout(std::time::Duration::from_millis(WRITE_CONCERN_LIMIT_MS.unsigned_abs().into()))
            .build();
        let batch = Arc::new(batch);
        let sent = Arc::clone(&batch);
        let answer = self.target.inserts.run(async move {
            collection.insert_many(&sent.documents).ordered(true).write_concern(concern).await
        });
        let error = match answer.await? {
            Ok(inserted) => return self.all_of(&batch, inserted.inserted_ids.len()),
            Err(error) => error,
        };
        if let ErrorKind::InsertMany(refused) = error.kind.as_ref() {
            if let Some(first) = refused.write_errors.as_ref().and_then(|errors| errors.first()) {
                return Err(self.refused(&batch, first.index, first.code, &first.message));
            }
            if let Some(concern) = &refused.write_concern_error {
                return Err(not_durable(self.doing, concern.code, &concern.message));
            }
        }
        Err(self.failed(error))
    }

    async fn insert_by_command(&self, batch: Batch) -> Result<u64> {
        let has_empty = !batch.empty_timestamps.is_empty();
        let keeps = has_empty && !self.target.fills_timestamps.load(Ordering::Relaxed);
        let mut answer = self.send(self.insert_command(&batch, keeps)?).await?;
        if keeps && answer.as_ref().is_err_and(|error| fault::code_of(error) == Some(code::UNKNOWN_FIELD)) {
            // The command was refused as a whole, so nothing of it happened.
            self.target.fills_timestamps.store(true, Ordering::Relaxed);
            answer = self.send(self.insert_command(&batch, false)?).await?;
        }
        let inserted = self.check(&batch, answer)?;
        if has_empty && self.target.fills_timestamps.load(Ordering::Relaxed) {
            self.empty_timestamps(&batch).await?;
        }
        Ok(inserted)
    }

    /// Runs a command to its end. It is sent once: with the connection lost, nobody can tell
    /// whether sending it again would insert twice.
    async fn send(&self, command: RawDocumentBuf) -> Result<mongodb::error::Result<Document>> {
        let database = self.target.client.database(self.database);
        self.target.inserts.run(async move { database.run_raw_command(command).await }).await
    }

    fn insert_command(&self, batch: &Batch, keeps_timestamps: bool) -> Result<RawDocumentBuf> {
        let mut command = Builder::from_document(&rawdoc! { "insert": self.name, "ordered": true })?;
        if keeps_timestamps {
            command.push(kind::BOOLEAN, b"bypassEmptyTsReplacement", &[1]);
        }
        command.push_document("writeConcern", concern()?.as_bytes());
        command.push_array("documents", &batch.documents)?;
        command.finish()
    }

    /// Servers that fill empty timestamps in on insertion do not do so when a pipeline writes them.
    async fn empty_timestamps(&self, batch: &Batch) -> Result<()> {
        let mut updates = Vec::new();
        for document in batch.empty_timestamps.iter().map(|position| &batch.documents[*position]) {
            match raw::find(document, "_id")? {
                Some(id) => updates.push(replacement(&id, document)?),
                None => self.target.note(Note::failed(format!(
                    "{}: a document without _id has an empty timestamp, which this server fills in",
                    dotted_name(self.database, self.name)
                ))),
            }
        }
        if updates.is_empty() {
            return Ok(());
        }
        let mut command = Builder::from_document(&rawdoc! { "update": self.name, "ordered": true })?;
        command.push_document("writeConcern", concern()?.as_bytes());
        command.push_array("updates", &updates)?;
        let answer = self.send(command.finish()?).await?.map_err(|error| self.failed(error))?;
        self.check_errors(batch, &answer, |index| batch.empty_timestamps.get(index).copied())?;
        let matched = count(&answer);
        if matched == updates.len() {
            return Ok(());
        }
        let message =
            format!("{}: {matched} of {} documents could be found again", self.doing, updates.len());
        Err(Error::new(Kind::Conflict, message)
            .with_help("Somebody else changes the target: restore into a new database."))
    }

    fn check(&self, batch: &Batch, answer: mongodb::error::Result<Document>) -> Result<u64> {
        let answer = answer.map_err(|error| self.failed(error))?;
        self.check_errors(batch, &answer, Some)?;
        self.all_of(batch, count(&answer))
    }

    /// Fails when the answer names an error. `position` is where in the batch the document of the
    /// n-th statement is.
    fn check_errors(
        &self,
        batch: &Batch,
        answer: &Document,
        position: impl Fn(usize) -> Option<usize>,
    ) -> Result<()> {
        let errors = answer.get_array("writeErrors").ok();
        if let Some(first) = errors.and_then(|errors| errors.first()?.as_document()) {
            let (code, message) = fault::parts(first);
            let index = first.get_i32("index").ok().and_then(|index| usize::try_from(index).ok());
            let at = index.and_then(position).unwrap_or(usize::MAX);
            return Err(self.refused(batch, at, code, &message));
        }
        check_write_concern(self.doing, answer)
    }

    fn all_of(&self, batch: &Batch, inserted: usize) -> Result<u64> {
        let sent = batch.documents.len();
        if inserted == sent {
            return Ok(sent as u64);
        }
        let message = format!("{}: {sent} documents were sent and {inserted} arrived", self.doing);
        Err(Error::new(Kind::Internal, message))
    }

    fn refused(&self, batch: &Batch, position: usize, code: i32, message: &str) -> Error {
        let id = batch.documents.get(position).map_or("a document".to_owned(), |found| shown_id(found));
        fault::answer(&format!("{}: {id} is refused", self.doing), code, message)
    }

    fn failed(&self, error: mongodb::error::Error) -> Error {
        if fault::is_lost(&error) {
            let message = format!("{}: the connection to the target was lost", self.doing);
            return Error::new(Kind::Unreachable, message)
                .with_help("Check the target's log, then restore again.");
        }
        fault::command(self.doing, error)
    }
}

/// The documents in a collection whose `_id` a server would change.
#[derive(Debug, Default)]
struct OddIds {
    absent: u64,
    not_first: u64,
}

impl OddIds {
    fn count(&mut self, traits: Traits) {
        self.absent += u64::from(!traits.has_id);
        self.not_first += u64::from(traits.has_id && !traits.id_is_first);
    }

    /// Says so: whether the server did it is for the proof to find.
    fn note(&self, load: &Load<'_>) {
        let name = dotted_name(load.database, load.name);
        if self.absent > 0 {
            let absent = self.absent;
            load.target
                .note(Note::remark(format!("{absent} documents of {name} have no _id: servers may add one")));
        }
        if self.not_first > 0 {
            let not_first = self.not_first;
            let text =
                format!("in {not_first} documents of {name} _id is not the first field: servers move it");
            load.target.note(Note::remark(text));
        }
    }
}

/// The document in a record.
pub(super) fn document_of(record: &[u8]) -> Result<&[u8]> {
    let mut fields = Fields::new(record);
    match (fields.next().transpose()?, fields.next().transpose()?) {
        (Some(Field::Inline(document)), None) => Ok(document),
        (Some(Field::Out(_)), None) => {
            Err(Error::new(Kind::Internal, "a moved-out document reached the target unresolved"))
        }
        _ => Err(Error::damaged("a record is not one document")),
    }
}

/// A statement that writes the whole document with nothing in it interpreted.
pub(super) fn replacement(
    id: &repo_format::bson::Element<'_>,
    document: &RawDocumentBuf,
) -> Result<RawDocumentBuf> {
    let mut query = Builder::new();
    query.push(id.kind, b"$eq", id.value);
    let mut selector = Builder::new();
    selector.push_document("_id", query.finish()?.as_bytes());
    let mut literal = Builder::new();
    literal.push_document("$literal", document.as_bytes());
    let mut stage = Builder::new();
    stage.push_document("$replaceWith", literal.finish()?.as_bytes());
    let mut statement = Builder::new();
    statement.push_document("q", selector.finish()?.as_bytes());
    statement.push_array("u", &[stage.finish()?])?;
    statement.finish()
}

/// How many documents an answer says were inserted or found.
pub(super) fn count(answer: &Document) -> usize {
    answer.get_i32("n").ok().and_then(|n| usize::try_from(n).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use repo_format::record::Writer;

    use super::*;

    #[test]
    fn a_record_is_one_document() {
        let record = |fields: &[Field<'_>]| {
            let mut out = Vec::new();
            let mut writer = Writer::new(&mut out);
            fields.iter().for_each(|field| writer.push(*field));
            writer.finish();
            out
        };
        let document = rawdoc! { "a": 1 };
        let inline = Field::Inline(document.as_bytes());
        assert_eq!(document_of(&record(&[inline])).unwrap(), document.as_bytes());
        for wrong in [record(&[]), record(&[inline, inline]), record(&[Field::Null, inline])] {
            assert_eq!(document_of(&wrong).unwrap_err().kind(), Kind::Damaged);
        }
    }

    #[test]
    fn a_replacement_interprets_nothing() {
        let document = rawdoc! { "_id": { "$odd": 1 }, "$set": { "a.b": "$field" } };
        let id = raw::find(&document, "_id").unwrap().unwrap();
        let statement = replacement(&id, &document).unwrap();
        let wanted = rawdoc! { "q": { "_id": { "$eq": { "$odd": 1 } } },
        "u": [{ "$replaceWith": { "$literal": { "_id": { "$odd": 1 }, "$set": { "a.b": "$field" } } } }] };
        assert_eq!(statement, wanted);
    }
}
