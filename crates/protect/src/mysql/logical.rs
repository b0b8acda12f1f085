//! The logical engine: every object as the statement that makes it again, every row as text, all of one moment.
//!
//! Several connections see one moment (see `ConsistentRead`) and read the rows stretch by stretch; the text goes into pieces as
//! it comes, undecoded. Tables without transactions are read first, while nothing on the server changes. What was read is
//! called good only when the locks held to the end and no definition changed.

mod cutter;
mod divide;
mod gate;
mod probe;
pub(crate) mod reader;
pub(crate) mod record;
mod stretch;

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ballast_base::TaskSet;
use ballast_mysql::{
    Connection, ConsistentRead, Facts, ObjectKind, ReadOptions, Schema, SchemaFilter, ServerAddress, TableDigest,
    TableForm, TableKind,
};
use ballast_repository::{BackupWriter, FileContent};
use jiff::Timestamp;
use tokio::sync::mpsc;

use self::divide::{Fineness, divide};
use self::gate::Gate;
use self::reader::{Job, Task, Text, Work, read_all};
use self::record::{LogicalRecord, Part, TableRows};
use self::stretch::TableKey;
use super::pace::Pace;
use super::taken::Taken;
use crate::context::Context;
use crate::error::{ProtectError, Result};
use crate::load::book::DATABASE as UNFINISHED_LOAD;
use crate::position::Position;
use crate::settings::{Engine, SourceSettings};

/// Connections that read rows.
pub(crate) const READERS: usize = 4;
/// Pieces between the readers and the writer.
pub(crate) const PIECES_AHEAD: usize = 16;
/// Tables without transactions are read within this time, while nothing on the server changes.
const GLOBAL_LOCK_MAX: Duration = Duration::from_secs(600);

/// Takes everything of the chosen databases.
pub(crate) async fn take(
    context: &Context,
    source: &SourceSettings,
    address: &ServerAddress,
    facts: &Facts,
    writer: BackupWriter,
) -> Result<Taken> {
    // What a load remembers of itself is not of the source.
    let chosen = |database: &str| {
        database != UNFINISHED_LOAD
            && (source.databases.is_empty() || source.databases.iter().any(|name| name == database))
    };
    let options = ReadOptions {
        connections: READERS + 1,
        hold_global: needs_global_lock(facts, &chosen).then_some(GLOBAL_LOCK_MAX),
        ..ReadOptions::default()
    };
    let mut read = ConsistentRead::begin(address, facts, options, &context.cancel).await?;
    let snapshot_at = context.clock.now();
    let position = position(&read);
    let filter = SchemaFilter {
        database: &chosen,
        table: &|_, _| true,
        accounts: source.databases.is_empty(),
    };
    let mut connections = std::mem::take(&mut read.connections);
    let mut first = connections
        .pop()
        .ok_or_else(|| ProtectError::failed("no connection to read with"))?;
    let schema = Schema::read(&mut first, facts, &filter).await?;
    for left_out in &schema.left_out {
        context.warn(format!("left out: {left_out}"), None);
    }
    for table in schema
        .tables
        .iter()
        .filter(|table| table.kind == TableKind::SystemVersioned)
    {
        let message = format!(
            "left out: the history of {}.{}; its current rows are taken",
            table.database, table.name
        );
        context.warn(message, None);
    }
    let plan = Plan::make(&mut first, &schema).await?;
    first.close().await;
    let mut collecting = Collecting::new(context, writer, &schema, &plan);
    collecting.pace = Pace::new(context, source.limit.rate);

    // While others wait for a lock of ours there is no rest.
    let open = Gate::open();
    let connections = collecting.read(&plan, plan.urgent.clone(), connections, &open).await?;
    if read.holds_global() {
        read = read.release_global().await?;
    }
    let (gate, watch) = Gate::begin(context, address, facts, source.limit).await?;
    let connections = collecting.read(&plan, plan.others.clone(), connections, &gate).await?;
    watch.end(context).await?;
    for connection in connections {
        connection.close().await;
    }
    read.finish(|database, _| chosen(database)).await?;
    collecting.finish(schema, position, snapshot_at)
}

