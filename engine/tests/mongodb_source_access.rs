//! Who may read what, and what a connection test says of it. Case numbers are those of the list of
//! edge cases that the source was built against.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

#[path = "mongodb_source/support.rs"]
mod support;

use bson::{Bson, doc, rawdoc};
use engine::Kind;
use engine::source::mongodb::{MongoUrl, Options, Snapshot, read_only_setup, refuse_writers, test};
use engine::source::{ConnectionReport, Stage, StageReport};
use engine_testutils::mongodb::{Flavour, Options as ServerOptions, Scope, Server};
use support::{Database, best_effort, context, names, read_all};

fn url(text: &str) -> MongoUrl {
    MongoUrl::parse(text).unwrap()
}

fn stage(report: &ConnectionReport, stage: Stage) -> &StageReport {
    let found = report.stages.iter().find(|found| found.stage == stage);
    found.unwrap_or_else(|| panic!("no {stage:?} in {report:?}"))
}

/// MG-P01: what the setup script gives is enough, and passes.
#[tokio::test]
async fn p01_a_reader_of_one_database_suffices() {
    let database = Database::new().await;
    database.insert("orders", &[rawdoc! { "_id": 1 }]).await;
    let report = test(&database.url).await;
    assert!(report.ok, "{report:?}");
    assert_eq!((report.collections, report.engine.as_str()), (1, "mongodb"));
    let expected = [
        Stage::Resolve,
        Stage::Connect,
        Stage::Tls,
        Stage::Authenticate,
        Stage::List,
        Stage::Read,
        Stage::ReadOnly,
    ];
    assert_eq!(report.stages.iter().map(|found| found.stage).collect::<Vec<_>>(), expected);
    assert!(!report.server_version.is_empty() && report.privileges.is_empty());
    let (ctx, _folder) = context();
    let snapshot = database.snapshot(&ctx).await;
    let (all, _) = read_all(&snapshot, &ctx).await.unwrap();
    assert_eq!(all["orders"].len(), 1);
    snapshot.close().await.unwrap();
    assert!(read_only_setup(Some(&database.name)).contains(&database.name));
}

/// MG-P02, MG-P03: every privilege to write is named, with the way out.
#[tokio::test]
async fn p03_whoever_can_write_is_refused_and_told_why() {
    let database = Database::new().await;
    database.insert("orders", &[rawdoc! { "_id": 1 }]).await;
    for role in ["readWrite", "dbAdmin", "dbOwner"] {
        let name = format!("{role}_{}", database.name);
        let roles: Vec<Bson> = vec![doc! { "role": role, "db": &database.name }.into()];
        let report = test(&url(&database.server.create_user(&name, roles, &database.name).await)).await;
        assert!(!report.ok, "{role}: {report:?}");
        let found = stage(&report, Stage::ReadOnly);
        assert!(!found.ok && found.detail.contains(role), "{found:?}");
        let fix = found.fix.as_deref().unwrap();
        assert!(fix.contains("db.getSiblingDB(\"admin\").createUser({") && fix.contains("On Atlas"), "{fix}");
        let named = format!("database {}: ", database.name);
        assert!(report.privileges.iter().any(|found| found.starts_with(&named)), "{:?}", report.privileges);
    }
    let root = test(&url(&database.server.admin_url())).await;
    assert!(!root.ok && !stage(&root, Stage::ReadOnly).ok);

    // Also who may not even list what the URL names.
    let elsewhere = format!("elsewhere_{}", database.name);
    let roles: Vec<Bson> = vec![doc! { "role": "readWrite", "db": &elsewhere }.into()];
    let report = test(&url(&database.server.create_user(&elsewhere, roles, &database.name).await)).await;
    assert!(!report.ok && !stage(&report, Stage::List).ok, "{report:?}");
    assert!(
        stage(&report, Stage::ReadOnly).detail.contains(&format!("database {elsewhere}: ")),
        "{report:?}"
    );
}

