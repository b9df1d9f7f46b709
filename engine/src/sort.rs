//! Sorting more records than fit in memory.
//!
//! Records collect up to a budget, are sorted, and go to a spill file as one run; runs are merged
//! at the end, and in between when there are many. Spills hold customers' data, so they are sealed
//! under a key that exists only in this process, and unlinked as soon as they are made: they are
//! gone with the process, however it ends.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::PathBuf;
use std::sync::Arc;

use rayon::slice::ParallelSliceMut;
use repo_format::codec::{Cursor, put_varint};
use repo_format::frame::{Opener, Sealer, Subject};
use repo_format::id::RepositoryId;
use repo_format::keys::SealKey;

use crate::clock::{Entropy, random};
use crate::context::Context;
use crate::error::{Error, Kind, Result};

/// Bytes of records that one sort keeps in memory.
pub(crate) const BUDGET: usize = 32 << 20;
/// Plaintext of one frame of a spill.
const FRAME: usize = 128 << 10;
/// Runs of one size that are merged into the next larger size.
const FAN_IN: usize = 32;
/// What spill frames are sealed as; their order is checked by comparing keys.
const SUBJECT: Subject<'static> = Subject::File("spill");

/// A record in a run, as (key, value).
type Record = (Vec<u8>, Vec<u8>);

/// Collects records in any order and gives them back by key, then by value.
pub(crate) struct Sorter {
    budget: usize,
    scratch: PathBuf,
    entropy: Arc<dyn Entropy>,
    key: SealKey,
    sealer: Sealer,
    arena: Arena,
    /// `runs[n]` holds runs made of `FAN_IN` to the power of `n` memory loads.
    runs: Vec<Vec<File>>,
}

/// Records in memory, and where each is: start, end of its key, end.
#[derive(Default)]
pub(crate) struct Arena {
    bytes: Vec<u8>,
    places: Vec<(usize, usize, usize)>,
}

impl Arena {
    fn record(&self, &(start, key_end, end): &(usize, usize, usize)) -> (&[u8], &[u8]) {
        (&self.bytes[start..key_end], &self.bytes[key_end..end])
    }

    fn sort(&mut self) {
        let bytes = &self.bytes;
        self.places.par_sort_unstable_by(|a, b| {
            (&bytes[a.0..a.1], &bytes[a.1..a.2]).cmp(&(&bytes[b.0..b.1], &bytes[b.1..b.2]))
        });
    }

    /// Bytes in use, the places' own included.
    fn size(&self) -> usize {
        self.bytes.len() + self.places.len() * size_of::<(usize, usize, usize)>()
    }
}

impl Sorter {
    /// A sorter that spills below the context's scratch folder.
    pub fn new(ctx: &Context, budget: usize) -> Self {
        let key = SealKey::ephemeral(random(ctx.entropy.as_ref()));
        Self {
            budget,
            scratch: ctx.scratch.clone(),
            entropy: ctx.entropy.clone(),
            sealer: Sealer::new(RepositoryId([0; 16]), 0, &key),
            key,
            arena: Arena::default(),
            runs: Vec::new(),
        }
    }

    /// Takes a record.
    pub fn push(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        if !self.arena.places.is_empty() && self.arena.size() + key.len() + value.len() > self.budget {
            self.spill()?;
        }
        let start = self.arena.bytes.len();
        self.arena.bytes.extend_from_slice(key);
        let key_end = self.arena.bytes.len();
        self.arena.bytes.extend_from_slice(value);
        self.arena.places.push((start, key_end, self.arena.bytes.len()));
        Ok(())
    }

    /// Ends the input.
    pub fn finish(mut self) -> Result<Sorted> {
        if self.runs.is_empty() {
            self.arena.sort();
            return Ok(Sorted::Memory(self.arena));
        }
        self.spill()?;
        self.arena = Arena::default();
        let runs = std::mem::take(&mut self.runs);
        Ok(Sorted::Merged(self.merge(runs.into_iter().flatten().collect())?))
    }

