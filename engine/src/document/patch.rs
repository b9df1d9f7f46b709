//! How two documents differ.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use repo_format::bson::{Element, kind};
use serde::{Serialize, Serializer, ser};
use serde_json::value::RawValue;

use super::align::{self, numbered, pairs};
use super::json::{escape_invalid, extended_json, value_json};
use super::shape::{elements, equal_but_for_order, positional, regular};
use super::{DEEPEST, INVALID_NAME, Value, reserved};

/// An object or array whose patch has more steps than this is replaced whole if that is shorter by half.
const STEPS: usize = 1_000;

/// How two documents differ.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Differences {
    /// The documents are equal but for the order of fields, at any depth.
    pub order_only: bool,
    /// The names of the top-level fields that only one document has or whose values differ in any byte: those
    /// of the new document in its order, then those that it lacks.
    pub fields: Vec<String>,
    /// What makes the old document the new one; empty if they are equal, byte for byte.
    pub patch: Vec<Operation>,
}

/// One operation of RFC 6902 on a document in Extended JSON. Paths are JSON Pointers (RFC 6901). Applied in
/// order to the old document's form, keeping the order of fields and putting new ones last, they give the new
/// document's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Operation {
    /// Puts a field after all others, or an element before the one that is there now.
    Add {
        /// Where the value will be.
        path: String,
        /// The value.
        value: Json,
    },
    /// Takes a field or element away.
    Remove {
        /// Where it is.
        path: String,
    },
    /// Exchanges a value for another in the same place.
    Replace {
        /// Where it is; empty for the whole document.
        path: String,
        /// The value.
        value: Json,
    },
}

impl Operation {
    /// Bytes of its path and value.
    pub fn size(&self) -> usize {
        match self {
            Self::Add { path, value } | Self::Replace { path, value } => path.len() + value.0.len(),
            Self::Remove { path } => path.len(),
        }
    }
}

/// A value as the text of its Extended JSON; it serialises as that value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Json(pub String);

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

/// How `old` becomes `new`. The patch gives exactly the new document's bytes: where Extended JSON or JSON
/// Pointer cannot tell two things apart (names that come twice, text that is not UTF-8, broken bytes), it is
/// one replacement of the whole document. The same two documents always have the same patch, and the time it
/// takes is bounded.
pub fn differences(old: &[u8], new: &[u8]) -> Differences {
    if old == new {
        return Differences::default();
    }
    let mut patcher = Patcher { steps: Vec::new(), path: String::new(), budget: align::BUDGET };
    let (before, after) = (document(old), document(new));
    if regular(old) && regular(new) {
        patcher.value(before, after, 0);
    } else {
        patcher.push(Change::Replace(after));
    }
    Differences {
        order_only: equal_but_for_order(old, new),
        fields: changed_fields(old, new),
        patch: patcher.steps.into_iter().map(Step::operation).collect(),
    }
}

/// Whether two documents whose bytes differ hold the same but for the order of fields, at any depth.
pub fn differ_in_order_only(old: &[u8], new: &[u8]) -> bool {
    old != new && equal_but_for_order(old, new)
}

fn document(bytes: &[u8]) -> Value<'_> {
    Value { kind: kind::DOCUMENT, bytes }
}

fn changed_fields(old: &[u8], new: &[u8]) -> Vec<String> {
    let (old, new) = (elements(old).unwrap_or_default(), elements(new).unwrap_or_default());
    let (before, after) = (by_name(&old), by_name(&new));
    let mut seen = HashSet::new();
    let mut names = new.iter().chain(&old).map(|element| element.name).collect::<Vec<_>>();
    names.retain(|name| seen.insert(*name) && before.get(*name) != after.get(*name));
    let shown = |name: &[u8]| {
        std::str::from_utf8(name)
            .map_or_else(|_| format!("{INVALID_NAME}{}", escape_invalid(name)), str::to_owned)
    };
    names.into_iter().map(shown).collect()
}

fn by_name<'a>(elements: &[Element<'a>]) -> HashMap<&'a [u8], Vec<Value<'a>>> {
    let mut all: HashMap<_, Vec<_>> = HashMap::with_capacity(elements.len());
    for one in elements {
        all.entry(one.name).or_default().push(Value::of(one));
    }
    all
}

