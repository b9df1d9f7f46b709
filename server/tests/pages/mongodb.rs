//! What is said of MongoDB on the pages, in a browser without scripts, over HTTP, against a real server.

use bson::doc;
use engine_testutils::mongodb::{Options, Server as Mongo};

use crate::browser::{Browser, Page};
use crate::mongodb_shop::{change, shop};
use crate::server::Server;

/// Registers, makes a project, and opens the form for connecting.
async fn connect_form(base: &str) -> (Browser, Page) {
    let browser = Browser::new(base);
    let front = browser.open("/").await;
    let fields = [("email", "mira@example.com"), ("password", "correct horse battery")];
    let projects = browser.submit(&front, "/register", &fields).await;
    let form = browser.submit(&projects, "/projects", &[("name", "Web shop")]).await;
    (browser, form)
}

async fn connect(browser: &Browser, form: &Page, url: &str, more: &[(&str, &str)]) -> Page {
    let mut fields = vec![("url", url), ("name", "shop"), ("environment", "prod"), ("action", "connect")];
    fields.extend(more);
    browser.submit(form, &form.path.clone(), &fields).await
}

async fn back_up(browser: &Browser, database: &str) -> Page {
    let page = browser.open(database).await;
    let job = browser.submit(&page, &format!("{database}/backups"), &[]).await;
    browser.wait(job).await;
    browser.open(database).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_can_write_is_refused_beside_the_script_for_one_who_cannot() {
    let mongo = Mongo::shared();
    let (name, url) = shop(mongo).await;
    let server = Server::start().await;
    let (browser, form) = connect_form(&server.base).await;
    form.says("mongodb+srv://user:password@");
    form.says("Only read any database");
    form.says("createUser");

    let roles = vec![doc! { "role": "readWrite", "db": &name }.into()];
    let writer = mongo.create_user(&format!("{name}_writer"), roles, &name).await;
    let refused = connect(&browser, &form, &writer, &[]).await;
    assert_eq!(refused.status, 422);
    refused.says("Refused: these credentials can write");
    refused.says(&format!("database {name}: "));
    refused.says(&format!("roles: [{{ role: \"read\", db: \"{name}\" }}]"));
    refused.says("On Atlas: Security → Database Access");
    refused.says("2 collections");
    assert_eq!(refused.html.matches("createUser(").count(), 1, "the script stands once, to be copied");
    assert!(!refused.html.contains("_writer-password") && !refused.html.contains("best_effort"));

    let wrong = mongo.url(&format!("{name}_reader"), "hunter2", &name);
    let refused = connect(&browser, &form, &wrong, &[]).await;
    refused.says("Sign-in failed");
    refused.says("Collections not tried");
    assert!(!refused.html.contains("hunter2"));
    let page = connect(&browser, &form, &url, &[]).await;
    page.says("There is no snapshot of shop yet");
    page.says(&format!("127.0.0.1:{}/{name}", mongo.port()));
    let settings = browser.open(&format!("{}/settings", page.path)).await;
    assert!(
        settings.html.contains(r#"name="best_effort" value="yes" aria-describedby"#),
        "{}",
        settings.html
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standalone_server_is_backed_up_once_its_consequence_was_accepted() {
    let mongo = Mongo::start(Options { standalone: true, ..Options::default() });
    let (_, url) = shop(&mongo).await;
    let server = Server::start().await;
    let (browser, form) = connect_form(&server.base).await;
    let refused = connect(&browser, &form, &url, &[]).await;
    assert_eq!(refused.status, 422);
    refused.says("Reading failed the server is standalone");
    refused.says("rs.initiate()");
    refused.says("documents that belong together may not fit each other");
    let page = connect(&browser, &refused, &url, &[("best_effort", "yes")]).await;
    page.says("There is no snapshot of shop yet");
    let database = page.path;

    let history = back_up(&browser, &database).await;
    assert_eq!(history.table("Snapshots of shop")[0][1], "Complete not point-in-time");
    let history = back_up(&browser, &database).await;
    let diff = browser.wait(browser.submit(&history, "/diffs", &[]).await).await;
    diff.says("No differences. Every collection compared has the same root hash");
    assert_eq!(diff.text().matches("not point-in-time").count(), 2, "both sides are: {}", diff.text());
    let at = history.html.find("href=\"/snapshots/").expect("because there are snapshots") + 6;
    let path = history.html[at..].split('"').next().expect("because it is quoted");
    let snapshot = browser.open(path).await;
    snapshot.says("This snapshot is not point-in-time.");
    snapshot.says("Consistency Not point-in-time");

    let settings = browser.open(&format!("{database}/settings")).await;
    let saved = browser.submit(&settings, &settings.path.clone(), &[("name", "the shop")]).await;
    assert_eq!(saved.path, database);
    let again = browser.open(&format!("{database}/settings")).await;
    assert!(again.html.contains(r#"name="best_effort" value="yes" checked"#), "{}", again.html);
    let unticked = again.html.replace(" checked", "");
    let unticked = Page { html: unticked, ..again };
    let fields = [("environment", "prod")];
    browser.submit(&unticked, &unticked.path.clone(), &fields).await;
    let history = back_up(&browser, &database).await;
    history.says("The last backup left no snapshot");
    history.says("rs.initiate()");
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_for_restoring_parts_keep_what_was_chosen() {
    let mongo = Mongo::shared();
    let (name, url) = shop(mongo).await;
    let server = Server::start().await;
    let (browser, form) = connect_form(&server.base).await;
    let database = connect(&browser, &form, &url, &[]).await.path;
    back_up(&browser, &database).await;
    change(mongo, &name).await;
    let history = back_up(&browser, &database).await;
    let diff = browser.wait(browser.submit(&history, "/diffs", &[]).await).await;
    assert_eq!(diff.table("Collections that differ")[0][1..], ["1", "3", "1", "46"]);
    let changes = browser.open(&diff.link(&format!("{name}.orders"))).await;
    changes.says("qty was −int 3 now +long 3");
    changes.says("The fields and values are the same, in another order.");
    let none = browser.open(&format!("{}?column=nothing", changes.path)).await;
    none.says("No change matches");

    let at = history.html.find("href=\"/snapshots/").expect("because there are snapshots") + 6;
    let path = history.html[at..].split('"').next().expect("because it is quoted");
    let form = browser.open(&format!("{path}/restore")).await;
    form.says("each collection keeps the database it was in");
    let target = mongo.admin_url().replacen("/admin?", &format!("/{name}_copy?"), 1);
    let submit = async |fields: &[(&str, &str)]| browser.submit(&form, &form.path.clone(), fields).await;
    let nothing = submit(&[("url", &target), ("scope", "chosen")]).await;
    assert_eq!(nothing.status, 422);
    nothing.says("Choose at least one collection");
    let (orders, customers) = (format!("{name}.orders"), format!("{name}.customers"));
    let both = [("scope", "chosen"), ("collection", &*orders), ("collection", &*customers)];
    let itself = mongo.admin_url().replacen("/admin?", &format!("/{name}?"), 1);
    let occupied = submit(&[&[("url", &*itself)], &both[..]].concat()).await;
    assert_eq!(occupied.status, 422);
    occupied.says("The target is not empty");
    assert_eq!(occupied.html.matches(r#"name="collection""#).count(), 2);
    assert_eq!(occupied.html.matches(" checked>").count(), 4, "the scope, both collections, the mode");
    let wrong = submit(&[("url", "postgres://me:hunter2@127.0.0.1:1/d"), ("scope", "all")]).await;
    wrong.says("The snapshot is of MongoDB and the target is PostgreSQL.");
    assert!(!wrong.html.contains("hunter2"));
    let plan = browser.wait(submit(&[&[("url", &*target)], &both[..]].concat()).await).await;
    plan.says("What will be written: 650 inserts, 0 updates, 0 deletes");
    plan.says(&format!("Every collection goes into the database {name}_copy."));
}
