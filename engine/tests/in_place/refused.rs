//! What is not written, and that nothing is then.

use std::time::Duration;

use engine::{Context, Kind};
use tokio_util::sync::CancellationToken;

use super::*;

const TABLES: &str = "
    CREATE TABLE parent (id int PRIMARY KEY, v text); INSERT INTO parent SELECT n, 'v' FROM generate_series(1, 50) n;
    CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent ON DELETE CASCADE, v text);
    INSERT INTO child SELECT n, n, 'v' FROM generate_series(1, 50) n;";

/// A role with every right on the rows, that owns nothing.
async fn writer(target: &Target) -> String {
    let role = format!("{}_writer", target.name);
    target
        .execute(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'secret'; GRANT pg_read_all_data TO {role}; \
             GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}"
        ))
        .await;
    target.cluster.url(&role, "secret", &target.name)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_altered_after_the_plan_stops_the_restore() {
    let target = Target::new(TABLES).await;
    target.execute("UPDATE parent SET v = 'w' WHERE id < 9").await;
    let (plan, _) = target.plan(&Scope::All).await;
    target.execute("UPDATE parent SET v = 'x' WHERE id = 30").await;
    let now = all_of(&target, &["parent", "child"]).await;
    let error = target.apply(&Scope::All, &plan).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict, "{error}");
    assert!(error.message().contains("public.parent"), "{error}");
    assert_eq!(all_of(&target, &["parent", "child"]).await, now);
    assert_eq!(target.test.repo.snapshots().await.unwrap().len(), 1, "nothing was to be kept");
    let (repo, ctx, url) = (&target.test.repo, &target.test.ctx, target.url());
    let is_same = restore::is_as_planned(repo, &target.snapshot, &Scope::All, &plan, &url, ctx);
    assert!(!is_same.await.unwrap());
}

