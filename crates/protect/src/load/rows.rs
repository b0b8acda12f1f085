//! The rows of a backup into their tables. Who loads the last part of a table also adds its keys and has it fingerprinted.
#![deny(clippy::indexing_slicing)]

use std::sync::Arc;
use std::time::Duration;

use ballast_mysql::{Chunk, Connection, LOAD_SESSION, Loaded, MysqlError, TableDigest, quote_table};
use ballast_repository::BackupReader;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc;

use super::book::{Reached, TableState, mark_sql, state_sql};
use super::work::{Job, Piece, RowSource, Work};
use super::{LOADERS, by_value};
use crate::context::Context;
use crate::error::{ErrorKind, ProtectError, Result};
use crate::load_plan::LoadPlan;
use crate::mysql::logical::PIECES_AHEAD;
use crate::mysql::logical::reader::{self, Text, read_stretch};
use crate::mysql::logical::record::{Part, TableRows};

/// Rows of about this size make one transaction.
const TRANSACTION_BYTES: usize = 8 * 1024 * 1024;
/// What the server sorts keys in, of each connection: what fits needs no temporary files.
const SORT_BYTES: u64 = 16 * 1024 * 1024;
/// Adding the keys of one large table, or reading it once, takes its time.
const TABLE_WAIT_MAX: Duration = Duration::from_secs(24 * 3600);

/// One connection that loads.
pub(super) struct Loader {
    context: Context,
    plan: Arc<LoadPlan>,
    work: Arc<Work>,
    connection: Connection,
    may_load: bool,
}

impl Loader {
    pub(super) fn new(context: Context, plan: Arc<LoadPlan>, work: Arc<Work>, mut connection: Connection) -> Self {
        connection.set_read_timeout(TABLE_WAIT_MAX);
        Self {
            context,
            plan,
            work,
            may_load: connection.may_load(),
            connection,
        }
    }

