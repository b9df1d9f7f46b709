//! The demo's database: a private PostgreSQL with the shop in it, steered by lines.
//!
//! It prints `reader URL` (a read-only role) and `owner URL`, then does what each line of its
//! standard input names (`tuesday`, `wednesday`) and prints `done`. At the end of its input it ends
//! the server and removes its folder.

use std::io::{BufRead, Write, stdin, stdout};

use engine_testutils::demo::{self, Day};
use engine_testutils::postgres::Cluster;

const DATABASE: &str = "shop";
const READER: &str = "dbsnap_reader";

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("because the demo needs one");
    let cluster = Cluster::start();
    runtime.block_on(async {
        cluster.create_database(DATABASE).await;
        let client = cluster.connect(DATABASE).await;
        demo::seed(&client).await.expect("because the seed suits an empty database");
        let reader = cluster.create_read_only_role(DATABASE, READER).await;
        say(&format!("reader {reader}\nowner {}", cluster.superuser_url(DATABASE)));
    });
    for line in stdin().lock().lines().map_while(Result::ok) {
        let day = match line.as_str() {
            "tuesday" => Day::Tuesday,
            "wednesday" => Day::Wednesday,
            other => panic!("no such step: {other:?}"),
        };
        runtime.block_on(async {
            let client = cluster.connect(DATABASE).await;
            demo::change(&client, day).await.expect("because the days come in order");
        });
        say("done");
    }
}

/// Flushed, since whoever reads it waits.
fn say(line: &str) {
    let mut stdout = stdout().lock();
    // When nobody reads any more the input ends, too.
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}
