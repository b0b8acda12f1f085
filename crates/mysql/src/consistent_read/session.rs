//! The sessions of a consistent read: set up before any lock is asked for, so that what is held is held shortly.

use std::time::Duration;

use ballast_base::{Cancel, TaskSet};

use crate::{Connection, Flavour, MysqlError, ServerAddress};

/// What every session needs, so that values come as the server has them.
const SETTINGS: [&str; 9] = [
    "SET NAMES binary",
    "SET SESSION time_zone = '+00:00'",
    "SET SESSION sql_mode = ''",
    "SET SESSION sql_quote_show_create = 1",
    "SET SESSION group_concat_max_len = 1073741824",
    "SET SESSION net_read_timeout = 3600, SESSION net_write_timeout = 3600",
    // One connection may have nothing to do while another reads a large table.
    "SET SESSION wait_timeout = 604800",
    // A table that DDL waits for is not waited for without end: that DDL may wait for another connection of ours.
    "SET SESSION lock_wait_timeout = 300",
    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
];
/// The server must not end a long statement or a long transaction, nor keep its tables. Not every version has each.
const MYSQL_LIMITS: [&str; 1] = ["SET SESSION max_execution_time = 0"];
const MARIADB_LIMITS: [&str; 4] = [
    MARIADB_NO_LOG,
    "SET SESSION max_statement_time = 0",
    "SET SESSION idle_transaction_timeout = 0",
    "SET SESSION idle_readonly_transaction_timeout = 0",
];
/// On a MariaDB with a binary log `ROLLBACK TO SAVEPOINT` gives tables back only in a session that does not write that log
/// (found by trial with 10.11). These only read, so it is all the same to them; the account may not be allowed to say so.
const MARIADB_NO_LOG: &str = "SET SESSION sql_log_bin = 0";
const UNKNOWN_VARIABLE: u16 = 1193;
const ACCESS_DENIED: u16 = 1227;
/// A session that holds locks is ended by the server when it has not been heard of for this long: a client that
/// vanished without a word must not keep others waiting. It is pinged more often.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(60);

pub(super) async fn open(address: &ServerAddress, flavour: Flavour, cancel: &Cancel) -> Result<Connection, MysqlError> {
    let mut connection = Connection::open(address, cancel).await?;
    for sql in SETTINGS {
        connection.execute(sql).await?;
    }
    let limits: &[&str] = match flavour {
        Flavour::MariaDb => &MARIADB_LIMITS,
        Flavour::Mysql | Flavour::Percona => &MYSQL_LIMITS,
    };
    for sql in limits {
        match connection.execute(sql).await {
            Err(MysqlError::Server { code, .. }) if code == UNKNOWN_VARIABLE => {}
            Err(MysqlError::Server { code, .. }) if code == ACCESS_DENIED && *sql == MARIADB_NO_LOG => {}
            Ok(_) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(connection)
}

/// The session that holds the locks. `lock_wait_max` is what each wait for a lock in it may last.
pub(super) async fn open_control(
    address: &ServerAddress,
    flavour: Flavour,
    lock_wait_max: Duration,
    cancel: &Cancel,
) -> Result<Connection, MysqlError> {
    let mut connection = open(address, flavour, cancel).await?;
    // It reads names, and compares them with what this program writes.
    connection.execute("SET NAMES utf8mb4").await?;
    connection
        .execute(&format!(
            "SET SESSION lock_wait_timeout = {}, SESSION wait_timeout = {}",
            lock_wait_max.as_secs().max(1),
            SILENCE_MAX.as_secs()
        ))
        .await?;
    Ok(connection)
}

/// Opens a snapshot on each, all at once: the shorter it takes, the less can come between.
pub(super) async fn start_snapshots(connections: Vec<Connection>) -> Result<Vec<Connection>, MysqlError> {
    let mut set = TaskSet::new("snapshot");
    let count = connections.len();
    for connection in connections {
        set.spawn(start_snapshot(connection));
    }
    let mut started = Vec::with_capacity(count);
    while let Some(joined) = set.join_next().await {
        let connection = joined.map_err(|error| MysqlError::Disturbed {
            what: format!("open a snapshot: {error}"),
            hint: "try again".to_owned(),
        })??;
        started.push(connection);
    }
    Ok(started)
}

async fn start_snapshot(mut connection: Connection) -> Result<Connection, MysqlError> {
    let done = connection
        .execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
        .await?;
    // The server only warns when it opened none: another isolation level, or no engine that can.
    if done.warnings > 0 {
        let rows = connection.query("SHOW WARNINGS").await?;
        let why = rows.rows.first().and_then(|row| row.text(2)).unwrap_or_default();
        return Err(MysqlError::Unsupported {
            what: format!("the server opened no consistent snapshot: {why}"),
            hint: "see that InnoDB is on: SHOW ENGINES;".to_owned(),
        });
    }
    Ok(connection)
}

/// Ends the snapshots, so that the connections can begin again.
pub(super) async fn end_snapshots(connections: &mut [Connection]) -> Result<(), MysqlError> {
    for connection in connections {
        connection.execute("ROLLBACK").await?;
    }
    Ok(())
}
