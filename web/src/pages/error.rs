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
    /// The page on which that is done: words and address.
    pub link: Option<(&'static str, &'static str)>,
}

impl ErrorPage {
    /// A page that does not exist.
    pub fn sample() -> Self {
        Self {
            shell: Shell::sample(),
            status: 404,
            title: "There is no such page".to_owned(),
            advice: "It may have been deleted, or belong to another account.".to_owned(),
            link: None,
        }
    }

    /// Something in a project that no key here opens.
    pub fn sample_locked() -> Self {
        Self {
            status: 503,
            title: "No key here opens the repository".to_owned(),
            advice: "Type its recovery key on the page \"Open existing storage\".".to_owned(),
            link: Some(("Open existing storage", urls::STORAGE)),
            ..Self::sample()
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
            p.actions {
                @if signed_in {
                    @if let Some((words, address)) = view.link { a.button.primary href=(address) { (words) } }
                    a.button .primary[view.link.is_none()] href=(urls::PROJECTS) { "Go to your projects" }
                } @else {
                    a.button.primary href=(urls::LOGIN) { "Sign in" }
                }
            }
        }
    };
    Frame::new(&view.shell, &view.title, Section::None, &[]).render(&body)
}
