//! Whole databases come back as they were: rows, schema, sequences, materialized views.

use engine::target::postgres::Target;
use engine_testutils::demo::{self, Day};
use engine_testutils::postgres::Cluster;

use crate::copier::{self, assert_equal, copy, source, url};

#[tokio::test]
async fn the_shop_comes_back_on_every_day() {
    let cluster = Cluster::shared();
    let shop = cluster.fresh_database("shop").await;
    let client = cluster.connect(&shop).await;
    demo::seed(&client).await.unwrap();
    demo::change(&client, Day::Tuesday).await.unwrap();
    demo::change(&client, Day::Wednesday).await.unwrap();

    let target = Target::create(&url(cluster, "shop restored"), &source(cluster, &[])).await.unwrap();
    assert!(target.is_new());
    let notes = copy(cluster, &shop, &target).await.unwrap();
    assert_eq!(notes, []);
    let marked = "SELECT coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database WHERE datname = 'shop restored'";
    assert_eq!(cluster.query_one("postgres", marked).await, "unfinished DBSnap restore");
    target.finish().await.unwrap();
    assert_eq!(cluster.query_one("postgres", marked).await, "");
    assert_equal(cluster, &shop, "shop restored").await;
    let next = "SELECT nextval(pg_get_serial_sequence('orders', 'id'))";
    assert_eq!(cluster.query_one("shop restored", next).await, "40061");
}

/// What a restore could get wrong without anybody noticing.
const ODDITIES: &str = r#"
CREATE TABLE "we ird;""na\me'" ("a.b" text, "select" int, PRIMARY KEY ("select"));
INSERT INTO "we ird;""na\me'" VALUES (E'tab\there', 1), (E'line\nfeed', 2), (E'cr\rback\\slash', 3), (E'\\N', 4), (NULL, 5), ('', 6), (E'\\.', 7),
    (E'\\.\n\\.', 8), (E'\b\f\v', 9), (E'\\\\', 10), ('ünïcödé ✂ 𝄞', 11);
CREATE TABLE lone (only_column text);
INSERT INTO lone VALUES (E'\\.'), (''), (NULL), (E'\\N'), (E'\n'), ('x'), ('x');
CREATE TABLE nothing ();
INSERT INTO nothing DEFAULT VALUES; INSERT INTO nothing DEFAULT VALUES;
CREATE TABLE computed (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, gone int, b int, twice int GENERATED ALWAYS AS (b * 2) STORED, c text);
ALTER TABLE computed DROP COLUMN gone;
INSERT INTO computed (b, c) SELECT n, 'c' || n FROM generate_series(1, 50) AS n;
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TABLE moods (id int, m mood, PRIMARY KEY (id, m)) PARTITION BY HASH (m);
CREATE TABLE moods_0 PARTITION OF moods FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE moods_1 PARTITION OF moods FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO moods SELECT n, (ARRAY['sad', 'ok', 'happy'])[1 + n % 3]::mood FROM generate_series(1, 90) AS n;
CREATE TABLE parent (id int PRIMARY KEY, t text);
CREATE TABLE child (extra int) INHERITS (parent);
INSERT INTO parent VALUES (1, 'parent'); INSERT INTO child VALUES (1, 'child', 2);
CREATE TABLE shapes (x xml, j json, p point, iv interval, mo money, r int4range, b bit(5), f float8, ts timestamptz, n numeric, a int[], ip inet);
INSERT INTO shapes VALUES ('<a/>', '{"b":1, "a":  2, "a":3}', '(1.5,-0)', '1 mon -3 days 04:05:06.789', '12.34', '[1,5)', '10101', 'NaN', 'infinity', 'NaN', '[0:1]={1,2}', '10.0.0.1'),
    ('text <b>and</b> more', '1', '(0,0)', '00:00:00', '-1.00', 'empty', '00000', '-Infinity', '4713-01-01 00:00:00 BC', 1.0, '{{1,NULL},{3,4}}', '::1/64'),
    (NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0.1::float4, '2026-03-29 02:30:00+01', 1.00, '{}', '10.0.0.0/8');
