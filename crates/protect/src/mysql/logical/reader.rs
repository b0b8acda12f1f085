//! Reads rows by several connections at once: each takes the next stretch, largest tables first, and gives its text on in chunks.
//!
//! A stretch is read in statements of a few seconds each, so that the server can be let rest in between and nobody's
//! purge waits for one endless statement; the next goes on behind the last key. All connections see one moment, so it does
//! not matter that statements follow each other.
#![deny(clippy::indexing_slicing)]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ballast_base::{Cancel, Clock};
use ballast_mysql::{Connection, TableDigest, TableForm, TableSchema, TextRows};
use bytes::Bytes;
use tokio::sync::mpsc;

use super::cutter::{Cutter, pieces};
use super::gate::Gate;
use super::stretch::{Stretch, TableKey};
use crate::error::{ProtectError, Result};

/// A statement should take about this long.
const STATEMENT_TARGET: Duration = Duration::from_secs(3);
/// Rows of the first statement of a stretch, and the least and most of any.
const ROWS_FIRST: u64 = 100_000;
const ROWS_MIN: u64 = 1_000;
const ROWS_MAX: u64 = 20_000_000;
/// One part of an answer may take this long to come.
pub(crate) const READ_WAIT_MAX: Duration = Duration::from_secs(3600);

/// A table to read.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) schema: TableSchema,
    pub(crate) form: TableForm,
    pub(crate) key: Option<TableKey>,
}

/// One stretch of one table: a file of the backup.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    /// Which of the tables.
    pub(crate) table: usize,
    /// Which of the backup's files.
    pub(crate) file: usize,
    pub(crate) stretch: Stretch,
}

/// What a reader gives on.
#[derive(Debug)]
pub(crate) enum Text {
    /// The next piece of a file.
    Piece { file: usize, bytes: Bytes },
    /// The file has no more.
    End {
        table: usize,
        file: usize,
        digest: TableDigest,
    },
}

/// What readers share.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) tables: Arc<Vec<Task>>,
    pub(crate) jobs: Arc<Mutex<VecDeque<Job>>>,
    pub(crate) gate: Gate,
}

/// Takes jobs until there are none; gives the connection back.
pub(crate) async fn read_all(
    mut connection: Connection,
    work: Work,
    out: mpsc::Sender<Text>,
    clock: Arc<dyn Clock>,
    cancel: Cancel,
) -> Result<Connection> {
    connection.set_read_timeout(READ_WAIT_MAX);
    // A table that was read would stay locked against DDL until the snapshot ends: it is given back after each statement.
    connection.execute("SAVEPOINT before_rows").await?;
    loop {
        let next = work.jobs.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some(job) = next else { return Ok(connection) };
        let Some(task) = work.tables.get(job.table) else {
            continue;
        };
        read_stretch(&mut connection, task, job, &out, (&*clock, &cancel), Some(&work.gate)).await?;
    }
}

/// One stretch, from its first piece to its end; gives its digest, too. With a gate the connection sees a snapshot that others wait
/// for; without, it is nobody else's server, or the tables are locked.
pub(crate) async fn read_stretch(
    connection: &mut Connection,
    task: &Task,
    job: Job,
    out: &mpsc::Sender<Text>,
    (clock, cancel): (&dyn Clock, &Cancel),
    gate: Option<&Gate>,
) -> Result<TableDigest> {
    let mut reading = Reading {
        connection,
        task,
        file: job.file,
        out,
        clock,
        cancel,
        gate,
        rows: TextRows::new(&task.form),
        cutter: Cutter::default(),
        digest: TableDigest::default(),
    };
    let digest = reading
        .stretch(job.stretch)
        .await
        .map_err(|error| error.about(&format!("table {}.{}", task.schema.database, task.schema.name)))?;
    let end = Text::End {
        table: job.table,
        file: job.file,
        digest,
    };
    send(out, end, cancel).await?;
    Ok(digest)
}

