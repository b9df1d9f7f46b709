//! A page for a request that could not be answered.

use maud::{Markup, html};

use crate::{
    layout::{Frame, Section, Shell},
    urls,
};

/// What went wrong.
#[derive(Clone, Debug)]
pub struct ErrorPage {
    /// The frame.
    pub shell: Shell,
    /// The HTTP status.
    pub status: u16,
    /// In a few words.
    pub title: String,
    /// What to do about it.
    pub advice: String,
}

impl ErrorPage {
    /// A page that does not exist.
    pub fn sample() -> Self {
        Self {
            shell: Shell::sample(),
            status: 404,
            title: "There is no such page".to_owned(),
            advice: "It may have been deleted, or belong to another account.".to_owned(),
        }
    }

    /// A failure of the server.
    pub fn sample_server() -> Self {
        Self {
            status: 500,
            title: "Something went wrong on the server".to_owned(),
            advice: "Nothing you sent was lost. Try again; if it happens again, look in the server's log."
                .to_owned(),
            ..Self::sample()
        }
    }
}

/// The whole page.
pub fn page(view: &ErrorPage) -> Markup {
    let signed_in = view.shell.email.is_some();
    let body = html! {
        div.narrow {
            p.status-code { (view.status) }
            h1 { (view.title) }
            p { (view.advice) }
            p {
                @if signed_in {
                    a.button.primary href=(urls::PROJECTS) { "Go to your projects" }
                } @else {
                    a.button.primary href=(urls::LOGIN) { "Sign in" }
                }
            }
        }
    };
    Frame::new(&view.shell, &view.title, Section::None, &[]).render(&body)
}
