//! From what arrived to what is durable: books, journal, `fdatasync`, in this order. Blocks: used from `run_blocking`.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use ballast_base::replace_durable;
use ballast_repository::{Journal, Repository, SEGMENT_BYTES_MAX};
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::kind::{Books, Closed, LogTail};
use super::ledger::FILE_MAGIC;
use super::redis::Portion;
use super::spool::{StreamFolder, UNFINISHED, at};
use crate::error::{ProtectError, Result};

/// In the head of a journal.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct About {
    pub(super) tail: LogTail,
}

/// A part of the log as it came.
#[derive(Debug)]
pub(super) enum Part {
    /// A file begins.
    File(String),
    Bytes(Bytes),
    /// Of a Redis: commands…
    Commands(Portion),
    /// … and the server calls the history they are in by another name from here on.
    History(String),
}

/// A journal that is closed: its bytes become a segment.
#[derive(Debug)]
pub(super) struct ClosedJournal {
    pub(super) path: PathBuf,
    pub(super) closed: Closed,
    pub(super) raw: Bytes,
}

/// Why a group could not be made durable.
#[derive(Debug)]
pub(super) enum WriteError {
    /// The machine's disk: nothing is lost, the same is tried again.
    Disk(ProtectError),
    /// What the server sent cannot be right.
    Log(ProtectError),
}

/// Writes one stream.
#[derive(Debug)]
pub(super) struct Writer {
    repository: Repository,
    folder: StreamFolder,
    books: Books,
    /// What is to be written yet.
    todo: VecDeque<Part>,
    /// What the stream was where the open journal begins.
    begin: LogTail,
    journal: Option<Journal>,
    /// The bytes of the open journal, all of them.
    raw: Vec<u8>,
    /// How many of them are in its file.
    appended: usize,
    /// A sync failed: nothing of the file is sure.
    unsure: bool,
    durable: u64,
}

impl Writer {
    /// Begins with an empty journal where the books stand.
    pub(super) fn begin(repository: &Repository, folder: StreamFolder, books: Books) -> Result<Self> {
        let mut writer = Self {
            repository: repository.clone(),
            folder,
            begin: books.tail(),
            durable: books.offset(),
            books,
            todo: VecDeque::new(),
            journal: None,
            raw: Vec::new(),
            appended: 0,
            unsure: false,
        };
        writer.flush()?;
        Ok(writer)
    }

    pub(super) fn books(&self) -> &Books {
        &self.books
    }

    /// See [`super::ledger::Ledger::learn_head`].
    pub(super) fn learn_head(&mut self, head: &str) {
        self.books.learn_head(head);
    }

    /// Up to here nothing is lost, whatever happens to this machine.
    pub(super) fn durable(&self) -> u64 {
        self.durable
    }

    /// Books `parts` and makes them durable. Journals that are full, or end with their file, are closed into `closed`; with `close` the
    /// last one is too.
    ///
    /// After [`WriteError::Disk`] it is called again, with no parts, until it succeeds: what had come is not forgotten.
    pub(super) fn write(
        &mut self,
        parts: Vec<Part>,
        close: bool,
        now: Timestamp,
        closed: &mut Vec<ClosedJournal>,
    ) -> std::result::Result<(), WriteError> {
        self.todo.extend(parts);
        self.flush().map_err(WriteError::Disk)?;
        while let Some(part) = self.todo.front() {
            let full = match part {
                Part::File(_) | Part::History(_) => true,
                Part::Bytes(bytes) => self.raw.len() + bytes.len() > SEGMENT_BYTES_MAX,
                Part::Commands(portion) => self.raw.len() + portion.stored_bytes() > SEGMENT_BYTES_MAX,
            };
            if full {
                self.flush().map_err(WriteError::Disk)?;
                self.close(now, closed);
            }
            match self.todo.pop_front() {
                Some(Part::File(name)) => {
                    self.books.begin_file(&name).map_err(WriteError::Log)?;
                    self.begin = self.books.tail();
                    self.book(&FILE_MAGIC).map_err(WriteError::Log)?;
                }
                Some(Part::History(history)) => {
                    self.books.begin_history(&history).map_err(WriteError::Log)?;
                    self.begin = self.books.tail();
                }
                Some(Part::Commands(portion)) => {
                    portion.store(&mut self.raw);
                    self.books.take(&portion).map_err(WriteError::Log)?;
                }
                Some(Part::Bytes(bytes)) => self.book(&bytes).map_err(WriteError::Log)?,
                None => {}
            }
        }
        self.flush().map_err(WriteError::Disk)?;
        if close {
            self.close(now, closed);
            self.flush().map_err(WriteError::Disk)?;
        }
        Ok(())
    }

