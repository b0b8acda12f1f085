//! Logs of real servers served to real private servers: what comes out must be what the source had.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test waits by itself, and panics when something is not as it must be"
)]

mod log_files;
mod mariadb;
mod mysql;
mod private;
