//! What is promised for Redis and Valkey.

pub(crate) mod backup;
pub(crate) mod commands;
mod cutter;
pub(crate) mod doctor;
mod keys;
mod lease;
pub(crate) mod load;
mod load_book;
pub(crate) mod load_plan;
mod load_proof;
pub(crate) mod preflight;
pub(crate) mod proof;
mod record;
pub(crate) mod restore;
pub(crate) mod restore_plan;
mod snapshot;
pub(crate) mod timeline;
