//! Walks the bytes of a stream of log files, in pieces of any size: checks that events follow each other without a hole
//! and that each is what its checksum says, and tells where files and transactions begin and end.
//!
//! Pure, and of bounded memory: the bodies of events are kept only where they are looked at, and those are short; a
//! large event is checked as it passes.
//!
//! # Where a transaction ends
//! MySQL since 8.0 writes into the event a transaction begins with how long it is. Else the rules by which a server cuts
//! its log hold: an `XID`, an `XA_PREPARE`, a `COMMIT` or a `ROLLBACK` ends it, and a statement that commits by itself does.
#![deny(clippy::indexing_slicing)]

use crc_fast::{CrcAlgorithm, Digest};
use serde::{Deserialize, Serialize};

use super::event::{CHECKSUM_BYTES, EventHeader, LOG_MAGIC};
use super::executed_set::{ExecutedSet, LogFlavour};
use super::previous;
use super::query::Query;
use super::transaction_head::TransactionHead;
use crate::MysqlError;
use crate::wire::reader::{Reader, text};

/// An event that is looked at may be this long. A list of GTIDs is the longest.
const KEPT_BYTES_MAX: u32 = 64 * 1024 * 1024;
/// Statements that only end a transaction, or only begin it, are shorter.
const QUERY_BYTES_KEPT: u32 = 4096;
/// The magic and the header of the event behind it tell together that a file begins.
const FILE_HEAD_BYTES: usize = LOG_MAGIC.len() + EventHeader::BYTES;

/// What a walker came across. Offsets count the bytes of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Walked {
    /// A file's first byte is here.
    FileStart {
        offset: u64,
    },
    /// The event that says how to read the others, at `offset` with `size` bytes.
    Format {
        offset: u64,
        size: u32,
        version: String,
        checksums: bool,
    },
    /// What all files before this one hold, told by the event at `offset`.
    Previous {
        offset: u64,
        size: u32,
        set: ExecutedSet,
    },
    TransactionStart {
        offset: u64,
        head: TransactionHead,
    },
    /// Behind its last byte.
    TransactionEnd {
        offset: u64,
    },
    /// A file ended within a transaction, which therefore never was committed.
    TransactionCut {
        offset: u64,
    },
    Rotate {
        next_file: String,
    },
    /// The server was stopped in order.
    Stop,
    /// The server says that its log misses something.
    Incident,
}

#[derive(Debug)]
pub struct LogWalker {
    state: WalkerState,
}

/// All that a walker knows, to go on with later, at any byte.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalkerState {
    flavour: LogFlavour,
    /// In the stream, behind the last byte that was pushed.
    offset: u64,
    /// In the file, where the event under way begins.
    file_offset: u64,
    /// Whether events end with a checksum; unknown before the first format.
    #[serde(skip_serializing_if = "Option::is_none")]
    checksums: Option<bool>,
    /// Bytes of a head that is not whole, or of an event that is kept.
    #[serde(with = "hex", skip_serializing_if = "Vec::is_empty", default)]
    kept: Vec<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<EventUnderWay>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transaction: Option<TransactionUnderWay>,
    /// The next event must be a format.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    file_began: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct EventUnderWay {
    header: EventHeader,
    keep: bool,
    /// Bytes to come, without the checksum.
    left: u32,
    /// Bytes of the checksum to come, and what of it came.
    checksum_left: u8,
    checksum: u32,
    digest: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct TransactionUnderWay {
    /// Where it ends, if its head said so.
    end: Option<u64>,
    standalone: bool,
    /// It is one of several statements.
    began: bool,
}

impl LogWalker {
    /// At the start of a file.
    pub fn new(flavour: LogFlavour, log_offset: u64) -> Self {
        Self::resume(WalkerState {
            flavour,
            offset: log_offset,
            file_offset: 0,
            checksums: None,
            kept: Vec::new(),
            event: None,
            transaction: None,
            file_began: false,
        })
    }

    /// Between two transactions of a file, of which the format event is given as it stands in the file.
    pub fn within(flavour: LogFlavour, log_offset: u64, file_offset: u64, format: &[u8]) -> Result<Self, MysqlError> {
        let mut walker = Self::new(flavour, 0);
        walker.push(&LOG_MAGIC)?;
        walker.push(format)?;
        walker.state.offset = log_offset;
        walker.state.file_offset = file_offset;
        Ok(walker)
    }

