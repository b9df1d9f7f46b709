//! Real nested documents: several versions of `@mdn/browser-compat-data` as snapshots of one MongoDB
//! database, compared, restored and proven.
//!
//! `npm pack @mdn/browser-compat-data@5.6.0` and so on, then
//! `cargo run --release -p benches --bin documents -- one.tgz two.tgz three.tgz`. It fails when a
//! comparison is not what a naive one of all documents finds, when a restored database is not
//! proven, or when an altered document goes unnoticed.
#![allow(clippy::print_stdout, reason = "the table it prints is what it is for")]

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Instant;

use bson::{Bson, RawDocumentBuf, doc};
use engine::backup::{self, Request};
use engine::repo::{Repository, Snapshot, UnlockKey};
use engine::restore;
use engine::source::Consistency;
use engine::store::Storage;
use engine::{Context, diff};
use engine_testutils::mongodb::{Scope, Server};
use repo_format::manifest::Trigger;
use serde_json::Value;

/// Collection and `_id` to the document's bytes.
type Documents = BTreeMap<(String, String), RawDocumentBuf>;

const DATABASE: &str = "compat";

#[tokio::main]
async fn main() {
    let files: Vec<String> = std::env::args().skip(1).collect();
    assert!(files.len() >= 2, "name two packages or more");
    let server = Server::shared();
    let url = server.create_read_only_user(Scope::Database(DATABASE), "bench_reader").await;
    let scratch = tempfile::tempdir().expect("because a benchmark needs a folder");
    let ctx = Context::new(scratch.path());
    let storage = Storage::parse(&format!("fs://{}", scratch.path().join("repositories").display()));
    let storage = storage.expect("because the folder is new");
    let store = storage.store("project").expect("because the name is plain");
    let cache = scratch.path().join("cache.redb");
    let repo = Repository::create(store, &UnlockKey::new([7; 32]), &cache, &ctx).await.expect("a repository");

    println!(
        "| version | documents | BSON | added, changed, removed | stored by this snapshot | backup | diff |"
    );
    println!("|---|---|---|---|---|---|---|");
    let (mut before, mut snapshots) = (Documents::new(), Vec::<Snapshot>::new());
    for file in &files {
        let documents = read(file);
        store_version(server, &before, &documents).await;
        let started = Instant::now();
        let snapshot = take(&repo, &url, &ctx).await;
        let backup = started.elapsed();
        let (counts, compared) = match snapshots.last() {
            Some(parent) => compare(&repo, parent, &snapshot, &before, &documents, &ctx).await,
            None => ("-".to_owned(), "-".to_owned()),
        };
        let bytes: usize = documents.values().map(|document| document.as_bytes().len()).sum();
        println!(
            "| {file} | {} | {:.1} MB | {counts} | {:.2} MB | {:.2} s | {compared} |",
            documents.len(),
            bytes as f64 / 1e6,
            snapshot.manifest.new_bytes as f64 / 1e6,
            backup.as_secs_f64()
        );
        (before, snapshots) = (documents, [snapshots, vec![snapshot]].concat());
    }
    for (number, snapshot) in snapshots.iter().enumerate() {
        round_trip(server, &repo, snapshot, number, &ctx).await;
    }
}

/// The data of a package: a document for each member of a top-level member.
fn read(file: &str) -> Documents {
    let output = Command::new("tar").args(["-xzOf", file, "package/data.json"]).output();
    let output = output.expect("because tar is everywhere");
    assert!(output.status.success(), "{file} is no package with a data.json");
    let data: Value = serde_json::from_slice(&output.stdout).expect("because data.json is JSON");
    let mut documents = Documents::new();
    for (collection, members) in data.as_object().into_iter().flatten() {
        for (name, member) in members.as_object().into_iter().flatten() {
            let mut document = doc! { "_id": name };
            match bson::serialize_to_bson(member).expect("because any JSON is BSON") {
                Bson::Document(fields) => document.extend(fields),
                other => drop(document.insert("value", other)),
            }
            let raw = RawDocumentBuf::try_from(&document).expect("because it was just made");
            documents.insert((collection.clone(), name.clone()), raw);
        }
    }
    documents
}

