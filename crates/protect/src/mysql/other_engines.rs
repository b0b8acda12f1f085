//! Tables of other engines than InnoDB in a backup of files: their rows, read by the logical engine, of the same moment.
//!
//! The clone protocol carries InnoDB's files only; of a MyISAM table the copy has the definition and nothing else. Such a table has no
//! snapshot either, so it has to stand still from the snapshot on until it is read.
//!
//! Why the rows are of the recorded moment: the tables are locked against changes (see `TableLock`) before the donor
//! fixes its snapshot, and let go when their last row has been read. With commits held ([`super::commit_pause`]), they are
//! locked while nothing at all is written: what was changed in them before is in the position that is read under the same pause, and
//! nothing is changed until they are let go. Without, the snapshot is fixed while they stand still, so what was changed in them
//! before is logged before every moment that the recorded bounds allow for, and nothing is changed within them.
//! The list of such tables is read under the lock.
//!
//! The price: who writes to these tables waits from the snapshot on, for the redo log's copy and for the reading. After
//! [`LOCK_MAX`] the lock is given up and the backup fails. Everything else is written meanwhile.

use std::time::Duration;

use ballast_base::format_bytes;
use ballast_mysql::{
    Connection, Facts, Schema, SchemaFilter, ServerAddress, TableFact, TableLock, TableLocker, open_reader,
};
use ballast_repository::BackupWriter;

use super::logical::{READERS, Rows, take_rows};
use crate::context::Context;
use crate::error::{ProtectError, Result};

/// Each lock is waited for this long, and whoever writes to the table may wait behind it.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(2);
/// From the snapshot to the last row; writers to these tables wait as long.
const LOCK_MAX: Duration = Duration::from_secs(600);

/// Opens what will lock them, while nothing is held yet.
pub(crate) async fn prepare(context: &Context, address: &ServerAddress, facts: &Facts) -> Result<TableLocker> {
    Ok(TableLocker::open(address, facts, LOCK_WAIT_MAX, &context.cancel).await?)
}

/// Tables that stand still.
#[derive(Debug)]
pub(crate) struct Held {
    lock: TableLock,
    tables: Vec<TableFact>,
    since: Duration,
}

/// Locks them, if there are any.
pub(crate) async fn hold(context: &Context, locker: TableLocker) -> Result<Option<Held>> {
    let locked = locker.lock(TableFact::has_rows_beside, LOCK_MAX).await;
    let (lock, tables) = locked.map_err(|error| {
        ProtectError::from(error).about("tables of other engines than InnoDB could not be locked to read them")
    })?;
    if let Some(table) = tables.iter().find(|table| table.is_in_no_copy()) {
        let message = format!(
            "table {}.{} is of engine {}, which cannot be copied",
            table.schema, table.name, table.engine
        );
        return Err(ProtectError::failed(message)
            .hint("convert it to InnoDB, or take rows instead of files with: --engine logical"));
    }
    Ok(lock.map(|lock| Held {
        lock,
        tables: tables.into_iter().filter(TableFact::has_rows_beside).collect(),
        since: context.clock.elapsed(),
    }))
}

/// Reads them, and lets them go.
pub(crate) async fn take(
    context: &Context,
    address: &ServerAddress,
    facts: &Facts,
    held: Held,
    writer: BackupWriter,
) -> Result<Rows> {
    let read = read(context, address, facts, &held.tables, writer);
    let rows = tokio::time::timeout(LOCK_MAX, read).await.map_err(|_| {
        ProtectError::failed(format!(
            "tables of other engines than InnoDB were not read within {} s, and their writers waited",
            LOCK_MAX.as_secs()
        ))
        .hint("convert the large ones to InnoDB, or take rows instead of files with: --engine logical")
    })??;
    held.lock.release().await?;
    let seconds = context.clock.elapsed().saturating_sub(held.since).as_secs_f64();
    context.note(format!(
        "{} tables of other engines than InnoDB, {}, were read beside the files; their writers waited for {seconds:.1} s",
        held.tables.len(),
        format_bytes(rows.bytes)
    ));
    Ok(rows)
}

async fn read(
    context: &Context,
    address: &ServerAddress,
    facts: &Facts,
    tables: &[TableFact],
    writer: BackupWriter,
) -> Result<Rows> {
    let chosen = |database: &str, name: &str| {
        tables
            .iter()
            .any(|table| table.schema == database && table.name == name)
    };
    let filter = SchemaFilter {
        database: &|database| tables.iter().any(|table| table.schema == database),
        table: &chosen,
        accounts: false,
    };
    let mut control = Connection::open(address, &context.cancel).await?;
    let mut schema = Schema::read(&mut control, facts, &filter).await?;
    control.close().await;
    for table in tables {
        let found = |read: &ballast_mysql::TableSchema| read.database == table.schema && read.name == table.name;
        if !schema.tables.iter().any(found) {
            let message = format!("the definition of table {}.{} cannot be read", table.schema, table.name);
            return Err(ProtectError::failed(message).hint(format!("GRANT SELECT ON *.* TO {};", facts.account)));
        }
    }
    // Everything else is in the files.
    schema = Schema {
        server_version: schema.server_version,
        lower_case_table_names: schema.lower_case_table_names,
        tables: schema.tables,
        triggers: schema.triggers,
        ..Schema::default()
    };
    let mut connections = Vec::new();
    for _ in 0..READERS.min(tables.len()) {
        let mut connection = open_reader(address, facts, &context.cancel).await?;
        connection.execute("START TRANSACTION READ ONLY").await?;
        connections.push(connection);
    }
    take_rows(context, writer, schema, connections).await
}
