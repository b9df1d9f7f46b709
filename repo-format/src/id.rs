//! Identities. Each newtype's doc line says what being equal means.

use std::fmt;

/// Formats bytes as lower-case hexadecimal.
fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// Reads exactly `N` bytes of lower-case hexadecimal; the only accepted spelling of an id.
fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |c: u8| match c {
            b'0'..=b'9' => Some(c - b'0'),
            b'a'..=b'f' => Some(c - b'a' + 10),
            _ => None,
        };
        *byte = (digit(pair[0])? << 4) | digit(pair[1])?;
    }
    Some(out)
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// Reads the lower-case hexadecimal form that `Display` writes; nothing else.
            pub fn parse(text: &str) -> Option<Self> {
                parse_hex(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(f, &self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}(", stringify!($name))?;
                write_hex(f, &self.0)?;
                f.write_str(")")
            }
        }

        impl<C> minicbor::Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.bytes(&self.0)?.ok()
            }
        }

        impl<'b, C> minicbor::Decode<'b, C> for $name {
            fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
                let bytes = d.bytes()?;
                bytes.try_into().map(Self).map_err(|_| minicbor::decode::Error::message("id of another length"))
            }
        }
    };
}

id! {
    /// Equal ids mean equal kind and equal plaintext, within one repository: the keyed BLAKE3 hash
    /// of both under the repository's id key. Ids of different repositories say nothing about
    /// each other.
    ObjectId, 32
}
id! {
    /// The repository: drawn at random when it is created, bound into everything sealed in it.
    RepositoryId, 16
}
id! {
    /// A pack: drawn at random when it is written, never reused, says nothing of the content.
    PackId, 16
}
id! {
    /// A writer's session, and the snapshot it commits: drawn at random at the session's start.
    SnapshotId, 16
}
id! {
    /// A key slot: drawn at random when the slot is added.
    SlotId, 16
}

/// What an object is. The kind is hashed with the content, so bytes of one kind never answer for
/// another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ObjectKind {
    /// Level 0 of a tree: records in key order.
    Leaf = 1,
    /// Level 1 and up of a tree: (last key, child) in key order.
    Node = 2,
    /// A piece of a value that was moved out of its record.
    Piece = 3,
    /// A list of pieces, or of such lists.
    PieceList = 4,
}

impl ObjectKind {
    /// The kind a stored byte stands for.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Leaf,
            2 => Self::Node,
            3 => Self::Piece,
            4 => Self::PieceList,
            _ => return None,
        })
    }

    /// Whether the object belongs in a tree pack: small, and read on the way to others.
    pub fn is_tree(self) -> bool {
        matches!(self, Self::Node | Self::PieceList)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_round_trips_and_has_one_spelling() {
        let id = PackId([0xab; 16]);
        assert_eq!(PackId::parse(&id.to_string()), Some(id));
        assert_eq!(PackId::parse(&id.to_string().to_uppercase()), None);
        assert_eq!(PackId::parse("ab"), None);
        assert_eq!(PackId::parse(&"é".repeat(16)), None);
    }
}