/// MG-P03: who watches the deployment beside reading does not write.
#[tokio::test]
async fn p03_a_monitor_of_the_deployment_passes() {
    let database = Database::new().await;
    database.insert("orders", &[rawdoc! { "_id": 1 }]).await;
    let name = format!("monitor_{}", database.name);
    let roles = vec![
        doc! { "role": "read", "db": &database.name }.into(),
        doc! { "role": "clusterMonitor", "db": "admin" }.into(),
    ];
    let report = test(&url(&database.server.create_user(&name, roles, &database.name).await)).await;
    assert!(report.ok && report.privileges.is_empty(), "{report:?}");
}

/// MG-P04: without authentication everything is allowed.
#[tokio::test]
async fn p04_nobody_logged_in_is_not_read_only() {
    let server = Server::start(ServerOptions { auth: false, ..ServerOptions::default() });
    server.insert_raw("shop.orders", &[rawdoc! { "_id": 1 }]).await;
    let report = test(&url(&server.anonymous_url("shop"))).await;
    let found = stage(&report, Stage::ReadOnly);
    assert!(!report.ok && !found.ok, "{report:?}");
    assert!(
        found.detail.contains("nobody is logged in")
            && found.fix.as_deref().unwrap().contains("authorization")
    );
    assert!(stage(&report, Stage::Read).ok);
}

/// Both SCRAM mechanisms, chosen by the server and by the URL, and a user of another database.
#[tokio::test]
async fn both_scram_mechanisms_log_in() {
    let database = Database::new().await;
    database.insert("orders", &[rawdoc! { "_id": 1 }]).await;
    for (mechanism, source) in
        [("SCRAM-SHA-1", "admin"), ("SCRAM-SHA-256", "admin"), ("SCRAM-SHA-256", database.name.as_str())]
    {
        let name = format!("by_{mechanism}_{}_{}", source.len(), database.name);
        let role = doc! { "role": "read", "db": &database.name };
        let made =
            doc! { "createUser": &name, "pwd": "p@ss/word", "roles": [role], "mechanisms": [mechanism] };
        database.client.database(source).run_command(made).await.unwrap();
        let place = format!("127.0.0.1:{}/{}", database.server.port(), database.name);
        // SecantusDB does not tell which mechanisms a user has, and clients then take the older one.
        let tells = database.server.flavour() == Flavour::Mongod || mechanism == "SCRAM-SHA-1";
        let by_name = format!("&authMechanism={mechanism}");
        for said in tells.then_some("").into_iter().chain([by_name.as_str()]) {
            let text = format!("mongodb://{name}:p%40ss%2Fword@{place}?authSource={source}{said}");
            let report = test(&url(&text)).await;
            assert!(report.ok, "{mechanism} {said}: {report:?}");
            assert!(stage(&report, Stage::Authenticate).detail.contains(&name));
        }
        let other = if mechanism == "SCRAM-SHA-1" { "SCRAM-SHA-256" } else { "SCRAM-SHA-1" };
        let text =
            format!("mongodb://{name}:p%40ss%2Fword@{place}?authSource={source}&authMechanism={other}");
        let report = test(&url(&text)).await;
        assert!(!stage(&report, Stage::Authenticate).ok, "{mechanism} by {other}: {report:?}");
    }
}

#[tokio::test]
async fn wrong_credentials_fail_at_the_login() {
    let database = Database::new().await;
    let wrong = url(&database.server.url("nobody", "wrong-secret", &database.name));
    let report = test(&wrong).await;
    assert!(!report.ok);
    let found = stage(&report, Stage::Authenticate);
    assert!(!found.ok && !format!("{report:?}").contains("wrong-secret"), "{found:?}");
    assert!(stage(&report, Stage::Connect).ok);
    let (ctx, _folder) = context();
    let error = Snapshot::begin(&wrong, &Options::default(), &ctx).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Denied, "{error}");
}

#[tokio::test]
async fn unknown_hosts_and_closed_ports_fail_where_they_are_met() {
    let report = test(&url("mongodb://u:p@no-such-host.invalid/d")).await;
    assert!(!stage(&report, Stage::Resolve).ok && report.stages.len() == 1, "{report:?}");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let report = test(&url(&format!("mongodb://u:p@127.0.0.1:{free}/d"))).await;
    assert!(stage(&report, Stage::Resolve).ok && !stage(&report, Stage::Connect).ok, "{report:?}");
}

