//! Counters for `GET /metrics`, in Prometheus' text format.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use engine::store::Requests;

use crate::app::App;
use crate::meta::{Damage, JobRecord, JobState, Protection, Work};
use crate::schedule::is_ahead;

/// So often at most.
const SNAPSHOTS_COUNTED_EVERY_MS: u64 = 60_000;

/// What is counted since the process began.
pub struct Metrics {
    /// As the process's own time was.
    started_ms: u64,
    /// Answers by the first digit of their status, 1 to 5.
    answers: [AtomicU64; 5],
    answer_micros: AtomicU64,
    /// Ended jobs by kind and state.
    jobs: Mutex<BTreeMap<(&'static str, &'static str), Ended>>,
    snapshots: Mutex<Snapshots>,
}

/// How many snapshots each database has: counting reads every manifest, so it is done now and then.
#[derive(Default)]
struct Snapshots {
    counts: BTreeMap<String, u64>,
    /// By time that only passes: a calendar that is set back would keep a count for years.
    counted_ms: Option<u64>,
    is_counting: bool,
}

/// Jobs of one kind that ended in one state.
#[derive(Clone, Copy, Default)]
struct Ended {
    jobs: u64,
    /// From their beginnings to their ends.
    took_ms: u64,
}

/// What is looked up when it is asked for.
#[derive(Default)]
pub struct Gauges {
    pub now_ms: i64,
    /// Milliseconds that have passed in this process.
    pub elapsed_ms: u64,
    /// Whether the metadata takes writes.
    pub takes_writes: bool,
    /// Jobs that have not ended, by kind and state.
    pub active: BTreeMap<(&'static str, &'static str), usize>,
    /// What is known of the backups of each connected database.
    pub protection: Vec<Protection>,
    /// What is known to be damaged in each project that was verified.
    pub damage: Vec<(String, Damage)>,
    /// The snapshots that each database has.
    pub snapshots: BTreeMap<String, u64>,
    pub requests: Requests,
}

impl Metrics {
    pub fn new(started_ms: u64) -> Self {
        Self {
            started_ms,
            answers: Default::default(),
            answer_micros: AtomicU64::new(0),
            jobs: Mutex::default(),
            snapshots: Mutex::default(),
        }
    }

    /// The snapshots of each database as counted last, and whether the caller is to count them anew.
    pub fn snapshots(&self, elapsed_ms: u64) -> (BTreeMap<String, u64>, bool) {
        let mut known = self.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
        let is_old = known
            .counted_ms
            .is_none_or(|at_ms| elapsed_ms.saturating_sub(at_ms) >= SNAPSHOTS_COUNTED_EVERY_MS);
        let is_due = is_old && !known.is_counting;
        known.is_counting |= is_due;
        (known.counts.clone(), is_due)
    }

    /// Takes in what was counted; none if that failed.
    pub fn snapshots_counted(&self, counts: Option<BTreeMap<String, u64>>, elapsed_ms: u64) {
        let mut known = self.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
        known.is_counting = false;
        if let Some(counts) = counts {
            known.counts = counts;
            known.counted_ms = Some(elapsed_ms);
        }
    }

    /// Counts a job that ended.
    pub fn job_ended(&self, job: &JobRecord) {
        let took_ms = job.started_ms.zip(job.finished_ms).map_or(0, |(started, finished)| finished - started);
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = jobs.entry((job.work.kind(), job.state.as_str())).or_default();
        ended.jobs += 1;
        ended.took_ms += u64::try_from(took_ms).unwrap_or(0);
    }

