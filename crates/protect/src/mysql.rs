//! What is promised for MySQL, engine by engine.

pub(crate) mod commit_pause;
pub(crate) mod external;
pub(crate) mod lease;
pub(crate) mod leftover;
pub(crate) mod logical;
mod other_engines;
pub(crate) mod pace;
pub(crate) mod physical;
pub(crate) mod pieces;
pub(crate) mod preflight;
pub(crate) mod proof;
pub(crate) mod record;
pub(crate) mod taken;
