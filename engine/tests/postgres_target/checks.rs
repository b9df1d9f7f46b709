//! CHECK constraints judge the whole of the rows, and what they refuse of the source's own is kept.

use engine::target::postgres::Target;
use engine_testutils::postgres::Cluster;

use crate::copier::{assert_equal, contents, copy, schema_text, source, url};

/// Tables come in the order of their names or sizes: whichever is first, one of these is too early.
const READS_ANOTHER_TABLE: &str = "\
CREATE TABLE stock (item int PRIMARY KEY, n int);
CREATE FUNCTION known(i int) RETURNS bool LANGUAGE sql AS 'SELECT EXISTS (SELECT FROM public.stock WHERE item = i)';
INSERT INTO stock SELECT n, n FROM generate_series(1, 100) n;
CREATE TABLE a_order (id int, item int, CONSTRAINT known_item CHECK (known(item)), CONSTRAINT positive CHECK (id > 0));
COMMENT ON CONSTRAINT known_item ON a_order IS 'it''s known';
INSERT INTO a_order SELECT n, n FROM generate_series(1, 100) n;
CREATE TABLE z_order (item int CHECK (known(item))); INSERT INTO z_order VALUES (7);
CREATE DOMAIN item AS int CONSTRAINT in_stock CHECK (known(VALUE)) CONSTRAINT small CHECK (VALUE < 1000);
COMMENT ON CONSTRAINT in_stock ON DOMAIN item IS 'domain';
CREATE TABLE a_wish (i item, id int); INSERT INTO a_wish VALUES (3, 1);
CREATE FUNCTION is_plain(t text) RETURNS bool LANGUAGE sql AS 'SELECT t !~ ''[^a-z]''';
CREATE DOMAIN word AS text CONSTRAINT plain CHECK (is_plain(VALUE)); CREATE DOMAIN short_word AS word CHECK (length(VALUE) < 9);
CREATE TYPE words AS (first short_word, rest word[]); COMMENT ON CONSTRAINT plain ON DOMAIN word IS 'stays';
CREATE TABLE texts (one word, many short_word[], pair words); INSERT INTO texts VALUES ('a', '{b,c}', ROW('d', '{e}'));
CREATE TABLE base (id int, CONSTRAINT up CHECK (id > 0), CONSTRAINT alone CHECK (id < 1000) NO INHERIT);
CREATE TABLE derived (CONSTRAINT up CHECK (id > 0), CONSTRAINT own CHECK (known(id))) INHERITS (base);
CREATE TABLE derived_too () INHERITS (base);
CREATE TABLE deeper (CONSTRAINT up CHECK (id > 0)) INHERITS (derived, derived_too);
COMMENT ON CONSTRAINT up ON derived IS 'of the child';
INSERT INTO base VALUES (1); INSERT INTO derived VALUES (2); INSERT INTO deeper VALUES (3);
CREATE TABLE part (id int, region text, CONSTRAINT part_known CHECK (known(id))) PARTITION BY LIST (region);
CREATE TABLE part_eu PARTITION OF part (CONSTRAINT only_here CHECK (id < 50)) FOR VALUES IN ('eu');
INSERT INTO part VALUES (1, 'eu')";

#[tokio::test]
async fn checks_that_read_other_tables_come_back_valid() {
    let cluster = Cluster::shared();
    let from = cluster.fresh_database("checks").await;
    cluster.execute(&from, READS_ANOTHER_TABLE).await;
    let into = format!("{from}_restored");
    let target = Target::create(&url(cluster, &into), &source(cluster, &[])).await.unwrap();
    assert_eq!(copy(cluster, &from, &target).await.unwrap(), []);
    assert_equal(cluster, &from, &into).await;
    let local = "SELECT conrelid::regclass, conname, convalidated, conislocal, coninhcount, connoinherit
                 FROM pg_constraint WHERE contype = 'c' AND oid >= 16384 ORDER BY conrelid::regclass::text, conname";
    assert_eq!(cluster.query_text(&from, local).await, cluster.query_text(&into, local).await);
}

