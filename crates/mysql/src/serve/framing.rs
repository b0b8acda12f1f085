//! From bytes of a log, cut anywhere, to packets: one event each, a large one in several, numbered on from the replica's question.
#![deny(clippy::indexing_slicing)]

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::events::{FORMAT, HEADER_BYTES, ROTATE, file_start, heartbeat};
use crate::MysqlError;
use crate::wire::packet::PACKET_BYTES_FULL;

/// Packets are collected up to about this size before they are sent.
const BUFFER_BYTES: usize = 256 * 1024;
/// A ROTATE holds an offset and a file's name.
const ROTATE_BYTES_MAX: usize = 1024;
const NAME_BYTES_MAX: usize = 512;
/// Of a FORMAT event: its file is not closed yet. The sum is taken without it, and a replica must not see it.
const IN_USE: u8 = 0x01;
const FLAGS_AT: usize = 17;
const ERROR_CODE: u16 = 1236;

pub(super) struct Framing {
    buffer: BytesMut,
    sequence: u8,
    server_id: u32,
    replica_id: u32,
    pub(super) long_heartbeats: bool,
    /// What the replica takes to be the file, and how far it got by its own counting.
    file: String,
    offset: u64,
    /// The header of the next event as far as it has come.
    header: BytesMut,
    /// The event's bytes that are still to come.
    event_left: usize,
    /// Room in the packet that was begun.
    packet_left: usize,
    /// The packet that was begun is a full one, so another follows.
    packet_full: bool,
    /// A ROTATE's body, which says what the replica takes for the file from then on.
    rotate: Option<BytesMut>,
}

impl Framing {
    pub(super) fn new(sequence: u8, server_id: u32, replica_id: u32) -> Self {
        Self {
            buffer: BytesMut::with_capacity(BUFFER_BYTES),
            sequence,
            server_id,
            replica_id,
            long_heartbeats: false,
            file: String::new(),
            offset: 0,
            header: BytesMut::with_capacity(HEADER_BYTES),
            event_left: 0,
            packet_left: 0,
            packet_full: false,
            rotate: None,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.buffer.len() >= BUFFER_BYTES
    }

    /// What is to be sent.
    pub(super) fn take(&mut self) -> Bytes {
        let taken = self.buffer.split().freeze();
        self.buffer.reserve(BUFFER_BYTES);
        taken
    }

    pub(super) fn between_events(&self) -> bool {
        self.event_left == 0 && self.header.is_empty()
    }

    /// A file begins.
    pub(super) fn file(&mut self, name: &str) -> Result<(), MysqlError> {
        if !self.between_events() {
            return Err(MysqlError::protocol("a file of the log begins within an event"));
        }
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(MysqlError::protocol(format!(
                "a file of the log has a name of {} bytes",
                name.len()
            )));
        }
        let rotate = file_start(self.server_id, name);
        self.packet(&[&[0], &rotate]);
        name.clone_into(&mut self.file);
        self.offset = 4;
        Ok(())
    }

    /// Nothing has come; only between events, and when the replica knows of a file.
    pub(super) fn heartbeat(&mut self) {
        if self.between_events() && !self.file.is_empty() {
            let beat = heartbeat(self.server_id, &self.file, self.offset, self.long_heartbeats);
            self.packet(&[&[0], &beat]);
        }
    }

    /// The end, as an error of ours.
    pub(super) fn end(&mut self, text: &str) {
        let code = ERROR_CODE.to_le_bytes();
        self.packet(&[&[0xFF], &code, b"#HY000", text.as_bytes()]);
    }

    /// A packet that is known whole, and small.
    fn packet(&mut self, parts: &[&[u8]]) {
        self.begin_packet(parts.iter().map(|part| part.len()).sum());
        for part in parts {
            self.buffer.put_slice(part);
        }
    }

    fn begin_packet(&mut self, bytes: usize) {
        self.buffer.put_uint_le(bytes as u64, 3);
        self.buffer.put_u8(self.sequence);
        self.sequence = self.sequence.wrapping_add(1);
    }

    /// Takes of `bytes` until the buffer is full or they are used up.
    pub(super) fn push(&mut self, bytes: &mut Bytes) -> Result<(), MysqlError> {
        while !bytes.is_empty() && !self.is_full() {
            if self.event_left > 0 {
                self.body(bytes);
                continue;
            }
            let missing = HEADER_BYTES - self.header.len();
            let part = bytes.split_to(missing.min(bytes.len()));
            self.header.put_slice(&part);
            if self.header.len() == HEADER_BYTES {
                let header = self.header.split();
                self.begin_event(header)?;
            }
        }
        Ok(())
    }

    fn begin_event(&mut self, mut header: BytesMut) -> Result<(), MysqlError> {
        let mut fields = header.clone();
        fields.advance(4); // timestamp
        let kind = fields.get_u8();
        let server_id = fields.get_u32_le();
        let size = fields.get_u32_le();
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if size < HEADER_BYTES {
            return Err(MysqlError::protocol(format!("an event of the log has {size} bytes")));
        }
        if server_id == self.replica_id {
            return Err(MysqlError::Unsupported {
                what: format!(
                    "the log holds events of server id {server_id}, which is the replica's own: it would drop them in silence"
                ),
                hint: "start again: another id is drawn".to_owned(),
            });
        }
        if kind == FORMAT
            && let Some(flags) = header.get_mut(FLAGS_AT)
        {
            *flags &= !IN_USE;
        }
        self.rotate = (kind == ROTATE && size <= ROTATE_BYTES_MAX).then(BytesMut::new);
        self.offset += size as u64;
        // The packet begins with a zero byte before the event.
        let payload = size + 1;
        self.begin_part(payload);
        self.buffer.put_u8(0);
        self.buffer.put_slice(&header);
        self.packet_left -= 1 + HEADER_BYTES;
        self.event_left = size - HEADER_BYTES;
        self.end_part();
        Ok(())
    }

