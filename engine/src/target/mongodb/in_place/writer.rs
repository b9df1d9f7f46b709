//! Portions of changes, each in a transaction of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use bson::{Document, RawDocumentBuf};
use futures::TryStreamExt;
use futures::future::BoxFuture;
use mongodb::error::{ErrorKind, UNKNOWN_TRANSACTION_COMMIT_RESULT};
use mongodb::options::{
    Acknowledgment, CursorType, ReadConcern, ReadPreference, SelectionCriteria, WriteConcern,
};
use mongodb::{Client, ClientSession};
use tokio_util::sync::CancellationToken;

use super::commands::{self, Id, by_documents, by_ids};
use super::fault::{self, Failure};
use super::{Change, Portion};
use crate::error::{Error, Kind, Result};
use crate::source::dotted_name;
use crate::source::mongodb::wire::CursorReply;
use crate::target::mongodb::WRITE_CONCERN_LIMIT_MS;
use crate::target::mongodb::fault::{code, code_of, command as failed_command, parts};
use crate::target::mongodb::load::{count, replacement};
use crate::target::mongodb::raw;

/// How often a transaction is begun that the server ends for somebody else's. With the pauses between
/// them that is about six seconds.
const ATTEMPTS: u32 = 8;
const BACKOFF: Duration = Duration::from_millis(50);
/// How long one may take: longer than a server lets it live, so that only one that does not answer is
/// given up.
const LIMIT: Duration = Duration::from_secs(120);
/// How long one that is given up may take to end.
const ABORT: Duration = Duration::from_secs(10);
/// How often a commit is asked for whose answer was lost.
const COMMITS: u32 = 5;

/// A collection that is written.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    /// Its database.
    pub(crate) database: String,
    /// Its name.
    pub(crate) name: String,
    /// Whether its validator is passed by.
    pub(crate) bypasses: bool,
    /// Whether changed documents are replaced. Where a value may be in one document only they are removed
    /// and added, so that values can change places.
    pub(crate) replaces: bool,
}

impl Destination {
    fn display_name(&self) -> String {
        dotted_name(&self.database, &self.name)
    }
}

/// Writes portions, one after the other.
pub(crate) struct Writer {
    client: Client,
    session: ClientSession,
    destinations: Vec<Destination>,
    /// Whether the server has refused to be told that empty timestamps stay empty.
    fills_timestamps: bool,
    /// Whether the answer to the last commit never came.
    is_unsettled: bool,
    cancel: CancellationToken,
}

/// What a portion does to one collection.
#[derive(Default)]
struct Part<'p> {
    changes: Vec<&'p Change>,
}

impl Writer {
    pub(crate) async fn open(
        client: Client,
        destinations: Vec<Destination>,
        cancel: CancellationToken,
    ) -> Result<Self> {
        let session = client.start_session().await;
        let session = session.map_err(|error| failed_command("opening a session", error))?;
        Ok(Self { client, session, destinations, fills_timestamps: false, is_unsettled: false, cancel })
    }

