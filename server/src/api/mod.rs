//! The JSON API: what comes in is checked for form, what goes out is shaped; the rest is `service`.

pub mod accounts;
pub mod audit;
pub mod databases;
pub mod diffs;
pub mod extract;
pub mod jobs;
pub mod keys;
pub mod openapi;
pub mod projects;
pub mod restores;
pub mod schedules;
pub mod sign_in;
pub mod snapshots;
pub mod status;
pub mod usage;
pub mod words;

use serde::Serialize;

use crate::ids::JobId;

/// Milliseconds since 1970 as RFC 3339 in UTC.
pub fn rfc3339(ms: i64) -> String {
    let timestamp = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{timestamp:.3}")
}

/// The answer to a request that queued a job.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Accepted {
    pub job_id: JobId,
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_are_rfc_3339_in_utc() {
        assert_eq!(super::rfc3339(1_767_225_600_123), "2026-01-01T00:00:00.123Z");
        assert_eq!(super::rfc3339(0), "1970-01-01T00:00:00.000Z");
    }
}
