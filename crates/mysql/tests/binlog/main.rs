//! Following the binary log of real servers.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test waits by itself, and panics when something is not as it must be"
)]

mod capture;
mod detail;
mod mariadb;
mod mysql;
mod requirements;
