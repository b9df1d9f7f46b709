//! Values, keys, orders and kinds of tables. Case numbers are those of the list of edge cases that
//! the source was built against.

#![allow(clippy::unwrap_used, reason = "a test ends at its first surprise")]

#[path = "postgres_source/support.rs"]
mod support;

use engine::error::Kind;
use engine::source::ScanOrder;
use engine::source::postgres::Snapshot;
use engine_testutils::postgres::Cluster;
use repo_format::catalog::{CollectionKind, KeySource};
use repo_format::order::KeyEncoding;
use support::{Database, Record, collection, column, names, rows, scan, scan_as};

/// One value of every kind whose text depends on some setting.
const VALUES: &str = "\
    CREATE TABLE v (id int PRIMARY KEY, d date, ts timestamp, tz timestamptz, tt timetz, i interval, f4 real, f8 float8, \
      n numeric, m money, b bytea, r regclass, x xml, a float8[], t text);
    INSERT INTO v VALUES (1, '2024-02-01', '2024-02-01 10:11:12.5', '2024-02-01 10:11:12+05', '10:11:12+05', \
      '1 year 2 mons -3 days 04:05:06', 0.1, 0.1::float8 + 0.2, 1234.50, '-1234.5', '\\x00ff5c', 'v', '<a>\u{e9}</a>', \
      '{0.1,NaN}', 'plain')";

/// PG-S01, S02, S03, S04: the role's own settings change nothing.
#[tokio::test]
async fn s01_hostile_settings_of_the_role_give_the_same_bytes() {
    let database = Database::with(VALUES).await;
    let calm = rows(&database.snapshot().await, "v").await;
    let role = &database.role;
    database
        .execute(&format!(
            "ALTER ROLE {role} SET datestyle = 'SQL, DMY'; ALTER ROLE {role} SET intervalstyle = 'iso_8601';
             ALTER ROLE {role} SET timezone = 'Asia/Kolkata'; ALTER ROLE {role} SET extra_float_digits = 0;
             ALTER ROLE {role} SET bytea_output = 'escape'; ALTER ROLE {role} SET quote_all_identifiers = on;
             ALTER ROLE {role} SET search_path = public; ALTER ROLE {role} SET client_encoding = 'LATIN1';
             ALTER ROLE {role} SET standard_conforming_strings = off; ALTER ROLE {role} SET row_security = on"
        ))
        .await;
    let hostile = rows(&database.snapshot().await, "v").await;
    assert_eq!(hostile, calm);
    let text: Vec<_> = (1..15).map(|field| calm[0].text(field).unwrap()).collect();
    let expected = [
        "2024-02-01",
        "2024-02-01 10:11:12.5",
        "2024-02-01 05:11:12+00",
        "10:11:12+05",
        "1 year 2 mons -3 days +04:05:06",
        "0.1",
        "0.30000000000000004",
        "1234.50",
        "-$1,234.50",
        "\\x00ff5c",
        "public.v",
        "<a>\u{e9}</a>",
        "{0.1,NaN}",
        "plain",
    ];
    assert_eq!(text, expected);
}

/// PG-S05, S06, S07, S09, S17, S18: what must arrive exactly as the server has it.
#[tokio::test]
async fn s05_odd_values_arrive_unchanged() {
    let database = Database::with(
        "CREATE TYPE mood AS ENUM ('sad', 'it''s'); CREATE TYPE pair AS (a int, b text);
         CREATE TABLE o (id serial PRIMARY KEY, v text);
         CREATE TABLE j (id int PRIMARY KEY, j json, jb jsonb, m mood[], p pair, c char(5), e text, z text);
         INSERT INTO j VALUES (1, '{\"b\": 1,  \"a\":\\u0000x, \"a\":2}'::text::json, '{\"b\":1.00,\"a\":-0.0}', '{sad,it''s}', ROW(1,'x,y'), 'ab', '', NULL)"
            .replace("\\u0000x", "\"\\u0000\"")
            .as_str(),
    )
    .await;
    let odd = [
        "'-0'::float8",
        "'NaN'::float8",
        "'-Infinity'::float4",
        "'NaN'::numeric",
        "'Infinity'::numeric",
        "'1.00'::numeric",
        "'-0'::numeric",
        "'infinity'::timestamptz",
        "'-infinity'::date",
        "'24:00:00'::time",
        "'0044-03-15 BC'::date",
        "'294276-12-31 23:59:59.999999'::timestamp",
        "'5874897-12-31'::date",
        "repeat('9', 1000)::numeric",
    ];
    for value in odd {
        database.execute(&format!("INSERT INTO o (v) SELECT ({value})::text")).await;
    }
    let snapshot = database.snapshot().await;
    let json = rows(&snapshot, "j").await;
    let text: Vec<_> = (1..8).map(|field| json[0].text(field)).collect();
    assert_eq!(
        text,
        [
            Some("{\"b\": 1,  \"a\":\"\\u0000\", \"a\":2}"),
            Some("{\"a\": 0.0, \"b\": 1.00}"),
            Some("{sad,it's}"),
            Some("(1,\"x,y\")"),
            Some("ab   "),
            Some(""),
            None
        ]
    );

    // The same values as columns of their own types print as their text does.
    for (position, value) in odd.iter().enumerate() {
        database.execute(&format!("CREATE TABLE odd_{position} AS SELECT {value} AS v")).await;
    }
    let snapshot = database.snapshot().await;
    let expected = column(&snapshot, "o", 1).await;
    for (position, expected) in expected.into_iter().enumerate() {
        assert_eq!(column(&snapshot, &format!("odd_{position}"), 0).await, [expected], "{}", odd[position]);
    }
}

