//! The two kinds of log that are recorded, MySQL's and Redis', where the same work is done for both: what a stream and a segment say
//! of themselves, the books, and what a journal's head says.

use ballast_repository::SegmentPlace;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::facts::{SegmentFacts, StreamFacts};
use super::ledger::{Ledger, whole_events};
use super::redis::{Portion, RedisLedger, RedisSegmentFacts, RedisStreamFacts, RedisTail, whole_portions};
use super::tail::Tail;
use crate::error::{ProtectError, Result};

/// What a stream says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum LogStream {
    Redis(RedisStreamFacts),
    Mysql(StreamFacts),
}

/// What a segment says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum LogSegment {
    Redis(RedisSegmentFacts),
    Mysql(SegmentFacts),
}

/// What a stream is where a journal begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum LogTail {
    Redis(RedisTail),
    Mysql(Box<Tail>),
}

/// The books of one stream.
#[derive(Debug)]
pub(crate) enum Books {
    Redis(Box<RedisLedger>),
    Mysql(Box<Ledger>),
}

/// A segment that was closed.
#[derive(Debug, Clone)]
pub(crate) struct Closed {
    pub(crate) place: SegmentPlace,
    pub(crate) facts: LogSegment,
}

/// What is told of a segment: a file and an offset in it; of a Redis, a history and an offset in it.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) transactions: u64,
    pub(super) file: String,
    pub(super) offset: u64,
}

/// Whether facts of a stream are those of a Redis.
pub(crate) fn is_of_redis(facts: &serde_json::Value) -> bool {
    facts.get("kind").and_then(serde_json::Value::as_str) == Some("redis")
}

/// A source that is another kind of server than it was.
fn other_kind() -> ProtectError {
    ProtectError::failed("what was recorded of this source is the log of another kind of server")
        .hint("give the source another name, or move its folder in the spool away")
}

impl LogStream {
    pub(crate) fn source(&self) -> &str {
        match self {
            Self::Redis(facts) => &facts.source,
            Self::Mysql(facts) => &facts.source,
        }
    }

    pub(crate) fn started_at(&self) -> Timestamp {
        match self {
            Self::Redis(facts) => facts.started_at,
            Self::Mysql(facts) => facts.started_at,
        }
    }

    /// Where it begins.
    pub(crate) fn first_place(&self) -> (String, u64) {
        match self {
            Self::Redis(facts) => (facts.history.clone(), facts.from),
            Self::Mysql(facts) => (facts.first_file.clone(), 0),
        }
    }

    pub(crate) fn mysql(&self) -> Result<&StreamFacts> {
        match self {
            Self::Mysql(facts) => Ok(facts),
            Self::Redis(_) => Err(other_kind()),
        }
    }
}

impl LogSegment {
    pub(super) fn told(&self, place: &SegmentPlace) -> Told {
        match self {
            Self::Redis(facts) => Told {
                transactions: facts.commands,
                file: facts.histories.last().map(|last| last.id.clone()).unwrap_or_default(),
                offset: facts.to,
            },
            Self::Mysql(facts) => {
                let last = facts.files.last();
                Told {
                    transactions: facts.transactions,
                    file: last.map(|file| file.name.clone()).unwrap_or_default(),
                    offset: last.map_or(0, |file| file.offset + (place.end - file.at)),
                }
            }
        }
    }

    /// Up to here nothing was executed that is not in it or before it, where it says so.
    pub(crate) fn seen_until(&self) -> u64 {
        match self {
            Self::Redis(facts) => facts.until,
            Self::Mysql(_) => 0,
        }
    }

    pub(crate) fn mysql(&self) -> Result<&SegmentFacts> {
        match self {
            Self::Mysql(facts) => Ok(facts),
            Self::Redis(_) => Err(other_kind()),
        }
    }

    /// Of one segment with the bytes of several, which follow one another.
    pub(crate) fn merged(parts: &[Self]) -> Option<Self> {
        let (mut redis, mut mysql) = (Vec::new(), Vec::new());
        for part in parts {
            match part {
                Self::Redis(facts) => redis.push(facts.clone()),
                Self::Mysql(facts) => mysql.push(facts.clone()),
            }
        }
        match (redis.as_slice(), mysql.as_slice()) {
            ([], mysql) => SegmentFacts::merged(mysql).map(Self::Mysql),
            (redis, []) => RedisSegmentFacts::merged(redis).map(Self::Redis),
            _ => None,
        }
    }
}

