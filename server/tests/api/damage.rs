//! Damage that a verification found: whatever speaks of the snapshot says so until one finds it whole.

use std::collections::BTreeSet;
use std::path::PathBuf;

use engine_testutils::postgres::Cluster;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Api, Browser, PASSWORD, Server, shop, text};

const OPEN: [(&str, &str); 1] = [("DBSNAP_SIGNUP", "open")];

fn packs(server: &Server, project: &str) -> BTreeSet<PathBuf> {
    let folder = server.folder.path().join("repositories").join(project).join("packs");
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Flips a bit in the middle of the largest of some packs, where leaves of tables are.
fn damage<'a>(packs: impl Iterator<Item = &'a PathBuf>) {
    let largest = packs.max_by_key(|path| std::fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = std::fs::read(largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(largest, bytes).unwrap();
}

async fn verify(api: &Api, project: &str, mode: &str) -> Value {
    let path = format!("/projects/{project}/verify");
    let queued = api.post(&path, json!({ "mode": mode })).await.expect(StatusCode::ACCEPTED);
    let job = api.ended(&text(&queued["job_id"])).await;
    assert_eq!(job["state"], "succeeded", "{job:#}");
    job
}

/// The value of a metric of the project.
async fn metric(shop: &Damaged, name: &str) -> Option<String> {
    let text = reqwest::get(format!("{}/metrics", shop.server.base)).await.unwrap().text().await.unwrap();
    let sample = format!("{name}{{project=\"{}\"}} ", shop.project);
    text.lines().find_map(|line| line.strip_prefix(&sample).map(str::to_owned))
}

/// A project whose first database has a whole snapshot and a newer, damaged one; the second is whole.
struct Damaged {
    server: Server,
    api: Api,
    project: String,
    database: String,
    other: String,
    whole: String,
    hurt: String,
}

async fn damaged() -> Damaged {
    let (name, url) = shop().await;
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let project = api.project("shop").await;
    let [database, other] = [api.database(&project, &url).await, api.database(&project, &url).await];
    let whole = api.back_up(&database).await;
    api.back_up(&other).await;
    let before = packs(&server, &project);
    Cluster::shared().execute(&name, "UPDATE customers SET name = 'renamed ' || id").await;
    let hurt = api.back_up(&database).await;
    damage(packs(&server, &project).difference(&before));
    Damaged { server, api, project, database, other, whole, hurt }
}

impl Damaged {
    /// Stops the server and starts it on what it left.
    async fn restarted(self) -> Self {
        let server = Server::start_in(self.server.stop().await, &OPEN).await;
        let api = Api { base: server.base.clone(), ..self.api };
        Self { server, api, ..self }
    }

    /// Whether everything says that the one snapshot is damaged, and no other; or that none is.
    async fn check(&self, is_damaged: bool) {
        let browser = Browser::signed_in(&self.server.base, "ada@example.com", PASSWORD).await;
        for page in ["/projects".to_owned(), format!("/projects/{}", self.project)] {
            let page = browser.get(&page).await.text;
            let row = |database: &str| {
                let start =
                    page.find(&format!("<th scope=\"row\"><a href=\"/databases/{database}\"")).unwrap();
                page[start..].split("</tr>").next().unwrap().to_owned()
            };
            let (row, other) = (row(&self.database), row(&self.other));
            let recovered = row.split("Can be recovered from").nth(1).unwrap().split("</td>").next().unwrap();
            let from = if is_damaged { &self.whole } else { &self.hurt };
            assert!(recovered.contains(&format!("/snapshots/{from}")), "{recovered}");
            assert_eq!(recovered.contains("1 snapshot damaged"), is_damaged, "{recovered}");
            assert_eq!(row.contains("Damage found"), is_damaged, "{row}");
            assert!(!other.contains("amage"), "{other}");
        }
        let history = browser.get(&format!("/databases/{}", self.database)).await.text;
        assert_eq!(history.contains("A snapshot of it is damaged."), is_damaged, "{history}");
        assert_eq!(history.matches("</svg>Damaged<").count(), usize::from(is_damaged), "{history}");
        let told = browser.get(&format!("/snapshots/{}", self.hurt)).await.text;
        assert_eq!(told.contains("This snapshot is damaged."), is_damaged, "{told}");
        assert_eq!(told.contains("Back up now"), is_damaged, "{told}");
        for (id, is_damaged) in [(&self.hurt, is_damaged), (&self.whole, false)] {
            let found = self.api.get(&format!("/snapshots/{id}")).await.expect(StatusCode::OK);
            assert_eq!(found["damaged_since"].is_string(), is_damaged, "{found:#}");
        }
        let whole = browser.get(&format!("/snapshots/{}", self.whole)).await.text;
        assert!(!whole.contains("damaged"), "{whole}");
    }
}

#[tokio::test]
async fn a_damaged_snapshot_is_no_way_back_until_it_is_found_whole() {
    let shop = damaged().await;
    shop.check(false).await;
    let found = verify(&shop.api, &shop.project, "full").await;
    assert_eq!(found["result"]["damaged"][0]["snapshots"], json!([shop.hurt]), "{found:#}");
    shop.check(true).await;
    let shop = shop.restarted().await;
    shop.check(true).await;

    // One that reads less finds it again, and takes nothing back.
    verify(&shop.api, &shop.project, "structure").await;
    shop.check(true).await;

    // What a backup mends is damaged until that was seen.
    let mended = shop.api.back_up(&shop.database).await;
    let found = shop.api.get(&format!("/snapshots/{}", shop.hurt)).await.expect(StatusCode::OK);
    assert!(found["damaged_since"].is_string(), "{found:#}");
    let found = verify(&shop.api, &shop.project, "sample").await;
    assert_eq!(found["result"]["damaged"], json!([]), "{found:#}");
    let shop = Damaged { hurt: mended, ..shop };
    shop.check(false).await;
}

/// Who watches the server, or its log, hears of damage without reading pages.
#[tokio::test]
async fn damage_is_counted_for_alerts_and_no_success_in_the_audit_log() {
    let shop = damaged().await;
    let ends = async || -> Vec<(String, Value)> {
        let told = shop.api.get("/audit?action=verify.end").await.expect(StatusCode::OK);
        let told = told["items"].as_array().unwrap();
        told.iter().map(|entry| (text(&entry["result"]), entry["detail"]["damaged"].clone())).collect()
    };
    let metrics = async || {
        let names = ["dbsnap_damage_findings", "dbsnap_damaged_snapshots"];
        [metric(&shop, names[0]).await, metric(&shop, names[1]).await].map(Option::unwrap_or_default)
    };
    assert_eq!(metrics().await, ["", ""], "nobody has looked yet");
    verify(&shop.api, &shop.project, "full").await;
    assert_eq!(metrics().await, ["1", "1"]);
    assert_eq!(ends().await, [("incomplete".to_owned(), json!(1))]);
    shop.api.back_up(&shop.database).await;
    assert_eq!(metrics().await, ["1", "1"], "nobody has looked since");
    verify(&shop.api, &shop.project, "sample").await;
    assert_eq!(metrics().await, ["0", "0"]);
    assert_eq!(ends().await[0], ("succeeded".to_owned(), json!(0)));
}

/// Whoever gives a damaged snapshot up is not reminded of it until the next verification.
#[tokio::test]
async fn a_damaged_snapshot_that_is_deleted_is_counted_no_more() {
    let shop = damaged().await;
    verify(&shop.api, &shop.project, "full").await;
    assert_eq!(metric(&shop, "dbsnap_damaged_snapshots").await.as_deref(), Some("1"));
    let deleted = shop.api.send(Method::DELETE, &format!("/snapshots/{}", shop.hurt), Value::Null).await;
    assert_eq!(deleted.status, StatusCode::NO_CONTENT);
    assert_eq!(metric(&shop, "dbsnap_damaged_snapshots").await.as_deref(), Some("0"));
}

/// The row of its database tells nothing of a snapshot that is not there any more: the project does.
#[tokio::test]
async fn a_snapshot_whose_file_is_lost_is_told_above_the_databases() {
    let shop = damaged().await;
    let snapshots = shop.server.folder.path().join("repositories").join(&shop.project).join("snapshots");
    std::fs::remove_file(snapshots.join(&shop.hurt)).unwrap();
    let browser = Browser::signed_in(&shop.server.base, "ada@example.com", PASSWORD).await;
    let pages = ["/projects".to_owned(), format!("/projects/{}", shop.project)];
    for (mode, is_told) in [(None, false), (Some("structure"), true)] {
        if let Some(mode) = mode {
            verify(&shop.api, &shop.project, mode).await;
        }
        for page in &pages {
            let page = browser.get(page).await.text;
            assert_eq!(page.contains("that no snapshot shows"), is_told, "{page}");
        }
    }
}