/// A connection that is dead and does not look it.
#[tokio::test(flavor = "multi_thread")]
async fn a_look_at_a_silent_server_ends_when_it_is_told_to_and_leaves_no_session() {
    let target = Target::new(TABLES).await;
    let (plan, _) = target.plan(&Scope::All).await;
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let url = format!("postgres://me:secret@127.0.0.1:{port}/{}?sslmode=disable", target.name);
    let ctx = Context { cancel: CancellationToken::new(), ..target.test.ctx.clone() };
    let cancel = ctx.cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        cancel.cancel();
    });
    let repo = &target.test.repo;
    let looked = restore::is_as_planned(repo, &target.snapshot, &Scope::All, &plan, &url, &ctx).await;
    assert_eq!(looked.unwrap_err().kind(), Kind::Cancelled);
    let sessions = target.test.path().join("sessions");
    let left = std::fs::read_dir(sessions).map_or(0, Iterator::count);
    assert_eq!(left, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_triggers_are_off_meanwhile_and_on_again_as_they_were() {
    let target = Target::new(&format!(
        "{TABLES} CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.v = 'meddled'; RETURN NEW; END $$;
         CREATE TRIGGER one BEFORE INSERT OR UPDATE ON parent FOR EACH ROW EXECUTE FUNCTION meddle();
         CREATE TRIGGER two BEFORE UPDATE ON parent FOR EACH ROW EXECUTE FUNCTION meddle();
         CREATE TRIGGER three BEFORE UPDATE ON parent FOR EACH ROW EXECUTE FUNCTION meddle();
         ALTER TABLE parent ENABLE ALWAYS TRIGGER two; ALTER TABLE parent DISABLE TRIGGER three;"
    ))
    .await;
    let (rows, states) = (
        all_of(&target, &["parent"]).await,
        "SELECT string_agg(concat(tgname, tgenabled), ',' ORDER BY tgname) FROM pg_trigger WHERE NOT tgisinternal",
    );
    target.execute("DELETE FROM parent WHERE id = 7; UPDATE parent SET v = 'w' WHERE id < 5").await;
    let (plan, _) = target.plan(&Scope::All).await;
    assert!(detail(&plan, "triggers").contains("are off"), "{:?}", plan.preflight);
    target.apply(&Scope::All, &plan).await.unwrap();
    assert_eq!(all_of(&target, &["parent"]).await, rows);
    assert_eq!(target.text(states).await, "oneO,threeD,twoA");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_that_meddles_makes_the_proof_fail_and_nothing_is_changed() {
    let target = Target::new(&format!(
        "{TABLES} CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.v = 'meddled'; RETURN NEW; END $$;
         CREATE TRIGGER meddles BEFORE UPDATE ON parent FOR EACH ROW WHEN (NEW.id = 3) EXECUTE FUNCTION meddle();"
    ))
    .await;
    target.execute("UPDATE parent SET v = 'w' WHERE id IN (2, 3)").await;
    let url = writer(&target).await;
    let (plan, _) = target.plan(&Scope::All).await;
    let now = all_of(&target, &["parent", "child"]).await;
    let error = target.apply_with(&Scope::All, &plan, &url).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused, "{error}");
    assert!(
        error.message().contains("public.parent: 1 differ (3 has other values in the target)"),
        "{error}"
    );
    assert_eq!(all_of(&target, &["parent", "child"]).await, now);
    // What was there before had been kept by then.
    assert_eq!(target.test.repo.snapshots().await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_tables_that_are_not_restored_do_not_go_by_a_foreign_key() {
    let target = Target::new(TABLES).await;
    target
        .execute(
            "INSERT INTO parent VALUES (51, 'new'), (52, 'new'); INSERT INTO child VALUES (51, 51, 'new')",
        )
        .await;
    let scope = tables(&["public.parent"]);
    let (plan, _) = target.plan(&scope).await;
    assert!(detail(&plan, "foreign keys").contains("public.child"));
    let now = all_of(&target, &["parent", "child"]).await;
    let error = target.apply(&scope, &plan).await.unwrap_err();
    assert!(error.message().contains("public.child: 1 differ"), "{error}");
    assert_eq!(all_of(&target, &["parent", "child"]).await, now);

    target.execute("DELETE FROM child WHERE id = 51").await;
    let (plan, _) = target.plan(&scope).await;
    let restored = target.apply(&scope, &plan).await.unwrap();
    assert_eq!((restored.records, restored.proof.collections.len()), (2, 1));
    assert_eq!(target.text("SELECT count(*) FROM child").await, "50");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_write_is_told_before_anything_happens() {
    let target = Target::new(TABLES).await;
    target.execute("UPDATE parent SET v = 'w'").await;
    let url = writer(&target).await;
    target.execute(&format!("REVOKE DELETE ON child FROM {}_writer", target.name)).await;
    let (plan, _) = target.plan(&Scope::All).await;
    let error = target.apply_with(&Scope::All, &plan, &url).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Denied, "{error}");
    assert!(
        error.message().contains("public.child") && !error.message().contains("public.parent"),
        "{error}"
    );
    // Whose foreign keys cannot be put off writes in an order in which they hold.
    target.execute(&format!("GRANT DELETE ON child TO {}_writer", target.name)).await;
    target.execute("DELETE FROM child WHERE id < 9; DELETE FROM parent WHERE id < 5; INSERT INTO parent VALUES (60, 'n'); UPDATE child SET parent = 60 WHERE id > 40").await;
    let (plan, _) = target.plan(&Scope::All).await;
    let restored = target.apply_with(&Scope::All, &plan, &url).await.unwrap();
    assert!(restored.proof.matches);
    assert_eq!(target.text("SELECT count(*), count(DISTINCT parent) FROM child").await, "50|50");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_are_not_alike_are_left_and_named() {
    let target = Target::new(&format!("{TABLES} CREATE TABLE gone (id int PRIMARY KEY); CREATE TABLE wider (id serial PRIMARY KEY, v text); INSERT INTO wider (v) VALUES ('a')")).await;
    target
        .execute("DROP TABLE gone; ALTER TABLE wider ADD COLUMN w text DEFAULT 'mine'; UPDATE wider SET v = 'b'; ALTER TABLE child ALTER COLUMN v SET DEFAULT 'd';
                  SELECT nextval('wider_id_seq'); UPDATE parent SET v = 'w' WHERE id = 1")
        .await;
    let (plan, _) = target.plan(&Scope::All).await;
    let found = detail(&plan, "tables");
    assert!(found.contains("public.gone: the target has no such table"), "{found}");
    assert!(
        found.contains("public.wider: the target's table has a column that the snapshot's has not: w"),
        "{found}"
    );
    assert!(detail(&plan, "definitions").contains("public.child"), "{:?}", plan.preflight);
    let restored = target.apply(&Scope::All, &plan).await.unwrap();
    assert_eq!(restored.notes.iter().filter(|note| note.failed).count(), 2, "{:?}", restored.notes);
    assert_eq!(target.text("SELECT string_agg(v || w, ',') FROM wider").await, "bmine");
    assert_eq!(target.text("SELECT nextval('wider_id_seq')").await, "3", "its table was not restored");

    // What is asked for by name is not left out on the quiet.
    let (plan, _) = target.try_plan(&tables(&["public.parent", "public.wider"])).await.unwrap();
    assert!(!plan.is_clear());
    let unknown = target.try_plan(&tables(&["public.nonesuch"])).await.unwrap_err();
    assert_eq!(unknown.kind(), Kind::NotFound);
    let unknown = target.try_plan(&records("public.parent", vec!["AAAA".to_owned()])).await.unwrap_err();
    assert_eq!(unknown.kind(), Kind::NotFound);
    let malformed = target.try_plan(&records("public.parent", vec!["no id!".to_owned()])).await.unwrap_err();
    assert_eq!(malformed.kind(), Kind::Invalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_planner_could_not_read_is_left_by_whoever_can() {
    let target = Target::new(TABLES).await;
    target.execute("UPDATE parent SET v = 'w'; UPDATE child SET v = 'w'").await;
    let role = format!("{}_less", target.name);
    target
        .execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'secret'; GRANT SELECT ON parent TO {role}"))
        .await;
    let reader = target.cluster.url(&role, "secret", &target.name);
    let (repo, ctx) = (&target.test.repo, &target.test.ctx);
    let planned = restore::plan_in_place(repo, &target.snapshot, &Scope::All, &reader, ctx).await;
    let (plan, _) = planned.unwrap();
    assert!(detail(&plan, "tables").contains("public.child cannot be read"), "{:?}", plan.preflight);
    let url = target.url();
    let is_same = restore::is_as_planned(repo, &target.snapshot, &Scope::All, &plan, &url, ctx);
    assert!(is_same.await.unwrap());
    let restored = target.apply(&Scope::All, &plan).await.unwrap();
    assert_eq!((restored.records, restored.notes.iter().filter(|note| note.failed).count()), (50, 1));
    assert_eq!(target.text("SELECT count(*) FROM child WHERE v = 'w'").await, "50");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_cancelled_leaves_everything_as_it_was() {
    let target = Target::new(TABLES).await;
    target.execute("UPDATE parent SET v = 'w'").await;
    let (plan, _) = target.plan(&Scope::All).await;
    let now = all_of(&target, &["parent", "child"]).await;
    // A trigger keeps the writing from ending.
    target
        .execute("CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_catalog.pg_sleep(600); RETURN NEW; END $$;
                  CREATE TRIGGER waits BEFORE UPDATE ON parent FOR EACH ROW EXECUTE FUNCTION wait();")
        .await;
    let url = writer(&target).await;
    let sleeping = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND wait_event = 'PgSleep'",
        target.name
    );
    let cancel = async {
        while target.text(&sleeping).await == "0" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        target.test.ctx.cancel.cancel();
    };
    let (done, ()) = tokio::join!(target.apply_with(&Scope::All, &plan, &url), cancel);
    assert_eq!(done.unwrap_err().kind(), Kind::Cancelled);
    assert_eq!(target.text(&sleeping).await, "0", "the server works on it no more");
    target.execute("DROP TRIGGER waits ON parent").await;
    assert_eq!(all_of(&target, &["parent", "child"]).await, now);
}
