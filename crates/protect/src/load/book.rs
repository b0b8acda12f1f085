//! What of a load is on the target already: remembered there, in a database of its own, until the load is through.
//!
//! How far the rows of a part are is written in the transaction of the rows themselves: both are there or neither, whatever dies and
//! however late the server flushes its log. It is written as a step from where it was, so a second load that slipped in
//! changes nothing and is undone. Statements that make things commit by themselves, so what is about to be made is
//! written before (a table of that name which has no rows is then ours), and that it is there is looked up afterwards.
//! What was made is forgotten before it is dropped, never after: a table that is missing is begun anew.
#![deny(clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};

use ballast_mysql::{Connection, MysqlError, Row, quote_text};

use crate::context::Context;
use crate::error::{ProtectError, Result};
use crate::load_plan::LoadPlan;

/// Its name on the target.
pub(crate) const DATABASE: &str = "ballast_load";
/// Raised when another version could not go on.
const FORMAT: u64 = 1;
/// Rows of one statement that writes the beginning down.
const ROWS_PER_STATEMENT: usize = 500;
/// The database or a table of it is not there, or not for us to see.
const NOT_THERE: [u16; 4] = [1049, 1146, 1044, 1142];
/// This account may not make it.
const NOT_ALLOWED: [u16; 4] = [1044, 1045, 1142, 1227];

const TABLES: [(&str, &str); 4] = [
    (
        "run",
        "id TINYINT NOT NULL PRIMARY KEY, format INT NOT NULL, source LONGTEXT NOT NULL, backup LONGTEXT NOT NULL, \
         choice LONGTEXT NOT NULL, begun_at VARCHAR(40) NOT NULL, stage TINYINT NOT NULL",
    ),
    (
        "table_state",
        "number INT UNSIGNED NOT NULL PRIMARY KEY, place LONGTEXT NOT NULL, state TINYINT NOT NULL, \
         rows_found BIGINT UNSIGNED NOT NULL",
    ),
    (
        "part",
        "file INT UNSIGNED NOT NULL PRIMARY KEY, bytes_there BIGINT UNSIGNED NOT NULL, rows_there BIGINT UNSIGNED NOT NULL",
    ),
    (
        "standing",
        "number INT UNSIGNED NOT NULL PRIMARY KEY, kind VARCHAR(40) NOT NULL, of_what LONGTEXT NOT NULL, name LONGTEXT NOT NULL",
    ),
];

/// What the load is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Tables,
    Rows,
    /// What refers to tables.
    Objects,
}

/// How far one table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TableState {
    /// About to be made.
    Planned,
    /// There, with some of its rows.
    Made,
    /// There with all rows and keys, and its fingerprint was as backed up.
    Whole,
    /// There with all rows and keys, and its fingerprint was another.
    Differing,
}

/// How much of a part is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Reached {
    pub(crate) bytes: u64,
    pub(crate) rows: u64,
}

impl Reached {
    pub(crate) fn add(&mut self, more: Self) {
        self.bytes = self.bytes.saturating_add(more.bytes);
        self.rows = self.rows.saturating_add(more.rows);
    }
}

/// Something that is no table: its kind, its database or user, its name or host.
pub(crate) type Thing = (String, String, String);

/// A load that was begun and not finished.
#[derive(Debug, Clone)]
pub(crate) struct Book {
    pub(crate) source: String,
    pub(crate) backup: String,
    /// The flags that chose tables and named them.
    pub(crate) choice: String,
    pub(crate) begun_at: String,
    pub(crate) stage: Stage,
    tables: BTreeMap<usize, (TableState, u64)>,
    parts: BTreeMap<u32, Reached>,
    /// What was there before the first object was made.
    pub(crate) standing: BTreeSet<Thing>,
}