/// Makes the database hold `after` where it holds `before`, as an application would: by documents.
async fn store_version(server: &Server, before: &Documents, after: &Documents) {
    let database = server.client().await.database(DATABASE);
    let mut new: BTreeMap<&str, Vec<RawDocumentBuf>> = BTreeMap::new();
    for ((collection, id), document) in after {
        match before.get(&(collection.clone(), id.clone())) {
            None => new.entry(collection).or_default().push(document.clone()),
            Some(old) if old != document => {
                let collection = database.collection::<RawDocumentBuf>(collection);
                let replaced = collection.replace_one(doc! { "_id": id }, document.clone()).await;
                assert_eq!(replaced.expect("a replacement").matched_count, 1);
            }
            Some(_) => {}
        }
    }
    for (collection, documents) in new {
        server.insert_raw(&format!("{DATABASE}.{collection}"), &documents).await;
    }
    for (collection, id) in before.keys().filter(|key| !after.contains_key(*key)) {
        let collection = database.collection::<RawDocumentBuf>(collection);
        assert_eq!(collection.delete_one(doc! { "_id": id }).await.expect("a deletion").deleted_count, 1);
    }
}

async fn take(repo: &Repository, url: &str, ctx: &Context) -> Snapshot {
    let request = Request {
        source_id: "compat".to_owned(),
        source_name: "compat".to_owned(),
        url: url.to_owned(),
        consistency: Consistency::PointInTime,
        trigger: Trigger::Manual,
        note: None,
    };
    let snapshot = backup::run(repo, &request, ctx).await.expect("a snapshot");
    assert!(snapshot.manifest.is_complete(), "{:?}", snapshot.manifest.missing);
    snapshot
}

/// Compares two snapshots, and the result with a comparison of all documents.
async fn compare(
    repo: &Repository,
    from: &Snapshot,
    to: &Snapshot,
    before: &Documents,
    after: &Documents,
    ctx: &Context,
) -> (String, String) {
    let started = Instant::now();
    let summary = diff::summary(repo, from, to, ctx).await.expect("a comparison");
    let time = started.elapsed();
    let total = |count: fn(&diff::Counts) -> u64| -> u64 {
        summary.collections.iter().map(|found| count(&found.records)).sum()
    };
    let found = (total(|c| c.added), total(|c| c.changed), total(|c| c.removed));
    let naive = (
        after.keys().filter(|key| !before.contains_key(*key)).count() as u64,
        after.iter().filter(|(key, new)| before.get(*key).is_some_and(|old| old != *new)).count() as u64,
        before.keys().filter(|key| !after.contains_key(*key)).count() as u64,
    );
    assert_eq!(found, naive, "the comparison finds what a naive one finds");
    let (added, changed, removed) = found;
    let read = format!("{:.2} s, {} objects read", time.as_secs_f64(), summary.objects_read);
    (format!("{added}, {changed}, {removed}"), read)
}

/// Restores a snapshot to a database of its own, and shows that the proof sees a changed document.
async fn round_trip(server: &Server, repo: &Repository, snapshot: &Snapshot, number: usize, ctx: &Context) {
    let name = format!("{DATABASE}_{number}");
    let url = server.admin_url().replace("/admin?", &format!("/{name}?"));
    let started = Instant::now();
    let plan = restore::plan(repo, snapshot, &restore::Scope::All, &url, ctx).await.expect("a plan");
    assert!(plan.is_clear(), "{:?}", plan.preflight);
    let phrase = &plan.confirm_phrase;
    let restored = restore::apply(repo, snapshot, &restore::Scope::All, &plan, phrase, &url, ctx).await;
    let restored = restored.expect("a restore");
    assert!(restored.proof.matches, "{:?}", restored.proof);
    println!("snapshot {number} restored and proven in {:.2} s", started.elapsed().as_secs_f64());
    let collection = server.client().await.database(&name).collection::<RawDocumentBuf>("browsers");
    let update = collection.update_one(doc! { "_id": "firefox" }, doc! { "$set": { "name": "Firebird" } });
    assert_eq!(update.await.expect("an update").modified_count, 1);
    let proof = restore::prove(repo, snapshot, &url, ctx).await.expect("a proof");
    assert!(!proof.matches && proof.differences == 1, "{proof:?}");
    let examples: Vec<_> = proof.collections.iter().flat_map(|found| &found.examples).collect();
    println!("with one document altered, the proof says: {examples:?}");
}
