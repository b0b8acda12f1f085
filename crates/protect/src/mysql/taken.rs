//! A source's data on its way into the repository, whichever engine took it.

use std::collections::BTreeSet;

use ballast_repository::{BackupWriter, FileContent};
use jiff::Timestamp;

use crate::position::Position;
use crate::settings::Engine;

/// All pieces are on their way, nothing is named yet.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) writer: BackupWriter,
    pub(crate) engine: Engine,
    pub(crate) files: Vec<(Vec<u8>, u64, FileContent)>,
    /// The engine's own record, for the manifest's annex.
    pub(crate) annex: serde_json::Value,
    /// The user's tables in it, `(schema, table)`.
    pub(crate) tables: BTreeSet<(String, String)>,
    /// What could not be taken and is no table that was expected: with any, the backup is incomplete.
    pub(crate) missing: Vec<String>,
    pub(crate) position: Position,
    pub(crate) snapshot_at: Timestamp,
    pub(crate) bytes_source: u64,
}
