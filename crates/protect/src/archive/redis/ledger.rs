//! The books of a stream of commands: which history and offset, which database, how far the last border is, and what the open segment
//! will say of itself. The same books are kept for what comes from the server and for a journal that is read back.

use ballast_redis::{CommandScanner, Position};
use ballast_repository::SegmentPlace;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::kind::{Closed, LogSegment};
use super::facts::{History, RedisSegmentFacts};
use super::portion::{Portion, take_portion};
use crate::error::Result;

#[derive(Debug)]
pub(crate) struct RedisLedger {
    tail: RedisTail,
    open: Open,
}

/// What the stream is at one of its log offsets: said in the head of every journal, of the place where it begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RedisTail {
    pub(crate) offset: u64,
    pub(crate) history: History,
    /// Knows the server's offset, in the middle of a command too.
    pub(crate) scanner: CommandScanner,
    /// The database that is selected, once that was said.
    pub(crate) database: Option<u32>,
    /// When the last commands came that changed something, in microseconds since 1970; 0 if none did.
    pub(crate) last_at: u64,
    /// When the last bytes came.
    pub(crate) until: u64,
}

/// What the open segment will say.
#[derive(Debug, Clone)]
struct Open {
    start: u64,
    from: u64,
    database: Option<u32>,
    at_border: bool,
    commands: u64,
    first_at: u64,
    last_at: u64,
}

impl Open {
    fn at(tail: &RedisTail) -> Self {
        Self {
            start: tail.offset,
            from: tail.scanner.offset(),
            database: tail.database,
            at_border: tail.scanner.is_at_border(),
            commands: 0,
            first_at: 0,
            last_at: 0,
        }
    }
}

impl RedisLedger {
    /// Of a stream that begins behind this place, which is a border.
    pub(crate) fn new(from: &Position) -> Self {
        let tail = RedisTail {
            offset: 0,
            history: History {
                id: from.history.clone(),
                from: from.offset,
            },
            scanner: CommandScanner::new(from.offset, 0),
            database: None,
            last_at: 0,
            until: 0,
        };
        Self::resume(&tail)
    }

    pub(crate) fn resume(tail: &RedisTail) -> Self {
        Self {
            tail: tail.clone(),
            open: Open::at(tail),
        }
    }

    pub(crate) fn tail(&self) -> RedisTail {
        self.tail.clone()
    }

    pub(crate) fn offset(&self) -> u64 {
        self.tail.offset
    }

    pub(crate) fn scanner(&self) -> &CommandScanner {
        &self.tail.scanner
    }

    /// The history's name, and the server's offset.
    pub(crate) fn place(&self) -> (String, u64) {
        (self.tail.history.id.clone(), self.tail.scanner.offset())
    }

    pub(crate) fn last_at(&self) -> u64 {
        self.tail.last_at
    }

    /// When the last bytes came.
    pub(crate) fn until(&self) -> u64 {
        self.tail.until
    }

    pub(crate) fn open_bytes(&self) -> u64 {
        self.tail.offset - self.open.start
    }

    /// Whether the open segment holds commands that changed something.
    pub(crate) fn has_commands(&self) -> bool {
        self.open.commands > 0
    }

    /// The server calls its history by another name from here on; the segment before must be closed.
    pub(crate) fn begin_history(&mut self, id: &str) {
        self.tail.history = History {
            id: id.to_owned(),
            from: self.tail.scanner.offset(),
        };
    }

    pub(crate) fn take(&mut self, portion: &Portion) {
        self.tail.scanner = portion.after.clone();
        if portion.selects {
            self.tail.database = Some(portion.after.border().database);
        }
        self.note(portion.at, portion.commands, portion.stored_bytes() as u64);
    }

    fn note(&mut self, at: u64, commands: u32, bytes: u64) {
        self.tail.offset += bytes;
        self.tail.until = at;
        if commands > 0 {
            self.tail.last_at = at;
            self.open.last_at = at;
            if self.open.first_at == 0 {
                self.open.first_at = at;
            }
        }
        self.open.commands += u64::from(commands);
    }

    /// Takes whole portions as they were stored.
    pub(crate) fn push(&mut self, mut raw: &[u8]) -> Result<()> {
        while let Some(portion) = take_portion(&mut raw)? {
            let mut selects = false;
            self.tail
                .scanner
                .feed(portion.bytes, &mut |command| selects |= command.name() == "SELECT")?;
            if selects {
                self.tail.database = Some(self.tail.scanner.border().database);
            }
            let stored = super::portion::HEAD_BYTES + portion.bytes.len();
            self.note(portion.at, portion.commands, stored as u64);
        }
        Ok(())
    }

    /// Closes the open segment, if it holds anything, and begins the next.
    pub(crate) fn close(&mut self, now: Timestamp) -> Option<Closed> {
        let open = std::mem::replace(&mut self.open, Open::at(&self.tail));
        if open.start == self.tail.offset {
            return None;
        }
        Some(Closed {
            place: SegmentPlace {
                start: open.start,
                end: self.tail.offset,
                first_at: open.first_at,
                last_at: open.last_at,
            },
            facts: LogSegment::Redis(RedisSegmentFacts {
                histories: vec![self.tail.history.clone()],
                from: open.from,
                to: self.tail.scanner.offset(),
                database: open.database,
                border: self.tail.scanner.border().offset,
                starts_at_border: open.at_border,
                ends_at_border: self.tail.scanner.is_at_border(),
                commands: open.commands,
                until: self.tail.until,
                sealed_at: now,
            }),
        })
    }
}
