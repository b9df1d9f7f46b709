//! What the comparison needs beside the tools it compares: a `dbsnap` process and its API.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The account that [`Server::start`] registers.
pub const EMAIL: &str = "bench@example.com";
/// Its password.
pub const PASSWORD: &str = "a long passphrase for a benchmark";

/// A server of our own, on a free port, with a data folder that goes with it.
pub struct Server {
    process: Child,
    base: String,
    token: String,
    http: reqwest::Client,
    data: tempfile::TempDir,
}

impl Server {
    /// Starts `program` and registers an account.
    pub async fn start(program: &Path) -> Self {
        Self::start_with(program, &[]).await
    }

    /// The same with further configuration.
    pub async fn start_with(program: &Path, variables: &[(&str, &str)]) -> Self {
        let data = tempfile::tempdir().expect("because a benchmark needs a data folder");
        let mut process = Command::new(program)
            .env("DBSNAP_LISTEN", "127.0.0.1:0")
            .env("DBSNAP_DATA_DIR", data.path())
            .env("DBSNAP_LOG", "warn")
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .expect("because there is nothing to measure without the server");
        let stdout = process.stdout.take().expect("because stdout was piped");
        let base = BufReader::new(stdout)
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.split_once("listening on ").map(|(_, url)| url.trim().to_owned()))
            .expect("because the server says where it listens");
        let mut server = Self { process, base, token: String::new(), http: reqwest::Client::new(), data };
        let account = json!({"email": EMAIL, "password": PASSWORD});
        let answer = server.post("/auth/register", account).await;
        server.token = text(&answer, "access_token");
        server
    }

    /// Where its pages are: `http://host:port`.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// POST below `/api/v1`; panics unless the answer is a success.
    pub async fn post(&self, path: &str, body: Value) -> Value {
        let request = self.http.post(format!("{}/api/v1{path}", self.base)).json(&body);
        self.send(path, request).await
    }

    /// GET below `/api/v1`.
    pub async fn get(&self, path: &str) -> Value {
        self.send(path, self.http.get(format!("{}/api/v1{path}", self.base))).await
    }

    async fn send(&self, path: &str, request: reqwest::RequestBuilder) -> Value {
        let answer = request.bearer_auth(&self.token).send().await.expect("because the server is running");
        let status = answer.status();
        let body = answer.text().await.unwrap_or_default();
        assert!(status.is_success(), "{path} answered {status}: {body}");
        serde_json::from_str(&body).unwrap_or(Value::Null)
    }

    /// Waits for a job to succeed, and returns it with the time since `started`.
    pub async fn wait(&self, job: &str, started: Instant) -> (Value, Duration) {
        loop {
            let answer = self.get(&format!("/jobs/{job}")).await;
            match answer["state"].as_str() {
                Some("queued" | "running") => tokio::time::sleep(Duration::from_millis(20)).await,
                Some("succeeded") => return (answer, started.elapsed()),
                _ => panic!("the job failed: {answer}"),
            }
        }
    }

    /// The most memory the process has held, in MiB.
    pub fn peak_memory_mib(&self) -> f64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or_default() / 1024.0
    }

    /// Bytes of the repositories on disk.
    pub fn stored_bytes(&self) -> u64 {
        folder_bytes(&self.data.path().join("repositories"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A text member of an answer.
pub fn text(answer: &Value, member: &str) -> String {
    answer[member].as_str().unwrap_or_else(|| panic!("no {member} in {answer}")).to_owned()
}

fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}
