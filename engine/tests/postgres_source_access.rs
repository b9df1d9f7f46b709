//! What a role may read, what it must not be able to do, and how a failed connection is explained.

#![allow(clippy::unwrap_used, reason = "a test ends at its first surprise")]

#[path = "postgres_source/support.rs"]
mod support;

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use engine::error::Kind;
use engine::source::postgres::{
    Options, PostgresUrl, ReadOnlySetup, Snapshot, read_only_setup_sql, refuse_writers, test,
};
use engine::source::{ConnectionReport, Stage};
use engine_testutils::postgres::Cluster;
use support::{Database, archive, collection, names, rows, scan};

fn last(report: &ConnectionReport) -> (Stage, bool, String) {
    let stage = report.stages.last().unwrap();
    assert!(stage.ok || stage.fix.is_some(), "nothing says what to do: {stage:?}");
    (stage.stage, stage.ok, stage.detail.clone())
}

fn stage(report: &ConnectionReport, which: Stage) -> &engine::source::StageReport {
    report
        .stages
        .iter()
        .find(|stage| stage.stage == which)
        .unwrap_or_else(|| panic!("no {which:?} in {report:#?}"))
}

#[tokio::test]
async fn a_good_role_passes_every_stage() {
    let database =
        Database::with("CREATE TABLE t (id serial PRIMARY KEY); CREATE VIEW v AS SELECT * FROM t").await;
    let report = test(&database.url).await;
    assert!(report.ok, "{report:#?}");
    let stages: Vec<_> = report.stages.iter().map(|stage| stage.stage).collect();
    let all = [
        Stage::Resolve,
        Stage::Connect,
        Stage::Tls,
        Stage::Authenticate,
        Stage::List,
        Stage::Read,
        Stage::ReadOnly,
    ];
    assert_eq!(stages, all);
    assert_eq!((report.collections, report.engine.as_str()), (1, "postgresql"));
    assert_eq!(report.server_version, Cluster::shared().version());
    assert!(report.size_bytes > 1_000_000 && report.privileges.is_empty());
}

#[tokio::test]
async fn a_connection_that_is_not_encrypted_says_so() {
    let database = Database::with("CREATE TABLE t (id int PRIMARY KEY)").await;
    let url = database.url.expose();
    for mode in ["prefer", "disable"] {
        let url = url.replace("sslmode=prefer", &format!("sslmode={mode}"));
        let report = test(&PostgresUrl::parse(&url).unwrap()).await;
        let tls = stage(&report, Stage::Tls);
        assert!(report.ok && tls.ok, "{report:#?}");
        assert!(
            tls.detail.starts_with("not encrypted: ") && tls.detail.contains("sslmode=require"),
            "{tls:?}"
        );
    }
    // The same where the login fails after it.
    let wrong = format!("postgres://nobody:x@127.0.0.1:{}/{}", database.url.port(), database.name);
    let report = test(&PostgresUrl::parse(&wrong).unwrap()).await;
    assert!(stage(&report, Stage::Tls).detail.starts_with("not encrypted: "), "{report:#?}");
}

#[tokio::test]
async fn a_partition_that_may_not_be_read_is_named_with_its_grant() {
    let database = Database::with(
        "CREATE TABLE p (id int) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (9)",
    )
    .await;
    let role = &database.role;
    database.execute(&format!("REVOKE pg_read_all_data FROM {role}; GRANT SELECT ON p TO {role}")).await;
    let grant = format!("GRANT SELECT ON TABLE \"public\".\"p1\" TO \"{role}\";");
    let report = test(&database.url).await;
    let read = stage(&report, Stage::Read);
    assert!(report.ok && !read.ok && read.detail.starts_with("public.p1: "), "{report:#?}");
    assert!(read.fix.as_deref().unwrap().lines().any(|line| line == grant), "{read:?}");
    // And in a snapshot, which lacks its definition.
    let snapshot = database.snapshot().await;
    let excluded = archive(&snapshot).await.excluded;
    assert!(excluded[0].name == "public.p1" && excluded[0].reason.ends_with(&grant), "{excluded:?}");
    database.execute(&grant).await;
    let report = test(&database.url).await;
    assert!(stage(&report, Stage::Read).ok, "{report:#?}");
}

