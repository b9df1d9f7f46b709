//! Testing a connection to any engine.

use super::{ConnectionReport, Consistency, DatabaseUrl, Stage, StageReport, mongodb, postgres};
use crate::error::Result;

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
            engine: "mongodb".to_owned(),
            server_version: "8.0.4".to_owned(),
            collections: 1,
            size_bytes: 1,
            privileges: Vec::new(),
            notes: vec![format!("{}. Help.", mongodb::STANDALONE), "other".to_owned()],
            lacks_point_in_time: true,
            system_identifier: None,
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