    fn begin_part(&mut self, left: usize) {
        let now = left.min(PACKET_BYTES_FULL);
        self.begin_packet(now);
        self.packet_left = now;
        self.packet_full = now == PACKET_BYTES_FULL;
    }

    /// After a part was put in: the next packet of the same event, the end of the event, or neither.
    fn end_part(&mut self) {
        if self.packet_left == 0 && (self.event_left > 0 || self.packet_full) {
            // An event that fills its packets to the last byte ends with an empty one.
            self.begin_part(self.event_left);
        }
        if self.event_left == 0
            && let Some(body) = self.rotate.take()
        {
            self.rotated(&body);
        }
    }

    fn body(&mut self, bytes: &mut Bytes) {
        let now = bytes.len().min(self.event_left).min(self.packet_left).min(BUFFER_BYTES);
        let part = bytes.split_to(now);
        if let Some(body) = &mut self.rotate {
            body.put_slice(&part);
        }
        self.buffer.put_slice(&part);
        self.packet_left -= now;
        self.event_left -= now;
        self.end_part();
    }

    /// The end of a file names the next one: the replica takes that for the file from now on.
    fn rotated(&mut self, body: &[u8]) {
        let Some((offset, rest)) = body.split_first_chunk::<8>() else {
            return;
        };
        let name = rest.get(..rest.len().saturating_sub(4)).unwrap_or_default();
        if let Ok(name) = std::str::from_utf8(name)
            && !name.is_empty()
        {
            name.clone_into(&mut self.file);
            self.offset = u64::from_le_bytes(*offset);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::events::empty_query;
    use super::*;

    fn all(framing: &mut Framing, mut bytes: Bytes) -> Vec<u8> {
        let mut sent = Vec::new();
        while !bytes.is_empty() {
            framing.push(&mut bytes).unwrap();
            sent.extend_from_slice(&framing.take());
        }
        sent
    }

    /// The payloads, joined where they are full, as a client reads them; the numbers must go up.
    fn payloads(mut bytes: &[u8], mut sequence: u8) -> Vec<Vec<u8>> {
        let (mut found, mut joined) = (Vec::new(), Vec::new());
        while !bytes.is_empty() {
            let length = usize::try_from(bytes.get_uint_le(3)).unwrap();
            assert_eq!(bytes.get_u8(), sequence);
            sequence = sequence.wrapping_add(1);
            joined.extend_from_slice(&bytes[..length]);
            bytes = &bytes[length..];
            if length < PACKET_BYTES_FULL {
                found.push(std::mem::take(&mut joined));
            }
        }
        assert!(joined.is_empty(), "the last payload has no end");
        found
    }

    fn sized(size: usize) -> Bytes {
        let mut event = BytesMut::from(&empty_query(7, 1, "BEGIN")[..HEADER_BYTES]);
        event[9..13].copy_from_slice(&u32::try_from(size).unwrap().to_le_bytes());
        event.resize(size, 7);
        event.freeze()
    }

    #[test]
    fn an_event_of_any_size_comes_whole() {
        for size in [
            19,
            20,
            5000,
            PACKET_BYTES_FULL - 2,
            PACKET_BYTES_FULL - 1,
            PACKET_BYTES_FULL,
            2 * PACKET_BYTES_FULL - 1,
        ] {
            let mut framing = Framing::new(1, 1000, 2000);
            let (event, small) = (sized(size), empty_query(7, 1, "COMMIT"));
            let sent = all(&mut framing, [&event[..], &small].concat().into());
            assert!(framing.between_events());
            let expected = [[&[0], &event[..]].concat(), [&[0], &small[..]].concat()];
            assert!(payloads(&sent, 1) == expected, "{size}");
        }
    }

    #[test]
    fn heartbeats_name_the_file_of_the_last_rotate() {
        let mut framing = Framing::new(1, 1000, 2000);
        framing.heartbeat();
        assert!(framing.take().is_empty());
        framing.file("binlog.000007").unwrap();
        assert_eq!((framing.file.as_str(), framing.offset), ("binlog.000007", 4));
        let event = empty_query(7, 1, "COMMIT");
        all(&mut framing, event.clone());
        assert_eq!(framing.offset, 4 + event.len() as u64);
        all(&mut framing, file_start(1, "binlog.000008"));
        assert_eq!((framing.file.as_str(), framing.offset), ("binlog.000008", 4));
    }

    #[test]
    fn what_the_replica_would_drop_in_silence_is_refused() {
        let mut framing = Framing::new(1, 1000, 2000);
        let error = framing.push(&mut empty_query(7, 2000, "BEGIN")).unwrap_err();
        assert!(error.to_string().contains("server id 2000"), "{error}");
    }

    proptest! {
        #[test]
        fn cuts_change_nothing(sizes in proptest::collection::vec(19usize..200, 1..20), cut in 1usize..50) {
            let log: Vec<u8> = sizes.iter().flat_map(|size| sized(*size)).collect();
            let mut framing = Framing::new(250, 1000, 2000);
            let mut sent = Vec::new();
            for part in log.chunks(cut) {
                sent.extend(all(&mut framing, Bytes::copy_from_slice(part)));
            }
            let found = payloads(&sent, 250);
            prop_assert_eq!(found.iter().map(|payload| payload.len() - 1).collect::<Vec<_>>(), sizes);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let mut framing = Framing::new(1, 1000, 2000);
            let mut bytes = Bytes::from(bytes);
            while !bytes.is_empty() && framing.push(&mut bytes).is_ok() {
                drop(framing.take());
            }
        }
    }
}