#[tokio::test]
async fn an_owner_is_told_to_use_another_role() {
    let cluster = Cluster::start();
    let roles = "CREATE ROLE shop LOGIN PASSWORD 'p'; CREATE ROLE app LOGIN PASSWORD 'p' IN ROLE shop";
    cluster.execute("postgres", roles).await;
    cluster.execute("postgres", "CREATE DATABASE d OWNER shop").await;
    for (role, told) in [("shop", "shop owns the database"), ("app", "REVOKE \"shop\" FROM \"app\";")] {
        let report = test(&PostgresUrl::parse(&cluster.url(role, "p", "d")).unwrap()).await;
        let fix = stage(&report, Stage::ReadOnly).fix.clone().unwrap();
        assert!(fix.contains(told) && !fix.contains("REVOKE \"pg_database_owner\""), "{fix}");
    }
}

#[tokio::test]
async fn each_failed_stage_says_what_to_do() {
    let database = Database::with("SELECT 1").await;
    let port = database.url.port();
    let cases = [
        (
            format!("postgres://{}:wrong@127.0.0.1:{port}/{}", database.role, database.name),
            Stage::Authenticate,
            "password",
        ),
        (format!("postgres://nobody:x@127.0.0.1:{port}/{}", database.name), Stage::Authenticate, "nobody"),
        (database.url.with_database("no such").expose().to_string(), Stage::Authenticate, "no such"),
        (
            format!("postgres://{}@127.0.0.1:{port}/{}", database.role, database.name),
            Stage::Authenticate,
            "password",
        ),
        ("postgres://me:x@127.0.0.1:1/db".to_owned(), Stage::Connect, "port 1"),
        ("postgres://me:x@no-such-host.invalid/db".to_owned(), Stage::Resolve, "no-such-host.invalid"),
        (format!("{}?sslmode=require", Cluster::shared().superuser_url("postgres")), Stage::Tls, "TLS"),
    ];
    for (url, expected, word) in cases {
        let report = test(&PostgresUrl::parse(&url).unwrap()).await;
        let (stage, ok, detail) = last(&report);
        assert_eq!((stage, ok, report.ok), (expected, false, false), "{url}: {report:#?}");
        assert!(detail.contains(word) && !detail.contains("wrong"), "{url}: {detail}");
    }
}

#[tokio::test]
async fn a_silent_server_does_not_hold_up_the_test() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url =
        format!("postgres://me:x@127.0.0.1:{}/db?connect_timeout=1", listener.local_addr().unwrap().port());
    let started = Instant::now();
    let report = test(&PostgresUrl::parse(&url).unwrap()).await;
    assert!(!report.ok && started.elapsed() < Duration::from_secs(5), "{report:#?}");
    assert!(last(&report).2.contains("said nothing"), "{report:#?}");
}