/// The rows of tables, on their way into the repository.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) writer: BackupWriter,
    pub(crate) files: Vec<(Vec<u8>, u64, FileContent)>,
    pub(crate) record: LogicalRecord,
    pub(crate) bytes: u64,
}

/// Reads all rows of these tables. What the connections see must be of one moment.
pub(crate) async fn take_rows(
    context: &Context,
    writer: BackupWriter,
    schema: Schema,
    mut connections: Vec<Connection>,
) -> Result<Rows> {
    let first = connections
        .first_mut()
        .ok_or_else(|| ProtectError::failed("no connection to read with"))?;
    let plan = Plan::make(first, &schema).await?;
    let mut collecting = Collecting::new(context, writer, &schema, &plan);
    let jobs = plan.urgent.iter().chain(&plan.others).cloned().collect();
    // Others wait for the locks: there is no rest.
    for connection in collecting.read(&plan, jobs, connections, &Gate::open()).await? {
        connection.close().await;
    }
    Ok(collecting.rows(schema))
}

/// What a database is made of, unlike what the server it lies on was set up with.
fn is_content(kind: ObjectKind) -> bool {
    use ObjectKind as O;
    !matches!(
        kind,
        O::Tablespace | O::LoadableFunction | O::ForeignServer | O::ResourceGroup | O::SpatialReferenceSystem
    )
}

/// Tables that are of the moment only while nothing changes.
fn needs_global_lock(facts: &Facts, chosen: &dyn Fn(&str) -> bool) -> bool {
    facts
        .tables
        .iter()
        .any(|table| chosen(&table.schema) && !is_transactional(&table.engine))
}

/// Whether rows of such a table can be undone.
pub(crate) fn is_transactional(engine: &str) -> bool {
    ["InnoDB", "ROCKSDB", "TokuDB"]
        .iter()
        .any(|name| engine.eq_ignore_ascii_case(name))
}

fn position(read: &ConsistentRead) -> Position {
    let Some(place) = &read.position else {
        return Position {
            exact: true,
            ..Position::default()
        };
    };
    let gtids = place.gtid_set.as_ref().map(ToString::to_string);
    Position {
        gtid_executed: gtids.or_else(|| place.gtid_position.clone()).unwrap_or_default(),
        file: place.file.clone(),
        offset: place.offset,
        exact: true,
        at_least: None,
        replication_id: None,
    }
}

/// Which stretches there are, and which of them come first.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) tables: Arc<Vec<Task>>,
    /// Of tables without transactions.
    pub(crate) urgent: Vec<Job>,
    pub(crate) others: Vec<Job>,
    /// The table of each file.
    files: Vec<usize>,
}

impl Plan {
    pub(crate) async fn make(connection: &mut Connection, schema: &Schema) -> Result<Self> {
        let tasks = schema.tables.iter().map(|table| Task {
            form: TableForm::new(&table.columns),
            key: TableKey::of(table),
            schema: table.clone(),
        });
        let tables: Vec<Task> = tasks.collect();
        let mut order: Vec<_> = tables.iter().enumerate().collect();
        // The largest first: nobody waits for one that was begun last.
        order.sort_by_key(|(_, task)| std::cmp::Reverse(task.schema.data_bytes));
        let (mut urgent, mut others, mut files) = (Vec::new(), Vec::new(), Vec::new());
        for (table, task) in order {
            let transactional = is_transactional(&task.schema.engine);
            let jobs = if transactional { &mut others } else { &mut urgent };
            for stretch in divide(connection, &task.schema, task.key.as_ref(), Fineness::default()).await? {
                let file = files.len();
                jobs.push(Job { table, file, stretch });
                files.push(table);
            }
        }
        Ok(Self {
            tables: Arc::new(tables),
            urgent,
            others,
            files,
        })
    }
}

/// The text on its way into the repository.
struct Collecting<'a> {
    context: &'a Context,
    writer: BackupWriter,
    contents: Vec<(u64, FileContent)>,
    tables: Vec<TableRows>,
    files: Vec<usize>,
    pace: Pace,
    bytes: u64,
    expected: u64,
}

