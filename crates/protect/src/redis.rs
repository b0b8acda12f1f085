//! What is promised for Redis and Valkey.

pub(crate) mod backup;
mod cutter;
pub(crate) mod doctor;
mod preflight;
pub(crate) mod proof;
mod record;
pub(crate) mod restore;
pub(crate) mod restore_plan;
mod snapshot;
