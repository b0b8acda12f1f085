//! Keeps the books of a stream while its bytes pass: which file and place, what was executed, which event is the last, and what the
//! segment that is open will say of itself.
//!
//! The same books are kept for bytes that come from the server and for those of a journal that is read back, so that both tell the same.

use ballast_mysql::{ExecutedSet, Gtid, LogFlavour, LogWalker, Walked};
use ballast_repository::SegmentPlace;
use jiff::Timestamp;

use super::facts::{SegmentFacts, Stretch};
use super::kind::{Closed, LogSegment};
use super::tail::{Piece, Tail};
use crate::error::{ProtectError, Result};

/// What every binlog file begins with.
pub(crate) const FILE_MAGIC: [u8; 4] = [0xfe, 0x62, 0x69, 0x6e];
/// Where in an event's header its length stands.
const EVENT_SIZE: std::ops::Range<usize> = 9..13;
const EVENT_HEADER_BYTES: usize = 19;

#[derive(Debug)]
pub(crate) struct Ledger {
    walker: LogWalker,
    offset: u64,
    file: String,
    file_offset: u64,
    head: String,
    /// Hashes the head of a file that is not all here yet.
    head_hasher: Option<blake3::Hasher>,
    executed: ExecutedSet,
    last_at: u64,
    last_event: LastEvent,
    open: Open,
    /// Of the transaction that has begun and not ended.
    transaction: Option<Gtid>,
}

#[derive(Debug, Default)]
struct LastEvent {
    /// Those in journals before this one.
    pieces: Vec<Piece>,
    hasher: blake3::Hasher,
    bytes: u64,
    left: u64,
}

/// What the open segment will say.
#[derive(Debug, Clone)]
struct Open {
    start: u64,
    file_offset: u64,
    before: ExecutedSet,
    starts_between: bool,
    transactions: u64,
    first_transaction: Option<u64>,
    first_at: u64,
    last_at: u64,
}

impl Ledger {
    /// Of a stream that begins with `file`.
    pub(crate) fn new(flavour: LogFlavour, file: &str, executed: ExecutedSet) -> Self {
        let mut ledger = Self {
            walker: LogWalker::new(flavour, 0),
            offset: 0,
            file: String::new(),
            file_offset: 0,
            head: String::new(),
            head_hasher: None,
            open: Open::new(0, 0, executed.clone(), true),
            executed,
            last_at: 0,
            last_event: LastEvent::default(),
            transaction: None,
        };
        ledger.begin_file(file);
        ledger
    }

    /// Goes on from a place that a journal's head told of.
    pub(crate) fn resume(flavour: LogFlavour, tail: &Tail) -> Result<Self> {
        let executed = ExecutedSet::parse(flavour, &tail.executed)?;
        let walker = LogWalker::resume(tail.walker.clone());
        let between = walker.between_transactions();
        // A head whose first bytes are in an earlier journal is never told in full; a file of which there are none is not begun.
        let head_hasher = (tail.file_offset == 0).then(blake3::Hasher::new);
        Ok(Self {
            walker,
            offset: tail.offset,
            file: tail.file.clone(),
            file_offset: tail.file_offset,
            head: tail.head.clone(),
            head_hasher,
            open: Open::new(tail.offset, tail.file_offset, executed.clone(), between),
            executed,
            last_at: tail.last_at,
            last_event: LastEvent {
                pieces: tail.last_event.clone(),
                left: tail.event_left,
                ..LastEvent::default()
            },
            transaction: tail.transaction.clone(),
        })
    }

    pub(crate) fn file(&self) -> &str {
        &self.file
    }

