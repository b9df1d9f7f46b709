//! Changes of documents as pages show them: what the patch leaves unsaid is looked up in the older
//! document. Values stay texts, so that nothing of them is lost.

use engine::diff;
use serde_json::value::RawValue;
use web::pages::changes::{Difference, Step};

/// JSON taken apart as far as a patch goes into it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Object(Vec<(String, Node)>),
    Array(Vec<Element>),
    /// A string, number or word, as it stands.
    Plain(String),
}

/// An element of an array, and where it was before any operation.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Element {
    was: Option<usize>,
    node: Node,
}

/// The differences that a patch makes, with the values that go. `old` is the older document, which
/// may have been cut: then some of those values cannot be told. None where the patch exchanges the
/// whole document, of which there is nothing to say field by field.
pub fn differences(old: &str, patch: &[diff::Operation]) -> Option<Vec<Difference>> {
    let mut tree = Node::parse(old);
    let mut found = Vec::with_capacity(patch.len());
    for operation in patch {
        let tree = tree.as_mut();
        let step = match operation {
            diff::Operation::Add { path, value } => {
                tree.map(|tree| tree.add(path, &value.0));
                Difference { path: path.clone(), step: Step::Added(value.0.clone()) }
            }
            diff::Operation::Remove { path } => match tree.and_then(|tree| tree.remove(path)) {
                Some((at, node)) => Difference { path: at, step: Step::Removed(Some(node.text())) },
                None => Difference { path: path.clone(), step: Step::Removed(None) },
            },
            diff::Operation::Replace { path, .. } if path.is_empty() => return None,
            diff::Operation::Replace { path, value } => {
                let before = tree.and_then(|tree| tree.replace(path, &value.0)).map(|node| node.text());
                Difference { path: path.clone(), step: Step::Replaced(before, value.0.clone()) }
            }
        };
        found.push(step);
    }
    Some(with_moves(found))
}

/// What was removed in one place of an object or array and added in another of the same was moved.
/// It is told once, where it is now.
fn with_moves(mut differences: Vec<Difference>) -> Vec<Difference> {
    let mut at = 0;
    while at < differences.len() {
        let Difference { path: to, step: Step::Added(value) } = &differences[at] else {
            at += 1;
            continue;
        };
        let from = differences.iter().position(|other| {
            parent(&other.path) == parent(to)
                && matches!(&other.step, Step::Removed(Some(gone)) if gone == value)
        });
        match from {
            Some(from) => {
                differences[at].step = Step::Moved(differences[from].path.clone());
                differences.remove(from);
                // What followed the removed one has come a place nearer.
                at += usize::from(from > at);
            }
            None => at += 1,
        }
    }
    differences
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

impl Node {
    /// None for text that is not JSON, or nested deeper than anybody looks.
    fn parse(text: &str) -> Option<Self> {
        Self::of(serde_json::from_str(text).ok()?)
    }

    fn of(raw: &RawValue) -> Option<Self> {
        let text = raw.get();
        match text.as_bytes().first()? {
            b'{' => {
                let Fields(fields) = serde_json::from_str(text).ok()?;
                let nodes = fields.into_iter().map(|(name, raw)| Some((name, Self::of(raw)?)));
                nodes.collect::<Option<_>>().map(Self::Object)
            }
            b'[' => {
                let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
                let elements = items.into_iter().enumerate();
                let nodes = elements.map(|(at, raw)| Some(Element { was: Some(at), node: Self::of(raw)? }));
                nodes.collect::<Option<_>>().map(Self::Array)
            }
            _ => Some(Self::Plain(text.to_owned())),
        }
    }

    fn text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Plain(text) => out.push_str(text),
            Self::Array(elements) => {
                out.push('[');
                for (at, element) in elements.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    element.node.write(out);
                }
                out.push(']');
            }
            Self::Object(fields) => {
                out.push('{');
                for (at, (name, node)) in fields.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    out.push_str(&serde_json::Value::from(name.as_str()).to_string());
                    out.push(':');
                    node.write(out);
                }
                out.push('}');
            }
        }
    }

    /// Goes to what the path's last name is in.
    fn holder(&mut self, path: &str) -> Option<(&mut Self, String)> {
        let (way, last) = path.rsplit_once('/')?;
        let mut node = self;
        for name in way.split('/').skip(1) {
            let name = unescaped(name);
            node = match node {
                Self::Object(fields) => &mut fields.iter_mut().find(|(known, _)| *known == name)?.1,
                Self::Array(elements) => &mut elements.get_mut(name.parse::<usize>().ok()?)?.node,
                Self::Plain(_) => return None,
            };
        }
        Some((node, unescaped(last)))
    }

    fn add(&mut self, path: &str, value: &str) -> Option<()> {
        let node = Self::parse(value)?;
        match self.holder(path)? {
            (Self::Object(fields), name) => fields.push((name, node)),
            (Self::Array(elements), name) => {
                let at = name.parse::<usize>().ok().filter(|at| *at <= elements.len())?;
                elements.insert(at, Element { was: None, node });
            }
            (Self::Plain(_), _) => return None,
        }
        Some(())
    }

    /// Takes a value out, and says where it was in the older document: elements before it may have
    /// come and gone.
    fn remove(&mut self, path: &str) -> Option<(String, Self)> {
        match self.holder(path)? {
            (Self::Object(fields), name) => {
                let at = fields.iter().position(|(known, _)| *known == name)?;
                Some((path.to_owned(), fields.remove(at).1))
            }
            (Self::Array(elements), name) => {
                let at = name.parse::<usize>().ok().filter(|at| *at < elements.len())?;
                let Element { was, node } = elements.remove(at);
                Some((format!("{}/{}", parent(path), was.unwrap_or(at)), node))
            }
            (Self::Plain(_), _) => None,
        }
    }

    fn replace(&mut self, path: &str, value: &str) -> Option<Self> {
        let node = Self::parse(value)?;
        let place = match self.holder(path)? {
            (Self::Object(fields), name) => &mut fields.iter_mut().find(|(known, _)| *known == name)?.1,
            (Self::Array(elements), name) => &mut elements.get_mut(name.parse::<usize>().ok()?)?.node,
            (Self::Plain(_), _) => return None,
        };
        Some(std::mem::replace(place, node))
    }
}

