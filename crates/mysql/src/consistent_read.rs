//! Several connections that see one moment of a server, and where in its binary log that moment is.
//!
//! Each connection has an InnoDB snapshot of its own (`START TRANSACTION WITH CONSISTENT SNAPSHOT`, REPEATABLE READ). They
//! are of one moment *M* with position *P* when no transaction became visible between the first and the last, and *P*
//! names exactly those that are visible. How that is had, by what the account may do:
//!
//! **MySQL, with RELOAD (or `FLUSH_TABLES`).** `FLUSH TABLES WITH READ LOCK` is granted when no statement writes, and no
//! commit is under way: a commit holds the commit lock until after it is in `gtid_executed` (manual, "FLUSH Statement";
//! sql/lock.cc, `Global_read_lock`; sql/handler.cc, `ha_commit_trans`; sql/binlog.cc, `ordered_commit`). Snapshots and
//! position are read while it is held.
//!
//! **MariaDB 10.4 and later, with RELOAD.** `BACKUP STAGE BLOCK_COMMIT` holds back commits and the binary log after those
//! under way have ended (knowledge base, "BACKUP STAGE"; sql/backup.cc, `backup_block_commit`). It does not wait for
//! queries, so long ones do no harm. Beside that each snapshot knows its own place in the log (`Binlog_snapshot_file`,
//! `Binlog_snapshot_position`): the server takes it with the snapshot under the mutex that orders commits
//! (sql/handler.cc, `ha_start_consistent_snapshot`; `LOCK_commit_ordered`). All have to say the same. Older versions, and
//! [`ReadOptions::hold_global`], get the global read lock as on MySQL.
//!
//! **MariaDB without RELOAD.** The places of the snapshots are the proof: all the same, or all are opened again.
//!
//! **MySQL without RELOAD, `gtid_mode=ON`.** A transaction is owned (`gtid_owned`) from before it is written to the log,
//! which is before InnoDB makes it visible, until it is in `gtid_executed`, which is *after* it became visible (manual,
//! "GTID Life Cycle": externalized non-atomically, shortly after the commit; sql/rpl_gtid_state.cc). So equal executed sets
//! before and after prove nothing by themselves: one that is visible already, and not in the set yet, is missed; so is one
//! that is in the log and not visible yet, by equal offsets. Read in this order, all is covered: executed set *A*; owned is
//! empty; snapshots; owned is empty; executed set *B*; *A = B*. For a transaction *T*: was it owned at the second look at
//! the owned, it was seen there. Became it owned after that, it is in no snapshot and not in *B*. Ended it before that, it
//! is in *B*, so in *A*; it was executed before the first look, at which nothing was owned, so it was visible to every
//! snapshot. Without `gtid_mode=ON` there is no such look, and it is refused. Offsets, where the account may see
//! them, have to be equal too and are then those of *A*.
//!
//! What has no place in the log cannot be proved by the log: sessions with `sql_log_bin=0`; databases that
//! `binlog_do_db` or `binlog_ignore_db` keep out (refused where they can be seen); replicated changes on a MariaDB with
//! `log_slave_updates=OFF` (refused). The ways with a lock hold back these, too.
//!
//! # Definitions
//!
//! A snapshot is of rows. DDL is held off until [`ConsistentRead::finish`]:
//!
//! - MySQL 8.0, with BACKUP_ADMIN: `LOCK INSTANCE FOR BACKUP`, taken first (manual, "LOCK INSTANCE FOR BACKUP").
//!   Tried with 9.7: it stops DDL on tables, views, routines, triggers, events, schemas and accounts, also `ANALYZE TABLE`,
//!   `EXCHANGE PARTITION` and `PURGE BINARY LOGS`. It does not stop: DML, also of tables without transactions; DDL on
//!   temporary tables; new binary log files; `SET GLOBAL`.
//! - MariaDB: `BACKUP STAGE BLOCK_DDL`. A stage can only be ended, not gone back to, so it is begun anew after
//!   BLOCK_COMMIT; whether DDL used the gap is seen by comparing (see `definitions`), and then all is done again. It
//!   does not stop: accounts and grants, DDL on temporary tables, `PURGE BINARY LOGS`, `FLUSH`. And it **does** stop
//!   changes of tables without transactions (MyISAM, Aria) for as long as rows are read: where that cannot be, say so by
//!   [`ReadOptions::hold_ddl`].
//!
//! A table that a transaction has read is locked against DDL until its end, or until a `ROLLBACK TO SAVEPOINT`, which keeps
//! the snapshot. DDL that waits for such a table makes everybody else wait for it, also our other connections; MariaDB's
//! `RENAME`, `TRUNCATE` and `DROP` wait like that even behind BLOCK_DDL. So a reader gives a table back after each piece;
//! one that waits for another that does not is ended by its `lock_wait_timeout`, not before. MariaDB with a binary log lets
//! tables be given back only by accounts with BINLOG ADMIN (before 10.5: SUPER), which `session` makes use of.
//!
//! Else definitions are compared at the end: see `definitions` for what that sees. [`ConsistentRead::guarantee`] says which it was.
//!
//! # Tables without transactions
//!
//! MyISAM, Aria, MEMORY, ARCHIVE, CSV have no snapshot. They are of the moment only while the global read lock is held: give
//! [`ReadOptions::hold_global`], read [`ConsistentRead::non_transactional`] first, then
//! [`ConsistentRead::release_global`]. Nothing on the server changes as long. [`TableLocker`] locks only them, for who
//! needs no snapshot of the others.
//!
//! # Limits
//!
//! Every wait ends: for a lock by [`ReadOptions`], under a lock by a constant. When this process vanishes the server ends
//! the session that holds the locks after a minute of silence; when the session is lost, `finish` says so.

