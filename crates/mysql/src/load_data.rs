//! Rows into a table: by `LOAD DATA LOCAL INFILE`, or by INSERT statements where the server forbids that.
//!
//! The server asks for a file by a message which any server could send at any time. Only a connection that was opened
//! for loading says it can answer, and it answers only its own running LOAD, with rows and never with a file.
//!
//! A LOAD cannot be called off: its data ends with an empty packet, which means success, and LOCAL makes the server
//! pass over rows it does not want, with warnings. So rows go in chunks of one transaction each: it is committed
//! only when the server took exactly the rows it was to take. Where the source fails in the middle the connection is
//! cut before the end of the data, which undoes the transaction.

use std::error::Error;

use ballast_base::Cancel;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use mysql_common::constants::CapabilityFlags;

use crate::connection::Beginning;
use crate::text_rows::{split_row, split_values};
use crate::wire::packet::Underway;
use crate::wire::response::{self, Executed};
use crate::{Connection, MysqlError, ROW_BYTES_MAX, ServerAddress, TableForm};

const LOADING: &str = "loading rows";
/// Of the warnings of a LOAD the first ones are kept.
const WARNINGS_KEPT: usize = 5;
/// INSERT statements are made of about this size, or of less where the server takes less.
const INSERT_BYTES: usize = 1024 * 1024;
/// What a statement needs beside its bytes in a packet.
const INSERT_BYTES_SPARE: usize = 1024;

/// What the server did with the rows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Loaded {
    pub rows: u64,
    /// How many warnings there were; the server counts to 65535.
    pub warnings: u64,
    /// The first of them, in the server's words.
    pub first_warnings: Vec<String>,
}

/// What belongs to the rows of one transaction.
#[derive(Debug, Clone, Copy)]
pub struct Chunk<'a> {
    /// How many rows there are to load.
    pub rows: u64,
    /// A statement in the same transaction, which remembers that these rows are there. It must change one row: where it
    /// changes none somebody else moved the mark, and the rows are undone.
    pub mark: Option<&'a str>,
    /// Not for tables without transactions: there nothing can be undone, and a server with GTIDs refuses more than one
    /// statement on them at once.
    pub transaction: bool,
}

impl Connection {
    /// A connection whose LOAD statements can be answered.
    pub async fn open_for_load(address: &ServerAddress, cancel: &Cancel) -> Result<Self, MysqlError> {
        Self::open_with(address, cancel, CapabilityFlags::CLIENT_LOCAL_FILES).await
    }

    /// Whether LOAD is possible here: opened for it, with a server that allowed it at that moment.
    pub fn may_load(&self) -> bool {
        self.capabilities.contains(CapabilityFlags::CLIENT_LOCAL_FILES)
    }