CREATE TABLE tree (id int PRIMARY KEY, up int REFERENCES tree);
INSERT INTO tree VALUES (1, 2), (2, 1);
CREATE TABLE left_side (id int PRIMARY KEY, other int);
CREATE TABLE right_side (id int PRIMARY KEY, other int REFERENCES left_side);
ALTER TABLE left_side ADD FOREIGN KEY (other) REFERENCES right_side DEFERRABLE INITIALLY DEFERRED;
BEGIN; INSERT INTO left_side VALUES (1, 1); INSERT INTO right_side VALUES (1, 1); COMMIT;
CREATE TABLE orphans (id int, up int);
INSERT INTO orphans VALUES (1, 99);
ALTER TABLE orphans ADD FOREIGN KEY (up) REFERENCES tree NOT VALID;
CREATE TABLE ruled (id int PRIMARY KEY);
INSERT INTO ruled VALUES (1);
CREATE RULE swallow AS ON INSERT TO ruled DO INSTEAD NOTHING;
CREATE FUNCTION doubled() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.id := NEW.id * 2; RETURN NEW; END $$;
CREATE TABLE triggered (id int PRIMARY KEY);
INSERT INTO triggered VALUES (3);
CREATE TRIGGER always_on BEFORE INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION doubled();
ALTER TABLE triggered ENABLE ALWAYS TRIGGER always_on;
ALTER TABLE ruled ENABLE ROW LEVEL SECURITY;
ALTER TABLE ruled FORCE ROW LEVEL SECURITY;
CREATE POLICY none ON ruled USING (false);
CREATE SEQUENCE fresh START 7; CREATE SEQUENCE used MAXVALUE 3; SELECT nextval('used'), nextval('used'), nextval('used');
CREATE SEQUENCE backwards INCREMENT -5 MINVALUE -1000 START -5; SELECT nextval('backwards'), nextval('backwards');
CREATE MATERIALIZED VIEW z_first AS SELECT id FROM tree;
CREATE VIEW between_them AS SELECT id + 1 AS id FROM z_first;
CREATE MATERIALIZED VIEW a_second AS SELECT id FROM between_them;
SELECT lo_create(424242), lo_from_bytea(424243, decode(repeat('00ff10', 3000), 'hex'));
"#;

#[tokio::test]
async fn oddities_come_back_exactly() {
    let cluster = Cluster::shared();
    let odd = cluster.fresh_database("odd").await;
    // One statement at a time: the scripts have transactions of their own.
    cluster.execute(&odd, ODDITIES).await;
    // An empty database that is already there, with a name that is neither URL nor conninfo.
    let into = "host=nowhere 'odd' \\ /?";
    cluster.create_database(into).await;
    let target = Target::create(&url(cluster, into), &source(cluster, &[])).await.unwrap();
    assert!(!target.is_new());
    let notes = copy(cluster, &odd, &target).await.unwrap();
    assert_eq!(notes, []);
    target.finish().await.unwrap();
    assert_equal(cluster, &odd, into).await;

    let objects = "SELECT oid, length(lo_get(oid)), md5(lo_get(oid)) FROM pg_largeobject_metadata ORDER BY 1";
    assert_eq!(cluster.query_text(into, objects).await, cluster.query_text(&odd, objects).await);
    let pages = "SELECT loid, pageno, md5(data) FROM pg_largeobject ORDER BY 1, 2";
    assert_eq!(cluster.query_text(into, pages).await, cluster.query_text(&odd, pages).await);
    assert_eq!(cluster.query_text(into, "SELECT nextval('fresh')").await, [[Some("7".to_owned())]]);
}

