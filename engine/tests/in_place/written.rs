//! What a restore writes, and what it leaves alone.

use repo_format::manifest::Trigger;

use super::*;
use engine::diff::ChangeKind;
use engine::history;

const SHOP: &str = "
    CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, mail text UNIQUE);
    INSERT INTO customers SELECT n, 'customer ' || n, n || '@example.com' FROM generate_series(1, 400) n;
    CREATE TABLE orders (id int PRIMARY KEY, customer int NOT NULL REFERENCES customers ON DELETE CASCADE, total numeric);
    INSERT INTO orders SELECT n, 1 + n % 400, n * 1.50 FROM generate_series(1, 900) n;
    CREATE TABLE log (line text, at timestamptz);
    INSERT INTO log SELECT 'line ' || n % 7, NULL FROM generate_series(1, 70) n;
    CREATE SEQUENCE numbers; SELECT setval('numbers', 900);";

const CHANGES: &str = "
    UPDATE customers SET name = 'renamed' WHERE id IN (5, 6);
    INSERT INTO customers VALUES (401, 'new', 'new@example.com');
    UPDATE orders SET customer = 401, total = 0 WHERE id IN (10, 11);
    INSERT INTO orders VALUES (901, 401, 1);
    DELETE FROM orders WHERE customer = 77; DELETE FROM customers WHERE id = 77;
    INSERT INTO customers VALUES (402, 'again', '77@example.com');
    DELETE FROM log WHERE ctid IN (SELECT ctid FROM log WHERE line = 'line 3' LIMIT 4);
    INSERT INTO log VALUES ('line 1', NULL), ('line 1', NULL), ('other', now());
    SELECT nextval('numbers'), nextval('numbers');";

const TABLES: [&str; 3] = ["customers", "orders", "log"];

