//! Moved-out values: pieces, and lists of pieces where there are several.
//!
//! A list's plaintext is the number of its entries (varint), then for each the bytes below
//! (varint) and the id (32 bytes). Lists hold up to 512 entries; all but the last of a level are
//! full. Depth 0 is a single piece without a list.

use crate::chunker::PieceCutter;
use crate::codec::{Cursor, put_varint};
use crate::error::{Error, Result};
use crate::id::{ObjectId, ObjectKind};
use crate::keys::KeySchedule;
use crate::limits;
use crate::record::OutOfLine;
use crate::tree::{Lookup, Sink};

/// One entry of a list of pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The piece, or the list below.
    pub id: ObjectId,
    /// Bytes of the value below it.
    pub len: u64,
}

/// Cuts values into pieces and stores them.
#[derive(Debug)]
pub struct ValueWriter {
    keys: KeySchedule,
    cutter: PieceCutter,
}

impl ValueWriter {
    /// A writer for one repository.
    pub fn new(keys: &KeySchedule) -> Self {
        Self { keys: keys.clone(), cutter: PieceCutter::new(keys) }
    }

    /// Stores `value` and says where it is.
    pub fn write<S: Sink>(&self, value: &[u8], sink: &mut S) -> Result<OutOfLine, S::Error> {
        let mut level = Vec::new();
        let mut rest = value;
        loop {
            let (piece, after) = rest.split_at(self.cutter.piece(rest));
            let id = self.keys.object_id(ObjectKind::Piece, piece);
            sink.store(ObjectKind::Piece, id, piece.to_vec())?;
            level.push(Piece { id, len: piece.len() as u64 });
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        let mut depth = 0;
        while level.len() > 1 {
            depth += 1;
            if depth > limits::VALUE_DEPTH {
                return Err(Error::OverLimit("depth of a moved-out value", limits::VALUE_DEPTH.into()).into());
            }
            let mut above = Vec::new();
            for chunk in level.chunks(limits::PIECE_LIST) {
                let plaintext = encode_list(chunk);
                let id = self.keys.object_id(ObjectKind::PieceList, &plaintext);
                sink.store(ObjectKind::PieceList, id, plaintext)?;
                above.push(Piece { id, len: chunk.iter().map(|piece| piece.len).sum() });
            }
            level = above;
        }
        Ok(OutOfLine { len: value.len() as u64, depth, root: level[0].id })
    }
}

/// The plaintext of a list.
pub fn encode_list(pieces: &[Piece]) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 + pieces.len() * 36);
    put_varint(&mut out, pieces.len() as u64);
    for piece in pieces {
        put_varint(&mut out, piece.len);
        out.extend_from_slice(&piece.id.0);
    }
    out
}

/// Reads a list.
pub fn parse_list(plaintext: &[u8]) -> Result<Vec<Piece>> {
    let mut cursor = Cursor::new(plaintext, "list of pieces");
    let len = cursor.bounded(limits::PIECE_LIST)?;
    if len == 0 {
        return Err(cursor.malformed("it is empty"));
    }
    let mut pieces = Vec::with_capacity(len);
    for _ in 0..len {
        let len = cursor.varint()?;
        pieces.push(Piece { id: ObjectId(cursor.array()?), len });
    }
    cursor.finish()?;
    Ok(pieces)
}

/// Reads a whole value. `most` bounds the bytes that are set aside for it.
pub fn read<L: Lookup>(place: &OutOfLine, most: u64, lookup: &mut L) -> Result<Vec<u8>, L::Error> {
    if place.len > most {
        return Err(Error::OverLimit("length of a moved-out value", most).into());
    }
    let mut value = Vec::new();
    read_below(place.depth, Piece { id: place.root, len: place.len }, &mut value, lookup)?;
    Ok(value)
}

/// Reads the first bytes of a value: at least `most` of them, or all.
pub fn read_prefix<L: Lookup>(place: &OutOfLine, most: usize, lookup: &mut L) -> Result<Vec<u8>, L::Error> {
    let (mut depth, mut first) = (place.depth, Piece { id: place.root, len: place.len });
    let mut value = Vec::new();
    if place.len <= most as u64 {
        read_below(depth, first, &mut value, lookup)?;
        return Ok(value);
    }
    // The smallest piece is larger than any prefix that is shown, so one path is enough; a
    // prefix that ends early is filled from the following pieces.
    while depth > 0 {
        let list = parse_list(&lookup.load(ObjectKind::PieceList, first.id)?)?;
        depth -= 1;
        if depth == 0 {
            for piece in list {
                read_below(0, piece, &mut value, lookup)?;
                if value.len() >= most {
                    return Ok(value);
                }
            }
            return Ok(value);
        }
        first = list[0];
    }
    read_below(0, first, &mut value, lookup)?;
    Ok(value)
}

fn read_below<L: Lookup>(
    depth: u8,
    piece: Piece,
    value: &mut Vec<u8>,
    lookup: &mut L,
) -> Result<(), L::Error> {
    let start = value.len();
    if depth == 0 {
        value.extend_from_slice(&lookup.load(ObjectKind::Piece, piece.id)?);
    } else {
        let list = parse_list(&lookup.load(ObjectKind::PieceList, piece.id)?)?;
        if list.iter().try_fold(0u64, |sum, below| sum.checked_add(below.len)) != Some(piece.len) {
            return Err(Error::Malformed("list of pieces", "its lengths do not add up").into());
        }
        let kind = if depth == 1 { ObjectKind::Piece } else { ObjectKind::PieceList };
        lookup.expect(&list.iter().map(|below| (kind, below.id)).collect::<Vec<_>>());
        for below in list {
            read_below(depth - 1, below, value, lookup)?;
        }
    }
    if (value.len() - start) as u64 != piece.len {
        return Err(Error::Malformed("moved-out value", "it has another length").into());
    }
    Ok(())
}

/// The objects directly below a place or list, for verify and prune.
pub fn children(depth: u8, plaintext: &[u8]) -> Result<Vec<(ObjectKind, ObjectId)>> {
    if depth == 0 {
        return Ok(Vec::new());
    }
    let kind = if depth == 1 { ObjectKind::Piece } else { ObjectKind::PieceList };
    Ok(parse_list(plaintext)?.into_iter().map(|piece| (kind, piece.id)).collect())
}
