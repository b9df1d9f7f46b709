//! Comparisons and their cached summaries.

use redb::WriteTransaction;
use serde::{Deserialize, Serialize};

use super::rows::{self, DIFFS, DIFFS_BY_PAIR, DIFFS_BY_PROJECT, Order};
use super::{Meta, Page, PageRequest, Result};
use crate::ids::{DatabaseId, DiffId, JobId, ProjectId};
use crate::server_key::Sealed;

/// What a snapshot is compared with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ComparedWith {
    /// Another snapshot.
    Snapshot(String),
    /// What a database holds when the job reads it.
    Live { database_id: DatabaseId },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Diff {
    pub id: DiffId,
    pub project_id: ProjectId,
    /// A snapshot's id.
    pub from: String,
    pub to: ComparedWith,
    pub job_id: JobId,
    /// The engine's summary: it names customers' tables, so it is sealed.
    pub summary: Option<Sealed>,
    pub created_ms: i64,
}

impl Diff {
    /// The key under which the same comparison is found again; none where another one would differ.
    fn pair(&self) -> Option<String> {
        match &self.to {
            ComparedWith::Snapshot(to) => Some(pair(self.project_id, &self.from, to)),
            ComparedWith::Live { .. } => None,
        }
    }
}

fn pair(project: ProjectId, from: &str, to: &str) -> String {
    format!("{project}/{from}/{to}")
}

impl Meta {
    /// Adds a comparison; it becomes the one that its pair of snapshots is known by.
    pub async fn add_diff(&self, diff: Diff) -> Result<()> {
        self.write(move |tx| {
            let id = diff.id.to_string();
            rows::put(tx, DIFFS, &id, &diff)?;
            rows::link(tx, DIFFS_BY_PROJECT, &rows::below(diff.project_id, &id), "")?;
            match diff.pair() {
                Some(pair) => rows::link(tx, DIFFS_BY_PAIR, &pair, &id),
                None => Ok(()),
            }
        })
        .await
    }

    pub async fn diff(&self, id: DiffId) -> Result<Option<Diff>> {
        self.read(move |tx| rows::get(&tx.open_table(DIFFS)?, &id.to_string())).await
    }

    /// The newest comparison of a pair of snapshots.
    pub async fn diff_of(&self, project: ProjectId, from: &str, to: &str) -> Result<Option<Diff>> {
        let key = pair(project, from, to);
        self.read(move |tx| match rows::follow(&tx.open_table(DIFFS_BY_PAIR)?, &key)? {
            Some(id) => rows::get(&tx.open_table(DIFFS)?, &id),
            None => Ok(None),
        })
        .await
    }

    /// A project's comparisons, newest first.
    pub async fn diffs_of(&self, project: ProjectId, page: PageRequest) -> Result<Page<Diff>> {
        self.read(move |tx| {
            let links = tx.open_table(DIFFS_BY_PROJECT)?;
            rows::child_rows(&links, &tx.open_table(DIFFS)?, project, Order::NewestFirst, &page)
        })
        .await
    }

    /// Keeps the summary of a comparison that was made.
    pub async fn set_diff_summary(&self, id: DiffId, summary: Sealed) -> Result<()> {
        self.write(move |tx| {
            let diff: Option<Diff> = rows::get(&tx.open_table(DIFFS)?, &id.to_string())?;
            match diff {
                Some(diff) => rows::put(tx, DIFFS, &id.to_string(), &Diff { summary: Some(summary), ..diff }),
                None => Ok(()),
            }
        })
        .await
    }
}

pub(super) fn remove_of_project(tx: &WriteTransaction, project: ProjectId) -> Result<()> {
    let links =
        rows::children(&tx.open_table(DIFFS_BY_PROJECT)?, project, Order::OldestFirst, &PageRequest::all())?;
    for id in &links.items {
        let diff: Option<Diff> = rows::get(&tx.open_table(DIFFS)?, id)?;
        if let Some(pair) = diff.and_then(|diff| diff.pair()) {
            rows::unlink(tx, DIFFS_BY_PAIR, &pair)?;
        }
        rows::remove(tx, DIFFS, id)?;
        rows::unlink(tx, DIFFS_BY_PROJECT, &rows::below(project, id))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::clock::System;

    #[test]
    fn what_was_stored_before_there_were_live_comparisons_is_read() {
        let ids =
            (DiffId::new(&System, &System), ProjectId::new(&System, &System), JobId::new(&System, &System));
        let row = serde_json::json!({
            "id": ids.0, "project_id": ids.1, "from": "a", "to": "b", "job_id": ids.2, "summary": null,
            "created_ms": 1,
        });
        let diff: Diff = serde_json::from_value(row.clone()).unwrap();
        assert_eq!(diff.to, ComparedWith::Snapshot("b".to_owned()));
        assert_eq!(serde_json::to_value(&diff).unwrap(), row);
        let live = ComparedWith::Live { database_id: DatabaseId::new(&System, &System) };
        let diff = Diff { to: live.clone(), ..diff };
        assert_eq!(diff.pair(), None);
        let again: Diff = serde_json::from_slice(&serde_json::to_vec(&diff).unwrap()).unwrap();
        assert_eq!(again.to, live);
    }
}