#[tokio::test]
async fn a_server_that_demands_tls_is_explained() {
    let cluster = Cluster::start();
    let (hba, port) = (cluster.query_one("postgres", "SHOW hba_file").await, cluster.port());
    let rules = format!(
        "hostssl all remote all scram-sha-256\nhost all {} all scram-sha-256\n",
        engine_testutils::postgres::SUPERUSER
    );
    std::fs::write(hba, rules).unwrap();
    cluster.execute("postgres", "CREATE ROLE remote LOGIN PASSWORD 'x'; SELECT pg_reload_conf()").await;
    let url = PostgresUrl::parse(&format!("postgres://remote:x@127.0.0.1:{port}/postgres?sslmode=disable"))
        .unwrap();
    for _ in 0..50 {
        let report = test(&url).await;
        let stage = report.stages.last().unwrap().clone();
        if stage.detail.contains("encryption") {
            assert_eq!(stage.stage, Stage::Authenticate);
            assert!(stage.fix.unwrap().contains("sslmode=require"));
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the rules were not read");
}

/// A server with a certificate that nobody signed: enough for `require`, not for `verify-full`.
#[tokio::test]
async fn tls_is_used_as_far_as_the_url_asks() {
    let cluster = Cluster::start();
    let folder = std::path::PathBuf::from(cluster.query_one("postgres", "SHOW data_directory").await);
    let (key, certificate) = (folder.join("server.key"), folder.join("server.crt"));
    let made = std::process::Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "1",
            "-subj",
            "/CN=localhost",
            "-keyout",
        ])
        .args([key.as_os_str(), "-out".as_ref(), certificate.as_os_str()])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let owner = std::fs::metadata(&folder).unwrap();
    for file in [&key, &certificate] {
        std::os::unix::fs::chown(file, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    cluster.execute("postgres", "ALTER SYSTEM SET ssl = on").await;
    cluster
        .execute(
            "postgres",
            "SELECT pg_reload_conf(); CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)",
        )
        .await;
    let reader = cluster.create_read_only_role("postgres", "tls_reader").await;
    let with = |mode: &str| PostgresUrl::parse(&format!("{reader}?sslmode={mode}")).unwrap();
    while cluster.query_one("postgres", "SHOW ssl").await == "off" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for mode in ["require", "prefer"] {
        let report = test(&with(mode)).await;
        assert!(report.ok, "{mode}: {report:#?}");
        let told = &stage(&report, Stage::Tls).detail;
        assert!(told.starts_with("encrypted; the certificate is not checked"), "{mode}: {told}");
    }
    for mode in ["verify-ca", "verify-full"] {
        let report = test(&with(mode)).await;
        let (stage, ok, detail) = last(&report);
        assert_eq!((stage, ok), (Stage::Tls, false), "{mode}: {report:#?}");
        assert!(detail.contains("certificate") || detail.contains("authorities"), "{detail}");
    }
    let cancel = tokio_util::sync::CancellationToken::new();
    let snapshot = Snapshot::begin(&with("require"), &Options::default(), &cancel).await.unwrap();
    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'tls_reader' AND ssl";
    assert_eq!(rows(&snapshot, "t").await.len(), 1);
    assert_eq!(cluster.query_one("postgres", encrypted).await, "2");
    assert!(!archive(&snapshot).await.bytes.is_empty());

    // Cancelling goes over TLS too.
    cluster
        .execute("postgres", "CREATE TABLE big AS SELECT repeat('x', 1000) FROM generate_series(1, 50000)")
        .await;
    let snapshot = Snapshot::begin(&with("require"), &Options::default(), &cancel).await.unwrap();
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let (layout, stop) = (&collection(&snapshot, "big").layout, tokio_util::sync::CancellationToken::new());
    let key = support::row_key();
    let halt = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        stop.cancel();
    };
    let (stats, ()) = tokio::join!(snapshot.scan(layout, "public", "big", &key, sender, &stop), halt);
    assert_eq!(stats.unwrap_err().kind(), Kind::Cancelled);
    drop(receiver);
    let copying = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'tls_reader' AND query LIKE 'COPY%'";
    for _ in 0..200 {
        if cluster.query_one("postgres", copying).await == "0" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the query still runs");
}

/// PG-P08, P09, P10, P11, P12: every way to write is named.
#[tokio::test]
async fn p08_every_privilege_that_writes_is_named() {
    let database = Database::with(
        "CREATE TABLE t (id serial PRIMARY KEY, a text); CREATE SCHEMA s; CREATE TABLE s.owned (id int);
         CREATE FUNCTION w() RETURNS void LANGUAGE sql SECURITY DEFINER AS 'INSERT INTO public.t DEFAULT VALUES'",
    )
    .await;
    let role = &database.role;
    let (name, writer, dormant) = (&database.name, format!("{role}_writer"), format!("{role}_dormant"));
    database
        .execute(&format!(
            "CREATE ROLE {writer} NOLOGIN; GRANT DELETE ON t TO {writer};
             CREATE ROLE {dormant} NOLOGIN; GRANT TRUNCATE ON t TO {dormant}"
        ))
        .await;
    let cases = [
        (format!("ALTER ROLE {role} CREATEDB"), format!("ALTER ROLE {role} NOCREATEDB"), "CREATEDB"),
        (format!("ALTER ROLE {role} CREATEROLE"), format!("ALTER ROLE {role} NOCREATEROLE"), "CREATEROLE"),
        (format!("ALTER ROLE {role} REPLICATION"), format!("ALTER ROLE {role} NOREPLICATION"), "REPLICATION"),
        (format!("ALTER ROLE {role} SUPERUSER"), format!("ALTER ROLE {role} NOSUPERUSER"), "SUPERUSER"),
        (
            format!("GRANT pg_write_all_data TO {role}"),
            format!("REVOKE pg_write_all_data FROM {role}"),
            "pg_write_all_data",
        ),
        (
            format!("GRANT INSERT ON t TO {role}"),
            format!("REVOKE INSERT ON t FROM {role}"),
            "table public.t: INSERT",
        ),
        (
            format!("GRANT UPDATE (a) ON t TO {role}"),
            format!("REVOKE UPDATE (a) ON t FROM {role}"),
            "columns of public.t: UPDATE",
        ),
        (
            format!("GRANT USAGE ON SEQUENCE t_id_seq TO {role}"),
            format!("REVOKE USAGE ON SEQUENCE t_id_seq FROM {role}"),
            "sequence public.t_id_seq: USAGE",
        ),
        (
            format!("GRANT CREATE ON SCHEMA s TO {role}"),
            format!("REVOKE CREATE ON SCHEMA s FROM {role}"),
            "schema s: CREATE",
        ),
        (
            format!("GRANT CREATE ON DATABASE {name} TO {role}"),
            format!("REVOKE CREATE ON DATABASE {name} FROM {role}"),
            "CREATE",
        ),
        (
            format!("ALTER TABLE s.owned OWNER TO {role}"),
            "ALTER TABLE s.owned OWNER TO dbsnap_test".to_owned(),
            "s.owned",
        ),
        (
            format!("GRANT {writer} TO {role}"),
            format!("REVOKE {writer} FROM {role}"),
            "table public.t: DELETE",
        ),
        (
            format!(
                "ALTER ROLE {role} NOINHERIT; GRANT {dormant} TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA public, s TO {role}"
            ),
            format!("REVOKE {dormant} FROM {role}; ALTER ROLE {role} INHERIT"),
            "TRUNCATE (through SET ROLE",
        ),
    ];
    for (grant, revoke, word) in cases {
        database.execute(&grant).await;
        let report = test(&database.url).await;
        assert!(!report.ok && !stage(&report, Stage::ReadOnly).ok, "{grant}: {report:#?}");
        assert!(
            report.privileges.iter().any(|privilege| privilege.contains(word)),
            "{grant}: {:?}",
            report.privileges
        );
        database.execute(&revoke).await;
    }
    // P11: what only looks like protection.
    database
        .execute(&format!(
            "ALTER ROLE {role} SET default_transaction_read_only = on; GRANT INSERT ON t TO {role}"
        ))
        .await;
    assert!(!test(&database.url).await.ok);
    database.execute(&format!("REVOKE INSERT ON t FROM {role}")).await;
    let report = test(&database.url).await;
    assert!(report.ok, "{report:#?}");
    assert!(
        report.notes.iter().any(|note| note.contains("w()") && note.contains("owner's privileges")),
        "{:?}",
        report.notes
    );
}

/// Whoever owns something may replace it, drop it or write to it.
#[tokio::test]
async fn p08_ownership_of_anything_is_named_with_what_gives_it_away() {
    let database = Database::with(
        "CREATE FUNCTION f(a int) RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE TYPE mood AS ENUM ('ok');
         CREATE TYPE pair AS (a int); CREATE DOMAIN age AS int; CREATE SCHEMA s; CREATE TABLE t (id serial, a int);
         CREATE STATISTICS st ON id, a FROM t; SELECT lo_create(700001), lo_create(700002), lo_create(700003)",
    )
    .await;
    let role = &database.role;
    let mine = [
        ("FUNCTION", "public.f(integer)", "function public.f(integer): OWNER"),
        ("TYPE", "public.mood", "type public.mood: OWNER"),
        ("TYPE", "public.pair", "type public.pair: OWNER"),
        ("TYPE", "public.age", "type public.age: OWNER"),
        ("SCHEMA", "s", "schema s: CREATE, OWNER"),
        ("TABLE", "public.t", "table public.t: DELETE, INSERT, OWNER"),
        ("STATISTICS", "public.st", "statistics object public.st: OWNER"),
        ("LARGE OBJECT", "700001", "large object 700001: OWNER"),
    ];
    for (kind, name, _) in mine {
        database.execute(&format!("ALTER {kind} {name} OWNER TO {role}")).await;
    }
    database
        .execute(&format!(
            "GRANT UPDATE ON LARGE OBJECT 700002 TO PUBLIC; GRANT UPDATE ON LARGE OBJECT 700003 TO {role}"
        ))
        .await;
    let report = test(&database.url).await;
    assert!(!report.ok, "{report:#?}");
    let fix = stage(&report, Stage::ReadOnly).fix.clone().unwrap();
    let owner = database
        .one("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()")
        .await;
    for (kind, name, privilege) in mine {
        assert!(
            report.privileges.iter().any(|found| found.starts_with(privilege)),
            "{privilege}: {report:#?}"
        );
        let statement = format!("ALTER {kind} {name} OWNER TO \"{owner}\";");
        assert!(fix.lines().any(|line| line == statement), "{statement}: {fix}");
    }
    for granted in ["large object 700002: UPDATE", "large object 700003: UPDATE"] {
        assert!(report.privileges.iter().any(|found| found == granted), "{report:#?}");
    }
    // The statements take away all that was found.
    let statements: Vec<&str> = fix.lines().filter(|line| line.ends_with(';')).collect();
    assert!(statements.contains(&"REVOKE UPDATE ON LARGE OBJECT 700002 FROM PUBLIC;"), "{fix}");
    database.execute(&statements.join("\n")).await;
    let report = test(&database.url).await;
    assert!(report.ok, "{report:#?}");
}

/// PG-P09: what a role may become counts, also in schemas that it may not look into itself.
#[tokio::test]
async fn p09_what_a_role_that_inherits_nothing_can_become_is_named() {
    let database = Database::with("CREATE SCHEMA app; CREATE TABLE app.t (id serial)").await;
    let role = &database.role;
    let owner = format!("{role}_owner");
    database
        .execute(&format!(
            "CREATE ROLE {owner} NOLOGIN; ALTER SCHEMA app OWNER TO {owner}; ALTER TABLE app.t OWNER TO {owner};
             ALTER ROLE {role} NOINHERIT; GRANT {owner} TO {role}"
        ))
        .await;
    let report = test(&database.url).await;
    for privilege in ["sequence app.t_id_seq: OWNER, ", "table app.t: DELETE, INSERT, OWNER, "] {
        let is_named = |found: &String| {
            found.starts_with(privilege) && found.ends_with(&format!("(through SET ROLE {owner})"))
        };
        assert!(report.privileges.iter().any(is_named), "{report:#?}");
    }
    assert!(!report.ok && !stage(&report, Stage::ReadOnly).ok, "{report:#?}");
    let error = refuse_writers(&database.url).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotReadOnly, "{error:?}");
    // One statement ends that.
    let fix = stage(&report, Stage::ReadOnly).fix.clone().unwrap();
    let statements: Vec<&str> = fix.lines().filter(|line| line.ends_with(';')).collect();
    assert_eq!(statements, [format!("REVOKE \"{owner}\" FROM \"{role}\";")]);
    database.execute(statements[0]).await;
    assert!(test(&database.url).await.privileges.is_empty());
}

/// Every class of objects that the server notes owners of: what writes is named with a statement that runs.
#[tokio::test]
async fn p08_whatever_can_be_owned_is_given_away_by_statements_that_run() {
    let database = Database::with("CREATE TABLE t (id int PRIMARY KEY)").await;
    let role = &database.role;
    let client = Cluster::shared().connect(&database.name).await;
    // These are about the role, which can write nothing by them.
    let about_it = format!(
        "CREATE FOREIGN DATA WRAPPER of_another; CREATE SERVER of_another FOREIGN DATA WRAPPER of_another;
         CREATE USER MAPPING FOR {role} SERVER of_another OPTIONS (password 'x');
         ALTER DEFAULT PRIVILEGES FOR ROLE {role} GRANT SELECT ON TABLES TO PUBLIC"
    );
    client.batch_execute(&about_it).await.unwrap();
    let report = test(&database.url).await;
    assert!(report.ok, "{report:#?}");

    let become_it = format!("ALTER ROLE {role} SUPERUSER; SET SESSION AUTHORIZATION {role}");
    client.batch_execute(&become_it).await.unwrap();
    client
        .batch_execute(
            "CREATE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int);
             CREATE AGGREGATE counted(*) (SFUNC = int8inc, STYPE = bigint, INITCOND = '0');
             CREATE PROCEDURE p(IN a int, OUT b int) LANGUAGE plpgsql AS 'BEGIN b := a; END';
             CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq);
             CREATE OPERATOR FAMILY fam USING btree;
             CREATE OPERATOR CLASS cls FOR TYPE int USING btree FAMILY fam AS
                OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 btint4cmp(int, int);
             CREATE COLLATION coll (LOCALE = 'C'); CREATE CONVERSION conv FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
             CREATE LANGUAGE lang HANDLER plpgsql_call_handler; CREATE TYPE span AS RANGE (SUBTYPE = int);
             CREATE FOREIGN DATA WRAPPER wrapper; CREATE SERVER srv FOREIGN DATA WRAPPER wrapper; CREATE EXTENSION tcn;
             CREATE FUNCTION notice() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
             CREATE EVENT TRIGGER et ON ddl_command_end EXECUTE FUNCTION notice(); CREATE PUBLICATION pub FOR ALL TABLES;
             CREATE TEXT SEARCH DICTIONARY dict (TEMPLATE = simple); CREATE TEXT SEARCH CONFIGURATION conf (COPY = simple);
             CREATE VIEW v AS SELECT 1 AS a; CREATE MATERIALIZED VIEW m AS SELECT 1 AS a; CREATE SEQUENCE s;
             CREATE FOREIGN TABLE f (a int) SERVER srv; CREATE TABLE g (id int GENERATED ALWAYS AS IDENTITY);
             CREATE SUBSCRIPTION sub CONNECTION 'host=h' PUBLICATION p WITH (connect = false, slot_name = NONE)",
        )
        .await
        .unwrap();
    let owner = "SELECT rolname FROM pg_roles WHERE oid = 10";
    let owner = Cluster::shared().query_one(&database.name, owner).await;
    client.batch_execute("RESET SESSION AUTHORIZATION").await.unwrap();
    client.batch_execute(&format!("ALTER ROLE {role} NOSUPERUSER")).await.unwrap();

    let report = test(&database.url).await;
    let fix = stage(&report, Stage::ReadOnly).fix.clone().unwrap();
    let statements: Vec<&str> = fix.lines().filter(|line| line.ends_with(';')).collect();
    let owned = report.privileges.iter().filter(|privilege| privilege.contains("OWNER")).count();
    // All but the sequence of a column have a statement of their own.
    assert_eq!(statements.len() + 1, owned, "{:#?}\n{fix}", report.privileges);
    let names = ["AGGREGATE", "USER MAPPING", "DEFAULT ACL"];
    assert!(names.iter().all(|name| !fix.contains(&format!("ALTER {name} "))), "{fix}");
    assert_eq!(statements.last(), Some(&format!("REASSIGN OWNED BY \"{role}\" TO \"{owner}\";").as_str()));
    for statement in statements {
        let done = client.batch_execute(statement).await;
        assert!(done.is_ok(), "{statement}: {done:?}");
    }
    let report = test(&database.url).await;
    assert!(report.ok, "{report:#?}");
}

