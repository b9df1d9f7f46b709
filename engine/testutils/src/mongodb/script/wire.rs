//! Messages of the wire protocol, as far as clients of our day send them.
//!
//! [OP_MSG](https://github.com/mongodb/specifications/blob/master/source/message/OP_MSG.md) with
//! both kinds of sections, and
//! [OP_QUERY](https://www.mongodb.com/docs/manual/legacy-opcodes/) for the first `isMaster`.

use std::io::{Error, ErrorKind, Read, Result, Write};

use bson::raw::CString;
use bson::{RawArrayBuf, RawDocumentBuf};

const OP_REPLY: i32 = 1;
const OP_QUERY: i32 = 2004;
const OP_MSG: i32 = 2013;

const CHECKSUM_PRESENT: u32 = 1;
const MORE_TO_COME: u32 = 1 << 1;

const HEADER_BYTES: usize = 16;
/// `maxMessageSizeBytes`, and what a command around it takes.
const MAX_MESSAGE_BYTES: usize = 48_000_000 + (16 << 10);

/// One command as it came.
#[derive(Debug)]
pub(super) struct Request {
    id: i32,
    is_query: bool,
    /// The client does not wait for a reply (an unacknowledged write).
    pub is_one_way: bool,
    /// With the documents of sequences put back as arrays.
    pub document: RawDocumentBuf,
    /// OP_QUERY names the database outside of the document.
    pub database: Option<String>,
}

/// The next request; `None` when the client has closed the connection.
pub(super) fn read(stream: &mut impl Read) -> Result<Option<Request>> {
    let mut header = [0; HEADER_BYTES];
    if stream.read(&mut header[..1])? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut header[1..])?;
    let mut fields = Bytes(&header);
    let (length, id, _, opcode) = (fields.int()?, fields.int()?, fields.int()?, fields.int()?);
    let length = usize::try_from(length).map_err(|_| invalid("a negative length"))?;
    if !(HEADER_BYTES..=MAX_MESSAGE_BYTES).contains(&length) {
        return Err(invalid("a message of this length"));
    }
    let mut body = vec![0; length - HEADER_BYTES];
    stream.read_exact(&mut body)?;
    match opcode {
        OP_MSG => message(id, &body).map(Some),
        OP_QUERY => query(id, &body).map(Some),
        _ => Err(invalid("an opcode other than OP_MSG and OP_QUERY")),
    }
}

/// Sends `reply` in the form that the request came in.
pub(super) fn write(stream: &mut impl Write, request: &Request, reply: &RawDocumentBuf) -> Result<()> {
    let mut body = Vec::with_capacity(reply.as_bytes().len() + 36);
    if request.is_query {
        body.extend(8i32.to_le_bytes()); // AwaitCapable, as servers always say
        body.extend(0i64.to_le_bytes()); // no cursor
        body.extend(0i32.to_le_bytes()); // from the first document on
        body.extend(1i32.to_le_bytes()); // one document
    } else {
        body.extend(0u32.to_le_bytes());
        body.push(0);
    }
    body.extend(reply.as_bytes());
    let length = i32::try_from(HEADER_BYTES + body.len()).map_err(|_| invalid("a reply of this length"))?;
    let opcode = if request.is_query { OP_REPLY } else { OP_MSG };
    let mut whole = Vec::with_capacity(HEADER_BYTES + body.len());
    for field in [length, 0, request.id, opcode] {
        whole.extend(field.to_le_bytes());
    }
    whole.append(&mut body);
    stream.write_all(&whole)
}

fn message(id: i32, body: &[u8]) -> Result<Request> {
    let mut rest = Bytes(body);
    let flags = u32::from_le_bytes(rest.array()?);
    if flags & CHECKSUM_PRESENT != 0 {
        let without = rest.0.len().checked_sub(4).ok_or_else(|| invalid("no checksum"))?;
        rest.0 = &rest.0[..without];
    }
    let mut command = None;
    let mut sequences = Vec::new();
    while !rest.0.is_empty() {
        match rest.array()? {
            [0] => command = Some(rest.document()?),
            [1] => sequences.push(sequence(&mut rest)?),
            _ => return Err(invalid("a section of a kind other than 0 and 1")),
        }
    }
    let mut document = command.ok_or_else(|| invalid("no section of kind 0"))?;
    for (name, documents) in sequences {
        document.append(name, documents);
    }
    Ok(Request { id, is_query: false, is_one_way: flags & MORE_TO_COME != 0, document, database: None })
}

