//! Documents for lists and pages, which have room for so much.

use super::Value;
use super::json::{extended_json, name_json, value_json};
use super::shape::elements;

/// The document as [`extended_json`] has it, in `most` bytes or hardly more: of fields that do not
/// fit only the size is told, as `{"$truncated":<bytes of BSON>}`. Says whether any was cut.
pub fn shown(document: &[u8], most: usize) -> (String, bool) {
    let whole = extended_json(document);
    let elements = match elements(document) {
        Some(elements) if whole.len() > most => elements,
        _ => return (whole, false),
    };
    let (mut out, mut more) = (String::from("{"), "");
    for element in elements {
        // The names alone of very many fields are too much, too.
        if out.len() > most {
            out.push_str(r#","$truncated":true"#);
            break;
        }
        let value = value_json(Value::of(&element));
        let fits = out.len() + value.len() <= most;
        let value = if fits { value } else { format!(r#"{{"$truncated":{}}}"#, element.value.len()) };
        out.push_str(more);
        out.push_str(&name_json(element.name));
        out.push(':');
        out.push_str(&value);
        more = ",";
    }
    out.push('}');
    (out, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{RawDocumentBuf, rawdoc};
    use serde_json::Value as Json;

    fn parsed(document: &RawDocumentBuf, most: usize) -> (Json, bool) {
        let (text, cut) = shown(document.as_bytes(), most);
        (serde_json::from_str(&text).unwrap(), cut)
    }

    #[test]
    fn a_long_field_is_told_by_its_size_and_the_rest_is_shown() {
        let document = rawdoc! { "_id": 1, "long": "x".repeat(100_000), "short": true };
        let (json, cut) = parsed(&document, 1000);
        assert!(cut);
        assert_eq!(json["_id"]["$numberInt"], "1");
        assert_eq!(json["long"]["$truncated"], 100_005);
        assert_eq!(json["short"], true);
        assert!(!parsed(&document, 200_000).1);
    }

    #[test]
    fn very_many_fields_end_somewhere() {
        let fields: bson::Document = (0..10_000).map(|at| (format!("field{at}"), at.into())).collect();
        let document = RawDocumentBuf::try_from(&fields).unwrap();
        let (text, cut) = shown(document.as_bytes(), 1000);
        assert!(cut && text.len() < 1200, "{}", text.len());
        assert_eq!(serde_json::from_str::<Json>(&text).unwrap()["$truncated"], true);
    }
}
