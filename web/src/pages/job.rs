//! A job on a page of its own.

use maud::{Markup, html};

use super::Named;
use crate::{
    components::{
        fact,
        job::{self, Job},
    },
    format,
    layout::{Frame, Section, Shell},
    urls,
};

/// What a clean-up removed, or would remove.
#[derive(Clone, Copy, Debug)]
pub struct Pruned {
    /// Whether it only looked.
    pub dry_run: bool,
    /// Deleted snapshots.
    pub snapshots: u64,
    /// Objects that no snapshot needs.
    pub objects: u64,
    /// Bytes that come free.
    pub bytes: u64,
    /// Bytes of objects that stay.
    pub bytes_kept: u64,
    /// Whether a grace time has yet to pass before anything goes.
    pub is_waiting: bool,
}

/// A job and where it belongs.
#[derive(Clone, Debug)]
pub struct JobPage {
    /// The frame.
    pub shell: Shell,
    /// The project it is done in.
    pub project: Named,
    /// The database it is about, if it is about one.
    pub database: Option<Named>,
    /// The job.
    pub job: Job,
    /// What a clean-up found.
    pub pruned: Option<Pruned>,
}

impl JobPage {
    /// A backup under way.
    pub fn sample() -> Self {
        Self {
            shell: Shell::sample(),
            project: Named::new("p1", "Web shop"),
            database: Some(Named::new("d1", "shop")),
            job: Job::sample(),
            pruned: None,
        }
    }

    /// A clean-up that only looked.
    pub fn sample_pruned() -> Self {
        let finished_ms = Some(crate::samples::NOW_MS - 1_000);
        let (kind, state) = (job::Kind::Prune, job::State::Succeeded);
        let job = Job { kind, state, finished_ms, progress: job::Progress::default(), ..Job::sample() };
        let (objects, bytes, bytes_kept) = (1_204, 38_400_000, 412_000_000);
        let pruned = Pruned { dry_run: true, snapshots: 3, objects, bytes, bytes_kept, is_waiting: false };
        Self { database: None, job, pruned: Some(pruned), ..Self::sample() }
    }

    /// A backup that failed.
    pub fn sample_failed() -> Self {
        Self { job: Job::sample_failed(), ..Self::sample() }
    }
}

/// The whole page.
pub fn page(view: &JobPage) -> Markup {
    let title = match &view.database {
        Some(database) => format!("{} of {}", view.job.kind.name(), database.name),
        None => view.job.kind.name().to_owned(),
    };
    let body = html! {
        h1 { (title) }
        section.card.padded aria-label="Progress" {
            (job::live(&view.job, view.shell.now_ms, &urls::job(&view.job.id)))
        }
        @if let Some(pruned) = &view.pruned { (outcome(view, pruned)) }
    };
    let mut crumbs = vec![
        ("Projects", urls::PROJECTS.to_owned()),
        (view.project.name.as_str(), urls::project(&view.project.id)),
    ];
    if let Some(database) = &view.database {
        crumbs.push((database.name.as_str(), urls::database(&database.id)));
    }
    Frame::new(&view.shell, &title, Section::Projects, &crumbs)
        .refreshing(view.job.state.is_open())
        .render(&body)
}

fn outcome(view: &JobPage, pruned: &Pruned) -> Markup {
    let heading = if pruned.dry_run { "What would go" } else { "What went" };
    html! {
        section.card.padded aria-labelledby="pruned" {
            h2 #pruned { (heading) }
            dl.facts {
                (fact("Deleted snapshots", &html! { (format::count(pruned.snapshots)) }))
                (fact("Objects that no snapshot needs", &html! { (format::count(pruned.objects)) }))
                (fact("Space that comes free", &html! { (format::bytes(pruned.bytes)) }))
                (fact("Space that stays in use", &html! { (format::bytes(pruned.bytes_kept)) }))
            }
            @if pruned.is_waiting {
                p { "The server's grace time has yet to pass. A later clean-up removes them." }
            }
            @if pruned.dry_run {
                form.inline method="post" action=(urls::prune(&view.project.id)) {
                    input type="hidden" name="dry_run" value="false";
                    button.danger type="submit" { "Remove it now" }
                }
            }
            p { a href=(urls::settings(&view.project.id)) { "Back to the project's settings" } }
        }
    }
}

/// What live updates send.
pub fn fragment(job: &Job, now_ms: i64) -> Markup {
    job::progress(job, now_ms)
}
