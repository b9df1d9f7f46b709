//! The first day: collections, their documents, then what judges and finds them.

use bson::oid::ObjectId;
use bson::spec::BinarySubtype;
use bson::{Binary, DateTime, Decimal128, Document, RawDocumentBuf, Timestamp, doc, rawdoc};
use mongodb::Database;
use mongodb::error::Result;

use super::dice::{MONDAY_MS, date};
use super::people::{BOOKINGS, EVENTS, MEMBERS, REVIEWS, TOKENS, booking, event, member, review, token};
use super::places::{HUTS, MEASUREMENTS, PHOTOS, SECTIONS, TAGS, hut, measurement, photo, section, tag};
use super::{insert, run};

/// Fills an empty database.
pub async fn fill(database: &Database) -> Result<()> {
    run(database, collections()).await?;
    insert_all(database).await?;
    run(database, indexes()).await?;
    run(database, views()).await
}

fn collections() -> Vec<Document> {
    vec![
        doc! { "create": "huts", "validator": { "$jsonSchema": {
            "bsonType": "object",
            "required": ["name", "beds", "place"],
            "properties": { "beds": { "bsonType": ["int", "long"], "minimum": 1 } },
        } } },
        doc! { "create": "events", "capped": true, "size": 8 << 20, "max": EVENTS as i32 },
        doc! { "create": "weather", "timeseries": { "timeField": "at", "metaField": "station", "granularity": "hours" } },
        doc! { "create": "tags", "collation": { "locale": "nb", "strength": 2 } },
        doc! { "create": "trail_sections", "clusteredIndex": { "key": { "_id": 1 }, "unique": true } },
    ]
}

async fn insert_all(database: &Database) -> Result<()> {
    let many = |count: usize, make: fn(usize) -> RawDocumentBuf| (0..count).map(make).collect::<Vec<_>>();
    insert(database, "huts", &many(HUTS, hut)).await?;
    insert(database, "members", &many(MEMBERS, member)).await?;
    insert(database, "bookings", &many(BOOKINGS, booking)).await?;
    insert(database, "reviews", &many(REVIEWS, review)).await?;
    insert(database, "tokens", &many(TOKENS, token)).await?;
    insert(database, "events", &many(EVENTS, event)).await?;
    insert(database, "weather", &many(MEASUREMENTS, measurement)).await?;
    insert(database, "tags", &many(TAGS, tag)).await?;
    insert(database, "trail_sections", &many(SECTIONS, section)).await?;
    insert(database, "settings", &settings()).await?;
    for number in 0..PHOTOS {
        insert_photo(database, number).await?;
    }
    Ok(())
}

pub async fn insert_photo(database: &Database, number: usize) -> Result<()> {
    let (file, chunks) = photo(number);
    insert(database, "photos.chunks", &chunks).await?;
    insert(database, "photos.files", &[file]).await
}

/// One `_id` of each type that has an order of its own, and values of most types.
fn settings() -> Vec<RawDocumentBuf> {
    let uuid = Binary { subtype: BinarySubtype::Uuid, bytes: vec![7; 16] };
    let limit = "1E+3".parse::<Decimal128>().expect("because it is a decimal number");
    vec![
        rawdoc! { "_id": "currency", "value": "NOK", "symbol": "kr" },
        rawdoc! { "_id": "season", "value": { "opens": "06-20", "closes": "10-05" }, "warden": ["Inés", "Jarle"] },
        rawdoc! { "_id": 1, "value": "int" },
        rawdoc! { "_id": 2i64, "value": "long" },
        rawdoc! { "_id": 2.5, "value": "double" },
        rawdoc! { "_id": limit, "value": "decimal" },
        rawdoc! { "_id": bson::RawBson::Null, "value": "null" },
        rawdoc! { "_id": true, "value": "boolean" },
        rawdoc! { "_id": date(MONDAY_MS), "value": "date" },
        rawdoc! { "_id": DateTime::from_millis(-1), "value": "before 1970" },
        rawdoc! { "_id": Timestamp { time: 1_772_409_600, increment: 1 }, "value": "timestamp" },
        rawdoc! { "_id": ObjectId::from_bytes([1; 12]), "value": "object id" },
        rawdoc! { "_id": uuid, "value": "uuid" },
        rawdoc! { "_id": { "of": "hut", "n": 3 }, "value": "document" },
    ]
}

fn indexes() -> Vec<Document> {
    vec![
        doc! { "createIndexes": "huts", "indexes": [
            { "key": { "place": "2dsphere" }, "name": "place" },
            { "key": { "facilities": 1, "beds": -1 }, "name": "facilities" },
        ] },
        doc! { "createIndexes": "members", "indexes": [
            { "key": { "email": 1 }, "name": "email", "unique": true, "collation": { "locale": "en", "strength": 2 } },
            { "key": { "membership.since": 1 }, "name": "guides", "partialFilterExpression": { "membership.kind": "guide" } },
            { "key": { "phone": 1 }, "name": "phone", "sparse": true },
        ] },
        doc! { "createIndexes": "bookings", "indexes": [
            { "key": { "hut": 1, "nights.night": 1 }, "name": "nights" },
            { "key": { "member": 1 }, "name": "member" },
        ] },
        doc! { "createIndexes": "reviews", "indexes": [{ "key": { "answers.$**": 1 }, "name": "answers" }] },
        doc! { "createIndexes": "tokens", "indexes": [
            { "key": { "expires": 1 }, "name": "expiry", "expireAfterSeconds": 0 },
        ] },
        doc! { "createIndexes": "trail_sections", "indexes": [
            { "key": { "grade": 1 }, "name": "grade", "hidden": true },
        ] },
        doc! { "createIndexes": "photos.files", "indexes": [{ "key": { "filename": 1, "uploadDate": 1 }, "name": "filename" }] },
        doc! { "createIndexes": "photos.chunks", "indexes": [
            { "key": { "files_id": 1, "n": 1 }, "name": "files_id", "unique": true },
        ] },
    ]
}

fn views() -> Vec<Document> {
    vec![
        doc! { "create": "guides", "viewOn": "members", "pipeline": [
            { "$match": { "membership.kind": "guide" } }, { "$project": { "name": 1, "skills": 1 } },
        ] },
        doc! { "create": "open_bookings", "viewOn": "bookings", "pipeline": [{ "$match": { "status": "reserved" } }] },
        doc! { "create": "busy_huts", "viewOn": "open_bookings", "pipeline": [
            { "$group": { "_id": "$hut", "bookings": { "$sum": 1 } } }, { "$sort": { "bookings": -1, "_id": 1 } },
        ] },
    ]
}
