//! What servers tell of a user's privileges.
//!
//! The roles are those of MongoDB 7.0 and 8.3, as `connectionStatus` with `showPrivileges` lists them
//! (<https://www.mongodb.com/docs/manual/reference/command/connectionStatus/>,
//! <https://github.com/mongodb/mongo/blob/master/src/mongo/db/auth/builtin_roles.yml>).

use bson::{Document, doc};
use engine::Kind;
use engine::source::mongodb::{MongoUrl, refuse_writers, test};
use engine::source::{AddressPolicy, ConnectionReport, Stage};
use engine_testutils::mongodb::script::{Certificates, Persona, Refusal, Reply, Scripted, Version};

use crate::deployment::{Collection, Deployment};
use crate::moment::numbered;
use crate::play::{nothing, play};

async fn report(user: Option<&str>, privileges: Vec<Document>, of_user: Vec<Document>) -> ConnectionReport {
    let users: Vec<_> = user.iter().map(|user| doc! { "user": *user, "db": "admin" }).collect();
    let deployment = Deployment::new(vec![
        Collection::new("shop.a", numbered(3)),
        Collection::new("shop.weather", numbered(3))
            .of_kind("timeseries", bson::rawdoc! { "timeseries": { "timeField": "at" } }),
    ]);
    let play = play(Persona::primary(Version::V8_0), deployment, move |command, _| {
        let reply: Reply = match command.name.as_str() {
            "connectionStatus" => doc! { "authInfo": {
                "authenticatedUsers": users.clone(),
                "authenticatedUserRoles": [{ "role": "given", "db": "admin" }],
                "authenticatedUserPrivileges": privileges.clone(),
            } }
            .into(),
            "usersInfo" => {
                doc! { "users": [{ "user": "u", "db": "admin", "inheritedPrivileges": of_user.clone() }] }
                    .into()
            }
            "dbStats" => doc! { "storageSize": 1000, "indexSize": 24.0 }.into(),
            _ => return None,
        };
        Some(reply)
    });
    let report = test(&play.parsed("shop")).await;
    assert_eq!((report.collections, report.size_bytes), (2, 1024), "{report:?}");
    report
}

fn on(database: &str, collection: &str, actions: &[&str]) -> Document {
    doc! { "resource": { "db": database, "collection": collection }, "actions": actions.to_vec() }
}

const READ: [&str; 11] = [
    "changeStream",
    "collStats",
    "dbHash",
    "dbStats",
    "find",
    "killCursors",
    "listCollections",
    "listIndexes",
    "listSearchIndexes",
    "performRawDataOperations",
    "planCacheRead",
];

fn read_only(report: &ConnectionReport) -> (bool, &str) {
    let found = report.stages.iter().find(|found| found.stage == Stage::ReadOnly).unwrap();
    (found.ok, &found.detail)
}

/// MG-P01, MG-P05: `readAnyDatabase` of 8.3, which has the right to raw reads of time series in it.
#[tokio::test]
async fn p05_the_right_to_raw_reads_is_a_right_to_read() {
    let privileges = vec![
        on("", "", &READ),
        on("", "system.js", &READ),
        doc! { "resource": { "db": "", "system_buckets": "" }, "actions": READ.to_vec() },
        on("local", "", &READ),
        doc! { "resource": { "cluster": true }, "actions": ["listDatabases"] },
    ];
    let report = report(Some("u"), privileges, Vec::new()).await;
    assert!(report.ok && read_only(&report).0, "{report:?}");
    assert!(report.privileges.is_empty());
}

/// MG-P03: `clusterMonitor` beside `read`, as those who watch a deployment have it. Its actions are those of 6.0
/// and 8.3.
#[tokio::test]
async fn p03_watching_a_deployment_is_reading() {
    let of_cluster = [
        "allCollectionStats",
        "checkFreeMonitoringStatus",
        "connPoolStats",
        "getCmdLineOpts",
        "getDefaultRWConcern",
        "getLog",
        "getParameter",
        "getShardMap",
        "hostInfo",
        "inprog",
        "listDatabases",
        "listSampledQueries",
        "listSessions",
        "listShards",
        "netstat",
        "operationMetrics",
        "replSetGetConfig",
        "replSetGetStatus",
        "serverStatus",
        "shardedDataDistribution",
        "shardingState",
        "top",
        "useUUID",
    ];
    let of_databases = ["collStats", "dbStats", "getDatabaseVersion", "getShardVersion", "indexStats"];
    let monitor = vec![
        on("shop", "", &READ),
        doc! { "resource": { "cluster": true }, "actions": of_cluster.to_vec() },
        on("", "", &of_databases),
        on("config", "system.sessions", &of_databases),
        on("local", "system.replset", &["find"]),
    ];
    let watching = report(Some("u"), monitor.clone(), Vec::new()).await;
    assert!(watching.ok && watching.privileges.is_empty(), "{watching:?}");
    let writes = doc! { "resource": { "db": "", "system_buckets": "" }, "actions": ["find", "insert"] };
    let writing = report(Some("u"), [monitor, vec![writes]].concat(), Vec::new()).await;
    assert_eq!(writing.privileges, ["the buckets of every time series: insert"], "{writing:?}");
}

