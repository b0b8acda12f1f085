//! The ways to one moment. Each returns with the snapshots open; why it is one moment is argued in the module above.

use std::time::Duration;

use ballast_base::Cancel;

use super::definitions::{Counters, Definitions, Recorded};
use super::locks::{self, Lock, Locker};
use super::log_position::{self, LogPosition, has_gtids, has_log, is_mariadb};
use super::{Ddl, Guarantee, Moment, ReadOptions, session};
use crate::{Connection, Facts, GtidSet, MysqlError};

/// A global lock of ours is let go after this at the latest, whatever the server or the network do.
const HOLD_WAIT_MAX: Duration = Duration::from_secs(10);
/// Snapshots without a lock are opened so often at most.
const PROOF_TRIES_MAX: u32 = 40;
const PROOF_TRY_EVERY: Duration = Duration::from_millis(250);
/// Tables that are swapped every so often are not always swapped in the gap between two stages.
const BETWEEN_STAGES: Duration = Duration::from_millis(500);

/// What a way has made.
pub(super) struct Seen {
    pub(super) connections: Vec<Connection>,
    pub(super) position: Option<LogPosition>,
    pub(super) guarantee: Guarantee,
    /// What has to be unchanged at the end, where DDL is not held off.
    pub(super) recorded: Option<Recorded>,
    /// Locks that are still held, in the order they were taken.
    pub(super) locks: Vec<Lock>,
}

/// What every way works with.
pub(super) struct Way<'a> {
    pub(super) facts: &'a Facts,
    pub(super) options: &'a ReadOptions,
    pub(super) cancel: &'a Cancel,
    pub(super) control: &'a mut Connection,
    /// Not reading: ends what waits too long.
    pub(super) helper: &'a mut Connection,
    pub(super) locks: Vec<Lock>,
}