enum Change<'a> {
    Add(Value<'a>),
    Remove,
    Replace(Value<'a>),
}

struct Step<'a> {
    path: String,
    change: Change<'a>,
}

impl Step<'_> {
    /// About how long the operation is as text.
    fn cost(&self) -> usize {
        let value = match &self.change {
            Change::Add(value) | Change::Replace(value) => value.bytes.len(),
            Change::Remove => 0,
        };
        32 + self.path.len() + value
    }

    fn operation(self) -> Operation {
        let path = self.path;
        match self.change {
            Change::Add(value) => Operation::Add { path, value: Json(value_json(value)) },
            Change::Remove => Operation::Remove { path },
            Change::Replace(value) if path.is_empty() => {
                Operation::Replace { path, value: Json(extended_json(value.bytes)) }
            }
            Change::Replace(value) => Operation::Replace { path, value: Json(value_json(value)) },
        }
    }
}

struct Patcher<'a> {
    steps: Vec<Step<'a>>,
    /// Where the values are that are being compared, as a JSON Pointer.
    path: String,
    budget: u64,
}

impl<'a> Patcher<'a> {
    fn push(&mut self, change: Change<'a>) {
        self.steps.push(Step { path: self.path.clone(), change });
    }

    /// Runs `inner` with the path one level further in.
    fn at(&mut self, name: &str, inner: impl FnOnce(&mut Self)) {
        let len = self.path.len();
        self.path.push('/');
        self.path.push_str(&escaped(name));
        inner(self);
        self.path.truncate(len);
    }

    fn cost_since(&self, start: usize) -> usize {
        self.steps[start..].iter().map(Step::cost).sum()
    }

    fn replace_since(&mut self, start: usize, new: Value<'a>) {
        self.steps.truncate(start);
        self.push(Change::Replace(new));
    }

    /// Makes `old` into `new` at the path.
    fn value(&mut self, old: Value<'a>, new: Value<'a>, depth: usize) {
        if old == new {
            return;
        }
        let start = self.steps.len();
        let inside = match (old.kind, new.kind) {
            _ if depth > DEEPEST => None,
            (kind::DOCUMENT, kind::DOCUMENT) => self.object(old, new, depth),
            (kind::ARRAY, kind::ARRAY) => self.array(old, new, depth),
            _ => None,
        };
        let many = self.steps.len() - start > STEPS;
        if inside.is_none() || many && self.cost_since(start) > 2 * new.bytes.len() {
            self.replace_since(start, new);
        }
    }

