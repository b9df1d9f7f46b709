//! Projects and their repositories.

use axum::http::StatusCode;

use super::audit;
use crate::app::App;
use crate::audit::{Event, action};
use crate::error::{Problem, Result};
use crate::ids::{JobId, ProjectId, UserId};
use crate::jobs;
use crate::meta::{Page, PageRequest, Project, VerifyMode, Work};

/// How often removing a deleted project is tried again that the storage did not let go.
const REMOVAL_PAUSE: std::time::Duration = std::time::Duration::from_secs(60);
/// The longest name of a project or database.
pub(super) const MAX_NAME_CHARS: usize = 100;

/// A name as people gave it: trimmed, one line, not endless.
pub(super) fn parse_name(name: &str) -> Result<String> {
    let name = name.trim();
    let chars = name.chars().count();
    if chars == 0 || chars > MAX_NAME_CHARS || name.contains(char::is_control) {
        return Err(Problem::invalid("name", format!("Give a name of 1 to {MAX_NAME_CHARS} characters.")));
    }
    Ok(name.to_owned())
}

/// Makes a project and its repository.
pub async fn create(app: &App, user: UserId, name: &str) -> Result<Project> {
    make(app, user, name, false).await
}

/// Makes the project of the example.
pub(super) async fn create_example(app: &App, user: UserId, name: &str) -> Result<Project> {
    make(app, user, name, true).await
}

async fn make(app: &App, user: UserId, name: &str, is_example: bool) -> Result<Project> {
    let name = parse_name(name)?;
    let id = ProjectId::new(app.clock.as_ref(), app.entropy.as_ref());
    let project = Project {
        id,
        user_id: user,
        name,
        created_ms: app.now_ms(),
        ready: true,
        recovery_key_ms: None,
        recovery_key_lost: false,
        is_example,
    };
    // The first file in the place of a lost mount would make it look like the storage.
    app.repositories.check_known(&app.meta.ready_projects().await?).await?;
    // A folder that is gone, as a mount may be, is not made anew.
    app.storage.check().await?;
    app.meta.add_unready_project(project.clone()).await?;
    if let Err(problem) = app.repositories.create(id).await {
        // Best effort: what stays is removed at the next start.
        if remove_repository_and_rows(app, id).await.is_err() {
            tracing::warn!(project = %id, "a half-made repository stays until the next start");
        }
        return Err(problem);
    }
    app.meta.ready_project(project.clone()).await?;
    let event = Event::new(action::PROJECT_CREATE, audit::project(id)).with("name", &project.name);
    audit::record(app, user, event, Ok(project)).await
}

/// A user's project. Somebody else's is not found.
pub async fn find(app: &App, user: UserId, id: ProjectId) -> Result<Project> {
    let project = app.meta.project(id).await?;
    project.filter(|project| project.user_id == user).ok_or_else(Problem::not_found)
}

/// A user's projects, oldest first.
pub async fn list(app: &App, user: UserId, page: PageRequest) -> Result<Page<Project>> {
    Ok(app.meta.projects_of(user, page).await?)
}

/// Removes a project with its snapshots: its jobs are stopped, its keys go first, then its data.
pub async fn delete(app: &App, user: UserId, id: ProjectId) -> Result<()> {
    let project = find(app, user, id).await?;
    let event = Event::new(action::PROJECT_DELETE, audit::project(id)).with("name", &project.name);
    audit::record(app, user, event, remove(app, project).await).await
}

/// Records that a deletion was asked for with something else typed than the project's name.
pub async fn not_confirmed(app: &App, user: UserId, project: &Project, problem: Problem) -> Problem {
    let event = Event::new(action::PROJECT_DELETE, audit::project(project.id)).with("name", &project.name);
    audit::not_confirmed(app, user, event, problem).await
}

async fn remove(app: &App, project: Project) -> Result<()> {
    let id = project.id;
    // In the place of a lost mount nothing is found to remove, and all of it is back with the mount.
    app.repositories.check_known(&app.meta.ready_projects().await?).await?;
    jobs::stop_all_of(app, id).await?;
    app.meta.begin_project_deletion(project).await?;
    // A job may have been queued between the two.
    let removed = async {
        jobs::stop_all_of(app, id).await?;
        remove_repository_and_rows(app, id).await
    };
    let Err(problem) = removed.await else { return Ok(()) };
    problem.log();
    tokio::spawn(keep_removing(app.clone(), id));
    let detail = format!(
        "The project is on no list any more, but its keys and its data, or a part of them, are still in the storage: {} \
         Removing them is tried again every minute, and when the server starts.",
        problem.describe()
    );
    Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "storage", "The project is not removed yet", detail))
}

/// Removes a project that is on no list any more, as soon as the storage lets it.
async fn keep_removing(app: App, id: ProjectId) {
    while tokio::time::timeout(REMOVAL_PAUSE, app.stopping.cancelled()).await.is_err() {
        match remove_repository_and_rows(&app, id).await {
            Ok(()) => return tracing::info!(project = %id, "a deleted project is removed from the storage"),
            Err(problem) => problem.log(),
        }
    }
}

/// At start: ends what a crash left half-made or half-removed.
pub async fn remove_unready(app: &App) -> Result<()> {
    for id in app.meta.unready_projects().await? {
        tracing::info!(project = %id, "removing a project that was being made or removed");
        if let Err(problem) = remove_repository_and_rows(app, id).await {
            problem.log();
            tokio::spawn(keep_removing(app.clone(), id));
        }
    }
    Ok(())
}

async fn remove_repository_and_rows(app: &App, id: ProjectId) -> Result<()> {
    app.live_readings.forget_project(id);
    app.previews.forget_project(id);
    app.repositories.remove(id).await?;
    Ok(app.meta.remove_project(id).await?)
}

/// Queues a verification of everything in a project's repository.
pub async fn start_verify(app: &App, user: UserId, id: ProjectId, mode: VerifyMode) -> Result<JobId> {
    find(app, user, id).await?;
    let job = jobs::new_id(app);
    jobs::enqueue(app, job, id, user, Work::Verify { mode }).await?;
    Ok(job)
}

/// Queues a prune of a project's repository.
pub async fn start_prune(app: &App, user: UserId, id: ProjectId, dry_run: bool) -> Result<JobId> {
    find(app, user, id).await?;
    let job = jobs::new_id(app);
    jobs::enqueue(app, job, id, user, Work::Prune { dry_run }).await?;
    Ok(job)
}

/// Adds a recovery key to a project's repository. Its text is shown this once.
pub async fn export_recovery_key(app: &App, user: UserId, id: ProjectId) -> Result<String> {
    find(app, user, id).await?;
    let key = app.repositories.get(id).await?.export_recovery_key().await?;
    app.meta.set_recovery_key_made(id, Some(app.now_ms())).await?;
    let event = Event::new(action::RECOVERY_KEY_EXPORT, audit::project(id));
    audit::record(app, user, event, Ok(key)).await
}
