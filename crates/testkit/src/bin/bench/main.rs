//! `./dev bench NAME [--json]`: measures Ballast side by side with its rivals, in one run on one machine.
//!
//! Results go to standard output, as a table or as JSON; what happens meanwhile is told on standard error. It exits 0
//! whenever it could measure, whether the targets were met or not. The measured program is `$BALLAST_PROGRAM`.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a developer's program of the test kit: it reads the environment and the clock, and panics when it cannot go on"
)]

mod archive;
mod files;
mod logical;
mod measure;
mod physical;
mod redis;
mod replay;
mod report;
mod site;

use std::path::PathBuf;
use std::process::ExitCode;

/// How much data a bench makes unless told otherwise.
const BYTES: &str = "2GiB";
/// What a log is replayed on. Its size counts little, and copies of it have to be made again and again.
const REPLAY_BYTES: &str = "1GiB";
const USAGE: &str = "usage: ballast-bench physical|logical|archive|replay|redis [--json]\n\
    BALLAST_PROGRAM names the program to measure, BALLAST_MYDUMPER a rival of logical; BALLAST_BENCH_BYTES says how much data to make, such as 200MiB";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (name, json) = match args[..] {
        [name] => (name, false),
        [name, "--json"] | ["--json", name] => (name, true),
        _ => ("", false),
    };
    if !["physical", "logical", "archive", "replay", "redis"].contains(&name) {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    }
    let usual = if name == "replay" { REPLAY_BYTES } else { BYTES };
    let bytes = std::env::var("BALLAST_BENCH_BYTES").unwrap_or_else(|_| usual.to_owned());
    let bytes =
        ballast_base::parse_bytes(&bytes).unwrap_or_else(|| panic!("BALLAST_BENCH_BYTES is {bytes}, not a size"));
    let program = |variable: &str| {
        let found = std::env::var_os(variable).filter(|value| !value.is_empty());
        PathBuf::from(found.unwrap_or_else(|| panic!("{variable} names no program; see {USAGE}")))
    };
    let measured = program("BALLAST_PROGRAM");
    let report = match name {
        "logical" => logical::run(&measured, &program("BALLAST_MYDUMPER"), bytes),
        "archive" => archive::run(&measured),
        "replay" => replay::run(&measured, bytes),
        "redis" => redis::run(&measured, bytes),
        _ => physical::run(&measured, bytes),
    };
    if json {
        println!("{}", report.to_json());
    } else {
        print!("{report}");
    }
    ExitCode::SUCCESS
}
