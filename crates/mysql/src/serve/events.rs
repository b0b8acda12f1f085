//! Events that are in no file: those a source makes up for its replica, and those that stand for a transaction left out.
#![deny(clippy::indexing_slicing)]

use bytes::{BufMut as _, Bytes, BytesMut};

pub(super) const HEADER_BYTES: usize = 19;
const CHECKSUM_BYTES: usize = 4;
pub(super) const QUERY: u8 = 2;
pub(super) const ROTATE: u8 = 4;
pub(super) const FORMAT: u8 = 15;
const HEARTBEAT: u8 = 27;
const LONG_HEARTBEAT: u8 = 41;
/// The source made it up; it is in no file.
const ARTIFICIAL: u16 = 0x20;
/// A BEGIN changes no database that a rule could be about.
const SUPPRESS_USE: u16 = 0x08;
const FIRST_OFFSET: u64 = 4;

/// The sum that ends an event.
pub fn event_checksum(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iso_hdlc(bytes)
}

struct Header {
    timestamp: u32,
    kind: u8,
    server_id: u32,
    end_position: u32,
    flags: u16,
}

fn event(header: &Header, body: &[u8]) -> Bytes {
    let size = HEADER_BYTES + body.len() + CHECKSUM_BYTES;
    let mut bytes = BytesMut::with_capacity(size);
    bytes.put_u32_le(header.timestamp);
    bytes.put_u8(header.kind);
    bytes.put_u32_le(header.server_id);
    bytes.put_u32_le(u32::try_from(size).unwrap_or(u32::MAX));
    bytes.put_u32_le(header.end_position);
    bytes.put_u16_le(header.flags);
    bytes.put_slice(body);
    bytes.put_u32_le(event_checksum(&bytes));
    bytes.freeze()
}

/// Says that what follows is from the start of this file.
pub(super) fn file_start(server_id: u32, name: &str) -> Bytes {
    let body = [&FIRST_OFFSET.to_le_bytes(), name.as_bytes()].concat();
    let header = Header {
        timestamp: 0,
        kind: ROTATE,
        server_id,
        end_position: 0,
        flags: ARTIFICIAL,
    };
    event(&header, &body)
}

/// Says that nothing has come. The long form holds offsets of 4 GiB and more.
pub(super) fn heartbeat(server_id: u32, name: &str, offset: u64, long: bool) -> Bytes {
    let low = u32::try_from(offset & u64::from(u32::MAX)).unwrap_or_default();
    let mut header = Header {
        timestamp: 0,
        kind: HEARTBEAT,
        server_id,
        end_position: low,
        flags: 0,
    };
    if !long {
        return event(&header, name.as_bytes());
    }
    header.kind = LONG_HEARTBEAT;
    let mut body = BytesMut::new();
    body.put_u8(1);
    body.put_u8(u8::try_from(name.len()).unwrap_or(u8::MAX));
    body.put_slice(name.as_bytes());
    let mut number = BytesMut::new();
    put_lenenc(&mut number, offset);
    body.put_u8(2);
    body.put_u8(u8::try_from(number.len()).unwrap_or(u8::MAX));
    body.put_slice(&number);
    body.put_u8(0);
    event(&header, &body)
}

pub(super) fn put_lenenc(bytes: &mut BytesMut, number: u64) {
    match number {
        0..=0xFA => bytes.put_u8(u8::try_from(number).unwrap_or_default()),
        0xFB..=0xFFFF => {
            bytes.put_u8(0xFC);
            bytes.put_uint_le(number, 2);
        }
        0x1_0000..=0xFF_FFFF => {
            bytes.put_u8(0xFD);
            bytes.put_uint_le(number, 3);
        }
        _ => {
            bytes.put_u8(0xFE);
            bytes.put_u64_le(number);
        }
    }
}

/// A QUERY event of this text without a session of its own: BEGIN and COMMIT, to stand for what is left out.
pub fn empty_query(timestamp: u32, server_id: u32, text: &str) -> Bytes {
    let flags = if text == "BEGIN" { SUPPRESS_USE } else { 0 };
    let mut body = BytesMut::new();
    body.put_u32_le(0); // thread
    body.put_u32_le(0); // seconds it took
    body.put_u8(0); // length of the database's name
    body.put_u16_le(0); // error
    body.put_u16_le(0); // length of the session's variables
    body.put_u8(0); // the name's end
    body.put_slice(text.as_bytes());
    let header = Header {
        timestamp,
        kind: QUERY,
        server_id,
        end_position: 0,
        flags,
    };
    event(&header, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_events_are_those_that_real_servers_send() {
        let rotate = file_start(0x0d05, "binlog.000001");
        let (body, sum) = rotate.split_at(rotate.len() - CHECKSUM_BYTES);
        let mut expected = b"\0\0\0\0\x04\x05\x0d\0\0\x2c\0\0\0\0\0\0\0\x20\0\x04\0\0\0\0\0\0\0".to_vec();
        expected.extend(b"binlog.000001");
        assert_eq!(body, expected);
        assert_eq!(sum, event_checksum(body).to_le_bytes());
        // As a source of MySQL 9.7 sent it for that offset.
        let beat = heartbeat(1, "binlog.000002", 0x1e_963f, true);
        assert_eq!(&beat[4..5], [LONG_HEARTBEAT]);
        assert_eq!(
            &beat[19..beat.len() - 4],
            b"\x01\x0dbinlog.000002\x02\x04\xfd\x3f\x96\x1e\x00"
        );
        let beat = heartbeat(1, "binlog.000002", 0x1e_963f, false);
        assert_eq!((beat[4], &beat[13..17]), (HEARTBEAT, &[0x3f, 0x96, 0x1e, 0][..]));
    }
}