    fn spill(&mut self) -> Result<()> {
        self.arena.sort();
        let mut arena = std::mem::take(&mut self.arena);
        let mut run = self.begin_run()?;
        for place in &arena.places {
            let (key, value) = arena.record(place);
            self.write(&mut run, key, value)?;
        }
        let file = self.end_run(run)?;
        // The arena's memory is used again.
        arena.bytes.clear();
        arena.places.clear();
        self.arena = arena;
        self.keep(0, file)
    }

    fn keep(&mut self, size: usize, file: File) -> Result<()> {
        if self.runs.len() <= size {
            self.runs.resize_with(size + 1, Vec::new);
        }
        self.runs[size].push(file);
        if self.runs[size].len() < FAN_IN {
            return Ok(());
        }
        let full = std::mem::take(&mut self.runs[size]);
        let mut merge = self.merge(full)?;
        let mut run = self.begin_run()?;
        while let Some((key, value)) = merge.next()? {
            self.write(&mut run, &key, &value)?;
        }
        let file = self.end_run(run)?;
        self.keep(size + 1, file)
    }

    fn begin_run(&self) -> Result<RunWriter> {
        let file = tempfile::tempfile_in(&self.scratch).map_err(failed)?;
        Ok(RunWriter { file: BufWriter::new(file), plain: Vec::with_capacity(FRAME) })
    }

    fn write(&mut self, run: &mut RunWriter, key: &[u8], value: &[u8]) -> Result<()> {
        put_varint(&mut run.plain, key.len() as u64);
        run.plain.extend_from_slice(key);
        put_varint(&mut run.plain, value.len() as u64);
        run.plain.extend_from_slice(value);
        if run.plain.len() >= FRAME { self.write_frame(run) } else { Ok(()) }
    }

    fn write_frame(&mut self, run: &mut RunWriter) -> Result<()> {
        let mut frame = Vec::new();
        // Frames are bounded by the format's limit; a record longer than that spans several.
        for part in run.plain.chunks(repo_format::limits::FRAME) {
            frame.clear();
            self.sealer.seal(SUBJECT, part, random(self.entropy.as_ref()), &mut frame)?;
            run.file.write_all(&(frame.len() as u32).to_le_bytes()).map_err(failed)?;
            run.file.write_all(&frame).map_err(failed)?;
        }
        run.plain.clear();
        Ok(())
    }

    fn end_run(&mut self, mut run: RunWriter) -> Result<File> {
        if !run.plain.is_empty() {
            self.write_frame(&mut run)?;
        }
        let mut file = run.file.into_inner().map_err(|error| failed(error.into_error()))?;
        file.rewind().map_err(failed)?;
        Ok(file)
    }

    fn merge(&self, files: Vec<File>) -> Result<Merge> {
        let mut merge = Merge { runs: Vec::with_capacity(files.len()), heap: BinaryHeap::new() };
        for file in files {
            let opener = Opener::with_key(RepositoryId([0; 16]), &self.key);
            merge.runs.push(RunReader {
                file: BufReader::with_capacity(64 << 10, file),
                opener,
                plain: Vec::new(),
                at: 0,
            });
        }
        for run in 0..merge.runs.len() {
            merge.advance(run)?;
        }
        Ok(merge)
    }
}

struct RunWriter {
    file: BufWriter<File>,
    plain: Vec<u8>,
}

struct RunReader {
    file: BufReader<File>,
    opener: Opener,
    plain: Vec<u8>,
    at: usize,
}

impl RunReader {
    fn next(&mut self) -> Result<Option<Record>> {
        loop {
            if self.at < self.plain.len() {
                let mut cursor = Cursor::new(&self.plain[self.at..], "spill");
                if let Ok(record) = read_record(&mut cursor) {
                    self.at = self.plain.len() - cursor.remaining();
                    return Ok(Some(record));
                }
            }
            // The rest of a record that spans frames, or nothing, is in front of the next frame.
            self.plain.drain(..self.at);
            self.at = 0;
            if !self.read_frame()? {
                return if self.plain.is_empty() {
                    Ok(None)
                } else {
                    Err(Error::new(Kind::Storage, "a sort spill ends in the middle of a record"))
                };
            }
        }
    }