impl<'a> Collecting<'a> {
    fn new(context: &'a Context, writer: BackupWriter, schema: &Schema, plan: &Plan) -> Self {
        let tables = plan.tables.iter().map(|task| TableRows {
            form: task.form.clone(),
            digest: TableDigest::default(),
            parts: Vec::new(),
        });
        Self {
            context,
            writer,
            contents: plan.files.iter().map(|_| (0, FileContent::default())).collect(),
            tables: tables.collect(),
            files: plan.files.clone(),
            pace: Pace::new(context, None),
            bytes: 0,
            expected: schema.tables.iter().map(|table| table.data_bytes).sum(),
        }
    }

    /// Reads stretches by all connections; gives the connections back.
    async fn read(
        &mut self,
        plan: &Plan,
        jobs: Vec<Job>,
        connections: Vec<Connection>,
        gate: &Gate,
    ) -> Result<Vec<Connection>> {
        let (out, mut texts) = mpsc::channel(PIECES_AHEAD);
        let jobs = Arc::new(Mutex::new(VecDeque::from(jobs)));
        let mut readers = TaskSet::new("read rows");
        for connection in connections {
            let (tables, jobs, out) = (Arc::clone(&plan.tables), Arc::clone(&jobs), out.clone());
            let (clock, cancel) = (Arc::clone(&self.context.clock), self.context.cancel.clone());
            let work = Work {
                tables,
                jobs,
                gate: gate.clone(),
            };
            readers.spawn(read_all(connection, work, out, clock, cancel));
        }
        drop(out);
        let mut connections = Vec::new();
        loop {
            tokio::select! {
                Some(text) = texts.recv() => self.text(text).await?,
                Some(reader) = readers.join_next() => connections.push(reader??),
                else => return Ok(connections),
            }
        }
    }

    async fn text(&mut self, text: Text) -> Result<()> {
        match text {
            Text::Piece { file, bytes } => {
                let length = bytes.len();
                let number = self.writer.store(bytes).await?;
                let (end, content) = self
                    .contents
                    .get_mut(file)
                    .ok_or_else(|| ProtectError::failed("a piece of no file"))?;
                content.put(*end, u32::try_from(length).unwrap_or(u32::MAX), number, 0);
                *end += length as u64;
                self.bytes += length as u64;
                self.context
                    .progress("rows", self.bytes, Some(self.expected.max(self.bytes)));
                self.pace.taken(self.context, length as u64).await?;
            }
            Text::End { table, file, digest } => {
                let rows = self
                    .tables
                    .get_mut(table)
                    .ok_or_else(|| ProtectError::failed("rows of no table"))?;
                rows.digest.merge(&digest);
                let file = u32::try_from(file).unwrap_or(u32::MAX);
                rows.parts.push(Part { file, digest });
            }
        }
        Ok(())
    }

    fn rows(mut self, schema: Schema) -> Rows {
        for rows in &mut self.tables {
            rows.parts.sort_by_key(|part| part.file);
        }
        let files = self
            .contents
            .into_iter()
            .zip(&self.files)
            .enumerate()
            .map(|(number, ((size, content), table))| {
                let of = schema.tables.get(*table);
                let name = of.map(|table| format!("{}/{}/{number}", table.database, table.name));
                let name = name.unwrap_or_default();
                (name.into_bytes(), size, content)
            })
            .collect();
        Rows {
            writer: self.writer,
            files,
            record: LogicalRecord {
                schema,
                tables: self.tables,
            },
            bytes: self.bytes,
        }
    }

    fn finish(self, schema: Schema, position: Position, snapshot_at: Timestamp) -> Result<Taken> {
        let Rows {
            writer,
            files,
            record,
            bytes,
        } = self.rows(schema);
        let tables: BTreeSet<_> = record
            .schema
            .tables
            .iter()
            .map(|table| (table.database.clone(), table.name.clone()))
            .collect();
        let missing = record
            .schema
            .left_out
            .iter()
            .filter(|left_out| is_content(left_out.kind));
        Ok(Taken {
            missing: missing.map(ToString::to_string).collect(),
            writer,
            engine: Engine::Logical,
            files,
            annex: record.to_json()?,
            tables,
            position,
            snapshot_at,
            bytes_source: bytes,
        })
    }
}
