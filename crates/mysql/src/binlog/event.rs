//! What every event of a log begins with.
#![deny(clippy::indexing_slicing)]

use serde::{Deserialize, Serialize};

use crate::MysqlError;
use crate::wire::reader::Reader;

/// What a log file begins with.
pub const LOG_MAGIC: [u8; 4] = [0xFE, b'b', b'i', b'n'];
/// The CRC-32 at the end of an event.
pub(crate) const CHECKSUM_BYTES: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventHeader {
    /// Seconds since 1970.
    pub timestamp: u32,
    pub kind: u8,
    pub server_id: u32,
    /// Of the whole event, header and checksum with it.
    pub size: u32,
    /// Where the next event begins in the file, its low 32 bits; 0 in events that are in no file.
    pub end_position: u32,
    pub flags: u16,
}

impl EventHeader {
    pub const BYTES: usize = 19;

    pub const QUERY: u8 = 2;
    pub const STOP: u8 = 3;
    pub const ROTATE: u8 = 4;
    pub const INTVAR: u8 = 5;
    pub const RAND: u8 = 13;
    pub const USER_VAR: u8 = 14;
    pub const FORMAT_DESCRIPTION: u8 = 15;
    pub const XID: u8 = 16;
    pub const TABLE_MAP: u8 = 19;
    pub const INCIDENT: u8 = 26;
    pub const HEARTBEAT: u8 = 27;
    pub const GTID: u8 = 33;
    pub const ANONYMOUS_GTID: u8 = 34;
    pub const PREVIOUS_GTIDS: u8 = 35;
    pub const XA_PREPARE: u8 = 38;
    pub const TRANSACTION_PAYLOAD: u8 = 40;
    pub const HEARTBEAT_V2: u8 = 41;
    pub const TAGGED_GTID: u8 = 42;
    pub const MARIADB_ANNOTATE_ROWS: u8 = 160;
    pub const MARIADB_CHECKPOINT: u8 = 161;
    pub const MARIADB_GTID: u8 = 162;
    pub const MARIADB_GTID_LIST: u8 = 163;
    pub const MARIADB_START_ENCRYPTION: u8 = 164;
    pub const MARIADB_QUERY_COMPRESSED: u8 = 165;

    /// The file was not closed: set on disk only, never in what a server sends, and clear when the checksum is made.
    pub const FLAG_IN_USE: u16 = 0x01;
    /// Made for the one who reads: in no file.
    pub const FLAG_ARTIFICIAL: u16 = 0x20;
    /// Where the flags are.
    pub(crate) const FLAGS_AT: usize = 17;

    pub fn decode(bytes: &[u8]) -> Result<Self, MysqlError> {
        let mut reader = Reader::new("binlog event", bytes);
        let header = Self {
            timestamp: reader.u32_le()?,
            kind: reader.u8()?,
            server_id: reader.u32_le()?,
            size: reader.u32_le()?,
            end_position: reader.u32_le()?,
            flags: reader.u16_le()?,
        };
        if usize::try_from(header.size).is_ok_and(|size| size < Self::BYTES) {
            return Err(reader.wrong(format_args!("an event of {} bytes", header.size)));
        }
        Ok(header)
    }

    /// Begins a transaction.
    pub(crate) fn is_gtid(&self) -> bool {
        matches!(
            self.kind,
            Self::GTID | Self::ANONYMOUS_GTID | Self::TAGGED_GTID | Self::MARIADB_GTID
        )
    }
}
