//! The huts are what their facts say, day by day, and the same every time.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use std::collections::BTreeMap;
use std::time::Instant;

use bson::{RawDocument, RawDocumentBuf, doc};
use engine_testutils::demo::mongodb::{self as demo, CollectionFacts};
use engine_testutils::demo::{Changes, Day};
use engine_testutils::mongodb::Server;
use mongodb::Database;

/// Documents by key, with how many there are of each: a measurement has itself as its key.
type Documents = BTreeMap<Vec<u8>, (Vec<u8>, u64)>;

fn key(document: &RawDocument, has_ids: bool) -> Vec<u8> {
    if !has_ids {
        return document.as_bytes().to_vec();
    }
    let id = document.get("_id").unwrap().unwrap();
    let mut alone = RawDocumentBuf::new();
    alone.append(bson::raw::cstr!("_id"), id);
    alone.into_bytes()
}

async fn read(database: &Database, facts: &CollectionFacts) -> Documents {
    let mut cursor = database.collection::<RawDocumentBuf>(facts.name).find(doc! {}).await.unwrap();
    let mut documents = Documents::new();
    while cursor.advance().await.unwrap() {
        let document = cursor.current();
        let bytes = document.as_bytes().to_vec();
        documents.entry(key(document, facts.has_ids)).or_insert((bytes, 0)).1 += 1;
    }
    documents
}

async fn read_all(database: &Database) -> Vec<Documents> {
    let mut all = Vec::new();
    for facts in demo::facts() {
        all.push(read(database, facts).await);
    }
    all
}

/// Options and indexes of a collection, in whatever order the server lists them.
async fn definition(database: &Database, name: &str) -> String {
    let mut options = Vec::new();
    let listed = doc! { "listCollections": 1, "filter": { "name": name } };
    let mut cursor = database.run_cursor_command(listed).await.unwrap();
    while cursor.advance().await.unwrap() {
        options.push(format!("{:?}", cursor.current().get_document("options").unwrap()));
    }
    if !options.is_empty() {
        let mut cursor = database.run_cursor_command(doc! { "listIndexes": name }).await.unwrap();
        while cursor.advance().await.unwrap() {
            options.push(format!("{:?}", cursor.current()));
        }
    }
    options.sort();
    options.concat()
}

fn compare(from: &Documents, to: &Documents) -> Changes {
    let mut changes = Changes::default();
    for (key, (document, count)) in to {
        match from.get(key) {
            None => changes.added += count,
            Some((old, old_count)) => {
                changes.changed += u64::from(old != document);
                changes.added += count.saturating_sub(*old_count);
                changes.removed += old_count.saturating_sub(*count);
            }
        }
    }
    changes.removed +=
        from.iter().filter(|(key, _)| !to.contains_key(*key)).map(|(_, (_, count))| count).sum::<u64>();
    changes
}

async fn definitions(database: &Database) -> Vec<String> {
    let mut all = Vec::new();
    for facts in demo::facts() {
        all.push(definition(database, facts.name).await);
    }
    all
}

#[tokio::test]
async fn every_day_changes_exactly_what_the_facts_say() {
    let server = Server::shared();
    let database = server.client().await.database(&server.fresh_database("huts"));
    let begun = Instant::now();
    demo::seed(&database).await.unwrap();
    assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
    let mut days = vec![(read_all(&database).await, definitions(&database).await)];
    for day in [Day::Tuesday, Day::Wednesday] {
        demo::change(&database, day).await.unwrap();
        days.push((read_all(&database).await, definitions(&database).await));
    }
    let (mut found, mut wanted) = (Vec::new(), Vec::new());
    for (position, facts) in demo::facts().iter().enumerate() {
        let documents =
            [0, 1, 2].map(|day: usize| days[day].0[position].values().map(|(_, count)| count).sum::<u64>());
        let changes = [0, 1].map(|day: usize| compare(&days[day].0[position], &days[day + 1].0[position]));
        let redefined = [0, 1].map(|day: usize| days[day].1[position] != days[day + 1].1[position]);
        found.push(format!("{} {documents:?} {changes:?} {redefined:?}", facts.name));
        let CollectionFacts { documents, changes, redefined, .. } = facts;
        wanted.push(format!("{} {documents:?} {changes:?} {redefined:?}", facts.name));
    }
    assert_eq!(found, wanted);
    let mut names = database.list_collection_names().await.unwrap();
    names.retain(|name| !name.starts_with("system."));
    names.sort();
    let mut known: Vec<_> =
        demo::facts().iter().map(|facts| facts.name).chain(demo::views().iter().copied()).collect();
    known.sort_unstable();
    assert_eq!(names, known);
}

#[tokio::test]
async fn two_seeds_are_equal() {
    let server = Server::shared();
    let mut seen = Vec::new();
    for _ in 0..2 {
        let database = server.client().await.database(&server.fresh_database("twin"));
        demo::seed(&database).await.unwrap();
        seen.push((read_all(&database).await, definitions(&database).await));
    }
    assert!(seen[0] == seen[1]);
}
