//! Marks under several hands.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use repo_format::id::ObjectId;
use repo_format::manifest::{Evidence, Grade, Manifest, Source, Trigger};

use super::*;
use crate::Context;
use crate::clock::System;
use crate::repo::{Session, Snapshot, UnlockKey};
use crate::store::Storage;

const ID: SnapshotId = SnapshotId([7; 16]);

/// Two servers' hands on one repository.
struct Two {
    here: Repository,
    there: Repository,
    ctx: Context,
    _folder: tempfile::TempDir,
}

impl Two {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ctx = Context::new(folder.path());
        let store = Storage::memory().unwrap().store("project").unwrap();
        let key = UnlockKey::new([7; 32]);
        let cache = |name: &str| folder.path().join(name);
        let here = Repository::create(store.clone(), &key, &cache("here.redb"), &ctx).await.unwrap();
        let there = Repository::open(store, &key, &cache("there.redb"), &ctx).await.unwrap();
        here.create_first_mark(ID, 1).await.unwrap();
        Self { here, there, ctx, _folder: folder }
    }

    async fn snapshot(&self) -> Snapshot {
        let session = Session::begin(&self.here, &self.ctx).await.unwrap();
        let snapshot = session.commit(manifest()).await;
        session.conclude(snapshot).await.unwrap()
    }
}

fn manifest() -> Manifest {
    Manifest {
        source: Source {
            id: "s".to_owned(),
            name: "shop".to_owned(),
            engine: "postgresql".to_owned(),
            version: "17".to_owned(),
            database: "shop".to_owned(),
            encoding: "UTF8".to_owned(),
            collation: "C".to_owned(),
            extensions: Vec::new(),
            system_identifier: None,
        },
        trigger: Trigger::Manual,
        note: Some("as taken".to_owned()),
        started_ms: 1,
        finished_ms: 2,
        evidence: Evidence {
            method: "none".to_owned(),
            snapshot: String::new(),
            log_position: None,
            server_time: String::new(),
            standby: false,
            grade: Grade::PointInTime,
        },
        parent: None,
        catalog_root: ObjectId([1; 32]),
        catalog_level: 0,
        schema: None,
        sequences: Vec::new(),
        collections: 0,
        records: 0,
        logical_bytes: 0,
        new_bytes: 0,
        missing: Vec::new(),
        notes: Vec::new(),
        unfilled_views: Vec::new(),
    }
}

async fn change(repo: &Repository, change: impl Fn(&mut Mark) + Sync) -> Mark {
    repo.mark_all([ID].into(), &System, &change).await.unwrap().remove(&ID).unwrap()
}

async fn names(repo: &Repository) -> Vec<String> {
    repo.list_names(files::MARKS).await.unwrap().into_iter().collect()
}

#[tokio::test]
async fn the_newest_counts_and_what_changes_nothing_is_not_written() {
    let two = Two::new().await;
    change(&two.here, |mark| mark.pinned = true).await;
    let made = change(&two.there, |mark| mark.note = Some("x".to_owned())).await;
    assert!(made.pinned, "what was said before is said still");
    assert_eq!(names(&two.here).await, [files::mark(ID, 2)]);
    change(&two.here, |mark| mark.pinned = true).await;
    assert_eq!(names(&two.here).await, [files::mark(ID, 2)]);
    let marks = two.here.list_marks().await.unwrap();
    assert_eq!(two.here.mark_of(ID, &marks).await.unwrap(), made);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_changes_at_once_none_is_lost() {
    let two = Two::new().await;
    let (here, there) = (two.here.clone(), two.there.clone());
    let all = [
        tokio::spawn(async move { change(&here, |mark| mark.pinned = true).await }),
        tokio::spawn(async move { change(&there, |mark| mark.note = Some("x".to_owned())).await }),
        tokio::spawn({
            let here = two.here.clone();
            async move { change(&here, |mark| mark.full_ms = Some(5)).await }
        }),
        tokio::spawn({
            let there = two.there.clone();
            async move { change(&there, |mark| mark.sample_ms = Some(6)).await }
        }),
    ];
    for one in all {
        one.await.unwrap();
    }
    let marks = two.here.list_marks().await.unwrap();
    let mark = two.here.mark_of(ID, &marks).await.unwrap();
    assert!(mark.pinned && mark.note.as_deref() == Some("x"), "{mark:?}");
    assert_eq!((mark.full_ms, mark.sample_ms), (Some(5), Some(6)));
}

/// Between this one's look and its creation, others make the number it is about to take, go on from
/// it and remove it: its creation succeeds, and must not be taken for the last word.
#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_was_used_and_removed_is_noticed() {
    let two = Two::new().await;
    change(&two.here, |mark| mark.pinned = true).await;
    let went_on = Arc::new(AtomicBool::new(false));
    let (there, first) = (two.there.clone(), Arc::clone(&went_on));
    let made = change(&two.here, move |mark| {
        if !first.swap(true, Ordering::SeqCst) {
            futures::executor::block_on(async {
                change(&there, |mark| mark.full_ms = Some(5)).await;
                change(&there, |mark| mark.note = Some("theirs".to_owned())).await;
            });
        }
        mark.sample_ms = Some(6);
    })
    .await;
    assert!(went_on.load(Ordering::SeqCst));
    assert_eq!((made.full_ms, made.sample_ms, made.note.as_deref()), (Some(5), Some(6), Some("theirs")));
    let marks = two.there.list_marks().await.unwrap();
    assert_eq!(two.there.mark_of(ID, &marks).await.unwrap(), made);
    assert_eq!(names(&two.here).await, [files::mark(ID, 4)], "what was made in vain is removed");
}

