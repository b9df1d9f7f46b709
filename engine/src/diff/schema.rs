//! What changed in a collection's schema, in words.
//!
//! Schema texts are JSON objects. Members that are lists of objects with a `name` (columns,
//! indexes, constraints, ..) are matched by that name; other members are compared whole.

use serde_json::{Map, Value};

use crate::catalog::Cataloged;

/// The changes from `old` to `new`, one line each; empty when the schemas are equal.
pub(crate) fn changes(old: &Cataloged, new: &Cataloged) -> Vec<String> {
    if old.schema == new.schema {
        return Vec::new();
    }
    if old.descriptor.schema_version != new.descriptor.schema_version {
        return vec!["not compared: the two sides describe schemas by different rules".to_owned()];
    }
    text_changes(&old.schema, &new.schema)
}

/// As [`changes`], for schema texts of one version.
pub(crate) fn text_changes(old: &str, new: &str) -> Vec<String> {
    let parse = |text: &str| serde_json::from_str::<Map<String, Value>>(text).unwrap_or_default();
    let (old, new) = (parse(old), parse(new));
    let mut members: Vec<&String> = old.keys().chain(new.keys()).collect();
    members.sort();
    members.dedup();
    let mut lines = Vec::new();
    for member in members {
        let (before, after) =
            (old.get(member).unwrap_or(&Value::Null), new.get(member).unwrap_or(&Value::Null));
        if before == after {
            continue;
        }
        match (named(before), named(after)) {
            (Some(before), Some(after)) => compare_named(singular(member), &before, &after, &mut lines),
            _ => {
                lines.push(format!("{}: {} → {}", words(member), shown(member, before), shown(member, after)))
            }
        }
    }
    lines
}

/// A list of objects with names, by name; `None` for anything else. An absent list is empty.
fn named(value: &Value) -> Option<Vec<(&str, &Map<String, Value>)>> {
    match value {
        Value::Null => Some(Vec::new()),
        Value::Array(items) => items
            .iter()
            .map(|item| {
                let object = item.as_object()?;
                Some((object.get("name")?.as_str()?, object))
            })
            .collect(),
        _ => None,
    }
}

fn compare_named(
    what: &str,
    before: &[(&str, &Map<String, Value>)],
    after: &[(&str, &Map<String, Value>)],
    lines: &mut Vec<String>,
) {
    for (name, new) in after {
        match before.iter().find(|(old_name, _)| old_name == name) {
            None => lines.push(format!("{what} {name} added{}", summary(new))),
            Some((_, old)) if old != new => {
                for member in old.keys().chain(new.keys().filter(|key| !old.contains_key(*key))) {
                    let (old, new) =
                        (old.get(member).unwrap_or(&Value::Null), new.get(member).unwrap_or(&Value::Null));
                    if old != new {
                        let (old, new) = (shown(member, old), shown(member, new));
                        lines.push(format!("{what} {name}: {} {old} → {new}", words(member)));
                    }
                }
            }
            Some(_) => {}
        }
    }
    for (name, old) in before {
        if !after.iter().any(|(new_name, _)| new_name == name) {
            lines.push(format!("{what} {name} removed{}", summary(old)));
        }
    }
    let order = |side: &[(&str, &Map<String, Value>)]| -> Vec<String> {
        side.iter().map(|(name, _)| (*name).to_owned()).collect()
    };
    if lines.is_empty() && order(before) != order(after) {
        lines.push(format!("the order of {what}s changed"));
    }
}

/// What an added or removed thing is: its definition, or its type.
fn summary(object: &Map<String, Value>) -> String {
    let told = object.get("definition").or_else(|| object.get("type")).and_then(Value::as_str);
    told.map(|told| format!(": {told}")).unwrap_or_default()
}

fn singular(member: &str) -> &str {
    match member {
        "indexes" => "index",
        "policies" => "policy",
        other => other.strip_suffix('s').unwrap_or(other),
    }
}

fn words(member: &str) -> String {
    member.replace('_', " ")
}

fn shown(member: &str, value: &Value) -> String {
    match value {
        Value::Null => absent(member).to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// What a member that is not there stands for: a state that is the usual one is not written down.
fn absent(member: &str) -> &'static str {
    match member {
        "enabled" => "on origin",
        "replica_identity" => "default",
        "row_security" => "disabled",
        "unlogged" => "false",
        _ => "none",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_told_by_name() {
        let old =
            r#"{"columns":[{"name":"id","type":"integer"},{"name":"old","type":"text"}],"kind":"table"}"#;
        let new = r#"{"columns":[{"name":"id","type":"bigint"},{"name":"email","type":"text"}],
            "indexes":[{"definition":"CREATE INDEX i ON t (email)","name":"i"}],"kind":"table"}"#;
        assert_eq!(
            text_changes(old, new),
            [
                "column id: type integer → bigint",
                "column email added: text",
                "column old removed: text",
                "index i added: CREATE INDEX i ON t (email)",
            ]
        );
        assert_eq!(text_changes(old, old), Vec::<String>::new());
    }

    #[test]
    fn usual_states_are_called_by_their_names() {
        let old = r#"{"replica_identity":"full","triggers":[{"definition":"x","enabled":"always","name":"a"},
            {"definition":"x","name":"b"}]}"#;
        let new = r#"{"row_security":"forced","triggers":[{"definition":"x","name":"a"},
            {"definition":"x","enabled":"disabled","name":"b"}],"unlogged":true}"#;
        assert_eq!(
            text_changes(old, new),
            [
                "replica identity: full → default",
                "row security: disabled → forced",
                "trigger a: enabled always → on origin",
                "trigger b: enabled on origin → disabled",
                "unlogged: false → true",
            ]
        );
    }
}
