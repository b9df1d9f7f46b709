//! A server in this process on a port of its own, and a client that speaks its API.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::clock::{Clock, System};
use engine_testutils::postgres::Cluster;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use server::app::App;
use server::config::Config;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::contract;

pub const PASSWORD: &str = "correct horse battery";

pub struct Server {
    pub base: String,
    pub app: App,
    pub folder: TempDir,
    serving: JoinHandle<()>,
}

impl Server {
    /// A fresh server that lets everybody register.
    pub async fn start() -> Self {
        Self::start_with(&[("DBSNAP_SIGNUP", "open")]).await
    }

    pub async fn start_with(variables: &[(&str, &str)]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), variables).await
    }

    /// Starts on a data folder that an earlier server left.
    pub async fn start_in(folder: TempDir, variables: &[(&str, &str)]) -> Self {
        Self::start_at(folder, variables, Arc::new(System)).await
    }

    /// As [`Server::start_in`], by a clock that the test sets.
    pub async fn start_at(folder: TempDir, variables: &[(&str, &str)], clock: Arc<dyn Clock>) -> Self {
        let config = Config::read(|name| match variables.iter().find(|(variable, _)| *variable == name) {
            Some((_, value)) => Some((*value).into()),
            None if name == "DBSNAP_DATA_DIR" => Some(folder.path().into()),
            None => None,
        });
        let app = App::open_with(config.unwrap(), clock).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let serving = tokio::spawn(server::serve::serve(app.clone(), listener));
        Self { base, app, folder, serving }
    }

    /// Stops as on SIGTERM and waits for the end.
    pub async fn stop(self) -> TempDir {
        self.app.stopping.cancel();
        tokio::time::timeout(Duration::from_secs(30), self.serving).await.unwrap().unwrap();
        // The last handle on the metadata file.
        drop(self.app);
        self.folder
    }

    /// Registers an account and signs it in.
    pub async fn user(&self, email: &str) -> Api {
        let api = Api::new(&self.base);
        let body = json!({ "email": email, "password": PASSWORD });
        let tokens = api.post("/auth/register", body).await.expect(StatusCode::CREATED);
        api.with_token(tokens["access_token"].as_str().unwrap())
    }

    /// Somebody with a project and this database in it, and the ids of both.
    pub async fn connected(&self, url: &str) -> (Api, String, String) {
        let api = self.user("ada@example.com").await;
        let project = api.project("shop").await;
        let database = api.database(&project, url).await;
        (api, project, database)
    }
}

/// A client of the API, signed in or not.
#[derive(Clone)]
pub struct Api {
    pub client: Client,
    pub base: String,
    pub token: Option<String>,
}

/// A browser without scripts: it keeps cookies and follows no redirect by itself.
pub struct Browser {
    client: Client,
    base: String,
}

impl Browser {
    pub fn new(base: &str) -> Self {
        let client = Client::builder().cookie_store(true).redirect(reqwest::redirect::Policy::none());
        Self { client: client.build().unwrap(), base: base.to_owned() }
    }

    /// Signs in by the form.
    pub async fn signed_in(base: &str, email: &str, password: &str) -> Self {
        let browser = Self::new(base);
        let form = [("email", email.to_owned()), ("password", password.to_owned())];
        let answer = browser.send(Method::POST, "/login", &form).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
        browser
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[]).await
    }

    /// Opens an address from a link on a site, as `Sec-Fetch-Site` tells it.
    pub async fn get_from(&self, site: &str, path: &str) -> Answer {
        let request = self.client.get(format!("{}{path}", self.base));
        Answer::of(request.header("sec-fetch-site", site)).await
    }

    /// Opens an address, or sends a form to it.
    pub async fn send(&self, method: Method, path: &str, form: &[(&str, String)]) -> Answer {
        let request = self.client.request(method.clone(), format!("{}{path}", self.base));
        Answer::of(if method == Method::POST { request.form(form) } else { request }).await
    }
}

/// An answer: its status and its body, as JSON where it is JSON.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
    pub text: String,
}