#[tokio::test]
async fn tls_is_tested_apart_from_the_login() {
    let server = Server::start(ServerOptions { tls: true, ..ServerOptions::default() });
    let good = server.create_read_only_user(Scope::Database("shop"), "reader").await;
    server.insert_raw("shop.orders", &[rawdoc! { "_id": 1 }]).await;
    let report = test(&url(&good)).await;
    assert!(report.ok, "{report:?}");
    assert!(stage(&report, Stage::Tls).detail.contains("checked"));
    let unverified = good.split("&tlsCAFile").next().unwrap();
    let soon = "serverSelectionTimeoutMS=1500";
    let report = test(&url(&format!("{unverified}&{soon}"))).await;
    let found = stage(&report, Stage::Tls);
    assert!(!report.ok && !found.ok, "{report:?}");
    let plain = good.split("&tls=").next().unwrap();
    let report = test(&url(&format!("{plain}&{soon}"))).await;
    let last = report.stages.last().unwrap();
    assert!(last.stage == Stage::Tls && !last.ok && last.detail.contains("TLS only"), "{report:?}");
    assert!(last.fix.as_deref().unwrap().contains("tls=true"), "{last:?}");
}

/// A server without TLS, or of another replica set than the URL says, is told before anybody's password is
/// doubted.
#[tokio::test]
async fn what_the_server_does_not_speak_or_belong_to_fails_before_the_login() {
    let database = Database::new().await;
    database.insert("orders", &[rawdoc! { "_id": 1 }]).await;
    let hello = database.client.database("admin").run_command(doc! { "hello": 1 }).await.unwrap();
    let set = hello.get_str("setName").unwrap();
    let soon = format!("{}&serverSelectionTimeoutMS=1500", database.url.expose());
    let cases = [
        ("tls=true", Stage::Tls, "without TLS", "tls=false".to_owned()),
        ("replicaSet=another", Stage::Connect, "\"another\"", format!("replicaSet={set} ")),
        (
            "replicaSet=another&directConnection=true",
            Stage::Connect,
            "\"another\"",
            format!("replicaSet={set} "),
        ),
    ];
    let cases = cases.into_iter().chain([(
        "readPreference=secondary",
        Stage::Connect,
        "readPreference",
        "secondaryPreferred".to_owned(),
    )]);
    for (option, at, told, fix) in cases {
        let report = test(&url(&format!("{soon}&{option}"))).await;
        let last = report.stages.last().unwrap();
        assert!(!report.ok && last.stage == at && !last.ok, "{option}: {report:?}");
        assert!(last.detail.contains(told) && last.fix.as_deref().unwrap().contains(&fix), "{last:?}");
        assert!(!report.stages.iter().any(|found| found.stage == Stage::Authenticate), "{report:?}");
        let connects = report.stages.iter().filter(|found| found.stage == Stage::Connect).count();
        assert_eq!(connects, 1, "{report:?}");
    }
    let named = test(&url(&format!("{}&replicaSet={set}", database.url.expose()))).await;
    assert!(stage(&named, Stage::List).ok, "{named:?}");
}

/// A mistyped database is there for no one: its name is doubted, beside those that are there.
#[tokio::test]
async fn a_database_that_is_not_there_is_told_with_those_that_are() {
    let server = Server::start(ServerOptions::default());
    server.insert_raw("shop.orders", &[rawdoc! { "_id": 1 }]).await;
    server.insert_raw("blog.posts", &[rawdoc! { "_id": 1 }]).await;
    let reader = server.create_read_only_user(Scope::All, "reader").await;
    let at = |database: &str| url(&reader.replacen("/admin?", &format!("/{database}?"), 1));
    let report = test(&at("shpo")).await;
    let last = report.stages.last().unwrap();
    assert!(!report.ok && last.stage == Stage::List && !last.ok, "{report:?}");
    assert!(last.detail.contains("no database shpo"), "{last:?}");
    let fix = last.fix.as_deref().unwrap();
    assert!(fix.contains("blog") && fix.contains("shop") && !fix.contains("admin"), "{fix}");
    assert!(test(&at("shop")).await.ok);
    // Who may list all has seen all.
    let report = test(&url(&reader.replacen("/admin?", "/?", 1))).await;
    assert!(report.ok && stage(&report, Stage::List).detail == "2 collections", "{report:?}");

    let of_shop = server.create_read_only_user(Scope::Database("shop"), "of_shop").await;
    let report = test(&url(&of_shop.replacen("/shop?", "/shpo?", 1))).await;
    let last = report.stages.last().unwrap();
    let fix = last.fix.as_deref().unwrap();
    assert!(
        last.stage == Stage::List && !last.ok && fix.contains("see shop.") && fix.contains("read"),
        "{last:?}"
    );

    let of_one = server.create_read_only_user(Scope::Database("later"), "early").await;
    let report = test(&url(&of_one)).await;
    let last = report.stages.last().unwrap();
    assert!(
        last.stage == Stage::List && !last.ok && !last.fix.as_deref().unwrap().contains("shop"),
        "{report:?}"
    );
}

