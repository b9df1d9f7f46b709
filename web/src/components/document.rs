//! Documents as canonical Extended JSON, and single values of them.

use maud::{Markup, html};

use crate::json::{self, Typed};

/// Lines of a document that is shown unfolded where others stand beside it.
const SHORT_LINES: usize = 24;

/// A document over several lines. `name` says which, for those who cannot see where it stands.
pub fn whole(name: &str, text: &str, truncated: bool) -> Markup {
    html! {
        pre.json tabindex="0" aria-label=(name) { code { (json::pretty(text)) } }
        @if truncated { p.sub.cut { "Shortened: of what is too long to show, only the size is told." } }
    }
}

/// Whether a document is short enough to be shown unfolded.
pub fn is_short(text: &str) -> bool {
    json::pretty(text).lines().count() <= SHORT_LINES
}

/// A value with its type, where the text alone does not say it.
pub fn value(value: &Typed, name_type: bool) -> Markup {
    html! {
        @if name_type { span.type { (value.kind) } " " }
        span.value { (value.text) }
    }
}
