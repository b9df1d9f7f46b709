//! Every number of the format, in one place.

/// The version written and read: 0 until the format is frozen.
pub const FORMAT_VERSION: u8 = 0;

/// Longest key, in bytes.
pub const KEY: usize = 1024;
/// Bytes of a longer key that are kept in front of its hash.
pub const KEY_PREFIX: usize = 992;

/// A record over this many bytes moves its longest fields out.
pub const INLINE_RECORD: usize = 8 * 1024;
/// Longest single record accepted, in bytes.
pub const RECORD: usize = 1 << 30;

/// One byte of the surrogate stream stands for this many bytes of records.
pub const SURROGATE_SCALE: usize = 8;
/// Smallest leaf, in surrogate bytes (4 KiB of records).
pub const LEAF_MIN: usize = 512;
/// Intended leaf, in surrogate bytes (16 KiB of records).
pub const LEAF_AVG: usize = 2048;
/// Largest leaf, in surrogate bytes (64 KiB of records).
pub const LEAF_MAX: usize = 8192;

/// An inner node is never cut before this many entries.
pub const NODE_MIN: usize = 32;
/// One in so many entries ends its node.
pub const NODE_ODDS: u64 = 96;
/// An inner node is always cut at this many entries.
pub const NODE_MAX: usize = 512;
/// Highest level of a tree: far above what `NODE_MIN` allows to be reached.
pub const TREE_LEVEL: u8 = 16;

/// Smallest, intended and largest piece of a moved-out value, in bytes.
pub const PIECE: (usize, usize, usize) = (16 * 1024, 64 * 1024, 256 * 1024);
/// Entries of a list of pieces.
pub const PIECE_LIST: usize = 512;
/// Levels of lists above the pieces.
pub const VALUE_DEPTH: u8 = 4;

/// Largest plaintext of one frame, in bytes.
pub const FRAME: usize = 16 << 20;
/// Data packs are closed at this size.
pub const DATA_PACK: usize = 32 << 20;
/// Tree packs are closed at this size.
pub const TREE_PACK: usize = 4 << 20;
/// Longest name of a key in AWS KMS, in bytes.
pub const KMS_KEY_ID: usize = 2048;
/// Longest wrapped key that AWS KMS gives, in bytes.
pub const KMS_CIPHERTEXT: usize = 6144;

/// Most objects in one pack.
pub const PACK_OBJECTS: usize = 100_000;
/// Most entries in one index file.
pub const INDEX_ENTRIES: usize = 200_000;
/// Most ids in one list of a prune's file.
pub const PRUNED: usize = 200_000;