#[tokio::test]
async fn s09_control_characters_and_copy_marks_survive() {
    let database = Database::with("CREATE TABLE t (id int PRIMARY KEY, v text, n text)").await;
    let values =
        ["\\N", "\\.", "a\tb", "a\nb", "a\rb", "\\", "\\\\n", "\u{8}\u{b}\u{c}", "e\u{301} \u{e9}", "", " "];
    for (id, value) in values.iter().enumerate() {
        let literal = engine_testutils::postgres::quote_literal(value);
        database.execute(&format!("INSERT INTO t VALUES ({id}, {literal}, NULL)")).await;
    }
    let snapshot = database.snapshot().await;
    let read = column(&snapshot, "t", 1).await;
    assert_eq!(read, values.map(|value| Some(value.to_owned())));
    assert_eq!(column(&snapshot, "t", 2).await, vec![None; values.len()]);
}

/// PG-S14, S15: a database without an encoding holds any bytes, in names too.
#[tokio::test]
async fn s14_a_database_without_an_encoding_is_read_raw() {
    let cluster = Cluster::shared();
    let name = "source_sql_ascii";
    cluster
        .execute(
            "postgres",
            &format!(
                "CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'"
            ),
        )
        .await;
    let sql = "SET client_encoding = 'SQL_ASCII'; CREATE TABLE t (id int PRIMARY KEY, v text DEFAULT E'\\351');
        INSERT INTO t VALUES (1, E'\\351t\\351'); DO $$ BEGIN EXECUTE E'CREATE TABLE \"n\\351\" (id int)'; END $$;
        DO $$ BEGIN EXECUTE E'CREATE TABLE columns (\"n\\351\" int)'; END $$";
    cluster.execute(name, sql).await;
    let database = Database::open(name.to_owned()).await;
    let snapshot = database.snapshot().await;
    assert_eq!(rows(&snapshot, "t").await[0].fields[1].as_deref(), Some(&b"\xe9t\xe9"[..]));
    assert_eq!(snapshot.evidence().encoding, "SQL_ASCII");
    let missing: Vec<_> = snapshot.incomplete().iter().map(|missing| missing.name.as_str()).collect();
    assert_eq!(missing, ["public.columns", "public.\"n\\xe9\""]);
}

/// PG-S16: other encodings arrive as UTF-8.
#[tokio::test]
async fn s16_latin1_arrives_as_utf8() {
    let cluster = Cluster::shared();
    let name = "source_latin1";
    cluster
        .execute(
            "postgres",
            &format!(
                "CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"
            ),
        )
        .await;
    cluster
        .execute(
            name,
            "CREATE TABLE \"t\u{e9}\" (v text PRIMARY KEY); INSERT INTO \"t\u{e9}\" VALUES ('\u{e9}')",
        )
        .await;
    let snapshot = Database::open(name.to_owned()).await.snapshot().await;
    assert_eq!(column(&snapshot, "t\u{e9}", 0).await, [Some("\u{e9}".to_owned())]);
}

fn assert_ascending(snapshot: &Snapshot, table: &str, records: &[Record]) {
    let order = snapshot.order(collection(snapshot, table));
    assert_eq!(order, ScanOrder::Key, "{table}");
    for pair in records.windows(2) {
        assert!(pair[0].key < pair[1].key, "{table}: {:?} then {:?}", pair[0].fields[0], pair[1].fields[0]);
    }
}