    /// Writes a portion whole or not at all. When this returns it is committed by most members, every
    /// document was as expected before, and is as wanted. `before_commit` is done before each commit that is
    /// asked for.
    ///
    /// # Errors
    /// [`Conflict`](Kind::Conflict) when a document is not what it was; [`Refused`](Kind::Refused) when
    /// somebody else keeps writing to it, or the server does not take one as it is. Nothing of the portion is
    /// then written, but where the error is that the outcome is not known.
    pub(crate) async fn write(
        &mut self,
        portion: &Portion,
        before_commit: &(dyn Fn() -> BoxFuture<'static, Result<()>> + Sync),
    ) -> Result<()> {
        let mut attempt = 0;
        loop {
            let failure = match self.attempt(portion).await {
                Ok(()) => {
                    if let Err(error) = before_commit().await {
                        self.abort().await;
                        return Err(error);
                    }
                    match self.commit().await {
                        Ok(()) => return Ok(()),
                        Err(failure) => failure,
                    }
                }
                Err(failure) => {
                    self.abort().await;
                    failure
                }
            };
            attempt += 1;
            match failure {
                Failure::Again(error) if attempt < ATTEMPTS => {
                    tracing::debug!(attempt, %error, "a transaction is begun anew");
                    let pause = BACKOFF * (1 << attempt);
                    self.unless_cancelled(async {
                        tokio::time::sleep(pause).await;
                        Ok::<_, Failure>(())
                    })
                    .await
                    .map_err(plain)?;
                }
                Failure::Again(error) | Failure::Final(error) => return Err(error),
            }
        }
    }

    /// Whether nobody knows whether the last portion was written.
    pub(crate) fn is_unsettled(&self) -> bool {
        self.is_unsettled
    }

    /// Ends the client's work in the background.
    pub(crate) async fn close(self) {
        let Self { client, session, .. } = self;
        drop(session);
        client.shutdown().await;
    }

    async fn unless_cancelled<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let cancel = self.cancel.clone();
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(Failure::Final(Error::cancelled())),
            result = work => result,
        }
    }

    async fn attempt(&mut self, portion: &Portion) -> Result<(), Failure> {
        let cancel = self.cancel.clone();
        let in_time = tokio::time::timeout(LIMIT, self.change(portion));
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(Failure::Final(Error::cancelled())),
            done = in_time => done.unwrap_or_else(|_| {
                let message = "writing to the target: the server does not answer";
                Err(Error::new(Kind::Unreachable, message).with_help("Check the target's log.").into())
            }),
        }
    }

    async fn change(&mut self, portion: &Portion) -> Result<(), Failure> {
        let started = self
            .session
            .start_transaction()
            .read_concern(ReadConcern::snapshot())
            .write_concern(durably())
            .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary));
        started.await.map_err(|error| fault::command("beginning a transaction", error))?;
        let mut parts: BTreeMap<usize, Part<'_>> = BTreeMap::new();
        for change in portion {
            parts.entry(change.destination).or_default().changes.push(change);
        }
        for (&at, part) in &parts {
            let there = self.read(at, &part.ids()?).await?;
            if let Some(document) = differing(&part.documents(|change| change.old.as_ref())?, &there) {
                return Err(self.changed(at, document).into());
            }
        }
        // Everything that goes makes room first: a value that is unique may come elsewhere.
        for (&at, part) in &parts {
            self.delete(at, part).await?;
        }
        for (&at, part) in &parts {
            self.replace(at, part).await?;
        }
        for (&at, part) in &parts {
            self.insert(at, part).await?;
        }
        for (&at, part) in &parts {
            let there = self.read(at, &part.ids()?).await?;
            if let Some(document) = differing(&part.documents(|change| change.new.as_ref())?, &there) {
                return Err(self.altered(at, document).into());
            }
        }
        Ok(())
    }

    /// The documents with these ids, as the transaction sees them.
    async fn read(&mut self, at: usize, ids: &[Id]) -> Result<BTreeMap<Id, RawDocumentBuf>, Failure> {
        let destination = &self.destinations[at];
        let doing = format!("reading {}", destination.display_name());
        let database = self.client.database(&destination.database);
        let mut found = BTreeMap::new();
        let ids: Vec<&Id> = ids.iter().collect();
        for part in by_ids(&ids) {
            let command = commands::find(&destination.name, part)?;
            let run = database.run_raw_cursor_command(command).cursor_type(CursorType::NonTailable);
            let cursor = run.session(&mut self.session).batch().await;
            let mut cursor = cursor.map_err(|error| fault::command(&doing, error))?;
            let mut replies = cursor.stream(&mut self.session);
            while let Some(reply) = replies.try_next().await.map_err(|error| fault::command(&doing, error))? {
                let reply = CursorReply::parse(reply.as_raw_document().as_bytes())?;
                for document in reply.documents()? {
                    let document = raw::document(document?.to_vec())?;
                    found.insert(Id::of(&document)?, document);
                }
            }
        }
        Ok(found)
    }

    async fn delete(&mut self, at: usize, part: &Part<'_>) -> Result<(), Failure> {
        let going = part.changes.iter().filter_map(|change| change.old.as_ref().map(|old| (change, old)));
        let mut ids = Vec::new();
        for (change, old) in going {
            if !self.is_replaced(change)? {
                ids.push(Id::of(old)?);
            }
        }
        let ids: Vec<&Id> = ids.iter().collect();
        for part in by_ids(&ids) {
            let command = commands::delete(&self.destinations[at].name, part)?;
            self.run(at, command, part.len(), |_| "a document that is to go".to_owned()).await?;
        }
        Ok(())
    }

    async fn replace(&mut self, at: usize, part: &Part<'_>) -> Result<(), Failure> {
        let mut documents = Vec::new();
        for change in &part.changes {
            if self.is_replaced(change)? {
                documents.extend(&change.new);
            }
        }
        for part in by_documents(&documents) {
            let Destination { name, bypasses, .. } = &self.destinations[at];
            let command = commands::replace(name, part, *bypasses)?;
            self.run(at, command, part.len(), |index| shown(part, index)).await?;
        }
        Ok(())
    }

    async fn insert(&mut self, at: usize, part: &Part<'_>) -> Result<(), Failure> {
        let mut documents = Vec::new();
        for change in &part.changes {
            if !self.is_replaced(change)? {
                documents.extend(&change.new);
            }
        }
        let mut ways = Vec::with_capacity(documents.len());
        for document in &documents {
            ways.push(commands::suits_the_driver(document)?);
        }
        let mut from = 0;
        for alike in ways.chunk_by(|one, next| one == next) {
            let documents = &documents[from..from + alike.len()];
            from += alike.len();
            for part in by_documents(documents) {
                match alike[0] {
                    true => self.insert_by_driver(at, part).await?,
                    false => self.insert_by_command(at, part).await?,
                }
            }
        }
        Ok(())
    }

    async fn insert_by_driver(&mut self, at: usize, part: &[&RawDocumentBuf]) -> Result<(), Failure> {
        let destination = &self.destinations[at];
        let doing = format!("writing {}", destination.display_name());
        let database = self.client.database(&destination.database);
        let collection = database.collection::<RawDocumentBuf>(&destination.name);
        let insert = collection
            .insert_many(part.iter().copied())
            .ordered(true)
            .bypass_document_validation(destination.bypasses);
        let error = match insert.session(&mut self.session).await {
            Ok(inserted) => return all_of(&doing, inserted.inserted_ids.len(), part.len()),
            Err(error) => error,
        };
        if let ErrorKind::InsertMany(refused) = error.kind.as_ref()
            && let Some(first) = refused.write_errors.as_ref().and_then(|errors| errors.first())
        {
            let document = shown(part, first.index);
            return Err(fault::answer(
                &format!("{doing}: {document} is refused"),
                first.code,
                &first.message,
            ));
        }
        Err(fault::command(&doing, error))
    }

    async fn insert_by_command(&mut self, at: usize, part: &[&RawDocumentBuf]) -> Result<(), Failure> {
        let mut empty = Vec::new();
        for document in part {
            if commands::has_empty_timestamp(document)? {
                empty.push(*document);
            }
        }
        let keeps = !empty.is_empty() && !self.fills_timestamps;
        let Destination { name, bypasses, .. } = self.destinations[at].clone();
        let command = commands::insert(&name, part, bypasses, keeps)?;
        self.run(at, command, part.len(), |index| shown(part, index)).await?;
        if empty.is_empty() || keeps {
            return Ok(());
        }
        // Nothing is filled in when a pipeline writes.
        let statement = |document: &&RawDocumentBuf| {
            let id = Id::of(document)?;
            replacement(&id.element(), document)
        };
        let statements = empty.iter().map(statement).collect::<Result<Vec<_>>>()?;
        let command = commands::update(&name, &statements, bypasses)?;
        self.run(at, command, statements.len(), |index| shown(&empty, index)).await
    }

    /// Whether a document takes another one's place as it is. A value of `_id` that only equals the other
    /// one's would stay.
    fn is_replaced(&self, change: &Change) -> Result<bool> {
        let (Some(old), Some(new)) = (&change.old, &change.new) else { return Ok(false) };
        let replaces = self.destinations[change.destination].replaces;
        Ok(replaces && Id::of(old)? == Id::of(new)? && commands::is_plain(new)?)
    }

    /// Runs a command that writes `expected` documents. `shown` names the document of its n-th statement.
    async fn run(
        &mut self,
        at: usize,
        command: RawDocumentBuf,
        expected: usize,
        shown: impl Fn(usize) -> String,
    ) -> Result<(), Failure> {
        let destination = &self.destinations[at];
        let doing = format!("writing {}", destination.display_name());
        let database = self.client.database(&destination.database);
        let answer = match database.run_raw_command(command).session(&mut self.session).await {
            Ok(answer) => answer,
            Err(error) if code_of(&error) == Some(code::UNKNOWN_FIELD) && !self.fills_timestamps => {
                self.fills_timestamps = true;
                return Err(Failure::Again(failed_command(&doing, error)));
            }
            Err(error) => return Err(fault::command(&doing, error)),
        };
        if let Some(first) = first_error(&answer) {
            let (code, message) = parts(first);
            let index = first.get_i32("index").ok().and_then(|index| usize::try_from(index).ok());
            let document = index.map_or_else(|| "a document".to_owned(), shown);
            return Err(fault::answer(&format!("{doing}: {document} is refused"), code, &message));
        }
        all_of(&doing, count(&answer), expected)
    }

    /// Commits what was written. An answer that is lost is asked for again.
    async fn commit(&mut self) -> Result<(), Failure> {
        const DOING: &str = "committing what was written";
        let mut asked = 0;
        loop {
            let Err(error) = self.session.commit_transaction().await else { return Ok(()) };
            if !error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT) {
                return Err(fault::command(DOING, error));
            }
            asked += 1;
            if asked == COMMITS {
                self.is_unsettled = true;
                let message =
                    format!("{DOING}: it is not known whether the last transaction came into effect");
                let error = failed_command(DOING, error);
                return Err(Error::new(Kind::Unreachable, message).with_source(error).into());
            }
            tokio::time::sleep(BACKOFF * (1 << asked)).await;
        }
    }

    /// Lets go of what was written. One whose server does not hear it ends there by itself.
    async fn abort(&mut self) {
        let ended = tokio::time::timeout(ABORT, self.session.abort_transaction()).await;
        tracing::debug!(ended = matches!(ended, Ok(Ok(()))), "a transaction was taken back");
    }

    fn changed(&self, at: usize, document: String) -> Error {
        let name = self.destinations[at].display_name();
        Error::new(Kind::Conflict, format!("the target changed since it was read: {name}: {document}"))
    }

    fn altered(&self, at: usize, document: String) -> Error {
        let name = self.destinations[at].display_name();
        let message = format!("{name}: the server does not keep {document} as it was written");
        Error::new(Kind::Refused, message)
    }
}

