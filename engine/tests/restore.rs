//! Restoring into a new database, on a real server, and what proves it.

mod support;

use engine::{Kind, restore};
use engine_testutils::demo;
use engine_testutils::postgres::Cluster;
use restore::Scope;
use support::{TestRepo, database};

/// What is hard to carry over: text that looks like COPY's own, every kind of NULL, deep types.
const AWKWARD: &str = r#"
    CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
    CREATE TABLE parent (id int PRIMARY KEY, name text UNIQUE);
    CREATE TABLE child (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, parent_id int REFERENCES parent,
        feeling mood, tags text[], doc jsonb, raw bytea, at timestamptz DEFAULT now(),
        twice int GENERATED ALWAYS AS (parent_id * 2) STORED);
    INSERT INTO parent VALUES (1, E'tab\there'), (2, E'line\nbreak'), (3, '\N'), (4, '\.'), (5, E'\\'), (6, ''), (7, NULL);
    INSERT INTO child (parent_id, feeling, tags, doc, raw)
        SELECT 1 + n % 7, (ARRAY['sad', 'ok', 'happy'])[1 + n % 3]::mood, ARRAY[n::text, NULL, 'a,"b'],
            jsonb_build_object('n', n, 'list', jsonb_build_array(1, NULL, 'x')), decode(md5(n::text), 'hex')
        FROM generate_series(1, 5000) n;
    CREATE TABLE "Odd ""name""" ("a b" int, "ü" text);
    INSERT INTO "Odd ""name""" VALUES (1, 'x'), (1, 'x'), (NULL, NULL);
    CREATE TABLE nothing ();
    INSERT INTO nothing DEFAULT VALUES; INSERT INTO nothing DEFAULT VALUES;
    CREATE TABLE parts (id int, region text, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
    CREATE TABLE parts_eu PARTITION OF parts FOR VALUES IN ('eu');
    CREATE TABLE parts_rest PARTITION OF parts DEFAULT;
    INSERT INTO parts SELECT n, (ARRAY['eu', 'us', 'ap'])[1 + n % 3] FROM generate_series(1, 300) n;
    CREATE TABLE large (id int PRIMARY KEY, body text);
    INSERT INTO large SELECT n, (SELECT string_agg(md5((n * 100000 + m)::text), '') FROM generate_series(1, 20000) m) FROM generate_series(1, 3) n;
    CREATE VIEW feelings AS SELECT feeling, count(*) FROM child GROUP BY feeling;
    CREATE FUNCTION add(a int, b int) RETURNS int LANGUAGE sql AS 'SELECT a + b';
    CREATE SEQUENCE alone START 100 INCREMENT 5; SELECT nextval('alone'), nextval('alone');
    CREATE INDEX ON child (feeling, parent_id);
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_database_has_the_snapshots_roots() {
    let (cluster, name, url) = database(AWKWARD).await;
    let test = TestRepo::new().await;
    let snapshot = test.backup(&url).await;
    assert_eq!(snapshot.manifest.missing, []);

    let target = cluster.superuser_url(&format!("{name}_restored"));
    let plan = restore::plan(&test.repo, &snapshot, &Scope::All, &target, &test.ctx).await.unwrap();
    assert!(plan.is_clear(), "{:?}", plan.preflight);
    assert_eq!(plan.confirm_phrase, format!("{name}_restored"));
    assert_eq!(
        plan.preview.collections.iter().map(|found| found.records.added).sum::<u64>(),
        snapshot.manifest.records
    );

    let wrong = restore::apply(&test.repo, &snapshot, &Scope::All, &plan, "yes", &target, &test.ctx).await;
    assert_eq!(wrong.unwrap_err().kind(), Kind::Invalid);
    let other = cluster.superuser_url("postgres");
    let wrong =
        restore::apply(&test.repo, &snapshot, &Scope::All, &plan, &plan.confirm_phrase, &other, &test.ctx)
            .await;
    assert_eq!(wrong.unwrap_err().kind(), Kind::Invalid);

    let done =
        restore::apply(&test.repo, &snapshot, &Scope::All, &plan, &plan.confirm_phrase, &target, &test.ctx)
            .await
            .unwrap();
    assert!(done.proof.matches, "{:#?}", done.proof);
    assert_eq!((done.proof.differences, done.records), (0, snapshot.manifest.records));
    assert_eq!(done.proof.schema_differences, Vec::<String>::new());
    assert!(done.notes.iter().all(|note| !note.failed), "{:?}", done.notes);

    // The server agrees: same rows by its own comparison, same objects, sequences go on.
    let restored = format!("{name}_restored");
    for sql in [
        "SELECT md5(string_agg(child::text, '|' ORDER BY id)) FROM child",
        "SELECT md5(string_agg(md5(body), '' ORDER BY id)) FROM large",
        "SELECT string_agg(conname || pg_get_constraintdef(oid), ';' ORDER BY conname) FROM pg_constraint WHERE connamespace = 'public'::regnamespace",
        "SELECT string_agg(indexdef, ';' ORDER BY indexdef) FROM pg_indexes WHERE schemaname = 'public'",
        "SELECT nextval('alone'), nextval('child_id_seq')",
        "SELECT add(2, 3) || string_agg(f::text, ',' ORDER BY feeling) FROM feelings f",
        "SELECT count(*) FROM nothing",
    ] {
        assert_eq!(cluster.query_text(&name, sql).await, cluster.query_text(&restored, sql).await, "{sql}");
    }

    // A second restore finds the database occupied, and leaves it alone.
    let again = restore::plan(&test.repo, &snapshot, &Scope::All, &target, &test.ctx).await.unwrap();
    assert!(!again.is_clear());
    let refused =
        restore::apply(&test.repo, &snapshot, &Scope::All, &again, &again.confirm_phrase, &target, &test.ctx)
            .await;
    assert_eq!(refused.unwrap_err().kind(), Kind::Conflict);
    assert_eq!(cluster.query_one(&restored, "SELECT count(*) FROM child").await, "5000");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_altered_row_makes_the_proof_fail() {
    let (cluster, name, url) = database(
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT n, 'v' || n FROM generate_series(1, 20000) n;
         CREATE TABLE u (v text); INSERT INTO u SELECT 'same' FROM generate_series(1, 10);
         CREATE TABLE w (id int PRIMARY KEY); CREATE SEQUENCE s;",
    )
    .await;
    let test = TestRepo::new().await;
    let snapshot = test.backup(&url).await;
    let restored = format!("{name}_restored");
    let target = cluster.superuser_url(&restored);
    let plan = restore::plan(&test.repo, &snapshot, &Scope::All, &target, &test.ctx).await.unwrap();
    let done =
        restore::apply(&test.repo, &snapshot, &Scope::All, &plan, &plan.confirm_phrase, &target, &test.ctx)
            .await
            .unwrap();
    assert!(done.proof.matches);

    let prove = || restore::prove(&test.repo, &snapshot, &target, &test.ctx);
    cluster.execute(&restored, "UPDATE t SET v = 'altered' WHERE id = 12345").await;
    let proof = prove().await.unwrap();
    assert!(!proof.matches);
    assert_eq!(proof.differences, 1);
    let t = proof.collections.iter().find(|found| found.name == "public.t").unwrap();
    assert_eq!(t.examples, ["12345 has other values in the target"]);
    assert_ne!(t.expected_root, t.found_root);

    // Fewer copies of equal rows, a table that is gone, a sequence that went on, a new column.
    let sql = "UPDATE t SET v = 'v12345' WHERE id = 12345; DELETE FROM u WHERE ctid IN (SELECT ctid FROM u LIMIT 1);
               DROP TABLE w; SELECT nextval('s'); ALTER TABLE t ADD COLUMN extra int; CREATE TABLE more (id int)";
    cluster.execute(&restored, sql).await;
    let proof = prove().await.unwrap();
    let failed: Vec<_> =
        proof.collections.iter().filter(|found| !found.matches).map(|found| found.name.as_str()).collect();
    assert_eq!(failed, ["public.u", "public.w"], "a column that nobody asked for changes no value");
    assert_eq!(
        proof.schema_differences,
        ["public.t: column extra added: integer", "public.more: is in the target only"]
    );
    assert_eq!(proof.sequence_differences, ["sequence public.s: stands at 1, not before 1"]);

    // A sequence alone is a difference, and a sequence that is gone is one too.
    let sql = "INSERT INTO u VALUES ('same'); CREATE TABLE w (id int PRIMARY KEY); DROP TABLE more;
               ALTER TABLE t DROP COLUMN extra";
    cluster.execute(&restored, sql).await;
    let proof = prove().await.unwrap();
    assert_eq!((proof.matches, proof.differences), (false, 1), "{proof:#?}");
    cluster.execute(&restored, "DROP SEQUENCE s").await;
    let proof = prove().await.unwrap();
    assert_eq!(proof.sequence_differences, ["sequence public.s: the target has no such sequence"]);
    assert_eq!(proof.schema_differences, Vec::<String>::new(), "told once");
    assert_eq!((proof.matches, proof.differences), (false, 1), "{proof:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_database_comes_back_whole() {
    let cluster = engine_testutils::postgres::Cluster::shared();
    let name = cluster.fresh_database("demo").await;
    demo::seed(&cluster.connect(&name).await).await.unwrap();
    let url = cluster.create_read_only_role(&name, &format!("{name}_reader")).await;
    let test = TestRepo::new().await;
    let snapshot = test.backup(&url).await;
    assert_eq!(snapshot.manifest.missing, []);
    let target = cluster.superuser_url(&format!("{name}_restored"));
    let plan = restore::plan(&test.repo, &snapshot, &Scope::All, &target, &test.ctx).await.unwrap();
    let done =
        restore::apply(&test.repo, &snapshot, &Scope::All, &plan, &plan.confirm_phrase, &target, &test.ctx)
            .await
            .unwrap();
    assert!(
        done.proof.matches,
        "{:#?}",
        done.proof.collections.iter().filter(|found| !found.matches).collect::<Vec<_>>()
    );
    assert_eq!(done.proof.schema_differences, Vec::<String>::new());
    assert!(done.notes.iter().all(|note| !note.failed), "{:?}", done.notes);
}

/// Restores a snapshot into a new database as a role that may create databases and no more.
async fn restored_by_owner(
    test: &TestRepo,
    snapshot: &engine::repo::Snapshot,
    cluster: &engine_testutils::postgres::Cluster,
    name: &str,
) -> (String, restore::Restored) {
    let owner = format!("{name}_owner");
    cluster.execute("postgres", &format!("CREATE ROLE {owner} LOGIN CREATEDB PASSWORD 'p'")).await;
    let target = cluster.url(&owner, "p", &format!("{name}_restored"));
    let plan = restore::plan(&test.repo, snapshot, &Scope::All, &target, &test.ctx)
        .await
        .expect("because the target can be looked at");
    assert!(plan.is_clear(), "{:?}", plan.preflight);
    let done =
        restore::apply(&test.repo, snapshot, &Scope::All, &plan, &plan.confirm_phrase, &target, &test.ctx)
            .await
            .expect("because nothing is in the way");
    (target, done)
}

fn missing_names(snapshot: &engine::repo::Snapshot) -> Vec<&str> {
    snapshot.manifest.missing.iter().map(|missing| missing.name.as_str()).collect()
}

/// A role that owns large objects reads them through functions, which show zeros where no page is.
#[tokio::test(flavor = "multi_thread")]
async fn large_objects_are_proven_by_an_owner_who_is_no_superuser() {
    let (cluster, name, url) = database(
        "CREATE TABLE t (id int PRIMARY KEY); SELECT lo_create(500002), lo_from_bytea(500003, 'x');
         SELECT lo_from_bytea(500001, decode(repeat('00ff10', 3000), 'hex')), lo_put(500003, 9000, 'y')",
    )
    .await;
    let test = TestRepo::new().await;
    let snapshot = test.backup(&url).await;
    let (target, done) = restored_by_owner(&test, &snapshot, cluster, &name).await;
    assert!(done.proof.matches, "{:#?}", done.proof);
    assert_eq!(done.proof.collections[0].name, "pg_catalog.pg_largeobject");

    // Whose it is is no content.
    let text = "3 large objects have another owner, other privileges or another comment";
    assert_eq!((&done.proof.remarks, done.proof.schema_differences.len()), (&vec![text.to_owned()], 0));

    // What makes an object longer is a difference even when it is zeros, and so is any other byte.
    let restored = format!("{name}_restored");
    let sql = "SELECT lo_put(500002, 0, '\\x00'), lo_put(500003, 4000, 'z'), lo_put(500001, 5, 'z')";
    cluster.execute(&restored, sql).await;
    let proof = restore::prove(&test.repo, &snapshot, &target, &test.ctx).await.unwrap();
    assert_eq!((proof.matches, proof.differences), (false, 3), "{proof:#?}");

    // Somebody else's objects cannot be read, which is not the same as missing.
    cluster.execute(&restored, "SELECT lo_create(500009)").await;
    let proof = restore::prove(&test.repo, &snapshot, &target, &test.ctx).await.unwrap();
    let told = &proof.collections[0].examples;
    assert!(!proof.matches && told[0].contains("cannot be read: "), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_table_is_its_definition_and_leaves_a_snapshot_complete() {
    let (cluster, name, url) = database(
        "CREATE FOREIGN DATA WRAPPER elsewhere; CREATE SERVER far FOREIGN DATA WRAPPER elsewhere;
         CREATE FOREIGN TABLE outside (id int, note text) SERVER far; CREATE TABLE t (id int PRIMARY KEY)",
    )
    .await;
    let test = TestRepo::new().await;
    let snapshot = test.backup(&url).await;
    assert!(snapshot.manifest.is_complete(), "{:?}", snapshot.manifest.missing);
    assert!(snapshot.manifest.notes[0].starts_with("public.outside is a foreign table"));
    let restored = format!("{name}_restored");
    let target = cluster.superuser_url(&restored);
    let plan = restore::plan(&test.repo, &snapshot, &Scope::All, &target, &test.ctx).await.unwrap();
    let done =
        restore::apply(&test.repo, &snapshot, &Scope::All, &plan, &plan.confirm_phrase, &target, &test.ctx)
            .await
            .unwrap();
    assert!(done.proof.matches && done.notes.iter().all(|note| !note.failed), "{:?}", done.notes);
    let kind = "SELECT relkind FROM pg_class WHERE relname = 'outside'";
    assert_eq!(cluster.query_one(&restored, kind).await, "f");
    assert_eq!(done.proof.schema_differences, Vec::<String>::new());

    // What has no rows is compared too.
    let sql = "DROP SERVER far CASCADE; CREATE VIEW late AS SELECT 1 AS one";
    cluster.execute(&restored, sql).await;
    let proof = restore::prove(&test.repo, &snapshot, &target, &test.ctx).await.unwrap();
    assert_eq!((proof.matches, proof.differences), (false, 3), "{proof:#?}");
    assert_eq!(
        proof.schema_differences,
        [
            "foreign table outside in schema public is missing in the target",
            "server far is missing in the target",
            "view late in schema public is in the target only",
        ]
    );
}

/// What a database has before it is restored into is its maker's.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_database_made_by_others_is_restored_into_and_proven() {
    let (cluster, name, url) = database(
        "CREATE EXTENSION hstore; COMMENT ON EXTENSION hstore IS 'ours'; ALTER SCHEMA public OWNER TO CURRENT_USER;
         CREATE TABLE t (id int PRIMARY KEY, h hstore); INSERT INTO t VALUES (1, 'a=>b')",
    )
    .await;
    let test = TestRepo::new().await;
    let snapshot = test.backup(&url).await;
    let (role, restored) = (format!("{name}_maker"), format!("{name}_restored"));
    cluster.execute("postgres", &format!("CREATE ROLE {role} LOGIN PASSWORD 'p'")).await;
    cluster.execute("postgres", &format!("CREATE DATABASE {restored} OWNER {role}")).await;
    cluster.execute(&restored, "CREATE EXTENSION hstore").await;
    let target = cluster.url(&role, "p", &restored);
    let plan = restore::plan(&test.repo, &snapshot, &Scope::All, &target, &test.ctx).await.unwrap();
    let done =
        restore::apply(&test.repo, &snapshot, &Scope::All, &plan, &plan.confirm_phrase, &target, &test.ctx)
            .await
            .unwrap();
    assert!(done.proof.matches, "{:#?}", done.proof);
    assert!(done.notes.iter().all(|note| !note.failed), "{:?}", done.notes);
    assert!(
        done.notes.iter().any(|note| note.text.contains("comment on the extension hstore")),
        "{:?}",
        done.notes
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn materialized_views_without_data_stay_without() {
    let (cluster, name, url) = database(
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2);
         CREATE MATERIALIZED VIEW never AS SELECT 1 / (id - 1) AS share FROM t WITH NO DATA;
         CREATE MATERIALIZED VIEW base AS SELECT id FROM t; CREATE MATERIALIZED VIEW over AS SELECT id FROM base;
         REFRESH MATERIALIZED VIEW base WITH NO DATA",
    )
    .await;
    let test = TestRepo::new().await;
    let snapshot = test.backup(&url).await;
    let restored = format!("{name}_restored");
    let target = cluster.superuser_url(&restored);
    let plan = restore::plan(&test.repo, &snapshot, &Scope::All, &target, &test.ctx).await.unwrap();
    let done =
        restore::apply(&test.repo, &snapshot, &Scope::All, &plan, &plan.confirm_phrase, &target, &test.ctx)
            .await
            .unwrap();
    assert!(done.notes.is_empty(), "{:?}", done.notes);
    let filled = "SELECT string_agg(relname || ' ' || relispopulated, ', ' ORDER BY relname) FROM pg_class WHERE relkind = 'm'";
    assert_eq!(cluster.query_one(&name, filled).await, "base false, never false, over true");
    assert_eq!(cluster.query_one(&restored, filled).await, "base false, never false, over true");
}

/// A snapshot of what a role without `pg_read_all_data` may read, restored by a superuser.
async fn restored_in_part(
    name: &str,
    test: &TestRepo,
    snapshot: &engine::repo::Snapshot,
) -> restore::Restored {
    let target = Cluster::shared().superuser_url(&format!("{name}_restored"));
    let plan = restore::plan(&test.repo, snapshot, &Scope::All, &target, &test.ctx)
        .await
        .expect("because the target can be looked at");
    assert!(plan.is_clear(), "{:?}", plan.preflight);
    let told = &plan.preflight[0];
    assert!(told.warns, "{told:?}");
    for missing in &snapshot.manifest.missing {
        assert!(told.detail.contains(&missing.name), "{told:?}");
        let mut listed = plan.preview.collections.iter().map(|found| format!("{} (definition)", found.name));
        assert!(listed.all(|name| name != missing.name), "{:?}", plan.preview);
    }
    let done =
        restore::apply(&test.repo, snapshot, &Scope::All, &plan, &plan.confirm_phrase, &target, &test.ctx)
            .await
            .unwrap_or_else(|error| panic!("{error:?}"));
    for missing in &snapshot.manifest.missing {
        let remarks = &done.proof.remarks;
        assert!(remarks.iter().any(|text| text.contains(&missing.name)), "{:#?}", done.proof);
        assert!(done.notes.iter().any(|note| note.text.contains(&missing.name)), "{:#?}", done.notes);
    }
    done
}

/// Its rows were read through the root; only what it has of its own is missing.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_without_a_definition_is_made_from_its_place() {
    let (cluster, name, url) = database(
        "CREATE TABLE p (id int PRIMARY KEY, t text) PARTITION BY RANGE (id);
         CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
         CREATE TABLE \"P 2\" PARTITION OF p FOR VALUES FROM (10) TO (20);
         CREATE TABLE p3 PARTITION OF p DEFAULT; CREATE INDEX p_t ON p (t);
         INSERT INTO p SELECT n, 'x' || n FROM generate_series(0, 29) n;
         CREATE TABLE r (id int PRIMARY KEY, p int REFERENCES p); INSERT INTO r SELECT n, n FROM generate_series(5, 15) n;
         CREATE INDEX own ON \"P 2\" (t, id)",
    )
    .await;
    let role = format!("{name}_reader");
    cluster
        .execute(&name, &format!("REVOKE pg_read_all_data FROM {role}; GRANT SELECT ON p, p1, r TO {role}"))
        .await;
    let test = TestRepo::new().await;
    let snapshot = test.backup(&url).await;
    let names = missing_names(&snapshot);
    assert_eq!(names, ["public.\"P 2\"", "public.p3"]);

    let done = restored_in_part(&name, &test, &snapshot).await;
    assert!(done.proof.matches, "{:#?}", done.proof);
    assert_eq!(done.records, 41);
    let restored = format!("{name}_restored");
    for sql in [
        "SELECT string_agg(tableoid::regclass || ' ' || p::text, ',' ORDER BY id) FROM p",
        "SELECT string_agg(conname || pg_get_constraintdef(oid), ';' ORDER BY conname) FROM pg_constraint WHERE conrelid IN ('p'::regclass, 'r'::regclass)",
        "SELECT string_agg(indexrelid::regclass || ' ' || indisvalid, ', ' ORDER BY indexrelid::regclass::text) FROM pg_index WHERE indrelid IN ('p'::regclass, '\"P 2\"'::regclass, 'p3'::regclass) AND indexrelid::regclass::text <> 'own'",
    ] {
        assert_eq!(cluster.query_text(&name, sql).await, cluster.query_text(&restored, sql).await, "{sql}");
    }
    assert!(
        done.notes.iter().all(|note| !note.text.contains("no unique constraint") || !note.failed),
        "{:?}",
        done.notes
    );
}

/// In a tree of several levels a partition's parent is not known without its definition.
#[tokio::test(flavor = "multi_thread")]
async fn a_tree_of_partitions_is_restored_as_far_as_it_was_described() {
    let (cluster, name, url) = database(
        "CREATE TABLE q (id int, k text) PARTITION BY RANGE (id);
         CREATE TABLE q1 PARTITION OF q FOR VALUES FROM (0) TO (10) PARTITION BY LIST (k);
         CREATE TABLE q1a PARTITION OF q1 FOR VALUES IN ('a'); CREATE TABLE q1b PARTITION OF q1 FOR VALUES IN ('b');
         CREATE TABLE q2 PARTITION OF q FOR VALUES FROM (10) TO (20) PARTITION BY LIST (k);
         CREATE TABLE q2a PARTITION OF q2 FOR VALUES IN ('a'); CREATE TABLE q2b PARTITION OF q2 FOR VALUES IN ('b');
         INSERT INTO q SELECT n, CASE WHEN n % 2 = 0 THEN 'a' ELSE 'b' END FROM generate_series(0, 19) n",
    )
    .await;
    let role = format!("{name}_reader");
    cluster
        .execute(
            &name,
            &format!("REVOKE pg_read_all_data FROM {role}; GRANT SELECT ON q, q1a, q1b, q2, q2a TO {role}"),
        )
        .await;
    let test = TestRepo::new().await;
    let snapshot = test.backup(&url).await;
    let mut names = missing_names(&snapshot);
    names.sort_unstable();
    let part = |name: &str| format!("public.{name} (partition of public.q)");
    assert_eq!(names, ["public.q1", &part("q1a"), &part("q1b"), "public.q2b", &part("q2b")]);
    let done = restored_in_part(&name, &test, &snapshot).await;
    assert!(done.proof.matches, "{:#?}", done.proof);
    let rows = "SELECT string_agg(q::text, ' ' ORDER BY id) FROM q WHERE id >= 10 AND k = 'a'";
    let restored = format!("{name}_restored");
    assert_eq!(cluster.query_one(&name, rows).await, cluster.query_one(&restored, rows).await);
    assert_eq!(cluster.query_one(&restored, "SELECT count(*) FROM q").await, "5");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_a_table_without_a_definition_is_left_out_and_the_rest_is_restored() {
    let (cluster, name, url) = database(
        "CREATE TABLE hidden (id int PRIMARY KEY, z int, counted int GENERATED ALWAYS AS IDENTITY);
         CREATE TABLE typed (id int PRIMARY KEY, h hidden); INSERT INTO typed VALUES (1, ROW(1, 2, 3));
         CREATE TYPE pair AS (a int, h hidden); CREATE TABLE deep (id serial PRIMARY KEY, p pair[]);
         CREATE TABLE heir (more int) INHERITS (hidden); CREATE DOMAIN positive AS int CHECK (VALUE > 0);
         CREATE FUNCTION weight(hidden) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
         CREATE TABLE defaulted (id int PRIMARY KEY, w int DEFAULT weight(NULL));
         CREATE TABLE checked (id int PRIMARY KEY, w int CHECK (weight(NULL) = 1));
         CREATE TABLE fine (id serial PRIMARY KEY, p positive); INSERT INTO fine (p) SELECT n FROM generate_series(1, 100) n;
         CREATE VIEW peek AS SELECT id FROM hidden; CREATE MATERIALIZED VIEW stored AS SELECT id FROM peek; CREATE INDEX ON stored (id);
         ALTER TABLE fine ADD h int REFERENCES hidden; CREATE POLICY own ON fine USING (EXISTS (SELECT FROM hidden));
         CREATE INDEX weighed ON fine ((p + weight(NULL))); CREATE VIEW other AS SELECT p FROM fine",
    )
    .await;
    let role = format!("{name}_reader");
    cluster
        .execute(
            &name,
            &format!(
                "REVOKE pg_read_all_data FROM {role}; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role};
                 GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO {role}; REVOKE SELECT ON hidden FROM {role}"
            ),
        )
        .await;
    let test = TestRepo::new().await;
    let snapshot = test.backup(&url).await;
    let mut names = missing_names(&snapshot);
    names.sort_unstable();
    let others = [
        "constraint fine_h_fkey on public.fine",
        "function public.weight(public.hidden)",
        "index public.weighed",
        "materialized view public.stored",
        "policy own on public.fine",
        "type public.pair",
        "view public.peek",
    ];
    let tables = ["checked", "deep", "defaulted", "heir", "hidden", "typed"]
        .map(|name| format!("public.{name}{}", if name == "hidden" { "" } else { " (definition)" }));
    let others = others.map(|other| format!("{other} (needs public.hidden)"));
    let mut expected: Vec<String> = others.into_iter().chain(tables).collect();
    expected.sort_unstable();
    assert_eq!(names, expected);
    let needs = snapshot.manifest.missing.iter().find(|missing| missing.name.contains("deep")).unwrap();
    assert!(needs.reason.contains("it needs public.hidden"), "{needs:?}");
    let sequences: Vec<&str> = snapshot.manifest.sequences.iter().map(|state| state.name.as_str()).collect();
    assert_eq!(sequences, ["deep_id_seq", "fine_id_seq"], "the table's own counter goes with it");

    let done = restored_in_part(&name, &test, &snapshot).await;
    let restored = format!("{name}_restored");
    assert_eq!(cluster.query_one(&restored, "SELECT sum(p) FROM fine").await, "5050");
    assert_eq!(cluster.query_one(&restored, "SELECT nextval('fine_id_seq')").await, "101");
    let all: Vec<&str> = done.proof.collections.iter().map(|found| found.name.as_str()).collect();
    assert_eq!(all, ["public.fine"], "the others are remarks");
    assert!(done.proof.collections[0].matches);
    assert!(
        done.notes
            .iter()
            .any(|note| note.failed && note.text.contains("public.typed with its 1 rows is not restored")),
        "{:?}",
        done.notes
    );
    // What needs the table and has no rows is missing, and the proof says so.
    let differences = done.proof.schema_differences.iter();
    let differences: Vec<&str> = differences.map(|line| line.split(" removed: ").next().unwrap()).collect();
    let missing = [
        "function weight(public.hidden)",
        "index stored_id_idx",
        "materialized view stored",
        "type pair",
        "view peek",
    ]
    .map(|object| format!("{object} in schema public is missing in the target"));
    let of_fine =
        ["constraint fine_h_fkey", "index weighed", "policy own"].map(|part| format!("public.fine: {part}"));
    assert_eq!(differences, of_fine.iter().chain(&missing).collect::<Vec<_>>());
}

async fn restored(name: &str, test: &TestRepo, snapshot: &engine::repo::Snapshot) -> restore::Restored {
    let target = Cluster::shared().superuser_url(&format!("{name}_restored"));
    restored_to(&target, test, snapshot).await
}

/// What `restored_by_owner` does, as a superuser of any server.
async fn restored_to(target: &str, test: &TestRepo, snapshot: &engine::repo::Snapshot) -> restore::Restored {
    let plan = restore::plan(&test.repo, snapshot, &Scope::All, target, &test.ctx)
        .await
        .expect("because the target can be looked at");
    assert!(plan.is_clear(), "{:?}", plan.preflight);
    restore::apply(&test.repo, snapshot, &Scope::All, &plan, &plan.confirm_phrase, target, &test.ctx)
        .await
        .unwrap_or_else(|error| panic!("{error:?}"))
}

/// Planning a query of a table evaluates what its indexes say of constants: a function there that
/// names another without its schema fails under an empty search path, and reading rows needs no plan.
#[tokio::test(flavor = "multi_thread")]
async fn a_function_in_an_index_that_needs_a_search_path_is_in_nobodys_way() {
    let index = |table: &str| format!("CREATE INDEX {table}_part ON {table} (v) WHERE v > rate();");
    let (cluster, name, url) = database(&format!(
        "CREATE FUNCTION base() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 5';
         CREATE FUNCTION rate() RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN base(); END';
         CREATE TABLE keyed (id int PRIMARY KEY, v int);
         INSERT INTO keyed SELECT n, n FROM generate_series(1, 3000) n ORDER BY md5(n::text);
         CREATE TABLE heap (v int); INSERT INTO heap SELECT n / 2 FROM generate_series(1, 100) n;
         CREATE TABLE parts (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
         CREATE TABLE parts1 PARTITION OF parts FOR VALUES FROM (0) TO (50) PARTITION BY RANGE (id);
         CREATE TABLE parts1a PARTITION OF parts1 FOR VALUES FROM (0) TO (20);
         CREATE TABLE parts1b PARTITION OF parts1 DEFAULT; CREATE TABLE parts2 PARTITION OF parts DEFAULT;
         INSERT INTO parts SELECT n, n FROM generate_series(0, 99) n; {}{}{}
         CREATE EXTENSION btree_gist;
         CREATE TABLE apart (id int PRIMARY KEY, v int, EXCLUDE USING gist (v WITH =) WHERE (v > rate()));
         INSERT INTO apart VALUES (2, 20), (1, 10)",
        index("keyed"),
        index("heap"),
        index("parts")
    ))
    .await;
    // The server refuses what the backup would ask first.
    let refused = cluster.connect(&name).await;
    refused.batch_execute("SET search_path = ''").await.unwrap();
    assert!(refused.batch_execute("SELECT id FROM public.keyed ORDER BY id").await.is_err());
    let report =
        engine::source::postgres::test(&engine::source::postgres::PostgresUrl::parse(&url).unwrap()).await;
    assert!(report.ok && report.stages.iter().all(|stage| stage.ok), "{report:#?}");

    let test = TestRepo::new().await;
    let with = test.backup(&url).await;
    assert!(with.manifest.is_complete(), "{:?}", with.manifest.missing);
    assert_eq!(with.manifest.records, 3000 + 100 + 100 + 2);
    let done = restored(&name, &test, &with).await;
    assert!(done.proof.matches, "{:#?}", done.proof);
    let indexes =
        "SELECT string_agg(indexdef, ';' ORDER BY indexdef) FROM pg_indexes WHERE schemaname = 'public'";
    let restored = format!("{name}_restored");
    assert_eq!(cluster.query_one(&name, indexes).await, cluster.query_one(&restored, indexes).await);
    assert!(done.notes.iter().all(|note| !note.failed), "{:#?}", done.notes);
    assert!(
        done.notes.iter().any(|note| note.text.contains("INDEX keyed_part") && note.text.contains("base()")),
        "{:#?}",
        done.notes
    );

    // The same rows, read the other way, make the same trees.
    cluster
        .execute(
            &name,
            "DROP INDEX keyed_part, heap_part, parts_part; ALTER TABLE apart DROP CONSTRAINT apart_v_excl",
        )
        .await;
    let without = test.backup(&url).await;
    let summary = engine::diff::summary(&test.repo, &with, &without, &test.ctx).await.unwrap();
    for found in &summary.collections {
        assert_eq!(found.records.differing(), 0, "{found:?}");
    }
}

/// What is lost by its own fault is told exactly, and the rest is there.
#[tokio::test(flavor = "multi_thread")]
async fn functions_that_count_on_a_search_path_work_while_rows_are_loaded() {
    let (cluster, name, url) = database(
        "CREATE SCHEMA shop; SET search_path = shop, public;
         CREATE TABLE rates (id int PRIMARY KEY, r int); INSERT INTO rates VALUES (1, 7);
         CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2 * n';
         CREATE FUNCTION named(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN twice(n); END';
         CREATE FUNCTION looked_up(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE
           AS 'BEGIN RETURN coalesce((SELECT r FROM rates WHERE id = n), 0); END';
         CREATE FUNCTION odd(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN elsewhere(n); END';
         CREATE TABLE made (id int PRIMARY KEY, g int GENERATED ALWAYS AS (named(id)) STORED,
           l int GENERATED ALWAYS AS (looked_up(id)) STORED);
         INSERT INTO made SELECT n FROM generate_series(1, 20) n;
         CREATE TABLE spread (id int) PARTITION BY RANGE (named(id));
         CREATE TABLE low PARTITION OF spread FOR VALUES FROM (0) TO (21);
         CREATE TABLE high PARTITION OF spread FOR VALUES FROM (21) TO (1000);
         INSERT INTO spread SELECT n FROM generate_series(1, 20) n;
         CREATE TABLE plain (id int PRIMARY KEY, v int); INSERT INTO plain VALUES (1, 1);
         CREATE INDEX by_name ON plain (named(v)); CREATE INDEX fine ON plain (v);
         CREATE FUNCTION elsewhere(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT n';
         CREATE INDEX by_odd ON plain (odd(v)); DROP FUNCTION elsewhere(int)",
    )
    .await;
    let test = TestRepo::new().await;
    let snapshot = test.backup(&url).await;
    assert!(snapshot.manifest.is_complete(), "{:?}", snapshot.manifest.missing);
    let done = restored(&name, &test, &snapshot).await;
    let restored = format!("{name}_restored");
    for sql in [
        "SELECT string_agg(id || ' ' || g, ',' ORDER BY id) FROM shop.made",
        "SELECT string_agg(tableoid::regclass || ' ' || id, ',' ORDER BY id) FROM shop.spread",
    ] {
        assert_eq!(cluster.query_text(&name, sql).await, cluster.query_text(&restored, sql).await, "{sql}");
    }
    let told = |text: &str| done.notes.iter().find(|note| note.text.contains(text)).map(|note| note.failed);
    assert_eq!(told("shop.made has generated columns"), Some(false), "{:#?}", done.notes);
    assert_eq!(told("CREATE INDEX by_name ON shop.plain"), Some(false), "{:#?}", done.notes);
    let lost: Vec<&str> =
        done.notes.iter().filter(|note| note.failed).map(|note| note.text.as_str()).collect();
    assert_eq!(lost.len(), 1, "{lost:#?}");
    for part in ["INDEX by_odd", "function elsewhere(integer) does not exist", "ON shop.plain"] {
        assert!(lost[0].contains(part), "{lost:?}");
    }
    let indexes =
        "SELECT string_agg(indexname, ',' ORDER BY indexname) FROM pg_indexes WHERE tablename = 'plain'";
    assert_eq!(cluster.query_one(&restored, indexes).await, "by_name,fine,plain_pkey");
    assert!(done.proof.collections.iter().all(|found| found.matches), "{:#?}", done.proof);
    assert_eq!(done.proof.schema_differences.len(), 1, "{:?}", done.proof.schema_differences);
    assert!(done.proof.schema_differences[0].starts_with("shop.plain: index by_odd removed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_and_privileges_are_proven_but_for_those_of_missing_roles() {
    let (cluster, name, url) = database(
        "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY); CREATE VIEW v AS SELECT id FROM t;
         CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; REVOKE ALL ON FUNCTION f() FROM PUBLIC",
    )
    .await;
    let clerk = format!("{name}_clerk");
    cluster
        .execute(
            &name,
            &format!(
                "CREATE ROLE {clerk}; GRANT SELECT ON t TO {clerk}; ALTER VIEW v OWNER TO {clerk};
                 ALTER DEFAULT PRIVILEGES FOR ROLE {clerk} GRANT SELECT ON TABLES TO PUBLIC"
            ),
        )
        .await;
    let test = TestRepo::new().await;
    let snapshot = test.backup(&url).await;
    let into = format!("{name}_restored");
    let target = cluster.superuser_url(&into);
    let done = restored_to(&target, &test, &snapshot).await;
    assert!(done.proof.matches && done.proof.remarks.is_empty(), "{:#?}", done.proof);

    let sql = format!(
        "REVOKE SELECT ON t FROM {clerk}; GRANT EXECUTE ON FUNCTION f() TO PUBLIC; ALTER TABLE u OWNER TO {clerk};
         GRANT INSERT ON t TO PUBLIC; ALTER DEFAULT PRIVILEGES FOR ROLE {clerk} REVOKE SELECT ON TABLES FROM PUBLIC"
    );
    cluster.execute(&into, &sql).await;
    let proof = restore::prove(&test.repo, &snapshot, &target, &test.ctx).await.unwrap();
    let differences = [
        format!("table u in schema public belongs to {clerk} in the target, not to dbsnap_test"),
        "privileges on FUNCTION f() in schema public, not in the target: REVOKE ALL ON FUNCTION public.f() FROM PUBLIC"
            .to_owned(),
        format!(
            "privileges on TABLE t in schema public, not in the target: GRANT SELECT ON TABLE public.t TO {clerk}, \
             in the target only: GRANT INSERT ON TABLE public.t TO PUBLIC"
        ),
        format!(
            "privileges on default privileges for tables of {clerk}, not in the target: \
             ALTER DEFAULT PRIVILEGES FOR ROLE {clerk} GRANT SELECT ON TABLES  TO PUBLIC"
        ),
    ];
    assert_eq!(proof.schema_differences, differences);
    assert_eq!((proof.matches, proof.differences), (false, 4));

    // A server without these roles: told once, and no difference.
    let elsewhere = Cluster::start();
    let target = elsewhere.superuser_url("restored");
    let done = restored_to(&target, &test, &snapshot).await;
    assert!(done.proof.matches && done.proof.remarks.is_empty(), "{:#?}", done.proof);
    let told = format!(
        "The target has no role {clerk}: 1 object of it belongs to dbsnap_test instead, 1 grant that names it is left out, \
         1 default privilege that names it is left out."
    );
    assert!(done.notes.iter().any(|note| note.text == told && !note.failed), "{told} in {:?}", done.notes);
    let open = "SELECT has_function_privilege('public', 'f()', 'EXECUTE')::text";
    assert_eq!(elsewhere.query_one("restored", open).await, "false");
    let proof = restore::prove(&test.repo, &snapshot, &target, &test.ctx).await.unwrap();
    assert!(proof.matches && proof.remarks.contains(&told), "{proof:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_security_that_is_forced_on_owners_comes_back_after_the_proof() {
    let (cluster, name, url) = database(
        "CREATE TABLE guarded (id int PRIMARY KEY); INSERT INTO guarded SELECT generate_series(1, 100);
         CREATE TABLE t (id int PRIMARY KEY REFERENCES guarded); INSERT INTO t VALUES (7);
         ALTER TABLE guarded ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
         CREATE POLICY few ON guarded USING (id < 10)",
    )
    .await;
    cluster.execute("postgres", &format!("ALTER ROLE {name}_reader BYPASSRLS")).await;
    let test = TestRepo::new().await;
    let snapshot = test.backup(&url).await;
    assert_eq!((&snapshot.manifest.missing, snapshot.manifest.records), (&Vec::new(), 101));
    let (target, done) = restored_by_owner(&test, &snapshot, cluster, &name).await;
    assert!(done.proof.matches, "{:#?}", done.proof);
    assert!(done.notes.iter().all(|note| !note.failed), "{:?}", done.notes);
    let restored = format!("{name}_restored");
    let forced =
        "SELECT concat_ws(' ', relrowsecurity, relforcerowsecurity) FROM pg_class WHERE relname = 'guarded'";
    assert_eq!(cluster.query_one(&restored, forced).await, "t t");

    // Its owner cannot prove it again, and is told why.
    let proof = restore::prove(&test.repo, &snapshot, &target, &test.ctx).await.unwrap();
    let told = proof.collections.iter().find(|found| found.name == "public.guarded").unwrap();
    assert!(!proof.matches && told.examples[0].contains("cannot be read: "), "{told:?}");

    // What the proof of its rows does not see, its definition, is compared all the same.
    let clerk = format!("{name}_clerk");
    let sql = format!("CREATE ROLE {clerk}; ALTER POLICY few ON guarded TO {clerk}");
    cluster.execute(&name, &sql).await;
    let snapshot = test.backup(&url).await;
    let (_, done) = restored_by_owner(&test, &snapshot, &Cluster::start(), &name).await;
    assert!(done.proof.collections.iter().all(|found| found.matches), "{:#?}", done.proof);
    assert_eq!(
        done.proof.schema_differences,
        ["policy guarded few in schema public is missing in the target"],
        "{:?}",
        done.notes
    );
    assert!(!done.proof.matches);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_inside_arrays_that_refuses_rows_comes_back_not_valid() {
    let (_, name, url) = database(
        "CREATE TABLE stock (item int PRIMARY KEY); INSERT INTO stock VALUES (1), (2);
         CREATE FUNCTION known(i int) RETURNS bool LANGUAGE sql AS 'SELECT EXISTS (SELECT FROM public.stock WHERE item = i)';
         CREATE DOMAIN item AS int CONSTRAINT in_stock CHECK (known(VALUE));
         CREATE TABLE wishes (id int PRIMARY KEY, items item[]); INSERT INTO wishes VALUES (1, '{1,2}'), (2, NULL);
         DELETE FROM stock WHERE item = 2",
    )
    .await;
    let test = TestRepo::new().await;
    let snapshot = test.backup(&url).await;
    let done = restored(&name, &test, &snapshot).await;
    assert!(done.proof.collections.iter().all(|found| found.matches), "{:#?}", done.proof);
    assert_eq!(done.records, snapshot.manifest.records);
    assert_eq!(done.proof.schema_differences, ["domain item in schema public is another in the target"]);
    let [note] = done.notes.as_slice() else { panic!("{:?}", done.notes) };
    for words in [
        "\"in_stock\" of public.item is NOT VALID: it holds for new rows. Rows of the snapshot could not be loaded",
        "loading public.wishes: value for domain public.item violates check constraint \"in_stock\"",
        "PostgreSQL does not check again what is inside arrays",
    ] {
        assert!(!note.failed && note.text.contains(words), "{words} in {note:?}");
    }
}

/// A time zone that is set on a database is no part of its schema, and is not restored.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_with_a_time_zone_of_its_own_has_the_schema_it_would_have_without() {
    let (cluster, name, url) = database(
        "CREATE TABLE p (t timestamptz NOT NULL, v int) PARTITION BY RANGE (t);
         CREATE TABLE p1 PARTITION OF p FOR VALUES FROM ('2024-01-01 00:00+00') TO ('2025-01-01 00:00+00');
         CREATE TABLE d (t timestamptz DEFAULT '2024-01-01 00:00+00', CHECK (t > '2000-01-01 00:00+00'));
         INSERT INTO p VALUES ('2024-06-01 12:00+00', 1); INSERT INTO d DEFAULT VALUES",
    )
    .await;
    let test = TestRepo::new().await;
    let before = test.backup(&url).await;
    cluster.execute(&name, &format!("ALTER DATABASE \"{name}\" SET timezone = 'Asia/Tokyo'")).await;
    let after = test.backup(&url).await;
    let summary = engine::diff::summary(&test.repo, &before, &after, &test.ctx).await.unwrap();
    assert!(summary.other_objects.is_none_or(|others| others.is_empty()), "a schema in another time zone");
    let done = restored(&name, &test, &after).await;
    assert!(done.proof.matches, "{:#?}", done.proof);
}
