//! What a backup by an external tool keeps beside the tool's stream. Stored in the manifest's annex; fields are added, never
//! changed.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::error::{ProtectError, Result};

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ExternalRecord {
    /// The program's name, such as `mariadb-backup`.
    pub(crate) tool: String,
    pub(crate) tool_version: String,
    /// The source's settings that a server needs to open the copy.
    pub(crate) settings: BTreeMap<String, String>,
    /// The user's tables in it, `(schema, table)`.
    pub(crate) tables: BTreeSet<(String, String)>,
    /// Whether every definition in the stream is of one of these tables, or known to be none.
    pub(crate) tables_exact: bool,
}

impl ExternalRecord {
    pub(crate) fn read(annex: &serde_json::Value) -> Result<Self> {
        Self::deserialize(annex).map_err(|error| {
            ProtectError::failed(format!("the backup's record is not understood: {error}"))
                .hint("use the version of ballast that wrote it, or a later one")
        })
    }

    pub(crate) fn to_json(&self) -> Result<serde_json::Value> {
        serde_json::to_value(self).map_err(|error| ProtectError::failed("write the backup's record").because(error))
    }
}
