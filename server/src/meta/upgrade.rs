//! From the layouts of older versions to this one's: one step for each, all in the transaction that
//! opens the store, so that a crash leaves the old layout whole.

use std::collections::BTreeMap;

use redb::{ReadableTable, WriteTransaction};
use serde_json::Value;

use super::rows::{self, DATABASES, JOBS, JOBS_BY_SUBJECT};
use super::{Error, Result, SCHEMA_VERSION, settings};

type Step = fn(&WriteTransaction) -> Result<()>;

/// The step at place n leads from layout n + 1 to n + 2. Steps read rows as JSON: the types of today
/// are not those that the rows were written by.
const STEPS: [Step; SCHEMA_VERSION as usize - 1] = [remember_complete_backups, seal_audit, link_jobs];

/// Brings a store of an older layout up to date, and refuses one of a newer.
pub(super) fn bring_up_to_date(tx: &WriteTransaction) -> Result<()> {
    let found = match settings::version(tx)? {
        None => return settings::set_version(tx, SCHEMA_VERSION),
        Some(found) => found,
    };
    let done = (found as usize).checked_sub(1).filter(|done| *done <= STEPS.len());
    let Some(done) = done else { return Err(Error::Version { found }) };
    for step in &STEPS[done..] {
        step(tx)?;
    }
    if done < STEPS.len() {
        tracing::info!(from = found, to = SCHEMA_VERSION, "the metadata was brought up to date");
    }
    settings::set_version(tx, SCHEMA_VERSION)
}

/// 1 to 2: databases know when their last complete backup ended. Until then only their jobs did.
fn remember_complete_backups(tx: &WriteTransaction) -> Result<()> {
    let mut newest: BTreeMap<String, i64> = BTreeMap::new();
    for entry in tx.open_table(JOBS)?.range::<&str>(..)? {
        let job: Value = serde_json::from_slice(entry?.1.value())?;
        let of = job["work"]["database_id"].as_str().filter(|_| job["work"]["kind"] == "backup");
        if let (Some(database), Some(at_ms), "succeeded") =
            (of, job["finished_ms"].as_i64(), job["state"].as_str().unwrap_or_default())
        {
            let known = newest.entry(database.to_owned()).or_insert(at_ms);
            *known = (*known).max(at_ms);
        }
    }
    for (id, at_ms) in newest {
        let found: Option<Value> = rows::get(&tx.open_table(DATABASES)?, &id)?;
        if let Some(mut database) = found {
            database["last_complete_ms"] = at_ms.into();
            rows::put(tx, DATABASES, &id, &database)?;
        }
    }
    Ok(())
}

/// 2 to 3: entries of the audit log are sealed. That begins once the server key is there; here it is only
/// remembered that there is something to seal, which nothing else may say: otherwise a log whose key was
/// taken away would be sealed as whoever took it left it.
fn seal_audit(tx: &WriteTransaction) -> Result<()> {
    settings::set_audit_unsealed(tx)
}

/// Refuses a store that cannot be read as it is, of a newer layout.
pub(super) fn refuse_newer(tx: &WriteTransaction) -> Result<()> {
    match settings::version(tx)? {
        Some(found) if found > SCHEMA_VERSION => Err(Error::Version { found }),
        _ => Ok(()),
    }
}

/// 3 to 4: jobs are found by what they are about.
fn link_jobs(tx: &WriteTransaction) -> Result<()> {
    let mut found = Vec::new();
    for entry in tx.open_table(JOBS)?.range::<&str>(..)? {
        let job: Value = serde_json::from_slice(entry?.1.value())?;
        let work = &job["work"];
        let of = |value: &Value| value.as_str().map(str::to_owned);
        let (Some(id), Some(project), Some(kind)) =
            (of(&job["id"]), of(&job["project_id"]), of(&work["kind"]))
        else {
            continue;
        };
        let subject = match kind.as_str() {
            "backup" => of(&work["database_id"]),
            "verify" => Some(project),
            "prune" if work["dry_run"] == false => Some(project),
            "cost" => of(&work["snapshot_id"]).map(|snapshot| format!("{project}/{snapshot}")),
            _ => None,
        };
        found.extend(subject.map(|subject| rows::below(format!("{kind}/{subject}"), &id)));
    }
    found.iter().try_for_each(|key| rows::link(tx, JOBS_BY_SUBJECT, key, ""))
}

