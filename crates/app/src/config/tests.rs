//! The reader, the schema, the reference file and the documentation know the same keys.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::keys::{KEYS, Kind};
use super::sections::read;
use super::{Config, KeyRef, Mistake, schema};

const REFERENCE: &str = include_str!("../../reference.toml");
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/config.md");

const SMALL: &str = r#"
[[repository]]
name = "local"
url = "file:///var/backups/x"
[key]
passphrase = { env = "P" }
"#;

fn good(text: &str) -> Config {
    read(Path::new("/etc/ballast/ballast.toml"), text).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"))
}

fn mistakes(text: &str) -> Vec<Mistake> {
    read(Path::new("ballast.toml"), text).expect_err("the text has mistakes")
}

fn all_keys() -> BTreeSet<String> {
    KEYS.iter().map(|key| key.path.to_owned()).collect()
}

/// The keys the reference file names, also those that are commented out because they exclude one another.
fn reference_keys() -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let mut table = String::new();
    for line in REFERENCE.lines() {
        if let Some(header) = line.strip_prefix('[') {
            table = header.trim_matches(['[', ']']).to_owned();
            keys.insert(table.clone());
            continue;
        }
        let line = line.strip_prefix('#').unwrap_or(line);
        if let Some((key, _)) = line
            .split_once(" = ")
            .filter(|(key, _)| !key.is_empty() && !key.contains(' '))
        {
            keys.insert(if table.is_empty() {
                key.to_owned()
            } else {
                format!("{table}.{key}")
            });
        }
    }
    keys
}

fn schema_keys(table: &Value, path: &str, keys: &mut BTreeSet<String>) {
    for (name, property) in table["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        let inner = if property["type"] == "array" {
            &property["items"]
        } else {
            property
        };
        schema_keys(inner, &path, keys);
        keys.insert(path);
    }
}

#[test]
fn the_reference_names_every_key_and_has_no_mistake() {
    assert_eq!(reference_keys(), all_keys());
    let config = good(REFERENCE);
    assert_eq!((config.repositories.len(), config.sources.len()), (2, 1));
    let other = REFERENCE
        .replace("passphrase = {", "#passphrase = {")
        .replace("#key_file", "key_file");
    assert!(matches!(good(&other).key, KeyRef::KeyFile(_)));
}

#[test]
fn the_schema_names_every_key() {
    let mut keys = BTreeSet::new();
    schema_keys(&schema::schema(), "", &mut keys);
    assert_eq!(keys, all_keys());
}

#[test]
fn the_reader_knows_no_key_beside_the_list() {
    for key in KEYS
        .iter()
        .filter(|key| !matches!(key.kind, Kind::Table | Kind::Tables))
    {
        let (table, name) = key.split();
        // The same key with a letter more, at its place in the reference.
        let mut inside = table.is_empty();
        let misspelt: Vec<String> = REFERENCE
            .lines()
            .map(|line| {
                if let Some(header) = line.strip_prefix('[') {
                    inside = header.trim_matches(['[', ']']) == table;
                }
                let here = inside && line.trim_start_matches('#').starts_with(&format!("{name} = "));
                if here {
                    format!("{name}x{}", &line.trim_start_matches('#')[name.len()..])
                } else {
                    line.to_owned()
                }
            })
            .collect();
        let found = mistakes(&misspelt.join("\n"));
        let unknown = format!("unknown key \"{name}x\"");
        assert!(
            found.iter().any(|mistake| mistake.message.starts_with(&unknown)),
            "{}: {found:#?}",
            key.path
        );
        let hint = Some(format!("did you mean \"{name}\"?"));
        assert!(
            found.iter().any(|mistake| mistake.hint == hint),
            "{}: {found:#?}",
            key.path
        );
    }
}

#[test]
fn the_documented_defaults_are_the_defaults() {
    let written: Vec<(String, String)> = good(REFERENCE)
        .values
        .iter()
        .map(|value| {
            (
                value
                    .key
                    .replace("source.orders", "source")
                    .replace("repository.cloud", "repository"),
                value,
            )
        })
        .map(|(key, value)| {
            (
                key,
                value
                    .value
                    .as_str()
                    .map_or_else(|| value.value.to_string(), str::to_owned),
            )
        })
        .collect();
    for key in KEYS {
        let Some(default) = key.default else { continue };
        let shown = written
            .iter()
            .find(|(path, _)| path == key.path)
            .map(|(_, value)| value.as_str());
        assert_eq!(shown, Some(default), "{}", key.path);
    }
}

#[test]
fn the_smallest_configuration_has_the_defaults_of_the_contract() {
    let config = good(SMALL);
    assert_eq!(
        (config.objectives.rpo.as_secs(), config.objectives.rto.as_secs()),
        (3600, 14_400)
    );
    let zone = config.values.iter().find(|value| value.key == "time_zone").unwrap();
    assert_eq!((&zone.value, zone.line), (&Value::from("UTC"), None));
}

