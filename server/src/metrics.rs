//! Counters for `GET /metrics`, in Prometheus' text format.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;

use crate::app::App;
use crate::meta::JobState;

/// What is counted since the process began.
pub struct Metrics {
    started_ms: i64,
    /// Answers by the first digit of their status, 1 to 5.
    answers: [AtomicU64; 5],
    answer_micros: AtomicU64,
    /// Ended jobs by their state, in the order of [`JobState::ALL`].
    jobs: [AtomicU64; 7],
}

impl Metrics {
    pub fn new(started_ms: i64) -> Self {
        Self {
            started_ms,
            answers: Default::default(),
            answer_micros: AtomicU64::new(0),
            jobs: Default::default(),
        }
    }

    /// Counts a job that ended.
    pub fn job_ended(&self, state: JobState) {
        if let Some(at) = JobState::ALL.iter().position(|&other| other == state) {
            self.jobs[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The text for Prometheus.
    pub fn render(&self, now_ms: i64, queued: usize, running: usize) -> String {
        let mut out = String::new();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut section = |name: &str, kind: &str, help: &str, samples: &[(String, String)]| {
            // Writing into a string cannot fail.
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in samples {
                let _ = writeln!(out, "{name}{labels} {value}");
            }
        };
        let one = |value: String| [(String::new(), value)];
        let version = [(format!("{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")), "1".to_owned())];
        section("dbsnap_build_info", "gauge", "The running version.", &version);
        let uptime = (now_ms - self.started_ms) / 1000;
        section("dbsnap_uptime_seconds", "gauge", "Time since start.", &one(uptime.to_string()));
        let by_status: Vec<_> = (self.answers.iter().enumerate())
            .map(|(at, counter)| (format!("{{status=\"{}xx\"}}", at + 1), count(counter).to_string()))
            .collect();
        section("dbsnap_http_responses_total", "counter", "HTTP answers.", &by_status);
        let seconds = count(&self.answer_micros) as f64 / 1e6;
        section(
            "dbsnap_http_seconds_total",
            "counter",
            "Time until answers began.",
            &one(seconds.to_string()),
        );
        let active = [
            ("{state=\"queued\"}".to_owned(), queued.to_string()),
            ("{state=\"running\"}".to_owned(), running.to_string()),
        ];
        section("dbsnap_jobs", "gauge", "Jobs that have not ended.", &active);
        let ended: Vec<_> = (JobState::ALL.iter().zip(&self.jobs))
            .filter(|(state, _)| state.is_final())
            .map(|(state, counter)| (format!("{{state=\"{}\"}}", state.as_str()), count(counter).to_string()))
            .collect();
        section("dbsnap_jobs_ended_total", "counter", "Jobs that ended.", &ended);
        out
    }
}

/// Counts every answer.
pub async fn count_answers(State(app): State<App>, request: Request, next: Next) -> Response {
    let begun = std::time::Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = next.run(request).await;
    let (status, took) = (response.status().as_u16(), begun.elapsed());
    if let Some(counter) = app.metrics.answers.get(usize::from(status / 100).wrapping_sub(1)) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    app.metrics.answer_micros.fetch_add(micros, Ordering::Relaxed);
    tracing::debug!(%method, path, status, duration_ms = micros / 1000, "answered");
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_has_a_type_and_ended_jobs_are_counted() {
        let metrics = Metrics::new(0);
        metrics.job_ended(JobState::Failed);
        let text = metrics.render(5_000, 1, 2);
        assert!(text.contains("dbsnap_uptime_seconds 5\n"));
        assert!(text.contains("dbsnap_jobs_ended_total{state=\"failed\"} 1\n"));
        assert!(text.contains("dbsnap_jobs{state=\"running\"} 2\n"));
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            assert!(text.contains(&format!("# TYPE {name} ")), "{name}");
        }
    }
}