#[tokio::test]
async fn objects_of_every_kind_come_back() {
    let cluster = Cluster::shared();
    let from = cluster.fresh_database("kinds").await;
    let client = cluster.connect(&from).await;
    client.batch_execute(include_str!("kinds.sql")).await.unwrap();
    if cluster.major() >= 15 {
        let sql = "CREATE PUBLICATION part FOR TABLE app.t (id, e) WHERE (id > 3);
                   CREATE PUBLICATION schemas FOR TABLES IN SCHEMA \"Other schema\"";
        cluster.execute(&from, sql).await;
    }
    // What a restore does after the event trigger is there is no doing of the database's own.
    cluster.execute(&from, "DELETE FROM app.ddl").await;
    let into = format!("{from}_restored");
    let target = Target::create(&url(cluster, &into), &source(cluster, &[])).await.unwrap();
    let notes = copy(cluster, &from, &target).await.unwrap();
    assert_eq!(notes, []);
    assert_equal(cluster, &from, &into).await;
    assert_eq!(cluster.query_one(&into, "SELECT count(*) FROM app.ddl").await, "0");
}

#[tokio::test]
async fn a_materialized_view_that_needs_a_search_path_is_filled_and_says_so() {
    let cluster = Cluster::shared();
    let from = cluster.fresh_database("paths").await;
    cluster
        .execute(
            &from,
            "CREATE FUNCTION inner1(integer) RETURNS integer LANGUAGE sql AS 'SELECT $1 + 1';
             CREATE FUNCTION outer1(integer) RETURNS integer LANGUAGE plpgsql AS 'BEGIN RETURN inner1($1); END';
             CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2);
             CREATE MATERIALIZED VIEW m AS SELECT outer1(id) AS id FROM t",
        )
        .await;
    let into = format!("{from}_restored");
    let target = Target::create(&url(cluster, &into), &source(cluster, &[])).await.unwrap();
    let notes = copy(cluster, &from, &target).await.unwrap();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(
        !notes[0].failed && notes[0].text.contains("public.m") && notes[0].text.contains("inner1"),
        "{notes:?}"
    );
    assert_eq!(cluster.query_one(&into, "SELECT string_agg(id::text, ' ' ORDER BY id) FROM m").await, "2 3");
}

#[tokio::test]
async fn what_cannot_be_restored_is_named_and_the_rest_is_there() {
    let cluster = Cluster::shared();
    let from = cluster.fresh_database("broken").await;
    let setup = "CREATE TABLE up (id int PRIMARY KEY); CREATE TABLE down (id int PRIMARY KEY, up int REFERENCES up);
                 INSERT INTO up VALUES (1); INSERT INTO down VALUES (1, 1);
                 CREATE MATERIALIZED VIEW shares AS SELECT 10 / id AS share FROM up;
                 ALTER TABLE down DISABLE TRIGGER ALL; UPDATE down SET up = 99; ALTER TABLE down ENABLE TRIGGER ALL;
                 ALTER TABLE up DISABLE TRIGGER ALL; UPDATE up SET id = 0; ALTER TABLE up ENABLE TRIGGER ALL";
    cluster.execute(&from, setup).await;
    let into = format!("{from}_restored");
    let target = Target::create(&url(cluster, &into), &source(cluster, &[])).await.unwrap();
    let notes = copy(cluster, &from, &target).await.unwrap();
    let texts: Vec<&str> = notes.iter().filter(|note| note.failed).map(|note| note.text.as_str()).collect();
    assert_eq!(texts.len(), 2, "{notes:?}");
    assert!(
        texts[0].contains("down_up_fkey") && texts[0].contains("(up)=(99) is not present"),
        "{}",
        texts[0]
    );
    assert!(
        texts[1].contains("public.shares is empty") && texts[1].contains("division by zero"),
        "{}",
        texts[1]
    );
    assert_eq!(copier::contents(cluster, &into).await[0].1, copier::contents(cluster, &from).await[0].1);
}
