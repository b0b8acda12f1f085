//! The locks of a consistent read: each is asked for a few times, with a limit on the wait, and given up with the reason.
//!
//! The danger of a global lock that is asked for is greater than that of one that is held: until it is granted, it waits
//! for running statements, and new ones wait behind it. MySQL's and MariaDB's `FLUSH TABLES WITH READ LOCK` waits three
//! times (for statements that write, for tables in use to be closed, for commits), each time for up to
//! `lock_wait_timeout`. A table that was told to close stays closed to newcomers until its last user is done, even
//! when the statement was given up (`close_cached_tables` in sql/sql_base.cc): so it is not even begun while a statement
//! runs for long, and the sum of its waits is limited by a second connection that ends it.

use std::time::Duration;

use ballast_base::{Cancel, Clock as _, SystemClock, random_unit};

use super::log_position::is_mariadb;
use crate::{Connection, Facts, MysqlError, ReadOptions};

const LOCK_WAIT_TIMEOUT: u16 = 1205;
const QUERY_INTERRUPTED: u16 = 1317;
/// What the first error of a stage is followed by, depending on the version.
const STAGE_FAILED: [u16; 2] = [4146, 4148];
/// The account may not: a schema, at all (as managed services say it), a table, a privilege is needed.
const DENIED: [u16; 4] = [1044, 1045, 1142, 1227];
/// The server does not know the statement.
const SYNTAX: u16 = 1064;

/// What holds commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lock {
    /// MySQL: no DDL. `LOCK INSTANCE FOR BACKUP`.
    Instance,
    /// No statement changes anything, nothing commits. `FLUSH TABLES WITH READ LOCK`.
    Global,
    /// MariaDB: no DDL, no change of tables without transactions. `BACKUP STAGE BLOCK_DDL`.
    StageDdl,
    /// MariaDB: nothing commits. `BACKUP STAGE BLOCK_COMMIT`.
    StageCommit,
}

/// The connection that holds locks, with one beside it that can end what it waits for.
#[derive(Debug)]
pub(super) struct Locker<'a> {
    pub(super) control: &'a mut Connection,
    pub(super) helper: &'a mut Connection,
    pub(super) facts: &'a Facts,
    pub(super) options: &'a ReadOptions,
    pub(super) cancel: &'a Cancel,
}

enum Tried {
    Held,
    Busy(String),
    Denied,
}

impl Locker<'_> {
    /// `false` where this account, or this server, has no such lock.
    pub(super) async fn take(&mut self, lock: Lock) -> Result<bool, MysqlError> {
        let tries_max = self.options.lock_tries_max.max(1);
        let mut why = String::new();
        for number in 0..tries_max {
            if number > 0 {
                pause(self.options.lock_try_every, self.cancel).await?;
            }
            match self.try_once(lock).await? {
                Tried::Held => return Ok(true),
                Tried::Denied => return Ok(false),
                Tried::Busy(reason) => why = reason,
            }
        }
        let name = match lock {
            Lock::Instance => "the backup lock",
            Lock::Global => "the global read lock",
            Lock::StageDdl | Lock::StageCommit => "the backup stage",
        };
        Err(MysqlError::Disturbed {
            what: format!("{name} was not had in {tries_max} tries: {why}"),
            hint: "try at a quieter time, or end what runs for long: SHOW FULL PROCESSLIST; KILL QUERY N;".to_owned(),
        })
    }

    async fn try_once(&mut self, lock: Lock) -> Result<Tried, MysqlError> {
        let sql = match lock {
            Lock::Instance => "LOCK INSTANCE FOR BACKUP",
            Lock::Global => {
                if let Some(statement) = self.long_statement().await? {
                    return Ok(Tried::Busy(format!("a statement runs for long ({statement})")));
                }
                "FLUSH LOCAL TABLES WITH READ LOCK"
            }
            // Stages that were not asked for are gone through.
            Lock::StageDdl => {
                if let Err(error) = self.control.execute("BACKUP STAGE START").await {
                    return self.failed(error);
                }
                "BACKUP STAGE BLOCK_DDL"
            }
            Lock::StageCommit => "BACKUP STAGE BLOCK_COMMIT",
        };
        match self.execute_limited(sql).await {
            Ok(()) => Ok(Tried::Held),
            Err(error) => {
                // A stage that was reached stays; the others hold nothing when they fail.
                if lock == Lock::StageDdl && matches!(error, MysqlError::Server { .. }) {
                    self.control.execute("BACKUP STAGE END").await?;
                }
                self.failed(error)
            }
        }
    }

    fn failed(&self, error: MysqlError) -> Result<Tried, MysqlError> {
        match error {
            MysqlError::Server { code, .. }
                if code == LOCK_WAIT_TIMEOUT || code == QUERY_INTERRUPTED || STAGE_FAILED.contains(&code) =>
            {
                Ok(Tried::Busy(format!(
                    "it was not granted within {} s, because of a running statement, a DDL statement or another lock",
                    self.options.lock_wait_max.as_secs_f32()
                )))
            }
            MysqlError::Server { code, .. } if code == SYNTAX || DENIED.contains(&code) => Ok(Tried::Denied),
            other => Err(other),
        }
    }

    /// Ends the statement from the other connection when its waits sum up to more than the limit.
    async fn execute_limited(&mut self, sql: &str) -> Result<(), MysqlError> {
        // Behind a proxy this is not the number of the greeting.
        let id = self.control.value("SELECT CONNECTION_ID()").await?.unwrap_or_default();
        let work = self.control.execute(sql);
        let mut work = std::pin::pin!(work);
        let done = tokio::time::timeout(self.options.lock_wait_max, &mut work).await;
        let Ok(done) = done else {
            self.helper.execute(&format!("KILL QUERY {id}")).await?;
            return work.await.map(drop);
        };
        done.map(drop)
    }

    /// Whose statement has run for long, if this account may see it. Not what it is: statements hold data.
    async fn long_statement(&mut self) -> Result<Option<String>, MysqlError> {
        let table = if is_mariadb(self.facts) || self.facts.version.numeric() < (8, 0, 22) {
            "information_schema.PROCESSLIST"
        } else {
            "performance_schema.processlist"
        };
        let sql = format!(
            "SELECT CONCAT('connection ', ID, ' of ', USER, ', for ', TIME, ' s') FROM {table}
             WHERE COMMAND IN ('Query', 'Execute') AND TIME >= {} AND ID <> CONNECTION_ID()
             AND USER NOT IN ('system user', 'event_scheduler') ORDER BY TIME DESC LIMIT 1",
            self.options.long_statement.as_secs().max(1)
        );
        match self.control.value(&sql).await {
            Ok(found) => Ok(found),
            // Without the table the limit on the wait is the only guard.
            Err(MysqlError::Server { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Lets go of a lock. MariaDB's stages all end together.
pub(super) async fn release(control: &mut Connection, lock: Lock) -> Result<(), MysqlError> {
    let sql = match lock {
        Lock::Instance => "UNLOCK INSTANCE",
        Lock::Global => "UNLOCK TABLES",
        Lock::StageDdl | Lock::StageCommit => "BACKUP STAGE END",
    };
    control.execute(sql).await.map(drop)
}

/// Between half of and all of `wait`, so that two that collide do not go on colliding.
pub(super) async fn pause(wait: Duration, cancel: &Cancel) -> Result<(), MysqlError> {
    cancel
        .race(SystemClock::new().sleep(wait.mul_f64(0.5 + random_unit() / 2.0)))
        .await?;
    Ok(())
}
