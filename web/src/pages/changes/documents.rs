//! Changed documents: for each the fields that differ, old and new, and the whole of it folded away.

use maud::{Markup, html};

use crate::{
    components::{
        change::{self, ChangeKind},
        document,
    },
    json,
};

/// What happened to a field or to an element of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is new; its value.
    Added(String),
    /// It is gone; its value, unless the older document is too long to tell.
    Removed(Option<String>),
    /// Its value is another: the older one, unless that cannot be told, and the newer.
    Replaced(Option<String>, String),
    /// It was at this other path.
    Moved(String),
}

/// One difference. Paths are JSON pointers, values canonical Extended JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where.
    pub path: String,
    /// What happened.
    pub step: Step,
}

/// A changed document, as canonical Extended JSON.
#[derive(Clone, Debug)]
pub struct DocumentChange {
    /// What happened to it.
    pub kind: ChangeKind,
    /// Its `_id`, readable.
    pub key: String,
    /// As A has it.
    pub old: Option<String>,
    /// As B has it.
    pub new: Option<String>,
    /// In what they differ; none when that is too long to show, or only the whole can be exchanged.
    pub differences: Option<Vec<Difference>>,
    /// The top-level fields that differ.
    pub fields: Vec<String>,
    /// Whether nothing differs but the order of fields.
    pub order_only: bool,
    /// Whether something was too long to show whole.
    pub truncated: bool,
}

