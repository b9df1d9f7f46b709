//! An index made anew from the footers of packs that no index file names: what a killed backup stored
//! is used by the next one, and what a lost index file named is found again.

use futures::{StreamExt, TryStreamExt, stream};
use repo_format::id::PackId;
use repo_format::index::{self, IndexedPack};
use repo_format::{files, limits, pack};

use super::{IndexFile, Repository};
use crate::clock::random;
use crate::cpu;
use crate::error::{Error, Kind, Result};

/// Bytes read from the end of a pack at first: the footer of a full pack of average leaves.
const TAIL_BYTES: u64 = 256 << 10;
/// Footers read at a time, to hide a distant store's latency.
const READS: usize = 16;

impl Repository {
    /// Names in index files what packs hold that were in none when the index was listed last. One
    /// whose footer cannot be read stays unnamed. A writer may be about to name them itself: then two
    /// index files say the same.
    pub(crate) async fn index_unindexed(&self) -> Result<()> {
        let unindexed = std::mem::take(&mut self.cache().view_mut().unindexed);
        let mut read = stream::iter(unindexed)
            .map(|(pack, len)| self.read_pack_directory(pack, len))
            .buffer_unordered(READS);
        let (mut packs, mut objects) = (Vec::new(), 0);
        while let Some(found) = read.try_next().await? {
            let Some(found) = found else { continue };
            if objects + found.objects.len() > limits::INDEX_ENTRIES {
                self.add_index(std::mem::take(&mut packs)).await?;
                objects = 0;
            }
            objects += found.objects.len();
            packs.push(found);
        }
        self.add_index(packs).await.map(drop)
    }

    /// Creates an index file, and believes it.
    pub(super) async fn add_index(&self, packs: Vec<IndexedPack>) -> Result<u64> {
        if packs.is_empty() {
            return Ok(0);
        }
        let name = files::index(PackId(random(self.entropy())));
        let len = self.create_random(&name, &index::encode(&packs)).await?;
        self.cache().add(&IndexFile { name, packs })?;
        Ok(len)
    }

    async fn read_pack_directory(&self, id: PackId, len: u64) -> Result<Option<IndexedPack>> {
        let read = async {
            let mut tail = self.read_tail(id, len, TAIL_BYTES).await?;
            let wanted = pack::footer_len(len, &tail)? as u64;
            if wanted > tail.len() as u64 {
                tail = self.read_tail(id, len, wanted).await?;
            }
            let directory =
                cpu::with_opener(self.id(), self.keys(), |opener| pack::read_footer(id, len, &tail, opener));
            Ok::<_, Error>(directory?)
        };
        match read.await {
            Ok(objects) => Ok(Some(IndexedPack { id, len, objects })),
            Err(error) if error.kind() == Kind::Damaged => {
                tracing::warn!(pack = %id, %error, "a pack that no index names cannot be read");
                Ok(None)
            }
            // A prune has deleted it.
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn read_tail(&self, id: PackId, len: u64, most: u64) -> Result<bytes::Bytes> {
        let tail = len.min(most);
        self.store().read_range(&files::pack(id), len - tail, tail as usize).await
    }
}