/// Of many objects only some are named, and the statements give all of them away.
#[tokio::test]
async fn p08_more_than_is_named_is_given_away_too() {
    let database = Database::with("CREATE TABLE t (id int PRIMARY KEY)").await;
    let role = &database.role;
    let client = Cluster::shared().connect(&database.name).await;
    client
        .batch_execute(&format!(
            "DO $$BEGIN FOR n IN 1..60 LOOP EXECUTE format('CREATE SEQUENCE s%s; ALTER SEQUENCE s%s OWNER TO {role}', n, n); END LOOP; END$$;
             ALTER ROLE {role} SUPERUSER; SET SESSION AUTHORIZATION {role};
             CREATE SUBSCRIPTION sub CONNECTION 'host=h' PUBLICATION p WITH (connect = false, slot_name = NONE);
             RESET SESSION AUTHORIZATION; ALTER ROLE {role} NOSUPERUSER"
        ))
        .await
        .unwrap();
    let report = test(&database.url).await;
    assert!(report.privileges.iter().any(|privilege| privilege == "and 11 more"), "{report:#?}");
    let fix = stage(&report, Stage::ReadOnly).fix.clone().unwrap();
    for statement in fix.lines().filter(|line| line.ends_with(';')) {
        let done = client.batch_execute(statement).await;
        assert!(done.is_ok(), "{statement}: {done:?}");
    }
    let report = test(&database.url).await;
    assert!(report.ok, "{report:#?}");
}

