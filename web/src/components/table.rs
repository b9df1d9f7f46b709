//! Tables that stay within the page: a wide one scrolls in a region of its own.

use maud::{Markup, html};

use crate::format;

/// A region that scrolls sideways, reachable by keyboard, named by the table's caption text.
pub fn scrolling(label: &str, table: &Markup) -> Markup {
    html! { div.scroll role="region" aria-label=(label) tabindex="0" { (table) } }
}

/// Bytes of a value in a cell. A page has many.
const CELL_BYTES: usize = 2000;
/// A text of this length may be a longer value's beginning.
const CUT_BYTES: usize = 64_000;

/// A database value: text as it is, NULL marked as such, an empty text made visible. Of a long one
/// the beginning is shown, and how long it is.
pub fn value(text: Option<&str>) -> Markup {
    html! {
        @match text {
            None => { span.null { "NULL" } }
            Some("") => { span.null { "empty" } }
            Some(text) if text.len() <= CELL_BYTES => { span.value { (text) } }
            Some(text) => {
                span.value { (beginning(text)) span.elided { "…" } }
                div.sub { (format::bytes(CELL_BYTES as u64)) " of " @if text.len() >= CUT_BYTES { "more than " (format::bytes(CUT_BYTES as u64)) } @else { (format::bytes(text.len() as u64)) } }
            }
        }
    }
}

fn beginning(text: &str) -> &str {
    let end = (0..=CELL_BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    &text[..end]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_value_is_bounded_and_says_how_long_it_is() {
        let text = "a".repeat(CELL_BYTES - 1) + &"ä".repeat(3000);
        let html = value(Some(&text)).into_string();
        assert!(html.len() < CELL_BYTES + 300 && html.contains("2.00 kB of 8.00 kB"), "{html}");
        assert!(value(Some(&"a".repeat(64 << 10))).into_string().contains("of more than"));
        assert!(!value(Some("short")).into_string().contains(" of "));
    }
}
