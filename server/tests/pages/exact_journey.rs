//! From registering to a proven restore, in a browser with scripts and in one without: a comparison
//! shows exactly the rows and values that changed, and a restore brings back exactly what was.

use engine_testutils::postgres::Cluster;
use fantoccini::Locator;
use fantoccini::elements::Element;

use crate::chromium::Chromium;
use crate::server::Server;

const SCHEMA: &str = "
    CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, city text);
    CREATE TABLE orders (
        id bigint PRIMARY KEY,
        customer_id int NOT NULL REFERENCES customers (id),
        status text NOT NULL,
        total numeric(10, 2)
    );
    CREATE TABLE countries (code text PRIMARY KEY, name text NOT NULL);
    INSERT INTO customers SELECT i, 'Customer ' || i, 'Bern' FROM generate_series(1, 400) i;
    INSERT INTO orders SELECT i, i % 400 + 1, 'pending', i * 1.25 FROM generate_series(1, 2000) i;
    INSERT INTO countries VALUES ('CH', 'Switzerland'), ('NO', 'Norway');
";

const CHANGES: &str = "
    UPDATE orders SET status = 'paid' WHERE id = 1007;
    UPDATE orders SET total = NULL, status = 'refunded' WHERE id = 1512;
    DELETE FROM orders WHERE id = 31;
    INSERT INTO customers VALUES (401, 'Ada <b>Quist</b>', NULL);
";

/// Everything the restore has to bring back, in one line.
const CONTENT: &str = "
    SELECT md5((SELECT string_agg(c::text, ';' ORDER BY id) FROM customers c)
        || (SELECT string_agg(o::text, ';' ORDER BY id) FROM orders o)
        || (SELECT string_agg(c::text, ';' ORDER BY code) FROM countries c))
";