#[cfg(test)]
mod tests {
    use redb::{Database, ReadableDatabase};
    use serde_json::json;

    use super::*;
    use crate::ids::DatabaseId;
    use crate::meta::{Meta, PageRequest, Subject};

    fn id(n: u8) -> String {
        format!("{n:032x}")
    }

    /// A file as version 1 left it: its tables, and rows with the fields that it knew.
    fn old_file(path: &std::path::Path, version: u32) {
        let database = Database::create(path).unwrap();
        let tx = database.begin_write().unwrap();
        rows::put(&tx, rows::SETTINGS, "schema_version", &version).unwrap();
        for n in [1, 2] {
            let row = json!({
                "id": id(n), "project_id": id(9), "name": "shop", "environment": "prod", "engine": "postgresql",
                "server_version": "17.2", "url": null, "created_ms": 1, "removed_ms": null,
                "endpoint": { "host": "db", "port": 5432, "database": "shop", "user": "ro" },
            });
            rows::put(&tx, DATABASES, &id(n), &row).unwrap();
        }
        let jobs = [
            (11, 1, "succeeded", 50),
            (12, 1, "succeeded", 70),
            (13, 1, "failed", 90),
            (14, 2, "incomplete", 95),
        ];
        for (job, database, state, finished_ms) in jobs {
            let row = json!({
                "id": id(job), "project_id": id(9), "user_id": id(8), "state": state, "created_ms": 1,
                "work": { "kind": "backup", "database_id": id(database), "note": null },
                "started_ms": 2, "finished_ms": finished_ms, "outcome": null,
                "progress": engine::monitor::Progress::default(),
            });
            rows::put(&tx, JOBS, &id(job), &row).unwrap();
        }
        tx.commit().unwrap();
    }

    #[tokio::test]
    async fn a_file_of_the_first_layout_is_brought_up_to_date_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("meta.redb");
        old_file(&path, 1);
        for _ in 0..2 {
            let meta = Meta::open(&path).unwrap();
            let known = meta.protection().await.unwrap();
            let known: Vec<_> = known.iter().map(|one| (one.database, one.last_complete_ms)).collect();
            let expected = [(1, Some(70)), (2, None)];
            assert_eq!(known, expected.map(|(n, at_ms)| (DatabaseId::parse(&id(n)).unwrap(), at_ms)));
            let subject = Subject::Backups(DatabaseId::parse(&id(1)).unwrap());
            let backups = meta.jobs_about(subject, PageRequest::all()).await.unwrap().items;
            let ids: Vec<String> = backups.iter().map(|job| job.id.to_string()).collect();
            assert_eq!(ids, [id(13), id(12), id(11)]);
            assert!(meta.schedules().await.unwrap().is_empty());
            drop(meta);
            let database = Database::open(&path).unwrap();
            let tx = database.begin_read().unwrap();
            let version: Option<u32> =
                rows::get(&tx.open_table(rows::SETTINGS).unwrap(), "schema_version").unwrap();
            assert_eq!(version, Some(SCHEMA_VERSION));
        }
    }

    #[test]
    fn a_file_of_a_newer_layout_is_refused_and_left_as_it_is() {
        for version in [0, SCHEMA_VERSION + 1] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("meta.redb");
            old_file(&path, version);
            let error = Meta::open(&path).err().unwrap().to_string();
            assert!(error.contains(&format!("layout {version}")), "{error}");
            let database = Database::open(&path).unwrap();
            let tx = database.begin_read().unwrap();
            let found: Option<u32> =
                rows::get(&tx.open_table(rows::SETTINGS).unwrap(), "schema_version").unwrap();
            assert_eq!(found, Some(version));
        }
    }
}