    /// Runs one `LOAD DATA LOCAL INFILE` statement with the text of `source`, cut anywhere. Takes no care of
    /// transactions and of rows that were not taken: see [`Connection::load_chunk`].
    pub async fn load_data<S, E>(&mut self, sql: &str, source: &mut S) -> Result<Loaded, MysqlError>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        if !self.may_load() {
            return Err(MysqlError::LocalLoad);
        }
        match self.ask(LOADING, sql.as_bytes()).await? {
            Beginning::LocalFile => {}
            Beginning::Done(_) | Beginning::Rows(_) => {
                self.channel.abandon();
                return Err(MysqlError::protocol(
                    "a statement that asks for no rows where rows are loaded",
                ));
            }
        }
        let done = self.send_rows(source).await?;
        let mut loaded = Loaded::default();
        self.count(&mut loaded, done).await?;
        Ok(loaded)
    }

    /// Answers the server's request with rows.
    async fn send_rows<S, E>(&mut self, source: &mut S) -> Result<Executed, MysqlError>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let mut underway = Underway::new(&mut self.channel);
        let mut last = b'\n';
        let failure = loop {
            match underway.channel.race(source.next()).await? {
                Some(Ok(text)) => {
                    last = text.last().copied().unwrap_or(last);
                    underway.channel.send_data(LOADING, &text).await?;
                }
                Some(Err(error)) => break Some(source_failed(error)),
                // The server would fill up a last row that is not whole.
                None if last != b'\n' => break Some(source_failed("it ends in the middle of a row")),
                None => break None,
            }
        };
        if let Some(failure) = failure {
            underway.channel.shutdown().await;
            return Err(failure);
        }
        underway.channel.send(LOADING, &[]).await?;
        let answer = underway.channel.receive(LOADING).await?;
        underway.done = true;
        match answer.first() {
            Some(&response::OK) => response::decode_ok(&answer),
            Some(&response::ERROR) => Err(response::decode_error(&answer)),
            _ => Err(MysqlError::protocol(
                "the answer to loaded rows is neither OK nor an error",
            )),
        }
    }

    /// Loads rows in one transaction: committed when the server took as many as there are, else undone before the
    /// connection can be used again. When COMMIT itself fails only the mark can tell whether they are there.
    pub async fn load_chunk<S, E>(&mut self, sql: &str, chunk: Chunk<'_>, source: &mut S) -> Result<Loaded, MysqlError>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        self.begin_chunk(chunk).await?;
        let loaded = self.load_data(sql, source).await;
        self.end_chunk(loaded, chunk).await
    }

    /// As [`Connection::load_chunk`], by INSERT statements, which every server takes and which are slower.
    pub async fn insert_chunk<S, E>(
        &mut self,
        form: &TableForm,
        table: &str,
        chunk: Chunk<'_>,
        source: &mut S,
    ) -> Result<Loaded, MysqlError>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let packet = self.value("SELECT @@max_allowed_packet").await?;
        let packet: usize = packet.and_then(|text| text.parse().ok()).unwrap_or(INSERT_BYTES);
        self.begin_chunk(chunk).await?;
        let mut insert = Insert::new(form, table, packet);
        let loaded = self.insert_rows(&mut insert, source).await;
        self.end_chunk(loaded, chunk).await
    }

    async fn insert_rows<S, E>(&mut self, insert: &mut Insert<'_>, source: &mut S) -> Result<Loaded, MysqlError>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let mut loaded = Loaded::default();
        let mut text: Vec<u8> = Vec::new();
        while let Some(piece) = self.channel.race(source.next()).await? {
            // What was left of the pieces before has no row's end, and may be long.
            let left = text.len();
            let piece = piece.map_err(source_failed)?;
            text.extend_from_slice(&piece);
            let end = piece.iter().rposition(|&byte| byte == b'\n');
            let whole = end.map_or(0, |at| left + at + 1);
            let mut rest = text.get(..whole).unwrap_or_default();
            while let Some((row, after)) = split_row(rest) {
                rest = after;
                if let Some(full) = insert.add(row)? {
                    let done = self.execute_bytes(&full).await?;
                    self.count(&mut loaded, done).await?;
                }
            }
            text.drain(..whole);
            if text.len() > 2 * ROW_BYTES_MAX {
                return Err(source_failed("a row without an end"));
            }
        }
        if !text.is_empty() {
            return Err(source_failed("it ends in the middle of a row"));
        }
        if let Some(last) = insert.take() {
            let done = self.execute_bytes(&last).await?;
            self.count(&mut loaded, done).await?;
        }
        Ok(loaded)
    }

    async fn count(&mut self, loaded: &mut Loaded, done: Executed) -> Result<(), MysqlError> {
        loaded.rows += done.affected_rows;
        loaded.warnings += u64::from(done.warnings);
        let missing = WARNINGS_KEPT.saturating_sub(loaded.first_warnings.len());
        if done.warnings > 0 && missing > 0 {
            let rows = self.query(&format!("SHOW WARNINGS LIMIT {missing}")).await?;
            let words = |row: crate::Row| row.text(2).map(std::borrow::Cow::into_owned);
            loaded.first_warnings.extend(rows.into_iter().filter_map(words));
        }
        Ok(())
    }

    async fn begin_chunk(&mut self, chunk: Chunk<'_>) -> Result<(), MysqlError> {
        if chunk.transaction {
            self.execute("START TRANSACTION").await?;
        }
        Ok(())
    }

    async fn end_chunk(&mut self, loaded: Result<Loaded, MysqlError>, chunk: Chunk<'_>) -> Result<Loaded, MysqlError> {
        let checked = loaded.and_then(|loaded| {
            if loaded.rows == chunk.rows {
                Ok(loaded)
            } else {
                Err(MysqlError::Rows {
                    expected: chunk.rows,
                    loaded: loaded.rows,
                    warnings: loaded.first_warnings.join("; "),
                })
            }
        });
        let marked = match (checked, chunk.mark) {
            (Ok(loaded), Some(mark)) => self.mark(mark).await.map(|()| loaded),
            (checked, _) => checked,
        };
        if !chunk.transaction {
            return marked;
        }
        match marked {
            Ok(loaded) => {
                self.execute("COMMIT").await?;
                Ok(loaded)
            }
            Err(error) => {
                // Where it cannot be undone in words the end of the connection undoes it, so nothing may follow.
                if self.execute("ROLLBACK").await.is_err() {
                    self.channel.abandon();
                }
                Err(error)
            }
        }
    }

    async fn mark(&mut self, mark: &str) -> Result<(), MysqlError> {
        if self.execute(mark).await?.affected_rows == 1 {
            return Ok(());
        }
        Err(MysqlError::Disturbed {
            what: "what is remembered of the loaded rows was changed by somebody else".to_owned(),
            hint: "see to it that no other load into this server runs, then start again".to_owned(),
        })
    }
}

