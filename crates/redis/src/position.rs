//! A place in a command stream.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::RedisError;

/// Hex digits of a replication id.
pub(crate) const HISTORY_DIGITS: usize = 40;

/// An offset, and the history it counts in. Offsets of two histories have nothing to do with each other.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The server's replication id.
    pub history: String,
    /// Bytes of the stream up to here.
    pub offset: u64,
}

impl Position {
    /// `None` where `history` is no replication id.
    pub fn new(history: &str, offset: u64) -> Option<Self> {
        let is_one = history.len() == HISTORY_DIGITS && history.bytes().all(|digit| digit.is_ascii_hexdigit());
        is_one.then(|| Self {
            history: history.to_ascii_lowercase(),
            offset,
        })
    }
}

/// As people write it, and read it back: `ID:OFFSET`.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.history, self.offset)
    }
}

impl FromStr for Position {
    type Err = RedisError;

    fn from_str(text: &str) -> Result<Self, RedisError> {
        let parts = text.split_once(':');
        let position = parts.and_then(|(history, offset)| Self::new(history, offset.parse().ok()?));
        position.ok_or_else(|| RedisError::Unsupported {
            what: format!("\"{text}\" is no position of a Redis stream"),
            hint: "a position is the replication id (40 hex digits), a colon and the offset".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_reads_back_and_anything_else_is_named() {
        let text = "2d8393841d1cf6f03c01a25420486b07125f7df5:1234";
        assert_eq!(text.parse::<Position>().unwrap().to_string(), text);
        for text in [
            "",
            ":1",
            "2d83:1",
            "2d8393841d1cf6f03c01a25420486b07125f7df5:x",
            "2d8393841d1cf6f03c01a25420486b07125f7df5",
        ] {
            assert!(text.parse::<Position>().is_err(), "{text}");
        }
    }
}
