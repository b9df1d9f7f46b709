//! What holds for every page: a strict content security policy can be set, and the markup is
//! accessible in the ways a machine can tell.

use std::collections::{HashMap, HashSet};

use web::pages::catalogue;

/// An element's start tag: its name and attributes.
struct Tag {
    name: String,
    attributes: HashMap<String, String>,
}

impl Tag {
    fn get(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).map(String::as_str)
    }
}

/// The start tags of a document that maud wrote: attribute values are always quoted and escaped.
fn tags(html: &str) -> Vec<Tag> {
    let mut tags = Vec::new();
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        if !rest.starts_with(|c: char| c.is_ascii_alphabetic()) {
            continue;
        }
        let name_end = rest.find([' ', '>', '/']).expect("because a tag ends");
        let name = rest[..name_end].to_owned();
        rest = &rest[name_end..];
        let mut attributes = HashMap::new();
        loop {
            rest = rest.trim_start_matches([' ', '/']);
            if let Some(after) = rest.strip_prefix('>') {
                rest = after;
                break;
            }
            let end = rest.find(['=', ' ', '>', '/']).expect("because an attribute ends");
            let key = rest[..end].to_owned();
            rest = &rest[end..];
            let mut value = String::new();
            if let Some(quoted) = rest.strip_prefix("=\"") {
                let close = quoted.find('"').expect("because a value is quoted");
                quoted[..close].clone_into(&mut value);
                rest = &quoted[close + 1..];
            }
            assert!(attributes.insert(key.clone(), value).is_none(), "<{name}> has {key} twice");
        }
        tags.push(Tag { name, attributes });
    }
    tags
}

fn every_page(check: impl Fn(&str, &str, &[Tag])) {
    let samples = catalogue::samples();
    assert!(samples.len() > 20);
    for (name, markup) in samples {
        let html = markup.into_string();
        let tags = tags(&html);
        check(name, &html, &tags);
    }
}

#[test]
fn nothing_inline_that_the_policy_forbids() {
    every_page(|page, html, tags| {
        for tag in tags {
            assert_ne!(tag.name, "style", "{page}");
            for key in tag.attributes.keys() {
                assert!(key != "style" && !key.starts_with("on"), "{page}: <{} {key}>", tag.name);
            }
            if tag.name == "script" {
                assert_eq!(tag.get("type"), Some("module"), "{page}");
                assert!(tag.get("src").is_some_and(|src| src.starts_with(web::assets::PREFIX)), "{page}");
            }
            for key in ["href", "src", "action"] {
                let address = tag.get(key).unwrap_or("/");
                assert!(address.starts_with('/') || address.starts_with('#'), "{page}: {key}={address}");
            }
        }
        assert!(!html.contains("javascript:"), "{page}");
    });
}

#[test]
fn ids_are_unique_and_references_resolve() {
    every_page(|page, _, tags| {
        let mut ids = HashSet::new();
        for tag in tags {
            if let Some(id) = tag.get("id") {
                assert!(ids.insert(id), "{page}: id {id} twice");
            }
        }
        for tag in tags {
            for key in ["for", "list", "aria-labelledby", "aria-describedby", "data-copy"] {
                for id in tag.get(key).unwrap_or_default().split_whitespace() {
                    assert!(ids.contains(id), "{page}: <{} {key}=\"{id}\"> points nowhere", tag.name);
                }
            }
        }
    });
}

