//! Packets of a log that is sent become bytes of its files. Without input or output.
//!
//! A server also sends events that no file has: where the next file begins, the format again when it starts within a
//! file, and heartbeats. They are recognised and never given on. Every other event must end, by what it says itself,
//! exactly where ours ends; so neither a hole nor anything twice gets past, and the place that is acknowledged is the
//! place of the server's own file.
#![deny(clippy::indexing_slicing)]

use bytes::Bytes;

use super::event::{EventHeader, LOG_MAGIC};
use super::follower::Followed;
use super::packet::{self, HeartbeatOffset, Packet};
use super::session::LogPlace;
use crate::MysqlError;
use crate::error::LogRefusal;
use crate::wire::packet::PACKET_BYTES_FULL;

#[derive(Debug)]
pub(super) struct Receiver {
    /// Behind the last byte that came.
    place: LogPlace,
    /// The file before, and its end.
    before: Option<LogPlace>,
    /// Events up to here are not given on: the server could not begin where we are.
    skip_until: u64,
    /// Whether each event has the two bytes of semi-synchronous replication before it.
    semi_sync: bool,
    /// An event of the log has come.
    began: bool,
    event: Option<Arriving>,
    /// The last packet was full, so the next one continues it.
    continued: bool,
}

/// An event of which parts are to come.
#[derive(Debug)]
struct Arriving {
    left: usize,
    waits: bool,
    given: bool,
}

impl Receiver {
    /// The server sends from `place` on, and is wanted from `skip_until` on.
    pub(super) fn new(place: LogPlace, skip_until: u64, semi_sync: bool) -> Self {
        Self {
            place,
            before: None,
            skip_until,
            semi_sync,
            began: false,
            event: None,
            continued: false,
        }
    }

    pub(super) fn place(&self) -> &LogPlace {
        &self.place
    }

    pub(super) fn is_semi_sync(&self) -> bool {
        self.semi_sync
    }

    /// Whether everything up to there came.
    pub(super) fn has(&self, file: &str, offset: u64) -> bool {
        let mut places = std::iter::once(&self.place).chain(&self.before);
        places
            .find(|place| place.file == file)
            .is_some_and(|place| offset <= place.offset)
    }

    /// The next packet; `None` when it holds nothing of a file.
    pub(super) fn take(&mut self, packet: &Bytes) -> Result<Option<Followed>, MysqlError> {
        let continues = std::mem::replace(&mut self.continued, packet.len() == PACKET_BYTES_FULL);
        if continues {
            return self.take_part(packet.clone());
        }
        if self.event.is_some() {
            return Err(MysqlError::protocol("binlog: an event that has no end"));
        }
        match Packet::decode(packet, self.semi_sync) {
            Ok(Packet::End) => Ok(Some(Followed::Ended)),
            Ok(Packet::Event { event, waits }) => self.take_event(event, waits),
            Err(error) => Err(packet::refusal(error, &self.place, self.began)),
        }
    }

    fn take_event(&mut self, event: Bytes, waits: bool) -> Result<Option<Followed>, MysqlError> {
        let header = EventHeader::decode(&event)?;
        let size = usize::try_from(header.size).unwrap_or(usize::MAX);
        if event.len() > size || (event.len() < size && !self.continued) {
            return Err(MysqlError::protocol(format!(
                "binlog: an event of {size} bytes came in {}",
                event.len()
            )));
        }
        let artificial = header.flags & EventHeader::FLAG_ARTIFICIAL != 0;
        match header.kind {
            EventHeader::HEARTBEAT | EventHeader::HEARTBEAT_V2 => {
                return self.take_heartbeat(&header, &event).map(Some);
            }
            EventHeader::ROTATE if artificial || header.end_position == 0 => return self.take_rotate(&event),
            // Told again by a server that starts within a file; and what else is made for us.
            EventHeader::FORMAT_DESCRIPTION if header.end_position == 0 => return Ok(None),
            _ if artificial => return Ok(None),
            _ => {}
        }
        let end = self.place.offset + u64::from(header.size);
        let says_nothing = header.end_position == 0 && header.kind != EventHeader::FORMAT_DESCRIPTION;
        if !says_nothing && u64::from(header.end_position) != end & u64::from(u32::MAX) {
            return Err(MysqlError::protocol(format!(
                "binlog: bytes are missing or come twice in {}: an event that ends at {end} says it ends at {}",
                self.place.file, header.end_position
            )));
        }
        self.began = true;
        self.event = Some(Arriving {
            left: size,
            waits,
            given: end > self.skip_until,
        });
        if end > self.skip_until && self.place.offset < self.skip_until {
            return Err(MysqlError::LogRefused {
                file: self.place.file.clone(),
                offset: self.skip_until,
                cause: LogRefusal::NoBorder,
                message: "no event begins there".to_owned(),
            });
        }
        self.take_part(event)
    }

