//! A snapshot that one server pins while another deletes it: one of them is told that it came second.
#![cfg(test)]

use repo_format::id::SnapshotId;

use super::{FOUNDED, Stage, Weather, drive, runtime, stage};
use crate::defect::{Defect, plant};
use crate::error::{Kind, Result};
use crate::repo::Mark;
use crate::simulation::Chance;
use crate::simulation::actors::Book;

/// Pins or deletes a snapshot.
async fn change(stage: Stage, process: usize, seed: u64, id: SnapshotId, is_pin: bool) -> Result<()> {
    let ctx = stage.context(process, seed);
    let repo = stage.open(process, &ctx).await?;
    if is_pin {
        return repo.mark(id, ctx.clock.as_ref(), &|mark: &mut Mark| mark.pinned = true).await.map(drop);
    }
    repo.delete_snapshot(id, ctx.clock.as_ref()).await
}

/// Whether the snapshot is there in the end, and whether it is pinned.
async fn look(stage: Stage, process: usize, id: SnapshotId) -> Option<bool> {
    let repo = stage.open(process, &stage.context(process, 3)).await.ok()?;
    repo.snapshot(id).await.ok().map(|snapshot| snapshot.mark.pinned)
}

/// Whether what the two and a second deleter were told is what is there.
fn is_true(seed: u64) -> bool {
    let mut chance = Chance::new(seed);
    let faults = if seed.is_multiple_of(2) { 0 } else { 50 };
    let weather = Weather { faults, delays: 5, turns: chance.one_of([0, 50, 200]), ..Weather::default() };
    let (files, id) = FOUNDED.with(|founded| {
        let id = *founded.book.committed.first().expect("because it was founded with snapshots");
        (founded.files.clone(), id)
    });
    let (stage, runtime) = (stage(files, Book::default(), chance.any(), weather), runtime());
    let tasks = [true, false, false].map(|is_pin| {
        let process = stage.world.add_process(None);
        runtime.spawn(change(stage.clone(), process, chance.any(), id, is_pin))
    });
    let (_, results) = drive(&runtime, &stage.world, tasks.into());
    stage.world.calm_down();
    let process = stage.world.add_process(None);
    let looking = runtime.spawn(look(stage.clone(), process, id));
    let (_, mut found) = drive(&runtime, &stage.world, vec![looking]);
    let found = found.remove(0).flatten();
    let told: Vec<Option<Kind>> =
        results.iter().flatten().map(|result| result.as_ref().err().map(crate::error::Error::kind)).collect();
    let [pin, deletions @ ..] = told.as_slice() else { return false };
    let is_deleted = deletions.contains(&None);
    match (pin, is_deleted) {
        (None, true) => false,
        (None, false) => found == Some(true),
        (Some(Kind::NotFound), _) => found.is_none(),
        (_, true) => found.is_none(),
        // A call failed, and may have taken effect all the same.
        (_, false) => faults > 0,
    }
}

#[test]
fn a_pin_and_a_deletion_do_not_both_succeed() {
    plant(None);
    let wrong: Vec<u64> = (0..600).filter(|seed| !is_true(*seed)).collect();
    assert_eq!(wrong, [0; 0]);
    plant(Some(Defect::DeleteBesideMarks));
    let wrong = (0..600).find(|seed| !is_true(*seed));
    plant(None);
    assert!(wrong.is_some(), "nothing shows that the rule matters");
}
