//! Settings that an operator gives a database or a role are neither a change of its schema nor in the way.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod support;

use engine::diff::{self, Status, Summary};
use engine::repo::Snapshot;
use engine::restore::{self, Restored, Scope};
use support::{TestRepo, database};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Definitions whose text depends on settings that `pg_dump` leaves as they are.
const WORDED: &str = r"
    CREATE TABLE worded (id int PRIMARY KEY, raw bytea DEFAULT '\x01ff', note text DEFAULT 'back\slash',
        at timestamptz DEFAULT '2020-01-02 03:04:05+00', CHECK (raw <> '\x00'));
    CREATE VIEW seen AS SELECT id, '\xff'::bytea AS mark, 'a\b'::text AS path, '1 day 2 hours'::interval AS pause,
        0.30000000000000004::float8 AS fraction, '2020-02-01'::date AS day FROM worded;
    CREATE FUNCTION shown(a text DEFAULT 'x\y') RETURNS text LANGUAGE sql AS 'SELECT a';
    INSERT INTO worded VALUES (1)";

/// All that PostgreSQL 15 lets an operator set and a definition's text could depend on.
const SETTINGS: &[&str] = &[
    "bytea_output = 'escape'",
    "quote_all_identifiers = on",
    "standard_conforming_strings = off",
    "IntervalStyle = 'iso_8601'",
    "extra_float_digits = -3",
    "DateStyle = 'German, DMY'",
    "TimeZone = 'Asia/Tokyo'",
    "client_encoding = 'LATIN1'",
    "search_path = public",
];

async fn set(cluster: &engine_testutils::postgres::Cluster, what: &str) {
    for setting in SETTINGS {
        cluster.execute("postgres", &format!("ALTER {what} SET {setting}")).await;
    }
}

async fn compared(test: &TestRepo, from: &Snapshot, to: &Snapshot) -> Summary {
    diff::summary(&test.repo, from, to, &test.ctx).await.unwrap()
}

