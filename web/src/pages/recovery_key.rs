//! A new recovery key, shown once.

use maud::{Markup, html};

use super::Named;
use crate::{
    components::{copyable, warning},
    layout::{Frame, Section, Shell},
    urls,
};

/// The key.
#[derive(Clone)]
pub struct RecoveryKey {
    /// The frame.
    pub shell: Shell,
    /// The project it opens.
    pub project: Named,
    /// The key itself.
    pub key: String,
}

impl RecoveryKey {
    /// A key that opens nothing.
    pub fn sample() -> Self {
        Self {
            shell: Shell::sample(),
            project: Named::new("p1", "Web shop"),
            key: "dbsnap-recovery-1-EXAMPL-EKEY00-000000-000000-000000-000000-000000-000000".to_owned(),
        }
    }
}

/// The whole page.
pub fn page(view: &RecoveryKey) -> Markup {
    let body = html! {
        h1 { "Recovery key of " (view.project.name) }
        (warning(&html! {
            p { strong { "This key is shown once." } " Keep it where you keep other keys, not on this server." }
        }))
        section.card.padded {
            (copyable("recovery-key", "Recovery key", &view.key))
            p { "Whoever has this key and the stored files can read every snapshot of this project." }
            p { a.button.primary href=(urls::settings(&view.project.id)) { "I have saved it" } }
        }
    };
    let crumbs = [
        ("Projects", urls::PROJECTS.to_owned()),
        (view.project.name.as_str(), urls::project(&view.project.id)),
    ];
    Frame::new(&view.shell, "Recovery key", Section::Projects, &crumbs).render(&body)
}
