//! A small shop in MongoDB, and what happens to it between two snapshots.

use bson::{RawDocumentBuf, doc, rawbson, rawdoc};
use engine_testutils::mongodb::{Scope, Server as Mongo};

const CUSTOMERS: i32 = 600;

fn order(id: i32, status: &str) -> RawDocumentBuf {
    rawdoc! {
        "_id": id, "status": status, "qty": 3_i32, "tags": ["gift", "express"],
        "lines": [{ "id": "kettle", "n": 1_i32 }, { "id": "umbrella", "n": 2_i32 }],
    }
}

/// A small shop: the name of its database, and the URL of a user who may only read it.
pub async fn shop(mongo: &Mongo) -> (String, String) {
    let name = mongo.fresh_database("shop");
    let customer = |n: i32| rawdoc! { "_id": n, "name": format!("customer {n}"), "city": "Oslo" };
    let customers: Vec<_> = (1..=CUSTOMERS).map(customer).collect();
    let orders: Vec<_> = (1..=50).map(|n| order(n, "pending")).collect();
    mongo.insert_raw(&format!("{name}.customers"), &customers).await;
    mongo.insert_raw(&format!("{name}.orders"), &orders).await;
    let url = mongo.create_read_only_user(Scope::Database(&name), &format!("{name}_reader")).await;
    (name, url)
}

/// One order each: another type, another order of fields, other values, gone, new.
pub async fn change(mongo: &Mongo, name: &str) {
    let orders = mongo.client().await.database(name).collection::<RawDocumentBuf>("orders");
    for id in 7..=10 {
        orders.delete_one(doc! { "_id": id }).await.expect("because it is there");
    }
    let lines = rawbson!([{ "id": "kettle", "n": 1_i32 }, { "id": "umbrella", "n": 2_i32 }]);
    let tags = || rawbson!(["gift", "express"]);
    let retyped =
        rawdoc! { "_id": 7, "status": "pending", "qty": 3_i64, "tags": tags(), "lines": lines.clone() };
    let reordered = rawdoc! { "_id": 8, "qty": 3_i32, "status": "pending", "tags": tags(), "lines": lines };
    let paid = rawdoc! {
        "_id": 9, "status": "paid", "qty": 3_i32, "tags": ["express"],
        "lines": [{ "id": "umbrella", "n": 2_i32 }, { "id": "kettle", "n": 1_i32 }],
        "paid_at": bson::DateTime::from_millis(1_773_494_991_000),
    };
    mongo.insert_raw(&format!("{name}.orders"), &[retyped, reordered, paid, order(51, "new")]).await;
}