impl Way<'_> {
    /// `Ok(false)`: the account has no such lock.
    pub(super) async fn take(&mut self, lock: Lock) -> Result<bool, MysqlError> {
        let mut locker = Locker {
            control: &mut *self.control,
            helper: &mut *self.helper,
            facts: self.facts,
            options: self.options,
            cancel: self.cancel,
        };
        let held = locker.take(lock).await?;
        if held {
            self.locks.push(lock);
        }
        Ok(held)
    }

    fn holds_ddl(&self) -> bool {
        self.locks
            .iter()
            .any(|lock| matches!(lock, Lock::Instance | Lock::StageDdl))
    }

    fn guarantee(&self, moment: Moment) -> Guarantee {
        let ddl = if self.holds_ddl() { Ddl::HeldOff } else { Ddl::Compared };
        Guarantee { moment, ddl }
    }

    /// With [`Lock::Global`] held: opens the snapshots, reads the position, and lets go unless the caller wants it held.
    pub(super) async fn under_global_lock(mut self, connections: Vec<Connection>) -> Result<Seen, MysqlError> {
        let held = async {
            let connections = session::start_snapshots(connections).await?;
            let counters = Counters::read(self.control).await?;
            let (connections, position) = self.position_of(connections).await?;
            Ok::<_, MysqlError>((connections, counters, position))
        };
        let (connections, counters, position) = limited(held).await?;
        if self.options.hold_global.is_none() {
            locks::release(self.control, Lock::Global).await?;
            self.locks.retain(|lock| *lock != Lock::Global);
        }
        let recorded = if self.holds_ddl() {
            None
        } else {
            let definitions = Definitions::read(self.control, self.facts).await?;
            Some(Recorded { counters, definitions })
        };
        Ok(Seen {
            connections,
            position,
            guarantee: self.guarantee(Moment::Locked),
            recorded,
            locks: self.locks,
        })
    }

    /// With [`Lock::StageDdl`] held (MariaDB): opens the snapshots while nothing commits. The stage cannot be gone back
    /// to, only ended and begun again: what came between is seen, and then all is done again.
    pub(super) async fn under_backup_stages(mut self, mut connections: Vec<Connection>) -> Result<Seen, MysqlError> {
        let mut number = 1;
        loop {
            let definitions = Definitions::read(self.control, self.facts).await?;
            self.take_known(Lock::StageCommit).await?;
            let held = async {
                let connections = session::start_snapshots(connections).await?;
                let counters = Counters::read(self.control).await?;
                let (connections, position) = self.position_of(connections).await?;
                Ok::<_, MysqlError>((connections, counters, position))
            };
            let (opened, counters, position) = limited(held).await?;
            connections = opened;
            locks::release(self.control, Lock::StageCommit).await?;
            self.locks.clear();
            let recorded = Recorded { counters, definitions };
            if !self.options.hold_ddl {
                return Ok(Seen {
                    connections,
                    position,
                    guarantee: self.guarantee(Moment::Locked),
                    recorded: Some(recorded),
                    locks: self.locks,
                });
            }
            self.take_known(Lock::StageDdl).await?;
            match recorded.compare(self.control, self.facts, &|_, _| true).await {
                Ok(()) => {
                    return Ok(Seen {
                        connections,
                        position,
                        guarantee: self.guarantee(Moment::Locked),
                        recorded: None,
                        locks: self.locks,
                    });
                }
                Err(MysqlError::Disturbed { .. }) if number < self.options.lock_tries_max => number += 1,
                Err(MysqlError::Disturbed { what, .. }) => {
                    return Err(MysqlError::Disturbed {
                        what: format!("in each of {number} tries something changed between two backup stages: {what}"),
                        hint: "try while no tables are altered, renamed or swapped".to_owned(),
                    });
                }
                Err(error) => return Err(error),
            }
            session::end_snapshots(&mut connections).await?;
            locks::pause(BETWEEN_STAGES, self.cancel).await?;
        }
    }

    /// A lock this account was granted a moment ago.
    async fn take_known(&mut self, lock: Lock) -> Result<(), MysqlError> {
        if self.take(lock).await? {
            return Ok(());
        }
        Err(MysqlError::Unsupported {
            what: "the privilege to lock was revoked meanwhile".to_owned(),
            hint: format!("GRANT RELOAD ON *.* TO {};", self.facts.account),
        })
    }

    /// Without a lock: opens snapshots until it is proved that nothing came between.
    pub(super) async fn proved(mut self, mut connections: Vec<Connection>) -> Result<Seen, MysqlError> {
        self.refuse_unprovable(connections.len()).await?;
        if !self.holds_ddl() {
            // Now rather than after the work: fails where the account cannot see them.
            Definitions::read(self.control, self.facts).await?;
        }
        let mut why = "";
        for number in 0..PROOF_TRIES_MAX {
            if number > 0 {
                session::end_snapshots(&mut connections).await?;
                locks::pause(PROOF_TRY_EVERY, self.cancel).await?;
            }
            let counters = Counters::read(self.control).await?;
            let (opened, proof) = self.try_proof(connections).await?;
            connections = opened;
            let position = match proof {
                Ok(position) => position,
                Err(reason) => {
                    why = reason;
                    continue;
                }
            };
            let recorded = if self.holds_ddl() {
                None
            } else {
                let definitions = Definitions::read(self.control, self.facts).await?;
                Some(Recorded { counters, definitions })
            };
            return Ok(Seen {
                connections,
                position,
                guarantee: self.guarantee(Moment::Proved),
                recorded,
                locks: self.locks,
            });
        }
        Err(MysqlError::Disturbed {
            what: format!("no quiet moment in {PROOF_TRIES_MAX} tries to open the snapshots without a lock: {why}"),
            hint: format!(
                "try at a quieter time, with fewer connections, or let it lock: GRANT RELOAD ON *.* TO {};",
                self.facts.account
            ),
        })
    }

    async fn refuse_unprovable(&mut self, connections: usize) -> Result<(), MysqlError> {
        let hint = format!("GRANT RELOAD ON *.* TO {};", self.facts.account);
        let refused = |what: &str| {
            Err(MysqlError::Unsupported {
                what: format!("the account may not hold the global read lock, and without it {what}"),
                hint: hint.clone(),
            })
        };
        if self.options.hold_global.is_some() {
            return refused("tables without transactions cannot be read as of the moment");
        }
        if !has_log(self.facts) {
            // A snapshot alone is one moment.
            return match connections {
                1 => Ok(()),
                _ => refused("only one connection can be used on a server without a binary log"),
            };
        }
        if log_position::is_filtered(self.control).await? {
            return refused("changes that binlog_do_db or binlog_ignore_db keep out of the binary log are not seen");
        }
        if is_mariadb(self.facts) {
            let sql = "SELECT @@GLOBAL.log_slave_updates = 0 AND @@GLOBAL.gtid_slave_pos <> ''";
            if self.control.value(sql).await?.as_deref() == Some("1") {
                return refused(
                    "replicated changes, which log_slave_updates=OFF keeps out of the binary log, are not seen",
                );
            }
        } else if !has_gtids(self.facts) {
            return refused("the moment of the snapshots can be proved by GTIDs only, and gtid_mode is not ON");
        }
        Ok(())
    }

    /// `Err` inside: this time it is not proved.
    async fn try_proof(
        &mut self,
        connections: Vec<Connection>,
    ) -> Result<(Vec<Connection>, Result<Option<LogPosition>, &'static str>), MysqlError> {
        const CAME_BETWEEN: &str = "transactions were committed meanwhile";
        if !has_log(self.facts) {
            return Ok((session::start_snapshots(connections).await?, Ok(None)));
        }
        if is_mariadb(self.facts) {
            let mut connections = session::start_snapshots(connections).await?;
            let place = same_place(&mut connections).await?;
            let Some(place) = place else {
                return Ok((connections, Err(CAME_BETWEEN)));
            };
            let position = log_position::complete(self.control, place).await?;
            return Ok((connections, Ok(Some(position))));
        }
        // The order of these reads is the proof.
        let place = log_position::read_place(self.control).await?;
        let before = log_position::read_gtids(self.control).await?;
        if self.has_commits_in_flight().await? {
            return Ok((connections, Err("transactions are being committed")));
        }
        let connections = session::start_snapshots(connections).await?;
        let in_flight = self.has_commits_in_flight().await?;
        let after: GtidSet = log_position::read_gtids(self.control).await?;
        let place_after = log_position::read_place(self.control).await?;
        if in_flight || before != after || place != place_after {
            return Ok((connections, Err(CAME_BETWEEN)));
        }
        let (file, offset) = place.unzip();
        let position = LogPosition {
            file,
            offset,
            gtid_set: Some(after),
            gtid_position: None,
        };
        Ok((connections, Ok(Some(position))))
    }

    async fn has_commits_in_flight(&mut self) -> Result<bool, MysqlError> {
        let owned = self.control.value("SELECT @@GLOBAL.gtid_owned").await?;
        Ok(owned.is_some_and(|owned| !owned.trim().is_empty()))
    }

    /// The position while nothing commits. MariaDB's snapshots say theirs, and have to say the same.
    async fn position_of(
        &mut self,
        mut connections: Vec<Connection>,
    ) -> Result<(Vec<Connection>, Option<LogPosition>), MysqlError> {
        if !is_mariadb(self.facts) {
            let position = log_position::read_held(self.control, self.facts).await?;
            return Ok((connections, position));
        }
        if !has_log(self.facts) {
            return Ok((connections, None));
        }
        let Some((file, offset)) = same_place(&mut connections).await? else {
            return Err(MysqlError::Disturbed {
                what: "the snapshots are of different moments, although commits were held".to_owned(),
                hint: "try again, and see whether the address leads to one server".to_owned(),
            });
        };
        // Nothing commits, so this is where the snapshots are; to look it up in the log would take longer.
        let gtid_position = self.control.value("SELECT @@GLOBAL.gtid_binlog_pos").await?;
        let position = LogPosition {
            file: Some(file),
            offset: Some(offset),
            gtid_set: None,
            gtid_position,
        };
        Ok((connections, Some(position)))
    }
}

/// The place in MariaDB's log that all these snapshots are at; `None` when they are not at one.
async fn same_place(connections: &mut [Connection]) -> Result<Option<(String, u64)>, MysqlError> {
    let mut same: Option<(String, u64)> = None;
    for connection in connections {
        let place = log_position::read_of_snapshot(connection).await?;
        match (&same, place) {
            (None, Some(place)) => same = Some(place),
            (Some(first), Some(place)) if *first == place => {}
            _ => return Ok(None),
        }
    }
    Ok(same)
}

/// Everything that is done under a lock others wait for.
async fn limited<T>(work: impl Future<Output = Result<T, MysqlError>>) -> Result<T, MysqlError> {
    tokio::time::timeout(HOLD_WAIT_MAX, work)
        .await
        .unwrap_or(Err(MysqlError::Timeout {
            doing: "opening snapshots under the global lock",
            after: HOLD_WAIT_MAX,
        }))
}
