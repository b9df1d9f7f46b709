//! The whole way with MongoDB: connect, snapshot, change, snapshot, diff, a part restored, proof.

use bson::{doc, rawdoc};
use engine_testutils::mongodb::{Options, Scope, Server as Mongo};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Api, Server, segment, text};
use crate::mongodb_shop::{change, shop};

async fn signed_in(server: &Server) -> (Api, String) {
    let api = server.user("ada@example.com").await;
    let project = api.project("shop").await;
    (api, project)
}

#[tokio::test]
async fn from_an_account_to_a_proven_restore_of_a_part() {
    let mongo = Mongo::shared();
    let (name, url) = shop(mongo).await;
    let server = Server::start().await;
    let (api, project) = signed_in(&server).await;
    let database = api.database(&project, &url).await;
    let body = api.get(&format!("/databases/{database}")).await.expect(StatusCode::OK);
    let address = format!("127.0.0.1:{}", mongo.port());
    assert_eq!((&body["engine"], &body["hosts"]), (&json!("mongodb"), &json!([address])));
    assert_eq!((&body["host"], &body["port"]), (&json!("127.0.0.1"), &json!(mongo.port())));
    assert_eq!((&body["database"], &body["consistency"]), (&json!(name), &json!("point_in_time")));

    let first = api.back_up(&database).await;
    change(mongo, &name).await;
    let second = api.back_up(&database).await;
    let snapshot = api.get(&format!("/snapshots/{second}")).await.expect(StatusCode::OK);
    assert_eq!((&snapshot["consistency"], &snapshot["records"]), (&json!("point_in_time"), &json!(650)));
    assert!(!text(&snapshot["consistency_method"]).is_empty());
    let listed: Vec<_> =
        snapshot["collections"].as_array().unwrap().iter().map(|c| (&c["name"], &c["kind"])).collect();
    let collection = json!("collection");
    let names = [json!(format!("{name}.customers")), json!(format!("{name}.orders"))];
    assert_eq!(listed, [(&names[0], &collection), (&names[1], &collection)]);

    records(&api, &second, &name).await;
    comparison(&api, &first, &second, &name).await;
    restore(&api, mongo, &second, &name).await;
}

