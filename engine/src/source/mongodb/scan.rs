//! Reading one collection, through as many cursors as it takes.

use std::time::Duration;

use futures::TryStreamExt;
use mongodb::ClientSession;
use mongodb::error::Error as DriverError;
use mongodb::raw_batch_cursor::SessionRawBatchCursor;
use repo_format::catalog::Layout;
use repo_format::keys::RowKey;
use tokio::sync::mpsc;

use super::catalog::{self, Listed};
use super::connect::{Deployment, Topology};
use super::fault;
use super::read::{Find, Order, ReadAt, in_time};
use super::records::{Id, RecordWriter};
use super::wire::CursorReply;
use crate::error::{Error, Kind, Result};
use crate::source::{RecordBatch, ScanStats};

/// Cursors that may fail in a row before a scan gives up.
const ATTEMPTS: u32 = 6;
const BACKOFF: Duration = Duration::from_millis(100);

/// How a read failed, as far as the snapshot as a whole is concerned.
#[derive(Debug)]
pub(super) enum Failure {
    /// It cannot be mended by reading in another way.
    Plain(Error),
    /// The server cannot read at the snapshot's time, or not any more.
    HistoryLost(Error),
    /// The transaction is gone.
    TransactionLost(Error),
    /// A definition changed, or a read ended that cannot be gone on with: another snapshot, begun
    /// anew, may succeed.
    BeginAgain(Error),
}

impl Failure {
    pub fn of(doing: &str, at: ReadAt, error: &DriverError) -> Self {
        let told = fault::statement(doing, error);
        match at {
            ReadAt::Time(_) if fault::is_history_lost(error) => Self::HistoryLost(told),
            ReadAt::Transaction if fault::is_transaction_lost(error) => Self::TransactionLost(told),
            _ => Self::Plain(told),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Plain(error)
    }
}

/// One scan of one collection.
pub(super) struct Scan<'a> {
    pub deployment: &'a Deployment,
    pub listed: &'a Listed,
    pub layout: &'a Layout,
    pub row_key: &'a RowKey,
    pub at: ReadAt,
    /// Documents per reply.
    pub batch: u32,
}

/// What a scan delivered, and what tells it from another scan of the collection: the sum of its
/// records' hashes, which does not depend on their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Digest(pub [u64; 4]);

impl Digest {
    fn add(&mut self, hash: &[u8; 32]) {
        for (sum, part) in self.0.iter_mut().zip(hash.as_chunks::<8>().0) {
            *sum = sum.wrapping_add(u64::from_le_bytes(*part));
        }
    }

    /// Takes in the records of a batch.
    pub fn add_batch(&mut self, batch: &RecordBatch, row_key: &RowKey) {
        for (_, value) in batch.iter() {
            self.add(&row_key.hash(value));
        }
    }
}

/// Where a scan is: what a new cursor must begin with, and what of it was sent already.
#[derive(Default)]
struct Place {
    last: Option<Id>,
    /// The tree key of that `_id`.
    key: Vec<u8>,
    /// Hashes of the documents under that key that were sent; of a sharded collection only.
    sent: Vec<[u8; 32]>,
    /// The server takes the scan in natural order only, in which there is no going on from an id.
    is_natural: bool,
}

/// What one cursor came to.
enum Ended {
    AtTheEnd,
    Early(DriverError),
}