#[tokio::test]
async fn a_check_that_counts_on_a_search_path_is_put_back_with_one() {
    let cluster = Cluster::shared();
    let from = cluster.fresh_database("check_paths").await;
    let setup = "CREATE SCHEMA shop; CREATE TABLE shop.stock (item int PRIMARY KEY); INSERT INTO shop.stock VALUES (1);
                 CREATE FUNCTION shop.known(i int) RETURNS bool LANGUAGE plpgsql AS
                   'BEGIN RETURN EXISTS (SELECT FROM stock WHERE item = i); END';
                 SET search_path = shop; CREATE TABLE shop.a (item int CONSTRAINT k CHECK (shop.known(item)));
                 INSERT INTO shop.a VALUES (1)";
    cluster.execute(&from, setup).await;
    let into = format!("{from}_restored");
    let target = Target::create(&url(cluster, &into), &source(cluster, &[])).await.unwrap();
    let notes = copy(cluster, &from, &target).await.unwrap();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(!notes[0].failed, "{notes:?}");
    for word in ["\"k\" of shop.a", "search path", "relation \"stock\" does not exist"] {
        assert!(notes[0].text.contains(word), "{word} in {notes:?}");
    }
    assert_equal(cluster, &from, &into).await;
}

#[tokio::test]
async fn a_check_that_the_sources_own_rows_break_is_not_valid_and_said() {
    let cluster = Cluster::shared();
    let from = cluster.fresh_database("check_broken").await;
    let setup = "CREATE TABLE stock (item int PRIMARY KEY); INSERT INTO stock VALUES (1), (2);
                 CREATE FUNCTION known(i int) RETURNS bool LANGUAGE sql AS 'SELECT EXISTS (SELECT FROM public.stock WHERE item = i)';
                 CREATE FUNCTION once(i int) RETURNS bool LANGUAGE plpgsql AS
                   'BEGIN RETURN current_setting(''shop.open'')::bool; END';
                 SET shop.open = on;
                 CREATE TABLE a (item int, CONSTRAINT in_stock CHECK (known(item)), CONSTRAINT positive CHECK (item > 0));
                 CREATE TABLE b (item int, CONSTRAINT while_open CHECK (once(item)));
                 CREATE TABLE c (until timestamptz, CONSTRAINT fresh CHECK (until > now()));
                 INSERT INTO a VALUES (1), (2); INSERT INTO b VALUES (1); INSERT INTO c VALUES (now() + interval '1 ms')";
    cluster.execute(&from, setup).await;
    cluster.execute(&from, "DELETE FROM stock WHERE item = 2").await;
    let into = format!("{from}_restored");
    let target = Target::create(&url(cluster, &into), &source(cluster, &[])).await.unwrap();
    let notes = copy(cluster, &from, &target).await.unwrap();
    assert!(notes.len() == 3 && notes.iter().all(|note| !note.failed), "{notes:?}");
    for (note, words) in notes.iter().zip([
        ["\"in_stock\" of public.a is NOT VALID", "is violated by some row"],
        ["\"while_open\" of public.b is NOT VALID", "shop.open"],
        ["\"fresh\" of public.c is NOT VALID", "is violated by some row"],
    ]) {
        assert!(words.iter().all(|word| note.text.contains(word)), "{words:?} in {note:?}");
    }
    assert_eq!(contents(cluster, &from).await, contents(cluster, &into).await);
    let valid = "SELECT string_agg(conname || ' ' || convalidated, ', ' ORDER BY conname) FROM pg_constraint WHERE contype = 'c' AND oid >= 16384";
    assert_eq!(
        cluster.query_one(&into, valid).await,
        "fresh false, in_stock false, positive true, while_open false"
    );
    // New rows are held to it.
    let client = cluster.connect(&into).await;
    let refused = client.batch_execute("INSERT INTO a VALUES (2)").await.unwrap_err();
    assert!(refused.as_db_error().unwrap().message().contains("in_stock"), "{refused}");
    assert!(schema_text(cluster, &into).contains("NOT VALID"));
}

#[tokio::test]
async fn a_statement_that_the_target_refuses_is_told_with_its_table_and_its_error() {
    let cluster = Cluster::shared();
    let from = cluster.fresh_database("refused").await;
    // A column that lies: it is computed while rows come, from what is in another schema or nowhere.
    let setup = "CREATE TABLE rates (r int); INSERT INTO rates VALUES (3);
                 CREATE FUNCTION rate(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN i * (SELECT max(r) FROM rates); END';
                 CREATE TABLE prices (n int, p int GENERATED ALWAYS AS (rate(n)) STORED); INSERT INTO prices VALUES (1);
                 CREATE SCHEMA old; ALTER TABLE rates SET SCHEMA old";
    cluster.execute(&from, setup).await;
    let target =
        Target::create(&url(cluster, &format!("{from}_restored")), &source(cluster, &[])).await.unwrap();
    let error = copy(cluster, &from, &target).await.unwrap_err();
    assert_eq!(error.kind(), engine::Kind::Refused);
    assert!(
        error.message().starts_with("loading public.prices: relation \"rates\" does not exist"),
        "{error}"
    );
    assert!(error.help().unwrap().contains("search_path"), "{error:?}");
    target.abandon().await.unwrap();
}
