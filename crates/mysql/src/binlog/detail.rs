//! Walks a log for people: what each transaction did. For each one its tables with the rows that came, changed and went, and
//! its statements.
//!
//! Bounded as the plain walk is: rows are counted as they pass, compressed ones too, and of statements only the beginning
//! is kept.
#![deny(clippy::indexing_slicing)]

mod events;
mod frames;
mod packed;
mod rows;
mod statement;

use std::collections::VecDeque;

use events::Events;
use frames::Frames;
pub use statement::{StatementKind, StatementName};

use super::event::{CHECKSUM_BYTES, EventHeader, LOG_MAGIC};
use super::executed_set::LogFlavour;
use super::transaction_head::TransactionHead;
use super::walker::{LogWalker, Walked};
use crate::MysqlError;

/// What one transaction did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalkedTransaction {
    /// Where it begins and ends in the stream.
    pub offset: u64,
    pub end: u64,
    pub head: TransactionHead,
    /// In the order in which they were first touched.
    pub tables: Vec<TableRows>,
    pub statements: Vec<Statement>,
    /// So many more tables or statements than are named.
    pub unnamed: u64,
    /// Some of it was not understood, so that more may have been done than is told.
    pub incomplete: bool,
}

/// How many rows of a table came, changed and went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRows {
    pub schema: String,
    pub table: String,
    pub inserted: u64,
    pub updated: u64,
    pub deleted: u64,
    /// `false`: of some of them it is not known how many.
    pub counted: bool,
}

impl TableRows {
    fn new(schema: &str, table: &str) -> Self {
        Self {
            schema: schema.to_owned(),
            table: table.to_owned(),
            inserted: 0,
            updated: 0,
            deleted: 0,
            counted: true,
        }
    }
}

/// A statement that stands in the log as such.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The database it ran in.
    pub schema: Option<String>,
    pub kind: StatementKind,
    /// The tables it names, or the database.
    pub names: Vec<StatementName>,
    pub text: String,
    /// The text goes on.
    pub cut: bool,
}

/// A [`LogWalker`] that also looks into the events.
#[derive(Debug)]
pub struct TransactionWalker {
    walker: LogWalker,
    /// What the plain walk found and is not reached here.
    found: VecDeque<Walked>,
    /// Bytes of which the plain walk does not know yet what they are; fewer than the head of a file.
    undecided: Vec<u8>,
    /// Of the next byte that is looked at.
    offset: u64,
    checksums: bool,
    frames: Frames,
    events: Events,
    transaction: Option<(u64, TransactionHead)>,
}

impl TransactionWalker {
    /// At the start of a file.
    pub fn new(flavour: LogFlavour, log_offset: u64) -> Self {
        Self::with(LogWalker::new(flavour, log_offset), true)
    }

    /// Between two transactions of a file, of which the format event is given as it stands in the file.
    pub fn within(flavour: LogFlavour, log_offset: u64, file_offset: u64, format: &[u8]) -> Result<Self, MysqlError> {
        let walker = LogWalker::within(flavour, log_offset, file_offset, format)?;
        let checksums = walker.has_checksums();
        Ok(Self::with(walker, checksums))
    }

    fn with(walker: LogWalker, checksums: bool) -> Self {
        Self {
            offset: walker.offset(),
            walker,
            found: VecDeque::new(),
            undecided: Vec::new(),
            checksums,
            frames: Frames::default(),
            events: Events::default(),
            transaction: None,
        }
    }

    pub fn offset(&self) -> u64 {
        self.walker.offset()
    }

    pub fn between_transactions(&self) -> bool {
        self.walker.between_transactions()
    }