    pub fn resume(state: WalkerState) -> Self {
        Self { state }
    }

    pub fn state(&self) -> WalkerState {
        self.state.clone()
    }

    /// In the stream, behind the last byte that was pushed.
    pub fn offset(&self) -> u64 {
        self.state.offset
    }

    /// The same in the file.
    pub fn file_offset(&self) -> u64 {
        self.state.file_offset + self.state.offset - self.state.border()
    }

    /// Where the event under way began; the offset itself when there is none.
    pub fn event_border(&self) -> u64 {
        self.state.border()
    }

    /// Bytes of which it is not known yet what begins with them.
    pub(super) fn undecided_bytes(&self) -> u64 {
        if self.state.event.is_some() {
            0
        } else {
            self.state.offset - self.state.border()
        }
    }

    pub(super) fn has_checksums(&self) -> bool {
        self.state.checksums == Some(true)
    }

    pub fn at_event_border(&self) -> bool {
        self.state.border() == self.state.offset
    }

    pub fn between_transactions(&self) -> bool {
        self.at_event_border() && self.state.transaction.is_none()
    }

    /// The next bytes of the stream. After an error the walker is of no more use.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Walked>, MysqlError> {
        let mut found = Vec::new();
        self.push_into(bytes, &mut found)?;
        Ok(found)
    }

    pub fn push_into(&mut self, mut bytes: &[u8], found: &mut Vec<Walked>) -> Result<(), MysqlError> {
        while !bytes.is_empty() {
            let taken = if self.state.event.is_some() {
                self.state.go_on(bytes, found)?
            } else if let Some((header, event)) = self.state.whole_event(bytes)? {
                self.state.take_whole(&header, event, found)?;
                event.len()
            } else {
                self.state.take_head(bytes, found)?
            };
            bytes = bytes.get(taken..).unwrap_or_default();
        }
        Ok(())
    }
}

impl WalkerState {
    fn damaged(&self, detail: impl Into<String>) -> MysqlError {
        MysqlError::DamagedLog {
            offset: self.border(),
            detail: detail.into(),
        }
    }

    /// Where the event under way begins.
    fn border(&self) -> u64 {
        let seen = match &self.event {
            None => self.kept.len() as u64,
            Some(event) => u64::from(event.header.size) - u64::from(event.left) - u64::from(event.checksum_left),
        };
        self.offset.saturating_sub(seen)
    }

