//! dbsnap's JSON API, as far as the demo uses it.
//!
//! HTTP/1.0 over a plain socket: one request, one answer without chunks, and the connection's end
//! is the answer's. The server is on this machine.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(200);
const JOB_LIMIT: Duration = Duration::from_secs(20 * 60);

/// Somebody signed in.
pub struct Api {
    /// `host:port`.
    address: String,
    token: String,
}

impl Api {
    /// Registers the server's first account.
    pub fn register(address: &str, email: &str, password: &str) -> Result<Self, String> {
        let mut api = Self { address: address.to_owned(), token: String::new() };
        let tokens = api.post("/auth/register", &json!({"email": email, "password": password}))?;
        api.token = text(&tokens, "access_token")?;
        Ok(api)
    }

    pub fn get(&self, path: &str) -> Result<Value, String> {
        self.call("GET", path, "")
    }

    pub fn post(&self, path: &str, body: &Value) -> Result<Value, String> {
        self.call("POST", path, &body.to_string())
    }

    /// Waits until a job has ended well, and gives its result.
    pub fn wait(&self, job: &str) -> Result<Value, String> {
        let deadline = Instant::now() + JOB_LIMIT;
        loop {
            let job = self.get(&format!("/jobs/{job}"))?;
            match job["state"].as_str() {
                Some("succeeded") => return Ok(job["result"].clone()),
                Some("queued" | "running") if Instant::now() < deadline => sleep(POLL_INTERVAL),
                _ => return Err(format!("the job did not succeed: {job}")),
            }
        }
    }

    fn call(&self, method: &str, path: &str, body: &str) -> Result<Value, String> {
        let failed = |error: &dyn std::fmt::Display| format!("{method} {path}: {error}");
        let mut stream = TcpStream::connect(&self.address).map_err(|error| failed(&error))?;
        let timeouts = stream.set_read_timeout(Some(REQUEST_TIMEOUT));
        timeouts.and_then(|()| stream.set_write_timeout(Some(REQUEST_TIMEOUT))).map_err(|e| failed(&e))?;
        let request = format!(
            "{method} /api/v1{path} HTTP/1.0\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            self.token,
            body.len()
        );
        stream.write_all(request.as_bytes()).map_err(|error| failed(&error))?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(|error| failed(&error))?;
        parse(&answer).map_err(|error| failed(&error))
    }
}

/// The JSON of a successful answer.
fn parse(answer: &str) -> Result<Value, String> {
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("the answer has no end of headers")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok());
    if !status.is_some_and(|status| (200..300).contains(&status)) {
        return Err(format!("{}: {body}", head.lines().next().unwrap_or_default()));
    }
    serde_json::from_str(body).map_err(|error| format!("{error} in {body:?}"))
}

/// A field that has to be a string.
pub fn text(value: &Value, field: &str) -> Result<String, String> {
    value[field].as_str().map(str::to_owned).ok_or_else(|| format!("no {field:?} in {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_its_json_or_its_problem() {
        let answer = "HTTP/1.0 202 Accepted\r\ncontent-type: application/json\r\n\r\n{\"job_id\":\"j\"}";
        assert_eq!(text(&parse(answer).unwrap(), "job_id").unwrap(), "j");
        let refused = "HTTP/1.0 422 Unprocessable Entity\r\n\r\n{\"type\":\"not-read-only\"}";
        let message = parse(refused).unwrap_err();
        assert!(message.contains("422") && message.contains("not-read-only"), "{message}");
        assert!(parse("HTTP/1.0 200 OK\r\n").is_err());
    }
}