async fn records(api: &Api, snapshot: &str, name: &str) {
    let path = format!("/snapshots/{snapshot}/collections/{}/records", segment(&format!("{name}.customers")));
    let page = api.get(&format!("{path}?limit=2&from_key=500")).await;
    // As text: parsing would hide another order of fields.
    let expected = r#""value":{"_id":{"$numberInt":"500"},"name":"customer 500","city":"Oslo"}"#;
    assert!(page.text.contains(expected), "{}", page.text);
    let page = page.expect(StatusCode::OK);
    assert_eq!((&page["items"][0]["key"], &page["items"][1]["key"]), (&json!("500"), &json!("501")));
    let cursor = text(&page["next_cursor"]);
    let rest = api.get(&format!("{path}?limit=1000&cursor={cursor}")).await.expect(StatusCode::OK);
    assert_eq!(rest["items"].as_array().unwrap().len(), 99);
    let extended = segment(r#"{"$numberLong": "600"}"#);
    let last = api.get(&format!("{path}?from_key={extended}")).await.expect(StatusCode::OK);
    assert_eq!(last["items"].as_array().unwrap().len(), 1, "{last:#}");
}

async fn comparison(api: &Api, first: &str, second: &str, name: &str) {
    let started =
        api.post("/diffs", json!({ "from": first, "to": second })).await.expect(StatusCode::ACCEPTED);
    let job = api.ended(&text(&started["job_id"])).await;
    assert_eq!(job["state"], "succeeded", "{job:#}");
    let diff = api.get(&format!("/diffs/{}", text(&started["id"]))).await.expect(StatusCode::OK);
    let orders = &diff["collections"][0];
    assert_eq!(orders["name"], format!("{name}.orders"), "{diff:#}");
    let counts = json!({ "added": 1, "removed": 1, "changed": 3, "unchanged": 46, "order_only": 1 });
    assert_eq!(orders["records"], counts);
    assert_eq!(diff["collections"][1]["status"], "unchanged");

    let path =
        format!("/diffs/{}/collections/{}/changes", text(&started["id"]), segment(&format!("{name}.orders")));
    let all = api.get(&path).await.expect(StatusCode::OK);
    let items = all["items"].as_array().unwrap();
    let told: Vec<_> = items.iter().map(|c| (text(&c["key"]), text(&c["kind"]))).collect();
    let expected = [("7", "changed"), ("8", "changed"), ("9", "changed"), ("10", "removed"), ("51", "added")];
    assert_eq!(told, expected.map(|(key, kind)| (key.to_owned(), kind.to_owned())));
    let long = json!({ "op": "replace", "path": "/qty", "value": { "$numberLong": "3" } });
    assert_eq!((&items[0]["patch"], &items[0]["columns"]), (&json!([long]), &json!(["qty"])));
    assert_eq!((&items[0]["order_only"], &items[1]["order_only"]), (&json!(false), &json!(true)));
    assert_eq!(items[1]["columns"], json!([]), "no value differs");
    assert_eq!(items[2]["columns"], json!(["status", "tags", "lines", "paid_at"]));
    let paid = items[2]["patch"].as_array().unwrap();
    assert!(paid.contains(&json!({ "op": "replace", "path": "/status", "value": "paid" })), "{paid:?}");
    assert!(paid.contains(&json!({ "op": "remove", "path": "/tags/0" })), "{paid:?}");
    assert_eq!((&items[3]["patch"], &items[3]["new"]), (&Value::Null, &Value::Null));
    assert_eq!(items[4]["new"]["status"], "new");

    let keys = async |query: &str| {
        let page = api.get(&format!("{path}?{query}")).await.expect(StatusCode::OK);
        page["items"].as_array().unwrap().iter().map(|item| text(&item["key"])).collect::<Vec<_>>()
    };
    assert_eq!(keys("column=qty").await, ["7"]);
    assert_eq!(keys("column=no%20document%20has%20it").await, Vec::<String>::new());
    assert_eq!(keys("kind=added").await, ["51"]);
    let page = api.get(&format!("{path}?limit=2")).await.expect(StatusCode::OK);
    assert_eq!(keys(&format!("cursor={}", text(&page["next_cursor"]))).await, ["9", "10", "51"]);
}

async fn restore(api: &Api, mongo: &Mongo, snapshot: &str, name: &str) {
    let target = format!("{name}_restored");
    let url = mongo.admin_url().replacen("/admin?", &format!("/{target}?"), 1);
    let plan = |scope: Value, url: &str| json!({ "snapshot": snapshot, "scope": scope, "target": { "url": url, "mode": "new" } });
    let orders = json!({ "collections": [format!("{name}.orders")] });
    let post = async |body: Value| api.post("/restores/plan", body).await;
    let itself = mongo.admin_url().replacen("/admin?", &format!("/{name}?"), 1);
    post(plan(orders.clone(), &itself)).await.problem(422, "target-not-empty");
    post(plan(json!({ "collections": ["shop.nothing"] }), &url)).await.problem(422, "invalid");
    post(plan(orders.clone(), "postgres://u:p@127.0.0.1:1/d")).await.problem(422, "invalid");

    let planned = post(plan(orders, &url)).await.expect(StatusCode::ACCEPTED);
    let job = api.ended(&text(&planned["job_id"])).await;
    assert_eq!(job["state"], "succeeded", "{job:#}");
    let path = format!("/restores/{}", text(&planned["id"]));
    let restore = api.get(&path).await.expect(StatusCode::OK);
    assert_eq!(restore["confirm_phrase"], target);
    assert_eq!(restore["preview"]["collections"].as_array().unwrap().len(), 1);
    assert_eq!(restore["preview"]["collections"][0]["records"]["added"], 50);
    assert_eq!(restore["target"], format!("127.0.0.1:{}/{target}", mongo.port()));

    let apply =
        async |url: &str| api.post(&format!("{path}/apply"), json!({ "confirm": target, "url": url })).await;
    apply(&itself).await.problem(422, "other-target");
    let applied = apply(&url).await.expect(StatusCode::ACCEPTED);
    let job = api.ended(&text(&applied["job_id"])).await;
    assert_eq!(job["state"], "succeeded", "{job:#}");
    assert_eq!(job["result"]["proof"]["matches"], true);
    assert_eq!(job["result"]["proof"]["collections"].as_array().unwrap().len(), 1);
    let (source, restored) = (format!("{name}.orders"), format!("{target}.orders"));
    assert_eq!(mongo.read_raw(&restored).await, mongo.read_raw(&source).await);
    assert!(mongo.read_raw(&format!("{target}.customers")).await.is_empty(), "it was not in scope");
}

/// Names hold dots and whatever else, and are what MongoDB calls them wherever one is given or taken.
#[tokio::test]
async fn names_are_written_as_mongodb_writes_them() {
    let mongo = Mongo::shared();
    let name = mongo.fresh_database("names");
    let odd = ["Price list", "a/b", "fs.chunks", "fs.files", "say \"hi\".twice"];
    let full = odd.map(|collection| format!("{name}.{collection}"));
    for collection in &full {
        mongo.insert_raw(collection, &[rawdoc! { "_id": 1 }]).await;
    }
    let url = mongo.create_read_only_user(Scope::Database(&name), &format!("{name}_reader")).await;
    let server = Server::start().await;
    let (api, project) = signed_in(&server).await;
    let database = api.database(&project, &url).await;
    let first = api.back_up(&database).await;
    for collection in &full {
        mongo.insert_raw(collection, &[rawdoc! { "_id": 2 }]).await;
    }
    let second = api.back_up(&database).await;

    let snapshot = api.get(&format!("/snapshots/{second}")).await.expect(StatusCode::OK);
    let listed: Vec<_> =
        snapshot["collections"].as_array().unwrap().iter().map(|it| text(&it["name"])).collect();
    assert_eq!(listed, full);
    let diff = api.post("/diffs", json!({ "from": first, "to": second })).await.expect(StatusCode::ACCEPTED);
    api.ended(&text(&diff["job_id"])).await;
    for collection in &full {
        let records = format!("/snapshots/{second}/collections/{}/records", segment(collection));
        let page = api.get(&records).await.expect(StatusCode::OK);
        assert_eq!(page["items"].as_array().unwrap().len(), 2, "{page:#}");
        let changes = format!("/diffs/{}/collections/{}/changes", text(&diff["id"]), segment(collection));
        let page = api.get(&changes).await.expect(StatusCode::OK);
        assert_eq!(page["items"][0]["key"], "2", "{page:#}");
    }
    for unknown in [format!("{name}.\"fs.files\""), format!("{name}.fs"), name.clone()] {
        let records = format!("/snapshots/{second}/collections/{}/records", segment(&unknown));
        api.get(&records).await.problem(404, "not-found");
    }

    let target = mongo.admin_url().replacen("/admin?", &format!("/{name}_copy?"), 1);
    let plan = json!({
        "snapshot": second, "scope": { "collections": [full[3], full[4]] }, "target": { "url": target, "mode": "new" },
    });
    let planned = api.post("/restores/plan", plan).await.expect(StatusCode::ACCEPTED);
    api.ended(&text(&planned["job_id"])).await;
    let path = format!("/restores/{}/apply", text(&planned["id"]));
    let confirmed = json!({ "confirm": format!("{name}_copy"), "url": target });
    let applied = api.post(&path, confirmed).await.expect(StatusCode::ACCEPTED);
    let job = api.ended(&text(&applied["job_id"])).await;
    assert_eq!(job["result"]["proof"]["matches"], true, "{job:#}");
    assert_eq!(mongo.read_raw(&format!("{name}_copy.fs.files")).await, mongo.read_raw(&full[3]).await);
    assert!(mongo.read_raw(&format!("{name}_copy.fs.chunks")).await.is_empty(), "it was not in scope");
}

/// The order of a capped collection is part of what it holds.
#[tokio::test]
async fn another_order_in_a_capped_collection_is_a_difference() {
    let mongo = Mongo::shared();
    let name = mongo.fresh_database("capped");
    let url = mongo.create_read_only_user(Scope::Database(&name), &format!("{name}_reader")).await;
    let make = async |ids: [i32; 3]| {
        mongo.command(&name, doc! { "create": "log", "capped": true, "size": 1 << 20 }).await;
        mongo.insert_raw(&format!("{name}.log"), &ids.map(|id| rawdoc! { "_id": id })).await;
    };
    make([3, 1, 2]).await;
    let server = Server::start().await;
    let (api, project) = signed_in(&server).await;
    let database = api.database(&project, &url).await;
    let mut before = api.back_up(&database).await;
    // The last is the order of the keys.
    for ids in [[1, 3, 2], [1, 2, 3]] {
        mongo.command(&name, doc! { "drop": "log" }).await;
        make(ids).await;
        let after = api.back_up(&database).await;
        let diff = api.post("/diffs", json!({ "from": before, "to": after })).await;
        let diff = diff.expect(StatusCode::ACCEPTED);
        api.ended(&text(&diff["job_id"])).await;
        let diff = api.get(&format!("/diffs/{}", text(&diff["id"]))).await.expect(StatusCode::OK);
        let log = &diff["collections"][0];
        assert_eq!(
            (&log["status"], &log["records"]["unchanged"]),
            (&json!("changed"), &json!(3)),
            "{diff:#}"
        );
        assert!(text(&log["schema_changes"][0]).contains("order of its documents"), "{diff:#}");
        before = after;
    }
}

/// A view has no documents: what becomes one has lost its own, and what was one gains all.
#[tokio::test]
async fn a_collection_that_becomes_a_view_loses_its_documents() {
    let mongo = Mongo::shared();
    let name = mongo.fresh_database("views");
    let url = mongo.create_read_only_user(Scope::Database(&name), &format!("{name}_reader")).await;
    mongo.insert_raw(&format!("{name}.base"), &[rawdoc! { "_id": 1 }]).await;
    mongo.insert_raw(&format!("{name}.some"), &[rawdoc! { "_id": 1 }, rawdoc! { "_id": 2 }]).await;
    let server = Server::start().await;
    let (api, project) = signed_in(&server).await;
    let database = api.database(&project, &url).await;
    let first = api.back_up(&database).await;
    mongo.command(&name, doc! { "drop": "some" }).await;
    mongo.command(&name, doc! { "create": "some", "viewOn": "base", "pipeline": [] }).await;
    let second = api.back_up(&database).await;
    for (from, to, kind, counts) in [
        (
            &first,
            &second,
            "removed",
            json!({ "added": 0, "removed": 2, "changed": 0, "unchanged": 0, "order_only": 0 }),
        ),
        (
            &second,
            &first,
            "added",
            json!({ "added": 2, "removed": 0, "changed": 0, "unchanged": 0, "order_only": 0 }),
        ),
    ] {
        let started =
            api.post("/diffs", json!({ "from": from, "to": to })).await.expect(StatusCode::ACCEPTED);
        api.ended(&text(&started["job_id"])).await;
        let path = format!("/diffs/{}", text(&started["id"]));
        let diff = api.get(&path).await.expect(StatusCode::OK);
        let some = &diff["collections"][0];
        assert_eq!((&some["status"], &some["records"]), (&json!("changed"), &counts), "{diff:#}");
        assert!(some["schema_changes"].to_string().contains("view"), "{diff:#}");
        let changes =
            api.get(&format!("{path}/collections/{}/changes", segment(&format!("{name}.some")))).await;
        let changes = changes.expect(StatusCode::OK);
        let kinds: Vec<_> =
            changes["items"].as_array().unwrap().iter().map(|one| text(&one["kind"])).collect();
        assert_eq!(kinds, [kind, kind], "{changes:#}");
    }
}

/// Ids of other types never look alike, and each leads back to its record.
#[tokio::test]
async fn keys_are_shown_so_that_they_can_be_typed() {
    let mongo = Mongo::shared();
    let name = mongo.fresh_database("keys");
    let tenth: bson::Decimal128 = "0.1".parse().unwrap();
    let ids: Vec<bson::Bson> = vec![
        0.1.into(),
        tenth.into(),
        5.into(),
        "5".into(),
        "".into(),
        " ".into(),
        "null".into(),
        bson::Bson::Null,
        "a\tb".into(),
        "\u{202e}exe".into(),
        "exe".into(),
        "x".repeat(5_000).into(),
    ];
    for id in &ids {
        let document = bson::RawDocumentBuf::try_from(&doc! { "_id": id.clone() }).unwrap();
        mongo.insert_raw(&format!("{name}.odd"), &[document]).await;
    }
    let url = mongo.create_read_only_user(Scope::Database(&name), &format!("{name}_reader")).await;
    let server = Server::start().await;
    let (api, project) = signed_in(&server).await;
    let snapshot = api.back_up(&api.database(&project, &url).await).await;
    let path = format!("/snapshots/{snapshot}/collections/{}/records", segment(&format!("{name}.odd")));
    let page = api.get(&path).await.expect(StatusCode::OK);
    let records = page["items"].as_array().unwrap();
    let keys: std::collections::BTreeSet<_> = records.iter().map(|record| text(&record["key"])).collect();
    assert_eq!((records.len(), keys.len()), (ids.len(), ids.len()), "{page:#}");
    for record in records {
        let key = text(&record["key"]);
        assert!(key.len() < 200 && !key.contains(['\u{202e}', '\t']), "{key}");
        let from = api.get(&format!("{path}?from_key={}", segment(&key))).await.expect(StatusCode::OK);
        assert_eq!(from["items"][0]["id"], record["id"], "{key}");
    }
    let cut = segment(r#"{"a":"xx… (5000 bytes)"#);
    let problem = api.get(&format!("{path}?from_key={cut}")).await.problem(422, "invalid");
    assert!(text(&problem["detail"]).contains("whole"), "{problem:#}");
}

#[tokio::test]
async fn a_user_who_can_write_is_refused_with_a_script_that_makes_one_who_cannot() {
    let mongo = Mongo::shared();
    let (name, url) = shop(mongo).await;
    let server = Server::start().await;
    let (api, project) = signed_in(&server).await;
    let path = format!("/projects/{project}/databases");
    let connect =
        async |url: &str| api.post(&path, json!({ "name": "shop", "url": url, "environment": "dev" })).await;
    let roles = vec![doc! { "role": "readWrite", "db": &name }.into()];
    let writer = mongo.create_user(&format!("{name}_writer"), roles, &name).await;
    let problem = connect(&writer).await.problem(422, "not-read-only");
    let privileges = problem["privileges"].to_string();
    assert!(privileges.contains(&name) && privileges.contains("insert"), "{problem:#}");
    let statements = problem["statements"].as_array().unwrap();
    let script = text(&statements[0]);
    assert!(statements.len() == 1 && script.contains("createUser({") && script.contains("\n})"), "{script}");
    assert!(!text(&problem["detail"]).contains("createUser"), "{problem:#}");
    assert!(!problem.to_string().contains("_writer-password"));

    let wrong = mongo.url(&format!("{name}_reader"), "wrong-secret", &name);
    let problem = connect(&wrong).await.problem(422, "unreachable");
    assert_eq!(problem["stage"], "authenticate", "{problem:#}");
    assert!(!problem.to_string().contains("wrong-secret"));
    let problem = connect("mongodb://u:p@127.0.0.1:1/d?serverSelectionTimeoutMS=1500").await;
    assert_eq!(problem.problem(422, "unreachable")["stage"], "connect");
    connect("mongodb://u:p@10.0.0.1,169.254.169.254/d").await.problem(422, "forbidden-address");
    connect(&url).await.expect(StatusCode::CREATED);
}

/// Who could only read when the database was connected may have been granted more since.
#[tokio::test]
async fn nothing_is_backed_up_once_the_user_can_write() {
    let mongo = Mongo::shared();
    let (name, url) = shop(mongo).await;
    let server = Server::start().await;
    let (api, project) = signed_in(&server).await;
    let database = api.database(&project, &url).await;
    api.back_up(&database).await;
    let roles = async |command: &str| {
        let roles =
            doc! { command: format!("{name}_reader"), "roles": [{ "role": "readWrite", "db": &name }] };
        mongo.command("admin", roles).await;
    };
    roles("grantRolesToUser").await;
    let job = api.ended(&api.start_backup(&database).await).await;
    assert_eq!(
        (&job["state"], &job["error"]["type"]),
        (&json!("failed"), &json!("not-read-only")),
        "{job:#}"
    );
    let told = job["error"].to_string();
    assert!(told.contains("can write by now") && told.contains("readWrite"), "{job:#}");
    let snapshots = api.get(&format!("/databases/{database}/snapshots")).await.expect(StatusCode::OK);
    assert_eq!(snapshots["items"].as_array().unwrap().len(), 1, "{snapshots:#}");

    roles("revokeRolesFromUser").await;
    api.back_up(&database).await;
}

#[tokio::test]
async fn a_standalone_server_is_backed_up_only_where_that_was_chosen() {
    let mongo = Mongo::start(Options { standalone: true, ..Options::default() });
    let (_, url) = shop(&mongo).await;
    let server = Server::start().await;
    let (api, project) = signed_in(&server).await;
    let test = async |body: Value| {
        api.post(&format!("/projects/{project}/connection-test"), body).await.expect(StatusCode::OK)
    };
    let refused = test(json!({ "url": url })).await;
    assert_eq!((&refused["ok"], &refused["lacks_point_in_time"]), (&json!(false), &json!(true)));
    assert_eq!(test(json!({ "url": url, "consistency": "best_effort" })).await["ok"], true);

    let connect = async |body: Value| api.post(&format!("/projects/{project}/databases"), body).await;
    let plain = json!({ "name": "shop", "url": url, "environment": "dev" });
    let problem = connect(plain.clone()).await.problem(422, "unreachable");
    assert_eq!(
        (&problem["stage"], &problem["requires_consistency"]),
        (&json!("read"), &json!("best_effort"))
    );
    assert!(text(&problem["detail"]).contains("rs.initiate()"), "{problem:#}");
    let mut chosen = plain;
    chosen["consistency"] = json!("best_effort");
    let database = text(&connect(chosen).await.expect(StatusCode::CREATED)["id"]);
    let snapshot = api.back_up(&database).await;
    let found = api.get(&format!("/snapshots/{snapshot}")).await.expect(StatusCode::OK);
    assert_eq!((&found["consistency"], &found["state"]), (&json!("not_point_in_time"), &json!("complete")));

    let path = format!("/databases/{database}");
    let patched = api.send(Method::PATCH, &path, json!({ "consistency": "point_in_time" })).await;
    assert_eq!(patched.expect(StatusCode::OK)["consistency"], "point_in_time");
    let job = api.start_backup(&database).await;
    let job = api.ended(&job).await;
    assert_eq!((&job["state"], &job["error"]["type"]), (&json!("failed"), &json!("unsupported")), "{job:#}");
    api.send(Method::PATCH, &path, json!({ "consistency": "sometimes" })).await.problem(422, "invalid");
    api.send(Method::PATCH, &path, json!({ "url": url })).await.problem(422, "unreachable");
}