    /// The usual case: nothing kept, and the whole event is there.
    fn whole_event<'a>(&self, bytes: &'a [u8]) -> Result<Option<(EventHeader, &'a [u8])>, MysqlError> {
        if !self.kept.is_empty() || bytes.len() < FILE_HEAD_BYTES || bytes.starts_with(&LOG_MAGIC) {
            return Ok(None);
        }
        let header = self.checked_header(bytes)?;
        let size = usize::try_from(header.size).unwrap_or(usize::MAX);
        Ok(bytes.get(..size).map(|event| (header, event)))
    }

    fn checked_header(&self, bytes: &[u8]) -> Result<EventHeader, MysqlError> {
        if !self.file_began && self.checksums.is_none() {
            return Err(self.damaged("no file begins here"));
        }
        let header = EventHeader::decode(bytes).map_err(|error| self.damaged(error.to_string()))?;
        if self.file_began != (header.kind == EventHeader::FORMAT_DESCRIPTION) {
            let what = if self.file_began {
                "a file does not begin with its format"
            } else {
                "a format that is not at the start of a file"
            };
            return Err(self.damaged(what));
        }
        if header.flags & EventHeader::FLAG_ARTIFICIAL != 0 && header.kind == EventHeader::ROTATE {
            return Err(self.damaged("an event that no file has"));
        }
        let end = self.file_offset.wrapping_add(u64::from(header.size));
        // Only the low half is there. MariaDB leaves it out of some events.
        let fits =
            header.end_position == low_half(end) || (header.end_position == 0 && self.flavour == LogFlavour::MariaDb);
        if !fits {
            return Err(self.damaged(format!(
                "an event that ends at {} of its file says it ends at {}",
                end, header.end_position
            )));
        }
        if usize::try_from(header.size).is_ok_and(|size| size < EventHeader::BYTES + self.checksum_bytes(&header)) {
            return Err(self.damaged(format!("an event of {} bytes", header.size)));
        }
        if self.is_kept(&header) && header.size > KEPT_BYTES_MAX {
            return Err(self.damaged(format!("an event of kind {} of {} bytes", header.kind, header.size)));
        }
        Ok(header)
    }

    /// A format has one even where no other event does.
    fn checksum_bytes(&self, header: &EventHeader) -> usize {
        if header.kind == EventHeader::FORMAT_DESCRIPTION || self.checksums == Some(true) {
            CHECKSUM_BYTES
        } else {
            0
        }
    }

    fn is_kept(&self, header: &EventHeader) -> bool {
        match header.kind {
            EventHeader::FORMAT_DESCRIPTION
            | EventHeader::ROTATE
            | EventHeader::PREVIOUS_GTIDS
            | EventHeader::MARIADB_GTID_LIST => true,
            EventHeader::QUERY => header.size <= QUERY_BYTES_KEPT,
            _ => header.is_gtid(),
        }
    }

    fn take_whole(&mut self, header: &EventHeader, event: &[u8], found: &mut Vec<Walked>) -> Result<(), MysqlError> {
        let (content, checksum) = event
            .split_at_checked(event.len() - self.checksum_bytes(header))
            .unwrap_or((event, &[]));
        let (head, body) = content.split_at_checked(EventHeader::BYTES).unwrap_or((content, &[]));
        if let Ok(checksum) = checksum.try_into() {
            let made = if header.flags & EventHeader::FLAG_IN_USE == 0 {
                crc_fast::crc32_iso_hdlc(content)
            } else {
                let mut digest = start_digest(header, head);
                digest.update(body);
                as_crc(&digest)
            };
            self.compare(header, made, u32::from_le_bytes(checksum))?;
        }
        self.offset += event.len() as u64;
        let start = self.offset - event.len() as u64;
        self.finish(header, start, body, found)
    }

    fn compare(&self, header: &EventHeader, made: u32, read: u32) -> Result<(), MysqlError> {
        if made == read {
            return Ok(());
        }
        Err(self.damaged(format!(
            "the checksum of an event of kind {} does not fit its {} bytes",
            header.kind, header.size
        )))
    }

    /// Collects the bytes of a head until they tell what begins here.
    fn take_head(&mut self, bytes: &[u8], found: &mut Vec<Walked>) -> Result<usize, MysqlError> {
        let need = if self.kept.len() < LOG_MAGIC.len() {
            LOG_MAGIC.len()
        } else if self.kept.starts_with(&LOG_MAGIC) && !self.file_began {
            FILE_HEAD_BYTES
        } else {
            EventHeader::BYTES
        };
        let taken = bytes.len().min(need.saturating_sub(self.kept.len()));
        self.kept.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        self.offset += taken as u64;
        if self.kept.len() < need || need == LOG_MAGIC.len() {
            return Ok(taken);
        }
        if need == FILE_HEAD_BYTES && self.begins_file() {
            let offset = self.border();
            if self.transaction.take().is_some() {
                found.push(Walked::TransactionCut { offset });
            }
            found.push(Walked::FileStart { offset });
            self.kept.drain(..LOG_MAGIC.len());
            self.file_offset = LOG_MAGIC.len() as u64;
            self.file_began = true;
        }
        // What was taken too much, because it looked like a file's start, is part of the event.
        let head: Vec<u8> = self.kept.iter().copied().take(EventHeader::BYTES).collect();
        let header = self.checked_header(&head)?;
        let extra = self.kept.split_off(EventHeader::BYTES.min(self.kept.len()));
        self.begin_event(header, &head);
        self.offset -= extra.len() as u64;
        let mut extra = extra.as_slice();
        while !extra.is_empty() && self.event.is_some() {
            let taken = self.go_on(extra, found)?;
            extra = extra.get(taken..).unwrap_or_default();
        }
        if !extra.is_empty() {
            self.kept.extend_from_slice(extra);
            self.offset += extra.len() as u64;
        }
        self.end_event_if_whole(found)?;
        Ok(taken)
    }

    /// The magic may be the time of an event; the format behind it may not.
    fn begins_file(&self) -> bool {
        let Some(head) = self.kept.get(LOG_MAGIC.len()..) else {
            return false;
        };
        EventHeader::decode(head).is_ok_and(|header| {
            header.kind == EventHeader::FORMAT_DESCRIPTION
                && u64::from(header.end_position) == LOG_MAGIC.len() as u64 + u64::from(header.size)
        })
    }

    fn begin_event(&mut self, header: EventHeader, head: &[u8]) {
        let checksum = self.checksum_bytes(&header);
        let keep = self.is_kept(&header);
        let around = u32::try_from(EventHeader::BYTES + checksum).unwrap_or(u32::MAX);
        self.event = Some(EventUnderWay {
            header,
            keep,
            left: header.size.saturating_sub(around),
            checksum_left: u8::try_from(checksum).unwrap_or(0),
            checksum: 0,
            digest: start_digest(&header, head).get_state(),
        });
        self.kept.clear();
    }

    /// More of an event under way.
    fn go_on(&mut self, bytes: &[u8], found: &mut Vec<Walked>) -> Result<usize, MysqlError> {
        let Some(event) = &mut self.event else {
            return Ok(0);
        };
        let body_bytes = usize::try_from(event.left).unwrap_or(usize::MAX).min(bytes.len());
        let (body, rest) = bytes.split_at_checked(body_bytes).unwrap_or((bytes, &[]));
        if !body.is_empty() {
            let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32IsoHdlc, event.digest);
            digest.update(body);
            event.digest = digest.get_state();
            event.left -= u32::try_from(body.len()).unwrap_or(event.left);
            if event.keep {
                self.kept.extend_from_slice(body);
            }
        }
        let mut taken = body.len();
        for byte in rest.iter().take(usize::from(event.checksum_left)) {
            event.checksum = event.checksum >> 8 | u32::from(*byte) << 24;
            event.checksum_left -= 1;
            taken += 1;
        }
        self.offset += taken as u64;
        self.end_event_if_whole(found)?;
        Ok(taken)
    }

    fn end_event_if_whole(&mut self, found: &mut Vec<Walked>) -> Result<(), MysqlError> {
        let Some(event) = self.event.take_if(|event| event.left == 0 && event.checksum_left == 0) else {
            return Ok(());
        };
        let start = self.offset.saturating_sub(u64::from(event.header.size));
        if self.checksum_bytes(&event.header) > 0 {
            let digest = Digest::new_with_init_state(CrcAlgorithm::Crc32IsoHdlc, event.digest);
            self.compare(&event.header, as_crc(&digest), event.checksum)?;
        }
        let body = std::mem::take(&mut self.kept);
        self.finish(&event.header, start, &body, found)
    }

    /// The event is whole and right; `body` is empty where it is not kept.
    fn finish(
        &mut self,
        header: &EventHeader,
        start: u64,
        body: &[u8],
        found: &mut Vec<Walked>,
    ) -> Result<(), MysqlError> {
        self.file_offset += u64::from(header.size);
        self.file_began = false;
        let damaged = |error: MysqlError| MysqlError::DamagedLog {
            offset: start,
            detail: error.to_string(),
        };
        if self.ends_before(header) && self.transaction.take().is_some() {
            found.push(Walked::TransactionEnd { offset: start });
        }
        match header.kind {
            EventHeader::FORMAT_DESCRIPTION => {
                let (version, checksums) = decode_format(body).map_err(damaged)?;
                self.checksums = Some(checksums);
                found.push(Walked::Format {
                    offset: start,
                    size: header.size,
                    version,
                    checksums,
                });
            }
            EventHeader::PREVIOUS_GTIDS | EventHeader::MARIADB_GTID_LIST => found.push(Walked::Previous {
                offset: start,
                size: header.size,
                set: previous::decode(header.kind, body).map_err(damaged)?,
            }),
            EventHeader::ROTATE => {
                let mut reader = Reader::new("rotate event", body);
                reader.u64_le().map_err(damaged)?;
                found.push(Walked::Rotate {
                    next_file: text(reader.rest()),
                });
            }
            EventHeader::STOP => found.push(Walked::Stop),
            EventHeader::INCIDENT => found.push(Walked::Incident),
            _ if header.is_gtid() => {
                let head = TransactionHead::decode(header, body).map_err(damaged)?;
                if self.transaction.is_some() {
                    return Err(damaged(MysqlError::protocol("a transaction begins within another")));
                }
                self.transaction = Some(TransactionUnderWay {
                    end: head.length.map(|length| start.saturating_add(length)),
                    standalone: head.standalone,
                    began: false,
                });
                found.push(Walked::TransactionStart { offset: start, head });
            }
            _ => {}
        }
        self.end_transaction(header, body, found).map_err(damaged)
    }

    /// Where no length is known, what cannot be part of a transaction ends it.
    fn ends_before(&self, header: &EventHeader) -> bool {
        self.transaction.is_some_and(|transaction| transaction.end.is_none())
            && (header.is_gtid()
                || matches!(
                    header.kind,
                    EventHeader::ROTATE | EventHeader::STOP | EventHeader::MARIADB_CHECKPOINT
                ))
    }

    fn end_transaction(
        &mut self,
        header: &EventHeader,
        body: &[u8],
        found: &mut Vec<Walked>,
    ) -> Result<(), MysqlError> {
        let offset = self.offset;
        let Some(transaction) = &mut self.transaction else {
            return Ok(());
        };
        let ends = match transaction.end {
            Some(end) if end < offset => {
                return Err(MysqlError::protocol(format!(
                    "a transaction that ends at {end} goes on to {offset}"
                )));
            }
            Some(end) => end == offset,
            None => transaction.ends_with(header, body, self.flavour)?,
        };
        if ends {
            self.transaction = None;
            found.push(Walked::TransactionEnd { offset });
        }
        Ok(())
    }
}

