//! Restores: the plan, and the job that carried it out.

use redb::WriteTransaction;
use serde::{Deserialize, Serialize};

use super::rows::{self, Order, RESTORES, RESTORES_BY_PROJECT, RESTORES_BY_USER};
use super::{Meta, Page, PageRequest, Result};
use crate::ids::{JobId, ProjectId, RestoreId, UserId};
use crate::server_key::Sealed;

/// What of a snapshot is restored.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    All,
    Collections(Vec<String>),
    /// Ids of records by collection, as JSON: they hold customers' keys, so they are sealed.
    Records(Sealed),
}

/// Where a restore goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RestoreMode {
    /// Into a new or an empty database.
    #[default]
    New,
    /// Into tables that hold rows.
    InPlace,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Restore {
    pub id: RestoreId,
    pub project_id: ProjectId,
    pub user_id: UserId,
    pub snapshot_id: String,
    pub scope: Scope,
    #[serde(default)]
    pub mode: RestoreMode,
    /// The URL to plan with; gone when the plan job ends, however it ends.
    pub target_url: Option<Sealed>,
    /// `host:port/database`, for people; without a database where each collection keeps its own.
    pub target: String,
    /// The engine's plan: it names customers' tables, so it is sealed.
    pub plan: Option<Sealed>,
    pub plan_job_id: JobId,
    /// The newest attempt to carry it out.
    pub apply_job_id: Option<JobId>,
    /// The newest attempt to take it back.
    #[serde(default)]
    pub undo_job_id: Option<JobId>,
    /// The snapshot that the newest attempt took before it wrote, known as soon as that is there.
    #[serde(default)]
    pub safety_snapshot: Option<String>,
    /// Records that it wrote, or was about to when the process ended, in the order in which restores write.
    #[serde(default)]
    pub written: Option<u64>,
    pub created_ms: i64,
}

impl Meta {
    pub async fn add_restore(&self, restore: Restore) -> Result<()> {
        self.write(move |tx| {
            let id = restore.id.to_string();
            rows::put(tx, RESTORES, &id, &restore)?;
            rows::link(tx, RESTORES_BY_USER, &rows::below(restore.user_id, &id), "")?;
            rows::link(tx, RESTORES_BY_PROJECT, &rows::below(restore.project_id, &id), "")
        })
        .await
    }

    pub async fn restore(&self, id: RestoreId) -> Result<Option<Restore>> {
        self.read(move |tx| rows::get(&tx.open_table(RESTORES)?, &id.to_string())).await
    }

    /// A user's restores, newest first.
    pub async fn restores_of(&self, user: UserId, page: PageRequest) -> Result<Page<Restore>> {
        self.read(move |tx| {
            let links = tx.open_table(RESTORES_BY_USER)?;
            rows::child_rows(&links, &tx.open_table(RESTORES)?, user, Order::NewestFirst, &page)
        })
        .await
    }

    /// Gives a restore to the job that is to carry it out. False when another job has got it since
    /// `before` was read.
    pub async fn claim_restore(&self, id: RestoreId, before: Option<JobId>, job: JobId) -> Result<bool> {
        self.claim(id, before, job, |restore| &mut restore.apply_job_id).await
    }

    /// Gives a restore to the job that is to take it back, as [`claim_restore`](Self::claim_restore) does.
    pub async fn claim_undo(&self, id: RestoreId, before: Option<JobId>, job: JobId) -> Result<bool> {
        self.claim(id, before, job, |restore| &mut restore.undo_job_id).await
    }

    async fn claim(
        &self,
        id: RestoreId,
        before: Option<JobId>,
        job: JobId,
        holder: fn(&mut Restore) -> &mut Option<JobId>,
    ) -> Result<bool> {
        self.write(move |tx| {
            let found: Option<Restore> = rows::get(&tx.open_table(RESTORES)?, &id.to_string())?;
            let Some(mut restore) = found else { return Ok(false) };
            let held = holder(&mut restore);
            if *held != before {
                return Ok(false);
            }
            *held = Some(job);
            rows::put(tx, RESTORES, &id.to_string(), &restore)?;
            Ok(true)
        })
        .await
    }

    /// Changes a restore by `change`, which sees its newest state.
    pub async fn change_restore(
        &self,
        id: RestoreId,
        change: impl FnOnce(&mut Restore) + Send + 'static,
    ) -> Result<()> {
        self.write(move |tx| {
            let found: Option<Restore> = rows::get(&tx.open_table(RESTORES)?, &id.to_string())?;
            let Some(mut restore) = found else { return Ok(()) };
            change(&mut restore);
            rows::put(tx, RESTORES, &id.to_string(), &restore)
        })
        .await
    }
}

pub(super) fn remove_of_project(tx: &WriteTransaction, project: ProjectId) -> Result<()> {
    let links = rows::children(
        &tx.open_table(RESTORES_BY_PROJECT)?,
        project,
        Order::OldestFirst,
        &PageRequest::all(),
    )?;
    for id in &links.items {
        let restore: Option<Restore> = rows::get(&tx.open_table(RESTORES)?, id)?;
        if let Some(restore) = restore {
            rows::unlink(tx, RESTORES_BY_USER, &rows::below(restore.user_id, id))?;
        }
        rows::remove(tx, RESTORES, id)?;
        rows::unlink(tx, RESTORES_BY_PROJECT, &rows::below(project, id))?;
    }
    Ok(())
}