#[tokio::test(flavor = "multi_thread")]
async fn tables_become_what_the_snapshot_holds_and_only_differences_are_written() {
    let target = Target::new(SHOP).await;
    let before = all_of(&target, &TABLES).await;
    target.execute(CHANGES).await;
    let after = all_of(&target, &TABLES).await;

    let (plan, preview) = target.plan(&Scope::All).await;
    assert_eq!(plan.confirm_phrase, target.name);
    assert_eq!(counts(&plan, "public.customers"), (1, 2, 2));
    assert_eq!(counts(&plan, "public.orders"), (3, 2, 1));
    assert_eq!(counts(&plan, "public.log"), (4, 0, 3));
    // From what is there to what would be.
    let changes = target.changes(&preview, "public.customers").await;
    let kinds: Vec<_> = changes.iter().map(|change| (change.key.as_str(), change.kind)).collect();
    let expected =
        [("5", ChangeKind::Changed), ("6", ChangeKind::Changed), ("77", ChangeKind::Added)].into_iter();
    let gone = [("401", ChangeKind::Removed), ("402", ChangeKind::Removed)];
    assert_eq!(kinds, expected.chain(gone).collect::<Vec<_>>());
    let name =
        |content: &Option<engine::diff::Content>| content.as_ref().unwrap().row().unwrap()[1].1.clone();
    assert_eq!(name(&changes[0].old).as_deref(), Some("renamed"));
    assert_eq!(name(&changes[0].new).as_deref(), Some("customer 5"));
    assert_eq!(all_of(&target, &TABLES).await, after, "a plan writes nothing");

    let untouched = "SELECT string_agg(ctid::text, ',' ORDER BY id) FROM customers WHERE id < 5";
    let places = target.text(untouched).await;
    let restored = target.apply(&Scope::All, &plan).await.unwrap();
    assert!(restored.proof.matches && restored.proof.collections.len() == 3);
    assert_eq!((restored.records, &restored.notes), (5 + 6 + 7, &Vec::new()));
    assert_eq!(all_of(&target, &TABLES).await, before);
    assert_eq!(target.text("SELECT nextval('numbers')").await, "901");
    assert_eq!(target.text(untouched).await, places, "rows that do not differ are not written");
    let constraints = "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND condeferrable";
    assert_eq!(target.text(constraints).await, "0", "foreign keys are as they were");

    // The safety snapshot holds what was there, and is one like any other.
    let safety = target.safety(&restored).await;
    assert_eq!((safety.manifest.trigger, safety.manifest.missing.len()), (Trigger::Safety, 0));
    assert_eq!(safety.manifest.note.as_deref(), Some("before a restore"));
    assert_eq!(safety.manifest.records, 401 + 898 + 69);
    let page = PageRequest { from_key: Some("402".to_owned()), ..PageRequest::default() };
    let found = history::records(&target.test.repo, &safety, "public.customers", &page).await.unwrap();
    assert_eq!(found.items[0].content.row().unwrap()[1].1.as_deref(), Some("again"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_of_what_is_there_writes_nothing_and_keeps_nothing() {
    let target = Target::new(SHOP).await;
    let (_, restored) = target.restore(&Scope::All).await;
    assert_eq!((restored.records, restored.safety_snapshot), (0, None));
    assert_eq!(target.test.repo.snapshots().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_table_is_restored_and_the_others_stay() {
    let target = Target::new(SHOP).await;
    target.execute(CHANGES).await;
    let others = all_of(&target, &["customers", "log"]).await;
    let scope = tables(&["public.orders"]);
    // A row refers to a customer that is gone: the server says so, and nothing is changed.
    let (plan, _) = target.plan(&scope).await;
    let now = all_of(&target, &["orders"]).await;
    let error = target.apply(&scope, &plan).await.unwrap_err();
    assert_eq!(error.kind(), engine::Kind::Refused, "{error}");
    assert!(error.help().unwrap().contains("restore both tables together"), "{error:?}");
    assert_eq!(all_of(&target, &["orders"]).await, now);

    target.execute("INSERT INTO customers VALUES (77, 'back', NULL)").await;
    let (_, restored) = target.restore(&scope).await;
    assert_eq!(restored.records, 6);
    assert_eq!(target.text("SELECT count(*), min(total) FROM orders").await, "900|1.50");
    target
        .execute("DELETE FROM customers WHERE id = 77 AND name = 'back'; SELECT setval('numbers', 1)")
        .await;
    assert_eq!(all_of(&target, &["customers", "log"]).await, others);
    let safety = target.safety(&restored).await;
    let missing: Vec<_> = safety.manifest.missing.iter().map(|missing| missing.name.as_str()).collect();
    assert_eq!(missing, ["public.customers", "public.log"], "a part of a database is not told as the whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn single_records_come_back_and_go_and_the_rest_stays() {
    let target = Target::new(SHOP).await;
    target
        .execute("UPDATE customers SET name = 'x'; INSERT INTO customers VALUES (500, 'extra', NULL)")
        .await;
    let (_, preview) = target.plan(&tables(&["public.customers"])).await;
    let changes = target.changes(&preview, "public.customers").await;
    let id = |key: &str| changes.iter().find(|change| change.key == key).unwrap().id.clone();
    let page = PageRequest { from_key: Some("400".to_owned()), ..PageRequest::default() };
    let filter = Filter::default();
    let last = preview.changes(&target.test.repo, "public.customers", &filter, &page).await.unwrap().items;
    let extra = last.iter().find(|change| change.key == "500").unwrap().id.clone();

    let scope = records("public.customers", vec![id("7"), extra, id("3")]);
    let (plan, preview) = target.plan(&scope).await;
    assert_eq!(counts(&plan, "public.customers"), (0, 2, 1));
    assert_eq!(target.changes(&preview, "public.customers").await.len(), 3);
    // Whatever happens to other records meanwhile is no concern of this restore.
    target.execute("UPDATE customers SET name = 'y' WHERE id = 50").await;
    let restored = target.apply(&scope, &plan).await.unwrap();
    assert_eq!((restored.records, restored.proof.matches), (3, true));
    let sql = "SELECT string_agg(id || name, ',' ORDER BY id) FROM customers WHERE name <> 'x'";
    assert_eq!(target.text(sql).await, "3customer 3,7customer 7,50y");
    assert_eq!(target.text("SELECT count(*) FROM customers").await, "400");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_rows_without_a_key_all_copies_of_those_chosen_are_exchanged() {
    let target = Target::new(SHOP).await;
    target.execute("DELETE FROM log WHERE line IN ('line 2', 'line 4'); INSERT INTO log SELECT 'line 5', NULL FROM generate_series(1, 3)").await;
    let page = PageRequest::default();
    let found = history::records(&target.test.repo, &target.snapshot, "public.log", &page).await.unwrap();
    let of = |line: &str| {
        let is_it = |record: &&history::Record| record.content.row().unwrap()[0].1.as_deref() == Some(line);
        found.items.iter().rfind(is_it).unwrap().id.clone()
    };
    let scope = records("public.log", vec![of("line 2"), of("line 5")]);
    let (plan, _) = target.plan(&scope).await;
    assert_eq!(counts(&plan, "public.log"), (10, 0, 3));
    target.apply(&scope, &plan).await.unwrap();
    let sql = "SELECT string_agg(line || ':' || n, ',' ORDER BY line) FROM (SELECT line, count(*) n FROM log GROUP BY line) l";
    assert_eq!(target.text(sql).await, "line 0:10,line 1:10,line 2:10,line 3:10,line 5:10,line 6:10");
}

/// What is hard to write back: every kind of type, text that looks like SQL, long values, moved partitions.
const AWKWARD: &str = r#"
    CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN positive AS int CHECK (VALUE > 0);
    CREATE TYPE pair AS (a int, b text);
    CREATE TABLE kinds (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, m mood, p positive, c pair, tags text[], doc jsonb, j json,
        raw bytea, n numeric(20, 5), f float8, b boolean, ch char(5), vc varchar(9), iv interval, net inet, xs xml, bits bit(4),
        at timestamptz, span tstzrange, "odd ""name" text, twice bigint GENERATED ALWAYS AS (p * 2) STORED);
    INSERT INTO kinds (m, p, c, tags, doc, j, raw, n, f, b, ch, vc, iv, net, xs, bits, at, span, "odd ""name")
        SELECT (ARRAY['sad', 'ok'])[1 + n % 2]::mood, n, ROW(n, E'a"\\b')::pair, ARRAY[NULL, n::text, E'{"\\'], jsonb_build_object('n', n),
            '{"b" : 1,  "a": 2}', decode(md5(n::text), 'hex'), n / 7.0, 'NaN', n % 2 = 0, 'ab', E'\t\n\\', '1 day 02:03:04.5', '10.0.0.1',
            '<a>x</a>tail', B'0101', '2024-02-29 12:00:00.123456+00', tstzrange('2024-01-01 00:00Z', NULL), E'it''s \\N'
        FROM generate_series(1, 40) n;
    CREATE TABLE plain (b boolean, ch char(4), net inet, t text); INSERT INTO plain VALUES (true, 'x ', '10.0.0.1', ''), (true, 'x ', '10.0.0.1', ''), (NULL, NULL, NULL, NULL), (false, 'y', '::1', E'\\');
    CREATE TABLE nothing (); INSERT INTO nothing DEFAULT VALUES; INSERT INTO nothing DEFAULT VALUES;
    CREATE TABLE parts (id int, region text, v text, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
    CREATE TABLE parts_eu PARTITION OF parts FOR VALUES IN ('eu'); CREATE TABLE parts_rest PARTITION OF parts DEFAULT;
    INSERT INTO parts SELECT n, (ARRAY['eu', 'us'])[1 + n % 2], 'v' FROM generate_series(1, 60) n;
    CREATE TABLE loose (region text, v int) PARTITION BY LIST (region);
    CREATE TABLE loose_eu PARTITION OF loose FOR VALUES IN ('eu'); CREATE TABLE loose_rest PARTITION OF loose DEFAULT;
    INSERT INTO loose SELECT (ARRAY['eu', 'us'])[1 + n % 2], n / 4 FROM generate_series(1, 40) n;
    CREATE TABLE above (id int PRIMARY KEY, v text); CREATE TABLE below (extra int) INHERITS (above);
    INSERT INTO above VALUES (1, 'a'), (2, 'b'); INSERT INTO below VALUES (1, 'c', 9);
    CREATE TABLE large (id int PRIMARY KEY, body text);
    INSERT INTO large SELECT n, (SELECT string_agg(md5((n * 100000 + m)::text), '') FROM generate_series(1, 3000) m) FROM generate_series(1, 4) n;
    CREATE TABLE tree (id int PRIMARY KEY, parent int REFERENCES tree);
    INSERT INTO tree SELECT n, nullif(n / 2, 0) FROM generate_series(1, 60) n;
"#;

const AWKWARD_TABLES: [&str; 9] =
    ["kinds", "plain", "nothing", "parts", "loose", "only above", "only below", "large", "tree"];

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_value_is_written_back_as_it_was() {
    let target = Target::new(AWKWARD).await;
    let before = all_of(&target, &AWKWARD_TABLES).await;
    target
        .execute(
            r#"UPDATE kinds SET m = NULL, p = 1, c = NULL, tags = '{}', doc = '[]', j = '{"b":1,"a":2}', raw = '', n = 0, f = 1e300, b = NULL, ch = '',
                 vc = NULL, iv = NULL, net = NULL, xs = NULL, bits = NULL, at = NULL, span = 'empty', "odd ""name" = NULL WHERE id <= 20;
               DELETE FROM kinds WHERE id > 30; INSERT INTO kinds (m) VALUES ('ok'), ('sad');
               DELETE FROM plain; INSERT INTO plain VALUES (true, 'x', '10.0.0.1', ''), (true, 'z', NULL, 'extra'), (NULL, NULL, NULL, '');
               INSERT INTO nothing DEFAULT VALUES; INSERT INTO nothing DEFAULT VALUES;
               UPDATE parts SET region = 'ap' WHERE id < 9; DELETE FROM parts WHERE id > 50; INSERT INTO parts VALUES (99, 'eu', 'w');
               DELETE FROM loose WHERE v = 3; INSERT INTO loose VALUES ('eu', 1), ('us', 77);
               UPDATE ONLY above SET v = 'z'; DELETE FROM below; INSERT INTO below VALUES (5, 'd', 1);
               UPDATE large SET body = left(body, 70000) WHERE id = 2; DELETE FROM large WHERE id = 3;
               UPDATE tree SET parent = NULL; DELETE FROM tree WHERE id % 3 = 0; INSERT INTO tree VALUES (100, 1), (101, 100);"#,
        )
        .await;
    let (_, restored) = target.restore(&Scope::All).await;
    assert_eq!(restored.notes, []);
    assert_eq!(target.text("SELECT nextval('kinds_id_seq')").await, "41");
    assert_eq!(all_of(&target, &AWKWARD_TABLES).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_an_extensions_type_are_found_by_their_own_equality() {
    let target = Target::new(
        "CREATE EXTENSION citext; CREATE TABLE names (name citext PRIMARY KEY, v int);
         INSERT INTO names VALUES ('Ada', 1), ('bob', 2), ('Cy', 3);",
    )
    .await;
    let before = all_of(&target, &["names"]).await;
    target.execute("UPDATE names SET name = 'ADA' WHERE name = 'ada'; UPDATE names SET v = 9; DELETE FROM names WHERE name = 'cy'").await;
    target.restore(&Scope::All).await;
    assert_eq!(all_of(&target, &["names"]).await, before);
}

/// A unique value, or what excludes others, moves between rows that stay: there and back again.
#[tokio::test(flavor = "multi_thread")]
async fn unique_values_move_between_rows() {
    const TABLES: [&str; 4] = ["u", "w", "parent", "booked"];
    let target = Target::new(
        "CREATE TABLE u (id int PRIMARY KEY, code text UNIQUE);
         INSERT INTO u VALUES (1, 'a'), (2, 'b'), (3, 'c');
         CREATE TABLE w (id int PRIMARY KEY, code text UNIQUE); INSERT INTO w VALUES (1, 'z'), (2, 'a');
         CREATE TABLE parent (id int PRIMARY KEY, code text UNIQUE, self int REFERENCES parent);
         CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent, code text REFERENCES parent (code));
         INSERT INTO parent VALUES (1, 'x', 2), (2, 'y', 1); INSERT INTO child VALUES (1, 1, 'x'), (2, 2, 'y');
         CREATE TABLE booked (id int PRIMARY KEY, during int4range, EXCLUDE USING gist (during WITH &&));
         INSERT INTO booked VALUES (1, '[1,5)'), (2, '[5,9)');",
    )
    .await;
    let before = all_of(&target, &TABLES).await;
    target
        .execute(
            "UPDATE u SET code = NULL; UPDATE u SET code = 'b' WHERE id = 1; UPDATE u SET code = 'a' WHERE id = 2;
             UPDATE w SET code = 'b' WHERE id = 2; UPDATE w SET code = 'a' WHERE id = 1;
             UPDATE child SET code = NULL; UPDATE parent SET code = NULL;
             UPDATE parent SET code = CASE id WHEN 1 THEN 'y' ELSE 'x' END;
             UPDATE booked SET during = 'empty'; UPDATE booked SET during = '[5,9)' WHERE id = 1;
             UPDATE booked SET during = '[1,5)' WHERE id = 2;",
        )
        .await;
    let moved = all_of(&target, &TABLES).await;
    let (plan, restored) = target.restore(&Scope::All).await;
    assert_eq!(all_of(&target, &TABLES).await, before);
    let undone = target.undo(&Scope::All, &plan, &restored).await.unwrap();
    assert!(undone.proof.matches && undone.conflicts.count == 0, "{undone:?}");
    assert_eq!(all_of(&target, &TABLES).await, moved);
}
