//! Reading single documents again.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::TryStreamExt;
use mongodb::ClientSession;
use mongodb::error::Error as DriverError;
use repo_format::catalog::Layout;
use repo_format::keys::RowKey;

use super::catalog::Listed;
use super::connect::Deployment;
use super::fault;
use super::pending::Change;
use super::read::{Find, Order, ReadAt, ids_filter, in_time};
use super::records::RecordWriter;
use super::scan::Failure;
use super::snapshot::ChangedRecord;
use super::wire::CursorReply;
use crate::error::{Error, Kind, Result};

const ATTEMPTS: u32 = 5;
const BACKOFF: Duration = Duration::from_millis(100);

/// How to ask for documents of one collection.
pub(super) struct Reread<'a> {
    pub deployment: &'a Deployment,
    pub listed: &'a Listed,
    pub layout: &'a Layout,
    pub row_key: &'a RowKey,
    pub at: ReadAt,
    /// Documents per reply.
    pub batch: u32,
}

impl Reread<'_> {
    /// What the collection now holds under each of the ids: nothing, where it is gone. By key.
    pub async fn run(
        &self,
        changes: &[Change],
        session: &mut ClientSession,
        bytes_read: &mut u64,
    ) -> Result<Vec<ChangedRecord>, Failure> {
        let mut attempt = 0;
        loop {
            let error = match self.once(changes, session, bytes_read).await? {
                Ok(found) => return Ok(found),
                Err(error) => error,
            };
            attempt += 1;
            if self.at == ReadAt::Transaction || attempt >= ATTEMPTS || !fault::is_passing(&error) {
                let doing = format!("reading changes of {}", self.listed.display());
                return Err(Failure::of(&doing, self.at, &error));
            }
            tokio::time::sleep(BACKOFF * (1 << attempt)).await;
        }
    }

    async fn once(
        &self,
        changes: &[Change],
        session: &mut ClientSession,
        bytes_read: &mut u64,
    ) -> Result<Result<Vec<ChangedRecord>, DriverError>, Failure> {
        let mut found: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
        for change in changes {
            found.insert(change.id.key(self.row_key)?, Vec::new());
        }
        let find = Find {
            listed: self.listed,
            filter: Some(ids_filter(changes.iter().map(|change| &change.id))),
            order: Order::Any,
            from: None,
            batch: self.batch,
            limit: None,
            may_time_out: true,
        };
        let mut cursor = match find.open(self.deployment, self.at, session).await {
            Ok(cursor) => cursor,
            Err(error) => return Ok(Err(error)),
        };
        let mut writer = RecordWriter::new(self.layout, self.row_key, self.listed.display());
        let mut is_first = true;
        while let Some(reply) = in_time(cursor.stream(session).try_next()).await.transpose() {
            let reply = match reply {
                Ok(reply) => reply,
                Err(error) => return Ok(Err(error)),
            };
            let reply = CursorReply::parse(reply.as_raw_document().as_bytes())?;
            if let (ReadAt::Time(time), true) = (self.at, is_first)
                && reply.at_cluster_time != Some(time)
            {
                let told =
                    format!("{}: the server does not read at the time asked for", self.listed.display());
                return Err(Failure::HistoryLost(Error::new(Kind::SourceChanged, told)));
            }
            is_first = false;
            for document in reply.documents()? {
                let document = document?;
                *bytes_read += document.len() as u64;
                let (key, record) = writer.record(document)?;
                // A filter may find more than was asked for: null also means no _id at all.
                if let Some(records) = found.get_mut(key) {
                    records.push(record.to_vec());
                }
            }
        }
        let changed = found.into_iter().map(|(key, mut records)| {
            records.sort();
            ChangedRecord { key, records }
        });
        Ok(Ok(changed.collect()))
    }
}