mod definitions;
mod keeper;
mod locks;
mod log_position;
mod session;
mod table_lock;
mod ways;

use std::time::Duration;

use ballast_base::Cancel;

use self::definitions::Recorded;
use self::keeper::Keeper;
use self::locks::Lock;
use self::log_position::is_mariadb;
use self::ways::{Seen, Way};
use crate::{Connection, Facts, MysqlError, ServerAddress, TableFact};

pub use self::log_position::LogPosition;
pub use self::table_lock::{TableLock, TableLocker};

/// Engines whose tables a consistent snapshot is of.
const SNAPSHOT_ENGINES: &str = "'InnoDB', 'ROCKSDB', 'TokuDB'";
const SYSTEM_SCHEMAS: &str = "'mysql', 'sys', 'information_schema', 'performance_schema'";

#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// How many read; one at least. Two more are needed for the locks.
    pub connections: usize,
    /// A lock is waited for this long; others may wait behind it as long.
    pub lock_wait_max: Duration,
    /// While a statement has run for as long the global read lock is not tried. At least a second.
    pub long_statement: Duration,
    pub lock_tries_max: u32,
    pub lock_try_every: Duration,
    /// Whether DDL is held off where the account may do that. Else definitions are compared at the end.
    pub hold_ddl: bool,
    /// Whether the global read lock stays until it is released, and for how long at most. Nothing is written meanwhile.
    pub hold_global: Option<Duration>,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            connections: 4,
            lock_wait_max: Duration::from_secs(3),
            long_statement: Duration::from_secs(3),
            lock_tries_max: 10,
            lock_try_every: Duration::from_secs(5),
            hold_ddl: true,
            hold_global: None,
        }
    }
}

/// How it is known that all connections see one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Nothing could commit while the snapshots were opened.
    Locked,
    /// Nothing had committed while the snapshots were opened.
    Proved,
}

/// How it is known that definitions stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ddl {
    /// The server holds DDL back.
    HeldOff,
    /// [`ConsistentRead::finish`] fails when there was any.
    Compared,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guarantee {
    pub moment: Moment,
    pub ddl: Ddl,
}

/// Open snapshots. Dropped, the server releases everything.
#[derive(Debug)]
pub struct ConsistentRead {
    /// The caller takes them out and reads, each table in short pieces with a `ROLLBACK TO SAVEPOINT` after each.
    pub connections: Vec<Connection>,
    /// The moment's place in the binary log; `None` on a server that has none.
    pub position: Option<LogPosition>,
    pub guarantee: Guarantee,
    /// Tables the snapshots do not cover, as far as this account sees them.
    pub non_transactional: Vec<TableFact>,
    facts: Facts,
    keeper: Keeper,
    locks: Vec<Lock>,
    recorded: Option<Recorded>,
}