    /// The text for Prometheus.
    pub fn render(&self, gauges: &Gauges) -> String {
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
        let uptime = gauges.elapsed_ms.saturating_sub(self.started_ms) / 1000;
        section("dbsnap_uptime_seconds", "gauge", "Time since start.", &one(uptime.to_string()));
        let help = "1 while the data folder takes writes, 0 while its disk is full for example.";
        let takes_writes = u8::from(gauges.takes_writes).to_string();
        section("dbsnap_metadata_writable", "gauge", help, &one(takes_writes));
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
        section("dbsnap_jobs", "gauge", "Jobs that have not ended.", &gauges.active());
        let ended = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let by_state = |value: fn(&Ended) -> String| -> Vec<_> {
            ended.iter().map(|((kind, state), ended)| (labels(kind, state), value(ended))).collect()
        };
        let jobs = by_state(|ended| ended.jobs.to_string());
        section("dbsnap_jobs_ended_total", "counter", "Jobs that ended.", &jobs);
        let seconds = by_state(|ended| (ended.took_ms as f64 / 1e3).to_string());
        section("dbsnap_job_seconds_total", "counter", "How long jobs that ended took.", &seconds);
        for (name, kind, help, samples) in gauges.protection().into_iter().chain(gauges.damage()) {
            section(name, kind, help, &samples);
        }
        let kept = gauges.snapshots.iter();
        let kept: Vec<_> =
            kept.map(|(id, count)| (format!("{{database=\"{id}\"}}"), count.to_string())).collect();
        let help = "Snapshots that a database has, as counted within the last minutes.";
        section("dbsnap_snapshots", "gauge", help, &kept);
        let Requests { writes, reads, lists, deletes } = gauges.requests;
        let requests = [("write", writes), ("read", reads), ("list", lists), ("delete", deletes)];
        let requests = requests.map(|(kind, count)| (format!("{{kind=\"{kind}\"}}"), count.to_string()));
        let help = "Requests to an object storage, retries included.";
        section("dbsnap_storage_requests_total", "counter", help, &requests);
        out
    }
}

