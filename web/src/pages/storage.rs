//! Opening what is in the storage and of no project here.

use maud::{Markup, html};

use crate::{
    components::{Problem, alert, form::Field},
    layout::{Frame, Section, Shell},
    urls,
};

/// The form.
#[derive(Clone, Debug)]
pub struct Storage {
    /// The frame.
    pub shell: Shell,
    /// How many repositories there are that no project here is of.
    pub unclaimed: usize,
    /// Whether this server's own keys may open them without a recovery key.
    pub may_use_own_keys: bool,
    /// Why nothing was opened.
    pub problem: Option<Problem>,
}

impl Storage {
    /// After a data folder was lost.
    pub fn sample() -> Self {
        Self { shell: Shell::sample(), unclaimed: 2, may_use_own_keys: true, problem: None }
    }

    /// With a key that opens nothing.
    pub fn sample_refused() -> Self {
        let problem = Problem::new("Nothing opens").with_fix("Check the key.");
        Self { problem: Some(problem), ..Self::sample() }
    }

    /// With nothing to open.
    pub fn sample_empty() -> Self {
        Self { unclaimed: 0, ..Self::sample() }
    }
}

/// The whole page.
pub fn page(view: &Storage) -> Markup {
    let body = html! {
        h1 { "Open existing storage" }
        @if let Some(problem) = &view.problem { (alert(problem)) }
        @if view.unclaimed == 0 {
            p.card.padded { "The storage holds nothing that is not one of this server's projects already." }
        } @else {
            section.card.padded {
                p {
                    "The storage holds " (view.unclaimed) " "
                    @if view.unclaimed == 1 { "project" } @else { "projects" }
                    " that this server does not know. A recovery key opens the one it was made for, with its whole history. "
                    "Credentials of databases are not in the storage: give them again before the next backup."
                }
                form method="post" action=(urls::STORAGE) {
                    (Field::code("recovery_key", "Recovery key", "").hint("14 groups of four letters").render())
                    button.primary type="submit" { "Open with this key" }
                }
                @if view.may_use_own_keys {
                    p { "If this server has the key file or the key in AWS KMS that they were made with, no recovery key is needed." }
                    form method="post" action=(urls::STORAGE) {
                        input type="hidden" name="recovery_key" value="";
                        button.plain type="submit" { "Open with this server's keys" }
                    }
                }
            }
        }
    };
    let crumbs = [("Projects", urls::PROJECTS.to_owned())];
    Frame::new(&view.shell, "Open existing storage", Section::Projects, &crumbs).render(&body)
}
