//! The main journey on MongoDB, in a browser with scripts and in one without: a comparison shows exactly
//! the documents and fields that changed, and a restore brings back the collection that was chosen.

use engine_testutils::mongodb::Server as Mongo;

use crate::chromium::Chromium;
use crate::exact_journey::{back_up, find, find_all, press_restore, register_and_connect, texts};
use crate::mongodb_shop::{change, shop};
use crate::server::Server;

#[tokio::test(flavor = "multi_thread")]
async fn documents_with_scripts() {
    let browser = Chromium::start(1280, 900).await;
    browser.watch("documents-with-scripts", journey(&browser)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_without_scripts() {
    let browser = Chromium::without_scripts(1280, 900).await;
    browser.watch("documents-without-scripts", journey(&browser)).await;
}

async fn journey(browser: &Chromium) {
    let mongo = Mongo::shared();
    let (name, url) = shop(mongo).await;
    let server = Server::start().await;
    register_and_connect(browser, &server.base, &url).await;
    back_up(browser, "before the change").await;
    let before = mongo.read_raw(&format!("{name}.orders")).await;
    change(mongo, &name).await;
    back_up(browser, "after the change").await;
    compare(browser, &name).await;
    look_at_records(browser, &server.base, &name).await;

    let target = format!("{name}_restored");
    let url = mongo.admin_url().replacen("/admin?", &format!("/{target}?"), 1);
    restore_oldest(browser, &server.base, &name, &target, &url).await;
    assert_eq!(mongo.read_raw(&format!("{target}.orders")).await, before);
    assert!(mongo.read_raw(&format!("{target}.customers")).await.is_empty(), "it was not chosen");
    assert_eq!(browser.complaints().await, Vec::<String>::new());
}

async fn compare(browser: &Chromium, name: &str) {
    browser.press("Compare A with B").await;
    let summary = browser.until("1 collection differs").await;
    assert!(summary.contains("1 only in field order"), "{summary}");
    let rows = texts(browser, "section.card table.counts tbody tr").await;
    assert_eq!(rows, [format!("{name}.orders 1 of the modified: only the order of fields 1 3 1 46")]);
    browser.picture("mongodb-comparison").await;
    browser.press(&format!("{name}.orders")).await;
    browser.until("Whole document, before and after").await;
    browser.picture("mongodb-changes").await;
    let heads = texts(browser, "ol.changes p.what").await;
    let expected =
        ["~ Modified 7", "~ Modified 8 field order only", "~ Modified 9", "− Deleted 10", "+ Added 51"];
    assert_eq!(heads, expected);
    let fields = texts(browser, "ol.changes > li:nth-child(1) dl.fields > div").await;
    assert_eq!(fields, ["qty was − int 3 now + long 3"]);
    let fields = texts(browser, "ol.changes > li:nth-child(3) dl.fields > div").await;
    let expected = [
        "status was − \"pending\" now + \"paid\"",
        "tags.0 removed − \"gift\"",
        "lines.0 moved, was lines.1",
        "paid_at added + date 2026-03-14T13:29:51.000Z",
    ];
    assert_eq!(fields, expected);
    let added = texts(browser, "ol.changes > li:nth-child(5) pre.json").await;
    assert!(added[0].contains(r#""status": "new", "qty": {"$numberInt": "3"}"#), "{added:?}");
    browser.press("Whole document, before and after").await;
    let whole = texts(browser, "ol.changes > li:nth-child(1) pre.json").await;
    assert!(
        whole[0].contains(r#"{"$numberInt": "3"}"#) && whole[1].contains(r#"{"$numberLong": "3"}"#),
        "{whole:?}"
    );
    let fits = "document.documentElement.scrollWidth <= document.documentElement.clientWidth";
    browser.client.set_window_size(390, 844).await.expect("because the window is open");
    browser.picture("mongodb-changes-phone").await;
    assert_eq!(browser.evaluate(fits).await, true, "nothing is wider than a phone");
    browser.client.set_window_size(1280, 900).await.expect("because the window is open");

    browser.fill("column", "status").await;
    browser.press("Filter").await;
    browser.until("Whole document, before and after").await;
    assert_eq!(texts(browser, "ol.changes p.what").await, ["~ Modified 9"]);
}

async fn look_at_records(browser: &Chromium, base: &str, name: &str) {
    open_snapshot(browser, base, 0, "after the change").await;
    browser.press(&format!("{name}.customers")).await;
    browser.until("Start from _id").await;
    assert_eq!(find_all(browser, "ul.documents > li").await.len(), 100);
    browser.fill("from_key", "599").await;
    browser.press("Go").await;
    browser.until("First page").await;
    let records = texts(browser, "ul.documents > li").await;
    let shown = r#"{ "_id": {"$numberInt": "599"}, "name": "customer 599", "city": "Oslo" }"#;
    assert!(records.len() == 2 && records[0].contains(shown), "{records:?}");
    browser.picture("mongodb-records").await;
}

async fn open_snapshot(browser: &Chromium, base: &str, at: usize, note: &str) {
    browser.open(base, "/projects").await;
    browser.press("shop").await;
    browser.until("Compare A with B").await;
    find_all(browser, "th.moment a").await.remove(at).click().await.expect("because it is a link");
    browser.until("Consistency").await;
    browser.until(note).await;
}

async fn restore_oldest(browser: &Chromium, base: &str, name: &str, target: &str, url: &str) {
    open_snapshot(browser, base, 1, "before the change").await;
    browser.picture("mongodb-snapshot").await;
    browser.press("Restore").await;
    browser.until("URL of the target").await;
    let list = find(browser, "ul.choose").await;
    assert!(!list.is_displayed().await.expect("because it is on the page"), "all is chosen at first");
    find(browser, "input[name=scope][value=chosen]").await.click().await.expect("because it is shown");
    let orders = format!("input[name=collection][value=\"{name}.orders\"]");
    find(browser, &orders).await.click().await.expect("because the list is shown now");
    browser.fill("url", url).await;
    browser.picture("mongodb-restore").await;
    browser.press("Plan the restore").await;
    let plan = browser.until("What will be written").await;
    assert!(plan.contains("50 inserts, 0 updates, 0 deletes"), "{plan}");
    assert!(plan.contains(&format!("Every collection goes into the database {target}.")), "{plan}");
    browser.picture("mongodb-plan").await;
    browser.fill("url", url).await;
    browser.fill("confirm", target).await;
    press_restore(browser).await;
    let result = browser.until("Proof: the restored database matches the snapshot").await;
    assert_eq!(result.matches("Matches").count(), 1, "one for the collection chosen: {result}");
    browser.picture("mongodb-proof").await;
}
