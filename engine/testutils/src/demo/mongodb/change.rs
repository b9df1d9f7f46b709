//! The days after.

use bson::{Document, doc, rawdoc};
use mongodb::Database;
use mongodb::error::Result;

use super::dice::{DAY_MS, Dice, MONDAY_MS, date, money};
use super::people::{BOOKINGS, EVENTS, REVIEWS, booking, event, member_id, review};
use super::places::{HUTS, MEASUREMENTS, PHOTOS, hut_id, measurement};
use super::seed::insert_photo;
use super::{insert, run};

/// Who asks to be forgotten.
const FORGOTTEN: usize = 4_445;

/// Bookings come in and are confirmed, a member is forgotten, and a field gets a clearer name.
pub async fn tuesday(database: &Database) -> Result<()> {
    let numbered = |first: usize, count: usize| first..first + count;
    insert(database, "bookings", &numbered(BOOKINGS, 60).map(booking).collect::<Vec<_>>()).await?;
    insert(database, "reviews", &numbered(REVIEWS, 40).map(review).collect::<Vec<_>>()).await?;
    insert(database, "events", &numbered(EVENTS, 240).map(event).collect::<Vec<_>>()).await?;
    insert(database, "weather", &numbered(MEASUREMENTS, 288).map(measurement).collect::<Vec<_>>()).await?;
    insert_photo(database, PHOTOS).await?;
    run(database, [
        // Every fourth booking is only reserved: 140 of the oldest are confirmed.
        confirm(1_000_000, 1_000_000 + 4 * 140, MONDAY_MS + DAY_MS),
        // Article 17 GDPR: the reviews go with the member; somebody had written as them, too.
        delete("members", doc! { "_id": member_id(FORGOTTEN) }),
        delete("reviews", doc! { "_id.member": { "$in": [member_id(FORGOTTEN), member_id(FORGOTTEN + 1)] } }),
        update("huts", doc! {}, doc! { "$rename": { "altitude": "metres_above_sea" } }.into()),
        update("settings", doc! { "_id": "season" }, doc! { "$push": { "warden": { "$each": ["Åse"], "$position": 0 } } }.into()),
        doc! { "createIndexes": "bookings", "indexes": [{ "key": { "status": 1, "_id": -1 }, "name": "status" }] },
    ]).await
}

/// An import changes types, vouchers appear, and an update lacks its filter.
pub async fn wednesday(database: &Database) -> Result<()> {
    let numbered = EVENTS + 240..EVENTS + 370;
    insert(database, "events", &numbered.map(event).collect::<Vec<_>>()).await?;
    let first: Vec<String> = (0..HUTS).map(hut_id).take(40).collect();
    run(database, [
        confirm(1_010_000, 1_010_000 + 4 * 90, MONDAY_MS + 2 * DAY_MS),
        delete("bookings", doc! { "_id": { "$gte": 1_020_000i64, "$lt": 1_020_012i64 } }),
        delete("tokens", doc! { "n": { "$lt": 150 } }),
        // The import writes all whole numbers as long ones.
        update("huts", doc! { "_id": { "$in": first } }, bson::bson!([{ "$set": { "beds": { "$toLong": "$beds" } } }])),
        update("members", doc! { "_id": { "$in": (0..25).map(member_id).collect::<Vec<_>>() } },
            doc! { "$set": { "membership.fee": money(9_900) } }.into()),
        update("reviews", doc! { "_id.member": member_id(7) }, doc! { "$set": { "answers.food.soup": "none" } }.into()),
        // The accident: only one tag was meant.
        update("tags", doc! {}, doc! { "$set": { "hidden": true } }.into()),
        doc! { "collMod": "huts", "validator": { "$jsonSchema": {
            "bsonType": "object",
            "required": ["name", "beds", "place", "metres_above_sea"],
            "properties": { "beds": { "bsonType": ["int", "long"], "minimum": 1 } },
        } }, "validationLevel": "moderate" },
        doc! { "create": "vouchers" },
        doc! { "createIndexes": "vouchers", "indexes": [{ "key": { "code": 1 }, "name": "code", "unique": true }] },
    ]).await?;
    let voucher = |number: usize| {
        let mut dice = Dice::new("voucher", number);
        let made = MONDAY_MS + 2 * DAY_MS + number as i64 * 60_000;
        rawdoc! { "_id": dice.object_id(made), "code": format!("CAIRN-{number:04}-{:06x}", dice.roll(1 << 24)),
        "value": money(10_000 + dice.roll(9) * 5_000), "made": date(made) }
    };
    insert(database, "vouchers", &(0..250).map(voucher).collect::<Vec<_>>()).await
}

/// The reserved ones of these bookings are confirmed, the newest entry of their history first.
fn confirm(from: i64, to: i64, at_ms: i64) -> Document {
    let entry = doc! { "status": "confirmed", "at": date(at_ms) };
    update(
        "bookings",
        doc! { "_id": { "$gte": from, "$lt": to }, "status": "reserved" },
        doc! { "$set": { "status": "confirmed" }, "$push": { "history": { "$each": [entry], "$position": 0 } } }.into(),
    )
}

fn update(collection: &str, filter: Document, change: bson::Bson) -> Document {
    doc! { "update": collection, "updates": [{ "q": filter, "u": change, "multi": true }],
    "writeConcern": { "w": "majority", "j": true } }
}

fn delete(collection: &str, filter: Document) -> Document {
    doc! { "delete": collection, "deletes": [{ "q": filter, "limit": 0 }],
    "writeConcern": { "w": "majority", "j": true } }
}
