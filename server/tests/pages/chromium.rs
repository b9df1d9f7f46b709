//! A real browser: headless Chromium, steered by its driver.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fantoccini::{Client, ClientBuilder, Locator};
use futures::FutureExt;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};

/// Runs the driver until this process drops the other end of its input, or dies. Then ends the whole
/// group: a driver that is merely killed leaves its browser behind.
const KEEPER: &str = "chromedriver --port=0 & read -r _; kill -KILL 0";

/// Where a window's picture goes when its test fails.
const FAILURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../test-artifacts");

/// A browser window. Dropping it ends browser and driver.
pub struct Chromium {
    keeper: Child,
    _profile: tempfile::TempDir,
    driver_url: String,
    pub client: Client,
}

impl Drop for Chromium {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        // Only then may the profile's folder go.
        let _ = self.keeper.wait();
    }
}

impl Chromium {
    /// Opens a window of this size.
    pub async fn start(width: u32, height: u32) -> Self {
        Self::open_window(width, height, &json!({})).await
    }

    /// Opens a window whose pages may not run scripts.
    pub async fn without_scripts(width: u32, height: u32) -> Self {
        let blocked = json!({ "profile.managed_default_content_settings.javascript": 2 });
        Self::open_window(width, height, &blocked).await
    }

    async fn open_window(width: u32, height: u32, preferences: &Value) -> Self {
        let (keeper, port) = start_driver();
        let driver_url = format!("http://127.0.0.1:{port}");
        let profile = tempfile::tempdir().expect("because the temporary folder takes files");
        let arguments = [
            "--headless".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--disable-background-networking".to_owned(),
            "--disable-component-update".to_owned(),
            "--disable-sync".to_owned(),
            format!("--user-data-dir={}", profile.path().display()),
            format!("--window-size={width},{height}"),
        ];
        let capabilities = json!({
            "goog:chromeOptions": { "args": arguments, "prefs": preferences },
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        let mut builder = ClientBuilder::new(HttpConnector::new());
        let capabilities = capabilities.as_object().expect("because it is one").clone();
        let client = builder.capabilities(capabilities).connect(&driver_url).await;
        let client = client.expect("because the driver has just started");
        Self { keeper, _profile: profile, driver_url, client }
    }

    /// Awaits a test's work; when it fails, what the window shows is kept as a picture.
    pub async fn watch(&self, name: &str, work: impl Future<Output = ()>) {
        if let Err(failure) = AssertUnwindSafe(work).catch_unwind().await {
            if let Ok(png) = self.client.screenshot().await {
                let kept = std::fs::create_dir_all(FAILURES)
                    .and_then(|()| std::fs::write(format!("{FAILURES}/{name}.png"), png));
                eprintln!("{FAILURES}/{name}.png: {kept:?}");
            }
            resume_unwind(failure);
        }
    }

    /// What the browser has complained of: violations of the security policy, failed requests,
    /// errors of scripts.
    pub async fn complaints(&self) -> Vec<String> {
        let session =
            self.client.session_id().await.expect("because the session lives").expect("because it began");
        let url = format!("{}/session/{session}/se/log", self.driver_url);
        let request = reqwest::Client::new().post(url).json(&json!({ "type": "browser" }));
        let answer: Value =
            request.send().await.expect("because the driver runs").json().await.expect("JSON");
        let entries = answer["value"].as_array().cloned().unwrap_or_default();
        entries
            .iter()
            .filter(|entry| entry["level"] != "INFO")
            .map(|entry| entry["message"].to_string())
            .collect()
    }

    /// Goes to a path of the server at `base`.
    pub async fn open(&self, base: &str, path: &str) {
        self.client.goto(&format!("{base}{path}")).await.expect(path);
    }

    /// Types into the field with this id, over what is there.
    pub async fn fill(&self, id: &str, text: &str) {
        let field = self.client.find(Locator::Id(id)).await.unwrap_or_else(|_| panic!("no field {id}"));
        field.clear().await.expect("because it can be typed into");
        field.send_keys(text).await.expect("because it can be typed into");
    }

    /// Presses the first button or link with these words.
    pub async fn press(&self, words: &str) {
        let path = format!("//*[self::button or self::a or self::summary][normalize-space()={words:?}]");
        let found =
            self.client.wait().at_most(Duration::from_secs(10)).for_element(Locator::XPath(&path)).await;
        let found = found.unwrap_or_else(|_| panic!("nothing to press says {words:?}"));
        found.click().await.unwrap_or_else(|error| panic!("{words:?}: {error}"));
    }

    /// Waits until the page says something.
    pub async fn until(&self, expected: &str) -> String {
        for _ in 0..600 {
            let text = self.text().await;
            if text.contains(expected) {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{expected:?} never appeared: {}", self.text().await);
    }

    /// The page as it is seen, on one line. Empty while another is being loaded.
    pub async fn text(&self) -> String {
        let text = match self.client.find(Locator::Css("body")).await {
            Ok(body) => body.text().await.unwrap_or_default(),
            Err(_) => String::new(),
        };
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Runs a script's expression.
    pub async fn evaluate(&self, expression: &str) -> Value {
        self.client.execute(&format!("return {expression};"), Vec::new()).await.expect(expression)
    }

    /// Keeps a picture of the window where `DBSNAP_TEST_ARTIFACTS` says, if it says so.
    pub async fn picture(&self, name: &str) {
        if let Some(folder) = std::env::var_os("DBSNAP_TEST_ARTIFACTS") {
            let png = self.client.screenshot().await.expect("because the window is open");
            std::fs::create_dir_all(&folder).expect("because the folder was asked for");
            std::fs::write(Path::new(&folder).join(format!("{name}.png")), png).expect("because it is there");
        }
    }
}

/// The driver's keeper, and the port that the driver found.
fn start_driver() -> (Child, String) {
    let mut command = Command::new("sh");
    command.args(["-c", KEEPER]).process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut keeper = command.spawn().expect("because every Unix has sh");
    let mut lines = BufReader::new(keeper.stdout.take().expect("because it is piped")).lines();
    let port = loop {
        let line = lines.next().expect("chromedriver is needed: install chromium-driver");
        if let Some((_, port)) = line.expect("because it is text").split_once("started successfully on port ")
        {
            break port.trim_end_matches('.').to_owned();
        }
    };
    // Read on, or the pipe fills and the driver waits.
    std::thread::spawn(move || lines.for_each(drop));
    (keeper, port)
}
