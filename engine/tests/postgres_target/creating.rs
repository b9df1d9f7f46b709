//! The database is made, taken when empty, refused when not, and dropped only when it was made.

use engine::Kind;
use engine::target::postgres::{Contents, Target, inspect};
use engine_testutils::postgres::Cluster;
use repo_format::manifest::Source;

use crate::copier::{source, url};

async fn exists(cluster: &Cluster, name: &str) -> bool {
    let sql = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
    cluster.query_one("postgres", &sql).await == "1"
}

#[tokio::test]
async fn a_new_database_is_like_the_source_and_goes_when_the_restore_is_given_up() {
    let cluster = Cluster::shared();
    let latin = Source { encoding: "LATIN1".into(), collation: "C".into(), ..source(cluster, &[]) };
    let target = Target::create(&url(cluster, "made_for_it"), &latin).await.unwrap();
    assert_eq!(target.notes(), []);
    assert_eq!(cluster.query_one("made_for_it", "SHOW server_encoding").await, "LATIN1");
    // Somebody looks at it meanwhile.
    let _watcher = cluster.connect("made_for_it").await;
    let said = target.abandon().await.unwrap();
    assert!(said.contains("made_for_it") && said.contains("was dropped"), "{said}");
    assert!(!exists(cluster, "made_for_it").await);
}

#[tokio::test]
async fn an_unknown_collation_becomes_c_and_says_so() {
    let cluster = Cluster::shared();
    let foreign = Source { collation: "xx_YY.UTF-8".into(), ..source(cluster, &[]) };
    let target = Target::create(&url(cluster, "foreign"), &foreign).await.unwrap();
    assert_eq!(target.notes().len(), 1);
    assert!(target.notes()[0].text.contains("xx_YY.UTF-8"));
    let collation = "SELECT datcollate FROM pg_database WHERE datname = 'foreign'";
    assert_eq!(cluster.query_one("postgres", collation).await, "C");
}

#[tokio::test]
async fn a_database_that_was_there_is_never_dropped() {
    let cluster = Cluster::shared();
    let there = cluster.fresh_database("there").await;
    let target = Target::create(&url(cluster, &there), &source(cluster, &[])).await.unwrap();
    assert!(!target.is_new());
    let said = target.abandon().await.unwrap();
    assert!(said.contains("is kept"), "{said}");
    assert!(exists(cluster, &there).await);
}

#[tokio::test]
async fn anything_a_user_made_is_in_the_way() {
    let cluster = Cluster::shared();
    for (made, named) in [
        ("CREATE TABLE t (a int)", "table public.t"),
        ("CREATE SCHEMA other", "schema other"),
        ("CREATE SEQUENCE s", "sequence public.s"),
        ("CREATE FUNCTION \"F\"() RETURNS int LANGUAGE sql AS 'SELECT 1'", "function public.\"F\""),
        ("CREATE TYPE e AS ENUM ('a')", "type public.e"),
        ("CREATE VIEW v AS SELECT 1 AS one", "view public.v"),
        ("SELECT lo_create(77)", "large object 77"),
    ] {
        let database = cluster.fresh_database("occupied").await;
        cluster.execute(&database, made).await;
        let error = Target::create(&url(cluster, &database), &source(cluster, &[])).await.err().unwrap();
        assert_eq!(error.kind(), Kind::Conflict, "{made}");
        assert!(error.message().contains(named), "{made}: {}", error.message());
        assert!(exists(cluster, &database).await);
    }
    let database = cluster.fresh_database("many").await;
    cluster
        .execute(
            &database,
            "DO $$ BEGIN FOR n IN 1..30 LOOP EXECUTE 'CREATE TABLE t' || n || ' ()'; END LOOP; END $$",
        )
        .await;
    let error = Target::create(&url(cluster, &database), &source(cluster, &[])).await.err().unwrap();
    assert!(error.message().ends_with("and 20 more"), "{}", error.message());
}

#[tokio::test]
async fn looking_needs_no_rights_and_works_on_a_database_that_is_not_there() {
    let cluster = Cluster::shared();
    let database = cluster.fresh_database("looked_at").await;
    let reader = cluster.create_read_only_role(&database, "looker").await;
    let reader = engine::source::postgres::PostgresUrl::parse(&reader).unwrap();
    let state = inspect(&reader).await.unwrap();
    assert_eq!((&state.contents, state.user.as_str()), (&Contents::Empty, "looker"));
    assert!(
        !state.can_create_database && !state.can_create_objects && !state.is_superuser && !state.is_standby
    );
    assert_eq!(state.encoding.as_deref(), Some("UTF8"));
    assert!(state.roles.contains("looker") && state.extensions.contains_key("plpgsql"));

    let absent = inspect(&reader.with_database("not there")).await.unwrap();
    assert_eq!((absent.contents, absent.encoding), (Contents::Absent, None));
    let error =
        Target::create(&reader.with_database("not there"), &source(cluster, &[])).await.err().unwrap();
    assert_eq!(error.kind(), Kind::Denied);
    assert!(!exists(cluster, "not there").await);

    let superuser = inspect(&url(cluster, &database)).await.unwrap();
    assert!(superuser.can_create_database && superuser.can_create_objects && superuser.is_superuser);
}

#[tokio::test]
async fn templates_are_no_targets_and_the_servers_own_database_is_warned_of() {
    // A cluster of its own: nothing may have been made in its databases.
    let cluster = Cluster::start();
    cluster.execute("postgres", "CREATE DATABASE pattern IS_TEMPLATE true").await;
    for template in ["template0", "template1", "pattern"] {
        let url = url(&cluster, template);
        for error in [
            inspect(&url).await.unwrap_err(),
            Target::create(&url, &source(&cluster, &[])).await.err().unwrap(),
        ] {
            assert_eq!(error.kind(), Kind::Invalid, "{template}: {error}");
            assert!(error.message().contains("nothing is restored into a template"), "{template}: {error}");
        }
    }
    let archive = crate::copier::archive(&cluster, "postgres");
    for (name, warns) in [("postgres", true), ("new", false)] {
        let checks =
            engine::target::postgres::preflight(&url(&cluster, name), &source(&cluster, &[]), &archive).await;
        let found = checks.unwrap().into_iter().find(|check| check.check == "target database").unwrap();
        assert_eq!((found.ok, found.warns), (true, warns), "{found:?}");
    }
}