    fn read_frame(&mut self) -> Result<bool> {
        let mut len = [0; 4];
        match self.file.read_exact(&mut len) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            result => result.map_err(failed)?,
        }
        let mut frame = vec![0; u32::from_le_bytes(len) as usize];
        self.file.read_exact(&mut frame).map_err(failed)?;
        self.plain.extend_from_slice(&self.opener.open(SUBJECT, &frame)?);
        Ok(true)
    }
}

fn read_record(cursor: &mut Cursor<'_>) -> repo_format::Result<Record> {
    let key_len = cursor.bounded(usize::MAX)?;
    let key = cursor.take(key_len)?;
    let value_len = cursor.bounded(usize::MAX)?;
    Ok((key.to_vec(), cursor.take(value_len)?.to_vec()))
}

/// Several runs read as one.
pub(crate) struct Merge {
    runs: Vec<RunReader>,
    /// The front of each run, the least first, with the run's number.
    heap: BinaryHeap<Reverse<(Record, usize)>>,
}

impl Merge {
    fn advance(&mut self, run: usize) -> Result<()> {
        if let Some(record) = self.runs[run].next()? {
            self.heap.push(Reverse((record, run)));
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Record>> {
        match self.heap.pop() {
            Some(Reverse((record, run))) => {
                self.advance(run)?;
                Ok(Some(record))
            }
            None => Ok(None),
        }
    }
}

/// Records in order.
pub(crate) enum Sorted {
    /// Nothing was spilled.
    Memory(Arena),
    /// Runs, merged while they are read.
    Merged(Merge),
}

impl Sorted {
    /// Hands the records to `each`, by key and then by value.
    pub fn for_each(self, mut each: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        match self {
            Self::Memory(arena) => arena.places.iter().try_for_each(|place| {
                let (key, value) = arena.record(place);
                each(key, value)
            }),
            Self::Merged(mut merge) => {
                while let Some((key, value)) = merge.next()? {
                    each(&key, &value)?;
                }
                Ok(())
            }
        }
    }
}

fn failed(error: io::Error) -> Error {
    Error::new(Kind::Storage, format!("a sort spill failed: {error}"))
        .with_help("Sorting needs room for about the size of the table in the data folder's scratch space.")
        .with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn sort(records: &[Record], budget: usize) -> Vec<Record> {
        let folder = tempfile::tempdir().unwrap();
        let mut sorter = Sorter::new(&Context::new(folder.path()), budget);
        for (key, value) in records {
            sorter.push(key, value).unwrap();
        }
        let mut out = Vec::new();
        let keep = |key: &[u8], value: &[u8]| {
            out.push((key.to_vec(), value.to_vec()));
            Ok(())
        };
        sorter.finish().unwrap().for_each(keep).unwrap();
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn spilling_changes_nothing(records in vec((vec(0u8..4, 0..4), vec(any::<u8>(), 0..40)), 0..800), budget in 1usize..4000) {
            let mut expected = records.clone();
            expected.sort();
            prop_assert_eq!(sort(&records, budget), expected);
        }
    }

    #[test]
    fn records_longer_than_a_frame_and_many_runs_are_merged() {
        let records: Vec<Record> = (0..2000u32)
            .map(|n| (n.wrapping_mul(2_654_435_761).to_be_bytes().to_vec(), vec![n as u8; 100]))
            .chain([(b"long".to_vec(), vec![7; 20 << 20])])
            .collect();
        let mut expected = records.clone();
        expected.sort();
        // A budget of one record makes a run of each: more than two levels of merging.
        assert!(sort(&records, 1) == expected);
    }
}
