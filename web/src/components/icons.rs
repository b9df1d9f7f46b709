//! Inline pictures. All are decoration: the words beside them say the same.

use maud::{Markup, PreEscaped, html};

fn icon(class: &str, path: &'static str) -> Markup {
    html! {
        svg.icon.(class) viewBox="0 0 16 16" width="16" height="16" aria-hidden="true" focusable="false" {
            (PreEscaped(path))
        }
    }
}

/// The product's mark: two snapshots on a line.
pub fn brand() -> Markup {
    html! {
        svg.mark viewBox="0 0 24 24" width="22" height="22" aria-hidden="true" focusable="false" {
            (PreEscaped(concat!(
                r#"<path class="rail" d="M7 3v18"/><circle class="old" cx="7" cy="6.5" r="3.2"/>"#,
                r#"<circle class="new" cx="7" cy="17.5" r="3.2"/><path class="bar" d="M13 6.5h8M13 12h5M13 17.5h8"/>"#
            )))
        }
    }
}

/// It went well.
pub fn ok() -> Markup {
    icon("ok", r#"<path d="M3 8.5l3.2 3.2L13 4.8"/>"#)
}

/// It failed.
pub fn failed() -> Markup {
    icon("failed", r#"<path d="M4 4l8 8M12 4l-8 8"/>"#)
}

/// It was not tried.
pub fn skipped() -> Markup {
    icon("skipped", r#"<path d="M4 8h8"/>"#)
}

/// It needs care.
pub fn warning() -> Markup {
    icon("warning", r#"<path d="M8 2.2L14.4 13.5H1.6zM8 6.4v3.4M8 11.5v.4"/>"#)
}

/// It is under way.
pub fn running() -> Markup {
    icon("running", r#"<path d="M8 1.8a6.2 6.2 0 1 1-6.2 6.2"/>"#)
}

/// It waits.
pub fn waiting() -> Markup {
    icon("waiting", r#"<circle cx="8" cy="8" r="6"/><path d="M8 4.8V8l2.2 1.6"/>"#)
}

/// It stays.
pub fn pin() -> Markup {
    icon("pin", r#"<path d="M5.4 2h5.2M6.4 2v4.6L4 9.6h8L9.6 6.6V2M8 9.6v4.6"/>"#)
}

/// Somebody's account.
pub fn account() -> Markup {
    icon(
        "account",
        r#"<circle cx="8" cy="5.2" r="3"/><path d="M2.4 14.2c.7-3 2.9-4.4 5.6-4.4s4.9 1.4 5.6 4.4"/>"#,
    )
}
