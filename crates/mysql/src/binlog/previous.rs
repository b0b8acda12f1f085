//! The events at the head of a file that tell what all files before it hold.
#![deny(clippy::indexing_slicing)]

use super::event::EventHeader;
use super::executed_set::{ExecutedSet, LogFlavour};
use super::gtid::Gtid;
use super::transaction_head::varlen;
use crate::wire::reader::{Reader, text};
use crate::{GtidSet, MysqlError};

/// One interval takes this much.
const INTERVAL_BYTES: u64 = 16;
/// MariaDB: the count shares its field with flags.
const LIST_COUNT: u32 = (1 << 28) - 1;

/// Of the body of a `PREVIOUS_GTIDS` or `GTID_LIST` event, without header and checksum.
pub(super) fn decode(kind: u8, body: &[u8]) -> Result<ExecutedSet, MysqlError> {
    if kind == EventHeader::MARIADB_GTID_LIST {
        return decode_list(Reader::new("GTID list event", body));
    }
    decode_set(Reader::new("previous GTIDs event", body)).map(ExecutedSet::Mysql)
}

fn decode_set(mut reader: Reader<'_>) -> Result<GtidSet, MysqlError> {
    let count = reader.u64_le()?;
    // The highest byte is the form; with tags, it stands at the lowest too.
    let (tagged, count) = match count >> 56 {
        0 => (false, count),
        1 => (true, count << 8 >> 16),
        other => return Err(reader.wrong(format_args!("form {other}"))),
    };
    let mut set = GtidSet::default();
    for _ in 0..count {
        // Ends at the latest where the bytes do.
        let uuid = reader.uuid()?;
        let tag = if tagged {
            let bytes = varlen(&mut reader)?;
            let bytes = usize::try_from(bytes).map_err(|_| reader.wrong("an endless tag"))?;
            text(reader.take(bytes)?)
        } else {
            String::new()
        };
        let intervals = reader.u64_le()?;
        if intervals > reader.left() as u64 / INTERVAL_BYTES {
            return Err(reader.wrong(format_args!("{intervals} intervals in {} bytes", reader.left())));
        }
        for _ in 0..intervals {
            let (from, to) = (reader.u64_le()?, reader.u64_le()?);
            set.add(uuid, &tag, from, to)?;
        }
    }
    Ok(set)
}

fn decode_list(mut reader: Reader<'_>) -> Result<ExecutedSet, MysqlError> {
    let count = reader.u32_le()? & LIST_COUNT;
    let mut set = ExecutedSet::empty(LogFlavour::MariaDb);
    for _ in 0..count {
        let (domain, server) = (reader.u32_le()?, reader.u32_le()?);
        let sequence = reader.u64_le()?;
        set.add(&Gtid::MariaDb {
            domain,
            server,
            sequence,
        })?;
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lists_read_with_tags_and_without() {
        let mut body = 1u64.to_le_bytes().to_vec();
        body.extend([0x3E; 16]);
        body.extend(2u64.to_le_bytes());
        for number in [1u64, 4, 7, 8] {
            body.extend(number.to_le_bytes());
        }
        let set = decode(EventHeader::PREVIOUS_GTIDS, &body).unwrap();
        assert_eq!(set.to_string(), "3e3e3e3e-3e3e-3e3e-3e3e-3e3e3e3e3e3e:1-3:7");

        let mut body = vec![1, 2, 0, 0, 0, 0, 0, 1];
        for tag in ["", "job"] {
            body.extend([0x3E; 16]);
            body.push(u8::try_from(tag.len()).unwrap() << 1);
            body.extend(tag.as_bytes());
            body.extend(1u64.to_le_bytes());
            body.extend([1u64.to_le_bytes(), 3u64.to_le_bytes()].concat());
        }
        let set = decode(EventHeader::PREVIOUS_GTIDS, &body).unwrap();
        assert_eq!(set.to_string(), "3e3e3e3e-3e3e-3e3e-3e3e-3e3e3e3e3e3e:1-2:job:1-2");

        let mut body = 2u32.to_le_bytes().to_vec();
        for (domain, server, sequence) in [(0u32, 1u32, 5u64), (0, 2, 9)] {
            body.extend(domain.to_le_bytes());
            body.extend(server.to_le_bytes());
            body.extend(sequence.to_le_bytes());
        }
        let set = decode(EventHeader::MARIADB_GTID_LIST, &body).unwrap();
        assert_eq!(set.to_string(), "0-2-9");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mariadb: bool, count: u8, form in 0u8..3, body: Vec<u8>) {
            let kind = if mariadb { EventHeader::MARIADB_GTID_LIST } else { EventHeader::PREVIOUS_GTIDS };
            let _ = decode(kind, &body).is_ok();
            let mut counted = vec![form, count, 0, 0, 0, 0, 0, form];
            counted.extend(body);
            let _ = decode(kind, &counted).is_ok();
        }
    }
}
