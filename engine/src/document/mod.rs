//! Documents: BSON as people read it, and how two of them differ.
//!
//! Everything here works on the raw bytes of a document, because a parsed one has lost what must not be lost:
//! field names that come twice, text that is not UTF-8, the order of fields.
//!
//! **Extended JSON.** The form is canonical Extended JSON v2. Extended JSON cannot say everything that BSON
//! can hold; what it cannot say is marked, and [`from_extended_json`] reads the marks back, byte for byte:
//!
//! | in BSON | here |
//! |---|---|
//! | text that is not UTF-8 | `{"$invalidUtf8":"caf\\xe9"}`: wrong bytes as `\xe9`, backslashes doubled |
//! | a field name that is not UTF-8 | `"$invalidUtf8:caf\\xe9"` |
//! | an embedded document that reads as a typed value, such as `{$oid: "a"}` | `{"$document":{"$oid":"a"}}` |
//! | an array whose names are not 0, 1, 2, … | `{"$array":{"a":…}}` |
//! | NaN, or a decimal, in another than its usual bits | beside its number `"$bits"`, in hexadecimal |
//! | anything else: broken bytes, nesting over 250 levels | `{"$bson":{"type":"03","base64":"…"}}` |
//!
//! ```
//! use engine::document::{differences, extended_json, from_extended_json};
//!
//! let old = from_extended_json(r#"{"_id":{"$numberInt":"1"},"tags":["a","c"]}"#).expect("a document");
//! let new = from_extended_json(r#"{"_id":{"$numberLong":"1"},"tags":["a","b","c"]}"#).expect("a document");
//! assert_eq!(extended_json(&new), r#"{"_id":{"$numberLong":"1"},"tags":["a","b","c"]}"#);
//! let found = differences(&old, &new);
//! assert_eq!(found.fields, ["_id", "tags"]);
//! let patch = serde_json::to_string(&found.patch).expect("JSON");
//! assert!(patch.contains(r#"{"op":"add","path":"/tags/1","value":"b"}"#));
//! ```

mod align;
mod id;
mod json;
mod patch;
mod read;
mod shape;
mod shown;

pub use id::{id_from_text, readable_id};
pub use json::{extended_json, extended_json_pretty};
pub use patch::{Differences, Json, Operation, differ_in_order_only, differences};
pub use read::from_extended_json;
pub(crate) use shape::regular;
pub use shown::shown;

/// The deepest nesting that is shown and compared inside. MongoDB stores at most 180 levels; a limit keeps
/// hostile bytes from exhausting the stack.
const DEEPEST: usize = 250;

/// The name of a field that marks what follows it as text that is not UTF-8, with wrong bytes escaped.
const INVALID: &str = "$invalidUtf8";
/// The beginning of a field name that is not UTF-8.
const INVALID_NAME: &str = "$invalidUtf8:";

/// Names that make an object of Extended JSON something else than a document.
const RESERVED: [&str; 21] = [
    "$array",
    "$binary",
    "$bits",
    "$bson",
    "$code",
    "$date",
    "$dbPointer",
    "$document",
    INVALID,
    "$maxKey",
    "$minKey",
    "$numberDecimal",
    "$numberDouble",
    "$numberInt",
    "$numberLong",
    "$oid",
    "$regularExpression",
    "$symbol",
    "$timestamp",
    "$undefined",
    "$uuid",
];

fn reserved(name: &[u8]) -> bool {
    name.first() == Some(&b'$') && RESERVED.iter().any(|reserved| reserved.as_bytes() == name)
}

/// A value without its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Value<'a> {
    kind: u8,
    bytes: &'a [u8],
}

impl<'a> Value<'a> {
    fn of(element: &repo_format::bson::Element<'a>) -> Self {
        Self { kind: element.kind, bytes: element.value }
    }
}
