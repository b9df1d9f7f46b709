//! What packs and index files hold, as far as it is needed.

use std::collections::{BTreeMap, BTreeSet};

use repo_format::id::PackId;
use repo_format::prune::PackUse;

use crate::error::Result;
use crate::prune::Prune;
use crate::prune::needed::{Joined, Needed};

impl Prune<'_> {
    /// What each pack that is there holds, and how many needed objects are nowhere. An object that is
    /// in several packs counts in the best of them.
    pub(super) async fn tally(
        &self,
        needed: &Needed,
        listed: &BTreeMap<PackId, u64>,
    ) -> Result<(Vec<PackUse>, u64)> {
        let mut uses: BTreeMap<PackId, PackUse> = listed
            .iter()
            .map(|(&id, &len)| {
                let view = self.repo.cache().view();
                let unused = PackUse {
                    id,
                    len,
                    is_tree: false,
                    is_indexed: view.standing(id).is_some(),
                    is_suspect: view.is_suspect(id),
                    needed_objects: 0,
                    needed_bytes: 0,
                    unneeded_objects: 0,
                    unneeded_bytes: 0,
                };
                (id, unused)
            })
            .collect();
        let mut absent = 0;
        needed.join(self.repo, |Joined { is_needed, places, .. }| {
            absent += u64::from(places.is_empty());
            for (at, place) in places.iter().enumerate() {
                let Some(pack) = uses.get_mut(&place.pack) else { continue };
                pack.is_tree = place.kind.is_tree();
                if is_needed && at == 0 {
                    pack.needed_objects += 1;
                    pack.needed_bytes += u64::from(place.len);
                } else {
                    pack.unneeded_objects += 1;
                    pack.unneeded_bytes += u64::from(place.len);
                }
            }
            Ok(())
        })?;
        Ok((uses.into_values().collect(), absent))
    }

    /// The index files that are known: how many objects each names, and whether any of them is in one
    /// of the packs given.
    pub(super) fn index_files(&self, going: &BTreeSet<PackId>) -> Result<Vec<(PackId, usize, bool)>> {
        self.repo.cache().index_sizes(going)
    }
}
