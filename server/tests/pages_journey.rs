//! The main journey in a browser without scripts, over HTTP, against a real PostgreSQL.

#[path = "pages/browser.rs"]
mod browser;
#[path = "pages/mongodb.rs"]
mod mongodb;
#[path = "pages/mongodb_shop.rs"]
mod mongodb_shop;
#[path = "pages/server.rs"]
mod server;

use browser::{Browser, Page};
use engine_testutils::postgres::Cluster;
use server::Server;

const PASSWORD: &str = "correct horse battery";

const SCHEMA: &str = r#"
    CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, city text);
    CREATE TABLE orders (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        customer_id int NOT NULL REFERENCES customers (id),
        status text NOT NULL,
        total numeric(10, 2)
    );
    CREATE TABLE "Price list" (sku text, region text, price numeric(8, 2), PRIMARY KEY (sku, region));
    INSERT INTO customers SELECT i, 'Customer ' || i, CASE WHEN i % 2 = 0 THEN 'Bern' END FROM generate_series(1, 500) i;
    INSERT INTO orders (customer_id, status, total)
        SELECT i % 500 + 1, 'pending', i * 1.25 FROM generate_series(1, 3000) i;
    INSERT INTO "Price list" SELECT 'sku-' || i, 'eu', i FROM generate_series(1, 50) i;
"#;

const CHANGES: &str = "
    UPDATE orders SET status = 'paid' WHERE id = 1007;
    UPDATE orders SET total = NULL, status = 'refunded' WHERE id = 2012;
    DELETE FROM orders WHERE id = 31;
    INSERT INTO customers VALUES (501, 'New <b>customer</b>', '');
";

async fn registered(base: &str) -> (Browser, Page) {
    let browser = Browser::new(base);
    let front = browser.open("/").await;
    assert_eq!(front.path, "/register", "a new server asks for its first account");
    let fields = [("email", "mira@example.com"), ("password", PASSWORD)];
    let projects = browser.submit(&front, "/register", &fields).await;
    assert_eq!((projects.status, projects.path.as_str()), (200, "/projects"));
    (browser, projects)
}

async fn back_up(browser: &Browser, database: &str, note: &str) -> Page {
    let page = browser.open(database).await;
    let job = browser.submit(&page, &format!("{database}/backups"), &[("note", note)]).await;
    let done = browser.wait(job).await;
    assert!(!done.text().contains("left no snapshot"), "{}", done.text());
    browser.open(database).await
}

/// Connects `url` and gives the address of the database's page.
async fn connected(browser: &Browser, projects: &Page, url: &str) -> String {
    projects.says("Three steps to your first diff");
    let form = browser.submit(projects, "/projects", &[("name", "Web shop")]).await;
    form.says("Connect a database");
    let fields = [("url", url), ("name", "shop"), ("environment", "prod"), ("action", "connect")];
    let page = browser.submit(&form, &form.path.clone(), &fields).await;
    assert!(page.path.starts_with("/databases/"), "{}: {}", page.path, page.text());
    page.says("There is no snapshot of shop yet");
    page.path
}

#[tokio::test(flavor = "multi_thread")]
async fn from_registering_to_a_proven_restore() {
    let cluster = Cluster::shared();
    let name = cluster.fresh_database("journey").await;
    cluster.execute(&name, SCHEMA).await;
    let url = cluster.create_read_only_role(&name, &format!("{name}_ro")).await;
    let server = Server::start().await;
    let (browser, projects) = registered(&server.base).await;
    let database = connected(&browser, &projects, &url).await;

    let history = back_up(&browser, &database, "before the change").await;
    let rows = history.table("Snapshots of shop");
    assert_eq!(rows.len(), 1);
    assert!(rows[0][0].contains("before the change") && rows[0][1] == "Complete", "{rows:?}");
    assert_eq!(rows[0][2], "3,550");
    history.says("Back up again after something changed");

    cluster.execute(&name, CHANGES).await;
    let history = back_up(&browser, &database, "after the change").await;
    let rows = history.table("Snapshots of shop");
    assert_eq!(rows.len(), 2, "{rows:?}");

    let diff = browser.submit(&history, "/diffs", &[]).await;
    let diff = browser.wait(diff).await;
    check_summary(&diff);
    check_rows(&browser, &diff).await;
    check_filters(&browser, &diff).await;
    check_records(&browser, &history).await;
    compare_live(&browser, &database, cluster, &name).await;
    restore(&browser, &history, cluster, &name).await;
    follow_jobs(&browser, &history).await;
}

