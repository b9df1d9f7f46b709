//! A snapshot whose file was lost or is damaged: why, and how it is given up.

use maud::{Markup, html};

use super::Named;
use crate::{
    components::{Problem, alert, form::Field},
    layout::{Frame, Section, Shell},
    urls,
};

/// A snapshot that should be there and cannot be read.
#[derive(Clone, Debug)]
pub struct Unreadable {
    /// The frame.
    pub shell: Shell,
    /// The project it belongs to.
    pub project: Named,
    /// The snapshot's id.
    pub id: String,
    /// What is wrong with it.
    pub why: String,
    /// Whether it is pinned, so far as that is known.
    pub pinned: bool,
    /// What was wrong with the last try to delete it.
    pub problem: Option<Problem>,
}

impl Unreadable {
    /// One whose file is gone.
    pub fn sample() -> Self {
        let id = "5a1f".repeat(8);
        Self {
            shell: Shell::sample(),
            project: Named::new("01J8", "Shop"),
            why: format!("the file snapshots/{id} is missing"),
            id,
            pinned: false,
            problem: None,
        }
    }

    /// One that is pinned.
    pub fn sample_pinned() -> Self {
        Self { pinned: true, ..Self::sample() }
    }

    /// What is typed to delete it.
    pub fn confirmation(&self) -> &str {
        self.id.get(..8).unwrap_or(&self.id)
    }
}

/// The whole page.
pub fn page(view: &Unreadable) -> Markup {
    let crumbs = [
        ("Projects", urls::PROJECTS.to_owned()),
        (view.project.name.as_str(), urls::project(&view.project.id)),
    ];
    let body = html! {
        h1 { "This snapshot cannot be read" }
        @if let Some(problem) = &view.problem { (alert(problem)) }
        section.card.padded {
            p { "What is wrong: " (view.why) "." }
            p {
                "Put the file back from a copy of the storage, and everything is there again: nothing is cleaned up "
                "while it is missing. Other snapshots are not affected."
            }
        }
        @if view.pinned {
            form.stack.card.padded method="post" action=(urls::snapshot_change(&view.id)) {
                h2 { "It is pinned" }
                p { "Nobody deletes it before it is unpinned. Do that only if there is no copy of the file." }
                input type="hidden" name="pinned" value="false";
                div.actions { button type="submit" { "Unpin" } }
            }
        } @else { (give_up(view)) }
    };
    Frame::new(&view.shell, "A snapshot that cannot be read", Section::Projects, &crumbs).render(&body)
}

fn give_up(view: &Unreadable) -> Markup {
    html! {
        form.stack.card.padded method="post" action=(urls::snapshot_delete(&view.id)) {
            h2 { "Give it up" }
            p { "If there is no copy, delete the snapshot. Clean-ups then go on, and remove what only it needed." }
            (Field::code("confirm", "Type the first eight characters of its id", "").hint(view.confirmation()).render())
            div.actions { button.danger-quiet type="submit" { "Delete this snapshot" } }
        }
    }
}
