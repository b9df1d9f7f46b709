//! What a snapshot costs, held against what a prune finds to delete.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod support;

use engine::cost::{self, Cost, Share};
use engine::prune::{self, Options, Stats};
use engine::{Kind, repo};
use repo_format::id::SnapshotId;
use repo_format::prune::Thresholds;
use support::{TestRepo, database};

/// The bodies of pictures are moved out of their records.
const TABLES: &str = "
    CREATE TABLE numbers (id int PRIMARY KEY, body text);
    INSERT INTO numbers SELECT n, md5(n::text) FROM generate_series(1, 5000) n;
    CREATE TABLE pictures (id int PRIMARY KEY, body bytea);
    INSERT INTO pictures SELECT n, convert_to(repeat(md5(n::text), 2000), 'UTF8') FROM generate_series(1, 3) n;
    CREATE TABLE settled (id int PRIMARY KEY);
    INSERT INTO settled VALUES (1);
";

async fn cost_of(test: &TestRepo, snapshot: &repo::Snapshot) -> Cost {
    let cost = cost::run(&test.repo, snapshot.id, &test.ctx).await.unwrap();
    let mut sum = cost.descriptions;
    cost.collections.iter().for_each(|found| sum += found.share);
    assert_eq!(cost.share, sum);
    assert_eq!(cost.collections.iter().map(|found| found.logical_bytes).sum::<u64>(), cost.logical_bytes);
    cost
}

fn share(cost: &Cost, name: &str) -> Share {
    cost.collections.iter().find(|found| found.name == name).unwrap().share
}

/// What a prune would delete that touches every pack of which a part is not needed.
async fn would_go(test: &TestRepo) -> Stats {
    let (never, always) = (usize::MAX, 1);
    let thresholds = Thresholds {
        unneeded_percent: always,
        small_packs: never,
        small_indexes: never,
        ..Thresholds::default()
    };
    let options = Options { dry_run: true, thresholds, ..Options::default() };
    prune::run(&test.repo, &options, &test.ctx).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_one_snapshot_needs_is_what_a_prune_deletes_without_it() {
    let (cluster, name, url) = database(TABLES).await;
    let test = TestRepo::new().await;
    let first = test.backup(&url).await;
    let alone = cost_of(&test, &first).await;
    assert_eq!(alone.share.new_objects, alone.share.freed_objects, "nobody shares with it");
    assert!(alone.share.new_bytes > 0 && alone.share.new_bytes <= alone.written_bytes, "{alone:?}");

    // One changed record, and a long value that the third snapshot has in another record.
    cluster.execute(&name, "UPDATE numbers SET body = 'second' WHERE id = 77").await;
    let long = "convert_to(repeat(md5('long'), 2000), 'UTF8')";
    cluster.execute(&name, &format!("INSERT INTO pictures VALUES (6, {long}), (8, {long} || '8')")).await;
    let second = test.backup(&url).await;
    cluster.execute(&name, "UPDATE numbers SET body = 'third' WHERE id = 77").await;
    cluster
        .execute(
            &name,
            &format!("DELETE FROM pictures WHERE id > 5; INSERT INTO pictures VALUES (7, {long})"),
        )
        .await;
    let third = test.backup(&url).await;

    let cost = cost_of(&test, &second).await;
    let (numbers, pictures) = (share(&cost, "public.numbers"), share(&cost, "public.pictures"));
    assert_eq!(share(&cost, "public.settled"), Share::default());
    assert!(numbers.new_objects > 0 && numbers.new_objects == numbers.freed_objects, "{numbers:?}");
    assert!(pictures.new_objects > pictures.freed_objects, "the third needs the value: {pictures:?}");
    assert!(pictures.freed_objects > 1, "a leaf and the value of record 8: {pictures:?}");
    assert!(cost.descriptions.freed_objects > 0, "{cost:?}");
    let alone = cost_of(&test, &third).await;
    assert!(share(&alone, "public.pictures").new_objects < pictures.new_objects, "{alone:?}");

    for snapshot in [&second, &first, &third] {
        let before = would_go(&test).await;
        let cost = cost_of(&test, snapshot).await.share;
        test.repo.delete_snapshot(snapshot.id, test.ctx.clock.as_ref()).await.unwrap();
        let after = would_go(&test).await;
        assert_eq!(after.objects_condemned - before.objects_condemned, cost.freed_objects);
        assert!(after.bytes_condemned - before.bytes_condemned >= cost.freed_bytes, "{after:?} {cost:?}");
        let gone = cost::run(&test.repo, snapshot.id, &test.ctx).await.unwrap_err();
        assert_eq!(gone.kind(), Kind::NotFound);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_snapshots_free_together_is_what_a_prune_deletes_without_them() {
    let (cluster, name, url) = database(TABLES).await;
    let test = TestRepo::new().await;
    let first = test.backup(&url).await;
    let second = test.backup(&url).await;
    let long = "convert_to(repeat(md5('long'), 2000), 'UTF8')";
    cluster
        .execute(&name, &format!("TRUNCATE numbers; UPDATE pictures SET body = {long} WHERE id = 1"))
        .await;
    test.backup(&url).await;
    let freed = async |ids: &[SnapshotId]| cost::freed(&test.repo, ids, &test.ctx).await.unwrap();
    let alone = [freed(&[first.id]).await, freed(&[second.id]).await];
    for (snapshot, freed) in [&first, &second].into_iter().zip(&alone) {
        let share = cost_of(&test, snapshot).await.share;
        assert_eq!((freed.objects, freed.bytes), (share.freed_objects, share.freed_bytes));
    }
    let together = freed(&[first.id, second.id]).await;
    assert!(
        together.objects > alone[0].objects + alone[1].objects,
        "they share numbers: {together:?} {alone:?}"
    );

    let before = would_go(&test).await;
    for snapshot in [&first, &second] {
        test.repo.delete_snapshot(snapshot.id, test.ctx.clock.as_ref()).await.unwrap();
    }
    let after = would_go(&test).await;
    assert_eq!(after.objects_condemned - before.objects_condemned, together.objects);
    assert!(after.bytes_condemned - before.bytes_condemned >= together.bytes, "{after:?} {together:?}");
    let gone = cost::freed(&test.repo, &[first.id], &test.ctx).await.unwrap_err();
    assert_eq!(gone.kind(), Kind::NotFound);
}
