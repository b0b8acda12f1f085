//! The event a transaction begins with: its GTID, when it was committed, how long it is.
#![deny(clippy::indexing_slicing)]

use serde::{Deserialize, Serialize};

use super::event::EventHeader;
use super::gtid::Gtid;
use crate::MysqlError;
use crate::wire::reader::Reader;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionHead {
    /// `None` where the server has GTIDs switched off.
    pub gtid: Option<Gtid>,
    /// Microseconds since 1970 of the commit on the server the log is of. Whole seconds where the server writes no better.
    pub committed_at: u64,
    /// Bytes in the log with this event, where the server writes it.
    pub length: Option<u64>,
    /// Who committed it first.
    pub server_id: u32,
    /// MariaDB: one statement that commits by itself, with no event behind it that says so.
    pub(crate) standalone: bool,
}

/// `last_committed` and `sequence_number` follow.
const LOGICAL_TIMESTAMPS: u8 = 2;
/// A commit time of seven bytes, by its highest bit followed by another.
const COMMIT_TIME_BYTES: usize = 7;
const COMMIT_TIME_HAS_ORIGINAL: u64 = 1 << 55;
const MARIADB_STANDALONE: u8 = 0x01;

impl TransactionHead {
    /// Of the event's body without header and checksum.
    pub(crate) fn decode(header: &EventHeader, body: &[u8]) -> Result<Self, MysqlError> {
        let mut reader = Reader::new("GTID event", body);
        let head = match header.kind {
            EventHeader::TAGGED_GTID => decode_tagged(header, reader)?,
            EventHeader::MARIADB_GTID => {
                let sequence = reader.u64_le()?;
                let domain = reader.u32_le()?;
                let flags = reader.u8()?;
                Self {
                    gtid: Some(Gtid::MariaDb {
                        domain,
                        server: header.server_id,
                        sequence,
                    }),
                    committed_at: in_seconds(header),
                    length: None,
                    server_id: header.server_id,
                    standalone: flags & MARIADB_STANDALONE != 0,
                }
            }
            _ => decode_plain(header, reader)?,
        };
        Ok(head)
    }
}

fn in_seconds(header: &EventHeader) -> u64 {
    u64::from(header.timestamp) * 1_000_000
}

/// Each release since 5.6 has put something more behind it.
fn decode_plain(header: &EventHeader, mut reader: Reader<'_>) -> Result<TransactionHead, MysqlError> {
    reader.u8()?; // flags
    let uuid = reader.uuid()?;
    let number = reader.u64_le()?;
    let gtid = if header.kind == EventHeader::ANONYMOUS_GTID {
        None
    } else {
        Some(mysql_gtid(&reader, uuid, String::new(), number)?)
    };
    let mut head = TransactionHead {
        gtid,
        committed_at: in_seconds(header),
        length: None,
        server_id: header.server_id,
        standalone: false,
    };
    if reader.is_empty() || reader.u8()? != LOGICAL_TIMESTAMPS {
        return Ok(head);
    }
    reader.take(16)?; // last_committed, sequence_number
    if reader.is_empty() {
        return Ok(head);
    }
    let time = reader.uint_le(COMMIT_TIME_BYTES)?;
    head.committed_at = time & (COMMIT_TIME_HAS_ORIGINAL - 1);
    if time & COMMIT_TIME_HAS_ORIGINAL != 0 {
        reader.take(COMMIT_TIME_BYTES)?;
    }
    if !reader.is_empty() {
        head.length = Some(reader.lenenc()?).filter(|length| *length > 0);
    }
    Ok(head)
}

fn mysql_gtid(reader: &Reader<'_>, uuid: [u8; 16], tag: String, number: u64) -> Result<Gtid, MysqlError> {
    if !(1..i64::MAX as u64).contains(&number) {
        return Err(reader.wrong(format_args!("transaction number {number}")));
    }
    Ok(Gtid::Mysql { uuid, tag, number })
}

/// A tag is no longer than this.
const TAG_BYTES_MAX: usize = 32;

/// Fields by number, in the server's own serialization.
fn decode_tagged(header: &EventHeader, mut reader: Reader<'_>) -> Result<TransactionHead, MysqlError> {
    const VERSION: u64 = 1;
    let whole = reader.left();
    let version = varlen(&mut reader)?;
    if version != VERSION {
        return Err(reader.wrong(format_args!("serialization version {version}")));
    }
    let size = varlen(&mut reader)?;
    let last_needed = varlen(&mut reader)?;
    let end = usize::try_from(size).ok().and_then(|size| whole.checked_sub(size));
    let Some(end) = end else {
        return Err(reader.wrong(format_args!("{size} bytes in {whole}")));
    };
    let (mut uuid, mut tag, mut number) = (None, String::new(), None);
    let (mut committed_at, mut length) = (None, None);
    while reader.left() > end {
        match varlen(&mut reader)? {
            1 => {
                let mut bytes = [0; 16];
                for byte in &mut bytes {
                    let value = varlen(&mut reader)?;
                    *byte = u8::try_from(value).map_err(|_| reader.wrong(format_args!("{value} in a UUID")))?;
                }
                uuid = Some(bytes);
            }
            2 => number = Some(signed(varlen(&mut reader)?)),
            3 => {
                let bytes = usize::try_from(varlen(&mut reader)?)
                    .ok()
                    .filter(|bytes| *bytes <= TAG_BYTES_MAX);
                let bytes = bytes.ok_or_else(|| reader.wrong("an endless tag"))?;
                tag = crate::wire::reader::text(reader.take(bytes)?);
            }
            6 => committed_at = Some(varlen(&mut reader)?),
            8 => length = Some(varlen(&mut reader)?),
            // Flags, logical timestamps, the original commit time, versions, a ticket.
            0 | 4 | 5 | 7 | 9..=11 => {
                varlen(&mut reader)?;
            }
            // What a later release added, and may be left out; its width is not known, so it ends what can be read.
            later if later > last_needed => break,
            other => return Err(reader.wrong(format_args!("unknown field {other}"))),
        }
    }
    let (Some(uuid), Some(number)) = (uuid, number.and_then(|number| u64::try_from(number).ok())) else {
        return Err(reader.wrong("no source and number"));
    };
    if !tag.is_empty() && crate::gtid::parse_tag(&tag).is_none() {
        return Err(reader.wrong(format_args!("\"{tag}\" is no tag")));
    }
    Ok(TransactionHead {
        gtid: Some(mysql_gtid(&reader, uuid, tag, number)?),
        committed_at: committed_at.unwrap_or_else(|| in_seconds(header)),
        length: length.filter(|length| *length > 0),
        server_id: header.server_id,
        standalone: false,
    })
}

