//! What a load has to do, shared by the connections that do it: stretches of tables, how far all of them are, and what came of them.
#![deny(clippy::indexing_slicing)]

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use ballast_mysql::Connection;

use super::book::{Book, Reached, TableState};
use super::resume::Present;
use crate::context::Context;
use crate::load_plan::{LoadPlan, TableName};
use crate::mysql::logical::Plan;
use crate::mysql::logical::reader;
use crate::mysql::logical::record::{Part, TableRows};
use crate::mysql::proof::Proof;
use crate::observer::Progress;

/// Where the rows of a load come from.
#[derive(Debug)]
pub(crate) enum RowSource {
    /// The parts of a logical backup.
    Stored,
    /// A private server.
    Live(LiveRows),
}

/// Rows of a server that runs.
#[derive(Debug)]
pub(crate) struct LiveRows {
    plan: Plan,
    /// One for each loader.
    readers: Mutex<Vec<Connection>>,
}

impl LiveRows {
    pub(super) fn new(plan: Plan, readers: Vec<Connection>) -> Self {
        Self {
            plan,
            readers: Mutex::new(readers),
        }
    }

    /// For one loader.
    pub(super) fn reader(&self) -> Option<Connection> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// The table of a stretch.
    pub(super) fn task(&self, stretch: &reader::Job) -> Option<&reader::Task> {
        self.plan.tables.get(stretch.table)
    }

    fn jobs(&self) -> impl Iterator<Item = &reader::Job> {
        self.plan.urgent.iter().chain(&self.plan.others)
    }
}

/// A stretch of a table.
pub(super) enum Piece {
    Stored(Part),
    Live(reader::Job),
}

/// What is left to load, and what came of the rest.
pub(super) struct Work {
    jobs: Mutex<VecDeque<Job>>,
    /// Stretches of each table that are not loaded yet.
    left: Vec<AtomicUsize>,
    /// Of the parts of this run and of what was there before.
    done: [AtomicU64; 2],
    total: Reached,
    before: Reached,
    tables: u64,
    found: AtomicU64,
    rows: AtomicU64,
    /// Tables that were compared by value.
    read_back: AtomicU64,
    /// Whether marks are written.
    pub(super) remembers: bool,
    differing: Mutex<Vec<String>>,
}

/// A stretch to load.
pub(super) struct Job {
    pub(super) table: usize,
    pub(super) piece: Piece,
    /// What of it is there.
    pub(super) there: Reached,
    pub(super) bytes: u64,
    /// Rows and their mark come together.
    pub(super) transaction: bool,
}

impl Work {
    /// All that is not there. Tables that are whole count as found.
    pub(super) fn of(plan: &LoadPlan, book: Option<&Book>, present: &BTreeMap<TableName, Present>) -> Self {
        let all = &plan.record.tables;
        let mut jobs = VecDeque::new();
        let (mut total, mut before) = (Reached::default(), Reached::default());
        let (mut found, mut rows_found) = (0, 0);
        for (table, schema) in plan.chosen() {
            let whole = book.filter(|book| book.state(table) == TableState::Whole);
            if let Some(book) = whole {
                found += 1;
                rows_found += book.rows_found(table);
            }
            let name = plan.names().table(&schema.database, &schema.name);
            let transaction = present.get(&name).is_none_or(Present::is_transactional);
            for part in all.get(table).map(|rows| rows.parts.as_slice()).unwrap_or_default() {
                let bytes = plan.manifest.files.get(part.file as usize).map_or(0, |file| file.size);
                let size = Reached {
                    bytes,
                    rows: part.digest.rows,
                };
                let there = match (whole, book) {
                    (Some(_), _) => size,
                    (None, Some(book)) => book.reached(part.file),
                    (None, None) => Reached::default(),
                };
                total.add(size);
                before.add(there);
                if whole.is_none() {
                    jobs.push_back(Job {
                        table,
                        piece: Piece::Stored(part.clone()),
                        there,
                        bytes,
                        transaction,
                    });
                }
            }
            if let RowSource::Live(live) = &plan.rows {
                total.add(Reached {
                    bytes: schema.data_bytes,
                    rows: schema.rows,
                });
                let live = live.jobs().filter(|job| job.table == table);
                jobs.extend(live.map(|job| Job {
                    table,
                    piece: Piece::Live(job.clone()),
                    there: Reached::default(),
                    bytes: 0,
                    transaction,
                }));
            }
        }
        let left = |(table, rows): (usize, &TableRows)| {
            let live = match &plan.rows {
                RowSource::Stored => 0,
                RowSource::Live(live) => live.jobs().filter(|job| job.table == table).count(),
            };
            AtomicUsize::new(rows.parts.len() + live)
        };
        Self {
            left: all.iter().enumerate().map(left).collect(),
            done: [AtomicU64::new(before.bytes), AtomicU64::new(before.rows)],
            total,
            before,
            tables: plan.chosen().count() as u64,
            found: AtomicU64::new(found),
            rows: AtomicU64::new(rows_found),
            read_back: AtomicU64::new(0),
            differing: Mutex::default(),
            remembers: book.is_some(),
            jobs: Mutex::new(jobs),
        }
    }

    /// Rows that were there before this run.
    pub(super) fn rows_before(&self) -> u64 {
        self.before.rows
    }

    /// Says where the load stands.
    pub(super) fn tell(&self, context: &Context) {
        let [bytes, rows] = self.done.each_ref().map(|done| done.load(Ordering::Relaxed));
        context.observer.progress(&Progress {
            step: "rows",
            done_bytes: bytes,
            total_bytes: Some(self.total.bytes),
            before_bytes: self.before.bytes,
            done_rows: Some(rows),
            total_rows: Some(self.total.rows),
        });
    }

    /// Takes note of rows that were loaded.
    pub(super) fn done(&self, context: &Context, more: Reached) {
        let [bytes, rows] = &self.done;
        bytes.fetch_add(more.bytes, Ordering::Relaxed);
        rows.fetch_add(more.rows, Ordering::Relaxed);
        self.tell(context);
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

    /// Tables that were compared by value.
    pub(super) fn read_back(&self) -> u64 {
        self.read_back.load(Ordering::Relaxed)
    }

    pub(super) fn next(&self) -> Option<Job> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// Tables that are not compared yet, at least one.
    pub(super) fn tables_left(&self) -> u64 {
        self.tables.saturating_sub(self.found.load(Ordering::Relaxed)).max(1)
    }

    /// Takes note that a stretch of the table is loaded; whether it was the last one.
    pub(super) fn ends(&self, table: usize) -> bool {
        let left = self.left.get(table);
        left.is_some_and(|left| left.fetch_sub(1, Ordering::AcqRel) == 1)
    }

    pub(super) fn compared_by_value(&self) {
        self.read_back.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes note of what came of a table.
    pub(super) fn compared(&self, rows: u64, difference: Option<String>) {
        self.found.fetch_add(1, Ordering::Relaxed);
        self.rows.fetch_add(rows, Ordering::Relaxed);
        let mut differing = self.differing.lock().unwrap_or_else(PoisonError::into_inner);
        differing.extend(difference);
    }
}
