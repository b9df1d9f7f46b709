//! Taking a restore back.

use engine::Kind;

use super::*;

const TABLES: &str = "
    CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT n, 'v' || n FROM generate_series(1, 300) n;
    CREATE TABLE copies (v text); INSERT INTO copies SELECT 'c' || n % 3 FROM generate_series(1, 30) n;
    CREATE SEQUENCE s; SELECT setval('s', 300);";

const CHANGES: &str = "
    UPDATE t SET v = 'w' WHERE id <= 10; DELETE FROM t WHERE id = 100; INSERT INTO t VALUES (301, 'new');
    DELETE FROM copies WHERE v = 'c1'; INSERT INTO copies VALUES ('c2'), ('c9');
    SELECT setval('s', 350);";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_restore_wrote_becomes_what_it_was() {
    let target = Target::new(TABLES).await;
    target.execute(CHANGES).await;
    let changed = all_of(&target, &["t", "copies"]).await;
    let (plan, restored) = target.restore(&Scope::All).await;
    assert_ne!(all_of(&target, &["t", "copies"]).await, changed);
    // Rows that the restore did not write may change as they like.
    target.execute("UPDATE t SET v = 'later' WHERE id = 200; INSERT INTO t VALUES (999, 'later')").await;

    let undone = target.undo(&Scope::All, &plan, &restored).await.unwrap();
    assert!(undone.proof.matches, "{:#?}", undone.proof);
    assert_eq!((undone.conflicts.count, undone.records), (0, 12 + 12));
    target.execute("UPDATE t SET v = 'v200' WHERE id = 200; DELETE FROM t WHERE id = 999").await;
    assert_eq!(all_of(&target, &["t", "copies"]).await, changed);
    assert_eq!(target.text("SELECT nextval('s')").await, "351");
    // What is taken back already is not taken back again.
    let again = target.undo(&Scope::All, &plan, &restored).await.unwrap();
    assert_eq!((again.records, again.conflicts.count), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_changed_since_are_conflicts_and_stay() {
    let target = Target::new(TABLES).await;
    target.execute(CHANGES).await;
    let (plan, restored) = target.restore(&Scope::All).await;
    target
        .execute("UPDATE t SET v = 'mine' WHERE id IN (3, 100); INSERT INTO t VALUES (301, 'mine'); INSERT INTO copies VALUES ('c1');
                  UPDATE t SET v = 'w' WHERE id = 4; SELECT setval('s', 360)")
        .await;
    let undone = target.undo(&Scope::All, &plan, &restored).await.unwrap();
    assert!(undone.proof.matches);
    assert_eq!(undone.conflicts.count, 4, "{:?}", undone.conflicts);
    let examples = undone.conflicts.examples.join(", ");
    for named in ["public.t: 3", "public.t: 100", "public.t: 301", "public.copies: row"] {
        assert!(examples.contains(named), "{examples}");
    }
    let sql = "SELECT string_agg(id || v, ',' ORDER BY id) FROM t WHERE v <> 'v' || id";
    assert_eq!(target.text(sql).await, "1w,2w,3mine,4w,5w,6w,7w,8w,9w,10w,100mine,301mine");
    let sql = "SELECT string_agg(v || ':' || n, ',' ORDER BY v) FROM (SELECT v, count(*) n FROM copies GROUP BY v) c";
    assert_eq!(target.text(sql).await, "c0:10,c1:11,c2:11,c9:1");
    assert_eq!(target.text("SELECT last_value FROM s").await, "360", "it went on since");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_of_single_records_is_taken_back_by_itself() {
    let target = Target::new(TABLES).await;
    target.execute("UPDATE t SET v = 'w'").await;
    let (_, preview) = target.plan(&tables(&["public.t"])).await;
    let ids =
        target.changes(&preview, "public.t").await.into_iter().take(2).map(|change| change.id).collect();
    let scope = records("public.t", ids);
    let (plan, restored) = target.restore(&scope).await;
    let sql = "SELECT string_agg(id || v, ',' ORDER BY id) FROM t WHERE v <> 'w'";
    assert_eq!(target.text(sql).await, "1v1,2v2");
    let undone = target.undo(&scope, &plan, &restored).await.unwrap();
    assert_eq!((undone.records, undone.conflicts.count), (2, 0));
    assert_eq!(target.text("SELECT count(*) FROM t WHERE v = 'w'").await, "300");
}

/// The other rows could be taken back; which one is in the way is for people to say.
#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_that_holds_what_may_be_there_once_is_named() {
    let target = Target::new(
        "CREATE TABLE u (id int PRIMARY KEY, v text UNIQUE); INSERT INTO u VALUES (1, 'a'), (2, 'b')",
    )
    .await;
    target.execute("UPDATE u SET v = 'c' WHERE id = 1; UPDATE u SET v = 'd' WHERE id = 2").await;
    let (plan, restored) = target.restore(&Scope::All).await;
    target.execute("UPDATE u SET v = 'c' WHERE id = 2").await;
    let error = target.undo(&Scope::All, &plan, &restored).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused, "{error}");
    let help = error.help().unwrap();
    assert!(help.starts_with("Nothing was changed. ") && help.contains("(public.u: 2)"), "{help}");
    assert_eq!(all_of(&target, &["u"]).await, "u: (1,a)|(2,c)\n");
}
