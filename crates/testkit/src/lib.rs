//! The test kit.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "the kit serves tests: it reads the environment, runs programs, and panics when it cannot do its work"
)]

mod certificates;
pub mod servers;
