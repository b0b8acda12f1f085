//! The shapes of `--json`, and that `docs/json.md` names every field.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::place::Place;

pub(crate) const DOCUMENT: &str = include_str!("../../../../docs/json.md");

pub(crate) fn fields(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(entries) => {
            for (name, value) in entries {
                names.insert(name.clone());
                fields(value, names);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| fields(item, names)),
        _ => {}
    }
}

#[test]
fn the_shapes_are_stable() {
    let place = Place::with_repository();
    insta::assert_snapshot!("json_error", place.run(&["list", "--json"]).stdout);
    insta::assert_snapshot!("json_check", place.run(&["config", "check", "--json"]).stdout);
    place.run(&["init"]).expect(0);
    insta::assert_snapshot!("json_list", place.run(&["list", "--json"]).stdout);
    insta::assert_snapshot!("json_status", place.run(&["status", "--json"]).stdout);
}

#[test]
fn every_line_is_an_object_and_every_field_is_documented() {
    let place = Place::with_repository();
    let mut names = BTreeSet::new();
    for verb in [
        &["list"][..],
        &["init"],
        &["list"],
        &["status"],
        &["timeline", "orders"],
        &["verify"],
        &["doctor"],
        &["backup", "orders"],
        &["config", "check"],
        &["config", "show"],
        &["config", "nonsense"],
        &["completions", "bash"],
    ] {
        let arguments: Vec<&str> = verb.iter().copied().chain(["--json"]).collect();
        let ran = place.run(&arguments);
        let lines = ran.json();
        assert!(!lines.is_empty(), "{verb:?}: {}", ran.all());
        for line in lines {
            assert!(line.is_object(), "{verb:?}: {line}");
            fields(&line, &mut names);
        }
    }
    for name in names {
        assert!(
            DOCUMENT.contains(&format!("`{name}`")),
            "docs/json.md does not name `{name}`"
        );
    }
}

#[test]
fn quiet_leaves_standard_error_to_warnings_and_errors() {
    let place = Place::with_repository();
    let ran = place.run(&["init", "--quiet"]).expect(0);
    assert_eq!(ran.stderr, "");
}
