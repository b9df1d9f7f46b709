//! What a collection's definition does to documents that are written, read off its schema text. Pure.

use serde_json::Value;

/// What there is to know of a definition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Definition {
    /// Whether indexes beside that of `_id` let a value be there only once.
    pub has_unique_values: bool,
    /// Whether the server deletes documents after a time.
    pub expires: bool,
    /// Whether documents are judged when they are written.
    pub validates: bool,
    /// How documents are stored by `_id`, as the server says it.
    pub clustered: Option<String>,
}

impl Definition {
    /// Reads a normalised schema text. What it does not tell is not there.
    pub(crate) fn of(schema: &str) -> Self {
        let schema: Value = serde_json::from_str(schema).unwrap_or_default();
        let mut found = Self::default();
        for (name, definition) in members(&schema, "options") {
            match name {
                "clusteredIndex" => found.clustered = Some(definition.to_owned()),
                "expireAfterSeconds" => found.expires = true,
                // An empty one judges nothing.
                "validator" => found.validates = definition != "{}",
                _ => {}
            }
        }
        for (_, definition) in members(&schema, "indexes") {
            // A name that comes twice makes no difference to what is asked here.
            let index: Value = serde_json::from_str(definition).unwrap_or_default();
            let is_on = |option: &str| index.get(option).is_some_and(|value| !is_off(value));
            found.expires |= index.get("expireAfterSeconds").is_some();
            let is_of_id = index.get("key").is_some_and(|key| *key == serde_json::json!({ "_id": 1 }));
            found.has_unique_values |= !is_of_id && (is_on("unique") || is_on("prepareUnique"));
        }
        found
    }
}

fn is_off(value: &Value) -> bool {
    *value == Value::Bool(false) || value.as_f64() == Some(0.0) || value.is_null()
}

/// Names and definitions of a schema's options or indexes.
fn members<'s>(schema: &'s Value, of: &str) -> impl Iterator<Item = (&'s str, &'s str)> {
    let members = schema.get(of).and_then(Value::as_array).into_iter().flatten();
    members.filter_map(|member| Some((member.get("name")?.as_str()?, member.get("definition")?.as_str()?)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(options: &[(&str, &str)], indexes: &[&str]) -> Definition {
        let named = |(name, definition): &(&str, &str)| json!({ "name": name, "definition": definition });
        let options: Vec<Value> = options.iter().map(named).collect();
        let indexes: Vec<Value> = indexes.iter().map(|definition| named(&("i", definition))).collect();
        let schema = json!({ "kind": "collection", "options": options, "indexes": indexes });
        Definition::of(&schema.to_string())
    }

    #[test]
    fn what_judges_or_deletes_documents_is_seen() {
        let plain =
            of(&[("collation", r#"{"locale":"de"}"#), ("validator", "{}")], &[r#"{"key":{"_id":1}}"#]);
        assert_eq!(plain, Definition::default());
        assert!(of(&[], &[r#"{"key":{"a":1},"unique":true}"#]).has_unique_values);
        assert!(of(&[], &[r#"{"key":{"a":1},"unique":1}"#]).has_unique_values);
        assert!(!of(&[], &[r#"{"key":{"a":1},"unique":false}"#]).has_unique_values);
        assert!(!of(&[], &[r#"{"key":{"_id":1},"unique":true}"#]).has_unique_values);
        assert!(of(&[], &[r#"{"key":{"at":1},"expireAfterSeconds":60}"#]).expires);
        assert!(of(&[("expireAfterSeconds", "60")], &[]).expires);
        assert!(of(&[("validator", r#"{"a":{"$exists":true}}"#)], &[]).validates);
        let clustered = of(&[("clusteredIndex", r#"{"key":{"_id":1}}"#)], &[]);
        assert_eq!(clustered.clustered.as_deref(), Some(r#"{"key":{"_id":1}}"#));
    }
}