#[test]
fn one_heading_names_the_page_and_its_title_says_the_product() {
    every_page(|page, html, tags| {
        assert_eq!(tags.iter().filter(|tag| tag.name == "h1").count(), 1, "{page}");
        let title =
            html.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>")).expect(page).0;
        assert!(title.ends_with(" · DBSnap") && title.len() > " · DBSnap".len(), "{page}: {title}");
        assert!(html.contains(r##"<a class="skip" href="#content">"##), "{page}");
        assert_eq!(
            tags.iter().filter(|tag| tag.name == "main" && tag.get("id") == Some("content")).count(),
            1
        );
    });
}

#[test]
fn every_input_has_a_label() {
    every_page(|page, html, tags| {
        let labelled: HashSet<_> =
            tags.iter().filter(|tag| tag.name == "label").filter_map(|tag| tag.get("for")).collect();
        for tag in tags.iter().filter(|tag| tag.name == "input" || tag.name == "select") {
            match (tag.get("type"), tag.get("id")) {
                (Some("hidden"), _) => {}
                (_, Some(id)) => assert!(labelled.contains(id), "{page}: no label for {id}"),
                // Radio buttons and boxes of a list stand inside their labels.
                (kind, None) => assert!(matches!(kind, Some("radio" | "checkbox")), "{page}: {kind:?}"),
            }
        }
        for kind in ["radio", "checkbox"] {
            for part in html.split(&format!("<input type=\"{kind}\"")).skip(1) {
                let (end, next) = (part.find("</label>"), part.find("<label"));
                let inside = end.is_some_and(|end| next.is_none_or(|next| end < next));
                assert!(inside, "{page}: {kind} outside a label");
            }
        }
    });
}

#[test]
fn tables_have_captions_and_scoped_headers_and_scroll_in_named_regions() {
    every_page(|page, html, tags| {
        let count = |name: &str| tags.iter().filter(|tag| tag.name == name).count();
        assert_eq!(count("table"), count("caption"), "{page}");
        for th in tags.iter().filter(|tag| tag.name == "th") {
            assert!(matches!(th.get("scope"), Some("col" | "row")), "{page}: a header without scope");
        }
        let regions = tags.iter().filter(|tag| tag.get("class") == Some("scroll"));
        for region in regions.clone() {
            assert!(region.get("aria-label").is_some_and(|label| !label.is_empty()), "{page}");
            assert_eq!(region.get("tabindex"), Some("0"), "{page}");
        }
        assert_eq!(regions.count(), count("table"), "{page}: a table outside a scrolling region");
        assert!(!html.contains("<th></th>"), "{page}: an empty header");
    });
}

#[test]
fn work_under_way_reloads_without_scripts_and_finished_pages_do_not() {
    every_page(|page, html, tags| {
        let live = tags.iter().any(|tag| tag.get("data-live").is_some());
        assert_eq!(html.contains("<noscript><meta http-equiv=\"refresh\""), live, "{page}");
        assert_eq!(tags.iter().any(|tag| tag.get("data-done").is_some()), live, "{page}");
    });
}

#[test]
fn a_change_is_told_by_glyph_word_and_element() {
    let html = samples_of("changes");
    for expected in ["<del>", "<ins>", "Modified", "Deleted", "Added", "\u{2212}", "was ", "now "] {
        assert!(html.contains(expected), "{expected}");
    }
}

#[test]
fn values_of_customers_are_escaped() {
    let html = samples_of("records");
    assert!(html.contains("Kettle &lt;steel&gt;"));
    assert!(!html.contains("<steel>"));
}

#[test]
fn documents_are_escaped_and_shown_whole() {
    for page in ["records-documents", "changes-documents"] {
        let html = samples_of(page);
        assert!(html.contains("Ada &lt;b&gt;Quist&lt;/b&gt;"), "{page}");
        assert!(html.contains("{&quot;$oid&quot;: &quot;65f0c0ffee65f0c0ffee65f0&quot;}"), "{page}");
    }
}

#[test]
fn snapshots_of_mixed_moments_say_so_wherever_they_are_chosen_or_compared() {
    for page in ["database-standalone", "snapshot-documents", "diff-documents"] {
        assert!(samples_of(page).to_lowercase().contains("not point-in-time"), "{page}");
    }
    for page in ["database", "snapshot", "diff", "changes"] {
        assert!(!samples_of(page).contains("ot point-in-time"), "{page}");
    }
}

/// The way on after a standalone server was refused is offered there and nowhere else.
#[test]
fn doing_without_one_moment_is_offered_only_where_it_was_the_reason() {
    assert!(samples_of("connect-standalone").contains("name=\"best_effort\""));
    for page in ["connect", "connect-refused", "connect-refused-user", "connect-unreachable"] {
        assert!(!samples_of(page).contains("best_effort"), "{page}");
    }
}

#[test]
fn pages_of_mongodb_speak_of_collections() {
    for page in ["snapshot-documents", "diff-documents", "restore-new-documents", "restore-plan-documents"] {
        let html = samples_of(page);
        let words = html.split_once("<main").expect("because every page has content").1.to_lowercase();
        assert!(words.contains("collection"), "{page}");
        for word in [">table", " tables", "table<", " rows"] {
            assert!(!words.contains(word), "{page}: {word}");
        }
    }
}

#[test]
fn passwords_never_come_back() {
    every_page(|page, _, tags| {
        for tag in tags.iter().filter(|tag| tag.get("type") == Some("password")) {
            assert_eq!(tag.get("value"), None, "{page}");
        }
    });
}

fn samples_of(name: &str) -> String {
    let samples = catalogue::samples();
    let (_, markup) = samples.into_iter().find(|(page, _)| *page == name).expect("because the page exists");
    markup.into_string()
}
