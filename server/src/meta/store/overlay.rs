//! A file that is read, and whose changes stay in memory.
//!
//! redb repairs a file that was not closed in order when it opens it, which writes. Over this the file of a
//! full disk is opened all the same, as after a crash, and nothing of it is changed.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use redb::{BackendError, StorageBackend};

const BLOCK: usize = 4096;

#[derive(Debug)]
pub(super) struct Overlay<B> {
    below: B,
    written: RwLock<Written>,
}

#[derive(Debug)]
struct Written {
    len: u64,
    /// So much of what is below is seen: it was never cut shorter.
    seen_below: u64,
    /// Whole blocks by their numbers, where anything was written.
    blocks: BTreeMap<u64, Box<[u8; BLOCK]>>,
}

impl<B: StorageBackend> Overlay<B> {
    pub fn new(below: B) -> io::Result<Self> {
        let len = below.len()?;
        let written = RwLock::new(Written { len, seen_below: len, blocks: BTreeMap::new() });
        Ok(Self { below, written })
    }

    fn written(&self) -> RwLockReadGuard<'_, Written> {
        self.written.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn written_mut(&self) -> RwLockWriteGuard<'_, Written> {
        self.written.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is below, and zeros behind its end.
    fn read_below(&self, seen: u64, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = usize::try_from(seen.saturating_sub(offset)).unwrap_or(usize::MAX).min(out.len());
        let (there, behind) = out.split_at_mut(there);
        behind.fill(0);
        if there.is_empty() { Ok(()) } else { self.below.read(offset, there) }
    }
}

/// The parts of a range by blocks: the block, where in it the part begins, and where in the range.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let position = offset + at as u64;
        let within = (position % BLOCK as u64) as usize;
        let part = at..(at + BLOCK - within).min(len);
        at = part.end;
        (!part.is_empty()).then_some((position / BLOCK as u64, within, part))
    })
}

impl<B: StorageBackend> StorageBackend for Overlay<B> {
    fn len(&self) -> io::Result<u64> {
        Ok(self.written().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.written();
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > written.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.read_below(written.seen_below, offset, out)?;
        for (block, within, part) in parts(offset, out.len()) {
            if let Some(bytes) = written.blocks.get(&block) {
                let len = part.len();
                out[part].copy_from_slice(&bytes[within..within + len]);
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut written = self.written_mut();
        (written.len, written.seen_below) = (len, written.seen_below.min(len));
        let kept = len.div_ceil(BLOCK as u64);
        written.blocks.split_off(&kept);
        if let Some(last) = written.blocks.get_mut(&(len / BLOCK as u64)) {
            last[(len % BLOCK as u64) as usize..].fill(0);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = self.written_mut();
        written.len = written.len.max(offset + data.len() as u64);
        for (block, within, part) in parts(offset, data.len()) {
            let seen = written.seen_below;
            let bytes = match written.blocks.entry(block) {
                std::collections::btree_map::Entry::Occupied(there) => there.into_mut(),
                std::collections::btree_map::Entry::Vacant(place) => {
                    let mut bytes = Box::new([0; BLOCK]);
                    self.read_below(seen, block * BLOCK as u64, &mut bytes[..])?;
                    place.insert(bytes)
                }
            };
            bytes[within..within + part.len()].copy_from_slice(&data[part]);
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.below.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.below.try_lock_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.below.unlock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redb::backends::InMemoryBackend;

    /// Whatever is done in whatever order reads as it would in a file, and the file stays as it was.
    #[test]
    fn it_reads_like_a_file_that_was_written() {
        let below = InMemoryBackend::new();
        let first: Vec<u8> = (0..10_000_u32).map(|n| n as u8).collect();
        below.set_len(10_000).unwrap();
        below.write(0, &first).unwrap();
        let (overlay, mut model) = (Overlay::new(below).unwrap(), first.clone());
        // A fixed sequence of positions and lengths, over and across blocks and the end.
        let mut state = 7_u64;
        let mut next = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        for n in 0..400_u32 {
            if n % 7 == 0 {
                let len = next(20_000) as usize;
                overlay.set_len(len as u64).unwrap();
                model.resize(len, 0);
            } else if !model.is_empty() {
                let offset = next(model.len() as u64) as usize;
                let len = (next(9_000) as usize).min(model.len() - offset);
                overlay.write(offset as u64, &vec![n as u8; len]).unwrap();
                model[offset..offset + len].fill(n as u8);
            }
            assert_eq!(overlay.len().unwrap(), model.len() as u64);
            let mut read = vec![0xaa; model.len()];
            overlay.read(0, &mut read).unwrap();
            assert!(read == model, "after step {n}");
            assert!(overlay.read(1, &mut vec![0; model.len()]).is_err(), "behind the end");
        }
        let mut kept = vec![0; first.len()];
        overlay.below.read(0, &mut kept).unwrap();
        assert!(kept == first);
    }
}