/// A job that has ended is told in one event, the last; its page leads to what came of it.
async fn follow_jobs(browser: &Browser, history: &Page) {
    let project = history.link("Web shop");
    let jobs = browser.open(&format!("/api/v1{project}/jobs")).await;
    let jobs: serde_json::Value = serde_json::from_str(&jobs.html).expect("because the API speaks JSON");
    let backup = jobs["items"].as_array().expect("a list").iter().find(|job| job["kind"] == "backup");
    let id = backup.and_then(|job| job["id"].as_str()).expect("because there were backups");
    let live = browser.open(&format!("/jobs/{id}/live")).await;
    assert_eq!(live.headers["content-type"], "text/event-stream");
    assert_eq!(live.html.matches("event: ").count(), 1, "{}", live.html);
    assert!(live.html.contains("id: end") && live.html.contains("Succeeded"), "{}", live.html);
    let page = browser.open(&format!("/jobs/{id}")).await;
    page.says("Backup of shop");
    assert!(page.link("Open the snapshot").starts_with("/snapshots/"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_misses_something_or_fails_says_so_and_keeps_what_was() {
    let cluster = Cluster::shared();
    let name = cluster.fresh_database("incomplete").await;
    cluster.execute(&name, SCHEMA).await;
    let role = format!("{name}_ro");
    let sql = format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'pw'; REVOKE CREATE ON SCHEMA public FROM PUBLIC;
         GRANT USAGE ON SCHEMA public TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role};
         GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO {role};"
    );
    cluster.execute(&name, &sql).await;
    let server = Server::start().await;
    let (browser, projects) = registered(&server.base).await;
    let database = connected(&browser, &projects, &cluster.url(&role, "pw", &name)).await;

    cluster.execute(&name, "CREATE TABLE payroll (id int PRIMARY KEY); INSERT INTO payroll VALUES (1)").await;
    let history = back_up(&browser, &database, "").await;
    assert_eq!(history.table("Snapshots of shop")[0][1], "Incomplete");
    let snapshot = browser.open(&first_snapshot(&history)).await;
    snapshot.says("1 object could not be read");
    snapshot.says("public.payroll");
    snapshot.says("GRANT SELECT ON");
    assert_eq!(snapshot.table("3 tables").len(), 3);
    let restore = browser.open(&snapshot.link("Restore")).await;
    restore.says("will not be in the restored database");

    cluster.execute(&name, &format!("ALTER ROLE {role} PASSWORD 'other'")).await;
    let page = browser.open(&database).await;
    let failed = browser.wait(browser.submit(&page, &format!("{database}/backups"), &[]).await).await;
    failed.says("The last backup left no snapshot");
    failed.says("refused the password of user");
    assert_eq!(failed.table("Snapshots of shop").len(), 1, "what was taken before is still there");
    browser.open(&failed.link("Details")).await.says("Failed");
    browser.open("/projects").await.says("Last backup failed");

    let settings = browser.open(&failed.link("Change the connection")).await;
    let action = format!("{database}/settings");
    let fields = [("name", "shop"), ("url", "postgres://me:hunter2@127.0.0.1:1/shop")];
    let refused = browser.submit(&settings, &action, &fields).await;
    assert_eq!(refused.status, 422);
    refused.says("Network failed");
    assert!(!refused.html.contains("hunter2"));
    let url = cluster.url(&role, "other", &name);
    let saved = browser.submit(&refused, &action, &[("name", "the shop"), ("url", &url)]).await;
    assert_eq!(saved.path, database);
    let history = back_up(&browser, &database, "with the new password").await;
    assert_eq!(history.table("Snapshots of the shop").len(), 2);

    let action = format!("{database}/remove");
    let refused = browser.submit(&settings, &action, &[("confirm", "shop")]).await;
    assert_eq!(refused.status, 422);
    refused.says("Type the shop to remove it.");
    let removed = browser.submit(&refused, &action, &[("confirm", "the shop")]).await;
    removed.says("This database was removed");
    assert_eq!(removed.table("Snapshots of the shop").len(), 2);
    assert!(!removed.forms().contains(&format!("{database}/backups")));
}

fn first_snapshot(history: &Page) -> String {
    let rest =
        history.html.split("href=\"/snapshots/").nth(1).expect("because the history links its snapshots");
    format!("/snapshots/{}", rest.split('"').next().expect("because it is quoted"))
}

fn check_summary(diff: &Page) {
    diff.says("A older shop prod");
    diff.says("B newer shop prod");
    diff.says("after the change");
    let rows = diff.table("Tables that differ");
    assert_eq!(rows[0], ["public.orders", "0", "2", "1", "2,997"], "most changes first");
    assert_eq!(rows[1], ["public.customers", "1", "0", "0", "500"]);
    assert_eq!(rows.len(), 2);
    assert_eq!(diff.table("Unchanged tables")[0], [r#"public."Price list""#, "0", "0", "0", "50"]);
}

async fn check_rows(browser: &Browser, diff: &Page) {
    let orders = browser.open(&diff.link("public.orders")).await;
    let rows = orders.table("Changes of public.orders");
    assert_eq!(rows.len(), 3, "{rows:?}");
    assert!(rows[0][0] == "− Deleted" && rows[0][1].contains("31"), "{rows:?}");
    assert!(rows[1][0] == "~ Modified" && rows[1][1].contains("1007"), "{rows:?}");
    assert!(rows[1].iter().any(|cell| cell == "was −pending now +paid"), "{rows:?}");
    assert!(rows[2].iter().any(|cell| cell == "was −2515.00 now +NULL"), "{rows:?}");
    assert!(rows[2].iter().any(|cell| cell == "was −pending now +refunded"), "{rows:?}");
    // Exactly three cells differ: one of 1007, two of 2012. Nothing of customer_id.
    assert_eq!(orders.html.matches("<td class=\"differs\">").count(), 3);
    assert!(!rows[1].iter().any(|cell| cell == "8"), "customer_id did not change: {rows:?}");

    let all = browser.open(&orders.link("Show all columns")).await;
    let rows = all.table("Changes of public.orders");
    assert_eq!(rows[1][2..5], ["1007", "8", "was −pending now +paid"]);

    let customers = browser.open(&diff.link("public.customers")).await;
    let rows = customers.table("Changes of public.customers");
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0][0], "+ Added");
    assert_eq!(rows[0][2..], ["501", "New <b>customer</b>", "empty"], "shown as text, not as markup");
}

async fn check_filters(browser: &Browser, diff: &Page) {
    let orders = diff.link("public.orders");
    let modified = browser.open(&format!("{orders}?kind=changed&column=total")).await;
    let rows = modified.table("Changes of public.orders");
    assert!(rows.len() == 1 && rows[0][1].contains("2012"), "{rows:?}");
    let none = browser.open(&format!("{orders}?kind=added")).await;
    none.says("No change matches");
    let wrong = browser.open(&format!("{orders}?column=nonsense")).await;
    assert_eq!(wrong.status, 422);
    wrong.says("nonsense");
}

/// With the newest snapshot from the history, and with any from its own page.
async fn compare_live(browser: &Browser, database: &str, cluster: &Cluster, name: &str) {
    let history = browser.open(database).await;
    let equal = browser.wait(browser.press(&history, "Compare with the live database").await).await;
    equal.says("No differences.");
    equal.says("B newer shop prod live database, read at");

    cluster.execute(name, "UPDATE orders SET status = 'lost' WHERE id = 77").await;
    let snapshot = browser.open(&first_snapshot(&history)).await;
    let diff = browser.wait(browser.press(&snapshot, "Compare with the live database").await).await;
    assert_eq!(diff.table("Tables that differ")[0], ["public.orders", "0", "1", "0", "2,998"]);
    let orders = browser.open(&diff.link("public.orders")).await;
    orders.says("live database, read at");
    let rows = orders.table("Changes of public.orders");
    assert!(rows[0].iter().any(|cell| cell == "was −pending now +lost"), "{rows:?}");

    cluster.execute(name, "UPDATE orders SET status = 'pending' WHERE id = 77").await;
    let again = browser.wait(browser.press(&orders, "Compare again").await).await;
    again.says("No differences.");
    assert_ne!(again.path, diff.path);
    browser.open(&diff.link("public.orders")).await.says("lost");
}

async fn check_records(browser: &Browser, history: &Page) {
    let snapshot = browser.open(&first_snapshot(history)).await;
    snapshot.says("Snapshot of shop");
    assert_eq!(snapshot.table("3 tables").len(), 3);
    let first = browser.open(&snapshot.link("public.orders")).await;
    let rows = first.table("Records of public.orders");
    assert_eq!(rows.len(), 100);
    assert_eq!(rows[0][1..], ["1", "2", "pending", "1.25", "Restore 1"]);
    let second = browser.open(&first.link("Next page")).await;
    // Row 31 is gone, so a hundred rows end at 101.
    assert_eq!(second.table("Records of public.orders")[0][1], "102");
}

async fn restore(browser: &Browser, history: &Page, cluster: &Cluster, source: &str) {
    let snapshot = browser.open(&first_snapshot(history)).await;
    let form = browser.open(&snapshot.link("Restore")).await;
    let refused = browser.submit(&form, &form.path.clone(), &[("url", "nonsense")]).await;
    assert_eq!(refused.status, 422);
    refused.says("postgres://");

    let target = format!("{source}_restored");
    let url = cluster.superuser_url(&target);
    let planned = browser.submit(&form, &form.path.clone(), &[("url", &url)]).await;
    assert!(planned.path.starts_with("/restores/"), "{}: {}", planned.path, planned.text());
    let plan = browser.wait(planned).await;
    assert!(!plan.html.contains(cluster.password()), "the password does not come back");
    plan.says("What will be written: 3,550 inserts, 0 updates, 0 deletes");
    let phrase = plan
        .text()
        .split_once('\u{201c}')
        .and_then(|(_, rest)| Some(rest.split_once('\u{201d}')?.0.to_owned()));
    let phrase = phrase.expect("because the plan says what to type");

    let apply = format!("{}/apply", plan.path);
    let wrong = browser.submit(&plan, &apply, &[("url", &url), ("confirm", "yes")]).await;
    assert_eq!(wrong.status, 422, "{}", wrong.text());
    assert!(!wrong.html.contains(cluster.password()), "the password does not come back");
    assert!(wrong.html.contains("tabindex=\"-1\" autofocus"), "the page is opened where its error is");

    let running = browser.submit(&wrong, &apply, &[("url", &url), ("confirm", &phrase)]).await;
    let result = browser.wait(running).await;
    result.says("Proof: the restored database matches the snapshot");
    let proofs = result.table("Proof by table");
    assert_eq!(proofs.len(), 3);
    assert!(proofs.iter().all(|row| row[1] == "Matches" && row[2] == row[3]), "{proofs:?}");
    let query = "SELECT string_agg(o::text, ',' ORDER BY id) FROM orders o";
    assert_eq!(cluster.query_one(&target, query).await, cluster.query_one(source, query).await);
    let list = browser.open("/restores").await;
    assert_eq!(list.table("Restores, newest first")[0][1], "Matches");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_cannot_be_used_are_refused_with_reasons() {
    let cluster = Cluster::shared();
    let name = cluster.fresh_database("refused").await;
    cluster.execute(&name, SCHEMA).await;
    let read_only = cluster.create_read_only_role(&name, &format!("{name}_ro")).await;
    let server = Server::start().await;
    let (browser, projects) = registered(&server.base).await;
    let form = browser.submit(&projects, "/projects", &[("name", "Web shop")]).await;
    let connect = async |url: &str, action: &str| {
        let fields = [("url", url), ("name", "shop"), ("environment", "dev"), ("action", action)];
        browser.submit(&form, &form.path.clone(), &fields).await
    };

    let superuser = connect(&cluster.superuser_url(&name), "connect").await;
    assert_eq!(superuser.status, 422);
    superuser.says("Refused: these credentials can write");
    superuser.says("superuser");
    superuser.says("GRANT pg_read_all_data TO \"dbsnap_ro\";");
    assert!(!superuser.html.contains(cluster.password()));

    let wrong = connect(&cluster.url(&format!("{name}_ro"), "hunter2", &name), "connect").await;
    assert_eq!(wrong.status, 422);
    wrong.says("Sign-in failed");
    wrong.says("Read-only not tried");
    assert!(!wrong.html.contains("hunter2"));

    let unreachable = connect("postgres://me:hunter2@127.0.0.1:1/shop", "connect").await;
    assert_eq!(unreachable.status, 422);
    unreachable.says("Network failed");
    let unparsable = connect("postgres://me:hunter2@host:99999/db", "connect").await;
    assert_eq!(unparsable.status, 422);
    unparsable.says("port");
    assert!(!unparsable.html.contains("hunter2"));

    let tested = connect(&read_only, "test").await;
    assert_eq!(tested.status, 200);
    tested.says("The connection works and can only read");
    let overview = browser.open("/projects").await;
    overview.says("No database yet");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visitor_sees_the_sign_in_form_and_comes_back_where_they_wanted() {
    let server = Server::start().await;
    let (_mira, _) = registered(&server.base).await;
    let visitor = Browser::new(&server.base);
    let form = visitor.open("/restores").await;
    assert_eq!(form.path, "/login?next=%2Frestores");
    let wrong = [("email", "mira@example.com"), ("password", "wrong password")];
    let again = visitor.submit(&form, "/login", &wrong).await;
    assert_eq!(again.status, 422);
    assert!(again.html.contains("mira@example.com") && !again.html.contains("wrong password"));
    let right = [("email", "mira@example.com"), ("password", PASSWORD)];
    let restores = visitor.submit(&again, "/login", &right).await;
    assert_eq!(restores.path, "/restores");
    restores.says("No restore yet");

    let missing = visitor.open("/databases/0123456789abcdef0123456789abcdef").await;
    assert_eq!(missing.status, 404);
    missing.says("Not found");
    let nowhere = visitor.open("/no/such/page").await;
    assert_eq!(
        (nowhere.status, nowhere.headers["content-type"].to_str().unwrap()),
        (404, "text/html; charset=utf-8")
    );
    let policy = restores.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");

    let closed = Browser::new(&server.base);
    let form = closed.open("/register").await;
    form.says("This server takes no new accounts");
    assert_eq!(form.forms(), Vec::<String>::new());
    let signed_out = visitor.submit(&restores, "/logout", &[]).await;
    assert_eq!(signed_out.path, "/login");
    assert_eq!(visitor.open("/projects").await.path, "/login?next=%2Fprojects");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recovery_key_is_shown_once() {
    let server = Server::start().await;
    let (browser, projects) = registered(&server.base).await;
    browser.submit(&projects, "/projects", &[("name", "Web shop")]).await;
    let settings = browser.open(&browser.open("/projects").await.link("Settings")).await;
    settings.says("None has been made");
    let action = settings.forms().into_iter().find(|action| action.ends_with("/recovery-key"));
    let key = browser.submit(&settings, &action.expect("because the page offers it"), &[]).await;
    key.says("This key is shown once");
    assert_eq!(key.headers["cache-control"], "no-store");
    let settings = browser.open(&key.link("I have saved it")).await;
    settings.says("One was made on");
    // It is removed only by who means it.
    let (_, row) = settings.html.split_once("<th scope=\"row\">Recovery key").unwrap();
    let (_, shown) = row.split_once("<code>").unwrap();
    let shown = shown.split('<').next().unwrap();
    let is_its = |action: &String| action.contains(&format!("/keys/{shown}")) && action.ends_with("/remove");
    let action = settings.forms().into_iter().find(is_its).unwrap();
    let refused = browser.submit(&settings, &action, &[("confirm", "remove")]).await;
    refused.says(&format!("Type {shown} to remove the key"));
    refused.says("One was made on");
    let settings = browser.submit(&settings, &action, &[("confirm", shown)]).await;
    settings.says("None has been made");
}
