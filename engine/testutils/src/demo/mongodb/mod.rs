//! Cairn, a made-up association of mountain huts: some 110,000 documents in 13 collections of every
//! kind that MongoDB has, and what happens to them on the two days after. Everything is
//! deterministic, so that tests can name exact counts.
//!
//! The story a diff should tell: on the second day bookings move on, a member is forgotten and a
//! field is renamed; on the third an import turns whole numbers into long ones, vouchers appear,
//! and an update without its filter hides every tag.

mod change;
mod dice;
mod people;
mod places;
mod seed;

use bson::{Document, RawDocumentBuf};
use mongodb::Database;
use mongodb::error::Result;
use mongodb::options::{Acknowledgment, WriteConcern};

use super::{Changes, Day};

/// Documents per command.
const BATCH: usize = 5_000;

/// Fills a database that has no collections.
pub async fn seed(database: &Database) -> Result<()> {
    seed::fill(database).await
}

/// Applies one day's changes; the days have to come in order.
pub async fn change(database: &Database, day: Day) -> Result<()> {
    match day {
        Day::Tuesday => change::tuesday(database).await,
        Day::Wednesday => change::wednesday(database).await,
    }
}

/// Inserts documents in their order, byte for byte.
async fn insert(database: &Database, collection: &str, documents: &[RawDocumentBuf]) -> Result<()> {
    let into = database.collection::<RawDocumentBuf>(collection);
    let concern = WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build();
    for batch in documents.chunks(BATCH) {
        into.insert_many(batch).write_concern(concern.clone()).await?;
    }
    Ok(())
}

/// Runs commands in their order; the first that fails ends it.
async fn run(database: &Database, commands: impl IntoIterator<Item = Document>) -> Result<()> {
    for command in commands {
        let answer = database.run_command(command).await?;
        if let Ok(errors) = answer.get_array("writeErrors") {
            return Err(mongodb::error::Error::custom(format!("{errors:?}")));
        }
    }
    Ok(())
}

/// What is known of one collection.
#[derive(Clone, Copy, Debug)]
pub struct CollectionFacts {
    /// Its name.
    pub name: &'static str,
    /// Whether its documents are told apart by `_id`; measurements are so only as a whole.
    pub has_ids: bool,
    /// Documents after the seed, after Tuesday and after Wednesday.
    pub documents: [u64; 3],
    /// Tuesday's and Wednesday's changes.
    pub changes: [Changes; 2],
    /// Whether its options or indexes changed on Tuesday and on Wednesday.
    pub redefined: [bool; 2],
}

/// The collections by name, those that appear later included.
pub fn facts() -> &'static [CollectionFacts] {
    &FACTS
}

/// The views by name.
pub fn views() -> &'static [&'static str] {
    &["busy_huts", "guides", "open_bookings"]
}

const fn collection(
    name: &'static str,
    documents: [u64; 3],
    [tuesday, wednesday]: [[u64; 3]; 2],
    redefined: [bool; 2],
) -> CollectionFacts {
    let changes = [super::changes(tuesday), super::changes(wednesday)];
    CollectionFacts { name, has_ids: true, documents, changes, redefined }
}

const NONE: [[u64; 3]; 2] = [[0; 3]; 2];
const SAME: [bool; 2] = [false; 2];

const FACTS: [CollectionFacts; 13] = [
    collection("bookings", [36_000, 36_060, 36_048], [[60, 0, 140], [0, 12, 90]], [true, false]),
    collection("events", [8_000; 3], [[240, 240, 0], [130, 130, 0]], SAME),
    collection("huts", [180; 3], [[0, 0, 180], [0, 0, 40]], [false, true]),
    collection("members", [12_000, 11_999, 11_999], [[0, 1, 0], [0, 0, 25]], SAME),
    collection("photos.chunks", [23, 27, 27], [[4, 0, 0], [0, 0, 0]], SAME),
    collection("photos.files", [8, 9, 9], [[1, 0, 0], [0, 0, 0]], SAME),
    collection("reviews", [6_000, 6_038, 6_038], [[40, 2, 0], [0, 0, 1]], SAME),
    collection("settings", [14; 3], [[0, 0, 1], [0, 0, 0]], SAME),
    collection("tags", [200; 3], [[0, 0, 0], [0, 0, 200]], SAME),
    collection("tokens", [2_500, 2_500, 2_350], [[0, 0, 0], [0, 150, 0]], SAME),
    collection("trail_sections", [20_000; 3], NONE, SAME),
    collection("vouchers", [0, 0, 250], [[0, 0, 0], [250, 0, 0]], [false, true]),
    CollectionFacts {
        has_ids: false,
        ..collection("weather", [24_000, 24_288, 24_288], [[288, 0, 0], [0, 0, 0]], SAME)
    },
];