impl ConsistentRead {
    pub async fn begin(
        address: &ServerAddress,
        facts: &Facts,
        options: ReadOptions,
        cancel: &Cancel,
    ) -> Result<Self, MysqlError> {
        let flavour = facts.version.flavour;
        // All logins come first: none happens under a lock.
        let mut connections = Vec::with_capacity(options.connections.max(1));
        for _ in 0..options.connections.max(1) {
            connections.push(session::open(address, flavour, cancel).await?);
        }
        let mut control = session::open_control(address, flavour, options.lock_wait_max, cancel).await?;
        let mut helper = Connection::open(address, cancel).await?;
        let way = Way {
            facts,
            options: &options,
            cancel,
            control: &mut control,
            helper: &mut helper,
            locks: Vec::new(),
        };
        let seen = see(way, connections).await?;
        helper.close().await;
        let non_transactional = read_non_transactional(&mut control).await?;
        Ok(Self {
            connections: seen.connections,
            position: seen.position,
            guarantee: seen.guarantee,
            non_transactional,
            facts: facts.clone(),
            keeper: Keeper::start(control, options.hold_global),
            locks: seen.locks,
            recorded: seen.recorded,
        })
    }

    /// Whether [`Self::release_global`] is still to be called.
    pub fn holds_global(&self) -> bool {
        self.locks.contains(&Lock::Global)
    }

    /// Lets writers go on. Fails when the lock was lost before: tables without transactions may have changed then.
    pub async fn release_global(mut self) -> Result<Self, MysqlError> {
        if !self.holds_global() {
            return Ok(self);
        }
        let mut control = self.keeper.stop().await?;
        locks::release(&mut control, Lock::Global).await?;
        self.locks.retain(|lock| *lock != Lock::Global);
        self.keeper = Keeper::start(control, None);
        Ok(self)
    }

    /// To be called when all rows are read, before they are called good: fails when the locks were lost meanwhile, or,
    /// where DDL was not held off, when definitions changed of tables that matter. Releases everything.
    pub async fn finish(self, matters: impl Fn(&str, &str) -> bool) -> Result<(), MysqlError> {
        let mut control = self.keeper.stop().await?;
        if let Some(recorded) = &self.recorded {
            recorded.compare(&mut control, &self.facts, &matters).await?;
        }
        for lock in self.locks.into_iter().rev() {
            locks::release(&mut control, lock).await?;
        }
        control.close().await;
        for connection in self.connections {
            connection.close().await;
        }
        Ok(())
    }
}

/// A session that reads rows as a consistent read's do, where nobody else writes or what it reads is locked.
pub async fn open_reader(address: &ServerAddress, facts: &Facts, cancel: &Cancel) -> Result<Connection, MysqlError> {
    session::open(address, facts.version.flavour, cancel).await
}

/// The best way this server and this account allow.
async fn see(mut way: Way<'_>, connections: Vec<Connection>) -> Result<Seen, MysqlError> {
    if is_mariadb(way.facts) {
        // BLOCK_COMMIT lets statements change tables without transactions.
        if way.options.hold_global.is_none() && way.take(Lock::StageDdl).await? {
            return way.under_backup_stages(connections).await;
        }
    } else if way.options.hold_ddl {
        way.take(Lock::Instance).await?;
    }
    if way.take(Lock::Global).await? {
        return way.under_global_lock(connections).await;
    }
    way.proved(connections).await
}

async fn read_non_transactional(control: &mut Connection) -> Result<Vec<TableFact>, MysqlError> {
    let sql = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, ENGINE, TABLE_ROWS, COALESCE(DATA_LENGTH, 0) + COALESCE(INDEX_LENGTH, 0)
         FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE' AND TABLE_SCHEMA NOT IN ({SYSTEM_SCHEMAS})
         AND ENGINE NOT IN ({SNAPSHOT_ENGINES}) ORDER BY TABLE_SCHEMA, TABLE_NAME"
    );
    Ok(control
        .query(&sql)
        .await?
        .into_iter()
        .map(TableFact::from_row)
        .collect())
}