impl Scan<'_> {
    /// Reads everything and sends it in batches.
    pub async fn run(
        &self,
        session: &mut ClientSession,
        batches: &mpsc::Sender<RecordBatch>,
    ) -> Result<ScanStats, Failure> {
        let order = Order::of(self.listed)?;
        let mut writer = RecordWriter::new(self.layout, self.row_key, self.listed.display());
        let mut place = Place::default();
        let mut failures = 0;
        loop {
            let before = writer.records();
            let ended = self.one_cursor(session, order, &mut writer, &mut place, batches).await?;
            let Ended::Early(error) = ended else { break };
            failures = if writer.records() > before { 1 } else { failures + 1 };
            let can_go_on = (order == Order::ById && !place.is_natural) || writer.records() == 0;
            if !self.is_worth_another(&error, failures, can_go_on) {
                let failure = Failure::of(&self.doing(), self.at, &error);
                return Err(match failure {
                    Failure::Plain(told) if !can_go_on && fault::is_passing(&error) => {
                        Failure::BeginAgain(told)
                    }
                    other => other,
                });
            }
            tracing::info!(collection = %self.listed.display(), failures, "continuing a scan with a new cursor");
            tokio::time::sleep(BACKOFF * (1 << failures.min(6))).await;
        }
        if let Some(batch) = writer.take_batch(true) {
            send(batches, batch).await?;
        }
        Ok(ScanStats { records: writer.records(), bytes_read: writer.bytes_read() })
    }

    fn doing(&self) -> String {
        format!("reading {}", self.listed.display())
    }

    fn is_worth_another(&self, error: &DriverError, failures: u32, can_go_on: bool) -> bool {
        // A node that lags behind the time asked for, or builds an index, may be ready soon.
        let may_be_ready = matches!(self.at, ReadAt::Time(_))
            && fault::code_of(error) == Some(fault::code::SNAPSHOT_UNAVAILABLE)
            && failures <= 3;
        let passing = can_go_on && failures < ATTEMPTS && fault::is_passing(error);
        self.at != ReadAt::Transaction && (passing || may_be_ready)
    }

    async fn one_cursor(
        &self,
        session: &mut ClientSession,
        order: Order,
        writer: &mut RecordWriter<'_>,
        place: &mut Place,
        batches: &mpsc::Sender<RecordBatch>,
    ) -> Result<Ended, Failure> {
        let from = place.last.clone();
        let mut cursor = match self.open(session, order, from.as_ref(), &mut place.is_natural).await {
            Ok(cursor) => cursor,
            Err(error) => return Ok(Ended::Early(error)),
        };
        let mut is_first = true;
        while let Some(reply) = in_time(cursor.stream(session).try_next()).await.transpose() {
            let reply = match reply {
                Ok(reply) => reply,
                Err(error) => return Ok(Ended::Early(error)),
            };
            let reply = CursorReply::parse(reply.as_raw_document().as_bytes())?;
            if is_first {
                self.check_first(&reply).await?;
                is_first = false;
            }
            self.take(&reply, from.as_ref(), writer, place, batches).await?;
        }
        Ok(Ended::AtTheEnd)
    }

    async fn open(
        &self,
        session: &mut ClientSession,
        order: Order,
        from: Option<&Id>,
        is_natural: &mut bool,
    ) -> Result<SessionRawBatchCursor, DriverError> {
        let mut find = Find {
            listed: self.listed,
            filter: None,
            order: if *is_natural { Order::Natural } else { order },
            from,
            batch: self.batch,
            limit: None,
            may_time_out: false,
        };
        loop {
            let opened = find.open(self.deployment, self.at, session).await;
            let Err(error) = &opened else { return opened };
            let told = error.to_string();
            if self.at == ReadAt::Transaction {
                return opened;
            } else if !find.may_time_out && (told.contains("noCursorTimeout") || told.contains("noTimeout")) {
                // Shared tiers of Atlas refuse it. A cursor that is lost is replaced.
                find.may_time_out = true;
            } else if !*is_natural && told.contains("maxEstimatedScanBytes") && from.is_none() {
                // A guard against large scans lets those by that say they are.
                (find.order, *is_natural) = (Order::Natural, true);
            } else {
                return opened;
            }
        }
    }

    /// The cursor stands. It must be at the time asked for, and on the collection that was listed.
    async fn check_first(&self, reply: &CursorReply<'_>) -> Result<(), Failure> {
        if let ReadAt::Time(time) = self.at
            && reply.at_cluster_time != Some(time)
        {
            return Err(Failure::HistoryLost(Error::new(
                Kind::SourceChanged,
                format!("{}: the server does not read at the time asked for", self.doing()),
            )));
        }
        if self.at != ReadAt::Transaction && self.listed.uuid.is_some() {
            let name = &self.listed.name;
            let found = catalog::look_up(self.deployment, &self.listed.database, name).await?;
            if found.is_none_or(|found| found.uuid != self.listed.uuid) {
                let what = format!("{} was dropped, renamed or made anew", self.listed.display());
                return Err(Failure::BeginAgain(catalog::changed(&what)));
            }
        }
        Ok(())
    }

    async fn take(
        &self,
        reply: &CursorReply<'_>,
        from: Option<&Id>,
        writer: &mut RecordWriter<'_>,
        place: &mut Place,
        batches: &mpsc::Sender<RecordBatch>,
    ) -> Result<()> {
        let mut last: Option<&[u8]> = None;
        // What a new cursor repeats is at its front, under the id it began with.
        let mut may_repeat = from.is_some() && place.last.as_ref() == from;
        for document in reply.documents()? {
            let document = document?;
            if may_repeat && self.is_repeated(document, place)? {
                continue;
            }
            may_repeat = may_repeat && self.is_sharded();
            writer.push(document)?;
            last = Some(document);
            if let Some(batch) = writer.take_batch(false) {
                send(batches, batch).await?;
            }
        }
        last.map_or(Ok(()), |last| self.remember(reply, last, place))
    }

    fn is_sharded(&self) -> bool {
        self.deployment.topology == Topology::Sharded
    }

    fn is_repeated(&self, document: &[u8], place: &Place) -> Result<bool> {
        let Some(id) = Id::of(document) else { return Ok(false) };
        let is_last = id.key(self.row_key)? == place.key;
        Ok(is_last && (!self.is_sharded() || place.sent.contains(&self.row_key.hash(document))))
    }

    /// Notes the last id of a reply. In a sharded collection several documents may have it.
    fn remember(&self, reply: &CursorReply<'_>, last: &[u8], place: &mut Place) -> Result<()> {
        if self.listed.kind != catalog::Kind::Plain {
            return Ok(());
        }
        let Some(id) = Id::of(last) else { return Ok(()) };
        let key = id.key(self.row_key)?;
        if key != place.key {
            place.sent.clear();
        }
        if self.is_sharded() {
            for document in reply.documents()? {
                let document = document?;
                if Id::of(document).as_ref() == Some(&id) {
                    place.sent.push(self.row_key.hash(document));
                }
            }
        }
        place.key = key;
        place.last = Some(id);
        Ok(())
    }
}

/// A receiver that went away wants no more.
pub(super) async fn send<T>(channel: &mpsc::Sender<T>, item: T) -> Result<()> {
    channel.send(item).await.map_err(|_| Error::cancelled())
}
