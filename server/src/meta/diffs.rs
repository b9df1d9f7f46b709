//! Comparisons and their cached summaries.

use redb::WriteTransaction;
use serde::{Deserialize, Serialize};

use super::rows::{self, DIFFS, DIFFS_BY_PAIR, DIFFS_BY_PROJECT, Order};
use super::{Meta, Page, PageRequest, Result};
use crate::ids::{DiffId, JobId, ProjectId};
use crate::server_key::Sealed;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Diff {
    pub id: DiffId,
    pub project_id: ProjectId,
    /// Snapshot ids.
    pub from: String,
    pub to: String,
    pub job_id: JobId,
    /// The engine's summary: it names customers' tables, so it is sealed.
    pub summary: Option<Sealed>,
    pub created_ms: i64,
}

impl Diff {
    /// The key under which the same comparison is found again.
    fn pair(&self) -> String {
        pair(self.project_id, &self.from, &self.to)
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
            rows::link(tx, DIFFS_BY_PAIR, &diff.pair(), &id)
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
        if let Some(diff) = diff {
            rows::unlink(tx, DIFFS_BY_PAIR, &diff.pair())?;
        }
        rows::remove(tx, DIFFS, id)?;
        rows::unlink(tx, DIFFS_BY_PROJECT, &rows::below(project, id))?;
    }
    Ok(())
}
