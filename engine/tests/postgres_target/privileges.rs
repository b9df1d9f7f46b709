//! Owners and privileges come back for every role that the target has, and only those of the others
//! are left out.

use engine::source::postgres::PostgresUrl;
use engine::target::postgres::{Target, preflight, preflight_plan};
use engine::target::{Note, PreflightCheck};
use engine_testutils::postgres::Cluster;

use crate::copier::{archive, copy, source, url};

/// `reporting` and `auditor` are not in the target.
const ROLES: &str = "CREATE ROLE \"Shop; owner\"; CREATE ROLE clerk; CREATE ROLE \"bo\"\"ss\"";
const MORE_ROLES: &str = "CREATE ROLE reporting; CREATE ROLE auditor";
const SETUP: &str = r#"
CREATE SCHEMA shop AUTHORIZATION "Shop; owner"; CREATE SCHEMA audit AUTHORIZATION auditor;
REVOKE ALL ON SCHEMA public FROM PUBLIC; GRANT USAGE ON SCHEMA public TO reporting, "bo""ss"; GRANT ALL ON SCHEMA public TO "Shop; owner";
CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'); ALTER TABLE t OWNER TO "Shop; owner";
GRANT SELECT ON t TO reporting, clerk; GRANT UPDATE (v) ON t TO clerk, reporting;
GRANT SELECT ON t TO "bo""ss" WITH GRANT OPTION; GRANT SELECT, INSERT ON t TO PUBLIC;
SET ROLE "bo""ss"; GRANT SELECT ON t TO clerk; RESET ROLE;
CREATE TABLE shop.own (id int); ALTER TABLE shop.own OWNER TO "Shop; owner"; REVOKE ALL ON shop.own FROM "Shop; owner"; GRANT SELECT ON shop.own TO "Shop; owner";
INSERT INTO shop.own VALUES (7);
CREATE FUNCTION secret(n int) RETURNS int LANGUAGE sql AS 'SELECT n'; REVOKE ALL ON FUNCTION secret(int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION secret(int) TO reporting, clerk;
CREATE FUNCTION "-- GRANT ALL ON t TO PUBLIC;
GRANT DELETE ON public.t TO PUBLIC;"() RETURNS int LANGUAGE sql AS $$ SELECT 1 /*
-- Name: TABLE t; Type: ACL; Schema: public; Owner: x
GRANT TRUNCATE ON public.t TO PUBLIC; */ $$;
REVOKE ALL ON FUNCTION "-- GRANT ALL ON t TO PUBLIC;
GRANT DELETE ON public.t TO PUBLIC;"() FROM PUBLIC;
CREATE TABLE audit.log (id int); ALTER TABLE audit.log OWNER TO auditor; GRANT INSERT ON audit.log TO clerk;
CREATE MATERIALIZED VIEW late AS SELECT id, v FROM t GROUP BY id; GRANT SELECT ON late TO reporting, clerk;
ALTER DEFAULT PRIVILEGES FOR ROLE "Shop; owner" IN SCHEMA shop GRANT SELECT ON TABLES TO clerk, reporting;
ALTER DEFAULT PRIVILEGES FOR ROLE "Shop; owner" REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE auditor GRANT SELECT ON TABLES TO clerk"#;

/// Every privilege that does not concern the roles that are missing, and every owner that is not.
const GIVEN: &str = "\
WITH given AS ( \
  SELECT c.oid::regclass::text AS object, c.relowner AS owner, a.* FROM pg_class c, aclexplode(coalesce(relacl, acldefault('r', relowner))) a \
    WHERE c.oid >= 16384 AND relkind IN ('r', 'm') AND relnamespace::regnamespace::text IN ('public', 'shop', 'audit') \
  UNION ALL SELECT attrelid::regclass || '.' || attname, relowner, a.* FROM pg_attribute JOIN pg_class c ON c.oid = attrelid, aclexplode(attacl) a WHERE c.oid >= 16384 \
  UNION ALL SELECT p.oid::regprocedure::text, proowner, a.* FROM pg_proc p, aclexplode(coalesce(proacl, acldefault('f', proowner))) a WHERE p.oid >= 16384 \
  UNION ALL SELECT nspname, nspowner, a.* FROM pg_namespace, aclexplode(coalesce(nspacl, acldefault('n', nspowner))) a WHERE nspname IN ('public', 'shop', 'audit') \
  UNION ALL SELECT 'default ' || defaclobjtype::text || defaclnamespace::regnamespace, defaclrole, a.* FROM pg_default_acl, aclexplode(defaclacl) a) \
SELECT object, CASE WHEN owner::regrole::text = ANY (ARRAY['auditor', 'dbsnap_test']) THEN '' ELSE owner::regrole::text END, \
  CASE grantor WHEN owner THEN 'owner' ELSE grantor::regrole::text END, grantee::regrole, privilege_type, is_grantable FROM given \
WHERE grantee::regrole::text NOT IN ('reporting', 'auditor', 'dbsnap_test') AND object <> 'default r-' ORDER BY 1, 2, 3, 4, 5, 6";

async fn roles_check(url: &PostgresUrl, cluster: &Cluster, archive: &[u8]) -> PreflightCheck {
    let checks =
        preflight(url, &source(cluster, &[]), archive).await.expect("because the target can be looked at");
    checks.into_iter().find(|check| check.check == "roles").expect("because roles are looked at")
}

fn texts(notes: &[Note]) -> Vec<&str> {
    notes.iter().map(|note| note.text.as_str()).collect()
}

#[tokio::test]
async fn only_what_names_a_missing_role_is_left_out() {
    let cluster = Cluster::start();
    let from = cluster.fresh_database("given").await;
    cluster.execute("postgres", ROLES).await;
    cluster.execute("postgres", MORE_ROLES).await;
    cluster.execute(&from, SETUP).await;
    // The database's own are not restored: they name it, wherever it is restored to.
    cluster.execute(&from, &format!("REVOKE TEMPORARY ON DATABASE {from} FROM PUBLIC")).await;
    let archive = archive(&cluster, &from);
    cluster.execute(&from, &format!("GRANT TEMPORARY ON DATABASE {from} TO PUBLIC")).await;

    // With all roles everything is as it was, to the last grantor.
    let target = Target::create(&url(&cluster, "all roles"), &source(&cluster, &[])).await.unwrap();
    assert_eq!(copy(&cluster, &from, &target).await.unwrap(), []);
    crate::copier::assert_equal(&cluster, &from, "all roles").await;
    assert_eq!(cluster.query_text("all roles", GIVEN).await, cluster.query_text(&from, GIVEN).await);

    let temporary = format!("SELECT has_database_privilege('public', '{from}', 'TEMPORARY')::text");
    assert_eq!(cluster.query_one("postgres", &temporary).await, "true");

    let elsewhere = Cluster::start();
    elsewhere.execute("postgres", ROLES).await;
    let into = url(&elsewhere, "some roles");
    let told = roles_check(&into, &elsewhere, &archive).await;
    let auditor = "The target has no role auditor: 2 objects of it belong to dbsnap_test instead, \
                   1 default privilege that names it is left out.";
    let reporting = "The target has no role reporting: 5 grants that name it are left out, \
                     1 default privilege that names it is left out.";
    assert!(told.ok && told.warns, "{told:?}");
    assert_eq!(told.detail, format!("{auditor} {reporting}"));

    // Who only looks is not who restores.
    elsewhere.execute("postgres", "CREATE ROLE looker LOGIN PASSWORD 'p'").await;
    let looker = PostgresUrl::parse(&elsewhere.url("looker", "p", "some roles")).unwrap();
    let planned = preflight_plan(&looker, &source(&elsewhere, &[]), &archive).await.unwrap();
    let planned = planned.iter().find(|check| check.check == "roles").unwrap();
    let auditor_planned = auditor.replace("dbsnap_test", "the restoring user");
    assert_eq!(planned.detail, format!("{auditor_planned} {reporting}"));

    let target = Target::create(&into, &source(&elsewhere, &[])).await.unwrap();
    let notes = copy(&cluster, &from, &target).await.unwrap();
    assert!(notes.iter().all(|note| !note.failed), "{notes:?}");
    assert_eq!(texts(&notes), [auditor, reporting]);
    let given = elsewhere.query_text("some roles", GIVEN).await;
    assert_eq!(given, cluster.query_text(&from, GIVEN).await);
    // What this is about: nobody got in who could not before.
    let open = "SELECT has_function_privilege('public', 'secret(int)', 'EXECUTE') OR has_schema_privilege('public', 'public', 'USAGE') \
                OR has_table_privilege('public', 't', 'DELETE') OR has_table_privilege('public', 't', 'TRUNCATE')";
    assert_eq!(elsewhere.query_one("some roles", &format!("SELECT ({open})::text")).await, "false");
}

#[tokio::test]
async fn a_user_who_is_no_superuser_gives_what_it_may() {
    let cluster = Cluster::start();
    let from = cluster.fresh_database("given").await;
    cluster.execute("postgres", ROLES).await;
    cluster.execute("postgres", MORE_ROLES).await;
    cluster.execute(&from, SETUP).await;
    // A member of the owner, and of nobody else.
    let member = "CREATE ROLE maker LOGIN CREATEDB PASSWORD 'p'; GRANT \"Shop; owner\" TO maker";
    cluster.execute("postgres", member).await;
    let into = PostgresUrl::parse(&cluster.url("maker", "p", "mine")).unwrap();
    let told = roles_check(&into, &cluster, &archive(&cluster, &from)).await;
    assert!(told.ok && told.warns, "{told:?}");
    assert!(
        told.detail.contains("maker may not act for the role auditor: 2 objects of it belong to maker"),
        "{told:?}"
    );

    let target = Target::create(&into, &source(&cluster, &[])).await.unwrap();
    let notes = copy(&cluster, &from, &target).await.unwrap();
    assert!(notes.iter().all(|note| !note.failed), "{notes:?}");
    let owners = "SELECT string_agg(oid::regclass || ' ' || relowner::regrole, ', ' ORDER BY oid::regclass::text) \
                  FROM pg_class WHERE oid >= 16384 AND relkind IN ('r', 'm')";
    assert_eq!(
        cluster.query_one("mine", owners).await,
        "audit.log maker, late maker, shop.own \"Shop; owner\", t \"Shop; owner\""
    );
    let may = "SELECT concat_ws(' ', has_table_privilege('reporting', 't', 'SELECT'), has_function_privilege('public', 'secret(int)', 'EXECUTE'), \
               has_function_privilege('clerk', 'secret(int)', 'EXECUTE'), has_schema_privilege('public', 'public', 'USAGE'))";
    assert_eq!(cluster.query_one("mine", may).await, "t f t f");
}

#[tokio::test]
async fn nothing_is_given_to_a_role_whose_rights_the_user_lacks() {
    let cluster = Cluster::start();
    let from = cluster.fresh_database("given").await;
    let setup = "CREATE ROLE far; CREATE SCHEMA s AUTHORIZATION far; CREATE TABLE s.t (id int PRIMARY KEY); INSERT INTO s.t VALUES (1)";
    cluster.execute(&from, setup).await;
    let member = "CREATE ROLE maker LOGIN CREATEDB NOINHERIT PASSWORD 'p'; GRANT far TO maker";
    cluster.execute("postgres", member).await;
    let into = PostgresUrl::parse(&cluster.url("maker", "p", "mine")).unwrap();
    let target = Target::create(&into, &source(&cluster, &[])).await.unwrap();
    let notes = copy(&cluster, &from, &target).await.unwrap();
    assert_eq!(
        texts(&notes),
        ["Everything belongs to maker: it could give objects to roles whose rights it does not have."]
    );
    assert_eq!(
        cluster
            .query_one("mine", "SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 's'")
            .await,
        "maker"
    );
    assert_eq!(cluster.query_one("mine", "SELECT count(*) FROM s.t").await, "1");
}
