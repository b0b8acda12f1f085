//! Where a replay ends.

use ballast_mysql::{ExecutedSet, Gtid};
use jiff::Timestamp;

use crate::error::{ProtectError, Result};

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

impl std::str::FromStr for PositionStop {
    type Err = ProtectError;

    /// One transaction, a set of transactions, or FILE:OFFSET.
    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        if let Ok(gtid) = text.parse::<Gtid>() {
            return Ok(Self::Through(gtid));
        }
        // The name of a log file has a dot in it, and no set of transactions does.
        if let Some((file, offset)) = text.rsplit_once(':')
            && file.contains('.')
            && let Ok(offset) = offset.parse()
        {
            return Ok(Self::File {
                file: file.to_owned(),
                offset,
            });
        }
        match ExecutedSet::try_from(text.to_owned()) {
            Ok(set) if !set.is_empty() => Ok(Self::Set(set)),
            _ => Err(ProtectError::usage(format!("\"{text}\" is no position in a log")).hint(
                "write a set of transactions as the server shows it in gtid_executed or gtid_binlog_pos, one GTID, or FILE:OFFSET",
            )),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_a_transaction_a_set_or_a_place_in_a_file() {
        let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        let parse = |text: &str| text.parse::<PositionStop>();
        assert!(matches!(parse(&format!("{uuid}:5")).unwrap(), PositionStop::Through(_)));
        assert!(matches!(parse("0-1-100").unwrap(), PositionStop::Through(_)));
        assert!(matches!(parse(&format!("{uuid}:1-5:7")).unwrap(), PositionStop::Set(_)));
        assert!(matches!(parse("0-1-100,1-1-5").unwrap(), PositionStop::Set(_)));
        let file = PositionStop::File {
            file: "binlog.000012".to_owned(),
            offset: 4711,
        };
        assert_eq!(parse("binlog.000012:4711").unwrap(), file);
        for text in ["", "binlog.000012", "binlog.000012:x", "yesterday", "1-2"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
