//! Snapshots: a database's history, and what is in it.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use engine::history::{self, CollectionSummary, Record};
use engine::repo::{Mark, Repository, Snapshot};
use engine::rows;
use repo_format::id::SnapshotId;

use super::{audit, databases, projects};
use crate::app::App;
use crate::audit::{Actor, Event, action};
use crate::error::{Problem, Result};
use crate::ids::{DatabaseId, ProjectId, UserId};
use crate::meta::{Page, PageRequest, Project, VerifyMode};

const MAX_NOTE_CHARS: usize = 1000;
/// The problem of whoever would delete what is pinned.
pub(super) const PINNED: &str = "pinned";

/// What to say of a snapshot; what is absent stays.
#[derive(Default)]
pub struct SnapshotChange {
    /// None removes the note.
    pub note: Option<Option<String>>,
    pub pinned: Option<bool>,
}

/// A note as people gave it: trimmed, not endless, and none if nothing is left.
pub(super) fn parse_note(note: Option<String>) -> Result<Option<String>> {
    let note = note.map(|note| note.trim().to_owned()).filter(|note| !note.is_empty());
    if note.as_ref().is_some_and(|note| note.chars().count() > MAX_NOTE_CHARS) {
        return Err(Problem::invalid("note", format!("Use at most {MAX_NOTE_CHARS} characters.")));
    }
    Ok(note)
}

/// A snapshot and where it is.
pub struct FoundSnapshot {
    pub project_id: ProjectId,
    pub repository: Repository,
    pub snapshot: Snapshot,
}

impl FoundSnapshot {
    /// The database it is of; none if its source is not one of this server's.
    pub fn database_id(&self) -> Option<DatabaseId> {
        DatabaseId::parse(&self.snapshot.manifest.source.id)
    }
}

/// A repository's snapshots. That it has none is not believed of one that is gone from its storage.
pub(super) async fn of(repository: &Repository) -> Result<Vec<Snapshot>> {
    let all = repository.snapshots().await?;
    if all.is_empty() {
        repository.check_there().await?;
    }
    Ok(all)
}

/// A database's snapshots, newest first. Those of a removed database, too. The parent of each is the
/// snapshot before it that is there now.
pub async fn list(
    app: &App,
    user: UserId,
    database: DatabaseId,
    page: PageRequest,
) -> Result<Page<Snapshot>> {
    let database = databases::find_with_history(app, user, database).await?;
    let repository = app.repositories.get(database.project_id).await?;
    let all = of_source(&repository, &database.id.to_string()).await?;
    for snapshot in &all {
        app.repositories.saw(snapshot.id, database.project_id);
    }
    let start = match &page.after {
        None => 0,
        Some(after) => {
            let after = place_of(after).ok_or_else(Problem::wrong_cursor)?;
            all.partition_point(|snapshot| place(snapshot) <= after)
        }
    };
    let more = all.len() - start > page.limit;
    let items: Vec<Snapshot> = all.into_iter().skip(start).take(page.limit).collect();
    let next_cursor = if more { items.last().map(cursor) } else { None };
    Ok(Page { items, next_cursor })
}

/// Where a snapshot stands in a list. What follows it is found by that also once it is deleted.
type ListPlace = (Reverse<i64>, SnapshotId);

fn place(snapshot: &Snapshot) -> ListPlace {
    (Reverse(snapshot.manifest.finished_ms), snapshot.id)
}

fn cursor(snapshot: &Snapshot) -> String {
    format!("{}-{}", snapshot.manifest.finished_ms, snapshot.id)
}

fn place_of(cursor: &str) -> Option<ListPlace> {
    let (finished_ms, id) = cursor.split_once('-')?;
    Some((Reverse(finished_ms.parse().ok()?), SnapshotId::parse(id)?))
}

/// The snapshots of a source, newest first, with the parents that are there.
async fn of_source(repository: &Repository, source: &str) -> Result<Vec<Snapshot>> {
    let mut all = of(repository).await?;
    all.retain(|snapshot| snapshot.manifest.source.id == source);
    resolve_parents(&mut all);
    Ok(all)
}

/// The snapshot that one was taken after may be deleted by now: then the newest one before it that is
/// left takes its place. `all` are newest first.
fn resolve_parents(all: &mut [Snapshot]) {
    let there: BTreeSet<SnapshotId> = all.iter().map(|snapshot| snapshot.id).collect();
    for at in 0..all.len() {
        if all[at].manifest.parent.is_some_and(|parent| !there.contains(&parent)) {
            all[at].manifest.parent = all.get(at + 1).map(|before| before.id);
        }
    }
}

/// As [`find`], and its parent is the snapshot before it that is there now.
pub async fn find_with_parent(app: &App, user: UserId, id: &str) -> Result<FoundSnapshot> {
    let mut found = find(app, user, id).await?;
    resolve_parent(&mut found).await?;
    Ok(found)
}

