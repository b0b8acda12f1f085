//! What `--help` and `--version` say. Every verb has examples.

use crate::place::Place;

/// Every verb that can be typed, in the order of the overview.
pub(crate) const VERBS: &[&[&str]] = &[
    &[],
    &["init"],
    &["doctor"],
    &["backup"],
    &["archive"],
    &["list"],
    &["timeline"],
    &["verify"],
    &["restore"],
    &["copy"],
    &["status"],
    &["log"],
    &["log", "find"],
    &["config"],
    &["config", "show"],
    &["config", "check"],
    &["config", "schema"],
    &["completions"],
];

pub(crate) fn help(verb: &[&str]) -> String {
    let arguments: Vec<&str> = verb.iter().copied().chain(["--help"]).collect();
    let ran = Place::new("").run(&arguments).expect(0);
    assert_eq!(ran.stderr, "");
    ran.stdout
}

#[test]
fn the_overview_names_every_verb() {
    let overview = help(&[]);
    for verb in VERBS.iter().filter_map(|verb| verb.first()) {
        assert!(
            overview
                .lines()
                .any(|line| line.trim_start().starts_with(&format!("{verb} "))),
            "{verb}"
        );
    }
    insta::assert_snapshot!("overview", overview);
}

#[test]
fn every_verb_has_examples_that_name_it() {
    for verb in VERBS.iter().filter(|verb| **verb != ["config"] && **verb != ["log"]) {
        let help = help(verb);
        let (_, examples) = help
            .split_once("Examples:\n")
            .unwrap_or_else(|| panic!("{verb:?} has no examples"));
        assert!(verb.iter().all(|word| examples.contains(word)), "{verb:?}");
    }
}

#[test]
fn help_for_restore() {
    insta::assert_snapshot!("restore", help(&["restore"]));
}

#[test]
fn the_version_is_the_packages() {
    let ran = Place::new("").run(&["--version"]).expect(0);
    assert_eq!(ran.stdout, format!("ballast {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_mistyped_verb_or_flag_is_wrong_usage_with_a_suggestion() {
    let place = Place::new("");
    insta::assert_snapshot!("mistyped_verb", place.run(&["bakup", "orders"]).all());
    insta::assert_snapshot!("mistyped_flag", place.run(&["restore", "orders", "--dryrun"]).all());
    insta::assert_snapshot!("mistyped_json", place.run(&["lsit", "--json"]).all());
}