/// A section of kind 1, after the byte that says so.
fn sequence(rest: &mut Bytes) -> Result<(CString, RawArrayBuf)> {
    let length = usize::try_from(rest.int()?).ok().and_then(|length| length.checked_sub(4));
    let mut section = Bytes(rest.take(length.ok_or_else(|| invalid("a section's length"))?)?);
    let name = CString::try_from(section.string()?).map_err(|_| invalid("a section's name"))?;
    let mut documents = RawArrayBuf::new();
    while !section.0.is_empty() {
        documents.push(section.document()?);
    }
    Ok((name, documents))
}

fn query(id: i32, body: &[u8]) -> Result<Request> {
    let mut rest = Bytes(body);
    rest.int()?;
    let namespace = rest.string()?;
    rest.take(8)?;
    let database = namespace.strip_suffix(".$cmd").ok_or_else(|| invalid("OP_QUERY that is no command"))?;
    let document = rest.document()?;
    Ok(Request { id, is_query: true, is_one_way: false, document, database: Some(database.to_owned()) })
}

fn invalid(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("the client sent {what}"))
}

/// What is left to read of a message.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(|| invalid("too few bytes"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("because that many were taken"))
    }

    fn int(&mut self) -> Result<i32> {
        Ok(i32::from_le_bytes(self.array()?))
    }

    fn string(&mut self) -> Result<&'a str> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or_else(|| invalid("a string without end"))?;
        let text = std::str::from_utf8(self.take(end)?).map_err(|_| invalid("a name that is not UTF-8"))?;
        self.take(1)?;
        Ok(text)
    }

    fn document(&mut self) -> Result<RawDocumentBuf> {
        let length = Bytes(self.0).int()?;
        let length = usize::try_from(length).map_err(|_| invalid("a document's length"))?;
        RawDocumentBuf::from_bytes(self.take(length)?.to_vec()).map_err(|_| invalid("a broken document"))
    }
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    fn framed(opcode: i32, body: &[u8]) -> Vec<u8> {
        let length = i32::try_from(16 + body.len()).unwrap();
        let header = [length, 7, 0, opcode].into_iter().flat_map(i32::to_le_bytes);
        header.chain(body.iter().copied()).collect()
    }

    #[test]
    fn sections_come_in_any_order_and_a_checksum_is_passed_over() {
        let (one, two) = (rawdoc! { "_id": 1 }, rawdoc! { "_id": 2 });
        let mut body = (CHECKSUM_PRESENT | MORE_TO_COME).to_le_bytes().to_vec();
        let documents = [one.as_bytes(), two.as_bytes()].concat();
        body.push(1);
        body.extend(i32::try_from(4 + "documents\0".len() + documents.len()).unwrap().to_le_bytes());
        body.extend(b"documents\0");
        body.extend(documents);
        body.push(0);
        body.extend(rawdoc! { "insert": "t", "$db": "d" }.as_bytes());
        body.extend([9; 4]);
        let request = read(&mut framed(OP_MSG, &body).as_slice()).unwrap().unwrap();
        assert!(request.is_one_way);
        assert_eq!(request.document, rawdoc! { "insert": "t", "$db": "d", "documents": [one, two] });
    }

    #[test]
    fn what_is_cut_off_or_unknown_is_an_error() {
        let mut body = 0u32.to_le_bytes().to_vec();
        body.push(0);
        body.extend(rawdoc! { "ping": 1 }.as_bytes());
        let whole = framed(OP_MSG, &body);
        assert!(read(&mut whole.as_slice()).unwrap().is_some());
        assert!(read(&mut &whole[..0]).unwrap().is_none());
        for end in 1..whole.len() {
            assert!(read(&mut &whole[..end]).is_err(), "{end} bytes");
        }
        for cut in 0..body.len() {
            assert!(read(&mut framed(OP_MSG, &body[..cut]).as_slice()).is_err(), "{cut} bytes of the body");
        }
        body[4] = 2;
        assert!(read(&mut framed(OP_MSG, &body).as_slice()).is_err());
        assert!(read(&mut framed(2012, &body).as_slice()).is_err());
        assert!(read(&mut [0xff; 64].as_slice()).is_err());
    }
}