    pub(crate) fn file_offset(&self) -> u64 {
        self.file_offset
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn last_at(&self) -> u64 {
        self.last_at
    }

    pub(crate) fn executed(&self) -> &ExecutedSet {
        &self.executed
    }

    /// The bytes of the open segment.
    pub(crate) fn open_bytes(&self) -> u64 {
        self.offset - self.open.start
    }

    /// What the server says of the file we are in, where we have less of it than its head.
    pub(crate) fn learn_head(&mut self, head: &str) {
        if self.head.is_empty() && self.head_hasher.is_none() {
            head.clone_into(&mut self.head);
        }
    }

    /// A file begins at its first byte; the segment before it must be closed.
    pub(crate) fn begin_file(&mut self, file: &str) {
        file.clone_into(&mut self.file);
        self.file_offset = 0;
        self.head.clear();
        self.head_hasher = Some(blake3::Hasher::new());
        self.last_event = LastEvent::default();
        self.open.file_offset = 0;
    }

    /// Takes bytes that follow. After an error nothing more may be pushed.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Result<()> {
        // The head of a file is hashed event by event, so that what was hashed ends where it ends.
        while self.head_hasher.is_some() && !bytes.is_empty() {
            let (part, rest) = bytes.split_at(self.next_border(bytes)?.min(bytes.len()));
            self.push_part(part)?;
            bytes = rest;
        }
        self.push_part(bytes)
    }

    fn next_border(&self, bytes: &[u8]) -> Result<usize> {
        Ok(match (self.file_offset, self.last_event.left) {
            (0, _) => FILE_MAGIC.len(),
            (_, 0) => usize::try_from(event_size(bytes)?).unwrap_or(usize::MAX),
            (_, left) => usize::try_from(left).unwrap_or(usize::MAX),
        })
    }

    fn push_part(&mut self, bytes: &[u8]) -> Result<()> {
        let walked = self.walker.push(bytes)?;
        // The four bytes at a file's begin are of no event.
        let framed = if self.file_offset == 0 {
            bytes.get(FILE_MAGIC.len()..).unwrap_or_default()
        } else {
            bytes
        };
        self.last_event.push(framed)?;
        let is_head = |walked: &Walked| matches!(walked, Walked::Format { .. } | Walked::Previous { .. });
        if let Some(hasher) = &mut self.head_hasher
            && walked.iter().any(is_head)
        {
            hasher.update(framed);
        }
        self.offset += bytes.len() as u64;
        self.file_offset += bytes.len() as u64;
        for step in walked {
            self.note(step)?;
        }
        Ok(())
    }

    fn note(&mut self, walked: Walked) -> Result<()> {
        match walked {
            Walked::Previous { set, .. } => {
                self.end_head();
                // Transactions that were only said to be executed (SET gtid_purged) are in no file.
                self.executed.union(&set)?;
            }
            Walked::TransactionStart { offset, head } => {
                // A file that does not say what is before it.
                self.end_head();
                self.open.transactions += 1;
                self.open.first_transaction.get_or_insert(offset);
                if self.open.first_at == 0 {
                    self.open.first_at = head.committed_at;
                }
                self.open.last_at = head.committed_at;
                self.last_at = head.committed_at;
                self.transaction = head.gtid;
            }
            Walked::TransactionEnd { .. } => {
                if let Some(gtid) = self.transaction.take() {
                    self.executed.add(&gtid)?;
                }
            }
            // The server died within it: it never was committed.
            Walked::TransactionCut { .. } => self.transaction = None,
            Walked::Incident => {
                return Err(ProtectError::failed(
                    "the server's log says that transactions are missing in it (an incident event)",
                ));
            }
            _ => {}
        }
        Ok(())
    }

    fn end_head(&mut self) {
        if let Some(hasher) = self.head_hasher.take() {
            self.head = hasher.finalize().to_hex().to_string();
        }
    }

    /// What the stream is where it ends now.
    pub(crate) fn tail(&self) -> Tail {
        Tail {
            offset: self.offset,
            file: self.file.clone(),
            file_offset: self.file_offset,
            head: self.head.clone(),
            executed: self.executed.to_string(),
            last_at: self.last_at,
            last_event: self.last_event.pieces(),
            event_left: self.last_event.left,
            transaction: self.transaction.clone(),
            walker: self.walker.state(),
        }
    }

