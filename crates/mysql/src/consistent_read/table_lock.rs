//! Tables that nobody changes for a while: `LOCK TABLES … READ`, for engines of whose tables there is no snapshot.
//!
//! Every engine's tables stand still under it, also what MyISAM would let in at a table's end (manual, "LOCK TABLES and
//! UNLOCK TABLES"); others read them meanwhile. A change that was made before is in the binary log before: its statement
//! keeps the table until it is logged. It goes with the global read lock of another session (tried with 9.7): granted under it, it
//! stays when that is let go, and all other tables are written again.

use std::time::Duration;

use ballast_base::Cancel;

use super::keeper::Keeper;
use super::{SYSTEM_SCHEMAS, session};
use crate::{Connection, Facts, MysqlError, ServerAddress, TableFact, quote_table};

/// A table may be made between the list and the lock.
const LIST_TRIES_MAX: u32 = 3;

/// A session that has locked nothing yet: opened beforehand, so that what others hold meanwhile is held shortly.
#[derive(Debug)]
pub struct TableLocker {
    control: Connection,
}

impl TableLocker {
    /// Each lock is waited for as long as `wait_max`; others may wait behind it as long.
    pub async fn open(
        address: &ServerAddress,
        facts: &Facts,
        wait_max: Duration,
        cancel: &Cancel,
    ) -> Result<Self, MysqlError> {
        let control = session::open_control(address, facts.version.flavour, wait_max, cancel).await?;
        Ok(Self { control })
    }

    /// Locks every table of a user that is not InnoDB's and that is `chosen`; `None` if there is none. All the others that
    /// are not InnoDB's are named as well. It is let go after `hold_max` at the latest.
    pub async fn lock(
        mut self,
        chosen: impl Fn(&TableFact) -> bool,
        hold_max: Duration,
    ) -> Result<(Option<TableLock>, Vec<TableFact>), MysqlError> {
        let mut listed = list(&mut self.control).await?;
        for _ in 0..LIST_TRIES_MAX {
            let names: Vec<_> = listed
                .iter()
                .filter(|table| chosen(table))
                .map(|table| format!("{} READ", quote_table(&table.schema, &table.name)))
                .collect();
            if names.is_empty() {
                self.control.close().await;
                return Ok((None, listed));
            }
            self.control
                .execute(&format!("LOCK TABLES {}", names.join(", ")))
                .await?;
            let again = list(&mut self.control).await?;
            if same(&again, &listed) {
                let keeper = Keeper::start(self.control, Some(hold_max));
                return Ok((Some(TableLock { keeper }), listed));
            }
            self.control.execute("UNLOCK TABLES").await?;
            listed = again;
        }
        Err(MysqlError::Disturbed {
            what: format!("in {LIST_TRIES_MAX} tries tables were made or dropped while they were to be locked"),
            hint: "try again when no tables outside InnoDB are made or dropped".to_owned(),
        })
    }
}

/// Locked tables. Dropped, the server lets them go.
#[derive(Debug)]
pub struct TableLock {
    keeper: Keeper,
}

impl TableLock {
    /// Fails when the lock was lost before: then the tables may have changed while they were read.
    pub async fn release(self) -> Result<(), MysqlError> {
        let mut control = self.keeper.stop().await?;
        control.execute("UNLOCK TABLES").await?;
        control.close().await;
        Ok(())
    }
}

async fn list(control: &mut Connection) -> Result<Vec<TableFact>, MysqlError> {
    let sql = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, ENGINE, TABLE_ROWS, COALESCE(DATA_LENGTH, 0) + COALESCE(INDEX_LENGTH, 0)
         FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE' AND TABLE_SCHEMA NOT IN ({SYSTEM_SCHEMAS})
         AND ENGINE <> 'InnoDB' ORDER BY TABLE_SCHEMA, TABLE_NAME"
    );
    let rows = control.query(&sql).await?;
    Ok(rows.into_iter().map(TableFact::from_row).collect())
}

/// The same tables; how full they are may have changed.
fn same(some: &[TableFact], others: &[TableFact]) -> bool {
    let name = |table: &TableFact| (table.schema.clone(), table.name.clone(), table.engine.clone());
    some.iter().map(name).eq(others.iter().map(name))
}
