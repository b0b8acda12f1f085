//! What a logical backup keeps beside the rows: enough to make every object again and to know that all rows came. Stored in
//! the manifest's annex; fields are added, never changed.

use ballast_mysql::{Schema, TableDigest, TableForm};
use serde::{Deserialize, Serialize};

use crate::error::{ProtectError, Result};

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct LogicalRecord {
    pub(crate) schema: Schema,
    /// One for each table of the schema, in its order.
    pub(crate) tables: Vec<TableRows>,
}

/// The rows of one table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TableRows {
    pub(crate) form: TableForm,
    pub(crate) digest: TableDigest,
    pub(crate) parts: Vec<Part>,
}

/// A stretch of a table's rows: one file of the backup.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Part {
    /// Which of the manifest's files.
    pub(crate) file: u32,
    pub(crate) digest: TableDigest,
}

impl LogicalRecord {
    /// Its files are not the manifest's first.
    pub(crate) fn behind(mut self, files: usize) -> Self {
        let files = u32::try_from(files).unwrap_or(u32::MAX);
        for part in self.tables.iter_mut().flat_map(|rows| &mut rows.parts) {
            part.file = part.file.saturating_add(files);
        }
        self
    }

    pub(crate) fn read(annex: &serde_json::Value) -> Result<Self> {
        let record = Self::deserialize(annex).map_err(|error| {
            ProtectError::failed(format!("the backup's record is not understood: {error}"))
                .hint("use the version of ballast that wrote it, or a later one")
        })?;
        if record.tables.len() != record.schema.tables.len() {
            return Err(ProtectError::failed("the backup's record does not fit its tables")
                .hint("use the version of ballast that wrote it, or a later one"));
        }
        Ok(record)
    }

    pub(crate) fn to_json(&self) -> Result<serde_json::Value> {
        serde_json::to_value(self).map_err(|error| ProtectError::failed("write the backup's record").because(error))
    }
}
