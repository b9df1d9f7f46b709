//! Testing a connection to any engine.

use std::time::Duration;

use super::{ConnectionReport, Consistency, DatabaseUrl, Stage, StageReport, mongodb, postgres};
use crate::error::{Error, Kind, Result};

/// No single question of a test takes longer.
pub(super) const QUESTION_TIMEOUT: Duration = Duration::from_secs(20);

/// Tests a connection, stage by stage, for backups of this consistency. Reads only.
pub async fn test(url: &DatabaseUrl, consistency: Consistency) -> ConnectionReport {
    let report = match url {
        DatabaseUrl::Postgres(url) => postgres::test(url).await,
        DatabaseUrl::MongoDb(url) => mongodb::test(url).await,
    };
    if report.lacks_point_in_time && consistency == Consistency::PointInTime {
        refused(report)
    } else {
        report
    }
}

/// Fails when the credentials can write by now. A connection is tested once, and used for years.
///
/// # Errors
/// [`NotReadOnly`](crate::Kind::NotReadOnly) with what was found, and what makes the server refuse.
pub async fn refuse_writers(url: &DatabaseUrl) -> Result<()> {
    match url {
        DatabaseUrl::Postgres(url) => postgres::refuse_writers(url).await,
        DatabaseUrl::MongoDb(url) => mongodb::refuse_writers(url).await,
    }
}

impl StageReport {
    fn passed(stage: Stage, detail: impl Into<String>) -> Self {
        Self { stage, ok: true, detail: detail.into(), fix: None }
    }

    pub(super) fn failed(stage: Stage, error: &Error) -> Self {
        Self { stage, ok: false, detail: error.message().to_owned(), fix: error.help().map(str::to_owned) }
    }
}

impl ConnectionReport {
    /// A test that has not reached anything yet.
    pub(super) fn new(engine: &str) -> Self {
        Self {
            ok: false,
            stages: Vec::new(),
            engine: engine.to_owned(),
            server_version: String::new(),
            collections: 0,
            size_bytes: 0,
            privileges: Vec::new(),
            notes: Vec::new(),
            lacks_point_in_time: false,
            system_identifier: None,
        }
    }

    pub(super) fn pass(&mut self, stage: Stage, detail: impl Into<String>) {
        self.stages.push(StageReport::passed(stage, detail));
    }

    pub(super) fn fail(&mut self, stage: Stage, error: &Error) {
        self.stages.push(StageReport::failed(stage, error));
    }

    /// The sign-in is what failed, as is known only now.
    pub(super) fn not_let_in(&mut self, error: &Error) {
        self.stages.retain(|found| found.stage != Stage::Authenticate);
        self.fail(Stage::Authenticate, error);
    }

    /// What a stage came to; none, with the stage as failed, where it did not, so that the caller stops.
    pub(super) fn reached<T>(&mut self, stage: Stage, outcome: Result<T>) -> Option<T> {
        outcome.inspect_err(|error| self.fail(stage, error)).ok()
    }
}

/// The answer to a question that a test asks.
pub(super) async fn bounded<T>(question: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(QUESTION_TIMEOUT, question).await.unwrap_or_else(|_| {
        Err(Error::new(Kind::Unreachable, "the server does not answer in time")
            .with_help("It may be overloaded, or the network may drop long connections."))
    })
}

/// The report of a server that cannot show all records as of one moment, where that is asked for.
fn refused(mut report: ConnectionReport) -> ConnectionReport {
    let refusal = StageReport {
        stage: Stage::Read,
        ok: false,
        detail: mongodb::STANDALONE.to_owned(),
        fix: Some(mongodb::STANDALONE_HELP.to_owned()),
    };
    report.ok = false;
    report.notes.retain(|note| !note.starts_with(mongodb::STANDALONE));
    match report.stages.iter_mut().find(|stage| stage.stage == Stage::Read) {
        // A collection that cannot be read is the nearer trouble.
        Some(read) if !read.ok => {}
        Some(read) => *read = refusal,
        None => report.stages.push(refusal),
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standalone(read_ok: bool) -> ConnectionReport {
        let stage = |stage, ok| StageReport { stage, ok, detail: "seen".to_owned(), fix: None };
        ConnectionReport {
            ok: read_ok,
            stages: vec![stage(Stage::Read, read_ok), stage(Stage::ReadOnly, true)],
            notes: vec![format!("{}. Help.", mongodb::STANDALONE), "other".to_owned()],
            lacks_point_in_time: true,
            ..ConnectionReport::new("mongodb")
        }
    }

    #[test]
    fn a_server_without_one_moment_is_refused_at_reading_with_the_way_to_mend_it() {
        let report = refused(standalone(true));
        assert!(!report.ok && report.stages.len() == 2);
        assert_eq!(report.notes, ["other"]);
        let read = &report.stages[0];
        assert!(!read.ok && read.fix.as_deref().unwrap().contains("--replSet"), "{read:?}");
        assert_eq!(refused(standalone(false)).stages[0].detail, "seen");
    }
}