/// MG-C07: a standalone server has no moment to read at.
#[tokio::test]
async fn c07_a_standalone_is_refused_unless_labelled() {
    let server = Server::start(ServerOptions { standalone: true, ..ServerOptions::default() });
    server.insert_raw("shop.orders", &[rawdoc! { "_id": 1 }, rawdoc! { "_id": 2 }]).await;
    let reader = url(&server.create_read_only_user(Scope::Database("shop"), "reader").await);
    let report = test(&reader).await;
    assert!(report.ok && report.notes.iter().any(|note| note.contains("standalone")), "{report:?}");
    let (ctx, _folder) = context();
    let error = Snapshot::begin(&reader, &Options::default(), &ctx).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(error.help().unwrap().contains("rs.initiate()"));
    let snapshot = Snapshot::begin(&reader, &best_effort(), &ctx).await.unwrap();
    let (all, rounds) = read_all(&snapshot, &ctx).await.unwrap();
    assert_eq!((all["orders"].len(), rounds), (2, 1));
    assert_eq!(snapshot.evidence().grade, repo_format::manifest::Grade::NotPointInTime);
    snapshot.close().await.unwrap();
}

/// MG-P06: who may not list databases sees those that may be read.
#[tokio::test]
async fn p06_databases_that_may_be_read_are_found_without_the_privilege_to_list() {
    let database = Database::new().await;
    database.insert("orders", &[rawdoc! { "_id": 1 }]).await;
    let other = database.server.fresh_database("other");
    database.server.insert_raw(&format!("{other}.secret"), &[rawdoc! { "_id": 1 }]).await;
    let text = database.url.expose().replacen(&format!("/{}?", database.name), "/?", 1);
    let (ctx, _folder) = context();
    let snapshot = Snapshot::begin(&url(&text), &Options::default(), &ctx).await.unwrap();
    assert_eq!(names(&snapshot), [format!("{}.orders", database.name)]);
    let (all, _) = read_all(&snapshot, &ctx).await.unwrap();
    assert_eq!(all["orders"].len(), 1);
    snapshot.close().await.unwrap();
}

/// MG-P06: that others may be there is told, also where the server tells privileges only of the user's own entry.
#[tokio::test]
async fn p06_databases_that_are_not_shown_may_be_there() {
    let database = Database::new().await;
    database.insert("orders", &[rawdoc! { "_id": 1 }]).await;
    let text = database.url.expose().replacen(&format!("/{}?", database.name), "/?", 1);
    let told = format!("only the databases that the user may read could be seen: {}", database.name);
    let report = test(&url(&text)).await;
    assert!(report.ok && stage(&report, Stage::List).detail.contains(&told), "{report:?}");
    let (ctx, _folder) = context();
    let snapshot = Snapshot::begin(&url(&text), &Options::default(), &ctx).await.unwrap();
    assert!(snapshot.notes().iter().any(|note| note.starts_with(&told)), "{:?}", snapshot.notes());
    snapshot.close().await.unwrap();
}

