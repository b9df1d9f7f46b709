//! Every kind of collection is made as it was.

use bson::{DateTime, Document, RawDocumentBuf, doc, rawdoc};
use engine::target::mongodb::{Target, occupied};
use engine_testutils::mongodb::{Flavour, Server};
use mongodb::Client;

use crate::copier::{Copy, list_indexes, list_options, read, url};

/// One of each kind, and what is in it.
async fn seed(client: &Client, name: &str) {
    let database = client.database(name);
    for command in [
        doc! { "create": "plain" },
        doc! { "create": "capped", "capped": true, "size": 65_536, "max": 100 },
        doc! { "create": "collated", "collation": { "locale": "de", "strength": 2 } },
        doc! { "create": "clustered", "clusteredIndex": { "key": { "_id": 1 }, "unique": true, "name": "own" },
        "expireAfterSeconds": 3_600 },
        doc! { "create": "weather", "timeseries": { "timeField": "at", "metaField": "place",
        "granularity": "minutes" }, "expireAfterSeconds": 86_400 },
        doc! { "create": "judged", "validator": { "$jsonSchema": { "required": ["name"] } },
        "validationLevel": "moderate", "validationAction": "error" },
        doc! { "create": "images", "changeStreamPreAndPostImages": { "enabled": true } },
        doc! { "create": "zebra_view", "viewOn": "plain", "pipeline": [{ "$match": { "n": { "$gt": 1 } } }] },
        doc! { "create": "a_view", "viewOn": "zebra_view", "pipeline": [{ "$sort": { "n": -1, "a": 1 } }] },
    ] {
        database.run_command(command).await.unwrap();
    }
    let insert = async |name: &str, documents: Vec<RawDocumentBuf>| {
        let collection = database.collection::<RawDocumentBuf>(name);
        collection.insert_many(documents).bypass_document_validation(true).await.unwrap();
    };
    insert("plain", (0..10).map(|n| rawdoc! { "_id": n, "n": n }).collect()).await;
    insert("capped", (0..300).map(|n| rawdoc! { "_id": 1_000 - n, "n": n }).collect()).await;
    insert("collated", ["b", "Ä", "c"].iter().map(|id| rawdoc! { "_id": *id }).collect()).await;
    let hours_ago =
        |hours: i64| DateTime::from_millis(DateTime::now().timestamp_millis() - hours * 3_600_000);
    insert("clustered", (0..3).map(|n| rawdoc! { "_id": n, "n": n }).collect()).await;
    let measured = |n: i64| rawdoc! { "at": hours_ago(n), "place": "north", "_id": n, "degrees": n as f64 };
    insert("weather", (0..50).map(measured).collect()).await;
    insert("judged", vec![rawdoc! { "_id": 1, "name": "a" }, rawdoc! { "_id": 2, "nameless": true }]).await;
}

#[tokio::test]
async fn every_kind_of_collection_is_restored() {
    let server = Server::shared();
    let client = server.client().await;
    let (from, to) = (server.fresh_database("kinds"), server.fresh_database("restored"));
    seed(&client, &from).await;
    let copy = Copy::of(&client, &from).await;
    let notes = copy.restore(&url(server, Some(&to))).await;
    // SecantusDB says yes to a clustered collection's expiry, and forgets it.
    let forgets = server.flavour() == Flavour::SecantusDb;
    let failed: Vec<_> = notes.iter().filter(|note| note.failed).map(|note| &note.text).collect();
    assert_eq!(failed.len(), usize::from(forgets), "{notes:#?}");
    assert!(
        failed.iter().all(|text| text.contains("clustered") && text.contains("did not take")),
        "{notes:#?}"
    );
    // Half of the measurements are older than a day.
    assert!(
        notes.iter().any(|note| note.text.contains("documents of") && note.text.contains("weather")),
        "{notes:#?}"
    );

    // In whatever order; the server puts an option that was set later last.
    let options = async |database: &str| {
        let listed = list_options(&client, database).await.into_iter().map(|(name, kind, options)| {
            let mut options = Document::try_from(options).unwrap();
            if forgets && name == "clustered" {
                options.remove("expireAfterSeconds");
            }
            (name, kind, options)
        });
        listed.collect::<Vec<_>>()
    };
    assert_eq!(options(&to).await, options(&from).await);
    for (_, name) in &copy.collections {
        let mut both = [read(&client, &from, name).await, read(&client, &to, name).await];
        if name != "capped" && !name.contains("view") {
            both.iter_mut().for_each(|all| all.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes())));
        }
        let [wanted, found] = both;
        // Measurements that are expired may be gone from either.
        if name != "weather" {
            assert_eq!(found, wanted, "{name}");
        }
    }
    assert_eq!(read(&client, &to, "a_view").await.len(), 8);
    assert_eq!(read(&client, &to, "capped").await[0].get_i32("n").unwrap(), 200);

    // The validator is there: another document of that kind is refused, with one that was restored.
    assert_eq!(read(&client, &to, "judged").await.len(), 2);
    let refused = client.database(&to).collection("judged").insert_one(doc! { "_id": 3 }).await.unwrap_err();
    assert!(refused.to_string().contains("121"), "{refused}");
}

