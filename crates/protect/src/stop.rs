//! Where a replay ends.

use ballast_mysql::{ExecutedSet, Gtid};
use jiff::Timestamp;

/// Where a person wants it to end. Always between two transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// With all there is.
    Latest,
    /// Before the first transaction that was committed later than this moment.
    At(Timestamp),
    Position(PositionStop),
    /// Before this transaction.
    Before(Gtid),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PositionStop {
    /// With this transaction.
    Through(Gtid),
    /// With the last transaction of the set; all of it must be reached.
    Set(ExecutedSet),
    /// Before the first transaction that ends behind this offset of this file of the source.
    File { file: String, offset: u64 },
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Latest => f.write_str("the end of the log"),
            Self::At(at) => write!(f, "{at}"),
            Self::Position(PositionStop::Through(gtid)) => write!(f, "transaction {gtid}"),
            Self::Position(PositionStop::Set(set)) => write!(f, "position {set}"),
            Self::Position(PositionStop::File { file, offset }) => write!(f, "position {file}:{offset}"),
            Self::Before(gtid) => write!(f, "before transaction {gtid}"),
        }
    }
}
