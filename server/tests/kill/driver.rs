//! A server process over a data folder that outlives it, driven through its API.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

pub const EMAIL: &str = "kill@example.com";
const PASSWORD: &str = "a passphrase that is long enough";

pub struct Process {
    child: Child,
    base: String,
    token: String,
    http: reqwest::Client,
}

impl Process {
    /// Starts the server over `data`, and registers or signs in.
    pub async fn start(data: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dbsnap"));
        command.env("DBSNAP_DATA_DIR", data).env("DBSNAP_LISTEN", "127.0.0.1:0").env("DBSNAP_LOG", "warn");
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let base = loop {
            let line = lines.next_line().await.unwrap().expect("the server says where it listens");
            if let Some((_, url)) = line.split_once("listening on ") {
                break url.trim().to_owned();
            }
        };
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let mut process = Self { child, base, token: String::new(), http: reqwest::Client::new() };
        let account = json!({"email": EMAIL, "password": PASSWORD});
        let (status, mut answer) = process.send("POST", "/auth/login", Some(account.clone())).await;
        if status == 401 {
            answer = process.post("/auth/register", account).await;
        }
        process.token = answer["access_token"].as_str().unwrap().to_owned();
        process
    }

    /// Ends it as a power cut would.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("because it was not collected yet")
    }

    /// Sends a POST to a server that may be gone; then there is no answer.
    pub async fn try_send(&self, path: &str, body: Value) -> Option<(u16, Value)> {
        let request = self.http.post(format!("{}/api/v1{path}", self.base)).bearer_auth(&self.token);
        let answer = request.json(&body).send().await.ok()?;
        let status = answer.status().as_u16();
        // An answer that ends half-way is none.
        let text = answer.text().await.ok()?;
        Some((status, serde_json::from_str(&text).unwrap_or(Value::Null)))
    }

    /// Sends a request; returns the status and the body.
    pub async fn send(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let url = format!("{}/api/v1{path}", self.base);
        let mut request = self.http.request(method.parse().unwrap(), url).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or(Value::Null))
    }

    pub async fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.send("POST", path, Some(body)).await;
        assert!(status < 300, "{path} answered {status}: {answer}");
        answer
    }

    pub async fn get(&self, path: &str) -> Value {
        let (status, answer) = self.send("GET", path, None).await;
        assert!(status < 300, "{path} answered {status}: {answer}");
        answer
    }

    /// Waits until a job has ended, and returns it.
    pub async fn ended(&self, job: &Value) -> Value {
        let id = job["job_id"].as_str().unwrap();
        loop {
            let job = self.get(&format!("/jobs/{id}")).await;
            if !matches!(job["state"].as_str(), Some("queued" | "running")) {
                return job;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn succeeded(&self, job: &Value) -> Value {
        let job = self.ended(job).await;
        assert_eq!(job["state"], "succeeded", "{job}");
        job
    }
}