/// The server's files and settings are written by privileges on what is no table of the database.
#[tokio::test]
async fn p08_what_writes_to_the_server_is_named_too() {
    let database = Database::with("CREATE TABLE t (id int PRIMARY KEY)").await;
    let role = &database.role;
    assert!(test(&database.url).await.ok);
    database
        .execute(&format!(
            "GRANT EXECUTE ON FUNCTION lo_export(oid, text) TO {role}; GRANT ALTER SYSTEM ON PARAMETER work_mem TO {role};
             GRANT INSERT ON information_schema.sql_features TO {role}"
        ))
        .await;
    let report = test(&database.url).await;
    assert_eq!(
        report.privileges,
        [
            "function lo_export(oid,text): EXECUTE",
            "parameter work_mem: ALTER SYSTEM",
            "table information_schema.sql_features: INSERT"
        ]
    );
    let fix = stage(&report, Stage::ReadOnly).fix.clone().unwrap();
    let statements: Vec<&str> = fix.lines().filter(|line| line.ends_with(';')).collect();
    database.execute(&statements.join("\n")).await;
    let report = test(&database.url).await;
    assert!(report.ok, "{report:#?}");
}

/// What logged in counts, whoever the session begins as.
#[tokio::test]
async fn p08_a_session_that_begins_as_another_role_hides_nothing() {
    let database = Database::with("CREATE TABLE t (id integer PRIMARY KEY)").await;
    let (name, reader) = (&database.name, &database.role);
    let (root, writer) = (format!("{reader}_root"), format!("{reader}_writer"));
    database
        .execute(&format!(
            "CREATE ROLE {root} LOGIN SUPERUSER PASSWORD 'x';
             CREATE ROLE {writer} LOGIN PASSWORD 'x'; GRANT {reader} TO {writer}; GRANT INSERT ON t TO {writer};
             ALTER ROLE {writer} SET role = {reader}"
        ))
        .await;
    let url = |user: &str, options: &str| {
        let url = Cluster::shared().url(user, "x", name);
        let separator = if url.contains('?') { '&' } else { '?' };
        PostgresUrl::parse(&format!("{url}{separator}{options}")).unwrap()
    };
    let named = |privilege: &str, user: &str| format!("{privilege} (as {user}, whose session it is)");
    let cases = [
        (url(&root, &format!("options=-c%20role%3D{reader}")), named("role attribute SUPERUSER", &root)),
        // Servers do not take this setting from a URL today.
        (
            url(&root, &format!("options=-c%20session_authorization%3D{reader}")),
            "role attribute SUPERUSER".to_owned(),
        ),
        (url(&writer, ""), named("table public.t: INSERT", &writer)),
    ];
    for (url, privilege) in cases {
        let report = test(&url).await;
        assert!(!report.ok && !stage(&report, Stage::ReadOnly).ok, "{url:?}: {report:#?}");
        let is_named = report.privileges.iter().any(|found| found.starts_with(&privilege));
        assert!(is_named, "{url:?}: {:?}", report.privileges);
        let error = refuse_writers(&url).await.unwrap_err();
        assert!(
            error.kind() == Kind::NotReadOnly && error.message().contains(&privilege),
            "{url:?}: {error:?}"
        );
    }
    database.execute(&format!("REVOKE INSERT ON t FROM {writer}")).await;
    refuse_writers(&url(&writer, "")).await.unwrap();
}