/// PG-K01, K03, K05, K06: where an index is said to deliver key order, it does.
#[tokio::test]
async fn k01_index_order_is_key_order() {
    let tables = [
        ("k_int", "int", "(random() * 2e9 - 1e9)::int"),
        ("k_small", "smallint", "i - 150"),
        ("k_big", "bigint", "(random() * 2e18 - 1e18)::bigint"),
        ("k_oid", "oid", "(i::bigint * 14000000)::oid"),
        ("k_uuid", "uuid", "md5(i::text)::uuid"),
        ("k_date", "date", "'2000-01-01'::date + (i - 150) * 7919"),
        ("k_ts", "timestamp", "'2000-01-01'::timestamp + (i - 150) * interval '3713 days 01:02:03.456789'"),
        ("k_tz", "timestamptz", "'2000-01-01'::timestamptz + (i - 150) * interval '3713 days 01:02:03.456'"),
        (
            "k_bytea",
            "bytea",
            "substr(decode(md5(i::text), 'hex'), 1, 1 + i % 16) || '\\x00'::bytea || int4send(i)",
        ),
        ("k_numeric", "numeric", "(i - 150) * 10.0 ^ (i % 60 - 30) + i / 1e40"),
        ("k_float8", "float8", "(i - 150) * 10.0::float8 ^ (i % 300 - 150)"),
        ("k_float4", "real", "((i - 150) * 10.0::float8 ^ (i % 40 - 20))::real"),
        ("k_c_text", "text COLLATE \"C\"", "chr(33 + i % 90) || chr(192 + i) || i"),
    ];
    let mut sql = String::new();
    for (name, kind, value) in tables {
        sql += &format!(
            "CREATE TABLE {name} (k {kind} PRIMARY KEY, i int);
             INSERT INTO {name} SELECT {value}, i FROM generate_series(1, 300) i ORDER BY random() ON CONFLICT DO NOTHING;"
        );
    }
    sql += "INSERT INTO k_numeric VALUES ('NaN'), ('Infinity'), ('-Infinity'), (repeat('7', 1000)::numeric);
        INSERT INTO k_float8 VALUES ('NaN'), ('Infinity'), ('-Infinity');
        INSERT INTO k_float4 VALUES ('NaN'), ('Infinity'), ('-Infinity');
        INSERT INTO k_date VALUES ('infinity'), ('-infinity'), ('4713-01-01 BC'), ('5874897-12-31');
        INSERT INTO k_ts VALUES ('infinity'), ('-infinity'), ('294276-12-31 23:59:59.999999'), ('4713-01-01 BC');
        CREATE TABLE k_bool (k bool PRIMARY KEY); INSERT INTO k_bool VALUES (true), (false);
        CREATE TABLE k_several (a text COLLATE \"C\", b int, c timestamptz, PRIMARY KEY (a, b, c));
        INSERT INTO k_several SELECT chr(97 + i % 3) || repeat('x', i % 4), i % 5, now() + i * interval '1 s' FROM generate_series(1, 300) i";
    let database = Database::with(&sql).await;
    let snapshot = database.snapshot().await;
    for name in tables.map(|table| table.0).into_iter().chain(["k_bool", "k_several"]) {
        let records = rows(&snapshot, name).await;
        assert!(records.len() >= 2, "{name}");
        assert_ascending(&snapshot, name, &records);
    }
}

/// PG-K02, K07, K08, K10, K17: no index order is claimed where it is not key order.
#[tokio::test]
async fn k02_other_orders_are_not_claimed() {
    let database = Database::with(
        "CREATE TYPE mood AS ENUM ('z', 'a'); CREATE DOMAIN small AS int;
         CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         CREATE TABLE n_text (k text COLLATE \"en-x-icu\" PRIMARY KEY); CREATE TABLE n_enum (k mood PRIMARY KEY);
         CREATE TABLE n_char (k char(3) COLLATE \"C\" PRIMARY KEY); CREATE TABLE n_loose (k text COLLATE loose PRIMARY KEY);
         CREATE TABLE n_inet (k inet PRIMARY KEY); CREATE TABLE n_array (k int[] PRIMARY KEY);
         CREATE TABLE n_range (k int4range PRIMARY KEY); CREATE TABLE n_domain (k small PRIMARY KEY);
         CREATE TABLE n_interval (k interval PRIMARY KEY); CREATE TABLE n_jsonb (k jsonb PRIMARY KEY);
         CREATE TABLE n_desc (a int NOT NULL, b int NOT NULL); CREATE UNIQUE INDEX ON n_desc (a DESC, b);
         CREATE TABLE n_pattern (k text NOT NULL); CREATE UNIQUE INDEX ON n_pattern (k COLLATE \"C\" text_pattern_ops);
         INSERT INTO n_enum VALUES ('z'), ('a'); INSERT INTO n_array VALUES ('[0:1]={1,2}'), ('{1,2}');
         INSERT INTO n_text VALUES ('a'), ('B'), ('C'); INSERT INTO n_inet VALUES ('10.0.0.1'), ('10.0.0.1/8')",
    )
    .await;
    let snapshot = database.snapshot().await;
    for table in snapshot.collections() {
        assert_eq!(snapshot.order(table), ScanOrder::Any, "{}", table.name);
        assert_ne!(table.layout.key.source, KeySource::Multiset, "{}", table.name);
        scan(&snapshot, table).await.unwrap();
    }
    // K07: by label. K11: bounds are part of an array.
    let mut labels = rows(&snapshot, "n_enum").await;
    labels.sort();
    assert_eq!(labels[0].text(0), Some("a"));
    let arrays = rows(&snapshot, "n_array").await;
    assert_ne!(arrays[0].key, arrays[1].key);
}

/// PG-K12, K13, K14, K18: which index is the key.
#[tokio::test]
async fn k13_only_an_index_that_always_holds_is_a_key() {
    let database = Database::with(
        "CREATE TABLE pk (a int, b int UNIQUE NOT NULL, PRIMARY KEY (a));
         CREATE TABLE deferred (a int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED);
         CREATE TABLE uniq (a int NOT NULL, b int NOT NULL, c int NOT NULL);
         CREATE UNIQUE INDEX z_one ON uniq (c); CREATE UNIQUE INDEX a_two ON uniq (a, b); CREATE UNIQUE INDEX b_one ON uniq (b) INCLUDE (a);
         CREATE TABLE identity (a int NOT NULL, b int NOT NULL); CREATE UNIQUE INDEX i_a ON identity (a);
         CREATE UNIQUE INDEX i_b ON identity (b); ALTER TABLE identity REPLICA IDENTITY USING INDEX i_b;
         CREATE TABLE nullable (a int UNIQUE); INSERT INTO nullable VALUES (NULL), (NULL), (1);
         CREATE TABLE partial (a int NOT NULL); CREATE UNIQUE INDEX ON partial (a) WHERE a > 0;
         CREATE TABLE expression (a text NOT NULL); CREATE UNIQUE INDEX ON expression (lower(a));
         CREATE TABLE later (a int NOT NULL UNIQUE DEFERRABLE);
         CREATE TABLE equal_nulls (a int NOT NULL UNIQUE NULLS NOT DISTINCT);
         CREATE TABLE generated (a int NOT NULL, g int GENERATED ALWAYS AS (a + 1) STORED NOT NULL UNIQUE);
         CREATE TABLE excluded (r int4range NOT NULL, EXCLUDE USING gist (r WITH &&));
         CREATE TABLE swapped (a int, b int, PRIMARY KEY (b, a))",
    )
    .await;
    let snapshot = database.snapshot().await;
    let key = |name: &str| {
        let layout = &collection(&snapshot, name).layout;
        let columns: Vec<_> = layout
            .key
            .columns
            .iter()
            .map(|part| layout.columns[part.column as usize].name.as_str())
            .collect();
        (layout.key.source, layout.key.name.clone().unwrap_or_default(), columns.join(","))
    };
    let owned = |source, name: &str, columns: &str| (source, name.to_owned(), columns.to_owned());
    assert_eq!(key("pk"), owned(KeySource::Primary, "pk_pkey", "a"));
    assert_eq!(key("deferred"), owned(KeySource::Primary, "deferred_pkey", "a"));
    assert_eq!(key("uniq"), owned(KeySource::Unique, "b_one", "b"));
    assert_eq!(key("identity"), owned(KeySource::Unique, "i_b", "b"));
    assert_eq!(key("swapped"), owned(KeySource::Primary, "swapped_pkey", "b,a"));
    for table in ["nullable", "partial", "expression", "later", "equal_nulls", "generated", "excluded"] {
        assert_eq!(key(table), owned(KeySource::Multiset, "", ""), "{table}");
    }
    assert_eq!(rows(&snapshot, "nullable").await.len(), 3);
}

/// PG-K16: rows without a key are counted, and their keys say nothing of their place.
#[tokio::test]
async fn k16_equal_rows_without_a_key_are_all_there() {
    let database = Database::with(
        "CREATE TABLE t (a int, b text); INSERT INTO t VALUES (1, 'x'), (1, 'x'), (1, 'x'), (2, NULL)",
    )
    .await;
    let mut before = rows(&database.snapshot().await, "t").await;
    before.sort();
    assert_eq!(before.len(), 4);
    assert_eq!(
        before
            .iter()
            .filter(|record| record.text(0) == Some("1"))
            .map(|record| &record.key)
            .collect::<std::collections::HashSet<_>>()
            .len(),
        1
    );
    database.execute("UPDATE t SET a = a").await;
    database.execute("VACUUM FULL t").await;
    let mut after = rows(&database.snapshot().await, "t").await;
    after.sort();
    assert_eq!(after, before);
}

/// PG-K14: a re-read takes the layout of the first read, not the choice of today.
#[tokio::test]
async fn k14_a_later_read_uses_the_first_layout() {
    let database = Database::with(
        "CREATE TABLE t (id int PRIMARY KEY, a text, b int); INSERT INTO t VALUES (2, 'x', 1), (1, 'y', 2)",
    )
    .await;
    let first = database.snapshot().await;
    let (layout, before) = (collection(&first, "t").layout.clone(), rows(&first, "t").await);
    first.close().await.unwrap();
    database.execute("ALTER TABLE t DROP CONSTRAINT t_pkey; ALTER TABLE t ADD COLUMN c int DEFAULT 7; CREATE UNIQUE INDEX ON t (b); ALTER TABLE t ALTER b SET NOT NULL").await;
    let later = database.snapshot().await;
    assert_ne!(collection(&later, "t").layout, layout);
    let mut again = scan_as(&later, &layout, "public", "t").await.unwrap().1;
    again.sort();
    assert_eq!(again, before);

    let without = |name: &'static str| {
        let mut layout = layout.clone();
        layout.columns[1].name = name.to_owned();
        layout
    };
    assert_eq!(scan_as(&later, &without("gone"), "public", "t").await.unwrap_err().kind(), Kind::NotFound);
    assert_eq!(scan_as(&later, &layout, "public", "none").await.unwrap_err().kind(), Kind::NotFound);
    later.close().await.unwrap();
    database.execute("ALTER TABLE t ALTER id DROP NOT NULL; UPDATE t SET id = NULL").await;
    let nulls = database.snapshot().await;
    assert_eq!(scan_as(&nulls, &layout, "public", "t").await.unwrap_err().kind(), Kind::Conflict);
}

/// PG-O01, O02, O03, O12: what is one collection and what is none.
#[tokio::test]
async fn o01_partition_roots_are_collections_and_leaves_are_not() {
    let database = Database::with(
        "CREATE TYPE mood AS ENUM ('sad', 'ok');
         CREATE TABLE p (m mood, id int, PRIMARY KEY (m, id)) PARTITION BY LIST (m);
         CREATE TABLE p_sad PARTITION OF p FOR VALUES IN ('sad') PARTITION BY RANGE (id);
         CREATE TABLE p_sad_1 PARTITION OF p_sad FOR VALUES FROM (0) TO (10);
         CREATE TABLE p_ok PARTITION OF p FOR VALUES IN ('ok');
         CREATE TABLE r (id int PRIMARY KEY) PARTITION BY HASH (id);
         CREATE TABLE r0 PARTITION OF r FOR VALUES WITH (MODULUS 2, REMAINDER 0);
         CREATE TABLE r1 PARTITION OF r FOR VALUES WITH (MODULUS 2, REMAINDER 1);
         INSERT INTO r SELECT generate_series(1, 500); INSERT INTO p VALUES ('sad', 1), ('ok', 2), ('ok', 1);
         CREATE TABLE parent (id int PRIMARY KEY, a text); CREATE TABLE child (b text) INHERITS (parent);
         INSERT INTO parent VALUES (1, 'p'); INSERT INTO child VALUES (2, 'c', 'x');
         CREATE VIEW v AS SELECT * FROM r; CREATE MATERIALIZED VIEW mv AS SELECT * FROM r WITH NO DATA;
         CREATE UNLOGGED TABLE u (id int PRIMARY KEY); CREATE TEMP TABLE tmp (id int);
         CREATE EXTENSION IF NOT EXISTS plpgsql",
    )
    .await;
    let snapshot = database.snapshot().await;
    assert_eq!(names(&snapshot), ["public.child", "public.p", "public.parent", "public.r", "public.u"]);
    assert_eq!(collection(&snapshot, "p").layout.kind, CollectionKind::PartitionedTable);
    assert_eq!(rows(&snapshot, "p").await.len(), 3);
    let hashed = rows(&snapshot, "r").await;
    assert_eq!(hashed.len(), 500);
    assert_ascending(&snapshot, "r", &hashed);
    assert_eq!(column(&snapshot, "parent", 1).await, [Some("p".to_owned())]);
    assert_eq!(column(&snapshot, "child", 2).await, [Some("x".to_owned())]);
    assert!(snapshot.incomplete().is_empty(), "{:?}", snapshot.incomplete());
}

#[tokio::test]
async fn o02_foreign_tables_are_named_and_not_read() {
    let database = Database::with(
        "CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
         CREATE FOREIGN TABLE outside (a text) SERVER files OPTIONS (filename '/etc/hostname');
         CREATE TABLE p (id int, a text) PARTITION BY LIST (id); CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
         CREATE FOREIGN TABLE p2 PARTITION OF p FOR VALUES IN (2) SERVER files OPTIONS (filename '/etc/hostname');
         INSERT INTO p VALUES (1, 'here')",
    )
    .await;
    let snapshot = database.snapshot().await;
    assert_eq!(names(&snapshot), ["public.p"]);
    assert_eq!(column(&snapshot, "p", 1).await, [Some("here".to_owned())]);
    let missing: Vec<_> = snapshot.incomplete().iter().map(|missing| missing.name.as_str()).collect();
    assert_eq!(missing, ["public.p2 (partition of public.p)"], "its root lacks the partition's rows");
    assert!(
        matches!(snapshot.notes(), [note] if note.starts_with("public.outside is a foreign table")),
        "{:?}",
        snapshot.notes()
    );
}

/// PG-O04, O05, O06: which columns a record has.
#[tokio::test]
async fn o04_generated_and_dropped_columns_are_not_stored() {
    let database = Database::with(
        "CREATE TABLE t (gone int, id int PRIMARY KEY, a int, g int GENERATED ALWAYS AS (a * 2) STORED, z text);
         ALTER TABLE t DROP COLUMN gone; INSERT INTO t VALUES (1, 5, DEFAULT, 'z');
         CREATE TABLE bare (); INSERT INTO bare DEFAULT VALUES; INSERT INTO bare DEFAULT VALUES",
    )
    .await;
    let snapshot = database.snapshot().await;
    let layout = &collection(&snapshot, "t").layout;
    let columns: Vec<_> =
        layout.columns.iter().map(|column| (column.name.as_str(), column.type_name.as_str())).collect();
    assert_eq!(columns, [("id", "integer"), ("a", "integer"), ("z", "text")]);
    assert_eq!(rows(&snapshot, "t").await[0].text(2), Some("z"));
    assert_eq!(rows(&snapshot, "bare").await.len(), 2);
    assert!(collection(&snapshot, "t").schema.contains("\"generated\":\"(a * 2)\""));
}

/// PG-O12: of an extension's tables only those whose rows are the user's, and only those rows.
#[tokio::test]
async fn o12_configuration_tables_of_extensions_are_read_by_their_condition() {
    let database = Database::with(
        "CREATE TABLE conf (id int PRIMARY KEY, a text); INSERT INTO conf VALUES (1, 'shipped'), (1001, 'own');
         CREATE TABLE internal (id int); CREATE TABLE own (id int)",
    )
    .await;
    // An extension as its catalog rows: installing files into the server's folder would outlive the test.
    database
        .execute(
            "INSERT INTO pg_depend SELECT 'pg_class'::regclass, c.oid, 0, 'pg_extension'::regclass, e.oid, 0, 'e'
               FROM pg_class c, pg_extension e WHERE c.relname IN ('conf', 'internal') AND e.extname = 'plpgsql';
             UPDATE pg_extension SET extconfig = ARRAY['conf'::regclass::oid], extcondition = ARRAY['WHERE id > 1000']
               WHERE extname = 'plpgsql'",
        )
        .await;
    let snapshot = database.snapshot().await;
    assert_eq!(names(&snapshot), ["public.conf", "public.own"]);
    assert_eq!(column(&snapshot, "conf", 1).await, [Some("own".to_owned())]);
}

/// PG-O13: large objects are read by page, and empty ones are there too.
#[tokio::test]
async fn o13_large_objects_are_a_collection_or_named_as_missing() {
    let database =
        Database::with("SELECT lo_from_bytea(500001, repeat('x', 5000)::bytea); SELECT lo_create(500002)")
            .await;
    let snapshot = database.snapshot().await;
    let objects = collection(&snapshot, "pg_largeobject");
    assert_eq!(objects.layout.kind, CollectionKind::LargeObjects);
    let mut pages = rows(&snapshot, "pg_largeobject").await;
    pages.sort();
    let ids: Vec<_> = pages.iter().map(|page| (page.text(0).unwrap(), page.text(1).unwrap())).collect();
    assert_eq!(ids, [("500001", "-1"), ("500001", "0"), ("500001", "1"), ("500001", "2"), ("500002", "-1")]);
    assert_eq!(pages[1].text(2).unwrap().len(), 2 + 2 * 2048);
    // Whose an object is belongs to the object, and older layouts did not ask.
    assert_eq!((pages[0].text(3), pages[1].text(3)), (Some(engine_testutils::postgres::SUPERUSER), None));
    let mut older = objects.layout.clone();
    older.columns.truncate(3);
    let (_, mut fewer) = scan_as(&snapshot, &older, "pg_catalog", "pg_largeobject").await.unwrap();
    fewer.sort();
    assert!(fewer.iter().zip(&pages).all(|(fewer, page)| fewer.fields == page.fields[..3]));
    assert_eq!(fewer.len(), pages.len());
    snapshot.close().await.unwrap();

    database.execute(&format!("REVOKE pg_read_all_data FROM {}", database.role)).await;
    let snapshot = database.snapshot().await;
    assert!(
        snapshot
            .incomplete()
            .iter()
            .any(|missing| missing.name == "pg_catalog.pg_largeobject" && missing.reason.contains("2 large"))
    );
}

/// PG-O14, O15: names are data.
#[tokio::test]
async fn o14_names_of_any_kind_are_read() {
    let names = [
        "select",
        "a b",
        "a.b",
        "semi;colon",
        "it's",
        "back\\slash",
        "new\nline",
        "quo\"te",
        "\u{e9}\u{1f600}",
        "UPPER",
        "n\n\\! touch /tmp/never",
        "$1",
        "%s",
        "a,b",
    ];
    let quote = engine_testutils::postgres::quote_identifier;
    let mut sql = "CREATE SCHEMA \"s\"\"c.h\";".to_owned();
    for name in names {
        let name = quote(name);
        sql += &format!(
            "CREATE TABLE \"s\"\"c.h\".{name} ({name} text PRIMARY KEY, \"a\"\"b\" int); INSERT INTO \"s\"\"c.h\".{name} VALUES ('v', 1);"
        );
    }
    let long = "\u{e9}".repeat(31);
    sql += &format!("CREATE TABLE {} (id int)", quote(&long));
    let database = Database::with(&sql).await;
    let snapshot = database.snapshot().await;
    for name in names {
        let found = collection(&snapshot, name);
        assert_eq!((found.namespace.as_str(), found.layout.columns[0].name.as_str()), ("s\"c.h", name));
        assert_eq!(column(&snapshot, name, 0).await, [Some("v".to_owned())], "{name}");
    }
    assert_eq!(rows(&snapshot, &long).await.len(), 0);
}

/// PG-D09: the schema text changes with the schema and with nothing else.
#[tokio::test]
async fn d09_the_schema_text_is_the_schema() {
    let sql = "CREATE TABLE other (id int PRIMARY KEY);
        CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a text COLLATE \"C\" DEFAULT 'x', o int REFERENCES other,
          CONSTRAINT positive CHECK (id > 0)) WITH (fillfactor = 70);
        CREATE INDEX t_a ON t (a); COMMENT ON COLUMN t.a IS 'words';
        CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
        CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f(); ALTER TABLE t DISABLE TRIGGER tr;
        CREATE POLICY pol ON t FOR SELECT TO PUBLIC USING (id > 1);
        CREATE RULE ru AS ON DELETE TO t DO INSTEAD NOTHING;
        CREATE TABLE p (id int) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (5)";
    let (one, other) =
        (Database::with(sql).await, Database::with(&format!("CREATE TABLE shift_oids (); {sql}")).await);
    let (one_snapshot, other_snapshot) = (one.snapshot().await, other.snapshot().await);
    let text = |snapshot: &Snapshot, name: &str| collection(snapshot, name).schema.clone();
    assert_eq!(text(&one_snapshot, "t"), text(&other_snapshot, "t"));
    assert_eq!(
        text(&one_snapshot, "t"),
        concat!(
            "{\"columns\":[{\"identity\":\"always\",\"name\":\"id\",\"not_null\":true,\"type\":\"integer\"},",
            "{\"collation\":\"pg_catalog.\\\"C\\\"\",\"comment\":\"words\",\"default\":\"'x'::text\",\"name\":\"a\",\"not_null\":false,\"type\":\"text\"},",
            "{\"name\":\"o\",\"not_null\":false,\"type\":\"integer\"}],",
            "\"constraints\":[{\"definition\":\"CHECK ((id > 0))\",\"name\":\"positive\"},",
            "{\"definition\":\"FOREIGN KEY (o) REFERENCES public.other(id)\",\"name\":\"t_o_fkey\"},",
            "{\"definition\":\"PRIMARY KEY (id)\",\"name\":\"t_pkey\"}],",
            "\"indexes\":[{\"definition\":\"CREATE INDEX t_a ON public.t USING btree (a)\",\"name\":\"t_a\"}],",
            "\"kind\":\"table\",\"options\":[\"fillfactor=70\"],",
            "\"policies\":[{\"definition\":\"PERMISSIVE FOR SELECT TO PUBLIC USING ((id > 1))\",\"name\":\"pol\"}],",
            "\"rules\":[{\"definition\":\"CREATE RULE ru AS\\n    ON DELETE TO public.t DO INSTEAD NOTHING;\",\"name\":\"ru\"}],",
            "\"triggers\":[{\"definition\":\"CREATE TRIGGER tr BEFORE INSERT ON public.t FOR EACH ROW EXECUTE FUNCTION public.f()\",\"enabled\":\"disabled\",\"name\":\"tr\"}]}"
        )
    );
    assert!(text(&one_snapshot, "p").contains("\"partition_key\":\"RANGE (id)\",\"partitions\":[{\"bound\":\"FOR VALUES FROM (0) TO (5)\",\"name\":\"public.p1\"}]"));
    one_snapshot.close().await.unwrap();
    one.execute("INSERT INTO t (a) VALUES ('row')").await;
    one.execute("VACUUM FULL t").await;
    assert_eq!(text(&one.snapshot().await, "t"), text(&other_snapshot, "t"));
    one.execute("ALTER TABLE t ALTER a SET NOT NULL").await;
    assert_ne!(text(&one.snapshot().await, "t"), text(&other_snapshot, "t"));
}

/// The catalog is asked a fixed number of times, however many tables there are.
#[tokio::test]
async fn a_thousand_tables_cost_no_more_questions_than_one() {
    let database = Database::with("DO $$ BEGIN FOR i IN 1..1000 LOOP EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY, a text)', i); END LOOP; END $$").await;
    let started = std::time::Instant::now();
    let snapshot = database.snapshot().await;
    assert_eq!(snapshot.collections().len(), 1000);
    assert!(started.elapsed() < std::time::Duration::from_secs(10), "{:?}", started.elapsed());
}

/// A batch is bounded, and a row longer than one is whole.
#[tokio::test]
async fn batches_are_bounded_and_counted() {
    let database = Database::with(
        "CREATE TABLE t (id int PRIMARY KEY, a text);
         INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 20000) i; INSERT INTO t VALUES (0, repeat('y', 3000000))",
    )
    .await;
    let snapshot = database.snapshot().await;
    let table = collection(&snapshot, "t");
    let (sender, mut receiver) = tokio::sync::mpsc::channel(2);
    let (row_key, cancel) = (support::row_key(), tokio_util::sync::CancellationToken::new());
    let collect = async {
        let mut seen = (0, 0, Vec::new());
        while let Some(batch) = receiver.recv().await {
            let batch: engine::source::RecordBatch = batch;
            seen = (seen.0 + batch.len() as u64, seen.1 + batch.bytes_read, seen.2);
            seen.2.push(batch.size_bytes());
        }
        seen
    };
    let (stats, seen) =
        tokio::join!(snapshot.scan(&table.layout, "public", "t", &row_key, sender, &cancel), collect);
    let stats = stats.unwrap();
    assert_eq!((stats.records, stats.bytes_read), (seen.0, seen.1));
    assert_eq!(stats.records, 20_001);
    assert!(seen.2[0] > 3_000_000 && seen.2[1..].iter().all(|&size| size < 300_000), "{:?}", seen.2);
    assert_eq!(table.layout.key.columns[0].encoding, KeyEncoding::Integer);
}

/// PG-S11: needs about 3 GB of memory for some seconds.
#[tokio::test]
async fn s11_a_value_the_server_cannot_print_is_named() {
    let database = Database::with(
        "CREATE TABLE t (id int PRIMARY KEY, b bytea); INSERT INTO t VALUES (1, 'x');
         INSERT INTO t SELECT 42, convert_to(repeat('x', 600000000), 'UTF8')",
    )
    .await;
    let snapshot = database.snapshot().await;
    let error = scan(&snapshot, collection(&snapshot, "t")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported, "{error:?}");
    assert!(error.message().contains("public.t") && error.message().contains("(42)"), "{error}");
}