#[tokio::test]
async fn a_pinned_snapshot_is_not_deleted_until_it_is_unpinned() {
    let two = Two::new().await;
    let id = two.snapshot().await.id;
    let pin = |pinned| move |mark: &mut Mark| mark.pinned = pinned;
    two.here.mark(id, &System, &pin(true)).await.unwrap();
    let found = two.there.snapshots().await.unwrap().remove(0);
    assert!(found.mark.pinned && found.note() == Some("as taken"));
    assert_eq!(two.there.delete_snapshot(id, &System).await.unwrap_err().kind(), Kind::Conflict);
    let note = |mark: &mut Mark| (mark.pinned, mark.note) = (false, Some(String::new()));
    two.there.mark(id, &System, &note).await.unwrap();
    assert_eq!(two.here.snapshot(id).await.unwrap().note(), None);
    two.here.delete_snapshot(id, &System).await.unwrap();
    assert_eq!(two.there.mark(id, &System, &pin(true)).await.unwrap_err().kind(), Kind::NotFound);
    assert_eq!(
        two.here.mark(SnapshotId([8; 16]), &System, &pin(true)).await.unwrap_err().kind(),
        Kind::NotFound
    );
}

#[tokio::test]
async fn a_mark_that_cannot_be_read_pins_until_there_is_another() {
    let two = Two::new().await;
    let id = two.snapshot().await.id;
    two.here.mark(id, &System, &|mark: &mut Mark| mark.note = Some("x".to_owned())).await.unwrap();
    let name = files::mark(id, 1);
    two.here.store().delete(&name).await.unwrap();
    two.here.store().create(&name, Bytes::from_static(b"noise")).await.unwrap();
    assert!(two.there.snapshot(id).await.unwrap().mark.pinned);
    assert_eq!(two.there.delete_snapshot(id, &System).await.unwrap_err().kind(), Kind::Conflict);
    two.there.mark(id, &System, &|mark: &mut Mark| mark.pinned = false).await.unwrap();
    two.there.delete_snapshot(id, &System).await.unwrap();
}

/// Two delete a snapshot at once, and a prune removes it with its marks before one of them looks at those.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_prune_removed_meanwhile_is_gone_and_not_pinned() {
    let two = Two::new().await;
    let id = two.snapshot().await.id;
    for deleted in [ID, id] {
        two.there.delete_snapshot(deleted, &System).await.unwrap();
    }
    crate::prune::run(&two.there, &crate::prune::Options::default(), &two.ctx).await.unwrap();
    assert!(!two.there.list_marks().await.unwrap().is_known(id), "the prune removed the marks");
    let delete = |mark: &mut Mark| mark.deleting_ms = Some(1);
    assert!(two.here.mark_all([id].into(), &System, &delete).await.unwrap().is_empty());
    assert!(!two.here.list_marks().await.unwrap().is_known(id), "nothing is said of what is gone");
}
