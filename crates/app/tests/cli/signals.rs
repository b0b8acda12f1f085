//! What the process owes its surroundings while it runs and when it is asked to stop.

use std::time::{Duration, Instant};

use ballast_testkit::program::Running;
use rustix::process::{Pid, Signal, kill_process};

use crate::place::Place;

/// The passphrase comes from a command that first says that it runs and then takes longer than any test.
const SLOW_SECRET: &str = r#"[[repository]]
name = "local"
url = "file:///var/backups/x"

[key]
passphrase = { command = ["sh", "-c", "echo $$ > started; exec sleep 600"] }
"#;

fn start(place: &Place) -> Running {
    let running = place.spawn(&["list", "--json"]);
    wait_until("the secret command was started", || {
        place.holds("started") && !place.read("started").is_empty()
    });
    running
}

/// A process that has ended but was not waited for yet has no command line any more.
fn lives(pid: &str) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|words| !words.is_empty())
}

#[track_caller]
fn wait_until(what: &str, done: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn send(running: &Running, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(running.pid()).unwrap()).unwrap(), signal).unwrap();
}

#[test]
fn interrupt_and_terminate_stop_in_order_with_130() {
    for signal in [Signal::INT, Signal::TERM] {
        let place = Place::new(SLOW_SECRET);
        let running = start(&place);
        send(&running, signal);
        let output = running.wait().expect(130);
        assert!(output.stderr.contains("stopping in order"), "{}", output.stderr);
        let error: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
        assert_eq!((&error["type"], &error["code"]), (&"error".into(), &130.into()));
        let child = place.read("started");
        wait_until("the secret command is gone", || !lives(child.trim()));
    }
}

#[test]
fn a_running_process_has_no_core_file() {
    let place = Place::new(SLOW_SECRET);
    let running = start(&place);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", running.pid())).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    let words: Vec<&str> = core.split_whitespace().skip(4).take(2).collect();
    assert_eq!(words, ["0", "0"], "{core}");
}
