//! What verifications found damaged, for whoever shows snapshots.

use crate::app::App;
use crate::error::Result;
use crate::ids::ProjectId;
use crate::jobs;
use crate::meta::{Damage, Subject};

/// What is known to be damaged in a project that was found to be the caller's.
pub async fn of(app: &App, project: ProjectId) -> Result<Damage> {
    Ok(app.meta.damage(project).await?.unwrap_or_default())
}

/// At start: takes in what the last verification found of projects that were verified by versions which
/// kept that in the verification's job alone.
pub async fn recall(app: &App) -> Result<()> {
    for project in app.meta.project_ids().await? {
        if app.meta.damage(project).await?.is_some() {
            continue;
        }
        let jobs = jobs::about(app, Subject::Verifications(project)).await?.into_iter();
        let mut verified = jobs.filter_map(|job| {
            let found = jobs::findings(&job.record.work, job.result.as_ref())?;
            Some((job.record, found))
        });
        if let Some((job, found)) = verified.next() {
            app.meta.set_damage_if_unknown(job, found).await?;
        }
    }
    Ok(())
}