#[test]
fn paths_count_from_the_folder_of_the_file() {
    let config = good(&SMALL.replace("env = \"P\"", "file = \"secret\""));
    assert_eq!(format!("{:?}", config.key), "Passphrase(File(\"/etc/ballast/secret\"))");
}

#[test]
fn mistakes_of_syntax_are_placed_too() {
    let found = mistakes("a = 1\nb = \n[x\n");
    assert_eq!(found[0].line, 2, "{found:#?}");
    assert!(found.iter().any(|mistake| mistake.line == 3), "{found:#?}");
}

#[test]
fn what_contradicts_is_named() {
    for (more, message) in [
        (
            "[[repository]]\nname = \"local\"\nurl = \"file:///b\"",
            "there are two of the name \"local\"",
        ),
        (
            "[[repository]]\nname = \"b\"\nurl = \"file:///var/backups/x\"",
            "is the place of repository \"local\" already",
        ),
        (
            "[[repository]]\nname = \"b\"\nurl = \"file:///b\"\nregion = \"x\"",
            "\"region\" is for object stores",
        ),
        (
            "[[repository]]\nname = \"b\"\nurl = \"s3://b\"\naccess_key = { env = \"A\" }",
            "needs \"secret_key\" beside it",
        ),
        (
            "[[repository]]\nname = \"b\"\nurl = \"s3://b\"\nendpoint = \"http://h\"",
            "plain http",
        ),
        ("[[group]]\nname = \"g\"\nsources = []", "at least one source"),
        ("[[group]]\nname = \"g\"\nsources = [\"x\"]", "there is no source \"x\""),
        ("[group]\nname = \"g\"", "\"group\" can be there several times"),
        (
            "[[source]]\nname = \"s\"\nkind = \"redis\"\nurl = \"redis://h\"\nexpect = [\"a.b\"]",
            "kind \"mysql\"",
        ),
        (
            "[[source]]\nname = \"s\"\nkind = \"mysql\"\nurl = \"mysql://u@h\"\ndatabases = [\"a\"]\nexpect = [\"b.c\"]",
            "of no database",
        ),
        (
            "[[source]]\nname = \"s\"\nkind = \"mysql\"\nurl = \"mysql://u@h\"\nexpect = [\"b.c{1\"]",
            "without its \"}\"",
        ),
    ] {
        let found = mistakes(&format!("{SMALL}{more}\n"));
        assert_eq!(found.len(), 1, "{more}: {found:#?}");
        assert!(found[0].message.contains(message), "{more}: {found:#?}");
    }
    let both = SMALL.replace("[key]", "[key]\nkey_file = { env = \"K\" }");
    assert!(mistakes(&both)[0].message.contains("both"));
}

#[test]
fn the_document_is_up_to_date() {
    let mut text = String::from(
        "# Configuration\n\n\
         `--config FILE`, else `$BALLAST_CONFIG`, else `./ballast.toml`, else `/etc/ballast/ballast.toml`. Unknown keys are\n\
         mistakes, and all mistakes are told at once. `ballast config check` looks for them, `ballast config show` prints\n\
         what holds and where it came from, `ballast config schema` prints a JSON schema for editors.\n\n\
         A secret is never written in the file. It is `{ env = \"NAME\" }`, `{ file = \"PATH\" }` (mode 0600 demanded) or\n\
         `{ command = [\"PROGRAM\", \"ARGUMENT\"] }`, and it is read only when a verb needs it.\n\n\
         This document is made from the list of keys; a test keeps it so. This version reads and checks `schedule`, `keep`\n\
         and `[[group]]`, and no verb of it acts on them yet.\n\n\
         ## Every key\n\n| key | holds | default | meaning |\n|---|---|---|---|\n",
    );
    for key in KEYS {
        let holds = match key.kind {
            Kind::Text => "text",
            Kind::Texts => "list of texts",
            Kind::Flag => "true or false",
            Kind::Number => "number",
            Kind::Duration => "duration",
            Kind::Choice(_) => "word",
            Kind::Secret => "place of a secret",
            Kind::Table => "table",
            Kind::Tables => "tables",
        };
        let default = match key.default {
            Some(value) => format!("`{value}`"),
            None if key.required => "required".to_owned(),
            None => String::new(),
        };
        text += &format!(
            "| `{}` | {holds} | {default} | {} |\n",
            key.path,
            key.about.replace('|', "\\|")
        );
    }
    text += &format!("\n## Reference\n\n```toml\n{REFERENCE}```\n");
    if std::env::var_os("BALLAST_UPDATE_DOCS").is_some() {
        #[expect(clippy::disallowed_methods, reason = "a document in the tree, on request")]
        std::fs::write(DOCUMENT, &text).unwrap();
    }
    let there = std::fs::read_to_string(DOCUMENT).unwrap_or_default();
    assert!(
        there == text,
        "docs/config.md is not what the keys say; run this test with BALLAST_UPDATE_DOCS=1"
    );
}