impl Part<'_> {
    /// The ids of what is there and of what is to be.
    fn ids(&self) -> Result<Vec<Id>> {
        let documents = self.changes.iter().flat_map(|change| change.old.iter().chain(&change.new));
        let mut ids = documents.map(|document| Id::of(document)).collect::<Result<Vec<_>>>()?;
        ids.sort();
        ids.dedup();
        Ok(ids)
    }

    fn documents(
        &self,
        side: impl Fn(&Change) -> Option<&RawDocumentBuf>,
    ) -> Result<BTreeMap<Id, &RawDocumentBuf>> {
        self.changes
            .iter()
            .filter_map(|change| side(change))
            .map(|document| Ok((Id::of(document)?, document)))
            .collect()
    }
}

/// A document that is not as wanted, in words: another one, missing, or there though it is not to be.
fn differing(wanted: &BTreeMap<Id, &RawDocumentBuf>, found: &BTreeMap<Id, RawDocumentBuf>) -> Option<String> {
    let other = wanted
        .iter()
        .find(|(id, document)| found.get(id).is_none_or(|found| found.as_bytes() != document.as_bytes()));
    let other = other.map(|(_, document)| commands::shown(document));
    let more = || found.iter().find(|(id, _)| !wanted.contains_key(id));
    other.or_else(|| more().map(|(_, document)| commands::shown(document)))
}

