//! What a stream of a Redis and its segments say of themselves in the repository. Stored; fields are added, never changed.

use ballast_redis::Flavour;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::facts::After;

/// Tells these facts from those of other logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RedisKind {
    Redis,
}

/// Said once, before a stream's first segment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RedisStreamFacts {
    pub(crate) kind: RedisKind,
    pub(crate) source: String,
    pub(crate) server: Flavour,
    pub(crate) server_version: String,
    pub(crate) started_at: Timestamp,
    /// The history it begins in, and the offset in it after which it begins.
    pub(crate) history: String,
    pub(crate) from: u64,
    /// The stream it follows on, if it is not the first of its source. What was held is a position there, what is missing are offsets.
    pub(crate) after: Option<After>,
}

/// From `from` on, offsets count in the history of this name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct History {
    pub(crate) id: String,
    pub(crate) from: u64,
}

/// Said with every segment. Offsets are the server's, of the last byte before the place they name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RedisSegmentFacts {
    /// The one at its begin, and those that came in it.
    pub(crate) histories: Vec<History>,
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// Selected where it begins; nothing if that was never said.
    pub(crate) database: Option<u32>,
    /// The last border in it, or before it.
    pub(crate) border: u64,
    pub(crate) starts_at_border: bool,
    pub(crate) ends_at_border: bool,
    /// That end in it, not counted those that change nothing.
    pub(crate) commands: u64,
    /// Microseconds since 1970: what the server had executed by then is in it, or before it, but for what was under way.
    pub(crate) until: u64,
    pub(crate) sealed_at: Timestamp,
}

impl RedisSegmentFacts {
    /// Of one segment with the bytes of several, which follow one another.
    pub(crate) fn merged(parts: &[Self]) -> Option<Self> {
        let (first, last) = (parts.first()?, parts.last()?);
        let mut histories: Vec<History> = Vec::new();
        for history in parts.iter().flat_map(|part| &part.histories) {
            if histories.last().is_none_or(|last| last.id != history.id) {
                histories.push(history.clone());
            }
        }
        Some(Self {
            histories,
            from: first.from,
            to: last.to,
            database: first.database,
            border: last.border,
            starts_at_border: first.starts_at_border,
            ends_at_border: last.ends_at_border,
            commands: parts.iter().map(|part| part.commands).sum(),
            until: last.until,
            sealed_at: last.sealed_at,
        })
    }
}