/// P12: what nearly every role may do is said, not refused.
#[tokio::test]
async fn p12_residual_abilities_are_notes() {
    let database = Database::with("SELECT 1").await;
    database.execute(&format!("GRANT TEMPORARY ON DATABASE {} TO {}", database.name, database.role)).await;
    let report = test(&database.url).await;
    assert!(report.ok && report.notes.iter().any(|note| note.contains("temporary")), "{report:#?}");
}

/// PG-P04, P05: named before anything is read, with the statement that helps, and the rest is read.
#[tokio::test]
async fn p04_what_cannot_be_read_is_named_beforehand() {
    let database = Database::with(
        "CREATE TABLE seen (id serial PRIMARY KEY); INSERT INTO seen DEFAULT VALUES;
         CREATE TABLE \"hid\"\"den\" (id int, b int); CREATE SCHEMA closed; CREATE TABLE closed.t (id int);
         CREATE SEQUENCE counted",
    )
    .await;
    let role = &database.role;
    database
        .execute(&format!(
            "REVOKE pg_read_all_data FROM {role}; GRANT USAGE ON SCHEMA public TO {role}; GRANT SELECT ON seen, closed.t TO {role};
             GRANT SELECT (id) ON \"hid\"\"den\" TO {role}; GRANT USAGE ON SEQUENCE counted TO {role};
             GRANT SELECT ON SEQUENCE seen_id_seq TO {role}"
        ))
        .await;
    let snapshot = database.snapshot().await;
    assert_eq!(names(&snapshot), ["public.seen"]);
    assert_eq!(rows(&snapshot, "seen").await.len(), 1);
    let reason = |name: &str| {
        let found = snapshot.incomplete().iter().find(|missing| missing.name == name);
        found.unwrap_or_else(|| panic!("{name} not in {:?}", snapshot.incomplete())).reason.clone()
    };
    assert!(
        reason("public.\"hid\"\"den\"")
            .contains(&format!("GRANT SELECT ON TABLE \"public\".\"hid\"\"den\" TO \"{role}\";"))
    );
    assert!(reason("closed.t").contains("GRANT USAGE ON SCHEMA \"closed\""));
    assert!(reason("public.counted").contains("GRANT SELECT ON SEQUENCE"));
    assert_eq!(snapshot.incomplete().len(), 3);
    let states = snapshot.sequences().await.unwrap();
    assert_eq!(states.len(), 1);

    let archive = archive(&snapshot).await;
    let excluded: Vec<_> = archive.excluded.iter().map(|missing| missing.name.as_str()).collect();
    assert_eq!(excluded, ["closed.t", "public.\"hid\"\"den\""]);
    let text = String::from_utf8(archive.normalised).unwrap();
    assert!(text.contains("CREATE TABLE public.seen") && !text.contains("hid"));
    snapshot.close().await.unwrap();

    let report = test(&database.url).await;
    let read = stage(&report, Stage::Read);
    assert!(!read.ok && read.detail.contains("closed.t") && !read.detail.contains("GRANT"), "{read:?}");
    // Statements alone on their lines, so that they can be copied, and what does for all.
    let fix = read.fix.as_deref().unwrap();
    assert!(fix.lines().any(|line| line.starts_with("GRANT USAGE ON SCHEMA \"closed\"")), "{fix}");
    assert_eq!(fix.contains("GRANT pg_read_all_data TO"), Cluster::shared().major() >= 14, "{fix}");
    assert!(
        report.privileges.iter().any(|privilege| privilege == "sequence public.counted: USAGE"),
        "{report:#?}"
    );
    assert_eq!(report.collections, 3);
}