    /// Closes the open segment, if it holds anything, and begins the next.
    pub(crate) fn close(&mut self, now: Timestamp) -> Option<Closed> {
        let tail_pieces = self.last_event.pieces();
        let next = Open::new(
            self.offset,
            self.file_offset,
            self.executed.clone(),
            self.walker.between_transactions(),
        );
        let open = std::mem::replace(&mut self.open, next);
        if open.start == self.offset {
            return None;
        }
        self.last_event.pieces = tail_pieces;
        self.last_event.restart();
        Some(Closed {
            place: SegmentPlace {
                start: open.start,
                end: self.offset,
                first_at: open.first_at,
                last_at: open.last_at,
            },
            facts: LogSegment::Mysql(SegmentFacts {
                files: vec![Stretch {
                    name: self.file.clone(),
                    offset: open.file_offset,
                    at: open.start,
                    head: self.head.clone(),
                }],
                before: open.before.to_string(),
                through: self.executed.to_string(),
                transactions: open.transactions,
                first_transaction: open.first_transaction,
                starts_between: open.starts_between,
                ends_between: self.open.starts_between,
                sealed_at: now,
            }),
        })
    }
}

impl Open {
    fn new(start: u64, file_offset: u64, before: ExecutedSet, starts_between: bool) -> Self {
        Self {
            start,
            file_offset,
            before,
            starts_between,
            transactions: 0,
            first_transaction: None,
            first_at: 0,
            last_at: 0,
        }
    }
}

impl LastEvent {
    fn push(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            if self.left == 0 {
                self.pieces.clear();
                self.restart();
                self.left = event_size(bytes)?;
            }
            let taken = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
            let (own, rest) = bytes.split_at(taken);
            self.hasher.update(own);
            self.bytes += own.len() as u64;
            self.left -= own.len() as u64;
            bytes = rest;
        }
        Ok(())
    }

    /// What comes next is a piece of its own.
    fn restart(&mut self) {
        self.hasher.reset();
        self.bytes = 0;
    }

    fn pieces(&self) -> Vec<Piece> {
        let mut pieces = self.pieces.clone();
        if self.bytes > 0 {
            pieces.push(Piece {
                bytes: self.bytes,
                digest: self.hasher.finalize().to_hex().to_string(),
            });
        }
        pieces
    }
}

/// The length of the event that begins here. Events come whole or in parts of megabytes, so the header is in the first part.
fn event_size(bytes: &[u8]) -> Result<u64> {
    let wrong = || ProtectError::failed("an event of the server's log has no whole header");
    let size = bytes.get(EVENT_SIZE).and_then(|size| size.try_into().ok());
    let size = u32::from_le_bytes(size.ok_or_else(wrong)?);
    if (size as usize) < EVENT_HEADER_BYTES {
        return Err(wrong());
    }
    Ok(size.into())
}

/// How many of the bytes of a journal's end can be kept, so that they end with an event. `left` bytes of an event that began in an earlier
/// journal come first; what there is of them is kept.
pub(crate) fn whole_events(raw: &[u8], at_file_begin: bool, left: u64) -> usize {
    let left = usize::try_from(left).unwrap_or(usize::MAX);
    let mut border = left.min(raw.len());
    if at_file_begin {
        border = FILE_MAGIC.len();
        if raw.len() < border {
            return 0;
        }
    }
    while let Some(rest) = raw.get(border..) {
        let Ok(size) = event_size(rest) else { break };
        match border.checked_add(usize::try_from(size).unwrap_or(usize::MAX)) {
            Some(end) if end <= raw.len() => border = end,
            _ => break,
        }
    }
    border
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(length: u32) -> Vec<u8> {
        let mut event = vec![7; length as usize];
        event[EVENT_SIZE].copy_from_slice(&length.to_le_bytes());
        event
    }

    #[test]
    fn a_torn_end_is_cut_to_the_last_whole_event() {
        let raw = [event(30), event(19), event(100)].concat();
        for (end, kept) in [
            (149, 149),
            (148, 49),
            (50, 49),
            (49, 49),
            (48, 30),
            (29, 0),
            (5, 0),
            (0, 0),
        ] {
            assert_eq!(whole_events(&raw[..end], false, 0), kept, "{end}");
        }
        let file = [&FILE_MAGIC[..], &raw].concat();
        for (end, kept) in [(153, 153), (152, 53), (4, 4), (3, 0)] {
            assert_eq!(whole_events(&file[..end], true, 0), kept, "{end}");
        }
        // Ten bytes of an event that began before.
        let within = [&[1; 10][..], &raw].concat();
        for (end, kept) in [(159, 159), (60, 59), (12, 10), (7, 7)] {
            assert_eq!(whole_events(&within[..end], false, 10), kept, "{end}");
        }
    }
}