    pub(super) async fn run(mut self) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        let mut reader = match &plan.rows {
            RowSource::Stored => None,
            RowSource::Live(live) => live.reader(),
        };
        if let Some(reader) = &mut reader {
            reader.set_read_timeout(TABLE_WAIT_MAX);
        }
        while let Some(job) = self.work.next() {
            let number = job.table;
            let (Some(schema), Some(rows)) = (plan.record.schema.tables.get(number), plan.record.tables.get(number))
            else {
                continue;
            };
            let (database, name) = plan.names().table(&schema.database, &schema.name);
            let about = |error: ProtectError| error.about(&format!("table {database}.{name}"));
            let place = quote_table(&database, &name);
            match (&job.piece, &mut reader) {
                (Piece::Stored(part), _) => self.part(&place, rows, &job, part).await,
                (Piece::Live(stretch), Some(reader)) => self.live(&place, rows, &job, stretch, reader).await,
                (Piece::Live(_), None) => Err(ProtectError::failed("no connection to read with")),
            }
            .map_err(about)?;
            if self.work.ends(number) {
                let keys = schema.statements(&plan.names().naming())?.keys;
                self.add_keys(&keys).await.map_err(about)?;
                let from = quote_table(&schema.database, &schema.name);
                let source = reader.as_mut().map(|reader| (reader, from));
                let names = (database.as_str(), name.as_str());
                self.prove(number, names, rows, source).await.map_err(about)?;
            }
        }
        self.connection.close().await;
        Ok(())
    }

    /// Loads what is not there of one stretch, transaction by transaction.
    async fn part(&mut self, place: &str, rows: &TableRows, job: &Job, part: &Part) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        let reader = BackupReader::new(&plan.from, &plan.manifest);
        let mut there = job.there;
        if there.bytes < job.bytes {
            let mut text = Box::pin(reader.stream(part.file as usize, there.bytes, &self.context.cancel));
            let mut gathered = BytesMut::new();
            while let Some(bytes) = text.next().await {
                gathered.extend_from_slice(&bytes?);
                self.give(place, rows, job, &mut there, &mut gathered).await?;
            }
            self.give_rest(place, rows, job, &mut there, gathered).await?;
        }
        stored_all(part.digest.rows, there.rows)
    }

    /// Loads one stretch while it is read.
    async fn live(
        &mut self,
        place: &str,
        rows: &TableRows,
        job: &Job,
        stretch: &reader::Job,
        reader: &mut Connection,
    ) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        let RowSource::Live(live) = &plan.rows else {
            return Ok(());
        };
        let Some(task) = live.task(stretch) else {
            return Err(ProtectError::failed("rows of no table"));
        };
        let (context, stretch) = (self.context.clone(), stretch.clone());
        let (out, mut texts) = mpsc::channel(PIECES_AHEAD);
        let reading =
            async move { read_stretch(reader, task, stretch, &out, (&*context.clock, &context.cancel), None).await };
        let loading = async {
            let (mut gathered, mut there) = (BytesMut::new(), job.there);
            while let Some(Text::Piece { bytes, .. }) = texts.recv().await {
                gathered.extend_from_slice(&bytes);
                self.give(place, rows, job, &mut there, &mut gathered).await?;
            }
            self.give_rest(place, rows, job, &mut there, gathered).await?;
            Ok::<_, ProtectError>(there)
        };
        let (digest, there) = tokio::try_join!(reading, loading)?;
        stored_all(digest.rows, there.rows)
    }

    /// Loads what makes a transaction of whole rows, and leaves the rest.
    async fn give(
        &mut self,
        place: &str,
        rows: &TableRows,
        job: &Job,
        there: &mut Reached,
        gathered: &mut BytesMut,
    ) -> Result<()> {
        if gathered.len() >= TRANSACTION_BYTES
            && let Some(end) = gathered.iter().rposition(|byte| *byte == b'\n')
        {
            let whole = gathered.split_to(end + 1).freeze();
            self.transaction(place, rows, job, there, whole).await?;
        }
        Ok(())
    }

    async fn give_rest(
        &mut self,
        place: &str,
        rows: &TableRows,
        job: &Job,
        there: &mut Reached,
        gathered: BytesMut,
    ) -> Result<()> {
        if gathered.is_empty() {
            return Ok(());
        }
        self.transaction(place, rows, job, there, gathered.freeze()).await
    }

    async fn transaction(
        &mut self,
        place: &str,
        rows: &TableRows,
        job: &Job,
        there: &mut Reached,
        text: Bytes,
    ) -> Result<()> {
        let more = Reached {
            bytes: text.len() as u64,
            // A newline within a value is escaped.
            rows: text.iter().filter(|byte| **byte == b'\n').count() as u64,
        };
        let mut now = *there;
        now.add(more);
        // Rows that cannot be undone are begun anew by the next run, and need no mark.
        let mark = match &job.piece {
            Piece::Stored(part) if self.work.remembers && job.transaction => Some(mark_sql(part.file, *there, now)),
            _ => None,
        };
        let chunk = Chunk {
            rows: more.rows,
            mark: mark.as_deref(),
            transaction: job.transaction,
        };
        let loaded = self.chunk(place, rows, chunk, text).await?;
        for warning in &loaded.first_warnings {
            tracing::debug!(place, warning, "said while loading; the fingerprint decides");
        }
        *there = now;
        self.work.done(&self.context, more);
        Ok(())
    }

    /// By LOAD DATA; by INSERT where the server forbids that, or comes to forbid it.
    async fn chunk(
        &mut self,
        place: &str,
        rows: &TableRows,
        chunk: Chunk<'_>,
        text: Bytes,
    ) -> std::result::Result<Loaded, MysqlError> {
        let source = || stream::iter([Ok::<_, MysqlError>(text.clone())]);
        if self.may_load {
            let sql = rows.form.load_sql(place);
            match self.connection.load_chunk(&sql, chunk, &mut source()).await {
                Err(error) if error.forbids_load() => {
                    tracing::info!(%error, "rows go by INSERT from here on");
                    self.may_load = false;
                }
                done => return done,
            }
        }
        self.connection
            .insert_chunk(&rows.form, place, chunk, &mut source())
            .await
    }

    async fn add_keys(&mut self, keys: &[String]) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        self.connection.execute("SET NAMES utf8mb4").await?;
        if !self.plan.mariadb {
            let threads = (LOADERS as u64 / self.work.tables_left()).max(1);
            match self.connection.execute(&sorting_session(threads)).await {
                Err(error @ MysqlError::Server { .. }) => {
                    tracing::debug!(%error, "keys are sorted as this server does");
                }
                done => drop(done?),
            }
        }
        for sql in keys {
            // Each statement adds all of its keys or none.
            const IS_THERE: u16 = 1061;
            match self.connection.execute(sql).await {
                Err(error) if self.work.remembers && error.server_code() == Some(IS_THERE) => {
                    tracing::debug!(%error, "an earlier run added it");
                }
                done => drop(done?),
            }
        }
        self.connection.execute(LOAD_SESSION).await?;
        Ok(())
    }

    /// Compares what the server holds now with what was backed up, or with what the private server says of its table.
    async fn prove(
        &mut self,
        table: usize,
        (database, name): (&str, &str),
        rows: &TableRows,
        source: Option<(&mut Connection, String)>,
    ) -> Result<()> {
        let place = quote_table(database, name);
        let (expected, found) = if by_value::is_wanted(&self.plan, rows) {
            self.work.compared_by_value();
            let expected = match source {
                Some((reader, from)) => rows.form.digest_by_value(reader, &from).await?,
                None => by_value::stored(&self.context, &self.plan, rows, &mut self.connection).await?,
            };
            (expected, rows.form.digest_by_value(&mut self.connection, &place).await?)
        } else {
            let expected = match source {
                Some((reader, from)) => rows.form.fingerprint(reader, &from, None).await?,
                None => rows.digest,
            };
            (
                expected,
                rows.form.fingerprint(&mut self.connection, &place, None).await?,
            )
        };
        let difference = difference(&expected, &found);
        if self.work.remembers {
            let state = match difference {
                None => TableState::Whole,
                Some(_) => TableState::Differing,
            };
            self.connection.execute(&state_sql(table, state, found.rows)).await?;
        }
        let difference = difference.map(|difference| format!("table {database}.{name}: {difference}"));
        self.work.compared(found.rows, difference);
        Ok(())
    }
}

/// By itself a server sorts each table's keys with four threads that share one MiB: where several tables are sorted at once
/// the threads only cost, and more is written to files than need be.
fn sorting_session(threads: u64) -> String {
    format!(
        "SET SESSION innodb_ddl_threads = {threads}, SESSION innodb_parallel_read_threads = {threads}, \
         SESSION innodb_ddl_buffer_size = CAST(GREATEST(@@SESSION.innodb_ddl_buffer_size, {SORT_BYTES}) AS UNSIGNED)"
    )
}

fn stored_all(read: u64, stored: u64) -> Result<()> {
    if read == stored {
        return Ok(());
    }
    let message = format!("{read} rows were backed up and {stored} are stored");
    Err(ProtectError::new(ErrorKind::Damaged, message))
}

fn difference(expected: &TableDigest, found: &TableDigest) -> Option<String> {
    if expected.rows != found.rows {
        return Some(format!("{} rows instead of {}", found.rows, expected.rows));
    }
    (expected != found).then(|| "its rows have other content".to_owned())
}
