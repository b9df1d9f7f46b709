//! Raw BSON of commands and replies. Customers' documents pass through as bytes: the driver's own
//! types would refuse text that is not UTF-8 and drop fields whose names come twice.

use repo_format::bson::{self as raw, Element, Elements, kind};

use crate::error::{Error, Kind, Result};

/// A time of the deployment's clock: seconds in the upper half, a counter in the lower. Compares
/// as MongoDB's timestamps do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ClusterTime(pub u64);

impl ClusterTime {
    pub fn seconds(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub fn increment(self) -> u32 {
        self.0 as u32
    }

    /// The last time before this one.
    pub fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// ISO 8601 in UTC, to the second.
    pub fn iso(self) -> String {
        let date = bson::DateTime::from_millis(i64::from(self.seconds()) * 1000);
        date.try_to_rfc3339_string().unwrap_or_default()
    }

    pub fn timestamp(self) -> bson::Timestamp {
        bson::Timestamp { time: self.seconds(), increment: self.increment() }
    }
}

impl From<bson::Timestamp> for ClusterTime {
    fn from(at: bson::Timestamp) -> Self {
        Self(u64::from(at.time) << 32 | u64::from(at.increment))
    }
}

impl std::fmt::Display for ClusterTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Timestamp({}, {})", self.seconds(), self.increment())
    }
}

/// A document that is written byte by byte: values come from the server and go back unchanged.
#[derive(Debug)]
pub(crate) struct DocumentWriter(Vec<u8>);

impl DocumentWriter {
    pub fn new() -> Self {
        Self(vec![0; 4])
    }

    /// Appends an element. `value` is what the type asks for.
    pub fn push(&mut self, kind: u8, name: &[u8], value: &[u8]) {
        self.0.push(kind);
        self.0.extend_from_slice(name);
        self.0.push(0);
        self.0.extend_from_slice(value);
    }

    pub fn push_text(&mut self, name: &[u8], text: &str) {
        let len = i32::try_from(text.len() + 1).unwrap_or(i32::MAX);
        let value = [&len.to_le_bytes()[..], text.as_bytes(), &[0]].concat();
        self.push(kind::STRING, name, &value);
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.0.push(0);
        let len = i32::try_from(self.0.len()).unwrap_or(i32::MAX);
        self.0[..4].copy_from_slice(&len.to_le_bytes());
        self.0
    }
}

/// The first element of that name.
pub(crate) fn find<'a>(document: &'a [u8], name: &str) -> Result<Option<Element<'a>>> {
    for element in elements(document)? {
        let element = element?;
        if element.name == name.as_bytes() {
            return Ok(Some(element));
        }
    }
    Ok(None)
}

/// The elements of a document or array that came from the server.
pub(crate) fn elements(document: &[u8]) -> Result<impl Iterator<Item = Result<Element<'_>>>> {
    let elements = Elements::new(document).map_err(unreadable)?;
    Ok(elements.map(|element| element.map_err(unreadable)))
}

/// The member, where it is a document or array.
pub(crate) fn document<'a>(parent: &'a [u8], name: &str) -> Result<Option<&'a [u8]>> {
    let found = find(parent, name)?;
    Ok(found.filter(|found| matches!(found.kind, kind::DOCUMENT | kind::ARRAY)).map(|found| found.value))
}

/// The member, where it is a string; what is not UTF-8 is replaced.
pub(crate) fn text(parent: &[u8], name: &str) -> Result<Option<String>> {
    let Some(found) = find(parent, name)?.filter(|found| found.kind == kind::STRING) else { return Ok(None) };
    let bytes = raw::text(found.value).map_err(unreadable)?;
    Ok(Some(String::from_utf8_lossy(bytes).into_owned()))
}

/// The member, where it is a timestamp.
pub(crate) fn time(parent: &[u8], name: &str) -> Result<Option<ClusterTime>> {
    let found = find(parent, name)?.filter(|found| found.kind == kind::TIMESTAMP);
    Ok(found.and_then(|found| found.value.first_chunk()).map(|bytes| ClusterTime(u64::from_le_bytes(*bytes))))
}

/// The member as a number; whole numbers of any type.
pub(crate) fn number(parent: &[u8], name: &str) -> Result<Option<i64>> {
    Ok(find(parent, name)?.and_then(|found| whole_number(found.kind, found.value)))
}

/// A number of any type as a whole one; none for what is no number.
pub(crate) fn whole_number(kind: u8, value: &[u8]) -> Option<i64> {
    match kind {
        kind::INT32 => value.first_chunk().map(|bytes| i64::from(i32::from_le_bytes(*bytes))),
        kind::INT64 => value.first_chunk().map(|bytes| i64::from_le_bytes(*bytes)),
        kind::DOUBLE => value.first_chunk().map(|bytes| f64::from_le_bytes(*bytes) as i64),
        _ => None,
    }
}

/// The member as MongoDB reads flags: true, or a number other than zero.
pub(crate) fn flag(parent: &[u8], name: &str) -> Result<bool> {
    Ok(find(parent, name)?.is_some_and(|found| match found.kind {
        kind::BOOLEAN => found.value == [1],
        other => whole_number(other, found.value).is_some_and(|number| number != 0),
    }))
}

/// A reply with a cursor in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CursorReply<'a> {
    /// When the server answered.
    pub operation_time: Option<ClusterTime>,
    /// The time that a snapshot read stands at.
    pub at_cluster_time: Option<ClusterTime>,
    /// Where a change stream stands.
    pub resume_token: Option<&'a [u8]>,
    batch: &'a [u8],
}

impl<'a> CursorReply<'a> {
    pub fn parse(reply: &'a [u8]) -> Result<Self> {
        let strange = || Error::new(Kind::Internal, "the server's reply holds no cursor");
        let cursor = document(reply, "cursor")?.ok_or_else(strange)?;
        let batch = match document(cursor, "firstBatch")? {
            Some(batch) => batch,
            None => document(cursor, "nextBatch")?.ok_or_else(strange)?,
        };
        Ok(Self {
            operation_time: time(reply, "operationTime")?,
            at_cluster_time: time(cursor, "atClusterTime")?,
            resume_token: document(cursor, "postBatchResumeToken")?,
            batch,
        })
    }

    /// The documents of the batch, byte for byte.
    pub fn documents(&self) -> Result<impl Iterator<Item = Result<&'a [u8]>> + use<'a>> {
        let elements = Elements::new(self.batch).map_err(unreadable)?;
        Ok(elements.map(|element| element.map(|element| element.value).map_err(unreadable)))
    }

    pub fn is_empty(&self) -> bool {
        // Four bytes of length and the end.
        self.batch.len() <= 5
    }
}

fn unreadable(error: repo_format::Error) -> Error {
    Error::new(Kind::Internal, "the server sent bytes that are not BSON").with_source(error)
}
