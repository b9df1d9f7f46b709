//! Policies and user mappings name roles too, and a target may lack some of them.

use engine::target::PreflightCheck;
use engine::target::postgres::{Target, preflight};
use engine_testutils::postgres::Cluster;

use crate::copier::{archive, copy, source, url};

const SETUP: &str = r#"
CREATE TABLE t (id int PRIMARY KEY, owner text); INSERT INTO t VALUES (1, 'clerk'), (2, 'clerk'), (3, 'x');
ALTER TABLE t ENABLE ROW LEVEL SECURITY; GRANT SELECT ON t TO clerk;
CREATE POLICY shared ON t FOR SELECT TO reporting, clerk USING (owner <> 'TO reporting');
COMMENT ON POLICY shared ON t IS 'kept';
CREATE POLICY lost ON t TO reporting;
CREATE POLICY tight ON t AS RESTRICTIVE TO clerk, reporting USING (owner = current_user);
CREATE POLICY whole ON t TO clerk;
CREATE EXTENSION postgres_fdw; CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw;
CREATE USER MAPPING FOR reporting SERVER far OPTIONS (password 'a;b');
CREATE USER MAPPING FOR clerk SERVER far; CREATE USER MAPPING FOR PUBLIC SERVER far;
CREATE FUNCTION run_as() RETURNS int LANGUAGE sql SET role TO 'reporting' AS 'SELECT 1'"#;

const POLICIES: &str =
    "SELECT policyname, permissive, roles::text, cmd, qual, with_check FROM pg_policies ORDER BY 1";
const MAPPINGS: &str = "SELECT usename FROM pg_user_mappings ORDER BY 1";

async fn roles_check(cluster: &Cluster, database: &str, archive: &[u8]) -> PreflightCheck {
    let known = source(cluster, &["postgres_fdw"]);
    let checks = preflight(&url(cluster, database), &known, archive)
        .await
        .expect("because the target can be looked at");
    checks.into_iter().find(|check| check.check == "roles").expect("because roles are always looked at")
}

#[tokio::test]
async fn a_policy_is_made_for_the_roles_that_are_there() {
    let cluster = Cluster::start();
    cluster.execute("postgres", "CREATE ROLE reporting; CREATE ROLE clerk").await;
    let from = cluster.fresh_database("guarded").await;
    cluster.execute(&from, SETUP).await;
    let archive = archive(&cluster, &from);
    let told = roles_check(&cluster, "same roles", &archive).await;
    assert!(told.ok && !told.warns, "{told:?}");

    let elsewhere = Cluster::start();
    elsewhere.execute("postgres", "CREATE ROLE clerk").await;
    let told = roles_check(&elsewhere, "fewer roles", &archive).await;
    let expected = "The target has no role reporting: \
        2 policies are made for their other roles only (shared on public.t, tight on public.t), \
        1 policy for it, and for no role that is there, is left out (lost on public.t), \
        1 user mapping of it is left out (server far), \
        1 routine that runs as it will fail (public.run_as()).";
    assert!(told.ok && told.warns, "{told:?}");
    assert_eq!(told.detail, expected);

    let target = Target::create(&url(&elsewhere, "fewer roles"), &source(&elsewhere, &[])).await.unwrap();
    let notes = copy(&cluster, &from, &target).await.unwrap();
    let failed: Vec<&str> = notes.iter().filter(|note| note.failed).map(|note| note.text.as_str()).collect();
    assert_eq!(failed, [expected], "told once: {notes:?}");
    let policies = elsewhere.query_text("fewer roles", POLICIES).await;
    let mut wanted = cluster.query_text(&from, POLICIES).await;
    wanted.retain(|policy| policy[0].as_deref() != Some("lost"));
    for policy in &mut wanted {
        policy[2] = Some("{clerk}".to_owned());
    }
    assert_eq!(policies, wanted);
    let comment = "SELECT obj_description(oid, 'pg_policy') FROM pg_policy WHERE polname = 'shared'";
    assert_eq!(elsewhere.query_one("fewer roles", comment).await, "kept");
    // Who is there sees what it saw: neither nothing, nor what a lost restriction hid.
    for (cluster, database) in [(&cluster, from.as_str()), (&elsewhere, "fewer roles")] {
        let session = cluster.connect(database).await;
        session.batch_execute("SET ROLE clerk").await.unwrap();
        let row =
            session.query_one("SELECT string_agg(id::text, ',' ORDER BY id) FROM t", &[]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), "1,2", "{database}");
    }
    let users = elsewhere.query_text("fewer roles", MAPPINGS).await;
    assert_eq!(users, [[Some("clerk".to_owned())], [Some("public".to_owned())]]);
}