async fn restored(test: &TestRepo, snapshot: &Snapshot, target: &str) -> Restored {
    let plan = restore::plan(&test.repo, snapshot, &Scope::All, target, &test.ctx).await.unwrap();
    assert!(plan.is_clear(), "{:?}", plan.preflight);
    let phrase = &plan.confirm_phrase;
    restore::apply(&test.repo, snapshot, &Scope::All, &plan, phrase, target, &test.ctx).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_a_database_do_not_change_its_schema() {
    let (cluster, name, url) = database(WORDED).await;
    let test = TestRepo::new().await;
    let before = test.backup(&url).await;
    set(cluster, &format!("DATABASE \"{name}\"")).await;
    let after = test.backup(&url).await;
    let summary = compared(&test, &before, &after).await;
    assert_eq!(summary.other_objects, Some(Vec::new()));
    assert!(summary.collections.iter().all(|found| found.status == Status::Unchanged), "{summary:?}");
    let archives = [&before, &after].map(|snapshot| snapshot.manifest.schema.clone().unwrap());
    assert_eq!(archives[0], archives[1], "the archive of an unchanged schema is kept once");
    let done = restored(&test, &after, &cluster.superuser_url(&format!("{name}_restored"))).await;
    assert!(done.proof.matches, "{:#?}", done.proof);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_one_of_two_roles_do_not_make_a_proof_fail() {
    let (cluster, name, url) = database(WORDED).await;
    let test = TestRepo::new().await;
    set(cluster, &format!("ROLE \"{name}_reader\"")).await;
    let snapshot = test.backup(&url).await;
    assert!(!snapshot.manifest.schema.as_ref().unwrap().tool.contains("with"));
    let done = restored(&test, &snapshot, &cluster.superuser_url(&format!("{name}_restored"))).await;
    assert!(done.proof.matches, "{:#?}", done.proof);
    assert_eq!(done.proof.remarks, Vec::<String>::new());
}

/// What cannot be set through a pooler is told as what it is.
#[tokio::test(flavor = "multi_thread")]
async fn through_a_pooler_a_comparison_says_why_definitions_are_worded_differently() {
    let (cluster, name, url) = database(WORDED).await;
    let test = TestRepo::new().await;
    let through = pooled(&url, cluster.port()).await;
    let before = test.backup(&through).await;
    let settings = "bytea_output = 'escape'";
    cluster.execute("postgres", &format!("ALTER DATABASE \"{name}\" SET {settings}")).await;
    let after = test.backup(&through).await;
    let tool = &before.manifest.schema.as_ref().unwrap().tool;
    let summary = compared(&test, &before, &after).await;
    let told = format!(
        "written by {tool} and {tool} with bytea_output=escape: a definition may only be worded differently"
    );
    let others = summary.other_objects.unwrap();
    assert!(others.contains(&told), "{others:?}");
    assert!(others.contains(&"view seen in schema public changed".to_owned()), "{others:?}");
    assert!(summary.collections.iter().all(|found| found.status == Status::Unchanged));

    let done = restored(&test, &after, &cluster.superuser_url(&format!("{name}_restored"))).await;
    assert!(done.proof.matches, "{:#?}", done.proof);
    let told = "definitions were compared by name only";
    assert!(done.proof.remarks.iter().any(|remark| remark.starts_with(told)), "{:?}", done.proof.remarks);
}

/// Somebody's safety catch is neither stumbled over half-way nor taken off without being asked to.
#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_are_read_only_by_default_are_told_before_anything_is_written() {
    let (cluster, name, url) =
        database("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    let test = TestRepo::new().await;
    let snapshot = test.backup(&url).await;
    let target = format!("{name}_restored");
    let setup = format!(
        "CREATE ROLE {name}_maker LOGIN CREATEDB PASSWORD 'p'; CREATE ROLE {name}_looker LOGIN PASSWORD 'p';
         ALTER ROLE {name}_maker SET default_transaction_read_only = on;
         ALTER ROLE {name}_looker SET default_transaction_read_only = on"
    );
    cluster.execute("postgres", &setup).await;
    let planned = async |url: &str| {
        let plan = restore::plan(&test.repo, &snapshot, &Scope::All, url, &test.ctx).await.unwrap();
        let check = plan.preflight.iter().find(|check| check.check == "right to write").cloned().unwrap();
        (plan, check)
    };
    let maker = cluster.url(&format!("{name}_maker"), "p", &target);
    let (plan, told) = planned(&maker).await;
    assert!(!plan.is_clear() && !told.ok, "{told:?}");
    let mend = format!("ALTER ROLE \"{name}_maker\" RESET default_transaction_read_only;");
    assert!(told.detail.contains("(set by: user)") && told.detail.contains(&mend), "{told:?}");

    // Who only looks has it for good reason, and another one writes.
    let (plan, told) = planned(&cluster.url(&format!("{name}_looker"), "p", &target)).await;
    assert!(plan.is_clear() && told.ok && !told.warns, "{told:?}");

    // What the plan did not see is seen before anything is written.
    let refused =
        restore::apply(&test.repo, &snapshot, &Scope::All, &plan, &plan.confirm_phrase, &maker, &test.ctx);
    let refused = refused.await.unwrap_err();
    assert!(refused.message().contains("default_transaction_read_only"), "{refused:?}");
    let made = format!("SELECT count(*) FROM pg_database WHERE datname = '{target}'");
    assert_eq!(cluster.query_one("postgres", &made).await, "0");

    // As it says: for this restore alone.
    let once = format!("{maker}?options=-c%20default_transaction_read_only%3Doff");
    let (plan, told) = planned(&once).await;
    assert!(told.ok && plan.is_clear(), "{told:?}");
    let done =
        restore::apply(&test.repo, &snapshot, &Scope::All, &plan, &plan.confirm_phrase, &once, &test.ctx);
    assert!(done.await.unwrap().proof.matches);

    // An empty database that has it, seen by who may write there and by who may not.
    let held = format!("{name}_held");
    cluster.execute("postgres", &format!("CREATE DATABASE {held}")).await;
    let set = format!("ALTER DATABASE {held} SET default_transaction_read_only = on");
    cluster.execute("postgres", &set).await;
    let (_, told) = planned(&cluster.superuser_url(&held)).await;
    let mend = format!("ALTER DATABASE \"{held}\" RESET default_transaction_read_only;");
    assert!(!told.ok && told.detail.contains(&mend), "{told:?}");
    let looker = cluster.url(&format!("{name}_looker"), "p", &held);
    cluster.execute("postgres", &format!("ALTER ROLE {name}_looker RESET ALL")).await;
    let (_, told) = planned(&looker).await;
    assert!(told.ok && told.warns && told.detail.contains("(set by: database)"), "{told:?}");
}

/// The URL of something that stands before the server and, as PgBouncer does, takes no options.
async fn pooled(url: &str, server: u16) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(pool(client, server));
        }
    });
    let pooled = url.replace(&format!(":{server}/"), &format!(":{port}/"));
    assert_ne!(pooled, url);
    pooled
}

const SSL_REQUEST: u32 = 80_877_103;

async fn pool(mut client: TcpStream, server: u16) -> std::io::Result<()> {
    let (len, start) = loop {
        let len = client.read_u32().await?;
        let mut start = vec![0; len as usize - 4];
        client.read_exact(&mut start).await?;
        if start != SSL_REQUEST.to_be_bytes() {
            break (len, start);
        }
        client.write_all(b"N").await?;
    };
    if start.windows(9).any(|window| window == b"\0options\0") {
        let fields = b"SFATAL\0VFATAL\0C08P01\0Munsupported startup parameter: options\0\0";
        client.write_u8(b'E').await?;
        client.write_u32(fields.len() as u32 + 4).await?;
        return client.write_all(fields).await;
    }
    let mut server = TcpStream::connect(("127.0.0.1", server)).await?;
    server.write_u32(len).await?;
    server.write_all(&start).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop)
}
