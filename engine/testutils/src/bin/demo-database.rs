//! One of the demo's databases: a private server with the made-up content in it, steered by lines.
//!
//! `demo-database postgresql` or `demo-database mongodb`; `demo-database seaweedfs` is an object store, and prints
//! `storage URL` and `key ID SECRET`. Of a database it prints `reader URL` (a user that may
//! only read) and `owner URL`, then does what each line of its standard input names (`tuesday`,
//! `wednesday`) and prints `done`. At the end of its input it ends the server and removes its folder.

use std::io::{BufRead, Write, stdin, stdout};

use engine_testutils::demo::{self, Day};
use engine_testutils::mongodb::{Scope, Server};
use engine_testutils::postgres::Cluster;
use engine_testutils::store::{ACCESS_KEY_ID, SECRET_ACCESS_KEY, seaweedfs};
use tokio::runtime::Runtime;

const SHOP: &str = "shop";
const HUTS: &str = "cairn";
const READER: &str = "dbsnap_reader";

fn main() {
    let runtime = Runtime::new().expect("because the demo needs one");
    match std::env::args().nth(1).as_deref() {
        Some("postgresql") => postgresql(&runtime),
        Some("mongodb") => mongodb(&runtime),
        Some("seaweedfs") => seaweedfs(),
        other => panic!("no such database system: {other:?}"),
    }
}

fn postgresql(runtime: &Runtime) {
    let cluster = Cluster::start();
    runtime.block_on(async {
        cluster.create_database(SHOP).await;
        let client = cluster.connect(SHOP).await;
        demo::seed(&client).await.expect("because the seed suits an empty database");
        let reader = cluster.create_read_only_role(SHOP, READER).await;
        say(&format!("reader {reader}\nowner {}", cluster.superuser_url(SHOP)));
    });
    for day in days() {
        runtime.block_on(async {
            let client = cluster.connect(SHOP).await;
            demo::change(&client, day).await.expect("because the days come in order");
        });
        say("done");
    }
}

fn mongodb(runtime: &Runtime) {
    let server = Server::start(Default::default());
    runtime.block_on(async {
        let database = server.client().await.database(HUTS);
        demo::mongodb::seed(&database).await.expect("because the seed suits an empty database");
        let reader = server.create_read_only_user(Scope::Database(HUTS), READER).await;
        say(&format!("reader {reader}\nowner {}", server.admin_url()));
    });
    for day in days() {
        runtime.block_on(async {
            let database = server.client().await.database(HUTS);
            demo::mongodb::change(&database, day).await.expect("because the days come in order");
        });
        say("done");
    }
}

fn seaweedfs() {
    let server = seaweedfs::Server::start();
    say(&format!("storage {}\nkey {ACCESS_KEY_ID} {SECRET_ACCESS_KEY}", server.url("demo")));
    stdin().lock().lines().map_while(Result::ok).for_each(drop);
}

/// The days as they are asked for.
fn days() -> impl Iterator<Item = Day> {
    stdin().lock().lines().map_while(Result::ok).map(|line| match line.as_str() {
        "tuesday" => Day::Tuesday,
        "wednesday" => Day::Wednesday,
        other => panic!("no such step: {other:?}"),
    })
}

/// Flushed, since whoever reads it waits.
fn say(line: &str) {
    let mut stdout = stdout().lock();
    // When nobody reads any more the input ends, too.
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}