    /// The first or a further part of the event.
    fn take_part(&mut self, part: Bytes) -> Result<Option<Followed>, MysqlError> {
        let Some(event) = &mut self.event else {
            // The empty packet behind one that was full and the last.
            return if part.is_empty() {
                Ok(None)
            } else {
                Err(MysqlError::protocol("binlog: bytes behind the end of an event"))
            };
        };
        let Some(left) = event.left.checked_sub(part.len()) else {
            return Err(MysqlError::protocol("binlog: bytes behind the end of an event"));
        };
        if left > 0 && !self.continued {
            return Err(MysqlError::protocol(format!(
                "binlog: an event that ends {left} bytes too early"
            )));
        }
        event.left = left;
        self.place.offset += part.len() as u64;
        let followed = event.given.then_some(Followed::Bytes {
            bytes: part,
            last_of_event: left == 0,
            acknowledge: left == 0 && event.waits,
        });
        if left == 0 {
            self.event = None;
        }
        Ok(followed)
    }

    fn take_rotate(&mut self, event: &[u8]) -> Result<Option<Followed>, MysqlError> {
        let next = packet::decode_rotate(event)?;
        let file_start = LOG_MAGIC.len() as u64;
        if next.file == self.place.file {
            if next.offset.max(file_start) != self.place.offset {
                return Err(MysqlError::protocol(format!(
                    "binlog: the server goes on at {}:{} where {} is expected",
                    next.file, next.offset, self.place.offset
                )));
            }
            let is_new = self.place.offset == file_start && self.skip_until <= file_start && !self.began;
            return Ok(is_new.then(|| Followed::FileStart { file: next.file }));
        }
        if !self.began && self.place.offset != self.skip_until.max(file_start) || next.offset != file_start {
            return Err(MysqlError::protocol(format!(
                "binlog: the server goes on at {}:{} instead of {}:{}",
                next.file, next.offset, self.place.file, self.place.offset
            )));
        }
        self.skip_until = file_start;
        let file = next.file.clone();
        self.before = Some(std::mem::replace(&mut self.place, next));
        Ok(Some(Followed::FileStart { file }))
    }

