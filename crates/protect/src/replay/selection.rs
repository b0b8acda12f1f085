//! Which bytes of a log are sent: a pure machine over pieces of any size.
//!
//! A file's own events (its format, what was before it, which file follows) always go; of transactions those that are wanted. What a
//! transaction is like is known with its first event, so no more than one event is ever held back.

use ballast_mysql::{
    EventHeader, ExecutedSet, Gtid, LogFlavour, LogWalker, MysqlError, Served, TransactionHead, Walked, empty_query,
};
use bytes::{Bytes, BytesMut};
use jiff::Timestamp;

use super::event_statements::EventStatements;
use super::plan::{FileAt, ReplayPlan, StreamPart, TransactionLine};
use super::unsafe_statements::UnsafeStatements;
use crate::error::{ErrorKind, ProtectError, Result};

/// A transaction over this size is not one statement about a scheduled event.
const STATEMENT_BYTES_MAX: usize = 64 * 1024;

/// What was chosen so far.
pub(super) struct Selection {
    walker: LogWalker,
    flavour: LogFlavour,
    /// Pushed and not decided; begins at `decided`.
    held: BytesMut,
    decided: u64,
    /// Nothing from here on.
    until: u64,
    doing: Doing,
    file: FileAt,
    torn: Vec<u64>,
    /// A transaction as far as it has come, if it may be a statement.
    statement: Option<BytesMut>,
    pub(super) events: EventStatements,
    /// Whose bytes `statement` has.
    sending: Option<Gtid>,
    pub(super) unsafe_statements: UnsafeStatements,
    /// What the server has, and will have with what was chosen.
    pub(super) executed: ExecutedSet,
    pub(super) transactions: u64,
    pub(super) skipped: u64,
    pub(super) last: Option<TransactionLine>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    /// Between transactions.
    Pass,
    Send,
    Drop,
}

impl Selection {
    pub(super) fn new(walker: LogWalker, flavour: LogFlavour, part: &StreamPart, executed: ExecutedSet) -> Self {
        Self {
            decided: walker.offset(),
            walker,
            flavour,
            held: BytesMut::new(),
            until: part.to_offset,
            doing: Doing::Pass,
            file: FileAt::of(part),
            torn: part.torn.clone(),
            statement: None,
            events: EventStatements::default(),
            sending: None,
            unsafe_statements: UnsafeStatements::default(),
            executed,
            transactions: 0,
            skipped: 0,
            last: None,
        }
    }

    /// The file it is in, and the log offset of its first byte.
    pub(super) fn file(&self) -> (&str, u64) {
        (&self.file.name, self.file.at)
    }

    /// Everything up to the end was decided.
    pub(super) fn is_done(&self) -> bool {
        self.decided >= self.until
    }

    /// Another stream, or another stretch of one, goes on with what is executed now.
    pub(super) fn go_on(&mut self, walker: LogWalker, part: &StreamPart) {
        self.decided = walker.offset();
        self.walker = walker;
        self.held.clear();
        self.until = part.to_offset;
        self.doing = Doing::Pass;
        self.file = FileAt::of(part);
        self.torn.clone_from(&part.torn);
        self.statement = None;
    }