/// MG-P02: the built-in role `backup` may write.
#[tokio::test]
async fn p02_the_role_for_backups_is_not_read_only() {
    let privileges = vec![
        doc! { "resource": { "cluster": true }, "actions": ["appendOplogNote", "getParameter", "listDatabases", "serverStatus", "setUserWriteBlockMode"] },
        on("", "", &["find", "listCollections", "listIndexes"]),
        on("config", "settings", &["find", "insert", "update"]),
    ];
    let report = report(Some("u"), privileges, Vec::new()).await;
    assert!(!report.ok);
    assert_eq!(
        report.privileges,
        ["collection config.settings: insert, update", "the cluster: appendOplogNote, setUserWriteBlockMode"]
    );
    let (ok, detail) = read_only(&report);
    assert!(!ok && detail.contains("given on admin") && detail.contains("setUserWriteBlockMode"), "{detail}");
}

/// MG-P03: an action that is not on the list counts as writing, whatever it is.
#[tokio::test]
async fn p03_actions_nobody_knows_count_as_writing() {
    let report = report(Some("u"), vec![on("shop", "", &["find", "teleport"])], Vec::new()).await;
    assert!(!report.ok && report.privileges == ["database shop: teleport"], "{report:?}");
}

/// MG-P03, MG-P04: no privileges and no user are no proof. What the user's own entry says counts
/// where the connection's status says nothing.
#[tokio::test]
async fn p04_silence_is_no_proof() {
    let silent = report(Some("u"), Vec::new(), Vec::new()).await;
    assert!(!silent.ok && read_only(&silent).1.contains("does not say"), "{silent:?}");
    let asked = report(Some("u"), Vec::new(), vec![on("shop", "", &READ)]).await;
    assert!(asked.ok, "{asked:?}");
    let writes = report(Some("u"), Vec::new(), vec![on("shop", "", &["find", "insert"])]).await;
    assert!(!writes.ok && writes.privileges == ["database shop: insert"], "{writes:?}");
    let nobody = report(None, Vec::new(), Vec::new()).await;
    assert!(!nobody.ok && read_only(&nobody).1.contains("nobody is logged in"), "{nobody:?}");
}

/// MG-P01: who may not follow changes is backed up by a server that reads at the time asked for, and told that
/// this may fail; by another server never.
#[tokio::test]
async fn p01_changes_have_to_be_followed_only_where_no_time_is_honoured() {
    for honours in [true, false] {
        let mut deployment = Deployment::new(vec![Collection::new("shop.a", numbered(3))]);
        deployment.honours = honours;
        let play = play(Persona::primary(Version::V8_0), deployment, |command, _| {
            let find = ["find", "listCollections", "listIndexes"];
            match command.name.as_str() {
                "aggregate" => Some(Refusal::unauthorized("shop").into()),
                "connectionStatus" => Some(
                    doc! { "authInfo": {
                        "authenticatedUsers": [{ "user": "u", "db": "admin" }],
                        "authenticatedUserRoles": [{ "role": "given", "db": "admin" }],
                        "authenticatedUserPrivileges": [on("shop", "", &find)],
                    } }
                    .into(),
                ),
                _ => None,
            }
        });
        let report = test(&play.parsed("shop")).await;
        let read = report.stages.iter().find(|found| found.stage == Stage::Read).unwrap();
        assert_eq!((report.ok, read.ok), (honours, honours), "{report:?}");
        assert_eq!(report.notes.iter().any(|note| note.contains("may fail")), honours, "{report:?}");
        if !honours {
            assert!(read.detail.contains("changeStream on shop"), "{read:?}");
            assert!(read.fix.as_deref().unwrap().contains("grantRolesToUser(\"u\""), "{read:?}");
        }
    }
}