/// A name of a JSON pointer (RFC 6901).
fn unescaped(name: &str) -> String {
    name.replace("~1", "/").replace("~0", "~")
}

/// An object's fields in their order, repeated ones too.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Fields<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Visitor).map(Fields)
    }
}

#[cfg(test)]
mod tests {
    use engine::document;

    use super::*;

    /// What the page says of two documents, through the engine's own patch.
    fn said(old: &str, new: &str) -> Vec<String> {
        let bytes = |text: &str| document::from_extended_json(text).unwrap();
        let found = document::differences(&bytes(old), &bytes(new));
        let differences = differences(old, &found.patch).unwrap();
        let word = |difference: &Difference| match &difference.step {
            Step::Added(new) => format!("{} + {new}", difference.path),
            Step::Removed(old) => format!("{} - {}", difference.path, old.as_deref().unwrap_or("?")),
            Step::Replaced(old, new) => {
                format!("{} {} -> {new}", difference.path, old.as_deref().unwrap_or("?"))
            }
            Step::Moved(from) => format!("{} was {from}", difference.path),
        };
        differences.iter().map(word).collect()
    }

    #[test]
    fn values_that_go_are_found_in_the_older_document() {
        let old = r#"{"_id":1,"qty":{"$numberInt":"3"},"a/b":{"c":"x"},"gone":[true]}"#;
        let new = r#"{"_id":1,"qty":{"$numberLong":"3"},"a/b":{"c":"y"},"new":null}"#;
        let expected = [
            r#"/gone - [true]"#,
            r#"/qty {"$numberInt":"3"} -> {"$numberLong":"3"}"#,
            r#"/a~1b/c "x" -> "y""#,
            "/new + null",
        ];
        assert_eq!(said(old, new), expected);
    }

    #[test]
    fn removed_elements_are_named_as_they_were_numbered_before() {
        let old = r#"{"t":["a","b","c","d"]}"#;
        assert_eq!(said(old, r#"{"t":["c","d","e"]}"#), [r#"/t/0 - "a""#, r#"/t/1 - "b""#, r#"/t/2 + "e""#]);
    }

    #[test]
    fn what_only_changed_its_place_was_moved() {
        let old = r#"{"_id":1,"l":[{"id":"k","n":{"$numberInt":"1"}},{"id":"u","n":{"$numberInt":"2"}},{"id":"z"}]}"#;
        let new = r#"{"_id":1,"l":[{"id":"u","n":{"$numberInt":"2"}},{"id":"z"},{"id":"k","n":{"$numberInt":"1"}}]}"#;
        assert_eq!(said(old, new), ["/l/2 was /l/0"]);
        let old =
            r#"{"_id":1,"a":"x","b":"y","c":"zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz"}"#;
        let new =
            r#"{"_id":1,"b":"y","c":"zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz","a":"x"}"#;
        assert_eq!(said(old, new), ["/a was /a"]);
    }

    #[test]
    fn a_document_that_was_cut_leaves_older_values_untold() {
        let patch = [diff::Operation::Replace {
            path: "/long/0".to_owned(),
            value: document::Json("\"b\"".to_owned()),
        }];
        let cut = r#"{"_id":1,"long":{"$truncated":100000}}"#;
        let step = Step::Replaced(None, "\"b\"".to_owned());
        assert_eq!(differences(cut, &patch), Some(vec![Difference { path: "/long/0".to_owned(), step }]));
    }

    #[test]
    fn an_exchange_of_the_whole_document_is_not_told_field_by_field() {
        let patch =
            [diff::Operation::Replace { path: String::new(), value: document::Json("{}".to_owned()) }];
        assert_eq!(differences("{}", &patch), None);
    }
}
