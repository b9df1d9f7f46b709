//! What is in the way is said before anything is written; what is not is worked around and told.

use engine::source::postgres::PostgresUrl;
use engine::target::PreflightCheck;
use engine::target::postgres::{Target, preflight};
use engine_testutils::postgres::Cluster;
use repo_format::manifest::Source;

use crate::copier::{archive, contents, copy, source, url};

async fn checks(url: &PostgresUrl, source: &Source, archive: &[u8]) -> Vec<PreflightCheck> {
    preflight(url, source, archive).await.expect("because the target can be looked at")
}

/// The names of the checks that are in the way.
fn in_the_way(checks: &[PreflightCheck]) -> Vec<&str> {
    checks.iter().filter(|check| !check.ok).map(|check| check.check.as_str()).collect()
}

fn detail<'a>(checks: &'a [PreflightCheck], name: &str) -> &'a str {
    checks.iter().find(|check| check.check == name).map_or("", |check| check.detail.as_str())
}

#[tokio::test]
async fn a_new_database_passes_and_nothing_is_written() {
    let cluster = Cluster::shared();
    let from = cluster.fresh_database("plain").await;
    cluster.execute(&from, "CREATE TABLE t (id int PRIMARY KEY)").await;
    let archive = archive(cluster, &from);
    let found = checks(&url(cluster, "will be"), &source(cluster, &["plpgsql"]), &archive).await;
    assert_eq!(in_the_way(&found), [""; 0], "{found:?}");
    assert!(detail(&found, "target database").contains("will be created"));
    assert!(detail(&found, "pg_restore").contains("reads the schema archive"));
    let made = "SELECT count(*) FROM pg_database WHERE datname = 'will be'";
    assert_eq!(cluster.query_one("postgres", made).await, "0");
}

#[tokio::test]
async fn everything_in_the_way_is_listed_at_once() {
    let cluster = Cluster::shared();
    let occupied = cluster.fresh_database("full").await;
    cluster.execute(&occupied, "CREATE TABLE invoices (id int PRIMARY KEY)").await;
    let reader = cluster.create_read_only_role(&occupied, "preflight_reader").await;
    let newer = Source {
        version: "99.1".into(),
        encoding: "SQL_ASCII".into(),
        ..source(cluster, &["plpgsql", "no_such_extension"])
    };
    let found = checks(&PostgresUrl::parse(&reader).unwrap(), &newer, b"PGDMP of no version").await;
    let expected =
        ["server version", "target database", "right to create", "extensions", "encoding", "pg_restore"];
    assert_eq!(in_the_way(&found), expected, "{found:?}");
    assert!(detail(&found, "target database").contains("table public.invoices"));
    assert!(
        detail(&found, "extensions").contains("no_such_extension")
            && !detail(&found, "extensions").contains("plpgsql")
    );
}

#[tokio::test]
async fn an_archive_of_a_newer_tool_is_refused_before_the_target_is_touched() {
    let cluster = Cluster::shared();
    let from = cluster.fresh_database("newer").await;
    let mut archive = archive(cluster, &from);
    assert_eq!(&archive[..5], b"PGDMP");
    archive[6] = 99; // The minor version of the archive's own format.
    let found = checks(&url(cluster, "newer one"), &source(cluster, &[]), &archive).await;
    assert_eq!(in_the_way(&found), ["pg_restore"]);
    assert!(detail(&found, "pg_restore").contains("unsupported version (1.99)"), "{found:?}");
    let target = Target::create(&url(cluster, "newer one"), &source(cluster, &[])).await.unwrap();
    assert_eq!(target.pre_data(&archive).await.unwrap_err().kind(), engine::Kind::Unsupported);
    target.abandon().await.unwrap();
}

#[tokio::test]
async fn missing_roles_are_told_and_do_not_stop_the_restore() {
    // A cluster of its own: roles belong to all databases.
    let cluster = Cluster::start();
    let from = cluster.fresh_database("owned").await;
    let setup = "CREATE ROLE \"shop owner\"; CREATE ROLE reporting; CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1);
                 ALTER TABLE t OWNER TO \"shop owner\"; GRANT SELECT ON t TO reporting";
    cluster.execute(&from, setup).await;
    let archive = archive(&cluster, &from);
    let into = url(&cluster, "with roles");
    let found = checks(&into, &source(&cluster, &[]), &archive).await;
    assert!(detail(&found, "roles").contains("every owner"), "{found:?}");
    let target = Target::create(&into, &source(&cluster, &[])).await.unwrap();
    assert_eq!(copy(&cluster, &from, &target).await.unwrap(), []);
    let owner = "SELECT relowner::regrole::text FROM pg_class WHERE relname = 't'";
    assert_eq!(cluster.query_one("with roles", owner).await, "\"shop owner\"");

    // The same archive on a server that knows neither role.
    let elsewhere = Cluster::start();
    let into = url(&elsewhere, "no roles");
    let found = checks(&into, &source(&elsewhere, &[]), &archive).await;
    assert_eq!(in_the_way(&found), [""; 0]);
    assert!(
        detail(&found, "roles").contains("shop owner") && detail(&found, "roles").contains("reporting"),
        "{found:?}"
    );
    let target = Target::create(&into, &source(&elsewhere, &[])).await.unwrap();
    let notes = target.pre_data(&archive).await.unwrap();
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes.iter().all(|note| !note.failed));
    assert_eq!(contents(&elsewhere, "no roles").await, [("public.t".to_owned(), vec![])]);
}