/// A user with a role of its own, of these actions on the database.
async fn user_who_may(database: &Database, suffix: &str, actions: &[&str]) -> MongoUrl {
    let name = format!("{suffix}_{}", database.name);
    let on = doc! { "resource": { "db": &database.name, "collection": "" }, "actions": actions.to_vec() };
    let role = doc! { "createRole": &name, "privileges": [on], "roles": [] };
    database.server.command("admin", role).await;
    let roles: Vec<Bson> = vec![doc! { "role": &name, "db": "admin" }.into()];
    url(&database.server.create_user(&name, roles, &database.name).await)
}

/// MG-P01: where every backup would fail the test does too, with the statement that mends it.
#[tokio::test]
async fn p01_rights_without_which_no_backup_succeeds_fail_the_test() {
    let database = Database::new().await;
    database.insert("orders", &[rawdoc! { "_id": 1 }]).await;
    let (ctx, _folder) = context();
    // SecantusDB honours no snapshot time: changes have to be followed.
    if database.server.flavour() == Flavour::SecantusDb {
        let deaf = user_who_may(&database, "deaf", &["find", "listCollections", "listIndexes"]).await;
        let error = Snapshot::begin(&deaf, &Options::default(), &ctx).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Denied, "{error}");
        let report = test(&deaf).await;
        let read = stage(&report, Stage::Read);
        assert!(!report.ok && !read.ok, "{report:?}");
        let lacks = format!("the privilege changeStream on {}", database.name);
        assert!(read.detail.contains(&lacks), "{read:?}");
        let fix = read.fix.as_deref().unwrap();
        let grant = format!(
            "grantRolesToUser(\"deaf_{name}\", [{{ role: \"read\", db: \"{name}\" }}])",
            name = database.name
        );
        assert!(fix.contains(&grant) && !fix.contains("back up without"), "{fix}");
        let role = doc! { "role": "read", "db": &database.name };
        let granted = doc! { "grantRolesToUser": format!("deaf_{}", database.name), "roles": [role] };
        database.server.command("admin", granted).await;
        assert!(test(&deaf).await.ok);
    }
    let blind = user_who_may(&database, "blind", &["changeStream", "listCollections", "listIndexes"]).await;
    let error = Snapshot::begin(&blind, &Options::default(), &ctx).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Denied, "{error}");
    let report = test(&blind).await;
    let read = stage(&report, Stage::Read);
    assert!(
        !report.ok && !read.ok && !read.fix.as_deref().unwrap().contains("back up without"),
        "{report:?}"
    );
}

/// MG-P04: a URL without a user, and a user without a role, are told as what they are.
#[tokio::test]
async fn p04_nobody_and_a_user_without_roles_are_told_what_they_lack() {
    let database = Database::new().await;
    database.insert("orders", &[rawdoc! { "_id": 1 }]).await;
    for place in ["", database.name.as_str()] {
        let nobody = url(&database.server.anonymous_url(place));
        let report = test(&nobody).await;
        let failed = report.stages.last().unwrap();
        assert!(!report.ok && failed.stage == Stage::Authenticate && !failed.ok, "{report:?}");
        assert!(failed.detail.contains("no user is logged in"), "{failed:?}");
        assert!(failed.fix.as_deref().unwrap().contains("Put user and password into the URL"), "{failed:?}");
        let error = refuse_writers(&nobody).await.unwrap_err();
        assert!(error.kind() == Kind::Denied && error.message().contains("no user is logged in"), "{error}");
    }
    let user = format!("reader_{}", database.name);
    let role = doc! { "role": "read", "db": &database.name };
    database.server.command("admin", doc! { "revokeRolesFromUser": &user, "roles": [role] }).await;
    let of_all = url(&database.url.expose().replacen(&format!("/{}?", database.name), "/?", 1));
    for url in [&database.url, &of_all] {
        let report = test(url).await;
        let failed = report.stages.last().unwrap();
        assert!(!report.ok && failed.stage == Stage::Authenticate, "{report:?}");
        assert!(failed.detail.contains(&format!("{user} has no roles any more")), "{report:?}");
        assert!(failed.fix.as_deref().unwrap().contains("grantRolesToUser"), "{failed:?}");
    }
    let error = refuse_writers(&database.url).await.unwrap_err();
    assert!(error.kind() == Kind::Denied && error.message().contains("has no roles"), "{error}");
}
