//! The JSON schema of `ballast.toml`, made from the list of keys.

use serde_json::{Map, Value, json};

use super::keys::{Key, Kind, keys_in};

/// Durations as they are written: a number and a unit.
const DURATION_PATTERN: &str = r"^\s*[0-9.]+\s*(ms|s|m|h|d|w)\s*$";

pub(crate) fn schema() -> Value {
    let mut schema = table("");
    let head = [
        ("$schema", "https://json-schema.org/draft/2020-12/schema"),
        ("title", "ballast.toml"),
        ("description", "The configuration of Ballast"),
    ];
    for (name, text) in head {
        schema.insert(name.to_owned(), json!(text));
    }
    schema.insert("$defs".to_owned(), json!({ "secret": secret() }));
    Value::Object(schema)
}

fn table(path: &str) -> Map<String, Value> {
    let properties: Map<String, Value> = keys_in(path)
        .map(|key| (key.split().1.to_owned(), property(key)))
        .collect();
    let required: Vec<&str> = keys_in(path)
        .filter(|key| key.required)
        .map(|key| key.split().1)
        .collect();
    let mut table = Map::new();
    table.insert("type".to_owned(), json!("object"));
    table.insert("properties".to_owned(), Value::Object(properties));
    if !required.is_empty() {
        table.insert("required".to_owned(), json!(required));
    }
    table.insert("additionalProperties".to_owned(), json!(false));
    table
}

fn property(key: &Key) -> Value {
    let mut property = match key.kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Texts => json!({ "type": "array", "items": { "type": "string" } }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Number => json!({ "type": "integer", "minimum": 1 }),
        Kind::Duration => json!({ "type": "string", "pattern": DURATION_PATTERN }),
        Kind::Choice(words) => json!({ "enum": words }),
        Kind::Secret => json!({ "$ref": "#/$defs/secret" }),
        Kind::Table => Value::Object(table(key.path)),
        Kind::Tables => json!({ "type": "array", "items": table(key.path) }),
    };
    property["description"] = json!(key.about);
    if let Some(text) = key.default {
        property["default"] = if key.kind == Kind::Flag {
            json!(text == "true")
        } else {
            json!(text)
        };
    }
    property
}

fn secret() -> Value {
    let one = |name: &str, value: Value| json!({ "type": "object", "properties": { name: value }, "required": [name], "additionalProperties": false });
    json!({
        "description": "where a secret is kept; never the secret itself",
        "oneOf": [
            one("env", json!({ "type": "string", "minLength": 1 })),
            one("file", json!({ "type": "string", "minLength": 1 })),
            one("command", json!({ "type": "array", "items": { "type": "string" }, "minItems": 1 })),
        ]
    })
}
