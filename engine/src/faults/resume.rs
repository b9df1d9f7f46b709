//! What a writer leaves that is killed: the next one uses it.

use repo_format::files;
use repo_format::id::{ObjectId, ObjectKind};
use repo_format::limits;

use super::{Files, Process};
use crate::repo::{Session, Writer};
use crate::simulation::content::{self, Versions};
use crate::verify::{self, Mode};

const FINE: &str = "because nothing is wrong";
/// The length of an object's frame, of which so many make a pack.
const FRAME_BYTES: usize = 1 << 20;
const IN_A_PACK: usize = limits::DATA_PACK / FRAME_BYTES;

fn id(n: usize) -> ObjectId {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&(n as u64).to_be_bytes());
    ObjectId(id)
}

/// Adds objects, of which only the lengths matter.
async fn add(writer: &Writer, objects: std::ops::Range<usize>) {
    for n in objects {
        let frame = vec![0; FRAME_BYTES];
        let object = writer.claim_sealed(ObjectKind::Leaf, id(n), 1, frame).expect("nobody has claimed it");
        writer.add_async(&object).await.expect(FINE);
    }
}

/// How many of the first so many objects another process would use.
async fn used(process: &Process, most: usize) -> usize {
    let other = Process::open(process.disk.files()).await.expect(FINE);
    let session = Session::begin(&other.repo, &other.ctx).await.expect(FINE);
    let writer = Writer::new(&other.repo);
    let used = (0..most).filter(|n| !writer.claim(id(*n)).expect(FINE)).count();
    session.close().await;
    used
}

fn indexes(files: &Files) -> Vec<String> {
    files.keys().filter(|name| name.starts_with(files::INDEX)).cloned().collect()
}

/// Killed after some packs: nothing is said to it, and nothing ends in order.
#[tokio::test(flavor = "multi_thread")]
async fn every_pack_that_was_stored_is_used() {
    let process = Process::create().await;
    let writer = Writer::new(&process.repo);
    let objects = 4 * IN_A_PACK;
    add(&writer, 0..objects).await;
    let files = process.disk.files();
    assert_eq!(indexes(&files), [""; 0], "it had no reason to write one yet");
    let packs = files.keys().filter(|name| name.starts_with(files::PACKS)).count();
    assert!(packs >= 2, "{packs}");
    // The last ones are a full pack's and those that were still in memory.
    let left = used(&process, objects).await;
    assert!(left >= packs * (IN_A_PACK - 1), "{left} of {objects}");
}

/// A pack that was torn, which no store should show, is not relied on and in nobody's way.
#[tokio::test(flavor = "multi_thread")]
async fn a_pack_without_its_end_is_not_used() {
    let process = Process::create().await;
    let writer = Writer::new(&process.repo);
    let objects = 3 * IN_A_PACK;
    add(&writer, 0..objects).await;
    let mut files = process.disk.files();
    let whole = used(&process, objects).await;
    let packs: Vec<String> = files.keys().filter(|name| name.starts_with(files::PACKS)).cloned().collect();
    for (name, len) in packs.iter().zip([3, 20_000_000]) {
        let torn = files[name].slice(..len);
        files.insert(name.clone(), torn);
    }
    let torn = Process::open(files).await.expect(FINE);
    assert!(used(&torn, objects).await < whole);
    torn.back_up(&[1; 5]).await.expect(FINE);
    torn.prune().await.expect(FINE);
    let report = verify::run(&torn.repo, Mode::Full, &torn.ctx).await.expect(FINE);
    assert_eq!(report.damaged, []);
}

const VERSIONS: [Versions; 3] = [[0; 5], [1, 1, 1, 1, 1], [2, 2, 0, 2, 3]];

/// Three snapshots, each with an index file of its own.
async fn three() -> (Files, Vec<repo_format::id::SnapshotId>) {
    let process = Process::create().await;
    let mut ids = Vec::new();
    for versions in &VERSIONS {
        ids.push(process.back_up(versions).await.expect(FINE).id);
    }
    (process.disk.files(), ids)
}

/// Whoever lists everything first makes the index anew: a backup, a verify, a prune.
#[tokio::test(flavor = "multi_thread")]
async fn lost_index_files_are_made_anew_from_the_packs() {
    let (files, ids) = three().await;
    let all = indexes(&files);
    assert_eq!(all.len(), VERSIONS.len());
    for (lost, damage) in [(1, false), (1, true), (3, false), (3, true)] {
        for first in ["backup", "verify", "prune"] {
            let case = format!("{first}, {lost} lost, damaged: {damage}");
            let mut files = files.clone();
            for name in &all[..lost] {
                match damage {
                    true => drop(files.insert(name.clone(), bytes::Bytes::from_static(b"no index"))),
                    false => drop(files.remove(name)),
                }
            }
            let process = Process::open(files).await.expect(FINE);
            match first {
                "backup" => drop(process.back_up(&VERSIONS[2]).await.expect(&case)),
                "prune" => drop(process.prune().await.expect(&case)),
                _ => {}
            }
            let report = verify::run(&process.repo, Mode::Full, &process.ctx).await.expect(&case);
            let hurt: Vec<_> = report.damaged.iter().filter(|damage| !damage.snapshots.is_empty()).collect();
            assert!(hurt.is_empty(), "{case}: {hurt:?}");
            assert_eq!(
                !report.damaged.is_empty(),
                damage && first != "prune",
                "{case}: {:?}",
                report.damaged
            );
            for (id, versions) in ids.iter().zip(&VERSIONS) {
                let snapshot = process.repo.snapshot(*id).await.expect(&case);
                let read = content::read(&process.repo, &snapshot).await.expect(&case);
                assert_eq!(read, content::content(versions), "{case}");
            }
            process.prune().await.expect(&case);
            let report = verify::run(&process.repo, Mode::Full, &process.ctx).await.expect(&case);
            assert_eq!(report.damaged, [], "{case}");
        }
    }
}