pub(crate) const LOCAL_INFILE_HINT: &str =
    "as an administrator of the target, while rows are loaded: SET GLOBAL local_infile = ON;";

fn source_failed(error: impl Into<Box<dyn Error + Send + Sync>>) -> MysqlError {
    MysqlError::Source { source: error.into() }
}

/// INSERT statements made of stored rows.
struct Insert<'a> {
    form: &'a TableForm,
    head: Vec<u8>,
    statement: Vec<u8>,
    bytes_max: usize,
    packet: usize,
}

impl<'a> Insert<'a> {
    fn new(form: &'a TableForm, table: &str, packet: usize) -> Self {
        let packet = packet.saturating_sub(INSERT_BYTES_SPARE);
        Self {
            form,
            head: form.insert_sql(table).into_bytes(),
            statement: Vec::new(),
            bytes_max: packet.min(INSERT_BYTES),
            packet,
        }
    }

    /// Takes a row; gives the statement that is full without it, if one is.
    fn add(&mut self, row: &[u8]) -> Result<Option<Vec<u8>>, MysqlError> {
        let mut values = Vec::with_capacity(row.len() + 16);
        self.values(row, &mut values)?;
        if self.head.len() + values.len() > self.packet {
            return Err(MysqlError::Unsupported {
                what: format!(
                    "a row of {} bytes, which is more than the target's max_allowed_packet takes",
                    values.len()
                ),
                hint: "as an administrator of the target: SET GLOBAL max_allowed_packet = 1073741824; or SET GLOBAL local_infile = ON;"
                    .to_owned(),
            });
        }
        let full = (!self.statement.is_empty() && self.statement.len() + values.len() >= self.bytes_max)
            .then(|| std::mem::take(&mut self.statement));
        if self.statement.is_empty() {
            self.statement.extend_from_slice(&self.head);
        } else {
            self.statement.push(b',');
        }
        self.statement.extend_from_slice(&values);
        Ok(full)
    }

    fn take(&mut self) -> Option<Vec<u8>> {
        (!self.statement.is_empty()).then(|| std::mem::take(&mut self.statement))
    }

    /// One row as SQL. Values are quoted binary texts, which the columns take as they take those of a LOAD.
    fn values(&self, row: &[u8], sql: &mut Vec<u8>) -> Result<(), MysqlError> {
        let columns = self.form.columns();
        if columns.is_empty() {
            sql.extend_from_slice(b"()");
            return Ok(());
        }
        let wrong = || MysqlError::protocol("stored row: not as many values as columns");
        let mut values = split_values(row);
        sql.push(b'(');
        for (number, column) in columns.iter().enumerate() {
            if number > 0 {
                sql.push(b',');
            }
            let Some(value) = values.next().ok_or_else(wrong)?? else {
                sql.extend_from_slice(b"NULL");
                continue;
            };
            let (before, after) = column.around().unwrap_or_default();
            sql.extend_from_slice(before.as_bytes());
            quote_binary(&value, sql);
            sql.extend_from_slice(after.as_bytes());
        }
        sql.push(b')');
        if values.next().is_some() {
            return Err(wrong());
        }
        Ok(())
    }
}

/// A binary text in quotes, for a session without the SQL mode NO_BACKSLASH_ESCAPES.
fn quote_binary(value: &[u8], sql: &mut Vec<u8>) {
    sql.extend_from_slice(b"_binary'");
    for &byte in value {
        match byte {
            b'\'' | b'\\' => sql.extend_from_slice(&[b'\\', byte]),
            0 => sql.extend_from_slice(b"\\0"),
            _ => sql.push(byte),
        }
    }
    sql.push(b'\'');
}
