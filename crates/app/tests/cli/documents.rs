//! `docs/cli.md` is what `--help` says.

use crate::help::{VERBS, help};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md");

#[test]
fn the_command_line_document_is_up_to_date() {
    let mut text = String::from("# Command line\n\nMade from `--help`; a test keeps it so.\n");
    for verb in VERBS {
        let name = ["ballast"].iter().chain(*verb).copied().collect::<Vec<_>>().join(" ");
        text += &format!("\n## {name}\n\n```text\n{}```\n", help(verb));
    }
    if std::env::var_os("BALLAST_UPDATE_DOCS").is_some() {
        std::fs::write(DOCUMENT, &text).unwrap();
    }
    let there = std::fs::read_to_string(DOCUMENT).unwrap_or_default();
    assert!(
        there == text,
        "docs/cli.md is not what --help says; run this test with BALLAST_UPDATE_DOCS=1"
    );
}
