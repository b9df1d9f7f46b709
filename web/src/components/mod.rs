//! Pieces that several pages share.

pub mod change;
pub mod damage;
pub mod document;
pub mod form;
pub mod icons;
pub mod job;
pub mod stages;
pub mod system;
pub mod table;
pub mod tag;

use maud::{Markup, html};

/// Something went wrong, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What happened.
    pub message: String,
    /// What to do.
    pub fix: Option<String>,
}

impl Problem {
    /// A problem without advice.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), fix: None }
    }

    /// Adds what to do.
    #[must_use]
    pub fn with_fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

/// A problem as a box that assistive technology reads out.
pub fn alert(problem: &Problem) -> Markup {
    html! {
        div.notice.bad role="alert" {
            p { (icons::failed()) strong { (problem.message) } }
            @if let Some(fix) = &problem.fix { p { (fix) } }
        }
    }
}

/// As [`alert`], for a form far down a page: the box has the focus, so the page is opened there. (A fragment in
/// the form's action would do so too, and keep a page without scripts from being loaded again: it stays in the
/// address of what comes after.) One a page.
pub fn alert_in_form(problem: &Problem) -> Markup {
    html! { div tabindex="-1" autofocus { (alert(problem)) } }
}

/// A remark that is no problem.
pub fn note(body: &Markup) -> Markup {
    html! { div.notice { (body) } }
}

/// Something worth care before going on.
pub fn warning(body: &Markup) -> Markup {
    html! { div.notice.warn { (icons::warning()) div { (body) } } }
}

/// Text to be copied, with a button where scripts run. `id` is unique on the page.
pub fn copyable(id: &str, label: &str, text: &str) -> Markup {
    html! {
        div.copyable {
            div.copyable-head {
                span { (label) }
                button.small type="button" hidden data-copy=(id) { "Copy" }
            }
            pre #(id) tabindex="0" aria-label=(label) { code { (text) } }
        }
    }
}

/// A fact: its name and its value.
pub fn fact(name: &str, value: &Markup) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

/// The beginning of a long hexadecimal id, with the whole in the element's title.
pub fn short_id(id: &str) -> Markup {
    let end = id.char_indices().nth(12).map_or(id.len(), |(at, _)| at);
    html! { code.id title=(id) { (&id[..end]) } }
}
