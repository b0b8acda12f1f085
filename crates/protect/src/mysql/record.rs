//! What a physical backup keeps beside the files: enough to lay the directory out again, to start a server on it, and to know
//! what must be in it. Stored in the manifest's annex; fields are added, never changed.

use std::collections::{BTreeMap, BTreeSet};

use ballast_mysql::DirectoryLayout;
use serde::{Deserialize, Serialize};

use super::logical::record::LogicalRecord;
use crate::error::{ProtectError, Result};

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PhysicalRecord {
    /// In the order of the manifest's files.
    pub(crate) layout: DirectoryLayout,
    /// The donor's settings that a server needs to open the copy.
    pub(crate) settings: BTreeMap<String, String>,
    /// The user's tables at the snapshot, `(schema, table)`.
    pub(crate) tables: BTreeSet<(String, String)>,
    /// Whether the list was read while commits and DDL were held. If not, it holds only what was there before and after.
    pub(crate) tables_exact: bool,
    /// Tables of other engines than InnoDB: their files follow those of the layout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) beside: Option<LogicalRecord>,
}

impl PhysicalRecord {
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