/// Logging in with a certificate (`MONGODB-X509`,
/// <https://www.mongodb.com/docs/manual/core/security-x.509/>): the server sees the certificate in the
/// handshake, and takes the user from it. Here it lets nobody in without one.
#[tokio::test]
async fn a_client_certificate_logs_in() {
    let certificates = Certificates::make();
    let server = Scripted::start_tls(Persona::primary(Version::V7_0), &certificates, |command| match command
        .name
        .as_str()
    {
        "authenticate" => doc! { "dbname": "$external", "user": "CN=client" }.into(),
        "connectionStatus" => doc! { "authInfo": {
            "authenticatedUsers": [{ "user": "CN=client", "db": "$external" }],
            "authenticatedUserRoles": [{ "role": "read", "db": "shop" }],
            "authenticatedUserPrivileges": [on("shop", "", &READ)],
        } }
        .into(),
        "listCollections" => {
            engine_testutils::mongodb::script::first_batch("shop.$cmd.listCollections", 0, &[]).into()
        }
        name => Refusal::command_not_found(name).into(),
    });
    let authority = certificates.authority();
    let place = format!(
        "mongodb://{}/shop?serverSelectionTimeoutMS=2000&tls=true&tlsCAFile={}",
        server.address(),
        authority.display()
    );
    let pem = encoded(&certificates.client());
    let x509 = format!("{place}&authMechanism=MONGODB-X509&authSource=%24external&tlsCertificateKey={pem}");
    let report = test(&MongoUrl::parse(&x509).unwrap()).await;
    assert!(report.stages.iter().all(|stage| stage.ok || stage.stage == Stage::Read), "{report:?}");
    assert!(read_only(&report).0);
    let logins = server.seen_named("authenticate");
    let login = &logins.first().unwrap().document;
    assert_eq!(
        (login.get_str("mechanism").unwrap(), login.get_str("$db").unwrap()),
        ("MONGODB-X509", "$external")
    );

    // Without one the handshake fails, and that is what is told.
    let report = test(&MongoUrl::parse(&place).unwrap()).await;
    let failed = report.stages.last().unwrap();
    assert!(!report.ok && failed.stage == Stage::Tls && !failed.ok, "{report:?}");
}

/// A server says who the others are, and may lie: what it names is looked up and checked like what the
/// URL names.
#[tokio::test]
async fn members_that_a_server_names_are_connected_to_only_where_databases_may_be() {
    let play = play(Persona::primary(Version::V8_0), Deployment::new(Vec::new()), nothing);
    let named = |hosts: &[&str]| {
        let hosts = hosts.iter().map(|host| (*host).to_owned());
        play.server.set_persona(Persona::primary(Version::V8_0).with_hosts(hosts));
    };
    let place = format!("mongodb://{}/shop?serverSelectionTimeoutMS=500", play.server.address());
    let url = MongoUrl::parse(&place).unwrap();
    // A member that cannot be reached is no reason not to use the others.
    named(&[&play.server.address(), "169.254.169.254:80"]);
    let report = test(&url).await;
    assert!(report.stages.iter().any(|stage| stage.stage == Stage::Authenticate && stage.ok), "{report:?}");
    for forbidden in ["169.254.169.254:80", "[64:ff9b::a9fe:a9fe]:80", "100.100.100.200"] {
        named(&[forbidden]);
        let report = test(&url).await;
        let failed = report.stages.last().unwrap();
        assert!(!report.ok && failed.stage == Stage::Connect && !failed.ok, "{forbidden}: {report:?}");
        assert!(failed.detail.contains("an address that is not connected to"), "{forbidden}: {failed:?}");
        let error = refuse_writers(&url).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid, "{forbidden}: {error:?}");
    }
}

/// The operator may allow public addresses only: nothing is then asked of a server at another one.
#[tokio::test]
async fn only_public_addresses_are_connected_to_where_that_was_asked_for() {
    let play = play(Persona::primary(Version::V8_0), Deployment::new(Vec::new()), nothing);
    let url = play.parsed("shop").within(AddressPolicy::PublicOnly);
    let report = test(&url).await;
    let failed = report.stages.last().unwrap();
    assert!(!report.ok && failed.stage == Stage::Resolve, "{report:?}");
    assert!(failed.detail.contains("private address"), "{failed:?}");
    let place = format!("mongodb://{}/shop?serverSelectionTimeoutMS=300", play.server.address());
    let url = MongoUrl::parse(&place).unwrap().within(AddressPolicy::PublicOnly);
    assert_eq!(refuse_writers(&url).await.unwrap_err().kind(), Kind::Invalid);
    assert!(play.server.seen().is_empty());
}

fn encoded(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "%{byte:02X}");
        out
    })
}
