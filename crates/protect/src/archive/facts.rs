//! What a stream and its segments say of themselves in the repository. Stored; fields are added, never changed.
//!
//! Executed sets are kept as the server writes them: GTID sets of MySQL, positions of MariaDB.

use ballast_mysql::LogFlavour;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Said once, before a stream's first segment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StreamFacts {
    pub(crate) source: String,
    pub(crate) flavour: LogFlavour,
    /// Empty on MariaDB, which has none.
    pub(crate) server_uuid: String,
    pub(crate) server_id: u32,
    pub(crate) server_version: String,
    pub(crate) started_at: Timestamp,
    /// The file it begins with, at its first byte.
    pub(crate) first_file: String,
    /// What had been executed before its first byte.
    pub(crate) before: String,
    /// Of that file: see [`Stretch::head`].
    pub(crate) head: String,
    /// The stream it follows on, if it is not the first of its source.
    pub(crate) after: Option<After>,
}

/// Why a stream is not a part of the one before it, and what lies between.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct After {
    pub(crate) stream: String,
    /// What had been executed at the end of that one.
    pub(crate) held: String,
    pub(crate) cause: Cause,
    /// What is in neither, by the sets alone; empty if nothing is.
    pub(crate) missing: String,
}

/// Why a stream could not be gone on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Cause {
    /// The same server began its log anew, or was restored: numbers of transactions may be there twice.
    Reset,
    /// The server lost the end of its log in a crash: transactions we hold are not on it.
    Shortened,
    /// The server removed files of its log.
    Purged,
    /// Another server.
    Failover,
    /// The spool that goes with the stream is not here.
    SpoolLost,
    /// A Redis had forgotten what followed when it was asked.
    Backlog,
}

impl Cause {
    /// As it is stored.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Shortened => "shortened",
            Self::Purged => "purged",
            Self::Failover => "failover",
            Self::SpoolLost => "spool-lost",
            Self::Backlog => "backlog",
        }
    }

    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Reset => "the server began its log anew",
            Self::Shortened => "the server lost the end of its log",
            Self::Purged => "the server removed files of its log",
            Self::Failover => "it is another server now",
            Self::SpoolLost => "the spool of the stream before is not here",
            Self::Backlog => "the server had forgotten what followed",
        }
    }
}

/// Said with every segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SegmentFacts {
    /// The files it has bytes of, in order.
    pub(crate) files: Vec<Stretch>,
    pub(crate) before: String,
    /// What has been executed with its last complete transaction.
    pub(crate) through: String,
    /// How many begin in it.
    pub(crate) transactions: u64,
    /// Log offset of the first that does.
    pub(crate) first_transaction: Option<u64>,
    /// It begins between two transactions, and not within one.
    pub(crate) starts_between: bool,
    /// It ends between two transactions.
    #[serde(default)]
    pub(crate) ends_between: bool,
    pub(crate) sealed_at: Timestamp,
}

/// A stretch of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stretch {
    pub(crate) name: String,
    /// Where in the file it begins.
    pub(crate) offset: u64,
    /// The log offset of that.
    pub(crate) at: u64,
    /// What tells this file from others of its name: a hash of its format description and its set of earlier transactions.
    /// Empty while these are not captured.
    pub(crate) head: String,
}

impl SegmentFacts {
    /// Of one segment with the bytes of several, which follow one another.
    pub(crate) fn merged(parts: &[Self]) -> Option<Self> {
        let (first, last) = (parts.first()?, parts.last()?);
        let mut files: Vec<Stretch> = Vec::new();
        for stretch in parts.iter().flat_map(|part| &part.files) {
            match files.last_mut() {
                Some(same) if same.name == stretch.name && same.offset + (stretch.at - same.at) == stretch.offset => {
                    // Its head may have come only now.
                    same.head.clone_from(&stretch.head);
                }
                _ => files.push(stretch.clone()),
            }
        }
        Some(Self {
            files,
            before: first.before.clone(),
            through: last.through.clone(),
            transactions: parts.iter().map(|part| part.transactions).sum(),
            first_transaction: parts.iter().find_map(|part| part.first_transaction),
            starts_between: first.starts_between,
            ends_between: last.ends_between,
            sealed_at: last.sealed_at,
        })
    }
}
