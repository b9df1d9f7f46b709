//! What can be said of documents without showing them.

use std::collections::HashSet;

use repo_format::bson::{self, Element, Elements, kind};

use super::{DEEPEST, INVALID_NAME};

/// All elements, or nothing where the bytes are broken.
pub(super) fn elements(document: &[u8]) -> Option<Vec<Element<'_>>> {
    Elements::new(document).ok()?.collect::<Result<_, _>>().ok()
}

/// Whether the names are 0, 1, 2 and so on, as an array's must be.
pub(super) fn positional(elements: &[Element<'_>]) -> bool {
    elements.iter().enumerate().all(|(at, element)| element.name == at.to_string().as_bytes())
}

/// Whether a patch can address everything in the document: no name comes twice in one object, all text is
/// UTF-8, nothing is broken or nested too deep.
pub(crate) fn regular(document: &[u8]) -> bool {
    let hidden = |name: &[u8]| name == b"$bson" || name.starts_with(INVALID_NAME.as_bytes());
    regular_within(document, kind::DOCUMENT, 0)
        && elements(document).is_some_and(|elements| !elements.iter().any(|element| hidden(element.name)))
}

fn regular_within(document: &[u8], kind: u8, depth: usize) -> bool {
    let Some(elements) = elements(document).filter(|_| depth <= DEEPEST) else { return false };
    let named = kind == kind::ARRAY && positional(&elements)
        || unique(&elements) && elements.iter().all(|one| utf8(one.name));
    named && elements.iter().all(|element| regular_value(element, depth + 1))
}

fn regular_value(element: &Element<'_>, depth: usize) -> bool {
    let value = element.value;
    let found = match element.kind {
        kind::DOCUMENT | kind::ARRAY => Ok(regular_within(value, element.kind, depth)),
        kind::STRING | kind::CODE | kind::SYMBOL => bson::text(value).map(utf8),
        kind::REGEX => bson::regex(value).map(|(pattern, options)| utf8(pattern) && utf8(options)),
        kind::DB_POINTER => bson::db_pointer(value).map(|(namespace, _)| utf8(namespace)),
        kind::CODE_WITH_SCOPE => bson::code_with_scope(value)
            .map(|(code, scope)| utf8(code) && regular_within(scope, kind::DOCUMENT, depth)),
        _ => Ok(true),
    };
    found == Ok(true)
}

fn utf8(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok()
}

fn unique(elements: &[Element<'_>]) -> bool {
    if elements.len() <= 16 {
        return elements
            .iter()
            .enumerate()
            .all(|(at, one)| elements[..at].iter().all(|other| other.name != one.name));
    }
    let mut seen = HashSet::with_capacity(elements.len());
    elements.iter().all(|element| seen.insert(element.name))
}

/// Whether two documents are equal once the fields of every object are sorted by name.
pub(super) fn equal_but_for_order(old: &[u8], new: &[u8]) -> bool {
    // Sorting changes no length, and almost every pair ends here.
    old.len() == new.len() && equal_sorted(old, new, 0)
}

fn equal_sorted(old: &[u8], new: &[u8], depth: usize) -> bool {
    if old == new {
        return true;
    }
    let (Some(mut old), Some(mut new)) = (elements(old), elements(new)) else { return false };
    if old.len() != new.len() || depth > DEEPEST {
        return false;
    }
    // Stable, so that fields of one name stay in their order.
    old.sort_by_key(|element| element.name);
    new.sort_by_key(|element| element.name);
    old.iter().zip(&new).all(|(old, new)| {
        old.kind == new.kind
            && old.name == new.name
            && match old.kind {
                kind::DOCUMENT | kind::ARRAY => equal_sorted(old.value, new.value, depth + 1),
                _ => old.value == new.value,
            }
    })
}