    /// Closes what is open, for good: the stream is not gone on with.
    pub(super) fn finish(&mut self, now: Timestamp) -> Result<Vec<ClosedJournal>> {
        let mut closed = Vec::new();
        self.flush()?;
        let path = self.path();
        self.close(now, &mut closed);
        if closed.is_empty() {
            std::fs::remove_file(&path).map_err(|error| at("remove a journal", &path, error))?;
        }
        Ok(closed)
    }

    fn book(&mut self, bytes: &[u8]) -> Result<()> {
        self.books.push(bytes)?;
        self.raw.extend_from_slice(bytes);
        Ok(())
    }

    fn path(&self) -> PathBuf {
        self.folder.journal(self.begin.offset())
    }

    /// Makes all that was booked durable.
    fn flush(&mut self) -> Result<()> {
        if self.unsure {
            self.write_again()?;
        }
        let path = self.path();
        let journal = match &mut self.journal {
            Some(journal) => journal,
            none => none.insert(create(&self.repository, &path, &self.begin)?),
        };
        if let Some(rest) = self.raw.get(self.appended..).filter(|rest| !rest.is_empty()) {
            journal.append(rest)?;
            self.appended = self.raw.len();
            if let Err(error) = journal.sync() {
                self.unsure = true;
                return Err(error.into());
            }
        }
        self.durable = self.begin.offset() + self.raw.len() as u64;
        Ok(())
    }

    /// After a sync that failed the system may have dropped what it could not write. All bytes of the journal are still in memory: they
    /// are written to another file, which takes its place.
    fn write_again(&mut self) -> Result<()> {
        let path = self.path();
        let journal = replace(&self.repository, &path, &self.begin, &self.raw)?;
        self.journal = Some(journal);
        self.appended = self.raw.len();
        self.unsure = false;
        Ok(())
    }

    /// Closes the open journal, which was flushed. The next one is begun by the next flush.
    fn close(&mut self, now: Timestamp, closed: &mut Vec<ClosedJournal>) {
        assert!(self.appended == self.raw.len(), "only a durable journal is closed");
        let path = self.path();
        if let Some(segment) = self.books.close(now) {
            closed.push(ClosedJournal {
                path,
                closed: segment,
                raw: std::mem::take(&mut self.raw).into(),
            });
            self.appended = 0;
        }
        // An empty one is begun again, too: what it says of itself may no longer hold.
        self.journal = None;
        self.begin = self.books.tail();
    }
}

fn create(repository: &Repository, path: &Path, begin: &LogTail) -> Result<Journal> {
    // An empty one of the same place may be there, whose head is of the file before. It goes only when the new one is there: the last
    // journal of a stream says where the stream stands.
    if path.exists() {
        return replace(repository, path, begin, &[]);
    }
    Ok(Journal::create(repository, path, &about(path, begin)?)?)
}

/// A journal that takes the place of the one that is there.
fn replace(repository: &Repository, path: &Path, begin: &LogTail, raw: &[u8]) -> Result<Journal> {
    let beside = path.with_extension(UNFINISHED);
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(at("remove a journal", &beside, error));
        }
        _ => {}
    }
    let mut journal = Journal::create(repository, &beside, &about(path, begin)?)?;
    journal.append(raw)?;
    journal.sync()?;
    replace_durable(&beside, path).map_err(|error| at("replace a journal", path, error))?;
    Ok(journal)
}

fn about(path: &Path, begin: &LogTail) -> Result<serde_json::Value> {
    serde_json::to_value(About { tail: begin.clone() }).map_err(|error| at("begin a journal", path, error))
}
