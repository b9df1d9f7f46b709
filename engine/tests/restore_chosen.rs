//! Restoring chosen tables of a snapshot: they, what they need, and nothing else.

mod support;

use engine::history;
use engine::repo::Snapshot;
use engine::restore::{self, Plan, Restored, Scope};
use engine::rows::PageRequest;
use engine::{Kind, Result};
use engine_testutils::postgres::Cluster;
use support::{TestRepo, database};

/// Everything that a table can need or have, and a table apart that must not come along.
const SHOP: &str = r#"
    CREATE SCHEMA shop; CREATE SCHEMA "Unused"; CREATE EXTENSION pg_trgm SCHEMA shop; CREATE EXTENSION hstore;
    CREATE TYPE shop.mood AS ENUM ('sad', 'ok'); CREATE TYPE shop.unused AS (a int);
    CREATE FUNCTION shop.called(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT n';
    CREATE FUNCTION shop.twice(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2 * shop.called(n)';
    CREATE FUNCTION shop.mark() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.note := ''marked''; RETURN NEW; END';
    CREATE SEQUENCE shop.alone;
    CREATE TABLE shop.customers (id serial PRIMARY KEY, name text, feeling shop.mood, tags hstore);
    CREATE INDEX by_name ON shop.customers USING gin (name shop.gin_trgm_ops);
    CREATE TABLE shop."or ders" (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer int REFERENCES shop.customers,
        twofold int GENERATED ALWAYS AS (shop.twice(customer)) STORED, note text, own int DEFAULT nextval('shop.alone'),
        other int DEFAULT nextval('shop.customers_id_seq'), CHECK (shop.twice(customer) > 0));
    CREATE TRIGGER mark BEFORE INSERT ON shop."or ders" FOR EACH ROW EXECUTE FUNCTION shop.mark();
    CREATE POLICY known ON shop."or ders" USING (EXISTS (SELECT FROM shop.customers c WHERE c.id = customer));
    CREATE POLICY all_of_it ON shop."or ders" FOR SELECT USING (true);
    COMMENT ON TABLE shop."or ders" IS 'bought'; COMMENT ON COLUMN shop."or ders".note IS 'told'; COMMENT ON SCHEMA shop IS 'ours';
    CREATE TABLE shop.parts (id int, region text, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
    CREATE TABLE shop.parts_eu PARTITION OF shop.parts FOR VALUES IN ('eu') PARTITION BY RANGE (id);
    CREATE TABLE shop.parts_eu_1 PARTITION OF shop.parts_eu FOR VALUES FROM (0) TO (1000);
    CREATE TABLE shop.parts_rest PARTITION OF shop.parts DEFAULT; CREATE INDEX ON shop.parts (id);
    CREATE VIEW shop.names AS SELECT name FROM shop.customers; CREATE MATERIALIZED VIEW shop.counts AS SELECT count(*) FROM shop.parts;
    CREATE TABLE "Unused".heir () INHERITS (shop.customers);
    INSERT INTO shop.customers (name, feeling, tags) SELECT 'n' || n, 'ok', 'a=>1' FROM generate_series(1, 50) n;
    INSERT INTO shop."or ders" (customer) SELECT n FROM generate_series(1, 40) n;
    INSERT INTO shop.parts SELECT n, CASE WHEN n % 2 = 0 THEN 'eu' ELSE 'us' END FROM generate_series(1, 200) n;
    GRANT SELECT ON shop."or ders" TO PUBLIC; ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC
"#;

const ORDERS: &str = "shop.\"or ders\"";

fn scope(names: &[&str]) -> Scope {
    Scope::Collections(names.iter().map(|name| (*name).to_owned()).collect())
}

async fn plan(test: &TestRepo, snapshot: &Snapshot, names: &[&str], url: &str) -> Result<Plan> {
    restore::plan(&test.repo, snapshot, &scope(names), url, &test.ctx).await
}

async fn apply(test: &TestRepo, snapshot: &Snapshot, names: &[&str], plan: &Plan, url: &str) -> Restored {
    assert!(plan.is_clear(), "{:?}", plan.preflight);
    let (scope, phrase) = (scope(names), &plan.confirm_phrase);
    let done = restore::apply(&test.repo, snapshot, &scope, plan, phrase, url, &test.ctx);
    done.await.unwrap_or_else(|error| panic!("{error:?}"))
}

async fn list(cluster: &Cluster, database: &str, sql: &str) -> Vec<String> {
    let rows = cluster.query_text(database, sql).await;
    rows.into_iter().map(|mut row| row.remove(0).unwrap_or_default()).collect()
}

const RELATIONS: &str = "SELECT relkind::text || ' ' || oid::regclass FROM pg_class c WHERE oid >= 16384 \
    AND relkind IN ('r', 'p', 'S', 'v', 'm') AND relnamespace::regnamespace::text NOT LIKE 'pg\\_%' ORDER BY 1";

#[tokio::test(flavor = "multi_thread")]
async fn chosen_tables_come_with_what_they_need_and_nothing_else() {
    let (cluster, name, url) = database(SHOP).await;
    let test = TestRepo::new().await;
    let snapshot = test.backup(&url).await;
    let restored = format!("{name}_restored");
    let target = cluster.superuser_url(&restored);
    let names = [ORDERS, "shop.parts"];
    let plan = plan(&test, &snapshot, &names, &target).await.unwrap();
    let mut listed: Vec<&str> = plan.preview.collections.iter().map(|found| found.name.as_str()).collect();
    listed.sort_unstable();
    assert_eq!(listed, names);
    let told = plan.preflight.iter().find(|check| check.check == "scope").unwrap();
    assert!(told.ok && told.warns, "{told:?}");
    assert_eq!(
        told.detail,
        "2 of 4 tables, and with them what they need: 3 functions, 1 schema. Left out, for tables that were not \
         chosen: foreign key or ders_customer_fkey of shop.\"or ders\" (needs shop.customers), policy known of \
         shop.\"or ders\" (needs shop.customers)"
    );

    let done = apply(&test, &snapshot, &names, &plan, &target).await;
    assert!(done.proof.matches, "{:#?}", done.proof);
    assert_eq!(done.records, 240);
    let mut notes: Vec<&str> = done.notes.iter().map(|note| note.text.as_str()).collect();
    notes.retain(|note| !note.contains("made by functions of its own"));
    assert_eq!(
        notes,
        [
            "foreign key or ders_customer_fkey of shop.\"or ders\" (needs shop.customers) is left out: that table \
             was not chosen",
            "policy known of shop.\"or ders\" (needs shop.customers) is left out: that table was not chosen"
        ]
    );
    assert_eq!(
        list(cluster, &restored, RELATIONS).await,
        [
            "S shop.\"or ders_id_seq\"",
            "S shop.alone",
            "S shop.customers_id_seq",
            "p shop.parts",
            "p shop.parts_eu",
            "r shop.\"or ders\"",
            "r shop.parts_eu_1",
            "r shop.parts_rest",
        ]
    );
    assert_eq!(list(cluster, &restored, "SELECT extname FROM pg_extension").await, ["plpgsql"]);
    for sql in [
        "SELECT o::text FROM shop.\"or ders\" o ORDER BY id",
        "SELECT tableoid::regclass || p::text FROM shop.parts p ORDER BY id",
        "SELECT conname || pg_get_constraintdef(oid) FROM pg_constraint WHERE contype <> 'f' AND conrelid IN ('shop.\"or ders\"'::regclass, 'shop.parts'::regclass, 'shop.parts_eu_1'::regclass) ORDER BY 1",
        "SELECT indexdef FROM pg_indexes WHERE schemaname = 'shop' AND tablename <> 'customers' ORDER BY 1",
        "SELECT tgname::text FROM pg_trigger WHERE NOT tgisinternal",
        "SELECT obj_description('shop.\"or ders\"'::regclass) || col_description('shop.\"or ders\"'::regclass, 4) || obj_description('shop'::regnamespace)",
        "SELECT relacl::text FROM pg_class WHERE oid = 'shop.\"or ders\"'::regclass",
        "SELECT nextval('shop.\"or ders_id_seq\"') || ' ' || nextval('shop.alone') || ' ' || nextval('shop.customers_id_seq')",
        "SELECT pg_get_serial_sequence('shop.\"or ders\"', 'id')",
    ] {
        assert_eq!(list(cluster, &name, sql).await, list(cluster, &restored, sql).await, "{sql}");
    }
    assert_eq!(list(cluster, &restored, "SELECT defaclobjtype::text FROM pg_default_acl").await, [""; 0]);
    let policies = list(cluster, &restored, "SELECT polname::text FROM pg_policy").await;
    assert_eq!(policies, ["all_of_it"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ends_of_a_foreign_key_bring_it_along() {
    let (cluster, name, url) = database(SHOP).await;
    let test = TestRepo::new().await;
    let snapshot = test.backup(&url).await;
    let restored = format!("{name}_restored");
    let target = cluster.superuser_url(&restored);
    let names = [ORDERS, "shop.customers"];
    let plan = plan(&test, &snapshot, &names, &target).await.unwrap();
    let told = plan.preflight.iter().find(|check| check.check == "scope").unwrap();
    assert_eq!(
        (told.warns, told.detail.as_str()),
        (false, "2 of 4 tables, and with them what they need: 2 extensions, 3 functions, 1 schema, 1 type")
    );
    let done = apply(&test, &snapshot, &names, &plan, &target).await;
    assert!(done.proof.matches, "{:#?}", done.proof);
    assert!(
        done.notes.iter().all(|note| !note.failed && !note.text.contains("left out")),
        "{:?}",
        done.notes
    );
    let keys = "SELECT conname::text FROM pg_constraint WHERE contype = 'f'";
    assert_eq!(list(cluster, &restored, keys).await, ["or ders_customer_fkey"]);
    let extensions = "SELECT extname::text FROM pg_extension ORDER BY 1";
    assert_eq!(list(cluster, &restored, extensions).await, ["hstore", "pg_trgm", "plpgsql"]);
}

/// The functions that make a base type what it is are routines like others, and come along with any.
#[tokio::test(flavor = "multi_thread")]
async fn a_base_type_comes_whole_with_any_routine() {
    let (cluster, name, url) = database(
        "CREATE TYPE base;
         CREATE FUNCTION base_in(cstring) RETURNS base LANGUAGE internal IMMUTABLE STRICT AS 'int4in';
         CREATE FUNCTION base_out(base) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'int4out';
         CREATE TYPE base (INPUT = base_in, OUTPUT = base_out, INTERNALLENGTH = 4, PASSEDBYVALUE, ALIGNMENT = int4);
         COMMENT ON TYPE base IS 'a number';
         CREATE FUNCTION one() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
         CREATE TABLE uses_it (id int PRIMARY KEY, v base); INSERT INTO uses_it VALUES (1, '42');
         CREATE TABLE calls (id int PRIMARY KEY, v int DEFAULT one()); INSERT INTO calls VALUES (1);
         CREATE TABLE plain (id int PRIMARY KEY)",
    )
    .await;
    let test = TestRepo::new().await;
    let snapshot = test.backup(&url).await;
    for (table, types) in [("calls", 1), ("uses_it", 1), ("plain", 0)] {
        let restored = format!("{name}_{table}");
        let target = cluster.superuser_url(&restored);
        let names = [&*format!("public.{table}")];
        let plan = plan(&test, &snapshot, &names, &target).await.unwrap();
        let done = apply(&test, &snapshot, &names, &plan, &target).await;
        assert!(done.proof.matches, "{table}: {:#?}", done.proof);
        let whole = "SELECT obj_description(oid) FROM pg_type WHERE typname = 'base' AND typisdefined";
        assert_eq!(list(cluster, &restored, whole).await, vec!["a number"; types], "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_chosen_is_refused_with_what_to_do() {
    let (cluster, name, url) = database(SHOP).await;
    let test = TestRepo::new().await;
    let snapshot = test.backup(&url).await;
    let target = cluster.superuser_url(&format!("{name}_restored"));
    let alone = plan(&test, &snapshot, &["\"Unused\".heir"], &target).await.unwrap_err();
    assert_eq!(alone.kind(), Kind::Invalid);
    assert_eq!(alone.message(), "\"Unused\".heir cannot be made without shop.customers");
    assert!(alone.help().unwrap().contains("Choose shop.customers too"), "{alone:?}");
    assert!(plan(&test, &snapshot, &["\"Unused\".heir", "shop.customers"], &target).await.is_ok());
    let unknown = plan(&test, &snapshot, &["shop.parts_eu"], &target).await.unwrap_err();
    assert_eq!(unknown.kind(), Kind::NotFound, "a partition is a part of its root: {unknown:?}");
    assert_eq!(plan(&test, &snapshot, &[], &target).await.unwrap_err().kind(), Kind::Invalid);
    assert_eq!(
        cluster
            .query_one(
                "postgres",
                &format!("SELECT count(*) FROM pg_database WHERE datname = '{name}_restored'")
            )
            .await,
        "0"
    );
}

fn is_first(record: &history::Record, text: &str) -> bool {
    record.content.row().is_some_and(|row| row[0].1.as_deref() == Some(text))
}

/// Rows that refer to others, some of one key each and some that nothing tells apart.
const LEDGER: &str = "
    CREATE TABLE people (id int PRIMARY KEY, boss int REFERENCES people, name text UNIQUE);
    CREATE TABLE bills (id serial PRIMARY KEY, person int NOT NULL REFERENCES people, note text);
    CREATE INDEX ON bills (person);
    CREATE TABLE marks (what text);
    INSERT INTO people SELECT n, CASE WHEN n > 1 THEN 1 END, 'p' || n FROM generate_series(1, 50) n;
    INSERT INTO bills (person, note) SELECT n, repeat('long', 60000) || n FROM generate_series(1, 50) n;
    INSERT INTO marks SELECT 'm' || n % 3 FROM generate_series(1, 30) n";

#[tokio::test(flavor = "multi_thread")]
async fn single_rows_come_with_their_table_and_without_foreign_keys() {
    let (cluster, name, url) = database(LEDGER).await;
    let test = TestRepo::new().await;
    let snapshot = test.backup(&url).await;
    let ids = |table: &'static str, wanted: &'static [&'static str]| {
        let (repo, snapshot) = (test.repo.clone(), snapshot.clone());
        async move {
            let page = history::records(&repo, &snapshot, table, &PageRequest::default()).await.unwrap();
            let of_it =
                page.items.into_iter().filter(|record| wanted.iter().any(|key| is_first(record, key)));
            let ids: Vec<String> = of_it.map(|record| record.id).collect();
            (table.to_owned(), ids)
        }
    };
    let of_all = [
        ids("public.people", &["7", "9"]).await,
        ids("public.bills", &["9"]).await,
        ids("public.marks", &["m1"]).await,
    ];
    let scope = Scope::Records(of_all.into());
    let target = cluster.superuser_url(&format!("{name}_single"));
    let plan = restore::plan(&test.repo, &snapshot, &scope, &target, &test.ctx).await.unwrap();
    assert!(plan.is_clear(), "{:?}", plan.preflight);
    let told = plan.preflight.iter().find(|check| check.check == "scope").unwrap();
    assert_eq!(
        told.detail,
        "13 records of 3 tables. Left out, since what they need need not \
         come along: foreign key bills_person_fkey of public.bills (needs public.people), foreign key people_boss_fkey of \
         public.people (needs public.people)"
    );
    let done = restore::apply(&test.repo, &snapshot, &scope, &plan, &plan.confirm_phrase, &target, &test.ctx);
    let done = done.await.unwrap_or_else(|error| panic!("{error:?}"));
    assert!(done.proof.matches, "{:#?}", done.proof);
    assert_eq!((done.records, done.notes.len()), (13, 2), "{:?}", done.notes);
    let to = format!("{name}_single");
    assert_eq!(
        list(cluster, &to, "SELECT p::text FROM people p ORDER BY id").await,
        ["(7,1,p7)", "(9,1,p9)"]
    );
    for sql in [
        "SELECT b::text FROM bills b WHERE id = 9",
        "SELECT m::text FROM marks m WHERE what = 'm1'",
        "SELECT nextval('bills_id_seq')::text",
    ] {
        assert_eq!(list(cluster, &to, sql).await, list(cluster, &name, sql).await, "{sql}");
    }
    assert_eq!(
        list(cluster, &to, "SELECT count(*)::text FROM pg_constraint WHERE contype = 'f'").await,
        ["0"]
    );

    // What is in no snapshot cannot be had of it.
    let scope = Scope::Records([("public.people".to_owned(), vec!["____".to_owned()])].into());
    let error = restore::plan(&test.repo, &snapshot, &scope, &target, &test.ctx).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound, "{error}");
}
