//! The main journey in Chromium: what a person sees and presses. Here with scripts on the demo shop,
//! with pictures; in `exact_journey` and `mongodb_journey` to the value, with scripts and
//! without.

#[path = "pages/chromium.rs"]
mod chromium;
#[path = "pages/exact_journey.rs"]
mod exact_journey;
#[path = "pages/mongodb_journey.rs"]
mod mongodb_journey;
#[path = "pages/mongodb_shop.rs"]
mod mongodb_shop;
#[path = "pages/server.rs"]
mod server;

use chromium::Chromium;
use engine_testutils::demo;
use engine_testutils::postgres::Cluster;
use server::Server;

const DESKTOP: (u32, u32) = (1280, 900);

#[tokio::test(flavor = "multi_thread")]
async fn a_person_finds_what_changed_and_restores_it() {
    let cluster = Cluster::shared();
    let name = cluster.fresh_database("shop").await;
    let shop = cluster.connect(&name).await;
    demo::seed(&shop).await.expect("because the database is empty");
    let url = cluster.create_read_only_role(&name, &format!("{name}_ro")).await;
    let server = Server::start().await;
    let browser = Chromium::start(DESKTOP.0, DESKTOP.1).await;

    let work = async {
        register_and_connect(&browser, &server.base, &url).await;
        back_up(&browser, "before Tuesday").await;
        demo::change(&shop, demo::Day::Tuesday).await.expect("because the days come in order");
        back_up(&browser, "after Tuesday").await;
        browser.picture("history").await;

        browser.press("Compare A with B").await;
        let summary = browser.until("tables differ").await;
        browser.picture("comparison").await;
        for expected in ["A older", "B newer", "Schema changes", "after Tuesday"] {
            assert!(summary.contains(expected), "{expected}: {summary}");
        }
        let facts = demo::facts().iter().filter(|table| table.changes[0] != demo::Changes::default());
        for table in facts {
            let counts = row(&browser, &format!("public.{}", table.name)).await;
            let changes = table.changes[0];
            assert_eq!(counts, [changes.added, changes.changed, changes.removed], "{}", table.name);
        }
        look_at_rows(&browser).await;
        restore(&browser, cluster, &name).await;
        assert_eq!(browser.complaints().await, Vec::<String>::new());
    };
    browser.watch("shop", work).await;
}

async fn register_and_connect(browser: &Chromium, base: &str, url: &str) {
    browser.open(base, "/").await;
    browser.picture("register").await;
    browser.fill("email", "mira@example.com").await;
    browser.fill("password", "correct horse battery").await;
    browser.press("Create account").await;
    browser.until("Three steps to your first diff").await;
    browser.press("Create project and connect").await;
    browser.until("Database URL").await;
    browser.fill("url", url).await;
    browser.fill("name", "shop").await;
    browser.press("Test and connect").await;
    browser.until("There is no snapshot of shop yet").await;
}

/// The page follows the backup by itself: the region is refilled without loading the page, and the
/// page is loaded anew when there is a snapshot to show.
async fn back_up(browser: &Chromium, note: &str) {
    browser.fill("note", note).await;
    browser.press("Back up now").await;
    browser.until(note).await;
    let text = browser.until("Back up now").await;
    assert!(text.contains("Complete"), "{text}");
}

/// Added, modified and deleted records of a table, as the summary says.
async fn row(browser: &Chromium, table: &str) -> [u64; 3] {
    let script = format!(
        "[...document.querySelectorAll('table.counts tbody tr')]
            .filter(row => row.querySelector('th code').textContent === {table:?})
            .flatMap(row => [...row.querySelectorAll('td')].map(cell => Number(cell.textContent.replaceAll(',', ''))))"
    );
    let cells = browser.evaluate(&script.replace('\n', " ")).await;
    let cell =
        |i: usize| cells[i].as_u64().unwrap_or_else(|| panic!("{table} is not in the summary: {cells}"));
    [cell(0), cell(1), cell(2)]
}

async fn look_at_rows(browser: &Chromium) {
    browser.press("public.products").await;
    browser.until("Changed column").await;
    browser.picture("changes").await;
    let marked = browser.evaluate("document.querySelectorAll('tr.changed td.differs').length").await;
    assert!(marked.as_u64().is_some_and(|marked| marked >= 88), "each product has a changed cell: {marked}");
    browser.press("Show all columns").await;
    browser.until("Show only the key and changed columns").await;
    browser.picture("changes-all-columns").await;
    let scrolls_itself = "document.documentElement.scrollWidth <= document.documentElement.clientWidth";
    assert_eq!(browser.evaluate(scrolls_itself).await, true, "a wide table scrolls in its own region");
    browser.client.set_window_size(390, 844).await.expect("because the window is open");
    browser.picture("changes-phone").await;
    assert_eq!(browser.evaluate(scrolls_itself).await, true, "on a phone, too");
    browser.client.set_window_size(DESKTOP.0, DESKTOP.1).await.expect("because the window is open");
    browser.evaluate("document.activeElement.blur() || true").await;
    let body = browser.client.find(fantoccini::Locator::Css("body")).await.expect("because there is one");
    body.send_keys("n").await.expect("because keys reach the page");
    assert_eq!(
        browser.evaluate("document.activeElement.hasAttribute('data-change')").await,
        true,
        "n moves on"
    );
}

async fn restore(browser: &Chromium, cluster: &Cluster, source: &str) {
    let target = format!("{source}_restored");
    let url = cluster.superuser_url(&target);
    browser.press("shop").await;
    browser.until("Compare A with B").await;
    let newest = "document.querySelector('th.moment a').click() || true";
    browser.evaluate(newest).await;
    browser.until("Snapshot of shop").await;
    browser.picture("snapshot").await;
    browser.press("Restore").await;
    browser.until("URL of the target database").await;
    browser.fill("url", &url).await;
    browser.press("Plan the restore").await;
    browser.until("What will be written").await;
    browser.picture("plan").await;
    let label = browser.evaluate("document.querySelector('label[for=confirm]').textContent").await;
    let label = label.as_str().expect("because the field has a label");
    let phrase = label.split(['\u{201c}', '\u{201d}']).nth(1).expect("because the label quotes it");
    browser.fill("url", &url).await;
    browser.fill("confirm", phrase).await;
    let words = browser.evaluate("document.querySelector('form.stack button.primary').textContent").await;
    browser.press(words.as_str().expect("because the button says something")).await;
    browser.until("Proof: the restored database matches the snapshot").await;
    browser.picture("proof").await;
    let sum = "SELECT md5(string_agg(o::text, ',' ORDER BY o::text)) FROM orders o";
    assert_eq!(cluster.query_one(&target, sum).await, cluster.query_one(source, sum).await);
}