    /// Fields of the old object that the new one has in the same order stay; the others go, and what the new
    /// one has after those is added at the end. If much would move that way, nothing is done.
    fn object(&mut self, old: Value<'a>, new: Value<'a>, depth: usize) -> Option<()> {
        let (old_fields, new_fields) = (fields(old.bytes, depth)?, fields(new.bytes, depth)?);
        let place: HashMap<&[u8], usize> =
            old_fields.iter().enumerate().map(|(at, one)| (one.name, at)).collect();
        let mut next = 0;
        let in_order = |field: &&Element<'a>| {
            let found = place.get(field.name).copied().filter(|&at| at >= next);
            next = found.map_or(next, |at| at + 1);
            found.is_some()
        };
        let stay = new_fields.iter().take_while(in_order).count();
        let (stay, added) = new_fields.split_at(stay);
        let moved: usize =
            added.iter().filter(|one| place.contains_key(one.name)).map(|one| one.value.len() + 32).sum();
        if 2 * moved > new.bytes.len() + 64 {
            return None;
        }
        let staying: HashSet<&[u8]> = stay.iter().map(|one| one.name).collect();
        for field in old_fields.iter().filter(|one| !staying.contains(one.name)) {
            self.at(&name_of(field), |patcher| patcher.push(Change::Remove));
        }
        for field in stay {
            let old = &old_fields[place[field.name]];
            self.at(&name_of(field), |patcher| patcher.value(Value::of(old), Value::of(field), depth + 1));
        }
        for field in added {
            self.at(&name_of(field), |patcher| patcher.push(Change::Add(Value::of(field))));
        }
        Some(())
    }

    /// Elements that are equal, or have an equal `_id` or `id`, stay; between them elements are exchanged one
    /// for one, and the rest removed or added. All before position `at` is as in the new array already.
    fn array(&mut self, old: Value<'a>, new: Value<'a>, depth: usize) -> Option<()> {
        let (old, new) = (items(old.bytes)?, items(new.bytes)?);
        let (old_keys, new_keys) =
            numbered(old.iter().map(identity).collect(), new.iter().map(identity).collect());
        let mut anchors = pairs(&old_keys, &new_keys, &mut self.budget);
        anchors.push((old.len(), new.len()));
        let (mut from, mut at) = (0, 0);
        for (anchor, counterpart) in anchors {
            let exchanged = (anchor - from).min(counterpart - at);
            for step in 0..exchanged {
                let (old, new) = (old[from + step], new[at + step]);
                self.at(&(at + step).to_string(), |patcher| patcher.exchange(old, new, depth + 1));
            }
            at += exchanged;
            for _ in from + exchanged..anchor {
                self.at(&at.to_string(), |patcher| patcher.push(Change::Remove));
            }
            while at < counterpart {
                self.at(&at.to_string(), |patcher| patcher.push(Change::Add(new[at])));
                at += 1;
            }
            if let (Some(&old), Some(&new)) = (old.get(anchor), new.get(counterpart)) {
                self.at(&at.to_string(), |patcher| patcher.value(old, new, depth + 1));
            }
            (from, at) = (anchor + 1, counterpart + 1);
        }
        Some(())
    }

    /// Two elements that only their position brings together: patched inside only if they share much.
    fn exchange(&mut self, old: Value<'a>, new: Value<'a>, depth: usize) {
        let start = self.steps.len();
        if id_of(&old).is_none() && id_of(&new).is_none() {
            self.value(old, new, depth);
        } else {
            self.push(Change::Replace(new));
        }
        if self.cost_since(start) > 32 + self.path.len() + new.bytes.len() {
            self.replace_since(start, new);
        }
    }
}

/// The fields of an object that a patch can go into: its form must be that of a document, and stay so.
fn fields(bytes: &[u8], depth: usize) -> Option<Vec<Element<'_>>> {
    let marked = |one: &Element<'_>| reserved(one.name) || one.name.starts_with(INVALID_NAME.as_bytes());
    elements(bytes).filter(|elements| depth == 0 || !elements.iter().any(marked))
}

/// The elements of an array that is shown as one.
fn items(bytes: &[u8]) -> Option<Vec<Value<'_>>> {
    let elements = elements(bytes).filter(|elements| positional(elements))?;
    Some(elements.iter().map(Value::of).collect())
}

/// What an element of an array is known by.
#[derive(PartialEq, Eq, Hash)]
enum Identity<'a> {
    Whole(Value<'a>),
    Id(&'a [u8], Value<'a>),
}

fn identity<'a>(item: &Value<'a>) -> Identity<'a> {
    id_of(item).map_or(Identity::Whole(*item), |(name, id)| Identity::Id(name, id))
}

/// The `_id` of an object, or its `id`.
fn id_of<'a>(item: &Value<'a>) -> Option<(&'a [u8], Value<'a>)> {
    let fields = if item.kind == kind::DOCUMENT { elements(item.bytes)? } else { return None };
    let named =
        |name: &[u8]| fields.iter().find(|one| one.name == name).map(|one| (one.name, Value::of(one)));
    named(b"_id").or_else(|| named(b"id"))
}

fn name_of<'a>(field: &Element<'a>) -> Cow<'a, str> {
    String::from_utf8_lossy(field.name)
}

/// A name as a token of a JSON Pointer.
fn escaped(name: &str) -> Cow<'_, str> {
    if name.contains(['~', '/']) {
        Cow::Owned(name.replace('~', "~0").replace('/', "~1"))
    } else {
        Cow::Borrowed(name)
    }
}
