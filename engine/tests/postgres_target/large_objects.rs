//! Large objects keep their owner, their grants and their comment, as far as the target has the roles.

use engine::source::postgres::PostgresUrl;
use engine::target::postgres::Target;
use engine_testutils::postgres::Cluster;

use crate::copier::{copy, source, url};

const SETUP: &str = "\
CREATE ROLE \"Lo owner\"; CREATE ROLE reading;
SELECT lo_create(800001), lo_create(800002), lo_create(800003), lo_from_bytea(800004, 'bytes');
ALTER LARGE OBJECT 800001 OWNER TO \"Lo owner\"; GRANT SELECT ON LARGE OBJECT 800001 TO reading WITH GRANT OPTION;
GRANT UPDATE ON LARGE OBJECT 800001 TO PUBLIC;
ALTER LARGE OBJECT 800002 OWNER TO \"Lo owner\"; REVOKE UPDATE ON LARGE OBJECT 800002 FROM \"Lo owner\";
GRANT SELECT, UPDATE ON LARGE OBJECT 800003 TO reading; COMMENT ON LARGE OBJECT 800003 IS 'it''s a scan';
SELECT lo_create(n) FROM generate_series(900001, 901200) n";

const DESCRIBED: &str = "SELECT oid, pg_get_userbyid(lomowner), obj_description(oid, 'pg_largeobject'), \
    (SELECT string_agg(a::text, ',' ORDER BY a::text) FROM aclexplode(lomacl) a) \
    FROM pg_largeobject_metadata ORDER BY oid";

#[tokio::test]
async fn owners_grants_and_comments_come_back() {
    let cluster = Cluster::start();
    let from = cluster.fresh_database("objects").await;
    cluster.execute(&from, SETUP).await;
    let target = Target::create(&url(&cluster, "described"), &source(&cluster, &[])).await.unwrap();
    assert_eq!(copy(&cluster, &from, &target).await.unwrap(), []);
    assert_eq!(cluster.query_text(&from, DESCRIBED).await, cluster.query_text("described", DESCRIBED).await);
}

#[tokio::test]
async fn what_cannot_be_given_is_said() {
    let cluster = Cluster::start();
    let from = cluster.fresh_database("objects").await;
    cluster.execute(&from, SETUP).await;
    let elsewhere = Cluster::start();
    elsewhere
        .execute("postgres", "CREATE ROLE maker LOGIN CREATEDB PASSWORD 'p'; CREATE ROLE \"Lo owner\"")
        .await;
    let into = PostgresUrl::parse(&elsewhere.url("maker", "p", "described")).unwrap();
    let target = Target::create(&into, &source(&elsewhere, &[])).await.unwrap();
    let notes = copy(&cluster, &from, &target).await.unwrap();
    let texts: Vec<&str> = notes.iter().map(|note| note.text.as_str()).collect();
    assert!(notes.iter().all(|note| !note.failed), "{notes:?}");
    for told in [
        "2 large objects belong to maker: maker may not give objects to Lo owner.",
        "2 large objects lack their grants to reading: the target has no such role.",
    ] {
        assert!(texts.contains(&told), "{told} in {texts:?}");
    }
    let comment = "SELECT obj_description(800003, 'pg_largeobject') || length(lo_get(800004))";
    assert_eq!(elsewhere.query_one("described", comment).await, "it's a scan5");
    let public = "SELECT count(*) FROM pg_largeobject_metadata, aclexplode(lomacl) a WHERE oid = 800001 AND a.grantee = 0";
    assert_eq!(elsewhere.query_one("described", public).await, "1");
}
