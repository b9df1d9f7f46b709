//! Fern & Fjord, a made-up online shop: some 200,000 rows in 16 tables, and what happens to them
//! on the two days after. Everything is deterministic, so that tests can name exact counts.
//!
//! The story a diff should tell: on the second day a sale begins, a customer is forgotten and a
//! column is added; on the third a state and an index are added, and an `UPDATE` without its
//! `WHERE` makes every discount code 90 % off.

pub mod mongodb;

use tokio_postgres::{Client, Error};

/// What happens between two snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Day {
    /// The first day after the seed.
    Tuesday,
    /// The day after that, with the accident.
    Wednesday,
}

/// Fills an empty database.
pub async fn seed(client: &Client) -> Result<(), Error> {
    in_transaction(client, &[include_str!("schema.sql"), include_str!("seed.sql")]).await
}

/// Applies one day's changes; the days have to come in order.
pub async fn change(client: &Client, day: Day) -> Result<(), Error> {
    match day {
        Day::Tuesday => in_transaction(client, &[include_str!("day2.sql")]).await,
        Day::Wednesday => {
            in_transaction(client, &[include_str!("day3_types.sql")]).await?;
            in_transaction(client, &[include_str!("day3.sql")]).await
        }
    }
}

/// Runs scripts in one transaction under settings of their own, so that neither the role's nor the
/// database's change what they make.
async fn in_transaction(client: &Client, scripts: &[&str]) -> Result<(), Error> {
    let mut sql = String::from(
        "BEGIN; SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO'; SET LOCAL search_path = public;",
    );
    scripts.iter().for_each(|script| sql += script);
    sql += "COMMIT;";
    let done = client.batch_execute(&sql).await;
    if done.is_err() {
        // The first error is the one to tell; ROLLBACK only frees the connection.
        let _ = client.batch_execute("ROLLBACK").await;
    }
    done
}

/// How many records of a table differ between two days, by its key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Keys only the later day has.
    pub added: u64,
    /// Keys only the earlier day has.
    pub removed: u64,
    /// Keys both have, with other values. A new column that is NULL changes nothing.
    pub changed: u64,
}

/// What is known of one table.
#[derive(Clone, Copy, Debug)]
pub struct TableFacts {
    /// Its name; all are in schema `public`.
    pub name: &'static str,
    /// How many columns its primary key has, which are its first; 0 when it has none.
    pub key_columns: usize,
    /// Rows after the seed, after Tuesday and after Wednesday.
    pub rows: [u64; 3],
    /// Tuesday's and Wednesday's changes.
    pub changes: [Changes; 2],
}

/// The tables by name.
pub fn facts() -> &'static [TableFacts] {
    &FACTS
}

const fn table(
    name: &'static str,
    key_columns: usize,
    rows: [u64; 3],
    [tuesday, wednesday]: [[u64; 3]; 2],
) -> TableFacts {
    TableFacts { name, key_columns, rows, changes: [changes(tuesday), changes(wednesday)] }
}

const fn changes([added, removed, changed]: [u64; 3]) -> Changes {
    Changes { added, removed, changed }
}

const NONE: [[u64; 3]; 2] = [[0; 3]; 2];

const FACTS: [TableFacts; 16] = [
    table("addresses", 1, [18_000, 17_998, 17_998], [[0, 2, 0], [0, 0, 1]]),
    table("categories", 1, [23; 3], NONE),
    table("countries", 1, [16; 3], NONE),
    table("customers", 1, [15_000, 14_999, 14_999], [[0, 1, 72], [0, 0, 0]]),
    table("discount_codes", 1, [42; 3], [[0, 0, 0], [0, 0, 42]]),
    table("order_items", 2, [63_332, 63_389, 63_411], [[57, 0, 0], [22, 0, 0]]),
    table("orders", 1, [30_000, 30_038, 30_060], [[38, 0, 127], [22, 0, 209]]),
    table("page_views", 2, [24_000, 24_420, 24_420], [[420, 0, 0], [0, 0, 0]]),
    table("payments", 1, [29_028, 29_066, 29_066], [[38, 0, 0], [0, 0, 0]]),
    table("price_history", 2, [4_500, 4_588, 4_588], [[88, 0, 0], [0, 0, 0]]),
    table("products", 1, [1_500; 3], [[0, 0, 88], [0, 0, 2]]),
    table("reviews", 1, [5_000, 4_997, 4_997], [[0, 3, 0], [0, 0, 1]]),
    table("search_log", 0, [6_000, 5_999, 6_002], [[1, 2, 0], [3, 0, 0]]),
    table("shipping_methods", 1, [5; 3], NONE),
    table("stock", 2, [6_000; 3], [[0, 0, 57], [0, 0, 0]]),
    table("warehouses", 1, [4; 3], NONE),
];
