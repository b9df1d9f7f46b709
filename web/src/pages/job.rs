//! A job on a page of its own.

use maud::{Markup, html};

use super::Named;
use crate::{
    components::job::{self, Job},
    layout::{Frame, Section, Shell},
    urls,
};

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
}

impl JobPage {
    /// A backup under way.
    pub fn sample() -> Self {
        Self {
            shell: Shell::sample(),
            project: Named::new("p1", "Web shop"),
            database: Some(Named::new("d1", "shop")),
            job: Job::sample(),
        }
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

/// What live updates send.
pub fn fragment(job: &Job, now_ms: i64) -> Markup {
    job::progress(job, now_ms)
}
