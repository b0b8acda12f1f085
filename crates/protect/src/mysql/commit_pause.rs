//! Holds commits on the donor for the instant at which the copy's snapshot is fixed, so that its position is exact.
//!
//! The donor fixes the snapshot when it is told that the page copy has arrived: what committed before is in the copy, what
//! commits later is not. Under `FLUSH TABLES WITH READ LOCK` nothing commits (the lock is granted only after every commit
//! that began has ended), so the executed set read under it is exactly the copy's: the donor's word, not the recovered copy's, because
//! a copy that is only stored has not recovered yet. The recovered copy must say the same, and the restore compares the two.
//!
//! The danger of that lock: it waits for running statements, and new ones wait behind it. So the wait is short, it is not even tried while a
//! statement runs for long, and after a few tries it is given up: then bounds are recorded instead of a position.

use std::collections::BTreeSet;
use std::time::Duration;

use ballast_mysql::{Connection, MysqlError, ServerAddress};

use crate::context::Context;
use crate::error::Result;
use crate::position::Position;

/// The lock is waited for this long; writers may stand still for as long, and then for the milliseconds of the pause.
const LOCK_WAIT_MAX_SECONDS: u32 = 2;
const TRIES_MAX: u32 = 3;
const TRY_EVERY: Duration = Duration::from_secs(1);
/// With a statement that has run this long the lock would only make others wait.
const STATEMENT_LONG_SECONDS: u32 = 1;
const LOCK_WAIT_TIMEOUT: u16 = 1205;

/// A connection that holds commits until it is released or dropped.
#[derive(Debug)]
pub(crate) struct CommitPause {
    connection: Connection,
    pub(crate) position: Position,
    pub(crate) tables: BTreeSet<(String, String)>,
}

impl CommitPause {
    /// Tries to hold commits. `Err(why)` inside: the work goes on without.
    pub(crate) async fn begin(context: &Context, address: &ServerAddress) -> Result<std::result::Result<Self, String>> {
        let mut connection = Connection::open(address, &context.cancel).await?;
        connection
            .execute(&format!("SET SESSION lock_wait_timeout = {LOCK_WAIT_MAX_SECONDS}"))
            .await?;
        let mut why = String::new();
        for number in 0..TRIES_MAX {
            if number > 0 {
                context.cancel.race(context.clock.sleep(TRY_EVERY)).await?;
            }
            if let Some(statement) = long_statement(&mut connection).await? {
                why = format!("a statement runs for long ({statement})");
                continue;
            }
            match connection.execute("FLUSH LOCAL TABLES WITH READ LOCK").await {
                Ok(_) => {
                    let position = read_position(&mut connection, true).await?;
                    let tables = read_tables(&mut connection).await?;
                    return Ok(Ok(Self {
                        connection,
                        position,
                        tables,
                    }));
                }
                Err(MysqlError::Server {
                    code: LOCK_WAIT_TIMEOUT,
                    ..
                }) => {
                    why = format!("the global read lock was not granted within {LOCK_WAIT_MAX_SECONDS} s");
                }
                Err(error @ MysqlError::Server { .. }) => {
                    why = error.to_string();
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        connection.close().await;
        Ok(Err(why))
    }

    /// Lets commits go on.
    pub(crate) async fn end(mut self) -> Result<()> {
        self.connection.execute("UNLOCK TABLES").await?;
        self.connection.close().await;
        Ok(())
    }
}

/// Whose statement has run for long, if this user may see it. Not what it is: statements hold data.
async fn long_statement(connection: &mut Connection) -> Result<Option<String>> {
    let sql = format!(
        "SELECT CONCAT('connection ', ID, ' of ', USER, ', for ', TIME, ' s') FROM performance_schema.processlist WHERE COMMAND IN ('Query', 'Execute') \
         AND TIME >= {STATEMENT_LONG_SECONDS} AND ID <> CONNECTION_ID() AND INFO IS NOT NULL LIMIT 1"
    );
    match connection.value(&sql).await {
        Ok(found) => Ok(found),
        // Without the privilege or the table the short wait is the only guard.
        Err(MysqlError::Server { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The server's position now.
pub(crate) async fn read_position(connection: &mut Connection, exact: bool) -> Result<Position> {
    let gtids = connection
        .value("SELECT @@GLOBAL.gtid_executed")
        .await?
        .unwrap_or_default();
    let gtid_executed = gtids.split_whitespace().collect::<String>();
    // Renamed in 8.2; the old name is gone since 8.4.
    let mut status = connection.query("SHOW BINARY LOG STATUS").await;
    if matches!(status, Err(MysqlError::Server { .. })) {
        status = connection.query("SHOW MASTER STATUS").await;
    }
    let (file, offset) = match status {
        Ok(rows) => match rows.into_iter().next() {
            Some(row) => (row.text(0).map(std::borrow::Cow::into_owned), row.number(1)),
            None => (None, None),
        },
        Err(MysqlError::Server { .. }) => (None, None),
        Err(error) => return Err(error.into()),
    };
    Ok(Position {
        gtid_executed,
        file,
        offset,
        exact,
        at_least: None,
        replication_id: None,
    })
}

/// The user's tables.
pub(crate) async fn read_tables(connection: &mut Connection) -> Result<BTreeSet<(String, String)>> {
    let rows = connection
        .query(
            "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE' \
             AND TABLE_SCHEMA NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema')",
        )
        .await?;
    let name =
        |row: &ballast_mysql::Row, column| row.text(column).map(std::borrow::Cow::into_owned).unwrap_or_default();
    Ok(rows.into_iter().map(|row| (name(&row, 0), name(&row, 1))).collect())
}