/// The ones at the low end of the first byte count the bytes behind it, and are no part of the value.
pub(super) fn varlen(reader: &mut Reader<'_>) -> Result<u64, MysqlError> {
    let first = reader.u8()?;
    let more = first.trailing_ones();
    let rest = reader.uint_le(usize::try_from(more).unwrap_or(8))?;
    // All eight ones leave no bit of the first byte, and so does a seventh.
    let own = u64::from(first).checked_shr(more + 1).unwrap_or(0);
    Ok(own | rest.checked_shl(7u32.saturating_sub(more)).unwrap_or(0))
}

/// The sign is the lowest bit.
fn signed(value: u64) -> i64 {
    let magnitude = i64::try_from(value >> 1).unwrap_or(i64::MAX);
    if value & 1 == 0 { magnitude } else { -1 - magnitude }
}

#[cfg(test)]
mod tests {
    use mysql_common::misc::write_varlen_uint;
    use proptest::prelude::*;

    use super::*;

    fn header(kind: u8) -> EventHeader {
        EventHeader {
            timestamp: 1_700_000_000,
            kind,
            server_id: 7,
            size: 0,
            end_position: 0,
            flags: 0,
        }
    }

    fn decoded(kind: u8, body: &[u8]) -> TransactionHead {
        TransactionHead::decode(&header(kind), body).unwrap()
    }

    #[test]
    fn plain_events_of_every_release_read() {
        let mut body = vec![1];
        body.extend([0x3E; 16]);
        body.extend(23u64.to_le_bytes());
        let gtid = "3e3e3e3e-3e3e-3e3e-3e3e-3e3e3e3e3e3e:23";
        let head = decoded(EventHeader::GTID, &body);
        assert_eq!(head.gtid.unwrap().to_string(), gtid);
        assert_eq!((head.committed_at, head.length), (1_700_000_000_000_000, None));
        body.push(LOGICAL_TIMESTAMPS);
        body.extend([0; 16]);
        assert_eq!(decoded(EventHeader::GTID, &body).length, None);
        let plain = body.len();
        body.extend([1, 0, 0, 0, 0, 0, 0]);
        body.extend([0xFC, 0, 2]);
        let head = decoded(EventHeader::GTID, &body);
        assert_eq!((head.committed_at, head.length), (1, Some(512)));
        body.truncate(plain);
        body.extend([2, 0, 0, 0, 0, 0, 0x80]);
        body.extend([1, 0, 0, 0, 0, 0, 0]);
        body.extend([0xFC, 0, 2]);
        let head = decoded(EventHeader::ANONYMOUS_GTID, &body);
        assert_eq!((head.committed_at, head.length, head.gtid), (2, Some(512), None));
    }

    proptest! {
        #[test]
        fn varlen_reads_what_another_library_writes(value: u64, bits in 0u32..64) {
            let value = value >> bits;
            let mut bytes = Vec::new();
            write_varlen_uint(&mut bytes, value);
            let mut reader = Reader::new("test", &bytes);
            prop_assert_eq!(varlen(&mut reader).unwrap(), value);
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn tagged_events_read_as_another_library_writes_them(
            uuid: [u8; 16], number in 1u64..1 << 62, tag in "[a-z_][a-z0-9_]{0,31}", committed: u64, length in 1u64..,
        ) {
            use mysql_common::binlog::events::GtidEvent;
            use mysql_common::proto::MySerialize as _;
            let tag_value = mysql_common::packets::Tag::new(tag.clone()).unwrap();
            let event = GtidEvent::new_tagged(uuid, tag_value, number)
                .with_immediate_commit_timestamp(committed)
                .with_tx_length(length);
            let mut body = Vec::new();
            event.serialize(&mut body);
            let head = decoded(EventHeader::TAGGED_GTID, &body);
            prop_assert_eq!(head.gtid, Some(Gtid::Mysql { uuid, tag, number }));
            prop_assert_eq!((head.committed_at, head.length), (committed, Some(length)));
        }

        #[test]
        fn no_bytes_make_it_panic(kind in 0usize..4, body: Vec<u8>) {
            let kind = [EventHeader::GTID, EventHeader::ANONYMOUS_GTID, EventHeader::TAGGED_GTID, EventHeader::MARIADB_GTID][kind];
            let _ = TransactionHead::decode(&header(kind), &body).is_ok();
            let mut tagged = vec![2, 0x40, 0x10];
            tagged.extend(body);
            let _ = TransactionHead::decode(&header(EventHeader::TAGGED_GTID), &tagged).is_ok();
        }
    }
}
