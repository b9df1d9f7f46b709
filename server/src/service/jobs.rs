//! What somebody may do to a job of theirs.

use super::audit;
use crate::app::App;
use crate::audit::{Event, action};
use crate::error::Result;
use crate::ids::{JobId, UserId};
use crate::jobs;

/// Asks a job to stop, and records who asked. One that ended is left as it is, and nothing is recorded.
pub async fn cancel(app: &App, user: UserId, id: JobId) -> Result<()> {
    let job = jobs::find(app, user, id).await?;
    if job.state().is_final() {
        return Ok(());
    }
    let event = Event::new(action::JOB_CANCEL, format!("job/{id}")).with("kind", job.record.work.kind());
    // First, so that what it led to stands behind it. Where it cannot be written the job is stopped all the same.
    let recorded = audit::record(app, user, event, Ok(())).await;
    jobs::cancel(app, id).await?;
    recorded
}
