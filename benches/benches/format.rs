//! How fast the format's own work is, on records like those of the generated table.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use repo_format::frame::{Sealer, Subject};
use repo_format::id::{ObjectId, ObjectKind, RepositoryId};
use repo_format::keys::{KeySchedule, RootKey};
use repo_format::record::{Field, Writer};
use repo_format::tree::{Builder, Diff, Lookup, Sink};
use repo_format::{Error, Result};
use std::collections::BTreeMap;
use std::hint::black_box;

#[derive(Default)]
struct Memory(BTreeMap<ObjectId, Vec<u8>>);

impl Sink for Memory {
    type Error = Error;
    fn store(&mut self, _: ObjectKind, id: ObjectId, plaintext: Vec<u8>) -> Result<()> {
        self.0.insert(id, plaintext);
        Ok(())
    }
}

impl Lookup for Memory {
    type Error = Error;
    fn load(&mut self, _: ObjectKind, id: ObjectId) -> Result<Vec<u8>> {
        self.0.get(&id).cloned().ok_or(Error::WrongContent)
    }
}

const RECORDS: u64 = 50_000;

/// 170 bytes a record: a counter, text of few words, and a random token.
fn records(changed: Option<u64>) -> Vec<(Vec<u8>, Vec<u8>)> {
    (0..RECORDS)
        .map(|n| {
            let key = (n ^ (1 << 63)).to_be_bytes().to_vec();
            let token = blake3_hex(if changed == Some(n) { n + RECORDS } else { n });
            let mut value = Vec::with_capacity(170);
            let mut writer = Writer::new(&mut value);
            for text in [n.to_string().as_str(), "settled", "standing order groceries monthly", &token] {
                writer.push(Field::Inline(text.as_bytes()));
            }
            writer.finish();
            (key, value)
        })
        .collect()
}

fn blake3_hex(n: u64) -> String {
    let keys = KeySchedule::new(RootKey::new([3; 32]));
    keys.object_id(ObjectKind::Leaf, &n.to_le_bytes()).to_string()
}

fn build(keys: &KeySchedule, records: &[(Vec<u8>, Vec<u8>)], memory: &mut Memory) -> repo_format::tree::Root {
    let mut builder = Builder::new(keys);
    for (key, value) in records {
        builder.push(key, value, memory).expect("because keys ascend");
    }
    builder.finish(memory).expect("because memory takes everything")
}

fn benchmarks(c: &mut Criterion) {
    let keys = KeySchedule::new(RootKey::new([1; 32]));
    let old = records(None);
    let bytes: usize = old.iter().map(|(key, value)| key.len() + value.len()).sum();
    let mut group = c.benchmark_group("format");
    group.sample_size(20);
    group.throughput(Throughput::Bytes(bytes as u64));
    group
        .bench_function("build a tree", |b| b.iter(|| build(&keys, black_box(&old), &mut Memory::default())));

    let mut memory = Memory::default();
    let (old_root, new_root) =
        (build(&keys, &old, &mut memory), build(&keys, &records(Some(777)), &mut memory));
    group.throughput(Throughput::Elements(RECORDS));
    group.bench_function("diff one changed record", |b| {
        b.iter(|| Diff::new(&old_root, &new_root, None).count(&mut memory));
    });

    let leaf = memory.0.values().find(|leaf| leaf.len() > 16_000).cloned().unwrap_or_default();
    let mut sealer = Sealer::new(RepositoryId([1; 16]), 0, &keys.seal(0));
    let id = keys.object_id(ObjectKind::Leaf, &leaf);
    group.throughput(Throughput::Bytes(leaf.len() as u64));
    group.bench_function("compress and seal a leaf", |b| {
        let mut out = Vec::new();
        b.iter(|| {
            out.clear();
            sealer.seal(Subject::Object(ObjectKind::Leaf, id), black_box(&leaf), [0; 12], &mut out)
        });
    });
    group.bench_function("hash a leaf", |b| b.iter(|| keys.object_id(ObjectKind::Leaf, black_box(&leaf))));
    group.finish();
}

criterion_group!(benches, benchmarks);
criterion_main!(benches);