impl LogTail {
    /// The log offset it is about.
    pub(crate) fn offset(&self) -> u64 {
        match self {
            Self::Redis(tail) => tail.offset,
            Self::Mysql(tail) => tail.offset,
        }
    }

    /// How many of the bytes of a torn journal can be kept.
    pub(crate) fn whole(&self, raw: &[u8]) -> usize {
        match self {
            Self::Redis(_) => whole_portions(raw),
            Self::Mysql(tail) => whole_events(raw, tail.file_offset == 0, tail.event_left),
        }
    }
}

impl Books {
    /// Goes on from what a journal's head told.
    pub(super) fn resume(of: &LogStream, tail: &LogTail) -> Result<Self> {
        match (of, tail) {
            (LogStream::Redis(_), LogTail::Redis(tail)) => Ok(Self::Redis(Box::new(RedisLedger::resume(tail)))),
            (LogStream::Mysql(facts), LogTail::Mysql(tail)) => {
                Ok(Self::Mysql(Box::new(Ledger::resume(facts.flavour, tail)?)))
            }
            _ => Err(other_kind()),
        }
    }

    pub(super) fn mysql(&self) -> Result<&Ledger> {
        match self {
            Self::Mysql(ledger) => Ok(ledger),
            Self::Redis(_) => Err(other_kind()),
        }
    }

    pub(super) fn redis(&self) -> Result<&RedisLedger> {
        match self {
            Self::Redis(ledger) => Ok(ledger),
            Self::Mysql(_) => Err(other_kind()),
        }
    }

    pub(super) fn offset(&self) -> u64 {
        match self {
            Self::Redis(ledger) => ledger.offset(),
            Self::Mysql(ledger) => ledger.offset(),
        }
    }

    /// File and offset in it; of a Redis, history and offset.
    pub(super) fn place(&self) -> (String, u64) {
        match self {
            Self::Redis(ledger) => ledger.place(),
            Self::Mysql(ledger) => (ledger.file().to_owned(), ledger.file_offset()),
        }
    }

    pub(super) fn last_at(&self) -> u64 {
        match self {
            Self::Redis(ledger) => ledger.last_at(),
            Self::Mysql(ledger) => ledger.last_at(),
        }
    }

    /// The bytes of the open segment.
    pub(super) fn open_bytes(&self) -> u64 {
        match self {
            Self::Redis(ledger) => ledger.open_bytes(),
            Self::Mysql(ledger) => ledger.open_bytes(),
        }
    }

    pub(super) fn tail(&self) -> LogTail {
        match self {
            Self::Redis(ledger) => LogTail::Redis(ledger.tail()),
            Self::Mysql(ledger) => LogTail::Mysql(Box::new(ledger.tail())),
        }
    }

    /// See [`Ledger::learn_head`].
    pub(super) fn learn_head(&mut self, head: &str) {
        if let Self::Mysql(ledger) = self {
            ledger.learn_head(head);
        }
    }

    pub(super) fn begin_file(&mut self, file: &str) -> Result<()> {
        match self {
            Self::Mysql(ledger) => ledger.begin_file(file),
            Self::Redis(_) => return Err(other_kind()),
        }
        Ok(())
    }

    pub(super) fn begin_history(&mut self, history: &str) -> Result<()> {
        match self {
            Self::Redis(ledger) => ledger.begin_history(history),
            Self::Mysql(_) => return Err(other_kind()),
        }
        Ok(())
    }

    /// Takes bytes of the log that follow.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Redis(ledger) => ledger.push(bytes),
            Self::Mysql(ledger) => ledger.push(bytes),
        }
    }

    /// Takes commands that were looked at already.
    pub(super) fn take(&mut self, portion: &Portion) -> Result<()> {
        match self {
            Self::Redis(ledger) => ledger.take(portion),
            Self::Mysql(_) => return Err(other_kind()),
        }
        Ok(())
    }

    pub(super) fn close(&mut self, now: Timestamp) -> Option<Closed> {
        match self {
            Self::Redis(ledger) => ledger.close(now),
            Self::Mysql(ledger) => ledger.close(now),
        }
    }
}
