//! One packet of a log that is sent: is it an event, and does the server wait for us to have it?
#![deny(clippy::indexing_slicing)]

use bytes::Bytes;

use super::event::{CHECKSUM_BYTES, EventHeader};
use super::session::LogPlace;
use crate::MysqlError;
use crate::error::LogRefusal;
use crate::wire::reader::{Reader, text};
use crate::wire::response;

/// The first byte of the two that come before each event once the server takes us for a semi-synchronous replica.
const SEMI_SYNC: u8 = 0xEF;
const SEMI_SYNC_WAITS: u8 = 0x01;
/// The end of what is sent is no longer than this; an event is.
const END_BYTES_MAX: usize = 9;
/// The server's number for everything that ends a log that is sent.
const LOG_REFUSED: u16 = 1236;

pub(super) enum Packet {
    Event { event: Bytes, waits: bool },
    End,
}

impl Packet {
    /// `semi_sync` is what the first packet told.
    pub(super) fn decode(packet: &Bytes, semi_sync: bool) -> Result<Self, MysqlError> {
        let wrong = || MysqlError::protocol("binlog: a packet that is no event, no end and no error");
        match packet.first() {
            Some(&response::ERROR) => Err(response::decode_error(packet)),
            Some(&response::EOF) if packet.len() < END_BYTES_MAX => Ok(Self::End),
            Some(&response::OK) if !semi_sync => Ok(Self::Event {
                event: packet.slice(1..),
                waits: false,
            }),
            Some(&response::OK) => match packet.get(1..3) {
                Some([SEMI_SYNC, flags]) => Ok(Self::Event {
                    event: packet.slice(3..),
                    waits: flags & SEMI_SYNC_WAITS != 0,
                }),
                _ => Err(wrong()),
            },
            _ => Err(wrong()),
        }
    }

    /// The first packet of all is an event without a time, so what is not 0 there is not of the event.
    pub(super) fn is_semi_sync(first: &[u8]) -> bool {
        first.first() == Some(&response::OK) && first.get(1) == Some(&SEMI_SYNC)
    }
}

/// An answer to `waits`: everything up to there is safe.
pub(super) fn acknowledgement(file: &str, offset: u64) -> Vec<u8> {
    let mut bytes = vec![SEMI_SYNC];
    bytes.extend(offset.to_le_bytes());
    bytes.extend(file.as_bytes());
    bytes
}

/// An event without its checksum, if it has one: events that are made for us have one or not, whatever the file has.
pub(super) fn without_checksum(event: &[u8]) -> &[u8] {
    let Some((content, checksum)) = event.split_last_chunk::<CHECKSUM_BYTES>() else {
        return event;
    };
    if crc_fast::crc32_iso_hdlc(content) == u32::from_le_bytes(*checksum) {
        content
    } else {
        event
    }
}

/// Where a `ROTATE` leads.
pub(super) fn decode_rotate(event: &[u8]) -> Result<LogPlace, MysqlError> {
    let mut reader = Reader::new("rotate event", without_checksum(event));
    reader.take(EventHeader::BYTES)?;
    let offset = reader.u64_le()?;
    Ok(LogPlace {
        offset,
        file: text(reader.rest()),
    })
}

/// Where the server is in its log. The old form has only the low half of the offset.
pub(super) struct Heartbeat {
    pub(super) file: String,
    pub(super) offset: HeartbeatOffset,
}

pub(super) enum HeartbeatOffset {
    Whole(u64),
    LowHalf(u32),
}

pub(super) fn decode_heartbeat(header: &EventHeader, event: &[u8]) -> Result<Heartbeat, MysqlError> {
    const FILE: u64 = 1;
    const OFFSET: u64 = 2;
    let mut reader = Reader::new("heartbeat event", without_checksum(event));
    reader.take(EventHeader::BYTES)?;
    if header.kind == EventHeader::HEARTBEAT {
        return Ok(Heartbeat {
            file: text(reader.rest()),
            offset: HeartbeatOffset::LowHalf(header.end_position),
        });
    }
    let (mut file, mut offset) = (None, None);
    while !reader.is_empty() {
        let field = reader.lenenc()?;
        if field == 0 {
            break;
        }
        let value = reader.lenenc_bytes()?;
        match field {
            FILE => file = Some(text(value)),
            OFFSET => offset = Some(Reader::new("heartbeat event", value).lenenc()?),
            _ => {}
        }
    }
    match (file, offset) {
        (Some(file), Some(offset)) => Ok(Heartbeat {
            file,
            offset: HeartbeatOffset::Whole(offset),
        }),
        _ => Err(reader.wrong("no file and offset")),
    }
}

/// What the server's error means, from its words; they are the same in every language. `began`: events came before it.
pub(super) fn refusal(error: MysqlError, place: &LogPlace, began: bool) -> MysqlError {
    let (code, message) = match error {
        MysqlError::Server { code, message, .. } if code == LOG_REFUSED || message.contains("same server_uuid") => {
            (code, message)
        }
        other => return other,
    };
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    let cause = if says(&["same server_uuid/server_id"]) {
        LogRefusal::Replaced
    } else if says(&[
        "Could not find first log",
        "could not find next log",
        "Could not open log file",
    ]) {
        LogRefusal::FileGone
    } else if says(&["position > file size", "impossible position"]) {
        LogRefusal::BeyondEnd
    } else if !began {
        LogRefusal::NoBorder
    } else {
        LogRefusal::Other
    };
    MysqlError::LogRefused {
        file: place.file.clone(),
        offset: place.offset,
        cause,
        message: format!("{message} (error {code})"),
    }
}
