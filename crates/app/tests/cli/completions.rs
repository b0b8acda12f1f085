//! Completion scripts.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::place::{BALLAST, Place};

#[test]
fn every_shell_gets_a_script_that_knows_the_verbs() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = Place::new("").run(&["completions", shell]).expect(0);
        for word in ["restore", "completions", "dry-run"] {
            assert!(ran.stdout.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn as_json_the_script_is_a_field() {
    let place = Place::new("");
    let script = place.run(&["completions", "fish"]).expect(0).stdout;
    let lines = place.run(&["completions", "fish", "--json"]).expect(0).json();
    assert_eq!(lines, [serde_json::json!({ "shell": "fish", "script": script })]);
}

#[test]
fn bash_accepts_its_script() {
    let script = Place::new("").run(&["completions", "bash"]).expect(0).stdout;
    let mut bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
    bash.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(bash.wait().unwrap().success());
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let mut child = Command::new(BALLAST)
        .args(["completions", "zsh"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*said), (Some(1), ""));
}