impl Book {
    /// What an unfinished load left; `None` where there is none.
    pub(crate) async fn read(connection: &mut Connection) -> Result<Option<Self>> {
        let sql = format!("SELECT format, source, backup, choice, begun_at, stage FROM {DATABASE}.run");
        let rows = match connection.query(&sql).await {
            Ok(rows) => rows,
            Err(error) if error.server_code().is_some_and(|code| NOT_THERE.contains(&code)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let Some(row) = rows.into_iter().next() else {
            return Ok(None);
        };
        if row.number(0) != Some(FORMAT) {
            return Err(ProtectError::usage(format!(
                "a load that another version of ballast began is not finished: backup \"{}\"",
                text(&row, 2)
            ))
            .hint(format!("finish it with that version, or {GIVE_UP}")));
        }
        let mut book = Self {
            source: text(&row, 1),
            backup: text(&row, 2),
            choice: text(&row, 3),
            begun_at: text(&row, 4),
            stage: match row.number(5) {
                Some(0) => Stage::Tables,
                Some(1) => Stage::Rows,
                _ => Stage::Objects,
            },
            tables: BTreeMap::new(),
            parts: read_parts(connection, "").await?,
            standing: BTreeSet::new(),
        };
        let sql = format!("SELECT number, state, rows_found FROM {DATABASE}.table_state");
        for row in connection.query(&sql).await? {
            let number = usize::try_from(number(&row, 0)).unwrap_or(usize::MAX);
            let state = match row.number(1) {
                Some(1) => TableState::Made,
                Some(2) => TableState::Whole,
                Some(3) => TableState::Differing,
                _ => TableState::Planned,
            };
            book.tables.insert(number, (state, self::number(&row, 2)));
        }
        let sql = format!("SELECT kind, of_what, name FROM {DATABASE}.standing");
        for row in connection.query(&sql).await? {
            book.standing.insert((text(&row, 0), text(&row, 1), text(&row, 2)));
        }
        Ok(Some(book))
    }

    /// Writes down what is about to be made. `None` where this account may not: the load goes on without, and a warning says so.
    pub(crate) async fn begin(context: &Context, connection: &mut Connection, plan: &LoadPlan) -> Result<Option<Self>> {
        let book = Self {
            source: plan.source.clone(),
            backup: plan.backup.id.clone(),
            choice: plan.choice.clone(),
            begun_at: context.clock.now().to_string(),
            stage: Stage::Tables,
            tables: plan
                .chosen()
                .map(|(number, _)| (number, (TableState::Planned, 0)))
                .collect(),
            parts: plan
                .chosen()
                .filter_map(|(number, _)| plan.record.tables.get(number))
                .flat_map(|rows| &rows.parts)
                .map(|part| (part.file, Reached::default()))
                .collect(),
            standing: BTreeSet::new(),
        };
        match book.write(connection, plan).await {
            Ok(()) => Ok(Some(book)),
            Err(error) if error.server_code().is_some_and(|code| NOT_ALLOWED.contains(&code)) => {
                context.warn(
                    format!("this load cannot go on later if it is stopped: {error}"),
                    Some(format!(
                        "grant the account all on {DATABASE}.* of the target, which is dropped at the end"
                    )),
                );
                Ok(None)
            }
            Err(error) => Err(ProtectError::from(error).about("remember on the target what is loaded")),
        }
    }

    async fn write(&self, connection: &mut Connection, plan: &LoadPlan) -> std::result::Result<(), MysqlError> {
        connection
            .execute(&format!(
                "CREATE DATABASE IF NOT EXISTS {DATABASE} CHARACTER SET utf8mb4"
            ))
            .await?;
        // A load that was through forgot itself first: what it did not come to drop has no meaning.
        for (name, columns) in TABLES {
            connection
                .execute(&format!("DROP TABLE IF EXISTS {DATABASE}.{name}"))
                .await?;
            let sql =
                format!("CREATE TABLE {DATABASE}.{name} ({columns}) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4");
            connection.execute(&sql).await?;
        }
        let places = |(number, table): (usize, &ballast_mysql::TableSchema)| {
            let (database, name) = plan.names().table(&table.database, &table.name);
            format!("({number}, {}, 0, 0)", quote_text(&format!("{database}.{name}")))
        };
        connection.execute("START TRANSACTION").await?;
        insert(connection, "table_state", plan.chosen().map(places)).await?;
        insert(
            connection,
            "part",
            self.parts.keys().map(|file| format!("({file}, 0, 0)")),
        )
        .await?;
        let run = [&self.source, &self.backup, &self.choice, &self.begun_at].map(|text| quote_text(text));
        insert(
            connection,
            "run",
            std::iter::once(format!("(1, {FORMAT}, {}, 0)", run.join(", "))),
        )
        .await?;
        connection.execute("COMMIT").await?;
        Ok(())
    }

    /// Waits for what an earlier run's connections may still be committing, and takes note of it.
    pub(crate) async fn settle(&mut self, connection: &mut Connection) -> Result<()> {
        self.parts = read_parts(connection, " FOR UPDATE").await?;
        Ok(())
    }

    pub(crate) fn state(&self, table: usize) -> TableState {
        self.tables.get(&table).map_or(TableState::Planned, |(state, _)| *state)
    }

    /// The rows of a table that is whole.
    pub(crate) fn rows_found(&self, table: usize) -> u64 {
        self.tables.get(&table).map_or(0, |(_, rows)| *rows)
    }

    pub(crate) fn reached(&self, file: u32) -> Reached {
        self.parts.get(&file).copied().unwrap_or_default()
    }

    /// Everything loaded so far.
    pub(crate) fn sum(&self) -> Reached {
        let mut sum = Reached::default();
        self.parts.values().for_each(|part| sum.add(*part));
        sum
    }

    pub(crate) fn tables_whole(&self) -> u64 {
        let whole = |(state, _): &&(TableState, u64)| *state == TableState::Whole;
        self.tables.values().filter(whole).count() as u64
    }

    /// Takes note that a table which was there is gone, and is to be made again from nothing.
    pub(crate) async fn anew(&mut self, connection: &mut Connection, table: usize, files: &[u32]) -> Result<()> {
        connection.execute("START TRANSACTION").await?;
        for file in files {
            let sql = format!("UPDATE {DATABASE}.part SET bytes_there = 0, rows_there = 0 WHERE file = {file}");
            connection.execute(&sql).await?;
            self.parts.insert(*file, Reached::default());
        }
        connection.execute(&state_sql(table, TableState::Planned, 0)).await?;
        connection.execute("COMMIT").await?;
        self.tables.insert(table, (TableState::Planned, 0));
        Ok(())
    }

    /// Takes note that all planned tables are there.
    pub(crate) async fn made(&mut self, connection: &mut Connection) -> Result<()> {
        connection
            .execute(&format!("UPDATE {DATABASE}.table_state SET state = 1 WHERE state = 0"))
            .await?;
        connection
            .execute(&format!("UPDATE {DATABASE}.run SET stage = 1 WHERE stage = 0"))
            .await?;
        for (state, _) in self
            .tables
            .values_mut()
            .filter(|(state, _)| *state == TableState::Planned)
        {
            *state = TableState::Made;
        }
        self.stage = self.stage.max(Stage::Rows);
        Ok(())
    }

    /// Takes note that objects are about to be made, and of those of their names that are somebody else's.
    pub(crate) async fn objects(&mut self, connection: &mut Connection, standing: BTreeSet<Thing>) -> Result<()> {
        connection.execute("START TRANSACTION").await?;
        let rows = standing.iter().enumerate().map(|(number, (kind, of, name))| {
            let texts = [kind, of, name].map(|text| quote_text(text));
            format!("({number}, {})", texts.join(", "))
        });
        insert(connection, "standing", rows).await?;
        connection
            .execute(&format!("UPDATE {DATABASE}.run SET stage = 2"))
            .await?;
        connection.execute("COMMIT").await?;
        self.standing = standing;
        self.stage = Stage::Objects;
        Ok(())
    }

    /// Forgets the load, which is through.
    pub(crate) async fn finish(context: &Context, connection: &mut Connection) -> Result<()> {
        connection.execute(&format!("DELETE FROM {DATABASE}.run")).await?;
        match connection.execute(&format!("DROP DATABASE {DATABASE}")).await {
            Err(error @ MysqlError::Server { .. }) => context.warn(
                format!("database {DATABASE} of the target is of no use any more, and cannot be dropped: {error}"),
                Some(format!("on the target: DROP DATABASE {DATABASE};")),
            ),
            done => drop(done?),
        }
        Ok(())
    }
}

/// What to do with a load that nobody wants to go on.
pub(crate) const GIVE_UP: &str =
    "give it up with DROP DATABASE ballast_load; on the target (the tables it made stay, and --replace drops them)";

/// The statement that takes note of rows within their own transaction.
pub(crate) fn mark_sql(file: u32, before: Reached, now: Reached) -> String {
    format!(
        "UPDATE {DATABASE}.part SET bytes_there = {}, rows_there = {} WHERE file = {file} AND bytes_there = {}",
        now.bytes, now.rows, before.bytes
    )
}

/// The statement that takes note of a table's state.
pub(crate) fn state_sql(table: usize, state: TableState, rows: u64) -> String {
    let state = match state {
        TableState::Planned => 0,
        TableState::Made => 1,
        TableState::Whole => 2,
        TableState::Differing => 3,
    };
    format!("UPDATE {DATABASE}.table_state SET state = {state}, rows_found = {rows} WHERE number = {table}")
}

async fn insert(
    connection: &mut Connection,
    table: &str,
    rows: impl Iterator<Item = String>,
) -> std::result::Result<(), MysqlError> {
    let rows: Vec<String> = rows.collect();
    for some in rows.chunks(ROWS_PER_STATEMENT) {
        let sql = format!("INSERT INTO {DATABASE}.{table} VALUES {}", some.join(", "));
        connection.execute(&sql).await?;
    }
    Ok(())
}

async fn read_parts(connection: &mut Connection, lock: &str) -> Result<BTreeMap<u32, Reached>> {
    let sql = format!("SELECT file, bytes_there, rows_there FROM {DATABASE}.part{lock}");
    let mut parts = BTreeMap::new();
    for row in connection.query(&sql).await? {
        let reached = Reached {
            bytes: number(&row, 1),
            rows: number(&row, 2),
        };
        parts.insert(u32::try_from(number(&row, 0)).unwrap_or(u32::MAX), reached);
    }
    Ok(parts)
}

fn text(row: &Row, column: usize) -> String {
    row.text(column).map(std::borrow::Cow::into_owned).unwrap_or_default()
}

fn number(row: &Row, column: usize) -> u64 {
    row.number(column).unwrap_or_default()
}
