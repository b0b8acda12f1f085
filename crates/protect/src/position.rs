//! Where in a source's log a backup stands.

use serde::{Deserialize, Serialize};

/// A position in a source's log. In MySQL's: Set of transactions, and file and offset, of the same instant.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Position {
    /// The transactions it contains; empty where the server keeps no GTIDs.
    pub gtid_executed: String,
    /// The binlog file and the offset behind its last transaction, where the server keeps a binlog.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Whether commits were held while it was read, so that it is this position and no other. If not, it contains at least
    /// `at_least` and at most `gtid_executed`, and restoring says which.
    pub exact: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_least: Option<String>,
    /// Of a Redis: its replication id, in which `offset` counts the bytes of its stream of commands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication_id: Option<String>,
}

impl Position {
    pub(crate) fn of_redis(position: &ballast_redis::Position) -> Self {
        Self {
            offset: Some(position.offset),
            exact: true,
            replication_id: Some(position.history.clone()),
            ..Self::default()
        }
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let (Some(id), Some(offset)) = (&self.replication_id, self.offset) {
            return write!(f, "{id}:{offset}");
        }
        let place = match (&self.file, self.offset) {
            (Some(file), Some(offset)) => format!("{file}:{offset}"),
            _ if self.gtid_executed.is_empty() => "no binlog".to_owned(),
            _ => String::new(),
        };
        let gap = if place.is_empty() || self.gtid_executed.is_empty() {
            ""
        } else {
            " "
        };
        write!(f, "{place}{gap}{}", self.gtid_executed)?;
        if self.exact { Ok(()) } else { f.write_str(" (at most)") }
    }
}