    /// The next bytes of the stream, and the transactions that ended in them.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<WalkedTransaction>, MysqlError> {
        let mut found = Vec::new();
        self.walker.push_into(bytes, &mut found)?;
        self.found.extend(found);
        let joined;
        let bytes = if self.undecided.is_empty() {
            bytes
        } else {
            joined = [std::mem::take(&mut self.undecided).as_slice(), bytes].concat();
            &joined
        };
        let undecided = usize::try_from(self.walker.undecided_bytes()).unwrap_or(0);
        let (bytes, later) = bytes
            .split_at_checked(bytes.len().saturating_sub(undecided))
            .unwrap_or((bytes, &[]));
        self.undecided.extend_from_slice(later);
        let mut done = Vec::new();
        self.look(bytes, &mut done)?;
        Ok(done)
    }

    fn look(&mut self, mut bytes: &[u8], done: &mut Vec<WalkedTransaction>) -> Result<(), MysqlError> {
        loop {
            if self.frames.at_border() && self.reach(done) {
                let magic = LOG_MAGIC.len();
                self.offset += magic as u64;
                bytes = bytes.get(magic..).unwrap_or_default();
            }
            if bytes.is_empty() {
                return Ok(());
            }
            let checksums = self.checksums;
            let events = &mut self.events;
            let taken = self.frames.push(
                bytes,
                |header| {
                    let has_one = checksums || header.kind == EventHeader::FORMAT_DESCRIPTION;
                    if has_one { CHECKSUM_BYTES } else { 0 }
                },
                |piece| events.take(piece),
            )?;
            self.offset += taken as u64;
            bytes = bytes.get(taken..).unwrap_or_default();
        }
    }

    /// Uses what the plain walk found up to here; says whether a file begins.
    fn reach(&mut self, done: &mut Vec<WalkedTransaction>) -> bool {
        while let Some(next) = self.found.front() {
            let at = match next {
                Walked::FileStart { offset }
                | Walked::Format { offset, .. }
                | Walked::Previous { offset, .. }
                | Walked::TransactionStart { offset, .. }
                | Walked::TransactionEnd { offset }
                | Walked::TransactionCut { offset } => *offset,
                Walked::Rotate { .. } | Walked::Stop | Walked::Incident => self.offset,
            };
            if at > self.offset {
                return false;
            }
            match self.found.pop_front() {
                Some(Walked::FileStart { .. }) => return true,
                Some(Walked::Format { checksums, .. }) => self.checksums = checksums,
                Some(Walked::TransactionStart { offset, head }) => {
                    self.events.finish();
                    self.transaction = Some((offset, head));
                }
                Some(Walked::TransactionCut { .. }) => self.transaction = None,
                Some(Walked::TransactionEnd { offset: end }) => {
                    let told = self.events.finish();
                    if let Some((offset, head)) = self.transaction.take() {
                        done.push(WalkedTransaction {
                            offset,
                            end,
                            head,
                            tables: told.tables,
                            statements: told.statements,
                            unnamed: told.unnamed,
                            incomplete: told.incomplete,
                        });
                    }
                }
                _ => {}
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::Written;
    use super::*;

    /// A table `s.t` of an INT and a VARCHAR(100).
    fn table_map() -> Vec<u8> {
        let mut body = vec![9, 0, 0, 0, 0, 0, 1, 0, 1];
        body.extend(b"s\0\x01t\0\x02");
        body.extend([3, 15, 2, 100, 0, 0b10]);
        body
    }

    fn rows(kind: u8, images: &[&[u8]]) -> Vec<u8> {
        let mut body = vec![9, 0, 0, 0, 0, 0, 1, 0, 2, 0, 2];
        body.push(0xFF);
        if kind == 31 {
            body.push(0xFF);
        }
        body.extend(images.concat());
        body
    }

    fn in_cuts(bytes: &[u8], cut: usize) -> Result<Vec<WalkedTransaction>, MysqlError> {
        let mut walker = TransactionWalker::new(LogFlavour::MariaDb, 0);
        let mut done = Vec::new();
        for piece in bytes.chunks(cut) {
            done.extend(walker.push(piece)?);
        }
        Ok(done)
    }

    fn begin(written: &mut Written, sequence: u64) {
        let body = [&sequence.to_le_bytes()[..], &[0; 4], &[0], &[0; 6]].concat();
        written.event(EventHeader::MARIADB_GTID, &body);
    }

    #[test]
    fn rows_are_counted_and_statements_named_whatever_the_cuts() {
        for checksums in [true, false] {
            let mut written = Written::new(checksums);
            let (whole, null): (&[u8], &[u8]) = (&[0, 1, 0, 0, 0, 2, b'h', b'i'], &[0b10, 1, 0, 0, 0]);
            begin(&mut written, 1);
            written.event(EventHeader::TABLE_MAP, &table_map());
            written.event(30, &rows(30, &[whole, null, whole]));
            written.event(31, &rows(31, &[whole, null]));
            written.event(32, &rows(32, &[null, null]));
            written.event(EventHeader::XID, &[0; 8]);
            written.file();
            begin(&mut written, 2);
            written.query("DROP TABLE `s`.`t`");
            written.query("COMMIT");
            begin(&mut written, 3);
            // A row that goes on where its event ends, and one of a table that was not told.
            written.event(EventHeader::TABLE_MAP, &table_map());
            written.event(30, &rows(30, &[whole, &[0, 1]]));
            written.event(EventHeader::XID, &[0; 8]);
            begin(&mut written, 4);
            written.event(30, &rows(30, &[whole]));
            written.event(EventHeader::XID, &[0; 8]);
            let done = in_cuts(&written.bytes, usize::MAX).unwrap();
            assert_eq!(done.len(), 4);
            let table = &done[0].tables[0];
            assert_eq!((table.schema.as_str(), table.table.as_str()), ("s", "t"));
            assert_eq!(
                (table.inserted, table.updated, table.deleted, table.counted),
                (3, 1, 2, true)
            );
            assert_eq!(done[1].statements[0].kind, StatementKind::DropTable);
            assert!(!done[2].tables[0].counted && !done[2].incomplete && done[3].incomplete);
            for cut in [1, 2, 3, 19, 23, 50] {
                assert_eq!(in_cuts(&written.bytes, cut).unwrap(), done, "{cut}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_event_makes_it_panic(
            events in proptest::collection::vec((0usize..24, proptest::collection::vec(any::<u8>(), 0..120)), 0..12),
            columns in proptest::collection::vec((0usize..26, any::<u8>(), any::<u8>()), 1..9), cut in 1usize..300,
        ) {
            const KINDS: [u8; 24] = [
                2, 19, 23, 24, 25, 29, 30, 31, 32, 39, 40, 165, 166, 167, 168, 169, 170, 171, 16, 38, 162, 161, 13, 30,
            ];
            const TYPES: [u8; 26] = [
                1, 2, 3, 4, 5, 7, 8, 10, 12, 13, 15, 16, 17, 18, 19, 242, 245, 246, 247, 249, 252, 253, 254, 255, 140, 141,
            ];
            let mut written = Written::new(true);
            begin(&mut written, 1);
            // A table of random columns, so that the rows behind it are looked at.
            let mut map = vec![9, 0, 0, 0, 0, 0, 1, 0, 1];
            map.extend(b"s\0\x01t\0");
            map.push(u8::try_from(columns.len()).unwrap());
            map.extend(columns.iter().map(|(kind, ..)| TYPES[*kind]));
            map.push(u8::try_from(2 * columns.len()).unwrap());
            map.extend(columns.iter().flat_map(|(_, first, second)| [*first, *second]));
            written.event(EventHeader::TABLE_MAP, &map);
            for (kind, body) in &events {
                let kind = KINDS[*kind];
                written.event(kind, body);
                let mut head = vec![9, 0, 0, 0, 0, 0, 1, 0];
                if matches!(kind, 30..=39 | 169..=171) {
                    head.extend([2, 0]);
                }
                head.push(u8::try_from(columns.len()).unwrap());
                head.extend(body);
                written.event(kind, &head);
            }
            let _ = in_cuts(&written.bytes, cut).is_ok();
        }
    }
}
