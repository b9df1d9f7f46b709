//! Snapshots, their collections and records as pages show them.

use engine::history::{CollectionSummary, Record};
use engine::repo::Snapshot;
use engine::rows::Content;
use repo_format::manifest::{Grade, Manifest, Trigger};
use web::components::damage;
use web::components::tag::{self, Thoroughness};
use web::pages::{database, records, snapshot};

use crate::meta::{Damage, Finding, VerifyMode};
use crate::service::snapshots;

/// How thorough a verification is.
pub fn thoroughness(mode: VerifyMode) -> Thoroughness {
    match mode {
        VerifyMode::Structure => Thoroughness::Structure,
        VerifyMode::Sample => Thoroughness::Sample,
        VerifyMode::Full => Thoroughness::Full,
    }
}

/// A trigger.
pub fn trigger(trigger: Trigger) -> tag::Trigger {
    match trigger {
        Trigger::Manual => tag::Trigger::Manual,
        Trigger::Schedule => tag::Trigger::Schedule,
        Trigger::Safety => tag::Trigger::Safety,
    }
}

/// Whether all of a snapshot is of one moment.
pub fn point_in_time(manifest: &Manifest) -> bool {
    manifest.evidence.grade == Grade::PointInTime
}

/// What was found of a damaged snapshot.
pub fn found(finding: &Finding) -> damage::Damage {
    damage::Damage { found_ms: finding.found_ms, job: finding.job_id.to_string() }
}

/// How many of a database's snapshots, newest first, are damaged, and what was found of the newest of them.
pub fn damaged(all: &[Snapshot], damage: &Damage) -> Option<(u64, damage::Damage)> {
    let hurt = || all.iter().filter_map(|snapshot| damage.of(&snapshot.id.to_string()));
    Some((hurt().count() as u64, found(hurt().next()?)))
}

/// A line of the history.
pub fn row(snapshot: &Snapshot, damage: &Damage) -> database::SnapshotRow {
    let manifest = &snapshot.manifest;
    database::SnapshotRow {
        id: snapshot.id.to_string(),
        at_ms: manifest.started_ms,
        trigger: trigger(manifest.trigger),
        complete: manifest.is_complete(),
        point_in_time: point_in_time(manifest),
        records: manifest.records,
        logical_bytes: manifest.logical_bytes,
        new_bytes: manifest.new_bytes,
        note: snapshot.note().map(str::to_owned),
        pinned: snapshot.mark.pinned,
        verified_ms: snapshots::verified(&snapshot.mark).map(|(_, at_ms)| at_ms),
        damaged: damage.of(&snapshot.id.to_string()).map(found),
    }
}

/// A line of a snapshot's collections.
pub fn collection(summary: CollectionSummary) -> snapshot::CollectionRow {
    let CollectionSummary { name, kind, records, logical_bytes, root } = summary;
    snapshot::CollectionRow { name, kind, records, logical_bytes, root }
}

/// What a snapshot lacks: names and reasons.
pub fn missing(manifest: &Manifest) -> Vec<(String, String)> {
    manifest.missing.iter().map(|missing| (missing.name.clone(), missing.reason.clone())).collect()
}

/// A record.
pub fn record(record: Record) -> records::Record {
    let content = match record.content {
        Content::Row(cells) => records::Content::Row(cells),
        Content::Document(json) => records::Content::Document(json),
    };
    records::Record { id: record.id, key: record.key, content, truncated: record.truncated }
}
