//! What is on a server, read, taken away and made again: nothing is missing and nothing is different. One server for each
//! flavour; under a test runner that gives each test its own process, each test has one server.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test panics when something is not as it must be"
)]

mod again;
mod mariadb;
mod mysql;
