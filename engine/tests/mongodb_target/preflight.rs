//! What is in the way is said before anything is written.

use bson::{doc, rawdoc};
use engine::source::mongodb::MongoUrl;
use engine::target::mongodb::{Target, preflight};
use engine_testutils::mongodb::{Options, Server};

use crate::copier::{Copy, list_options, url};

fn one_collection() -> Copy {
    let mut copy = Copy::empty();
    copy.add("source", "c", "collection", &rawdoc! {}, &[], vec![rawdoc! { "_id": 1 }]);
    copy
}

async fn detail(copy: &Copy, url: &MongoUrl, check: &str) -> (bool, String) {
    let checks = copy.preflight(url).await;
    let found = checks.iter().find(|found| found.check == check).unwrap_or_else(|| panic!("{checks:#?}"));
    (found.ok, found.detail.clone())
}

#[tokio::test]
async fn names_that_no_database_can_have_are_refused() {
    let server = Server::shared();
    let client = server.client().await;
    let there = server.fresh_database("There");
    client.database(&there).collection("x").insert_one(doc! {}).await.unwrap();
    let long = "d".repeat(64);
    for (name, said) in [
        ("local", "belongs to the server"),
        ("config", "belongs to the server"),
        (long.as_str(), "cannot be a database's name"),
        (&there.to_lowercase(), "differs only in case"),
    ] {
        let mut copy = one_collection();
        copy.archive.clear();
        copy.collections.clear();
        copy.add(name, "c", "collection", &rawdoc! {}, &[], Vec::new());
        let (ok, detail) = detail(&copy, &url(server, None), "target database").await;
        assert!(!ok && detail.contains(said), "{name}: {detail}");
    }
    let mut copy = Copy::empty();
    copy.add("source", &"l".repeat(250), "collection", &rawdoc! {}, &[], Vec::new());
    let (ok, said) = detail(&copy, &url(server, Some("target")), "names").await;
    assert!(!ok && said.contains("too long"), "{said}");
}

#[tokio::test]
async fn an_older_server_is_refused_for_what_it_lacks() {
    let server = Server::shared();
    let target = url(server, Some("new"));
    let mut copy = one_collection();
    copy.source.version = "99.0.1".to_owned();
    let (ok, said) = detail(&copy, &target, "server version").await;
    assert!(ok && said.contains("use nothing that it lacks"), "{said}");
    copy.add("source", "d", "collection", &rawdoc! { "brandNew": true }, &[], Vec::new());
    let (ok, said) = detail(&copy, &target, "server version").await;
    assert!(!ok && said.contains("brandNew of new.d"), "{said}");
}

#[tokio::test]
async fn what_cannot_be_as_it_was_is_named() {
    let server = Server::shared();
    let target = url(server, Some("new"));
    let mut copy = Copy::empty();
    let haystack = rawdoc! { "v": 1, "key": { "at": "geoHaystack", "a": 1 }, "name": "hay", "bucketSize": 1 };
    let expiring = rawdoc! { "v": 2, "key": { "at": 1 }, "name": "ttl", "expireAfterSeconds": 1 };
    let judged = rawdoc! { "validator": { "a": 1 }, "autoIndexId": false };
    copy.add("source", "c", "collection", &judged, &[haystack, expiring], Vec::new());
    copy.add("source", "v", "view", &rawdoc! { "viewOn": "elsewhere", "pipeline": [] }, &[], Vec::new());
    for (check, said) in [
        ("collections", "new.v shows nothing, since elsewhere is not restored"),
        ("collections", "new.c is made without autoIndexId"),
        ("indexes", "hay of new.c (geoHaystack)"),
        ("validators", "new.c"),
        ("expiry", "new.c"),
        ("documents", "16 MiB"),
    ] {
        let (ok, detail) = detail(&copy, &target, check).await;
        assert!(ok && detail.contains(said), "{check}: {detail}");
    }
    copy.add(
        "source",
        "secret",
        "collection",
        &rawdoc! { "encryptedFields": { "fields": [] } },
        &[],
        Vec::new(),
    );
    let (ok, said) = detail(&copy, &target, "collections").await;
    assert!(!ok && said.contains("Queryable Encryption") && said.contains("new.secret"), "{said}");
    // Looking made nothing.
    assert_eq!(list_options(&server.client().await, "new").await, vec![]);
}

#[tokio::test]
async fn rights_are_looked_at_before_they_are_needed() {
    let server = Server::shared();
    let to = server.fresh_database("rights");
    let copy = one_collection();
    let user = async |name: &str, roles: &[&str]| {
        let roles = roles.iter().map(|role| doc! { "role": *role, "db": &to }.into()).collect();
        MongoUrl::parse(&server.create_user(name, roles, &to).await).unwrap()
    };
    let reader = user("target_reader", &["read"]).await;
    let writer = user("target_writer", &["readWrite"]).await;
    let owner = user("target_owner", &["readWrite", "dbAdmin"]).await;
    let (ok, said) = detail(&copy, &reader, "right to write").await;
    assert!(!ok && said.contains("target_reader lacks createCollection") && said.contains(&to), "{said}");
    let (ok, said) = detail(&copy, &writer, "right to write").await;
    assert!(!ok && said.contains("lacks collMod on"), "{said}");
    let (ok, said) = detail(&copy, &owner, "right to write").await;
    assert!(ok, "{said}");

    // A plan may be made by who may only read.
    let checks = preflight(&reader, &copy.restoring(), true).await.unwrap();
    assert!(checks.iter().all(|check| check.ok), "{checks:#?}");
    assert!(checks.iter().any(|check| check.detail.contains("enough to plan")), "{checks:#?}");

    // And the owner needs nothing more, cleaning up included.
    let target = Target::create(&owner, &copy.restoring()).await.unwrap();
    copy.fill(&target).await.unwrap();
    target.abandon().await.unwrap();
    assert_eq!(list_options(&server.client().await, &to).await, vec![]);
    assert!(copy.restore(&owner).await.is_empty());
}

#[tokio::test]
async fn a_server_without_users_and_without_replication_will_do() {
    let server = Server::start(Options { auth: false, standalone: true, ..Options::default() });
    let target = MongoUrl::parse(&server.anonymous_url("alone")).unwrap();
    let copy = one_collection();
    let (ok, said) = detail(&copy, &target, "right to write").await;
    assert!(ok && said.contains("lets anybody write"), "{said}");
    let (ok, said) = detail(&copy, &target, "deployment").await;
    assert!(ok && said.contains("without replication"), "{said}");
    assert_eq!(copy.restore(&target).await, vec![]);
    assert_eq!(list_options(&server.client().await, "alone").await.len(), 1);
}
