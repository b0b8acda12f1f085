//! The program as people and other programs meet it: help, configuration, errors, exit codes and JSON.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that cannot go on fails, and it waits and writes on its own"
)]

mod completions;
mod configuration;
mod documents;
mod exit_codes;
mod help;
mod json;
mod place;
mod served;
mod signals;
