//! Why bytes were refused.

/// Bytes that this crate refuses to read, or values it refuses to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes end early, are too long, or break a rule of the structure named.
    #[error("malformed {0}: {1}")]
    Malformed(&'static str, &'static str),
    /// Opening a frame failed: changed bytes, another key, or bytes of another name.
    #[error("a sealed frame does not open: it was changed, moved, or sealed under another key")]
    Unsealed,
    /// A frame opened, but its content has another id than the one asked for.
    #[error("an object's content is not what its id says")]
    WrongContent,
    /// Written by a version this reader does not know.
    #[error("format version {0} is not known to this reader")]
    Version(u8),
    /// A codec this reader does not know.
    #[error("codec {0} is not known to this reader")]
    Codec(u8),
    /// The unlocking key is not the one this slot was made for.
    #[error("the key does not open this slot")]
    WrongKey,
    /// A value over one of the limits of [`crate::limits`].
    #[error("{0} is over the limit of {1}")]
    OverLimit(&'static str, u64),
}

/// The result of every fallible operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