#[tokio::test(flavor = "multi_thread")]
async fn with_scripts() {
    let browser = Chromium::start(1280, 900).await;
    browser.watch("with-scripts", journey(&browser, "with_scripts", true)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_scripts() {
    let browser = Chromium::without_scripts(1280, 900).await;
    browser.watch("without-scripts", journey(&browser, "without_scripts", false)).await;
}

async fn journey(browser: &Chromium, name: &str, scripts: bool) {
    let cluster = Cluster::shared();
    let source = cluster.fresh_database(name).await;
    cluster.execute(&source, SCHEMA).await;
    let url = cluster.create_read_only_role(&source, &format!("{source}_ro")).await;
    let server = Server::start().await;

    register_and_connect(browser, &server.base, &url).await;
    back_up(browser, "before the change").await;
    let before = cluster.query_one(&source, CONTENT).await;
    cluster.execute(&source, CHANGES).await;
    back_up(browser, "after the change").await;
    compare(browser, scripts).await;

    let target = format!("{source}_restored");
    restore_oldest(browser, &cluster.superuser_url(&target)).await;
    assert_eq!(cluster.query_one(&target, CONTENT).await, before);
    assert_ne!(cluster.query_one(&source, CONTENT).await, before, "the source keeps its changes");
}

pub async fn register_and_connect(browser: &Chromium, base: &str, url: &str) {
    browser.open(base, "/").await;
    browser.fill("email", "mira@example.com").await;
    browser.fill("password", "correct horse battery").await;
    browser.press("Create account").await;
    browser.until("Three steps to your first diff").await;
    browser.fill("name", "Web shop").await;
    browser.press("Create project and connect").await;
    browser.until("Database URL").await;
    browser.fill("url", url).await;
    browser.fill("name", "shop").await;
    find(browser, "input[name=environment][value=prod]").await.click().await.expect("because it is shown");
    browser.press("Test and connect").await;
    browser.until("There is no snapshot of shop yet").await;
}

/// The page comes back by itself when the work is done, with scripts or without.
pub async fn back_up(browser: &Chromium, note: &str) {
    browser.fill("note", note).await;
    browser.press("Back up now").await;
    browser.until(note).await;
    let text = browser.until("Back up now").await;
    assert!(text.contains("Complete") && text.contains("prod"), "{text}");
}

async fn compare(browser: &Chromium, scripts: bool) {
    browser.press("Compare A with B").await;
    browser.until("tables differ").await;
    // The first table: the second one, folded away, has the tables that do not differ.
    let rows = texts(browser, "section.card table.counts tbody tr").await;
    assert_eq!(rows, ["public.orders 0 2 1 1,997", "public.customers 1 0 0 400"]);
    browser.press("1 unchanged table").await;
    let rows = texts(browser, "details table.counts tbody tr").await;
    assert_eq!(rows, ["public.countries 0 0 0 2"]);

    browser.press("public.orders").await;
    browser.until("Changes of public.orders").await;
    let rows = texts(browser, "table.changes tbody tr").await;
    assert_eq!(rows.len(), 3, "{rows:?}");
    assert!(rows[0].starts_with("− Deleted 31 "), "{rows:?}");
    assert!(rows[1].starts_with("~ Modified 1007 "), "{rows:?}");
    assert!(rows[2].starts_with("~ Modified 1512 "), "{rows:?}");
    let cells = texts(browser, "table.changes td.differs").await;
    assert_eq!(
        cells,
        ["was − pending now + paid", "was − pending now + refunded", "was − 1890.00 now + NULL"]
    );
    // The one thing on this page that scripts add.
    let keys = find(browser, "p.keys").await.is_displayed().await.expect("because it is on the page");
    assert_eq!(keys, scripts, "the window runs scripts or does not, as this test says");

    browser.client.back().await.expect("because there is a page before");
    browser.press("public.customers").await;
    browser.until("Changes of public.customers").await;
    let rows = texts(browser, "table.changes tbody tr").await;
    assert_eq!(rows, ["+ Added 401 401 Ada <b>Quist</b> NULL"], "shown as text, not as markup");
}

async fn restore_oldest(browser: &Chromium, url: &str) {
    browser.press("shop").await;
    browser.until("Compare A with B").await;
    let moments = find_all(browser, "th.moment a").await;
    assert_eq!(moments.len(), 2);
    moments[1].click().await.expect("because it is a link");
    browser.until("before the change").await;
    browser.press("Restore").await;
    browser.until("URL of the target database").await;
    browser.fill("url", url).await;
    browser.press("Plan the restore").await;
    let plan = browser.until("What will be written").await;
    assert!(plan.contains("2,402 inserts, 0 updates, 0 deletes"), "{plan}");

    let label = texts(browser, "label[for=confirm]").await.remove(0);
    let phrase = label.split(['\u{201c}', '\u{201d}']).nth(1).expect("because the label quotes it");
    browser.fill("url", url).await;
    browser.fill("confirm", "yes").await;
    press_restore(browser).await;
    browser.until("The phrase is not the one asked for").await;
    browser.fill("url", url).await;
    browser.fill("confirm", phrase).await;
    press_restore(browser).await;
    let result = browser.until("Proof: the restored database matches the snapshot").await;
    assert_eq!(result.matches("Matches").count(), 3, "one for each table: {result}");
}

pub async fn press_restore(browser: &Chromium) {
    let button = find(browser, "form.stack button.primary").await;
    button.click().await.expect("because it is shown");
}

pub async fn find(browser: &Chromium, css: &str) -> Element {
    browser.client.find(Locator::Css(css)).await.unwrap_or_else(|error| panic!("{css}: {error}"))
}

pub async fn find_all(browser: &Chromium, css: &str) -> Vec<Element> {
    browser.client.find_all(Locator::Css(css)).await.unwrap_or_else(|error| panic!("{css}: {error}"))
}

/// What each of the elements shows, on one line.
pub async fn texts(browser: &Chromium, css: &str) -> Vec<String> {
    let mut texts = Vec::new();
    for element in find_all(browser, css).await {
        let text = element.text().await.unwrap_or_else(|error| panic!("{css}: {error}"));
        texts.push(text.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    texts
}