/// A section of the text: its name, kind and help, and samples with their labels.
type Section = (&'static str, &'static str, &'static str, Vec<(String, String)>);

impl Gauges {
    /// What is said of each database's backups.
    fn protection(&self) -> [Section; 3] {
        let samples = |value: &dyn Fn(&Protection) -> Option<String>| -> Vec<_> {
            let label = |known: &Protection| format!("{{database=\"{}\"}}", known.database);
            self.protection.iter().filter_map(|known| Some((label(known), value(known)?))).collect()
        };
        let age = |known: &Protection| {
            // An alert on the age is to fire for one that was never backed up, too.
            // So it is for one whose last backup is dated later than now: how old that is nobody knows.
            let complete_ms = known.last_complete_ms.filter(|at_ms| !is_ahead(*at_ms, self.now_ms));
            let since_ms = complete_ms.unwrap_or(known.connected_ms);
            Some(((self.now_ms - since_ms).max(0) / 1000).to_string())
        };
        let never = |known: &Protection| Some(u8::from(known.last_complete_ms.is_none()).to_string());
        let missed = |known: &Protection| known.missed_runs.map(|runs| runs.to_string());
        [
            (
                "dbsnap_last_success_age_seconds",
                "gauge",
                "Time since the last complete backup of a database began, or since it was connected if there is none.",
                samples(&age),
            ),
            (
                "dbsnap_never_succeeded",
                "gauge",
                "1 for a database that this server has not completely backed up yet.",
                samples(&never),
            ),
            (
                "dbsnap_missed_runs_total",
                "counter",
                "Due times of a database's schedule whose backup did not begin then, or was cut off for good.",
                samples(&missed),
            ),
        ]
    }

    /// What verifications found of each project.
    fn damage(&self) -> [Section; 2] {
        let samples = |value: fn(&Damage) -> u64| -> Vec<_> {
            let sample = |(project, damage): &(String, Damage)| {
                (format!("{{project=\"{project}\"}}"), value(damage).to_string())
            };
            self.damage.iter().map(sample).collect()
        };
        [
            (
                "dbsnap_damage_findings",
                "gauge",
                "How much the last verification of a project found damaged, whether a snapshot needs it or not.",
                samples(|damage| damage.count),
            ),
            (
                "dbsnap_damaged_snapshots",
                "gauge",
                "Snapshots of a project that were found damaged, and by no later verification whole.",
                samples(|damage| damage.snapshots.len() as u64),
            ),
        ]
    }

    /// One sample for every kind of job, so that what is absent reads as none.
    fn active(&self) -> Vec<(String, String)> {
        let states = [JobState::Queued, JobState::Running].map(JobState::as_str);
        let all = Work::KINDS.into_iter().flat_map(|kind| states.map(|state| (kind, state)));
        let count = |key| self.active.get(&key).copied().unwrap_or(0);
        all.map(|(kind, state)| (labels(kind, state), count((kind, state)).to_string())).collect()
    }
}

fn labels(kind: &str, state: &str) -> String {
    format!("{{kind=\"{kind}\",state=\"{state}\"}}")
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
    use crate::ids::DatabaseId;

    #[test]
    fn snapshots_are_counted_by_one_at_a_time_and_not_too_often() {
        let metrics = Metrics::new(0);
        assert_eq!(metrics.snapshots(1_000), (BTreeMap::new(), true));
        assert!(!metrics.snapshots(1_000).1, "somebody counts");
        metrics.snapshots_counted(None, 2_000);
        assert!(metrics.snapshots(2_000).1, "that failed");
        let counts = BTreeMap::from([("d".to_owned(), 3)]);
        metrics.snapshots_counted(Some(counts.clone()), 3_000);
        assert_eq!(metrics.snapshots(62_999), (counts.clone(), false));
        assert_eq!(metrics.snapshots(63_000), (counts, true));
    }

    #[test]
    fn every_sample_has_a_type_and_ended_jobs_are_counted() {
        let id = |n: u8| format!("{n:032x}");
        let job = |state: &str| -> JobRecord {
            serde_json::from_value(serde_json::json!({
                "id": id(1), "project_id": id(2), "user_id": id(3), "state": state, "created_ms": 0,
                "work": { "kind": "backup", "database_id": id(4) }, "started_ms": 1_000, "finished_ms": 3_500,
                "progress": engine::monitor::Progress::default(),
            }))
            .unwrap()
        };
        let metrics = Metrics::new(0);
        metrics.job_ended(&job("failed"));
        metrics.job_ended(&job("failed"));
        metrics.job_ended(&job("succeeded"));
        let known = |n: u8, last_complete_ms, missed_runs| Protection {
            database: DatabaseId::parse(&id(n)).unwrap(),
            connected_ms: 1_000,
            last_complete_ms,
            missed_runs,
        };
        let text = metrics.render(&Gauges {
            now_ms: 5_000,
            elapsed_ms: 5_000,
            takes_writes: true,
            active: BTreeMap::from([(("backup", "running"), 2)]),
            protection: vec![
                known(4, Some(2_000), Some(3)),
                known(5, None, None),
                known(6, Some(4_000_000_000_000), None),
            ],
            damage: vec![(id(2), Damage { count: 2, ..Damage::default() })],
            snapshots: BTreeMap::from([(id(4), 31)]),
            requests: Requests { writes: 7, ..Requests::default() },
        });
        let (id, never, ahead, project) = (id(4), id(5), id(6), id(2));
        let expected = [
            "dbsnap_uptime_seconds 5",
            "dbsnap_metadata_writable 1",
            "dbsnap_jobs_ended_total{kind=\"backup\",state=\"failed\"} 2",
            "dbsnap_job_seconds_total{kind=\"backup\",state=\"failed\"} 5",
            "dbsnap_jobs{kind=\"backup\",state=\"running\"} 2",
            "dbsnap_jobs{kind=\"verify\",state=\"queued\"} 0",
            &format!("dbsnap_last_success_age_seconds{{database=\"{id}\"}} 3"),
            &format!("dbsnap_last_success_age_seconds{{database=\"{never}\"}} 4"),
            &format!("dbsnap_last_success_age_seconds{{database=\"{ahead}\"}} 4"),
            &format!("dbsnap_never_succeeded{{database=\"{id}\"}} 0"),
            &format!("dbsnap_never_succeeded{{database=\"{never}\"}} 1"),
            &format!("dbsnap_missed_runs_total{{database=\"{id}\"}} 3"),
            &format!("dbsnap_damage_findings{{project=\"{project}\"}} 2"),
            &format!("dbsnap_damaged_snapshots{{project=\"{project}\"}} 0"),
            &format!("dbsnap_snapshots{{database=\"{id}\"}} 31"),
            "dbsnap_storage_requests_total{kind=\"write\"} 7",
        ];
        for line in expected {
            assert!(text.contains(&format!("{line}\n")), "{line} is not in\n{text}");
        }
        assert!(!text.contains(&format!("missed_runs_total{{database=\"{never}\"}}")), "it has no schedule");
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            assert!(text.contains(&format!("# TYPE {name} ")), "{name}");
        }
    }
}
