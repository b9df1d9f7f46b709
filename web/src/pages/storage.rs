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
    /// Names of projects that are known and that no key of this server opens any more.
    pub locked: Vec<String>,
    /// Whether this server's own keys may open them without a recovery key.
    pub may_use_own_keys: bool,
    /// Why nothing was opened.
    pub problem: Option<Problem>,
}

impl Storage {
    /// After a data folder was lost.
    pub fn sample() -> Self {
        let shell = Shell::sample();
        Self { shell, unclaimed: 2, locked: Vec::new(), may_use_own_keys: true, problem: None }
    }

    /// With a key that opens nothing.
    pub fn sample_refused() -> Self {
        let problem = Problem::new("Nothing opens").with_fix("Check the key.");
        Self { problem: Some(problem), ..Self::sample() }
    }

    /// With a project whose key slot was lost.
    pub fn sample_locked() -> Self {
        Self { locked: vec!["Storefront".to_owned()], may_use_own_keys: false, ..Self::sample_empty() }
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
        @if view.unclaimed == 0 && view.locked.is_empty() {
            p.card.padded { "The storage holds nothing that is not one of this server's projects already." }
        } @else {
            section.card.padded {
                @if view.unclaimed > 0 {
                    p {
                        "The storage holds " (view.unclaimed) " "
                        @if view.unclaimed == 1 { "project" } @else { "projects" }
                        " that this server does not know. A recovery key opens the one it was made for, with its whole history. "
                        "Credentials of databases are not in the storage: give them again before the next backup."
                    }
                }
                @for name in &view.locked {
                    p {
                        "No key of this server opens the project " b { (name) } " any more: its key slot is lost or damaged. "
                        "Its recovery key opens it, and from then on this server's key does again."
                    }
                }
                form.stack method="post" action=(urls::STORAGE) {
                    (Field::code("recovery_key", "Recovery key", "").hint("14 groups of four letters").render())
                    div.actions { button.primary type="submit" { "Open with this key" } }
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
