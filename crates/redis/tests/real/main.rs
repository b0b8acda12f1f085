//! Against real servers: Redis and Valkey.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod access;
mod common;
mod damage;
mod snapshot;
mod stream;
