//! How much one transaction takes. Pure.

use bson::RawDocumentBuf;

use crate::error::Result;
use crate::target::mongodb::load::document_of;
use crate::target::mongodb::raw;

/// Documents that one transaction writes. A server ends one that runs for a minute
/// (`transactionLifetimeLimitSeconds`) and keeps all that it wrote in its cache until then; this many take
/// it a few seconds.
pub(crate) const DOCUMENTS: u64 = 10_000;
/// Bytes of what they held and of what they are to hold: about what one entry of the oplog takes, into
/// which small transactions go as a whole.
pub(crate) const BYTES: u64 = 16 << 20;

/// A document that is to become another one, to come or to go.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// Which of the writer's destinations it is in.
    pub destination: usize,
    /// What is there.
    pub old: Option<RawDocumentBuf>,
    /// What is to be there.
    pub new: Option<RawDocumentBuf>,
}

impl Change {
    /// A change between records, values inline.
    pub(crate) fn between(destination: usize, old: Option<&[u8]>, new: Option<&[u8]>) -> Result<Self> {
        let document = |record: &[u8]| raw::document(document_of(record)?.to_vec());
        Ok(Self { destination, old: old.map(document).transpose()?, new: new.map(document).transpose()? })
    }
}

/// What one transaction writes.
pub(crate) type Portion = Vec<Change>;

/// Cuts changes into portions: as many as fit, and at least one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Portions {
    documents: u64,
    bytes: u64,
    begun: u64,
}

impl Portions {
    /// Adds a change of that size. Whether it begins a portion.
    pub(crate) fn add(&mut self, size_bytes: u64) -> bool {
        let is_full = self.documents >= DOCUMENTS || self.bytes + size_bytes > BYTES;
        let begins = self.begun == 0 || is_full;
        if begins {
            *self = Self { documents: 0, bytes: 0, begun: self.begun + 1 };
        }
        self.documents += 1;
        self.bytes += size_bytes;
        begins
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.begun
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(sizes: impl IntoIterator<Item = u64>) -> Vec<bool> {
        let mut portions = Portions::default();
        let begins: Vec<bool> = sizes.into_iter().map(|size| portions.add(size)).collect();
        assert_eq!(begins.iter().filter(|begins| **begins).count() as u64, portions.count());
        begins
    }

    #[test]
    fn a_portion_is_full_by_documents_or_by_bytes_and_never_empty() {
        assert!(cut([]).is_empty());
        assert_eq!(cut([BYTES + 1, 1]), [true, true], "one document always fits");
        assert_eq!(cut([BYTES - 1, 1, 1]), [true, false, true]);
        let many = cut(std::iter::repeat_n(1, 2 * DOCUMENTS as usize + 1));
        let begun: Vec<usize> = (0..many.len()).filter(|at| many[*at]).collect();
        assert_eq!(begun, [0, DOCUMENTS as usize, 2 * DOCUMENTS as usize]);
    }
}
