//! Two servers that each remove one of the two slots of a repository: one key is always left.
#![cfg(test)]

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use repo_format::id::SlotId;

use super::{FOUNDED, Stage, Weather, drive, runtime, stage};
use crate::defect::{Defect, plant};
use crate::error::{Error, Kind, Result};
use crate::repo::{Keyring, Repository, SlotKind, UnlockKey};
use crate::simulation::Chance;
use crate::simulation::actors::Book;

fn keyring() -> Keyring {
    Keyring::new(UnlockKey::new(super::actors::key()))
}

/// A repository with two slots of one key.
fn two_slots() -> (BTreeMap<String, Bytes>, Vec<SlotId>) {
    let files = FOUNDED.with(|founded| founded.files.clone());
    let (stage, runtime) = (stage(files, Book::default(), 0, Weather::default()), runtime());
    let process = stage.world.add_process(None);
    let adding = stage.clone();
    let task = runtime.spawn(async move {
        let repo = adding.open(process, &adding.context(process, 7)).await?;
        repo.add_slot(SlotKind::Server, &keyring()).await?;
        Ok::<_, Error>(repo.slots(&keyring()).await?.iter().map(|slot| slot.id).collect::<Vec<_>>())
    });
    let (_, mut results) = drive(&runtime, &stage.world, vec![task]);
    let slots = results.remove(0).expect("it ends").expect("nothing fails yet");
    assert_eq!(slots.len(), 2);
    (stage.world.files(), slots)
}

async fn remove(stage: Stage, process: usize, seed: u64, slot: SlotId) -> Result<()> {
    let repo = stage.open(process, &stage.context(process, seed)).await?;
    repo.remove_slot(slot, &keyring()).await
}

/// How many of two removals at once succeeded, and whether a key is left.
fn race(seed: u64, files: &BTreeMap<String, Bytes>, slots: &[SlotId]) -> (usize, bool) {
    let mut chance = Chance::new(seed);
    let is_calm = seed.is_multiple_of(2);
    let weather = Weather {
        faults: if is_calm { 0 } else { 60 },
        delays: 5,
        turns: chance.one_of([0, 50, 200]),
        ..Weather::default()
    };
    let (stage, runtime) = (stage(files.clone(), Book::default(), chance.any(), weather), runtime());
    let tasks = slots.iter().map(|slot| {
        let dies_at = (!is_calm && chance.in_thousand(300)).then(|| 1 + chance.below(25));
        let process = stage.world.add_process(dies_at);
        runtime.spawn(remove(stage.clone(), process, chance.any(), *slot))
    });
    let (_, results) = drive(&runtime, &stage.world, tasks.collect());
    stage.world.calm_down();
    let removed = results.iter().flatten().filter(|result| result.is_ok()).count();
    if is_calm {
        let refused = |error: &Error| matches!(error.kind(), Kind::Conflict | Kind::NotFound);
        let kinds = results.iter().flatten().all(|result| result.as_ref().err().is_none_or(refused));
        assert!(kinds, "seed {seed}: {results:?}");
    }
    let looking = stage.clone();
    let process = stage.world.add_process(None);
    let task = runtime.spawn(async move {
        let ctx = looking.context(process, 3);
        let store = looking.world.disk(process).into();
        Repository::open(store, &keyring(), Path::new(""), &ctx).await.is_ok()
    });
    let (_, results) = drive(&runtime, &stage.world, vec![task]);
    (removed, results == [Some(true)])
}

#[test]
fn of_two_keys_removed_at_once_one_stays() {
    plant(None);
    let (files, slots) = two_slots();
    let mut succeeded = [0; 3];
    for seed in 0..600 {
        let (removed, is_left) = race(seed, &files, &slots);
        assert!(is_left && removed < 2, "seed {seed}: {removed} were removed, one left: {is_left}");
        succeeded[removed] += 1;
    }
    assert!(succeeded[1] > 100, "{succeeded:?}");
    // Without the rule some seed loses both.
    plant(Some(Defect::RemoveSlotUnannounced));
    let lost = (0..600).find(|seed| !race(*seed, &files, &slots).1);
    plant(None);
    assert!(lost.is_some(), "nothing shows that the rule matters");
}