impl TransactionUnderWay {
    fn ends_with(&mut self, header: &EventHeader, body: &[u8], flavour: LogFlavour) -> Result<bool, MysqlError> {
        match header.kind {
            EventHeader::XID | EventHeader::XA_PREPARE => Ok(true),
            EventHeader::QUERY | EventHeader::MARIADB_QUERY_COMPRESSED if self.standalone => Ok(true),
            EventHeader::QUERY if body.is_empty() => {
                // Too long for a word that begins or ends a transaction.
                let alone = flavour == LogFlavour::Mysql && !self.began;
                self.began = true;
                Ok(alone)
            }
            EventHeader::QUERY => {
                let query = Query::decode(body)?;
                if query.ends_transaction() {
                    return Ok(true);
                }
                let alone = flavour == LogFlavour::Mysql && !self.began && !query.begins_transaction();
                self.began = true;
                Ok(alone)
            }
            _ => Ok(false),
        }
    }
}

fn low_half(offset: u64) -> u32 {
    u32::try_from(offset & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}

/// The checksum is made while the file is closed, as it were.
fn start_digest(header: &EventHeader, head: &[u8]) -> Digest {
    let mut digest = Digest::new(CrcAlgorithm::Crc32IsoHdlc);
    let before_flags = head.get(..EventHeader::FLAGS_AT).unwrap_or_default();
    digest.update(before_flags);
    digest.update(&(header.flags & !EventHeader::FLAG_IN_USE).to_le_bytes());
    digest
}

fn as_crc(digest: &Digest) -> u32 {
    u32::try_from(digest.finalize() & u64::from(u32::MAX)).unwrap_or(0)
}

/// The version of the server, and whether events have checksums.
fn decode_format(body: &[u8]) -> Result<(String, bool), MysqlError> {
    const LOG_VERSION: u16 = 4;
    const VERSION_BYTES: usize = 50;
    let mut reader = Reader::new("format event", body);
    let log_version = reader.u16_le()?;
    if log_version != LOG_VERSION {
        return Err(reader.wrong(format_args!("log version {log_version}")));
    }
    let version = reader.take(VERSION_BYTES)?;
    let version = version.split(|byte| *byte == 0).next().unwrap_or_default();
    reader.u32_le()?; // when the server started
    let header_bytes = reader.u8()?;
    if usize::from(header_bytes) != EventHeader::BYTES {
        return Err(reader.wrong(format_args!("heads of {header_bytes} bytes")));
    }
    let checksums = match reader.clone().rest().last() {
        Some(0) => false,
        Some(1) => true,
        other => return Err(reader.wrong(format_args!("checksums of the unknown kind {other:?}"))),
    };
    Ok((text(version), checksums))
}

/// Bytes as text within JSON.
mod hex {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    #[expect(clippy::ptr_arg, reason = "as serde calls it")]
    pub(super) fn serialize<S: Serializer>(bytes: &Vec<u8>, serializer: S) -> Result<S::Ok, S::Error> {
        use std::fmt::Write as _;
        let text = bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing to a string cannot fail");
            text
        });
        serializer.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let pair = |pair: &[u8]| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        };
        let bytes = text.as_bytes().chunks(2).map(pair).collect::<Option<Vec<u8>>>();
        bytes.ok_or_else(|| D::Error::custom("bytes that are no hex digits"))
    }
}

#[cfg(test)]
mod tests;