fn all_of(doing: &str, written: usize, expected: usize) -> Result<(), Failure> {
    if written == expected {
        return Ok(());
    }
    let message = format!("{doing}: {written} documents were met, {expected} were to be");
    Err(Error::new(Kind::Internal, message).into())
}

fn shown(documents: &[&RawDocumentBuf], index: usize) -> String {
    documents.get(index).map_or_else(|| "a document".to_owned(), |document| commands::shown(document))
}

fn first_error(answer: &Document) -> Option<&Document> {
    answer.get_array("writeErrors").ok()?.first()?.as_document()
}

fn plain(failure: Failure) -> Error {
    match failure {
        Failure::Again(error) | Failure::Final(error) => error,
    }
}

/// Acknowledged by most members, and in their journals.
fn durably() -> WriteConcern {
    WriteConcern::builder()
        .w(Acknowledgment::Majority)
        .journal(true)
        .w_timeout(Duration::from_millis(WRITE_CONCERN_LIMIT_MS.unsigned_abs().into()))
        .build()
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    fn by_id(documents: &[RawDocumentBuf]) -> BTreeMap<Id, RawDocumentBuf> {
        documents.iter().map(|document| (Id::of(document).unwrap(), document.clone())).collect()
    }

    #[test]
    fn a_document_that_is_other_missing_or_too_many_is_named() {
        let all = by_id(&[rawdoc! { "_id": 1, "v": 1 }, rawdoc! { "_id": 2, "v": 2 }]);
        let wanted: BTreeMap<Id, &RawDocumentBuf> =
            all.iter().map(|(id, document)| (id.clone(), document)).collect();
        assert_eq!(differing(&wanted, &all), None);
        for found in [
            vec![rawdoc! { "_id": 1, "v": 1 }],
            vec![rawdoc! { "_id": 1, "v": 1 }, rawdoc! { "_id": 2, "v": 2i64 }],
            vec![rawdoc! { "_id": 1, "v": 1 }, rawdoc! { "_id": 2i64, "v": 2 }],
        ] {
            assert_eq!(differing(&wanted, &by_id(&found)).unwrap(), "the document with _id 2");
        }
        let more = by_id(&[rawdoc! { "_id": 1, "v": 1 }, rawdoc! { "_id": 2, "v": 2 }, rawdoc! { "_id": 3 }]);
        assert_eq!(differing(&wanted, &more).unwrap(), "the document with _id 3");
    }
}
