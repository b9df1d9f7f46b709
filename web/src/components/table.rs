//! Tables that stay within the page: a wide one scrolls in a region of its own.

use maud::{Markup, html};

/// A region that scrolls sideways, reachable by keyboard, named by the table's caption text.
pub fn scrolling(label: &str, table: &Markup) -> Markup {
    html! { div.scroll role="region" aria-label=(label) tabindex="0" { (table) } }
}

/// A database value: text as it is, NULL marked as such, an empty text made visible.
pub fn value(text: Option<&str>) -> Markup {
    html! {
        @match text {
            None => { span.null { "NULL" } }
            Some("") => { span.null { "empty" } }
            Some(text) => { span.value { (text) } }
        }
    }
}

/// Links through pages in key order: there is no total to count to, only a first and a next page.
pub fn pager(first_url: Option<&str>, next_url: Option<&str>) -> Markup {
    html! {
        @if first_url.is_some() || next_url.is_some() {
            nav.pager aria-label="Pages" {
                @if let Some(url) = first_url { a.button href=(url) { "First page" } }
                @if let Some(url) = next_url { a.button href=(url) rel="next" { "Next page" } }
            }
        }
    }
}
