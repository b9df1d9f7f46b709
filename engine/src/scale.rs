//! A repository of a million objects: what it costs to open, to use and to prune.
//!
//! `cargo test --release --workspace --lib -- scale --ignored --nocapture`. The objects are small, so that
//! it fits anywhere: every leaf holds one record. They are written, read and pruned by the product's
//! code, over S3 served by this process. How many there are is `DBSNAP_SCALE_OBJECTS`.

use std::path::Path;
use std::time::{Duration, Instant};

use engine_testutils::store as stores;
use repo_format::catalog::{self, CollectionKind, Descriptor, Key, KeySource, Layout};
use repo_format::id::{ObjectId, ObjectKind};
use repo_format::keys::KeySchedule;
use repo_format::manifest::Manifest;
use repo_format::record::{self, Field};
use repo_format::tree::{Builder, Leaves, Root, Sink, Spine};

use crate::context::Context;
use crate::cost;
use crate::error::{Error, Result};
use crate::prune::{self, Options};
use crate::repo::{Repository, Session, Snapshot, UnlockKey, Writer};
use crate::simulation::content;
use crate::store::{Access, Credentials, Requests, Storage};
use crate::verify::{self, Mode};

const FINE: &str = "because nothing fails here";

/// Passes objects to a writer.
struct Stored<'a>(&'a Writer);

impl Sink for Stored<'_> {
    type Error = Error;

    fn store(&mut self, kind: ObjectKind, id: ObjectId, plaintext: Vec<u8>) -> Result<()> {
        self.0.store(kind, id, &plaintext)
    }
}

/// A tree of so many leaves with one record each; those whose number is a multiple of `changed` are
/// of that version.
fn tree(keys: &KeySchedule, leaves: u64, changed: u64, version: u64, sink: &mut Stored<'_>) -> Result<Root> {
    let mut spine = Spine::new(keys);
    for n in 0..leaves {
        let version = if n % changed == 0 { version } else { 0 };
        let (mut record, text) = (Vec::new(), format!("{version} {n}"));
        let mut fields = record::Writer::new(&mut record);
        fields.push(Field::Inline(text.as_bytes()));
        fields.finish();
        let mut leaf = Leaves::new(keys);
        leaf.push(&n.to_be_bytes(), &record)?;
        let leaf = leaf.last_leaf().expect("because it has a record").seal(keys);
        sink.store(ObjectKind::Leaf, leaf.entry.child, leaf.plaintext)?;
        spine.push(0, leaf.entry, sink)?;
    }
    spine.finish(sink)
}

fn write(writer: &Writer, keys: &KeySchedule, leaves: u64, version: u64) -> Result<Manifest> {
    let sink = &mut Stored(writer);
    let root = tree(keys, leaves, 10, version, sink)?;
    let descriptor = Descriptor {
        layout: Layout {
            kind: CollectionKind::Table,
            columns: Vec::new(),
            key: Key { source: KeySource::Multiset, name: None, columns: Vec::new() },
        },
        data_root: root.id,
        level: root.level,
        records: root.records,
        logical_bytes: root.bytes,
        schema_version: 1,
        natural_order: None,
    };
    let mut catalog = Builder::new(keys);
    catalog.push(&catalog::key("public", "t"), &catalog::encode_value(&descriptor, ""), sink)?;
    let catalog = catalog.finish(sink)?;
    Ok(Manifest {
        collections: 1,
        started_ms: version as i64,
        finished_ms: version as i64,
        ..content::manifest(&catalog)
    })
}

async fn back_up(repo: &Repository, ctx: &Context, leaves: u64, version: u64) -> Result<(Snapshot, u64)> {
    let session = Session::begin(repo, ctx).await?;
    let writer = Writer::new(repo);
    let (to, keys) = (writer.clone(), repo.keys().clone());
    let written = tokio::task::spawn_blocking(move || write(&to, &keys, leaves, version)).await;
    let manifest = written.expect("because it does not panic")?;
    let objects = writer.flush().await?.objects;
    let snapshot = session.commit(manifest).await;
    Ok((session.conclude(snapshot).await?, objects))
}

