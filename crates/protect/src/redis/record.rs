//! What a backup of a Redis keeps beside its bytes: enough to know what must be in it, and which server loads it. Stored in the
//! manifest's annex; fields are added, never changed.

use ballast_redis::{DataForm, RdbSummary, ServerVersion};
use serde::{Deserialize, Serialize};

use crate::error::{ProtectError, Result};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct RedisRecord {
    /// What was found when its bytes were walked.
    pub(super) snapshot: RdbSummary,
    /// The server it was taken from.
    pub(super) server: ServerVersion,
    /// Whether it kept an append-only file: one that does loads no other.
    #[serde(default)]
    pub(super) append_only: bool,
}

impl RedisRecord {
    pub(super) fn read(annex: &serde_json::Value) -> Result<Self> {
        Self::deserialize(annex).map_err(|error| {
            ProtectError::failed(format!("the backup's record is not understood: {error}"))
                .hint("use the version of ballast that wrote it, or a later one")
        })
    }

    pub(super) fn to_json(&self) -> Result<serde_json::Value> {
        serde_json::to_value(self).map_err(|error| ProtectError::failed("write the backup's record").because(error))
    }

    /// How a directory must be laid out for such a server.
    pub(super) fn form(&self) -> DataForm {
        DataForm::for_setting(&self.server, self.append_only)
    }

    /// Databases a server must have to load it.
    pub(super) fn databases(&self) -> u32 {
        const USUAL: u32 = 16;
        let highest = self.snapshot.databases.keys().last();
        highest.map_or(USUAL, |highest| USUAL.max(highest.saturating_add(1)))
    }
}