#[tokio::test]
async fn selected_collections_go_where_the_url_says() {
    let server = Server::shared();
    let client = server.client().await;
    let (one, two, to) =
        (server.fresh_database("one"), server.fresh_database("two"), server.fresh_database("placed"));
    for database in [&one, &two] {
        for name in ["x", "y"] {
            let own = doc! { "_id": format!("{database}.{name}") };
            client.database(database).collection(name).insert_one(own).await.unwrap();
        }
    }
    let mut copy = Copy::of(&client, &one).await;
    let second = Copy::of(&client, &two).await;
    copy.archive.extend(second.archive);
    // x of the first and y of the second: the archive knows more than is wanted.
    copy.collections[1] = (two.clone(), "y".to_owned());
    copy.documents[1] = vec![rawdoc! { "_id": format!("{two}.y") }];
    copy.restore(&url(server, Some(&to))).await;
    let names: Vec<_> = list_options(&client, &to).await.into_iter().map(|found| found.0).collect();
    assert_eq!(names, ["x", "y"]);
    assert_eq!(read(&client, &to, "x").await, [rawdoc! { "_id": format!("{one}.x") }]);
    assert_eq!(read(&client, &to, "y").await, [rawdoc! { "_id": format!("{two}.y") }]);

    // Without a database in the URL each goes to its own again.
    for database in [&one, &two] {
        client.database(database).drop().await.unwrap();
    }
    copy.restore(&url(server, None)).await;
    assert_eq!(read(&client, &one, "x").await, [rawdoc! { "_id": format!("{one}.x") }]);
    assert_eq!(list_options(&client, &two).await.len(), 1);
}

#[tokio::test]
async fn an_occupied_database_is_refused_and_left_alone() {
    let server = Server::shared();
    let client = server.client().await;
    let (from, to) = (server.fresh_database("full"), server.fresh_database("occupied"));
    client.database(&to).collection("theirs").insert_one(doc! { "_id": 1 }).await.unwrap();
    let mut copy = Copy::empty();
    copy.add(&from, "ours", "collection", &rawdoc! {}, &[], vec![rawdoc! { "_id": 1 }]);
    let target = url(server, Some(&to));
    let checks = copy.preflight(&target).await;
    let refused: Vec<_> = checks.iter().filter(|check| !check.ok).collect();
    assert!(refused.len() == 1 && refused[0].check == "target database", "{checks:#?}");
    assert!(refused[0].detail.contains(&format!("{to}.theirs")), "{}", refused[0].detail);
    assert_eq!(
        Target::create(&target, &copy.restoring()).await.err().unwrap().kind(),
        engine::Kind::Conflict
    );
    let said = occupied(&target, &copy.collections).await.unwrap().unwrap();
    assert!(said.contains("theirs"), "{said}");
    assert_eq!(list_options(&client, &to).await.len(), 1);
    assert_eq!(list_indexes(&client, &to, "theirs").await.len(), 1);
    let empty = server.fresh_database("empty");
    assert_eq!(occupied(&url(server, Some(&empty)), &copy.collections).await.unwrap(), None);
}