/// PG-P02, P03: rows are never hidden silently.
#[tokio::test]
async fn p02_row_security_is_never_a_silent_filter() {
    let database = Database::with(
        "CREATE TABLE open (id int PRIMARY KEY); CREATE TABLE secured (id int PRIMARY KEY, who text);
         INSERT INTO secured VALUES (1, 'x'), (2, 'y'); ALTER TABLE secured ENABLE ROW LEVEL SECURITY;
         CREATE POLICY p ON secured USING (who = 'x')",
    )
    .await;
    let snapshot = database.snapshot().await;
    assert_eq!(names(&snapshot), ["public.open"]);
    assert_eq!(snapshot.incomplete()[0].name, "public.secured");
    assert!(
        snapshot.incomplete()[0].reason.contains(&format!("ALTER ROLE \"{}\" BYPASSRLS;", database.role))
    );
    snapshot.close().await.unwrap();

    database.execute(&format!("ALTER ROLE {} BYPASSRLS", database.role)).await;
    let snapshot = database.snapshot().await;
    assert_eq!(rows(&snapshot, "secured").await.len(), 2);

    // Row security switched on for the role only after the snapshot was taken.
    database.execute(&format!("ALTER ROLE {} NOBYPASSRLS", database.role)).await;
    match scan(&snapshot, collection(&snapshot, "secured")).await {
        Ok((stats, _)) => assert_eq!(stats.records, 2),
        Err(error) => assert_eq!(error.kind(), Kind::Denied, "{error:?}"),
    }
}

/// The suggested statements make a role that passes.
#[tokio::test]
async fn the_suggested_role_passes_the_test() {
    let database = Database::with("CREATE TABLE t (id serial PRIMARY KEY)").await;
    let role = format!("{} \"quoted\"", database.role);
    for (version, suffix) in [(150_000, " new"), (130_000, " old")] {
        let role = format!("{role}{suffix}");
        let setup = ReadOnlySetup {
            role: &role,
            database: &database.name,
            server_version_number: version,
            schemas: &["public"],
            has_row_security: true,
        };
        database.execute(&read_only_setup_sql(&setup)).await;
        let url = Cluster::shared().url(&role, "choose-a-long-password", &database.name);
        let report = test(&PostgresUrl::parse(&url).unwrap()).await;
        assert!(report.ok, "{report:#?}");
    }
}