/// One stretch being read.
struct Reading<'a> {
    connection: &'a mut Connection,
    task: &'a Task,
    file: usize,
    out: &'a mpsc::Sender<Text>,
    clock: &'a dyn Clock,
    cancel: &'a Cancel,
    gate: Option<&'a Gate>,
    rows: TextRows,
    cutter: Cutter,
    digest: TableDigest,
}

impl Reading<'_> {
    async fn stretch(&mut self, mut stretch: Stretch) -> Result<TableDigest> {
        let mut limit = ROWS_FIRST;
        loop {
            let key = self.task.key.as_ref();
            let limited = key.is_some().then_some(limit);
            let sql = stretch.select(&self.task.schema, &self.task.form, key, limited);
            let passed = match self.gate {
                Some(gate) => Some(gate.pass(self.cancel).await?),
                None => None,
            };
            let from = self.clock.elapsed();
            let (rows, last) = self.statement(&sql, limited).await?;
            if let Some(passed) = passed {
                // Nobody's DDL, and nobody behind it, waits while this one rests.
                self.connection.execute("ROLLBACK TO SAVEPOINT before_rows").await?;
                drop(passed);
            }
            if limited.is_none_or(|limit| rows < limit) {
                break;
            }
            let Some(last) = last else {
                return Err(ProtectError::failed("a row whose key has no value"));
            };
            stretch = stretch.behind(last);
            limit = next_limit(limit, self.clock.elapsed().saturating_sub(from));
        }
        if let Some(chunk) = self.cutter.rest() {
            self.give(&chunk).await?;
        }
        Ok(self.digest)
    }

    /// Gives the number of rows, and the key of the last one where the limit was reached.
    async fn statement(&mut self, sql: &str, limit: Option<u64>) -> Result<(u64, Option<Vec<String>>)> {
        let (mut count, mut last) = (0, None);
        let mut stream = self.connection.stream(sql).await?;
        while let Some(batch) = stream.next().await? {
            let mut chunks = Vec::new();
            for row in batch.rows() {
                let text = self.cutter.text();
                let start = text.len();
                let fingerprint = self.rows.encode(row, text)?;
                let length = text.len() - start;
                self.digest.add(fingerprint);
                chunks.extend(self.cutter.row(length, fingerprint));
                count += 1;
                if limit == Some(count) {
                    let values: Vec<_> = row.values().collect::<std::result::Result<_, _>>()?;
                    let value = |place: usize| values.get(place).copied().flatten();
                    last = self.task.key.as_ref().and_then(|key| key.literals(&value));
                }
            }
            for chunk in &chunks {
                give(self.out, self.file, chunk, self.cancel).await?;
            }
        }
        drop(stream);
        self.connection.refuse_cut_values().await?;
        Ok((count, last))
    }

    async fn give(&self, chunk: &Bytes) -> Result<()> {
        give(self.out, self.file, chunk, self.cancel).await
    }
}

async fn give(out: &mpsc::Sender<Text>, file: usize, chunk: &Bytes, cancel: &Cancel) -> Result<()> {
    for bytes in pieces(chunk) {
        send(out, Text::Piece { file, bytes }, cancel).await?;
    }
    Ok(())
}

async fn send(out: &mpsc::Sender<Text>, text: Text, cancel: &Cancel) -> Result<()> {
    let sent = cancel.race(out.send(text)).await?;
    // Nobody takes it any more: they failed, and say why.
    sent.map_err(|_| ProtectError::failed("reading was given up"))
}

/// Statements get longer or shorter until one takes about as long as it should.
fn next_limit(limit: u64, took: Duration) -> u64 {
    let next = if took < STATEMENT_TARGET / 2 {
        limit.saturating_mul(2)
    } else if took > STATEMENT_TARGET * 2 {
        limit / 2
    } else {
        limit
    };
    next.clamp(ROWS_MIN, ROWS_MAX)
}