/// Memory that this process holds, or has held at most, in MiB.
fn memory_mib(which: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("because this is Linux");
    let line = status.lines().find_map(|line| line.strip_prefix(which)).expect("because it is there");
    let kib =
        line.trim_matches(|c: char| !c.is_ascii_digit()).parse::<u64>().expect("because it is a number");
    kib / 1024
}

/// Takes the time, the requests and the memory of one operation.
async fn measured<T>(what: &str, storage: &Storage, work: impl Future<Output = Result<T>>) -> T {
    std::fs::write("/proc/self/clear_refs", "5").expect("because Linux lets a process forget its peak");
    let (held, before, began) = (memory_mib("VmRSS:"), storage.requests(), Instant::now());
    let done = work.await.expect(FINE);
    let took: Duration = began.elapsed();
    let Requests { writes, reads, lists, deletes } = storage.requests();
    println!(
        "| {what} | {:.2} s | {} | {} | {} | {} | {held} MiB | {} MiB |",
        took.as_secs_f64(),
        writes - before.writes,
        reads - before.reads,
        lists - before.lists,
        deletes - before.deletes,
        memory_mib("VmHWM:"),
    );
    done
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement of minutes, in a release build"]
async fn a_million_objects() {
    let objects = std::env::var("DBSNAP_SCALE_OBJECTS").map_or(Ok(1_000_000), |text| text.parse());
    let leaves: u64 = objects.expect("DBSNAP_SCALE_OBJECTS is a number");
    let server = stores::s3::Server::start().await;
    let credentials = Credentials {
        access_key_id: stores::ACCESS_KEY_ID.to_owned(),
        secret_access_key: stores::SECRET_ACCESS_KEY.to_owned(),
    };
    let access = Access { credentials: Some(credentials), ..Access::default() };
    let storage = Storage::parse_with(&format!("{}&exclusive=true", server.url("x")), &access).expect(FINE);
    let folder = tempfile::tempdir().expect(FINE);
    let cache = folder.path().join("cache.redb");
    let (ctx, key) = (Context::new(folder.path()), UnlockKey::new([7; 32]));
    let store = || storage.store("project").expect(FINE);
    println!("| operation | time | writes | reads | lists | deletes | memory before | at most |");
    println!("|---|---|---|---|---|---|---|---|");
    let repo = Repository::create(store(), &key, &cache, &ctx).await.expect(FINE);
    let (_, written) = measured("first backup", &storage, back_up(&repo, &ctx, leaves, 1)).await;
    let (_, nothing) = measured("backup of the same", &storage, back_up(&repo, &ctx, leaves, 1)).await;
    assert_eq!(nothing, 0, "everything is there");
    drop(repo);
    let open = || Repository::open(store(), &key, &cache, &ctx);
    drop(measured("open, warm", &storage, open()).await);
    std::fs::remove_file(&cache).expect(FINE);
    let repo = measured("open, cold", &storage, open()).await;
    let (second, more) = measured("backup of one in ten", &storage, back_up(&repo, &ctx, leaves, 2)).await;
    let cost = measured("cost of a snapshot", &storage, cost::run(&repo, second.id, &ctx)).await;
    assert_eq!(cost.share.freed_objects, more);
    repo.delete_snapshot(second.id, ctx.clock.as_ref()).await.expect(FINE);
    let dry = Options { dry_run: true, ..Options::default() };
    let would = measured("prune, dry run", &storage, prune::run(&repo, &dry, &ctx)).await;
    let pruned = measured("prune", &storage, prune::run(&repo, &Options::default(), &ctx)).await;
    let report = measured("verify, structure", &storage, verify::run(&repo, Mode::Structure, &ctx)).await;
    assert_eq!((report.damaged, would.objects_condemned), (Vec::new(), pruned.objects_removed));
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len()) >> 20;
    println!(
        "\n{written} objects in the first snapshot, {more} more in the last, {} removed",
        pruned.objects_removed
    );
    println!("the index cache has {} MiB", size(&cache));
}