#[tokio::test]
async fn a_plain_owner_restores_without_superuser_rights() {
    let cluster = Cluster::start();
    let from = cluster.fresh_database("any").await;
    cluster.execute(&from, "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    cluster.execute("postgres", "CREATE ROLE maker LOGIN CREATEDB PASSWORD 'p%/?'").await;
    let into = PostgresUrl::parse(&cluster.url("maker", "p%/?", "mine")).unwrap();
    let target = Target::create(&into, &source(&cluster, &[])).await.unwrap();
    let notes = copy(&cluster, &from, &target).await.unwrap();
    let texts: Vec<&str> = notes.iter().map(|note| note.text.as_str()).collect();
    assert_eq!(
        texts,
        ["maker may not act for the role dbsnap_test: 1 object of it belongs to maker instead."]
    );
    assert_eq!(cluster.query_one("mine", "SELECT count(*) FROM t").await, "1");
    target.finish().await.unwrap();
}

#[tokio::test]
async fn extensions_that_take_a_superuser_are_named_before_anything_is_written() {
    let cluster = Cluster::start();
    let from = cluster.fresh_database("extended").await;
    let archive = archive(&cluster, &from);
    cluster.execute("postgres", "CREATE ROLE maker LOGIN CREATEDB PASSWORD 'p'").await;
    let into = PostgresUrl::parse(&cluster.url("maker", "p", "mine")).unwrap();
    let with = |names: &[&str]| source(&cluster, names);
    // A trusted extension is its owner's to create in a database, another one a superuser's.
    let found = checks(&into, &with(&["plpgsql", "hstore"]), &archive).await;
    assert_eq!(in_the_way(&found), [""; 0], "{found:?}");
    let found = checks(&into, &with(&["plpgsql", "hstore", "file_fdw"]), &archive).await;
    assert_eq!(in_the_way(&found), ["extensions"], "{found:?}");
    let told = detail(&found, "extensions");
    assert!(
        told.contains("may not create file_fdw,") && told.contains("CREATE EXTENSION \"file_fdw\";"),
        "{told}"
    );
    // It is not in the way of a superuser, and neither where a superuser has made it.
    let found = checks(&url(&cluster, "mine"), &with(&["file_fdw"]), &archive).await;
    assert_eq!(in_the_way(&found), [""; 0], "{found:?}");
    cluster.execute("postgres", "CREATE DATABASE mine OWNER maker").await;
    cluster.execute("mine", "ALTER SCHEMA public OWNER TO maker; CREATE EXTENSION file_fdw").await;
    let found = checks(&into, &with(&["file_fdw"]), &archive).await;
    assert_eq!(in_the_way(&found), [""; 0], "{found:?}");
}

#[tokio::test]
async fn the_right_to_foreign_servers_is_asked_for_and_an_extensions_comment_is_not_missed() {
    let cluster = Cluster::start();
    let from = cluster.fresh_database("servers").await;
    let setup = "CREATE EXTENSION postgres_fdw; COMMENT ON EXTENSION postgres_fdw IS 'ours';
                 CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw;
                 CREATE FOREIGN TABLE lines (line text) SERVER far;
                 CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)";
    cluster.execute(&from, setup).await;
    let archive = archive(&cluster, &from);
    cluster.execute("postgres", "CREATE ROLE maker LOGIN PASSWORD 'p'").await;
    cluster.execute("postgres", "CREATE DATABASE mine OWNER maker").await;
    cluster.execute("mine", "ALTER SCHEMA public OWNER TO maker; CREATE EXTENSION postgres_fdw").await;
    let into = PostgresUrl::parse(&cluster.url("maker", "p", "mine")).unwrap();
    let known = source(&cluster, &["postgres_fdw"]);
    let found = checks(&into, &known, &archive).await;
    assert_eq!(in_the_way(&found), [""; 0], "{found:?}");
    let grant = "GRANT USAGE ON FOREIGN DATA WRAPPER \"postgres_fdw\" TO \"maker\";";
    assert!(detail(&found, "foreign servers").contains(grant), "{found:?}");
    // As a superuser nothing is missing.
    let found = checks(&url(&cluster, "mine"), &known, &archive).await;
    assert!(detail(&found, "foreign servers").contains("may create them"), "{found:?}");

    cluster.execute("mine", grant).await;
    let found = checks(&into, &known, &archive).await;
    assert!(detail(&found, "foreign servers").contains("maker may create them"), "{found:?}");
    let target = Target::create(&into, &known).await.unwrap();
    let notes = copy(&cluster, &from, &target).await.unwrap();
    assert!(notes.iter().all(|note| !note.failed), "{notes:?}");
    assert!(
        notes
            .iter()
            .any(|note| note.text.contains("the comment on the extension postgres_fdw is the one it had")),
        "{notes:?}"
    );
    let kind = "SELECT relkind::text FROM pg_class WHERE relname = 'lines'";
    assert_eq!(cluster.query_one("mine", kind).await, "f");
}
