//! What the first start of a copy found: the moment that was copied.
#![deny(clippy::indexing_slicing)]

use crate::{GtidSet, MysqlError};

/// The position of the copied moment: everything up to it is in the copy, nothing after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryStatus {
    /// The donor's binary log file; empty when it wrote none.
    pub binlog_file: String,
    pub binlog_offset: u64,
    pub gtids: GtidSet,
}

impl RecoveryStatus {
    /// Where the server writes it, in the data directory.
    pub const PATH: &str = "#clone/#status_recovery";

    /// Five lines: when the clone began and when its recovery ended, in microseconds (both about the recipient, so not
    /// kept here), file, offset, and the GTID set, which may take more lines.
    pub fn parse(text: &str) -> Result<Self, MysqlError> {
        let short = || MysqlError::protocol(format!("\"{}\" of {} bytes", Self::PATH, text.len()));
        let mut lines = text.lines();
        let mut times = lines.by_ref().take(2);
        if !times.all(|line| line.parse::<u64>().is_ok()) {
            return Err(short());
        }
        let binlog_file = lines.next().ok_or_else(short)?.to_owned();
        let binlog_offset = lines.next().and_then(|line| line.parse().ok()).ok_or_else(short)?;
        let gtids = lines.collect::<Vec<_>>().join("").parse()?;
        Ok(Self {
            binlog_file,
            binlog_offset,
            gtids,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_reads_what_a_server_wrote() {
        let uuids = [
            "012bebbc-e705-11f1-8fba-02fc00000001:1-2812",
            "3e11fa47-71ca-11e1-9e33-c80aa9429562:1",
        ];
        let text = format!(
            "1795414426530643\n1795414428262841\nbinlog.000001\n45013757\n{},\n{}\n",
            uuids[0], uuids[1]
        );
        let status = RecoveryStatus::parse(&text).unwrap();
        assert_eq!(
            (status.binlog_file.as_str(), status.binlog_offset),
            ("binlog.000001", 45_013_757)
        );
        assert_eq!(status.gtids.to_string(), uuids.join(","));
        let without_binlog = RecoveryStatus::parse("1\n2\n\n0\n\n").unwrap();
        assert!(without_binlog.binlog_file.is_empty() && without_binlog.gtids.is_empty());
        for text in [
            "",
            "1\n2\n",
            "x\n2\nbinlog.000001\n7\n",
            "1\n2\nbinlog.000001\nx\n",
            "1\n2\nb\n7\nx\n",
        ] {
            assert!(RecoveryStatus::parse(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text: String) {
            let _ = RecoveryStatus::parse(&text).is_ok();
        }
    }
}