    /// The next bytes of the stream; puts what is to be sent behind `chosen`.
    pub(super) fn push(&mut self, bytes: &Bytes, plan: &ReplayPlan, chosen: &mut Vec<Served>) -> Result<()> {
        let left = self.until.saturating_sub(self.walker.offset());
        let bytes = bytes.slice(..bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
        self.held.extend_from_slice(&bytes);
        for walked in self.walker.push(&bytes)? {
            self.take(walked, plan, chosen)?;
        }
        let sure = match self.doing {
            // The event under way may be the first of a transaction.
            Doing::Pass => self.walker.event_border(),
            Doing::Send | Doing::Drop => self.walker.offset(),
        };
        self.decide(sure, chosen);
        if self.walker.offset() >= self.until && (self.doing != Doing::Pass || self.decided < self.until) {
            let message = format!("the log does not end between two transactions at {}", self.until);
            return Err(ProtectError::new(ErrorKind::Damaged, message));
        }
        Ok(())
    }

    fn take(&mut self, walked: Walked, plan: &ReplayPlan, chosen: &mut Vec<Served>) -> Result<()> {
        match walked {
            Walked::FileStart { offset } => {
                self.decide(offset, chosen);
                self.file.begins(offset);
                let name = self.file.name.clone();
                chosen.push(Served::File { name });
                // The four bytes of the magic are not an event.
                drop(self.cut(offset + 4));
            }
            Walked::Format { checksums: false, .. } => {
                return Err(
                    ProtectError::failed("the log was written without checksums, and is not replayed")
                        .hint("SET PERSIST binlog_checksum = 'CRC32'; and take a new backup"),
                );
            }
            Walked::TransactionStart { offset, head } => {
                self.decide(offset, chosen);
                if self.torn.contains(&offset) {
                    self.doing = Doing::Drop;
                } else {
                    self.start(&head, plan, chosen)?;
                }
            }
            Walked::TransactionEnd { offset } | Walked::TransactionCut { offset } => {
                self.decide(offset, chosen);
                self.doing = Doing::Pass;
                if let Some(statement) = self.statement.take() {
                    self.events.look(&statement);
                    if let Some(gtid) = self.sending.take() {
                        self.unsafe_statements.look(&gtid, &statement);
                    }
                }
            }
            Walked::Rotate { next_file } => self.file.next = Some(next_file),
            Walked::Format { .. } | Walked::Previous { .. } | Walked::Stop | Walked::Incident => {}
        }
        Ok(())
    }

    fn start(&mut self, head: &TransactionHead, plan: &ReplayPlan, chosen: &mut Vec<Served>) -> Result<()> {
        let Some(gtid) = &head.gtid else {
            return Err(
                ProtectError::failed("the log holds transactions without a GTID, and is not replayed")
                    .hint("set gtid_mode = ON on the source, and take a new backup"),
            );
        };
        let skipped = plan.skip.contains(gtid) && !self.executed.contains_gtid(gtid);
        let wanted = !self.executed.contains_gtid(gtid) && (plan.expected.contains_gtid(gtid) || skipped);
        self.doing = if wanted && !skipped { Doing::Send } else { Doing::Drop };
        self.statement = (self.doing == Doing::Send).then(BytesMut::new);
        self.sending = (self.doing == Doing::Send).then(|| gtid.clone());
        if skipped {
            self.skipped += 1;
        }
        // A MariaDB is not sent a stand-in: its position passes over what is missing.
        if skipped && self.flavour == LogFlavour::Mysql {
            self.stand_in(chosen)?;
        }
        if wanted && (!skipped || self.flavour == LogFlavour::Mysql) {
            self.executed.add(gtid)?;
            self.transactions += 1;
            self.last = Some(TransactionLine::of(gtid, head.committed_at));
        }
        Ok(())
    }

    /// The transaction's own first event, and nothing in it. It is held whole: the walker has just told of it.
    fn stand_in(&mut self, chosen: &mut Vec<Served>) -> Result<()> {
        let header = EventHeader::decode(&self.held)?;
        let size = usize::try_from(header.size).unwrap_or(usize::MAX);
        let Some(event) = self.held.get(..size) else {
            return Err(MysqlError::DamagedLog {
                offset: self.decided,
                detail: "the first event of a transaction is not whole".to_owned(),
            }
            .into());
        };
        chosen.push(Served::Events(Bytes::copy_from_slice(event)));
        for text in ["BEGIN", "COMMIT"] {
            chosen.push(Served::Events(empty_query(header.timestamp, header.server_id, text)));
        }
        Ok(())
    }

    /// Sends or drops what is held up to `offset`.
    fn decide(&mut self, offset: u64, chosen: &mut Vec<Served>) {
        let cut = self.cut(offset);
        if self.doing == Doing::Drop || cut.is_empty() {
            return;
        }
        if let Some(statement) = &mut self.statement {
            if statement.len() + cut.len() <= STATEMENT_BYTES_MAX {
                statement.extend_from_slice(&cut);
            } else {
                self.statement = None;
            }
        }
        chosen.push(Served::Events(cut));
    }

    fn cut(&mut self, offset: u64) -> Bytes {
        let count = usize::try_from(offset.saturating_sub(self.decided)).unwrap_or(usize::MAX);
        let cut = self.held.split_to(count.min(self.held.len())).freeze();
        self.decided += cut.len() as u64;
        cut
    }
}

/// `binlog.000009` and on.
pub(super) fn next_name(name: &str) -> String {
    let Some((base, digits)) = name.rsplit_once('.') else {
        return name.to_owned();
    };
    let Ok(number) = digits.parse::<u64>() else {
        return name.to_owned();
    };
    format!("{base}.{:0width$}", number + 1, width = digits.len())
}

/// Of microseconds since 1970.
pub(super) fn moment(micros: u64) -> Timestamp {
    i64::try_from(micros)
        .ok()
        .and_then(|micros| Timestamp::from_microsecond(micros).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_counted_on() {
        for (name, next) in [
            ("binlog.000009", "binlog.000010"),
            ("a.b.999999", "a.b.1000000"),
            ("odd", "odd"),
        ] {
            assert_eq!(next_name(name), next);
        }
    }
}
