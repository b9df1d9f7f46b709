//! A project's settings: the keys that open its snapshots.

use maud::{Markup, html};

use super::Named;
use crate::{
    components::{fact, form::post_button, warning},
    format,
    layout::{Frame, Section, Shell},
    urls,
};

/// The settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The frame.
    pub shell: Shell,
    /// The project.
    pub project: Named,
    /// When it was made.
    pub created_ms: i64,
    /// When a recovery key was last made.
    pub recovery_key_ms: Option<i64>,
}

impl Settings {
    /// Without a recovery key.
    pub fn sample() -> Self {
        Self {
            shell: Shell::sample(),
            project: Named::new("p1", "Web shop"),
            created_ms: crate::samples::NOW_MS - 400_000_000,
            recovery_key_ms: None,
        }
    }

    /// With one.
    pub fn sample_saved() -> Self {
        Self { recovery_key_ms: Some(crate::samples::NOW_MS - 90_000_000), ..Self::sample() }
    }
}

/// The whole page.
pub fn page(view: &Settings) -> Markup {
    let now_ms = view.shell.now_ms;
    let body = html! {
        h1 { "Settings of " (view.project.name) }
        section.card.padded aria-labelledby="recovery" {
            h2 #recovery { "Recovery key" }
            p {
                "Snapshots are encrypted. This server keeps a key that opens them; a recovery key opens them without it, "
                "on any other DBSnap server."
            }
            @match view.recovery_key_ms {
                None => {
                    (warning(&html! { p { strong { "None has been made." } " If this server's key file is lost, so are the snapshots." } }))
                    (post_button(&urls::recovery_key(&view.project.id), "Make a recovery key", "primary"))
                }
                Some(at_ms) => {
                    p { "One was made on " (format::time(at_ms, now_ms)) ". It cannot be shown again; another can be made." }
                    (post_button(&urls::recovery_key(&view.project.id), "Make another recovery key", "plain"))
                }
            }
        }
        dl.facts.card.padded {
            (fact("Project", &html! { (view.project.name) }))
            (fact("Created", &format::time(view.created_ms, now_ms)))
        }
    };
    let crumbs = [
        ("Projects", urls::PROJECTS.to_owned()),
        (view.project.name.as_str(), urls::project(&view.project.id)),
    ];
    Frame::new(&view.shell, &format!("Settings of {}", view.project.name), Section::Projects, &crumbs)
        .render(&body)
}
