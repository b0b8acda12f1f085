//! The rows of a backup into their tables. Who loads the last part of a table also adds its keys and has it fingerprinted.
#![deny(clippy::indexing_slicing)]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ballast_mysql::{Chunk, Connection, LOAD_SESSION, MysqlError, TableDigest, quote_table};
use ballast_repository::BackupReader;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};

use crate::context::Context;
use crate::error::{ErrorKind, ProtectError, Result};
use crate::load_plan::LoadPlan;
use crate::mysql::logical::record::{Part, TableRows};
use crate::mysql::proof::Proof;

/// Rows of about this size make one transaction.
const TRANSACTION_BYTES: usize = 8 * 1024 * 1024;
/// Adding the keys of one large table, or reading it once, takes its time.
const TABLE_WAIT_MAX: Duration = Duration::from_secs(24 * 3600);

/// What is left to load, and what came of the rest.
pub(super) struct Work {
    parts: Mutex<VecDeque<(usize, Part)>>,
    /// Parts of each table that are not loaded yet.
    left: Vec<AtomicUsize>,
    done_bytes: AtomicU64,
    total_bytes: u64,
    tables: u64,
    found: AtomicU64,
    rows: AtomicU64,
    differing: Mutex<Vec<String>>,
}

impl Work {
    pub(super) fn of(plan: &LoadPlan) -> Self {
        let all = &plan.record.tables;
        let mut parts = VecDeque::new();
        for (number, _) in plan.chosen() {
            let rows = all.get(number).map(|rows| rows.parts.clone()).unwrap_or_default();
            parts.extend(rows.into_iter().map(|part| (number, part)));
        }
        let size = |(_, part): &(usize, Part)| plan.manifest.files.get(part.file as usize).map_or(0, |file| file.size);
        Self {
            left: all.iter().map(|rows| AtomicUsize::new(rows.parts.len())).collect(),
            done_bytes: AtomicU64::new(0),
            total_bytes: parts.iter().map(size).sum(),
            tables: plan.chosen().count() as u64,
            found: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            differing: Mutex::default(),
            parts: Mutex::new(parts),
        }
    }

    pub(super) fn proof(&self) -> Proof {
        let mut differing = std::mem::take(&mut *self.differing.lock().unwrap_or_else(PoisonError::into_inner));
        differing.sort();
        Proof {
            position_equal: None,
            tables_expected: self.tables,
            tables_found: self.found.load(Ordering::Relaxed),
            tables_differing: differing,
            rows: self.rows.load(Ordering::Relaxed),
        }
    }

    fn next(&self) -> Option<(usize, Part)> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// One connection that loads.
pub(super) struct Loader {
    context: Context,
    plan: Arc<LoadPlan>,
    work: Arc<Work>,
    connection: Connection,
}

impl Loader {
    pub(super) fn new(context: Context, plan: Arc<LoadPlan>, work: Arc<Work>, mut connection: Connection) -> Self {
        connection.set_read_timeout(TABLE_WAIT_MAX);
        Self {
            context,
            plan,
            work,
            connection,
        }
    }

    pub(super) async fn run(mut self) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        while let Some((number, part)) = self.work.next() {
            let (Some(schema), Some(rows)) = (plan.record.schema.tables.get(number), plan.record.tables.get(number))
            else {
                continue;
            };
            let (database, name) = plan.names().table(&schema.database, &schema.name);
            let about = |error: ProtectError| error.about(&format!("table {database}.{name}"));
            let place = quote_table(&database, &name);
            self.part(&place, rows, &part).await.map_err(about)?;
            let last = self
                .work
                .left
                .get(number)
                .is_some_and(|left| left.fetch_sub(1, Ordering::AcqRel) == 1);
            if last {
                let keys = schema.statements(&plan.names().naming())?.keys;
                self.add_keys(&keys).await.map_err(about)?;
                self.prove(&database, &name, rows).await.map_err(about)?;
            }
        }
        self.connection.close().await;
        Ok(())
    }

    /// Loads one stretch, transaction by transaction.
    async fn part(&mut self, place: &str, rows: &TableRows, part: &Part) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        let reader = BackupReader::new(&plan.from, &plan.manifest);
        let mut text = Box::pin(reader.stream(part.file as usize, 0, &self.context.cancel));
        let (mut gathered, mut count) = (BytesMut::new(), 0);
        while let Some(bytes) = text.next().await {
            gathered.extend_from_slice(&bytes?);
            if gathered.len() >= TRANSACTION_BYTES
                && let Some(end) = gathered.iter().rposition(|byte| *byte == b'\n')
            {
                let whole = gathered.split_to(end + 1).freeze();
                count += self.transaction(place, rows, whole).await?;
            }
        }
        if !gathered.is_empty() {
            count += self.transaction(place, rows, gathered.freeze()).await?;
        }
        if count != part.digest.rows {
            let message = format!("{} rows were backed up and {count} are stored", part.digest.rows);
            return Err(ProtectError::new(ErrorKind::Damaged, message));
        }
        Ok(())
    }

    async fn transaction(&mut self, place: &str, rows: &TableRows, text: Bytes) -> Result<u64> {
        let bytes = text.len() as u64;
        // A newline within a value is escaped.
        let count = text.iter().filter(|byte| **byte == b'\n').count() as u64;
        let chunk = Chunk {
            rows: count,
            mark: None,
            transaction: true,
        };
        let mut source = stream::iter([Ok::<_, MysqlError>(text)]);
        let loaded = if self.connection.may_load() {
            let sql = rows.form.load_sql(place);
            self.connection.load_chunk(&sql, chunk, &mut source).await?
        } else {
            self.connection
                .insert_chunk(&rows.form, place, chunk, &mut source)
                .await?
        };
        for warning in &loaded.first_warnings {
            tracing::debug!(place, warning, "said while loading; the fingerprint decides");
        }
        let done = self.work.done_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.context.progress("rows", done, Some(self.work.total_bytes));
        Ok(count)
    }

    async fn add_keys(&mut self, keys: &[String]) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        self.connection.execute("SET NAMES utf8mb4").await?;
        for sql in keys {
            self.connection.execute(sql).await?;
        }
        self.connection.execute(LOAD_SESSION).await?;
        Ok(())
    }

    /// Compares what the server holds now with what was backed up.
    async fn prove(&mut self, database: &str, name: &str, rows: &TableRows) -> Result<()> {
        let place = quote_table(database, name);
        let found = rows.form.fingerprint(&mut self.connection, &place, None).await?;
        self.work.found.fetch_add(1, Ordering::Relaxed);
        self.work.rows.fetch_add(found.rows, Ordering::Relaxed);
        if let Some(difference) = difference(&rows.digest, &found) {
            let mut differing = self.work.differing.lock().unwrap_or_else(PoisonError::into_inner);
            differing.push(format!("table {database}.{name}: {difference}"));
        }
        Ok(())
    }
}

fn difference(expected: &TableDigest, found: &TableDigest) -> Option<String> {
    if expected.rows != found.rows {
        return Some(format!("{} rows instead of {}", found.rows, expected.rows));
    }
    (expected != found).then(|| "its rows have other content".to_owned())
}