async fn resolve_parent(found: &mut FoundSnapshot) -> Result<()> {
    let Some(parent) = found.snapshot.manifest.parent else { return Ok(()) };
    match found.repository.snapshot(parent).await {
        Ok(_) => return Ok(()),
        Err(error) if matches!(error.kind(), engine::Kind::NotFound | engine::Kind::Damaged) => {}
        Err(error) => return Err(error.into()),
    }
    // Only now is it worth reading the whole history.
    let all = of_source(&found.repository, &found.snapshot.manifest.source.id).await?;
    let here = all.into_iter().find(|snapshot| snapshot.id == found.snapshot.id);
    found.snapshot.manifest.parent = here.and_then(|snapshot| snapshot.manifest.parent);
    Ok(())
}

/// A user's snapshot, by its id alone. Somebody else's is not found.
pub async fn find(app: &App, user: UserId, id: &str) -> Result<FoundSnapshot> {
    let id = SnapshotId::parse(id).ok_or_else(Problem::not_found)?;
    if let Some(project) = app.repositories.project_of(id) {
        projects::find(app, user, project).await?;
        return in_project(app, project, id).await?.ok_or_else(Problem::not_found);
    }
    let mut failed = None;
    for project in projects::list(app, user, PageRequest::all()).await?.items {
        match in_project(app, project.id, id).await {
            Ok(Some(found)) => {
                app.repositories.saw(id, project.id);
                return Ok(found);
            }
            Ok(None) => {}
            // One project's trouble must not hide the snapshots of the others.
            Err(problem) => failed = Some(problem),
        }
    }
    Err(failed.unwrap_or_else(Problem::not_found))
}

/// Gives a snapshot another note, pins or unpins it.
pub async fn change(
    app: &App,
    user: UserId,
    id: &str,
    change: SnapshotChange,
) -> Result<Option<FoundSnapshot>> {
    let mut found = match find_with_parent(app, user, id).await {
        Ok(found) => found,
        Err(problem) if may_be_unreadable(&problem) => match find_unreadable(app, user, id).await? {
            Some(unreadable) => return change_unreadable(app, user, unreadable, change).await.map(|()| None),
            None => return Err(problem),
        },
        Err(problem) => return Err(problem),
    };
    let note = change.note.map(parse_note).transpose()?;
    if note.is_none() && change.pinned.is_none() {
        return Ok(Some(found));
    }
    let event = Event::new(action::SNAPSHOT_CHANGE, format!("snapshot/{}", found.snapshot.id))
        .with("database", &found.snapshot.manifest.source.name)
        // What it says may be anything; that it was changed is what matters here.
        .with("note", note.as_ref().map(|note| if note.is_some() { "set" } else { "removed" }))
        .with("pinned", change.pinned);
    let set = move |mark: &mut Mark| {
        if let Some(note) = &note {
            mark.note = Some(note.clone().unwrap_or_default());
        }
        mark.pinned = change.pinned.unwrap_or(mark.pinned);
    };
    let done = found.repository.mark(found.snapshot.id, app.clock.as_ref(), &set).await;
    found.snapshot.mark = audit::record(app, user, event, done.map_err(Problem::from)).await?;
    Ok(Some(found))
}

/// Unpins a snapshot that cannot be read, so that it can be given up, or pins it.
async fn change_unreadable(app: &App, user: UserId, found: Unreadable, change: SnapshotChange) -> Result<()> {
    let Some(pinned) = change.pinned.filter(|_| change.note.is_none()) else {
        let detail = "The snapshot cannot be read. It can be pinned or unpinned, and deleted.";
        return Err(Problem::conflict("unreadable", "The snapshot cannot be read", detail));
    };
    let event = Event::new(action::SNAPSHOT_CHANGE, format!("snapshot/{}", found.id))
        .with("unreadable", true)
        .with("pinned", pinned);
    let set = move |mark: &mut Mark| mark.pinned = pinned;
    let done = found.repository.mark(found.id, app.clock.as_ref(), &set).await;
    audit::record(app, user, event, done.map(drop).map_err(Problem::from)).await
}

/// Deletes a snapshot, unless it is pinned. Nobody sees it from now on; its bytes come free with the next
/// prune.
pub async fn delete(app: &App, user: UserId, id: &str) -> Result<()> {
    match find(app, user, id).await {
        Ok(found) => remove(app, user, &found.repository, &found.snapshot, Actor::Account).await,
        Err(problem) if may_be_unreadable(&problem) => match find_unreadable(app, user, id).await? {
            Some(found) => delete_unreadable(app, user, found).await,
            None => Err(problem),
        },
        Err(problem) => Err(problem),
    }
}

pub fn may_be_unreadable(problem: &Problem) -> bool {
    problem.slug == Problem::not_found().slug || problem.kind() == Some(engine::Kind::Damaged)
}

/// A snapshot that was taken and that nobody deleted, and that cannot be read.
pub struct Unreadable {
    pub project: Project,
    pub why: String,
    pub pinned: bool,
    repository: Repository,
    id: SnapshotId,
}