impl DocumentChange {
    /// One of each kind.
    pub fn samples() -> Vec<Self> {
        let at = |path: &str, step| Difference { path: path.to_owned(), step };
        let text = str::to_owned;
        let (int, long) = (r#"{"$numberInt":"3"}"#, r#"{"$numberLong":"3"}"#);
        let changed = Self {
            kind: ChangeKind::Changed,
            key: text("65f0c0ffee65f0c0ffee65f0"),
            old: Some(text(crate::samples::ORDER)),
            new: Some(text(crate::samples::ORDER_LATER)),
            differences: Some(vec![
                at("/status", Step::Replaced(Some(text("\"pending\"")), text("\"paid\""))),
                at("/qty", Step::Replaced(Some(text(int)), text(long))),
                at("/customer/address/city", Step::Replaced(Some(text("\"Bern\"")), text("\"Basel\""))),
                at("/tags/0", Step::Removed(Some(text("\"gift\"")))),
                at("/tags/1", Step::Added(text("\"fragile\""))),
                at("/lines/0", Step::Moved(text("/lines/1"))),
                at("/note", Step::Removed(Some(text("null")))),
                at("/paid_at", Step::Added(text(r#"{"$date":{"$numberLong":"1773494991000"}}"#))),
            ]),
            fields: ["status", "qty", "customer", "tags", "lines", "note", "paid_at"].map(text).to_vec(),
            order_only: false,
            truncated: false,
        };
        let order_only = Self {
            key: text("65f0c0ffee65f0c0ffee65f1"),
            old: Some(text(r#"{"_id":1,"status":"paid","total":{"$numberDecimal":"12.50"}}"#)),
            new: Some(text(r#"{"_id":1,"total":{"$numberDecimal":"12.50"},"status":"paid"}"#)),
            differences: Some(Vec::new()),
            fields: Vec::new(),
            order_only: true,
            ..changed.clone()
        };
        let long = Self {
            key: text("export"),
            differences: None,
            fields: vec![text("body"), text("title")],
            truncated: true,
            ..changed.clone()
        };
        let removed = Self {
            kind: ChangeKind::Removed,
            key: text("7"),
            old: Some(text(r#"{"_id":{"$numberInt":"7"},"status":"cancelled"}"#)),
            new: None,
            differences: None,
            fields: Vec::new(),
            ..changed.clone()
        };
        let added = Self {
            kind: ChangeKind::Added,
            key: text("{\"shop\": 2, \"n\": 9}"),
            old: None,
            new: Some(text(crate::samples::ORDER_LATER)),
            ..removed.clone()
        };
        vec![changed, order_only, long, removed, added]
    }
}

/// The documents of a page, one below the other.
pub(super) fn list(label: &str, changes: &[DocumentChange]) -> Markup {
    html! {
        ol.documents.changes aria-label=(label) {
            @for change in changes {
                li.(change.kind.as_str()) data-change tabindex="-1" { (document_change(change)) }
            }
        }
    }
}

fn document_change(change: &DocumentChange) -> Markup {
    html! {
        p.what {
            (change::label(change.kind)) " " code.key { (change.key) }
            @if change.order_only { " " span.tag { "field order only" } }
            @if change.truncated { " " span.tag { "shortened" } }
        }
        @match (&change.old, &change.new) {
            (Some(old), Some(new)) => {
                (differing(change, old, new))
                (both(change, old, new))
            }
            (Some(only), None) => { (one(change, only)) }
            (None, Some(only)) => { (one(change, only)) }
            (None, None) => {}
        }
    }
}

fn differing(change: &DocumentChange, old: &str, new: &str) -> Markup {
    html! {
        @if change.order_only {
            (reordered(old, new))
        } @else if let Some(differences) = &change.differences {
            dl.fields { @for difference in differences { (field(difference)) } }
        } @else {
            p { "Not listed one by one. What differs is in " code { (change.fields.join(", ")) } "." }
        }
    }
}

fn field(difference: &Difference) -> Markup {
    let path = json::path(&difference.path);
    html! {
        div {
            dt { code { (path) } }
            dd {
                @match &difference.step {
                    Step::Replaced(Some(old), new) => { (replaced(old, new)) }
                    Step::Replaced(None, new) => { (replaced_unseen(new)) }
                    Step::Added(new) => { (change_of_one(ChangeKind::Added, Some(new))) }
                    Step::Removed(old) => { (change_of_one(ChangeKind::Removed, old.as_deref())) }
                    Step::Moved(from) => { span.moved { "moved, was " code { (json::path(from)) } } }
                }
            }
        }
    }
}

/// Old and new. Types are named where the texts do not tell them apart, above all where they changed.
fn replaced(old: &str, new: &str) -> Markup {
    let (old, new) = (json::typed(old), json::typed(new));
    let retyped = old.kind != new.kind;
    if !retyped && old.is_plain() {
        return change::cell(Some(&old.text), Some(&new.text), true);
    }
    let name_type = |value: &json::Typed| retyped || !is_number(value.kind);
    html! {
        div.was-now {
            del { span.visually-hidden { "was " } span.glyph aria-hidden="true" { "\u{2212}" }
                span { (document::value(&old, name_type(&old))) } }
            ins { span.visually-hidden { " now " } span.glyph aria-hidden="true" { "+" }
                span { (document::value(&new, name_type(&new))) } }
        }
    }
}

/// As [`replaced`], where the older document is too long to show the old value.
fn replaced_unseen(new: &str) -> Markup {
    let new = json::typed(new);
    html! {
        div.was-now {
            del { span.visually-hidden { "was " } span.glyph aria-hidden="true" { "\u{2212}" }
                span.null { "too long to show" } }
            ins { span.visually-hidden { " now " } span.glyph aria-hidden="true" { "+" }
                span { (document::value(&new, !is_number(new.kind))) } }
        }
    }
}

fn is_number(kind: &str) -> bool {
    matches!(kind, "int" | "long" | "double" | "decimal" | "number")
}

/// A value that only one side has; of a removed one none is shown where the older document is too long.
fn change_of_one(kind: ChangeKind, text: Option<&str>) -> Markup {
    let value = text.map(json::typed);
    let shown = html! {
        @match &value {
            Some(value) => span { (document::value(value, !value.is_plain())) },
            None => span.null { "too long to show" },
        }
    };
    html! {
        div.was-now {
            @if kind == ChangeKind::Removed {
                del { span.visually-hidden { "removed " } span.glyph aria-hidden="true" { "\u{2212}" } (shown) }
            } @else {
                ins { span.visually-hidden { "added " } span.glyph aria-hidden="true" { "+" } (shown) }
            }
        }
    }
}

/// The order of the top-level fields before and after, or that it is deeper down.
fn reordered(old: &str, new: &str) -> Markup {
    let names = |text: &str| json::fields(text).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let (old, new) = (names(old), names(new));
    html! {
        p.muted { "The fields and values are the same, in another order." }
        @if old != new {
            dl.fields {
                div { dt { "order" } dd { (change::cell(Some(&old.join(", ")), Some(&new.join(", ")), false)) } }
            }
        }
    }
}

fn both(change: &DocumentChange, old: &str, new: &str) -> Markup {
    html! {
        details {
            summary { "Whole document, before and after" }
            div.beside {
                div { h3 { "A" } (document::whole(&format!("{} in A", change.key), old, change.truncated)) }
                div { h3 { "B" } (document::whole(&format!("{} in B", change.key), new, change.truncated)) }
            }
        }
    }
}

fn one(change: &DocumentChange, text: &str) -> Markup {
    html! {
        details open[document::is_short(text)] {
            summary { span.preview { (json::preview(text)) } }
            (document::whole(&change.key, text, change.truncated))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn html_of(at: usize) -> String {
        document_change(&DocumentChange::samples()[at]).into_string()
    }

    #[test]
    fn a_change_of_type_alone_is_seen() {
        let html = html_of(0);
        let expected = concat!(
            "<span class=\"type\">int</span> <span class=\"value\">3</span></span></del>",
            "<ins><span class=\"visually-hidden\"> now </span><span class=\"glyph\" aria-hidden=\"true\">+</span>",
            "<span><span class=\"type\">long</span> <span class=\"value\">3</span>",
        );
        assert!(html.contains(expected), "{html}");
        assert!(html.contains("<dt><code>customer.address.city</code></dt>"), "{html}");
        assert!(html.contains("moved, was <code>lines.1</code>"), "{html}");
    }

    #[test]
    fn another_order_of_fields_is_no_change_of_values() {
        let html = html_of(1);
        assert!(html.contains("field order only") && html.contains("in another order"), "{html}");
        assert!(html.contains("<del>") && html.contains("status"), "{html}");
    }

    #[test]
    fn differences_that_are_too_long_name_their_fields() {
        let html = html_of(2);
        assert!(html.contains("body, title") && html.contains("shortened"), "{html}");
    }

    #[test]
    fn a_replaced_value_that_is_too_long_to_show_is_not_called_added() {
        let step = Step::Replaced(None, "\"x\"".to_owned());
        let html = field(&Difference { path: "/arr/7".to_owned(), step }).into_string();
        assert!(html.contains("too long to show") && html.contains(" now "), "{html}");
        assert!(!html.contains("added"), "{html}");
    }

    #[test]
    fn short_documents_stand_open_and_long_ones_do_not() {
        assert!(html_of(3).contains("<details open>"), "{}", html_of(3));
        assert!(!html_of(4).contains("<details open>"), "{}", html_of(4));
    }
}