impl Answer {
    pub async fn of(request: RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.unwrap();
        Self { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::Null), text }
    }

    /// The body of an answer that must have `status`.
    #[track_caller]
    pub fn expect(self, status: StatusCode) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.body
    }

    /// The body of a problem that must be of this kind.
    #[track_caller]
    pub fn problem(self, status: u16, slug: &str) -> Value {
        assert_eq!((self.status.as_u16(), self.body["type"].as_str()), (status, Some(slug)), "{}", self.text);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(self.body["status"], status);
        assert!(!self.body["title"].as_str().unwrap().is_empty(), "{}", self.text);
        assert!(self.body["detail"].as_str().unwrap().ends_with('.'), "{}", self.text);
        self.body
    }
}

impl Api {
    pub fn new(base: &str) -> Self {
        Self { client: Client::new(), base: base.to_owned(), token: None }
    }

    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}/api/v1{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, Value::Null).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, body).await
    }

    /// Sends a request, with a body unless it is null, and holds the answer against the document.
    pub async fn send(&self, method: Method, path: &str, body: Value) -> Answer {
        let request = self.request(method.clone(), path);
        let answer = Answer::of(if body.is_null() { request } else { request.json(&body) }).await;
        contract::check(&method, path, &answer);
        answer
    }

    pub async fn project(&self, name: &str) -> String {
        text(&self.post("/projects", json!({ "name": name })).await.expect(StatusCode::CREATED)["id"])
    }

    pub async fn database(&self, project: &str, url: &str) -> String {
        let body = json!({ "name": "shop", "url": url, "environment": "prod" });
        let path = format!("/projects/{project}/databases");
        text(&self.post(&path, body).await.expect(StatusCode::CREATED)["id"])
    }

    /// Starts a backup and gives its job's id.
    pub async fn start_backup(&self, database: &str) -> String {
        let path = format!("/databases/{database}/backups");
        text(&self.post(&path, json!({})).await.expect(StatusCode::ACCEPTED)["job_id"])
    }

    /// Takes a snapshot and gives its id.
    pub async fn back_up(&self, database: &str) -> String {
        let job = self.start_backup(database).await;
        let job = self.ended(&job).await;
        assert_eq!(job["state"], "succeeded", "{job:#}");
        text(&job["result"]["snapshot_id"])
    }

    /// Waits until a job has ended.
    pub async fn ended(&self, job: &str) -> Value {
        self.job_when(job, |job| !matches!(job["state"].as_str(), Some("queued" | "running"))).await
    }

    /// Waits until a job is as wanted.
    pub async fn job_when(&self, job: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let body = self.get(&format!("/jobs/{job}")).await.expect(StatusCode::OK);
            if wanted(&body) {
                return body;
            }
            assert!(begun.elapsed() < Duration::from_secs(120), "the job is still {body:#}");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }
}

#[track_caller]
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a string expected, not {value}")).to_owned()
}

/// A small shop: a database of its own, and the URL of a role that may only read it.
pub async fn shop() -> (String, String) {
    let cluster = Cluster::shared();
    let name = cluster.fresh_database("shop").await;
    let sql = r#"
        CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, city text, credit numeric(10,2));
        INSERT INTO customers
            SELECT n, 'customer ' || n, CASE n % 3 WHEN 0 THEN 'Oslo' WHEN 1 THEN 'Turin' END, n * 1.5
            FROM generate_series(1, 3000) n;
        CREATE TABLE orders (region text, number int, customer int REFERENCES customers, PRIMARY KEY (region, number));
        INSERT INTO orders SELECT CASE n % 2 WHEN 0 THEN 'eu' ELSE 'us' END, n, n % 3000 + 1
            FROM generate_series(1, 500) n;
        CREATE TABLE "Odd/Table" (id bigserial PRIMARY KEY, note text);
        INSERT INTO "Odd/Table" (note) VALUES ('a'), (NULL);
    "#;
    cluster.execute(&name, sql).await;
    let url = cluster.create_read_only_role(&name, &format!("{name}_reader")).await;
    (name, url)
}

/// Every file below a folder, with its bytes.
pub fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
    found
}

/// A path segment with everything escaped.
pub fn segment(name: &str) -> String {
    percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string()
}