/// Looks for a snapshot whose manifest was lost or is damaged, in all of the user's projects.
pub async fn find_unreadable(app: &App, user: UserId, id: &str) -> Result<Option<Unreadable>> {
    let Some(id) = SnapshotId::parse(id) else { return Ok(None) };
    for project in projects::list(app, user, PageRequest::all()).await?.items {
        // One that is out of reach hides no other.
        let Ok(repository) = app.repositories.get(project.id).await else { continue };
        if let Some((why, mark)) = repository.unreadable(id).await? {
            return Ok(Some(Unreadable { project, why, pinned: mark.pinned, repository, id }));
        }
    }
    Ok(None)
}

/// Deletes a snapshot whose manifest was lost or is damaged: no prune goes on while it might be brought
/// back.
async fn delete_unreadable(app: &App, user: UserId, found: Unreadable) -> Result<()> {
    let done = found.repository.delete_snapshot(found.id, app.clock.as_ref()).await.map_err(not_deleted);
    if done.is_ok() {
        app.live_readings.forget_snapshot(&found.id.to_string());
    }
    let event =
        Event::new(action::SNAPSHOT_DELETE, format!("snapshot/{}", found.id)).with("unreadable", true);
    audit::record(app, user, event, done).await?;
    Ok(app.meta.forget_damaged(found.project.id, found.id.to_string()).await?)
}

/// Records that a deletion was asked for with something else typed than what confirms it.
pub async fn not_confirmed(app: &App, user: UserId, snapshot: &Snapshot, problem: Problem) -> Problem {
    audit::not_confirmed(app, user, deletion(snapshot), problem).await
}

/// As [`not_confirmed`], of a snapshot that was found to be the caller's and of which nothing can be read.
pub async fn unreadable_not_confirmed(app: &App, user: UserId, id: &str, problem: Problem) -> Problem {
    let event = Event::new(action::SNAPSHOT_DELETE, format!("snapshot/{id}"));
    audit::not_confirmed(app, user, event, problem).await
}

fn deletion(snapshot: &Snapshot) -> Event {
    Event::new(action::SNAPSHOT_DELETE, format!("snapshot/{}", snapshot.id))
        .with("database", &snapshot.manifest.source.name)
        .with("root", snapshot.manifest.catalog_root.to_string())
}

/// Deletes a snapshot that was found, for somebody or for the rules of a schedule.
pub(super) async fn remove(
    app: &App,
    user: UserId,
    repository: &Repository,
    snapshot: &Snapshot,
    actor: Actor,
) -> Result<()> {
    let event = deletion(snapshot).by(actor);
    let done = repository.delete_snapshot(snapshot.id, app.clock.as_ref()).await;
    if done.is_ok() {
        app.live_readings.forget_snapshot(&snapshot.id.to_string());
        app.previews.forget_snapshot(&snapshot.id.to_string());
    }
    audit::record(app, user, event, done.map_err(not_deleted)).await?;
    match app.repositories.project_of(snapshot.id) {
        Some(project) => Ok(app.meta.forget_damaged(project, snapshot.id.to_string()).await?),
        None => Ok(()),
    }
}

fn not_deleted(error: engine::Error) -> Problem {
    match error.kind() {
        engine::Kind::Conflict => pinned("The snapshot is pinned. Unpin it first, if it is to go."),
        _ => error.into(),
    }
}

/// Somebody wants it kept.
pub(super) fn pinned(detail: impl Into<String>) -> Problem {
    Problem::conflict(PINNED, "Pinned snapshots stay", detail)
}

async fn in_project(app: &App, project_id: ProjectId, id: SnapshotId) -> Result<Option<FoundSnapshot>> {
    let repository = app.repositories.get(project_id).await?;
    match repository.snapshot(id).await {
        Ok(snapshot) => Ok(Some(FoundSnapshot { project_id, repository, snapshot })),
        Err(error) if error.kind() == engine::Kind::NotFound => {
            // Of a repository that is gone from its storage nobody can tell.
            repository.check_there().await?;
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// When a verification last found nothing wrong with a snapshot, and how thorough that was: of those of
/// one moment the most thorough.
pub fn verified(mark: &Mark) -> Option<(VerifyMode, i64)> {
    let all = [
        (VerifyMode::Structure, mark.structure_ms),
        (VerifyMode::Sample, mark.sample_ms),
        (VerifyMode::Full, mark.full_ms),
    ];
    let all = all.into_iter().filter_map(|(mode, at_ms)| Some((mode, at_ms?)));
    all.max_by_key(|(_, at_ms)| *at_ms)
}

/// A snapshot's collections, by name.
pub async fn collections(found: &FoundSnapshot) -> Result<Vec<CollectionSummary>> {
    Ok(history::collections(&found.repository, &found.snapshot).await?)
}

/// A page of a collection's records, in key order.
pub async fn records(
    app: &App,
    user: UserId,
    found: &FoundSnapshot,
    collection: &str,
    page: &rows::PageRequest,
) -> Result<rows::Page<Record>> {
    let page = history::records(&found.repository, &found.snapshot, collection, page).await?;
    let event = Event::new(action::RECORDS_READ, format!("snapshot/{}", found.snapshot.id))
        .with("database", &found.snapshot.manifest.source.name);
    audit::records_read(app, user, event).await?;
    Ok(page)
}