    fn take_heartbeat(&mut self, header: &EventHeader, event: &[u8]) -> Result<Followed, MysqlError> {
        let heartbeat = packet::decode_heartbeat(header, event)?;
        let ours = self.place.offset;
        let fits = match heartbeat.offset {
            HeartbeatOffset::Whole(offset) => offset == ours,
            HeartbeatOffset::LowHalf(low) => u64::from(low) == ours & u64::from(u32::MAX),
        };
        if !fits || heartbeat.file != self.place.file {
            let theirs = match heartbeat.offset {
                HeartbeatOffset::Whole(offset) => offset,
                HeartbeatOffset::LowHalf(low) => u64::from(low),
            };
            return Err(MysqlError::protocol(format!(
                "binlog: the server sent up to {}:{theirs}, and {}:{ours} came",
                heartbeat.file, self.place.file
            )));
        }
        Ok(Followed::Heartbeat {
            file: heartbeat.file,
            offset: ours,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::Written;
    use super::*;

    fn receiver(offset: u64, skip_until: u64) -> Receiver {
        let place = LogPlace {
            file: "binlog.000001".to_owned(),
            offset,
        };
        Receiver::new(place, skip_until, true)
    }

    /// As a packet, with what semi-synchronous replication puts before it.
    fn packet(event: &[u8], waits: u8) -> Bytes {
        [&[0, 0xEF, waits][..], event].concat().into()
    }

    fn artificial(kind: u8, end: u32, flags: u16, body: &[u8]) -> Vec<u8> {
        let size = u32::try_from(19 + body.len()).unwrap().to_le_bytes();
        [
            &[0; 4][..],
            &[kind],
            &[7, 0, 0, 0],
            &size,
            &end.to_le_bytes(),
            &flags.to_le_bytes(),
            body,
        ]
        .concat()
    }

    fn fake_rotate(file: &str, offset: u64) -> Bytes {
        let body = [&offset.to_le_bytes()[..], file.as_bytes()].concat();
        packet(
            &artificial(EventHeader::ROTATE, 0, EventHeader::FLAG_ARTIFICIAL, &body),
            0,
        )
    }

    fn events(written: &Written) -> Vec<&[u8]> {
        let (mut rest, mut events) = (written.bytes.as_slice(), Vec::new());
        while let Ok(header) = EventHeader::decode(rest) {
            let (event, more) = rest.split_at(usize::try_from(header.size).unwrap());
            events.push(event);
            rest = more;
        }
        events
    }

    /// A transaction written at this offset of its file.
    fn transaction_at(offset: u64) -> Written {
        let mut written = Written::new(true);
        written.bytes.clear();
        written.file_offset = offset;
        written.transaction(1, 100);
        written
    }

    #[test]
    fn offsets_pass_four_gibibytes_where_the_servers_own_wrap() {
        let start = (1 << 32) - 100;
        let written = transaction_at(start);
        let mut receiver = receiver(start, start);
        assert_eq!(receiver.take(&fake_rotate("binlog.000001", start)).unwrap(), None);
        for (at, event) in events(&written).into_iter().enumerate() {
            let followed = receiver.take(&packet(event, u8::from(at == 2))).unwrap();
            let expected = Followed::Bytes {
                bytes: Bytes::copy_from_slice(event),
                last_of_event: true,
                acknowledge: at == 2,
            };
            assert_eq!(followed, Some(expected));
        }
        assert_eq!(receiver.place().offset, written.file_offset);
        assert!(written.file_offset > 1 << 32);
        let low = u32::try_from(written.file_offset - (1 << 32)).unwrap();
        let old = artificial(EventHeader::HEARTBEAT, low, 0, b"binlog.000001");
        let whole = [&[0xFE][..], &written.file_offset.to_le_bytes()].concat();
        let body = [&[1, 13][..], b"binlog.000001", &[2, 9], &whole, &[0]].concat();
        let new = artificial(EventHeader::HEARTBEAT_V2, 0, 0, &body);
        for heartbeat in [old, new] {
            let expected = Followed::Heartbeat {
                file: "binlog.000001".to_owned(),
                offset: written.file_offset,
            };
            assert_eq!(receiver.take(&packet(&heartbeat, 0)).unwrap(), Some(expected));
        }
        let short = artificial(EventHeader::HEARTBEAT, low + 1, 0, b"binlog.000001");
        let error = receiver.take(&packet(&short, 0)).unwrap_err().to_string();
        assert!(error.contains("the server sent up to"), "{error}");
    }

    #[test]
    fn a_hole_and_bytes_that_come_twice_are_refused() {
        let written = transaction_at(500);
        for (offset, order) in [(500, vec![1]), (500, vec![0, 0]), (500, vec![0, 2]), (499, vec![0])] {
            let mut receiver = receiver(offset, offset);
            let events = events(&written);
            let last = order.len() - 1;
            for (at, event) in order.into_iter().enumerate() {
                let taken = receiver.take(&packet(events[event], 0));
                if at == last {
                    assert!(taken.unwrap_err().to_string().contains("missing or come twice"));
                } else {
                    taken.unwrap();
                }
            }
        }
    }

    #[test]
    fn events_before_the_wanted_place_are_not_given() {
        let written = transaction_at(4);
        let second = 4 + events(&written)[0].len() as u64;
        let mut exact = receiver(4, second);
        assert_eq!(exact.take(&fake_rotate("binlog.000001", 4)).unwrap(), None);
        let given: Vec<bool> = events(&written)
            .into_iter()
            .map(|event| exact.take(&packet(event, 0)).unwrap().is_some())
            .collect();
        assert_eq!(given, [false, true, true]);
        let mut within = receiver(4, second + 1);
        within.take(&packet(events(&written)[0], 0)).unwrap();
        let error = within.take(&packet(events(&written)[1], 0)).unwrap_err();
        assert!(matches!(
            error,
            MysqlError::LogRefused {
                cause: LogRefusal::NoBorder,
                ..
            }
        ));
    }

    #[test]
    fn what_came_and_nothing_more_counts_as_come() {
        let written = transaction_at(4);
        let mut receiver = receiver(4, 4);
        for event in events(&written) {
            receiver.take(&packet(event, 0)).unwrap();
        }
        let end = written.file_offset;
        assert!(receiver.has("binlog.000001", end) && !receiver.has("binlog.000001", end + 1));
        receiver.take(&fake_rotate("binlog.000002", 4)).unwrap();
        assert!(receiver.has("binlog.000001", end) && !receiver.has("binlog.000001", end + 1));
        assert!(
            receiver.has("binlog.000002", 4) && !receiver.has("binlog.000002", 5) && !receiver.has("binlog.000003", 1)
        );
    }

    #[test]
    fn a_large_event_is_given_in_parts_and_its_last_part_is_told() {
        for more in [0, 1, PACKET_BYTES_FULL - 1, PACKET_BYTES_FULL] {
            let mut written = Written::new(false);
            written.bytes.clear();
            written.file_offset = 4;
            // The first packet has three bytes before the event.
            written.event(30, &vec![7; PACKET_BYTES_FULL - 3 - 19 + more]);
            let mut receiver = receiver(4, 4);
            let payload = packet(&written.bytes, 1);
            let mut parts: Vec<Bytes> = payload.chunks(PACKET_BYTES_FULL).map(Bytes::copy_from_slice).collect();
            if payload.len().is_multiple_of(PACKET_BYTES_FULL) {
                parts.push(Bytes::new());
            }
            let (mut bytes, mut lasts) = (Vec::new(), 0);
            for part in &parts {
                match receiver.take(part).unwrap() {
                    Some(Followed::Bytes {
                        bytes: part,
                        last_of_event,
                        acknowledge,
                    }) => {
                        bytes.extend(part);
                        assert_eq!(last_of_event, acknowledge);
                        lasts += u32::from(last_of_event);
                    }
                    other => assert_eq!(other, None),
                }
            }
            assert!(bytes == written.bytes && lasts == 1, "{more}");
            assert!(receiver.take(&packet(&written.bytes, 0)).is_err());
        }
    }

    proptest! {
        #[test]
        fn no_packets_make_it_panic(semi_sync: bool, packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..20)) {
            let mut receiver = receiver(4, 4);
            receiver.semi_sync = semi_sync;
            for body in packets {
                let _ = receiver.take(&Bytes::copy_from_slice(&body)).is_ok();
                for kind in [2, 4, 15, 27, 41] {
                    let _ = receiver.take(&packet(&artificial(kind, 0, 0x20, &body), 1)).is_ok();
                }
            }
        }
    }
}
