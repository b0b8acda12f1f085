//! The house keeps its floors: who may import whom, how long a file may be, how many seams there are.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use toml::{Table, Value};

/// Each crate and the crates below it that it may import.
const IMPORTS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("storage", &["base"]),
    ("mysql", &["base"]),
    ("redis", &["base"]),
    ("repository", &["storage", "base"]),
    ("protect", &["repository", "storage", "mysql", "redis", "base"]),
    ("app", &["protect", "repository", "storage", "base"]),
    ("testkit", &["base"]),
];
/// Crates whose tests may start real servers.
const TESTKIT_USERS: &[&str] = &["storage", "mysql", "redis", "protect", "app"];
/// The seams.
const SEAMS: &[&str] = &["Storage", "Source", "Target", "Clock", "Observer"];
/// Public traits that are no seams: a bound that sorts errors, a name for two bounds at once.
const BOUNDS: &[&str] = &["Retryable", "Transport"];
/// A file longer than this holds more than one idea.
const LINES_MAX: usize = 800;

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate is in crates/")
        .to_owned()
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn manifests() -> BTreeMap<String, Table> {
    std::fs::read_dir(crates())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|folder| folder.join("Cargo.toml").is_file())
        .map(|folder| {
            let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
            (name, read(&folder.join("Cargo.toml")).parse().unwrap())
        })
        .collect()
}

/// The crates of ours that a table of dependencies names.
fn ours(manifest: &Table, table: &str) -> BTreeSet<String> {
    let names = manifest
        .get(table)
        .and_then(Value::as_table)
        .into_iter()
        .flat_map(Table::keys);
    names
        .filter_map(|name| name.strip_prefix("ballast-"))
        .map(str::to_owned)
        .collect()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn all_sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    sources(&crates(), &mut found);
    assert!(found.len() > 20, "the sources are found");
    found
}

#[test]
fn every_crate_imports_only_downward() {
    let manifests = manifests();
    let known: BTreeSet<&str> = IMPORTS.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        manifests.keys().map(String::as_str).collect::<BTreeSet<_>>(),
        known,
        "every crate has its floor"
    );
    for (name, allowed) in IMPORTS {
        let manifest = &manifests[*name];
        assert_eq!(
            manifest["package"]["name"].as_str(),
            Some(format!("ballast-{name}").as_str())
        );
        for table in ["dependencies", "build-dependencies"] {
            for import in ours(manifest, table) {
                assert!(allowed.contains(&import.as_str()), "{name} must not import {import}");
            }
        }
        for import in ours(manifest, "dev-dependencies") {
            let fine = allowed.contains(&import.as_str()) || (import == "testkit" && TESTKIT_USERS.contains(name));
            assert!(fine, "the tests of {name} must not import {import}");
        }
        assert!(
            !manifest.contains_key("target"),
            "{name}: dependencies of a platform would escape this test"
        );
    }
}

#[test]
fn every_crate_keeps_the_lints() {
    for (name, manifest) in manifests() {
        assert_eq!(manifest["lints"]["workspace"].as_bool(), Some(true), "{name}");
    }
}

#[test]
fn no_file_is_too_long_and_none_is_called_mod() {
    for file in all_sources() {
        let lines = read(&file).lines().count();
        assert!(lines <= LINES_MAX, "{}: {lines} lines", file.display());
        assert_ne!(file.file_name().unwrap(), "mod.rs", "{}", file.display());
    }
}

#[test]
fn there_are_five_seams_and_no_more() {
    for file in all_sources() {
        for line in read(&file).lines() {
            let Some(rest) = line.trim_start().strip_prefix("pub trait ") else {
                continue;
            };
            let name = rest.split(|c: char| !c.is_alphanumeric()).next().unwrap_or("");
            assert!(
                SEAMS.contains(&name) || BOUNDS.contains(&name),
                "{}: pub trait {name}",
                file.display()
            );
        }
    }
}

#[test]
fn every_test_file_belongs_to_its_binary() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli");
    let main = read(&folder.join("main.rs"));
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if path.extension().is_some_and(|extension| extension == "rs") && name != "main" {
            assert!(main.contains(&format!("mod {name};")), "{name}.rs is forgotten");
        }
    }
}

/// `docs/promises.md`: a promise has a test that carries its name.
#[test]
fn every_promise_has_its_test() {
    let document = read(&crates().join("../docs/promises.md"));
    let sources: String = std::fs::read_dir(crates().join("app/tests/promises"))
        .unwrap()
        .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    let rows = document
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| promise"));
    let mut found = 0;
    for row in rows {
        let proofs = row.rsplit('|').nth(1).unwrap();
        let names: Vec<&str> = proofs.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no test: {row}");
        for name in names.into_iter().filter(|name| !name.starts_with("./")) {
            found += 1;
            let there = match name.split_once("::") {
                None => sources.contains(&format!("fn {name}()")),
                Some((package, path)) => {
                    let path = path.replace("::", "/") + ".rs";
                    let package = crates().join(package);
                    package.join("src").join(&path).is_file() || package.join("tests").join(&path).is_file()
                }
            };
            assert!(there, "docs/promises.md names \"{name}\", which is not there");
        }
    }
    assert!(found > 10, "{found}");
}
